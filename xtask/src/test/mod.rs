//! `cargo xtask test`: checks of the sources, tests on this machine, and suites in the VM.

mod boot;
pub(crate) mod cases;
mod checks;
mod command;
mod conform;
mod hostile;
mod launcher;
mod ratchet;
mod report;
mod shared;
mod vm;

use anyhow::Result;
use clap::Args;

pub(crate) use self::report::Report;
use self::shared::{Kernel, Shared};

/// Which tests.
#[derive(Debug, Clone, Args)]
pub(crate) struct TestArgs {
    /// Leave out everything that needs a VM
    #[arg(long)]
    quick: bool,
    /// Run what needs a VM, and only that, on a kernel with every checker; building it takes a while, once
    #[arg(long, conflicts_with = "quick")]
    debug_kernel: bool,
    /// Only tests with this in their name; the checks of the sources are left out then
    filter: Option<String>,
}

/// The names of the tests that are neither units nor cases.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    hostile::names().chain(launcher::names()).chain(boot::names()).chain(command::names()).chain([ratchet::NAME])
}

/// Runs the tests and gives the exit status.
///
/// # Errors
/// Test lists that cannot be read. A failed test or set-up is a line of the report, not an error.
pub(crate) fn run(args: &TestArgs) -> Result<i32> {
    let mut report = Report::default();
    let filter = args.filter.as_deref();
    if !args.debug_kernel {
        if filter.is_none() {
            checks::sources(&mut report);
        }
        // No unit's name has a slash in it, and building them all takes longer than most tests in the VM.
        if filter.is_none_or(|filter| !filter.contains('/')) {
            checks::hosted(&mut report, filter);
        }
    }
    if !args.quick {
        let kernel = if args.debug_kernel { Kernel::Debug } else { Kernel::Stock };
        let cases = cases::load(filter)?;
        let mut shared = Shared::new(kernel);
        vm::run(&mut report, &mut shared, &cases);
        launcher::run(&mut report, &mut shared, filter);
        hostile::run(&mut report, &mut shared, filter);
        shared.close(&mut report);
    }
    if !args.quick && !args.debug_kernel {
        ratchet::run(&mut report, filter);
        boot::run(&mut report, filter);
        command::run(&mut report, filter);
        conform::run(&mut report, filter);
    }
    Ok(report.close())
}
