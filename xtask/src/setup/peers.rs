//! gVisor's runsc for `cargo xtask bench --peers`: Debian's package, unpacked into a folder that the VM can share.

use anyhow::Result;

use super::tree::OUT;
use super::{Built, Key, Setup, Tree};

/// The package, and the program in it.
const PACKAGE: &str = "runsc";

/// Fetches it.
pub(super) fn step(setup: &Setup, tree: &Tree) -> Result<Built> {
    setup.step("peers", Key::default().text(tree.key()).text(PACKAGE), |out, log| {
        let script = format!(
            "cd {OUT}; apt-get update -q; apt-get download -q {PACKAGE}; dpkg-deb -x {PACKAGE}_*.deb package
             mv package/usr/bin/{PACKAGE} .; rm -r package {PACKAGE}_*.deb"
        );
        tree.inside().bind(out, OUT).run(&script, log)
    })
}
