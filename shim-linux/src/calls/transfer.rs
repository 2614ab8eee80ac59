//! Moving bytes between files, and what is told of a file's bytes: preadv(2), sendfile(2), `copy_file_range(2)`, fallocate(2),
//! `posix_fadvise(2)`, fsync(2), sync(2).

use super::attributes::{forget_pages, hide_shared};
use super::files::{at, file, open_file, ranges, send};
use super::{put, take, terminal};
use crate::args::{Fd, Flags, Int, Len, Offset, Ptr, Word};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::End;
use litebox_core::fs::io::{GuestRange, IoDst, IoSrc};
use litebox_core::fs::map::inode_owner;
use litebox_core::fs::types::{FileKind, OFFSET_MAX, OFlags, SeekFrom};
use litebox_core::mm::{GuestAddr, user};

/// Whether every file here does a transfer with the flags `bits`, `RWF_*`.
///
/// # Errors
/// `OPNOTSUPP`: one that none has.
pub(super) fn check_flags(bits: u32) -> Result<()> {
    let known = raw::RWF_HIPRI | raw::RWF_DSYNC | raw::RWF_SYNC;
    if bits & !known == 0 { Ok(()) } else { Err(errno!(OPNOTSUPP, "a flag that no file here has")) }
}

/// What preadv2(2) and pwritev2(2) are given: the file, the ranges, and the offset unless it is the current one.
type Vectored<P> = (Arc<File<P>>, Vec<GuestRange>, Option<u64>);

fn vectored<P: Cpu>(task: &Task<P>, fd: Fd, iov: Ptr, count: Len, low: Offset, flags: Flags) -> Result<Vectored<P>> {
    // Half of a 64-bit offset is the whole of it here. -1 is the current one.
    let offset = if low.0 == -1 { None } else { Some(at(low.0)?) };
    let file = file(task, fd)?;
    let ranges = ranges::<P>(iov, count)?;
    check_flags(flags.0)?;
    Ok((file, ranges, offset))
}

pub(crate) fn preadv2<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    iov: Ptr,
    count: Len,
    low: Offset,
    _high: Word,
    flags: Flags,
) -> Result<usize> {
    let (file, ranges, offset) = vectored(task, fd, iov, count, low, flags)?;
    let mut dst = IoDst::guest(&ranges)?;
    match offset {
        Some(offset) => file.read_at(offset, &mut dst),
        None => {
            terminal::before_read(task, &file)?;
            file.read(&mut dst)
        }
    }
}

pub(crate) fn preadv<P: Cpu>(task: &mut Task<P>, fd: Fd, iov: Ptr, count: Len, low: Offset, high: Word) -> Result<usize> {
    at(low.0)?;
    preadv2(task, fd, iov, count, low, high, Flags(0))
}

pub(crate) fn pwritev2<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    iov: Ptr,
    count: Len,
    low: Offset,
    _high: Word,
    flags: Flags,
) -> Result<usize> {
    let (file, ranges, offset) = vectored(task, fd, iov, count, low, flags)?;
    let mut src = IoSrc::guest(&ranges)?.within(task.process().file_limit());
    let written = match offset {
        Some(offset) => file.write_at(offset, &mut src),
        None => {
            terminal::before_write(task, &file)?;
            file.write(&mut src)
        }
    };
    send(task, written)
}

pub(crate) fn pwritev<P: Cpu>(task: &mut Task<P>, fd: Fd, iov: Ptr, count: Len, low: Offset, high: Word) -> Result<usize> {
    at(low.0)?;
    pwritev2(task, fd, iov, count, low, high, Flags(0))
}

/// Bytes that go from one file to another at once.
const CHUNK: usize = 16 * 1024;

