//! Descriptors of a process: small numbers for open files.
//!
//! Invariants: `slots` is not longer than the highest limit it was used with; a descriptor is given the lowest free number;
//! `free_from` is at most that number. Locks: `slots` is rank "descriptor table"; files are dropped after it is let go, since the
//! last drop of a pipe's end or a file may take other locks. Sources: open(2), dup(2), `close_range(2)`; Linux fs/file.c.

use super::file::File;
use super::locks::FileLocks;
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;

/// Descriptors that no limit exceeds; Linux's `fs.nr_open`.
pub const FD_MAX: u32 = 1 << 20;
/// What a slot is charged.
const SLOT_COST: u64 = 40;
/// What a descriptor in use is charged: its open file and the place of that, rounded up.
const FILE_COST: u64 = 1024;

/// A descriptor's number. Any value may come from a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub u32);

bitflags! {
    /// Flags of a descriptor, not of the open file. See fcntl(2), `F_SETFD`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct FdFlags: u32 {
        /// Closed by exec.
        const CLOEXEC = 1 << 0;
    }
}

struct Slot<P: Platform> {
    file: Arc<File<P>>,
    flags: FdFlags,
    _charge: Charge,
}

struct Slots<P: Platform> {
    list: Vec<Option<Slot<P>>>,
    free_from: usize,
    charge: Option<Charge>,
}

/// Open descriptors of one process, or of several that share them.
pub struct FdTable<P: Platform> {
    quota: Arc<Quota>,
    /// Of which the locks go that the table has on a file whenever it closes a descriptor of that.
    locks: Option<Arc<FileLocks<P>>>,
    slots: Mutex<P, Slots<P>>,
}

impl<P: Platform> fmt::Debug for FdTable<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FdTable").finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for FdTable<P> {
    fn drop(&mut self) {
        if let Some(locks) = &self.locks {
            locks.release_owner(self.lock_owner());
        }
    }
}

fn index(fd: Fd) -> usize {
    usize::try_from(fd.0).unwrap_or(usize::MAX)
}

impl<P: Platform> Slots<P> {
    /// Has at least `len` slots; grows by halves, charged first.
    fn reserve(&mut self, quota: &Arc<Quota>, len: usize) -> Result<()> {
        if len > self.list.capacity() {
            let capacity = len.saturating_add(len >> 1).max(16);
            let bytes = u64::try_from(capacity).unwrap_or(u64::MAX).saturating_mul(SLOT_COST);
            let charge = quota.charge(bytes)?;
            let more = capacity.saturating_sub(self.list.len());
            self.list.try_reserve_exact(more).map_err(|_| errno!(NOMEM))?;
            self.charge = Some(charge);
        }
        while self.list.len() < len {
            self.list.push(None);
        }
        Ok(())
    }

    fn lowest_free(&self, least: usize) -> usize {
        let start = least.max(self.free_from);
        let taken = self.list.iter().skip(start).take_while(|slot| slot.is_some()).count();
        start.saturating_add(taken)
    }

    fn set(&mut self, at: usize, slot: Option<Slot<P>>) -> Option<Slot<P>> {
        if slot.is_none() {
            self.free_from = self.free_from.min(at);
        } else if at == self.free_from {
            self.free_from = self.free_from.saturating_add(1);
        }
        let place = self.list.get_mut(at)?;
        core::mem::replace(place, slot)
    }
}

impl<P: Platform> FdTable<P> {
    /// An empty table. Its memory is charged to `quota`.
    #[must_use]
    pub fn new(quota: &Arc<Quota>) -> Arc<Self> {
        Self::make(quota, None)
    }

    /// The same, for a process that may have locks on files.
    #[must_use]
    pub fn with_locks(quota: &Arc<Quota>, locks: &Arc<FileLocks<P>>) -> Arc<Self> {
        Self::make(quota, Some(Arc::clone(locks)))
    }

    fn make(quota: &Arc<Quota>, locks: Option<Arc<FileLocks<P>>>) -> Arc<Self> {
        let slots = Slots { list: Vec::new(), free_from: 0, charge: None };
        Arc::new(Self { quota: Arc::clone(quota), locks, slots: Mutex::<P, _>::new(slots) })
    }

