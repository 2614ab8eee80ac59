//! Timers that send signals: setitimer(2).
//!
//! Invariant: `next` is the earliest expiry of all, or [`NEVER`]; it is written under `state`'s lock only. A timer rings when one
//! of its process's tasks looks, on its way back to ring 3. Locks: `state` is a leaf; a signal is sent after it is let go.

use crate::signal::{Cpu, Info, Origin, Signal};
use crate::task::Process;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use litebox_core::platform::Platform;
use litebox_core::sync::Mutex;
use litebox_core::time::Setting;

/// A [`Timers::next`] that does not come.
const NEVER: u64 = u64::MAX;

/// The timers of a process.
pub(crate) struct Timers<P: Platform> {
    /// Nanoseconds of the monotonic clock.
    next: AtomicU64,
    /// `ITIMER_REAL`.
    state: Mutex<P, Setting>,
}

impl<P: Platform> fmt::Debug for Timers<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<P: Platform> Timers<P> {
    /// None is set.
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(NEVER), state: Mutex::<P, _>::new(Setting::default()) }
    }

    /// The timer of real time.
    pub(crate) fn real(&self) -> Setting {
        *self.state.lock()
    }

    /// Sets the timer of real time; gives what it was.
    pub(crate) fn set_real(&self, new: Setting) -> Setting {
        let mut state = self.state.lock();
        let old = core::mem::replace(&mut *state, new);
        self.note(&state);
        old
    }

    fn note(&self, state: &Setting) {
        let next = state.at.map_or(NEVER, |at| u64::try_from(at.as_nanos()).unwrap_or(NEVER));
        self.next.store(next, Ordering::Release);
    }

    /// Whether one has expired. Cheap: asked after every call.
    pub(crate) fn is_due(&self) -> bool {
        let next = self.next.load(Ordering::Acquire);
        next != NEVER && P::monotonic() >= Duration::from_nanos(next)
    }

    /// Sends `process` the signals of what has expired.
    pub(crate) fn ring(&self, process: &Process<P>)
    where
        P: Cpu,
    {
        if !self.is_due() {
            return;
        }
        let times = {
            let mut state = self.state.lock();
            let times = state.expire(P::monotonic());
            self.note(&state);
            times
        };
        if times > 0 {
            // A standard signal never finds the queue full.
            let _ = process.send(Info::new(Signal::ALRM, Info::SI_KERNEL, Origin::None));
        }
    }
}
