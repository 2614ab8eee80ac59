//! Open files: read(2), write(2), lseek(2), open(2), openat2(2), close(2), dup(2).

use super::attributes::forget_pages;
use super::{take_growing, terminal};
use crate::args::{DirFd, Fd, Flags, Int, Len, Mode, Offset, Path, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::fd_table::{Fd as Number, FdFlags};
use litebox_core::fs::file::File;
use litebox_core::fs::io::{GuestRange, IoDst, IoSrc};
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{self, OFlags, SeekFrom};
use litebox_core::mm::{GuestAddr, UserCStr, UserIn, UserReader, user};
use litebox_core::tty::pair::TerminalFile;

/// Longest path with its NUL.
const PATH_MAX: usize = 4096;
/// Most ranges of one call. Linux: `UIO_MAXIOV`.
const RANGES_MAX: u64 = 1024;

/// A descriptor as core has it: a negative one is none, as is the highest.
pub(super) fn number(fd: i32) -> Number {
    Number(u32::try_from(fd).unwrap_or(u32::MAX))
}

pub(super) fn file<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<Arc<File<P>>> {
    task.files().get(number(fd.0))
}

/// The same, but for a handle on a place only, with which nothing can be done to the file.
pub(super) fn open_file<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<Arc<File<P>>> {
    let file = file(task, fd)?;
    if file.flags().contains(OFlags::PATH) { Err(errno!(BADF, "a handle on a place only")) } else { Ok(file) }
}

/// A file that a stream of bytes is read from. A terminal stops whoever is in the background.
fn file_to_read<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<Arc<File<P>>> {
    let file = file(task, fd)?;
    terminal::before_read(task, &file)?;
    Ok(file)
}

/// A file that a stream of bytes is written to. A terminal may stop whoever is in the background.
fn file_to_write<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<Arc<File<P>>> {
    let file = file(task, fd)?;
    terminal::before_write(task, &file)?;
    Ok(file)
}

pub(super) fn range(buf: Ptr, count: Len) -> [GuestRange; 1] {
    [GuestRange { addr: buf.0, len: usize::try_from(count.0).unwrap_or(user::MAX_IO).min(user::MAX_IO) }]
}

pub(crate) fn read<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr, count: Len) -> Result<usize> {
    let file = file_to_read(task, fd)?;
    file.read(&mut IoDst::guest(&range(buf, count))?)
}

/// Writes; a pipe without readers, and a file that has come to the process's limit, also send the signal.
pub(super) fn send<P: Cpu>(task: &Task<P>, result: Result<usize>) -> Result<usize> {
    if result.as_ref().is_err_and(|error| error.is(litebox_core::error::Errno::PIPE)) {
        super::kill::broken_pipe(task);
    }
    if task.process().file_limit() != u64::MAX && result.as_ref().is_err_and(|error| error.is(litebox_core::error::Errno::FBIG)) {
        super::kill::file_too_big(task);
    }
    result
}

pub(crate) fn write<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr, count: Len) -> Result<usize> {
    let written = file_to_write(task, fd)?.write(&mut IoSrc::guest(&range(buf, count))?.within(task.process().file_limit()));
    send(task, written)
}

pub(super) fn at(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| errno!(INVAL, "a negative offset"))
}

pub(crate) fn pread64<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr, count: Len, offset: Offset) -> Result<usize> {
    let at = at(offset.0)?;
    file(task, fd)?.read_at(at, &mut IoDst::guest(&range(buf, count))?)
}

pub(crate) fn pwrite64<P: Cpu>(task: &mut Task<P>, fd: Fd, buf: Ptr, count: Len, offset: Offset) -> Result<usize> {
    let at = at(offset.0)?;
    let written = file(task, fd)?.write_at(at, &mut IoSrc::guest(&range(buf, count))?.within(task.process().file_limit()));
    send(task, written)
}

/// The ranges of a `struct iovec` array, read once.
pub(super) fn ranges<P: Cpu>(iov: Ptr, count: Len) -> Result<Vec<GuestRange>> {
    if count.0 > RANGES_MAX {
        return Err(errno!(INVAL, "too many ranges"));
    }
    let count = usize::try_from(count.0).map_err(|_| errno!(INVAL))?;
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    let mut from: UserReader<P> = UserIn::new(iov.0, count.saturating_mul(16)).reader();
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
    let file = file_to_read(task, fd)?;
    file.read(&mut IoDst::guest(&ranges::<P>(iov, iovcnt)?)?)
}

