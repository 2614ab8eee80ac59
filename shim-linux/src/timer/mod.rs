//! Timers that send signals: setitimer(2), `timer_create(2)`.
//!
//! Invariants: `next` is the earliest expiry of all, or [`NEVER`]; it is written under `state`'s lock only. A timer rings when the
//! sandbox's timers call, or when a task of its process looks on its way back to ring 3, whichever is first. Locks: `state`, then
//! what processor time is asked of (a process's tasks, its state), or the queue of the sandbox's timers; a signal is sent after all
//! are let go.

mod processor;

pub(crate) use processor::look_at;

use crate::clock::ProcessorClock;
use crate::signal::{Cpu, Info, Origin, Signal};
use crate::task::Process;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::event::timerfd::WhichClock;
use litebox_core::quota::Charge;
use litebox_core::sync::Mutex;
use litebox_core::time::{Expire, Setting, Ticket};
use processor::Interval;

/// A [`Timers::next`] that does not come.
const NEVER: u64 = u64::MAX;
/// Timers that a process may have.
const MAX: usize = 4096;
/// How soon after one ring the host calls for the next: a short interval keeps it from doing nothing else.
const GAP: Duration = Duration::from_micros(500);
/// What one is charged.
const COST: u64 = 256;

/// Whom an expiry is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notify {
    /// Nobody.
    None,
    /// The process, or one of its threads, by this signal with this value.
    Signal { signal: Signal, value: u64, thread: Option<u32> },
}

/// What a timer goes by: its setting is in the time of that clock, and in that of the monotonic one for what passes.
#[derive(Debug)]
pub(crate) enum Base<P: Cpu> {
    /// Time that passes.
    Passing(WhichClock),
    /// Processor time.
    Processor(ProcessorClock<P>),
}

impl<P: Cpu> Clone for Base<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Passing(clock) => Self::Passing(*clock),
            Self::Processor(clock) => Self::Processor(clock.clone()),
        }
    }
}

impl<P: Cpu> Base<P> {
    /// The time that settings are in; nothing if whose it was has ended.
    pub(crate) fn now(&self) -> Option<Duration> {
        match self {
            Self::Passing(_) => Some(P::monotonic()),
            Self::Processor(clock) => clock.now(),
        }
    }
}

/// The timers of setitimer(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// `ITIMER_REAL`.
    Real,
    /// `ITIMER_VIRTUAL`.
    User,
    /// `ITIMER_PROF`.
    All,
}

/// A timer of `timer_create(2)`.
struct Timer<P: Cpu> {
    base: Base<P>,
    notify: Notify,
    setting: Setting,
    /// Expiries while the last signal still waited.
    missed: u64,
    /// What the last signal said of those.
    overrun: u64,
    _charge: Charge,
}

struct State<P: Cpu> {
    /// `ITIMER_REAL`.
    real: Setting,
    interval: Interval,
    timers: BTreeMap<u32, Timer<P>>,
    last_id: u32,
    ticket: Option<Ticket>,
}

impl<P: Cpu> State<P> {
    /// When one has to look again.
    fn next(&self, process: &Process<P>) -> Option<Duration> {
        let now = P::monotonic();
        let next = self.timers.values().filter_map(|timer| {
            let at = timer.setting.at?;
            match &timer.base {
                Base::Passing(_) => Some(at),
                Base::Processor(clock) => Some(look_at::<P>(now, at, clock.now()?, pace(process))),
            }
        });
        next.chain(self.real.at).chain(self.next_of_process(process, now)).min()
    }

    /// The same for what goes by the time that the process has used.
    fn next_of_process(&self, process: &Process<P>, now: Duration) -> Option<Duration> {
        let [soft, hard] = processor::limits(process);
        let all = [self.interval.all.at, soft, hard].into_iter().flatten().min();
        let user = self.interval.user.at;
        if all.is_none() && user.is_none() {
            return None;
        }
        let usage = process.used();
        let look = |at, shown| look_at::<P>(now, at, shown, pace(process));
        let all = all.map(|at| look(at, usage.time()));
        all.into_iter().chain(user.map(|at| look(at, usage.user))).min()
    }
}

impl<P: Cpu> State<P> {
    fn interval_timer(&self, process: &Process<P>, which: Which) -> (Duration, Duration) {
        let (setting, shown) = match which {
            Which::Real => return (self.real.left(P::monotonic()), self.real.every),
            Which::User => (self.interval.user, process.used().user),
            Which::All => (self.interval.all, process.used().time()),
        };
        (Interval::left::<P>(setting, shown), setting.every)
    }
}

