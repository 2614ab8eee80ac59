//! Scheduling: `sched_yield(2)`, `sched_setscheduler(2)`, `sched_setaffinity(2)`, getpriority(2), `ioprio_set(2)`, getcpu(2).
//!
//! The host schedules: a thread's processors are its carrier's, within those of the sandbox. What else a program asks for is checked,
//! kept and reported; those settings are a process's, not a thread's.

use super::{put, take};
use crate::args::{Count, Flags, Int, Pid, Ptr};
use crate::processors::Processors;
use crate::signal::Cpu;
use crate::task::{Process, Task, TaskShared};
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, user};

pub(crate) fn sched_yield<P: Cpu>(_task: &mut Task<P>) -> Result<()> {
    Ok(())
}

pub(crate) fn getcpu<P: Cpu>(_task: &mut Task<P>, cpu: Ptr, node: Ptr) -> Result<()> {
    let (number, of_node) = P::processor();
    for (addr, value) in [(cpu, number), (node, of_node)] {
        if addr.0 != GuestAddr::default() {
            put::<P, 4>(addr.0, &value)?;
        }
    }
    Ok(())
}

/// The process of a thread's id; 0 is the caller's.
fn process<P: Cpu>(task: &Task<P>, pid: Pid) -> Result<Arc<Process<P>>> {
    match u32::try_from(pid.0).map_err(|_| errno!(INVAL, "no thread"))? {
        0 => Ok(Arc::clone(task.process())),
        tid => task.sandbox().process_of(tid).ok_or(errno!(SRCH)),
    }
}

/// The same, if the caller may change it: it is its own, or the caller is root.
fn changeable<P: Cpu>(task: &Task<P>, pid: Pid) -> Result<Arc<Process<P>>> {
    let process = process(task, pid)?;
    let who = task.credentials();
    if who.can(Capabilities::SYS_NICE) || Arc::ptr_eq(&process, task.process()) || process.credentials().uid == who.uid {
        Ok(process)
    } else {
        Err(errno!(PERM, "another user's process"))
    }
}

/// What others reach of the thread `pid`; 0 is the caller.
fn thread<P: Cpu>(task: &Task<P>, process: &Arc<Process<P>>, pid: Pid) -> Result<Arc<TaskShared<P>>> {
    match u32::try_from(pid.0) {
        Ok(0) => Ok(Arc::clone(task.shared())),
        Ok(tid) => process.task(tid).ok_or(errno!(SRCH, "it has ended")),
        Err(_) => Err(errno!(SRCH)),
    }
}

/// Bytes of a mask of all processors, in whole words.
fn mask_bytes<P: Cpu>(task: &Task<P>) -> usize {
    let highest = task.sandbox().machine().processors.numbers().last().unwrap_or(0);
    usize::try_from(highest / 64).unwrap_or(0).saturating_add(1).saturating_mul(8)
}

pub(crate) fn sched_getaffinity<P: Cpu>(task: &mut Task<P>, pid: Pid, size: Count, mask: Ptr) -> Result<usize> {
    let room = usize::try_from(size.0).unwrap_or(usize::MAX);
    let bytes = mask_bytes(task);
    if room < bytes || room % 8 != 0 {
        return Err(errno!(INVAL, "the mask is too small"));
    }
    if pid.0 < 0 {
        return Err(errno!(SRCH, "no thread"));
    }
    let thread = thread(task, &process(task, pid)?, pid)?;
    let all = &task.sandbox().machine().processors;
    // Without a carrier it has not begun, and will run where its maker may.
    let allowed = thread.with_carrier(P::affinity).map_or(*all, |allowed| allowed.intersection(all));
    for (at, word) in (0..bytes).step_by(8).zip(allowed.words()) {
        put::<P, 8>(mask.0.plus(at as u64)?, word)?;
    }
    Ok(bytes)
}

pub(crate) fn sched_setaffinity<P: Cpu>(task: &mut Task<P>, pid: Pid, size: Count, mask: Ptr) -> Result<()> {
    let mut bytes = [0; 128];
    let len = usize::try_from(size.0).unwrap_or(usize::MAX).min(bytes.len());
    if let Some(bytes) = bytes.get_mut(..len) {
        user::read_exact::<P>(mask.0, bytes)?;
    }
    if pid.0 < 0 {
        return Err(errno!(SRCH, "no thread"));
    }
    let thread = thread(task, &changeable(task, pid)?, pid)?;
    let wanted = Processors::from_bytes(&bytes).intersection(&task.sandbox().machine().processors);
    let none = || errno!(INVAL, "none of the processors that there are");
    if wanted.is_empty() {
        return Err(none());
    }
    match thread.with_carrier(|carrier| P::set_affinity(carrier, &wanted)) {
        Some(true) => Ok(()),
        Some(false) => Err(none()),
        None => Err(errno!(SRCH, "it has not begun or has ended")),
    }
}

