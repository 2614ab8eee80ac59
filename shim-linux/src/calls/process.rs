//! clone(2), fork(2), vfork(2), clone3(2), unshare(2), setpgid(2), setsid(2).
//!
//! Errors come in the order of Linux kernel/fork.c: `clone3_args_valid`, `kernel_clone`, `copy_process`.

use super::{pidfd, put, take_growing};
use crate::args::{Len, Pid, Ptr, Word};
use crate::signal::{Cpu, Signal};
use crate::task::{Request, Task};
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::Fd;
use litebox_core::fs::types::OFlags;
use litebox_core::mm::{GUEST_END, GuestAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What only a privileged program of a whole system may have anew.
const NAMESPACES: u64 = (raw::CLONE_NEWNS
    | raw::CLONE_NEWCGROUP
    | raw::CLONE_NEWUTS
    | raw::CLONE_NEWIPC
    | raw::CLONE_NEWUSER
    | raw::CLONE_NEWPID
    | raw::CLONE_NEWNET) as u64;
/// What clone3(2) knows: all but the exit signal, `CLONE_DETACHED`, and with `CLONE_NEWTIME` in the signal's bits.
const KNOWN: u64 = 0xffff_ffff & !((raw::CSIGNAL & !raw::CLONE_NEWTIME) as u64 | raw::CLONE_DETACHED as u64)
    | raw::CLONE_CLEAR_SIGHAND
    | raw::CLONE_INTO_CGROUP;
/// Levels of ids. Linux: one for each namespace of them.
const ID_LEVELS: u64 = 1;

/// `struct clone_args`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Args {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<Args>() == size_of::<raw::clone_args>());

/// Makes the child that `flags` and the rest ask for.
fn make<P: Cpu>(task: &mut Task<P>, request: Request, tls: u64, pidfd_at: GuestAddr) -> Result<u32> {
    let has = |flag: u32| request.flags & u64::from(flag) != 0;
    let both = |one, other| has(one) && has(other);
    if both(raw::CLONE_NEWNS, raw::CLONE_FS) || both(raw::CLONE_NEWUSER, raw::CLONE_FS) {
        return Err(errno!(INVAL, "a new namespace with a shared file system context"));
    }
    if has(raw::CLONE_THREAD) && !has(raw::CLONE_SIGHAND) {
        return Err(errno!(INVAL, "a thread with its own signal actions"));
    }
    if has(raw::CLONE_SIGHAND) && !has(raw::CLONE_VM) {
        return Err(errno!(INVAL, "shared signal actions without shared memory"));
    }
    if has(raw::CLONE_THREAD) && (has(raw::CLONE_NEWUSER) || has(raw::CLONE_NEWPID)) {
        return Err(errno!(INVAL, "a thread in another namespace"));
    }
    namespaces(task, request.flags)?;
    if has(raw::CLONE_PIDFD) && has(raw::CLONE_THREAD) {
        return Err(errno!(INVAL, "descriptors of single threads are not offered"));
    }
    let fs_base = match (has(raw::CLONE_SETTLS), tls) {
        (false, _) => None,
        (true, base) if base < GUEST_END => Some(base),
        (true, _) => return Err(errno!(PERM, "a base outside of the guest")),
    };
    let wants_fd = has(raw::CLONE_PIDFD);
    let id = task.spawn(&Request { fs_base, ..request })?;
    if wants_fd {
        if let Err(error) = give_descriptor(task, id, pidfd_at) {
            task.unspawn();
            return Err(error);
        }
    }
    Ok(id)
}

/// Gives the caller a descriptor of its new child and stores its number.
fn give_descriptor<P: Cpu>(task: &mut Task<P>, id: u32, at: GuestAddr) -> Result<()> {
    let process = task.sandbox().process(id).ok_or(errno!(SRCH))?;
    let fd = pidfd::give(task, process, OFlags::empty())?;
    task.spawn_has(Fd(fd));
    put::<P, 4>(at, &fd)
}

fn plain<P: Cpu>(task: &mut Task<P>, flags: u32, call: u32) -> Result<u32> {
    let none = GuestAddr::default();
    let request = Request {
        flags: u64::from(flags),
        exit_signal: Signal::CHLD.number(),
        stack: None,
        fs_base: None,
        parent_tid: none,
        child_tid: none,
        call: u64::from(call),
    };
    make(task, request, 0, none)
}

pub(crate) fn fork<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    plain(task, 0, raw::__NR_fork)
}

pub(crate) fn vfork<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    plain(task, raw::CLONE_VFORK | raw::CLONE_VM, raw::__NR_vfork)
}

pub(crate) fn clone<P: Cpu>(
    task: &mut Task<P>,
    flags: Word,
    stack: Ptr,
    parent_tid: Ptr,
    child_tid: Ptr,
    tls: Ptr,
) -> Result<u32> {
    let flags = flags.0 & 0xffff_ffff;
    let shares_word = u64::from(raw::CLONE_PIDFD | raw::CLONE_PARENT_SETTID);
    if flags & shares_word == shares_word {
        return Err(errno!(INVAL, "one place for two results"));
    }
    let request = Request {
        flags: flags & !u64::from(raw::CSIGNAL),
        exit_signal: u32::try_from(flags & u64::from(raw::CSIGNAL)).unwrap_or_default(),
        stack: (stack.0.get() != 0).then_some(stack.0.get()),
        fs_base: None,
        parent_tid: parent_tid.0,
        child_tid: child_tid.0,
        call: u64::from(raw::__NR_clone),
    };
    // Its place is the parent's word, which `CLONE_PARENT_SETTID` has else.
    make(task, request, tls.0.get(), parent_tid.0)
}

