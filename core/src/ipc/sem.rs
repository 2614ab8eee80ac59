//! Sets of semaphores with a key. See semget(2), semop(2), semctl(2); Linux ipc/sem.c.
//!
//! Operations that cannot be done wait in the order in which they came, and are done by whoever makes them possible, on behalf of
//! those who wait: nobody overtakes. Invariants: what waits is in its set's queue until it has an outcome, or its waiter leaves;
//! values are `0..=VALUE_MAX`. Locks: `table` is a leaf.

use super::perm::{Key, Keyed, Make, Objects, Perm};
use crate::errno;
use crate::error::{Error, Result};
use crate::fs::types::{Credentials, Gid, Timestamp, Uid};
use crate::limit::{Limit, Part, Total};
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::{Mutex, WaitQueue};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};
use core::time::Duration;

/// Sets that there may be at first. Linux: `SEMMNI`.
const SETS: u64 = 32_000;
/// Semaphores in a set. Linux: `SEMMSL`.
const IN_SET: u64 = 32_000;
/// Operations of one call. Linux: `SEMOPM`.
const OPS: u64 = 500;
/// How many and how large sets may be. See `proc_sys_kernel(5)`, `sem`.
#[derive(Debug)]
pub struct Limits {
    /// Semaphores in a set.
    pub in_set: Limit,
    /// Semaphores in all.
    pub all: Limit,
    /// Operations of one call.
    pub ops: Limit,
    /// Sets.
    pub sets: Limit,
}

/// Highest value. Linux: `SEMVMX`.
pub const VALUE_MAX: i32 = 32_767;
/// What a set, a list to undo and an entry of the queue are charged beside what they hold.
const COST: u64 = 256;

/// One operation on one semaphore. See semop(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Which of the set.
    pub index: u16,
    /// What is added; 0 waits for a value of 0.
    pub change: i16,
    /// Whether the end of the process undoes it.
    pub undo: bool,
    /// Whether it fails where it would wait.
    pub no_wait: bool,
}

/// What is told of a set. See semctl(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who may do what.
    pub perm: Perm,
    /// The last operation.
    pub operated: Option<Timestamp>,
    /// The last change by semctl(2).
    pub changed: Timestamp,
    /// Semaphores.
    pub count: usize,
}

#[derive(Clone, Copy, Default)]
struct Semaphore {
    value: u16,
    pid: u32,
}

/// One that waits; `outcome` is one of `WAITS` to `OUT_OF_RANGE`.
struct Waiter<P> {
    outcome: AtomicU8,
    queue: WaitQueue<P>,
}

const WAITS: u8 = 0;
const DONE: u8 = 1;
const REMOVED: u8 = 2;
const OUT_OF_RANGE: u8 = 3;

impl<P: Platform> Waiter<P> {
    fn tell(&self, outcome: u8) {
        self.outcome.store(outcome, Ordering::Release);
        self.queue.wake_all();
    }

    fn outcome(&self) -> Option<Result<()>> {
        match self.outcome.load(Ordering::Acquire) {
            WAITS => None,
            DONE => Some(Ok(())),
            REMOVED => Some(Err(errno!(IDRM))),
            _ => Some(Err(errno!(RANGE, "past the highest value"))),
        }
    }
}

struct Entry<P> {
    ops: Vec<Op>,
    pid: u32,
    /// The operation that cannot be done.
    blocks: Op,
    waiter: Arc<Waiter<P>>,
    _charge: Charge,
}

/// What a process gives back at its end: for each semaphore.
struct Undo {
    adjust: Vec<i16>,
    _charge: Charge,
}

/// What came of trying all operations of a call.
enum Tried {
    Done,
    Blocks(Op),
}

struct Set<P> {
    perm: Perm,
    operated: Option<Timestamp>,
    changed: Timestamp,
    semaphores: Vec<Semaphore>,
    undo: BTreeMap<u32, Undo>,
    waiting: Vec<Entry<P>>,
    _charge: Charge,
    _part: Part,
}

impl<P> Keyed for Set<P> {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

fn zeros<T: Clone + Default>(count: usize) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    all.resize(count, T::default());
    Ok(all)
}

fn now<P: Platform>() -> Timestamp {
    P::realtime().into()
}

