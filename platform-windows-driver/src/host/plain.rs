//! Clocks, random bytes and the debugger's log.

use super::WindowsKernel;
use super::alarm;
use crate::nt::{memory, time};
use alloc::ffi::CString;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use litebox_core::platform::{Clock, Entropy, Log, Platform};
use litebox_core::time::Timers;

impl Platform for WindowsKernel {}

impl Clock for WindowsKernel {
    type Alarm = ();

    /// IRQL: any.
    fn monotonic() -> Duration {
        time::monotonic()
    }

    /// IRQL: any.
    fn realtime() -> Duration {
        time::of_day()
    }

    /// IRQL: `PASSIVE_LEVEL`.
    fn call_at(at: Duration, timers: &Arc<Timers<Self>>) {
        alarm::call_at(at, timers);
    }
}

impl Entropy for WindowsKernel {
    /// IRQL: `PASSIVE_LEVEL`.
    fn fill_random(dst: &mut [u8]) {
        memory::random(dst);
    }
}

/// At most this many lines in one [`WINDOW`].
const BURST: u64 = 10;
const WINDOW: Duration = Duration::from_secs(5);
/// The number of the current window, times [`BURST`], plus the lines written in it.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Whether one more line may be written now. A guest can cause lines, and must not be able to fill the log.
fn may_write() -> bool {
    let window = (time::monotonic().as_secs() / WINDOW.as_secs()).saturating_mul(BURST);
    WRITTEN
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |written| {
            let next = written.max(window).saturating_add(1);
            (next <= window.saturating_add(BURST)).then_some(next)
        })
        .is_ok()
}

impl Log for WindowsKernel {
    /// IRQL: `PASSIVE_LEVEL`.
    fn log(line: core::fmt::Arguments<'_>) {
        if may_write() {
            // A line with a NUL in it is none of ours.
            if let Ok(line) = CString::new(alloc::format!("litebox: {line}\n")) {
                memory::print(&line);
            }
        }
    }
}
