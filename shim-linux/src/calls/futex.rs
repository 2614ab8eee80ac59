//! futex(2), `get_robust_list(2)`.
//!
//! Words are compared after the waiter is entered, so a wake that follows a change is never lost; no lock is held meanwhile.
//! Words with owners are in `crate::task`. Source: Linux kernel/futex/syscalls.c, waitwake.c.

use super::time;
use super::{put, take};
use crate::args::{Count, Flags, Pid, Ptr};
use crate::signal::Cpu;
use crate::table::Restart;
use crate::task::{Condition, Task, Word};
use alloc::sync::Arc;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::mm::{GUEST_END, GuestAddr, WordKey, user};
use litebox_core::sync::{FutexKey, Purpose};

/// Bits of an ordinary wait or wake. Linux: `FUTEX_BITSET_MATCH_ANY`.
const ANY: u32 = u32::MAX;
/// The word is set to 0 and the second one, which says that a robust list is being changed, after it; of newer kernels' `linux/futex.h`.
const ROBUST_UNLOCK: u32 = 512;
/// That second word has 32 bits.
const ROBUST_LIST32: u32 = 1024;
/// What is not the command.
const OPTIONS: u32 = raw::FUTEX_PRIVATE_FLAG | raw::FUTEX_CLOCK_REALTIME | ROBUST_UNLOCK | ROBUST_LIST32;

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

/// Checks that the word at `addr` is `value`.
pub(super) fn expect<P: Cpu>(addr: GuestAddr, value: u32) -> Result<()> {
    if take::<P, u32, 4>(addr)? == value { Ok(()) } else { Err(errno!(AGAIN, "the word has changed")) }
}

/// Checks that a word that processes may share is there to be read: what they share is found by its page. Linux: `get_futex_key`.
fn expect_there<P: Cpu>(addr: GuestAddr, private: bool) -> Result<()> {
    if private { Ok(()) } else { take::<P, u32, 4>(addr).map(drop) }
}

/// Waits for a wake of `addr` with one of `bits` while it is `value`.
pub(super) fn wait<P: Cpu>(
    task: &Task<P>,
    addr: GuestAddr,
    key: FutexKey,
    value: u32,
    bits: u32,
    until: Option<Duration>,
) -> Result<()> {
    if bits == 0 {
        return Err(errno!(INVAL, "no bits"));
    }
    let waiting = task.sandbox().futexes().enter(key, bits, Purpose::Wake)?;
    expect::<P>(addr, value)?;
    if waiting.wait(until)? { Ok(()) } else { Err(errno!(TIMEDOUT)) }
}

/// The same, and made again after an interruption without a handler, the first time's end holds.
fn wait_again<P: Cpu>(
    task: &mut Task<P>,
    word: (GuestAddr, bool),
    value: u32,
    bits: u32,
    until: Option<Duration>,
) -> Result<u32> {
    let until = task.resume_deadline.take().or(until);
    let key = key(task, word.0, word.1)?;
    wait(task, word.0, key, value, bits, until).map(|()| 0).inspect_err(|error| {
        if matches!(error, Error::Interrupted) {
            task.resume_deadline = until;
        }
    })
}

/// A point of one of the two clocks, as one of the monotonic clock.
pub(super) fn point<P: Cpu>(time: Duration, realtime: bool) -> Duration {
    if realtime { P::monotonic().saturating_add(time.saturating_sub(P::realtime())) } else { time }
}

/// The end of a wait: `at` counts from now, or is a point of a clock.
fn deadline<P: Cpu>(options: u32, command: u32, at: GuestAddr) -> Result<Option<Duration>> {
    if at == GuestAddr::default() {
        return Ok(None);
    }
    let time = time::read::<P>(at)?;
    Ok(Some(match command {
        raw::FUTEX_WAIT => P::monotonic().saturating_add(time),
        raw::FUTEX_LOCK_PI => point::<P>(time, true),
        _ => point::<P>(time, options & raw::FUTEX_CLOCK_REALTIME != 0),
    }))
}

