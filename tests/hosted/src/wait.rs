//! Blocking on a word: a table of condition variables, found by the word's address.

use crate::Hosted;
use litebox_core::platform::{Clock, Wait, WaitMode, Wakeup};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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
    static CARRIER: Arc<Carrier> = Arc::default();
}

/// What others reach of a thread.
#[derive(Debug, Default)]
struct Carrier {
    kicked: AtomicBool,
    /// Nanoseconds in ring 3 and in the kernel that it says it has worked.
    worked: [AtomicU64; 2],
    /// Whether it waits until a kick at the latest.
    sleeps: AtomicBool,
}

/// Interrupts one thread's interruptible waits, as a kill or a kick does.
#[derive(Clone, Debug)]
pub struct Interrupter(Arc<Carrier>);

impl Interrupter {
    /// Of the thread that calls this.
    #[must_use]
    pub fn current() -> Self {
        Self(CARRIER.with(Arc::clone))
    }

    /// Whether the thread that calls this was interrupted out of a wait; it is not any more.
    #[must_use]
    pub fn take() -> bool {
        CARRIER.with(|carrier| carrier.kicked.swap(false, Ordering::SeqCst))
    }

    /// The thread that calls this says that it has worked so long, in ring 3 and in the kernel: nothing measures it.
    pub fn work(user: Duration, system: Duration) {
        CARRIER.with(|carrier| {
            for (sum, time) in carrier.worked.iter().zip([user, system]) {
                sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
            }
        });
    }

    /// How long it says it has worked.
    pub(crate) fn worked(&self) -> [Duration; 2] {
        self.0.worked.each_ref().map(|sum| Duration::from_nanos(sum.load(Ordering::SeqCst)))
    }

    /// Whether it waits until it is interrupted at the latest.
    pub(crate) fn sleeps(&self) -> bool {
        self.0.sleeps.load(Ordering::SeqCst)
    }

    /// Ends the thread's wait, or its next one.
    pub fn interrupt(&self) {
        self.0.kicked.store(true, Ordering::SeqCst);
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
        let sleeps = |sleeps: bool| CARRIER.with(|carrier| carrier.sleeps.store(sleeps, Ordering::SeqCst));
        sleeps(mode == WaitMode::Interruptible);
        let held = match deadline {
            None => bucket.changed.wait(held).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let Some(left) = deadline.checked_sub(Hosted::monotonic()).filter(|left| !left.is_zero()) else {
                    sleeps(false);
                    return Wakeup::TimedOut;
                };
                bucket.changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        drop(held);
        sleeps(false);
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
