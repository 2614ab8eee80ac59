//! The processor's state of the current guest beyond its general registers.

use super::WindowsKernel;
use crate::carrier::{self, Handle};
use crate::nt;
use crate::trap;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid_count;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, user};
use litebox_shim_linux::processors::Processors;
use litebox_shim_linux::signal::sequence::Sequences;
use litebox_shim_linux::signal::{Activity, Barrier, Cpu, FPU_SOFTWARE_BYTES};
use litebox_shim_linux::usage::Usage;

/// Where the bytes that are software's are in an image, and the smallest image: legacy area and header.
const SOFTWARE: usize = 464;
const LEAST: usize = 576;
/// The legacy area's control words at the start: FCW and MXCSR. See Intel's manual, volume 1, 13.5 and 10.2.3.
const FCW: (usize, [u8; 2]) = (0, 0x37f_u16.to_le_bytes());
const MXCSR: (usize, [u8; 4]) = (24, 0x1f80_u32.to_le_bytes());

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(room) = image.get_mut(at..at + bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

/// An image of `bytes` in which every component is in its initial state.
fn initial(bytes: usize) -> Vec<u8> {
    let mut image = alloc::vec![0; bytes.max(LEAST)];
    put(&mut image, FCW.0, &FCW.1);
    put(&mut image, MXCSR.0, &MXCSR.1);
    image
}

impl Cpu for WindowsKernel {
    type Carrier = Handle;

    /// IRQL: `DISPATCH_LEVEL` or below.
    fn kick(carrier: &Handle) {
        carrier.kick();
    }

    fn fpu_bytes() -> usize {
        let [_eax, enabled, ..] = Self::cpuid(0xd, 0);
        usize::try_from(enabled).unwrap_or(LEAST).max(LEAST)
    }

    fn fpu_features() -> u64 {
        /// Protection keys, which guests have none of.
        const PKRU: u64 = 1 << 9;
        // SAFETY: Reads XCR0, which CPUID said is there.
        unsafe { xcr0() & !PKRU }
    }

    fn save_fpu(at: GuestAddr, software: &[u8; FPU_SOFTWARE_BYTES]) -> Result<()> {
        let mut image = carrier::with_vcpu(trap::Vcpu::fpu).ok_or(errno!(FAULT, "no guest"))?;
        put(&mut image, SOFTWARE, software);
        user::write_all::<Self>(at, image.get(..Self::fpu_bytes()).unwrap_or(&image))
    }

    fn load_fpu(at: GuestAddr) -> Result<()> {
        let mut image = initial(Self::fpu_bytes());
        let read = user::read_exact::<Self>(at, &mut image);
        // What software wrote there is not the processor's.
        put(&mut image, SOFTWARE, &[0; FPU_SOFTWARE_BYTES]);
        if read.is_ok() && carrier::with_vcpu(|vcpu| vcpu.set_fpu(&image)) == Some(true) {
            return Ok(());
        }
        Self::reset_fpu();
        Err(errno!(FAULT, "a state that no processor takes"))
    }

    fn read_fpu(image: &mut [u8]) {
        let state = carrier::with_vcpu(trap::Vcpu::fpu).unwrap_or_else(|| initial(Self::fpu_bytes()));
        for (to, from) in image.iter_mut().zip(state) {
            *to = from;
        }
    }

    fn write_fpu(image: &[u8]) {
        if carrier::with_vcpu(|vcpu| vcpu.set_fpu(image)) != Some(true) {
            Self::reset_fpu();
        }
    }

    fn reset_fpu() {
        carrier::with_vcpu(|vcpu| vcpu.set_fpu(&initial(Self::fpu_bytes())));
    }

    fn fs_base() -> u64 {
        carrier::with_vcpu(|vcpu| vcpu.bases()[0]).unwrap_or(0)
    }

    fn set_fs_base(base: u64) {
        carrier::with_vcpu(|vcpu| vcpu.bases()[0] = base);
    }

    fn gs_base() -> u64 {
        carrier::with_vcpu(|vcpu| vcpu.bases()[1]).unwrap_or(0)
    }

    fn set_gs_base(base: u64) {
        carrier::with_vcpu(|vcpu| vcpu.bases()[1] = base);
    }

    fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
        let answer = __cpuid_count(leaf, subleaf);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }

    /// The numbers in the area are those of the first processor, and no sequence is restarted: a gap, listed in docs/windows.md.
    fn watch_sequences(area: Option<Sequences>) {
        if let Some(area) = area {
            carrier::keep_sequences(area);
        }
    }

    fn barrier(_kind: Barrier) {
        trap::barrier();
    }

    fn processor() -> (u32, u32) {
        (0, 0)
    }

    fn processors() -> Processors {
        let mask = nt::thread::processors();
        Processors::of((0..usize::BITS).filter(|bit| mask >> bit & 1 == 1))
    }

    /// Carriers are not bound.
    fn affinity(_carrier: &Handle) -> Processors {
        Self::processors()
    }

    fn set_affinity(_carrier: &Handle, allowed: &Processors) -> bool {
        !allowed.intersection(&Self::processors()).is_empty()
    }

    /// Nobody says: a gap, listed in docs/windows.md.
    fn activity(_carrier: &Handle) -> Activity {
        Activity::Sleeping
    }

    /// Nothing is measured: a gap, listed in docs/windows.md.
    fn used(_carrier: &Handle) -> Usage {
        Usage::default()
    }
}

/// Which components of the extended state are on.
///
/// # Safety
/// The processor has XSAVE and the system has turned it on: as every Windows 10 does.
unsafe fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: Contract; reads a register.
    unsafe { core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}
