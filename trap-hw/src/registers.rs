//! A guest's general registers, as the way in and out finds them.

use core::mem::offset_of;

/// In the order in which Linux's entry code pushes them (`struct pt_regs`), so that a platform's own frame can be used as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "each field is the register of that name")]
pub struct Registers {
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
    /// No register: the number of a call, or all ones. It is not touched here.
    pub orig_ax: u64,
    pub ip: u64,
    pub cs: u64,
    pub flags: u64,
    pub sp: u64,
    pub ss: u64,
}

const _: () = {
    assert!(size_of::<Registers>() == 21 * 8);
    assert!(offset_of!(Registers, ax) == 0x50);
    assert!(offset_of!(Registers, ip) == 0x80);
    assert!(offset_of!(Registers, ss) == 0xa0);
};

impl Registers {
    /// Goes behind a `syscall` of two bytes as the processor does: where to return to, and the flags, are in rcx and r11. Linux's
    /// convention for the rest: the number in `orig_ax`, and ax says "no such call" until somebody knows better.
    pub fn take_syscall(&mut self) {
        /// -ENOSYS.
        const NO_CALL: u64 = u64::MAX - 37;
        self.ip = self.ip.wrapping_add(crate::instruction::SYSCALL_BYTES);
        self.cx = self.ip;
        self.r11 = self.flags;
        self.orig_ax = self.ax;
        self.ax = NO_CALL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syscall_leaves_what_the_abi_says() {
        let mut regs = Registers { ip: 0x1000, flags: 0x246, ax: 39, cx: 1, r11: 2, ..Registers::default() };
        regs.take_syscall();
        assert_eq!((regs.ip, regs.cx, regs.r11, regs.orig_ax, regs.ax.cast_signed()), (0x1002, 0x1002, 0x246, 39, -38));
    }
}
