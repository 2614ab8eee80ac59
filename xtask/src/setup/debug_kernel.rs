//! The debug kernel: Debian's source with every checker turned on, and nothing but what a VM needs (`kbuild/debug`).
//!
//! Built once for a source and a compiler; it takes some tens of minutes on two processors.

use std::fs;

use anyhow::{Context, Result};

use super::kernel::{KVM_GROUP, MODULE_GROUPS};
use super::{Built, Key, Setup, Tree};
use crate::paths;

/// Where the debug kernel appears in the tree. Its files name this path, so it never changes.
pub(super) const KERNEL: &str = "/mnt/debug-kernel";
/// What builds it.
const SCRIPTS: &str = "kbuild/debug";

/// Builds the kernel: out/ is what `kbuild/Makefile` takes as `KERNEL_OUT`; the rest is what a VM boots, as `kernel::boot_files` lays
/// it out.
pub(super) fn step(setup: &Setup, tree: &Tree) -> Result<Built> {
    let scripts = paths::repository().join(SCRIPTS);
    let key = Key::default().text(tree.key()).text(&tree.release()?).files(&scripts)?;
    setup.step("debug-kernel", key, |out, log| {
        let tarball = tree.kernel_source()?;
        for entry in fs::read_dir(&scripts)? {
            let entry = entry?;
            fs::copy(entry.path(), out.join(entry.file_name()))?;
        }
        let inside = tree.inside().bind(out, KERNEL);
        inside.run(&format!("cd {KERNEL} && ./prepare.sh {tarball} {KERNEL}/out"), log)?;
        for group in MODULE_GROUPS.into_iter().chain([KVM_GROUP]) {
            fs::create_dir(out.join(group))?;
        }
        fs::hard_link(out.join("out/vmlinux"), out.join("kernel")).context("the build left no vmlinux")
    })
}
