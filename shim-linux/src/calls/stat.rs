//! What files are: stat(2), statx(2), statfs(2), readlink(2).

use super::files::{file, path, with_dir};
use super::put;
use crate::args::{DirFd, Fd, Flags, Int, Path, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::mount::MountFlags;
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{self, Attr, DeviceId, FileKind};
use litebox_core::mm::{GuestAddr, user};

/// How the `AT_` flags of a call want its path resolved.
pub(super) fn how(flags: Flags) -> Resolve {
    let mut how = Resolve::empty();
    how.set(Resolve::FOLLOW, flags.0 & raw::AT_SYMLINK_NOFOLLOW == 0);
    how.set(Resolve::EMPTY, flags.0 & raw::AT_EMPTY_PATH != 0);
    how
}

/// A path that may be left out: Linux takes a null pointer for an empty one where `AT_EMPTY_PATH` is set.
pub(super) fn path_or_none<P: Cpu>(name: Path, flags: Flags) -> Result<Vec<u8>> {
    let left_out = flags.0 & raw::AT_EMPTY_PATH != 0 && name.0 == GuestAddr::default();
    if left_out { Ok(Vec::new()) } else { path::<P>(name) }
}

/// The place that a call's path and `AT_` flags name.
fn place<P: Cpu>(task: &Task<P>, dir: DirFd, name: Path, flags: Flags) -> Result<Arc<Dentry<P>>> {
    let name = path_or_none::<P>(name, flags)?;
    with_dir(task, dir, &name, |at| at.resolve(&name, how(flags)))
}

/// A device's number as `struct stat` has it. Linux: `new_encode_dev`.
pub(super) fn device(id: DeviceId) -> u64 {
    u64::from(id.minor & 0xff) | (u64::from(id.major & 0xfff) << 8) | (u64::from(id.minor & 0xfff_ff00) << 12)
}

/// The kind among the bits of a mode.
const fn format(kind: FileKind) -> u32 {
    (kind.number() as u32) << 12
}
const _: () = assert!(format(FileKind::Regular) == raw::S_IFREG && format(FileKind::Socket) == raw::S_IFSOCK);

const STAT_BYTES: usize = size_of::<raw::stat>();
const _: () = assert!(STAT_BYTES == 18 * 8);

/// `struct stat`.
fn encode(attr: &Attr) -> [u64; 18] {
    let mode = u64::from(format(attr.kind) | attr.mode.bits());
    let seconds = |time: types::Timestamp| u64::from_le_bytes(time.seconds.to_le_bytes());
    let nanos = |time: types::Timestamp| u64::from(time.nanoseconds);
    [
        device(attr.id.device),
        attr.id.number,
        u64::from(attr.links),
        mode | (u64::from(attr.uid.0) << 32),
        u64::from(attr.gid.0),
        device(attr.device),
        attr.size,
        u64::from(attr.block_size),
        attr.blocks,
        seconds(attr.accessed),
        nanos(attr.accessed),
        seconds(attr.modified),
        nanos(attr.modified),
        seconds(attr.changed),
        nanos(attr.changed),
        0,
        0,
        0,
    ]
}

fn put_stat<P: Cpu>(buf: Ptr, place: &Dentry<P>) -> Result<()> {
    put::<P, STAT_BYTES>(buf.0, &encode(&place.inode().attr()?))
}

pub(crate) fn fstat<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr) -> Result<()> {
    put_stat(buf, file(task, fd)?.place())
}

pub(crate) fn newfstatat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, buf: Ptr, flags: Flags) -> Result<()> {
    if flags.0 & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT | raw::AT_EMPTY_PATH) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let place = place(task, dir, name, flags)?;
    put_stat(buf, &place)
}

pub(crate) fn stat<P: Cpu>(task: &mut Task<P>, name: Path, buf: Ptr) -> Result<()> {
    newfstatat(task, DirFd(raw::AT_FDCWD), name, buf, Flags(0))
}

pub(crate) fn lstat<P: Cpu>(task: &mut Task<P>, name: Path, buf: Ptr) -> Result<()> {
    newfstatat(task, DirFd(raw::AT_FDCWD), name, buf, Flags(raw::AT_SYMLINK_NOFOLLOW))
}

/// `struct statx`: its words, of which the last twelve are spare.
const STATX_BYTES: usize = size_of::<raw::statx>();
const _: () = assert!(STATX_BYTES == 32 * 8);

/// What is told of each file.
const STATX_KNOWN: u32 = raw::STATX_BASIC_STATS | raw::STATX_MNT_ID;