/// Copies up to `count` bytes of `from`, from `offset` on, to where `write` puts them; returns how many. What was copied before an
/// error or a signal counts.
fn copy<P: Cpu>(
    task: &Task<P>,
    from: &File<P>,
    offset: u64,
    count: usize,
    mut write: impl FnMut(u64, &mut IoSrc<'_, P>) -> Result<usize>,
) -> Result<usize> {
    let mut buffer = Vec::new();
    let len = count.min(CHUNK);
    buffer.try_reserve_exact(len).map_err(|_| errno!(NOMEM))?;
    buffer.resize(len, 0);
    let mut done = 0usize;
    while done < count && !(done > 0 && task.is_wanted()) {
        let so_far = u64::try_from(done).unwrap_or(u64::MAX);
        let want = count.saturating_sub(done).min(len);
        let read = from.read_at(offset.saturating_add(so_far), &mut IoDst::kernel(buffer.get_mut(..want).unwrap_or_default()));
        let moved = read.and_then(|read| match read {
            0 => Ok(0),
            read => write(so_far, &mut IoSrc::kernel(buffer.get(..read).unwrap_or_default())).map(|written| written.min(read)),
        });
        match moved {
            Ok(0) => break,
            Ok(moved) => done = done.saturating_add(moved),
            Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
        }
    }
    Ok(done)
}

/// An offset that a call is given by its address and moves; by the file's own if that is null.
pub(super) fn given_offset<P: Cpu>(addr: Ptr) -> Result<Option<u64>> {
    if addr.0 == GuestAddr::default() { Ok(None) } else { take::<P, i64, 8>(addr.0).and_then(at).map(Some) }
}

/// Moves an offset on by what was copied.
pub(super) fn move_on<P: Cpu>(file: &File<P>, addr: Ptr, from: u64, copied: usize) -> Result<()> {
    let to = from.saturating_add(u64::try_from(copied).unwrap_or(0));
    if addr.0 == GuestAddr::default() { file.seek(SeekFrom::Start(to)).map(drop) } else { put::<P, 8>(addr.0, &to) }
}

pub(super) fn check_readable<P: Cpu>(file: &File<P>) -> Result<()> {
    if file.flags().contains(OFlags::READ) { Ok(()) } else { Err(errno!(BADF, "not open for reading")) }
}

pub(super) fn check_writable<P: Cpu>(file: &File<P>) -> Result<()> {
    if file.flags().contains(OFlags::WRITE) { Ok(()) } else { Err(errno!(BADF, "not open for writing")) }
}

pub(crate) fn sendfile<P: Cpu>(task: &mut Task<P>, out: Fd, input: Fd, offset: Ptr, count: Len) -> Result<usize> {
    let given = given_offset::<P>(offset)?;
    let from = file(task, input)?;
    check_readable(&from)?;
    if given.is_some() && !from.ops().seekable() {
        return Err(errno!(SPIPE));
    }
    let to = file(task, out)?;
    terminal::before_write(task, &to)?;
    check_writable(&to)?;
    if !from.ops().seekable() || to.flags().contains(OFlags::APPEND) {
        return Err(errno!(INVAL, "not from a stream, and not to the end of a file"));
    }
    let start = given.map_or_else(|| from.seek(SeekFrom::Current(0)), Ok)?;
    let count = usize::try_from(count.0).unwrap_or(user::MAX_IO).min(user::MAX_IO);
    let copied = copy(task, &from, start, count, |_, src| to.write(src));
    let copied = send(task, copied)?;
    move_on(&from, offset, start, copied)?;
    Ok(copied)
}

/// A regular file, for a call that is for those only.
fn regular<P: Cpu>(file: &File<P>) -> Result<()> {
    match file.place().inode().kind() {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(errno!(ISDIR)),
        _ => Err(errno!(INVAL, "no regular file")),
    }
}

pub(crate) fn copy_file_range<P: Cpu>(
    task: &mut Task<P>,
    input: Fd,
    input_offset: Ptr,
    out: Fd,
    out_offset: Ptr,
    count: Len,
    flags: Flags,
) -> Result<usize> {
    let (from, to) = (file(task, input)?, file(task, out)?);
    let offsets = (given_offset::<P>(input_offset)?, given_offset::<P>(out_offset)?);
    if flags.0 != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    regular(&from)?;
    regular(&to)?;
    check_readable(&from)?;
    check_writable(&to)?;
    if to.flags().contains(OFlags::APPEND) {
        return Err(errno!(BADF, "appends only"));
    }
    let start = offsets.0.map_or_else(|| from.seek(SeekFrom::Current(0)), Ok)?;
    let target = offsets.1.map_or_else(|| to.seek(SeekFrom::Current(0)), Ok)?;
    let len = count.0.min(u64::try_from(user::MAX_IO).unwrap_or(u64::MAX));
    if start.max(target).saturating_add(count.0) > OFFSET_MAX {
        return Err(errno!(OVERFLOW, "past the last offset"));
    }
    let is_same = from.place().inode().id() == to.place().inode().id();
    if is_same && start < target.saturating_add(len) && target < start.saturating_add(len) {
        return Err(errno!(INVAL, "the ranges overlap"));
    }
    let count = usize::try_from(len).unwrap_or(user::MAX_IO);
    let copied = copy(task, &from, start, count, |done, src| to.write_at(target.saturating_add(done), src))?;
    move_on(&from, input_offset, start, copied)?;
    move_on(&to, out_offset, target, copied)?;
    Ok(copied)
}

pub(crate) fn fallocate<P: Cpu>(task: &mut Task<P>, fd: Fd, mode: Flags, offset: Offset, len: Offset) -> Result<()> {
    const PUNCH: u32 = raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE;
    let file = open_file(task, fd)?;
    let (Ok(offset), Ok(len @ 1..)) = (u64::try_from(offset.0), u64::try_from(len.0)) else {
        return Err(errno!(INVAL, "no range"));
    };
    if !matches!(mode.0, 0 | raw::FALLOC_FL_KEEP_SIZE | PUNCH) {
        return Err(errno!(OPNOTSUPP, "reserves and punches holes only"));
    }
    check_writable(&file)?;
    match file.place().inode().kind() {
        FileKind::Regular => {}
        FileKind::Fifo | FileKind::Socket => return Err(errno!(SPIPE)),
        FileKind::Directory => return Err(errno!(ISDIR)),
        _ => return Err(errno!(NODEV)),
    }
    offset.checked_add(len).filter(|end| *end <= OFFSET_MAX).ok_or(errno!(FBIG))?;
    match mode.0 {
        0 => file.ops().allocate(offset, len, End::Moves),
        PUNCH => {
            file.ops().punch(offset, len)?;
            forget_pages(task, file.place(), offset);
            Ok(())
        }
        _ => file.ops().allocate(offset, len, End::Stays),
    }
}

/// A file with offsets, for advice about them.
fn with_offsets<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<Arc<File<P>>> {
    let file = open_file(task, fd)?;
    match file.place().inode().kind() {
        FileKind::Fifo | FileKind::Socket => Err(errno!(SPIPE)),
        _ => Ok(file),
    }
}

pub(crate) fn fadvise64<P: Cpu>(task: &mut Task<P>, fd: Fd, _offset: Offset, len: Offset, advice: Int) -> Result<()> {
    with_offsets(task, fd)?;
    let known = u32::try_from(advice.0).is_ok_and(|advice| advice <= raw::POSIX_FADV_NOREUSE);
    if known && len.0 >= 0 { Ok(()) } else { Err(errno!(INVAL, "unknown advice")) }
}

pub(crate) fn readahead<P: Cpu>(task: &mut Task<P>, fd: Fd, _offset: Offset, _count: Len) -> Result<()> {
    let file = open_file(task, fd)?;
    check_readable(&file)?;
    if file.place().inode().kind() == FileKind::Regular { Ok(()) } else { Err(errno!(INVAL, "no regular file")) }
}

pub(crate) fn fsync<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    sync_file(task, &*open_file(task, fd)?)
}

