//! Advisory locks on files: of ranges, for processes and open files, and of whole files. See fcntl(2), flock(2).
//!
//! Invariants: the locks of one owner on one file are disjoint and none touches another of the same kind; an exclusive one
//! overlaps no lock of another owner. Owners are known by address: a lock goes, at the latest, with the object at that address, whose
//! end calls [`FileLocks::release_owner`]. Locks: `table` is a leaf; waiting happens without it. Source: Linux `fs/locks.c`.

use super::types::InodeId;
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::{Mutex, WaitQueue};
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeBounds;
use core::sync::atomic::{AtomicBool, Ordering};

/// What a lock is charged.
const LOCK_COST: u64 = 128;
/// Locks on one file, each of which is looked at for another one.
const LOCKS_MAX: usize = 1 << 14;
/// How far a chain of who waits for whom is followed. Linux: `MAX_DEADLK_ITERATIONS`.
const CHAIN_MAX: u32 = 10;

/// Which locks exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// Of fcntl(2): ranges.
    Records,
    /// Of flock(2): whole files.
    Whole,
}

/// What a lock allows others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Other shared ones.
    Shared,
    /// None.
    Exclusive,
}

/// Who has a lock.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The address of what has it: a table of descriptors for a process, or an open file.
    pub object: usize,
    /// The process, for who asks; `None` if an open file has it.
    pub pid: Option<u32>,
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.object == other.object
    }
}

/// A lock on bytes `start..=end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lock {
    /// Who has it.
    pub owner: Owner,
    /// What it allows.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

impl Lock {
    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn touches(&self, other: &Self) -> bool {
        self.start <= other.end.saturating_add(1) && other.start <= self.end.saturating_add(1)
    }

    fn excludes(&self, other: &Self) -> bool {
        let exclusive = self.kind == LockKind::Exclusive || other.kind == LockKind::Exclusive;
        exclusive && self.owner != other.owner && self.overlaps(other)
    }
}

type Key = (InodeId, Domain);

struct Table {
    locks: BTreeMap<Key, Vec<(Lock, Charge)>>,
    /// Processes that wait, each with the one that it waits for.
    waits: Vec<(Owner, Owner)>,
}

/// All locks of a sandbox.
pub struct FileLocks<P: Platform> {
    quota: Arc<Quota>,
    table: Mutex<P, Table>,
    changed: WaitQueue<P>,
    /// Whether there ever was one: closing files is cheap until then.
    used: AtomicBool,
}

impl<P: Platform> fmt::Debug for FileLocks<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLocks").finish_non_exhaustive()
    }
}

impl Table {
    /// The first lock in the file that excludes `wanted`.
    fn conflict(&self, key: &Key, wanted: &Lock) -> Option<Lock> {
        let known = self.locks.get(key).into_iter().flatten().map(|(lock, _)| lock);
        known.filter(|lock| lock.excludes(wanted)).min_by_key(|lock| lock.start).copied()
    }

    /// Takes the bytes of `range` from what its owner has, but for what `keep` joins to it; returns `range` as it became.
    fn carve(&mut self, quota: &Arc<Quota>, key: &Key, range: Lock, keep: Option<LockKind>) -> Result<Lock> {
        let Some(list) = self.locks.get_mut(key) else { return Ok(range) };
        let splits = |lock: &Lock| lock.start < range.start && lock.end > range.end && keep != Some(lock.kind);
        let is_split = list.iter().any(|(lock, _)| lock.owner == range.owner && splits(lock));
        let mut spare = if is_split { Some(quota.charge(LOCK_COST)?) } else { None };
        list.try_reserve(2).map_err(|_| errno!(NOLCK, "no memory"))?;
        let (mut joined, mut pieces) = (range, Vec::new());
        let mut at = 0usize;
        while let Some((lock, _)) = list.get(at) {
            let lock = *lock;
            // What touches one of these touches no other: the owner's locks of one kind do not touch.
            if lock.owner == range.owner && keep == Some(lock.kind) && lock.touches(&range) {
                joined.start = joined.start.min(lock.start);
                joined.end = joined.end.max(lock.end);
                list.swap_remove(at);
            } else if lock.owner == range.owner && lock.overlaps(&range) {
                let (_, charge) = list.swap_remove(at);
                let mut charge = Some(charge);
                let left = range.start.checked_sub(1).filter(|end| lock.start <= *end).map(|end| Lock { end, ..lock });
                let right = range.end.checked_add(1).filter(|start| *start <= lock.end).map(|start| Lock { start, ..lock });
                for piece in [left, right].into_iter().flatten() {
                    if let Some(charge) = charge.take().or_else(|| spare.take()) {
                        pieces.push((piece, charge));
                    }
                }
            } else {
                at = at.saturating_add(1);
            }
        }
        list.append(&mut pieces);
        if list.is_empty() {
            self.locks.remove(key);
        }
        Ok(joined)
    }

    /// Whether `waiter` would wait for somebody who waits, in the end, for it.
    fn is_deadlock(&self, waiter: Owner, holder: Owner) -> bool {
        let mut at = holder;
        for _ in 0..CHAIN_MAX {
            let Some((_, next)) = self.waits.iter().find(|(who, _)| *who == at) else { return false };
            if *next == waiter {
                return true;
            }
            at = *next;
        }
        false
    }
}

