//! `clock_gettime(2)`, gettimeofday(2), time(2), nanosleep(2), `clock_nanosleep(2)`.

use super::{put, take};
use crate::args::{Flags, Int, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::mm::GuestAddr;
use litebox_core::platform::OtherClock;
use litebox_core::sync::WaitQueue;

/// `struct timespec`.
type Wire = [i64; 2];

const _: () = assert!(size_of::<Wire>() == size_of::<raw::__kernel_timespec>());

/// Which clock a program means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Real,
    Monotonic,
    Other(OtherClock),
    /// Processor time, for which the time that has passed stands.
    Processor,
}

fn source(clock: Int) -> Result<Source> {
    match u32::try_from(clock.0) {
        Ok(raw::CLOCK_REALTIME | raw::CLOCK_REALTIME_ALARM) => Ok(Source::Real),
        Ok(raw::CLOCK_MONOTONIC) => Ok(Source::Monotonic),
        Ok(raw::CLOCK_BOOTTIME | raw::CLOCK_BOOTTIME_ALARM) => Ok(Source::Other(OtherClock::Boot)),
        Ok(raw::CLOCK_MONOTONIC_RAW) => Ok(Source::Other(OtherClock::Raw)),
        Ok(raw::CLOCK_TAI) => Ok(Source::Other(OtherClock::Tai)),
        Ok(raw::CLOCK_REALTIME_COARSE) => Ok(Source::Other(OtherClock::RealCoarse)),
        Ok(raw::CLOCK_MONOTONIC_COARSE) => Ok(Source::Other(OtherClock::MonotonicCoarse)),
        Ok(raw::CLOCK_PROCESS_CPUTIME_ID | raw::CLOCK_THREAD_CPUTIME_ID) => Ok(Source::Processor),
        // A negative one is of one process or thread; the low bits say which clock of it. See clock_getcpuclockid(3).
        Err(_) if clock.0 & 3 != 3 => Ok(Source::Processor),
        _ => Err(errno!(INVAL, "no such clock")),
    }
}

impl Source {
    fn now<P: Cpu>(self, task: &Task<P>) -> Duration {
        match self {
            Self::Real => P::realtime(),
            Self::Monotonic => P::monotonic(),
            Self::Other(clock) => P::other(clock),
            Self::Processor => task.sandbox().uptime(),
        }
    }
}

pub(super) fn write<P: Cpu>(addr: GuestAddr, time: Duration) -> Result<()> {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    put::<P, 16>(addr, &[seconds, i64::from(time.subsec_nanos())])
}

/// A time that a program gives.
pub(super) fn read<P: Cpu>(addr: GuestAddr) -> Result<Duration> {
    decode(take::<P, Wire, 16>(addr)?)
}

pub(super) fn decode([seconds, nanos]: Wire) -> Result<Duration> {
    let seconds = u64::try_from(seconds).ok();
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        // Nanoseconds are below a second, so that `new` carries nothing over.
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(errno!(INVAL, "no time")),
    }
}

pub(crate) fn clock_gettime<P: Cpu>(task: &mut Task<P>, clock: Int, tp: Ptr) -> Result<()> {
    write::<P>(tp.0, source(clock)?.now(task))
}

pub(crate) fn clock_getres<P: Cpu>(_task: &mut Task<P>, clock: Int, res: Ptr) -> Result<()> {
    let resolution = match source(clock)? {
        Source::Other(OtherClock::RealCoarse | OtherClock::MonotonicCoarse) => P::TICK,
        Source::Real | Source::Monotonic | Source::Other(_) | Source::Processor => Duration::from_nanos(1),
    };
    if res.0.get() == 0 { Ok(()) } else { write::<P>(res.0, resolution) }
}

pub(crate) fn gettimeofday<P: Cpu>(_task: &mut Task<P>, tv: Ptr, tz: Ptr) -> Result<()> {
    if tv.0.get() != 0 {
        let now = P::realtime();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        put::<P, 16>(tv.0, &[seconds, i64::from(now.subsec_micros())])?;
    }
    if tz.0.get() == 0 { Ok(()) } else { put::<P, 8>(tz.0, &[0u32; 2]) }
}

pub(crate) fn time<P: Cpu>(_task: &mut Task<P>, t: Ptr) -> Result<u64> {
    let seconds = P::other(OtherClock::RealCoarse).as_secs();
    if t.0.get() != 0 {
        put::<P, 8>(t.0, &seconds)?;
    }
    Ok(seconds)
}

/// Sleeps until `until` of the monotonic clock; tells what is left when interrupted.
fn sleep<P: Cpu>(task: &mut Task<P>, until: Duration, rem: Option<GuestAddr>) -> Result<()> {
    match WaitQueue::<P>::new().wait_until(Some(until), || None::<()>) {
        Ok(_) => Ok(()),
        Err(Error::Interrupted) => {
            task.resume_deadline = Some(until);
            if let Some(rem) = rem {
                write::<P>(rem, until.saturating_sub(P::monotonic()))?;
            }
            Err(Error::Interrupted)
        }
        Err(error) => Err(error),
    }
}

fn sleep_for<P: Cpu>(task: &mut Task<P>, time: Duration, rem: Ptr) -> Result<()> {
    let rem = (rem.0.get() != 0).then_some(rem.0);
    // Made again after an interruption without a handler: the first time's end holds.
    let until = task.resume_deadline.take().unwrap_or_else(|| P::monotonic().saturating_add(time));
    sleep(task, until, rem)
}

pub(crate) fn nanosleep<P: Cpu>(task: &mut Task<P>, req: Ptr, rem: Ptr) -> Result<()> {
    let time = read::<P>(req.0)?;
    sleep_for(task, time, rem)
}

pub(crate) fn clock_nanosleep<P: Cpu>(task: &mut Task<P>, clock: Int, flags: Flags, req: Ptr, rem: Ptr) -> Result<()> {
    let source = source(clock)?;
    if u32::try_from(clock.0) == Ok(raw::CLOCK_THREAD_CPUTIME_ID) {
        return Err(errno!(INVAL, "a thread does not wait for its own time"));
    }
    let time = read::<P>(req.0)?;
    if flags.0 & raw::TIMER_ABSTIME == 0 {
        return sleep_for(task, time, rem);
    }
    let until = P::monotonic().saturating_add(time.saturating_sub(source.now(task)));
    sleep(task, until, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_are_times() {
        assert_eq!(decode([1, 999_999_999]).unwrap(), Duration::new(1, 999_999_999));
        for bad in [[-1, 0], [0, -1], [0, 1_000_000_000], [i64::MIN, i64::MAX]] {
            assert!(decode(bad).is_err());
        }
        assert!(decode([i64::MAX, 0]).is_ok());
        assert!(source(Int(-1)).is_err() && source(Int(12)).is_err());
        assert_eq!((source(Int(2)).unwrap(), source(Int(-6)).unwrap()), (Source::Processor, Source::Processor));
        assert_eq!(source(Int(7)).unwrap(), Source::Other(OtherClock::Boot));
    }
}
