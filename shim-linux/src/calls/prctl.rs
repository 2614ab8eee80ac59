//! prctl(2), capget(2), capset(2).

use super::{put, seccomp, take};
use crate::args::{Int, Ptr, Word};
use crate::capabilities::numbered;
use crate::signal::{Cpu, Signal};
use crate::task::{ProcessState, Task};
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use linux_raw_sys::prctl as op;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, UserBytes, user};

/// A switch's new value.
fn switch(value: u64) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(errno!(INVAL, "neither on nor off")),
    }
}

fn set<P: Cpu>(task: &Task<P>, change: impl FnOnce(&mut ProcessState)) -> u32 {
    task.process().with(change);
    0
}

pub(crate) fn prctl<P: Cpu>(task: &mut Task<P>, option: Int, arg2: Word, arg3: Word, arg4: Word, arg5: Word) -> Result<u32> {
    let rest_is_zero = arg3.0 == 0 && arg4.0 == 0 && arg5.0 == 0;
    let (value, at) = (arg2.0, GuestAddr::new(arg2.0));
    match u32::try_from(option.0).map_err(|_| errno!(INVAL, "unknown option"))? {
        op::PR_SET_NAME => {
            task.shared().set_name(read_name::<P>(at)?);
            Ok(0)
        }
        op::PR_GET_NAME => UserBytes::<P, 16>::new(at).write(&task.shared().name()).map(|()| 0),
        op::PR_SET_PDEATHSIG => {
            let number = if value == 0 { 0 } else { Signal::new(value).ok_or(errno!(INVAL, "no such signal"))?.number() };
            Ok(set(task, |state| state.parent_death = number))
        }
        op::PR_GET_PDEATHSIG => put::<P, 4>(at, &task.process().with(|state| state.parent_death)).map(|()| 0),
        op::PR_GET_DUMPABLE => Ok(u32::from(task.process().with(|state| state.dumpable))),
        op::PR_SET_DUMPABLE => {
            let dumpable = switch(value)?;
            Ok(set(task, |state| state.dumpable = dumpable))
        }
        op::PR_SET_CHILD_SUBREAPER => Ok(set(task, |state| state.subreaper = value != 0)),
        op::PR_GET_CHILD_SUBREAPER => put::<P, 4>(at, &u32::from(task.process().with(|state| state.subreaper))).map(|()| 0),
        op::PR_SET_KEEPCAPS => {
            let keep = switch(value)?;
            task.process().with(|state| state.capabilities.keep(keep)).map(|()| 0)
        }
        op::PR_GET_KEEPCAPS => Ok(u32::from(task.process().with(|state| state.capabilities.keeps()))),
        op::PR_SET_THP_DISABLE if rest_is_zero => Ok(set(task, |state| state.tuning.no_huge_pages = value != 0)),
        op::PR_GET_THP_DISABLE if value == 0 && rest_is_zero => {
            Ok(u32::from(task.process().with(|state| state.tuning.no_huge_pages)))
        }
        op::PR_SET_TIMERSLACK => Ok(set(task, |state| state.tuning.timer_slack.set(value))),
        op::PR_GET_TIMERSLACK => {
            let slack = task.process().with(|state| state.tuning.timer_slack).get();
            Ok(u32::try_from(slack).unwrap_or(u32::MAX))
        }
        op::PR_SET_NO_NEW_PRIVS if value == 1 && rest_is_zero => Ok(set(task, |state| state.tuning.no_new_privs = true)),
        op::PR_GET_NO_NEW_PRIVS if value == 0 && rest_is_zero => {
            Ok(u32::from(task.process().with(|state| state.tuning.no_new_privs)))
        }
        op::PR_GET_SECCOMP => Ok(task.shared().seccomp().number()),
        op::PR_SET_SECCOMP if value == 1 => seccomp::set_strict(task).map(|()| 0),
        op::PR_SET_SECCOMP if value == 2 => seccomp::set_filter(task, 0, GuestAddr::new(arg3.0)),
        op::PR_GET_SECUREBITS => Ok(task.process().with(|state| state.capabilities.secure.bits())),
        op::PR_SET_SECUREBITS => task.process().with(|state| state.capabilities.set_secure(value)).map(|()| 0),
        op::PR_CAPBSET_READ => {
            let capability = numbered(value)?;
            Ok(u32::from(task.process().with(|state| state.capabilities.bounding.contains(capability))))
        }
        op::PR_CAPBSET_DROP => task.process().with(|state| state.capabilities.bound(numbered(value))).map(|()| 0),
        op::PR_CAP_AMBIENT => ambient(task, value, [arg3.0, arg4.0, arg5.0]),
        op::PR_GET_TIMING => Ok(op::PR_TIMING_STATISTICAL),
        op::PR_SET_TIMING if value == u64::from(op::PR_TIMING_STATISTICAL) => Ok(0),
        op::PR_SET_TSC if value == u64::from(op::PR_TSC_ENABLE) => Ok(0),
        op::PR_GET_TSC => put::<P, 4>(at, &op::PR_TSC_ENABLE).map(|()| 0),
        op::PR_MCE_KILL_GET if value == 0 && rest_is_zero => Ok(op::PR_MCE_KILL_DEFAULT),
        op::PR_GET_TID_ADDRESS => put::<P, 8>(at, &task.clear_tid.get()).map(|()| 0),
        // Names of anonymous memory are for /proc/PID/maps, which does not show them.
        op::PR_SET_VMA if value == u64::from(op::PR_SET_VMA_ANON_NAME) => Ok(0),
        _ => Err(errno!(INVAL, "unknown option")),
    }
}

