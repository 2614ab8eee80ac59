//! `pidfd_open(2)`, `pidfd_send_signal(2)`.

use super::files::{install, number, open_file, open_flags};
use super::kill::{check, given, sent_by, to_send};
use crate::args::{Fd, Flags, Pid, Ptr, Sig};
use crate::signal::{Cpu, Info};
use crate::task::{PidFd, Process, Task};
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::FdFlags;
use litebox_core::fs::types::OFlags;
use litebox_core::mm::GuestAddr;

/// The signal goes to the process, which is also what no flag says: `PIDFD_SIGNAL_THREAD_GROUP` of `linux/pidfd.h`.
const TO_PROCESS: u32 = 1 << 1;

/// Gives the caller a descriptor of `process`.
pub(super) fn give<P: Cpu>(task: &Task<P>, process: Arc<Process<P>>, status: OFlags) -> Result<u32> {
    install(task, PidFd::open(process, status), FdFlags::CLOEXEC, number(0))
}

/// The process that a descriptor is of, and its status flags.
pub(super) fn process<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<(Arc<Process<P>>, OFlags)> {
    let file = open_file(task, fd)?;
    Ok((PidFd::of(&file)?, file.flags()))
}

pub(crate) fn pidfd_open<P: Cpu>(task: &mut Task<P>, pid: Pid, flags: Flags) -> Result<u32> {
    if flags.0 & !raw::O_NONBLOCK != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let pid = u32::try_from(pid.0).ok().filter(|pid| *pid != 0).ok_or(errno!(INVAL, "no such id"))?;
    let process = task.sandbox().process_of(pid).ok_or(errno!(SRCH))?;
    if process.pid() != pid {
        return Err(errno!(INVAL, "a task that is not the first of its process"));
    }
    give(task, process, open_flags(flags.0) & OFlags::NONBLOCK)
}

pub(crate) fn pidfd_send_signal<P: Cpu>(task: &mut Task<P>, fd: Fd, sig: Sig, info: Ptr, flags: Flags) -> Result<()> {
    if flags.0 & !TO_PROCESS != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let (process, _) = process(task, fd)?;
    let is_own = Arc::ptr_eq(&process, task.process());
    let given = if info.0 == GuestAddr::default() { None } else { Some(given::<P>(info, is_own)?) };
    if given.as_ref().is_some_and(|given| given.number != sig.0) {
        return Err(errno!(INVAL, "it says that it is another signal"));
    }
    if !task.sandbox().knows(&process) {
        return Err(errno!(SRCH, "it was reaped"));
    }
    let signal = to_send(sig)?;
    check(task, &process, signal)?;
    match signal {
        Some(signal) => process.send(given.map_or_else(|| sent_by(task, signal, Info::SI_USER), |given| given.info(signal))),
        None => Ok(()),
    }
}
