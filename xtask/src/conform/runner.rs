//! Runs tests in VMs: each natively, then in a sandbox of its own, with an empty /tmp each time and a limit of time.
//!
//! A VM whose kernel reports a fault is left: the test is named, and the rest goes on in a new one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use litebox_vm_init::{Ending, Place, ToVm};

use super::accepted::Accepted;
use super::report::{Entry, Run};
use super::results::{Counts, Verdict, verdict};
use super::tests::Test;
use crate::vm::{Config, Output, Vm};

/// Bytes of each stream that are kept, from its beginning: a test that never stops writing must not fill this machine.
const KEPT: usize = 4 << 20;
/// Lines at the end of a test's output that are kept.
const LAST_LINES: usize = 12;

/// How to run tests.
#[derive(Debug)]
pub(super) struct Plan<'plan> {
    /// The VMs' configuration.
    pub(super) config: &'plan Config,
    /// Limit of each run.
    pub(super) seconds: u64,
    /// VMs at a time.
    pub(super) jobs: usize,
    /// Differences that are accepted.
    pub(super) accepted: &'plan Accepted,
}

/// Runs the tests, and shows failures as they come.
///
/// # Errors
/// A VM that does not boot. A VM that does not end well after its last test is no error: what was said of it comes second.
pub(super) fn run(plan: &Plan<'_>, tests: Vec<Test>) -> Result<(Vec<Entry>, Vec<String>)> {
    let bar = ProgressBar::new(tests.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}").expect("a valid template"));
    let queue = Mutex::new(VecDeque::from(tests));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = || -> Result<(Vec<Entry>, Option<String>)> {
        let mut machine = Machine { config: plan.config, vm: None };
        let mut entries = Vec::new();
        while let Some(test) = next() {
            bar.set_message(test.name.clone());
            let native = machine.run(&test, Place::Native, plan.seconds)?;
            let sandbox = machine.run(&test, Place::Sandbox, plan.seconds)?;
            let entry = Entry::new(&test, native, sandbox, plan.accepted.reason(&test.path));
            if entry.is_failure() {
                bar.suspend(|| println!("{}", entry.difference()));
            }
            entries.push(entry);
            bar.inc(1);
        }
        Ok((entries, machine.end().err().map(|error| format!("{error:#}"))))
    };
    let results: Vec<Result<_>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a panic of a worker is a bug of ours")).collect()
    });
    bar.finish_and_clear();
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for result in results {
        let (some, fault) = result?;
        entries.extend(some);
        faults.extend(fault);
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((entries, faults))
}

/// A VM that is booted when it is needed.
struct Machine<'plan> {
    config: &'plan Config,
    vm: Option<Vm>,
}

impl Machine<'_> {
    /// Runs a test in one place.
    fn run(&mut self, test: &Test, place: Place, seconds: u64) -> Result<Run> {
        let vm = match self.vm.take() {
            Some(vm) => self.vm.insert(vm),
            None => self.vm.insert(Vm::boot(self.config)?),
        };
        let (ended, text) = match printed(vm, test, place, seconds) {
            Ok((ending, text)) => (vm.fault().map_or(Ok(ending), |fault| Err(fault.to_owned())), text),
            Err(error) => {
                let text = format!("{error:#}");
                (Err(text.lines().next().unwrap_or_default().to_owned()), text)
            }
        };
        let counts = Counts::of(&text);
        let verdict = match ended {
            Ok(ending) => verdict(ending, &counts, place),
            Err(fault) => {
                self.vm = None;
                Verdict::KernelFault(fault)
            }
        };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect();
        Ok(Run { verdict, counts, last })
    }

    /// Ends the VM; the module must go.
    fn end(self) -> Result<()> {
        self.vm.map_or(Ok(()), |vm| vm.power_off(true)).context("after the last test")
    }
}

/// Runs a test and gives its end and what it printed: its standard output, then its standard error.
fn printed(vm: &mut Vm, test: &Test, place: Place, seconds: u64) -> Result<(Ending, String)> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let input = vm.input();
    let mut fed = false;
    let ending = vm.run(
        &test.job(place, seconds),
        |output| {
            let (kept, bytes) = match output {
                Output::Stdout(bytes) => (&mut stdout, bytes),
                Output::Stderr(bytes) => (&mut stderr, bytes),
            };
            let room = KEPT.saturating_sub(kept.len());
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            Ok(())
        },
        || {
            if !std::mem::replace(&mut fed, true) {
                input.send(&ToVm::StdinEnd)?;
            }
            Ok(())
        },
    )?;
    Ok((ending, format!("{}\n{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))))
}
