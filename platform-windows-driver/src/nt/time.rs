//! Windows's clocks: the performance counter, and the time of day.

use super::raw::{KeQueryPerformanceCounter, MmGetSystemRoutineAddress};
use super::string::unicode;
use core::sync::atomic::{AtomicI64, AtomicPtr, Ordering};
use core::time::Duration;

/// Units of Windows's times in a second: each is 100 ns.
const UNITS: u64 = 10_000_000;
/// From 1601, where Windows's time of day begins, to 1970, in those units.
const EPOCH: u64 = 11_644_473_600 * UNITS;
/// `KUSER_SHARED_DATA.SystemTime`, which `KeQuerySystemTime` of wdm.h reads on x64.
const SYSTEM_TIME: usize = 0xFFFF_F780_0000_0014;

/// How long a wait of `time` is in a kernel function's terms: negative, in units of 100 ns, never early.
pub(super) fn relative(time: Duration) -> i64 {
    let units = time.as_secs().saturating_mul(UNITS).saturating_add(u64::from(time.subsec_nanos().div_ceil(100)));
    i64::try_from(units).unwrap_or(i64::MAX).saturating_neg()
}

/// Since the start of Windows. IRQL: any.
pub(crate) fn monotonic() -> Duration {
    /// Constant from the start of Windows (Microsoft's reference).
    static FREQUENCY: AtomicI64 = AtomicI64::new(0);
    let mut frequency = FREQUENCY.load(Ordering::Relaxed);
    let count = if frequency == 0 {
        // SAFETY: The frequency is written to our word.
        let count = unsafe { KeQueryPerformanceCounter(&raw mut frequency) };
        FREQUENCY.store(frequency, Ordering::Relaxed);
        count
    } else {
        // SAFETY: Null asks for no frequency.
        unsafe { KeQueryPerformanceCounter(core::ptr::null_mut()) }
    };
    let (count, frequency) = (count.unsigned_abs(), frequency.unsigned_abs().max(1));
    let rest = count % frequency;
    // In 64 bits: the rest is below the frequency, which is 10 MHz, or a processor's.
    let nanos = rest.saturating_mul(1_000_000_000) / frequency;
    Duration::new(count / frequency, u32::try_from(nanos).unwrap_or(999_999_999))
}

/// Since 1970-01-01 UTC, as exactly as this Windows can say. IRQL: any.
pub(crate) fn of_day() -> Duration {
    let units = match PRECISE.load(Ordering::Relaxed) {
        function if function.is_null() => {
            // SAFETY: A page that every x64 Windows shows to kernel code, whose layout is fixed; aligned to 4, hence the read.
            unsafe { core::ptr::without_provenance::<i64>(SYSTEM_TIME).read_unaligned() }
        }
        function => {
            // SAFETY: `find_functions` found a function of this prototype under its name.
            let function = unsafe { core::mem::transmute::<*mut (), Precise>(function) };
            let mut time = 0;
            // SAFETY: The time is written to our word.
            unsafe { function(&raw mut time) };
            time
        }
    };
    let since = units.unsigned_abs().saturating_sub(EPOCH);
    // Below 10^9, so it fits.
    let nanos = u32::try_from(since % UNITS).unwrap_or(0).saturating_mul(100);
    Duration::new(since / UNITS, nanos)
}

/// `KeQuerySystemTimePrecise`, of Windows 8 and later.
type Precise = unsafe extern "system" fn(time: *mut i64);
/// It, where there is one: Wine lacks it, and an import that is not there keeps a driver from loading.
static PRECISE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Finds what not every host has; at load. IRQL: `PASSIVE_LEVEL`.
pub(crate) fn find_functions() {
    let name = unicode!("KeQuerySystemTimePrecise");
    // SAFETY: A counted string, which lives through the call.
    let function = unsafe { MmGetSystemRoutineAddress(&raw const name) };
    PRECISE.store(function.cast(), Ordering::Relaxed);
}