    /// Who it is among the owners of locks.
    #[must_use]
    pub fn lock_owner(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Gives up locks on what was closed, and lets it go.
    fn closed(&self, file: &File<P>) {
        if let Some(locks) = &self.locks {
            locks.release(file.place().inode().id(), self.lock_owner());
        }
    }

    /// A copy that has the same open files under the same numbers, as fork(2) makes.
    ///
    /// # Errors
    /// `NOMEM`: the quota is used up.
    pub fn fork(&self) -> Result<Arc<Self>> {
        let copy = Self::make(&self.quota, self.locks.clone());
        {
            let source = self.slots.lock();
            let mut target = copy.slots.lock();
            target.reserve(&self.quota, source.list.len())?;
            for (place, slot) in target.list.iter_mut().zip(source.list.iter()) {
                if let Some(slot) = slot {
                    let charge = self.quota.charge(FILE_COST)?;
                    *place = Some(Slot { file: Arc::clone(&slot.file), flags: slot.flags, _charge: charge });
                }
            }
            target.free_from = source.free_from;
        }
        Ok(copy)
    }

    /// The open file of `fd`.
    ///
    /// # Errors
    /// `BADF`: there is none.
    pub fn get(&self, fd: Fd) -> Result<Arc<File<P>>> {
        let slots = self.slots.lock();
        slots.list.get(index(fd)).and_then(Option::as_ref).map(|slot| Arc::clone(&slot.file)).ok_or(errno!(BADF))
    }

    /// Gives `file` the lowest free number from `least` on and below `limit`.
    ///
    /// # Errors
    /// `MFILE`: none is left. `INVAL`: `least` is not below the limit (fcntl(2), `F_DUPFD`). `NOMEM`.
    pub fn insert(&self, file: Arc<File<P>>, flags: FdFlags, least: Fd, limit: u32) -> Result<Fd> {
        let limit = limit.min(FD_MAX);
        if least.0 > 0 && least.0 >= limit {
            return Err(errno!(INVAL, "not below the limit of descriptors"));
        }
        let charge = self.quota.charge(FILE_COST)?;
        let mut slots = self.slots.lock();
        let at = slots.lowest_free(index(least));
        let fd = u32::try_from(at).ok().filter(|fd| *fd < limit).ok_or(errno!(MFILE))?;
        slots.reserve(&self.quota, at.saturating_add(1))?;
        slots.set(at, Some(Slot { file, flags, _charge: charge }));
        Ok(Fd(fd))
    }

    /// Gives the open file of `from` the number `to`, closing what has it; dup2(2) and dup3(2) for different numbers.
    ///
    /// # Errors
    /// `BADF`: `from` is not open, or `to` not below the limit. `NOMEM`.
    pub fn duplicate_to(&self, from: Fd, to: Fd, flags: FdFlags, limit: u32) -> Result<()> {
        if to.0 >= limit.min(FD_MAX) {
            return Err(errno!(BADF, "not below the limit of descriptors"));
        }
        let mut slots = self.slots.lock();
        let source = slots.list.get(index(from)).and_then(Option::as_ref);
        let file = source.map(|slot| Arc::clone(&slot.file)).ok_or(errno!(BADF))?;
        if from == to {
            return Ok(());
        }
        let charge = self.quota.charge(FILE_COST)?;
        slots.reserve(&self.quota, index(to).saturating_add(1))?;
        let closed = slots.set(index(to), Some(Slot { file, flags, _charge: charge }));
        drop(slots);
        if let Some(closed) = closed {
            self.closed(&closed.file);
        }
        Ok(())
    }

    /// Takes `fd` out of the table; the file is closed when the result, and all else that has it, is dropped.
    ///
    /// # Errors
    /// `BADF`: it is not open.
    pub fn remove(&self, fd: Fd) -> Result<Arc<File<P>>> {
        let slot = self.slots.lock().set(index(fd), None).ok_or(errno!(BADF))?;
        self.closed(&slot.file);
        Ok(slot.file)
    }

    /// A descriptor's flags.
    ///
    /// # Errors
    /// `BADF`: it is not open.
    pub fn flags(&self, fd: Fd) -> Result<FdFlags> {
        let slots = self.slots.lock();
        slots.list.get(index(fd)).and_then(Option::as_ref).map(|slot| slot.flags).ok_or(errno!(BADF))
    }

    /// Sets a descriptor's flags.
    ///
    /// # Errors
    /// `BADF`: it is not open.
    pub fn set_flags(&self, fd: Fd, flags: FdFlags) -> Result<()> {
        let mut slots = self.slots.lock();
        let slot = slots.list.get_mut(index(fd)).and_then(Option::as_mut).ok_or(errno!(BADF))?;
        slot.flags = flags;
        Ok(())
    }

    /// Closes all from `first` to `last`, both included. See `close_range(2)`.
    ///
    /// # Errors
    /// `INVAL`: `first` is above `last`.
    pub fn close_range(&self, first: Fd, last: Fd) -> Result<()> {
        if first > last {
            return Err(errno!(INVAL, "the first is above the last"));
        }
        self.close_where(index(first), index(last), |_| true);
        Ok(())
    }

    /// Marks all from `first` to `last` to be closed by exec. See `close_range(2)`.
    ///
    /// # Errors
    /// `INVAL`: `first` is above `last`.
    pub fn mark_range(&self, first: Fd, last: Fd) -> Result<()> {
        if first > last {
            return Err(errno!(INVAL, "the first is above the last"));
        }
        let mut slots = self.slots.lock();
        let count = index(last).saturating_sub(index(first)).saturating_add(1);
        for slot in slots.list.iter_mut().skip(index(first)).take(count).flatten() {
            slot.flags |= FdFlags::CLOEXEC;
        }
        Ok(())
    }

    /// Closes what exec closes.
    pub fn close_on_exec(&self) {
        self.close_where(0, usize::MAX, |flags| flags.contains(FdFlags::CLOEXEC));
    }

    /// Closes everything.
    pub fn close_all(&self) {
        self.close_where(0, usize::MAX, |_| true);
    }

    /// Closes one after the other, so that nothing is dropped under the lock and nothing is collected.
    fn close_where(&self, first: usize, last: usize, matches: impl Fn(FdFlags) -> bool) {
        let mut from = first;
        loop {
            let mut slots = self.slots.lock();
            let found = slots
                .list
                .iter()
                .enumerate()
                .skip(from)
                .find(|(at, slot)| *at <= last && slot.as_ref().is_some_and(|slot| matches(slot.flags)))
                .map(|(at, _)| at);
            let Some(at) = found else { return };
            let closed = slots.set(at, None);
            drop(slots);
            if let Some(closed) = closed {
                self.closed(&closed.file);
            }
            from = at.saturating_add(1);
        }
    }

    /// The lowest open descriptor from `from` on; for listing /proc/self/fd.
    #[must_use]
    pub fn next_open(&self, from: Fd) -> Option<Fd> {
        let slots = self.slots.lock();
        let at = slots.list.iter().enumerate().skip(index(from)).find(|(_, slot)| slot.is_some()).map(|(at, _)| at)?;
        u32::try_from(at).ok().map(Fd)
    }
}
