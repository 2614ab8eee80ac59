//! `futex_wait(2)`, `futex_wake(2)`, `futex_requeue(2)`, `futex_waitv(2)`: futexes whose flags are of the word.
//!
//! Only words of 32 bits, as in Linux so far. Hostile input: all of it; a vector is read once. Source: Linux
//! kernel/futex/syscalls.c, waitwake.c, `futex_wait_multiple`.

use super::futex::{expect, key, point, requeue, unsigned, wait};
use super::{take, time};
use crate::args::{Count, Flags, Int, Ptr, Word};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::vec::Vec;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::GuestAddr;
use litebox_core::sync::{FutexKey, Purpose};

/// Sizes of a word, as the low flags have them; the only one offered is 32 bits.
const SIZE_MASK: u32 = 3;
const SIZE_U32: u32 = 2;
/// Nobody in another process waits for the word.
const PRIVATE: u32 = 128;
/// Bytes of `struct futex_waitv`.
const WAITV: usize = 24;

const _: () = assert!(WAITV == size_of::<raw::futex_waitv>());

/// A word to wait for, and what is in it then.
struct Wanted {
    addr: GuestAddr,
    value: u32,
    is_private: bool,
}

/// Whether a word with such flags is private.
fn private(flags: u32) -> Result<bool> {
    if flags & !(SIZE_MASK | PRIVATE) != 0 || flags & SIZE_MASK != SIZE_U32 {
        return Err(errno!(INVAL, "unknown flags, or a size that is not offered"));
    }
    Ok(flags & PRIVATE != 0)
}

/// A value that fits in a word.
fn value(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| errno!(INVAL, "more than a word holds"))
}

/// The end of a wait: a point of one of the two clocks.
fn deadline<P: Cpu>(timeout: Ptr, clock: Int) -> Result<Option<Duration>> {
    if timeout.0 == GuestAddr::default() {
        return Ok(None);
    }
    let is_real = match u32::try_from(clock.0) {
        Ok(raw::CLOCK_REALTIME) => true,
        Ok(raw::CLOCK_MONOTONIC) => false,
        _ => return Err(errno!(INVAL, "another clock")),
    };
    Ok(Some(point::<P>(time::read::<P>(timeout.0)?, is_real)))
}

/// The words of a vector.
fn vector<P: Cpu>(at: GuestAddr, count: u32) -> Result<Vec<Wanted>> {
    let mut all = Vec::new();
    all.try_reserve_exact(usize::try_from(count).unwrap_or(usize::MAX)).map_err(|_| errno!(NOMEM))?;
    let mut at = at;
    for _ in 0..count {
        let [wanted, addr, last] = take::<P, [u64; 3], WAITV>(at)?;
        if last > u64::from(u32::MAX) {
            return Err(errno!(INVAL, "what is reserved is not 0"));
        }
        let is_private = private(u32::try_from(last).unwrap_or_default())?;
        all.push(Wanted { addr: GuestAddr::new(addr), value: value(wanted)?, is_private });
        at = at.plus(WAITV as u64)?;
    }
    Ok(all)
}

pub(crate) fn futex_wait<P: Cpu>(
    task: &mut Task<P>,
    word: Ptr,
    expected: Word,
    mask: Word,
    flags: Flags,
    timeout: Ptr,
    clock: Int,
) -> Result<()> {
    let is_private = private(flags.0)?;
    let (expected, mask) = (value(expected.0)?, value(mask.0)?);
    let until = deadline::<P>(timeout, clock)?;
    if mask == 0 {
        return Err(errno!(INVAL, "no bits"));
    }
    let key = key(task, word.0, is_private)?;
    wait(task, word.0, key, expected, mask, until)
}

pub(crate) fn futex_wake<P: Cpu>(task: &mut Task<P>, word: Ptr, mask: Word, count: Int, flags: Flags) -> Result<u32> {
    let is_private = private(flags.0)?;
    let mask = value(mask.0)?;
    if mask == 0 {
        return Err(errno!(INVAL, "no bits"));
    }
    let key = key(task, word.0, is_private)?;
    match count.0 {
        0 => Ok(0),
        count => task.sandbox().futexes().wake(key, mask, count.max(1).unsigned_abs()),
    }
}

pub(crate) fn futex_requeue<P: Cpu>(task: &mut Task<P>, waiters: Ptr, flags: Flags, wake: Int, most: Int) -> Result<u32> {
    if flags.0 != 0 || waiters.0 == GuestAddr::default() {
        return Err(errno!(INVAL, "unknown flags, or no words"));
    }
    let words = vector::<P>(waiters.0, 2)?;
    let [from, to] = words.as_slice() else { return Err(errno!(INVAL)) };
    if from.is_private != to.is_private {
        return Err(errno!(INVAL, "one is private and one is not"));
    }
    let keys = || Ok((key(task, from.addr, from.is_private)?, key(task, to.addr, to.is_private)?));
    requeue(task, keys, [unsigned(wake.0), unsigned(most.0)], || expect::<P>(from.addr, from.value))
}

pub(crate) fn futex_waitv<P: Cpu>(
    task: &mut Task<P>,
    waiters: Ptr,
    count: Count,
    flags: Flags,
    timeout: Ptr,
    clock: Int,
) -> Result<u32> {
    if flags.0 != 0 || count.0 == 0 || count.0 > raw::FUTEX_WAITV_MAX || waiters.0 == GuestAddr::default() {
        return Err(errno!(INVAL, "unknown flags, or no words, or too many"));
    }
    let until = deadline::<P>(timeout, clock)?;
    let words = vector::<P>(waiters.0, count.0)?;
    let mut keys: Vec<FutexKey> = Vec::new();
    keys.try_reserve_exact(words.len()).map_err(|_| errno!(NOMEM))?;
    for word in &words {
        keys.push(key(task, word.addr, word.is_private)?);
    }
    let (Some(first), rest) = (keys.first(), keys.iter().skip(1)) else { return Err(errno!(INVAL)) };
    let mut waiting = task.sandbox().futexes().enter(*first, u32::MAX, Purpose::Wake)?;
    for key in rest {
        waiting.also(*key)?;
    }
    for word in &words {
        if let Err(error) = expect::<P>(word.addr, word.value) {
            waiting.leave();
            return waiting.woken().ok_or(error);
        }
    }
    let slept = waiting.sleep(until);
    waiting.leave();
    match waiting.woken() {
        Some(which) => Ok(which),
        None => slept.and(Err(errno!(TIMEDOUT))),
    }
}
