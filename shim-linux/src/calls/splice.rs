//! Moving bytes through pipes without a copy through the program: splice(2), tee(2), vmsplice(2).

use super::files::{file, ranges, send};
use super::terminal;
use super::transfer::{check_readable, check_writable, given_offset, move_on};
use crate::args::{Fd, Flags, Len, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::pipe::Pipe;
use litebox_core::fs::types::OFlags;
use litebox_core::mm::{GuestAddr, user};

/// All flags; but for [`raw::SPLICE_F_NONBLOCK`] they are hints about pages and what follows.
const KNOWN: u32 = raw::SPLICE_F_MOVE | raw::SPLICE_F_NONBLOCK | raw::SPLICE_F_MORE | raw::SPLICE_F_GIFT;

fn check_flags(flags: Flags) -> Result<()> {
    if flags.0 & !KNOWN == 0 { Ok(()) } else { Err(errno!(INVAL, "unknown flags")) }
}

fn most(len: Len) -> usize {
    usize::try_from(len.0).unwrap_or(user::MAX_IO).min(user::MAX_IO)
}

/// Whether a pipe may be waited for, by the call's flags and those of the pipe's ends that take part.
fn blocking<P: Cpu>(flags: Flags, ends: &[&File<P>]) -> Blocking {
    let not = flags.0 & raw::SPLICE_F_NONBLOCK != 0 || ends.iter().any(|end| end.flags().contains(OFlags::NONBLOCK));
    if not { Blocking::No } else { Blocking::Yes }
}

pub(crate) fn splice<P: Cpu>(
    task: &mut Task<P>,
    input: Fd,
    input_offset: Ptr,
    out: Fd,
    out_offset: Ptr,
    len: Len,
    flags: Flags,
) -> Result<usize> {
    if len.0 == 0 {
        return Ok(0);
    }
    check_flags(flags)?;
    let (from, to) = (file(task, input)?, file(task, out)?);
    let (source, target) = (Pipe::of(&from), Pipe::of(&to));
    let is_given = |offset: Ptr| offset.0 != GuestAddr::default();
    if (source.is_some() && is_given(input_offset)) || (target.is_some() && is_given(out_offset)) {
        return Err(errno!(SPIPE, "a pipe has no offsets"));
    }
    let (start, place) = (given_offset::<P>(input_offset)?, given_offset::<P>(out_offset)?);
    check_readable(&from)?;
    check_writable(&to)?;
    let most = most(len);
    let done = match (source, target) {
        (Some(source), Some(target)) if Arc::ptr_eq(&source, &target) => Err(errno!(INVAL, "a pipe into itself")),
        (Some(source), Some(target)) => source.splice(&target, most, blocking(flags, &[&from, &to])),
        (Some(source), None) => {
            if to.flags().contains(OFlags::APPEND) {
                return Err(errno!(INVAL, "not to the end of a file"));
            }
            if place.is_some() && !to.ops().seekable() {
                return Err(errno!(INVAL, "it has no offsets"));
            }
            terminal::before_write(task, &to)?;
            let mut at = place;
            let poured = source.pour(most, blocking(flags, &[&from]), |bytes| {
                let mut bytes = IoSrc::kernel(bytes);
                let Some(offset) = &mut at else { return to.write(&mut bytes) };
                let count = to.write_at(*offset, &mut bytes)?;
                *offset = offset.saturating_add(u64::try_from(count).unwrap_or(0));
                Ok(count)
            });
            poured.and_then(|count| tell(&to, out_offset, place, count))
        }
        (None, Some(target)) => {
            if from.place().is_dir() || (start.is_some() && !from.ops().seekable()) {
                return Err(errno!(INVAL, "it has no offsets"));
            }
            terminal::before_read(task, &from)?;
            let mut at = start;
            let filled = target.fill(most, blocking(flags, &[&to]), |room| {
                let mut room = IoDst::kernel(room);
                let Some(offset) = &mut at else { return from.read(&mut room) };
                let count = from.read_at(*offset, &mut room)?;
                *offset = offset.saturating_add(u64::try_from(count).unwrap_or(0));
                Ok(count)
            });
            filled.and_then(|count| tell(&from, input_offset, start, count))
        }
        (None, None) => Err(errno!(INVAL, "neither is a pipe")),
    };
    send(task, done)
}

/// Moves an offset that was given on by `count`, which is the result.
fn tell<P: Cpu>(file: &File<P>, addr: Ptr, from: Option<u64>, count: usize) -> Result<usize> {
    if let Some(from) = from {
        move_on(file, addr, from, count)?;
    }
    Ok(count)
}

pub(crate) fn tee<P: Cpu>(task: &mut Task<P>, input: Fd, out: Fd, len: Len, flags: Flags) -> Result<usize> {
    check_flags(flags)?;
    if len.0 == 0 {
        return Ok(0);
    }
    let (from, to) = (file(task, input)?, file(task, out)?);
    check_readable(&from)?;
    check_writable(&to)?;
    let (Some(source), Some(target)) = (Pipe::of(&from), Pipe::of(&to)) else {
        return Err(errno!(INVAL, "one is no pipe"));
    };
    if Arc::ptr_eq(&source, &target) {
        return Err(errno!(INVAL, "a pipe into itself"));
    }
    let done = source.tee(&target, most(len), blocking(flags, &[&from, &to]));
    send(task, done)
}

pub(crate) fn vmsplice<P: Cpu>(task: &mut Task<P>, fd: Fd, iov: Ptr, count: Len, flags: Flags) -> Result<usize> {
    check_flags(flags)?;
    let file = file(task, fd)?;
    let into = file.flags().contains(OFlags::WRITE);
    if !into && !file.flags().contains(OFlags::READ) {
        return Err(errno!(BADF, "neither end of a pipe"));
    }
    let ranges = ranges::<P>(iov, count)?;
    let (mut src, mut dst) = (IoSrc::<P>::guest(&ranges)?, IoDst::<P>::guest(&ranges)?);
    if src.remaining() == 0 {
        return Ok(0);
    }
    let pipe = Pipe::of(&file).ok_or(errno!(BADF, "no pipe"))?;
    let blocking = blocking(flags, &[&file]);
    let done = if into {
        pipe.fill(src.remaining(), blocking, |room| match src.take(room) {
            0 if src.faulted() => Err(errno!(FAULT)),
            taken => Ok(taken),
        })
    } else {
        pipe.pour(dst.remaining(), blocking, |bytes| match dst.put(bytes) {
            0 if dst.faulted() => Err(errno!(FAULT)),
            put => Ok(put),
        })
    };
    send(task, done)
}
