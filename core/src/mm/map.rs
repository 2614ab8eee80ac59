//! Changing what is mapped: mmap(2), munmap(2), mprotect(2), madvise(2), mincore(2).
//!
//! Each takes entries out of the page tables before it changes the trees, under the lock: a page that went away cannot be seen,
//! and one whose rights changed faults first. Areas that go away are dropped after the lock, since one may be its file's last user.
//! Hostile input: every address, length and offset.

use super::addr::{GUEST_END, GUEST_START, GuestAddr, PAGE_SHIFT, PAGE_SIZE, PageRange, Prot, round_up};
use super::pages::Slot;
use super::source::MapSource;
use super::space::{AddressSpace, State};
use super::vma::{ANY_LOCK, Backing, MapFlags, Removed, Vma};
use crate::errno;
use crate::error::Result;
use crate::platform::Platform;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Before so much is taken away, the pages in memory are counted. See [`AddressSpace::most_pages`].
const COUNT_BYTES: u64 = 1 << 20;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Wherever it fits, but preferably here, unless that is 0.
    Anywhere(GuestAddr),
    /// Wherever it fits below 2 GiB. See mmap(2), `MAP_32BIT`.
    Low,
    /// Here; what is there goes away.
    Fixed(GuestAddr),
    /// Here, if nothing is there.
    FixedNoReplace(GuestAddr),
}

/// What to map.
#[derive(Debug)]
pub struct MapRequest<P: Platform> {
    /// Where.
    pub place: Place,
    /// Bytes; rounded up to whole pages.
    pub len: u64,
    /// Rights now.
    pub prot: Prot,
    /// Rights that mprotect(2) may give: no `WRITE` for a file that is shared and was opened for reading only.
    pub max_prot: Prot,
    /// Shared, stack.
    pub flags: MapFlags,
    /// What it shows.
    pub backing: Backing<P>,
}

impl<P: Platform> MapRequest<P> {
    /// Private zeros, anywhere.
    #[must_use]
    pub fn anonymous(len: u64, prot: Prot) -> Self {
        Self {
            place: Place::Anywhere(GuestAddr::default()),
            len,
            prot,
            max_prot: Prot::all(),
            flags: MapFlags::empty(),
            backing: Backing::Anonymous,
        }
    }

    /// The same at another place.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }
}

/// What a guest says about the use of its pages. See madvise(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It does not need what is in them: private pages become what they were when mapped. Not for locked ones.
    DontNeed,
    /// The same, for locked ones too.
    DontNeedLocked,
    /// They are to leave memory, which they do not here. Not for locked ones.
    PageOut,
    /// As `DontNeed`, at our leisure; private zeros only.
    Free,
    /// It will read them soon.
    WillNeed,
    /// Read them in now.
    PopulateRead,
    /// Make them writable now.
    PopulateWrite,
    /// A child does not get them.
    DontFork,
    /// A child does.
    DoFork,
    /// A child gets them filled with zeros; private zeros only.
    WipeOnFork,
    /// A child gets their content.
    KeepOnFork,
    /// How it will read them, which changes nothing here.
    Normal,
}

