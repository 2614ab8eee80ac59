//! sigaction(2), sigprocmask(2), sigpending(2), sigreturn(2), sigaltstack(2), kill(2), tkill(2).

use super::{put, take};
use crate::args::{Int, Len, Pid, Ptr, Sig};
use crate::signal::{Action, AltStack, Cpu, Info, MIN_SIGNAL_STACK, Origin, SigSet, Signal};
use crate::task::{After, Task};
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::GuestAddr;

/// The size of a set that every call wants.
fn check_size(size: Len) -> Result<()> {
    if size.0 == 8 { Ok(()) } else { Err(errno!(INVAL, "a set of another size")) }
}

fn is_null(ptr: Ptr) -> bool {
    ptr.0 == GuestAddr::default()
}

pub(crate) fn rt_sigaction<P: Cpu>(task: &mut Task<P>, sig: Sig, act: Ptr, oldact: Ptr, size: Len) -> Result<()> {
    check_size(size)?;
    let new = if is_null(act) { None } else { Some(take::<P, Action, 32>(act.0)?) };
    let signal = u64::try_from(sig.0).ok().and_then(Signal::new).ok_or(errno!(INVAL, "no such signal"))?;
    let old = task.process().with_actions(|actions| match new {
        Some(new) => actions.set(signal, new),
        None => Ok(actions.get(signal)),
    })?;
    if new.is_some_and(|new| new.ignores(signal)) {
        task.process().discard(SigSet::EMPTY.with(signal));
    }
    if is_null(oldact) { Ok(()) } else { put::<P, 32>(oldact.0, &old) }
}

pub(crate) fn rt_sigprocmask<P: Cpu>(task: &mut Task<P>, how: Int, set: Ptr, oldset: Ptr, size: Len) -> Result<()> {
    check_size(size)?;
    let old = task.mask();
    if !is_null(set) {
        let set = SigSet::from_bits(take::<P, u64, 8>(set.0)?).blockable();
        task.set_mask(match u32::try_from(how.0) {
            Ok(raw::SIG_BLOCK) => old.union(set),
            Ok(raw::SIG_UNBLOCK) => old.difference(set),
            Ok(raw::SIG_SETMASK) => set,
            _ => return Err(errno!(INVAL, "how?")),
        });
    }
    if is_null(oldset) { Ok(()) } else { put::<P, 8>(oldset.0, &old.bits()) }
}

pub(crate) fn rt_sigpending<P: Cpu>(task: &mut Task<P>, set: Ptr, size: Len) -> Result<()> {
    if size.0 > 8 {
        return Err(errno!(INVAL, "a set of another size"));
    }
    let bytes = task.pending().intersection(task.mask()).bits().to_le_bytes();
    let len = usize::try_from(size.0).unwrap_or_default();
    litebox_core::mm::user::write_all::<P>(set.0, bytes.get(..len).unwrap_or_default())
}

/// The dispatcher does it, since it has the registers.
pub(crate) fn rt_sigreturn<P: Cpu>(task: &mut Task<P>) -> Result<()> {
    task.after = After::SignalReturn;
    Ok(())
}

pub(crate) fn sigaltstack<P: Cpu>(task: &mut Task<P>, new: Ptr, old: Ptr) -> Result<()> {
    let wanted = if is_null(new) { None } else { Some(take::<P, AltStack, 24>(new.0)?) };
    let before = task.stack.reported(task.sp);
    if let Some(wanted) = wanted {
        task.stack.set(wanted, task.sp, MIN_SIGNAL_STACK)?;
    }
    if is_null(old) { Ok(()) } else { put::<P, 24>(old.0, &before) }
}

/// The signal to send; `None` for 0, which only asks whether one may.
fn to_send(sig: Sig) -> Result<Option<Signal>> {
    match u64::try_from(sig.0) {
        Ok(0) => Ok(None),
        Ok(number) => Signal::new(number).map(Some).ok_or(errno!(INVAL, "no such signal")),
        Err(_) => Err(errno!(INVAL, "no such signal")),
    }
}

fn sent_by<P: Cpu>(task: &Task<P>, signal: Signal, code: i32) -> Info {
    let [uid, ..] = task.process().with(|state| state.ids).users;
    let pid = i32::try_from(task.process().pid()).unwrap_or_default();
    Info::new(signal, code, Origin::Process { pid, uid, value: 0 })
}

/// What a write to a pipe without readers sends to its task.
pub(super) fn broken_pipe<P: Cpu>(task: &Task<P>) {
    // A standard signal never finds the queue full.
    let _ = task.send(sent_by(task, Signal::PIPE, Info::SI_USER));
}

pub(crate) fn kill<P: Cpu>(task: &mut Task<P>, pid: Pid, sig: Sig) -> Result<()> {
    let signal = to_send(sig)?;
    let own = Some(task.process().pid());
    // 0 is the own group and -1 all others; a sandbox of one process has no other group and nobody else.
    let target = match pid.0 {
        0 => own,
        -1 => None,
        pid if pid < 0 => task
            .process()
            .with(|state| (Some(state.group) == pid.checked_neg().and_then(|id| u32::try_from(id).ok())).then_some(state.group))
            .and(own),
        pid => u32::try_from(pid).ok(),
    };
    let process = target.and_then(|pid| task.sandbox().process(pid)).ok_or(errno!(SRCH))?;
    match signal {
        Some(signal) => process.send(sent_by(task, signal, Info::SI_USER)),
        None => Ok(()),
    }
}

fn send_to<P: Cpu>(task: &Task<P>, process: Option<u32>, tid: Pid, sig: Sig) -> Result<()> {
    let tid = u32::try_from(tid.0).ok().filter(|tid| *tid != 0).ok_or(errno!(INVAL, "no such id"))?;
    let signal = to_send(sig)?;
    let process = process.unwrap_or(task.process().pid());
    let process = task.sandbox().process(process).ok_or(errno!(SRCH))?;
    let target = process.task(tid).ok_or(errno!(SRCH))?;
    match signal {
        Some(signal) => process.send_to(&target, sent_by(task, signal, Info::SI_TKILL)),
        None => Ok(()),
    }
}

pub(crate) fn tkill<P: Cpu>(task: &mut Task<P>, tid: Pid, sig: Sig) -> Result<()> {
    send_to(task, None, tid, sig)
}

pub(crate) fn tgkill<P: Cpu>(task: &mut Task<P>, pid: Pid, tid: Pid, sig: Sig) -> Result<()> {
    let pid = u32::try_from(pid.0).ok().filter(|pid| *pid != 0).ok_or(errno!(INVAL, "no such id"))?;
    send_to(task, Some(pid), tid, sig)
}
