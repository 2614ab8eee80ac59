//! Timers of processor time: `ITIMER_VIRTUAL`, `ITIMER_PROF`, timers of `timer_create(2)` on such clocks, `RLIMIT_CPU`.
//!
//! No host calls when somebody has used so much time. So it is asked to call when they could have at the earliest, which is again and
//! again while they do something else: as often as a tick at most, the resolution that Linux has for these timers.
//! Source: setitimer(2), getrlimit(2); Linux kernel/time/posix-cpu-timers.c, `check_process_timers`; kernel/time/itimer.c.

use crate::signal::{Cpu, Info, Origin, Signal};
use crate::task::Process;
use crate::usage::Usage;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::platform::Clock;
use litebox_core::time::Setting;

/// When one has to look again at a timer that is set to `at` of a clock that shows `shown`, and advances by at most `pace` times
/// what passes.
pub(crate) fn look_at<P: Clock>(now: Duration, at: Duration, shown: Duration, pace: u32) -> Duration {
    let left = at.saturating_sub(shown);
    let least = left.checked_div(pace.max(1)).unwrap_or(left);
    now.saturating_add(if left.is_zero() { left } else { least.max(P::TICK) })
}

/// The two timers of processor time that every process has; their settings are in the time that it has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interval {
    /// `ITIMER_VIRTUAL`: time in ring 3.
    pub(super) user: Setting,
    /// `ITIMER_PROF`: all time.
    pub(super) all: Setting,
}

impl Interval {
    /// What is left of one at `shown`, as getitimer(2) tells it: a tick if it is just about to expire.
    pub(super) fn left<P: Clock>(setting: Setting, shown: Duration) -> Duration {
        setting.at.map_or(Duration::ZERO, |at| if at <= shown { P::TICK } else { at.saturating_sub(shown) })
    }
}

/// When a process's limit of processor time is to act next: soft and hard, if there are any.
pub(super) fn limits<P: Cpu>(process: &Process<P>) -> [Option<Duration>; 2] {
    let limit = process.with(|state| state.limit(raw::RLIMIT_CPU));
    let at = |seconds: u64| (seconds != u64::MAX).then(|| Duration::from_secs(seconds));
    limit.map_or([None; 2], |limit| [limit.soft, limit.hard].map(at))
}

/// A signal that the kernel sends.
fn by_kernel(signal: Signal) -> Info {
    Info::new(signal, Info::SI_KERNEL, Origin::None)
}

/// Gives `send` the signals of what has expired of a process that has used `usage`.
pub(super) fn expire<P: Cpu>(process: &Process<P>, interval: &mut Interval, usage: &Usage, mut send: impl FnMut(Info)) {
    if interval.all.expire(usage.time()) > 0 {
        send(by_kernel(Signal::PROF));
    }
    if interval.user.expire(usage.user) > 0 {
        send(by_kernel(Signal::VTALRM));
    }
    match limits(process) {
        [Some(_), Some(hard)] if usage.time() >= hard => send(by_kernel(Signal::KILL)),
        [Some(soft), _] if usage.time() >= soft => {
            // It is told again after each further second.
            process.with(|state| {
                let limit = usize::try_from(raw::RLIMIT_CPU).ok().and_then(|which| state.limits.get_mut(which));
                if let Some(limit) = limit {
                    limit.soft = limit.soft.saturating_add(1);
                }
            });
            send(by_kernel(Signal::XCPU));
        }
        _ => {}
    }
}
