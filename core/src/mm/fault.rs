//! Page faults: which frame to show, and with which rights.
//!
//! Up to [`AROUND`] pages are filled at once, or [`AHEAD`], since a trap costs more than an entry. A private page is copied when
//! somebody else owns it too. Quota is charged before a frame is allocated. Locks: the address space's; no lock while a source is
//! asked. Hostile input: the address. Sources: Linux mm/memory.c `do_fault`, `wp_page_copy`.

use super::addr::{GuestAddr, PAGE_SHIFT, PAGE_SIZE, PageRange, Prot};
use super::pages::{LEAF_PAGES, Owned, Pages, Slot};
use super::source::MapSource;
use super::space::{AddressSpace, FrameOf, State, Table, Tables};
use super::vma::{Backing, MapFlags, STACK_GUARD, Vma};
use crate::errno;
use crate::error::{Errno, Error, Result};
use crate::platform::{Frame, Mapping, Platform};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter::once;

/// Pages that one fault fills, aligned to as many.
const AROUND: u64 = 16;
/// The same for a guest that goes on writing to fresh memory in order.
const AHEAD: u64 = 64;
const _: () = assert!(AHEAD <= u64::BITS as u64 && AHEAD % AROUND == 0 && LEAF_PAGES % AROUND == 0);

/// What the note of a page table is charged beside the table.
const TABLE_COST: u64 = 48;

/// log2 of the pages that one of the host's page tables covers, and of the tables that one of the next level does.
const TABLE_SHIFT: u32 = 9;
/// Pages that one of the host's page tables covers.
pub(super) const TABLE_PAGES: u64 = 1 << TABLE_SHIFT;

/// What a guest tried to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Fetch an instruction.
    Exec,
}

impl Access {
    /// Whether `prot` lets it happen. On x86-64, what can be written or executed can be read.
    fn is_allowed(self, prot: Prot) -> bool {
        match self {
            Self::Read => !prot.is_empty(),
            Self::Write => prot.contains(Prot::WRITE),
            Self::Exec => prot.contains(Prot::EXEC),
        }
    }
}

/// Why an access is a SIGSEGV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegvCode {
    /// Nothing is mapped there.
    MapErr,
    /// Something is, without that right.
    AccErr,
}

/// What came of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOutcome {
    /// Try again.
    Resolved,
    /// SIGSEGV.
    Segv(SegvCode),
    /// SIGBUS: past the end of a file, or it cannot be read.
    Bus,
    /// The quota is used up, or the host has no memory.
    OutOfMemory,
}

/// Why a page cannot be shown now.
pub(super) enum Missing<P: Platform> {
    /// It must be read first, without the lock.
    Fetch(Arc<dyn MapSource<P>>, u64),
    /// Its source must prepare for writes to it first, without the lock.
    Prepare(Arc<dyn MapSource<P>>, u64),
    /// Nothing is mapped there.
    Unmapped,
    /// Past the end of its source.
    Bus,
    /// No memory.
    Error(Error),
}

impl<P: Platform> From<Error> for Missing<P> {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A page that was read while no lock was held; holds for this source and index only.
pub(super) struct Fetched<P: Platform> {
    source: Arc<dyn MapSource<P>>,
    index: u64,
    frame: P::Frame,
}

/// A page that belongs to this space alone.
pub(super) struct Own<P: Platform> {
    pub(super) frame: P::Frame,
    /// It was not so before: what the page tables show is out of date.
    pub(super) changed: bool,
    /// What was there; to be dropped when no page table shows it any more.
    _old: Option<Slot<P>>,
}

impl<P: Platform> AddressSpace<P> {
    /// Resolves a fault of a guest of this address space, or says which signal it is. May sleep.
    pub fn fault(&self, addr: GuestAddr, access: Access) -> FaultOutcome {
        let done = self.with_missing(|state, fetched| self.try_fault(state, addr, access, fetched));
        match done {
            Ok(outcome) => outcome,
            Err(Missing::Unmapped) => FaultOutcome::Segv(SegvCode::MapErr),
            Err(Missing::Error(error)) if error.is(Errno::NOMEM) => FaultOutcome::OutOfMemory,
            // The signal is looked at before the guest goes on, and then it faults again.
            Err(Missing::Error(Error::Interrupted)) => FaultOutcome::Resolved,
            Err(Missing::Error(_) | Missing::Bus | Missing::Fetch(..) | Missing::Prepare(..)) => FaultOutcome::Bus,
        }
    }

