//! Which ranges of pages are mapped, with which rights and from what.
//!
//! Invariants: areas are disjoint, keyed by their start, page-aligned, within `GUEST_START..GUEST_END`; at most [`MAX_AREAS`], each
//! charged. Neighbours that continue each other are one area.
//! Hostile input: the order and number of splits. Cost: find O(log n); a gap is searched from where the last one was found.
//! Sources: mmap(2); Linux mm/vma.c.

use super::addr::{GUEST_END, GUEST_START, GuestAddr, PAGE_SHIFT, PAGE_SIZE, PageRange, Prot};
use super::source::MapSource;
use crate::errno;
use crate::error::Result;
use crate::limit::Limit;
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// How many areas one process may have. Linux: `vm.max_map_count`.
pub const MAX_AREAS: usize = 65530;
/// Room kept free below a stack that grows. Linux: `stack_guard_gap`.
pub const STACK_GUARD: u64 = 256 * PAGE_SIZE;
/// The end of what an address of 31 bits reaches.
const LOW_END: u64 = 1 << 31;
/// What an area is charged as.
const AREA_BYTES: u64 = 192;

bitflags::bitflags! {
    /// What sets an area apart, beside its rights.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct MapFlags: u8 {
        /// Stores reach the source, and everybody who maps it.
        const SHARED = 1;
        /// A stack: a fault shortly below it makes it longer.
        const GROWS_DOWN = 1 << 1;
        /// A child does not get it.
        const DONT_FORK = 1 << 2;
        /// A child gets it filled with zeros.
        const WIPE_ON_FORK = 1 << 3;
        /// Its pages stay in memory; a child's do not. See mlock(2).
        const LOCKED = 1 << 4;
        /// As `LOCKED`, once they are touched.
        const LOCKED_ON_FAULT = 1 << 5;
        /// It stays as it is. See mseal(2).
        const SEALED = 1 << 6;
    }
}

/// Locked in either way.
pub(super) const ANY_LOCK: MapFlags = MapFlags::LOCKED.union(MapFlags::LOCKED_ON_FAULT);

/// Where the pages of an area come from.
#[derive(Debug)]
pub enum Backing<P: Platform> {
    /// Zeros.
    Anonymous,
    /// A source, from its page `index` on.
    Source {
        /// The file or memory.
        source: Arc<dyn MapSource<P>>,
        /// Its page that is shown first.
        index: u64,
    },
}

impl<P: Platform> Clone for Backing<P> {
    fn clone(&self) -> Self {
        self.advanced(0)
    }
}

impl<P: Platform> Backing<P> {
    /// The same, from `pages` further on.
    pub(super) fn advanced(&self, pages: u64) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::Source { source, index } => Self::Source { source: Arc::clone(source), index: index.saturating_add(pages) },
        }
    }

    /// Whether `next` continues this one after `pages`.
    fn continues(&self, pages: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::Source { source, index }, Self::Source { source: other, index: at }) => {
                Arc::ptr_eq(source, other) && index.checked_add(pages) == Some(*at)
            }
            (Self::Anonymous, Self::Source { .. }) | (Self::Source { .. }, Self::Anonymous) => false,
        }
    }
}

/// A range of pages with the same rights and a common backing.
#[derive(Debug)]
pub struct Vma<P: Platform> {
    range: PageRange,
    /// What the guest may do.
    pub prot: Prot,
    /// What it may be given.
    pub max_prot: Prot,
    /// Shared, stack.
    pub flags: MapFlags,
    /// Where its pages come from.
    pub backing: Backing<P>,
    _charge: Charge,
}

impl<P: Platform> Vma<P> {
    pub(super) fn new(
        range: PageRange,
        (prot, max_prot, flags): (Prot, Prot, MapFlags),
        backing: Backing<P>,
        quota: &Arc<Quota>,
    ) -> Result<Self> {
        Ok(Self { range, prot, max_prot, flags, backing, _charge: quota.charge(AREA_BYTES)? })
    }

    /// Its pages.
    #[must_use]
    pub fn range(&self) -> PageRange {
        self.range
    }

    /// Its pages' rights and flags.
    pub(super) fn attributes(&self) -> (Prot, Prot, MapFlags) {
        (self.prot, self.max_prot, self.flags)
    }

    /// Whether its stores reach others.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.flags.contains(MapFlags::SHARED)
    }

    /// The backing from `addr` on.
    pub(super) fn backing_at(&self, addr: GuestAddr) -> Backing<P> {
        self.backing.advanced(addr.since(self.range.start()).unwrap_or(0) >> PAGE_SHIFT)
    }

    /// Whether it stays as it is.
    pub(super) fn is_sealed(&self) -> bool {
        self.flags.contains(MapFlags::SEALED)
    }

    /// A copy under its own charge, for a child.
    pub(super) fn duplicate(&self, quota: &Arc<Quota>) -> Result<Self> {
        let (prot, max_prot, flags) = self.attributes();
        Self::new(self.range, (prot, max_prot, flags.difference(ANY_LOCK)), self.backing.clone(), quota)
    }

    fn joins(&self, next: &Self) -> bool {
        self.range.end() == next.range.start()
            && self.attributes() == next.attributes()
            && !self.flags.contains(MapFlags::GROWS_DOWN)
            && self.backing.continues(self.range.count(), &next.backing)
    }
}

