//! `pidfd_open(2)`, `pidfd_send_signal(2)`, `pidfd_getfd(2)`.

use super::files::{install, number, open_file, open_flags};
use super::kill::{check, given, send_to_all, sent_by, to_send};
use crate::args::{Fd, Flags, Pid, Ptr, Sig};
use crate::proc::of_directory;
use crate::signal::{Cpu, Info};
use crate::task::{PidFd, Process, Task, TaskShared};
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::FdFlags;
use litebox_core::fs::types::OFlags;
use litebox_core::mm::GuestAddr;

/// Of a thread, not of a process. Linux: include/uapi/linux/pidfd.h.
const PIDFD_THREAD: u32 = raw::O_EXCL;

/// Whom `pidfd_send_signal(2)` sends to, whatever the descriptor is of.
mod to {
    pub(super) const THREAD: u32 = 1;
    pub(super) const PROCESS: u32 = 1 << 1;
    pub(super) const GROUP: u32 = 1 << 2;
}

/// Gives the caller a descriptor of `process`.
pub(super) fn give<P: Cpu>(task: &Task<P>, process: Arc<Process<P>>, status: OFlags) -> Result<u32> {
    install(task, PidFd::open(process, None, status), FdFlags::CLOEXEC, number(0))
}

/// The process that a descriptor is of, and its status flags.
pub(super) fn process<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<(Arc<Process<P>>, OFlags)> {
    let file = open_file(task, fd)?;
    Ok((Arc::clone(PidFd::of(&file)?.process()), file.flags()))
}

pub(crate) fn pidfd_open<P: Cpu>(task: &mut Task<P>, pid: Pid, flags: Flags) -> Result<u32> {
    if flags.0 & !(raw::O_NONBLOCK | PIDFD_THREAD) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let pid = u32::try_from(pid.0).ok().filter(|pid| *pid != 0).ok_or(errno!(INVAL, "no such id"))?;
    let process = task.sandbox().process_of(pid).ok_or(errno!(SRCH))?;
    let status = open_flags(flags.0) & OFlags::NONBLOCK;
    if flags.0 & PIDFD_THREAD != 0 {
        let thread = process.task(pid).ok_or(errno!(SRCH, "it has ended"))?;
        return install(task, PidFd::open(process, Some(thread), status), FdFlags::CLOEXEC, number(0));
    }
    if process.pid() != pid {
        return Err(errno!(NOENT, "a task that is not the first of its process"));
    }
    give(task, process, status)
}

/// A process, or one of its threads.
type Whom<P> = (Arc<Process<P>>, Option<Arc<TaskShared<P>>>);

/// Whom a descriptor is of. A directory of /proc is one of a process, too.
fn whom<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<Whom<P>> {
    let file = open_file(task, fd)?;
    if let Some(process) = of_directory(file.place().inode()) {
        return Ok((process?, None));
    }
    let of = PidFd::of(&file)?;
    Ok((Arc::clone(of.process()), of.thread().cloned()))
}

pub(crate) fn pidfd_send_signal<P: Cpu>(task: &mut Task<P>, fd: Fd, sig: Sig, info: Ptr, flags: Flags) -> Result<()> {
    if flags.0 & !(to::THREAD | to::PROCESS | to::GROUP) != 0 || flags.0.count_ones() > 1 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let (process, thread) = whom(task, fd)?;
    let to_thread = flags.0 == to::THREAD || (flags.0 == 0 && thread.is_some());
    let is_own = Arc::ptr_eq(&process, task.process()) && flags.0 != to::GROUP;
    let given = if info.0 == GuestAddr::default() { None } else { Some(given::<P>(info, is_own)?) };
    if given.as_ref().is_some_and(|given| given.number != sig.0) {
        return Err(errno!(INVAL, "it says that it is another signal"));
    }
    if !task.sandbox().knows(&process) {
        return Err(errno!(SRCH, "it was reaped"));
    }
    if flags.0 == to::GROUP {
        let group = process.with(|state| state.group);
        return send_to_all(task, sig, |process| process.with(|state| state.group) == group);
    }
    let signal = to_send(sig)?;
    check(task, &process, signal)?;
    let Some(signal) = signal else { return Ok(()) };
    let code = if to_thread { Info::SI_TKILL } else { Info::SI_USER };
    let info = given.map_or_else(|| sent_by(task, signal, code), |given| given.info(signal));
    if !to_thread {
        return process.send(info);
    }
    let tid = thread.map_or(process.pid(), |thread| thread.tid());
    let thread = process.task(tid).ok_or(errno!(SRCH, "it has ended"))?;
    process.send_to(&thread, info)
}

pub(crate) fn pidfd_getfd<P: Cpu>(task: &mut Task<P>, fd: Fd, target: Fd, flags: Flags) -> Result<u32> {
    if flags.0 != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let (process, _) = process(task, fd)?;
    if process.task_count() == 0 {
        return Err(errno!(SRCH, "it has ended"));
    }
    if !task.may_reach(&process) {
        return Err(errno!(PERM, "another user's process"));
    }
    let file = process.files().get(number(target.0))?;
    install(task, file, FdFlags::CLOEXEC, number(0))
}