    /// Fills the pages of `range` as far as that is possible, as if the guest had touched them. See mmap(2), `MAP_POPULATE`.
    ///
    /// To read zeros needs no filling, so that what this does is bounded by the quota and by the sizes of files.
    pub fn populate(&self, range: PageRange, access: Access) -> FaultOutcome {
        let mut page = range.pages().start;
        while page < range.pages().end {
            let addr = GuestAddr::new(page << PAGE_SHIFT);
            if let Some(end) = self.zeros_until(addr).filter(|_| access == Access::Read) {
                page = end.page();
                continue;
            }
            let outcome = self.fault(addr, access);
            if outcome != FaultOutcome::Resolved {
                return outcome;
            }
            page = page.saturating_add(1);
        }
        FaultOutcome::Resolved
    }

    /// The end of the readable private zeros around `addr`, if those are there.
    fn zeros_until(&self, addr: GuestAddr) -> Option<GuestAddr> {
        let state = self.state.lock();
        let area = state.vmas.find(addr).filter(|area| Access::Read.is_allowed(area.prot))?;
        matches!(area.backing, Backing::Anonymous).then_some(area.range().end())
    }

    /// Runs `step` under the lock, and again with each page that it found to be missing, read without the lock.
    fn with_missing<T>(
        &self,
        mut step: impl FnMut(&mut State<P>, Option<&Fetched<P>>) -> Result<T, Missing<P>>,
    ) -> Result<T, Missing<P>> {
        let mut fetched: Option<Fetched<P>> = None;
        loop {
            let done = step(&mut self.state.lock(), fetched.as_ref());
            match done {
                Err(Missing::Fetch(source, index)) => {
                    let frame = source.page(index)?;
                    fetched = Some(Fetched { source, index, frame });
                }
                Err(Missing::Prepare(source, index)) => source.prepare_write(index)?,
                Ok(_) | Err(Missing::Unmapped | Missing::Bus | Missing::Error(_)) => return done,
            }
        }
    }

    /// As [`Self::with_missing`], for copies: everything that is no lack of memory is a `FAULT`.
    pub(super) fn with_pages<T>(
        &self,
        step: impl FnMut(&mut State<P>, Option<&Fetched<P>>) -> Result<T, Missing<P>>,
    ) -> Result<T> {
        self.with_missing(step).map_err(|missing| match missing {
            Missing::Error(error) if error.is(Errno::NOMEM) => error,
            Missing::Error(Error::Interrupted) => Error::Interrupted,
            Missing::Error(_) | Missing::Bus | Missing::Fetch(..) | Missing::Prepare(..) => {
                errno!(FAULT, "the page cannot be had")
            }
            Missing::Unmapped => errno!(FAULT, "nothing is mapped there"),
        })
    }

    /// The frame that `backing` shows first, or `None` for zeros.
    pub(super) fn backing_frame(backing: &Backing<P>, fetched: Option<&Fetched<P>>) -> Result<Option<P::Frame>, Missing<P>> {
        let Backing::Source { source, index } = backing else { return Ok(None) };
        if index.checked_mul(PAGE_SIZE).is_none_or(|start| start >= source.size()) {
            return Err(Missing::Bus);
        }
        if let Some(fetched) = fetched.filter(|fetched| fetched.index == *index && Arc::ptr_eq(&fetched.source, source)) {
            return Ok(Some(fetched.frame.clone()));
        }
        match source.resident(*index) {
            Some(frame) => Ok(Some(frame)),
            None => Err(Missing::Fetch(Arc::clone(source), *index)),
        }
    }

    /// The frame that a shared `backing` shows, for a guest that writes to it.
    pub(super) fn shared_frame(backing: &Backing<P>, fetched: Option<&Fetched<P>>) -> Result<P::Frame, Missing<P>> {
        let frame = Self::backing_frame(backing, fetched)?.ok_or(Missing::Bus)?;
        match backing {
            Backing::Source { source, index } if source.tracks_writes() && !source.is_write_ready(*index, &frame) => {
                Err(Missing::Prepare(Arc::clone(source), *index))
            }
            Backing::Source { .. } | Backing::Anonymous => Ok(frame),
        }
    }

