//! Things that happen at a time.
//!
//! A sandbox has one [`Timers`], for which its host keeps at most one call outstanding ([`Clock::call_at`]). Invariant: `armed` is
//! the earliest time that the host was asked for and that has not come, so a host that calls makes every due thing happen.
//! Without a host that calls, things that are due happen when somebody looks, as a task that waits does. Locks: `queue` is a leaf; it is let go before a thing happens.
//!
//! [`Clock::call_at`]: crate::platform::Clock::call_at

use crate::platform::Platform;
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::time::Duration;

/// When a timer expires next, on the monotonic clock, and after how long again; zero is not again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// The next expiry; `None` for a timer that is off.
    pub at: Option<Duration>,
    /// The time between two.
    pub every: Duration,
}

impl Setting {
    /// Moves on if it expires by `now`; says how many times it did.
    pub fn expire(&mut self, now: Duration) -> u64 {
        let Some(at) = self.at.filter(|at| *at <= now) else { return 0 };
        if self.every.is_zero() {
            self.at = None;
            return 1;
        }
        // In 64 bits, which last for 584 years: a kernel has no division of 128.
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let times = nanos(now.saturating_sub(at)).checked_div(nanos(self.every)).unwrap_or(0).saturating_add(1);
        let passed = times.saturating_mul(nanos(self.every));
        self.at = at.checked_add(Duration::from_nanos(passed));
        times
    }

    /// What is left of it at `now`; not zero while it has not expired.
    #[must_use]
    pub fn left(&self, now: Duration) -> Duration {
        self.at.map_or(Duration::ZERO, |at| at.saturating_sub(now).max(Duration::from_nanos(1)))
    }
}

/// Something that happens at a time. It may happen early or twice: the thing looks at the clock itself.
pub trait Expire: Send + Sync {
    /// Its time came, or may have. Called in a context that may sleep, on whatever thread.
    fn expire(&self);
}

/// Where [`Timers::set`] put something; to take it out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(Duration, u64);

struct Queue {
    by_time: BTreeMap<Ticket, Weak<dyn Expire>>,
    next: u64,
    armed: Option<Duration>,
}

/// What is to happen in one sandbox.
pub struct Timers<P: Platform> {
    queue: Mutex<P, Queue>,
    alarm: P::Alarm,
}

/// Things that may be set at one time in a sandbox.
const MAX: usize = 1 << 16;

impl<P: Platform> fmt::Debug for Timers<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").finish_non_exhaustive()
    }
}

impl<P: Platform> Timers<P> {
    /// Nothing is set.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let queue = Queue { by_time: BTreeMap::new(), next: 0, armed: None };
        Arc::new(Self { queue: Mutex::<P, _>::new(queue), alarm: P::Alarm::default() })
    }

    /// The host's timer of it.
    pub fn alarm(&self) -> &P::Alarm {
        &self.alarm
    }

    /// Has `what` happen at `at` of the monotonic clock.
    ///
    /// # Errors
    /// `AGAIN`: too much is set.
    pub fn set(self: &Arc<Self>, at: Duration, what: Weak<dyn Expire>) -> Result<Ticket> {
        let mut queue = self.queue.lock();
        if queue.by_time.len() >= MAX {
            return Err(errno!(AGAIN, "too many timers are set"));
        }
        queue.next = queue.next.wrapping_add(1);
        let ticket = Ticket(at, queue.next);
        queue.by_time.insert(ticket, what);
        self.arm(&mut queue);
        Ok(ticket)
    }

    /// When the first thing is to happen.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.queue.lock().by_time.first_key_value().map(|(Ticket(at, _), _)| *at)
    }

    /// Takes out what has not happened yet.
    pub fn cancel(&self, ticket: Ticket) {
        // What is armed for it comes to nothing.
        self.queue.lock().by_time.remove(&ticket);
    }

    /// Asks the host for the earliest time, if it was not asked already.
    fn arm(self: &Arc<Self>, queue: &mut Queue) {
        let Some((Ticket(first, _), _)) = queue.by_time.first_key_value() else { return };
        if queue.armed.is_none_or(|armed| *first < armed) {
            queue.armed = Some(*first);
            P::call_at(*first, self);
        }
    }

    /// Has everything happen whose time has come; the host's call.
    pub fn run(self: &Arc<Self>) {
        let now = P::monotonic();
        loop {
            let mut queue = self.queue.lock();
            if queue.armed.is_some_and(|armed| armed <= now) {
                queue.armed = None;
            }
            let due = queue.by_time.first_key_value().is_some_and(|(Ticket(at, _), _)| *at <= now);
            let Some((_, what)) = due.then(|| queue.by_time.pop_first()).flatten() else {
                self.arm(&mut queue);
                return;
            };
            drop(queue);
            if let Some(what) = what.upgrade() {
                what.expire();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_timer_counts_what_was_missed_and_keeps_its_beat() {
        let seconds = Duration::from_secs;
        let mut timer = Setting { at: Some(seconds(10)), every: seconds(3) };
        assert_eq!(timer.expire(seconds(9)), 0);
        assert_eq!((timer.expire(seconds(10)), timer.at), (1, Some(seconds(13))));
        assert_eq!((timer.expire(seconds(20)), timer.at), (3, Some(seconds(22))));
        assert_eq!(timer.left(seconds(21)), seconds(1));
        assert_eq!(timer.left(seconds(30)), Duration::from_nanos(1));
        let mut once = Setting { at: Some(seconds(1)), every: Duration::ZERO };
        assert_eq!((once.expire(seconds(5)), once.at, once.left(seconds(5))), (1, None, Duration::ZERO));
    }
}
