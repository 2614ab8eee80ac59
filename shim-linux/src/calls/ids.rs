//! getpid(2), getuid(2), setuid(2), getpgrp(2), getgroups(2), uname(2).

use super::{put, take};
use crate::args::{Id, Int, Pid, Ptr};
use crate::settings::Named;
use crate::signal::Cpu;
use crate::task::{Ids, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::system as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::types::Gid;
use litebox_core::mm::user;

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

/// Whom a call may make of the three ids of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Allowed {
    /// The real one may become one of these, by index.
    real: &'static [usize],
    /// The effective one.
    effective: &'static [usize],
    /// The saved one.
    saved: &'static [usize],
}

/// `setresuid(2)`: any of the three becomes any of the three.
const ANY: Allowed = Allowed { real: &[0, 1, 2], effective: &[0, 1, 2], saved: &[0, 1, 2] };
/// setreuid(2).
const REAL_AND_EFFECTIVE: Allowed = Allowed { real: &[0, 1], effective: &[0, 1, 2], saved: &[] };
/// setuid(2).
const EFFECTIVE: Allowed = Allowed { real: &[], effective: &[0, 2], saved: &[] };

/// Changes three ids as wanted, if root asks or each is allowed.
fn choose(from: &mut [u32; 3], wanted: [u32; 3], allowed: Allowed, is_root: bool) -> Result<()> {
    let has = *from;
    let may = [allowed.real, allowed.effective, allowed.saved];
    let is_allowed = |(id, may): (u32, &[usize])| id == KEEP || may.iter().any(|at| has.get(*at) == Some(&id));
    if !is_root && !wanted.into_iter().zip(may).all(is_allowed) {
        return Err(errno!(PERM, "only root may take other ids than its own"));
    }
    for (slot, id) in from.iter_mut().zip(wanted) {
        if id != KEEP {
            *slot = id;
        }
    }
    Ok(())
}

/// Which ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Users,
    Groups,
}

impl Kind {
    fn of(self, ids: &mut Ids) -> &mut [u32; 3] {
        match self {
            Self::Users => &mut ids.users,
            Self::Groups => &mut ids.groups,
        }
    }

    /// What lets a process take any.
    fn capability(self) -> Capabilities {
        match self {
            Self::Users => Capabilities::SETUID,
            Self::Groups => Capabilities::SETGID,
        }
    }
}

/// Changes the caller's ids, and what goes with them; `change` learns whether it may take any. Linux: `commit_creds`.
fn change<P: Cpu>(task: &Task<P>, kind: Kind, change: impl FnOnce(&mut [u32; 3], bool) -> Result<()>) -> Result<()> {
    task.process().with(|state| {
        let before = state.ids;
        let may = state.capabilities.effective.contains(kind.capability());
        change(kind.of(&mut state.ids), may)?;
        state.capabilities.users_changed(before.users, state.ids.users);
        let effective = |ids: Ids| {
            let ([_, user, _], [_, group, _]) = (ids.users, ids.groups);
            (user, group)
        };
        if effective(before) != effective(state.ids) {
            // Others may not look into it any more.
            (state.dumpable, state.parent_death) = (false, 0);
        }
        Ok(())
    })
}

fn set<P: Cpu>(task: &Task<P>, kind: Kind, wanted: [u32; 3], allowed: Allowed) -> Result<()> {
    change(task, kind, |ids, may| choose(ids, wanted, allowed, may))
}

/// setuid(2): who may take any changes all three, others the effective one.
fn set_one<P: Cpu>(task: &Task<P>, kind: Kind, id: Id) -> Result<()> {
    if id.0 == KEEP {
        return Err(errno!(INVAL, "no id"));
    }
    change(task, kind, |ids, may| {
        let wanted = if may { [id.0; 3] } else { [KEEP, id.0, KEEP] };
        choose(ids, wanted, EFFECTIVE, may)
    })
}

/// setreuid(2): the saved one becomes the effective one if the real one is set, or the effective one to another than the real.
fn set_two<P: Cpu>(task: &Task<P>, kind: Kind, real: Id, effective: Id) -> Result<()> {
    change(task, kind, |ids, may| {
        let [old_real, ..] = *ids;
        choose(ids, [real.0, effective.0, KEEP], REAL_AND_EFFECTIVE, may)?;
        let [_, now, saved] = ids;
        if real.0 != KEEP || (effective.0 != KEEP && effective.0 != old_real) {
            *saved = *now;
        }
        Ok(())
    })
}

pub(crate) fn setuid<P: Cpu>(task: &mut Task<P>, id: Id) -> Result<()> {
    set_one(task, Kind::Users, id)
}

pub(crate) fn setgid<P: Cpu>(task: &mut Task<P>, id: Id) -> Result<()> {
    set_one(task, Kind::Groups, id)
}

pub(crate) fn setreuid<P: Cpu>(task: &mut Task<P>, real: Id, effective: Id) -> Result<()> {
    set_two(task, Kind::Users, real, effective)
}

pub(crate) fn setregid<P: Cpu>(task: &mut Task<P>, real: Id, effective: Id) -> Result<()> {
    set_two(task, Kind::Groups, real, effective)
}

