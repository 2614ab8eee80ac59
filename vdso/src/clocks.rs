//! Times out of the page: `clock_gettime(2)`, `clock_getres(2)`.
//!
//! Invariant: what is read never lies before the page's last write, even on a processor whose counter is a few steps behind.
//! Sources: Linux `lib/vdso/gettimeofday.c`, `arch/x86/include/asm/vdso/gettimeofday.h`.

use crate::data::{Counter, Page, SharedRate, SharedStamp, Stamp};
use core::sync::atomic::Ordering;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Nanoseconds that a precise clock resolves.
const PRECISE: u64 = 1;

/// Numbers of clocks, as uapi/linux/time.h has them.
mod number {
    pub(super) const REALTIME: i32 = 0;
    pub(super) const MONOTONIC: i32 = 1;
    pub(super) const MONOTONIC_RAW: i32 = 4;
    pub(super) const REALTIME_COARSE: i32 = 5;
    pub(super) const MONOTONIC_COARSE: i32 = 6;
    pub(super) const BOOTTIME: i32 = 7;
    pub(super) const TAI: i32 = 11;
}

/// The time of the clock with this number, whole nanoseconds; `None` if only a system call can tell.
///
/// `counter` reads the time stamp counter in program order.
#[inline]
pub fn time(page: &Page, clock: i32, counter: impl Fn() -> u64) -> Option<Stamp> {
    match clock {
        number::REALTIME => precise(page, &page.real, &page.rate, counter),
        number::MONOTONIC => precise(page, &page.monotonic, &page.rate, counter),
        number::BOOTTIME => precise(page, &page.boot, &page.rate, counter),
        number::TAI => precise(page, &page.tai, &page.rate, counter),
        number::MONOTONIC_RAW => precise(page, &page.raw, &page.raw_rate, counter),
        number::REALTIME_COARSE => Some(page.read(|page| page.real_coarse.load())),
        number::MONOTONIC_COARSE => Some(page.read(|page| page.monotonic_coarse.load())),
        _ => None,
    }
}

/// The resolution of the clock with this number, nanoseconds; `None` if only a system call can tell.
#[inline]
pub fn resolution(page: &Page, clock: i32) -> Option<u64> {
    match clock {
        number::REALTIME | number::MONOTONIC | number::BOOTTIME | number::TAI | number::MONOTONIC_RAW => Some(PRECISE),
        number::REALTIME_COARSE | number::MONOTONIC_COARSE => Some(page.tick.load(Ordering::Relaxed)),
        _ => None,
    }
}

#[inline(always)]
fn precise(page: &Page, stamp: &SharedStamp, rate: &SharedRate, counter: impl Fn() -> u64) -> Option<Stamp> {
    page.read(|page| {
        if page.counter() == Counter::None {
            return None;
        }
        let steps = steps(page.last.load(Ordering::Relaxed), counter());
        let (rate, stamp) = (rate.load(), stamp.load());
        // Below 2^63 * 2^32 + 2^64: no overflow. A time that long after the last write does not come.
        let shifted = u128::from(steps) * u128::from(rate.mult) + u128::from(stamp.nanos);
        #[expect(clippy::cast_possible_truncation, reason = "nanoseconds since the last write")]
        let nanos = shifted.wrapping_shr(rate.shift) as u64;
        Some(Stamp { seconds: stamp.seconds.wrapping_add(nanos / NANOS_PER_SECOND), nanos: nanos % NANOS_PER_SECOND })
    })
}

/// Steps of the counter from `last` to `now`; none if `now` is of a processor that is behind.
#[inline(always)]
fn steps(last: u64, now: u64) -> u64 {
    let steps = now.wrapping_sub(last);
    if steps > i64::MAX as u64 { 0 } else { steps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Rate, Times};

    /// A counter of 2 GHz, half a nanosecond a step.
    const HALF: Rate = Rate { mult: 1 << 23, shift: 24 };

    fn page(times: Times) -> Page {
        let page = Page::default();
        page.write(&times);
        page
    }

    fn shifted(seconds: u64, nanos: u64) -> Stamp {
        Stamp { seconds, nanos: nanos << HALF.shift }
    }

    fn times() -> Times {
        Times {
            counter: Counter::Tsc,
            last: 1000,
            rate: HALF,
            raw_rate: Rate { mult: 1 << 24, shift: 24 },
            real: shifted(100, 999_999_990),
            monotonic: shifted(10, 5),
            boot: shifted(20, 6),
            tai: shifted(137, 7),
            raw: shifted(9, 8),
            real_coarse: Stamp { seconds: 100, nanos: 900 },
            monotonic_coarse: Stamp { seconds: 10, nanos: 4 },
            tick: 4_000_000,
        }
    }

    fn at(clock: i32, counter: u64) -> Option<(u64, u64)> {
        time(&page(times()), clock, || counter).map(|time| (time.seconds, time.nanos))
    }

    #[test]
    fn steps_become_nanoseconds_and_seconds() {
        assert_eq!(at(1, 1000), Some((10, 5)));
        assert_eq!(at(1, 1100), Some((10, 55)));
        assert_eq!(at(0, 1100), Some((101, 40)));
        assert_eq!(at(1, 1000 + 2 * 1_000_000_000 * 7 + 3), Some((17, 6)));
        assert_eq!(at(7, 1100), Some((20, 56)));
        assert_eq!(at(11, 1100), Some((137, 57)));
        assert_eq!(at(4, 1100), Some((9, 108)));
    }

    #[test]
    fn fractions_are_kept() {
        let page = page(Times { monotonic: Stamp { seconds: 1, nanos: (5 << 24) + (1 << 23) }, ..times() });
        let nanos = |counter| time(&page, 1, || counter).map(|time| time.nanos);
        assert_eq!((nanos(1000), nanos(1001), nanos(1002)), (Some(5), Some(6), Some(6)));
    }

    #[test]
    fn a_counter_that_is_behind_gives_the_last_write() {
        assert_eq!(at(1, 999), Some((10, 5)));
        assert_eq!(at(1, 0), Some((10, 5)));
    }

    #[test]
    fn a_long_pause_does_not_overflow() {
        let hours = 1000 * 3600;
        assert_eq!(at(1, 1000 + 2 * 1_000_000_000 * hours), Some((10 + hours, 5)));
    }

    #[test]
    fn coarse_clocks_need_no_counter() {
        let page = page(Times { counter: Counter::None, ..times() });
        let none = || -> u64 { panic!("the counter is not to be read") };
        assert_eq!(time(&page, 5, none), Some(Stamp { seconds: 100, nanos: 900 }));
        assert_eq!(time(&page, 6, none), Some(Stamp { seconds: 10, nanos: 4 }));
        for clock in [0, 1, 4, 7, 11] {
            assert_eq!(time(&page, clock, none), None);
        }
    }

    #[test]
    fn other_clocks_take_a_system_call() {
        for clock in [2, 3, 8, 9, 10, 12, 16, -1, -6, i32::MIN, i32::MAX] {
            assert_eq!(at(clock, 1100), None);
            assert_eq!(resolution(&page(times()), clock), None);
        }
        assert_eq!(resolution(&page(times()), 1), Some(1));
        assert_eq!(resolution(&page(times()), 6), Some(4_000_000));
    }
}
