//! VMs that are to fail: a kernel that the module refuses, and one that stops. Whoever runs something must learn of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use litebox_vm_init::{Job, Place};

use super::report::{Report, Test};
use crate::run;
use crate::vm::{Config, Vm};

/// All tests.
const TESTS: &[Test] = &[("boot/refused-without-fsgsbase", without_fsgsbase), ("boot/hang-is-a-failure", hang)];
/// For [`hang`]: after so long without a sign of life.
const SILENCE: Duration = Duration::from_secs(10);

/// Their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TESTS.iter().map(|(name, _)| *name)
}

/// Runs those whose names contain `filter`.
pub(super) fn run(report: &mut Report, filter: Option<&str>) {
    report.run(TESTS, filter);
}

/// insmod fails, and the kernel's log says what is missing.
fn without_fsgsbase() -> Result<()> {
    let Err(error) = Vm::boot(&Config { module: true, kernel_words: "nofsgsbase", ..Config::default() }) else {
        bail!("the module was loaded");
    };
    let shown = format!("{error:#}");
    for words in ["insmod /litebox.ko: No such device", "cannot load: no FSGSBASE; the processor lacks it"] {
        ensure!(shown.contains(words), "the error lacks `{words}`:\n{shown}");
    }
    Ok(())
}

/// A VM that stands still while a program runs is given up, with its log.
fn hang() -> Result<()> {
    let mut vm = Vm::boot(&Config { debugger: true, silence: SILENCE, ..Config::default() })?;
    let debugger = vm.debugger().context("this VM has a debugger")?;
    let job = Job {
        argv: vec!["sleep".to_owned(), "1000".to_owned()],
        env: run::environment(),
        place: Place::Native,
        launcher_options: Vec::new(),
        terminal: None,
        timeout_ms: None,
        files: Vec::new(),
    };
    let begun = Instant::now();
    let mut stopped = None;
    let ended = vm.run(
        &job,
        |_| Ok(()),
        || {
            if stopped.is_none() {
                stopped = Some(debugger.stop()?);
            }
            Ok(())
        },
    );
    let Err(error) = ended else { bail!("a program of a VM that stands still has ended") };
    let shown = format!("{error:#}");
    ensure!(shown.contains("the VM hangs") && shown.contains("kernel log"), "{shown}");
    ensure!(begun.elapsed() >= SILENCE, "given up after {} s", begun.elapsed().as_secs());
    Ok(())
}
