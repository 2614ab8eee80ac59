//! Shared memory with a key. See shmget(2), shmop(2), shmctl(2); Linux ipc/shm.c.
//!
//! Invariant: a segment that was removed has no key and is held by its mappings only. Attachments are counted by the handles
//! of its memory, one for each area that shows it. Locks: `table` is a leaf.

use crate::fs::types::{Credentials, Gid, Timestamp, Uid};
use crate::mm::{MapSource, SharedMemory};
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::fmt;

/// Segments that there may be. Linux: `SHMMNI`.
pub const SEGMENTS_MAX: usize = 4096;
/// Longest segment.
pub const SIZE_MAX: u64 = 1 << 46;
/// What a segment is charged beside its pages.
const COST: u64 = 512;

/// A key; the private one is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub i32);

impl Key {
    /// `IPC_PRIVATE`.
    pub const PRIVATE: Self = Self(0);
}

/// Whether a segment is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Never.
    No,
    /// If there is none with the key.
    IfAbsent,
    /// Always; that there is one is an error.
    New,
}

/// What is told of a segment. See shmctl(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its key.
    pub key: Key,
    /// Its owner.
    pub owner: (Uid, Gid),
    /// Who made it.
    pub maker: (Uid, Gid),
    /// Permissions, nine bits.
    pub mode: u32,
    /// Whether it goes with its last attachment.
    pub is_removed: bool,
    /// Bytes, as they were asked for.
    pub size: u64,
    /// The last attachment, detachment, change.
    pub times: [Option<Timestamp>; 3],
    /// The process that made it, and the last that attached or detached it.
    pub pids: [u32; 2],
    /// Areas that show it.
    pub attachments: usize,
}

enum Memory<P: Platform> {
    Kept(Arc<SharedMemory<P>>),
    Removed(Weak<SharedMemory<P>>),
}

struct Segment<P: Platform> {
    memory: Memory<P>,
    status: Status,
    _charge: Charge,
}

impl<P: Platform> Segment<P> {
    fn memory(&self) -> Option<Arc<SharedMemory<P>>> {
        match &self.memory {
            Memory::Kept(memory) => Some(Arc::clone(memory)),
            Memory::Removed(memory) => memory.upgrade(),
        }
    }

    fn attachments(&self) -> usize {
        match &self.memory {
            Memory::Kept(memory) => Arc::strong_count(memory).saturating_sub(1),
            Memory::Removed(memory) => memory.strong_count(),
        }
    }

    /// Whether `who` may do all of `want`, three bits as in a mode.
    fn may(&self, who: &Credentials, want: u32) -> Result<()> {
        let ((uid, gid), (maker, maker_group)) = (self.status.owner, self.status.maker);
        let in_group = |group: Gid| who.gid == group || who.groups.contains(&group);
        let granted = if who.uid == uid || who.uid == maker {
            self.status.mode >> 6
        } else if in_group(gid) || in_group(maker_group) {
            self.status.mode >> 3
        } else {
            self.status.mode
        };
        if who.privileged || want & !granted & 7 == 0 { Ok(()) } else { Err(errno!(ACCESS, "the mode does not allow it")) }
    }

    fn owns(&self, who: &Credentials) -> Result<()> {
        let is_owner = who.uid == self.status.owner.0 || who.uid == self.status.maker.0;
        if who.privileged || is_owner { Ok(()) } else { Err(errno!(PERM, "only its owner may")) }
    }
}

struct Table<P: Platform> {
    by_id: BTreeMap<u32, Segment<P>>,
    last_id: u32,
}

impl<P: Platform> Table<P> {
    fn get(&mut self, id: u32) -> Result<&mut Segment<P>> {
        // What was removed goes with its last attachment.
        self.by_id.retain(|_, segment| matches!(segment.memory, Memory::Kept(_)) || segment.attachments() > 0);
        self.by_id.get_mut(&id).ok_or(errno!(INVAL, "no such segment"))
    }
}

/// The segments of a sandbox.
pub struct Segments<P: Platform> {
    quota: Arc<Quota>,
    table: Mutex<P, Table<P>>,
}

impl<P: Platform> fmt::Debug for Segments<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments").finish_non_exhaustive()
    }
}

fn now<P: Platform>() -> Option<Timestamp> {
    Some(P::realtime().into())
}

impl<P: Platform> Segments<P> {
    /// None. They will be charged to `quota`.
    #[must_use]
    pub fn new(quota: &Arc<Quota>) -> Self {
        Self { quota: Arc::clone(quota), table: Mutex::<P, _>::new(Table { by_id: BTreeMap::new(), last_id: 0 }) }
    }

