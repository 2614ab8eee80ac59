//! A guest whose hook is gone dies; it does not escape.
//!
//! No interface of this kernel takes the hooks from the module: `ftrace_enabled` refuses, and whoever else wants the functions gets
//! EBUSY. So the host of the VM does it, through the emulator: it writes a no-op over the call that ftrace has put at the start of
//! a function, or a return over a probe's first instruction. This program says when and where, on its standard output, and is
//! answered on standard input:
//!
//! ```text
//! remove ADDRESS      the VM's host answers with a line when the call is a no-op
//! silence ADDRESS     … when the probe returns at once
//! restore             … when all is as it was
//! ```
//!
//! The probe of deaths is left: without it nobody escapes, but the module never learns of an end.

use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use litebox_ioctl_abi::{Ended, Target, WaitFlags};

use crate::check::{self, Outcome, ensure, equal};
use crate::guest::{ESCAPED, FAILED};
use crate::host::{self, Log, settle};
use crate::sandbox::{Guest, Sandbox, exited, name, signalled};
use crate::trace::Trace;

/// The function that the system-call hook is on.
const FUNCTION: &str = "syscall_user_dispatch";
/// The function that the hook for faults is on.
const SIGNALS: &str = "arch_do_signal_or_restart";
/// How the name of the module's probe of births ends, as Rust mangles names.
const BIRTHS: &str = "7carrier7on_fork";
/// What most guests here do.
const ESCAPE: &[&str] = &["escape"];
/// Guests that make calls while the hook goes, on two processors.
const LOAD: usize = 4;

/// All of it.
pub(crate) fn run() -> Outcome {
    check::run(
        "unhook",
        &[
            ("ftrace_enabled", ftrace_enabled),
            ("the function tracer on the same function", function_tracer),
            ("the hook of calls is gone under load", calls_unhooked),
            ("the hook of faults is gone under load", faults_unhooked),
            ("the probe of births is gone under load", births_unprobed),
        ],
    )
}

/// Whether nothing has got out.
fn nothing_escaped() -> Outcome {
    ensure(!Path::new(ESCAPED).exists(), || fs::read_to_string(ESCAPED).unwrap_or_default())
}

/// Starts guests that try to get out, watched.
fn load(trace: &Trace, what: &[&str], count: usize) -> Outcome<Vec<Guest>> {
    let begin = |_| {
        let guest = Guest::start(Sandbox::described()?, what, |pid| trace.watch(pid))?;
        guest.await_sign()?;
        Ok(guest)
    };
    (0..count).map(begin).collect()
}

/// Fails unless all guests run, and have done so without the host.
fn all_run(trace: &Trace, guests: &[Guest]) -> Outcome {
    for guest in guests {
        equal("the guest", guest.sandbox.ended(WaitFlags::NO_HANG), Ok(Ended::Running))?;
        equal("its calls of the host", trace.calls_after_run(guest.pid)?, Vec::new())?;
    }
    nothing_escaped()
}

fn end(guests: Vec<Guest>) -> Outcome {
    for guest in guests {
        guest.sandbox.kill(libc::SIGKILL as u32, Target::All).map_err(name)?;
        equal("the guest's end", guest.wait()?, signalled(libc::SIGKILL))?;
    }
    Ok(())
}

/// The one switch that an administrator has does nothing, or refuses; the guests go on.
fn ftrace_enabled() -> Outcome {
    let trace = Trace::begin()?;
    let guests = load(&trace, ESCAPE, 2)?;
    let switched = fs::write("/proc/sys/kernel/ftrace_enabled", "0");
    thread::sleep(Duration::from_millis(300));
    let outcome = all_run(&trace, &guests);
    if switched.is_ok() {
        fs::write("/proc/sys/kernel/ftrace_enabled", "1").map_err(|error| format!("ftrace_enabled: {error}"))?;
    }
    outcome?;
    end(guests)
}

/// Somebody else traces the function: ftrace then calls both by another way.
fn function_tracer() -> Outcome {
    const INSTANCE: &str = "/sys/kernel/tracing/instances/litebox-function";
    let trace = Trace::begin()?;
    let guests = load(&trace, ESCAPE, 2)?;
    fs::create_dir(INSTANCE).map_err(|error| format!("{INSTANCE}: {error}"))?;
    let set =
        |file: &str, value: &str| fs::write(format!("{INSTANCE}/{file}"), value).map_err(|error| format!("{file}: {error}"));
    let mut outcome = set("set_ftrace_filter", FUNCTION);
    for _ in 0..5 {
        outcome = outcome.and_then(|()| set("current_tracer", "function"));
        thread::sleep(Duration::from_millis(100));
        outcome = outcome.and_then(|()| all_run(&trace, &guests)).and_then(|()| set("current_tracer", "nop"));
        thread::sleep(Duration::from_millis(50));
        outcome = outcome.and_then(|()| all_run(&trace, &guests));
    }
    let _ = fs::remove_dir(INSTANCE);
    outcome?;
    end(guests)
}

