//! Changing files' attributes: chmod(2), chown(2), utimensat(2), truncate(2), umask(2), access(2).

use super::files::{file, open_file, path, with_dir};
use super::stat::how;
use super::take;
use crate::args::{DirFd, Fd, Flags, Id, Int, Mode, Offset, Path, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::map::inode_owner;
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{self, Access, AttrChange, Credentials, FileKind, Gid, PAGE_SIZE_U64, SetTime, Timestamp, Uid};
use litebox_core::mm::AddressSpace;
use litebox_core::mm::GuestAddr;

/// The working directory's descriptor, for the calls that have none.
const CWD: DirFd = DirFd(raw::AT_FDCWD);
/// `AT_` flags of most calls here.
const AT_KNOWN: u32 = raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH;

fn check_flags(flags: Flags) -> Result<()> {
    if flags.0 & !AT_KNOWN == 0 { Ok(()) } else { Err(errno!(INVAL, "unknown flags")) }
}

/// Changes what `name` leads to; `change` sees its place.
fn change_at<P: Cpu>(
    task: &Task<P>,
    dir: DirFd,
    name: Path,
    flags: Flags,
    change: impl FnOnce(&Arc<Dentry<P>>) -> Result<AttrChange>,
) -> Result<()> {
    let name = path::<P>(name)?;
    with_dir(task, dir, &name, |at| {
        let place = at.resolve(&name, how(flags))?;
        at.set_attr(&place, &change(&place)?)
    })
}

/// Changes what `fd` has open.
fn change_fd<P: Cpu>(task: &Task<P>, fd: Fd, change: impl FnOnce(&Arc<Dentry<P>>) -> Result<AttrChange>) -> Result<()> {
    let file = open_file(task, fd)?;
    let (fs, credentials) = (task.fs(), task.credentials());
    fs.at_cwd(&credentials).set_attr(file.place(), &change(file.place())?)
}

/// A new mode for `place`: who is not in its group cannot give its rights away.
fn new_mode<P: Cpu>(who: &Credentials, place: &Dentry<P>, mode: Mode) -> Result<AttrChange> {
    if place.inode().kind() == FileKind::Symlink {
        return Err(errno!(OPNOTSUPP, "a symbolic link has no mode"));
    }
    let mut mode = types::Mode::from_bits_truncate(mode.0);
    let gid = place.inode().attr()?.gid;
    if !who.can(Capabilities::FSETID) && who.gid != gid && !who.groups.contains(&gid) {
        mode = mode.difference(types::Mode::SETGID);
    }
    Ok(AttrChange { mode: Some(mode), ..AttrChange::default() })
}

pub(crate) fn fchmodat2<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, mode: Mode, flags: Flags) -> Result<()> {
    check_flags(flags)?;
    let who = task.credentials();
    change_at(task, dir, name, flags, |place| new_mode(&who, place, mode))
}

pub(crate) fn fchmodat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, mode: Mode) -> Result<()> {
    fchmodat2(task, dir, name, mode, Flags(0))
}

pub(crate) fn chmod<P: Cpu>(task: &mut Task<P>, name: Path, mode: Mode) -> Result<()> {
    fchmodat2(task, CWD, name, mode, Flags(0))
}

pub(crate) fn fchmod<P: Cpu>(task: &mut Task<P>, fd: Fd, mode: Mode) -> Result<()> {
    let who = task.credentials();
    change_fd(task, fd, |place| new_mode(&who, place, mode))
}

/// New owners for `place`; the set-id bits of a program go with the old ones.
fn new_owner<P: Cpu>(place: &Dentry<P>, user: Id, group: Id) -> Result<AttrChange> {
    let kept = |id: Id| (id.0 != u32::MAX).then_some(id.0);
    let attr = place.inode().attr()?;
    let mode = attr.mode.without_set_ids();
    let mode = (attr.kind != FileKind::Directory && mode != attr.mode).then_some(mode);
    Ok(AttrChange { mode, uid: kept(user).map(Uid), gid: kept(group).map(Gid), ..AttrChange::default() })
}

pub(crate) fn fchownat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, user: Id, group: Id, flags: Flags) -> Result<()> {
    check_flags(flags)?;
    change_at(task, dir, name, flags, |place| new_owner(place, user, group))
}