pub(crate) fn setresuid<P: Cpu>(task: &mut Task<P>, real: Id, effective: Id, saved: Id) -> Result<()> {
    set(task, Kind::Users, [real.0, effective.0, saved.0], ANY)
}

pub(crate) fn setresgid<P: Cpu>(task: &mut Task<P>, real: Id, effective: Id, saved: Id) -> Result<()> {
    set(task, Kind::Groups, [real.0, effective.0, saved.0], ANY)
}

/// The ids for files are the effective ones; what they were is the result, whether or not they could be changed.
pub(crate) fn setfsuid<P: Cpu>(task: &mut Task<P>, _id: Id) -> Result<u32> {
    geteuid(task)
}

pub(crate) fn setfsgid<P: Cpu>(task: &mut Task<P>, _id: Id) -> Result<u32> {
    getegid(task)
}

/// Supplementary groups that a process may have. Linux: `NGROUPS_MAX`.
const GROUPS_MAX: usize = 65_536;

pub(crate) fn getgroups<P: Cpu>(task: &mut Task<P>, size: Int, list: Ptr) -> Result<usize> {
    let room = usize::try_from(size.0).map_err(|_| errno!(INVAL, "a negative size"))?;
    let groups = task.process().with(|state| Arc::clone(&state.supplementary));
    if room == 0 {
        return Ok(groups.len());
    }
    if room < groups.len() {
        return Err(errno!(INVAL, "no room for all groups"));
    }
    let mut at = list.0;
    for group in groups.iter() {
        put::<P, 4>(at, &group.0)?;
        at = at.plus(4)?;
    }
    Ok(groups.len())
}

pub(crate) fn setgroups<P: Cpu>(task: &mut Task<P>, size: Int, list: Ptr) -> Result<()> {
    if !task.credentials().can(Capabilities::SETGID) {
        return Err(errno!(PERM, "only root may"));
    }
    let count = usize::try_from(size.0).ok().filter(|count| *count <= GROUPS_MAX).ok_or(errno!(INVAL, "too many groups"))?;
    let mut groups = Vec::new();
    groups.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    let mut at = list.0;
    for _ in 0..count {
        groups.push(Gid(take::<P, u32, 4>(at)?));
        at = at.plus(4)?;
    }
    // As Linux reports them.
    groups.sort_unstable();
    task.process().with(|state| state.supplementary = Arc::from(groups));
    Ok(())
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

pub(crate) fn uname<P: Cpu>(task: &mut Task<P>, buf: Ptr) -> Result<()> {
    use crate::machine::{PROCESSOR, RELEASE, SYSTEM, VERSION};
    let [host, domain] = [Named::Host, Named::Domain].map(|which| task.sandbox().name(which));
    let [system, release, version, processor] = [SYSTEM, RELEASE, VERSION, PROCESSOR].map(str::as_bytes);
    let fields = [system, &host, release, version, processor, &domain];
    let mut bytes = [0; 6 * FIELD];
    for (chunk, field) in bytes.chunks_mut(FIELD).zip(fields) {
        for (to, from) in chunk.iter_mut().zip(field) {
            *to = *from;
        }
    }
    put::<P, { 6 * FIELD }>(buf.0, &bytes)
}

/// Longest name that a machine can be given. Linux: `__NEW_UTS_LEN`.
const NAME_MAX: usize = FIELD - 1;

/// Gives the machine a name, as `which` says.
fn set_name<P: Cpu>(task: &Task<P>, which: Named, name: Ptr, len: Int) -> Result<()> {
    if !task.credentials().can(Capabilities::SYS_ADMIN) {
        return Err(errno!(PERM, "only root names the machine"));
    }
    let len = usize::try_from(len.0).ok().filter(|len| *len <= NAME_MAX).ok_or(errno!(INVAL, "no such length"))?;
    let mut bytes = [0; NAME_MAX];
    let bytes = bytes.get_mut(..len).unwrap_or_default();
    user::read_exact::<P>(name.0, bytes)?;
    task.sandbox().set_name(which, bytes)
}

pub(crate) fn sethostname<P: Cpu>(task: &mut Task<P>, name: Ptr, len: Int) -> Result<()> {
    set_name(task, Named::Host, name, len)
}

pub(crate) fn setdomainname<P: Cpu>(task: &mut Task<P>, name: Ptr, len: Int) -> Result<()> {
    set_name(task, Named::Domain, name, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    #[test]
    fn a_process_can_swap_its_ids_and_take_no_others() {
        let mut users = [1000, 1001, 1002];
        choose(&mut users, [1001, 1000, KEEP], REAL_AND_EFFECTIVE, false).unwrap();
        assert_eq!(users, [1001, 1000, 1002]);
        assert!(choose(&mut users, [0, KEEP, KEEP], ANY, false).unwrap_err().is(Errno::PERM));
        assert!(choose(&mut users, [1002, KEEP, KEEP], REAL_AND_EFFECTIVE, false).unwrap_err().is(Errno::PERM));
        assert!(choose(&mut users, [KEEP, 1000, KEEP], EFFECTIVE, false).unwrap_err().is(Errno::PERM));
        assert_eq!(users, [1001, 1000, 1002], "unchanged");
        choose(&mut users, [5, 6, 7], ANY, true).unwrap();
        assert_eq!(users, [5, 6, 7]);
    }
}