impl<P: Platform> AddressSpace<P> {
    /// Maps pages; returns where. Nothing is allocated until they are touched.
    ///
    /// # Errors
    /// - `INVAL`: length 0, a fixed place that is no page boundary, or a stack that is not private zeros.
    /// - `NOMEM`: no room, outside of what can be mapped, too many areas, or past the quota.
    /// - `PERM`: below what can be mapped.  - `EXIST`: something is there, with [`Place::FixedNoReplace`].
    /// - `PERM` also: what is there is sealed.  - `ACCESS`: more rights than `max_prot`.
    /// - `OVERFLOW`: past the last offset that a file can have.
    pub fn map(&self, request: MapRequest<P>) -> Result<GuestAddr> {
        let MapRequest { place, len, prot, max_prot, flags, backing } = request;
        if len == 0 {
            return Err(errno!(INVAL, "the length is 0"));
        }
        let len = round_up(len).filter(|len| *len <= GUEST_END).ok_or(errno!(NOMEM, "the length is too large"))?;
        if !max_prot.contains(prot) {
            return Err(errno!(ACCESS, "the file was not opened for that"));
        }
        if let Backing::Source { index, .. } = &backing {
            if flags.contains(MapFlags::GROWS_DOWN) {
                return Err(errno!(INVAL, "a stack shows no file"));
            }
            let end = index.checked_mul(PAGE_SIZE).and_then(|start| start.checked_add(len));
            if end.is_none_or(|end| end > i64::MAX.unsigned_abs()) {
                return Err(errno!(OVERFLOW, "past the last offset"));
            }
        }
        let mut state = self.state.lock();
        let (range, replace) = match place {
            Place::Anywhere(hint) => (anywhere(&mut state, hint, len)?, false),
            Place::Low => (state.vmas.low_gap(len)?, false),
            Place::Fixed(addr) => (fixed(addr, len)?, true),
            Place::FixedNoReplace(addr) => (fixed(addr, len)?, false),
        };
        let flags = flags.union(state.locks_new);
        state.may_map(len, (prot, flags), replace.then_some(range))?;
        let area = Vma::new(range, (prot, max_prot, flags), backing, &self.quota)?;
        let removed = if replace { self.take_out(&mut state, range)? } else { Removed::new() };
        let done = state.vmas.insert(area);
        drop(state);
        drop(removed);
        done.map(|()| range.start())
    }

    /// More heap; `EXIST` if something is there.
    pub(super) fn map_heap(&self, range: PageRange) -> Result<()> {
        let request = MapRequest::anonymous(range.bytes(), Prot::READ | Prot::WRITE);
        self.map(request.at(Place::FixedNoReplace(range.start()))).map(drop)
    }

    /// Unmaps `range`; that nothing is there is no error.
    ///
    /// # Errors
    /// `NOMEM`: an area would have to be split, and cannot be. `PERM`: a part is sealed.
    pub fn unmap(&self, range: PageRange) -> Result<()> {
        let mut state = self.state.lock();
        let removed = self.take_out(&mut state, range)?;
        drop(state);
        drop(removed);
        Ok(())
    }

    /// Takes everything out of `range`: areas, entries, pages.
    ///
    /// # Errors
    /// `PERM`: a part is sealed. `NOMEM`, as [`Self::unmap`]. Nothing was taken out then.
    pub(super) fn take_out(&self, state: &mut State<P>, range: PageRange) -> Result<Removed<P>> {
        if state.vmas.within(range).any(Vma::is_sealed) {
            return Err(errno!(PERM, "sealed"));
        }
        let removed = state.vmas.remove(range, &self.quota)?;
        if !removed.is_empty() {
            self.zap(state, Some(range));
            if range.bytes() >= COUNT_BYTES {
                state.count_pages();
            }
            state.pages.remove(range.pages(), &self.quota);
        }
        Ok(removed)
    }

    /// Changes the rights of `range`.
    ///
    /// # Errors
    /// What lies before the place of the error has been changed, as on Linux.
    /// - `NOMEM`: a page is not mapped, or an area cannot be split.  - `ACCESS`: more than a mapping may be given.
    /// - `PERM`: sealed.
    pub fn protect(&self, range: PageRange, prot: Prot) -> Result<()> {
        let mut state = self.state.lock();
        let (mut end, mut done) = (range.start(), Ok(()));
        for area in state.vmas.within(range) {
            if area.range().start() > end {
                break;
            }
            if area.is_sealed() {
                done = Err(errno!(PERM, "sealed"));
                break;
            }
            if !area.max_prot.contains(prot) {
                done = Err(errno!(ACCESS, "the file was not opened for that"));
                break;
            }
            end = area.range().end().min(range.end());
        }
        if done.is_ok() && end < range.end() {
            done = Err(errno!(NOMEM, "a page is not mapped"));
        }
        if let Some(changed) = PageRange::between(range.start(), end) {
            state.vmas.isolate(changed, &self.quota)?;
            self.zap(&mut state, Some(changed));
            state.vmas.change(changed, |area| area.prot = prot);
        }
        done
    }

