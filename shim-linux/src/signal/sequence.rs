//! Restartable sequences: the area that a task shares with its scheduler, and what a handler's start does to a sequence under way.
//!
//! The platform keeps the processor's number in the area and restarts a sequence that was preempted or moved; see
//! [`Cpu::watch_sequences`](super::Cpu::watch_sequences). Here is only what comes before a handler: behind it the interrupted place is
//! no longer in the registers. Hostile input: the area and the description that it points to. Source: rseq(2); Linux kernel/rseq.c,
//! `__rseq_signal_deliver`, `include/linux/rseq_entry.h`, `rseq_update_user_cs`.

use crate::regs::Regs;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GUEST_END, GuestAddr, user};
use litebox_core::platform::UserCopy;

/// Bytes of the area that the host keeps. Linux: `offsetof(struct rseq, end)`; shown as `AT_RSEQ_FEATURE_SIZE`.
pub const FEATURE_BYTES: u32 = 33;
/// On which boundary such an area lies. Linux: `rseq_alloc_align()`; shown as `AT_RSEQ_ALIGN`.
pub const AREA_ALIGN: u32 = 64;

/// Where the area has the address of the description of the sequence under way.
const SEQUENCE_AT: u64 = 8;

/// A registered area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Its address, below [`GUEST_END`] with its length.
    pub area: GuestAddr,
    /// Its length: 32, or at least [`FEATURE_BYTES`].
    pub len: u32,
    /// What stands before each place where a sequence is given up.
    pub signature: u32,
}

impl Sequences {
    /// Gives up the sequence that `regs` are in, if any, as a handler is about to run, or somebody else has.
    ///
    /// # Errors
    /// `FAULT`: the area or the description cannot be read or written. `INVAL`: the place to go to is outside of the guest, or the
    /// signature does not stand before it. The task gets `SIGSEGV` for either.
    pub fn give_up<P: UserCopy>(&self, regs: &mut Regs) -> Result<()> {
        let pointer = self.area.plus(SEQUENCE_AT)?;
        let described = word::<P>(pointer)?;
        if described == 0 {
            return Ok(());
        }
        let described = GuestAddr::new(described);
        // Behind version and flags: the first instruction, the length in bytes, where to go.
        let (start, length) = (word::<P>(described.plus(8)?)?, word::<P>(described.plus(16)?)?);
        let abort = word::<P>(described.plus(24)?)?;
        let is_inside = regs.ip.wrapping_sub(start) < length;
        if is_inside {
            self.check_abort::<P>(abort)?;
        }
        user::write_all::<P>(pointer, &[0; 8])?;
        if is_inside {
            regs.ip = abort;
        }
        Ok(())
    }

    fn check_abort<P: UserCopy>(&self, abort: u64) -> Result<()> {
        let before = abort.checked_sub(4).filter(|_| abort < GUEST_END).ok_or(errno!(INVAL, "outside of the guest"))?;
        let mut found = [0; 4];
        user::read_exact::<P>(GuestAddr::new(before), &mut found)?;
        if u32::from_le_bytes(found) == self.signature { Ok(()) } else { Err(errno!(INVAL, "another signature")) }
    }
}

fn word<P: UserCopy>(at: GuestAddr) -> Result<u64> {
    let mut bytes = [0; 8];
    user::read_exact::<P>(at, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