/// Lowest and highest static priority of a policy.
fn priorities(policy: Int) -> Result<(u32, u32)> {
    match u32::try_from(policy.0) {
        Ok(raw::SCHED_FIFO | raw::SCHED_RR) => Ok((1, 99)),
        Ok(raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE | raw::SCHED_DEADLINE | raw::SCHED_EXT) => Ok((0, 0)),
        _ => Err(errno!(INVAL, "no such policy")),
    }
}

pub(crate) fn sched_get_priority_max<P: Cpu>(_task: &mut Task<P>, policy: Int) -> Result<u32> {
    priorities(policy).map(|(_, highest)| highest)
}

pub(crate) fn sched_get_priority_min<P: Cpu>(_task: &mut Task<P>, policy: Int) -> Result<u32> {
    priorities(policy).map(|(lowest, _)| lowest)
}

/// Checks a policy and its priority; those of real time are not to be had.
fn check(policy: u32, priority: i32) -> Result<()> {
    let (lowest, highest) = priorities(Int(i32::try_from(policy).unwrap_or(-1)))?;
    if !u32::try_from(priority).is_ok_and(|priority| (lowest..=highest).contains(&priority)) {
        return Err(errno!(INVAL, "no priority of that policy"));
    }
    match policy {
        raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE => Ok(()),
        _ => Err(errno!(PERM, "no real-time scheduling in a sandbox")),
    }
}

pub(crate) fn sched_setscheduler<P: Cpu>(task: &mut Task<P>, pid: Pid, policy: Int, param: Ptr) -> Result<()> {
    let policy = u32::try_from(policy.0).map_err(|_| errno!(INVAL, "no such policy"))? & !raw::SCHED_RESET_ON_FORK;
    let priority = take::<P, i32, 4>(param.0)?;
    let process = changeable(task, pid)?;
    check(policy, priority)?;
    process.with(|state| state.tuning.policy = policy);
    Ok(())
}

pub(crate) fn sched_getscheduler<P: Cpu>(task: &mut Task<P>, pid: Pid) -> Result<u32> {
    Ok(process(task, pid)?.with(|state| state.tuning.policy))
}

pub(crate) fn sched_setparam<P: Cpu>(task: &mut Task<P>, pid: Pid, param: Ptr) -> Result<()> {
    let priority = take::<P, i32, 4>(param.0)?;
    let policy = changeable(task, pid)?.with(|state| state.tuning.policy);
    check(policy, priority)
}

pub(crate) fn sched_getparam<P: Cpu>(task: &mut Task<P>, pid: Pid, param: Ptr) -> Result<()> {
    process(task, pid)?;
    put::<P, 4>(param.0, &0i32)
}

pub(crate) fn sched_rr_get_interval<P: Cpu>(task: &mut Task<P>, pid: Pid, time: Ptr) -> Result<()> {
    process(task, pid)?;
    // A turn of an ordinary process.
    super::time::write::<P>(time.0, core::time::Duration::from_millis(4))
}

/// Bytes of the first `struct sched_attr`, and what is known of it: size, policy, flags, nice value and priority.
const ATTR: usize = 48;

pub(crate) fn sched_getattr<P: Cpu>(task: &mut Task<P>, pid: Pid, attr: Ptr, size: Count, flags: Flags) -> Result<()> {
    if flags.0 != 0 || size.0 < 48 || size.0 > 4096 {
        return Err(errno!(INVAL, "unknown flags, or no room"));
    }
    let tuning = process(task, pid)?.with(|state| state.tuning);
    let nice = u32::from_le_bytes(i32::from(tuning.nice).to_le_bytes());
    put::<P, ATTR>(attr.0, &[48, tuning.policy, 0, 0, nice, 0, 0, 0, 0, 0, 0, 0u32])
}

pub(crate) fn sched_setattr<P: Cpu>(task: &mut Task<P>, pid: Pid, attr: Ptr, flags: Flags) -> Result<()> {
    if flags.0 != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let [size, policy, bits, bits_high, nice, priority, ..] = take::<P, [i32; 12], ATTR>(attr.0)?;
    if !(size == 0 || (48..=4096).contains(&size)) {
        put::<P, 4>(attr.0, &48u32)?;
        return Err(errno!(TOOBIG, "of another size"));
    }
    let process = changeable(task, pid)?;
    let policy = u32::try_from(policy).map_err(|_| errno!(INVAL, "no such policy"))?;
    let known = raw::SCHED_FLAG_RESET_ON_FORK;
    if bits_high != 0 || u32::from_le_bytes(bits.to_le_bytes()) & !known != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    check(policy, priority)?;
    if !(-20..=19).contains(&nice) {
        return Err(errno!(INVAL, "no nice value"));
    }
    renice(task, &process, nice)?;
    process.with(|state| state.tuning.policy = policy);
    Ok(())
}

