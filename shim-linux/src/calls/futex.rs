//! futex(2), `get_robust_list(2)`.
//!
//! Words are compared after the waiter is entered, so a wake that follows a change is never lost; no lock is held meanwhile.

use super::take;
use super::time;
use crate::args::{Count, Flags, Pid, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::mm::{GUEST_END, GuestAddr, WordKey};
use litebox_core::sync::FutexKey;

/// Bits of an ordinary wait or wake. Linux: `FUTEX_BITSET_MATCH_ANY`.
const ANY: u32 = u32::MAX;

/// Which word `addr` is; `private` promises that no other process waits for it.
pub(crate) fn key<P: Cpu>(task: &Task<P>, addr: GuestAddr, private: bool) -> Result<FutexKey> {
    if addr.get() & 3 != 0 {
        return Err(errno!(INVAL, "no word begins there"));
    }
    if addr.get() >= GUEST_END {
        return Err(errno!(FAULT, "outside of the guest"));
    }
    let word = if private { WordKey::Private(addr) } else { task.mm().word_key(addr)? };
    Ok(match word {
        WordKey::Private(addr) => FutexKey { space: Arc::as_ptr(task.mm()).addr(), object: 0, at: addr.get() },
        WordKey::Shared(object, at) => FutexKey { space: 0, object, at },
    })
}

fn word<P: Cpu>(addr: GuestAddr) -> Result<u32> {
    take::<P, u32, 4>(addr)
}

/// Waits for a wake of `addr` while it is `value`.
fn wait<P: Cpu>(
    task: &mut Task<P>,
    addr: GuestAddr,
    key: FutexKey,
    value: u32,
    bits: u32,
    until: Option<Duration>,
) -> Result<()> {
    if bits == 0 {
        return Err(errno!(INVAL, "no bits"));
    }
    // Made again after an interruption without a handler: the first time's end holds.
    let until = task.resume_deadline.take().or(until);
    let sandbox = Arc::clone(task.sandbox());
    let waiting = sandbox.futexes().enter(key, bits)?;
    if word::<P>(addr)? != value {
        return Err(errno!(AGAIN, "the word has changed"));
    }
    match waiting.wait(until) {
        Ok(true) => Ok(()),
        Ok(false) => Err(errno!(TIMEDOUT)),
        Err(Error::Interrupted) => {
            task.resume_deadline = until;
            Err(Error::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// The end of a wait: `at` counts from now, or is a point of a clock.
fn deadline<P: Cpu>(flags: u32, command: u32, at: GuestAddr) -> Result<Option<Duration>> {
    if at == GuestAddr::default() {
        return Ok(None);
    }
    let time = time::read::<P>(at)?;
    let now = P::monotonic();
    Ok(Some(if command == raw::FUTEX_WAIT {
        now.saturating_add(time)
    } else if flags & raw::FUTEX_CLOCK_REALTIME != 0 {
        now.saturating_add(time.saturating_sub(P::realtime()))
    } else {
        time
    }))
}

pub(crate) fn futex<P: Cpu>(
    task: &mut Task<P>,
    addr: Ptr,
    op: Flags,
    value: Count,
    timeout: Ptr,
    addr2: Ptr,
    value3: Count,
) -> Result<u32> {
    let command = op.0 & !(raw::FUTEX_PRIVATE_FLAG | raw::FUTEX_CLOCK_REALTIME);
    let private = op.0 & raw::FUTEX_PRIVATE_FLAG != 0;
    let timed = matches!(command, raw::FUTEX_WAIT | raw::FUTEX_WAIT_BITSET);
    let until = if timed { deadline::<P>(op.0, command, timeout.0)? } else { None };
    if op.0 & raw::FUTEX_CLOCK_REALTIME != 0 && command != raw::FUTEX_WAIT_BITSET {
        return Err(errno!(NOSYS, "the clock is chosen for FUTEX_WAIT_BITSET only"));
    }
    // Where others have a timeout, these have a second count.
    let value2 = u32::try_from(timeout.0.get() & 0xffff_ffff).unwrap_or_default();
    match command {
        raw::FUTEX_WAIT => {
            let key = key(task, addr.0, private)?;
            wait(task, addr.0, key, value.0, ANY, until).map(|()| 0)
        }
        raw::FUTEX_WAIT_BITSET => {
            let key = key(task, addr.0, private)?;
            wait(task, addr.0, key, value.0, value3.0, until).map(|()| 0)
        }
        raw::FUTEX_WAKE => wake(task, addr, private, value, ANY),
        raw::FUTEX_WAKE_BITSET => wake(task, addr, private, value, value3.0),
        raw::FUTEX_REQUEUE => requeue(task, [addr, addr2], private, [value.0, value2], None),
        raw::FUTEX_CMP_REQUEUE => requeue(task, [addr, addr2], private, [value.0, value2], Some(value3.0)),
        _ => Err(errno!(NOSYS, "no such operation")),
    }
}

fn wake<P: Cpu>(task: &Task<P>, addr: Ptr, private: bool, most: Count, bits: u32) -> Result<u32> {
    if bits == 0 {
        return Err(errno!(INVAL, "no bits"));
    }
    let key = key(task, addr.0, private)?;
    // Linux looks at the count after the first wake.
    let most = i32::try_from(most.0).map_or(1, |most| most.max(1)).unsigned_abs();
    Ok(task.sandbox().futexes().wake(key, bits, most))
}

/// Wakes the first of those who wait for `from` and moves the next to `to`, if the word is still `expected`.
fn requeue<P: Cpu>(
    task: &Task<P>,
    [from, to]: [Ptr; 2],
    private: bool,
    [wake, most]: [u32; 2],
    expected: Option<u32>,
) -> Result<u32> {
    if i32::try_from(wake).is_err() || i32::try_from(most).is_err() {
        return Err(errno!(INVAL, "a negative count"));
    }
    let keys = (key(task, from.0, private)?, key(task, to.0, private)?);
    if let Some(expected) = expected {
        if word::<P>(from.0)? != expected {
            return Err(errno!(AGAIN, "the word has changed"));
        }
    }
    Ok(task.sandbox().futexes().requeue(keys.0, keys.1, wake, most))
}

pub(crate) fn get_robust_list<P: Cpu>(task: &mut Task<P>, pid: Pid, head: Ptr, len: Ptr) -> Result<()> {
    if pid.0 != 0 && u32::try_from(pid.0) != Ok(task.tid()) {
        let known = u32::try_from(pid.0).ok().and_then(|tid| task.process().task(tid)).is_some();
        return Err(if known { errno!(PERM, "another thread's list") } else { errno!(SRCH) });
    }
    super::put::<P, 8>(len.0, &24u64)?;
    super::put::<P, 8>(head.0, &task.robust_list.get())
}