    /// Makes `page` one that this space alone owns: allocates it, copies it, or finds that it is so already.
    pub(super) fn own_page(
        &self,
        pages: &mut Pages<Slot<P>>,
        backing: &Backing<P>,
        page: u64,
        fetched: Option<&Fetched<P>>,
    ) -> Result<Own<P>, Missing<P>> {
        // What must be fetched is found out before anything changes.
        let below = if pages.get(page).and_then(Slot::own).is_none() { Self::backing_frame(backing, fetched)? } else { None };
        let slot = pages.slot(page, &self.quota)?;
        let new: Owned<P> = match (slot.as_ref().and_then(Slot::own), below) {
            (Some(owned), _) if owned.is_unique() => {
                return Ok(Own { frame: owned.frame.clone(), changed: false, _old: None });
            }
            (Some(owned), _) => Owned::copy_of(&owned.frame, &self.quota)?,
            (None, Some(frame)) => Owned::copy_of(&frame, &self.quota)?,
            (None, None) => Owned::zeroed(&self.quota)?,
        };
        let frame = new.frame.clone();
        Ok(Own { frame, changed: true, _old: slot.replace(Slot::Own(new)) })
    }

    fn try_fault(
        &self,
        state: &mut State<P>,
        addr: GuestAddr,
        access: Access,
        fetched: Option<&Fetched<P>>,
    ) -> Result<FaultOutcome, Missing<P>> {
        if !addr.is_mappable() {
            return Err(Missing::Unmapped);
        }
        if state.vmas.find(addr).is_none() {
            grow_stack(state, addr)?;
        }
        let State { vmas, pages, tables, .. } = state;
        let area = vmas.find(addr).ok_or(Missing::Unmapped)?;
        if !access.is_allowed(area.prot) {
            return Ok(FaultOutcome::Segv(SegvCode::AccErr));
        }
        let addr = addr.page_start();
        let table = self.table(tables, addr)?;
        let backing = area.backing_at(addr);
        let read_only = rights_unwritten(area);
        // Lives until the page tables no longer show what it replaces.
        let mut _own = None;
        let (frame, prot) = match access {
            Access::Write if area.is_shared() => {
                let frame = Self::shared_frame(&backing, fetched)?;
                (self.show(pages, addr, frame)?, area.prot)
            }
            Access::Write => {
                let own = self.own_page(pages, &backing, addr.page(), fetched)?;
                (_own.insert(own).frame.clone(), area.prot)
            }
            Access::Read | Access::Exec => match own_frame(pages, addr.page(), area.prot) {
                Some(shown) => shown,
                None => match Self::backing_frame(&backing, fetched)? {
                    Some(frame) => (self.show(pages, addr, frame)?, read_only),
                    None => (self.zero.clone(), read_only),
                },
            },
        };
        let mapping = Mapping { addr, frame: &frame, prot };
        let only = PageRange::new(addr, PAGE_SIZE)?;
        table.note(&only);
        let is_shown =
            if access == Access::Write { P::replace(&self.host, &mapping) } else { P::fill(&self.host, only, once(mapping)) };
        if !is_shown {
            // What may be there shows a page that is about to be let go.
            self.zap_page(addr);
            return Ok(FaultOutcome::OutOfMemory);
        }
        self.fill_around(area, pages, table, addr, access);
        Ok(FaultOutcome::Resolved)
    }

    /// Holds on to a source's `frame`, which is about to be shown at `addr`.
    fn show(&self, pages: &mut Pages<Slot<P>>, addr: GuestAddr, frame: P::Frame) -> Result<P::Frame> {
        if matches!(pages.get(addr.page()), Some(Slot::Shown(held)) if held.same(&frame)) {
            return Ok(frame);
        }
        let slot = pages.slot(addr.page(), &self.quota)?;
        if slot.is_some() {
            // The source has another page there now; nobody may see the old one when it is let go.
            self.zap_page(addr);
        }
        *slot = Some(Slot::Shown(frame.clone()));
        Ok(frame)
    }

