//! Who waits for a file to become ready.
//!
//! A [`PollSource`] sits in each object that can become ready. It wakes those who block in the object itself and those who
//! watch it from a poll(2). Invariant: whoever changes the object's readiness calls [`PollSource::wake`] after the change, and says
//! what it may be ready for now: epoll(7) tells of an edge only who asked for that. Of queues that are in turn (`EPOLLEXCLUSIVE`)
//! it wakes the first where somebody sees to it. Source: Linux `__wake_up_common`, `ep_poll_callback`.
//! Locks: `watchers` is a leaf; nothing is taken under it.

use super::inode::Blocking;
use super::types::Ready;
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

    /// Wakes who blocks in the object, and who watches it: it may be ready for `what` now. Of those in turn, one.
    pub fn wake(&self, what: Ready) {
        self.queue.wake_all();
        self.tell(what);
    }

    /// Wakes all of them: everything may have changed.
    pub fn wake_all(&self) {
        self.queue.wake_all();
        if self.watched.load(Ordering::Acquire) {
            self.each(|queue| {
                queue.wake_all();
            });
        }
    }

    /// Wakes only who watches it, as [`Self::wake`] does.
    pub fn tell(&self, what: Ready) {
        if !self.watched.load(Ordering::Acquire) {
            return;
        }
        let mut in_turn = false;
        self.each(|queue| {
            in_turn |= queue.is_in_turn();
            if !queue.is_in_turn() {
                queue.wake_about(what);
            }
        });
        let mut is_seen_to = !in_turn;
        if in_turn {
            self.each(|queue| is_seen_to = is_seen_to || (queue.is_in_turn() && queue.wake_about(what)));
        }
    }

    /// Shows `act` every queue that is still there, in the order in which they came.
    fn each(&self, mut act: impl FnMut(&WaitQueue<P>)) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|known| known.upgrade().inspect(|queue| act(queue)).is_some());
        self.watched.store(!watchers.is_empty(), Ordering::Release);
    }
}
