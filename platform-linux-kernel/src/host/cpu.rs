//! The processor's state of the current guest beyond its entry frame.

use super::LinuxKernel;
use crate::bases::{self, UserBase};
use crate::carrier::Handle;
use crate::{fpu, vdso};
use alloc::sync::Arc;
use core::arch::x86_64::__cpuid_count;
use litebox_core::error::Result;
use litebox_core::mm::GuestAddr;
use litebox_shim_linux::signal::{Cpu, FPU_SOFTWARE_BYTES};
use litebox_shim_linux::vdso::Vdso;

impl Cpu for LinuxKernel {
    type Carrier = Handle;

    fn kick(carrier: &Handle) {
        carrier.kick();
    }

    fn fpu_bytes() -> usize {
        fpu::standard_bytes()
    }

    fn fpu_features() -> u64 {
        fpu::features()
    }

    fn save_fpu(at: GuestAddr, software: &[u8; FPU_SOFTWARE_BYTES]) -> Result<()> {
        fpu::save(at, software)
    }

    fn load_fpu(at: GuestAddr) -> Result<()> {
        fpu::load(at)
    }

    fn reset_fpu() {
        fpu::reset();
    }

    fn fs_base() -> u64 {
        bases::fs()
    }

    fn set_fs_base(base: u64) {
        if let Some(base) = UserBase::new(base) {
            bases::set_fs(base);
        }
    }

    fn gs_base() -> u64 {
        bases::gs()
    }

    fn set_gs_base(base: u64) {
        if let Some(base) = UserBase::new(base) {
            bases::set_gs(base);
        }
    }

    fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
        // SAFETY: Every x86-64 processor has the instruction; it answers any leaf with some numbers.
        let answer = unsafe { __cpuid_count(leaf, subleaf) };
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }

    fn vdso() -> Option<Arc<Vdso<Self>>> {
        vdso::shown()
    }
}
