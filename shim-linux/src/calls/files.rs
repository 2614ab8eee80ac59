//! Open files: read(2), write(2), lseek(2), open(2), close(2), stat(2), dup(2), chdir(2), getcwd(2), umask(2).

use super::put;
use crate::args::{DirFd, Fd, Flags, Int, Len, Mode, Offset, Path, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::fd_table::{Fd as Number, FdFlags};
use litebox_core::fs::file::File;
use litebox_core::fs::io::{GuestRange, IoDst, IoSrc};
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{self, Attr, DeviceId, FileKind, OFlags, SeekFrom};
use litebox_core::mm::{GuestAddr, UserCStr, UserReader, user};

/// Longest path with its NUL.
const PATH_MAX: usize = 4096;
/// Most ranges of one call. Linux: `UIO_MAXIOV`.
const RANGES_MAX: u64 = 1024;

/// A descriptor as core has it: a negative one is none, as is the highest.
pub(super) fn number(fd: i32) -> Number {
    Number(u32::try_from(fd).unwrap_or(u32::MAX))
}

pub(super) fn file<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<Arc<File<P>>> {
    task.process().files().get(number(fd.0))
}

fn range(buf: Ptr, count: Len) -> [GuestRange; 1] {
    [GuestRange { addr: buf.0, len: usize::try_from(count.0).unwrap_or(user::MAX_IO).min(user::MAX_IO) }]
}

pub(crate) fn read<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr, count: Len) -> Result<usize> {
    file(task, fd)?.read(&mut IoDst::guest(&range(buf, count))?)
}

/// Writes; a pipe without readers also sends the signal.
fn send<P: Cpu>(task: &Task<P>, result: Result<usize>) -> Result<usize> {
    if result.as_ref().is_err_and(|error| error.is(litebox_core::error::Errno::PIPE)) {
        super::signals::broken_pipe(task);
    }
    result
}

pub(crate) fn write<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr, count: Len) -> Result<usize> {
    let written = file(task, fd)?.write(&mut IoSrc::guest(&range(buf, count))?);
    send(task, written)
}

fn at(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| errno!(INVAL, "a negative offset"))
}

pub(crate) fn pread64<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr, count: Len, offset: Offset) -> Result<usize> {
    let at = at(offset.0)?;
    file(task, fd)?.read_at(at, &mut IoDst::guest(&range(buf, count))?)
}

pub(crate) fn pwrite64<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr, count: Len, offset: Offset) -> Result<usize> {
    let at = at(offset.0)?;
    let written = file(task, fd)?.write_at(at, &mut IoSrc::guest(&range(buf, count))?);
    send(task, written)
}

/// The ranges of a `struct iovec` array, read once.
fn ranges<P: Cpu>(iov: Ptr, count: Len) -> Result<Vec<GuestRange>> {
    if count.0 > RANGES_MAX {
        return Err(errno!(INVAL, "too many ranges"));
    }
    let count = usize::try_from(count.0).map_err(|_| errno!(INVAL))?;
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    let mut from: UserReader<P> = litebox_core::mm::UserIn::new(iov.0, count.saturating_mul(16)).reader();
    for _ in 0..count {
        let mut words = [0; 16];
        if from.read(&mut words)? < words.len() {
            return Err(errno!(FAULT, "ranges that are not there"));
        }
        let word = u128::from_le_bytes(words);
        let addr = GuestAddr::new(u64::try_from(word & u128::from(u64::MAX)).unwrap_or_default());
        let len = u64::try_from(word >> 64).unwrap_or_default();
        let len = i64::try_from(len).ok().and_then(|len| usize::try_from(len).ok());
        list.push(GuestRange { addr, len: len.ok_or(errno!(INVAL, "a negative length"))? });
    }
    Ok(list)
}

pub(crate) fn readv<P: Cpu>(task: &mut Task<P>, fd: Fd, iov: Ptr, iovcnt: Len) -> Result<usize> {
    let file = file(task, fd)?;
    file.read(&mut IoDst::guest(&ranges::<P>(iov, iovcnt)?)?)
}

pub(crate) fn writev<P: Cpu>(task: &mut Task<P>, fd: Fd, iov: Ptr, iovcnt: Len) -> Result<usize> {
    let file = file(task, fd)?;
    let written = file.write(&mut IoSrc::guest(&ranges::<P>(iov, iovcnt)?)?);
    send(task, written)
}