    /// Takes advice about `range`.
    ///
    /// # Errors
    /// - `NOMEM`: a page is not mapped; the advice was taken for all others.
    /// - `INVAL`: not for this kind of memory.  - `FAULT`: a page cannot be populated.
    pub fn advise(&self, range: PageRange, advice: Advice) -> Result<()> {
        match advice {
            Advice::Normal | Advice::WillNeed => {}
            Advice::PopulateRead => return self.populate_or_fail(range, super::Access::Read),
            Advice::PopulateWrite => return self.populate_or_fail(range, super::Access::Write),
            Advice::PageOut => may_discard(&self.state.lock(), range, true)?,
            Advice::DontNeed | Advice::DontNeedLocked | Advice::Free => {
                let mut state = self.state.lock();
                may_discard(&state, range, advice != Advice::DontNeedLocked)?;
                if advice == Advice::Free {
                    only_private_zeros(&state, range)?;
                }
                self.zap(&mut state, Some(range));
                state.pages.remove(range.pages(), &self.quota);
            }
            Advice::DontFork => self.flag(range, MapFlags::DONT_FORK, MapFlags::empty())?,
            Advice::DoFork => self.flag(range, MapFlags::empty(), MapFlags::DONT_FORK)?,
            Advice::WipeOnFork => {
                only_private_zeros(&self.state.lock(), range)?;
                self.flag(range, MapFlags::WIPE_ON_FORK, MapFlags::empty())?;
            }
            Advice::KeepOnFork => self.flag(range, MapFlags::empty(), MapFlags::WIPE_ON_FORK)?,
        }
        if self.state.lock().vmas.covers(range) { Ok(()) } else { Err(errno!(NOMEM, "a page is not mapped")) }
    }

    fn flag(&self, range: PageRange, set: MapFlags, clear: MapFlags) -> Result<()> {
        let mut state = self.state.lock();
        state.vmas.isolate(range, &self.quota)?;
        state.vmas.change(range, |area| area.flags = area.flags.union(set).difference(clear));
        Ok(())
    }

    fn populate_or_fail(&self, range: PageRange, access: super::Access) -> Result<()> {
        match self.populate(range, access) {
            super::FaultOutcome::Resolved => Ok(()),
            super::FaultOutcome::OutOfMemory => Err(errno!(NOMEM, "no memory to populate")),
            super::FaultOutcome::Segv(super::SegvCode::MapErr) => Err(errno!(NOMEM, "a page is not mapped")),
            super::FaultOutcome::Segv(super::SegvCode::AccErr) => Err(errno!(INVAL, "the rights do not allow it")),
            super::FaultOutcome::Bus => Err(errno!(FAULT, "the page cannot be had")),
        }
    }

    /// Takes away every page of what `owner` is ([`super::MapSource::owner`]) from its page `from` on, wherever it is mapped, and
    /// private copies of them too.
    ///
    /// For whoever makes a file shorter or gives up its pages: change the source first, then call this for each address space that
    /// may map it, holding none of the source's locks. Until then a guest goes on seeing the old pages, which stay alive.
    pub fn forget(&self, owner: usize, from: u64) {
        let mut state = self.state.lock();
        let State { vmas, pages, .. } = &mut *state;
        for area in vmas.iter() {
            let Backing::Source { source: shown, index } = &area.backing else { continue };
            let skipped = from.saturating_sub(*index).checked_mul(PAGE_SIZE);
            let start = skipped.and_then(|bytes| area.range().start().plus(bytes).ok());
            let gone = start.and_then(|start| PageRange::between(start, area.range().end()));
            if let Some(gone) = gone.filter(|_| shown.owner() == owner) {
                P::unmap(&self.host, gone.start(), gone.end());
                pages.remove(gone.pages(), &self.quota);
            }
        }
    }

