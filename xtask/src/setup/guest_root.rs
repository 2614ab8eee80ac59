//! The guest's root: a Debian trixie with the programs that people and tests run, as one read-only image.

use std::fs;

use anyhow::{Context, Result};

use litebox_vm_init::{FILES_DIR, SHARE_DIR, TOOLS_DIR};

use super::tree::{OUT, bootstrap};
use super::{Built, Key, Mirrors, Setup, Tree, need_root, remove};

/// What the guest finds installed.
const PACKAGES: &[&str] = &[
    "bash",
    "bsdextrautils",
    "bubblewrap",
    "busybox-static",
    "bzip2",
    "coreutils",
    "diffutils",
    "file",
    "findutils",
    "gawk",
    "gcc",
    "gdb",
    "git",
    "grep",
    "go-md2man",
    "gzip",
    "jq",
    "libc6-dev",
    "make",
    "mount",
    "musl",
    "perl",
    "procps",
    "python3",
    "sed",
    "sqlite3",
    "strace",
    "tar",
    "util-linux",
    "xz-utils",
    "zlib1g",
    "zstd",
];
/// Nobody reads these in a VM.
const EXCLUDED: &[&str] =
    &["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*"];

/// Makes the image.
pub(super) fn step(setup: &Setup, tree: &Tree) -> Result<Built> {
    let mirrors = Mirrors::of_this_machine()?;
    let points = [SHARE_DIR, FILES_DIR, TOOLS_DIR];
    let key = Key::default().text(&format!("{mirrors:?} {PACKAGES:?} {EXCLUDED:?} {points:?}"));
    setup.step("guest-root", key, |out, log| {
        need_root("making the guest's root")?;
        let root = out.join("root");
        let options: Vec<String> = EXCLUDED.iter().map(|path| format!("--dpkgopt=path-exclude={path}")).collect();
        bootstrap(&root, "essential", PACKAGES, &mirrors.lines(false), &options, log)?;
        for point in points {
            fs::create_dir_all(root.join(point.trim_start_matches('/')))?;
        }
        fs::write(root.join("etc/hostname"), "litebox\n")?;
        fs::write(root.join("etc/hosts"), "127.0.0.1 localhost litebox\n::1 localhost\n")?;
        // Uncompressed: under an emulator, decompressing costs more than reading.
        let script = format!("mkfs.erofs -T0 --all-time -x-1 {OUT}/root.erofs {OUT}/root");
        tree.inside().bind(out, OUT).run(&script, log).context("cannot make the image")?;
        remove(&root)
    })
}
