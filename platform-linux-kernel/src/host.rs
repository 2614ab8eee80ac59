// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `Platform` for Linux: what core asks of its host, over the rest of this crate.
//!
//! Blocking is the kernel's wait on a variable; the raw locks are made of it, so waiters sleep. Needs task context throughout.

use crate::bases::USER_END;
use crate::mm::frame::Frame;
use crate::mm::space::{Rights, Space};
use crate::mm::user_copy;
use crate::{carrier, sys};
use core::mem::MaybeUninit;
use core::sync::atomic::{fence, AtomicU32, Ordering};
use core::time::Duration;
use kernel::prelude::*;
use litebox_core::mm::{GuestAddr, Prot};
use litebox_core::platform::{self, Mapping, WaitMode, Wakeup};

/// The host: a type without values.
#[derive(Debug)]
pub(crate) enum Linux {}

impl platform::Platform for Linux {}

impl platform::Wait for Linux {
    type RawMutex = RawMutex;
    type RawRwLock = RawRwLock;

    fn wait(word: &AtomicU32, expected: u32, mode: WaitMode, deadline: Option<Duration>) -> Wakeup {
        let key = core::ptr::from_ref(word).cast_mut().cast();
        let state = match mode {
            WaitMode::Uninterruptible => sys::TASK_UNINTERRUPTIBLE,
            WaitMode::Interruptible => sys::TASK_INTERRUPTIBLE,
        };
        let mut entry = MaybeUninit::<sys::wait_bit_queue_entry>::zeroed();
        let entry = entry.as_mut_ptr();
        // SAFETY: Any address may be a key; queues are found by its hash and never freed.
        let queue = unsafe { sys::__var_waitqueue(key) };
        // SAFETY: `entry` lies on this stack, to which `finish_wait` below ends all references.
        unsafe { sys::init_wait_var_entry(entry, key, 0) };
        // SAFETY: As above.
        let queued = unsafe { &raw mut (*entry).wq_entry };
        // SAFETY: Task context; not zero if a signal is pending and the mode is interruptible.
        let interrupted = unsafe { sys::prepare_to_wait_event(queue, queued, state as i32) } != 0;
        // The queueing above is a full barrier, and so is the waker's: one of the two sees the other.
        let outcome = if word.load(Ordering::SeqCst) != expected {
            Wakeup::Woken
        } else if interrupted || (mode == WaitMode::Interruptible && carrier::kill_pending()) {
            Wakeup::Interrupted
        } else {
            sleep(deadline)
        };
        // SAFETY: Pairs with the preparation; the entry is off the queue afterwards.
        unsafe { sys::finish_wait(queue, queued) };
        outcome
    }

    fn wake(word: &AtomicU32) {
        fence(Ordering::SeqCst);
        // SAFETY: Any address may be a key.
        unsafe { sys::wake_up_var(core::ptr::from_ref(word).cast_mut().cast()) };
    }
}

/// Sleeps in the state that was set, until woken or `deadline` of CLOCK_MONOTONIC.
fn sleep(deadline: Option<Duration>) -> Wakeup {
    let Some(deadline) = deadline else {
        // SAFETY: Task context, no spinlock held (contract of `Wait::wait`).
        unsafe { sys::schedule() };
        return Wakeup::Woken;
    };
    let mut expires = i64::try_from(deadline.as_nanos()).unwrap_or(i64::MAX);
    // SAFETY: As above; `expires` outlives the call.
    let result = unsafe { sys::schedule_hrtimeout(&raw mut expires, sys::hrtimer_mode_HRTIMER_MODE_ABS) };
    if result == 0 { Wakeup::TimedOut } else { Wakeup::Woken }
}

/// A sleeping mutex: 0 free, 1 held, 2 held and perhaps waited for.
#[derive(Debug)]
pub(crate) struct RawMutex(AtomicU32);

// SAFETY: `lock` returns only after it changed the word from 0, which one task at a time can do.
unsafe impl lock_api::RawMutex for RawMutex {
    #[expect(clippy::declare_interior_mutable_const, reason = "the trait's way to make one")]
    const INIT: Self = Self(AtomicU32::new(0));
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        if self.try_lock() {
            return;
        }
        while self.0.swap(2, Ordering::Acquire) != 0 {
            <Linux as platform::Wait>::wait(&self.0, 2, WaitMode::Uninterruptible, None);
        }
    }

    fn try_lock(&self) -> bool {
        self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        if self.0.swap(0, Ordering::Release) == 2 {
            <Linux as platform::Wait>::wake(&self.0);
        }
    }
}

/// A sleeping readers-writer lock: a count of readers, [`WRITER`], and [`WAITED`] if somebody sleeps. A waiting writer
/// holds off new readers.
#[derive(Debug)]
pub(crate) struct RawRwLock {
    state: AtomicU32,
    writers: AtomicU32,
}

const WRITER: u32 = 1 << 31;
const WAITED: u32 = 1 << 30;
const READERS: u32 = WAITED - 1;

impl RawRwLock {
    /// Whether a reader has to wait: for a writer, or behind one that waits for other readers. Somebody holds the lock then, so
    /// there will be an unlock that sees the mark of [`Self::wait`].
    fn closed_to_readers(&self, seen: u32) -> bool {
        seen & WRITER != 0 || (seen & READERS != 0 && self.writers.load(Ordering::Relaxed) != 0)
    }