/// At most fifteen bytes of a string: a longer name is cut, and what follows its end is not read.
fn read_name<P: Cpu>(addr: GuestAddr) -> Result<[u8; 16]> {
    let mut name = [0; 16];
    let mut at = addr;
    for slot in name.iter_mut().take(15) {
        let mut byte = [0];
        user::read_exact::<P>(at, &mut byte)?;
        let [byte] = byte;
        if byte == 0 {
            break;
        }
        *slot = byte;
        at = at.plus(1)?;
    }
    Ok(name)
}

/// `PR_CAP_AMBIENT`.
fn ambient<P: Cpu>(task: &Task<P>, operation: u64, [number, rest @ ..]: [u64; 3]) -> Result<u32> {
    let operation = u32::try_from(operation).map_err(|_| errno!(INVAL, "unknown operation"))?;
    if rest != [0; 2] || (operation == op::PR_CAP_AMBIENT_CLEAR_ALL && number != 0) {
        return Err(errno!(INVAL, "more arguments than it has"));
    }
    if operation == op::PR_CAP_AMBIENT_CLEAR_ALL {
        return Ok(set(task, |state| state.capabilities.ambient = Capabilities::empty()));
    }
    let capability = numbered(number)?;
    match operation {
        op::PR_CAP_AMBIENT_IS_SET => Ok(u32::from(task.process().with(|state| state.capabilities.ambient.contains(capability)))),
        op::PR_CAP_AMBIENT_RAISE => task.process().with(|state| state.capabilities.raise(capability)).map(|()| 0),
        op::PR_CAP_AMBIENT_LOWER => Ok(set(task, |state| state.capabilities.ambient.remove(capability))),
        _ => Err(errno!(INVAL, "unknown operation")),
    }
}

/// How many words of 32 bits each set has in the version at `header`; an unknown one is replaced by the newest.
fn version<P: Cpu>(header: Ptr) -> Result<(u32, u32)> {
    let [version, pid] = take::<P, [u32; 2], 8>(header.0)?;
    match version {
        raw::_LINUX_CAPABILITY_VERSION_1 => Ok((raw::_LINUX_CAPABILITY_U32S_1, pid)),
        raw::_LINUX_CAPABILITY_VERSION_2 => Ok((raw::_LINUX_CAPABILITY_U32S_2, pid)),
        raw::_LINUX_CAPABILITY_VERSION_3 => Ok((raw::_LINUX_CAPABILITY_U32S_3, pid)),
        _ => {
            put::<P, 4>(header.0, &raw::_LINUX_CAPABILITY_VERSION_3)?;
            Err(errno!(INVAL, "unknown version"))
        }
    }
}

pub(crate) fn capget<P: Cpu>(task: &mut Task<P>, header: Ptr, data: Ptr) -> Result<()> {
    let asks_version = data.0 == GuestAddr::default();
    let (words, pid) = match version::<P>(header) {
        Err(error) if asks_version && error.is(litebox_core::error::Errno::INVAL) => return Ok(()),
        known => known?,
    };
    if asks_version {
        return Ok(());
    }
    let pid = i32::from_le_bytes(pid.to_le_bytes());
    let process = match u32::try_from(pid).map_err(|_| errno!(INVAL, "no process"))? {
        0 => Arc::clone(task.process()),
        pid => task.sandbox().process_of(pid).ok_or(errno!(SRCH))?,
    };
    let sets = process.with(|state| state.capabilities);
    let half =
        |set: Capabilities, shift: u32| u32::try_from(set.bits().wrapping_shr(shift) & u64::from(u32::MAX)).unwrap_or_default();
    let mut at = data.0;
    for shift in (0..words).map(|word| word.saturating_mul(32)) {
        put::<P, 12>(at, &[sets.effective, sets.permitted, sets.inheritable].map(|set| half(set, shift)))?;
        at = at.plus(12)?;
    }
    Ok(())
}

pub(crate) fn capset<P: Cpu>(task: &mut Task<P>, header: Ptr, data: Ptr) -> Result<()> {
    let (words, pid) = version::<P>(header)?;
    if pid != 0 && pid != task.tid() {
        return Err(errno!(PERM, "another thread"));
    }
    let mut sets = [0u64; 3];
    let mut at = data.0;
    for word in 0..words {
        let halves = take::<P, [u32; 3], 12>(at)?;
        for (set, half) in sets.iter_mut().zip(halves) {
            *set |= u64::from(half).wrapping_shl(word.saturating_mul(32));
        }
        at = at.plus(12)?;
    }
    // Bits that no capability has are not asked about.
    let [effective, permitted, inheritable] = sets.map(Capabilities::from_bits_truncate);
    task.process().with(|state| state.capabilities.set(effective, permitted, inheritable))
}
