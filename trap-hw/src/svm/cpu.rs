//! Turning SVM on and off, one processor at a time.
//!
//! EFER.SVME is the lock: whoever finds it set leaves the processor alone, for somebody else runs virtual machines there.
//! Sources: APM vol. 2, 15.4, 15.30; vol. 3, appendix E.4.9 (CPUID leaf `8000_000A`).

use core::arch::asm;

const MSR_EFER: u32 = 0xc000_0080;
const MSR_VM_CR: u32 = 0xc001_0114;
const MSR_HOST_SAVE: u32 = 0xc001_0117;
const EFER_SVME: u64 = 1 << 12;
/// SVM cannot be turned on.
const VM_CR_DISABLED: u64 = 1 << 4;
/// CPUID leaves.
const LEAF_MOST: u32 = 0x8000_0000;
const LEAF_FEATURES: u32 = 0x8000_0001;
const LEAF_SVM: u32 = 0x8000_000a;
/// ECX of the features' leaf.
const HAS_SVM: u32 = 1 << 2;
/// EDX of SVM's leaf.
const HAS_FLUSH_BY_TAG: u32 = 1 << 6;

/// Why a processor cannot have guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has no SVM, or a hypervisor hides it.
    Absent,
    /// Firmware has turned it off.
    Locked,
    /// Somebody else uses it.
    Busy,
}

/// What a processor can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Tags of translations, the host's among them.
    pub tags: u32,
    /// Whether one tag's translations can be flushed.
    pub flush_by_tag: bool,
}

/// What this processor can do.
///
/// # Errors
/// [`Refused::Absent`].
pub fn capabilities() -> Result<Capabilities, Refused> {
    if leaf(LEAF_MOST)[0] < LEAF_SVM || leaf(LEAF_FEATURES)[2] & HAS_SVM == 0 {
        return Err(Refused::Absent);
    }
    let [_, tags, _, features] = leaf(LEAF_SVM);
    // Tag 0 is the host's.
    if tags < 2 { Err(Refused::Absent) } else { Ok(Capabilities { tags, flush_by_tag: features & HAS_FLUSH_BY_TAG != 0 }) }
}

/// EAX to EDX of a CPUID leaf. (The compiler's own function is unsafe or not, by its version.)
fn leaf(number: u32) -> [u32; 4] {
    let (eax, ebx, ecx, edx): (u32, u64, u32, u32);
    // SAFETY: Every x86-64 processor has the instruction; it answers any leaf with some numbers. rbx is the compiler's, and kept.
    unsafe {
        asm!(
            "mov {ebx}, rbx", "cpuid", "xchg {ebx}, rbx",
            ebx = out(reg) ebx, inout("eax") number => eax, inout("ecx") 0 => ecx, out("edx") edx, options(nostack, nomem, preserves_flags)
        );
    }
    let [ebx, _] = crate::xstate::halves(ebx);
    [eax, ebx, ecx, edx]
}

/// Turns SVM on, on this processor, whose host state VMRUN keeps in the page at `host_save`.
///
/// # Errors
/// [`Refused`].
///
/// # Safety
/// 1. Ring 0, and the caller stays on this processor. 2. `host_save` is the physical address of a page that nobody uses until [`disable`].
pub unsafe fn enable(host_save: u64) -> Result<Capabilities, Refused> {
    let capabilities = capabilities()?;
    // SAFETY: Ring 0 by contract; a processor with SVM has the register.
    if unsafe { read(MSR_VM_CR) } & VM_CR_DISABLED != 0 {
        return Err(Refused::Locked);
    }
    // SAFETY: Ring 0 by contract; every x86-64 processor has the register.
    let efer = unsafe { read(MSR_EFER) };
    if efer & EFER_SVME != 0 {
        return Err(Refused::Busy);
    }
    // SAFETY: As above; SVM is there and not disabled, so the bit may be set.
    unsafe { write(MSR_EFER, efer | EFER_SVME) };
    // SAFETY: As above; the page is ours by contract.
    unsafe { write(MSR_HOST_SAVE, host_save) };
    Ok(capabilities)
}

/// Tells the processor again where the host's state is: it forgets in a sleep state, while SVME is put back by the host.
///
/// # Safety
/// As [`enable`], which has succeeded with this page.
pub unsafe fn resume(host_save: u64) {
    // SAFETY: Contract.
    let efer = unsafe { read(MSR_EFER) };
    // SAFETY: Contract.
    unsafe { write(MSR_EFER, efer | EFER_SVME) };
    // SAFETY: Contract.
    unsafe { write(MSR_HOST_SAVE, host_save) };
}

/// Turns SVM off again.
///
/// # Safety
/// [`enable`] has succeeded on this processor, where no guest is and where the caller stays.
pub unsafe fn disable() {
    // SAFETY: Contract: SVM is on, so the register is there. No guest is entered any more.
    unsafe { write(MSR_HOST_SAVE, 0) };
    // SAFETY: Ring 0 by contract.
    let efer = unsafe { read(MSR_EFER) };
    // SAFETY: As above.
    unsafe { write(MSR_EFER, efer & !EFER_SVME) };
}

/// CR4 of this processor.
///
/// # Safety
/// Ring 0.
#[must_use]
pub unsafe fn cr4() -> u64 {
    let value;
    // SAFETY: Contract; reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nostack, nomem, preserves_flags)) };
    value
}

/// DR7 of this processor: which breakpoints are armed. An exit clears it.
///
/// # Safety
/// Ring 0.
#[must_use]
pub unsafe fn breakpoints() -> u64 {
    let value;
    // SAFETY: Contract; reads a register.
    unsafe { asm!("mov {}, dr7", out(reg) value, options(nostack, nomem, preserves_flags)) };
    value
}

/// Arms breakpoints again.
///
/// # Safety
/// Ring 0; `value` came from [`breakpoints`] on this processor, and nobody has changed them since.
pub unsafe fn set_breakpoints(value: u64) {
    // SAFETY: Contract.
    unsafe { asm!("mov dr7, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// # Safety
/// Ring 0, and the processor has the register.
unsafe fn read(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: Contract.
    unsafe { asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// # Safety
/// Ring 0, the processor has the register, and accepts the value without harm to the host.
unsafe fn write(register: u32, value: u64) {
    let [low, high] = crate::xstate::halves(value);
    // SAFETY: Contract.
    unsafe { asm!("wrmsr", in("ecx") register, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}
