//! Waiting for a word in a guest's memory: futex(2).
//!
//! Invariants: an entry is in the list until it is woken or its waiter leaves; whoever takes one out marks it woken first, under
//! the lock. A waiter is entered *before* the word is looked at, so a wake that follows a change of the word finds it. A task has
//! one entry for each word that it waits for, so what the list holds is bounded by the tasks. Who waits to own a word is told so by
//! whoever makes it the owner; what is in the word is not looked at here. Locks: `waiters` is a leaf and
//! never held while guest memory is read. Source: futex(2); Linux kernel/futex/waitwake.c, requeue.c.

use super::{Mutex, WaitQueue};
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
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

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A wake.
    Wake,
    /// To own the word, as this task.
    Own {
        /// Its id.
        task: u32,
    },
    /// To be moved to another word, and to own that.
    OwnLater {
        /// The waiting task's id.
        task: u32,
        /// The other word.
        word: FutexKey,
    },
}

struct Waiter<P> {
    /// Which of its words was woken, counted from 1; 0 while none was.
    woken: AtomicU32,
    queue: WaitQueue<P>,
}

struct Entry<P> {
    key: FutexKey,
    bits: u32,
    purpose: Purpose,
    /// Which of its waiter's words it is, counted from 1.
    number: u32,
    waiter: Arc<Waiter<P>>,
}

impl<P: Platform> Entry<P> {
    /// Tells its waiter; the caller takes it out.
    fn wake(&self) {
        self.waiter.woken.fetch_max(self.number, Ordering::Release);
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

/// A place among the waiters, or one for each of several words; gives it up when dropped.
pub struct Waiting<'a, P: Platform> {
    futexes: &'a Futexes<P>,
    waiter: Arc<Waiter<P>>,
    words: u32,
}

impl<P: Platform> fmt::Debug for Waiting<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("woken", &self.woken()).finish_non_exhaustive()
    }
}

