//! Waiting for signals: pause(2), sigsuspend(2), sigtimedwait(2).

use super::poll::{Patience, timeout};
use super::{put, take};
use crate::args::{Len, Ptr};
use crate::signal::{Cpu, Info, SigSet};
use crate::task::Task;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::mm::GuestAddr;
use litebox_core::sync::WaitQueue;

/// Waits with another mask. If a signal ends the wait, its handler runs with that mask and goes back to the old one.
pub(super) fn with_mask<P: Cpu, T>(
    task: &mut Task<P>,
    mask: Option<SigSet>,
    wait: impl FnOnce(&mut Task<P>) -> Result<T>,
) -> Result<T> {
    let Some(mask) = mask else { return wait(task) };
    let old = task.mask();
    task.set_mask(mask.blockable());
    let result = wait(task);
    if matches!(result, Err(Error::Interrupted)) {
        task.saved_mask = Some(old);
    } else {
        task.set_mask(old);
    }
    result
}

/// Waits by `wait`, which has a deadline, and meanwhile has happen what the sandbox's timers hold: the host may not
/// call in time.
pub(super) fn wait_until<P: Cpu, T>(
    task: &Task<P>,
    deadline: Option<Duration>,
    mut wait: impl FnMut(Option<Duration>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let timers = task.sandbox().timers();
    loop {
        let until = deadline.into_iter().chain(timers.next()).min();
        if let Some(value) = wait(until)? {
            return Ok(Some(value));
        }
        if deadline.is_some_and(|deadline| P::monotonic() >= deadline) {
            return Ok(None);
        }
        timers.run();
        if task.is_wanted() {
            return Err(Error::Interrupted);
        }
    }
}

/// Sleeps until a signal, or until time is up.
fn sleep<P: Cpu>(task: &Task<P>, patience: Patience) -> Result<()> {
    if task.is_wanted() {
        return Err(Error::Interrupted);
    }
    let queue = WaitQueue::<P>::new();
    wait_until(task, patience.deadline(), |until| queue.wait_until(until, || None::<()>)).map(drop)
}

pub(crate) fn pause<P: Cpu>(task: &mut Task<P>) -> Result<()> {
    sleep(task, Patience::Endless)
}

pub(crate) fn rt_sigsuspend<P: Cpu>(task: &mut Task<P>, mask: Ptr, size: Len) -> Result<()> {
    if size.0 != 8 {
        return Err(errno!(INVAL, "a set of another size"));
    }
    let mask = SigSet::from_bits(take::<P, u64, 8>(mask.0)?);
    with_mask(task, Some(mask), |task| sleep(task, Patience::Endless))
}

/// Takes a signal of `wanted`, for which it waits; `None` if time is up.
fn take_one<P: Cpu>(task: &mut Task<P>, wanted: SigSet, patience: Patience) -> Result<Option<Info>> {
    let others = SigSet::from_bits(!wanted.bits());
    if let Some(info) = task.take_signal(others) {
        return Ok(Some(info));
    }
    if patience == Patience::None {
        return Ok(None);
    }
    let slept = task.await_signals(wanted, |task| sleep(task, patience));
    match (slept, task.take_signal(others)) {
        (_, Some(info)) => Ok(Some(info)),
        (Ok(()), None) => Ok(None),
        // Whatever woke it: its carrier has to look, and would not sleep before that.
        (Err(error), None) => Err(error),
    }
}

pub(crate) fn rt_sigtimedwait<P: Cpu>(task: &mut Task<P>, set: Ptr, info: Ptr, at: Ptr, size: Len) -> Result<u32> {
    const INFO: usize = size_of::<raw::siginfo_t>();
    if size.0 != 8 {
        return Err(errno!(INVAL, "a set of another size"));
    }
    let wanted = SigSet::from_bits(take::<P, u64, 8>(set.0)?).blockable();
    let patience = timeout::<P>(at.0)?;
    let taken = take_one(task, wanted, patience)?.ok_or(errno!(AGAIN, "none came in time"))?;
    if info.0 != GuestAddr::default() {
        put::<P, INFO>(info.0, &taken.encode())?;
    }
    Ok(taken.signal.number())
}