pub(crate) fn lseek<P: Cpu>(task: &mut Task<P>, fd: Fd, offset: Offset, whence: Int) -> Result<u64> {
    let file = file(task, fd)?;
    let data = || u64::try_from(offset.0).map_err(|_| errno!(NXIO, "a negative offset"));
    let to = match u32::try_from(whence.0) {
        Ok(raw::SEEK_SET) => SeekFrom::Start(at(offset.0)?),
        Ok(raw::SEEK_CUR) => SeekFrom::Current(offset.0),
        Ok(raw::SEEK_END) => SeekFrom::End(offset.0),
        Ok(raw::SEEK_DATA) => SeekFrom::Data(data()?),
        Ok(raw::SEEK_HOLE) => SeekFrom::Hole(data()?),
        _ => return Err(errno!(INVAL, "from where?")),
    };
    file.seek(to)
}

/// Flags of open(2), which ignores those that it does not know.
pub(super) fn open_flags(bits: u32) -> OFlags {
    let mut flags = match bits & raw::O_ACCMODE {
        raw::O_RDONLY => OFlags::READ,
        raw::O_WRONLY => OFlags::WRITE,
        raw::O_RDWR => OFlags::READ | OFlags::WRITE,
        _ => OFlags::empty(),
    };
    for (bit, flag) in [
        (raw::O_APPEND, OFlags::APPEND),
        (raw::O_NONBLOCK, OFlags::NONBLOCK),
        (raw::O_CREAT, OFlags::CREATE),
        (raw::O_EXCL, OFlags::EXCL),
        (raw::O_TRUNC, OFlags::TRUNC),
        (raw::O_DIRECTORY, OFlags::DIRECTORY),
        (raw::O_NOFOLLOW, OFlags::NOFOLLOW),
        (raw::O_PATH, OFlags::PATH),
        (raw::O_TMPFILE, OFlags::TMPFILE),
        (raw::O_CLOEXEC, OFlags::CLOEXEC),
        (raw::O_NOCTTY, OFlags::NOCTTY),
        (raw::O_NOATIME, OFlags::NOATIME),
        (raw::O_DIRECT, OFlags::DIRECT),
        (raw::O_DSYNC, OFlags::DSYNC),
        (raw::O_SYNC, OFlags::SYNC),
    ] {
        flags.set(flag, bits & bit == bit);
    }
    flags
}

pub(super) fn descriptor_flags(flags: OFlags) -> FdFlags {
    if flags.contains(OFlags::CLOEXEC) { FdFlags::CLOEXEC } else { FdFlags::empty() }
}

/// How many descriptors the process may have.
fn limit<P: Cpu>(task: &Task<P>) -> u32 {
    let limit = task.process().with(|state| state.limit(raw::RLIMIT_NOFILE));
    limit.and_then(|limit| u32::try_from(limit.soft).ok()).unwrap_or(u32::MAX)
}

pub(super) fn install<P: Cpu>(task: &Task<P>, file: Arc<File<P>>, flags: FdFlags, least: Number) -> Result<u32> {
    task.process().files().insert(file, flags, least, limit(task)).map(|fd| fd.0)
}

pub(super) fn path<P: Cpu>(path: Path) -> Result<Vec<u8>> {
    UserCStr::new(path.0).read::<P>(PATH_MAX)
}

/// Where relative paths start: the directory of `dir`, or `None` for the working directory.
fn base<P: Cpu>(task: &Task<P>, dir: DirFd, path: &[u8]) -> Result<Option<Arc<Dentry<P>>>> {
    if dir.0 == raw::AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(None);
    }
    Ok(Some(Arc::clone(file(task, Fd(dir.0))?.place())))
}

/// Does `act` with paths relative to `dir`.
pub(super) fn with_dir<P: Cpu, T>(
    task: &Task<P>,
    dir: DirFd,
    path: &[u8],
    act: impl FnOnce(litebox_core::fs::path::At<'_, P>) -> Result<T>,
) -> Result<T> {
    let base = base(task, dir, path)?;
    let (fs, credentials) = (task.process().fs(), task.process().credentials());
    match &base {
        Some(base) => act(fs.at(&credentials, base)),
        None => act(fs.at_cwd(&credentials)),
    }
}

pub(crate) fn openat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, flags: Flags, mode: Mode) -> Result<u32> {
    let flags = open_flags(flags.0);
    let name = path::<P>(name)?;
    let mode = types::Mode::from_bits_truncate(mode.0);
    let file = with_dir(task, dir, &name, |at| at.open(&name, flags, mode))?;
    install(task, file, descriptor_flags(flags), Number(0))
}

