//! ioctl(2).

use super::files::{number, open_file};
use super::{put, take};
use crate::args::{Fd, Flags, Word};
use crate::signal::Cpu;
use crate::task::Task;
use linux_raw_sys::ioctl;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::FdFlags;
use litebox_core::fs::file::File;
use litebox_core::fs::types::{FileKind, OFlags, SeekFrom};
use litebox_core::mm::GuestAddr;

/// A terminal's settings as they are after login: lines are edited, signals are made, output is processed. The host has the real
/// ones. Linux: `tty_std_termios`; flags of input, output, control and local modes.
const MODES: [u32; 4] = [0x500, 0x5, 0xbf, 0x8a3b];
/// Its special characters: ^C, ^\\, DEL, ^U, ^D, 0, 1, 0, ^Q, ^S, ^Z, 0, ^R, ^O, ^W, ^V, 0, 0, 0. Linux: `INIT_C_CC`.
const CHARACTERS: [u8; 19] = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0];

/// `struct termios`: the modes, the line discipline, the characters.
fn termios() -> [u8; 36] {
    let mut bytes = [0; 36];
    let modes = MODES.iter().flat_map(|mode| mode.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(modes.chain([0]).chain(CHARACTERS)) {
        *to = from;
    }
    bytes
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

/// What a terminal is told or asked. See `ioctl_tty(2)`.
fn terminal<P: Cpu>(task: &Task<P>, file: &File<P>, request: u32, at: GuestAddr) -> Result<u32> {
    let size = file.ops().window_size()?;
    match request {
        ioctl::TIOCGWINSZ => put::<P, 8>(at, &[size.rows, size.columns, 0, 0]),
        ioctl::TCGETS => put::<P, 36>(at, &termios()),
        ioctl::TIOCGPGRP => put::<P, 4>(at, &task.process().with(|state| state.group)),
        ioctl::TIOCGSID => put::<P, 4>(at, &task.process().with(|state| state.session)),
        // The terminal is the host's: what would change it is taken, and changes nothing.
        ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => take::<P, [u8; 36], 36>(at).map(drop),
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
        let bytes = termios();
        assert_eq!(bytes[..4], 0x500u32.to_le_bytes());
        assert_eq!((bytes[12..16].to_vec(), bytes[16], bytes[17], bytes[17 + 4]), (0x8a3bu32.to_le_bytes().to_vec(), 0, 3, 4));
    }
}