/// Areas that were taken out.
pub(super) type Removed<P> = BTreeMap<u64, Vma<P>>;

/// The areas of an address space.
#[derive(Debug)]
pub(super) struct VmaTree<P: Platform> {
    areas: BTreeMap<u64, Vma<P>>,
    /// Gaps are searched below this.
    top: u64,
    /// Where the next search begins: nothing larger than `skipped` is free between here and `top`.
    cursor: u64,
    skipped: u64,
    /// How many there may be, if it is not [`MAX_AREAS`].
    pub(super) most: Option<Arc<Limit>>,
}

impl<P: Platform> VmaTree<P> {
    pub(super) fn new(top: GuestAddr) -> Self {
        Self { areas: BTreeMap::new(), top: top.get(), cursor: top.get(), skipped: 0, most: None }
    }

    pub(super) fn top(&self) -> GuestAddr {
        GuestAddr::new(self.top)
    }

    pub(super) fn len(&self) -> usize {
        self.areas.len()
    }

    /// The area at `addr`.
    pub(super) fn find(&self, addr: GuestAddr) -> Option<&Vma<P>> {
        let (_, area) = self.areas.range(..=addr.get()).next_back()?;
        area.range.contains(addr).then_some(area)
    }

    /// The first area that begins at or after `addr`.
    pub(super) fn after(&self, addr: GuestAddr) -> Option<&Vma<P>> {
        self.areas.range(addr.get()..).next().map(|(_, area)| area)
    }