pub(crate) fn open<P: Cpu>(task: &mut Task<P>, name: Path, flags: Flags, mode: Mode) -> Result<u32> {
    openat(task, DirFd(raw::AT_FDCWD), name, flags, mode)
}

pub(crate) fn creat<P: Cpu>(task: &mut Task<P>, name: Path, mode: Mode) -> Result<u32> {
    open(task, name, Flags(raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC), mode)
}

pub(crate) fn close<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    task.process().files().remove(number(fd.0)).map(drop)
}

pub(crate) fn dup<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<u32> {
    let file = file(task, fd)?;
    install(task, file, FdFlags::empty(), Number(0))
}

pub(crate) fn dup2<P: Cpu>(task: &mut Task<P>, old: Fd, new: Fd) -> Result<u32> {
    let (old, new) = (number(old.0), number(new.0));
    task.process().files().duplicate_to(old, new, FdFlags::empty(), limit(task))?;
    Ok(new.0)
}

pub(crate) fn dup3<P: Cpu>(task: &mut Task<P>, old: Fd, new: Fd, flags: Flags) -> Result<u32> {
    if flags.0 & !raw::O_CLOEXEC != 0 || old == new {
        return Err(errno!(INVAL, "unknown flags, or the same descriptor"));
    }
    let (old, new) = (number(old.0), number(new.0));
    task.process().files().duplicate_to(old, new, descriptor_flags(open_flags(flags.0)), limit(task))?;
    Ok(new.0)
}

/// A device's number as `struct stat` has it. Linux: `new_encode_dev`.
fn device(id: DeviceId) -> u64 {
    u64::from(id.minor & 0xff) | (u64::from(id.major & 0xfff) << 8) | (u64::from(id.minor & 0xfff_ff00) << 12)
}

const fn format(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => raw::S_IFREG,
        FileKind::Directory => raw::S_IFDIR,
        FileKind::Symlink => raw::S_IFLNK,
        FileKind::Fifo => raw::S_IFIFO,
        FileKind::Socket => raw::S_IFSOCK,
        FileKind::CharDevice => raw::S_IFCHR,
        FileKind::BlockDevice => raw::S_IFBLK,
    }
}

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
    let empty = flags.0 & raw::AT_EMPTY_PATH != 0;
    // Linux takes a null pointer for an empty path here.
    let name = if empty && name.0 == GuestAddr::default() { Vec::new() } else { path::<P>(name)? };
    let mut how = Resolve::empty();
    how.set(Resolve::FOLLOW, flags.0 & raw::AT_SYMLINK_NOFOLLOW == 0);
    how.set(Resolve::EMPTY, empty);
    let place = with_dir(task, dir, &name, |at| at.resolve(&name, how))?;
    put_stat(buf, &place)
}

pub(crate) fn stat<P: Cpu>(task: &mut Task<P>, name: Path, buf: Ptr) -> Result<()> {
    newfstatat(task, DirFd(raw::AT_FDCWD), name, buf, Flags(0))
}

pub(crate) fn lstat<P: Cpu>(task: &mut Task<P>, name: Path, buf: Ptr) -> Result<()> {
    newfstatat(task, DirFd(raw::AT_FDCWD), name, buf, Flags(raw::AT_SYMLINK_NOFOLLOW))
}

pub(crate) fn readlinkat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, buf: Ptr, size: Int) -> Result<usize> {
    let room = usize::try_from(size.0).ok().filter(|room| *room > 0).ok_or(errno!(INVAL, "no room"))?;
    let name = path::<P>(name)?;
    let target = with_dir(task, dir, &name, |at| at.readlink(&name))?;
    let shown = target.get(..room).unwrap_or(&target);
    user::write_all::<P>(buf.0, shown)?;
    Ok(shown.len())
}