impl<P: Platform> Waiting<'_, P> {
    /// Waits for a wake of `key`, too.
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn also(&mut self, key: FutexKey) -> Result<()> {
        let number = self.words.saturating_add(1);
        let entry = Entry { key, bits: u32::MAX, purpose: Purpose::Wake, number, waiter: Arc::clone(&self.waiter) };
        self.futexes.push(entry)?;
        self.words = number;
        Ok(())
    }

    /// Sleeps until a wake; `false` if `deadline`, of the monotonic clock, comes first. Keeps the place.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted): a kill or a kick came first.
    pub fn sleep(&self, deadline: Option<Duration>) -> Result<bool> {
        let waited = self.waiter.queue.wait_until(deadline, || self.woken().map(|_| ()));
        waited.map(|woken| woken.is_some())
    }

    /// Sleeps until a wake, and gives the place up; `false` if `deadline`, of the monotonic clock, comes first.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted): a kill or a kick came first.
    pub fn wait(self, deadline: Option<Duration>) -> Result<bool> {
        let waited = self.sleep(deadline);
        // A wake that came while it gave up counts: whoever sent it takes it for delivered.
        if self.leave().is_none() { Ok(true) } else { waited }
    }

    /// Which of the words was woken, the last if several were, counted from 0 in the order in which they were named.
    #[must_use]
    pub fn woken(&self) -> Option<u32> {
        self.waiter.woken.load(Ordering::Acquire).checked_sub(1)
    }

    /// Gives the place up; says what for it waited in vain, or `None` if it was woken before.
    pub fn leave(&self) -> Option<Purpose> {
        let mut purpose = Purpose::Wake;
        if self.woken().is_none() || self.words > 1 {
            self.futexes.waiters.lock().retain(|entry| {
                let is_own = Arc::ptr_eq(&entry.waiter, &self.waiter);
                if is_own {
                    purpose = entry.purpose;
                }
                !is_own
            });
        }
        self.woken().is_none().then_some(purpose)
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

    fn push(&self, entry: Entry<P>) -> Result<()> {
        let mut waiters = self.waiters.lock();
        waiters.try_reserve(1).map_err(|_| errno!(NOMEM, "too many wait"))?;
        waiters.push(entry);
        Ok(())
    }

    /// Enters a waiter for `key`, which wakes with one of `bits` reach. The word is to be looked at afterwards.
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn enter(&self, key: FutexKey, bits: u32, purpose: Purpose) -> Result<Waiting<'_, P>> {
        let waiter = Arc::new(Waiter { woken: AtomicU32::new(0), queue: WaitQueue::new() });
        self.push(Entry { key, bits, purpose, number: 1, waiter: Arc::clone(&waiter) })?;
        Ok(Waiting { futexes: self, waiter, words: 1 })
    }

    /// Wakes the first `most` that wait for `key` with one of `bits`; returns how many.
    ///
    /// # Errors
    /// `INVAL`: one of them waits to own a word. Those before it are woken.
    pub fn wake(&self, key: FutexKey, bits: u32, most: u32) -> Result<u32> {
        let mut waiters = self.waiters.lock();
        let (mut woken, mut is_mixed) = (0u32, false);
        waiters.retain(|entry| {
            if is_mixed || woken >= most || entry.key != key {
                return true;
            }
            is_mixed = entry.purpose != Purpose::Wake;
            if is_mixed || entry.bits & bits == 0 {
                return true;
            }
            woken = woken.saturating_add(1);
            entry.wake();
            false
        });
        if is_mixed { Err(errno!(INVAL, "somebody waits to own a word")) } else { Ok(woken) }
    }

    /// Wakes the first `wake` that wait for `from` and lets the next `most` wait for `to` instead; returns how many in all.
    ///
    /// `most` and `wake` count in one step: a wake of `from` from elsewhere finds those who wait neither twice nor half moved.
    ///
    /// # Errors
    /// `INVAL`: one of them waits to own a word. Those before it are woken or moved.
    pub fn requeue(&self, from: FutexKey, to: FutexKey, wake: u32, most: u32) -> Result<u32> {
        let mut waiters = self.waiters.lock();
        let (mut woken, mut moved) = (0u32, 0u32);
        let mut kept = 0usize;
        for _ in 0..waiters.len() {
            let Some(entry) = waiters.get_mut(kept).filter(|entry| entry.key == from) else {
                kept = kept.saturating_add(1);
                continue;
            };
            if woken >= wake && moved >= most {
                break;
            }
            if entry.purpose != Purpose::Wake {
                return Err(errno!(INVAL, "somebody waits to own a word"));
            }
            if woken < wake {
                entry.wake();
                woken = woken.saturating_add(1);
                waiters.remove(kept);
            } else {
                entry.key = to;
                moved = moved.saturating_add(1);
                // Those who move go behind those who wait for `to` already.
                let entry = waiters.remove(kept);
                waiters.push(entry);
            }
        }
        Ok(woken.saturating_add(moved))
    }

    /// What the first that waits for `key` waits for.
    #[must_use]
    pub fn first(&self, key: FutexKey) -> Option<Purpose> {
        self.waiters.lock().iter().find(|entry| entry.key == key).map(|entry| entry.purpose)
    }

    /// The first task that waits to own `key`.
    #[must_use]
    pub fn next_owner(&self, key: FutexKey) -> Option<u32> {
        let waiters = self.waiters.lock();
        waiters.iter().filter(|entry| entry.key == key).find_map(|entry| match entry.purpose {
            Purpose::Own { task } => Some(task),
            Purpose::Wake | Purpose::OwnLater { .. } => None,
        })
    }

    /// The word that `task` waits to own.
    #[must_use]
    pub fn owned_next_by(&self, task: u32) -> Option<FutexKey> {
        self.waiters.lock().iter().find(|entry| entry.purpose == Purpose::Own { task }).map(|entry| entry.key)
    }

    /// Wakes the first that waits for `key` if it waits for `purpose`; says whether it does.
    pub fn wake_for(&self, key: FutexKey, purpose: Purpose) -> bool {
        let mut waiters = self.waiters.lock();
        let Some(at) = waiters.iter().position(|entry| entry.key == key && entry.purpose == purpose) else { return false };
        waiters.remove(at).wake();
        true
    }

    /// Lets the first that waits for `from` wait to own `to`, if it waits for that; says whether it does.
    pub fn move_to_own(&self, from: FutexKey, to: FutexKey) -> bool {
        let mut waiters = self.waiters.lock();
        let Some(at) = waiters.iter().position(|entry| entry.key == from) else { return false };
        let Some(Purpose::OwnLater { task, word }) = waiters.get(at).map(|entry| entry.purpose) else { return false };
        if word != to {
            return false;
        }
        let entry = waiters.remove(at);
        waiters.push(Entry { key: to, purpose: Purpose::Own { task }, ..entry });
        true
    }
}