    /// Has shared mappings of what `owner` is ([`super::MapSource::owner`]) fault before they write to it again.
    pub fn hide_shared(&self, owner: usize) {
        let state = self.state.lock();
        for area in state.vmas.iter().filter(|area| area.is_shared()) {
            if matches!(&area.backing, Backing::Source { source, .. } if source.owner() == owner) {
                P::unmap(&self.host, area.range().start(), area.range().end());
            }
        }
    }

    /// Gives the source of each shared mapping in `range`, once if it is that of several in a row.
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn shared_sources(&self, range: PageRange) -> Result<Vec<Arc<dyn MapSource<P>>>> {
        let state = self.state.lock();
        let mut sources: Vec<Arc<dyn MapSource<P>>> = Vec::new();
        for area in state.vmas.iter().filter(|area| area.is_shared() && area.range().intersect(range).is_some()) {
            let Backing::Source { source, .. } = &area.backing else { continue };
            if sources.last().is_none_or(|last| !Arc::ptr_eq(last, source)) {
                sources.try_reserve(1).map_err(|_| errno!(NOMEM))?;
                sources.push(Arc::clone(source));
            }
        }
        Ok(sources)
    }

    /// Says for each page of `range`, in order, whether it is in memory. See mincore(2).
    ///
    /// # Errors
    /// `NOMEM`: a page is not mapped.
    pub fn mincore(&self, range: PageRange, mut tell: impl FnMut(bool)) -> Result<()> {
        let state = self.state.lock();
        if !state.vmas.covers(range) {
            return Err(errno!(NOMEM, "a page is not mapped"));
        }
        for area in state.vmas.within(range) {
            for page in area.range().intersect(range).map(PageRange::pages).into_iter().flatten() {
                let backing = area.backing_at(GuestAddr::new(page << PAGE_SHIFT));
                let own = state.pages.get(page).and_then(Slot::own).is_some();
                tell(own || matches!(backing, Backing::Source { source, index } if source.resident(index).is_some()));
            }
        }
        Ok(())
    }
}

/// # Errors
/// `PERM`: where null pointers are caught. `INVAL`, `NOMEM`: see [`PageRange::new`].
fn fixed(addr: GuestAddr, len: u64) -> Result<PageRange> {
    if addr.get() < GUEST_START && addr.is_page_start() {
        return Err(errno!(PERM, "the lowest pages cannot be mapped"));
    }
    PageRange::new(addr, len)
}

/// Where `len` bytes go that would like to be at `hint`.
pub(super) fn anywhere<P: Platform>(state: &mut State<P>, hint: GuestAddr, len: u64) -> Result<PageRange> {
    let wanted = hint.page_up().and_then(|hint| PageRange::new(hint, len).ok());
    match wanted.filter(|range| state.vmas.is_free(*range)) {
        Some(range) => Ok(range),
        None => state.vmas.gap(len),
    }
}

/// Whether what is in `range` may go away.
///
/// # Errors
/// `INVAL`: a part is locked, if that matters. `PERM`: sealed private zeros that the guest could not write over either.
fn may_discard<P: Platform>(state: &State<P>, range: PageRange, but_for_locked: bool) -> Result<()> {
    for area in state.vmas.within(range) {
        if but_for_locked && area.flags.intersects(ANY_LOCK) {
            return Err(errno!(INVAL, "locked in memory"));
        }
        if area.is_sealed() && matches!(area.backing, Backing::Anonymous) && !area.prot.contains(Prot::WRITE) {
            return Err(errno!(PERM, "sealed"));
        }
    }
    Ok(())
}

/// # Errors
/// `INVAL`: a source shows there.
fn only_private_zeros<P: Platform>(state: &State<P>, range: PageRange) -> Result<()> {
    let fits = |area: &Vma<P>| matches!(area.backing, Backing::Anonymous) && !area.is_shared();
    if state.vmas.within(range).all(fits) { Ok(()) } else { Err(errno!(INVAL, "not private zeros")) }
}
