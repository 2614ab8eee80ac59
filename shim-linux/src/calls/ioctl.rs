//! ioctl(2).

use super::files::{number, open_file};
use super::{put, take};
use crate::args::{Fd, Flags, Word};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use linux_raw_sys::{general, ioctl};
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::fd_table::FdFlags;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::{Apply, Terminal, WindowSize};
use litebox_core::fs::types::{FileKind, OFlags, SeekFrom};
use litebox_core::mm::{GuestAddr, user};
use litebox_core::tty::control::{Control, Flow, Flush};
use litebox_core::tty::pair::{Side, TerminalFile};
use litebox_core::tty::settings::Settings;

/// Both speeds of `struct termios2`: 38400 baud.
const SPEED: u32 = 38_400;

/// `struct termios`, and behind it what `struct termios2` adds: the speeds.
fn encode(settings: &Terminal) -> [u8; 44] {
    let mut bytes = [0; 44];
    let modes = settings.modes.iter().flat_map(|mode| mode.to_le_bytes());
    let speeds = [SPEED; 2].into_iter().flat_map(u32::to_le_bytes);
    for (to, from) in bytes.iter_mut().zip(modes.chain([settings.line]).chain(settings.characters).chain(speeds)) {
        *to = from;
    }
    bytes
}

/// What the first 36 bytes of either structure say.
fn decode(bytes: [u8; 36]) -> Terminal {
    let mut modes = [0; 4];
    for (mode, part) in modes.iter_mut().zip(bytes.chunks_exact(4)) {
        *mode = part.iter().rev().fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
    }
    let line = bytes.get(16).copied().unwrap_or_default();
    let mut characters = [0; 19];
    for (to, from) in characters.iter_mut().zip(bytes.iter().skip(17)) {
        *to = *from;
    }
    Terminal { modes, line, characters }
}

/// Sets or clears a status flag by the `int` at `at`.
fn set_status<P: Cpu>(file: &File<P>, flag: OFlags, at: GuestAddr) -> Result<u32> {
    let on = take::<P, i32, 4>(at)? != 0;
    let mut flags = file.flags();
    flags.set(flag, on);
    file.set_status(flags);
    Ok(0)
}

/// Bytes that can be read without waiting.
fn readable<P: Cpu>(file: &File<P>) -> Result<u64> {
    if file.place().inode().kind() == FileKind::Regular && file.ops().seekable() {
        let left = file.ops().size()?.saturating_sub(file.seek(SeekFrom::Current(0))?);
        return Ok(left);
    }
    file.ops().readable_bytes()
}

pub(crate) fn ioctl<P: Cpu>(task: &mut Task<P>, fd: Fd, request: Flags, arg: Word) -> Result<u32> {
    let file = open_file(task, fd)?;
    let at = GuestAddr::new(arg.0);
    match request.0 {
        ioctl::FIOCLEX => task.files().set_flags(number(fd.0), FdFlags::CLOEXEC).map(|()| 0),
        ioctl::FIONCLEX => task.files().set_flags(number(fd.0), FdFlags::empty()).map(|()| 0),
        ioctl::FIONBIO => set_status(&file, OFlags::NONBLOCK, at),
        ioctl::FIOASYNC => set_status(&file, OFlags::ASYNC, at),
        ioctl::FIONREAD => {
            let bytes = i32::try_from(readable(&file)?).unwrap_or(i32::MAX);
            put::<P, 4>(at, &bytes).map(|()| 0)
        }
        ioctl::FIGETBSZ if matches!(file.place().inode().kind(), FileKind::Regular | FileKind::Directory) => {
            put::<P, 4>(at, &file.place().inode().attr()?.block_size).map(|()| 0)
        }
        ioctl::FICLONE | ioctl::FICLONERANGE => Err(errno!(OPNOTSUPP, "files do not share blocks")),
        request => terminal(task, &file, request, at),
    }
}

/// Changes settings; a host that lets nobody change them keeps its own, and that is no error.
fn set_terminal<P: Cpu>(file: &File<P>, at: GuestAddr, apply: Apply) -> Result<()> {
    match file.ops().set_terminal(&decode(take::<P, [u8; 36], 36>(at)?), apply) {
        Err(error) if error.is(Errno::NOTTY) => Ok(()),
        done => done,
    }
}

