//! Files by handles: `name_to_handle_at(2)`, `open_by_handle_at(2)`.
//!
//! A handle is the inode's number. File systems in memory keep no table of numbers, so the tree is searched: such a call is rare, and a
//! table would cost each file. Others cannot look a number up, and say so. Source: Linux `fs/fhandle.c`.

use super::files::{dir_of, open_flags, opened, path, with_dir};
use super::{put, take};
use crate::args::{DirFd, Flags, Path, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{FileKind, Mode, Name, NameBuf};

/// Most bytes of a handle. Linux: `MAX_HANDLE_SZ`.
const BYTES_MAX: u32 = 128;
/// Bytes of one of ours, behind the head's two words: the number.
const BYTES: u32 = 8;
/// Its type, as file systems with 64-bit numbers alone have it. Linux: `FILEID_INO64_GEN`.
const TYPE: u32 = 0x81;
/// Flags of `name_to_handle_at(2)` since 6.5, 6.12 and 6.13. Linux: `linux/fcntl.h`.
const FID: u32 = 0x200;
const MNT_ID_UNIQUE: u32 = 0x1;
const CONNECTABLE: u32 = 0x2;

/// Whether files of the mount that `place` is in can be found by their numbers.
fn can_find<P: Cpu>(place: &Dentry<P>) -> bool {
    matches!(place.mount().kind, "tmpfs" | "ramfs")
}

pub(crate) fn name_to_handle_at<P: Cpu>(
    task: &mut Task<P>,
    dir: DirFd,
    name: Path,
    handle: Ptr,
    mount_id: Ptr,
    flags: Flags,
) -> Result<()> {
    let has = |flag: u32| flags.0 & flag != 0;
    let known = raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH | FID | MNT_ID_UNIQUE | CONNECTABLE;
    if has(!known) || (has(CONNECTABLE) && has(FID | raw::AT_EMPTY_PATH)) {
        return Err(errno!(INVAL, "unknown flags, or some that exclude each other"));
    }
    let name = path::<P>(name)?;
    let mut how = Resolve::empty();
    how.set(Resolve::FOLLOW, has(raw::AT_SYMLINK_FOLLOW));
    how.set(Resolve::EMPTY, has(raw::AT_EMPTY_PATH));
    let place = with_dir(task, dir, &name, |at| at.resolve(&name, how))?;
    if !has(FID) && !can_find(&place) {
        return Err(errno!(OPNOTSUPP, "no handles on this file system"));
    }
    let [room, _type] = take::<P, [u32; 2], 8>(handle.0)?;
    if room > BYTES_MAX {
        return Err(errno!(INVAL, "a longer handle than there is"));
    }
    let id = place.mount().id;
    if has(MNT_ID_UNIQUE) {
        put::<P, 8>(mount_id.0, &u64::from(id))?
    } else {
        put::<P, 4>(mount_id.0, &id)?
    }
    if room < BYTES {
        put::<P, 8>(handle.0, &[BYTES, TYPE])?;
        return Err(errno!(OVERFLOW, "no room for the handle"));
    }
    let number = place.inode().id().number.to_le_bytes();
    let ([low @ .., _, _, _, _], [_, _, _, _, high @ ..]) = (number, number);
    put::<P, 16>(handle.0, &[BYTES, TYPE, u32::from_le_bytes(low), u32::from_le_bytes(high)])
}

/// The place of inode `number` in the mount with this root, by looking at all.
fn find<P: Cpu>(root: Arc<Dentry<P>>, number: u64) -> Result<Arc<Dentry<P>>> {
    if root.inode().id().number == number {
        return Ok(root);
    }
    let mut open = alloc::vec![root];
    while let Some(dir) = open.pop() {
        let (mut found, mut below) = (None, Vec::<NameBuf>::new());
        dir.inode().read_dir(2, &mut |entry| {
            let Ok(name) = Name::new(entry.name) else { return true };
            if entry.number == number {
                found = Some(NameBuf::from(name));
            } else if entry.kind == FileKind::Directory && below.try_reserve(1).is_ok() {
                below.push(NameBuf::from(name));
            }
            found.is_none()
        })?;
        if let Some(name) = found {
            return dir.child(name.as_name());
        }
        open.try_reserve(below.len()).map_err(|_| errno!(NOMEM))?;
        // What was removed meanwhile is not what is looked for.
        open.extend(below.iter().filter_map(|name| dir.child(name.as_name()).ok()));
    }
    Err(errno!(STALE, "no file has that number"))
}

pub(crate) fn open_by_handle_at<P: Cpu>(task: &mut Task<P>, mount: DirFd, handle: Ptr, flags: Flags) -> Result<u32> {
    let anchor = match dir_of(task, mount, b".")? {
        Some(place) => place,
        None => task.fs().cwd,
    };
    let [bytes, kind] = take::<P, [u32; 2], 8>(handle.0)?;
    if bytes == 0 || bytes > BYTES_MAX {
        return Err(errno!(INVAL, "no length of a handle"));
    }
    if !task.credentials().can(Capabilities::DAC_READ_SEARCH) {
        return Err(errno!(PERM, "only root may"));
    }
    if bytes != BYTES || kind != TYPE || !can_find(&anchor) {
        return Err(errno!(STALE, "a handle of something else"));
    }
    let [number] = take::<P, [u64; 1], 8>(handle.0.plus(8)?)?;
    let mut root = anchor;
    while let Some(parent) = root.parent() {
        root = parent;
    }
    let place = find(root, number)?;
    let flags = open_flags(flags.0);
    let (fs, credentials) = (task.fs(), task.credentials());
    let file = fs.at_cwd(&credentials).open_place(place, flags, Mode::empty())?;
    opened(task, file, flags)
}
