//! Programs for the VM that are built from this repository: its first process, the launcher, and the tests' own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::key::files_below;
use super::tree::OUT;
use super::{Built, Key, Log, Setup, Tree};
use crate::paths;

/// What this machine's compiler builds for without anything further installed; static by a code-generation option.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Makes a program of this machine's compiler static, at a fixed address.
const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";
/// The tests' programs and the benchmarks: each .rs file is one static program, each .c file one for each of [`C_BUILDS`].
const SOURCES: &[&str] = &["tests/vm/programs", "tests/bench"];
/// How C programs are built in the tree: what their name gets appended, and the compiler with its options.
const C_BUILDS: &[(&str, &str)] =
    &[("static", "gcc -static"), ("static-pie", "gcc -static-pie"), ("dynamic", "gcc"), ("musl", "musl-gcc -static")];

/// Builds the VM's first process.
pub(super) fn init(setup: &Setup) -> Result<Built> {
    program(setup, "init", "litebox-vm-init", &["tests/vm/init"])
}

/// Builds the launcher.
pub(super) fn launcher(setup: &Setup) -> Result<Built> {
    program(setup, "launcher", "litebox-launch", &["userspace-launcher", "ioctl-abi"])
}

/// Builds the hostile launchers and guests.
pub(super) fn hostile(setup: &Setup) -> Result<Built> {
    program(setup, "hostile", "litebox-vm-hostile", &["tests/vm/hostile", "ioctl-abi"])
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
        command.current_dir(repository).env("RUSTFLAGS", STATIC);
        command.env("CARGO_PROFILE_RELEASE_STRIP", "symbols").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        command.args(["build", "--release", "--target", TARGET, "-p", krate, "--target-dir"]).arg(&target_dir);
        log.run(&mut command)?;
        let built: PathBuf = [target_dir.as_path(), TARGET.as_ref(), "release".as_ref(), krate.as_ref()].iter().collect();
        let copy = out.join(krate);
        fs::copy(&built, &copy).with_context(|| format!("cargo left no {}", built.display()))?;
        Ok(())
    })
}

/// Builds the tests' own programs and the benchmarks.
pub(super) fn tests(setup: &Setup, tree: &Tree) -> Result<Built> {
    let mut sources = Vec::new();
    let mut key = Key::default().text(tree.key()).text(&format!("{STATIC} {C_BUILDS:?}"));
    for folder in SOURCES {
        let folder = paths::repository().join(folder);
        key = key.files(&folder)?;
        sources.extend(files_below(&folder)?);
    }
    setup.step("programs", key, |out, log| {
        let has = |path: &&PathBuf, extension: &str| path.extension().is_some_and(|found| found == extension);
        for source in sources.iter().filter(|path| has(path, "rs")) {
            rust(source, out, log)?;
        }
        let mut script = String::new();
        for source in sources.iter().filter(|path| has(path, "c")) {
            let name = source.file_stem().unwrap_or_default().to_string_lossy();
            fs::copy(source, out.join(format!("{name}.c")))?;
            for (suffix, compiler) in C_BUILDS {
                script.push_str(&format!("{compiler} -O2 -Wall -Wextra -o {OUT}/{name}-{suffix} {OUT}/{name}.c -lm\n"));
            }
            script.push_str(&format!("rm {OUT}/{name}.c\n"));
        }
        tree.inside().bind(out, OUT).run(&script, log)
    })
}

/// Builds one static program from one Rust file.
fn rust(source: &Path, out: &Path, log: &mut Log) -> Result<()> {
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "--target", TARGET, "-O", "-C", "strip=symbols"]).args(STATIC.split(' '));
    log.run(command.arg("--out-dir").arg(out).arg(source))
}