/// What is particular to a terminal of the sandbox; `NOTTY` for the rest.
fn own_terminal<P: Cpu>(task: &Task<P>, file: &Arc<TerminalFile<P>>, request: u32, at: GuestAddr) -> Result<()> {
    let pair = file.pair();
    let (session, group) = task.process().with(|state| (state.session, state.group));
    match (request, file.side()) {
        (ioctl::TIOCGPTN, Side::Master) => put::<P, 4>(at, &pair.number()),
        (ioctl::TIOCSPTLCK, Side::Master) => {
            pair.set_locked(take::<P, u32, 4>(at)? != 0);
            Ok(())
        }
        (ioctl::TIOCPKT, Side::Master) => {
            pair.set_packet(take::<P, u32, 4>(at)? != 0);
            Ok(())
        }
        (ioctl::TIOCEXCL | ioctl::TIOCNXCL, _) => {
            pair.set_exclusive(request == ioctl::TIOCEXCL);
            Ok(())
        }
        (ioctl::TIOCSWINSZ, _) => {
            let [rows, columns, width, height] = take::<P, [u16; 4], 8>(at)?;
            pair.resize(WindowSize { rows, columns, pixels: [width, height] });
            Ok(())
        }
        (ioctl::TCFLSH, _) => {
            let what = match u32::try_from(at.get()) {
                Ok(general::TCIFLUSH) => Flush::Input,
                Ok(general::TCOFLUSH) => Flush::Output,
                Ok(general::TCIOFLUSH) => Flush::Both,
                _ => return Err(errno!(INVAL, "no queue of a terminal")),
            };
            file.flush(what);
            Ok(())
        }
        (ioctl::TCXONC, _) => {
            let flow = match u32::try_from(at.get()) {
                Ok(general::TCOOFF) => Flow::Suspend,
                Ok(general::TCOON) => Flow::Resume,
                Ok(general::TCIOFF) => Flow::StopOther,
                Ok(general::TCION) => Flow::StartOther,
                _ => return Err(errno!(INVAL, "nothing to do with bytes")),
            };
            file.flow(flow);
            Ok(())
        }
        (ioctl::TIOCSCTTY, Side::Slave) => {
            if session != task.process().pid() {
                return Err(errno!(PERM, "only who leads a session takes a terminal"));
            }
            match pair.control().session {
                Some(owner) if owner == session => {}
                Some(_) => return Err(errno!(PERM, "the terminal is another session's")),
                None => pair.set_control(Control { session: Some(session), group: Some(group) }),
            }
            Ok(())
        }
        (ioctl::TIOCGPGRP, _) => put::<P, 4>(at, &pair.control().group.unwrap_or(0)),
        (ioctl::TIOCSPGRP, _) => {
            let group = take::<P, i32, 4>(at)?;
            let group = u32::try_from(group).map_err(|_| errno!(INVAL, "a negative group"))?;
            if pair.control().session != Some(session) {
                return Err(errno!(NOTTY, "not the session's terminal"));
            }
            let members = task.sandbox().select(|process| process.with(|state| state.group) == group)?;
            let first = members.first().ok_or(errno!(SRCH, "no such group"))?;
            if first.with(|state| state.session) != session {
                return Err(errno!(PERM, "a group of another session"));
            }
            pair.set_control(Control { session: Some(session), group: Some(group) });
            Ok(())
        }
        _ => Err(errno!(NOTTY)),
    }
}

/// What a terminal is told or asked. See `ioctl_tty(2)`.
fn terminal<P: Cpu>(task: &Task<P>, file: &File<P>, request: u32, at: GuestAddr) -> Result<u32> {
    if let Some(pair) = Arc::clone(file.ops()).into_any().and_then(|ops| ops.downcast::<TerminalFile<P>>().ok()) {
        match own_terminal(task, &pair, request, at) {
            Err(error) if error.is(Errno::NOTTY) => {}
            done => return done.map(|()| 0),
        }
    }
    let size = file.ops().window_size()?;
    match request {
        ioctl::TIOCGWINSZ => put::<P, 8>(at, &[size.rows, size.columns, size.pixels[0], size.pixels[1]]),
        ioctl::TCGETS | ioctl::TCGETS2 => {
            // What a host does not tell is as after opening.
            let bytes = encode(&file.ops().terminal().unwrap_or_else(|_| Settings::default().into()));
            let len = if request == ioctl::TCGETS { 36 } else { 44 };
            user::write_all::<P>(at, bytes.get(..len).unwrap_or_default())
        }
        ioctl::TIOCGPGRP => put::<P, 4>(at, &task.process().with(|state| state.group)),
        ioctl::TIOCGSID => put::<P, 4>(at, &task.process().with(|state| state.session)),
        ioctl::TCSETS | ioctl::TCSETS2 => set_terminal(file, at, Apply::Now),
        ioctl::TCSETSW | ioctl::TCSETSW2 => set_terminal(file, at, Apply::Drained),
        ioctl::TCSETSF | ioctl::TCSETSF2 => set_terminal(file, at, Apply::Flushed),
        // The terminal's session is the host's: what would change it is taken, and changes nothing.
        ioctl::TIOCSPGRP => take::<P, u32, 4>(at).map(drop),
        ioctl::TIOCSCTTY | ioctl::TIOCNOTTY | ioctl::TCFLSH | ioctl::TCSBRK | ioctl::TCXONC => Ok(()),
        _ => Err(errno!(NOTTY, "unknown request")),
    }
    .map(|()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_s_settings_have_linux_s_layout() {
        let usual = Terminal::from(Settings::default());
        let bytes = encode(&usual);
        assert_eq!(bytes[..4], 0x500u32.to_le_bytes());
        assert_eq!((bytes[12..16].to_vec(), bytes[16], bytes[17], bytes[17 + 4]), (0x8a3bu32.to_le_bytes().to_vec(), 0, 3, 4));
        assert_eq!(bytes[36..40], SPEED.to_le_bytes());
        let mut first = [0; 36];
        first.copy_from_slice(&bytes[..36]);
        first[16] = 7;
        assert_eq!(decode(first), Terminal { line: 7, ..usual });
    }
}
