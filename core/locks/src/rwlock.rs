//! The raw readers-writer lock: a count of readers, a writer bit and a bit for possible sleepers in one word.
//!
//! A waiting writer holds off new readers, so readers must not nest. Invariants: [`WRITER`] and a non-zero reader count exclude
//! each other; nobody sleeps but while [`SLEEPERS`] is set; whoever clears it wakes all.

use crate::Futex;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};
use lock_api::GuardNoSend;

const SLEEPERS: u32 = 1 << 31;
const WRITER: u32 = 1 << 30;
const READERS: u32 = WRITER - 1;

/// A readers-writer lock without data, for `lock_api::RwLock`; `F` supplies the sleeping.
#[derive(Debug)]
pub struct RawRwLock<F> {
    state: AtomicU32,
    writers_waiting: AtomicU32,
    futex: PhantomData<fn() -> F>,
}

impl<F: Futex> RawRwLock<F> {
    /// Adds `add` to the word if `admits` allows it now.
    fn try_add(&self, add: u32, admits: impl Fn(u32) -> bool) -> bool {
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| admits(state).then(|| state.wrapping_add(add)))
            .is_ok()
    }

    /// Announces a sleeper and sleeps, unless `admits` has become true.
    fn sleep_unless(&self, admits: impl Fn(u32) -> bool) {
        let announced =
            self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| (!admits(state)).then_some(state | SLEEPERS));
        if let Ok(state) = announced {
            F::wait(&self.state, state | SLEEPERS);
        }
    }

    fn admits_reader(&self, state: u32) -> bool {
        state & WRITER == 0 && state & READERS != READERS && self.writers_waiting.load(Ordering::Relaxed) == 0
    }

    fn admits_writer(state: u32) -> bool {
        state & (WRITER | READERS) == 0
    }

    /// After a release that left neither readers nor a writer: lets the sleepers try.
    fn wake_if_idle(&self, left: u32) {
        if left == SLEEPERS && self.state.compare_exchange(SLEEPERS, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            F::wake(&self.state);
        }
    }
}

// SAFETY: a writer enters only in one atomic step from a word with neither readers nor writer, a reader only from one without a
// writer; each leaves by taking off exactly what it added.
unsafe impl<F: Futex> lock_api::RawRwLock for RawRwLock<F> {
    const INIT: Self = Self { state: AtomicU32::new(0), writers_waiting: AtomicU32::new(0), futex: PhantomData };
    type GuardMarker = GuardNoSend;

    fn lock_shared(&self) {
        while !self.try_lock_shared() {
            self.sleep_unless(|state| self.admits_reader(state));
        }
    }

    fn try_lock_shared(&self) -> bool {
        self.try_add(1, |state| self.admits_reader(state))
    }

    unsafe fn unlock_shared(&self) {
        self.wake_if_idle(self.state.fetch_sub(1, Ordering::Release).wrapping_sub(1));
    }

    fn lock_exclusive(&self) {
        if self.try_lock_exclusive() {
            return;
        }
        self.writers_waiting.fetch_add(1, Ordering::Relaxed);
        while !self.try_lock_exclusive() {
            self.sleep_unless(Self::admits_writer);
        }
        self.writers_waiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn try_lock_exclusive(&self) -> bool {
        self.try_add(WRITER, Self::admits_writer)
    }

    unsafe fn unlock_exclusive(&self) {
        self.wake_if_idle(self.state.fetch_sub(WRITER, Ordering::Release).wrapping_sub(WRITER));
    }
}
