//! kill(2), tkill(2), tgkill(2), `rt_sigqueueinfo(2)`.

use super::take;
use crate::args::{Pid, Ptr, Sig};
use crate::signal::{Cpu, Info, Origin, Signal};
use crate::task::{Process, Task};
use alloc::sync::Arc;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};

/// Bytes of `siginfo_t`.
const INFO_BYTES: usize = 128;

/// The signal to send; `None` for 0, which only asks whether one may.
pub(super) fn to_send(sig: Sig) -> Result<Option<Signal>> {
    match u64::try_from(sig.0) {
        Ok(0) => Ok(None),
        Ok(number) => Signal::new(number).map(Some).ok_or(errno!(INVAL, "no such signal")),
        Err(_) => Err(errno!(INVAL, "no such signal")),
    }
}

pub(super) fn sent_by<P: Cpu>(task: &Task<P>, signal: Signal, code: i32) -> Info {
    let [uid, ..] = task.process().with(|state| state.ids).users;
    let pid = i32::try_from(task.process().pid()).unwrap_or_default();
    Info::new(signal, code, Origin::Process { pid, uid, value: 0 })
}

/// What a write to a pipe without readers sends to its task.
pub(super) fn broken_pipe<P: Cpu>(task: &Task<P>) {
    // A standard signal never finds the queue full.
    let _ = task.send(sent_by(task, Signal::PIPE, Info::SI_USER));
}

/// What a write past the limit of files sends to its task.
pub(super) fn file_too_big<P: Cpu>(task: &Task<P>) {
    let _ = task.send(sent_by(task, Signal::XFSZ, Info::SI_USER));
}

/// Whether `task` may send to `process`. Linux: `check_kill_permission`.
pub(super) fn check<P: Cpu>(task: &Task<P>, process: &Arc<Process<P>>, signal: Option<Signal>) -> Result<()> {
    if Arc::ptr_eq(task.process(), process) {
        return Ok(());
    }
    let (own, session) = task.process().with(|state| (state.ids.users, state.session));
    let (target, of_target) = process.with(|state| (state.ids.users, state.session));
    let ([real, effective, _], [to, _, saved]) = (own, target);
    let may = task.credentials().can(Capabilities::KILL);
    let is_kin = may || [real, effective].iter().any(|id| *id == to || *id == saved);
    if is_kin || (signal == Some(Signal::CONT) && session == of_target) {
        return Ok(());
    }
    Err(errno!(PERM, "another user's process"))
}

fn send<P: Cpu>(task: &Task<P>, process: &Arc<Process<P>>, sig: Sig) -> Result<()> {
    let signal = to_send(sig)?;
    check(task, process, signal)?;
    match signal {
        Some(signal) => process.send(sent_by(task, signal, Info::SI_USER)),
        None => Ok(()),
    }
}

/// Sends to all that `matches`: an error only if it could be sent to none.
pub(super) fn send_to_all<P: Cpu>(task: &Task<P>, sig: Sig, matches: impl Fn(&Process<P>) -> bool) -> Result<()> {
    let mut outcome = Err(errno!(SRCH));
    for process in task.sandbox().select(matches)? {
        let sent = send(task, &process, sig);
        if outcome.is_err() {
            outcome = sent;
        }
    }
    outcome
}

pub(crate) fn kill<P: Cpu>(task: &mut Task<P>, pid: Pid, sig: Sig) -> Result<()> {
    let in_group = |group: u32| move |process: &Process<P>| process.with(|state| state.group) == group;
    match (u32::try_from(pid.0), pid.0.checked_neg()) {
        (Ok(0), _) => send_to_all(task, sig, in_group(task.process().with(|state| state.group))),
        (Ok(pid), _) => send(task, &task.sandbox().process_of(pid).ok_or(errno!(SRCH))?, sig),
        (Err(_), Some(1)) => {
            let own = task.process().pid();
            match send_to_all(task, sig, |process| process.pid() > 1 && process.pid() != own) {
                // To have no right to any is no error here.
                Err(error) if error.is(Errno::PERM) => Ok(()),
                outcome => outcome,
            }
        }
        (Err(_), Some(group)) => send_to_all(task, sig, in_group(group.unsigned_abs())),
        (Err(_), None) => Err(errno!(SRCH, "a group without a number")),
    }
}