    /// The page table that an entry for `addr` needs, charged now unless it is there.
    fn table<'t>(&self, tables: &'t mut Tables, addr: GuestAddr) -> Result<&'t mut Table> {
        let region = addr.page() >> TABLE_SHIFT;
        if !tables.contains_key(&region) {
            let first = (region >> TABLE_SHIFT) << TABLE_SHIFT;
            let is_first = tables.range(first..first.saturating_add(1 << TABLE_SHIFT)).next().is_none();
            let bytes = if is_first { PAGE_SIZE.saturating_mul(2) } else { PAGE_SIZE };
            tables.insert(region, Table::new(self.quota.charge(bytes.saturating_add(TABLE_COST))?));
        }
        tables.get_mut(&region).ok_or(errno!(NOMEM, "a table noted now is there"))
    }

    fn zap_page(&self, addr: GuestAddr) {
        let start = addr.page_start();
        if let Ok(end) = start.plus(PAGE_SIZE) {
            P::unmap(&self.host, start, end);
        }
    }

    /// Fills the absent entries beside `addr` with what is in memory already. Its failure is nobody's.
    fn fill_around(&self, area: &Vma<P>, pages: &mut Pages<Slot<P>>, table: &mut Table, addr: GuestAddr, access: Access) {
        let Some(mut block) = block_around(addr, AROUND).and_then(|block| block.intersect(area.range())) else { return };
        if access == Access::Write {
            block = self.fill_ahead(area, pages, addr, block);
        }
        let (read_only, shown) = (rights_unwritten(area), self.show_around(area, pages, addr, block));
        let shows_zeros = access == Access::Read && matches!(area.backing, Backing::Anonymous);
        let mut bit = 1u64.rotate_right(1);
        let mut mappings = pages.each(block.pages()).filter_map(|(page, slot, is_sole)| {
            bit = bit.rotate_left(1);
            let (frame, prot) = match slot {
                _ if page == addr.page() => return None,
                Some(Slot::Own(owned)) => (&owned.frame, rights_owned(owned, is_sole, area.prot)),
                Some(Slot::Shown(frame)) if shown & bit != 0 => (frame, read_only),
                None if shows_zeros => (&self.zero, read_only),
                Some(Slot::Shown(_)) | None => return None,
            };
            Some(Mapping { addr: GuestAddr::new(page << PAGE_SHIFT), frame, prot })
        });
        if let Some(first) = mappings.next() {
            table.note(&block);
            P::fill(&self.host, block, once(first).chain(mappings));
        }
    }

    /// Holds on to the pages of `area`'s source that are in memory, in the places of `block` that are not the guest's own; says by
    /// [`bits`] which those are.
    fn show_around(&self, area: &Vma<P>, pages: &mut Pages<Slot<P>>, addr: GuestAddr, block: PageRange) -> u64 {
        let Backing::Source { source, index } = area.backing_at(block.start()) else { return 0 };
        let size = source.size();
        let mut shown = 0;
        let mut new: Vec<(u64, P::Frame)> = Vec::new();
        if new.try_reserve_exact(block_len(block)).is_err() {
            return 0;
        }
        let leaf = pages.leaf(addr.page());
        for ((bit, page), index) in bits().zip(block.pages()).zip(index..) {
            let held = match leaf.as_ref().and_then(|(leaf, _)| leaf.get(page)) {
                Some(Slot::Own(_)) => continue,
                Some(Slot::Shown(held)) => Some(held),
                None => None,
            };
            if page == addr.page() || index.checked_mul(PAGE_SIZE).is_none_or(|start| start >= size) {
                continue;
            }
            match source.resident(index) {
                Some(frame) if held.is_some_and(|held| held.same(&frame)) => shown |= bit,
                Some(frame) => new.push((bit, frame)),
                None => {}
            }
        }
        if new.is_empty() {
            return shown;
        }
        // Only now: this copies nodes that a child shares.
        let Ok(slots) = pages.run(block.pages(), &self.quota) else { return shown };
        let mut new = new.into_iter().peekable();
        for ((bit, page), slot) in bits().zip(block.pages()).zip(slots) {
            let Some((_, frame)) = new.next_if(|(at, _)| *at == bit) else { continue };
            if slot.is_some() {
                // See `show`.
                self.zap_page(GuestAddr::new(page << PAGE_SHIFT));
            }
            *slot = Some(Slot::Shown(frame));
            shown |= bit;
        }
        shown
    }

    /// Allocates zero pages behind `addr` when a guest seems to write through them in order: to the end of its block, and of a longer
    /// one when it has written a block's worth already. Gives the block.
    ///
    /// So what a guest is charged and did not touch is less than [`AHEAD`] pages for each such run of at least [`AROUND`].
    fn fill_ahead(&self, area: &Vma<P>, pages: &mut Pages<Slot<P>>, addr: GuestAddr, block: PageRange) -> PageRange {
        let page = addr.page();
        let is_own = |pages: &Pages<Slot<P>>, before: u64| {
            page.checked_sub(before).and_then(|page| pages.get(page)).and_then(Slot::own).is_some()
        };
        if area.is_shared() || !matches!(area.backing, Backing::Anonymous) || !is_own(pages, 1) {
            return block;
        }
        let longer = block_around(addr, AHEAD).and_then(|block| block.intersect(area.range()));
        let block = longer.filter(|_| is_own(pages, AROUND)).unwrap_or(block);
        let mut ahead = page.saturating_add(1)..block.pages().end;
        while !ahead.is_empty() {
            // Without memory for a node, what is there is shown.
            let slots = pages.run(ahead.clone(), &self.quota).unwrap_or_default();
            let empty = slots.iter().take_while(|slot| slot.is_none()).count();
            Owned::zeroed_run(slots.get_mut(..empty).unwrap_or_default(), &self.quota);
            if empty < slots.len() || empty == 0 {
                break;
            }
            ahead.start = ahead.start.saturating_add(empty as u64);
        }
        block
    }
}

