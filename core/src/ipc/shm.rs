//! Shared memory with a key. See shmget(2), shmop(2), shmctl(2); Linux ipc/shm.c.
//!
//! Invariant: a segment that was removed has no key and is held by its mappings only. Attachments are counted by the handles
//! of its memory, one for each area that shows it. Locks: `table` is a leaf.

use super::perm::{Key, Keyed, Make, Objects, Perm};
use crate::fs::types::{Credentials, Gid, Timestamp, Uid};
use crate::limit::{Limit, Part, Total};
use crate::mm::{MapSource, PAGE_SIZE, SharedMemory};
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::sync::{Arc, Weak};
use core::{fmt, mem};

/// Longest segment that can be.
const SIZE_MAX: u64 = 1 << 46;
/// No limit. Linux: `SHMMAX`, `SHMALL`.
const ENDLESS: u64 = u64::MAX - (1 << 24);

/// How many and how long segments may be. See `proc_sys_kernel(5)`.
#[derive(Debug)]
pub struct Limits {
    /// Segments (`shmmni`).
    pub segments: Limit,
    /// Bytes of one (`shmmax`).
    pub size: Limit,
    /// Pages of all (`shmall`).
    pub pages: Limit,
}
/// What a segment is charged beside its pages.
const COST: u64 = 512;

/// What is told of a segment. See shmctl(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who may do what.
    pub perm: Perm,
    /// Whether it goes with its last attachment.
    pub is_removed: bool,
    /// Whether its pages are to stay in memory, which they do anyway.
    pub is_locked: bool,
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
    _part: Part,
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
}

impl<P: Platform> Keyed for Segment<P> {
    fn perm(&self) -> &Perm {
        &self.status.perm
    }
}

impl<P: Platform> Objects<Segment<P>> {
    /// Takes away what was removed and has lost its last attachment.
    fn sweep(&mut self) {
        self.by_id.retain(|_, segment| matches!(segment.memory, Memory::Kept(_)) || segment.attachments() > 0);
    }

    fn swept(&mut self, id: u32) -> Result<&mut Segment<P>> {
        self.sweep();
        self.get(id)
    }
}

/// The segments of a sandbox.
pub struct Segments<P: Platform> {
    /// What may be made.
    pub limits: Limits,
    /// Pages of all segments.
    total: Total,
    quota: Arc<Quota>,
    table: Mutex<P, Objects<Segment<P>>>,
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
        let limits = Limits { segments: Limit::new(4096), size: Limit::new(ENDLESS), pages: Limit::new(ENDLESS) };
        Self { limits, total: Total::default(), quota: Arc::clone(quota), table: Mutex::<P, _>::new(Objects::new()) }
    }

    /// The number of the segment with `key`, made if `make` says so, by process `pid`. See shmget(2).
    ///
    /// # Errors
    /// - `NOENT`: there is none.  - `EXIST`: there is one.  - `ACCESS`.  - `INVAL`: it is shorter, or no length.
    /// - `NOSPC`: too many, or too many pages.  - `NOMEM`.
    pub fn find(&self, key: Key, size: u64, make: Make, mode: u32, (who, pid): (&Credentials, u32)) -> Result<u32> {
        let mut table = self.table.lock();
        table.sweep();
        let fits = |segment: &Segment<P>| if size > segment.status.size { Err(errno!(INVAL, "it is shorter")) } else { Ok(()) };
        if let Some(id) = table.find(key, make, (who, mode), fits)? {
            return Ok(id);
        }
        if size == 0 || size > self.limits.size.get() {
            return Err(errno!(INVAL, "no length"));
        }
        let part = self.total.add(size.div_ceil(PAGE_SIZE), &self.limits.pages).ok_or(errno!(NOSPC, "too many pages"))?;
        if size > SIZE_MAX {
            return Err(errno!(NOMEM, "longer than any memory"));
        }
        table.has_room(self.limits.segments.count())?;
        let charge = self.quota.charge(COST)?;
        let memory = Memory::Kept(SharedMemory::new(&self.quota, size)?);
        let status = Status {
            perm: Perm::new(key, mode, who),
            is_removed: false,
            is_locked: false,
            size,
            times: [None, None, now::<P>()],
            pids: [pid, 0],
            attachments: 0,
        };
        Ok(table.insert(Segment { memory, status, _charge: charge, _part: part }))
    }

    /// The memory of a segment and its length, for an attachment by process `pid`; `want` is what it may do, three bits. See shmat(2).
    ///
    /// # Errors
    /// `INVAL`: there is none. `ACCESS`.
    pub fn attach(&self, id: u32, want: u32, (who, pid): (&Credentials, u32)) -> Result<(Arc<SharedMemory<P>>, u64)> {
        let mut table = self.table.lock();
        let segment = table.swept(id)?;
        segment.status.perm.check(who, want)?;
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

    /// What is to be told of a segment; `any` does not ask whether it is readable.
    ///
    /// # Errors
    /// `INVAL`: there is none. `ACCESS`: not readable.
    pub fn status(&self, id: u32, any: bool, who: &Credentials) -> Result<Status> {
        let mut table = self.table.lock();
        let segment = table.swept(id)?;
        if !any {
            segment.status.perm.check(who, 4)?;
        }
        Ok(Status { attachments: segment.attachments(), ..segment.status })
    }

    /// Gives a segment another owner and mode.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner.
    pub fn change(&self, id: u32, owner: (Uid, Gid), mode: u32, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        let segment = table.swept(id)?;
        segment.status.perm.owns(who)?;
        let [attached, detached, _] = segment.status.times;
        segment.status.perm.change(owner, mode)?;
        segment.status.times = [attached, detached, now::<P>()];
        Ok(())
    }

    /// Locks a segment's pages in memory, or lets them go again.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner.
    pub fn lock(&self, id: u32, locked: bool, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        let segment = table.swept(id)?;
        segment.status.perm.owns(who)?;
        segment.status.is_locked = locked;
        Ok(())
    }

    /// Removes a segment: nobody finds it by its key any more, and it goes with its last attachment.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner.
    pub fn remove(&self, id: u32, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        let segment = table.swept(id)?;
        segment.status.perm.owns(who)?;
        let Some(memory) = segment.memory() else { return Ok(()) };
        segment.memory = Memory::Removed(Arc::downgrade(&memory));
        let key = mem::replace(&mut segment.status.perm.key, Key::PRIVATE);
        segment.status.is_removed = true;
        table.forget(key);
        drop(table);
        // The last handle, if nobody has it attached: its pages are freed without the lock.
        drop(memory);
        Ok(())
    }

    /// The first segment from number `from` on; for listing them.
    #[must_use]
    pub fn next(&self, from: u32) -> Option<(u32, Status)> {
        let mut table = self.table.lock();
        table.sweep();
        let found = table.by_id.range(from..).next();
        found.map(|(id, segment)| (*id, Status { attachments: segment.attachments(), ..segment.status }))
    }

    /// The highest number of a segment, how many there are, and their pages in all.
    #[must_use]
    pub fn totals(&self) -> (u32, usize, u64) {
        let table = self.table.lock();
        let pages = table.by_id.values().fold(0u64, |sum, segment| sum.saturating_add(segment.status.size.div_ceil(4096)));
        (table.highest(), table.by_id.len(), pages)
    }
}
