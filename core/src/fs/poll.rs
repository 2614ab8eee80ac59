//! Who waits for a file to become ready.
//!
//! A [`PollSource`] sits in each object that can become ready. It wakes those who block in the object itself and those who
//! watch it from a poll(2). Invariant: whoever changes the object's readiness calls [`PollSource::wake`] after the change.
//! Locks: `watchers` is a leaf; nothing is taken under it.

use super::inode::Blocking;
use crate::platform::Platform;
use crate::sync::{Mutex, WaitQueue};
use crate::{errno, error::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

/// One object's waiters.
pub struct PollSource<P: Platform> {
    /// For those who block in the object.
    pub queue: WaitQueue<P>,
    watched: AtomicBool,
    watchers: Mutex<P, Vec<Weak<WaitQueue<P>>>>,
}

impl<P: Platform> Default for PollSource<P> {
    fn default() -> Self {
        Self { queue: WaitQueue::new(), watched: AtomicBool::new(false), watchers: Mutex::<P, _>::new(Vec::new()) }
    }
}

impl<P: Platform> fmt::Debug for PollSource<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollSource").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<P: Platform> PollSource<P> {
    /// Has `watcher` woken at every change until its last strong handle is gone. Register first, then look at the object.
    pub fn watch(&self, watcher: &Arc<WaitQueue<P>>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|known| known.strong_count() > 0);
        if !watchers.iter().any(|known| known.as_ptr() == Arc::as_ptr(watcher)) {
            watchers.push(Arc::downgrade(watcher));
        }
        self.watched.store(true, Ordering::Release);
    }

    /// What `attempt` comes to: at once, or, if it may wait, at some change before `deadline` of the monotonic clock.
    ///
    /// # Errors
    /// Those of `attempt`; `AGAIN`: it came to nothing, and may not wait or not longer.
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn until<T>(
        &self,
        blocking: Blocking,
        deadline: Option<Duration>,
        mut attempt: impl FnMut() -> Option<Result<T>>,
    ) -> Result<T> {
        match (attempt(), blocking) {
            (Some(done), _) => done,
            (None, Blocking::No) => Err(errno!(AGAIN)),
            (None, Blocking::Yes) => self.queue.wait_until(deadline, attempt)?.unwrap_or(Err(errno!(AGAIN))),
        }
    }

    /// Wakes all of them.
    pub fn wake(&self) {
        self.queue.wake_all();
        if self.watched.load(Ordering::Acquire) {
            let mut watchers = self.watchers.lock();
            watchers.retain(|known| match known.upgrade() {
                Some(queue) => {
                    queue.wake_all();
                    true
                }
                None => false,
            });
            self.watched.store(!watchers.is_empty(), Ordering::Release);
        }
    }
}
