//! Controlling terminals: whose terminal is whose, who is in the foreground, and who learns of a hang-up.
//!
//! A session has at most one, of which its processes know by themselves, as one of them may have given it up. Invariants: what a pair
//! has as its session and foreground, and what a process has as its terminal, change with the sandbox's tree locked; a pair that hangs
//! up forgets its session first and tells the processes then. Locks: a process's terminal is a leaf.
//! Sources: `ioctl_tty(2)`, `credentials(7)`; Linux `drivers/tty/tty_jobctrl.c`.

use super::process::Process;
use super::sandbox::Sandbox;
use super::thread::Task;
use super::tree::Tree;
use crate::signal::{Cpu, Handler, Info, Origin, Signal};
use alloc::sync::Arc;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::fs::types::OFlags;
use litebox_core::tty::control::Control;
use litebox_core::tty::pair::Pair;
use litebox_core::tty::{Jobs, TerminalSignal};

/// What a process knows of terminals. Linux: `signal_struct`, `tty` and `tty_old_pgrp`.
pub(super) struct Terminal<P: Cpu> {
    /// Its controlling terminal.
    pair: Option<Arc<Pair<P>>>,
    /// The group that was in the foreground when the terminal of the session that it leads hung up.
    former: Option<u32>,
}

impl<P: Cpu> Terminal<P> {
    /// That of a process whose maker has `pair`.
    pub(super) fn new(pair: Option<Arc<Pair<P>>>) -> Self {
        Self { pair, former: None }
    }
}

/// Whether a process may take the terminal of another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// It may not.
    Free,
    /// The other session loses it.
    Steal,
}

/// What is asked of a terminal by `TIOCSPGRP` and its like if the terminal is not that of the caller.
fn not_ours() -> Error {
    errno!(NOTTY, "not the session's terminal")
}

impl<P: Cpu> Process<P> {
    /// Its controlling terminal.
    pub fn terminal(&self) -> Option<Arc<Pair<P>>> {
        self.terminal.lock().pair.clone()
    }

    /// Whether this is its controlling terminal.
    pub(crate) fn is_controlled_by(&self, pair: &Arc<Pair<P>>) -> bool {
        self.terminal.lock().pair.as_ref().is_some_and(|own| Arc::ptr_eq(own, pair))
    }

    pub(super) fn forget_terminal(&self) {
        let former = self.terminal.lock().pair.take();
        drop(former);
    }

    fn leads_session(&self) -> bool {
        self.with(|state| state.session) == self.pid()
    }

    /// Takes a terminal that it just opened for that of the session that it leads, unless it leads none or has one already, or another
    /// session has it. See open(2), `O_NOCTTY`.
    pub(crate) fn opened_terminal(&self, pair: &Arc<Pair<P>>, flags: OFlags) {
        if !flags.contains(OFlags::READ) || flags.contains(OFlags::NOCTTY) {
            return;
        }
        let _tree = self.sandbox().tree.lock();
        if self.leads_session() && self.terminal.lock().pair.is_none() && pair.control().session.is_none() {
            self.set_terminal(pair);
        }
    }

    fn set_terminal(&self, pair: &Arc<Pair<P>>) {
        let (session, group) = self.with(|state| (state.session, state.group));
        pair.set_control(Control { session: Some(session), group: Some(group) });
        *self.terminal.lock() = Terminal::new(Some(Arc::clone(pair)));
    }

    /// Makes `pair` the terminal of the session that it leads. See `ioctl_tty(2)`, `TIOCSCTTY`.
    ///
    /// # Errors
    /// `PERM`: it leads no session, or has a terminal, or another session has this one.
    pub(crate) fn take_terminal(&self, pair: &Arc<Pair<P>>, may_read: bool, take: Take) -> Result<()> {
        let tree = self.sandbox().tree.lock();
        let owner = pair.control().session;
        if self.leads_session() && owner == Some(self.pid()) {
            return Ok(());
        }
        if !self.leads_session() || self.terminal.lock().pair.is_some() {
            return Err(errno!(PERM, "it leads no session, or has a terminal"));
        }
        match owner {
            None => {}
            Some(owner) if take == Take::Steal => tree.forget_terminals(owner),
            Some(_) => return Err(errno!(PERM, "the terminal is another session's")),
        }
        if !may_read {
            return Err(errno!(PERM, "not open for reading"));
        }
        self.set_terminal(pair);
        Ok(())
    }

    /// Gives its terminal up; with it, if it leads the session, for the whole of that. See `ioctl_tty(2)`, `TIOCNOTTY`.
    pub(crate) fn give_up_terminal(&self) {
        self.disassociate(false);
        self.forget_terminal();
    }

