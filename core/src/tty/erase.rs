//! Erasing characters, words and lines. Source: Linux `drivers/tty/n_tty.c`, `eraser`.

use super::line::Line;
use super::output::is_control;
use super::settings::{LocalModes, Special};

/// What one keystroke erases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Character,
    Word,
    Line,
}

/// What a word is made of: letters and digits of Latin-1, as the kernel's `isalnum` has them, and `_`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

impl Line {
    /// Ends the display of what is erased, for paper.
    pub(super) fn finish_erasing(&mut self) {
        if core::mem::take(&mut self.erasing) {
            self.output.echo_raw(&self.settings, b'/');
        }
    }

    /// Erases what `byte`, which is one of the three characters for it, says.
    pub(super) fn erase(&mut self, byte: u8) {
        let settings = self.settings;
        if self.unfinished() == 0 {
            return;
        }
        let echo = settings.has(LocalModes::ECHO);
        let extent = if settings.is(byte, Special::Erase) {
            Extent::Character
        } else if settings.is(byte, Special::Werase) && settings.has(LocalModes::IEXTEN) && !settings.is(byte, Special::Kill) {
            Extent::Word
        } else {
            if !echo {
                self.drop_unfinished();
                return;
            }
            if !settings.has(LocalModes::ECHOK | LocalModes::ECHOKE | LocalModes::ECHOE) {
                self.drop_unfinished();
                self.finish_erasing();
                self.output.echo(&settings, settings.character(Special::Kill));
                if settings.has(LocalModes::ECHOK) {
                    self.output.echo_raw(&settings, b'\n');
                }
                return;
            }
            Extent::Line
        };
        let mut in_word = false;
        while self.unfinished() > 0 {
            let Some(count) = self.last_character() else { break };
            let first = self.at_end(count);
            if extent == Extent::Word {
                if is_word(first) {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            self.show_erased(count, extent == Extent::Character);
            self.drop_last(count);
            if self.erased_tab {
                self.erased_tab = false;
                self.wipe_tab();
            }
            if extent == Extent::Character {
                break;
            }
        }
        if self.unfinished() == 0 && echo {
            self.finish_erasing();
        }
    }

    /// Bytes of the last character of the line; `None` if its beginning is not there.
    fn last_character(&self) -> Option<usize> {
        (1..=self.unfinished()).find(|count| !self.settings.continues(self.at_end(*count)))
    }

    /// Shows that the last `count` bytes, one character, go.
    fn show_erased(&mut self, count: usize, alone: bool) {
        let settings = self.settings;
        let first = self.at_end(count);
        if !settings.has(LocalModes::ECHO) {
            return;
        }
        if settings.has(LocalModes::ECHOPRT) {
            if !self.erasing {
                self.output.echo_raw(&settings, b'\\');
                self.erasing = true;
            }
            self.output.echo(&settings, first);
            for rest in (1..count).rev() {
                let byte = self.at_end(rest);
                self.output.echo_raw(&settings, byte);
                self.output.same_column();
            }
        } else if alone && !settings.has(LocalModes::ECHOE) {
            self.output.echo(&settings, settings.character(Special::Erase));
        } else if first == b'\t' {
            self.erased_tab = true;
        } else {
            let wide = usize::from(is_control(first) && settings.has(LocalModes::ECHOCTL));
            let columns = if is_control(first) { wide.saturating_mul(2) } else { 1 };
            for byte in (0..columns).flat_map(|_| [8, b' ', 8]) {
                self.output.echo_raw(&settings, byte);
            }
        }
    }

    /// Moves back over a tab that is gone from the line already.
    fn wipe_tab(&mut self) {
        let (mut columns, mut after_tab) = (0usize, false);
        for count in 1..=self.unfinished() {
            let byte = self.at_end(count);
            if byte == b'\t' {
                after_tab = true;
                break;
            }
            let wide = match byte {
                _ if is_control(byte) => usize::from(self.settings.has(LocalModes::ECHOCTL)).saturating_mul(2),
                _ => usize::from(!self.settings.continues(byte)),
            };
            columns = columns.saturating_add(wide);
        }
        self.output.erase_tab(columns, after_tab);
    }
}
