//! The alternate signal stack of a task. Source: sigaltstack(2); Linux `kernel/signal.c` `do_sigaltstack`.

use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The least size that any Linux accepts: `MINSIGSTKSZ`.
pub const MIN_SIGNAL_STACK: u64 = 2048;

const ONSTACK: u32 = raw::SS_ONSTACK;
const DISABLE: u32 = raw::SS_DISABLE;
const AUTODISARM: u32 = 1 << 31;

/// `stack_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AltStack {
    /// Lowest address.
    pub start: u64,
    /// `SS_*`.
    pub flags: u32,
    /// Nothing.
    pub padding: u32,
    /// Bytes.
    pub bytes: u64,
}

const _: () = assert!(size_of::<AltStack>() == size_of::<raw::sigaltstack>());

impl Default for AltStack {
    fn default() -> Self {
        Self { start: 0, flags: DISABLE, padding: 0, bytes: 0 }
    }
}

impl AltStack {
    /// Whether `sp` lies on it.
    #[must_use]
    pub const fn holds(&self, sp: u64) -> bool {
        sp > self.start && sp.wrapping_sub(self.start) <= self.bytes
    }

    /// Whether a task with this stack pointer runs on it; never when it disarms itself.
    #[must_use]
    pub const fn is_in_use(&self, sp: u64) -> bool {
        self.flags & AUTODISARM == 0 && self.bytes != 0 && self.holds(sp)
    }

    /// Where a handler that asks for it starts, or `None` if it is disabled or already in use.
    #[must_use]
    pub fn top(&self, sp: u64) -> Option<u64> {
        (self.bytes != 0 && !self.is_in_use(sp)).then(|| self.start.wrapping_add(self.bytes))
    }

    /// What `sigaltstack` reports of it.
    #[must_use]
    pub const fn reported(&self, sp: u64) -> Self {
        let state = if self.bytes == 0 {
            DISABLE
        } else if self.is_in_use(sp) {
            ONSTACK
        } else {
            0
        };
        Self { flags: state | (self.flags & AUTODISARM), ..*self }
    }

    /// Sets it to `new` for a task with stack pointer `sp`; `least` is the least size.
    ///
    /// # Errors
    /// - `PERM`: it is in use.  - `INVAL`: unknown flags.  - `NOMEM`: too small.
    pub fn set(&mut self, new: Self, sp: u64, least: u64) -> Result<()> {
        if self.is_in_use(sp) {
            return Err(errno!(PERM, "the alternate stack is in use"));
        }
        match new.flags & !AUTODISARM {
            DISABLE => *self = Self { start: 0, flags: new.flags, padding: 0, bytes: 0 },
            0 | ONSTACK if new.bytes < least => return Err(errno!(NOMEM, "the alternate stack is too small")),
            0 | ONSTACK => *self = Self { padding: 0, ..new },
            _ => return Err(errno!(INVAL, "unknown flags")),
        }
        Ok(())
    }

    /// Disables it after a delivery if it disarms itself.
    pub fn delivered(&mut self) {
        if self.flags & AUTODISARM != 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    #[test]
    fn a_stack_in_use_stays() {
        let mut stack = AltStack::default();
        assert_eq!(stack.top(0x5000), None);
        let new = AltStack { start: 0x1000, flags: 0, padding: 7, bytes: 0x2000 };
        stack.set(new, 0x9000, MIN_SIGNAL_STACK).unwrap();
        assert_eq!(stack.top(0x9000), Some(0x3000));
        assert_eq!(stack.top(0x2000), None);
        assert_eq!(stack.reported(0x3000).flags, ONSTACK);
        assert_eq!(stack.reported(0x1000).flags, 0, "its lowest address is not on it");
        assert!(stack.set(new, 0x2000, MIN_SIGNAL_STACK).unwrap_err().is(Errno::PERM));
        assert!(stack.set(AltStack { flags: 8, ..new }, 0x9000, MIN_SIGNAL_STACK).unwrap_err().is(Errno::INVAL));
        assert!(stack.set(AltStack { bytes: 2047, ..new }, 0x9000, MIN_SIGNAL_STACK).unwrap_err().is(Errno::NOMEM));
        stack.set(AltStack { flags: DISABLE, ..new }, 0x9000, MIN_SIGNAL_STACK).unwrap();
        assert_eq!(stack.reported(0).flags, DISABLE);
    }

    #[test]
    fn an_arming_stack_disarms_once() {
        let mut stack = AltStack { start: 0x1000, flags: AUTODISARM, padding: 0, bytes: 0x2000 };
        assert_eq!(stack.top(0x2000), Some(0x3000));
        stack.delivered();
        assert_eq!(stack, AltStack::default());
    }

    #[test]
    fn no_address_overflows() {
        let stack = AltStack { start: u64::MAX, flags: 0, padding: 0, bytes: u64::MAX };
        let _ = (stack.holds(0), stack.top(0), stack.reported(u64::MAX));
    }
}
