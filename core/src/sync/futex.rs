//! Waiting for a word in a guest's memory: futex(2).
//!
//! Invariants: an entry is in the list until it is woken or its waiter leaves; whoever takes one out marks it woken first, under
//! the lock. A waiter is entered *before* the word is looked at, so a wake that follows a change of the word finds it. A task has
//! one entry for each word that it waits for, so what the list holds is bounded by the tasks. Locks: `waiters` is a leaf and
//! never held while guest memory is read. Source: futex(2); Linux kernel/futex/waitwake.c, requeue.c.

use super::{Mutex, WaitQueue};
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

/// Which word, as everybody who shares it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexKey {
    /// The address space that it is private to, by the address of its object; 0 for a shared one.
    pub space: usize,
    /// The object that has a shared word, by its address; 0 for a private one.
    pub object: usize,
    /// Its byte there.
    pub at: u64,
}

struct Waiter<P> {
    woken: AtomicBool,
    queue: WaitQueue<P>,
}

struct Entry<P> {
    key: FutexKey,
    bits: u32,
    waiter: Arc<Waiter<P>>,
}

impl<P: Platform> Entry<P> {
    /// Tells its waiter; the caller takes it out.
    fn wake(&self) {
        self.waiter.woken.store(true, Ordering::Release);
        self.waiter.queue.wake_all();
    }
}

/// Everybody who waits for a word, first come first.
pub struct Futexes<P: Platform> {
    waiters: Mutex<P, Vec<Entry<P>>>,
}

impl<P: Platform> fmt::Debug for Futexes<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Futexes").finish_non_exhaustive()
    }
}

impl<P: Platform> Default for Futexes<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// A place among the waiters; gives it up when dropped.
pub struct Waiting<'a, P: Platform> {
    futexes: &'a Futexes<P>,
    waiter: Arc<Waiter<P>>,
}

impl<P: Platform> fmt::Debug for Waiting<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("woken", &self.is_woken()).finish_non_exhaustive()
    }
}

impl<P: Platform> Waiting<'_, P> {
    /// Sleeps until a wake; `false` if `deadline`, of the monotonic clock, comes first.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted): a kill or a kick came first.
    pub fn wait(self, deadline: Option<Duration>) -> Result<bool> {
        let waited = self.waiter.queue.wait_until(deadline, || self.is_woken().then_some(()));
        // A wake that came while it gave up counts: whoever sent it takes it for delivered.
        if self.leave() { Ok(true) } else { waited.map(|woken| woken.is_some()) }
    }

    fn is_woken(&self) -> bool {
        self.waiter.woken.load(Ordering::Acquire)
    }

    /// Takes it out; says whether it was woken before.
    fn leave(&self) -> bool {
        if !self.is_woken() {
            self.futexes.waiters.lock().retain(|entry| !Arc::ptr_eq(&entry.waiter, &self.waiter));
        }
        self.is_woken()
    }
}

impl<P: Platform> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<P: Platform> Futexes<P> {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self { waiters: Mutex::<P, _>::new(Vec::new()) }
    }

    /// Enters a waiter for `key`, which wakes with one of `bits` reach. The word is to be looked at afterwards.
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn enter(&self, key: FutexKey, bits: u32) -> Result<Waiting<'_, P>> {
        let waiter = Arc::new(Waiter { woken: AtomicBool::new(false), queue: WaitQueue::new() });
        let mut waiters = self.waiters.lock();
        waiters.try_reserve(1).map_err(|_| errno!(NOMEM, "too many wait"))?;
        waiters.push(Entry { key, bits, waiter: Arc::clone(&waiter) });
        drop(waiters);
        Ok(Waiting { futexes: self, waiter })
    }

    /// Wakes the first `most` that wait for `key` with one of `bits`; returns how many.
    pub fn wake(&self, key: FutexKey, bits: u32, most: u32) -> u32 {
        let mut waiters = self.waiters.lock();
        let mut woken = 0u32;
        waiters.retain(|entry| {
            if woken >= most || entry.key != key || entry.bits & bits == 0 {
                return true;
            }
            woken = woken.saturating_add(1);
            entry.wake();
            false
        });
        woken
    }

    /// Wakes the first `wake` that wait for `from` and lets the next `most` wait for `to` instead; returns how many in all.
    ///
    /// `most` and `wake` count in one step: a wake of `from` from elsewhere finds those who wait neither twice nor half moved.
    pub fn requeue(&self, from: FutexKey, to: FutexKey, wake: u32, most: u32) -> u32 {
        let mut waiters = self.waiters.lock();
        let (mut woken, mut moved) = (0u32, 0u32);
        let mut kept = 0usize;
        for _ in 0..waiters.len() {
            let Some(entry) = waiters.get_mut(kept).filter(|entry| entry.key == from) else {
                kept = kept.saturating_add(1);
                continue;
            };
            if woken < wake {
                entry.wake();
                woken = woken.saturating_add(1);
                waiters.remove(kept);
            } else if moved < most {
                entry.key = to;
                moved = moved.saturating_add(1);
                // Those who move go behind those who wait for `to` already.
                let entry = waiters.remove(kept);
                waiters.push(entry);
            } else {
                break;
            }
        }
        woken.saturating_add(moved)
    }
}
