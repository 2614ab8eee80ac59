//! Timers that are read and waited for. Source: `timerfd_create(2)`; Linux `fs/timerfd.c`.
//!
//! Invariant: `state` is brought up to date before it is looked at, so a timer is right whether or not the host called in time.
//! Locks: `state` is a leaf but for the queue of [`Timers`], which is taken under it.

use super::anonymous;
use crate::fs::file::File;
use crate::fs::inode::{Blocking, FileOps, IoCx};
use crate::fs::io::IoDst;
use crate::fs::poll::PollSource;
use crate::fs::types::{InodeId, OFlags, Ready};
use crate::platform::Platform;
use crate::sync::{Mutex, WaitQueue};
use crate::time::{Expire, Setting, Ticket, Timers};
use crate::{errno, error::Result};
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::fmt;
use core::time::Duration;

#[derive(Default)]
struct State {
    setting: Setting,
    expired: u64,
    ticket: Option<Ticket>,
}

/// The clock that a timer's absolute times are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichClock {
    /// Since an arbitrary point.
    Monotonic,
    /// Since 1970.
    Real,
}

/// An open timer.
pub struct TimerFd<P: Platform> {
    me: Weak<Self>,
    timers: Arc<Timers<P>>,
    state: Mutex<P, State>,
    changed: PollSource<P>,
    clock: WhichClock,
}

impl<P: Platform> fmt::Debug for TimerFd<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerFd").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for TimerFd<P> {
    fn drop(&mut self) {
        if let Some(ticket) = self.state.get_mut().ticket {
            self.timers.cancel(ticket);
        }
    }
}

impl<P: Platform> TimerFd<P> {
    /// An open timer that is off.
    #[must_use]
    pub fn open(timers: &Arc<Timers<P>>, clock: WhichClock, id: InodeId, status: OFlags) -> Arc<File<P>> {
        let ops = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            timers: Arc::clone(timers),
            state: Mutex::<P, _>::new(State::default()),
            changed: PollSource::default(),
            clock,
        });
        anonymous(ops, id, "timerfd", status | OFlags::READ | OFlags::WRITE)
    }

    /// The timer that `file` is.
    ///
    /// # Errors
    /// `INVAL`: it is something else.
    pub fn of(file: &File<P>) -> Result<Arc<Self>> {
        let ops = Arc::clone(file.ops()).into_any();
        ops.and_then(|ops| ops.downcast().ok()).ok_or(errno!(INVAL, "no timer"))
    }

    /// The clock that its absolute times are of.
    #[must_use]
    pub fn clock(&self) -> WhichClock {
        self.clock
    }

    /// Brings `state` up to `now`.
    fn update(state: &mut State, now: Duration) {
        state.expired = state.expired.saturating_add(state.setting.expire(now));
    }

    /// Has the timer looked after when it expires next.
    fn schedule(&self, state: &mut State) -> Result<()> {
        if let Some(ticket) = state.ticket.take() {
            self.timers.cancel(ticket);
        }
        if let Some(at) = state.setting.at {
            let me: Weak<dyn Expire> = Weak::clone(&self.me) as Weak<dyn Expire>;
            state.ticket = Some(self.timers.set(at, me)?);
        }
        Ok(())
    }

    /// Its setting now.
    #[must_use]
    pub fn get(&self) -> Setting {
        let mut state = self.state.lock();
        Self::update(&mut state, P::monotonic());
        state.setting
    }

    /// Sets it; what it was. Expiries that nobody read are forgotten.
    ///
    /// # Errors
    /// `AGAIN`: too many timers are set; this one is off then.
    pub fn set(&self, new: Setting) -> Result<Setting> {
        let mut state = self.state.lock();
        Self::update(&mut state, P::monotonic());
        let old = core::mem::replace(&mut state.setting, new);
        state.expired = 0;
        let scheduled = self.schedule(&mut state);
        if scheduled.is_err() {
            state.setting = Setting::default();
        }
        drop(state);
        self.changed.wake(Ready::IN);
        scheduled.map(|()| old)
    }

    /// Takes the count of expiries, or says when the next one is.
    fn try_take(&self) -> Result<u64, Option<Duration>> {
        let mut state = self.state.lock();
        Self::update(&mut state, P::monotonic());
        match core::mem::take(&mut state.expired) {
            0 => Err(state.setting.at),
            count => {
                // As in `expire`.
                let _ = self.schedule(&mut state);
                Ok(count)
            }
        }
    }
}

impl<P: Platform> Expire for TimerFd<P> {
    fn expire(&self) {
        let mut state = self.state.lock();
        Self::update(&mut state, P::monotonic());
        state.ticket = None;
        if state.expired == 0 {
            // One that finds no room is late: it expires when somebody looks.
            let _ = self.schedule(&mut state);
        }
        // Otherwise nobody waits for it before what there is was read: a short interval keeps nothing busy.
        drop(state);
        self.changed.wake(Ready::IN);
    }
}

impl<P: Platform> FileOps<P> for TimerFd<P> {
    fn read_at(&self, _offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(errno!(INVAL, "no room for the count"));
        }
        let count = loop {
            let next = match (self.try_take(), cx.blocking) {
                (Ok(count), _) => break count,
                (Err(_), Blocking::No) => return Err(errno!(AGAIN)),
                (Err(next), Blocking::Yes) => next,
            };
            if let Some(count) = self.changed.queue.wait_until(next, || self.try_take().ok())? {
                break count;
            }
        };
        let start = dst.done();
        dst.put(&count.to_le_bytes());
        dst.outcome(start)
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.changed.watch(watcher);
        }
        let mut state = self.state.lock();
        Self::update(&mut state, P::monotonic());
        if state.expired > 0 { Ready::IN } else { Ready::empty() }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}