    /// The last area that begins before `addr`.
    pub(super) fn before(&self, addr: GuestAddr) -> Option<&Vma<P>> {
        self.areas.range(..addr.get()).next_back().map(|(_, area)| area)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Vma<P>> {
        self.areas.values()
    }

    /// The areas that have pages in `range`, ascending.
    pub(super) fn within(&self, range: PageRange) -> impl Iterator<Item = &Vma<P>> {
        let first = self.find(range.start()).map_or(range.start(), |area| area.range.start());
        self.areas.range(first.get()..range.end().get()).map(|(_, area)| area)
    }

    /// Whether nothing is mapped in `range`.
    pub(super) fn is_free(&self, range: PageRange) -> bool {
        self.within(range).next().is_none()
    }

    /// Up to where `range` is mapped from its start on, and whether that is all of it.
    pub(super) fn reach(&self, range: PageRange) -> (GuestAddr, bool) {
        let mut at = range.start();
        for area in self.within(range) {
            if area.range.start() > at {
                break;
            }
            at = area.range.end();
        }
        (at.min(range.end()), at >= range.end())
    }

    /// Whether every page of `range` is mapped.
    pub(super) fn covers(&self, range: PageRange) -> bool {
        self.reach(range).1
    }

    /// Splits the area around `addr` there, if `addr` lies inside of one.
    ///
    /// # Errors
    /// `NOMEM`: too many areas, or past the quota; nothing changed.
    pub(super) fn split(&mut self, addr: GuestAddr, quota: &Arc<Quota>) -> Result<()> {
        let Some(area) = self.find(addr).filter(|area| area.range.start() < addr) else { return Ok(()) };
        let (Some(low), Some(high)) = (PageRange::between(area.range.start(), addr), PageRange::between(addr, area.range.end()))
        else {
            return Err(errno!(INVAL, "areas are split between pages"));
        };
        let upper = Vma::new(high, area.attributes(), area.backing_at(addr), quota)?;
        self.room()?;
        if let Some(lower) = self.areas.get_mut(&low.start().get()) {
            lower.range = low;
        }
        self.areas.insert(addr.get(), upper);
        Ok(())
    }

    /// # Errors
    /// `NOMEM`: there are too many areas already.
    fn room(&self) -> Result<()> {
        let most = self.most.as_ref().map_or(MAX_AREAS, |most| most.count());
        if self.areas.len() >= most { Err(errno!(NOMEM, "too many areas are mapped")) } else { Ok(()) }
    }

    /// Splits at both ends of `range`.
    ///
    /// # Errors
    /// `NOMEM`, as [`Self::split`]; what was split stays so, which nobody can see.
    pub(super) fn isolate(&mut self, range: PageRange, quota: &Arc<Quota>) -> Result<()> {
        self.split(range.start(), quota)?;
        self.split(range.end(), quota)
    }

    /// Takes out what is mapped in `range`. The areas are for the caller to drop once it holds no lock: an area may be its file's
    /// last user.
    ///
    /// # Errors
    /// `NOMEM`: an area would have to be split and cannot be; nothing was taken out.
    pub(super) fn remove(&mut self, range: PageRange, quota: &Arc<Quota>) -> Result<Removed<P>> {
        self.isolate(range, quota)?;
        let mut removed = Removed::<P>::new();
        while let Some(key) = self.areas.range(range.start().get()..range.end().get()).next().map(|(key, _)| *key) {
            if let Some(area) = self.areas.remove(&key) {
                removed.insert(key, area);
            }
        }
        if range.end().get() > self.cursor {
            self.cursor = range.end().get().min(self.top);
            self.skipped = u64::MAX;
        }
        Ok(removed)
    }

    /// Puts an area into pages that are free, and joins it with its neighbours.
    ///
    /// # Errors
    /// `NOMEM`: too many areas. `EXIST`: not free.
    pub(super) fn insert(&mut self, area: Vma<P>) -> Result<()> {
        let range = area.range;
        if !self.is_free(range) {
            return Err(errno!(EXIST, "something is mapped there"));
        }
        self.room()?;
        self.areas.insert(range.start().get(), area);
        self.join(range);
        Ok(())
    }

    /// Changes every area of `range`, whose ends must be isolated, and joins what fits together after that.
    pub(super) fn change(&mut self, range: PageRange, mut edit: impl FnMut(&mut Vma<P>)) {
        for (_, area) in self.areas.range_mut(range.start().get()..range.end().get()) {
            edit(area);
        }
        self.join(range);
    }

    /// Makes the area that begins at `start` begin at `lower`, where all between is free.
    pub(super) fn grow_down(&mut self, start: GuestAddr, lower: GuestAddr) {
        if let Some(mut area) = self.areas.remove(&start.get()) {
            let key = match PageRange::between(lower, area.range.end()) {
                Some(range) => {
                    area.range = range;
                    lower
                }
                None => start,
            };
            self.areas.insert(key.get(), area);
        }
    }

    /// Joins neighbours in and at the ends of `range`.
    fn join(&mut self, range: PageRange) {
        let Some(mut at) = self.before(range.start()).or_else(|| self.after(range.start())).map(|area| area.range.start()) else {
            return;
        };
        loop {
            let mut after = self.areas.range(at.get()..).map(|(_, area)| area);
            let (Some(area), Some(next)) = (after.next(), after.next()) else { return };
            let (start, end, joins) = (next.range.start(), next.range.end(), area.joins(next));
            if start > range.end() {
                return;
            }
            if joins {
                self.areas.remove(&start.get());
                if let Some(area) = self.areas.get_mut(&at.get()) {
                    area.range = PageRange::between(at, end).unwrap_or(area.range);
                }
            } else {
                at = start;
            }
        }
    }

    /// The highest free range of `len` bytes below the top.
    ///
    /// # Errors
    /// `NOMEM`: none is free.
    pub(super) fn gap(&mut self, len: u64) -> Result<PageRange> {
        if len <= self.skipped {
            self.cursor = self.top;
            self.skipped = 0;
        }
        let found = self.gap_below(self.cursor, len).or_else(|| {
            self.skipped = 0;
            self.gap_below(GUEST_END, len)
        });
        let range = found.ok_or(errno!(NOMEM, "no free range is long enough"))?;
        self.cursor = range.start().get().min(self.top);
        Ok(range)
    }

    /// The highest free range of `len` bytes below 2 GiB.
    ///
    /// # Errors
    /// `NOMEM`: none is free.
    pub(super) fn low_gap(&mut self, len: u64) -> Result<PageRange> {
        let skipped = core::mem::take(&mut self.skipped);
        let found = self.gap_below(LOW_END, len);
        self.skipped = skipped;
        found.ok_or(errno!(NOMEM, "no free range below 2 GiB is long enough"))
    }

    fn gap_below(&mut self, cursor: u64, len: u64) -> Option<PageRange> {
        let mut end = cursor;
        let mut skipped = self.skipped;
        // A stack above the cursor may want its guard below it.
        if let Some(above) = self.after(GuestAddr::new(cursor)).filter(|area| area.flags.contains(MapFlags::GROWS_DOWN)) {
            end = end.min(above.range.start().get().saturating_sub(STACK_GUARD));
        }
        // An area that reaches over the cursor begins below it, so this meets it too.
        for area in self.areas.range(..cursor).rev().map(|(_, area)| area) {
            let free = end.saturating_sub(area.range.end().get().min(end));
            if free >= len {
                break;
            }
            skipped = skipped.max(free);
            let guard = if area.flags.contains(MapFlags::GROWS_DOWN) { STACK_GUARD } else { 0 };
            end = area.range.start().get().saturating_sub(guard).min(end);
        }
        self.skipped = skipped;
        let start = end.checked_sub(len).filter(|start| *start >= GUEST_START)?;
        let range = PageRange::between(GuestAddr::new(start), GuestAddr::new(end))?;
        self.is_free(range).then_some(range)
    }
}
