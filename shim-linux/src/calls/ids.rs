//! getpid(2), getuid(2), setuid(2), getpgrp(2), getgroups(2), uname(2).

use super::put;
use crate::args::{Id, Int, Pid, Ptr};
use crate::signal::Cpu;
use crate::task::{Ids, Task};
use linux_raw_sys::system as raw;
use litebox_core::errno;
use litebox_core::error::Result;

/// The id that means "leave it".
const KEEP: u32 = u32::MAX;

pub(crate) fn getpid<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    Ok(task.process().pid())
}

pub(crate) fn gettid<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    Ok(task.tid())
}

pub(crate) fn getppid<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    Ok(task.process().parent())
}

fn ids<P: Cpu>(task: &Task<P>) -> Ids {
    task.process().with(|state| state.ids)
}

pub(crate) fn getuid<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    let [real, ..] = ids(task).users;
    Ok(real)
}

pub(crate) fn geteuid<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    let [_, effective, _] = ids(task).users;
    Ok(effective)
}

pub(crate) fn getgid<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    let [real, ..] = ids(task).groups;
    Ok(real)
}

pub(crate) fn getegid<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    let [_, effective, _] = ids(task).groups;
    Ok(effective)
}

fn put_three<P: Cpu>(values: [u32; 3], addrs: [Ptr; 3]) -> Result<()> {
    values.iter().zip(addrs).try_for_each(|(value, addr)| put::<P, 4>(addr.0, value))
}

pub(crate) fn getresuid<P: Cpu>(task: &mut Task<P>, real: Ptr, effective: Ptr, saved: Ptr) -> Result<()> {
    put_three::<P>(ids(task).users, [real, effective, saved])
}

pub(crate) fn getresgid<P: Cpu>(task: &mut Task<P>, real: Ptr, effective: Ptr, saved: Ptr) -> Result<()> {
    put_three::<P>(ids(task).groups, [real, effective, saved])
}

/// Lets a process choose among the ids that it has: there are no capabilities to choose others.
fn choose(from: &mut [u32; 3], wanted: [u32; 3]) -> Result<()> {
    let has = *from;
    if wanted.iter().any(|id| *id != KEEP && !has.contains(id)) {
        return Err(errno!(PERM, "a sandbox has no ids but those that it started with"));
    }
    for (slot, id) in from.iter_mut().zip(wanted) {
        if id != KEEP {
            *slot = id;
        }
    }
    Ok(())
}

fn set<P: Cpu>(task: &Task<P>, which: fn(&mut Ids) -> &mut [u32; 3], wanted: [u32; 3]) -> Result<()> {
    task.process().with(|state| choose(which(&mut state.ids), wanted))
}

fn one(id: Id) -> Result<[u32; 3]> {
    if id.0 == KEEP { Err(errno!(INVAL, "no id")) } else { Ok([KEEP, id.0, KEEP]) }
}

pub(crate) fn setuid<P: Cpu>(task: &mut Task<P>, id: Id) -> Result<()> {
    set(task, |ids| &mut ids.users, one(id)?)
}

pub(crate) fn setgid<P: Cpu>(task: &mut Task<P>, id: Id) -> Result<()> {
    set(task, |ids| &mut ids.groups, one(id)?)
}

pub(crate) fn setreuid<P: Cpu>(task: &mut Task<P>, real: Id, effective: Id) -> Result<()> {
    set(task, |ids| &mut ids.users, [real.0, effective.0, KEEP])
}

pub(crate) fn setregid<P: Cpu>(task: &mut Task<P>, real: Id, effective: Id) -> Result<()> {
    set(task, |ids| &mut ids.groups, [real.0, effective.0, KEEP])
}

pub(crate) fn setresuid<P: Cpu>(task: &mut Task<P>, real: Id, effective: Id, saved: Id) -> Result<()> {
    set(task, |ids| &mut ids.users, [real.0, effective.0, saved.0])
}

pub(crate) fn setresgid<P: Cpu>(task: &mut Task<P>, real: Id, effective: Id, saved: Id) -> Result<()> {
    set(task, |ids| &mut ids.groups, [real.0, effective.0, saved.0])
}

pub(crate) fn getgroups<P: Cpu>(_task: &mut Task<P>, size: Int, _list: Ptr) -> Result<u32> {
    if size.0 < 0 { Err(errno!(INVAL, "a negative size")) } else { Ok(0) }
}

pub(crate) fn setgroups<P: Cpu>(_task: &mut Task<P>, _size: Int, _list: Ptr) -> Result<()> {
    Err(errno!(PERM, "a sandbox has no supplementary groups"))
}

pub(crate) fn getpgrp<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    Ok(task.process().with(|state| state.group))
}

/// The process with this id; 0 is the caller's.
fn state_of<P: Cpu>(task: &Task<P>, pid: Pid, look: fn(&mut crate::task::ProcessState) -> u32) -> Result<u32> {
    if pid.0 == 0 {
        return Ok(task.process().with(look));
    }
    let pid = u32::try_from(pid.0).ok();
    let process = pid.and_then(|pid| task.sandbox().process(pid)).ok_or(errno!(SRCH))?;
    Ok(process.with(look))
}

pub(crate) fn getpgid<P: Cpu>(task: &mut Task<P>, pid: Pid) -> Result<u32> {
    state_of(task, pid, |state| state.group)
}

pub(crate) fn getsid<P: Cpu>(task: &mut Task<P>, pid: Pid) -> Result<u32> {
    state_of(task, pid, |state| state.session)
}

/// Bytes of one field of `struct new_utsname`.
const FIELD: usize = 65;

const _: () = assert!(size_of::<raw::new_utsname>() == 6 * FIELD);

pub(crate) fn uname<P: Cpu>(_task: &mut Task<P>, buf: Ptr) -> Result<()> {
    let fields: [&[u8]; 6] = [b"Linux", b"litebox", b"6.12.0-litebox", b"#1 SMP litebox", b"x86_64", b"(none)"];
    let mut bytes = [0; 6 * FIELD];
    for (chunk, field) in bytes.chunks_mut(FIELD).zip(fields) {
        for (to, from) in chunk.iter_mut().zip(field) {
            *to = *from;
        }
    }
    put::<P, { 6 * FIELD }>(buf.0, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    #[test]
    fn a_process_can_swap_its_ids_and_take_no_others() {
        let mut users = [1000, 1001, 1002];
        choose(&mut users, [1001, 1000, KEEP]).unwrap();
        assert_eq!(users, [1001, 1000, 1002]);
        assert!(choose(&mut users, [0, KEEP, KEEP]).unwrap_err().is(Errno::PERM));
        assert_eq!(users, [1001, 1000, 1002], "unchanged");
        assert!(one(Id(KEEP)).unwrap_err().is(Errno::INVAL));
    }
}