impl<P: Platform> FileLocks<P> {
    /// No locks. They will be charged to `quota`.
    #[must_use]
    pub fn new(quota: &Arc<Quota>) -> Arc<Self> {
        let table = Table { locks: BTreeMap::new(), waits: Vec::new() };
        Arc::new(Self {
            quota: Arc::clone(quota),
            table: Mutex::<P, _>::new(table),
            changed: WaitQueue::new(),
            used: AtomicBool::new(false),
        })
    }

    /// Shows `tell` every lock: of which file, of what kind, and the lock. It runs under the table's lock.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn each(&self, mut tell: impl FnMut(InodeId, Domain, &Lock) -> Result<()>) -> Result<()> {
        let table = self.table.lock();
        let all =
            table.locks.iter().flat_map(|((inode, domain), list)| list.iter().map(move |(lock, _)| (*inode, *domain, lock)));
        all.into_iter().try_for_each(|(inode, domain, lock)| tell(inode, domain, lock))
    }

    /// A lock that excludes `wanted`, if there is one.
    #[must_use]
    pub fn conflict(&self, inode: InodeId, domain: Domain, wanted: &Lock) -> Option<Lock> {
        self.table.lock().conflict(&(inode, domain), wanted)
    }

    /// Locks, without waiting; what the owner had of these bytes becomes this.
    ///
    /// # Errors
    /// `AGAIN`: another's lock excludes it. `NOMEM`, `NOLCK`: no memory.
    pub fn try_lock(&self, inode: InodeId, domain: Domain, wanted: Lock) -> Result<()> {
        let key = (inode, domain);
        let mut table = self.table.lock();
        if table.conflict(&key, &wanted).is_some() {
            return Err(errno!(AGAIN, "another has a lock there"));
        }
        if table.locks.get(&key).is_some_and(|list| list.len() >= LOCKS_MAX) {
            return Err(errno!(NOLCK, "too many locks on one file"));
        }
        self.used.store(true, Ordering::Release);
        let charge = self.quota.charge(LOCK_COST)?;
        let joined = table.carve(&self.quota, &key, wanted, Some(wanted.kind))?;
        let list = table.locks.entry(key).or_default();
        list.try_reserve(1).map_err(|_| errno!(NOLCK, "no memory"))?;
        list.push((joined, charge));
        drop(table);
        // A lock that became a shared one may let others in.
        self.changed.wake_all();
        Ok(())
    }

    /// Locks; waits until it can.
    ///
    /// # Errors
    /// `DEADLK`: somebody waits, in the end, for this owner. `NOMEM`, `NOLCK`; [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn lock(&self, inode: InodeId, domain: Domain, wanted: Lock) -> Result<()> {
        let key = (inode, domain);
        let attempt = || {
            match self.try_lock(inode, domain, wanted) {
                Err(error) if error.is(crate::error::Errno::AGAIN) => {}
                done => return Some(done),
            }
            if domain == Domain::Whole || wanted.owner.pid.is_none() {
                return None;
            }
            let mut table = self.table.lock();
            table.waits.retain(|(who, _)| *who != wanted.owner);
            let holder = table.conflict(&key, &wanted)?.owner;
            if table.is_deadlock(wanted.owner, holder) {
                return Some(Err(errno!(DEADLK, "a circle of processes that wait for each other")));
            }
            if table.waits.try_reserve(1).is_ok() {
                table.waits.push((wanted.owner, holder));
            }
            None
        };
        let done = self.changed.wait_until(None, attempt);
        self.table.lock().waits.retain(|(who, _)| *who != wanted.owner);
        done?.unwrap_or(Ok(()))
    }

    /// Unlocks bytes `start..=end`.
    ///
    /// # Errors
    /// `NOMEM`, `NOLCK`: a lock would have to be split, and there is no memory.
    pub fn unlock(&self, inode: InodeId, domain: Domain, owner: Owner, (start, end): (u64, u64)) -> Result<()> {
        let range = Lock { owner, kind: LockKind::Shared, start, end };
        self.table.lock().carve(&self.quota, &(inode, domain), range, None)?;
        self.changed.wake_all();
        Ok(())
    }

    /// Gives up all that `owner` has on a file. A process does so whenever it closes one of its descriptors. See fcntl(2).
    pub fn release(&self, inode: InodeId, owner: usize) {
        self.release_in((inode, Domain::Records)..=(inode, Domain::Whole), owner);
    }

    /// Gives up all that `owner` has.
    pub fn release_owner(&self, owner: usize) {
        self.release_in(.., owner);
    }

    fn release_in(&self, which: impl RangeBounds<Key>, owner: usize) {
        if !self.used.load(Ordering::Acquire) {
            return;
        }
        let mut table = self.table.lock();
        let mut gone = false;
        for (_, list) in table.locks.range_mut(which) {
            let before = list.len();
            list.retain(|(lock, _)| lock.owner.object != owner);
            gone |= list.len() < before;
        }
        if gone {
            table.locks.retain(|_, list| !list.is_empty());
            drop(table);
            self.changed.wake_all();
        }
    }
}