    /// Marks that somebody waits, and sleeps until the state is no longer `seen`, in which somebody holds the lock.
    fn wait(&self, seen: u32) {
        let marked = seen | WAITED;
        if seen == marked || self.state.compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            <Linux as platform::Wait>::wait(&self.state, marked, WaitMode::Uninterruptible, None);
        }
    }

    fn wake(&self, before: u32) {
        if before & WAITED != 0 {
            <Linux as platform::Wait>::wake(&self.state);
        }
    }
}

// SAFETY: WRITER is set only when there is neither a reader nor a writer; a reader is counted only when WRITER is clear.
unsafe impl lock_api::RawRwLock for RawRwLock {
    #[expect(clippy::declare_interior_mutable_const, reason = "the trait's way to make one")]
    const INIT: Self = Self { state: AtomicU32::new(0), writers: AtomicU32::new(0) };
    type GuardMarker = lock_api::GuardNoSend;

    fn lock_shared(&self) {
        while !self.try_lock_shared() {
            let seen = self.state.load(Ordering::Relaxed);
            if self.closed_to_readers(seen) {
                self.wait(seen);
            }
        }
    }

    fn try_lock_shared(&self) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        !self.closed_to_readers(seen)
            && seen & READERS != READERS
            && self.state.compare_exchange(seen, seen.wrapping_add(1), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock_shared(&self) {
        let before = self.state.fetch_sub(1, Ordering::Release);
        if before & READERS == 1 && before & WAITED != 0 {
            self.state.fetch_and(!WAITED, Ordering::Relaxed);
            self.wake(before);
        }
    }

    fn lock_exclusive(&self) {
        if self.try_lock_exclusive() {
            return;
        }
        self.writers.fetch_add(1, Ordering::SeqCst);
        while !self.try_lock_exclusive() {
            let seen = self.state.load(Ordering::Relaxed);
            if seen & (WRITER | READERS) != 0 {
                self.wait(seen);
            }
        }
        // Readers that were held off sleep on: the unlock wakes them.
        self.writers.fetch_sub(1, Ordering::SeqCst);
        self.state.fetch_or(WAITED, Ordering::Relaxed);
    }

    fn try_lock_exclusive(&self) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        seen & (WRITER | READERS) == 0 && self.state.compare_exchange(seen, seen | WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock_exclusive(&self) {
        let before = self.state.fetch_and(!(WRITER | WAITED), Ordering::Release);
        self.wake(before);
    }
}

impl platform::Frame for Frame {
    fn read(&self, offset: usize, dst: &mut [u8]) -> usize {
        Self::read(self, offset, dst)
    }

    fn write(&self, offset: usize, src: &[u8]) -> usize {
        Self::write(self, offset, src)
    }

    fn copy_from(&self, from: &Self) {
        Self::copy_from(self, from);
    }

    fn is_unique(&self) -> bool {
        Self::is_unique(self)
    }

    fn same(&self, other: &Self) -> bool {
        Self::same(self, other)
    }
}

impl platform::Frames for Linux {
    type Frame = Frame;
    type Space = Space;

    fn zeroed_frame() -> Option<Frame> {
        Frame::zeroed()
    }

    fn new_space() -> Option<Space> {
        Space::new().ok()
    }

    fn map(space: &Space, mappings: &[Mapping<Frame>], replace: bool) -> bool {
        let (Some(first), Some(last)) = (mappings.first(), mappings.last()) else {
            return true;
        };
        space.insert_by(address(first.addr), address(last.addr), replace, &|addr| {
            let at = mappings.binary_search_by_key(&addr, |mapping| address(mapping.addr)).ok()?;
            let mapping = mappings.get(at)?;
            let rights = Rights {
                read: mapping.prot.contains(Prot::READ),
                write: mapping.prot.contains(Prot::WRITE),
                execute: mapping.prot.contains(Prot::EXEC),
            };
            Some((&mapping.frame, rights))
        })
    }

    fn unmap(space: &Space, start: GuestAddr, end: GuestAddr) {
        let start = address(start);
        space.zap(start, address(end).saturating_sub(start));
    }
}

/// An address as the kernel has it: 64 bits either way.
fn address(addr: GuestAddr) -> usize {
    addr.get().min(USER_END) as usize
}

impl platform::UserCopy for Linux {
    fn from_guest(dst: &mut [u8], src: GuestAddr) -> usize {
        user_copy::from_guest(dst, address(src))
    }

    fn to_guest(dst: GuestAddr, src: &[u8]) -> usize {
        user_copy::to_guest(address(dst), src)
    }
}

/// A clock's reading by one of the kernel's `ktime_get_..._ts64`.
fn read_clock(read: unsafe extern "C" fn(*mut sys::timespec64)) -> Duration {
    let mut time = sys::timespec64::default();
    // SAFETY: One of the kernel's clocks, which writes the structure and may be asked anywhere.
    unsafe { read(&raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl platform::Clock for Linux {
    fn monotonic() -> Duration {
        read_clock(sys::ktime_get_ts64)
    }

    fn realtime() -> Duration {
        read_clock(sys::ktime_get_real_ts64)
    }
}

impl platform::Entropy for Linux {
    fn fill_random(dst: &mut [u8]) {
        // SAFETY: `dst` is valid for writes of its length.
        unsafe { sys::get_random_bytes(dst.as_mut_ptr().cast(), dst.len()) };
    }
}

impl platform::Log for Linux {
    fn log(line: core::fmt::Arguments<'_>) {
        pr_info!("{}\n", line);
    }
}
