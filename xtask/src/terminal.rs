//! The terminal that a command was started from: raw while a program in the VM owns it.

use std::io::{self, IsTerminal};

use anyhow::Result;
use litebox_vm_init::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode; its former mode comes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    former: Termios,
}

impl Raw {
    /// Switches standard input's terminal to raw mode.
    pub(crate) fn enter() -> Result<Self> {
        let former = tcgetattr(io::stdin())?;
        let mut raw = former.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Self { former })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.former);
    }
}

/// Whether a person sits at both ends.
pub(crate) fn interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The terminal's size now.
pub(crate) fn size() -> WindowSize {
    match tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_row > 0 => WindowSize { rows: size.ws_row, columns: size.ws_col },
        _ => WindowSize { rows: 24, columns: 80 },
    }
}
