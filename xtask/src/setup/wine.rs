//! The tree that the Windows driver is tested in: Debian trixie with Wine, and a folder with the programs of guests.
//!
//! The folder is no Debian root: it has no links and nothing is mounted in it, since Wine shows both as what the driver refuses.

use anyhow::Result;

use super::tree::{InTree, bootstrap};
use super::{Built, Key, Mirrors, Setup, need_root};

/// What is installed: Wine, and what guests run.
const PACKAGES: &str = "wine wine64 busybox-static coreutils dash bash grep sed gawk findutils perl-base python3";
/// Makes the folder: programs with their libraries, each a file under the name that it is called by.
const GUEST: &str = "
    mkdir -p /guest/bin /guest/dev /guest/proc /guest/tmp /guest/etc /guest/root /guest/mnt
    for package in busybox-static coreutils dash bash grep sed gawk findutils perl-base python3-minimal python3.13-minimal; do
        dpkg -L $package | grep -E '^(/usr)?/s?bin/[^/]+$'
    done | sort -u | while read -r program; do cp -L $program /guest/bin/; done
    cp -L /bin/sh /guest/bin/sh; cp -L /usr/bin/gawk /guest/bin/awk; cp -L /usr/bin/python3 /guest/bin/python3
    for program in /guest/bin/*; do ldd $program 2>/dev/null || true; done | grep -oE '/[^ ]+' | sort -u | grep -v /guest |
        while read -r library; do mkdir -p /guest$(dirname $library); cp -L $library /guest$library; done
    mkdir -p /guest/usr/lib; cp -rL /usr/lib/python3.13 /guest/usr/lib/
    cp /etc/passwd /etc/group /etc/hosts /guest/etc/ 2>/dev/null || true";

/// Makes the tree.
///
/// # Errors
/// Packages that cannot be fetched; not being root.
pub(crate) fn step(setup: &Setup) -> Result<Built> {
    let mirrors = Mirrors::of_this_machine()?;
    let key = Key::default().text(&format!("{mirrors:?} {PACKAGES} {GUEST}"));
    let packages = setup.work("packages")?;
    setup.step("wine-tree", key, |out, log| {
        need_root("making the tree with Wine")?;
        let root = out.join("root");
        bootstrap(&root, "apt", &["ca-certificates"], &mirrors.lines(false), &[], log)?;
        let inside = InTree::new(&root).bind(&packages, "/var/cache/apt/archives").env("DEBIAN_FRONTEND", "noninteractive");
        let install = format!(
            "mkdir -p /var/cache/apt/archives/partial; apt-get update -q
             apt-get install -y -q --no-install-recommends {PACKAGES}; apt-get clean"
        );
        inside.run(&install, log)?;
        InTree::new(&root).run(GUEST, log)
    })
}
