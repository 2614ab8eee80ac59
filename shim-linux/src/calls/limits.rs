//! getrlimit(2), sysinfo(2).

use super::{put, take};
use crate::args::{Count, Pid, Ptr};
use crate::signal::Cpu;
use crate::task::{Limit, Process, Task};
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use linux_raw_sys::system;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::GuestAddr;

/// `struct rlimit64`.
type Wire = [u64; 2];

const _: () = assert!(size_of::<Wire>() == size_of::<raw::rlimit64>());

fn get<P: Cpu>(process: &Process<P>, resource: Count) -> Result<Limit> {
    process.with(|state| state.limit(resource.0)).ok_or(errno!(INVAL, "no such resource"))
}

fn write<P: Cpu>(addr: GuestAddr, limit: Limit) -> Result<()> {
    put::<P, 16>(addr, &[limit.soft, limit.hard])
}

fn read<P: Cpu>(addr: GuestAddr) -> Result<Limit> {
    let [soft, hard] = take::<P, Wire, 16>(addr)?;
    Ok(Limit { soft, hard })
}

/// Whether somebody may go from `old` to `new`.
fn check(resource: Count, old: Limit, new: Limit, is_root: bool) -> Result<()> {
    if new.soft > new.hard {
        return Err(errno!(INVAL, "the soft limit is above the hard one"));
    }
    if resource.0 == raw::RLIMIT_NOFILE && new.hard > 1 << 20 {
        return Err(errno!(PERM, "more files than a process can have"));
    }
    if new.hard > old.hard && !is_root { Err(errno!(PERM, "only root raises a hard limit")) } else { Ok(()) }
}

fn set<P: Cpu>(task: &Task<P>, process: &Arc<Process<P>>, resource: Count, new: Limit) -> Result<Limit> {
    let is_root = task.credentials().can(Capabilities::SYS_RESOURCE);
    let old = process.with(|state| {
        let slot = usize::try_from(resource.0).ok().and_then(|which| state.limits.get_mut(which));
        let slot = slot.ok_or(errno!(INVAL, "no such resource"))?;
        check(resource, *slot, new, is_root)?;
        Ok(core::mem::replace(slot, new))
    })?;
    if resource.0 == raw::RLIMIT_CPU {
        process.timers().limit_changed(process);
    }
    if resource.0 == raw::RLIMIT_FSIZE {
        process.set_file_limit(new.soft);
    }
    if matches!(resource.0, raw::RLIMIT_STACK | raw::RLIMIT_AS | raw::RLIMIT_DATA) {
        let limits = process.with(|state| state.map_limits());
        if let Some(mm) = process.running().get().and_then(|exec| exec.mm.upgrade()) {
            mm.set_limits(limits);
        }
        if Arc::ptr_eq(process, task.process()) {
            task.mm().set_limits(limits);
        }
    }
    Ok(old)
}

pub(crate) fn getrlimit<P: Cpu>(task: &mut Task<P>, resource: Count, limit: Ptr) -> Result<()> {
    write::<P>(limit.0, get(task.process(), resource)?)
}

pub(crate) fn setrlimit<P: Cpu>(task: &mut Task<P>, resource: Count, limit: Ptr) -> Result<()> {
    let new = read::<P>(limit.0)?;
    set(task, task.process(), resource, new).map(|_| ())
}

/// The process of a thread's id, 0 being the caller's, if the caller may look at its limits: all ids of both are the same.
fn other<P: Cpu>(task: &Task<P>, pid: Pid) -> Result<Arc<Process<P>>> {
    if pid.0 == 0 {
        return Ok(Arc::clone(task.process()));
    }
    let process = u32::try_from(pid.0).ok().and_then(|tid| task.sandbox().process_of(tid)).ok_or(errno!(SRCH))?;
    let ids = |process: &Process<P>| process.with(|state| state.ids);
    let (own, theirs) = (ids(task.process()), ids(&process));
    let ([user, ..], [group, ..]) = (own.users, own.groups);
    let same = theirs.users == [user; 3] && theirs.groups == [group; 3];
    if same || task.credentials().can(Capabilities::SYS_RESOURCE) || Arc::ptr_eq(&process, task.process()) {
        Ok(process)
    } else {
        Err(errno!(PERM, "another user's process"))
    }
}

pub(crate) fn prlimit64<P: Cpu>(task: &mut Task<P>, pid: Pid, resource: Count, new: Ptr, old: Ptr) -> Result<()> {
    let new = if new.0.get() == 0 { None } else { Some(read::<P>(new.0)?) };
    let process = other(task, pid)?;
    let before = match new {
        Some(new) => set(task, &process, resource, new)?,
        None => get(&process, resource)?,
    };
    if old.0.get() == 0 { Ok(()) } else { write::<P>(old.0, before) }
}

pub(crate) fn sysinfo<P: Cpu>(task: &mut Task<P>, info: Ptr) -> Result<()> {
    const BYTES: usize = size_of::<system::sysinfo>();
    let total = task.sandbox().memory();
    let free = total.saturating_sub(task.sandbox().quota().used());
    // uptime, three loads, total and free memory, shared, buffers, swap twice, processes, high memory twice, unit.
    let processes = u64::try_from(task.sandbox().process_count()).unwrap_or(0) & 0xffff;
    let words = [task.sandbox().uptime().as_secs(), 0, 0, 0, total, free, 0, 0, 0, 0, processes, 0, 0, 1];
    put::<P, BYTES>(info.0, &words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    #[test]
    fn hard_limits_only_go_down_but_for_root() {
        let (low, high) = (Limit { soft: 1, hard: 1 }, Limit { soft: 1, hard: 1 << 21 });
        assert!(check(Count(0), low, high, true).is_ok());
        assert!(check(Count(raw::RLIMIT_NOFILE), low, high, true).unwrap_err().is(Errno::PERM));
        let old = Limit { soft: 10, hard: 20 };
        let check = |soft, hard| check(Count(3), old, Limit { soft, hard }, false);
        assert!(check(20, 20).is_ok() && check(0, 0).is_ok());
        assert!(check(5, 21).unwrap_err().is(Errno::PERM));
        assert!(check(6, 5).unwrap_err().is(Errno::INVAL));
    }
}