/// Makes last what was written to `file`, by mappings too.
fn sync_file<P: Cpu>(task: &Task<P>, file: &File<P>) -> Result<()> {
    let owner = inode_owner(file.place().inode());
    file.ops().settle(&mut || hide_shared(task, owner))?;
    file.ops().sync()
}

pub(crate) fn fdatasync<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    fsync(task, fd)
}

/// `SYNC_FILE_RANGE_WAIT_BEFORE`, `_WRITE` and `_WAIT_AFTER` of `linux/fs.h`.
const SYNC_RANGE: u32 = 7;

pub(crate) fn sync_file_range<P: Cpu>(task: &mut Task<P>, fd: Fd, offset: Offset, len: Offset, flags: Flags) -> Result<()> {
    let file = open_file(task, fd)?;
    if flags.0 & !SYNC_RANGE != 0 || offset.0 < 0 || len.0 < 0 || offset.0.checked_add(len.0).is_none() {
        return Err(errno!(INVAL, "unknown flags, or no range"));
    }
    match file.place().inode().kind() {
        FileKind::Regular | FileKind::Directory | FileKind::BlockDevice => sync_file(task, &file),
        _ => Err(errno!(SPIPE)),
    }
}

/// What has been written is where it stays: nothing is kept back.
pub(crate) fn sync<P: Cpu>(_task: &mut Task<P>) -> Result<()> {
    Ok(())
}

pub(crate) fn syncfs<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    open_file(task, fd).map(drop)
}

pub(crate) fn msync<P: Cpu>(task: &mut Task<P>, addr: Ptr, length: Len, flags: Int) -> Result<()> {
    let flags = u32::try_from(flags.0).map_err(|_| errno!(INVAL, "unknown flags"))?;
    let both = raw::MS_ASYNC | raw::MS_SYNC;
    if flags & !(both | raw::MS_INVALIDATE) != 0 || flags & both == both || !addr.0.is_page_start() {
        return Err(errno!(INVAL, "unknown flags, or no page boundary"));
    }
    if length.0 == 0 {
        return Ok(());
    }
    let range = litebox_core::mm::PageRange::new(addr.0, length.0).map_err(|_| errno!(NOMEM, "not mapped"))?;
    if flags & raw::MS_INVALIDATE != 0 && task.mm().locked_bytes(Some(range)) > 0 {
        return Err(errno!(BUSY, "locked in memory"));
    }
    if flags & raw::MS_SYNC != 0 {
        for source in task.mm().shared_sources(range)? {
            let owner = source.owner();
            source.sync(&mut || hide_shared(task, owner))?;
        }
    }
    task.mm().mincore(range, |_| {})
}
