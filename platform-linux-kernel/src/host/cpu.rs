//! The processor's state of the current guest beyond its entry frame.

use super::LinuxKernel;
use crate::bases::{self, UserBase};
use crate::carrier::{self, Handle};
use crate::{fpu, sys, vdso};
use alloc::sync::Arc;
use core::arch::x86_64::__cpuid_count;
use core::ptr;
use core::time::Duration;
use litebox_core::error::Result;
use litebox_core::mm::GuestAddr;
use litebox_shim_linux::processors::Processors;
use litebox_shim_linux::signal::sequence::Sequences;
use litebox_shim_linux::signal::{Activity, Barrier, Cpu, FPU_SOFTWARE_BYTES};
use litebox_shim_linux::usage::Usage;
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

    fn read_fpu(image: &mut [u8]) {
        fpu::read(image);
    }

    fn write_fpu(image: &[u8]) {
        fpu::write(image);
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

    /// The host's own, but for hardware guests: a carrier is scheduled like any thread, and its memory is the guest's. The host trusts no word of an area.
    fn watch_sequences(area: Option<Sequences>) {
        if let Some(current) = carrier::current().filter(|current| current.is_hardware()) {
            current.watch_sequences(area);
            return;
        }
        let (at, len, signature) = area.map_or((0, 0, 0), |area| (area.area.get(), area.len, area.signature));
        // SAFETY: The current task, outside of its way to ring 3; the area ends below the guest's end, and may be bad otherwise.
        unsafe { sys::litebox_set_rseq(ptr::without_provenance_mut(at as usize), len, signature) };
    }

    fn barrier(kind: Barrier) {
        match kind {
            // SAFETY: Task context that may sleep.
            Barrier::All => unsafe { sys::synchronize_rcu() },
            // SAFETY: Task context with interrupts on, of a task that has memory.
            Barrier::Memory => unsafe { sys::litebox_barrier() },
            // SAFETY: As above.
            Barrier::Instructions => unsafe { sys::litebox_barrier_core() },
            // SAFETY: As above.
            Barrier::Sequences => unsafe { sys::litebox_barrier_rseq() },
        }
    }

    fn processor() -> (u32, u32) {
        let mut node = 0;
        // SAFETY: Reads this processor's number and its node, into our word.
        (unsafe { sys::litebox_processor(&raw mut node) }, node)
    }

    fn processors() -> Processors {
        // SAFETY: The current task is alive.
        unsafe { affinity_of(carrier::task()) }
    }

    fn affinity(carrier: &Handle) -> Processors {
        // SAFETY: A handle's task is alive for as long as the handle is.
        unsafe { affinity_of(carrier.task()) }
    }

    fn set_affinity(carrier: &Handle, allowed: &Processors) -> bool {
        // SAFETY: As above; the mask has `MOST` bits. May sleep, as the caller allows.
        unsafe { sys::litebox_set_affinity(carrier.task(), allowed.words().as_ptr(), Processors::MOST) }
    }

    fn used(carrier: &Handle) -> Usage {
        let mut used = sys::litebox_usage::default();
        // SAFETY: As above, or null; written to our structure.
        unsafe { sys::litebox_usage(carrier.task(), &raw mut used) };
        Usage {
            user: Duration::from_nanos(used.user),
            system: Duration::from_nanos(used.system),
            minor_faults: used.minor_faults,
            major_faults: used.major_faults,
            voluntary: used.voluntary,
            involuntary: used.involuntary,
        }
    }

    fn activity(carrier: &Handle) -> Activity {
        // SAFETY: As above.
        match unsafe { sys::litebox_activity(carrier.task()) } {
            b'R' => Activity::Running,
            b'S' => Activity::Sleeping,
            _ => Activity::Blocked,
        }
    }

    fn vdso() -> Option<Arc<Vdso<Self>>> {
        vdso::shown()
    }
}

/// Where `task` may run, of the processors that are online.
///
/// # Safety
/// `task` is alive.
unsafe fn affinity_of(task: *mut sys::task_struct) -> Processors {
    let mut words = *Processors::default().words();
    // SAFETY: Contract; the mask has `MOST` bits.
    unsafe { sys::litebox_affinity(task, words.as_mut_ptr(), Processors::MOST) };
    Processors::from_words(words)
}
