//! What open files and descriptors are told: fcntl(2), flock(2), `close_range(2)`, `memfd_create(2)`.

use super::files::{at, descriptor_flags, file, install, number, open_file, open_flags};
use super::{put, take};
use crate::args::{Count, Fd, Flags, Int, Path, Word};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::fd_table::{Fd as Number, FdFlags};
use litebox_core::fs::file::File;
use litebox_core::fs::locks::{Domain, Lock, LockKind, Owner};
use litebox_core::fs::memory::MemoryFs;
use litebox_core::fs::pipe::Pipe;
use litebox_core::fs::types::{Mode, NewNode, OFFSET_MAX, OFlags, Seals, SeekFrom};
use litebox_core::mm::{GuestAddr, UserCStr};

/// The flags that `F_GETFL` reports.
pub(crate) fn status_bits(flags: OFlags) -> u32 {
    let access = match (flags.contains(OFlags::READ), flags.contains(OFlags::WRITE)) {
        (true, true) => raw::O_RDWR,
        (false, true) => raw::O_WRONLY,
        (_, false) => raw::O_RDONLY,
    };
    [
        (OFlags::APPEND, raw::O_APPEND),
        (OFlags::NONBLOCK, raw::O_NONBLOCK),
        (OFlags::DIRECTORY, raw::O_DIRECTORY),
        (OFlags::NOFOLLOW, raw::O_NOFOLLOW),
        (OFlags::PATH, raw::O_PATH),
        (OFlags::NOATIME, raw::O_NOATIME),
        (OFlags::DIRECT, raw::O_DIRECT),
        (OFlags::DSYNC, raw::O_DSYNC),
        (OFlags::SYNC, raw::O_SYNC),
    ]
    .iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(access | raw::O_LARGEFILE, |bits, (_, bit)| bits | bit)
}

/// Whether opening made it. Of `linux/fcntl.h` since 6.12.
const F_CREATED_QUERY: u32 = 1024 + 4;

pub(crate) fn fcntl<P: Cpu>(task: &mut Task<P>, fd: Fd, cmd: Int, arg: Word) -> Result<u32> {
    let file = file(task, fd)?;
    let fd = number(fd.0);
    let bits = u32::try_from(arg.0 & 0xffff_ffff).unwrap_or_default();
    match u32::try_from(cmd.0).map_err(|_| errno!(INVAL, "unknown command"))? {
        raw::F_DUPFD => install(task, file, FdFlags::empty(), Number(bits)),
        raw::F_DUPFD_CLOEXEC => install(task, file, FdFlags::CLOEXEC, Number(bits)),
        raw::F_DUPFD_QUERY => {
            let other = task.files().get(Number(bits))?;
            Ok(u32::from(Arc::ptr_eq(&file, &other)))
        }
        F_CREATED_QUERY if !file.flags().contains(OFlags::PATH) => Ok(u32::from(file.flags().contains(OFlags::CREATED))),
        raw::F_GETFD => Ok(task.files().flags(fd)?.bits()),
        raw::F_SETFD => task.files().set_flags(fd, FdFlags::from_bits_truncate(bits)).map(|()| 0),
        raw::F_GETFL => Ok(status_bits(file.flags())),
        _ if file.flags().contains(OFlags::PATH) => Err(errno!(BADF, "a handle on a place only")),
        raw::F_SETFL => {
            file.set_status(open_flags(bits));
            Ok(0)
        }
        command @ (raw::F_GETLK | raw::F_OFD_GETLK) => get_lock(task, &file, command, GuestAddr::new(arg.0)).map(|()| 0),
        command @ (raw::F_SETLK | raw::F_SETLKW | raw::F_OFD_SETLK | raw::F_OFD_SETLKW) => {
            set_lock(task, &file, command, GuestAddr::new(arg.0)).map(|()| 0)
        }
        // Nobody is told by signals: whom to tell is taken and forgotten.
        raw::F_SETOWN | raw::F_SETSIG | raw::F_GETOWN | raw::F_GETSIG => Ok(0),
        raw::F_GETLEASE => Ok(raw::F_UNLCK),
        raw::F_GETPIPE_SZ => {
            let pipe = Pipe::of(&file).ok_or(errno!(BADF, "no pipe"))?;
            u32::try_from(pipe.capacity()).map_err(|_| errno!(INVAL))
        }
        raw::F_SETPIPE_SZ => {
            let pipe = Pipe::of(&file).ok_or(errno!(BADF, "no pipe"))?;
            let limit = task.sandbox().shared().settings().pipe_bytes.count();
            let most = if task.credentials().can(Capabilities::SYS_RESOURCE) { usize::MAX } else { limit };
            let size = pipe.set_capacity(usize::try_from(bits).unwrap_or(usize::MAX), most)?;
            u32::try_from(size).map_err(|_| errno!(INVAL))
        }
        raw::F_GET_SEALS => file.ops().seals().map(|seals| seals.bits()),
        raw::F_ADD_SEALS => {
            if !file.flags().contains(OFlags::WRITE) {
                return Err(errno!(PERM, "not open for writing"));
            }
            let seals = Seals::from_bits(bits).ok_or(errno!(INVAL, "unknown seals"))?;
            file.ops().add_seals(seals).map(|()| 0)
        }
        _ => Err(errno!(INVAL, "unknown command")),
    }
}