pub(crate) fn clone3<P: Cpu>(task: &mut Task<P>, at: Ptr, size: Len) -> Result<u32> {
    let args: Args = take_growing::<P, _>(at.0, size.0, raw::CLONE_ARGS_SIZE_VER0 as usize)?;
    if args.set_tid_size > ID_LEVELS || (args.set_tid == 0) != (args.set_tid_size == 0) {
        return Err(errno!(INVAL, "ids for how many levels?"));
    }
    let exit_signal = u32::try_from(args.exit_signal).ok().filter(|signal| *signal <= u32::from(Signal::MAX));
    let exit_signal = exit_signal.ok_or(errno!(INVAL, "no such signal"))?;
    let into_cgroup = args.flags & raw::CLONE_INTO_CGROUP != 0;
    if into_cgroup && (i32::try_from(args.cgroup).is_err() || size.0 < u64::from(raw::CLONE_ARGS_SIZE_VER2)) {
        return Err(errno!(INVAL, "no control group is given"));
    }
    if args.flags & !KNOWN != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let clears = args.flags & raw::CLONE_CLEAR_SIGHAND != 0;
    if clears && args.flags & u64::from(raw::CLONE_SIGHAND) != 0 {
        return Err(errno!(INVAL, "signal actions both shared and cleared"));
    }
    if args.flags & u64::from(raw::CLONE_THREAD | raw::CLONE_PARENT) != 0 && exit_signal != 0 {
        return Err(errno!(INVAL, "a thread or a sibling with an exit signal"));
    }
    let top = args.stack.checked_add(args.stack_size).filter(|top| *top <= GUEST_END);
    if (args.stack == 0) != (args.stack_size == 0) || top.is_none() {
        return Err(errno!(INVAL, "a stack without a place or a size"));
    }
    if args.set_tid != 0 {
        return Err(errno!(PERM, "a sandbox chooses the ids"));
    }
    if into_cgroup {
        return Err(errno!(OPNOTSUPP, "a sandbox has no control groups"));
    }
    let request = Request {
        flags: args.flags,
        exit_signal,
        stack: top.filter(|top| *top != 0),
        fs_base: None,
        parent_tid: GuestAddr::new(args.parent_tid),
        child_tid: GuestAddr::new(args.child_tid),
        call: u64::from(raw::__NR_clone3),
    };
    make(task, request, args.tls, GuestAddr::new(args.pidfd))
}

/// Refuses namespaces that the caller cannot have anew.
fn namespaces<P: Cpu>(task: &Task<P>, flags: u64) -> Result<()> {
    let mounts = u64::from(raw::CLONE_NEWNS);
    if flags & (NAMESPACES | u64::from(raw::CLONE_NEWTIME)) & !mounts != 0 {
        return Err(errno!(PERM, "a sandbox has one set of namespaces, but for mounts"));
    }
    if flags & mounts != 0 && !task.credentials().can(Capabilities::SYS_ADMIN) {
        return Err(errno!(PERM, "only root may have mounts of its own"));
    }
    Ok(())
}

pub(crate) fn unshare<P: Cpu>(task: &mut Task<P>, flags: Word) -> Result<()> {
    let flags = flags.0;
    let has = |flag: u32| flags & u64::from(flag) != 0;
    let shared = raw::CLONE_THREAD | raw::CLONE_SIGHAND | raw::CLONE_VM;
    let known = u64::from(shared | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SYSVSEM | raw::CLONE_NEWTIME) | NAMESPACES;
    if flags & !known != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    if has(shared) && (task.process().task_count() > 1 || !task.has_own_memory()) {
        return Err(errno!(INVAL, "threads share that for life"));
    }
    namespaces(task, flags)?;
    if has(raw::CLONE_FILES) {
        task.unshare_files()?;
    }
    if has(raw::CLONE_NEWNS) {
        let fs = task.fs().with_own_mounts()?;
        task.set_fs(fs);
    } else if has(raw::CLONE_FS) {
        task.set_fs(task.fs());
    }
    Ok(())
}

fn id(pid: Pid) -> Result<u32> {
    u32::try_from(pid.0).map_err(|_| errno!(INVAL, "a negative id"))
}

pub(crate) fn setpgid<P: Cpu>(task: &mut Task<P>, pid: Pid, group: Pid) -> Result<()> {
    let group = id(group)?;
    let own = task.process().pid();
    let pid = match u32::try_from(pid.0) {
        Ok(0) => own,
        Ok(pid) => pid,
        Err(_) => return Err(errno!(SRCH)),
    };
    task.process().set_group(pid, if group == 0 { pid } else { group })
}

pub(crate) fn setsid<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    task.process().begin_session()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone3_knows_the_new_flags_and_not_the_old_signal() {
        assert_ne!(KNOWN & raw::CLONE_CLEAR_SIGHAND, 0);
        assert_ne!(KNOWN & u64::from(raw::CLONE_NEWTIME), 0);
        assert_eq!(KNOWN & u64::from(raw::CLONE_DETACHED | 17), 0);
        assert_eq!(KNOWN >> 34, 0);
    }
}
