// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! FS and GS base of the current carrier's user side.
//!
//! They live in registers while the task runs; the kernel saves them at a context switch and copies them at clone. Needs
//! FSGSBASE, which the module checks at load. Hostile input: the value; hence [`UserBase`].
//! Sources: SDM vol. 2 WRFSBASE, SWAPGS; Linux Documentation/arch/x86/x86_64/fsgs.rst.

use core::arch::asm;

/// First address that is no user address on any x86-64 processor with four-level tables; also what the guest's memory ends below.
pub(crate) const USER_END: u64 = 0x7fff_ffff_f000;

/// A base that user space may have: below [`USER_END`], unless it has set it itself. A non-canonical address never is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserBase(u64);

impl UserBase {
    /// Checks `addr`.
    pub(crate) fn new(addr: u64) -> Option<Self> {
        (addr < USER_END).then_some(Self(addr))
    }

    /// What ring 3 has put there itself, by instructions that take any canonical address.
    pub(crate) fn of_processor(addr: u64) -> Self {
        Self(addr)
    }
}

/// Sets the FS base.
pub(crate) fn set_fs(base: UserBase) {
    // SAFETY: CR4.FSGSBASE is on (checked at load). The kernel does not use FS itself; the value is canonical by `UserBase`.
    unsafe { asm!("wrfsbase {}", in(reg) base.0, options(nostack, preserves_flags)) };
}

/// The FS base.
pub(crate) fn fs() -> u64 {
    let base;
    // SAFETY: CR4.FSGSBASE is on; reads a register.
    unsafe { asm!("rdfsbase {}", out(reg) base, options(nostack, nomem, preserves_flags)) };
    base
}

/// Sets the GS base of the user side.
pub(crate) fn set_gs(base: UserBase) {
    // SAFETY:
    // - Between the two swapgs the kernel's per-CPU base is away: interrupts are off, and an NMI or machine check looks at the base
    //   itself (paranoid_entry). There is no memory access in between.
    // - Interrupts are on afterwards exactly if they were on before. The value is canonical by `UserBase`.
    unsafe {
        asm!(
            "pushfq", "popq {flags}", "cli",
            "swapgs", "wrgsbase {base}", "swapgs",
            "testl $0x200, {flags:e}", "jz 2f", "sti", "2:",
            flags = out(reg) _, base = in(reg) base.0, options(att_syntax)
        );
    }
}

/// The GS base of the user side.
pub(crate) fn gs() -> u64 {
    let base;
    // SAFETY: As in `set_gs`.
    unsafe {
        asm!(
            "pushfq", "popq {flags}", "cli",
            "swapgs", "rdgsbase {base}", "swapgs",
            "testl $0x200, {flags:e}", "jz 2f", "sti", "2:",
            flags = out(reg) _, base = out(reg) base, options(att_syntax)
        );
    }
    base
}