pub(crate) fn readlink<P: Cpu>(task: &mut Task<P>, name: Path, buf: Ptr, size: Int) -> Result<usize> {
    readlinkat(task, DirFd(raw::AT_FDCWD), name, buf, size)
}

pub(crate) fn getcwd<P: Cpu>(task: &mut Task<P>, buf: Ptr, size: Len) -> Result<usize> {
    let fs = task.process().fs();
    let mut name = fs.path_of(&fs.cwd)?;
    name.try_reserve(1).map_err(|_| errno!(NOMEM))?;
    name.push(0);
    if u64::try_from(name.len()).is_ok_and(|len| len > size.0) {
        return Err(errno!(RANGE, "no room for the path"));
    }
    user::write_all::<P>(buf.0, &name)?;
    Ok(name.len())
}

fn change_to<P: Cpu>(task: &Task<P>, place: Arc<Dentry<P>>) -> Result<()> {
    if !place.is_dir() {
        return Err(errno!(NOTDIR));
    }
    let (fs, credentials) = (task.process().fs(), task.process().credentials());
    fs.at_cwd(&credentials).may(&place, types::Access::EXEC)?;
    task.process().change_fs(|fs| fs.cwd = place);
    Ok(())
}

pub(crate) fn chdir<P: Cpu>(task: &mut Task<P>, name: Path) -> Result<()> {
    let name = path::<P>(name)?;
    let how = Resolve::FOLLOW | Resolve::DIRECTORY;
    let place = with_dir(task, DirFd(raw::AT_FDCWD), &name, |at| at.resolve(&name, how))?;
    change_to(task, place)
}

pub(crate) fn fchdir<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    let place = Arc::clone(file(task, fd)?.place());
    change_to(task, place)
}

pub(crate) fn umask<P: Cpu>(task: &mut Task<P>, mask: Mode) -> Result<u32> {
    let new = types::Mode::from_bits_truncate(mask.0 & 0o777);
    let old = task.process().fs().umask;
    task.process().change_fs(|fs| fs.umask = new);
    Ok(old.bits())
}

/// `mkdirat`, `unlinkat`, `faccessat`: one path, one operation.
pub(crate) fn mkdirat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, mode: Mode) -> Result<()> {
    let name = path::<P>(name)?;
    with_dir(task, dir, &name, |at| at.mkdir(&name, types::Mode::from_bits_truncate(mode.0 & 0o1777)))
}

pub(crate) fn mkdir<P: Cpu>(task: &mut Task<P>, name: Path, mode: Mode) -> Result<()> {
    mkdirat(task, DirFd(raw::AT_FDCWD), name, mode)
}

pub(crate) fn unlinkat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, flags: Flags) -> Result<()> {
    let name = path::<P>(name)?;
    match flags.0 {
        0 => with_dir(task, dir, &name, |at| at.unlink(&name)),
        raw::AT_REMOVEDIR => with_dir(task, dir, &name, |at| at.rmdir(&name)),
        _ => Err::<(), Error>(errno!(INVAL, "unknown flags")),
    }
}

pub(crate) fn unlink<P: Cpu>(task: &mut Task<P>, name: Path) -> Result<()> {
    unlinkat(task, DirFd(raw::AT_FDCWD), name, Flags(0))
}

pub(crate) fn rmdir<P: Cpu>(task: &mut Task<P>, name: Path) -> Result<()> {
    unlinkat(task, DirFd(raw::AT_FDCWD), name, Flags(raw::AT_REMOVEDIR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flags_are_taken_apart() {
        assert_eq!(open_flags(0), OFlags::READ);
        let new = raw::O_WRONLY | raw::O_CREAT | raw::O_TRUNC | raw::O_CLOEXEC;
        assert_eq!(open_flags(new), OFlags::WRITE | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC);
        assert!(!open_flags(raw::O_DIRECTORY).contains(OFlags::TMPFILE), "a part of O_TMPFILE is not it");
        assert!(!open_flags(raw::O_DSYNC).contains(OFlags::SYNC));
        assert_eq!(open_flags(3) & (OFlags::READ | OFlags::WRITE), OFlags::empty());
    }

    #[test]
    fn device_numbers_are_linux_s() {
        assert_eq!(device(DeviceId { major: 1, minor: 3 }), 0x103);
        assert_eq!(device(DeviceId { major: 8, minor: 0x123 }), 0x10_0823);
    }
}
