//! The cases in a VM: each natively and in a sandbox, in one boot; output and status must be equal.

use std::time::{Duration, Instant};

use litebox_vm_init::{Ending, Place};

use super::cases::Case;
use super::report::Report;
use super::shared::Shared;
use crate::vm::{Outcome, Vm};

/// Bytes of a differing output that are shown.
const SHOWN: usize = 300;

/// Runs the cases.
pub(super) fn run(report: &mut Report, shared: &mut Shared, cases: &[Case]) {
    if !cases.is_empty() {
        report.begin("programs in the VM: Linux beside the sandbox");
    }
    for case in cases {
        let slowness = shared.kernel().slowness();
        let running = match shared.vm() {
            Ok(running) => running,
            Err(error) => {
                report.fail(&case.name, &format!("{error:#}"));
                report.fail("vm/boot", "without a VM the other cases cannot run");
                return;
            }
        };
        let (verdict, usable) = judge(running, case, slowness);
        match (verdict, &case.known_failure) {
            (Ok(note), None) => report.pass(&case.name, &note),
            (Ok(_), Some(reason)) => report.fail(
                &case.name,
                &format!("passes, though known to fail ({reason})\nwell done: remove it from tests/vm/known-failures.toml"),
            ),
            (Err(_), Some(reason)) => report.pass(&case.name, &format!("known failure: {reason}")),
            (Err(why), None) => report.fail(&case.name, &why),
        }
        if !usable {
            shared.lose();
        }
    }
}

/// Runs a case in both places, with `slowness` times its time: a note or the reason of failure, and whether the VM is still usable.
fn judge(vm: &mut Vm, case: &Case, slowness: u32) -> (Result<String, String>, bool) {
    let begun = Instant::now();
    let native = match vm.outcome(&case.job(Place::Native, slowness), &case.stdin) {
        Ok(native) => native,
        Err(error) => return (Err(format!("natively: {error:#}")), false),
    };
    let native_time = begun.elapsed();
    if native.ending.status() != case.status || native.ending == Ending::TimedOut {
        let shown = String::from_utf8_lossy(&native.stderr).into_owned();
        return (
            Err(format!("natively {:?} instead of status {}: the case is wrong\n{shown}", native.ending, case.status)),
            true,
        );
    }
    let begun = Instant::now();
    let sandbox = match vm.outcome(&case.job(Place::Sandbox, slowness), &case.stdin) {
        Ok(sandbox) => sandbox,
        Err(error) => return (Err(format!("in the sandbox: {error:#}")), false),
    };
    let note = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    match difference(&native, &sandbox) {
        None => (Ok(format!("{}, natively {}", note(begun.elapsed()), note(native_time))), true),
        Some(why) => (Err(why), true),
    }
}

/// What differs, in words; nothing when nothing does. Statuses compare as a shell sees them.
fn difference(native: &Outcome, sandbox: &Outcome) -> Option<String> {
    let mut lines = Vec::new();
    if native.ending.status() != sandbox.ending.status() || sandbox.ending == Ending::TimedOut {
        lines.push(format!(
            "status: Linux {}, sandbox {} ({:?})",
            native.ending.status(),
            sandbox.ending.status(),
            sandbox.ending
        ));
    }
    for (stream, linux, ours) in [("stdout", &native.stdout, &sandbox.stdout), ("stderr", &native.stderr, &sandbox.stderr)] {
        if linux != ours {
            let common = linux.iter().zip(ours).take_while(|(one, other)| one == other).count();
            lines.push(format!("{stream} differs from byte {common} on:"));
            lines.push(format!("  Linux   {}", excerpt(linux, common)));
            lines.push(format!("  sandbox {}", excerpt(ours, common)));
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Some bytes from `from` on, readable, with their number.
fn excerpt(bytes: &[u8], from: usize) -> String {
    let rest = &bytes[from..];
    let shown = &rest[..rest.len().min(SHOWN)];
    format!("({} bytes) \"{}\"", bytes.len(), shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ending: Ending, stdout: &[u8]) -> Outcome {
        Outcome { ending, stdout: stdout.to_vec(), stderr: Vec::new() }
    }

    #[test]
    fn equal_is_equal_and_a_signal_equals_its_status() {
        let native = outcome(Ending::Signalled(11), b"x");
        assert_eq!(difference(&native, &outcome(Ending::Exited(139), b"x")), None);
    }

    #[test]
    fn a_differing_byte_and_a_time_out_are_told() {
        let native = outcome(Ending::Exited(0), b"abc");
        assert!(difference(&native, &outcome(Ending::Exited(0), b"abd")).unwrap().contains("from byte 2"));
        let late = outcome(Ending::TimedOut, b"");
        assert!(difference(&outcome(Ending::Exited(124), b""), &late).is_some());
    }
}