fn encode_x<P: Cpu>(attr: &Attr, place: &Dentry<P>) -> [u64; 32] {
    let pair = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    let time = |time: types::Timestamp| [u64::from_le_bytes(time.seconds.to_le_bytes()), u64::from(time.nanoseconds)];
    let ([a, a_nanos], [c, c_nanos], [m, m_nanos]) = (time(attr.accessed), time(attr.changed), time(attr.modified));
    let mount_root = u64::from(raw::STATX_ATTR_MOUNT_ROOT);
    let is_root = place.mount().id != 0 && place.parent().is_none();
    let head = [
        pair(STATX_KNOWN, attr.block_size),
        if is_root { mount_root } else { 0 },
        pair(attr.links, attr.uid.0),
        pair(attr.gid.0, format(attr.kind) | attr.mode.bits()),
        attr.id.number,
        attr.size,
        attr.blocks,
        mount_root,
        a,
        a_nanos,
        0,
        0,
        c,
        c_nanos,
        m,
        m_nanos,
        pair(attr.device.major, attr.device.minor),
        pair(attr.id.device.major, attr.id.device.minor),
        u64::from(place.mount().id),
    ];
    let mut words = [0; 32];
    for (to, from) in words.iter_mut().zip(head) {
        *to = from;
    }
    words
}

pub(crate) fn statx<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, flags: Flags, mask: Flags, buf: Ptr) -> Result<()> {
    let sync = flags.0 & raw::AT_STATX_SYNC_TYPE;
    if mask.0 & raw::STATX__RESERVED != 0 || sync == raw::AT_STATX_SYNC_TYPE {
        return Err(errno!(INVAL, "reserved bits"));
    }
    let known = raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT | raw::AT_EMPTY_PATH | raw::AT_STATX_SYNC_TYPE;
    if flags.0 & !known != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let place = place(task, dir, name, flags)?;
    put::<P, STATX_BYTES>(buf.0, &encode_x(&place.inode().attr()?, &place))
}

const STATFS_BYTES: usize = size_of::<raw::statfs>();
const _: () = assert!(STATFS_BYTES == 15 * 8);

/// Numbers by which programs know a type of file system. Linux: `linux/magic.h` and the types' own sources.
fn magic(kind: &str) -> u32 {
    match kind {
        "proc" => 0x9fa0,
        "sysfs" => 0x6265_6572,
        "devpts" => 0x1cd1,
        "none" => 0x5049_5045,
        "ext4" => raw::EXT4_SUPER_MAGIC,
        "fuse" | "host" => raw::FUSE_SUPER_MAGIC,
        "overlay" => raw::OVERLAYFS_SUPER_MAGIC,
        "erofs" => 0xe0f5_e1e2,
        _ => raw::TMPFS_MAGIC,
    }
}

fn put_statfs<P: Cpu>(buf: Ptr, place: &Dentry<P>) -> Result<()> {
    /// Linux's `ST_VALID` and `ST_RELATIME` of `linux/statfs.h`.
    const VALID: u64 = 0x20 | 0x1000;
    let mount = place.mount();
    let figures = place.inode().fs_stat();
    let flags = [(MountFlags::READ_ONLY, 1), (MountFlags::NOSUID, 2), (MountFlags::NODEV, 4), (MountFlags::NOEXEC, 8)];
    let flags = flags.iter().filter(|(flag, _)| mount.flags().contains(*flag)).fold(VALID, |bits, (_, bit)| bits | bit);
    let size = u64::from(figures.block_size);
    let id = place.inode().id().device;
    let id = u64::from(id.minor) | (u64::from(id.major) << 32);
    let name_max = u64::try_from(types::NAME_MAX).unwrap_or_default();
    let words = [
        u64::from(magic(mount.kind)),
        size,
        figures.blocks,
        figures.free,
        figures.free,
        figures.blocks,
        figures.free,
        id,
        name_max,
        size,
        flags,
        0,
        0,
        0,
        0,
    ];
    put::<P, STATFS_BYTES>(buf.0, &words)
}

pub(crate) fn statfs<P: Cpu>(task: &mut Task<P>, name: Path, buf: Ptr) -> Result<()> {
    let place = place(task, DirFd(raw::AT_FDCWD), name, Flags(0))?;
    put_statfs(buf, &place)
}

pub(crate) fn fstatfs<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr) -> Result<()> {
    put_statfs(buf, file(task, fd)?.place())
}

pub(crate) fn readlinkat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, buf: Ptr, size: Int) -> Result<usize> {
    let room = usize::try_from(size.0).ok().filter(|room| *room > 0).ok_or(errno!(INVAL, "no room"))?;
    let name = path::<P>(name)?;
    let target = with_dir(task, dir, &name, |at| at.readlink(&name));
    // Without a name it is about a descriptor, and one of something else is as if there were none. Linux: `do_readlinkat`.
    let no_link = target.as_ref().is_err_and(|error| error.is(Errno::INVAL));
    let target = if name.is_empty() && no_link { Err(errno!(NOENT, "no symbolic link is open")) } else { target }?;
    let shown = target.get(..room).unwrap_or(&target);
    user::write_all::<P>(buf.0, shown)?;
    Ok(shown.len())
}

pub(crate) fn readlink<P: Cpu>(task: &mut Task<P>, name: Path, buf: Ptr, size: Int) -> Result<usize> {
    readlinkat(task, DirFd(raw::AT_FDCWD), name, buf, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_linux_s() {
        assert_eq!(device(DeviceId { major: 1, minor: 3 }), 0x103);
        assert_eq!(device(DeviceId { major: 8, minor: 0x123 }), 0x10_0823);
    }
}
