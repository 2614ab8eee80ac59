//! `io_setup(2)`, `io_submit(2)`, `io_getevents(2)`, `io_pgetevents(2)`, `io_cancel(2)`, `io_destroy(2)`.
//!
//! An operation is done as it is handed in, by the thread that does so: Linux does the same with files whose pages are in memory, which
//! all are here. So nothing is ever under way when somebody else looks, and there is nothing to cancel.
//! A context's number is the address of a page that is mapped for it, as libaio(3) looks there: it has no ring, so that libaio makes
//! the calls.

use super::files::{at, open_file, range, ranges, send};
use super::poll::{Patience, mask, timeout};
use super::sigwait::{wait_until, with_mask};
use super::transfer::{check_flags, check_readable, check_writable};
use super::{put, take};
use crate::args::{Fd, Len, Offset, Ptr, Word};
use crate::errno as numbers;
use crate::signal::{Cpu, SigSet};
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::event::completions::{Completion, Completions};
use litebox_core::event::eventfd::EventFd;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::{Blocking, IoCx};
use litebox_core::fs::io::{GuestRange, IoDst, IoSrc};
use litebox_core::mm::{GuestAddr, MapRequest, PAGE_SIZE, PageRange, Prot};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Operations that a context may have room for. Linux: `fs.aio-max-nr`, of all contexts.
const ROOM_MAX: u64 = 65_536;
/// What the contexts of a process have room for together: each has twice as much as was asked for.
const ROOM_TOTAL: usize = 131_072;
/// Room that a context has at least.
const ROOM_MIN: u64 = 16;
/// Operations that are looked at in one call.
const SUBMIT_MAX: i64 = 65_536;

/// `struct iocb`.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Control {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: i32,
    buf: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: i32,
}

/// Its size.
const CONTROL: usize = 64;
const _: () = assert!(size_of::<Control>() == CONTROL);
/// Where its key is, which `io_submit(2)` sets to 0.
const KEY_AT: u64 = 8;

/// Of `linux/aio_abi.h`.
const IOCB_FLAG_RESFD: u32 = 1;
const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

/// `struct io_event`: data, operation, result, a second result.
type Event = [i64; 4];
const EVENT: usize = 32;

fn context<P: Cpu>(task: &Task<P>, id: Word) -> Result<Arc<Completions<P>>> {
    task.process().completions(id.0).ok_or(errno!(INVAL, "no such context"))
}

pub(crate) fn io_setup<P: Cpu>(task: &mut Task<P>, room: Word, to: Ptr) -> Result<()> {
    // The low half of it is the number. Linux: `unsigned nr_events`.
    let room = room.0 & u64::from(u32::MAX);
    if take::<P, u64, 8>(to.0)? != 0 || room == 0 {
        return Err(errno!(INVAL, "a context in use, or room for nothing"));
    }
    if room > ROOM_MAX {
        return Err(errno!(AGAIN, "more operations than there may be"));
    }
    let room = usize::try_from(room.max(ROOM_MIN).saturating_mul(2)).unwrap_or(usize::MAX);
    let completions = Arc::new(Completions::new(task.sandbox().quota(), room)?);
    let at = task.mm().map(MapRequest::anonymous(PAGE_SIZE, Prot::READ | Prot::WRITE))?;
    let done = put::<P, 8>(to.0, &at.get()).and_then(|()| task.process().keep_completions(at.get(), completions, ROOM_TOTAL));
    if done.is_err() {
        unmap(task, at);
    }
    done
}

/// Takes a context's page away; that the guest did so itself is its own affair.
fn unmap<P: Cpu>(task: &Task<P>, at: GuestAddr) {
    if let Ok(page) = PageRange::new(at, PAGE_SIZE) {
        let _ = task.mm().unmap(page);
    }
}

pub(crate) fn io_destroy<P: Cpu>(task: &mut Task<P>, id: Word) -> Result<()> {
    let completions = task.process().forget_completions(id.0).ok_or(errno!(INVAL, "no such context"))?;
    completions.close();
    unmap(task, GuestAddr::new(id.0));
    Ok(())
}

