//! `cargo xtask fuzz TARGET`: one of libFuzzer's targets (fuzz/), on this machine, for some time.
//!
//! cargo-fuzz and a nightly compiler are not needed: what the stable one has of instrumentation suffices for code without unsafe blocks.
//! Inputs that reach something new are kept in the cache, and the seeds in fuzz/seeds are run each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{paths, setup};

/// Where the targets and their seeds lie.
const FOLDER: &str = "fuzz";
/// As cargo-fuzz has it without a sanitizer: libFuzzer sees which edges are taken, and how often, and what is compared.
const INSTRUMENTATION: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];
/// Instrumented code needs a target that is named, or build scripts would get it, too.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Longest input.
const BYTES_MAX: u32 = 8192;

/// Which target, and for how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct FuzzArgs {
    /// A file of fuzz/targets/
    target: Option<String>,
    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u32,
    /// Begin the random numbers with this
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u32,
}

/// Fuzzes, and gives the exit status: 1 when something was found.
///
/// # Errors
/// An unknown target, one that cannot be built.
pub(crate) fn run(args: &FuzzArgs) -> Result<i32> {
    let known = targets()?;
    let Some(target) = args.target.as_ref().filter(|target| known.contains(target)) else {
        bail!("no fuzz target {}; there are: {}", args.target.as_deref().unwrap_or("was named"), known.join(", "));
    };
    if setup::which("c++").is_none() {
        bail!("libFuzzer is built from C++, and there is no compiler of it\n  try: apt-get install --no-install-recommends g++");
    }
    let work = paths::cache().join("fuzz");
    let (corpus, found) = (work.join("corpus").join(target), work.join("found").join(target));
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let program = build(target, &work.join("target"))?;
    let mut fuzzer = Command::new(&program);
    fuzzer.arg(format!("-max_total_time={}", args.time)).arg(format!("-seed={}", args.seed)).arg(format!("-max_len={BYTES_MAX}"));
    fuzzer.arg(format!("-artifact_prefix={}/", found.display())).args(["-print_final_stats=1", "-use_value_profile=1"]);
    fuzzer.arg(&corpus).arg(paths::repository().join(FOLDER).join("seeds").join(target));
    let status = fuzzer.status().with_context(|| format!("cannot start {}", program.display()))?;
    if status.success() {
        return Ok(0);
    }
    println!("{}", advice(target, &found, status));
    Ok(1)
}

/// What to do with what was found.
fn advice(target: &str, found: &Path, status: ExitStatus) -> String {
    format!(
        "the input that did it lies in {} ({status})\n  try: mend it, copy the input to {FOLDER}/seeds/{target}/ under a name that says what \
         it is, and write a unit test",
        found.display()
    )
}

/// The targets there are.
fn targets() -> Result<Vec<String>> {
    let folder = paths::repository().join(FOLDER).join("targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names: Vec<String> = entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Builds a target; gives its program.
fn build(target: &str, directory: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--quiet", "--target", TRIPLE, "--bin", target, "--target-dir"]).arg(directory);
    cargo.arg("--manifest-path").arg(paths::repository().join(FOLDER).join("Cargo.toml"));
    cargo.env("RUSTFLAGS", INSTRUMENTATION.join(" "));
    let status = cargo.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the fuzz target {target} was not built");
    }
    Ok(directory.join(TRIPLE).join("release").join(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_seeds_and_is_in_the_manifest() {
        let manifest = fs::read_to_string(paths::repository().join(FOLDER).join("Cargo.toml")).unwrap();
        let targets = targets().unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
            let seeds = paths::repository().join(FOLDER).join("seeds").join(&target);
            assert!(fs::read_dir(&seeds).unwrap().count() > 0, "{target}");
        }
    }
}
