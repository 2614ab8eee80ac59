//! What a process does about each signal. Source: sigaction(2); Linux `kernel/signal.c` `do_sigaction`, `sig_ignored`.

use super::{SigSet, Signal};
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

/// The actions of a process.
#[derive(Clone, Debug)]
pub struct Actions([Action; 64]);

impl Default for Actions {
    fn default() -> Self {
        Self([Action { handler: 0, flags: 0, restorer: 0, mask: 0 }; 64])
    }
}

impl Actions {
    fn slot(signal: Signal) -> usize {
        usize::from(signal.0.saturating_sub(1))
    }

    /// The action of `signal`.
    #[must_use]
    pub fn get(&self, signal: Signal) -> Action {
        self.0.get(Self::slot(signal)).copied().unwrap_or_default()
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
        let former = self.get(signal);
        if let Some(slot) = self.0.get_mut(Self::slot(signal)) {
            *slot = action;
        }
        Ok(former)
    }

    /// Back to default, as `SA_RESETHAND` asks; flags and mask stay.
    pub fn reset_handler(&mut self, signal: Signal) {
        if let Some(slot) = self.0.get_mut(Self::slot(signal)) {
            slot.handler = 0;
        }
    }

    /// What execve(2) leaves: handlers become default, the ignored stay ignored.
    pub fn exec(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler() == Handler::Ignore { 1 } else { 0 };
            *action = Action { handler, ..Action::default() };
        }
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