    /// What a session leader does when it gives its terminal up, or ends. Linux: `disassociate_ctty`.
    pub(super) fn disassociate(&self, ends: bool) {
        let tree = self.sandbox().tree.lock();
        if !self.leads_session() {
            return;
        }
        let (pair, former) = {
            let mut own = self.terminal.lock();
            (own.pair.clone(), own.former.take())
        };
        let Some(pair) = pair else {
            if let Some(group) = former.filter(|_| ends) {
                tree.signal_group(group, &[Signal::HUP, Signal::CONT]);
            }
            return;
        };
        if let Some(group) = pair.control().group {
            tree.signal_group(group, if ends { &[Signal::HUP] } else { &[Signal::HUP, Signal::CONT] });
        }
        pair.set_control(Control::default());
        tree.forget_terminals(self.pid());
    }

    /// Puts a group in the foreground. See `tcsetpgrp(3)`.
    ///
    /// # Errors
    /// `NOTTY`: not its session's terminal. `SRCH`: no such group. `PERM`: one of another session.
    pub(crate) fn set_foreground(&self, pair: &Arc<Pair<P>>, group: u32) -> Result<()> {
        let tree = self.sandbox().tree.lock();
        let session = self.with(|state| state.session);
        if !self.is_controlled_by(pair) || pair.control().session != Some(session) {
            return Err(not_ours());
        }
        let of_group = tree.nodes.values().find(|node| node.process.with(|state| state.group) == group);
        let of_id =
            || tree.nodes.get(&group).or_else(|| tree.nodes.values().find(|node| node.process.with(|s| s.session) == group));
        let found = of_group.or_else(of_id).ok_or(errno!(SRCH, "no such group"))?;
        if found.process.with(|state| state.session) != session {
            return Err(errno!(PERM, "a group of another session"));
        }
        pair.set_control(Control { session: Some(session), group: Some(group) });
        Ok(())
    }

    /// What of a terminal only its own session sees. `is_master` is whether its master asks, who sees it too.
    ///
    /// # Errors
    /// `NOTTY`: it is not its terminal.
    pub(crate) fn control_of(&self, pair: &Arc<Pair<P>>, is_master: bool) -> Result<Control> {
        if is_master || self.is_controlled_by(pair) { Ok(pair.control()) } else { Err(not_ours()) }
    }
}

impl<P: Cpu> Task<P> {
    /// Stops its group by `signal` if it uses its terminal from the background. Linux: `__tty_check_change`.
    ///
    /// # Errors
    /// `Interrupted`: the signal was sent. `IO`: it would read but ignores the signal, or nobody could continue the group.
    pub(crate) fn check_foreground(&self, pair: &Arc<Pair<P>>, signal: Signal) -> Result<()> {
        let process = self.process();
        let group = process.with(|state| state.group);
        let foreground = pair.control().group;
        if foreground.is_none_or(|foreground| foreground == group) || !process.is_controlled_by(pair) {
            return Ok(());
        }
        let handler = process.with_actions(|actions| actions.get(signal)).handler();
        if self.mask().contains(signal) || handler == Handler::Ignore {
            return if signal == Signal::TTIN { Err(errno!(IO, "in the background, and not to be stopped")) } else { Ok(()) };
        }
        let tree = self.sandbox().tree.lock();
        if tree.is_orphaned(group, 0) {
            return Err(errno!(IO, "in the background, where nobody could continue it"));
        }
        tree.signal_group(group, &[signal]);
        Err(Error::Interrupted)
    }
}

impl<P: Cpu> Tree<P> {
    /// Sends signals of a terminal's to a group.
    fn signal_group(&self, group: u32, signals: &[Signal]) {
        for node in self.nodes.values().filter(|node| node.process.with(|state| state.group) == group) {
            for signal in signals {
                // Standard signals never find the queue full.
                let _ = node.process.send(Info::new(*signal, Info::SI_KERNEL, Origin::None));
            }
        }
    }

    /// Nobody of `session` has a terminal any more. Linux: `session_clear_tty`.
    fn forget_terminals(&self, session: u32) {
        for node in self.nodes.values().filter(|node| node.process.with(|state| state.session) == session) {
            node.process.forget_terminal();
        }
    }
}

impl<P: Cpu> Jobs for Sandbox<P> {
    fn signal(&self, group: u32, signal: TerminalSignal) {
        let signal = match signal {
            TerminalSignal::Interrupt => Signal::INT,
            TerminalSignal::Quit => Signal::QUIT,
            TerminalSignal::Suspend => Signal::TSTP,
            TerminalSignal::Resized => Signal::WINCH,
        };
        self.tree.lock().signal_group(group, &[signal]);
    }

    /// The leader learns of it at once, the foreground when the leader ends. Linux: `tty_signal_session_leader`.
    fn hung_up(&self, session: u32, group: Option<u32>) {
        let tree = self.tree.lock();
        for node in tree.nodes.values().filter(|node| node.process.with(|state| state.session) == session) {
            let process = &node.process;
            // It may have got another one since.
            let lost = |pair: &Arc<Pair<P>>| pair.control().session != Some(session);
            if process.terminal().as_ref().is_some_and(lost) {
                process.forget_terminal();
            }
            if process.pid() == session {
                process.terminal.lock().former = group;
                for signal in [Signal::HUP, Signal::CONT] {
                    let _ = process.send(Info::new(signal, Info::SI_KERNEL, Origin::None));
                }
            }
        }
    }
}
