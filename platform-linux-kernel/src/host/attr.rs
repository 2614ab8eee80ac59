// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Attributes and errors of the host's files, in the library OS's terms.

use crate::sys;
use core::mem::MaybeUninit;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::fs::types::{Attr, DeviceId, FileKind, Gid, InodeId, Mode, Timestamp, Uid};

/// Says a host's result in the library OS's terms.
pub(super) fn check(result: i32) -> Result<()> {
    if result < 0 { Err(error(result)) } else { Ok(()) }
}

/// What a count or a negative error number means.
pub(super) fn count(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_negative| error(i32::try_from(result).unwrap_or_default()))
}

/// The error for a negative number of the host's. Numbers that the library OS has no name for are `IO`.
pub(super) fn error(number: i32) -> Error {
    match number.unsigned_abs() {
        sys::EINTR | sys::ERESTARTSYS | sys::ERESTARTNOINTR | sys::ERESTARTNOHAND | sys::ERESTART_RESTARTBLOCK => {
            Error::Interrupted
        }
        sys::EPERM => errno!(PERM),
        sys::ENOENT => errno!(NOENT),
        sys::ENXIO => errno!(NXIO),
        sys::EBADF => errno!(BADF),
        sys::EAGAIN => errno!(AGAIN),
        sys::ENOMEM => errno!(NOMEM),
        sys::EACCES => errno!(ACCESS),
        sys::EBUSY => errno!(BUSY),
        sys::EEXIST => errno!(EXIST),
        sys::EXDEV => errno!(XDEV),
        sys::ENODEV => errno!(NODEV),
        sys::ENOTDIR => errno!(NOTDIR),
        sys::EISDIR => errno!(ISDIR),
        sys::EINVAL => errno!(INVAL),
        sys::ENFILE => errno!(NFILE),
        sys::ENOTTY => errno!(NOTTY),
        sys::ETXTBSY => errno!(TXTBSY),
        sys::EFBIG => errno!(FBIG),
        sys::ENOSPC => errno!(NOSPC),
        sys::ESPIPE => errno!(SPIPE),
        sys::EROFS => errno!(ROFS),
        sys::EMLINK => errno!(MLINK),
        sys::EPIPE => errno!(PIPE),
        sys::ENAMETOOLONG => errno!(NAMETOOLONG),
        sys::ENOTEMPTY => errno!(NOTEMPTY),
        sys::ELOOP => errno!(LOOP),
        sys::EOVERFLOW => errno!(OVERFLOW),
        sys::EOPNOTSUPP => errno!(OPNOTSUPP),
        sys::ESTALE => errno!(STALE),
        _ => errno!(IO, "the host's error has no name here"),
    }
}

/// The same for an error of the kernel crate.
pub(super) fn from_kernel(failure: kernel::error::Error) -> Error {
    error(failure.to_errno())
}

/// The kind in the host's mode bits; what is none is a device.
pub(super) fn kind_of_mode(mode: u32) -> FileKind {
    match mode & sys::S_IFMT {
        sys::S_IFREG => FileKind::Regular,
        sys::S_IFDIR => FileKind::Directory,
        sys::S_IFLNK => FileKind::Symlink,
        sys::S_IFIFO => FileKind::Fifo,
        sys::S_IFSOCK => FileKind::Socket,
        sys::S_IFBLK => FileKind::BlockDevice,
        _ => FileKind::CharDevice,
    }
}

/// The kernel's own encoding (include/linux/kdev_t.h).
fn device(number: sys::dev_t) -> DeviceId {
    DeviceId { major: number >> 20, minor: number & 0xf_ffff }
}

fn time(time: sys::timespec64) -> Timestamp {
    Timestamp { seconds: time.tv_sec, nanoseconds: u32::try_from(time.tv_nsec).unwrap_or_default() }
}

/// What the host says of the file at `path`.
///
/// # Safety
/// `path` is a live path, whose references the caller has.
pub(super) unsafe fn of(path: *const sys::path) -> Result<Attr> {
    let mut stat = MaybeUninit::<sys::kstat>::zeroed();
    // SAFETY: Contract; the answer goes to our buffer.
    check(unsafe { sys::vfs_getattr(path, stat.as_mut_ptr(), sys::STATX_BASIC_STATS, sys::AT_STATX_SYNC_AS_STAT) })?;
    // SAFETY: Every bit pattern is a value of this C structure, and the buffer was zeroed to begin with.
    let stat = unsafe { stat.assume_init() };
    let mode = u32::from(stat.mode);
    Ok(Attr {
        id: InodeId { device: device(stat.dev), number: stat.ino },
        kind: kind_of_mode(mode),
        mode: Mode::from_bits_truncate(mode),
        links: stat.nlink,
        uid: Uid(stat.uid.val),
        gid: Gid(stat.gid.val),
        device: device(stat.rdev),
        size: u64::try_from(stat.size).unwrap_or_default(),
        blocks: stat.blocks,
        block_size: stat.blksize,
        accessed: time(stat.atime),
        modified: time(stat.mtime),
        changed: time(stat.ctime),
    })
}
