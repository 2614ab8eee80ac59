//! Launchers and guests that mean no good: the suites of tests/vm/hostile, natively in the VM, over /dev/litebox.
//!
//! A suite passes when its program says so and the VM's kernel has no complaint. Most share the cases' VM; one wants another
//! processor, one wants its kernel's memory changed from outside.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use litebox_vm_init::{Ending, Job, Place, TOOLS_DIR, ToVm};

use super::report::Report;
use super::shared::{Kernel, Shared, boot};
use crate::run;
use crate::vm::{Config, Debugger, Input, Output, Vm};

/// The program, in the VM.
const PROGRAM: &str = "litebox-vm-hostile";

/// In which VM a suite runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// In the one that all share.
    Shared,
    /// In its own, which a failure leaves unfit for others.
    Own,
    /// In its own, whose processor has Intel's ways into the kernel rather than AMD's.
    Intel,
    /// In its own, whose kernel can be changed from outside.
    Debugged,
}

/// Name, suite, VM, time-out in seconds.
const SUITES: &[(&str, &str, Machine, u64)] = &[
    ("hostile/device", "device", Machine::Shared, 180),
    ("hostile/device-as-user", "device-as-user", Machine::Shared, 180),
    ("hostile/race", "race", Machine::Shared, 180),
    ("hostile/teardown", "teardown", Machine::Shared, 180),
    ("hostile/carriers", "carriers", Machine::Shared, 180),
    ("hostile/calls", "calls", Machine::Shared, 180),
    ("hostile/elf", "elf", Machine::Shared, 240),
    ("hostile/calls-intel", "calls", Machine::Intel, 180),
    ("hostile/unhook", "unhook", Machine::Debugged, 180),
    ("hostile/cycle", "cycle", Machine::Own, 60),
    ("svm/hostile/teardown", "svm teardown", Machine::Shared, 400),
    ("svm/hostile/carriers", "svm carriers", Machine::Shared, 400),
    ("svm/hostile/calls", "svm calls", Machine::Shared, 400),
    ("svm/hostile/others", "svm others", Machine::Own, 400),
];

/// Suites that are known to fail, and why. One that passes must be removed from here.
const KNOWN_FAILURES: &[(&str, &str)] =
    &[("svm/hostile/others", "that another hypervisor has the processors is a line in the kernel's log, which is to stay empty")];

/// The suites' names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|(name, ..)| *name)
}

/// Runs those whose names contain `filter`.
pub(super) fn run(report: &mut Report, shared: &mut Shared, filter: Option<&str>) {
    let chosen: Vec<_> = SUITES.iter().filter(|(name, ..)| filter.is_none_or(|filter| name.contains(filter))).collect();
    if !chosen.is_empty() {
        report.begin("hostile launchers and guests in the VM");
    }
    for (name, suite, machine, seconds) in chosen {
        let kernel = shared.kernel();
        let seconds = seconds * u64::from(kernel.slowness());
        let result = match machine {
            Machine::Shared => in_shared(shared, suite, seconds),
            Machine::Intel => {
                in_own(kernel, &Config { emulated_cpu: Some("max,vendor=GenuineIntel"), ..Config::default() }, suite, seconds)
            }
            Machine::Own => in_own(kernel, &Config::default(), suite, seconds),
            Machine::Debugged => in_own(kernel, &Config { debugger: true, ..Config::default() }, suite, seconds),
        };
        let known = KNOWN_FAILURES.iter().find(|(known, _)| known == name).map(|(_, reason)| reason);
        match (result, known) {
            (Ok(note), None) => report.pass(name, &note),
            (Err(error), None) => report.fail(name, &format!("{error:#}")),
            (Ok(_), Some(reason)) => report.fail(name, &format!("passes, though known to fail ({reason}): remove it from there")),
            (Err(error), Some(reason)) => {
                report.begin(&format!("{name}: {error:#}").replace('\n', "\n# "));
                report.pass(name, &format!("known failure: {reason}"));
            }
        }
    }
}

fn in_shared(shared: &mut Shared, suite: &str, seconds: u64) -> Result<String> {
    let vm = shared.vm()?;
    match watched(vm, suite, seconds) {
        Ok(verdict) => verdict,
        Err(lost) => {
            shared.lose();
            Err(lost)
        }
    }
}

fn in_own(kernel: Kernel, config: &Config, suite: &str, seconds: u64) -> Result<String> {
    let mut vm = boot(kernel, config)?;
    let note = watched(&mut vm, suite, seconds)??;
    vm.power_off(true)?;
    Ok(note)
}

