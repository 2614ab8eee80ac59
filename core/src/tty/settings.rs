//! What can be set of a terminal. See termios(3).
//!
//! Bits and places of characters are the ABI's, so that bits without a meaning here are kept; the ABI above checks that.

use crate::fs::inode::Terminal;
use bitflags::bitflags;

bitflags! {
    /// What happens to typed bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct InputModes: u32 {
        /// Bytes of 255 are doubled, to tell them from marks.
        const PARMRK = 0o10;
        /// The eighth bit is cleared.
        const ISTRIP = 0o40;
        /// A newline becomes a carriage return.
        const INLCR = 0o100;
        /// Carriage returns are dropped.
        const IGNCR = 0o200;
        /// A carriage return becomes a newline.
        const ICRNL = 0o400;
        /// Capitals become small letters.
        const IUCLC = 0o1000;
        /// `STOP` and `START` stop output and let it go on.
        const IXON = 0o2000;
        /// Any character lets output go on.
        const IXANY = 0o4000;
        /// Erasing takes whole characters of UTF-8.
        const IUTF8 = 0o40000;
        const _ = !0;
    }

    /// What happens to written bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct OutputModes: u32 {
        /// Any of the following.
        const OPOST = 0o1;
        /// Small letters become capitals.
        const OLCUC = 0o2;
        /// A newline gets a carriage return before it.
        const ONLCR = 0o4;
        /// A carriage return becomes a newline.
        const OCRNL = 0o10;
        /// No carriage return in column 0.
        const ONOCR = 0o20;
        /// A newline goes to column 0 by itself.
        const ONLRET = 0o40;
        /// Both bits: tabs become spaces.
        const XTABS = 0o14000;
        const _ = !0;
    }

    /// What the hardware would do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct ControlModes: u32 {
        /// The speed, two bytes of it.
        const CBAUD = 0o10017;
        /// Both bits: eight bits a byte.
        const CS8 = 0o60;
        /// The receiver is on.
        const CREAD = 0o200;
        /// A parity bit.
        const PARENB = 0o400;
        /// Modem lines are ignored.
        const CLOCAL = 0o4000;
        const _ = !0;
    }

    /// Editing, echo and signals.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct LocalModes: u32 {
        /// Characters send signals.
        const ISIG = 0o1;
        /// Lines are edited, and read whole.
        const ICANON = 0o2;
        /// What is typed is shown.
        const ECHO = 0o10;
        /// `ERASE` and `WERASE` wipe out what they erase.
        const ECHOE = 0o20;
        /// `KILL` is shown with a newline.
        const ECHOK = 0o40;
        /// A newline is shown even without `ECHO`.
        const ECHONL = 0o100;
        /// Signals do not drop what waits.
        const NOFLSH = 0o200;
        /// Writing from the background stops a job.
        const TOSTOP = 0o400;
        /// Control characters are shown as `^X`.
        const ECHOCTL = 0o1000;
        /// What is erased is printed as it goes, for paper.
        const ECHOPRT = 0o2000;
        /// `KILL` wipes out the line.
        const ECHOKE = 0o4000;
        /// `WERASE`, `LNEXT`, `REPRINT`, `EOL2` and `IUCLC` work.
        const IEXTEN = 0o100000;
        /// Lines are edited at the other end.
        const EXTPROC = 0o200000;
        const _ = !0;
    }
}

/// How many special characters there are.
pub const CHARACTERS: usize = 19;

/// A special character, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is termios(3)'s, which says what it does")]
#[rustfmt::skip]
pub enum Special {
    Intr = 0, Quit = 1, Erase = 2, Kill = 3, Eof = 4, Time = 5, Min = 6, Start = 8, Stop = 9, Susp = 10, Eol = 11, Reprint = 12,
    Werase = 14, Lnext = 15, Eol2 = 16,
}

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Input.
    pub input: InputModes,
    /// Output.
    pub output: OutputModes,
    /// Hardware.
    pub control: ControlModes,
    /// The rest.
    pub local: LocalModes,
    /// The line discipline's number; 0 is this one.
    pub line: u8,
    /// Special characters.
    pub characters: [u8; CHARACTERS],
}

impl Default for Settings {
    /// As after opening. Linux: `tty_std_termios`, `INIT_C_CC`.
    fn default() -> Self {
        let local = LocalModes::ISIG
            .union(LocalModes::ICANON)
            .union(LocalModes::ECHO)
            .union(LocalModes::ECHOE)
            .union(LocalModes::ECHOK)
            .union(LocalModes::ECHOCTL)
            .union(LocalModes::ECHOKE)
            .union(LocalModes::IEXTEN);
        Self {
            input: InputModes::ICRNL | InputModes::IXON,
            output: OutputModes::OPOST | OutputModes::ONLCR,
            // 38400 baud.
            control: ControlModes::from_bits_retain(0xf) | ControlModes::CS8 | ControlModes::CREAD,
            local,
            line: 0,
            characters: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
        }
    }
}

impl From<Terminal> for Settings {
    fn from(from: Terminal) -> Self {
        let [input, output, control, local] = from.modes;
        Self {
            input: InputModes::from_bits_retain(input),
            output: OutputModes::from_bits_retain(output),
            control: ControlModes::from_bits_retain(control),
            local: LocalModes::from_bits_retain(local),
            line: from.line,
            characters: from.characters,
        }
    }
}

impl From<Settings> for Terminal {
    fn from(from: Settings) -> Self {
        let modes = [from.input.bits(), from.output.bits(), from.control.bits(), from.local.bits()];
        Self { modes, line: from.line, characters: from.characters }
    }
}

impl Settings {
    /// Those of a master: nothing is done to any byte.
    #[must_use]
    pub fn raw() -> Self {
        let none = Self::default();
        Self { input: InputModes::empty(), output: OutputModes::empty(), local: LocalModes::empty(), ..none }
    }

    /// The character at this place; 0 is none.
    #[must_use]
    pub fn character(&self, which: Special) -> u8 {
        self.characters.get(which as usize).copied().unwrap_or_default()
    }

    /// Whether `byte` is this special character, which 0 never is.
    pub(super) fn is(&self, byte: u8, which: Special) -> bool {
        byte != 0 && byte == self.character(which)
    }

    /// Whether all of these are set.
    pub(super) fn has(&self, modes: LocalModes) -> bool {
        self.local.contains(modes)
    }

    /// Whether lines are edited here.
    pub(super) fn canonical(&self) -> bool {
        self.has(LocalModes::ICANON)
    }

    /// Whether `byte` goes on a character of UTF-8 that began before it.
    pub(super) fn continues(&self, byte: u8) -> bool {
        self.input.contains(InputModes::IUTF8) && byte & 0xc0 == 0x80
    }
}