/// One bit for each page of a block, in order.
#[inline]
fn bits() -> impl Iterator<Item = u64> {
    (0..u64::BITS).map(|bit| 1u64.rotate_left(bit))
}

/// Pages of a block.
#[inline]
fn block_len(block: PageRange) -> usize {
    usize::try_from(block.count()).unwrap_or_default()
}

/// With which rights a page of `area` is shown that is not the guest's own, until it writes.
fn rights_unwritten<P: Platform>(area: &Vma<P>) -> Prot {
    match &area.backing {
        Backing::Source { source, .. } if area.is_shared() && !source.tracks_writes() => area.prot,
        Backing::Source { .. } | Backing::Anonymous => area.prot.difference(Prot::WRITE),
    }
}

/// The guest's own page at `page` and with which of `prot` it may be shown: all if nobody else owns it, else not for writing.
fn own_frame<P: Platform>(pages: &mut Pages<Slot<P>>, page: u64, prot: Prot) -> Option<(FrameOf<P>, Prot)> {
    let (leaf, is_sole) = pages.leaf(page)?;
    let owned = leaf.get(page).and_then(Slot::own)?;
    Some((owned.frame.clone(), rights_owned(owned, is_sole, prot)))
}

/// With which rights `owned` is shown: for writing only if no other space has it, by a node of the tree or by itself.
fn rights_owned<P: Platform>(owned: &Owned<P>, is_sole: bool, prot: Prot) -> Prot {
    if is_sole && owned.is_unique() { prot } else { prot.difference(Prot::WRITE) }
}

/// The `count` pages, aligned to as many, that `addr` is in.
#[inline]
fn block_around(addr: GuestAddr, count: u64) -> Option<PageRange> {
    let bytes = count.saturating_mul(PAGE_SIZE);
    let start = GuestAddr::new(addr.get() & !bytes.saturating_sub(1));
    PageRange::between(start, start.plus(bytes).ok()?)
}

/// Makes the stack above `addr` reach down to it, within its limit and keeping its guard.
fn grow_stack<P: Platform>(state: &mut State<P>, addr: GuestAddr) -> Result<(), Missing<P>> {
    let lower = addr.page_start();
    let stack = state.vmas.after(addr).filter(|area| area.flags.contains(MapFlags::GROWS_DOWN)).ok_or(Missing::Unmapped)?;
    let (start, end) = (stack.range().start(), stack.range().end());
    if end.since(lower).is_none_or(|len| len > state.limits.stack) {
        return Err(Missing::Unmapped);
    }
    let near = |below: &Vma<P>| {
        !below.prot.is_empty()
            && !below.flags.contains(MapFlags::GROWS_DOWN)
            && lower.since(below.range().end()).is_none_or(|gap| gap < STACK_GUARD)
    };
    if state.vmas.before(start).is_some_and(near) {
        return Err(Missing::Unmapped);
    }
    let more = start.since(lower).unwrap_or(0);
    state.may_map(more, (stack.prot, stack.flags), None).map_err(|_| Missing::Unmapped)?;
    state.vmas.grow_down(start, lower);
    Ok(())
}
