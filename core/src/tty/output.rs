//! What is shown: output processing, and echo. Source: Linux `drivers/tty/n_tty.c`, `do_output_char`, `__process_echoes`.

use super::settings::{LocalModes, OutputModes, Settings};
use alloc::collections::VecDeque;

/// Written bytes that may wait for the master.
pub(super) const ROOM: usize = 64 * 1024;
/// Echo that may wait above that.
pub(super) const ECHO_ROOM: usize = 4096;
/// Most bytes that one written byte becomes.
const WIDEST: usize = 8;

/// A control character, which is shown as `^X`.
pub(super) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// A letter in the kernel's alphabet, which is Latin-1.
fn to_upper(byte: u8) -> u8 {
    let small = byte.is_ascii_lowercase() || (byte >= 0xe0 && byte != 0xf7 && byte != 0xff);
    if small { byte.wrapping_sub(0x20) } else { byte }
}

/// What goes to the master, and where the cursor is.
#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<u8>,
    /// Echo that came while output was stopped.
    held: VecDeque<u8>,
    column: usize,
    /// The column where the present line of input began.
    line_column: usize,
    /// By the `STOP` character.
    pub(super) stopped: bool,
    /// By tcflow(3).
    pub(super) suspended: bool,
}

impl Output {
    /// Whether nothing may be written now.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped || self.suspended
    }

    /// Bytes that wait for the master.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether a byte can be written.
    pub(super) fn has_room(&self) -> bool {
        !self.is_stopped() && ROOM.saturating_sub(self.queue.len()) >= WIDEST
    }

    /// Adds a byte as it is; what has no room is lost.
    fn push(&mut self, byte: u8) {
        let (queue, limit) =
            if self.is_stopped() { (&mut self.held, ECHO_ROOM) } else { (&mut self.queue, ROOM.saturating_add(ECHO_ROOM)) };
        if queue.len() < limit && queue.try_reserve(1).is_ok() {
            queue.push_back(byte);
        }
    }

    /// Writes a byte. False if there is no room.
    pub(super) fn write(&mut self, settings: &Settings, byte: u8) -> bool {
        let room = self.has_room();
        if room {
            self.process(settings, byte);
        }
        room
    }

    fn process(&mut self, settings: &Settings, byte: u8) {
        let modes = settings.output;
        if !modes.contains(OutputModes::OPOST) {
            self.push(byte);
            return;
        }
        let mut byte = byte;
        match byte {
            b'\n' => {
                if modes.contains(OutputModes::ONLRET) {
                    self.column = 0;
                }
                if modes.contains(OutputModes::ONLCR) {
                    self.column = 0;
                    self.push(b'\r');
                }
                self.line_column = self.column;
            }
            b'\r' => {
                if modes.contains(OutputModes::ONOCR) && self.column == 0 {
                    return;
                }
                if modes.contains(OutputModes::OCRNL) {
                    byte = b'\n';
                    if modes.contains(OutputModes::ONLRET) {
                        (self.column, self.line_column) = (0, 0);
                    }
                } else {
                    (self.column, self.line_column) = (0, 0);
                }
            }
            b'\t' => {
                let spaces = 8usize.saturating_sub(self.column & 7);
                self.column = self.column.saturating_add(spaces);
                if modes.contains(OutputModes::XTABS) {
                    (0..spaces).for_each(|_| self.push(b' '));
                    return;
                }
            }
            8 => self.column = self.column.saturating_sub(1),
            _ if is_control(byte) => {}
            _ => {
                if modes.contains(OutputModes::OLCUC) {
                    byte = to_upper(byte);
                }
                if !settings.continues(byte) {
                    self.column = self.column.saturating_add(1);
                }
            }
        }
        self.push(byte);
    }

    /// Shows a typed byte as output.
    pub(super) fn echo_raw(&mut self, settings: &Settings, byte: u8) {
        self.process(settings, byte);
    }

    /// Shows a typed byte; control characters as the settings say.
    pub(super) fn echo(&mut self, settings: &Settings, byte: u8) {
        if settings.has(LocalModes::ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.push(b'^');
            self.push(byte ^ 0o100);
            self.column = self.column.saturating_add(2);
        } else {
            self.process(settings, byte);
        }
    }

    /// Notes that a line of input begins here.
    pub(super) fn begin_line(&mut self) {
        self.line_column = self.column;
    }

    /// Moves the cursor's notion back by one, for a byte that took no column.
    pub(super) fn same_column(&mut self) {
        self.column = self.column.saturating_sub(1);
    }

    /// Wipes out a tab that came after `columns` columns of input, or of what follows the tab before.
    pub(super) fn erase_tab(&mut self, columns: usize, after_tab: bool) {
        let before = if after_tab { columns } else { columns.saturating_add(self.line_column) };
        for _ in 0..8usize.saturating_sub(before & 7) {
            self.push(8);
            self.column = self.column.saturating_sub(1);
        }
    }

    /// Shows what was held back, if nothing stops it any more.
    pub(super) fn go_on(&mut self) {
        if !self.is_stopped() {
            let held = core::mem::take(&mut self.held);
            held.into_iter().for_each(|byte| self.push(byte));
        }
    }

    /// Forgets what waits.
    pub(super) fn flush(&mut self) {
        self.queue.clear();
    }

    /// Forgets echo that waits.
    pub(super) fn flush_echo(&mut self) {
        self.held.clear();
    }

    /// Takes up to `max` bytes into `to`, which has room for them.
    pub(super) fn take(&mut self, max: usize, to: &mut alloc::vec::Vec<u8>) {
        let count = max.min(self.queue.len());
        to.extend(self.queue.drain(..count));
        if self.queue.is_empty() {
            self.queue.shrink_to(ECHO_ROOM);
        }
    }
}
