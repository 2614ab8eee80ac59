//! `clock_gettime(2)`, gettimeofday(2), time(2), nanosleep(2), `clock_nanosleep(2)`.

use super::{put, take};
use crate::args::{Flags, Int, Ptr};
use crate::clock::{ProcessorClock, Use};
use crate::signal::Cpu;
use crate::task::Task;
use crate::timer::look_at;
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
enum Source<C> {
    Real,
    Monotonic,
    Other(OtherClock),
    /// Processor time.
    Processor(C),
}

fn source<P: Cpu>(task: &Task<P>, clock: Int, to: Use) -> Result<Source<ProcessorClock<P>>> {
    match ProcessorClock::named(task, clock.0, to) {
        Some(clock) => clock.map(Source::Processor),
        None => passing(clock),
    }
}

/// A clock of time that passes.
fn passing<C>(clock: Int) -> Result<Source<C>> {
    match u32::try_from(clock.0) {
        Ok(raw::CLOCK_REALTIME | raw::CLOCK_REALTIME_ALARM) => Ok(Source::Real),
        Ok(raw::CLOCK_MONOTONIC) => Ok(Source::Monotonic),
        Ok(raw::CLOCK_BOOTTIME | raw::CLOCK_BOOTTIME_ALARM) => Ok(Source::Other(OtherClock::Boot)),
        Ok(raw::CLOCK_MONOTONIC_RAW) => Ok(Source::Other(OtherClock::Raw)),
        Ok(raw::CLOCK_TAI) => Ok(Source::Other(OtherClock::Tai)),
        Ok(raw::CLOCK_REALTIME_COARSE) => Ok(Source::Other(OtherClock::RealCoarse)),
        Ok(raw::CLOCK_MONOTONIC_COARSE) => Ok(Source::Other(OtherClock::MonotonicCoarse)),
        _ => Err(errno!(INVAL, "no such clock")),
    }
}

impl<P: Cpu> Source<ProcessorClock<P>> {
    fn now(&self) -> Result<Duration> {
        Ok(match self {
            Self::Real => P::realtime(),
            Self::Monotonic => P::monotonic(),
            Self::Other(clock) => P::other(*clock),
            Self::Processor(clock) => clock.now().ok_or(errno!(INVAL, "whose clock it was has ended"))?,
        })
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
    write::<P>(tp.0, source(task, clock, Use::Read)?.now()?)
}

pub(crate) fn clock_getres<P: Cpu>(task: &mut Task<P>, clock: Int, res: Ptr) -> Result<()> {
    let resolution = match source(task, clock, Use::Other)? {
        Source::Other(OtherClock::RealCoarse | OtherClock::MonotonicCoarse) => P::TICK,
        Source::Processor(clock) => clock.resolution(),
        Source::Real | Source::Monotonic | Source::Other(_) => Duration::from_nanos(1),
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

/// Sleeps until `clock` shows `time`; for a `rem`, until `time` more, and tells what is left when interrupted.
fn sleep_by<P: Cpu>(task: &mut Task<P>, clock: &ProcessorClock<P>, time: Duration, rem: Option<Ptr>) -> Result<()> {
    let now = || clock.now().ok_or(errno!(SRCH, "whose clock it was has ended"));
    let until = match (task.resume_deadline.take(), rem) {
        (Some(until), _) => until,
        (None, Some(_)) => now()?.saturating_add(time),
        (None, None) => time,
    };
    let pace = task.sandbox().machine().processors.count();
    loop {
        let shown = now()?;
        if shown >= until {
            return Ok(());
        }
        let look_again = look_at::<P>(P::monotonic(), until, shown, pace);
        if let Err(error) = WaitQueue::<P>::new().wait_until(Some(look_again), || None::<()>) {
            task.resume_deadline = Some(until);
            if let Some(rem) = rem.filter(|rem| rem.0 != GuestAddr::default()) {
                write::<P>(rem.0, until.saturating_sub(now()?))?;
            }
            return Err(error);
        }
    }
}

pub(crate) fn nanosleep<P: Cpu>(task: &mut Task<P>, req: Ptr, rem: Ptr) -> Result<()> {
    let time = read::<P>(req.0)?;
    sleep_for(task, time, rem)
}

pub(crate) fn clock_nanosleep<P: Cpu>(task: &mut Task<P>, clock: Int, flags: Flags, req: Ptr, rem: Ptr) -> Result<()> {
    let source = source(task, clock, Use::Other)?;
    if matches!(&source, Source::Processor(clock) if clock.is_of_thread(task.shared())) {
        return Err(errno!(INVAL, "a thread does not wait for its own time"));
    }
    let time = read::<P>(req.0)?;
    let is_absolute = flags.0 & raw::TIMER_ABSTIME != 0;
    if let Source::Processor(clock) = &source {
        return sleep_by(task, clock, time, if is_absolute { None } else { Some(rem) });
    }
    if !is_absolute {
        return sleep_for(task, time, rem);
    }
    let until = P::monotonic().saturating_add(time.saturating_sub(source.now()?));
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
        assert!(passing::<()>(Int(-1)).is_err() && passing::<()>(Int(12)).is_err());
        assert_eq!(passing::<()>(Int(7)).unwrap(), Source::Other(OtherClock::Boot));
    }
}