fn positive(id: Pid) -> Result<u32> {
    u32::try_from(id.0).ok().filter(|id| *id != 0).ok_or(errno!(INVAL, "no such id"))
}

/// Sends to task `tid`, of process `pid` if that is given, what `info` makes of the signal.
fn send_to_task<P: Cpu>(task: &Task<P>, pid: Option<u32>, tid: u32, sig: Sig, info: impl Fn(Signal) -> Info) -> Result<()> {
    let process = task.sandbox().process_of(tid).filter(|process| pid.is_none_or(|pid| process.pid() == pid));
    let process = process.ok_or(errno!(SRCH))?;
    let signal = to_send(sig)?;
    check(task, &process, signal)?;
    match (signal, process.task(tid)) {
        (Some(signal), Some(target)) => process.send_to(&target, info(signal)),
        // A first task that has ended is there as long as its process is.
        (Some(_), None) | (None, _) => Ok(()),
    }
}

pub(crate) fn tkill<P: Cpu>(task: &mut Task<P>, tid: Pid, sig: Sig) -> Result<()> {
    let tid = positive(tid)?;
    send_to_task(task, None, tid, sig, |signal| sent_by(task, signal, Info::SI_TKILL))
}

pub(crate) fn tgkill<P: Cpu>(task: &mut Task<P>, pid: Pid, tid: Pid, sig: Sig) -> Result<()> {
    let (pid, tid) = (positive(pid)?, positive(tid)?);
    send_to_task(task, Some(pid), tid, sig, |signal| sent_by(task, signal, Info::SI_TKILL))
}

/// What a program says of a signal that it sends.
pub(super) struct Given {
    bytes: [u8; INFO_BYTES],
    /// The signal that it says it is.
    pub(super) number: i32,
}

impl Given {
    /// The same, of a signal.
    pub(super) fn info(&self, signal: Signal) -> Info {
        Info::decode(signal, &self.bytes)
    }
}

/// Takes what a program says of a signal. It may not pass for kill(2) or the kernel, but to itself.
pub(super) fn given<P: Cpu>(info: Ptr, is_own: bool) -> Result<Given> {
    let bytes = take::<P, [u8; INFO_BYTES], INFO_BYTES>(info.0)?;
    let [a, b, c, d, ..] = bytes;
    let given = Given { bytes, number: i32::from_le_bytes([a, b, c, d]) };
    let code = given.info(Signal::KILL).code;
    if (code >= 0 || code == Info::SI_TKILL) && !is_own {
        return Err(errno!(PERM, "it would pass for another's signal"));
    }
    Ok(given)
}

pub(crate) fn rt_sigqueueinfo<P: Cpu>(task: &mut Task<P>, pid: Pid, sig: Sig, info: Ptr) -> Result<()> {
    let id = u32::try_from(pid.0).unwrap_or_default();
    let info = given::<P>(info, id == task.tid())?;
    let process = task.sandbox().process_of(id).ok_or(errno!(SRCH))?;
    let signal = to_send(sig)?;
    check(task, &process, signal)?;
    match signal {
        Some(signal) => process.send(info.info(signal)),
        None => Ok(()),
    }
}

pub(crate) fn rt_tgsigqueueinfo<P: Cpu>(task: &mut Task<P>, pid: Pid, tid: Pid, sig: Sig, info: Ptr) -> Result<()> {
    let (pid, tid) = (positive(pid)?, positive(tid)?);
    let info = given::<P>(info, tid == task.tid())?;
    send_to_task(task, Some(pid), tid, sig, |signal| info.info(signal))
}
