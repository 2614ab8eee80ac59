//! setitimer(2), getitimer(2), alarm(2), `timer_create(2)`.

use super::event::{put_setting, setting, take_times};
use super::{put, take};
use crate::args::{Count, Flags, Int, Ptr};
use crate::clock::{ProcessorClock, Use};
use crate::signal::{Cpu, Signal};
use crate::task::Task;
use crate::timer::{Base, Notify, Which};
use alloc::sync::Arc;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::event::timerfd::WhichClock;
use litebox_core::mm::GuestAddr;
use litebox_core::time::Setting;

/// `struct itimerval`: seconds and microseconds of the interval, then of the time left.
type Wire = [i64; 4];

const _: () = assert!(size_of::<Wire>() == size_of::<raw::itimerval>());

fn decode(seconds: i64, micros: i64) -> Result<Duration> {
    let seconds = u64::try_from(seconds).ok();
    let micros = u32::try_from(micros).ok().filter(|micros| *micros < 1_000_000);
    match (seconds, micros) {
        (Some(seconds), Some(micros)) => Ok(Duration::new(seconds, micros.saturating_mul(1000))),
        _ => Err(errno!(INVAL, "no time")),
    }
}

/// Seconds and microseconds, rounded up: what has not expired is not shown as 0.
fn encode(time: Duration) -> [i64; 2] {
    let time = time.saturating_add(Duration::from_nanos(999));
    [i64::try_from(time.as_secs()).unwrap_or(i64::MAX), i64::from(time.subsec_micros())]
}

fn which(which: Int) -> Result<Which> {
    match u32::try_from(which.0) {
        Ok(raw::ITIMER_REAL) => Ok(Which::Real),
        Ok(raw::ITIMER_VIRTUAL) => Ok(Which::User),
        Ok(raw::ITIMER_PROF) => Ok(Which::All),
        _ => Err(errno!(INVAL, "no such timer")),
    }
}

/// Stores what is left of a timer, and its interval.
fn write<P: Cpu>(addr: GuestAddr, (left, every): (Duration, Duration)) -> Result<()> {
    let ([every, every_micros], [left, left_micros]) = (encode(every), encode(left));
    put::<P, 32>(addr, &[every, every_micros, left, left_micros])
}

pub(crate) fn getitimer<P: Cpu>(task: &mut Task<P>, timer: Int, value: Ptr) -> Result<()> {
    let process = task.process();
    write::<P>(value.0, process.timers().interval(process, which(timer)?))
}

pub(crate) fn setitimer<P: Cpu>(task: &mut Task<P>, timer: Int, new: Ptr, old: Ptr) -> Result<()> {
    // Linux takes a null pointer for a timer that is off.
    let new = if new.0 == GuestAddr::default() { [0; 4] } else { take::<P, Wire, 32>(new.0)? };
    let [every, every_micros, value, value_micros] = new;
    let (value, every) = (decode(value, value_micros)?, decode(every, every_micros)?);
    let before = task.process().timers().set_interval(task.process(), which(timer)?, (value, every));
    if old.0 == GuestAddr::default() { Ok(()) } else { write::<P>(old.0, before) }
}

pub(crate) fn alarm<P: Cpu>(task: &mut Task<P>, seconds: Count) -> Result<u64> {
    let new = (Duration::from_secs(u64::from(seconds.0)), Duration::ZERO);
    let (left, _) = task.process().timers().set_interval(task.process(), Which::Real, new);
    // To the nearest second, but an alarm that is set is not 0.
    let whole = left.saturating_add(Duration::from_millis(500)).as_secs();
    Ok(if left.is_zero() { 0 } else { whole.max(1) })
}

/// `struct sigevent`: a value, a signal, how to tell, and a thread.
const SIGEVENT: usize = size_of::<raw::sigevent>();
const _: () = assert!(SIGEVENT == 64);

