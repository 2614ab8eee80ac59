//! The line discipline: what becomes of typed bytes. Source: termios(3); Linux `drivers/tty/n_tty.c`.
//!
//! Invariants: at most [`INPUT_MAX`] bytes can be read; the first `complete` of them are whole lines, when lines are edited.

use super::TerminalSignal;
use super::output::Output;
use super::settings::{InputModes, LocalModes, Settings, Special};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes that can wait to be read. Linux: `N_TTY_BUF_SIZE`.
pub(super) const INPUT_MAX: usize = 4096;
/// Typed bytes that can wait before them.
pub(super) const TYPED_MAX: usize = 64 * 1024;

/// Whether a line ends with a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    No,
    /// With it.
    End,
    /// Before it: the `EOF` character, which is not read.
    Eof,
}

/// Signals that typed bytes asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Raised {
    interrupt: bool,
    quit: bool,
    suspend: bool,
    /// Input was dropped.
    pub(super) flushed: bool,
}

impl Raised {
    /// The signals.
    pub(super) fn signals(self) -> impl Iterator<Item = TerminalSignal> {
        let all = [
            (self.interrupt, TerminalSignal::Interrupt),
            (self.quit, TerminalSignal::Quit),
            (self.suspend, TerminalSignal::Suspend),
        ];
        all.into_iter().filter_map(|(raised, signal)| raised.then_some(signal))
    }
}

/// One terminal's input and output.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) settings: Settings,
    pub(super) output: Output,
    input: VecDeque<(u8, Mark)>,
    complete: usize,
    /// Typed, and not looked at for want of room.
    typed: VecDeque<u8>,
    literal_next: bool,
    pub(super) erasing: bool,
    /// A tab was erased, and is to be wiped out.
    pub(super) erased_tab: bool,
}

