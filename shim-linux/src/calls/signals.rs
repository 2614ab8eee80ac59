//! sigaction(2), sigprocmask(2), sigpending(2), sigreturn(2), sigaltstack(2).

use super::{put, take};
use crate::args::{Int, Len, Ptr, Sig};
use crate::signal::{Action, AltStack, Cpu, MIN_SIGNAL_STACK, SigSet, Signal};
use crate::task::{After, Task};
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
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

/// Goes on with a call that a signal interrupted, which is made again as itself here: who makes this one had none interrupted.
pub(crate) fn restart_syscall<P: Cpu>(_task: &mut Task<P>) -> Result<()> {
    Err(Error::Interrupted)
}