/// How many of a process's threads may run at a time.
fn pace<P: Cpu>(process: &Process<P>) -> u32 {
    let processors = process.sandbox().machine().processors.count();
    u32::try_from(process.task_count()).unwrap_or(u32::MAX).min(processors)
}

/// The timers of a process.
pub(crate) struct Timers<P: Cpu> {
    /// Nanoseconds of the monotonic clock.
    next: AtomicU64,
    state: Mutex<P, State<P>>,
}

impl<P: Cpu> fmt::Debug for Timers<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<P: Cpu> Timers<P> {
    /// None is set.
    pub(crate) fn new() -> Self {
        let (real, interval) = (Setting::default(), Interval::default());
        let state = State { real, interval, timers: BTreeMap::new(), last_id: 0, ticket: None };
        Self { next: AtomicU64::new(NEVER), state: Mutex::<P, _>::new(state) }
    }

    /// Whether one has expired. Cheap: asked after every call.
    pub(crate) fn is_due(&self) -> bool {
        let next = self.next.load(Ordering::Acquire);
        next != NEVER && P::monotonic() >= Duration::from_nanos(next)
    }
}

impl<P: Cpu> Timers<P> {
    /// Changes `process`'s timers and has the host call for the first to expire.
    fn change<T>(&self, process: &Arc<Process<P>>, change: impl FnOnce(&mut State<P>) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.note(process, &mut state, Duration::ZERO);
        result
    }

    /// Notes the next expiry; the host is not to call for it before `least`.
    fn note(&self, process: &Arc<Process<P>>, state: &mut State<P>, least: Duration) {
        let timers = process.sandbox().shared().timers();
        if let Some(ticket) = state.ticket.take() {
            timers.cancel(ticket);
        }
        let next = state.next(process);
        self.next.store(next.map_or(NEVER, |at| u64::try_from(at.as_nanos()).unwrap_or(NEVER)), Ordering::Release);
        if let Some(at) = next {
            let process: Weak<dyn Expire> = Arc::downgrade(process) as Weak<dyn Expire>;
            // One that finds no room rings when a task looks.
            state.ticket = timers.set(at.max(least), process).ok();
        }
    }

    /// Looks anew when to look again: the limit of `process`'s processor time has changed.
    pub(crate) fn limit_changed(&self, process: &Arc<Process<P>>) {
        self.change(process, |_| ());
    }

    /// A timer of setitimer(2): what is left of it, and its interval.
    pub(crate) fn interval(&self, process: &Process<P>, which: Which) -> (Duration, Duration) {
        let state = self.state.lock();
        state.interval_timer(process, which)
    }

    /// Has it expire after `left`, unless that is zero, and then after each `every`; gives what it was.
    pub(crate) fn set_interval(
        &self,
        process: &Arc<Process<P>>,
        which: Which,
        (left, every): (Duration, Duration),
    ) -> (Duration, Duration) {
        self.change(process, |state| {
            let before = state.interval_timer(process, which);
            let is_set = !left.is_zero();
            let at = |now: Duration, slack| is_set.then(|| now.saturating_add(left).saturating_add(slack));
            // What is used is known to a tick: not before, rather later.
            match which {
                Which::Real => state.real = Setting { at: at(P::monotonic(), Duration::ZERO), every },
                Which::User => state.interval.user = Setting { at: at(process.used().user, P::TICK), every },
                Which::All => state.interval.all = Setting { at: at(process.used().time(), P::TICK), every },
            }
            before
        })
    }

    /// Makes a timer that is off; its id. Without `notify` it sends `SIGALRM` with its id.
    ///
    /// # Errors
    /// `AGAIN`: too many. `NOMEM`.
    pub(crate) fn create(&self, process: &Process<P>, base: Base<P>, notify: Option<Notify>) -> Result<u32> {
        let charge = process.sandbox().quota().charge(COST)?;
        let mut state = self.state.lock();
        if state.timers.len() >= MAX {
            return Err(errno!(AGAIN, "too many timers"));
        }
        let mut id = state.last_id;
        while state.timers.contains_key(&id) {
            id = id.wrapping_add(1) & 0x7fff_ffff;
        }
        state.last_id = id.wrapping_add(1) & 0x7fff_ffff;
        let default = Notify::Signal { signal: Signal::ALRM, value: u64::from(id), thread: None };
        let (notify, setting) = (notify.unwrap_or(default), Setting::default());
        state.timers.insert(id, Timer { base, notify, setting, missed: 0, overrun: 0, _charge: charge });
        Ok(id)
    }

