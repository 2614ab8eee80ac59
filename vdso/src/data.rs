//! The page of the host's time: its layout, one writer's way in and the readers' way out.
//!
//! Invariants: the sequence number is odd while the page is written and differs after each write; a reader that saw it even and
//! the same before and after has seen one write's values. One writer at a time: the host's clocks have a lock of their own.
//! Readers are in ring 3 and see the page read-only, so that nothing here is hostile to the writer. Sources: Linux
//! `include/vdso/datapage.h`, `kernel/time/vsyscall.c`, for what has to be known of a clock.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Bytes of the page, which lies right before the image.
pub const PAGE_BYTES: usize = 4096;

/// What counts the time between two writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counter {
    /// Nothing that ring 3 can read: precise clocks take a system call.
    #[default]
    None,
    /// The processors' time stamp counter.
    Tsc,
}

/// A counter's step in nanoseconds: `mult` over two to the power of `shift`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// The factor.
    pub mult: u32,
    /// The divisor's logarithm.
    pub shift: u32,
}

/// A time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Whole seconds.
    pub seconds: u64,
    /// Nanoseconds beyond them; in precise clocks times two to the power of their rate's `shift`.
    pub nanos: u64,
}

/// What the host knows of its clocks at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// What to count with.
    pub counter: Counter,
    /// The counter's value at that moment.
    pub last: u64,
    /// Its rate, disciplined by NTP.
    pub rate: Rate,
    /// Its rate as it came.
    pub raw_rate: Rate,
    /// `CLOCK_REALTIME`.
    pub real: Stamp,
    /// `CLOCK_MONOTONIC`.
    pub monotonic: Stamp,
    /// `CLOCK_BOOTTIME`.
    pub boot: Stamp,
    /// `CLOCK_TAI`.
    pub tai: Stamp,
    /// `CLOCK_MONOTONIC_RAW`, which goes by `raw_rate`.
    pub raw: Stamp,
    /// `CLOCK_REALTIME_COARSE`.
    pub real_coarse: Stamp,
    /// `CLOCK_MONOTONIC_COARSE`.
    pub monotonic_coarse: Stamp,
    /// Nanoseconds between two ticks: the resolution of coarse clocks.
    pub tick: u64,
}

/// A [`Stamp`] in the page.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct SharedStamp {
    seconds: AtomicU64,
    nanos: AtomicU64,
}

impl SharedStamp {
    pub(crate) fn load(&self) -> Stamp {
        Stamp { seconds: self.seconds.load(Ordering::Relaxed), nanos: self.nanos.load(Ordering::Relaxed) }
    }

    fn store(&self, stamp: Stamp) {
        self.seconds.store(stamp.seconds, Ordering::Relaxed);
        self.nanos.store(stamp.nanos, Ordering::Relaxed);
    }
}

/// A [`Rate`] in the page.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct SharedRate {
    mult: AtomicU32,
    shift: AtomicU32,
}

impl SharedRate {
    pub(crate) fn load(&self) -> Rate {
        Rate { mult: self.mult.load(Ordering::Relaxed), shift: self.shift.load(Ordering::Relaxed) }
    }

    fn store(&self, rate: Rate) {
        self.mult.store(rate.mult, Ordering::Relaxed);
        self.shift.store(rate.shift, Ordering::Relaxed);
    }
}

/// The page. All zeros is a page of clocks that stand at 0 and have no counter.
#[repr(C, align(4096))]
#[derive(Debug, Default)]
pub struct Page {
    sequence: AtomicU32,
    has_tsc: AtomicU32,
    pub(crate) last: AtomicU64,
    pub(crate) rate: SharedRate,
    pub(crate) raw_rate: SharedRate,
    pub(crate) real: SharedStamp,
    pub(crate) monotonic: SharedStamp,
    pub(crate) boot: SharedStamp,
    pub(crate) tai: SharedStamp,
    pub(crate) raw: SharedStamp,
    pub(crate) real_coarse: SharedStamp,
    pub(crate) monotonic_coarse: SharedStamp,
    pub(crate) tick: AtomicU64,
}

const _: () = assert!(size_of::<Page>() == PAGE_BYTES);

impl Page {
    /// Makes `times` what readers see. Callers take turns; a reader waits while this runs, so let nothing interrupt it for long.
    #[inline]
    pub fn write(&self, times: &Times) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // No store below is seen before the odd number.
        fence(Ordering::Release);
        self.has_tsc.store(u32::from(times.counter == Counter::Tsc), Ordering::Relaxed);
        self.last.store(times.last, Ordering::Relaxed);
        self.rate.store(times.rate);
        self.raw_rate.store(times.raw_rate);
        self.real.store(times.real);
        self.monotonic.store(times.monotonic);
        self.boot.store(times.boot);
        self.tai.store(times.tai);
        self.raw.store(times.raw);
        self.real_coarse.store(times.real_coarse);
        self.monotonic_coarse.store(times.monotonic_coarse);
        self.tick.store(times.tick, Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// What `look` sees of one write; it may be called several times.
    #[inline]
    pub(crate) fn read<T>(&self, look: impl Fn(&Self) -> T) -> T {
        loop {
            let sequence = self.sequence.load(Ordering::Acquire);
            if sequence % 2 == 0 {
                let seen = look(self);
                // No load of `look` happens behind this.
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == sequence {
                    return seen;
                }
            }
            core::hint::spin_loop();
        }
    }

    /// What to count with.
    pub(crate) fn counter(&self) -> Counter {
        if self.has_tsc.load(Ordering::Relaxed) == 0 { Counter::None } else { Counter::Tsc }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn a_reader_sees_one_write() {
        let page = Page::default();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..100_000 {
                    let stamp = Stamp { seconds: i, nanos: i };
                    page.write(&Times { last: i, real: stamp, monotonic_coarse: stamp, ..Times::default() });
                }
                done.store(true, Ordering::Release);
            });
            let mut before = 0;
            while !done.load(Ordering::Acquire) {
                let (first, second, third) =
                    page.read(|page| (page.last.load(Ordering::Relaxed), page.real.load(), page.monotonic_coarse.load()));
                assert!(first == second.seconds && second == third && third.nanos == first);
                assert!(first >= before);
                before = first;
            }
        });
        assert_eq!(page.read(|page| page.last.load(Ordering::Relaxed)), 99_999);
    }

    #[test]
    fn zeros_have_no_counter() {
        assert_eq!(Page::default().counter(), Counter::None);
        let page = Page::default();
        page.write(&Times { counter: Counter::Tsc, ..Times::default() });
        assert_eq!(page.counter(), Counter::Tsc);
    }
}
