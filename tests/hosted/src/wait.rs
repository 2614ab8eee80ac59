//! Blocking on a word: a table of condition variables, found by the word's address.

use crate::Hosted;
use litebox_core::platform::{Clock, Wait, WaitMode, Wakeup};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Words share a bucket by chance; a wake of one then wakes waiters of the other for no reason, as is allowed.
const BUCKETS: usize = 64;

struct Bucket {
    lock: Mutex<()>,
    changed: Condvar,
}

static TABLE: [Bucket; BUCKETS] = [const { Bucket { lock: Mutex::new(()), changed: Condvar::new() } }; BUCKETS];

fn bucket(word: &AtomicU32) -> &'static Bucket {
    let addr = std::ptr::from_ref(word).addr();
    &TABLE[(addr / 4) % BUCKETS]
}

thread_local! {
    static KICKED: RefCell<Arc<AtomicBool>> = RefCell::new(Arc::new(AtomicBool::new(false)));
}

/// Interrupts one thread's interruptible waits, as a kill or a kick does.
#[derive(Clone, Debug)]
pub struct Interrupter(Arc<AtomicBool>);

impl Interrupter {
    /// Of the thread that calls this.
    #[must_use]
    pub fn current() -> Self {
        Self(KICKED.with_borrow(Arc::clone))
    }

    /// Whether the thread that calls this was interrupted out of a wait; it is not any more.
    #[must_use]
    pub fn take() -> bool {
        KICKED.with_borrow(|kicked| kicked.swap(false, Ordering::SeqCst))
    }

    /// Ends the thread's wait, or its next one.
    pub fn interrupt(&self) {
        self.0.store(true, Ordering::SeqCst);
        for bucket in &TABLE {
            // Taken, so that nobody is between its look at the flag and its sleep.
            drop(bucket.lock.lock().unwrap_or_else(PoisonError::into_inner));
            bucket.changed.notify_all();
        }
    }
}

impl Wait for Hosted {
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;

    fn wait(word: &AtomicU32, expected: u32, mode: WaitMode, deadline: Option<Duration>) -> Wakeup {
        let bucket = bucket(word);
        let held = bucket.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if word.load(Ordering::SeqCst) != expected {
            return Wakeup::Woken;
        }
        let kicked = || mode == WaitMode::Interruptible && Interrupter::take();
        if kicked() {
            return Wakeup::Interrupted;
        }
        let held = match deadline {
            None => bucket.changed.wait(held).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let Some(left) = deadline.checked_sub(Hosted::monotonic()).filter(|left| !left.is_zero()) else {
                    return Wakeup::TimedOut;
                };
                bucket.changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        drop(held);
        if kicked() {
            Wakeup::Interrupted
        } else if deadline.is_some_and(|deadline| Hosted::monotonic() >= deadline) {
            Wakeup::TimedOut
        } else {
            Wakeup::Woken
        }
    }

    fn wake(word: &AtomicU32) {
        let bucket = bucket(word);
        drop(bucket.lock.lock().unwrap_or_else(PoisonError::into_inner));
        bucket.changed.notify_all();
    }
}