impl<P: Platform> Set<P> {
    /// Adds `change` to a value and, of `undo`, to what `pid` gives back. `None`: it has to wait.
    fn apply(&mut self, op: Op, pid: u32) -> Result<Option<()>> {
        let semaphore = self.semaphores.get_mut(usize::from(op.index)).ok_or(errno!(FBIG, "no such semaphore"))?;
        let value = i32::from(semaphore.value);
        let sum = value.saturating_add(i32::from(op.change));
        if sum < 0 || (op.change == 0 && value != 0) {
            return Ok(None);
        }
        let range = || errno!(RANGE, "past the highest value");
        let sum = u16::try_from(sum).ok().filter(|_| sum <= VALUE_MAX).ok_or_else(range)?;
        if op.undo {
            let undo = self.undo.get_mut(&pid).and_then(|undo| undo.adjust.get_mut(usize::from(op.index)));
            let undo = undo.ok_or(errno!(NOMEM))?;
            *undo = undo.checked_sub(op.change).ok_or_else(range)?;
        }
        semaphore.value = sum;
        Ok(Some(()))
    }

    /// Takes back what [`Self::apply`] did.
    fn revert(&mut self, op: Op, pid: u32) {
        if let Some(semaphore) = self.semaphores.get_mut(usize::from(op.index)) {
            semaphore.value = semaphore.value.wrapping_add_signed(op.change.wrapping_neg());
        }
        let undo = self.undo.get_mut(&pid).and_then(|undo| undo.adjust.get_mut(usize::from(op.index)));
        if let Some(undo) = undo.filter(|_| op.undo) {
            *undo = undo.wrapping_add(op.change);
        }
    }

    /// Does all operations, or none. Linux: `perform_atomic_semop`.
    fn attempt(&mut self, ops: &[Op], pid: u32) -> Result<Tried> {
        for (done, op) in ops.iter().enumerate() {
            let tried = self.apply(*op, pid);
            if matches!(tried, Ok(Some(()))) {
                continue;
            }
            ops.iter().take(done).rev().for_each(|op| self.revert(*op, pid));
            return tried.map(|_| Tried::Blocks(*op));
        }
        for op in ops {
            if let Some(semaphore) = self.semaphores.get_mut(usize::from(op.index)) {
                semaphore.pid = pid;
            }
        }
        self.operated = Some(now::<P>());
        Ok(Tried::Done)
    }

    /// Does what waits and can be done now, first come first.
    fn settle(&mut self) {
        let mut at = 0usize;
        while at < self.waiting.len() {
            let mut entry = self.waiting.remove(at);
            let outcome = match self.attempt(&entry.ops, entry.pid) {
                Ok(Tried::Blocks(op)) => {
                    entry.blocks = op;
                    self.waiting.insert(at, entry);
                    at = at.saturating_add(1);
                    continue;
                }
                Ok(Tried::Done) => DONE,
                Err(_) => OUT_OF_RANGE,
            };
            entry.waiter.tell(outcome);
            // What it did may let those before it go on.
            if outcome == DONE && entry.ops.iter().any(|op| op.change != 0) {
                at = 0;
            }
        }
    }

    /// Sees to it that `pid` has something to give back.
    fn prepare_undo(&mut self, pid: u32, quota: &Arc<Quota>) -> Result<()> {
        if !self.undo.contains_key(&pid) {
            let count = self.semaphores.len();
            let bytes = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(2);
            let charge = quota.charge(bytes.saturating_add(COST))?;
            self.undo.insert(pid, Undo { adjust: zeros(count)?, _charge: charge });
        }
        Ok(())
    }

    fn status(&self) -> Status {
        Status { perm: self.perm, operated: self.operated, changed: self.changed, count: self.semaphores.len() }
    }

    fn set(&mut self, index: usize, value: u16, pid: u32) {
        if let Some(semaphore) = self.semaphores.get_mut(index) {
            *semaphore = Semaphore { value, pid };
        }
        // A value that was set is not to be adjusted.
        let all = self.undo.values_mut().filter_map(|undo| undo.adjust.get_mut(index));
        all.for_each(|adjust| *adjust = 0);
    }
}

/// The sets of a sandbox.
pub struct Semaphores<P: Platform> {
    /// What may be made.
    pub limits: Limits,
    /// Semaphores in all sets.
    total: Total,
    quota: Arc<Quota>,
    table: Mutex<P, Objects<Set<P>>>,
}

impl<P: Platform> fmt::Debug for Semaphores<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphores").finish_non_exhaustive()
    }
}

impl<P: Platform> Semaphores<P> {
    /// None. They will be charged to `quota`.
    #[must_use]
    pub fn new(quota: &Arc<Quota>) -> Self {
        let [in_set, all, ops, sets] = [IN_SET, IN_SET.saturating_mul(SETS), OPS, SETS].map(Limit::new);
        Self {
            limits: Limits { in_set, all, ops, sets },
            total: Total::default(),
            quota: Arc::clone(quota),
            table: Mutex::<P, _>::new(Objects::new()),
        }
    }

