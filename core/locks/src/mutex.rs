//! The raw mutex: one word that is free, held, or held with possible sleepers.
//!
//! After Ulrich Drepper, "Futexes Are Tricky" (2011), mutex 2. The uncontended path is one compare-exchange and no host call.

use crate::Futex;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};
use lock_api::GuardNoSend;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A mutex without data, for `lock_api::Mutex`; `F` supplies the sleeping.
#[derive(Debug)]
pub struct RawMutex<F> {
    state: AtomicU32,
    futex: PhantomData<fn() -> F>,
}

impl<F: Futex> RawMutex<F> {
    #[cold]
    fn lock_contended(&self) {
        // Whoever slept takes the lock as contended: others may sleep still.
        while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
            F::wait(&self.state, CONTENDED);
        }
    }
}

// SAFETY: exclusion holds, since a task enters only by changing FREE to something else in one atomic step, and only `unlock`
// makes it FREE again.
unsafe impl<F: Futex> lock_api::RawMutex for RawMutex<F> {
    const INIT: Self = Self { state: AtomicU32::new(FREE), futex: PhantomData };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        if !self.try_lock() {
            self.lock_contended();
        }
    }

    fn try_lock(&self) -> bool {
        self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        if self.state.swap(FREE, Ordering::Release) == CONTENDED {
            F::wake(&self.state);
        }
    }
}
