//! The module: litebox.ko, built in the tree by the kernel's own compiler.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Built, Key, Log, Setup, Tree};
use crate::paths;

/// The folders of the repository that the module is made of.
const SOURCES: &[&str] =
    &["core", "shim-linux", "ioctl-abi", "vdso", "trap-hw", "platform-linux-kernel", "kbuild", "Cargo.toml", "Cargo.lock"];
/// Where the repository appears in the tree.
const REPOSITORY: &str = "/mnt/repository";
/// Where the vendored crates appear in the tree.
const VENDOR: &str = "/mnt/vendor";
/// Where the build's own files appear in the tree. They outlive the step, so that the next build is a short one.
const WORK: &str = "/mnt/work";

/// Builds the module as the step `name`, against the output directory of the step `kernel`, which appears at `at` in the tree.
pub(super) fn step(setup: &Setup, tree: &Tree, name: &str, kernel: &Built, at: &str) -> Result<Built> {
    let vendor = vendor(setup)?;
    let mut key = Key::default().text(&kernel.key).text(&vendor.key);
    for source in SOURCES {
        key = key.files(&paths::repository().join(source))?;
    }
    let work = setup.work(name)?;
    setup.step(name, key, |out, log| {
        let inside = tree
            .inside()
            .bind(&kernel.path, at)
            .bind_read_only(paths::repository(), REPOSITORY)
            .bind_read_only(&vendor.path, VENDOR)
            .bind(&work, WORK)
            .env("CARGO_HOME", VENDOR)
            .env("CARGO_TARGET_DIR", &format!("{WORK}/target"))
            .env("CARGO_NET_OFFLINE", "true");
        let script =
            format!("make -C {REPOSITORY}/kbuild KERNEL_OUT={at}/out OUTPUT={WORK}/module CARGO_FLAGS='--offline --locked'");
        inside.run(&script, log)?;
        let module = work.join("module/litebox.ko");
        fs::copy(&module, out.join("litebox.ko")).with_context(|| format!("the build left no {}", module.display()))?;
        Ok(())
    })
}

/// Copies the registry's crates, which this machine's cargo fetches, to where the tree's cargo finds them without a network.
fn vendor(setup: &Setup) -> Result<Built> {
    let lock = paths::repository().join("Cargo.lock");
    if !lock.exists() {
        let mut command = cargo();
        command.args(["generate-lockfile", "--quiet"]);
        Log::create(&setup.work("logs")?.join("lockfile.log"))?.run(&mut command)?;
    }
    let key = Key::default().files(&lock)?;
    setup.step("vendor", key, |out, log| {
        log.run(cargo().args(["vendor", "--quiet", "--locked"]).arg(out.join("crates")))?;
        let config =
            format!("[source.crates-io]\nreplace-with = \"vendored\"\n\n[source.vendored]\ndirectory = \"{VENDOR}/crates\"\n");
        fs::write(out.join("config.toml"), config).context("cannot write cargo's settings")
    })
}

/// This machine's cargo, in the repository.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::repository());
    command
}