/// A call that a signal interrupts is made again, whatever its handler asked for. Linux: `ERESTARTNOINTR`.
fn restarted<P: Cpu, T>(task: &mut Task<P>, call: impl FnOnce(&Task<P>) -> Result<T>) -> Result<T> {
    let result = call(task);
    if matches!(result, Err(Error::Interrupted)) {
        task.restart = Some(Restart::Always);
    }
    result
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
    use raw::{
        FUTEX_CMP_REQUEUE, FUTEX_CMP_REQUEUE_PI, FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_REQUEUE, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI,
        FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP,
    };
    let (command, options) = (op.0 & !OPTIONS, op.0 & OPTIONS);
    let private = options & raw::FUTEX_PRIVATE_FLAG != 0;
    let timed = matches!(command, FUTEX_WAIT | FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI);
    let until = if timed { deadline::<P>(options, command, timeout.0)? } else { None };
    let has_clock = matches!(command, FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2);
    if options & raw::FUTEX_CLOCK_REALTIME != 0 && !has_clock {
        return Err(errno!(NOSYS, "an operation that has no choice of clocks"));
    }
    let unlocks = matches!(command, FUTEX_WAKE | FUTEX_WAKE_BITSET | FUTEX_UNLOCK_PI);
    if options & ROBUST_UNLOCK != 0 && !unlocks {
        return Err(errno!(NOSYS, "an operation that releases no futex"));
    }
    // Where others have a timeout, these have a second count.
    let value2 = u32::try_from(timeout.0.get() & u64::from(u32::MAX)).unwrap_or_default();
    let pair = || {
        expect_there::<P>(addr.0, private)?;
        expect_there::<P>(addr2.0, private)?;
        Ok((key(task, addr.0, private)?, key(task, addr2.0, private)?))
    };
    match command {
        FUTEX_WAIT => wait_again(task, (addr.0, private), value.0, ANY, until),
        FUTEX_WAIT_BITSET => wait_again(task, (addr.0, private), value.0, value3.0, until),
        FUTEX_WAKE => wake(task, addr, options, addr2, value, ANY),
        FUTEX_WAKE_BITSET => wake(task, addr, options, addr2, value, value3.0),
        FUTEX_REQUEUE => requeue(task, pair, [value.0, value2], || Ok(())),
        FUTEX_CMP_REQUEUE => requeue(task, pair, [value.0, value2], || expect::<P>(addr.0, value3.0)),
        FUTEX_WAKE_OP => wake_op(task, pair()?, addr2.0, [value.0, value2], value3.0),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | FUTEX_TRYLOCK_PI => {
            let key = key(task, addr.0, private)?;
            restarted(task, |task| {
                let word = Word::new(task.mm(), addr.0, key);
                if command == FUTEX_TRYLOCK_PI { task.try_own(&word) } else { task.own(&word, until) }
            })
            .map(|()| 0)
        }
        FUTEX_UNLOCK_PI => {
            task.disown(&Word::new(task.mm(), addr.0, key(task, addr.0, private)?))?;
            clear_pending(task, options, addr2.0).map(|()| 0)
        }
        FUTEX_WAIT_REQUEUE_PI => {
            if addr == addr2 {
                return Err(errno!(INVAL, "twice the same word"));
            }
            let (from, to) = pair()?;
            if from == to {
                return Err(errno!(INVAL, "twice the same word"));
            }
            let wait = |task: &Task<P>| {
                let word = Word::new(task.mm(), addr2.0, to);
                task.wait_to_own(from, || expect::<P>(addr.0, value.0), &word, until)
            };
            restarted(task, wait).map(|()| 0)
        }
        FUTEX_CMP_REQUEUE_PI => {
            let most = checked_counts(value.0, value2)?;
            if addr == addr2 || value.0 != 1 {
                return Err(errno!(INVAL, "twice the same word, or not one to be the owner"));
            }
            let (from, to) = pair()?;
            if from == to {
                return Err(errno!(INVAL, "twice the same word"));
            }
            task.move_to_own(from, || expect::<P>(addr.0, value3.0), &Word::new(task.mm(), addr2.0, to), most)
        }
        _ => Err(errno!(NOSYS, "no such operation")),
    }
}

