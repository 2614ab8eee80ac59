//! The processor's state of the current guest beyond its entry frame.

use super::LinuxKernel;
use crate::bases::{self, UserBase};
use crate::carrier::Handle;
use crate::{fpu, vdso};
use alloc::sync::Arc;
use core::arch::x86_64::__cpuid_count;
use litebox_shim_linux::signal::Cpu;
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

    fn read_fpu(dst: &mut [u8]) {
        fpu::read(dst);
    }

    fn write_fpu(src: Option<&[u8]>) -> bool {
        match src {
            Some(src) => fpu::write(src),
            None => {
                fpu::reset();
                true
            }
        }
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
