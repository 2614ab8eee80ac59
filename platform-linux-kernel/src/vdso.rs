// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The vDSO's frames, and the time in its data page, which the kernel's timekeeping brings up to date with every tick.
//!
//! Invariants: the page is written by `on_update` only, under timekeeping's lock, through the kernel's own mapping; guests see it
//! read-only. No callback comes after `Clockwork` is dropped, and no guest is left then: each holds the module.
//! The counter is the TSC or none: other clock sources that ring 3 could read (pvclock, Hyper-V) have pages of their own.
//! Sources: Linux kernel/time/timekeeping.c, kernel/time/vsyscall.c.

use crate::host::LinuxKernel;
use crate::mm::frame::{self, Frame};
use crate::sys;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;
use kernel::types::Opaque;
use litebox_shim_linux::vdso::Vdso;
use litebox_vdso::data::{Counter, Page, Rate, Stamp, Times};

/// The shared object, as kbuild/vdso.sh makes it.
static IMAGE: &[u8] = include_bytes!(env!("LITEBOX_VDSO"));

/// What guests are shown: null, or a reference of an `Arc` that `Clockwork` owns.
static SHOWN: AtomicPtr<Vdso<LinuxKernel>> = AtomicPtr::new(ptr::null_mut());

const NANOS_PER_SECOND: u64 = NANOS.unsigned_abs();
const NANOS: i64 = 1_000_000_000;
/// Nanoseconds between two ticks of the kernel.
pub(crate) const TICK_NANOS: u64 = NANOS_PER_SECOND / sys::CONFIG_HZ as u64;

/// The vDSO, if the module has started it.
pub(crate) fn shown() -> Option<Arc<Vdso<LinuxKernel>>> {
    let vdso = SHOWN.load(Ordering::Acquire);
    if vdso.is_null() {
        return None;
    }
    // SAFETY: Not null, so from `Arc::into_raw` in `start`; the reference there is given up only when no carrier is left to ask.
    unsafe { Arc::increment_strong_count(vdso) };
    // SAFETY: The reference that was just taken.
    Some(unsafe { Arc::from_raw(vdso) })
}

/// What timekeeping calls, and where it writes. The block comes first: `on_update` is given its address.
#[repr(C)]
struct Keeper {
    block: Opaque<sys::notifier_block>,
    page: Frame,
}

/// The running vDSO.
pub(crate) struct Clockwork {
    keeper: KBox<Keeper>,
}

// SAFETY: The block is the kernel's, which has a lock for it; a frame may be used by any thread.
unsafe impl Send for Clockwork {}
// SAFETY: As above.
unsafe impl Sync for Clockwork {}

impl Clockwork {
    /// Makes the frames and has the time written.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn start() -> Result<Self> {
        let page = Frame::zeroed().ok_or(ENOMEM)?;
        let mut image = Vec::new();
        image.try_reserve_exact(IMAGE.len().div_ceil(frame::SIZE)).map_err(|_| ENOMEM)?;
        for part in IMAGE.chunks(frame::SIZE) {
            let frame = Frame::zeroed().ok_or(ENOMEM)?;
            frame.write(0, part);
            image.push(frame);
        }
        let block = sys::notifier_block { notifier_call: Some(on_update), ..pin_init::zeroed() };
        let keeper = KBox::new(Keeper { block: Opaque::new(block), page: page.clone() }, GFP_KERNEL)?;
        // SAFETY: The block is initialised, in a box that is not moved, and unregistered before that is freed. The kernel calls it
        // back at once, so that the page has the time before a guest can see it.
        kernel::error::to_result(unsafe { sys::pvclock_gtod_register_notifier(keeper.block.get()) })?;
        let vdso = Arc::new(Vdso::new(alloc::vec![page], image));
        SHOWN.store(Arc::into_raw(vdso).cast_mut(), Ordering::Release);
        Ok(Self { keeper })
    }
}

impl Drop for Clockwork {
    fn drop(&mut self) {
        // SAFETY: Registered by `start`. Takes timekeeping's lock, so that no callback runs afterwards.
        unsafe { sys::pvclock_gtod_unregister_notifier(self.keeper.block.get()) };
        let vdso = SHOWN.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: Stored by `start` from `Arc::into_raw`, and taken out once. No carrier is left that might be in `shown`.
        drop(unsafe { Arc::from_raw(vdso) });
    }
}

/// Writes the time. In any context, interrupts off.
///
/// # Safety
/// Called by timekeeping, under its lock, with the block of a [`Keeper`] and the current `struct timekeeper`.
unsafe extern "C" fn on_update(block: *mut sys::notifier_block, _was_set: usize, timekeeper: *mut c_void) -> i32 {
    // SAFETY: Contract; the block is the keeper's first field.
    let keeper = unsafe { &*block.cast::<Keeper>() };
    // SAFETY: Contract: nobody else writes to it meanwhile.
    let timekeeper = unsafe { &*timekeeper.cast::<sys::timekeeper>() };
    // SAFETY: Timekeeping always has a clock source, and changes it under its lock.
    let mode = unsafe { (*timekeeper.tkr_mono.clock).vdso_clock_mode };
    let counter = if mode == sys::vdso_clock_mode_VDSO_CLOCKMODE_TSC { Counter::Tsc } else { Counter::None };
    // SAFETY: The frame is as large and aligned as a `Page`, was zeroed, which is one, and is kept by the keeper; others read it by
    // atomics, and guests by loads of their own.
    let page = unsafe { &*keeper.page.bytes().cast::<Page>() };
    page.write(&times(timekeeper, counter));
    0
}

/// What `timekeeper` says, as the page has it.
fn times(timekeeper: &sys::timekeeper, counter: Counter) -> Times {
    let (fine, raw) = (&timekeeper.tkr_mono, &timekeeper.tkr_raw);
    // Below three seconds, and shifted by at most 32: no overflow. The reader makes seconds of them.
    let later = |stamp: Stamp, seconds: i64, nanos: u64| Stamp {
        seconds: stamp.seconds.wrapping_add_signed(seconds),
        nanos: stamp.nanos.wrapping_add(nanos.wrapping_shl(fine.shift)),
    };
    let (to_monotonic, to_boot) = (timekeeper.wall_to_monotonic, timekeeper.offs_boot);
    // Normalised: 0 to 999,999,999.
    let nanos_to_monotonic = to_monotonic.tv_nsec.unsigned_abs() as u64;
    let real = Stamp { seconds: timekeeper.xtime_sec, nanos: fine.xtime_nsec };
    let monotonic = later(real, to_monotonic.tv_sec, nanos_to_monotonic);
    let coarse = u64::from(timekeeper.coarse_nsec);
    let coarse_monotonic = coarse.wrapping_add(nanos_to_monotonic);
    Times {
        counter,
        last: fine.cycle_last,
        rate: Rate { mult: fine.mult, shift: fine.shift },
        raw_rate: Rate { mult: raw.mult, shift: raw.shift },
        real,
        monotonic,
        boot: later(monotonic, to_boot / NANOS, (to_boot % NANOS).unsigned_abs()),
        tai: Stamp { seconds: real.seconds.wrapping_add_signed(timekeeper.tai_offset.into()), ..real },
        raw: Stamp { seconds: timekeeper.raw_sec, nanos: raw.xtime_nsec },
        real_coarse: Stamp { seconds: real.seconds, nanos: coarse },
        monotonic_coarse: Stamp {
            seconds: monotonic.seconds.wrapping_add(coarse_monotonic / NANOS_PER_SECOND),
            nanos: coarse_monotonic % NANOS_PER_SECOND,
        },
        tick: TICK_NANOS,
    }
}
