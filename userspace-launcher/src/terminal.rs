//! The guest's terminal: a pair in the module, whose other end is the device. This side shows what it writes and types what is typed
//! here, in which the host's terminal is raw: it echoes nothing, edits nothing and sends no signals, as the pair does that.
//!
//! So nothing that a guest asks of its terminal reaches the host's but the bytes that it shows, as with ssh(1) or script(1).
//! Invariant: the host's terminal is as it was whenever this process ends or stops by what it can see coming ([`Raw`]).

use crate::device::Sandbox;
use crate::report::Failure;
use litebox_ioctl_abi::{NewTerminal, Terminal, TerminalSize};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::num::NonZeroU32;

/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;
/// The character that ends input, typed when ours ends.
const END: u8 = 4;
/// Linux's settings of a new terminal, for want of one here: modes, and characters by their place.
const USUAL: ([u32; 4], [u8; 19]) =
    ([0x500, 0x5, 0xbf, 0x8a3b], [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0]);

/// Special characters in the order of `struct termios`; two places are not used.
const CHARACTERS: [Option<SpecialCodeIndex>; 19] = [
    Some(SpecialCodeIndex::VINTR),
    Some(SpecialCodeIndex::VQUIT),
    Some(SpecialCodeIndex::VERASE),
    Some(SpecialCodeIndex::VKILL),
    Some(SpecialCodeIndex::VEOF),
    Some(SpecialCodeIndex::VTIME),
    Some(SpecialCodeIndex::VMIN),
    Some(SpecialCodeIndex::VSWTC),
    Some(SpecialCodeIndex::VSTART),
    Some(SpecialCodeIndex::VSTOP),
    Some(SpecialCodeIndex::VSUSP),
    Some(SpecialCodeIndex::VEOL),
    Some(SpecialCodeIndex::VREPRINT),
    Some(SpecialCodeIndex::VDISCARD),
    Some(SpecialCodeIndex::VWERASE),
    Some(SpecialCodeIndex::VLNEXT),
    Some(SpecialCodeIndex::VEOL2),
    None,
    None,
];

/// The host's terminal in raw mode, if there is one; its former mode comes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    former: Option<Termios>,
}

impl Raw {
    fn enter(former: Option<Termios>) -> Self {
        let raw = Self { former };
        raw.resume();
        raw
    }

    /// Makes it raw again, after a stop.
    pub(crate) fn resume(&self) {
        if let Some(former) = &self.former {
            let mut raw = former.clone();
            raw.make_raw();
            // A terminal that is gone needs no mode.
            let _ = tcsetattr(stdin(), OptionalActions::Drain, &raw);
        }
    }

    /// Gives the former mode back.
    pub(crate) fn restore(&self) {
        if let Some(former) = &self.former {
            let _ = tcsetattr(stdin(), OptionalActions::Drain, former);
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The terminal that the guest is to have.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Which of the guest's descriptors it is.
    pub(crate) descriptors: NonZeroU32,
    /// The settings of the terminal here, if there is one.
    former: Option<Termios>,
}

impl Wanted {
    /// One if standard input and output are terminals, or if it is `forced`. Standard error goes there too unless it leads elsewhere.
    pub(crate) fn find(forced: bool) -> Option<Self> {
        let both = isatty(stdin()) && isatty(stdout());
        if !both && !forced {
            return None;
        }
        let errors = forced || isatty(stderr());
        Some(Self {
            descriptors: if errors { NonZeroU32::MIN.saturating_add(6) } else { NonZeroU32::MIN.saturating_add(2) },
            former: if isatty(stdin()) { tcgetattr(stdin()).ok() } else { None },
        })
    }

    /// Makes it in the sandbox.
    pub(crate) fn make(&self, sandbox: &Sandbox) -> Result<(), Failure> {
        let (modes, characters) = self.former.as_ref().map_or(USUAL, settings);
        let line = self.former.as_ref().map_or(0, |former| former.line_discipline);
        let new = NewTerminal { descriptors: self.descriptors, modes, characters, line };
        sandbox.terminal(Terminal { size: size(), new: Some(new) })
    }

    /// Makes the terminal here raw.
    pub(crate) fn enter(self) -> Raw {
        Raw::enter(self.former)
    }
}

/// Modes and characters, as the kernel has them.
fn settings(from: &Termios) -> ([u32; 4], [u8; 19]) {
    let modes = [from.input_modes.bits(), from.output_modes.bits(), from.control_modes.bits(), from.local_modes.bits()];
    let characters = CHARACTERS.map(|place| place.map_or(0, |place| from.special_codes[place]));
    (modes, characters)
}

/// The size of the terminal here; none is 0 lines of 0.
fn size() -> TerminalSize {
    let size = tcgetwinsize(stdin()).or_else(|_none| tcgetwinsize(stdout()));
    size.map_or_else(
        |_none| TerminalSize::default(),
        |size| TerminalSize { rows: size.ws_row, columns: size.ws_col, pixels: [size.ws_xpixel, size.ws_ypixel] },
    )
}

/// Tells the guest the size of the terminal here. One that has ended needs none.
pub(crate) fn resize(sandbox: &Sandbox) {
    let _ = sandbox.terminal(Terminal { size: size(), new: None });
}

/// Shows what the guest writes, until it has ended. Once nobody looks, it is taken and thrown away, so that the guest does not hang.
pub(crate) fn show(sandbox: &Sandbox) {
    let mut chunk = vec![0; CHUNK];
    let mut has_reader = true;
    while let Ok(count @ 1..) = sandbox.shown(&mut chunk) {
        has_reader = has_reader && write_all(&chunk[..count], |bytes| rustix::io::write(stdout(), bytes), &stdout());
    }
}

/// Types what comes from standard input, until that or the guest has ended.
pub(crate) fn type_all(sandbox: &Sandbox) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match rustix::io::read(stdin(), &mut chunk) {
            Ok(0) => {
                // A terminal that hangs up also sends SIGHUP, which is passed on.
                let _ = sandbox.type_bytes(&[END]);
                return;
            }
            Ok(count) => {
                let mut rest = &chunk[..count];
                while !rest.is_empty() {
                    match sandbox.type_bytes(rest) {
                        Ok(count) => rest = &rest[count..],
                        Err(_ended) => return,
                    }
                }
            }
            Err(Errno::AGAIN) => wait(&stdin(), PollFlags::IN),
            Err(Errno::INTR) => {}
            Err(_gone) => return,
        }
    }
}

/// Writes all of it, though the file be non-blocking; false if it cannot be written any more.
fn write_all(mut bytes: &[u8], write: impl Fn(&[u8]) -> Result<usize, Errno>, file: &impl rustix::fd::AsFd) -> bool {
    while !bytes.is_empty() {
        match write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::AGAIN) => wait(file, PollFlags::OUT),
            Err(Errno::INTR) => {}
            Err(_gone) => return false,
        }
    }
    true
}

/// Waits until a file that another process has made non-blocking is ready.
fn wait(file: &impl rustix::fd::AsFd, what: PollFlags) {
    let _ = poll(&mut [PollFd::new(file, what)], None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_the_kernel_s() {
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let Ok(master) = rustix::pty::openpt(flags) else { return };
        assert_eq!(settings(&tcgetattr(&master).unwrap()), USUAL);
    }
}