    /// The number of the set with `key`, made with `count` semaphores if `make` says so. See semget(2).
    ///
    /// # Errors
    /// - `INVAL`: it has fewer, or none are to be in it, or too many.  - `NOENT`: there is none.  - `EXIST`: there is one.
    /// - `ACCESS`.  - `NOSPC`: too many sets.  - `NOMEM`.
    pub fn find(&self, key: Key, count: usize, make: Make, mode: u32, who: &Credentials) -> Result<u32> {
        if count > self.limits.in_set.count() {
            return Err(errno!(INVAL, "too many for one set"));
        }
        let mut table = self.table.lock();
        let fits = |set: &Set<P>| if count > set.semaphores.len() { Err(errno!(INVAL, "it has fewer")) } else { Ok(()) };
        if let Some(id) = table.find(key, make, (who, mode), fits)? {
            return Ok(id);
        }
        if count == 0 {
            return Err(errno!(INVAL, "an empty set"));
        }
        table.has_room(self.limits.sets.count())?;
        let part = self.total.add(u64::try_from(count).unwrap_or(u64::MAX), &self.limits.all);
        let part = part.ok_or(errno!(NOSPC, "too many semaphores"))?;
        let bytes = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(8);
        let charge = self.quota.charge(bytes.saturating_add(COST))?;
        let set = Set {
            perm: Perm::new(key, mode, who),
            operated: None,
            changed: now::<P>(),
            semaphores: zeros(count)?,
            undo: BTreeMap::new(),
            waiting: Vec::new(),
            _charge: charge,
            _part: part,
        };
        Ok(table.insert(set))
    }

    /// Does all of `ops` at once for process `pid`, when that can be done; until `deadline` of the monotonic clock. See semop(2).
    ///
    /// # Errors
    /// - `INVAL`: no such set.  - `FBIG`: no such semaphore.  - `ACCESS`.  - `RANGE`.  - `AGAIN`: it would wait, or the time is over.
    /// - `IDRM`: the set was removed meanwhile.  - `NOMEM`.  - `Interrupted`.
    pub fn operate(&self, id: u32, ops: Vec<Op>, deadline: Option<Duration>, (who, pid): (&Credentials, u32)) -> Result<()> {
        let waiter = {
            let mut table = self.table.lock();
            let set = table.get(id)?;
            if ops.iter().any(|op| usize::from(op.index) >= set.semaphores.len()) {
                return Err(errno!(FBIG, "no such semaphore"));
            }
            let alters = ops.iter().any(|op| op.change != 0);
            set.perm.check(who, if alters { 0o222 } else { 0o444 })?;
            if ops.iter().any(|op| op.undo) {
                set.prepare_undo(pid, &self.quota)?;
            }
            let blocks = match set.attempt(&ops, pid)? {
                Tried::Done if alters => {
                    set.settle();
                    return Ok(());
                }
                Tried::Done => return Ok(()),
                Tried::Blocks(op) if op.no_wait => return Err(errno!(AGAIN, "it would wait")),
                Tried::Blocks(op) => op,
            };
            let bytes = u64::try_from(ops.len()).unwrap_or(u64::MAX).saturating_mul(8);
            let charge = self.quota.charge(bytes.saturating_add(COST))?;
            let waiter = Arc::new(Waiter { outcome: AtomicU8::new(WAITS), queue: WaitQueue::new() });
            set.waiting.try_reserve(1).map_err(|_| errno!(NOMEM))?;
            set.waiting.push(Entry { ops, pid, blocks, waiter: Arc::clone(&waiter), _charge: charge });
            waiter
        };
        let waited = waiter.queue.wait_until(deadline, || waiter.outcome());
        if let Some(set) = self.table.lock().by_id.get_mut(&id) {
            set.waiting.retain(|entry| !Arc::ptr_eq(&entry.waiter, &waiter));
        }
        // Nobody tells it anything any more; what was told while it gave up counts.
        waiter.outcome().unwrap_or_else(|| match waited {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            _ => Err(errno!(AGAIN, "the time is over")),
        })
    }

    /// What is to be told of a set; `any` does not ask whether it is readable.
    ///
    /// # Errors
    /// `INVAL`: there is none. `ACCESS`.
    pub fn status(&self, id: u32, any: bool, who: &Credentials) -> Result<Status> {
        let mut table = self.table.lock();
        let set = table.get(id)?;
        if !any {
            set.perm.check(who, 0o444)?;
        }
        Ok(set.status())
    }

    /// The first set from number `from` on; for listing them.
    #[must_use]
    pub fn next(&self, from: u32) -> Option<(u32, Status)> {
        let table = self.table.lock();
        table.by_id.range(from..).next().map(|(id, set)| (*id, set.status()))
    }

    /// The values of a set.
    ///
    /// # Errors
    /// `INVAL`: there is none. `ACCESS`. `NOMEM`.
    pub fn values(&self, id: u32, who: &Credentials) -> Result<Vec<u16>> {
        let mut table = self.table.lock();
        let set = table.get(id)?;
        set.perm.check(who, 0o444)?;
        let mut values = zeros(set.semaphores.len())?;
        values.iter_mut().zip(&set.semaphores).for_each(|(to, from)| *to = from.value);
        Ok(values)
    }

