//! ioctl(2). What is asked of terminals is in [`super::terminal`].

use super::files::{number, open_file};
use super::{put, take, terminal};
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
        ioctl::FIONREAD if !terminal::is_hung_up(&file) => {
            let bytes = i32::try_from(readable(&file)?).unwrap_or(i32::MAX);
            put::<P, 4>(at, &bytes).map(|()| 0)
        }
        ioctl::FIGETBSZ if matches!(file.place().inode().kind(), FileKind::Regular | FileKind::Directory) => {
            put::<P, 4>(at, &file.place().inode().attr()?.block_size).map(|()| 0)
        }
        ioctl::FICLONE | ioctl::FICLONERANGE => Err(errno!(OPNOTSUPP, "files do not share blocks")),
        request => terminal::ioctl(task, &file, request, at),
    }
}
