//! Other processes' memory and objects: `process_vm_readv(2)`, `process_vm_writev(2)`, `process_madvise(2)`, `process_mrelease(2)`,
//! kcmp(2).

use super::files::ranges;
use super::{map, pidfd};
use crate::args::{Fd, Flags, Int, Len, Pid, Ptr, Word};
use crate::signal::Cpu;
use crate::task::{Process, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::Fd as Number;
use litebox_core::fs::io::{GuestRange, IoDst, IoSrc};
use litebox_core::mm::{AddressSpace, GuestAddr, PAGE_BYTES, Prot};

/// Bytes that go through the library OS at once.
const CHUNK: usize = 1024;

/// `process`, if the caller may look into it: its own, one of the same user that lets itself be looked into, or any for root.
fn reached<P: Cpu>(task: &Task<P>, process: Arc<Process<P>>) -> Result<Arc<Process<P>>> {
    if task.may_reach(&process) { Ok(process) } else { Err(errno!(PERM, "another user's process")) }
}

/// The process `pid`, if the caller may look into it.
fn process<P: Cpu>(task: &Task<P>, pid: Pid) -> Result<Arc<Process<P>>> {
    let process = u32::try_from(pid.0).ok().and_then(|pid| task.sandbox().process_of(pid)).ok_or(errno!(SRCH))?;
    reached(task, process)
}

/// The memory of a process that the caller may look into.
fn memory<P: Cpu>(task: &Task<P>, process: &Arc<Process<P>>) -> Result<Arc<AddressSpace<P>>> {
    if Arc::ptr_eq(process, task.process()) {
        return Ok(Arc::clone(task.mm()));
    }
    process.running().get().and_then(|exec| exec.mm.upgrade()).ok_or(errno!(SRCH, "it has ended"))
}

/// Goes over remote ranges in pieces, as long as `step` does all of each; returns the bytes done.
fn each<P: Cpu>(
    task: &Task<P>,
    remote: &[GuestRange],
    mut left: impl FnMut() -> usize,
    mut step: impl FnMut(GuestAddr, &mut [u8]) -> Result<usize>,
) -> Result<usize> {
    let mut buffer = [0; CHUNK];
    let mut done = 0usize;
    for range in remote {
        let mut at = 0usize;
        while at < range.len && left() > 0 {
            let piece = range.len.saturating_sub(at).min(CHUNK).min(left());
            let Some(part) = buffer.get_mut(..piece) else { break };
            let addr = range.addr.plus(u64::try_from(at).unwrap_or(u64::MAX));
            let moved = match addr.and_then(|addr| step(addr, part)) {
                Ok(moved) => moved,
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            };
            done = done.saturating_add(moved);
            at = at.saturating_add(moved);
            if moved < piece || task.is_wanted() {
                return Ok(done);
            }
        }
    }
    Ok(done)
}

/// How many of `len` bytes at `addr`, at most a page, the process itself could use so.
fn usable<P: Cpu>(mm: &AddressSpace<P>, addr: GuestAddr, len: usize, want: Prot) -> Result<usize> {
    let is_usable = |addr: GuestAddr| {
        let area = mm.area_after(addr).filter(|area| area.range.start() <= addr);
        area.is_some_and(|area| area.prot.contains(want))
    };
    if !is_usable(addr) {
        return Err(errno!(FAULT));
    }
    let to_page = PAGE_BYTES.saturating_sub(addr.offset_in_page());
    let next = addr.plus(u64::try_from(to_page).unwrap_or(0))?;
    Ok(if len > to_page && !is_usable(next) { to_page } else { len })
}

/// Both lists of ranges; no flags are known.
fn lists<P: Cpu>(local: (Ptr, Len), remote: (Ptr, Len), flags: Word) -> Result<(Vec<GuestRange>, Vec<GuestRange>)> {
    if flags.0 != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    Ok((ranges::<P>(local.0, local.1)?, ranges::<P>(remote.0, remote.1)?))
}

pub(crate) fn process_vm_readv<P: Cpu>(
    task: &mut Task<P>,
    pid: Pid,
    local: Ptr,
    locals: Len,
    remote: Ptr,
    remotes: Len,
    flags: Word,
) -> Result<usize> {
    let (own, theirs) = lists::<P>((local, locals), (remote, remotes), flags)?;
    let mm = memory(task, &process(task, pid)?)?;
    let dst = core::cell::RefCell::new(IoDst::<P>::guest(&own)?);
    each(
        task,
        &theirs,
        || dst.borrow().remaining(),
        |addr, part| {
            let len = usable(&mm, addr, part.len(), Prot::READ)?;
            let found = mm.peek(addr, part.get_mut(..len).unwrap_or_default())?;
            let put = dst.borrow_mut().put(part.get(..found).unwrap_or_default());
            if put == 0 { Err(errno!(FAULT)) } else { Ok(put) }
        },
    )
}

pub(crate) fn process_vm_writev<P: Cpu>(
    task: &mut Task<P>,
    pid: Pid,
    local: Ptr,
    locals: Len,
    remote: Ptr,
    remotes: Len,
    flags: Word,
) -> Result<usize> {
    let (own, theirs) = lists::<P>((local, locals), (remote, remotes), flags)?;
    let mm = memory(task, &process(task, pid)?)?;
    let src = core::cell::RefCell::new(IoSrc::<P>::guest(&own)?);
    each(
        task,
        &theirs,
        || src.borrow().remaining(),
        |addr, part| {
            let len = usable(&mm, addr, part.len(), Prot::WRITE)?;
            let taken = src.borrow_mut().take(part.get_mut(..len).unwrap_or_default());
            let bytes = part.get(..taken).filter(|bytes| !bytes.is_empty()).ok_or(errno!(FAULT))?;
            mm.poke(addr, bytes)
        },
    )
}

/// What kcmp(2) compares, by `linux/kcmp.h`.
const KCMP_FILE: i32 = 0;
const KCMP_VM: i32 = 1;
const KCMP_FILES: i32 = 2;
const KCMP_FS: i32 = 3;
const KCMP_SIGHAND: i32 = 4;
const KCMP_IO: i32 = 5;
const KCMP_SYSVSEM: i32 = 6;

/// How two addresses compare: equal, or one of two orders. Which order it is says nothing of where they are.
fn order(one: usize, two: usize) -> u32 {
    // Both are turned and mixed alike, so that programs learn no address.
    let mixed = |addr: usize| addr.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match mixed(one).cmp(&mixed(two)) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}

pub(crate) fn kcmp<P: Cpu>(task: &mut Task<P>, one: Pid, two: Pid, kind: Int, first: Word, second: Word) -> Result<u32> {
    let (a, b) = (process(task, one)?, process(task, two)?);
    match kind.0 {
        KCMP_FILE => {
            let file = |process: &Process<P>, fd: u64| {
                let fd = u32::try_from(fd).map_err(|_| errno!(BADF))?;
                process.files().get(Number(fd)).map(|file| Arc::as_ptr(&file).addr())
            };
            Ok(order(file(&a, first.0)?, file(&b, second.0)?))
        }
        KCMP_VM => Ok(order(Arc::as_ptr(&memory(task, &a)?).addr(), Arc::as_ptr(&memory(task, &b)?).addr())),
        KCMP_FILES => Ok(order(Arc::as_ptr(&a.files()).addr(), Arc::as_ptr(&b.files()).addr())),
        KCMP_FS => Ok(order(a.fs_identity(), b.fs_identity())),
        KCMP_SIGHAND => Ok(order(a.actions_identity(), b.actions_identity())),
        // Two that have none are equal, and none has a context of input and output or a shared list of what to undo.
        KCMP_IO | KCMP_SYSVSEM => Ok(0),
        _ => Err(errno!(INVAL, "compare what?")),
    }
}

/// Takes advice about another process's memory: only what leaves its contents as they are.
pub(crate) fn process_madvise<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    iov: Ptr,
    count: Len,
    advice: Int,
    flags: Flags,
) -> Result<u64> {
    if flags.0 != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let list = ranges::<P>(iov, count)?;
    let (process, _) = pidfd::process(task, fd)?;
    let kept = [raw::MADV_COLD, raw::MADV_PAGEOUT, raw::MADV_WILLNEED];
    if !Arc::ptr_eq(&process, task.process()) && !u32::try_from(advice.0).is_ok_and(|advice| kept.contains(&advice)) {
        return Err(errno!(INVAL, "advice that changes another's memory"));
    }
    let mm = memory(task, &reached(task, process)?)?;
    let mut done = 0u64;
    for range in list {
        let len = Len(u64::try_from(range.len).unwrap_or(u64::MAX));
        match map::advise(&mm, Ptr(range.addr), len, advice) {
            Ok(()) => done = done.saturating_add(len.0),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Memory goes with its last task here, so there is nothing to hurry.
pub(crate) fn process_mrelease<P: Cpu>(task: &mut Task<P>, fd: Fd, flags: Flags) -> Result<()> {
    if flags.0 != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let (process, _) = pidfd::process(task, fd)?;
    if process.running().get().and_then(|exec| exec.mm.upgrade()).is_none() {
        return Err(errno!(SRCH, "it has no memory"));
    }
    if process.is_ending() { Ok(()) } else { Err(errno!(INVAL, "it lives on")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_one_and_its_own_reverse() {
        assert_eq!(order(8, 8), 0);
        assert_eq!(order(8, 16) + order(16, 8), 3);
    }
}
