//! Terminals: pairs of a master, which a terminal emulator holds, and a slave, which programs take for a terminal.
//!
//! Typed bytes go master → `line` (line discipline: editing, signals, echo) → reader of the slave; written bytes go slave →
//! `output` → reader of the master. [`pair`] has the two open files, [`control`] what ioctl(2) asks, [`devpts`] /dev/ptmx and
//! /dev/pts. A sandbox's own terminal is such a pair too: its launcher holds the master.
//! Not here: whose controlling terminal it is and who may read, which need processes; the ABI above answers by [`Jobs`].
//! Invariants: every queue is bounded, and charged at birth. Locks: a pair's state is a leaf; signals are sent without it.
//! Sources: termios(3), `ioctl_tty(2)`, pty(7); Linux `drivers/tty/n_tty.c`, `pty.c`, `tty_io.c`.

pub mod control;
pub mod devpts;
mod erase;
mod line;
mod output;
pub mod pair;
pub mod settings;
#[cfg(test)]
mod tests;

use core::fmt;

/// A signal that a terminal sends to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalSignal {
    /// `SIGINT`, by the `INTR` character.
    Interrupt,
    /// `SIGQUIT`, by the `QUIT` character.
    Quit,
    /// `SIGTSTP`, by the `SUSP` character.
    Suspend,
    /// `SIGWINCH`: another window size.
    Resized,
}

/// Processes, as a terminal knows them: by numbers of the ABI above. Called without a lock of this module.
pub trait Jobs: Send + Sync + fmt::Debug {
    /// Sends a signal to every process of a group.
    fn signal(&self, group: u32, signal: TerminalSignal);
    /// The terminal of `session` has hung up, and is no session's any more; `group` was in its foreground.
    fn hung_up(&self, session: u32, group: Option<u32>);
}