/// `struct flock`.
const FLOCK: usize = size_of::<raw::flock>();
const _: () = assert!(FLOCK == 32);

/// What a `struct flock` says: its kind, its range, its process.
struct Asked {
    kind: u32,
    range: (u64, u64),
    pid: i32,
}

/// The range of `len` bytes from `start` on, or before it if `len` is negative; to the last offset if it is 0.
fn range(start: u64, len: i64) -> Result<(u64, u64)> {
    let start = i64::try_from(start).map_err(|_| errno!(OVERFLOW, "past the last offset"))?;
    let (first, last) = match len {
        0 => (start, i64::MAX),
        1.. => (start, start.checked_add(len.saturating_sub(1)).ok_or(errno!(OVERFLOW, "past the last offset"))?),
        _ => (start.saturating_add(len), start.saturating_sub(1)),
    };
    Ok((at(first)?, at(last)?))
}

fn read_lock<P: Cpu>(file: &File<P>, addr: GuestAddr) -> Result<Asked> {
    let [kind, start, len, pid] = take::<P, [i64; 4], FLOCK>(addr)?;
    let [a, b, c, d, ..] = kind.to_le_bytes();
    let (kind, whence) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
    let base = match u32::from(whence) {
        raw::SEEK_SET => 0,
        raw::SEEK_CUR => file.seek(SeekFrom::Current(0)).unwrap_or(0),
        raw::SEEK_END => file.ops().size()?,
        _ => return Err(errno!(INVAL, "from where?")),
    };
    let start = base.checked_add_signed(start).ok_or(errno!(INVAL, "before the start"))?;
    let [pid @ .., _, _, _, _] = pid.to_le_bytes();
    Ok(Asked { kind: u32::from(kind), range: range(start, len)?, pid: i32::from_le_bytes(pid) })
}

/// Who asks for a lock: the process, or with the commands for that the open file.
fn owner<P: Cpu>(task: &Task<P>, file: &File<P>, command: u32, asked: &Asked) -> Result<Owner> {
    if matches!(command, raw::F_GETLK | raw::F_SETLK | raw::F_SETLKW) {
        return Ok(Owner { object: task.files().lock_owner(), pid: Some(task.process().pid()) });
    }
    if asked.pid != 0 {
        return Err(errno!(INVAL, "a process for an open file's lock"));
    }
    Ok(Owner { object: file.lock_owner(task.sandbox().shared().locks()), pid: None })
}

fn lock(owner: Owner, asked: &Asked) -> Result<Lock> {
    let kind = match asked.kind {
        raw::F_RDLCK => LockKind::Shared,
        raw::F_WRLCK => LockKind::Exclusive,
        _ => return Err(errno!(INVAL, "no kind of lock")),
    };
    Ok(Lock { owner, kind, start: asked.range.0, end: asked.range.1 })
}

fn get_lock<P: Cpu>(task: &Task<P>, file: &File<P>, command: u32, addr: GuestAddr) -> Result<()> {
    let asked = read_lock(file, addr)?;
    let wanted = lock(owner(task, file, command, &asked)?, &asked)?;
    let locks = task.sandbox().shared().locks();
    let Some(found) = locks.conflict(file.place().inode().id(), Domain::Records, &wanted) else {
        let [low, high, ..] = raw::F_UNLCK.to_le_bytes();
        return put::<P, 2>(addr, &[low, high]);
    };
    let kind = if found.kind == LockKind::Shared { raw::F_RDLCK } else { raw::F_WRLCK };
    let length = if found.end >= OFFSET_MAX { 0 } else { found.end.saturating_sub(found.start).saturating_add(1) };
    let pid = found.owner.pid.map_or(u64::from(u32::MAX), u64::from);
    put::<P, FLOCK>(addr, &[u64::from(kind), found.start, length, pid])
}

fn set_lock<P: Cpu>(task: &Task<P>, file: &File<P>, command: u32, addr: GuestAddr) -> Result<()> {
    let asked = read_lock(file, addr)?;
    let owner = owner(task, file, command, &asked)?;
    let (locks, inode) = (task.sandbox().shared().locks(), file.place().inode().id());
    if asked.kind == raw::F_UNLCK {
        return locks.unlock(inode, Domain::Records, owner, asked.range);
    }
    let wanted = lock(owner, &asked)?;
    let needed = if wanted.kind == LockKind::Shared { OFlags::READ } else { OFlags::WRITE };
    if !file.flags().contains(needed) {
        return Err(errno!(BADF, "not open for what the lock is for"));
    }
    match command {
        raw::F_SETLKW | raw::F_OFD_SETLKW => locks.lock(inode, Domain::Records, wanted),
        _ => locks.try_lock(inode, Domain::Records, wanted),
    }
}

