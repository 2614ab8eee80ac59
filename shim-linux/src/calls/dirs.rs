//! Directories' entries: getdents(2).

use super::files::file;
use crate::args::{Count, Fd, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::inode::DirEntry;
use litebox_core::mm::user;

/// Where an entry says what it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Before its name: `struct linux_dirent64`.
    First,
    /// In its last byte: `struct linux_dirent`.
    Last,
}

/// Appends one entry if `room` allows it.
fn append(list: &mut Vec<u8>, room: usize, entry: &DirEntry<'_>, says: Kind) -> bool {
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
    if says == Kind::First {
        list.push(entry.kind.number());
    }
    list.extend_from_slice(entry.name);
    list.resize(end, 0);
    if let (Kind::Last, Some(last)) = (says, list.last_mut()) {
        *last = entry.kind.number();
    }
    true
}

/// Entries go through a buffer of at most this: a longer list takes another call, as in Linux on a small buffer.
const ENTRIES_MAX: usize = 32 * 1024;

fn list<P: Cpu>(task: &Task<P>, fd: Fd, dirents: Ptr, count: Count, says: Kind) -> Result<usize> {
    let file = file(task, fd)?;
    let room = usize::try_from(count.0).unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX);
    let (mut list, mut refused) = (Vec::new(), false);
    file.read_dir(&mut |entry| {
        let fits = append(&mut list, room, &entry, says);
        refused |= !fits;
        fits
    })?;
    if list.is_empty() && refused {
        return Err(errno!(INVAL, "no room for an entry"));
    }
    user::write_all::<P>(dirents.0, &list)?;
    Ok(list.len())
}

pub(crate) fn getdents64<P: Cpu>(task: &mut Task<P>, fd: Fd, dirents: Ptr, count: Count) -> Result<usize> {
    list(task, fd, dirents, count, Kind::First)
}

pub(crate) fn getdents<P: Cpu>(task: &mut Task<P>, fd: Fd, dirents: Ptr, count: Count) -> Result<usize> {
    list(task, fd, dirents, count, Kind::Last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::fs::types::FileKind;

    #[test]
    fn entries_are_padded_and_stop_at_the_room() {
        let mut list = Vec::new();
        let entry = DirEntry { name: b"abcde", number: 7, kind: FileKind::Directory, next: 1 };
        assert!(append(&mut list, 48, &entry, Kind::First));
        assert_eq!((list.len(), list[16], list[18], &list[19..25]), (32, 32, 4, &b"abcde\0"[..]));
        assert!(!append(&mut list, 48, &entry, Kind::First));
        assert_eq!(list.len(), 32);
        assert!(append(&mut list, 64, &entry, Kind::Last));
        assert_eq!((list[48], &list[50..56], list[63]), (32, &b"abcde\0"[..], 4));
    }
}