/// How many to wake: Linux looks at the count after the first wake.
fn at_least_one(count: u32) -> u32 {
    i32::try_from(count).map_or(1, |count| count.max(1)).unsigned_abs()
}

/// The second of two counts that are not negative.
fn checked_counts(wake: u32, most: u32) -> Result<u32> {
    if i32::try_from(wake).is_err() || i32::try_from(most).is_err() {
        return Err(errno!(INVAL, "a negative count"));
    }
    Ok(most)
}

fn wake<P: Cpu>(task: &Task<P>, addr: Ptr, options: u32, pending: Ptr, most: Count, bits: u32) -> Result<u32> {
    if bits == 0 {
        return Err(errno!(INVAL, "no bits"));
    }
    let private = options & raw::FUTEX_PRIVATE_FLAG != 0;
    let key = key(task, addr.0, private)?;
    expect_there::<P>(addr.0, private)?;
    if options & ROBUST_UNLOCK != 0 {
        put::<P, 4>(addr.0, &0u32)?;
        clear_pending(task, options, pending.0)?;
    }
    task.sandbox().futexes().wake(key, bits, at_least_one(most.0))
}

/// Says that the change of a robust list is over, if that is asked for. A list whose head cannot be written is no list any more.
fn clear_pending<P: Cpu>(task: &Task<P>, options: u32, pending: GuestAddr) -> Result<()> {
    if options & ROBUST_UNLOCK == 0 {
        return Ok(());
    }
    let bytes: &[u8] = if options & ROBUST_LIST32 != 0 { &[0; 4] } else { &[0; 8] };
    user::write_all::<P>(pending, bytes).inspect_err(|_| {
        if task.shared().robust_list().plus(16).is_ok_and(|of_list| of_list == pending) {
            task.shared().set_robust_list(GuestAddr::default());
        }
    })
}

/// Wakes the first of those who wait for one word and moves the next to another, if `is_as_expected`.
pub(super) fn requeue<P: Cpu>(
    task: &Task<P>,
    keys: impl FnOnce() -> Result<(FutexKey, FutexKey)>,
    [wake, most]: [u32; 2],
    is_as_expected: impl FnOnce() -> Result<()>,
) -> Result<u32> {
    checked_counts(wake, most)?;
    let (from, to) = keys()?;
    is_as_expected()?;
    task.sandbox().futexes().requeue(from, to, wake, most)
}

/// The same 32 bits with a sign.
fn signed(bits: u32) -> i32 {
    i32::from_le_bytes(bits.to_le_bytes())
}

/// The same 32 bits without a sign.
pub(super) fn unsigned(bits: i32) -> u32 {
    u32::from_le_bytes(bits.to_le_bytes())
}

/// What `FUTEX_WAKE_OP` does to the second word, and asks of what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WakeOp {
    operation: u32,
    operand: i32,
    comparison: u32,
    against: i32,
}

impl WakeOp {
    fn decode(encoded: u32) -> Self {
        // Twelve bits with a sign.
        let signed = |bits: u32| signed(bits << 20) >> 20;
        let operand = signed(encoded >> 12 & 0xfff);
        let is_shift = encoded >> 28 & raw::FUTEX_OP_OPARG_SHIFT != 0;
        Self {
            operation: encoded >> 28 & 7,
            operand: if is_shift { 1i32.wrapping_shl(unsigned(operand)) } else { operand },
            comparison: encoded >> 24 & 0xf,
            against: signed(encoded & 0xfff),
        }
    }

