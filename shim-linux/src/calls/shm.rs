//! shmget(2), shmat(2), shmdt(2), shmctl(2).

use super::ipc::{self, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT};
use super::lock::may_lock;
use super::{put, take};
use crate::args::{Flags, Int, Len, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::ipc::Key;
use litebox_core::ipc::shm::{Segments, Status};
use litebox_core::limit::Limit;
use litebox_core::mm::{Backing, GuestAddr, MapFlags, MapRequest, PAGE_SIZE, PageRange, Place, Prot};

/// Of `linux/shm.h`.
const SHM_HUGETLB: u32 = 0o4000;
const SHM_RDONLY: u32 = 0o10_000;
const SHM_RND: u32 = 0o20_000;
const SHM_REMAP: u32 = 0o40_000;
const SHM_EXEC: u32 = 0o100_000;
/// In a mode: it goes with its last attachment.
const SHM_DEST: u32 = 0o1000;
/// It is locked.
const SHM_LOCKED: u32 = 0o2000;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

fn segments<P: Cpu>(task: &Task<P>) -> &Segments<P> {
    task.sandbox().shared().segments()
}

pub(crate) fn shmget<P: Cpu>(task: &mut Task<P>, key: Int, size: Len, flags: Flags) -> Result<u32> {
    if flags.0 & SHM_HUGETLB != 0 {
        return Err(errno!(INVAL, "no huge pages"));
    }
    let who = task.credentials();
    segments(task).find(Key(key.0), size.0, ipc::make(flags), flags.0 & 0o777, (&who, task.process().pid()))
}

pub(crate) fn shmat<P: Cpu>(task: &mut Task<P>, segment: Int, addr: Ptr, flags: Flags) -> Result<GuestAddr> {
    let mut place = addr.0;
    if !place.is_page_start() {
        if flags.0 & SHM_RND == 0 {
            return Err(errno!(INVAL, "no page boundary"));
        }
        place = place.page_start();
    }
    let place = match (place == GuestAddr::default(), flags.0 & SHM_REMAP != 0) {
        (true, true) => return Err(errno!(INVAL, "remap what?")),
        (true, false) => Place::Anywhere(place),
        (false, true) => Place::Fixed(place),
        (false, false) => Place::FixedNoReplace(place),
    };
    let (mut prot, mut max_prot, mut want) = (Prot::READ, Prot::all().difference(Prot::WRITE), 4);
    if flags.0 & SHM_RDONLY == 0 {
        (prot, max_prot, want) = (prot | Prot::WRITE, Prot::all(), want | 2);
    }
    if flags.0 & SHM_EXEC != 0 {
        (prot, want) = (prot | Prot::EXEC, want | 1);
    }
    let who = task.credentials();
    let (memory, size) = segments(task).attach(ipc::id(segment)?, want, (&who, task.process().pid()))?;
    let backing = Backing::Source { source: memory, index: 0 };
    let len = size.next_multiple_of(PAGE_SIZE);
    let request = MapRequest { place, flags: MapFlags::SHARED, backing, max_prot, ..MapRequest::anonymous(len, prot) };
    let mapped = task.mm().map(request);
    mapped.map_err(|error| if error.is(Errno::EXIST) { errno!(INVAL, "something is mapped there") } else { error })
}

pub(crate) fn shmdt<P: Cpu>(task: &mut Task<P>, addr: Ptr) -> Result<()> {
    let none = || errno!(INVAL, "no segment is attached there");
    let owner = |backing: &Backing<P>| match backing {
        Backing::Source { source, .. } => Some(source.owner()),
        Backing::Anonymous => None,
    };
    let first = task.mm().area_after(addr.0).filter(|area| area.range.start() == addr.0).ok_or_else(none)?;
    let starts = matches!(&first.backing, Backing::Source { index: 0, .. });
    let attached = owner(&first.backing).filter(|_| starts).ok_or_else(none)?;
    let size = segments(task).detach(attached, task.process().pid()).ok_or_else(none)?;
    // A part of it may have been unmapped, or show something else now.
    let end = addr.0.plus(size.next_multiple_of(PAGE_SIZE))?;
    let mut at = addr.0;
    while let Some(area) = task.mm().area_after(at).filter(|area| area.range.start() < end) {
        at = area.range.end();
        let part = PageRange::between(area.range.start(), at.min(end)).filter(|_| owner(&area.backing) == Some(attached));
        if let Some(part) = part {
            task.mm().unmap(part)?;
        }
    }
    Ok(())
}

/// `struct shmid64_ds`: its permissions, then the rest.
const STATUS: usize = 112;

/// The bits of a segment's mode that are no permissions.
pub(crate) fn state(status: &Status) -> u32 {
    let bit = |is_set: bool, bit| if is_set { bit } else { 0 };
    bit(status.is_removed, SHM_DEST) | bit(status.is_locked, SHM_LOCKED)
}

fn encode(status: &Status) -> [u64; 14] {
    let [a, b, c, d, e, f] = ipc::perm(&status.perm, state(status));
    let ([attached, detached, changed], [maker, last]) = (status.times.map(ipc::seconds), status.pids);
    let pids = ipc::pair(maker, last);
    let attachments = u64::try_from(status.attachments).unwrap_or(u64::MAX);
    [a, b, c, d, e, f, status.size, attached, detached, changed, pids, attachments, 0, 0]
}

pub(crate) fn shmctl<P: Cpu>(task: &mut Task<P>, segment: Int, command: Int, buf: Ptr) -> Result<u32> {
    let (who, segments, id) = (task.credentials(), segments(task), ipc::id(segment)?);
    match command.0 {
        IPC_RMID => segments.remove(id, &who).map(|()| 0),
        IPC_SET => {
            let [first, second, third, ..] = take::<P, [u64; 14], STATUS>(buf.0)?;
            let (owner, mode) = ipc::owner([first, second, third]);
            segments.change(id, owner, mode, &who).map(|()| 0)
        }
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            put::<P, STATUS>(buf.0, &encode(&segments.status(id, command.0 == SHM_STAT_ANY, &who)?))?;
            Ok(if command.0 == IPC_STAT { 0 } else { id })
        }
        IPC_INFO => {
            let limits = &segments.limits;
            let [most, size, pages] = [&limits.segments, &limits.size, &limits.pages].map(Limit::get);
            put::<P, 72>(buf.0, &[size, 1, most, most, pages, 0, 0, 0, 0])?;
            Ok(segments.totals().0)
        }
        SHM_INFO => {
            let (highest, count, pages) = segments.totals();
            put::<P, 48>(buf.0, &[u64::try_from(count).unwrap_or_default(), pages, 0, 0, 0, 0])?;
            Ok(highest)
        }
        SHM_LOCK if !may_lock(task) => Err(errno!(PERM, "no memory may be locked")),
        SHM_LOCK | SHM_UNLOCK => segments.lock(id, command.0 == SHM_LOCK, &who).map(|()| 0),
        _ => Err(errno!(INVAL, "unknown command")),
    }
}
