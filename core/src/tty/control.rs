//! What ioctl(2) asks of a terminal, one function an operation. Source: `ioctl_tty(2)`; Linux `drivers/tty/tty_ioctl.c`, `pty.c`.

use super::TerminalSignal;
use super::line::Raised;
use super::pair::{Pair, Side, State, Status, TerminalFile};
use super::settings::{ControlModes, InputModes, LocalModes, Settings, Special};
use crate::fs::inode::{Apply, WindowSize};
use crate::fs::types::Uid;
use crate::platform::Platform;

/// Which way bytes go that are forgotten. See tcflush(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// What can be read.
    Input,
    /// What was written.
    Output,
    /// Both.
    Both,
}

/// What is done to the flow of bytes. See tcflow(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Output stops.
    Suspend,
    /// Output goes on.
    Resume,
    /// The other side is asked to stop.
    StopOther,
    /// The other side is asked to go on.
    StartOther,
}

/// Whose controlling terminal one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The session.
    pub session: Option<u32>,
    /// Its group in the foreground.
    pub group: Option<u32>,
}

/// Whether the usual characters stop output.
fn usual_flow(settings: &Settings) -> bool {
    settings.input.contains(InputModes::IXON) && settings.is(0x13, Special::Stop) && settings.is(0x11, Special::Start)
}

impl State {
    /// Changes whether output is stopped, and notes what that means.
    fn change_flow(&mut self, change: impl FnOnce(&mut super::output::Output)) {
        let before = self.line.output.is_stopped();
        change(&mut self.line.output);
        self.line.output.go_on();
        let after = self.line.output.is_stopped();
        if before != after && self.packet {
            self.status.remove(Status::STOP | Status::START);
            self.tell(if after { Status::STOP } else { Status::START });
        }
    }
}

impl<P: Platform> Pair<P> {
    /// The settings.
    pub fn settings(&self) -> Settings {
        self.lock().line.settings
    }

    /// Changes them. What was written is with the master at once, so there is nothing to wait for.
    pub fn set(&self, settings: Settings, apply: Apply) {
        let mut raised = Raised::default();
        let group = {
            let mut state = self.lock();
            if apply == Apply::Flushed {
                state.line.flush_input();
                state.tell(Status::FLUSH_READ);
            }
            let former = state.line.settings;
            // A pair has no wire: bytes have eight bits and no parity.
            let wire = ControlModes::CS8 | ControlModes::PARENB;
            let control = settings.control.difference(wire) | ControlModes::CS8 | ControlModes::CREAD;
            state.line.set(Settings { control, ..settings }, &mut raised);
            state.told(raised);
            if usual_flow(&former) != usual_flow(&settings) && state.packet {
                state.status.remove(Status::DO_STOP | Status::NO_STOP);
                state.tell(if usual_flow(&settings) { Status::DO_STOP } else { Status::NO_STOP });
            }
            if (former.local | settings.local).contains(LocalModes::EXTPROC) {
                state.tell(Status::IOCTL);
            }
            state.group
        };
        self.raise(raised, group);
    }

    /// Changes the window's size; who is in the foreground learns of another one.
    pub fn resize(&self, size: WindowSize) {
        if core::mem::replace(&mut self.lock().size, size) != size {
            self.signal(TerminalSignal::Resized);
        }
    }

    /// Makes the slave's node a user's.
    pub fn set_owner(&self, uid: Uid) {
        self.lock().owner.uid = uid;
    }

    /// Whose terminal it is.
    pub fn control(&self) -> Control {
        let state = self.lock();
        Control { session: state.session, group: state.group }
    }

    /// Makes it a session's, or nobody's.
    pub fn set_control(&self, control: Control) {
        let mut state = self.lock();
        (state.session, state.group) = (control.session, control.group);
    }

    /// Turns packet mode on or off. See `ioctl_tty(2)`, `TIOCPKT`.
    pub fn set_packet(&self, on: bool) {
        let mut state = self.lock();
        if on && !state.packet {
            state.status = Status::empty();
        }
        state.packet = on;
    }

    /// Whether who writes from the background is to be stopped.
    pub fn stops_writers(&self) -> bool {
        self.settings().local.contains(LocalModes::TOSTOP)
    }

    /// Whether its master is in packet mode.
    pub fn is_packet(&self) -> bool {
        self.lock().packet
    }

    /// Whether nobody may open it any more.
    pub fn is_exclusive(&self) -> bool {
        self.lock().exclusive
    }

    /// Whether the slave is locked.
    pub fn is_locked(&self) -> bool {
        self.lock().locked
    }

    /// Lets nobody open it any more, or everybody. See `ioctl_tty(2)`, `TIOCEXCL`.
    pub fn set_exclusive(&self, on: bool) {
        self.lock().exclusive = on;
    }

    /// Locks or unlocks the slave. See unlockpt(3).
    pub fn set_locked(&self, locked: bool) {
        self.lock().locked = locked;
    }
}

impl<P: Platform> TerminalFile<P> {
    /// Puts a byte where this side reads, as if the other had written it. See `ioctl_tty(2)`, `TIOCSTI`.
    pub fn push_back(&self, byte: u8) {
        match self.side() {
            Side::Slave => {
                self.pair().type_bytes(&[byte]);
            }
            Side::Master => {
                self.pair().lock().line.output.write(&Settings::raw(), byte);
                self.pair().wake();
            }
        }
    }

    /// Forgets bytes that wait, as this side sees them.
    pub fn flush(&self, what: Flush) {
        {
            let mut state = self.pair().lock();
            let (input, output) = (what != Flush::Output, what != Flush::Input);
            match self.side() {
                Side::Slave => {
                    if input {
                        state.line.flush_input();
                        state.line.flush_typed();
                        state.tell(Status::FLUSH_READ);
                    }
                    if output {
                        state.line.output.flush();
                        state.tell(Status::FLUSH_WRITE);
                    }
                }
                Side::Master => {
                    if input {
                        state.line.output.flush();
                    }
                    if output {
                        state.line.flush_typed();
                    }
                }
            }
        }
        self.pair().wake();
    }

    /// Stops bytes, or lets them go on.
    pub fn flow(&self, flow: Flow) {
        let settings = self.pair().settings();
        let ask = |which| match (settings.character(which), self.side()) {
            (0, _) => {}
            (byte, Side::Master) => {
                self.pair().type_bytes(&[byte]);
            }
            (byte, Side::Slave) => {
                self.pair().lock().line.output.write(&Settings::raw(), byte);
            }
        };
        match flow {
            Flow::Suspend => self.pair().lock().change_flow(|output| output.suspended = true),
            Flow::Resume => self.pair().lock().change_flow(|output| output.suspended = false),
            Flow::StopOther => ask(Special::Stop),
            Flow::StartOther => ask(Special::Start),
        }
        self.pair().wake();
    }
}