/// Sets a nice value, cut to what there is; only root makes a process less nice.
fn renice<P: Cpu>(task: &Task<P>, process: &Process<P>, nice: i32) -> Result<()> {
    let nice = i8::try_from(nice.clamp(-20, 19)).unwrap_or_default();
    let is_root = task.credentials().can(Capabilities::SYS_NICE);
    process.with(|state| {
        // From 1 for 19 to 40 for -20.
        let limit = state.limit(raw::RLIMIT_NICE).map_or(0, |limit| limit.soft);
        let is_within = u64::try_from(20i16.saturating_sub(i16::from(nice))).is_ok_and(|level| level <= limit);
        if nice < state.tuning.nice && !is_root && !is_within {
            return Err(errno!(ACCESS, "only root makes a process less nice"));
        }
        state.tuning.nice = nice;
        Ok(())
    })
}

/// The processes that `which` and `who` name.
fn named<P: Cpu>(task: &Task<P>, which: Int, who: Int) -> Result<alloc::vec::Vec<Arc<Process<P>>>> {
    let id = u32::try_from(who.0).map_err(|_| errno!(SRCH))?;
    let processes = match which.0 {
        0 => {
            let process = if id == 0 { Some(Arc::clone(task.process())) } else { task.sandbox().process_of(id) };
            process.into_iter().collect()
        }
        1 => {
            let group = if id == 0 { task.process().with(|state| state.group) } else { id };
            task.sandbox().select(|process| process.with(|state| state.group) == group)?
        }
        2 => {
            let user = if id == 0 { task.credentials().uid.0 } else { id };
            task.sandbox().select(|process| process.credentials().uid.0 == user)?
        }
        _ => return Err(errno!(INVAL, "of whom?")),
    };
    if processes.is_empty() { Err(errno!(SRCH)) } else { Ok(processes) }
}

pub(crate) fn getpriority<P: Cpu>(task: &mut Task<P>, which: Int, who: Int) -> Result<u32> {
    let all = named(task, which, who)?;
    let nicest = all.iter().map(|process| process.with(|state| state.tuning.nice)).min().unwrap_or_default();
    // From 40 for -20 to 1 for 19, so that no result is taken for an error.
    Ok(u32::try_from(20i32.saturating_sub(i32::from(nicest))).unwrap_or_default())
}

pub(crate) fn setpriority<P: Cpu>(task: &mut Task<P>, which: Int, who: Int, nice: Int) -> Result<()> {
    let who_asks = task.credentials();
    for process in named(task, which, who)? {
        if !who_asks.can(Capabilities::SYS_NICE) && process.credentials().uid != who_asks.uid {
            return Err(errno!(PERM, "another user's process"));
        }
        renice(task, &process, nice.0)?;
    }
    Ok(())
}

pub(crate) fn ioprio_get<P: Cpu>(task: &mut Task<P>, which: Int, who: Int) -> Result<u32> {
    let which = which.0.checked_sub(1).filter(|which| *which >= 0).ok_or(errno!(INVAL, "of whom?"))?;
    let all = named(task, Int(which), who)?;
    Ok(all.iter().map(|process| process.with(|state| state.tuning.io_priority)).min().unwrap_or_default())
}

pub(crate) fn ioprio_set<P: Cpu>(task: &mut Task<P>, which: Int, who: Int, priority: Int) -> Result<()> {
    let which = which.0.checked_sub(1).filter(|which| *which >= 0).ok_or(errno!(INVAL, "of whom?"))?;
    let priority = u32::try_from(priority.0).map_err(|_| errno!(INVAL, "no priority"))?;
    let is_root = task.credentials().can(Capabilities::SYS_NICE);
    match (priority >> 13, priority & 0x1fff) {
        (0, 0) | (2, 0..=7) | (3, _) => {}
        (1, 0..=7) if is_root => {}
        (1, 0..=7) => return Err(errno!(PERM, "only root may")),
        _ => return Err(errno!(INVAL, "no priority")),
    }
    for process in named(task, Int(which), who)? {
        if !is_root && process.credentials().uid != task.credentials().uid {
            return Err(errno!(PERM, "another user's process"));
        }
        process.with(|state| state.tuning.io_priority = priority);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    #[test]
    fn ordinary_policies_have_one_priority_and_the_others_are_refused() {
        assert!(check(raw::SCHED_NORMAL, 0).is_ok() && check(raw::SCHED_BATCH, 0).is_ok());
        assert!(check(raw::SCHED_NORMAL, 1).unwrap_err().is(Errno::INVAL));
        assert!(check(raw::SCHED_FIFO, 50).unwrap_err().is(Errno::PERM));
        assert!(check(raw::SCHED_FIFO, 0).unwrap_err().is(Errno::INVAL));
        assert!(check(4, 0).unwrap_err().is(Errno::INVAL));
    }
}
