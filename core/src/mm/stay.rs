//! Areas that stay: locked in memory, sealed.
//!
//! Pages of private memory are never swapped out here, so that to lock an area is to fill it now, and to keep its pages from
//! being given up by advice. A child's areas are not locked. What is sealed goes with its address space.
//! Sources: mlock(2), mseal(2); Linux mm/mlock.c, mm/mseal.c.

use super::addr::{GUEST_END, GUEST_START, GuestAddr, PageRange, Prot};
use super::fault::{Access, FaultOutcome};
use super::space::AddressSpace;
use super::vma::{ANY_LOCK, MapFlags};
use crate::errno;
use crate::error::Result;
use crate::platform::Platform;

/// How an area is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Its pages are in memory.
    Now,
    /// They stay once they are there.
    OnFault,
    /// No more.
    Not,
}

impl Lock {
    fn flags(self) -> MapFlags {
        match self {
            Self::Now => MapFlags::LOCKED,
            Self::OnFault => MapFlags::LOCKED_ON_FAULT,
            Self::Not => MapFlags::empty(),
        }
    }
}

impl<P: Platform> AddressSpace<P> {
    /// Locks `range`, or unlocks it. Does not fill it: see [`Self::fill_locked`].
    ///
    /// # Errors
    /// `NOMEM`: a page is not mapped, what lies before it is locked then; or an area cannot be split.
    pub fn lock(&self, range: PageRange, lock: Lock) -> Result<()> {
        let mut state = self.state.lock();
        let (end, covered) = state.vmas.reach(range);
        if let Some(found) = PageRange::between(range.start(), end) {
            state.vmas.isolate(found, &self.quota)?;
            state.vmas.change(found, |area| area.flags = area.flags.difference(ANY_LOCK).union(lock.flags()));
        }
        if covered { Ok(()) } else { Err(errno!(NOMEM, "a page is not mapped")) }
    }

    /// Locks every area there is, or unlocks it.
    pub fn lock_all(&self, lock: Lock) {
        let mut state = self.state.lock();
        if let Some(all) = PageRange::between(GuestAddr::new(GUEST_START), GuestAddr::new(GUEST_END)) {
            state.vmas.change(all, |area| area.flags = area.flags.difference(ANY_LOCK).union(lock.flags()));
        }
    }

    /// Locks every area that is mapped from now on.
    pub fn lock_new(&self, lock: Lock) {
        self.state.lock().locks_new = lock.flags();
    }

    /// Whether new areas are locked.
    pub fn locks_new(&self) -> bool {
        !self.state.lock().locks_new.is_empty()
    }

    /// Bytes locked, of `range` or of all.
    pub fn locked_bytes(&self, range: Option<PageRange>) -> u64 {
        let state = self.state.lock();
        let range = range.or(PageRange::between(GuestAddr::new(GUEST_START), GuestAddr::new(GUEST_END)));
        let locked = range.into_iter().flat_map(|range| state.vmas.within(range).map(move |area| (area, range)));
        let locked = locked.filter(|(area, _)| area.flags.intersects(ANY_LOCK));
        locked.filter_map(|(area, range)| area.range().intersect(range)).map(PageRange::bytes).fold(0, u64::saturating_add)
    }

    /// Fills what is locked in `range`, as far as its pages are not left until they are touched.
    ///
    /// # Errors
    /// - `NOMEM`: a page is not mapped, or its rights or its file do not let it be had.  - `AGAIN`: no memory.
    pub fn fill_locked(&self, range: PageRange) -> Result<()> {
        let mut at = range.start();
        while at < range.end() {
            let area =
                self.area_after(at).filter(|area| area.range.start() <= at).ok_or(errno!(NOMEM, "a page is not mapped"))?;
            let part = PageRange::between(at, area.range.end().min(range.end()));
            at = area.range.end();
            let Some(part) = part.filter(|_| area.flags.contains(MapFlags::LOCKED)) else { continue };
            let writes = area.prot.contains(Prot::WRITE) && !area.flags.contains(MapFlags::SHARED);
            match self.populate(part, if writes { Access::Write } else { Access::Read }) {
                FaultOutcome::Resolved => {}
                FaultOutcome::OutOfMemory => return Err(errno!(AGAIN, "no memory to lock it in")),
                FaultOutcome::Segv(_) | FaultOutcome::Bus => return Err(errno!(NOMEM, "a page cannot be had")),
            }
        }
        Ok(())
    }

    /// Seals `range`: it can be neither unmapped nor mapped over, moved, given other rights or emptied. See mseal(2).
    ///
    /// # Errors
    /// `NOMEM`: a page is not mapped, or an area cannot be split; nothing is sealed then.
    pub fn seal(&self, range: PageRange) -> Result<()> {
        let mut state = self.state.lock();
        if !state.vmas.covers(range) {
            return Err(errno!(NOMEM, "a page is not mapped"));
        }
        state.vmas.isolate(range, &self.quota)?;
        state.vmas.change(range, |area| area.flags.insert(MapFlags::SEALED));
        Ok(())
    }
}
