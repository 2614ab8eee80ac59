//! The host's clocks.

use super::LinuxKernel;
use core::time::Duration;
use kernel::bindings;
use litebox_core::platform::Clock;

impl Clock for LinuxKernel {
    fn monotonic() -> Duration {
        // SAFETY: callable in any context after boot.
        let now = unsafe { bindings::ktime_get() };
        Duration::from_nanos(now.unsigned_abs())
    }

    fn realtime() -> Duration {
        let mut now = bindings::timespec64::default();
        // SAFETY: `now` is valid for writes.
        unsafe { bindings::ktime_get_real_ts64(&raw mut now) };
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}
