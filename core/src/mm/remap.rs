//! Moving mappings: mremap(2).
//!
//! As in [`super::map`]: entries go before the trees change, and what was taken out is dropped after the lock.
//! Hostile input: both places, both lengths. Sources: mremap(2); Linux mm/mremap.c.

use super::addr::{GuestAddr, PageRange, Prot, round_up};
use super::map::anywhere;
use super::space::{AddressSpace, State};
use super::vma::{ANY_LOCK, Backing, MapFlags, Removed, Vma};
use crate::errno;
use crate::error::Result;
use crate::platform::Platform;

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

impl<P: Platform> AddressSpace<P> {
    /// Makes the mapping `old` one of `new_len` bytes, with its pages; returns where it is. See mremap(2).
    ///
    /// # Errors
    /// - `FAULT`: `old` is not within one area.  - `NOMEM`: no room there, or past the quota.
    /// - `INVAL`: length 0, or a new place that overlaps the old.  - `PERM`: sealed.
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
        if area.is_sealed() {
            return Err(errno!(PERM, "sealed"));
        }
        let kept = PageRange::new(old.start(), old.bytes().min(new_len))?;
        if let RemapPlace::Fixed(to) = place {
            let new = place_apart(to, new_len, old)?;
            if old.end() > area_end {
                return Err(errno!(FAULT, "more than one area"));
            }
            state.may_map(new_len.saturating_sub(old.bytes()), (attributes.0, attributes.2), Some(new))?;
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
        state.may_map(new_len.saturating_sub(old.bytes()), (attributes.0, attributes.2), None)?;
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

    /// Moves the pages of `old` to the start of `new`, which is free and becomes an area as described; `old` is no more.
    fn move_pages(
        &self,
        state: &mut State<P>,
        old: PageRange,
        new: PageRange,
        attributes: (Prot, Prot, MapFlags),
        backing: &Backing<P>,
        moved: &mut Removed<P>,
    ) -> Result<GuestAddr> {
        self.carry_over(state, old, new, attributes, backing)?;
        *moved = self.take_out(state, old)?;
        Ok(new.start())
    }

    /// Makes `new`, which is free, an area as described that has the pages of `old`, an area of its own after that without any.
    fn carry_over(
        &self,
        state: &mut State<P>,
        old: PageRange,
        new: PageRange,
        attributes: (Prot, Prot, MapFlags),
        backing: &Backing<P>,
    ) -> Result<()> {
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
        Ok(())
    }

    /// Moves the pages of `old` to `to`, or anywhere, and leaves the mapping there as if it was new; returns where they are. See
    /// mremap(2), `MREMAP_DONTUNMAP`.
    ///
    /// # Errors
    /// As [`Self::remap`].
    pub fn remap_leaving(&self, old: PageRange, to: Option<GuestAddr>) -> Result<GuestAddr> {
        let mut state = self.state.lock();
        let area = state.vmas.find(old.start()).ok_or(errno!(FAULT, "nothing is mapped there"))?;
        if area.is_sealed() {
            return Err(errno!(PERM, "sealed"));
        }
        if old.end() > area.range().end() {
            return Err(errno!(FAULT, "more than one area"));
        }
        let (attributes, backing) = (area.attributes(), area.backing_at(old.start()));
        let new = match to {
            Some(to) => place_apart(to, old.bytes(), old)?,
            None => anywhere(&mut state, GuestAddr::default(), old.bytes())?,
        };
        state.may_map(old.bytes(), (attributes.0, attributes.2), Some(new))?;
        let removed = self.take_out(&mut state, new)?;
        let done = self.carry_over(&mut state, old, new, attributes, &backing);
        if done.is_ok() {
            state.pages.remove(old.pages(), &self.quota);
            state.vmas.change(old, |area| area.flags.remove(ANY_LOCK));
        }
        drop(state);
        drop(removed);
        done.map(|()| new.start())
    }

    /// Maps what the shared area at `old` shows once more, `new_len` bytes of it, at `to` or anywhere; returns where. See mremap(2) of
    /// an old length of 0.
    ///
    /// # Errors
    /// As [`Self::remap`]; `INVAL` also for a private area.
    pub fn map_again(&self, old: GuestAddr, new_len: u64, to: Option<GuestAddr>) -> Result<GuestAddr> {
        let new_len = round_up(new_len).ok_or(errno!(INVAL, "the length overflows"))?;
        let mut state = self.state.lock();
        let area = state.vmas.find(old).ok_or(errno!(FAULT, "nothing is mapped there"))?;
        if !area.is_shared() {
            return Err(errno!(INVAL, "a private mapping cannot be made twice"));
        }
        let (attributes, backing) = (area.attributes(), area.backing_at(old));
        let new = match to {
            Some(to) => place(to, new_len)?,
            None => anywhere(&mut state, GuestAddr::default(), new_len)?,
        };
        state.may_map(new_len, (attributes.0, attributes.2), Some(new))?;
        let removed = self.take_out(&mut state, new)?;
        let done = Vma::new(new, attributes, backing, &self.quota).and_then(|area| state.vmas.insert(area));
        drop(state);
        drop(removed);
        done.map(|()| new.start())
    }
}

/// `len` bytes at `to`.
fn place(to: GuestAddr, len: u64) -> Result<PageRange> {
    PageRange::new(to, len).map_err(|_| errno!(INVAL, "the new place cannot be mapped"))
}

/// The same, nowhere in `old`.
fn place_apart(to: GuestAddr, len: u64, old: PageRange) -> Result<PageRange> {
    let new = place(to, len)?;
    if new.intersect(old).is_some() { Err(errno!(INVAL, "the new place overlaps the old")) } else { Ok(new) }
}
