//! Static programs for the VM: its first process, and the launcher. Built by this machine's cargo.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Built, Key, Setup};
use crate::paths;

/// What this machine's compiler builds for without anything further installed; static by a code-generation option.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the VM's first process.
pub(super) fn init(setup: &Setup) -> Result<Built> {
    program(setup, "init", "litebox-vm-init", &["tests/vm/init"])
}

/// Builds the launcher.
pub(super) fn launcher(setup: &Setup) -> Result<Built> {
    program(setup, "launcher", "litebox-launch", &["userspace-launcher", "ioctl-abi"])
}

/// Builds the program of a crate; `sources` are the folders that it depends on.
fn program(setup: &Setup, step: &str, krate: &str, sources: &[&str]) -> Result<Built> {
    let repository = paths::repository();
    let mut key = Key::default().text(TARGET).files(&repository.join("Cargo.lock"))?.files(&repository.join("Cargo.toml"))?;
    for source in sources {
        key = key.files(&repository.join(source))?;
    }
    let target_dir = repository.join("target/static");
    setup.step(step, key, |out, log| {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(repository).env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
        command.env("CARGO_PROFILE_RELEASE_STRIP", "symbols").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        command.args(["build", "--release", "--target", TARGET, "-p", krate, "--target-dir"]).arg(&target_dir);
        log.run(&mut command)?;
        let built: PathBuf = [target_dir.as_path(), TARGET.as_ref(), "release".as_ref(), krate.as_ref()].iter().collect();
        let copy = out.join(krate);
        fs::copy(&built, &copy).with_context(|| format!("cargo left no {}", built.display()))?;
        Ok(())
    })
}
