//! No call of the host's is reachable: a guest makes every one there is, in every way that the processor has, and the host counts.
//!
//! The host may see one call of the carrier after its RUN: the module's own `exit_group`. `fire` has the entries, `arguments` what
//! is passed.

mod arguments;
pub(crate) mod fire;

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::check::{self, Outcome, ensure, equal};
use crate::guest::say;
use crate::host::Log;
use crate::sandbox::{Guest, Sandbox, exited};
use crate::sys;
use crate::trace::{self, Trace};
use fire::{Answer, Entry};

/// The x32 ABI's bit.
const X32: u64 = 1 << 30;
/// How lines of the guest begin that tell where it is.
const AT: &str = "at ";
/// Numbers to be tried begin here, and end below [`END`]; the table has fewer than 600.
const FIRST: i64 = -64;
/// See [`FIRST`].
const END: i64 = 1024;

/// As a suite.
pub(crate) fn run() -> Outcome {
    check::run("calls", &[("a process of the host is counted", trace::control), ("every number in every way", sandboxed)])
}

/// The guest in a sandbox, watched by the host.
fn sandboxed() -> Outcome {
    let log = Log::from_now()?;
    let trace = Trace::begin()?;
    let guest = Guest::start(Sandbox::described()?, &["calls"], |pid| trace.watch(pid))?;
    let words = guest.words()?;
    let ended = guest.wait()?;
    println!(
        "{}",
        words
            .lines()
            .filter(|line| !line.starts_with(AT))
            .map(|line| format!("# guest: {line}\n"))
            .collect::<String>()
            .trim_end()
    );
    equal("the guest's end", ended, exited(0))?;
    let calls = trace.calls_after_run(guest.pid)?;
    let numbers: Vec<i64> = calls.iter().map(|call| call.number).collect();
    equal("calls of the carrier that the host saw after RUN", numbers, vec![libc::SYS_exit_group])?;
    let others = trace.calls()?.into_iter().filter(|call| call.pid != guest.pid).count();
    equal("calls of its children", others, 0)?;
    log.clean()
}

/// The guest.
pub(crate) fn guest() -> ExitCode {
    match fire_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("{why}\n"));
            ExitCode::FAILURE
        }
    }
}

fn fire_all() -> Outcome {
    fire::prepare()?;
    let pid = std::process::id();
    for entry in Entry::ALL {
        // By signal: SIGILL is an entry that this processor does not have, SIGSEGV one from which there is no way back.
        let (mut fired, mut faults) = (0_u32, BTreeMap::<u8, u32>::new());
        for number in numbers(entry) {
            // So that it is known at which number a guest has stopped.
            if number.is_multiple_of(16) {
                say(&format!("{AT}{entry:?} {number:#x}\n"));
            }
            let is_native = entry == Entry::Syscall && u32::try_from(number).is_ok_and(|number| number < END as u32);
            for arguments in arguments::all(is_native.then_some(number)) {
                // What an earlier call has written there must not be a length of sleep for this one.
                sys::write_memory(fire::SCRATCH as usize, &[0; sys::PAGE]);
                let answer = entry.fire(number, arguments);
                fired += 1;
                if let Answer::Fault(signal) = answer {
                    *faults.entry(signal).or_default() += 1;
                }
                // Where there is no such ABI, every number is unknown. What the numbers of ours do is not the question here.
                let allowed =
                    is_native || matches!(answer, Answer::Fault(_)) || answer == Answer::Result(-i64::from(libc::ENOSYS));
                ensure(allowed, || format!("{entry:?}, number {number:#x}, {arguments:x?}: {answer:x?}"))?;
            }
        }
        say(&format!("{entry:?}: {fired} calls, faults by signal {faults:?}\n"));
        equal("the pid", std::process::id(), pid)?;
    }
    Ok(())
}

/// The numbers for an entry. Those of the 64-bit ABI's own entry that would end the guest or stop it for ever are left out.
fn numbers(entry: Entry) -> Vec<u64> {
    let plain = (FIRST..END).map(i64::cast_unsigned);
    if entry != Entry::Syscall {
        // Only eax counts there.
        return plain.chain([i32::MAX as u64, 0x8000_0000]).collect();
    }
    let plain = plain.filter(|number| !arguments::NEVER.contains(number));
    let x32 = (0..END.cast_unsigned()).map(|number| number | X32);
    let odd = [i64::MAX.cast_unsigned(), i32::MAX as u64, 0x8000_0000, 0x8000_0000 | X32];
    plain.chain(x32).chain(odd).collect()
}