    /// What the word `old` becomes.
    fn apply(self, old: u32) -> Result<u32> {
        let operand = unsigned(self.operand);
        Ok(match self.operation {
            raw::FUTEX_OP_SET => operand,
            raw::FUTEX_OP_ADD => old.wrapping_add(operand),
            raw::FUTEX_OP_OR => old | operand,
            raw::FUTEX_OP_ANDN => old & !operand,
            raw::FUTEX_OP_XOR => old ^ operand,
            _ => return Err(errno!(NOSYS, "no such operation on the word")),
        })
    }

    /// Whether those are woken, too, that wait for the word, which was `old`.
    fn holds(self, old: u32) -> Result<bool> {
        let old = signed(old);
        Ok(match self.comparison {
            raw::FUTEX_OP_CMP_EQ => old == self.against,
            raw::FUTEX_OP_CMP_NE => old != self.against,
            raw::FUTEX_OP_CMP_LT => old < self.against,
            raw::FUTEX_OP_CMP_LE => old <= self.against,
            raw::FUTEX_OP_CMP_GT => old > self.against,
            raw::FUTEX_OP_CMP_GE => old >= self.against,
            _ => return Err(errno!(NOSYS, "no such comparison")),
        })
    }
}

fn wake_op<P: Cpu>(
    task: &Task<P>,
    (first, second): (FutexKey, FutexKey),
    addr: GuestAddr,
    [most, most_too]: [u32; 2],
    encoded: u32,
) -> Result<u32> {
    let op = WakeOp::decode(encoded);
    op.apply(0)?;
    let mut old = task.mm().exchange(addr, 0, 0)?;
    loop {
        let found = task.mm().exchange(addr, old, op.apply(old)?)?;
        if found == old {
            break;
        }
        old = found;
    }
    let and_second = op.holds(old)?;
    let mut woken = task.sandbox().futexes().wake(first, ANY, at_least_one(most))?;
    if and_second {
        woken = woken.saturating_add(task.sandbox().futexes().wake(second, ANY, at_least_one(most_too))?);
    }
    Ok(woken)
}

pub(crate) fn get_robust_list<P: Cpu>(task: &mut Task<P>, pid: Pid, head: Ptr, len: Ptr) -> Result<()> {
    let list = match u32::try_from(pid.0) {
        Ok(0) => task.shared().robust_list(),
        Ok(tid) => {
            let process = task.sandbox().process_of(tid).ok_or(errno!(SRCH))?;
            if !task.may_reach(&process) {
                return Err(errno!(PERM, "another user's process"));
            }
            // Init has no tasks, and so no list.
            let ended = process.task_count() == 0 && process.condition() == Condition::Zombie;
            let shared = process.task(tid);
            if shared.is_none() && (ended || process.pid() != tid) {
                return Err(errno!(SRCH, "it has ended"));
            }
            shared.map(|shared| shared.robust_list()).unwrap_or_default()
        }
        Err(_) => return Err(errno!(SRCH)),
    };
    put::<P, 8>(len.0, &24u64)?;
    put::<P, 8>(head.0, &list.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    #[test]
    fn an_operation_on_the_second_word_is_decoded_with_signs() {
        let op = WakeOp::decode(raw::FUTEX_OP_ADD << 28 | raw::FUTEX_OP_CMP_LT << 24 | 0xfff << 12 | 0xffe);
        assert_eq!((op.operand, op.against), (-1, -2));
        assert_eq!(op.apply(5).unwrap(), 4);
        assert!(op.holds(0xffff_fff0).unwrap() && !op.holds(0).unwrap());
        let shifted = WakeOp::decode((raw::FUTEX_OP_OR | 8) << 28 | 31 << 12);
        assert_eq!(shifted.apply(1).unwrap(), 0x8000_0001);
        assert!(WakeOp::decode(5 << 28).apply(0).unwrap_err().is(Errno::NOSYS));
        assert!(WakeOp::decode(6 << 24).holds(0).unwrap_err().is(Errno::NOSYS));
    }
}