pub(crate) fn flock<P: Cpu>(task: &mut Task<P>, fd: Fd, operation: Int) -> Result<()> {
    let bits = u32::try_from(operation.0).map_err(|_| errno!(INVAL, "unknown operation"))?;
    let kind = match bits & !raw::LOCK_NB {
        raw::LOCK_SH => Some(LockKind::Shared),
        raw::LOCK_EX => Some(LockKind::Exclusive),
        raw::LOCK_UN => None,
        _ => return Err(errno!(INVAL, "unknown operation")),
    };
    let file = open_file(task, fd)?;
    let (locks, inode) = (task.sandbox().shared().locks(), file.place().inode().id());
    let owner = Owner { object: file.lock_owner(locks), pid: None };
    let Some(kind) = kind else { return locks.unlock(inode, Domain::Whole, owner, (0, OFFSET_MAX)) };
    let wanted = Lock { owner, kind, start: 0, end: OFFSET_MAX };
    if bits & raw::LOCK_NB == 0 { locks.lock(inode, Domain::Whole, wanted) } else { locks.try_lock(inode, Domain::Whole, wanted) }
}

/// `CLOSE_RANGE_UNSHARE` and `CLOSE_RANGE_CLOEXEC` of `linux/close_range.h`.
const RANGE_UNSHARE: u32 = 1 << 1;
const RANGE_CLOEXEC: u32 = 1 << 2;

pub(crate) fn close_range<P: Cpu>(task: &mut Task<P>, first: Count, last: Count, flags: Flags) -> Result<()> {
    if flags.0 & !(RANGE_UNSHARE | RANGE_CLOEXEC) != 0 || first.0 > last.0 {
        return Err(errno!(INVAL, "unknown flags, or no range"));
    }
    if flags.0 & RANGE_UNSHARE != 0 {
        task.unshare_files()?;
    }
    let (first, last) = (Number(first.0), Number(last.0));
    if flags.0 & RANGE_CLOEXEC == 0 { task.files().close_range(first, last) } else { task.files().mark_range(first, last) }
}

/// Longest name of a file in memory, without the NUL.
const NAME_MAX: usize = 249;

pub(crate) fn memfd_create<P: Cpu>(task: &mut Task<P>, name: Path, flags: Flags) -> Result<u32> {
    let exec = raw::MFD_NOEXEC_SEAL | raw::MFD_EXEC;
    if flags.0 & !(raw::MFD_CLOEXEC | raw::MFD_ALLOW_SEALING | exec) != 0 || flags.0 & exec == exec {
        return Err(errno!(INVAL, "unknown flags, or huge pages"));
    }
    let name = UserCStr::new(name.0).read::<P>(NAME_MAX.saturating_add(1)).map_err(|error| {
        if error.is(litebox_core::error::Errno::NAMETOOLONG) { errno!(INVAL, "the name is too long") } else { error }
    })?;
    let who = task.credentials();
    let mut mode = Mode::RWXU | Mode::RWXG | Mode::RWXO;
    let mut seals = if flags.0 & raw::MFD_ALLOW_SEALING == 0 { Seals::SEAL } else { Seals::empty() };
    if flags.0 & raw::MFD_NOEXEC_SEAL != 0 {
        mode = mode.difference(Mode::XUSR | Mode::XGRP | Mode::XOTH);
        seals = Seals::EXEC;
    }
    let new = NewNode { mode, uid: who.uid, gid: who.gid };
    let inode = MemoryFs::unnamed::<P>(task.sandbox().shared().new_inode(), task.sandbox().quota(), new)?;
    let ops = Arc::clone(&inode).open(OFlags::READ | OFlags::WRITE)?;
    ops.add_seals(seals)?;
    let mut label = b"/memfd:".to_vec();
    label.extend_from_slice(&name);
    label.extend_from_slice(b" (deleted)");
    let file = File::new(Dentry::detached(inode, &label), ops, OFlags::READ | OFlags::WRITE);
    let cloexec = if flags.0 & raw::MFD_CLOEXEC == 0 { OFlags::empty() } else { OFlags::CLOEXEC };
    install(task, file, descriptor_flags(cloexec), Number(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_back_as_they_went_in() {
        let bits = raw::O_RDWR | raw::O_APPEND | raw::O_NONBLOCK;
        assert_eq!(status_bits(open_flags(bits)), bits | raw::O_LARGEFILE);
    }

    #[test]
    fn ranges_go_both_ways() {
        assert_eq!(range(10, 5).unwrap(), (10, 14));
        assert_eq!(range(10, -5).unwrap(), (5, 9));
        assert_eq!(range(10, 0).unwrap(), (10, OFFSET_MAX));
        assert!(range(3, -5).is_err() && range(OFFSET_MAX, 2).is_err() && range(0, -1).is_err());
        assert_eq!(range(OFFSET_MAX, 1).unwrap(), (OFFSET_MAX, OFFSET_MAX));
    }
}