pub(crate) fn chown<P: Cpu>(task: &mut Task<P>, name: Path, user: Id, group: Id) -> Result<()> {
    fchownat(task, CWD, name, user, group, Flags(0))
}

pub(crate) fn lchown<P: Cpu>(task: &mut Task<P>, name: Path, user: Id, group: Id) -> Result<()> {
    fchownat(task, CWD, name, user, group, Flags(raw::AT_SYMLINK_NOFOLLOW))
}

pub(crate) fn fchown<P: Cpu>(task: &mut Task<P>, fd: Fd, user: Id, group: Id) -> Result<()> {
    change_fd(task, fd, |place| new_owner(place, user, group))
}

/// Seconds and what is after them, in the call's unit.
type Pair = [i64; 2];

/// A time of `struct timespec`; the outer `None` is one that is none.
fn time([seconds, nanos]: Pair) -> Option<Option<SetTime>> {
    match u32::try_from(nanos).ok()? {
        raw::UTIME_NOW => Some(Some(SetTime::Now)),
        raw::UTIME_OMIT => Some(None),
        nanoseconds if nanoseconds < 1_000_000_000 => Some(Some(SetTime::At(Timestamp { seconds, nanoseconds }))),
        _ => None,
    }
}

/// The two times at `times`; both are now for a null pointer. `None` if there is nothing to set.
fn times<P: Cpu>(times: Ptr) -> Result<Option<AttrChange>> {
    let now = Some(SetTime::Now);
    let (accessed, modified) = if times.0 == GuestAddr::default() {
        (now, now)
    } else {
        let [a, b, c, d] = take::<P, [i64; 4], 32>(times.0)?;
        match (time([a, b]), time([c, d])) {
            (Some(accessed), Some(modified)) => (accessed, modified),
            _ => return Err(errno!(INVAL, "no time")),
        }
    };
    let nothing = accessed.is_none() && modified.is_none();
    Ok((!nothing).then(|| AttrChange { accessed, modified, ..AttrChange::default() }))
}

pub(crate) fn utimensat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, at: Ptr, flags: Flags) -> Result<()> {
    let Some(change) = times::<P>(at)? else { return Ok(()) };
    if name.0 == GuestAddr::default() && dir != CWD {
        if flags.0 != 0 {
            return Err(errno!(INVAL, "flags without a path"));
        }
        return change_fd(task, Fd(dir.0), |_| Ok(change));
    }
    check_flags(flags)?;
    change_at(task, dir, name, flags, |_| Ok(change))
}

/// The two times at `times`, in microseconds.
fn micro_times<P: Cpu>(times: Ptr) -> Result<AttrChange> {
    let set = |seconds: i64, micros: i64| {
        let micros = u32::try_from(micros).ok().filter(|micros| *micros < 1_000_000).ok_or(errno!(INVAL, "no time"))?;
        Ok(Some(SetTime::At(Timestamp { seconds, nanoseconds: micros.saturating_mul(1000) })))
    };
    if times.0 == GuestAddr::default() {
        return Ok(AttrChange { accessed: Some(SetTime::Now), modified: Some(SetTime::Now), ..AttrChange::default() });
    }
    let [a, b, c, d] = take::<P, [i64; 4], 32>(times.0)?;
    Ok(AttrChange { accessed: set(a, b)?, modified: set(c, d)?, ..AttrChange::default() })
}

pub(crate) fn futimesat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, at: Ptr) -> Result<()> {
    let change = micro_times::<P>(at)?;
    if name.0 == GuestAddr::default() && dir != CWD {
        return change_fd(task, Fd(dir.0), |_| Ok(change));
    }
    change_at(task, dir, name, Flags(0), |_| Ok(change))
}

pub(crate) fn utimes<P: Cpu>(task: &mut Task<P>, name: Path, at: Ptr) -> Result<()> {
    futimesat(task, CWD, name, at)
}

pub(crate) fn utime<P: Cpu>(task: &mut Task<P>, name: Path, at: Ptr) -> Result<()> {
    let change = if at.0 == GuestAddr::default() {
        micro_times::<P>(at)?
    } else {
        let [accessed, modified] = take::<P, [i64; 2], 16>(at.0)?;
        let set = |seconds| Some(SetTime::At(Timestamp { seconds, nanoseconds: 0 }));
        AttrChange { accessed: set(accessed), modified: set(modified), ..AttrChange::default() }
    };
    change_at(task, CWD, name, Flags(0), |_| Ok(change))
}

