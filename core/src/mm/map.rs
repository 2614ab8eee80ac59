//! Changing what is mapped: mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), mincore(2).
//!
//! Each takes entries out of the page tables before it changes the trees, under the lock: a page that went away cannot be seen,
//! and one whose rights changed faults first. Areas that go away are dropped after the lock, since one may be its file's last user.
//! Hostile input: every address, length and offset.

use super::addr::{GUEST_END, GUEST_START, GuestAddr, PAGE_SHIFT, PAGE_SIZE, PageRange, Prot, round_up};
use super::pages::Slot;
use super::space::{AddressSpace, State};
use super::vma::{Backing, MapFlags, Removed, Vma};
use crate::errno;
use crate::error::Result;
use crate::platform::Platform;

/// Before so much is taken away, the pages in memory are counted. See [`AddressSpace::most_pages`].
const COUNT_BYTES: u64 = 1 << 20;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Wherever it fits, but preferably here, unless that is 0.
    Anywhere(GuestAddr),
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

/// Where [`AddressSpace::remap`] may put the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapPlace {
    /// Where it is.
    Stay,
    /// Where it is, or anywhere.
    Move,
    /// Here; what is there goes away.
    Fixed(GuestAddr),
}

/// What a guest says about the use of its pages. See madvise(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It does not need what is in them: private pages become what they were when mapped.
    DontNeed,
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
    /// - `ACCESS`: more rights than `max_prot`.  - `OVERFLOW`: past the last offset that a file can have.
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
            Place::Fixed(addr) => (fixed(addr, len)?, true),
            Place::FixedNoReplace(addr) => (fixed(addr, len)?, false),
        };
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
    /// `NOMEM`: an area would have to be split, and cannot be.
    pub fn unmap(&self, range: PageRange) -> Result<()> {
        let mut state = self.state.lock();
        let removed = self.take_out(&mut state, range)?;
        drop(state);
        drop(removed);
        Ok(())
    }

    /// Takes everything out of `range`: areas, entries, pages.
    fn take_out(&self, state: &mut State<P>, range: PageRange) -> Result<Removed<P>> {
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
    pub fn protect(&self, range: PageRange, prot: Prot) -> Result<()> {
        let mut state = self.state.lock();
        let (mut end, mut done) = (range.start(), Ok(()));
        for area in state.vmas.within(range) {
            if area.range().start() > end {
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

    /// Makes the mapping `old` one of `new_len` bytes, with its pages; returns where it is. See mremap(2).
    ///
    /// # Errors
    /// - `FAULT`: `old` is not within one area.  - `NOMEM`: no room there, or past the quota.
    /// - `INVAL`: length 0, or a new place that overlaps the old.
    pub fn remap(&self, old: PageRange, new_len: u64, place: RemapPlace) -> Result<GuestAddr> {
        let new_len = round_up(new_len).ok_or(errno!(INVAL, "the length overflows"))?;
        let mut state = self.state.lock();
        let mut removed = [Removed::new(), Removed::new(), Removed::new()];
        let done = self.remap_locked(&mut state, old, new_len, place, &mut removed);
        drop(state);
        drop(removed);
        done
    }

    fn remap_locked(
        &self,
        state: &mut State<P>,
        old: PageRange,
        new_len: u64,
        place: RemapPlace,
        [replaced, cut, moved]: &mut [Removed<P>; 3],
    ) -> Result<GuestAddr> {
        let area = state.vmas.find(old.start()).ok_or(errno!(FAULT, "nothing is mapped there"))?;
        let area_end = area.range().end();
        let (attributes, backing) = (area.attributes(), area.backing_at(old.start()));
        let kept = PageRange::new(old.start(), old.bytes().min(new_len))?;
        if let RemapPlace::Fixed(to) = place {
            let new = PageRange::new(to, new_len).map_err(|_| errno!(INVAL, "the new place cannot be mapped"))?;
            if new.intersect(old).is_some() {
                return Err(errno!(INVAL, "the new place overlaps the old"));
            }
            if old.end() > area_end {
                return Err(errno!(FAULT, "more than one area"));
            }
            *replaced = self.take_out(state, new)?;
            self.cut(state, kept, old, cut)?;
            return self.move_pages(state, kept, new, attributes, &backing, moved);
        }
        if new_len <= old.bytes() {
            self.cut(state, kept, old, cut)?;
            return Ok(old.start());
        }
        if old.end() > area_end {
            return Err(errno!(FAULT, "more than one area"));
        }
        let whole = PageRange::new(old.start(), new_len);
        let more = whole.as_ref().ok().and_then(|whole| PageRange::between(old.end(), whole.end()));
        if let Some(more) = more.filter(|more| state.vmas.is_free(*more)) {
            let tail = Vma::new(more, attributes, backing.advanced(old.count()), &self.quota)?;
            state.vmas.insert(tail)?;
            return Ok(old.start());
        }
        if place == RemapPlace::Stay {
            return Err(errno!(NOMEM, "something is mapped behind it"));
        }
        let new = state.vmas.gap(new_len)?;
        self.move_pages(state, old, new, attributes, &backing, moved)
    }

    /// Takes out what `old` has behind `kept`.
    fn cut(&self, state: &mut State<P>, kept: PageRange, old: PageRange, cut: &mut Removed<P>) -> Result<()> {
        if let Some(tail) = PageRange::between(kept.end(), old.end()) {
            *cut = self.take_out(state, tail)?;
        }
        Ok(())
    }

    /// Moves the pages of `old` to the start of `new`, which is free and becomes an area as described.
    fn move_pages(
        &self,
        state: &mut State<P>,
        old: PageRange,
        new: PageRange,
        attributes: (Prot, Prot, MapFlags),
        backing: &Backing<P>,
        moved: &mut Removed<P>,
    ) -> Result<GuestAddr> {
        let area = Vma::new(new, attributes, backing.clone(), &self.quota)?;
        state.vmas.isolate(old, &self.quota)?;
        // No thread may write between the moment that a page has two places and that it has the new one only.
        self.zap(state, Some(old));
        let mut from = old.start().page();
        while let Some((page, owned)) = state.pages.next(from, old.end().page()).map(|(page, owned)| (page, owned.clone())) {
            let to = page.saturating_sub(old.start().page()).saturating_add(new.start().page());
            match state.pages.slot(to, &self.quota) {
                Ok(slot) => *slot = Some(owned),
                Err(error) => {
                    state.pages.remove(new.pages(), &self.quota);
                    return Err(error);
                }
            }
            from = page.saturating_add(1);
        }
        if let Err(error) = state.vmas.insert(area) {
            state.pages.remove(new.pages(), &self.quota);
            return Err(error);
        }
        *moved = self.take_out(state, old)?;
        Ok(new.start())
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
            Advice::DontNeed => {
                let mut state = self.state.lock();
                self.zap(&mut state, Some(range));
                state.pages.remove(range.pages(), &self.quota);
            }
            Advice::Free => {
                let mut state = self.state.lock();
                only_private_zeros(&state, range)?;
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
fn anywhere<P: Platform>(state: &mut State<P>, hint: GuestAddr, len: u64) -> Result<PageRange> {
    let wanted = hint.page_up().and_then(|hint| PageRange::new(hint, len).ok());
    match wanted.filter(|range| state.vmas.is_free(*range)) {
        Some(range) => Ok(range),
        None => state.vmas.gap(len),
    }
}

/// # Errors
/// `INVAL`: a source shows there.
fn only_private_zeros<P: Platform>(state: &State<P>, range: PageRange) -> Result<()> {
    let fits = |area: &Vma<P>| matches!(area.backing, Backing::Anonymous) && !area.is_shared();
    if state.vmas.within(range).all(fits) { Ok(()) } else { Err(errno!(INVAL, "not private zeros")) }
}