    /// The clock and the setting of timer `id`.
    ///
    /// # Errors
    /// `INVAL`: there is none.
    pub(crate) fn get(&self, id: u32) -> Result<(Base<P>, Setting)> {
        let state = self.state.lock();
        state.timers.get(&id).map(|timer| (timer.base.clone(), timer.setting)).ok_or(errno!(INVAL, "no such timer"))
    }

    /// Sets timer `id`; gives what it was.
    ///
    /// # Errors
    /// `INVAL`: there is none.
    pub(crate) fn set(&self, process: &Arc<Process<P>>, id: u32, new: Setting) -> Result<Setting> {
        self.change(process, |state| {
            let timer = state.timers.get_mut(&id).ok_or(errno!(INVAL, "no such timer"))?;
            (timer.missed, timer.overrun) = (0, 0);
            Ok(core::mem::replace(&mut timer.setting, new))
        })
    }

    /// How many expiries the last signal of timer `id` stood for, beside its own.
    ///
    /// # Errors
    /// `INVAL`: there is none.
    pub(crate) fn overrun(&self, id: u32) -> Result<u64> {
        self.state.lock().timers.get(&id).map(|timer| timer.overrun).ok_or(errno!(INVAL, "no such timer"))
    }

    /// Ends timer `id`.
    ///
    /// # Errors
    /// `INVAL`: there is none.
    pub(crate) fn delete(&self, process: &Arc<Process<P>>, id: u32) -> Result<()> {
        self.change(process, |state| state.timers.remove(&id).map(drop)).ok_or(errno!(INVAL, "no such timer"))
    }

    /// Ends all timers of `timer_create(2)`, as execve(2) does.
    pub(crate) fn delete_all(&self, process: &Arc<Process<P>>) {
        let gone = self.change(process, |state| core::mem::take(&mut state.timers));
        drop(gone);
    }

    /// Sends `process` the signals of what has expired.
    pub(crate) fn ring(&self, process: &Process<P>) {
        if !self.is_due() {
            return;
        }
        let Some(me) = process.sandbox().process(process.pid()) else { return };
        let (now, waiting) = (P::monotonic(), process.pending());
        let mut signals: Vec<(Info, Option<u32>)> = Vec::new();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            if state.real.expire(now) > 0 {
                signals.push((Info::new(Signal::ALRM, Info::SI_KERNEL, Origin::None), None));
            }
            if state.next_of_process(process, now).is_some() {
                processor::expire(process, &mut state.interval, &process.used(), |info| signals.push((info, None)));
            }
            for (id, timer) in &mut state.timers {
                let shown = match &timer.base {
                    Base::Passing(_) => Some(now),
                    Base::Processor(clock) => clock.now(),
                };
                let times = shown.map_or(0, |shown| timer.setting.expire(shown));
                if times == 0 {
                    continue;
                }
                timer.missed = timer.missed.saturating_add(times);
                let Notify::Signal { signal, value, thread } = timer.notify else { continue };
                // One signal of a timer waits at a time; what is missed meanwhile is counted.
                if waiting.contains(signal) {
                    continue;
                }
                timer.overrun = core::mem::take(&mut timer.missed).saturating_sub(1);
                let overrun = u32::try_from(timer.overrun).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs());
                // The same places in `siginfo_t`: the timer's id and its overrun.
                let origin = Origin::Process { pid: i32::try_from(*id).unwrap_or_default(), uid: overrun, value };
                signals.push((Info::new(signal, Info::SI_TIMER, origin), thread));
            }
            self.note(&me, state, now.saturating_add(GAP));
        }
        for (info, thread) in signals {
            // A signal that finds the queue full is lost, as in Linux.
            let _ = match thread {
                None => process.send(info),
                Some(tid) => process.task(tid).map_or(Ok(()), |task| process.send_to(&task, info)),
            };
        }
    }
}

impl<P: Cpu> Expire for Process<P> {
    fn expire(&self) {
        self.timers().ring(self);
    }
}