/// Has all mappings of `place` show its pages anew from byte `size` on, after it was made shorter.
pub(super) fn forget_pages<P: Cpu>(task: &Task<P>, place: &Dentry<P>, size: u64) {
    if !place.inode().was_mapped() {
        return;
    }
    let (owner, from) = (inode_owner(place.inode()), size.div_ceil(PAGE_SIZE_U64));
    each_memory(task, |mm| mm.forget(owner, from));
}

/// Does `act` with the memory of each process.
fn each_memory<P: Cpu>(task: &Task<P>, mut act: impl FnMut(&AddressSpace<P>)) {
    act(task.mm());
    let mut next = 0;
    while let Some(process) = task.sandbox().next_process(next) {
        next = process.pid().saturating_add(1);
        if let Some(mm) = process.running().get().and_then(|exec| exec.mm.upgrade()) {
            if !Arc::ptr_eq(&mm, task.mm()) {
                act(&mm);
            }
        }
    }
}

/// Has all shared mappings of what `owner` is (see [`inode_owner`]) fault before they write again.
pub(super) fn hide_shared<P: Cpu>(task: &Task<P>, owner: usize) {
    each_memory(task, |mm| mm.hide_shared(owner));
}

fn length(length: Offset) -> Result<u64> {
    u64::try_from(length.0).map_err(|_| errno!(INVAL, "a negative length"))
}

/// Refuses a length past the process's limit that is not a shorter one. Linux: `inode_newsize_ok`.
fn check_length<P: Cpu>(task: &Task<P>, place: &Dentry<P>, size: u64) -> Result<()> {
    if size <= task.process().file_limit() || size <= place.inode().attr()?.size {
        return Ok(());
    }
    super::kill::file_too_big(task);
    Err(errno!(FBIG, "past the limit of files"))
}

pub(crate) fn truncate<P: Cpu>(task: &mut Task<P>, name: Path, to: Offset) -> Result<()> {
    let size = length(to)?;
    let name = path::<P>(name)?;
    let place = with_dir(task, CWD, &name, |at| {
        let place = at.resolve(&name, Resolve::FOLLOW)?;
        check_length(task, &place, size)?;
        at.set_attr(&place, &AttrChange { size: Some(size), ..AttrChange::default() })?;
        Ok(place)
    })?;
    forget_pages(task, &place, size);
    Ok(())
}

pub(crate) fn ftruncate<P: Cpu>(task: &mut Task<P>, fd: Fd, to: Offset) -> Result<()> {
    let size = length(to)?;
    let file = file(task, fd)?;
    check_length(task, file.place(), size)?;
    file.truncate(size)?;
    forget_pages(task, file.place(), size);
    Ok(())
}

pub(crate) fn umask<P: Cpu>(task: &mut Task<P>, mask: Mode) -> Result<u32> {
    let new = types::Mode::from_bits_truncate(mask.0 & 0o777);
    let old = task.fs().umask;
    task.change_fs(|fs| fs.umask = new);
    Ok(old.bits())
}

pub(crate) fn faccessat2<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, mode: Int, flags: Flags) -> Result<()> {
    let want = u32::try_from(mode.0).ok().and_then(Access::from_bits).ok_or(errno!(INVAL, "access to what?"))?;
    if flags.0 & !(AT_KNOWN | raw::AT_EACCESS) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let mut who = task.credentials();
    if flags.0 & raw::AT_EACCESS == 0 {
        let (ids, permitted) = task.process().with(|state| (state.ids, state.capabilities.permitted));
        let ([uid, ..], [gid, ..]) = (ids.users, ids.groups);
        (who.uid, who.gid) = (Uid(uid), Gid(gid));
        who.capabilities = if uid == 0 { permitted } else { Capabilities::empty() };
    }
    let name = path::<P>(name)?;
    with_dir(task, dir, &name, |at| {
        let at = at.on_behalf_of(&who);
        let place = at.resolve(&name, how(flags))?;
        if want.is_empty() { Ok(()) } else { at.may(&place, want) }
    })
}

pub(crate) fn faccessat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, mode: Int) -> Result<()> {
    faccessat2(task, dir, name, mode, Flags(0))
}

pub(crate) fn access<P: Cpu>(task: &mut Task<P>, name: Path, mode: Int) -> Result<()> {
    faccessat2(task, CWD, name, mode, Flags(0))
}