/// Whom a timer tells.
fn notify<P: Cpu>(task: &Task<P>, addr: GuestAddr) -> Result<Notify> {
    let [value, kind, thread, ..] = take::<P, [u64; 8], SIGEVENT>(addr)?;
    let [a, b, c, d, how @ ..] = kind.to_le_bytes();
    let (signal, how) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(how));
    if how == raw::SIGEV_NONE {
        return Ok(Notify::None);
    }
    let thread = match how {
        raw::SIGEV_SIGNAL | raw::SIGEV_THREAD => None,
        raw::SIGEV_THREAD_ID => {
            let tid = u32::try_from(thread & u64::from(u32::MAX)).unwrap_or_default();
            task.process().task(tid).ok_or(errno!(INVAL, "no thread of the process"))?;
            Some(tid)
        }
        _ => return Err(errno!(INVAL, "unknown way to tell")),
    };
    let signal = Signal::new(u64::from(signal)).ok_or(errno!(INVAL, "no such signal"))?;
    Ok(Notify::Signal { signal, value, thread })
}

/// A clock of time that passes, as far as timers go by it.
fn passing(clock: Int) -> Result<WhichClock> {
    match u32::try_from(clock.0) {
        Ok(raw::CLOCK_REALTIME | raw::CLOCK_TAI) => Ok(WhichClock::Real),
        Ok(raw::CLOCK_MONOTONIC | raw::CLOCK_BOOTTIME) => Ok(WhichClock::Monotonic),
        Ok(raw::CLOCK_REALTIME_ALARM | raw::CLOCK_BOOTTIME_ALARM) => Err(errno!(PERM, "nothing here wakes the machine")),
        _ => Err(errno!(INVAL, "no such clock")),
    }
}

pub(crate) fn timer_create<P: Cpu>(task: &mut Task<P>, clock: Int, event: Ptr, id: Ptr) -> Result<()> {
    let base = match ProcessorClock::named(task, clock.0, Use::Other) {
        Some(clock) => Base::Processor(clock?),
        None => Base::Passing(passing(clock)?),
    };
    let notify = if event.0 == GuestAddr::default() { None } else { Some(notify(task, event.0)?) };
    let process = Arc::clone(task.process());
    let new = process.timers().create(&process, base, notify)?;
    put::<P, 4>(id.0, &new).inspect_err(|_| {
        // It is there, and nobody knows its id.
        let _ = process.timers().delete(&process, new);
    })
}

/// A timer's id; no negative one is any.
fn id(id: Int) -> u32 {
    u32::try_from(id.0).unwrap_or(u32::MAX)
}

pub(crate) fn timer_settime<P: Cpu>(task: &mut Task<P>, timer: Int, flags: Flags, new: Ptr, old: Ptr) -> Result<()> {
    let process = task.process();
    if new.0 == GuestAddr::default() {
        return Err(errno!(INVAL, "no setting"));
    }
    // A bad setting comes before a bad timer.
    let (first, every) = take_times::<P>(new.0)?;
    let is_absolute = flags.0 & raw::TIMER_ABSTIME != 0;
    let (base, _) = process.timers().get(id(timer))?;
    let now = base.now().ok_or(errno!(SRCH, "whose clock it was has ended"))?;
    let new = match base {
        Base::Passing(clock) => setting::<P>((first, every), is_absolute, clock),
        Base::Processor(_) => {
            let at = if is_absolute { first } else { now.saturating_add(first) };
            Setting { at: (!first.is_zero()).then_some(at), every }
        }
    };
    let before = process.timers().set(process, id(timer), new)?;
    if old.0 == GuestAddr::default() { Ok(()) } else { put_setting::<P>(old.0, before, now) }
}

pub(crate) fn timer_gettime<P: Cpu>(task: &mut Task<P>, timer: Int, left: Ptr) -> Result<()> {
    let (base, setting) = task.process().timers().get(id(timer))?;
    // Whose clock has ended uses no more.
    put_setting::<P>(left.0, setting, base.now().unwrap_or_default())
}

pub(crate) fn timer_getoverrun<P: Cpu>(task: &mut Task<P>, timer: Int) -> Result<u64> {
    Ok(task.process().timers().overrun(id(timer))?.min(u64::from(i32::MAX.unsigned_abs())))
}

pub(crate) fn timer_delete<P: Cpu>(task: &mut Task<P>, timer: Int) -> Result<()> {
    task.process().timers().delete(task.process(), id(timer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_and_checked() {
        assert_eq!(encode(Duration::from_nanos(1)), [0, 1]);
        assert_eq!(encode(Duration::from_nanos(999_999_001)), [1, 0]);
        assert_eq!(decode(1, 999_999).unwrap(), Duration::from_micros(1_999_999));
        assert!(decode(-1, 0).is_err() && decode(0, 1_000_000).is_err() && decode(0, -1).is_err());
    }
}