/// The call is gone while guests make calls, and comes back.
fn calls_unhooked() -> Outcome {
    let trace = Trace::begin()?;
    let guests = load(&trace, ESCAPE, LOAD)?;
    let sleeping = Guest::begin(&["sleep"])?;
    all_run(&trace, &guests)?;
    let log = Log::from_now()?;
    say(&format!("remove {:x}", address(|name| name == FUNCTION)?))?;
    for guest in &guests {
        let ended = guest.wait()?;
        ensure(matches!(ended, Ended::Signalled(_)), || format!("without its hook a guest has ended by {ended:?}"))?;
        equal("calls of the host without a hook", trace.calls_after_run(guest.pid)?, Vec::new())?;
    }
    // One that begins now does not get far.
    let late = Guest::start(Sandbox::described()?, ESCAPE, |pid| trace.watch(pid))?;
    let ended = late.wait()?;
    ensure(matches!(ended, Ended::Signalled(_)), || format!("without a hook a new guest has ended by {ended:?}"))?;
    equal("its calls of the host", trace.calls_after_run(late.pid)?, Vec::new())?;
    nothing_escaped()?;
    // One that sleeps in the hook is in nobody's way, and can be killed.
    equal("the sleeper", sleeping.sandbox.ended(WaitFlags::NO_HANG), Ok(Ended::Running))?;
    end(vec![sleeping])?;
    drop((guests, late));
    restore()?;
    log.clean()
}

/// The call for faults is gone while guests raise them: the host's kernel finds a fault of a process that handles none. That it tells
/// of it in its log is as it should be.
fn faults_unhooked() -> Outcome {
    let trace = Trace::begin()?;
    let guests = load(&trace, &["escape", "faulting"], LOAD)?;
    all_run(&trace, &guests)?;
    say(&format!("remove {:x}", address(|name| name == SIGNALS)?))?;
    for guest in &guests {
        let ended = guest.wait()?;
        ensure(matches!(ended, Ended::Signalled(_)), || format!("without its hook a guest has ended by {ended:?}"))?;
        equal("calls of the host without a hook", trace.calls_after_run(guest.pid)?, Vec::new())?;
    }
    nothing_escaped()?;
    // Signals of its own need no hook, nor does its end.
    let signalled_by_call = Guest::begin(&["sleep"])?;
    end(vec![signalled_by_call])?;
    drop(guests);
    restore()
}

/// The probe is gone while guests make processes and threads: what is born is not the module's, and dies before its first instruction.
fn births_unprobed() -> Outcome {
    let trace = Trace::begin()?;
    let guests = load(&trace, &["escape", "multiplying"], LOAD)?;
    thread::sleep(Duration::from_millis(300));
    say(&format!("silence {:x}", address(|name| name.ends_with(BIRTHS))?))?;
    for guest in &guests {
        let ended = guest.wait()?;
        // A process is missing, which its maker is told, or a thread, with which its process goes.
        ensure(ended == exited(FAILED) || matches!(ended, Ended::Signalled(_)), || {
            format!("without its probe a guest has ended by {ended:?}")
        })?;
    }
    nothing_escaped()?;
    drop(guests);
    // Those that were not born have made no call, nor has anybody else made one that is not the module's.
    let allowed = [libc::SYS_clone, libc::SYS_exit, libc::SYS_exit_group];
    let odd: Vec<_> = trace.guests_calls()?.into_iter().filter(|call| !allowed.contains(&call.number)).collect();
    equal("other calls of the host", odd, Vec::new())?;
    restore()
}

/// Everything is as it was, and a guest runs.
fn restore() -> Outcome {
    say("restore")?;
    let guest = Guest::begin(&["exit", "4"])?;
    equal("a guest with the hook back", guest.wait()?, exited(4))?;
    drop(guest);
    settle(0)
}

/// Says a word to the VM's host and waits for its answer.
fn say(word: &str) -> Outcome {
    println!("{word}");
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(1..) if line.trim() == "done" => Ok(()),
        other => Err(format!("{word}: the VM's host answers {line:?} ({other:?})")),
    }
}

/// Where the function of the kernel is whose name is the one.
fn address(is_it: impl Fn(&str) -> bool) -> Outcome<u64> {
    let symbols = host::read("/proc/kallsyms")?;
    let line = symbols.lines().find(|line| line.split_whitespace().nth(2).is_some_and(&is_it));
    let word = line.and_then(|line| line.split_whitespace().next());
    let address = word.and_then(|word| u64::from_str_radix(word, 16).ok()).filter(|address| *address != 0);
    address.ok_or_else(|| "/proc/kallsyms has no address of the function".into())
}
