//! The kernel that this was last tested with.

/// The release; written here by whoever has tested a newer one.
const RELEASE: &str = include_str!("../tested-kernel");

/// Says so when the VM's kernel is another one: everything is meant to work, but nobody has seen it.
pub(crate) fn note(release: &str) {
    let tested = RELEASE.trim();
    if release != tested {
        eprintln!("litebox: the VM runs kernel {release}; last tested with {tested} (xtask/tested-kernel)");
    }
}