pub(crate) fn writev<P: Cpu>(task: &mut Task<P>, fd: Fd, iov: Ptr, iovcnt: Len) -> Result<usize> {
    let file = file_to_write(task, fd)?;
    let written = file.write(&mut IoSrc::guest(&ranges::<P>(iov, iovcnt)?)?.within(task.process().file_limit()));
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
pub(super) fn limit<P: Cpu>(task: &Task<P>) -> u32 {
    let limit = task.process().with(|state| state.limit(raw::RLIMIT_NOFILE));
    limit.and_then(|limit| u32::try_from(limit.soft).ok()).unwrap_or(u32::MAX)
}

pub(super) fn install<P: Cpu>(task: &Task<P>, file: Arc<File<P>>, flags: FdFlags, least: Number) -> Result<u32> {
    task.files().insert(file, flags, least, limit(task)).map(|fd| fd.0)
}

pub(super) fn path<P: Cpu>(path: Path) -> Result<Vec<u8>> {
    UserCStr::new(path.0).read::<P>(PATH_MAX)
}

/// Where relative paths start: the directory of `dir`, or `None` for the working directory.
pub(super) fn dir_of<P: Cpu>(task: &Task<P>, dir: DirFd, path: &[u8]) -> Result<Option<Arc<Dentry<P>>>> {
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
    let base = dir_of(task, dir, path)?;
    let (fs, credentials) = (task.fs(), task.credentials());
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
    opened(task, file, flags)
}

/// Flags of openat2(2): what open(2) ignores is an error there.
const OPEN_KNOWN: u32 = raw::O_ACCMODE
    | raw::O_CREAT
    | raw::O_EXCL
    | raw::O_NOCTTY
    | raw::O_TRUNC
    | raw::O_APPEND
    | raw::O_NONBLOCK
    | raw::O_SYNC
    | raw::O_DIRECT
    | raw::O_LARGEFILE
    | raw::O_NOATIME
    | raw::O_CLOEXEC
    | raw::O_NOFOLLOW
    | raw::O_PATH
    | raw::O_TMPFILE;

/// Limits of a walk, by the `RESOLVE_` bits.
fn limits(bits: u64) -> Result<Resolve> {
    let mut limits = Resolve::empty();
    let mut left = bits & !u64::from(raw::RESOLVE_CACHED);
    for (bit, limit) in [
        (raw::RESOLVE_NO_XDEV, Resolve::NO_XDEV),
        (raw::RESOLVE_NO_MAGICLINKS, Resolve::NO_MAGIC_LINKS),
        (raw::RESOLVE_NO_SYMLINKS, Resolve::NO_SYMLINKS),
        (raw::RESOLVE_BENEATH, Resolve::BENEATH),
        (raw::RESOLVE_IN_ROOT, Resolve::IN_ROOT),
    ] {
        limits.set(limit, bits & u64::from(bit) != 0);
        left &= !u64::from(bit);
    }
    if left != 0 || limits.contains(Resolve::BENEATH | Resolve::IN_ROOT) {
        return Err(errno!(INVAL, "unknown limits, or two that exclude each other"));
    }
    Ok(limits)
}

/// `struct open_how`: flags, mode, limits.
const HOW: usize = size_of::<raw::open_how>();
const _: () = assert!(HOW == 24);

pub(crate) fn openat2<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, how: Ptr, size: Len) -> Result<u32> {
    let [bits, mode, resolve]: [u64; 3] = take_growing::<P, _>(how.0, size.0, HOW)?;
    let bits = u32::try_from(bits).ok().filter(|bits| bits & !OPEN_KNOWN == 0).ok_or(errno!(INVAL, "unknown flags"))?;
    let limits = limits(resolve)?;
    let makes = bits & (raw::O_CREAT | (raw::O_TMPFILE & !raw::O_DIRECTORY)) != 0;
    let mode = u32::try_from(mode).ok().filter(|mode| mode & !0o7777 == 0 && (makes || *mode == 0));
    let mode = mode.ok_or(errno!(INVAL, "a mode for what is not made"))?;
    let path_only = raw::O_PATH | raw::O_DIRECTORY | raw::O_NOFOLLOW | raw::O_CLOEXEC;
    if bits & raw::O_PATH != 0 && bits & !path_only != 0 {
        return Err(errno!(INVAL, "a handle on a place has no other flags"));
    }
    let name = path::<P>(name)?;
    let (flags, mode) = (open_flags(bits), types::Mode::from_bits_truncate(mode));
    // In a base as the root, an absolute path starts at the base too.
    let base = if limits.contains(Resolve::IN_ROOT) { dir_of(task, dir, b".")? } else { dir_of(task, dir, &name)? };
    let (fs, credentials) = (task.fs(), task.credentials());
    let file = fs.at_cwd(&credentials).relative_to(base.as_ref()).within(limits).open(&name, flags, mode)?;
    opened(task, file, flags)
}

/// Gives a file that was just opened a number.
pub(super) fn opened<P: Cpu>(task: &Task<P>, file: Arc<File<P>>, flags: OFlags) -> Result<u32> {
    if flags.contains(OFlags::TRUNC) {
        forget_pages(task, file.place(), 0);
    }
    if let Some(terminal) = Some(&file).filter(|file| file.has_jobs()).and_then(|file| TerminalFile::of(file)) {
        task.process().opened_terminal(terminal.pair(), flags);
    }
    install(task, file, descriptor_flags(flags), Number(0))
}

pub(crate) fn open<P: Cpu>(task: &mut Task<P>, name: Path, flags: Flags, mode: Mode) -> Result<u32> {
    openat(task, DirFd(raw::AT_FDCWD), name, flags, mode)
}

pub(crate) fn creat<P: Cpu>(task: &mut Task<P>, name: Path, mode: Mode) -> Result<u32> {
    open(task, name, Flags(raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC), mode)
}

pub(crate) fn close<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    task.files().remove(number(fd.0)).map(drop)
}

pub(crate) fn dup<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<u32> {
    let file = file(task, fd)?;
    install(task, file, FdFlags::empty(), Number(0))
}

pub(crate) fn dup2<P: Cpu>(task: &mut Task<P>, old: Fd, new: Fd) -> Result<u32> {
    let (old, new) = (number(old.0), number(new.0));
    task.files().duplicate_to(old, new, FdFlags::empty(), limit(task))?;
    Ok(new.0)
}

pub(crate) fn dup3<P: Cpu>(task: &mut Task<P>, old: Fd, new: Fd, flags: Flags) -> Result<u32> {
    if flags.0 & !raw::O_CLOEXEC != 0 || old == new {
        return Err(errno!(INVAL, "unknown flags, or the same descriptor"));
    }
    let (old, new) = (number(old.0), number(new.0));
    task.files().duplicate_to(old, new, descriptor_flags(open_flags(flags.0)), limit(task))?;
    Ok(new.0)
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
}