    /// A semaphore's value, the process that operated on it last, and how many wait for more and for 0.
    ///
    /// # Errors
    /// `INVAL`: there is no such set or semaphore. `ACCESS`.
    pub fn semaphore(&self, id: u32, index: i32, who: &Credentials) -> Result<(u16, u32, [usize; 2])> {
        let mut table = self.table.lock();
        let set = table.get(id)?;
        set.perm.check(who, 0o444)?;
        let none = || errno!(INVAL, "no such semaphore");
        let index = u16::try_from(index).map_err(|_| none())?;
        let semaphore = set.semaphores.get(usize::from(index)).ok_or_else(none)?;
        let of = |zero: bool| {
            let blocks = set.waiting.iter().map(|entry| entry.blocks);
            blocks.filter(|op| op.index == index && (op.change == 0) == zero).count()
        };
        Ok((semaphore.value, semaphore.pid, [of(false), of(true)]))
    }

    /// Sets one value, for process `pid`.
    ///
    /// # Errors
    /// `RANGE`. `INVAL`: there is no such set or semaphore. `ACCESS`.
    pub fn set_value(&self, id: u32, index: i32, value: i32, (who, pid): (&Credentials, u32)) -> Result<()> {
        let value = u16::try_from(value).ok().filter(|_| value <= VALUE_MAX).ok_or(errno!(RANGE))?;
        let mut table = self.table.lock();
        let set = table.get(id)?;
        let index = usize::try_from(index).ok().filter(|index| *index < set.semaphores.len());
        let index = index.ok_or(errno!(INVAL, "no such semaphore"))?;
        set.perm.check(who, 0o222)?;
        set.set(index, value, pid);
        set.changed = now::<P>();
        set.settle();
        Ok(())
    }

    /// How many values [`Self::set_values`] wants.
    ///
    /// # Errors
    /// `INVAL`: there is no such set. `ACCESS`.
    pub fn count_to_set(&self, id: u32, who: &Credentials) -> Result<usize> {
        let mut table = self.table.lock();
        let set = table.get(id)?;
        set.perm.check(who, 0o222)?;
        Ok(set.semaphores.len())
    }

    /// Sets all values, for process `pid`.
    ///
    /// # Errors
    /// `RANGE`. `INVAL`: there is no such set. `ACCESS`.
    pub fn set_values(&self, id: u32, values: &[u16], (who, pid): (&Credentials, u32)) -> Result<()> {
        let mut table = self.table.lock();
        let set = table.get(id)?;
        set.perm.check(who, 0o222)?;
        if values.iter().any(|value| i32::from(*value) > VALUE_MAX) {
            return Err(errno!(RANGE));
        }
        values.iter().enumerate().for_each(|(index, value)| set.set(index, *value, pid));
        set.changed = now::<P>();
        set.settle();
        Ok(())
    }

    /// Gives a set another owner and mode.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner.
    pub fn change(&self, id: u32, owner: (Uid, Gid), mode: u32, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        let set = table.get(id)?;
        set.perm.owns(who)?;
        set.perm.change(owner, mode)?;
        set.changed = now::<P>();
        Ok(())
    }

    /// Removes a set; those who wait learn of it.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner.
    pub fn remove(&self, id: u32, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        table.get(id)?.perm.owns(who)?;
        let set = table.remove(id);
        drop(table);
        set.iter().flat_map(|set| &set.waiting).for_each(|entry| entry.waiter.tell(REMOVED));
        Ok(())
    }

    /// Undoes what process `pid`, which ends, asked to have undone. Linux: `exit_sem`.
    pub fn end(&self, pid: u32) {
        let mut table = self.table.lock();
        for set in table.by_id.values_mut() {
            let Some(undo) = set.undo.remove(&pid) else { continue };
            for (semaphore, adjust) in set.semaphores.iter_mut().zip(&undo.adjust).filter(|(_, adjust)| **adjust != 0) {
                let value = i32::from(semaphore.value).saturating_add(i32::from(*adjust)).clamp(0, VALUE_MAX);
                *semaphore = Semaphore { value: u16::try_from(value).unwrap_or_default(), pid };
            }
            set.settle();
        }
    }

    /// The highest number of a set, how many sets there are, and semaphores in all.
    #[must_use]
    pub fn totals(&self) -> (u32, usize, usize) {
        let table = self.table.lock();
        let all = table.by_id.values().map(|set| set.semaphores.len());
        (table.highest(), table.by_id.len(), all.fold(0, usize::saturating_add))
    }
}
