//! The kernel: its modules for the initramfs, and its source made ready for building modules in Rust.

use std::fs;

use anyhow::{Context, Result, bail};

use super::tree::OUT;
use super::{Built, Key, Setup, Tree};
use crate::paths;

/// Modules that every VM needs to reach the guest's root.
const BASE_MODULES: &[&str] = &["virtio_blk", "erofs"];
/// Modules that a shared folder needs.
const SHARE_MODULES: &[&str] = &["9pnet_virtio", "9p"];
/// Where the prepared kernel appears in the tree. Its files name this path, so it never changes.
pub(super) const KERNEL: &str = "/mnt/kernel";

/// Prepares the kernel's source: out/ is what `kbuild/Makefile` takes as `KERNEL_OUT`.
pub(super) fn step(setup: &Setup, tree: &Tree) -> Result<Built> {
    let script = paths::repository().join("kbuild/prepare.sh");
    let release = tree.release()?;
    let key = Key::default().text(tree.key()).text(&release).files(&script)?;
    setup.step("kernel", key, |out, log| {
        let sources = fs::read_dir(tree.root().join("usr/src")).context("the tree has no /usr/src")?;
        let tarball = sources.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned()));
        let tarball = tarball.filter(|name| name.starts_with("linux-source-") && name.contains(".tar"));
        let Some(tarball) = tarball.max() else {
            bail!("the tree has no kernel source; the package linux-source should bring it")
        };
        fs::copy(&script, out.join("prepare.sh"))?;
        let inside = tree.inside().bind(out, KERNEL);
        inside.run(&format!("cd {KERNEL} && ./prepare.sh /usr/src/{tarball} {KERNEL}/out {release}"), log)
    })
}

/// Takes the modules that the initramfs needs out of the kernel's package, decompressed and numbered in loading order.
pub(super) fn modules(setup: &Setup, tree: &Tree) -> Result<Built> {
    let release = tree.release()?;
    let key = Key::default().text(tree.key()).text(&release).text(&format!("{BASE_MODULES:?} {SHARE_MODULES:?}"));
    setup.step("modules", key, |out, log| {
        let take = |directory: &str, names: &[&str]| {
            format!(
                "mkdir {OUT}/{directory}; n=10
                 for module in {}; do
                   for path in $(modprobe -S {release} --show-depends $module | sed -n 's/^insmod \\([^ ]*\\).*/\\1/p'); do
                     name=$(basename $path); name=${{name%%.ko*}}
                     ls {OUT}/*/*-$name.ko > /dev/null 2>&1 && continue
                     case $path in
                       *.xz) xz -dc $path ;;
                       *.zst) zstd -dc $path ;;
                       *) cat $path ;;
                     esac > {OUT}/{directory}/$n-$name.ko
                     n=$((n + 1))
                   done
                 done\n",
                names.join(" ")
            )
        };
        let script = take("base", BASE_MODULES) + &take("share", SHARE_MODULES);
        tree.inside().bind(out, OUT).run(&script, log)
    })
}