impl Line {
    /// Types up to [`TYPED_MAX`] bytes; returns how many.
    pub(super) fn type_bytes(&mut self, bytes: &[u8], raised: &mut Raised) -> usize {
        let room = TYPED_MAX.saturating_sub(self.typed.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        if self.typed.try_reserve(taken.len()).is_err() {
            return 0;
        }
        self.typed.extend(taken);
        self.look(raised);
        taken.len()
    }

    /// Whether more can be typed.
    pub(super) fn has_room(&self) -> bool {
        self.typed.len() < TYPED_MAX
    }

    /// Looks at typed bytes as long as there is room for them.
    pub(super) fn look(&mut self, raised: &mut Raised) {
        while !self.typed.is_empty() {
            let len = self.input.len();
            let bound = if self.settings.input.contains(InputModes::PARMRK) { INPUT_MAX / 3 } else { INPUT_MAX };
            if len.saturating_add(1) >= bound {
                // A line that is too long goes on losing its last byte, so that its end is seen.
                if !self.settings.canonical() || self.complete > 0 {
                    break;
                }
                if len >= bound {
                    self.input.pop_back();
                }
            }
            if let Some(byte) = self.typed.pop_front() {
                self.receive(byte, raised);
            }
        }
        if self.typed.is_empty() {
            self.typed.shrink_to(INPUT_MAX);
        }
    }

    /// Bytes of the line that is being typed.
    pub(super) fn unfinished(&self) -> usize {
        self.input.len().saturating_sub(self.complete)
    }

    /// The byte that is the `count`th from the end.
    pub(super) fn at_end(&self, count: usize) -> u8 {
        let at = self.input.len().checked_sub(count);
        at.and_then(|at| self.input.get(at)).map_or(0, |(byte, _)| *byte)
    }

    /// Takes the last `count` bytes back.
    pub(super) fn drop_last(&mut self, count: usize) {
        self.input.truncate(self.input.len().saturating_sub(count).max(self.complete));
    }

    /// Takes the unfinished line back.
    pub(super) fn drop_unfinished(&mut self) {
        self.input.truncate(self.complete);
    }

    fn put(&mut self, byte: u8, mark: Mark) {
        if byte == 0xff && mark != Mark::Eof && self.settings.input.contains(InputModes::PARMRK) {
            self.push(byte, Mark::No);
        }
        self.push(byte, mark);
    }

    fn push(&mut self, byte: u8, mark: Mark) {
        if self.input.try_reserve(1).is_ok() {
            self.input.push_back((byte, mark));
        }
        if mark != Mark::No {
            self.complete = self.input.len();
        }
    }

    fn receive(&mut self, byte: u8, raised: &mut Raised) {
        let modes = self.settings.input;
        let mut byte = if modes.contains(InputModes::ISTRIP) { byte & 0x7f } else { byte };
        if modes.contains(InputModes::IUCLC) && self.settings.has(LocalModes::IEXTEN) {
            let capital = byte.is_ascii_uppercase() || ((0xc0..=0xde).contains(&byte) && byte != 0xd7);
            byte = if capital { byte.saturating_add(0x20) } else { byte };
        }
        if core::mem::take(&mut self.literal_next) {
            self.ordinary(byte);
        } else if self.settings.has(LocalModes::EXTPROC) {
            self.push(byte, Mark::No);
        } else {
            self.special(byte, raised);
        }
    }

    /// A byte that means itself.
    fn ordinary(&mut self, byte: u8) {
        self.go_on_by_any();
        self.show(byte);
        self.put(byte, Mark::No);
    }

    /// Any character lets output go on, if that is set.
    fn go_on_by_any(&mut self) {
        if self.output.stopped && self.settings.input.contains(InputModes::IXON | InputModes::IXANY) {
            self.start();
        }
    }

    /// Echoes a byte.
    fn show(&mut self, byte: u8) {
        if self.settings.has(LocalModes::ECHO) {
            self.finish_erasing();
            let settings = self.settings;
            if byte == b'\n' {
                self.output.echo_raw(&settings, byte);
                return;
            }
            if self.unfinished() == 0 {
                self.output.begin_line();
            }
            self.output.echo(&settings, byte);
        }
    }

    /// Lets output go on that a character has stopped.
    pub(super) fn start(&mut self) {
        self.output.stopped = false;
        self.output.go_on();
    }

    /// A byte that may have a meaning.
    fn special(&mut self, byte: u8, raised: &mut Raised) {
        let settings = self.settings;
        let modes = settings.input;
        if modes.contains(InputModes::IXON) {
            if settings.is(byte, Special::Start) {
                return self.start();
            }
            if settings.is(byte, Special::Stop) {
                self.output.stopped = true;
                return;
            }
        }
        if settings.has(LocalModes::ISIG) {
            let flag =
                [(Special::Intr, &mut raised.interrupt), (Special::Quit, &mut raised.quit), (Special::Susp, &mut raised.suspend)]
                    .into_iter()
                    .find(|(which, _)| settings.is(byte, *which));
            if let Some((_, flag)) = flag {
                *flag = true;
                return self.signalled(byte, raised);
            }
        }
        self.go_on_by_any();
        let mut byte = byte;
        if byte == b'\r' {
            if modes.contains(InputModes::IGNCR) {
                return;
            }
            if modes.contains(InputModes::ICRNL) {
                byte = b'\n';
            }
        } else if byte == b'\n' && modes.contains(InputModes::INLCR) {
            byte = b'\r';
        }
        if settings.canonical() && self.edit(byte) {
            return;
        }
        self.show(byte);
        self.put(byte, Mark::No);
    }

    /// What else a character does that sends a signal.
    fn signalled(&mut self, byte: u8, raised: &mut Raised) {
        if !self.settings.has(LocalModes::NOFLSH) {
            self.output.flush_echo();
            self.output.flush();
            self.flush_input();
            raised.flushed = true;
        }
        if self.settings.input.contains(InputModes::IXON) {
            self.start();
        }
        if self.settings.has(LocalModes::ECHO) {
            let settings = self.settings;
            self.output.echo(&settings, byte);
        }
    }

    /// Edits the line by `byte`; false if that is an ordinary one.
    fn edit(&mut self, byte: u8) -> bool {
        let settings = self.settings;
        let extended = settings.has(LocalModes::IEXTEN);
        let echo = settings.has(LocalModes::ECHO);
        let is = |which| settings.is(byte, which);
        if is(Special::Erase) || is(Special::Kill) || (is(Special::Werase) && extended) {
            self.erase(byte);
        } else if is(Special::Lnext) && extended {
            self.literal_next = true;
            if echo {
                self.finish_erasing();
                if settings.has(LocalModes::ECHOCTL) {
                    self.output.echo_raw(&settings, b'^');
                    self.output.echo_raw(&settings, 8);
                }
            }
        } else if is(Special::Reprint) && echo && extended {
            self.finish_erasing();
            self.output.echo(&settings, byte);
            self.output.echo_raw(&settings, b'\n');
            for count in (1..=self.unfinished()).rev() {
                let byte = self.at_end(count);
                self.output.echo(&settings, byte);
            }
        } else if byte == b'\n' {
            if echo || settings.has(LocalModes::ECHONL) {
                self.output.echo_raw(&settings, byte);
            }
            self.push(byte, Mark::End);
        } else if is(Special::Eof) {
            self.push(0, Mark::Eof);
        } else if is(Special::Eol) || (is(Special::Eol2) && extended) {
            if echo {
                if self.unfinished() == 0 {
                    self.output.begin_line();
                }
                self.output.echo(&settings, byte);
            }
            self.put(byte, Mark::End);
        } else {
            return false;
        }
        true
    }

    /// Whether a read would get something, if it wants at least `least` bytes of what is not lines.
    pub(super) fn is_readable(&self, least: usize) -> bool {
        if self.reads_lines() { self.complete > 0 } else { self.input.len() >= least.max(1) }
    }

    /// Whether a read gets one line at most.
    pub(super) fn reads_lines(&self) -> bool {
        self.settings.canonical() && !self.settings.has(LocalModes::EXTPROC)
    }

    /// Bytes that can be read.
    pub(super) fn readable_bytes(&self) -> usize {
        if !self.reads_lines() {
            return self.input.len();
        }
        self.input.iter().take(self.complete).filter(|(_, mark)| *mark != Mark::Eof).count()
    }

    /// Takes up to `max` bytes into `to`, which has room for them; with lines, to the end of the first one. True if a line ended.
    pub(super) fn take(&mut self, max: usize, to: &mut Vec<u8>) -> bool {
        let lines = self.reads_lines();
        let available = if lines { self.complete } else { self.input.len() };
        let mut taken = 0usize;
        for _ in 0..available {
            // An end that is no byte is taken behind the last byte that has room.
            let Some((byte, mark)) = self.input.front().copied() else { break };
            let is_eof = mark == Mark::Eof && lines;
            if !is_eof && taken >= max {
                break;
            }
            self.input.pop_front();
            self.complete = self.complete.saturating_sub(1);
            if is_eof {
                return true;
            }
            to.push(byte);
            taken = taken.saturating_add(1);
            if lines && mark == Mark::End {
                return true;
            }
        }
        false
    }

    /// Forgets what can be read.
    pub(super) fn flush_input(&mut self) {
        self.input.clear();
        (self.complete, self.literal_next, self.erasing) = (0, false, false);
    }

    /// Forgets what was typed and not looked at.
    pub(super) fn flush_typed(&mut self) {
        self.typed.clear();
    }

    /// Takes new settings.
    pub(super) fn set(&mut self, settings: Settings, raised: &mut Raised) {
        let former = core::mem::replace(&mut self.settings, settings);
        if (former.local ^ settings.local).intersects(LocalModes::ICANON | LocalModes::EXTPROC) {
            // What waits can be read as it is, whether or not it is a line.
            for cell in &mut self.input {
                cell.1 = Mark::No;
            }
            self.complete = 0;
            if let Some(last) = self.input.back_mut().filter(|_| settings.canonical()) {
                last.1 = Mark::End;
                self.complete = self.input.len();
            }
            (self.erasing, self.literal_next) = (false, false);
        }
        let had_flow = former.input.contains(InputModes::IXON);
        if had_flow && !settings.input.contains(InputModes::IXON) && !self.output.suspended {
            self.start();
        }
        self.look(raised);
    }
}
