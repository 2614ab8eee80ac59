//! The host's clocks.

use super::LinuxKernel;
use super::alarm::Alarm;
use crate::vdso;
use alloc::sync::Arc;
use core::time::Duration;
use kernel::bindings::{self, timespec64};
use litebox_core::platform::{Clock, OtherClock};
use litebox_core::time::Timers;

impl Clock for LinuxKernel {
    type Alarm = Alarm;

    const TICK: Duration = Duration::from_nanos(vdso::TICK_NANOS);

    fn monotonic() -> Duration {
        // SAFETY: callable in any context after boot.
        nanos(unsafe { bindings::ktime_get() })
    }

    fn realtime() -> Duration {
        read(bindings::ktime_get_real_ts64)
    }

    fn call_at(at: Duration, timers: &Arc<Timers<Self>>) {
        timers.alarm().set(at, timers);
    }

    fn other(clock: OtherClock) -> Duration {
        match clock {
            OtherClock::Boot => offset(bindings::tk_offsets_TK_OFFS_BOOT),
            OtherClock::Tai => offset(bindings::tk_offsets_TK_OFFS_TAI),
            OtherClock::Raw => read(bindings::ktime_get_raw_ts64),
            OtherClock::RealCoarse => read(bindings::ktime_get_coarse_real_ts64),
            OtherClock::MonotonicCoarse => read(bindings::ktime_get_coarse_ts64),
        }
    }
}

/// A time in the kernel's nanoseconds.
fn nanos(time: bindings::ktime_t) -> Duration {
    Duration::from_nanos(time.unsigned_abs())
}

/// The monotonic clock moved by one of the kernel's offsets.
fn offset(by: bindings::tk_offsets) -> Duration {
    // SAFETY: callable in any context after boot; `by` is one of the offsets.
    nanos(unsafe { bindings::ktime_get_with_offset(by) })
}

/// What one of the kernel's functions that read a clock says.
#[inline(always)]
fn read(clock: unsafe extern "C" fn(*mut timespec64)) -> Duration {
    let mut now = timespec64::default();
    // SAFETY: callable in any context after boot; `now` is valid for writes.
    unsafe { clock(&raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
