//! What a process does about each signal. Source: sigaction(2); Linux `kernel/signal.c` `do_sigaction`, `sig_ignored`.

use super::{SigSet, Signal};
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// `sa_flags`; bits without a name are kept, as Linux keeps them below its mask.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct SaFlags: u64 {
        /// No `SIGCHLD` for stops.
        const NOCLDSTOP = 1;
        /// Children leave no zombies.
        const NOCLDWAIT = 2;
        /// Three-argument handler; on x86-64 all are.
        const SIGINFO = 4;
        /// `sa_restorer` is set.
        const RESTORER = 0x0400_0000;
        /// On the alternate stack.
        const ONSTACK = 0x0800_0000;
        /// Interrupted calls start again.
        const RESTART = 0x1000_0000;
        /// The signal is not blocked in its own handler.
        const NODEFER = 0x4000_0000;
        /// Back to default once delivered.
        const RESETHAND = 0x8000_0000;
        const _ = !0;
    }
}

/// `struct kernel_sigaction`: what `rt_sigaction` reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Action {
    /// `SIG_DFL` (0), `SIG_IGN` (1) or the handler's address.
    pub handler: u64,
    /// [`SaFlags`].
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// What is blocked in the handler.
    pub mask: u64,
}

const _: () = assert!(size_of::<Action>() == size_of::<raw::kernel_sigaction>());

/// An action's handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// What [`DefaultAction::of`] says.
    Default,
    /// Nothing.
    Ignore,
    /// A function of the guest's.
    Function(u64),
}

/// What happens by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends, with a core dump if there were any.
    Core,
    /// Nothing.
    Ignore,
    /// The process stops.
    Stop,
    /// The process goes on if stopped.
    Continue,
}

impl DefaultAction {
    /// That of `signal`. See signal(7).
    #[must_use]
    pub const fn of(signal: Signal) -> Self {
        match signal {
            Signal::QUIT | Signal::ILL | Signal::TRAP | Signal::ABRT | Signal::BUS | Signal::FPE | Signal::SEGV => Self::Core,
            Signal::XCPU | Signal::XFSZ | Signal::SYS => Self::Core,
            Signal::CHLD | Signal::URG | Signal::WINCH => Self::Ignore,
            Signal::STOP | Signal::TSTP | Signal::TTIN | Signal::TTOU => Self::Stop,
            Signal::CONT => Self::Continue,
            _ => Self::Terminate,
        }
    }
}

impl Action {
    /// Its handler.
    #[must_use]
    pub const fn handler(&self) -> Handler {
        match self.handler {
            0 => Handler::Default,
            1 => Handler::Ignore,
            function => Handler::Function(function),
        }
    }

    /// Its flags.
    #[must_use]
    pub const fn flags(&self) -> SaFlags {
        SaFlags::from_bits_retain(self.flags)
    }

    /// Whether `signal` would have no effect.
    #[must_use]
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.handler() {
            Handler::Ignore => true,
            Handler::Default => DefaultAction::of(signal) == DefaultAction::Ignore,
            Handler::Function(_) => false,
        }
    }
}

/// The actions of a process: those that were set, by ascending signal. Most processes set few, and each fork copies them.
#[derive(Clone, Debug, Default)]
pub struct Actions(Vec<(Signal, Action)>);

impl Actions {
    /// Where `signal` is, or would be.
    fn place(&self, signal: Signal) -> core::result::Result<usize, usize> {
        self.0.binary_search_by_key(&signal, |(signal, _)| *signal)
    }

    fn get_mut(&mut self, signal: Signal) -> Option<&mut Action> {
        let place = self.place(signal).ok()?;
        self.0.get_mut(place).map(|(_, action)| action)
    }

    /// The action of `signal`.
    #[must_use]
    pub fn get(&self, signal: Signal) -> Action {
        self.place(signal).ok().and_then(|place| self.0.get(place)).map_or_else(Action::default, |(_, action)| *action)
    }

    /// Sets the action of `signal`; returns the former one.
    ///
    /// # Errors
    /// `INVAL`: `SIGKILL` or `SIGSTOP`.
    pub fn set(&mut self, signal: Signal, mut action: Action) -> Result<Action> {
        if SigSet::UNBLOCKABLE.contains(signal) {
            return Err(errno!(INVAL, "this signal's action is fixed"));
        }
        action.mask = SigSet::from_bits(action.mask).blockable().bits();
        match self.place(signal) {
            Ok(_) => Ok(self.get_mut(signal).map_or_else(Action::default, |slot| core::mem::replace(slot, action))),
            Err(place) => {
                // No more than there are signals.
                self.0.insert(place, (signal, action));
                Ok(Action::default())
            }
        }
    }

    /// Back to default, as `SA_RESETHAND` asks; flags and mask stay.
    pub fn reset_handler(&mut self, signal: Signal) {
        if let Some(action) = self.get_mut(signal) {
            action.handler = 0;
        }
    }

    /// What execve(2) leaves: handlers become default, the ignored stay ignored.
    pub fn exec(&mut self) {
        self.0.retain_mut(|(_, action)| {
            *action = Action { handler: action.handler, ..Action::default() };
            action.handler() == Handler::Ignore
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    #[test]
    fn kill_and_stop_keep_their_actions() {
        let mut actions = Actions::default();
        for signal in [Signal::KILL, Signal::STOP] {
            assert!(actions.set(signal, Action { handler: 1, ..Action::default() }).unwrap_err().is(Errno::INVAL));
        }
        actions.set(Signal::INT, Action { mask: u64::MAX, handler: 5, ..Action::default() }).unwrap();
        assert!(!SigSet::from_bits(actions.get(Signal::INT).mask).contains(Signal::KILL));
        let former = actions.set(Signal::INT, Action { handler: 1, ..Action::default() }).unwrap();
        assert_eq!((former.handler, actions.get(Signal::INT).handler), (5, 1));
    }

    #[test]
    fn exec_forgets_handlers_and_keeps_what_is_ignored() {
        let mut actions = Actions::default();
        actions.set(Signal::INT, Action { handler: 0x1000, flags: 4, ..Action::default() }).unwrap();
        actions.set(Signal::PIPE, Action { handler: 1, flags: 4, ..Action::default() }).unwrap();
        actions.exec();
        assert_eq!(actions.get(Signal::INT), Action::default());
        assert_eq!(actions.get(Signal::PIPE).handler(), Handler::Ignore);
        assert!(actions.get(Signal::CHLD).ignores(Signal::CHLD) && !actions.get(Signal::INT).ignores(Signal::INT));
    }
}
