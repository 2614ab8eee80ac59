//! Registers as tracers see them: `struct user_regs_struct` and `struct user`. Source: Linux
//! `arch/x86/include/asm/user_64.h`, arch/x86/kernel/ptrace.c (`putreg`, `getreg`).

use crate::regs::{FLAG_TF, Regs, USER_CS, USER_DS};
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::GUEST_END;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct user_regs_struct`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Registers {
    pub(crate) regs: Regs,
    pub(crate) fs_base: u64,
    pub(crate) gs_base: u64,
    /// DS, ES, FS, GS: selectors, which programs of 64 bits have no use for.
    pub(crate) selectors: [u64; 4],
}

/// How many words there are.
pub(crate) const WORDS: usize = size_of::<Registers>() / 8;
const _: () = assert!(WORDS == 27);

/// Places in words.
const CS: usize = 17;
const SS: usize = 20;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;
const _: () = {
    assert!(core::mem::offset_of!(Regs, cs) == CS * 8);
    assert!(core::mem::offset_of!(Regs, ss) == SS * 8 && core::mem::offset_of!(Registers, fs_base) == FS_BASE * 8);
};

impl Registers {
    fn words(&self) -> [u64; WORDS] {
        zerocopy::transmute!(*self)
    }

    /// The word at `index`.
    pub(crate) fn get(&self, index: usize) -> u64 {
        self.words().get(index).copied().unwrap_or_default()
    }

    /// Sets the word at `index`. What the processor would not take for ring 3 is put right, as flags are by Linux.
    ///
    /// # Errors
    /// `IO`: a selector that is not ring 3's, a base that no guest can have, no such word.
    pub(crate) fn set(&mut self, index: usize, value: u64) -> Result<()> {
        let is_foreign = |selector: u64| selector > 0xffff || (selector != 0 && selector & 3 != 3);
        match index {
            CS | SS if value == 0 || is_foreign(value) => return Err(errno!(IO, "no selector of ring 3")),
            23..WORDS if is_foreign(value) => return Err(errno!(IO, "no selector of ring 3")),
            FS_BASE | GS_BASE if value >= GUEST_END => return Err(errno!(IO, "a base outside of the guest")),
            _ => {}
        }
        let mut words = self.words();
        *words.get_mut(index).ok_or(errno!(IO, "no such register"))? = value;
        *self = zerocopy::transmute!(words);
        self.regs = self.regs.sanitise();
        Ok(())
    }

    /// The same as a guest may go on with: an address outside of it faults at its end instead, as some processors would leave ring 3
    /// for one.
    pub(super) fn to_guest(self) -> Regs {
        let mut regs = self.regs.sanitise();
        regs.ip = regs.ip.min(GUEST_END);
        regs
    }
}

/// Bytes of `struct user`.
pub(crate) const USER_BYTES: u64 = 928;
/// Where the debug registers are in it.
const DEBUG: core::ops::RangeInclusive<u64> = 848..=848 + 7 * 8;

/// A word of `struct user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserWord {
    /// Of its registers.
    Register(usize),
    /// A debug register.
    Debug(usize),
    /// Something that is always 0.
    Nothing,
}

impl UserWord {
    /// The one at offset `at`.
    ///
    /// # Errors
    /// `IO`: there is none.
    pub(crate) fn at(at: u64) -> Result<Self> {
        if at & 7 != 0 || at > USER_BYTES.saturating_sub(8) {
            return Err(errno!(IO, "no such word"));
        }
        Ok(match usize::try_from(at >> 3) {
            Ok(index) if index < WORDS => Self::Register(index),
            _ if DEBUG.contains(&at) => Self::Debug(usize::try_from(at.saturating_sub(*DEBUG.start()) >> 3).unwrap_or_default()),
            _ => Self::Nothing,
        })
    }
}

/// Registers of ring 3 as a stop shows them.
impl Registers {
    pub(super) fn shown(regs: &Regs, bases: [u64; 2], is_step_forced: bool) -> Self {
        let [fs_base, gs_base] = bases;
        let hidden = if is_step_forced { FLAG_TF } else { 0 };
        let regs = Regs { cs: USER_CS, ss: USER_DS, flags: regs.flags & !hidden, ..*regs };
        Self { regs, fs_base, gs_base, selectors: [0; 4] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    const AX: usize = core::mem::offset_of!(Regs, ax) / 8;
    const FLAGS: usize = core::mem::offset_of!(Regs, flags) / 8;

    #[test]
    fn words_are_where_the_header_has_them() {
        let mut all = Registers::default();
        all.set(AX, 7).unwrap();
        all.set(FS_BASE, 0x1000).unwrap();
        assert_eq!((all.regs.ax, all.fs_base, all.get(AX), all.get(FS_BASE)), (7, 0x1000, 7, 0x1000));
        assert_eq!((all.get(CS), all.get(SS)), (USER_CS, USER_DS));
    }

    #[test]
    fn no_word_gives_more_than_ring_3() {
        let mut all = Registers::default();
        for (index, value) in [(CS, 0x10), (CS, 0), (SS, 0x1_0003), (23, 8), (FS_BASE, GUEST_END), (GS_BASE, u64::MAX), (27, 0)] {
            assert!(all.set(index, value).unwrap_err().is(Errno::IO), "{index}");
        }
        all.set(FLAGS, u64::MAX).unwrap();
        assert_eq!(all.regs.flags & 0x3000, 0);
        all.set(16, u64::MAX).unwrap();
        assert_eq!((all.get(16), all.to_guest().ip), (u64::MAX, GUEST_END));
    }

    #[test]
    fn struct_user_has_registers_debug_registers_and_zeros() {
        assert_eq!(UserWord::at(26 * 8).unwrap(), UserWord::Register(26));
        assert_eq!(UserWord::at(27 * 8).unwrap(), UserWord::Nothing);
        assert_eq!((UserWord::at(848).unwrap(), UserWord::at(848 + 7 * 8).unwrap()), (UserWord::Debug(0), UserWord::Debug(7)));
        for at in [4, USER_BYTES, USER_BYTES - 4, u64::MAX] {
            assert!(UserWord::at(at).unwrap_err().is(Errno::IO));
        }
    }
}
