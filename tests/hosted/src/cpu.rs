//! The rest of a guest's processor state: one set for each thread of the test, which is a carrier.

use crate::{Hosted, Interrupter};
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, user};
use litebox_shim_linux::processors::Processors;
use litebox_shim_linux::signal::sequence::Sequences;
use litebox_shim_linux::signal::{Activity, Barrier, Cpu, FPU_SOFTWARE_BYTES};
use litebox_shim_linux::usage::Usage;
use std::cell::{Cell, RefCell};

/// An XSAVE image of x87 and SSE state only: the legacy area and the header.
const FPU_BYTES: usize = 576;
/// Offset of MXCSR in it, and of what is software's.
const MXCSR: usize = 24;
const SOFTWARE: usize = 464;
/// x87 and SSE.
const FEATURES: u64 = 3;

thread_local! {
    static FPU: RefCell<[u8; FPU_BYTES]> = const { RefCell::new(initial()) };
    static BASES: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
}

const fn initial() -> [u8; FPU_BYTES] {
    let mut image = [0; FPU_BYTES];
    // The control words after FNINIT and at reset. See Intel's manual, volume 1, 13.5.
    (image[0], image[1]) = (0x7f, 0x03);
    (image[MXCSR], image[MXCSR + 1]) = (0x80, 0x1f);
    image
}

impl Cpu for Hosted {
    type Carrier = Interrupter;

    fn kick(carrier: &Interrupter) {
        carrier.interrupt();
    }

    fn fpu_bytes() -> usize {
        FPU_BYTES
    }

    fn fpu_features() -> u64 {
        FEATURES
    }

    fn save_fpu(at: GuestAddr, software: &[u8; FPU_SOFTWARE_BYTES]) -> Result<()> {
        let mut image = FPU.with_borrow(Clone::clone);
        image[SOFTWARE..SOFTWARE + FPU_SOFTWARE_BYTES].copy_from_slice(software);
        user::write_all::<Self>(at, &image)
    }

    fn load_fpu(at: GuestAddr) -> Result<()> {
        Self::reset_fpu();
        let mut image = [0; FPU_BYTES];
        user::read_exact::<Self>(at, &mut image)?;
        // The upper half of MXCSR is reserved.
        if image[MXCSR + 2] != 0 || image[MXCSR + 3] != 0 {
            return Err(errno!(FAULT, "a state that no processor takes"));
        }
        FPU.set(image);
        Ok(())
    }

    fn read_fpu(image: &mut [u8]) {
        FPU.with_borrow(|state| image.copy_from_slice(state));
    }

    fn write_fpu(image: &[u8]) {
        FPU.set(image.try_into().unwrap_or(initial()));
    }

    fn reset_fpu() {
        FPU.set(initial());
    }

    fn fs_base() -> u64 {
        BASES.get()[0]
    }

    fn set_fs_base(base: u64) {
        BASES.set([base, Self::gs_base()]);
    }

    fn gs_base() -> u64 {
        BASES.get()[1]
    }

    fn set_gs_base(base: u64) {
        BASES.set([Self::fs_base(), base]);
    }

    /// No thread of a test has instructions that could be interrupted.
    fn watch_sequences(_area: Option<Sequences>) {}

    fn barrier(_kind: Barrier) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    fn processor() -> (u32, u32) {
        (0, 0)
    }

    fn processors() -> Processors {
        Processors::of([0, 1])
    }

    /// A test's threads are not bound.
    fn affinity(_carrier: &Interrupter) -> Processors {
        Self::processors()
    }

    fn set_affinity(_carrier: &Interrupter, allowed: &Processors) -> bool {
        !allowed.intersection(&Self::processors()).is_empty()
    }

    fn used(carrier: &Interrupter) -> Usage {
        let [user, system] = carrier.worked();
        Usage { user, system, ..Usage::default() }
    }

    fn activity(carrier: &Interrupter) -> Activity {
        if carrier.sleeps() { Activity::Sleeping } else { Activity::Running }
    }

    fn cpuid(leaf: u32, _subleaf: u32) -> [u32; 4] {
        match leaf {
            0 => [1, u32::from_le_bytes(*b"Host"), u32::from_le_bytes(*b"sted"), u32::from_le_bytes(*b"edHo")],
            // x87, TSC, CX8, CMOV, FXSR, SSE, SSE2: what every x86-64 processor has.
            1 => [0x0002_06a7, 0x0008_0800, 0, 0x0700_8111],
            _ => [0; 4],
        }
    }
}
