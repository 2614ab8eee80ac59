//! setitimer(2), getitimer(2), alarm(2).

use super::{put, take};
use crate::args::{Count, Int, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
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

fn check(which: Int) -> Result<()> {
    match u32::try_from(which.0) {
        Ok(raw::ITIMER_REAL) => Ok(()),
        _ => Err(errno!(INVAL, "no timer of processor time")),
    }
}

fn write<P: Cpu>(addr: GuestAddr, setting: Setting) -> Result<()> {
    let ([every, every_micros], [left, left_micros]) = (encode(setting.every), encode(setting.left(P::monotonic())));
    put::<P, 32>(addr, &[every, every_micros, left, left_micros])
}

pub(crate) fn getitimer<P: Cpu>(task: &mut Task<P>, which: Int, value: Ptr) -> Result<()> {
    check(which)?;
    write::<P>(value.0, task.process().timers().real())
}

/// A timer that expires after `time`, or never if that is zero.
fn after<P: Cpu>(time: Duration, every: Duration) -> Setting {
    Setting { at: (!time.is_zero()).then(|| P::monotonic().saturating_add(time)), every }
}

pub(crate) fn setitimer<P: Cpu>(task: &mut Task<P>, which: Int, new: Ptr, old: Ptr) -> Result<()> {
    // Linux takes a null pointer for a timer that is off.
    let new = if new.0 == GuestAddr::default() { [0; 4] } else { take::<P, Wire, 32>(new.0)? };
    let [every, every_micros, value, value_micros] = new;
    let (value, every) = (decode(value, value_micros)?, decode(every, every_micros)?);
    check(which)?;
    let before = task.process().timers().set_real(after::<P>(value, every));
    if old.0 == GuestAddr::default() { Ok(()) } else { write::<P>(old.0, before) }
}

pub(crate) fn alarm<P: Cpu>(task: &mut Task<P>, seconds: Count) -> Result<u64> {
    let new = after::<P>(Duration::from_secs(u64::from(seconds.0)), Duration::ZERO);
    let left = task.process().timers().set_real(new).left(P::monotonic());
    // To the nearest second, but an alarm that is set is not 0.
    let whole = left.saturating_add(Duration::from_millis(500)).as_secs();
    Ok(if left.is_zero() { 0 } else { whole.max(1) })
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
