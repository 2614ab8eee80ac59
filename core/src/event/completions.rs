//! Operations that were handed in and are done, until somebody fetches what came of them. Source: `io_getevents(2)`; Linux `fs/aio.c`.
//!
//! Invariant: those in the list and those begun are together no more than there is room for, so that none that was begun is lost.
//! Locks: `state` is a leaf.

use crate::fs::inode::Blocking;
use crate::fs::poll::PollSource;
use crate::fs::types::Ready;
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What whoever handed it in gave to know it by.
    pub data: u64,
    /// The address of its description.
    pub operation: u64,
    /// Bytes, or a negative error number.
    pub result: i64,
}

struct State {
    done: VecDeque<Completion>,
    begun: usize,
    is_closed: bool,
}

/// The list.
pub struct Completions<P: Platform> {
    room: usize,
    state: Mutex<P, State>,
    changed: PollSource<P>,
    _charge: Charge,
}

impl<P: Platform> fmt::Debug for Completions<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions").field("room", &self.room).finish_non_exhaustive()
    }
}

impl<P: Platform> Completions<P> {
    /// An empty list with room for `room` operations.
    ///
    /// # Errors
    /// `NOMEM`: past the quota, or the host has no memory.
    pub fn new(quota: &Arc<Quota>, room: usize) -> Result<Self> {
        let bytes = room.saturating_mul(size_of::<Completion>()).saturating_add(size_of::<Self>());
        let charge = quota.charge(u64::try_from(bytes).unwrap_or(u64::MAX))?;
        let mut done = VecDeque::new();
        done.try_reserve_exact(room).map_err(|_| errno!(NOMEM, "the host has no memory"))?;
        let state = State { done, begun: 0, is_closed: false };
        Ok(Self { room, state: Mutex::<P, _>::new(state), changed: PollSource::default(), _charge: charge })
    }

    /// How many operations it has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room
    }

    /// Keeps room for an operation that begins.
    ///
    /// # Errors
    /// `AGAIN`: there is none. `INVAL`: closed.
    pub fn begin(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(errno!(INVAL, "closed"));
        }
        if state.done.len().saturating_add(state.begun) >= self.room {
            return Err(errno!(AGAIN, "nobody fetched what is done"));
        }
        state.begun = state.begun.saturating_add(1);
        Ok(())
    }

    /// Ends an operation that was begun; `None` is one that came to nothing that anybody is told of.
    pub fn end(&self, completion: Option<Completion>) {
        let mut state = self.state.lock();
        state.begun = state.begun.saturating_sub(1);
        state.done.extend(completion);
        drop(state);
        self.changed.wake(Ready::IN);
    }

    /// Whether `least` operations are done, waiting for that until `deadline` of the monotonic clock; `None` if time is up.
    ///
    /// # Errors
    /// `INVAL`: closed, perhaps meanwhile. [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn wait(&self, least: usize, deadline: Option<Duration>) -> Result<Option<()>> {
        let done = self.changed.until(Blocking::Yes, deadline, || {
            let state = self.state.lock();
            match (state.is_closed, state.done.len() >= least) {
                (true, _) => Some(Err(errno!(INVAL, "closed"))),
                (false, is_done) => is_done.then_some(Ok(())),
            }
        });
        match done {
            Ok(()) => Ok(Some(())),
            Err(error) if error.is(crate::error::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the one that was done first.
    pub fn take(&self) -> Option<Completion> {
        self.state.lock().done.pop_front()
    }

    /// Closes the list: nothing begins any more, and nobody waits.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.wake_all();
    }
}
