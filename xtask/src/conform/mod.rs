//! `cargo xtask conform DIR`: suites of others that test Linux, each program natively and in a sandbox.
//!
//! Linux is the judge: a test counts when it passes natively, and must pass in the sandbox then. Programs come from a folder that
//! somebody has built (LTP, kselftest, libc-test).

mod accepted;
mod report;
mod results;
mod runner;
mod tests;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::accepted::Accepted;
use self::report::Report;
use self::runner::Plan;
use crate::paths;
use crate::vm::Config;

/// Which tests, and how to run them.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConformArgs {
    /// A folder of static test programs and scripts, searched through
    dir: PathBuf,
    /// Only tests with this in their path below the folder
    filter: Option<String>,
    /// Limit of each run
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    seconds: u64,
    /// VMs to run tests in at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Memory of each VM in MiB
    #[arg(long, value_name = "MIB", default_value_t = 3072)]
    mem: u32,
}

/// Runs the tests, shows what differs and writes the report. The status is 0 when nothing that passes natively fails in a sandbox.
///
/// # Errors
/// A folder without tests, set-up faults, a VM that does not boot.
pub(crate) fn run(args: &ConformArgs) -> Result<i32> {
    let folder = args.dir.canonicalize().with_context(|| format!("cannot read {}", args.dir.display()))?;
    let filter = args.filter.as_deref();
    let tests = tests::find(&folder, filter)?;
    if tests.is_empty() {
        bail!("{} holds no test{}", folder.display(), filter.map(|filter| format!(" named `{filter}`")).unwrap_or_default());
    }
    let accepted = Accepted::load()?;
    let config = Config { memory_mib: args.mem, share: Some(folder.clone()), module: true, ..Config::default() };
    let plan = Plan { config: &config, seconds: args.seconds, jobs: args.jobs, accepted: &accepted };
    let (tests, faults) = runner::run(&plan, tests)?;

    let status = i32::from(!faults.is_empty() || tests.iter().any(report::Entry::is_failure));
    let report = Report { folder: folder.display().to_string(), seconds: args.seconds, tests, faults };
    let table = report.table();
    println!("{table}");
    let out = paths::cache().join("conform");
    fs::create_dir_all(&out)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for (kind, text) in [("txt", &table), ("json", &serde_json::to_string_pretty(&report)?)] {
        let path = out.join(format!("{name}.{kind}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(status)
}
