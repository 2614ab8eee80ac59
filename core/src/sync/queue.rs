//! Waiting for a condition that somebody else makes true.
//!
//! The queue is a counter of wakes. A waiter reads it, looks at its condition, and sleeps only while the counter is unchanged, so
//! no wake between the look and the sleep is lost. Invariant: whoever changes a condition wakes *after* the change.

use crate::error::{Error, Result};
use crate::fs::types::Ready;
use crate::platform::{Wait, WaitMode, Wakeup};
use alloc::sync::Weak;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

/// What else happens when a queue is woken. Called with the locks of whoever wakes: takes leaf locks only, and does not sleep.
pub trait Woken: Send + Sync {
    /// The queue was woken, about `what`; whether somebody sees to it, so that nobody else need be told if one is enough.
    fn woken(&self, what: Ready) -> bool;
}

/// Tasks that wait for one condition. `P` is the platform.
pub struct WaitQueue<P> {
    wakes: AtomicU32,
    also: Option<Weak<dyn Woken>>,
    in_turn: bool,
    platform: PhantomData<fn() -> P>,
}

impl<P> Default for WaitQueue<P> {
    fn default() -> Self {
        Self { wakes: AtomicU32::new(0), also: None, in_turn: false, platform: PhantomData }
    }
}

impl<P> fmt::Debug for WaitQueue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue").field("wakes", &self.wakes).finish()
    }
}

impl<P: Wait> WaitQueue<P> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A queue whose wakes also reach `also`.
    #[must_use]
    pub fn telling(also: Weak<dyn Woken>) -> Self {
        Self { also: Some(also), ..Self::default() }
    }

    /// The same queue as one of several of which one at a time need be told.
    #[must_use]
    pub fn in_turn(self) -> Self {
        Self { in_turn: true, ..self }
    }

    /// Whether it is one of several of which one at a time need be told.
    #[must_use]
    pub fn is_in_turn(&self) -> bool {
        self.in_turn
    }

    /// Sleeps until `condition` gives a value; looks at it at least once, and after every wake.
    ///
    /// `deadline` is of the platform's monotonic clock; past it the result is `Ok(None)`. `condition` must not sleep on this queue.
    ///
    /// # Errors
    /// [`Error::Interrupted`]: a kill or a kick came while the condition was not yet met.
    pub fn wait_until<T>(&self, deadline: Option<Duration>, condition: impl FnMut() -> Option<T>) -> Result<Option<T>> {
        self.wait(WaitMode::Interruptible, deadline, condition)
    }

    /// The same without a deadline, and kicks do not end it.
    ///
    /// # Errors
    /// [`Error::Interrupted`]: the host kills the task.
    pub fn wait_until_killed<T>(&self, condition: impl FnMut() -> Option<T>) -> Result<T> {
        // Without a deadline there is a value, or the wait was ended.
        self.wait(WaitMode::Killable, None, condition)?.ok_or(Error::Interrupted)
    }

    fn wait<T>(&self, mode: WaitMode, deadline: Option<Duration>, mut condition: impl FnMut() -> Option<T>) -> Result<Option<T>> {
        let mut last = Wakeup::Woken;
        loop {
            let seen = self.wakes.load(Ordering::Acquire);
            if let Some(value) = condition() {
                return Ok(Some(value));
            }
            match last {
                Wakeup::Woken => {}
                Wakeup::TimedOut => return Ok(None),
                Wakeup::Interrupted => return Err(Error::Interrupted),
            }
            last = P::wait(&self.wakes, seen, mode, deadline);
        }
    }

    /// Makes every waiter look at its condition again.
    pub fn wake_all(&self) {
        self.wake_about(Ready::all());
    }

    /// The same, when what changed is `what`; the answer is that of [`Woken::woken`], if it tells anybody.
    pub fn wake_about(&self, what: Ready) -> bool {
        self.wakes.fetch_add(1, Ordering::Release);
        P::wake(&self.wakes);
        self.also.as_ref().and_then(Weak::upgrade).is_some_and(|also| also.woken(what))
    }
}