/// An operation that was found to be in order.
enum Operation {
    Read(Vec<GuestRange>),
    Write(Vec<GuestRange>),
    Sync,
}

/// What `control` asks for, and of which file.
///
/// # Errors
/// Those that `io_submit(2)` gives instead of a completion.
fn prepare<P: Cpu>(task: &Task<P>, control: &Control) -> Result<(Arc<File<P>>, Operation)> {
    let file = open_file(task, Fd(control.fd))?;
    let (buf, count) = (Ptr(GuestAddr::new(control.buf)), Len(control.bytes));
    let one = || {
        let mut list = Vec::new();
        list.try_reserve_exact(1).map_err(|_| errno!(NOMEM))?;
        list.extend(range(buf, count));
        Ok(list)
    };
    check_flags(control.rw_flags)?;
    let operation = match control.opcode {
        PREAD | PREADV => {
            check_readable(&file)?;
            Operation::Read(if control.opcode == PREAD { one()? } else { ranges::<P>(buf, count)? })
        }
        PWRITE | PWRITEV => {
            check_writable(&file)?;
            Operation::Write(if control.opcode == PWRITE { one()? } else { ranges::<P>(buf, count)? })
        }
        FSYNC | FDSYNC if control.buf != 0 || control.offset != 0 || control.bytes != 0 || control.rw_flags != 0 => {
            return Err(errno!(INVAL, "there is nothing to say about syncing"));
        }
        FSYNC | FDSYNC => Operation::Sync,
        _ => return Err(errno!(INVAL, "no such operation")),
    };
    Ok((file, operation))
}

fn run<P: Cpu>(task: &Task<P>, file: &File<P>, operation: Operation, offset: i64) -> Result<usize> {
    let seekable = file.ops().seekable();
    match operation {
        Operation::Read(ranges) => {
            let mut dst = IoDst::guest(&ranges)?;
            if seekable { file.read_at(at(offset)?, &mut dst) } else { file.read(&mut dst) }
        }
        Operation::Write(ranges) => {
            let mut src = IoSrc::guest(&ranges)?.within(task.process().file_limit());
            let written = if seekable { file.write_at(at(offset)?, &mut src) } else { file.write(&mut src) };
            send(task, written)
        }
        Operation::Sync => file.ops().sync().map(|()| 0),
    }
}

/// A result as a program sees it.
fn encoded(result: Result<usize>) -> i64 {
    match result.map_err(|error| error.errno()) {
        Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Err(errno) => i64::from(errno.map_or(linux_raw_sys::errno::EINTR, numbers::number)).saturating_neg(),
    }
}

/// Does one operation.
fn submit<P: Cpu>(task: &Task<P>, context: &Completions<P>, at: GuestAddr) -> Result<()> {
    let control: Control = take::<P, _, CONTROL>(at)?;
    if control.reserved != 0 {
        return Err(errno!(INVAL, "a reserved field is set"));
    }
    context.begin()?;
    let prepared = prepare(task, &control).and_then(|prepared| {
        let told = (control.flags & IOCB_FLAG_RESFD != 0).then(|| open_file(task, Fd(control.event_fd))).transpose()?;
        if told.as_ref().is_some_and(|told| !EventFd::is(told)) {
            return Err(errno!(INVAL, "no counter of events"));
        }
        put::<P, 4>(at.plus(KEY_AT)?, &0u32)?;
        Ok((prepared, told))
    });
    let ((file, operation), told) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            context.end(None);
            return Err(error);
        }
    };
    let result = encoded(run(task, &file, operation, control.offset));
    context.end(Some(Completion { data: control.data, operation: at.get(), result }));
    if let Some(told) = told {
        // A counter that is full stays so, as in Linux.
        let cx = IoCx { blocking: Blocking::No, strips: false };
        let _ = told.ops().write_at(0, &mut IoSrc::kernel(&1u64.to_le_bytes()), cx);
    }
    Ok(())
}

