//! Lines in the kernel log, under the module's prefix, at a bounded rate.

use super::LinuxKernel;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use litebox_core::platform::{Clock, Log};

/// At most this many lines in one [`WINDOW`]; printk's own default is 10 in 5 s (include/linux/ratelimit_types.h).
const BURST: u64 = 10;
const WINDOW: Duration = Duration::from_secs(5);

/// The number of the current window, times [`BURST`], plus the lines written in it.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Whether one more line may be written now. A guest can cause lines, and must not be able to fill the log.
fn may_write() -> bool {
    let window = (LinuxKernel::monotonic().as_secs() / WINDOW.as_secs()).saturating_mul(BURST);
    WRITTEN
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |written| {
            let next = written.max(window).saturating_add(1);
            (next <= window.saturating_add(BURST)).then_some(next)
        })
        .is_ok()
}

impl Log for LinuxKernel {
    fn log(line: core::fmt::Arguments<'_>) {
        if may_write() {
            kernel::pr_info!("{line}\n");
        }
    }
}
