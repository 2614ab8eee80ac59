//! Signals as Linux's ABI has them: numbers, sets, actions, what waits, what a handler finds on its stack.
//!
//! Owns: ABI state of a task's and a process's signals. Not here: waking a task (`core`), reading registers (the platform).
//! Hostile input: actions, sets, alternate stacks, frames given to `rt_sigreturn`. Invariants: `SIGKILL` and `SIGSTOP` are never
//! blocked, caught or ignored; a [`Pending`] holds at most its limit. Sources: signal(7), sigaction(2), sigaltstack(2);
//! Linux `kernel/signal.c`, `arch/x86/kernel/signal_64.c`.

mod action;
mod altstack;
mod cpu;
mod fault;
mod frame;
mod info;
mod pending;
pub mod sequence;

pub use action::{Action, Actions, DefaultAction, Handler, SaFlags};
pub use altstack::{AltStack, MIN_SIGNAL_STACK};
pub use cpu::{Activity, Barrier, Cpu};
pub use fault::{Fault, FaultKind};
pub use frame::{
    Built, FPU_SOFTWARE_BYTES, FRAME_BYTES, Restored, build, fpu_bytes_on_stack, fpu_seal, frame_of_return, restore,
    sealed_fpu_bytes,
};
pub use info::{Info, Origin};
pub use pending::Pending;

use core::fmt;
use linux_raw_sys::general as raw;

/// A signal: `1..=64`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

impl Signal {
    /// The first real-time signal.
    pub const RT_MIN: u8 = 32;
    /// The last signal.
    pub const MAX: u8 = 64;

    /// The signal with this number, if there is one.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        // Within `1..=64`, the low byte is the number.
        if number >= 1 && number <= 64 { Some(Self(number.to_le_bytes()[0])) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        // `u32::from` is not const.
        u32::from_le_bytes([self.0, 0, 0, 0])
    }

    /// Whether each one sent is kept, in order.
    #[must_use]
    pub const fn is_realtime(self) -> bool {
        self.0 >= Self::RT_MIN
    }

    /// Its bit in a set.
    const fn bit(self) -> u64 {
        1u64.rotate_left(self.number().wrapping_sub(1))
    }
}

macro_rules! signals {
    ($($name:ident = $raw:ident),* $(,)?) => {
        #[expect(missing_docs, reason = "each is signal(7)'s of that name")]
        impl Signal {
            $(pub const $name: Self = Self(raw::$raw.to_le_bytes()[0]);)*

            /// Its name, `SIGSEGV`; `None` for a real-time signal.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($raw)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    HUP = SIGHUP, INT = SIGINT, QUIT = SIGQUIT, ILL = SIGILL, TRAP = SIGTRAP, ABRT = SIGABRT, BUS = SIGBUS, FPE = SIGFPE,
    KILL = SIGKILL, USR1 = SIGUSR1, SEGV = SIGSEGV, USR2 = SIGUSR2, PIPE = SIGPIPE, ALRM = SIGALRM, TERM = SIGTERM,
    STKFLT = SIGSTKFLT, CHLD = SIGCHLD, CONT = SIGCONT, STOP = SIGSTOP, TSTP = SIGTSTP, TTIN = SIGTTIN, TTOU = SIGTTOU,
    URG = SIGURG, XCPU = SIGXCPU, XFSZ = SIGXFSZ, VTALRM = SIGVTALRM, PROF = SIGPROF, WINCH = SIGWINCH, IO = SIGIO,
    PWR = SIGPWR, SYS = SIGSYS,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "SIGRT_{}", self.0.saturating_sub(Self::RT_MIN)),
        }
    }
}

/// A set of signals, with the ABI's bits: signal `n` is bit `n - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SigSet(u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// What cannot be blocked.
    pub const UNBLOCKABLE: Self = Self(Signal::KILL.bit() | Signal::STOP.bit());
    /// What an instruction of the task itself causes; delivered first.
    pub const SYNCHRONOUS: Self = Self(
        Signal::SEGV.bit() | Signal::BUS.bit() | Signal::ILL.bit() | Signal::TRAP.bit() | Signal::FPE.bit() | Signal::SYS.bit(),
    );

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The same with `signal`.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | signal.bit())
    }

    /// The same without `signal`.
    #[must_use]
    pub const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !signal.bit())
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is here and not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The same as a mask: without what cannot be blocked.
    #[must_use]
    pub const fn blockable(self) -> Self {
        self.difference(Self::UNBLOCKABLE)
    }

    /// Whether `signal` is in it.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one to deliver first: synchronous ones, then the lowest number.
    #[must_use]
    pub fn first(self) -> Option<Signal> {
        let urgent = self.intersection(Self::SYNCHRONOUS);
        let from = if urgent.is_empty() { self } else { urgent };
        Signal::new(u64::from(from.0.trailing_zeros()).saturating_add(1))
    }
}

impl fmt::Debug for SigSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((1..=64).filter_map(Signal::new).filter(|signal| self.contains(*signal))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bits_are_the_abi_s() {
        assert!(Signal::new(0).is_none() && Signal::new(65).is_none() && Signal::new(u64::MAX).is_none());
        assert_eq!(Signal::new(11), Some(Signal::SEGV));
        assert_eq!(SigSet::EMPTY.with(Signal::HUP).bits(), 1);
        assert_eq!(SigSet::EMPTY.with(Signal::new(64).unwrap()).bits(), 1 << 63);
        assert_eq!(SigSet::from_bits(u64::MAX).blockable().bits(), !(1 << 8 | 1 << 18));
        assert_eq!(std::format!("{:?}", SigSet::EMPTY.with(Signal::INT).with(Signal::new(34).unwrap())), "{SIGINT, SIGRT_2}");
    }

    #[test]
    fn faults_come_before_lower_numbers() {
        assert_eq!(SigSet::EMPTY.first(), None);
        assert_eq!(SigSet::EMPTY.with(Signal::HUP).with(Signal::SEGV).first(), Some(Signal::SEGV));
        assert_eq!(SigSet::EMPTY.with(Signal::new(64).unwrap()).first(), Signal::new(64));
    }
}