pub(crate) fn io_submit<P: Cpu>(task: &mut Task<P>, id: Word, count: Offset, list: Ptr) -> Result<u64> {
    if count.0 < 0 {
        return Err(errno!(INVAL, "a negative number of operations"));
    }
    let context = context(task, id)?;
    let mut done = 0u64;
    for index in 0..count.0.min(SUBMIT_MAX).unsigned_abs() {
        let next = list.0.plus(index.saturating_mul(8)).and_then(take::<P, u64, 8>);
        match next.and_then(|at| submit(task, &context, GuestAddr::new(at))) {
            Ok(()) => done = done.saturating_add(1),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Fetches up to `most` completions, for `least` of which it waits.
fn fetch<P: Cpu>(task: &Task<P>, id: Word, (least, most): (Offset, Offset), events: Ptr, patience: Patience) -> Result<u64> {
    let context = context(task, id)?;
    let (Ok(least), Ok(most)) = (usize::try_from(least.0), u64::try_from(most.0)) else {
        return Err(errno!(INVAL, "a negative number of events"));
    };
    if u64::try_from(least).is_ok_and(|least| least > most) {
        return Err(errno!(INVAL, "more events than there is room for"));
    }
    let waited = match patience {
        Patience::None => Ok(()),
        patience => wait_until(task, patience.deadline(), |until| context.wait(least, until)).map(drop),
    };
    let mut count = 0u64;
    while count < most {
        let Some(done) = context.take() else { break };
        let as_given = |number: u64| i64::from_le_bytes(number.to_le_bytes());
        let event: Event = [as_given(done.data), as_given(done.operation), done.result, 0];
        let put = events.0.plus(count.saturating_mul(EVENT as u64)).and_then(|at| put::<P, EVENT>(at, &event));
        match put {
            Ok(()) => count = count.saturating_add(1),
            Err(error) if count == 0 => return Err(error),
            Err(_) => break,
        }
    }
    match waited {
        Err(error) if count == 0 => Err(error),
        _ => Ok(count),
    }
}

pub(crate) fn io_getevents<P: Cpu>(
    task: &mut Task<P>,
    id: Word,
    least: Offset,
    most: Offset,
    events: Ptr,
    at: Ptr,
) -> Result<u64> {
    let patience = timeout::<P>(at.0)?;
    fetch(task, id, (least, most), events, patience)
}

/// The mask of `struct __aio_sigset`: its address and its size.
fn given_mask<P: Cpu>(at: Ptr) -> Result<Option<SigSet>> {
    if at.0 == GuestAddr::default() {
        return Ok(None);
    }
    let [set, size] = take::<P, [u64; 2], 16>(at.0)?;
    mask::<P>(GuestAddr::new(set), size)
}

pub(crate) fn io_pgetevents<P: Cpu>(
    task: &mut Task<P>,
    id: Word,
    least: Offset,
    most: Offset,
    events: Ptr,
    at: Ptr,
    set: Ptr,
) -> Result<u64> {
    let (patience, mask) = (timeout::<P>(at.0)?, given_mask::<P>(set)?);
    with_mask(task, mask, |task| fetch(task, id, (least, most), events, patience))
}

pub(crate) fn io_cancel<P: Cpu>(task: &mut Task<P>, id: Word, control: Ptr, _event: Ptr) -> Result<()> {
    let key = take::<P, u32, 4>(control.0.plus(KEY_AT)?)?;
    if key != 0 {
        return Err(errno!(INVAL, "it was not handed in"));
    }
    context(task, id)?;
    Err(errno!(INVAL, "it is done already"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Error;

    #[test]
    fn a_result_is_a_count_or_a_negative_number() {
        assert_eq!(encoded(Ok(5)), 5);
        assert_eq!(encoded(Err(errno!(BADF))), -9);
        assert_eq!(encoded(Err(Error::Interrupted)), -4);
    }
}