/// Runs a suite. The outer error is a VM that is of no use any more, the inner one a suite that failed.
fn watched(vm: &mut Vm, suite: &str, seconds: u64) -> Result<Result<String>> {
    let job = Job {
        argv: std::iter::once(format!("{TOOLS_DIR}/{PROGRAM}")).chain(suite.split(' ').map(str::to_owned)).collect(),
        env: run::environment(),
        place: Place::Native,
        launcher_options: Vec::new(),
        terminal: None,
        timeout_ms: Some(1000 * seconds),
        files: Vec::new(),
    };
    let (debugger, input) = (vm.debugger(), vm.input());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut surgeon = Surgeon::new(debugger, input);
    let ending = vm.run(
        &job,
        |output| {
            match output {
                Output::Stdout(bytes) => {
                    stdout.extend_from_slice(&bytes);
                    surgeon.listen(&bytes)?;
                }
                Output::Stderr(bytes) => stderr.extend(bytes),
            }
            Ok(())
        },
        || Ok(()),
    )?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    Ok(judge(ending, &stdout, &String::from_utf8_lossy(&stderr)))
}

/// A suite's verdict, from how its program ended and what it said.
fn judge(ending: Ending, stdout: &str, stderr: &str) -> Result<String> {
    let checks = stdout.lines().filter(|line| line.starts_with("ok ")).count();
    if ending != Ending::Exited(0) || checks == 0 {
        bail!("{ending:?} after {checks} checks\n{stdout}{stderr}");
    }
    let mut note = format!("{checks} checks");
    for line in stdout.lines().filter_map(|line| line.strip_prefix("# ")) {
        let _ = write!(note, "; {line}");
    }
    Ok(note)
}

/// Takes a hook out of the VM's kernel and puts it back, when the suite asks for it (tests/vm/hostile/src/unhook.rs).
#[derive(Debug)]
struct Surgeon {
    debugger: Option<Debugger>,
    input: Input,
    line: String,
    /// Where something was changed, and the bytes that were there.
    changed: Option<(u64, Vec<u8>)>,
}

/// A call's first byte, and a no-op of its length.
const CALL: u8 = 0xe8;
/// See [`CALL`].
const NO_OP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
/// A landing pad, ENDBR64, and what the kernel makes of one that nothing jumps to.
const PADS: [[u8; 4]; 2] = [[0xf3, 0x0f, 0x1e, 0xfa], [0x0f, 0x1f, 0x40, 0xd6]];
/// A return.
const RETURN: [u8; 1] = [0xc3];

impl Surgeon {
    fn new(debugger: Option<Debugger>, input: Input) -> Self {
        Self { debugger, input, line: String::new(), changed: None }
    }

    /// Looks for words in what the suite says.
    fn listen(&mut self, bytes: &[u8]) -> Result<()> {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(char::from(*byte));
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let address = |text| u64::from_str_radix(text, 16).with_context(|| line.clone());
            if let Some(text) = line.strip_prefix("remove ") {
                self.remove(address(text)?)?;
            } else if let Some(text) = line.strip_prefix("silence ") {
                self.silence(address(text)?)?;
            } else if line == "restore" {
                self.restore()?;
            } else {
                continue;
            }
            self.input.send(&ToVm::Stdin(b"done\n".to_vec()))?;
        }
        Ok(())
    }

    /// Replaces the call at a function's start, behind its landing pad if it has one.
    fn remove(&mut self, function: u64) -> Result<()> {
        let at = self.body(function)?;
        let code = self.debugger()?.read(at, NO_OP.len())?;
        ensure!(code[0] == CALL, "no call at {at:x}: {code:02x?}; is the hook somewhere else?");
        self.change(at, &NO_OP)
    }

    /// Makes a function return at once.
    fn silence(&mut self, function: u64) -> Result<()> {
        let at = self.body(function)?;
        self.change(at, &RETURN)
    }

    /// Where a function's code begins, behind its landing pad if it has one.
    fn body(&self, function: u64) -> Result<u64> {
        let first = self.debugger()?.read(function, PADS[0].len())?;
        Ok(if PADS.iter().any(|pad| first == pad) { function + first.len() as u64 } else { function })
    }

    fn change(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let before = self.debugger()?.read(at, bytes.len())?;
        self.debugger()?.write(at, bytes)?;
        self.changed = Some((at, before));
        Ok(())
    }

    /// Puts back what was there.
    fn restore(&mut self) -> Result<()> {
        let (at, bytes) = self.changed.take().context("nothing was changed")?;
        self.debugger()?.write(at, &bytes)
    }

    fn debugger(&self) -> Result<&Debugger> {
        self.debugger.as_ref().context("this VM has no debugger")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_must_say_something_and_end_well() {
        assert_eq!(judge(Ending::Exited(0), "ok a: b\n# 7 things\n", "").unwrap(), "1 checks; 7 things");
        judge(Ending::Exited(0), "", "").unwrap_err();
        judge(Ending::Exited(1), "ok a: b\nnot ok a: c\n", "").unwrap_err();
        judge(Ending::Signalled(9), "ok a: b\n", "").unwrap_err();
    }
}
