//! Sleeping on a word: a table of waiters by the word's address, each with an event.
//!
//! Invariant: a waiter is in its bucket from before it looks at the word until its event is set or it takes itself out, so no wake
//! is lost. Locks: a bucket's spin lock, for a few steps; nothing is taken under it. Windows's own primitives of this kind
//! (`RtlWaitOnAddress`) are user mode's.

use super::WindowsKernel;
use crate::carrier;
use crate::nt::event::Event;
use crate::nt::spin::SpinLock;
use crate::nt::time;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use litebox_core::platform::{Wait, WaitMode, Wakeup};
use litebox_locks::{Futex, RawMutex, RawRwLock};

/// Words share a bucket by chance, which costs a longer look.
const BUCKETS: usize = 64;

struct Waiter {
    word: usize,
    event: Arc<Event>,
}

static TABLE: [SpinLock<Vec<Waiter>>; BUCKETS] = [const { SpinLock::new(Vec::new()) }; BUCKETS];

#[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
fn bucket(word: usize) -> &'static SpinLock<Vec<Waiter>> {
    &TABLE[word / 4 % BUCKETS]
}

impl Futex for WindowsKernel {
    fn wait(word: &AtomicU32, expected: u32) {
        let _: Wakeup = <Self as Wait>::wait(word, expected, WaitMode::Uninterruptible, None);
    }

    fn wake(word: &AtomicU32) {
        <Self as Wait>::wake(word);
    }
}

impl Wait for WindowsKernel {
    type RawMutex = RawMutex<Self>;
    type RawRwLock = RawRwLock<Self>;

    /// IRQL: `PASSIVE_LEVEL`.
    fn wait(word: &AtomicU32, expected: u32, mode: WaitMode, deadline: Option<Duration>) -> Wakeup {
        let ends = || match mode {
            WaitMode::Uninterruptible => false,
            WaitMode::Killable => carrier::killed(),
            WaitMode::Interruptible => carrier::killed() || carrier::kicked(),
        };
        // A carrier's own is set by a kick, too.
        let event = carrier::event().unwrap_or_else(Event::new);
        let key = core::ptr::from_ref(word).addr();
        {
            let mut waiters = bucket(key).lock();
            if word.load(Ordering::SeqCst) != expected {
                return Wakeup::Woken;
            }
            waiters.push(Waiter { word: key, event: Arc::clone(&event) });
        }
        let leave = || {
            let mut waiters = bucket(key).lock();
            let mine = waiters.iter().position(|waiter| waiter.word == key && Arc::ptr_eq(&waiter.event, &event));
            let waiter = mine.map(|at| waiters.swap_remove(at));
            drop(waiters);
            drop(waiter);
        };
        if ends() {
            leave();
            return Wakeup::Interrupted;
        }
        let timeout = deadline.map(|deadline| deadline.saturating_sub(time::monotonic()));
        let set = event.wait(timeout);
        leave();
        if ends() {
            Wakeup::Interrupted
        } else if !set && deadline.is_some_and(|deadline| deadline <= time::monotonic()) {
            Wakeup::TimedOut
        } else {
            Wakeup::Woken
        }
    }

    /// IRQL: `DISPATCH_LEVEL` or below.
    fn wake(word: &AtomicU32) {
        let key = core::ptr::from_ref(word).addr();
        let waiters = bucket(key).lock();
        for waiter in waiters.iter().filter(|waiter| waiter.word == key) {
            waiter.event.set();
        }
    }
}
