//! Which calls of the host's table some processes make: the tracepoint `raw_syscalls:sys_enter`, in a trace instance of its own.
//!
//! The kernel passes it on the way to the table, for the 64-bit and the 32-bit entries alike, after user dispatch and so after the
//! module. `control` shows that a process without a sandbox is counted.

use std::fs;

use crate::check::{Outcome, ensure, equal};
use crate::sandbox::{name, reap};
use crate::sys;

/// Where the instance lies while it exists.
const INSTANCE: &str = "/sys/kernel/tracing/instances/litebox-hostile";

/// A call as the host saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostCall {
    /// Who.
    pub(crate) pid: i32,
    /// Number; the entry is not told.
    pub(crate) number: i64,
    /// Arguments, hexadecimal.
    pub(crate) arguments: Vec<u64>,
}

/// The instance; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Trace(());

impl Trace {
    /// Begins, with nobody to watch yet.
    pub(crate) fn begin() -> Outcome<Self> {
        let _ = fs::remove_dir(INSTANCE);
        fs::create_dir(INSTANCE).map_err(|error| format!("{INSTANCE}: {error}"))?;
        let trace = Self(());
        trace.set("tracing_on", "0")?;
        trace.set("buffer_size_kb", "4096")?;
        // Children of those that are watched are watched.
        trace.set("options/event-fork", "1")?;
        trace.set("set_event_pid", "")?;
        Ok(trace)
    }

    /// Watches a process, too, and its children from now on.
    pub(crate) fn watch(&self, pid: i32) -> Outcome {
        // Appending; a write that truncates would forget the others.
        let path = format!("{INSTANCE}/set_event_pid");
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{pid}\n").as_bytes()))
            .map_err(|error| format!("{path}: {error}"))?;
        self.set("events/raw_syscalls/sys_enter/enable", "1")?;
        self.set("tracing_on", "1")
    }

    /// What was called since the beginning.
    pub(crate) fn calls(&self) -> Outcome<Vec<HostCall>> {
        self.set("tracing_on", "0")?;
        let text = fs::read_to_string(format!("{INSTANCE}/trace")).map_err(|error| format!("{INSTANCE}/trace: {error}"))?;
        self.set("tracing_on", "1")?;
        ensure(!text.contains("LOST"), || "the trace has lost events".into())?;
        let lines = text.lines().filter(|line| line.contains("sys_enter:"));
        lines.map(|line| parse(line).ok_or_else(|| format!("a trace line of another form: {line}"))).collect()
    }

    /// What `pid` called after its RUN, which must be there.
    pub(crate) fn calls_after_run(&self, pid: i32) -> Outcome<Vec<HostCall>> {
        let run = u64::from(litebox_ioctl_abi::Request::Run.number());
        let calls: Vec<HostCall> = self.calls()?.into_iter().filter(|call| call.pid == pid).collect();
        let is_run = |call: &HostCall| call.number == libc::SYS_ioctl && call.arguments.get(1) == Some(&run);
        let at = calls.iter().rposition(is_run).ok_or_else(|| format!("the host has not seen {pid}'s RUN: {calls:?}"))?;
        Ok(calls[at + 1..].to_vec())
    }

    /// What the watched called, but for what each did up to its RUN.
    pub(crate) fn guests_calls(&self) -> Outcome<Vec<HostCall>> {
        let run = u64::from(litebox_ioctl_abi::Request::Run.number());
        let calls = self.calls()?;
        let is_run = |call: &HostCall| call.number == libc::SYS_ioctl && call.arguments.get(1) == Some(&run);
        let since = |pid| calls.iter().rposition(|call: &HostCall| call.pid == pid && is_run(call));
        let later = |(at, call): &(usize, &HostCall)| since(call.pid).is_none_or(|run| *at > run);
        Ok(calls.iter().enumerate().filter(later).map(|(_, call)| call.clone()).collect())
    }

    fn set(&self, file: &str, value: &str) -> Outcome {
        fs::write(format!("{INSTANCE}/{file}"), value).map_err(|error| format!("{INSTANCE}/{file}: {error}"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.set("events/raw_syscalls/sys_enter/enable", "0");
        // Busy only when somebody looks at it; then it stays, and the next `begin` removes it.
        let _ = fs::remove_dir(INSTANCE);
    }
}

/// Reads `NAME-PID [CPU] FLAGS TIME: sys_enter: NR 39 (0, 7fff…, …)`.
fn parse(line: &str) -> Option<HostCall> {
    let (head, call) = line.split_once("sys_enter: NR ")?;
    let (task, _) = head.split_once(" [")?;
    let pid = task.trim_end().rsplit('-').next()?.parse().ok()?;
    let (number, arguments) = call.split_once(" (")?;
    let arguments = arguments.trim_end().strip_suffix(')')?.split(", ");
    let arguments = arguments.map(|argument| u64::from_str_radix(argument, 16)).collect::<Result<_, _>>().ok()?;
    Some(HostCall { pid, number: number.parse().ok()?, arguments })
}

/// Counts what a process of the host does: calls of both entries, and a child's.
pub(crate) fn control() -> Outcome {
    const CALLS: usize = 300;
    let trace = Trace::begin()?;
    let go = sys::Pages::new(1);
    let Some(pid) = sys::fork().map_err(name)? else {
        while go.number(0) == 0 {
            std::hint::spin_loop();
        }
        for _ in 0..CALLS {
            crate::calls::fire::syscall(libc::SYS_getppid as u64, [0; 6]);
            // getppid of the 32-bit table.
            crate::calls::fire::int80(64, [0; 6]);
        }
        match sys::fork() {
            Ok(None) => drop(crate::calls::fire::syscall(libc::SYS_getsid as u64, [0; 6])),
            Ok(Some(child)) => drop(sys::wait_child(child)),
            Err(_none) => {}
        }
        sys::exit(0)
    };
    trace.watch(pid)?;
    go.set_number(0, 1);
    reap(pid)?;
    let calls = trace.calls()?;
    let count = |number: i64| calls.iter().filter(|call| call.number == number).count();
    equal("getppid of a process of the host", count(libc::SYS_getppid), CALLS)?;
    equal("the same by int 0x80", count(64), CALLS)?;
    ensure(calls.iter().any(|call| call.pid != pid && call.number == libc::SYS_getsid), || "a child is not counted".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_trace_are_read() {
        let line = "           <...>-1234    [001] .....   219.5: sys_enter: NR 16 (5, 4030bd14, 7ffd0, 0, 22, ffffffff)";
        let call = parse(line).unwrap();
        assert_eq!((call.pid, call.number, call.arguments[1]), (1234, 16, 0x4030_bd14));
        assert_eq!(parse("  a b-c-7 [000] d..1. 1.0: sys_enter: NR -1 (0)").map(|call| (call.pid, call.number)), Some((7, -1)));
        assert_eq!(parse("# tracer: nop"), None);
    }
}