    /// The number of the segment with `key`, made if `make` says so, by process `pid`. See shmget(2).
    ///
    /// # Errors
    /// - `NOENT`: there is none.  - `EXIST`: there is one.  - `ACCESS`.  - `INVAL`: it is shorter, or no length.
    /// - `NOSPC`: too many.  - `NOMEM`.
    pub fn find(&self, key: Key, size: u64, make: Make, mode: u32, (who, pid): (&Credentials, u32)) -> Result<u32> {
        let mut table = self.table.lock();
        // What was removed and has no attachment leaves first.
        let _ = table.get(u32::MAX);
        let mut known = table.by_id.iter().filter(|(_, segment)| segment.status.key == key && key != Key::PRIVATE);
        if let Some((id, segment)) = known.next() {
            if make == Make::New {
                return Err(errno!(EXIST));
            }
            segment.may(who, (mode >> 6) | (mode >> 3) | mode)?;
            return if size > segment.status.size { Err(errno!(INVAL, "it is shorter")) } else { Ok(*id) };
        }
        if make == Make::No && key != Key::PRIVATE {
            return Err(errno!(NOENT));
        }
        if size == 0 || size > SIZE_MAX {
            return Err(errno!(INVAL, "no length"));
        }
        if table.by_id.len() >= SEGMENTS_MAX {
            return Err(errno!(NOSPC, "too many segments"));
        }
        let charge = self.quota.charge(COST)?;
        let memory = Memory::Kept(SharedMemory::new(&self.quota, size)?);
        let id = table.last_id;
        table.last_id = id.saturating_add(1) & 0x7fff_ffff;
        let owner = (who.uid, who.gid);
        let status = Status {
            key,
            owner,
            maker: owner,
            mode: mode & 0o777,
            is_removed: false,
            size,
            times: [None, None, now::<P>()],
            pids: [pid, 0],
            attachments: 0,
        };
        table.by_id.insert(id, Segment { memory, status, _charge: charge });
        Ok(id)
    }

    /// The memory of a segment and its length, for an attachment by process `pid`; `want` is what it may do, three bits. See shmat(2).
    ///
    /// # Errors
    /// `INVAL`: there is none. `ACCESS`.
    pub fn attach(&self, id: u32, want: u32, (who, pid): (&Credentials, u32)) -> Result<(Arc<SharedMemory<P>>, u64)> {
        let mut table = self.table.lock();
        let segment = table.get(id)?;
        segment.may(who, want)?;
        let memory = segment.memory().ok_or(errno!(INVAL, "no such segment"))?;
        let [_, detached, changed] = segment.status.times;
        segment.status.times = [now::<P>(), detached, changed];
        segment.status.pids = [segment.status.pids[0], pid];
        Ok((memory, segment.status.size))
    }

    /// The length of the segment whose memory has this [`MapSource::owner`], which process `pid` is to detach. See shmdt(2).
    pub fn detach(&self, owner: usize, pid: u32) -> Option<u64> {
        let mut table = self.table.lock();
        let mut all = table.by_id.values_mut();
        let segment = all.find(|segment| segment.memory().is_some_and(|memory| memory.owner() == owner))?;
        let [attached, _, changed] = segment.status.times;
        segment.status.times = [attached, now::<P>(), changed];
        segment.status.pids = [segment.status.pids[0], pid];
        Some(segment.status.size)
    }

    /// What is to be told of a segment.
    ///
    /// # Errors
    /// `INVAL`: there is none. `ACCESS`: not readable.
    pub fn status(&self, id: u32, who: &Credentials) -> Result<Status> {
        let mut table = self.table.lock();
        let segment = table.get(id)?;
        segment.may(who, 4)?;
        Ok(Status { attachments: segment.attachments(), ..segment.status })
    }

    /// Gives a segment another owner and mode.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner.
    pub fn change(&self, id: u32, owner: (Uid, Gid), mode: u32, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        let segment = table.get(id)?;
        segment.owns(who)?;
        let [attached, detached, _] = segment.status.times;
        (segment.status.owner, segment.status.mode) = (owner, mode & 0o777);
        segment.status.times = [attached, detached, now::<P>()];
        Ok(())
    }

    /// Removes a segment: nobody finds it by its key any more, and it goes with its last attachment.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner.
    pub fn remove(&self, id: u32, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        let segment = table.get(id)?;
        segment.owns(who)?;
        let Some(memory) = segment.memory() else { return Ok(()) };
        segment.memory = Memory::Removed(Arc::downgrade(&memory));
        (segment.status.key, segment.status.is_removed) = (Key::PRIVATE, true);
        drop(table);
        // The last handle, if nobody has it attached: its pages are freed without the lock.
        drop(memory);
        Ok(())
    }

    /// The highest number of a segment, how many there are, and their pages in all.
    #[must_use]
    pub fn totals(&self) -> (u32, usize, u64) {
        let table = self.table.lock();
        let pages = table.by_id.values().fold(0u64, |sum, segment| sum.saturating_add(segment.status.size.div_ceil(4096)));
        (table.by_id.last_key_value().map_or(0, |(id, _)| *id), table.by_id.len(), pages)
    }
}
