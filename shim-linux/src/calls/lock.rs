//! mlock(2), mlockall(2), mseal(2), and what mmap(2) and its kin have to do with locked memory.

use crate::args::{Flags, Len, Ptr, Word};
use crate::signal::Cpu;
use crate::task::Task;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, Lock, PAGE_SIZE, PageRange, round_up};

/// The limit of locked memory; `None` if it does not bind the task.
fn limit<P: Cpu>(task: &Task<P>) -> Option<u64> {
    let limit = task.process().with(|state| state.limit(raw::RLIMIT_MEMLOCK)).map(|limit| limit.soft);
    limit.filter(|limit| *limit != u64::MAX && !task.credentials().can(Capabilities::IPC_LOCK))
}

/// Whether the task may lock anything. Linux: `can_do_mlock`.
pub(super) fn may_lock<P: Cpu>(task: &Task<P>) -> bool {
    limit(task) != Some(0)
}

/// Whether it may lock `more` bytes beside what it has locked.
pub(super) fn has_room<P: Cpu>(task: &Task<P>, more: u64) -> bool {
    let Some(limit) = limit(task) else { return true };
    let sum = task.mm().locked_bytes(None).checked_add(round_up(more).unwrap_or(u64::MAX));
    sum.is_some_and(|sum| sum <= limit)
}

/// Fills a new mapping as far as it is locked. That it could not be is no error of the mapping.
pub(super) fn fill_new<P: Cpu>(task: &Task<P>, at: GuestAddr, len: u64) {
    if let Ok(range) = PageRange::new(at, len) {
        let _ = task.mm().fill_locked(range);
    }
}

/// The pages that a call is about, all those that the bytes touch; `None` if there are none. A length that overflows is none, as in
/// Linux.
fn pages(addr: Ptr, len: Len) -> Result<Option<PageRange>> {
    let into = addr.0.get() & PAGE_SIZE.wrapping_sub(1);
    let Some(bytes) = len.0.checked_add(into).and_then(round_up).filter(|bytes| *bytes > 0) else { return Ok(None) };
    let end = addr.0.page_start().get().checked_add(bytes).ok_or(errno!(INVAL, "the range overflows"))?;
    PageRange::between(addr.0.page_start(), GuestAddr::new(end)).map(Some).ok_or(errno!(NOMEM, "nothing can be mapped there"))
}

fn lock<P: Cpu>(task: &Task<P>, addr: Ptr, len: Len, how: Lock) -> Result<()> {
    if !may_lock(task) {
        return Err(errno!(PERM, "no memory may be locked"));
    }
    let Some(range) = pages(addr, len)? else { return Ok(()) };
    // What is locked already is not counted twice.
    let more = range.bytes().saturating_sub(task.mm().locked_bytes(Some(range)));
    if !has_room(task, more) {
        return Err(errno!(NOMEM, "past the limit of locked memory"));
    }
    task.mm().lock(range, how)?;
    task.mm().fill_locked(range)
}

pub(crate) fn mlock<P: Cpu>(task: &mut Task<P>, addr: Ptr, len: Len) -> Result<()> {
    lock(task, addr, len, Lock::Now)
}

pub(crate) fn mlock2<P: Cpu>(task: &mut Task<P>, addr: Ptr, len: Len, flags: Flags) -> Result<()> {
    match flags.0 {
        0 => lock(task, addr, len, Lock::Now),
        raw::MLOCK_ONFAULT => lock(task, addr, len, Lock::OnFault),
        _ => Err(errno!(INVAL, "unknown flags")),
    }
}

pub(crate) fn munlock<P: Cpu>(task: &mut Task<P>, addr: Ptr, len: Len) -> Result<()> {
    pages(addr, len)?.map_or(Ok(()), |range| task.mm().lock(range, Lock::Not))
}

pub(crate) fn mlockall<P: Cpu>(task: &mut Task<P>, flags: Flags) -> Result<()> {
    let has = |flag| flags.0 & flag != 0;
    let known = raw::MCL_CURRENT | raw::MCL_FUTURE | raw::MCL_ONFAULT;
    if flags.0 & !known != 0 || !(has(raw::MCL_CURRENT) || has(raw::MCL_FUTURE)) {
        return Err(errno!(INVAL, "unknown flags, or nothing to lock"));
    }
    if !may_lock(task) {
        return Err(errno!(PERM, "no memory may be locked"));
    }
    if has(raw::MCL_CURRENT) && limit(task).is_some_and(|limit| task.mm().mapped_bytes() > limit) {
        return Err(errno!(NOMEM, "past the limit of locked memory"));
    }
    let how = if has(raw::MCL_ONFAULT) { Lock::OnFault } else { Lock::Now };
    task.mm().lock_new(if has(raw::MCL_FUTURE) { how } else { Lock::Not });
    if has(raw::MCL_CURRENT) {
        task.mm().lock_all(how);
        for area in task.mm().vmas() {
            // What cannot be filled stays as it is, as in Linux.
            let _ = task.mm().fill_locked(area.range);
        }
    }
    Ok(())
}

pub(crate) fn munlockall<P: Cpu>(task: &mut Task<P>) -> Result<()> {
    task.mm().lock_new(Lock::Not);
    task.mm().lock_all(Lock::Not);
    Ok(())
}

pub(crate) fn mseal<P: Cpu>(task: &mut Task<P>, addr: Ptr, len: Len, flags: Word) -> Result<()> {
    if flags.0 != 0 || !addr.0.is_page_start() {
        return Err(errno!(INVAL, "unknown flags or no page boundary"));
    }
    let range = pages(addr, len)?;
    if range.is_none() && len.0 > 0 {
        return Err(errno!(INVAL, "the length overflows"));
    }
    range.map_or(Ok(()), |range| task.mm().seal(range))
}
