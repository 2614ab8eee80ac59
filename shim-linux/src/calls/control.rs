//! What files tell and are told: fcntl(2), ioctl(2), getdents(2), fsync(2).

use super::files::{file, install, number, open_flags};
use super::put;
use crate::args::{Count, Fd, Flags, Int, Ptr, Word};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use linux_raw_sys::ioctl;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::{Fd as Number, FdFlags};
use litebox_core::fs::inode::DirEntry;
use litebox_core::fs::types::{FileKind, OFlags};
use litebox_core::mm::{GuestAddr, user};

/// The flags that `F_GETFL` reports.
fn status_bits(flags: OFlags) -> u32 {
    let access = match (flags.contains(OFlags::READ), flags.contains(OFlags::WRITE)) {
        (true, true) => raw::O_RDWR,
        (false, true) => raw::O_WRONLY,
        (_, false) => raw::O_RDONLY,
    };
    [
        (OFlags::APPEND, raw::O_APPEND),
        (OFlags::NONBLOCK, raw::O_NONBLOCK),
        (OFlags::DIRECTORY, raw::O_DIRECTORY),
        (OFlags::NOFOLLOW, raw::O_NOFOLLOW),
        (OFlags::PATH, raw::O_PATH),
        (OFlags::NOATIME, raw::O_NOATIME),
        (OFlags::DIRECT, raw::O_DIRECT),
        (OFlags::DSYNC, raw::O_DSYNC),
        (OFlags::SYNC, raw::O_SYNC),
    ]
    .iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(access | raw::O_LARGEFILE, |bits, (_, bit)| bits | bit)
}

pub(crate) fn fcntl<P: Cpu>(task: &mut Task<P>, fd: Fd, cmd: Int, arg: Word) -> Result<u32> {
    let file = file(task, fd)?;
    let fd = number(fd.0);
    let bits = u32::try_from(arg.0 & 0xffff_ffff).unwrap_or_default();
    match u32::try_from(cmd.0).map_err(|_| errno!(INVAL, "unknown command"))? {
        raw::F_DUPFD => install(task, file, FdFlags::empty(), Number(bits)),
        raw::F_DUPFD_CLOEXEC => install(task, file, FdFlags::CLOEXEC, Number(bits)),
        raw::F_GETFD => Ok(task.files().flags(fd)?.bits()),
        raw::F_SETFD => task.files().set_flags(fd, FdFlags::from_bits_truncate(bits)).map(|()| 0),
        _ if file.flags().contains(OFlags::PATH) => Err(errno!(BADF, "a handle on a place only")),
        raw::F_GETFL => Ok(status_bits(file.flags())),
        raw::F_SETFL => {
            file.set_status(open_flags(bits));
            Ok(0)
        }
        _ => Err(errno!(INVAL, "unknown command")),
    }
}

pub(crate) fn ioctl<P: Cpu>(task: &mut Task<P>, fd: Fd, request: Flags, arg: Word) -> Result<u32> {
    let file = file(task, fd)?;
    let at = GuestAddr::new(arg.0);
    match request.0 {
        ioctl::FIOCLEX | ioctl::FIONCLEX => {
            let flags = if request.0 == ioctl::FIOCLEX { FdFlags::CLOEXEC } else { FdFlags::empty() };
            task.files().set_flags(number(fd.0), flags).map(|()| 0)
        }
        ioctl::TIOCGWINSZ => {
            let size = file.ops().window_size()?;
            put::<P, 8>(at, &[size.rows, size.columns, 0, 0]).map(|()| 0)
        }
        ioctl::FIONREAD => {
            let bytes = i32::try_from(file.ops().readable_bytes()?).unwrap_or(i32::MAX);
            put::<P, 4>(at, &bytes).map(|()| 0)
        }
        _ => Err(errno!(NOTTY, "unknown request")),
    }
}

/// `d_type`.
const fn kind(kind: FileKind) -> u8 {
    match kind {
        FileKind::Fifo => 1,
        FileKind::CharDevice => 2,
        FileKind::Directory => 4,
        FileKind::BlockDevice => 6,
        FileKind::Regular => 8,
        FileKind::Symlink => 10,
        FileKind::Socket => 12,
    }
}

/// Appends one `struct linux_dirent64` if `room` allows it.
fn append(list: &mut Vec<u8>, room: usize, entry: &DirEntry<'_>) -> bool {
    // Inode, offset, length, kind, name and its NUL, up to a multiple of eight.
    let Some(len) = entry.name.len().checked_add(20).map(|len| len.next_multiple_of(8)) else { return false };
    let Ok(len_field) = u16::try_from(len) else { return false };
    let end = list.len().saturating_add(len);
    if end > room || list.try_reserve(len).is_err() {
        return false;
    }
    list.extend_from_slice(&entry.number.to_le_bytes());
    list.extend_from_slice(&entry.next.to_le_bytes());
    list.extend_from_slice(&len_field.to_le_bytes());
    list.push(kind(entry.kind));
    list.extend_from_slice(entry.name);
    list.resize(end, 0);
    true
}

/// Entries go through a buffer of at most this: a longer list takes another call, as in Linux on a small buffer.
const ENTRIES_MAX: usize = 32 * 1024;

pub(crate) fn getdents64<P: Cpu>(task: &mut Task<P>, fd: Fd, dirents: Ptr, count: Count) -> Result<usize> {
    let file = file(task, fd)?;
    let room = usize::try_from(count.0).unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX);
    let (mut list, mut refused) = (Vec::new(), false);
    file.read_dir(&mut |entry| {
        let fits = append(&mut list, room, &entry);
        refused |= !fits;
        fits
    })?;
    if list.is_empty() && refused {
        return Err(errno!(INVAL, "no room for an entry"));
    }
    user::write_all::<P>(dirents.0, &list)?;
    Ok(list.len())
}

pub(crate) fn fsync<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    file(task, fd)?.ops().sync()
}

pub(crate) fn fdatasync<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    fsync(task, fd)
}

/// `CLOSE_RANGE_CLOEXEC` of `linux/close_range.h`.
const RANGE_CLOEXEC: u32 = 1 << 2;

pub(crate) fn close_range<P: Cpu>(task: &mut Task<P>, first: Count, last: Count, flags: Flags) -> Result<()> {
    let files = task.files();
    match flags.0 {
        0 => files.close_range(Number(first.0), Number(last.0)),
        RANGE_CLOEXEC => files.mark_range(Number(first.0), Number(last.0)),
        _ => Err(errno!(INVAL, "unknown flags")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_and_stop_at_the_room() {
        let mut list = Vec::new();
        let entry = DirEntry { name: b"abcde", number: 7, kind: FileKind::Directory, next: 1 };
        assert!(append(&mut list, 48, &entry));
        assert_eq!((list.len(), list[16], list[18], &list[19..25]), (32, 32, 4, &b"abcde\0"[..]));
        assert!(!append(&mut list, 48, &entry));
        assert_eq!(list.len(), 32);
    }

    #[test]
    fn flags_come_back_as_they_went_in() {
        let bits = raw::O_RDWR | raw::O_APPEND | raw::O_NONBLOCK;
        assert_eq!(status_bits(open_flags(bits)), bits | raw::O_LARGEFILE);
    }
}
