//! Registers of a guest thread, as every door of the shim sees them.
//!
//! Owns: the layout of Linux's `struct pt_regs` and the calling convention of `syscall`. Invariant: registers that went through
//! [`Regs::sanitise`] cannot give a guest more than ring 3. Hostile input: everything in a signal frame.
//! Sources: Linux `arch/x86/include/asm/ptrace.h`, `arch/x86/kernel/signal_64.c` (`FIX_EFLAGS`); syscall(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Ring 3's 64-bit code selector, `__USER_CS`.
pub const USER_CS: u64 = 0x33;
/// Ring 3's data selector, `__USER_DS`.
pub const USER_DS: u64 = 0x2b;

/// Flags that a guest chooses: CF PF AF ZF SF TF DF OF RF AC. Linux's `FIX_EFLAGS`.
const USER_FLAGS: u64 = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
/// The carry, parity, zero and sign flags' neighbours: bit 1 is always set.
const FLAG_ALWAYS: u64 = 0x2;
/// Interrupts enabled: ring 3 always runs with them.
const FLAG_IF: u64 = 0x200;
/// Single step.
pub const FLAG_TF: u64 = 0x100;
/// String direction; the ABI wants it clear at a function's start.
pub const FLAG_DF: u64 = 0x400;
/// Resume: suppresses one instruction breakpoint.
pub const FLAG_RF: u64 = 0x1_0000;

/// `struct pt_regs` of x86-64: 21 words, in the order in which the kernel's entry code pushes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[expect(missing_docs, reason = "each field is the register of that name")]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub bp: u64,
    pub bx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub ax: u64,
    pub cx: u64,
    pub dx: u64,
    pub si: u64,
    pub di: u64,
    /// The call's number, or -1 outside of a call.
    pub orig_ax: u64,
    pub ip: u64,
    pub cs: u64,
    pub flags: u64,
    pub sp: u64,
    pub ss: u64,
}

const _: () = {
    assert!(size_of::<Regs>() == 21 * 8);
    assert!(core::mem::offset_of!(Regs, ax) == 0x50);
    assert!(core::mem::offset_of!(Regs, orig_ax) == 0x78);
    assert!(core::mem::offset_of!(Regs, ip) == 0x80);
    assert!(core::mem::offset_of!(Regs, ss) == 0xa0);
};

impl Regs {
    /// Registers of a program's first instruction: all zero but these.
    #[must_use]
    pub fn start(ip: u64, sp: u64) -> Self {
        Self { ip, sp, orig_ax: u64::MAX, ..Self::default() }.sanitise()
    }

    /// The number of the call that is being made: an `int`, as in Linux, so that the upper half of its register is of no account.
    #[must_use]
    pub const fn number(&self) -> u64 {
        let [a, b, c, d, ..] = self.orig_ax.to_le_bytes();
        u64::from_le_bytes((i32::from_le_bytes([a, b, c, d]) as i64).to_le_bytes())
    }

    /// Its six arguments.
    #[must_use]
    pub const fn args(&self) -> [u64; 6] {
        [self.di, self.si, self.dx, self.r10, self.r8, self.r9]
    }

    /// Goes back to the `syscall` instruction, to make call `number` again.
    pub fn rewind(&mut self, number: u64) {
        self.ax = number;
        self.ip = self.ip.wrapping_sub(2);
    }

    /// The same, with what only a kernel may choose put right: ring 3's flat selectors, interrupts on, I/O privilege 0.
    #[must_use]
    pub const fn sanitise(mut self) -> Self {
        self.cs = USER_CS;
        self.ss = USER_DS;
        self.flags = (self.flags & USER_FLAGS) | FLAG_IF | FLAG_ALWAYS;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_register_value_gives_more_than_ring_3() {
        for bits in [0, u64::MAX, 0x3000, 0x2_0000, 1 << 14] {
            let hostile = Regs { cs: bits, ss: bits, flags: bits, ..Regs::default() }.sanitise();
            assert_eq!((hostile.cs & 3, hostile.ss & 3), (3, 3));
            assert_eq!(hostile.flags & 0x3000, 0, "IOPL");
            assert_eq!(hostile.flags & 0x2_4000, 0, "NT and VM");
            assert_ne!(hostile.flags & FLAG_IF, 0);
        }
    }

    #[test]
    fn arguments_come_in_the_order_of_the_abi() {
        let regs = Regs { di: 1, si: 2, dx: 3, r10: 4, r8: 5, r9: 6, orig_ax: 7, ..Regs::default() };
        assert_eq!((regs.args(), regs.number()), ([1, 2, 3, 4, 5, 6], 7));
        assert_eq!(Regs { orig_ax: 0x1_0000_0007, ..regs }.number(), 7);
        assert_eq!(Regs { orig_ax: 0xffff_ffff, ..regs }.number(), u64::MAX);
    }
}
