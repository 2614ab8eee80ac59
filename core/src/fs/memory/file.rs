//! Regular files in memory: pages in a map, holes where there are none.
//!
//! Invariants: no page lies wholly past `size`; bytes past `size` in the last page are zero unless a mapping wrote them; a page is
//! charged before it is made. Locks: `writes` may be held around a guest copy (rank "file offset"); `pages` may not, so bytes go to
//! a page that was found, and then it is seen whether the page still belongs to the file. Mappings are not told of a truncation: whoever owns the address spaces does that.

use super::{MemoryNode, now};
use crate::fs::inode::{End, FileOps, IoCx};
use crate::fs::io::{BOUNCE, IoDst, IoSrc};
use crate::fs::types::{Mode, OFFSET_MAX, PAGE_SIZE, PAGE_SIZE_U64, Seals};
use crate::platform::{Frame, Platform};
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// A page's charge: itself, and its place in the map.
const PAGE_COST: u64 = PAGE_SIZE_U64 + 64;

struct Page<P: Platform> {
    frame: P::Frame,
    _charge: Charge,
}

struct Pages<P: Platform> {
    map: BTreeMap<u64, Page<P>>,
    size: u64,
    seals: Seals,
    /// How often pages were taken away, in whole or in part.
    cuts: u64,
    /// Mappings that may write.
    writable: u32,
}

/// What a regular file holds.
pub(super) struct Content<P: Platform> {
    quota: Arc<Quota>,
    pages: Mutex<P, Pages<P>>,
    /// One write after the other, and no seal comes while one is under way. Linux: `i_rwsem`, which a truncation takes as well.
    writes: Mutex<P, ()>,
    mapped: AtomicBool,
}

/// Page number, offset in the page, and bytes from there to the page's end.
fn split(offset: u64) -> (u64, usize, usize) {
    let index = offset >> 12;
    let within = usize::try_from(offset & (PAGE_SIZE_U64.wrapping_sub(1))).unwrap_or(0);
    (index, within, PAGE_SIZE.saturating_sub(within))
}

fn add(offset: u64, bytes: usize) -> u64 {
    offset.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
}

impl<P: Platform> Pages<P> {
    /// The frame of page `index`, made if it is a hole.
    fn ensure(&mut self, quota: &Arc<Quota>, index: u64) -> Result<P::Frame> {
        if let Some(page) = self.map.get(&index) {
            return Ok(page.frame.clone());
        }
        let charge = quota.charge(PAGE_COST)?;
        let frame = P::zeroed_frame().ok_or(errno!(NOMEM, "the host has no page"))?;
        self.map.insert(index, Page { frame: frame.clone(), _charge: charge });
        Ok(frame)
    }
}

impl<P: Platform> Content<P> {
    pub(super) fn new(quota: &Arc<Quota>) -> Self {
        Self::with_seals(quota, Seals::SEAL)
    }

    /// Whether the mode may be changed so.
    ///
    /// # Errors
    /// `PERM`: sealed against being made executable or no more so.
    pub(super) fn check_mode(&self, old: Mode, new: Mode) -> Result<()> {
        if old.executable() != new.executable() && self.pages.lock().seals.contains(Seals::EXEC) {
            return Err(errno!(PERM, "the file is sealed"));
        }
        Ok(())
    }

    /// Empty, with these seals. All but files of `memfd_create(2)` are sealed against seals.
    pub(super) fn with_seals(quota: &Arc<Quota>, seals: Seals) -> Self {
        Self {
            quota: Arc::clone(quota),
            pages: Mutex::<P, _>::new(Pages { map: BTreeMap::new(), size: 0, seals, cuts: 0, writable: 0 }),
            writes: Mutex::<P, _>::new(()),
            mapped: AtomicBool::new(false),
        }
    }

    /// Length, and memory used in units of 512 bytes.
    pub(super) fn size_and_blocks(&self) -> (u64, u64) {
        let pages = self.pages.lock();
        (pages.size, u64::try_from(pages.map.len()).unwrap_or(0).saturating_mul(8))
    }

    fn size(&self) -> u64 {
        self.pages.lock().size
    }

    fn read(&self, offset: u64, dst: &mut IoDst<'_, P>) -> Result<usize> {
        let start = dst.done();
        let mut at = offset;
        while dst.remaining() > 0 && !dst.faulted() {
            let (index, within, room) = split(at);
            let (frame, left) = {
                let pages = self.pages.lock();
                (pages.map.get(&index).map(|page| page.frame.clone()), pages.size.saturating_sub(at))
            };
            let len = room.min(dst.remaining()).min(usize::try_from(left).unwrap_or(usize::MAX));
            if len == 0 {
                break;
            }
            let put = match frame {
                Some(frame) => dst.put_frame(&frame, within, len),
                None => dst.put_zeros(len),
            };
            at = add(at, put);
            if put < len {
                break;
            }
        }
        dst.outcome(start)
    }

    /// Writes what `src` has; `writes` is held.
    fn write(&self, offset: u64, src: &mut IoSrc<'_, P>) -> Result<usize> {
        if offset >= OFFSET_MAX && src.remaining() > 0 {
            return Err(errno!(FBIG));
        }
        let limit = usize::try_from(OFFSET_MAX.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut written = 0usize;
        while src.remaining() > 0 && written < limit && !src.faulted() {
            match self.write_page(add(offset, written), limit.saturating_sub(written), src) {
                Ok(taken) => written = written.saturating_add(taken),
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if written == 0 && src.faulted() { Err(errno!(FAULT)) } else { Ok(written) }
    }

    /// Writes as much of `src`, up to `most` bytes, as goes to the page that `at` is in.
    fn write_page(&self, at: u64, most: usize, src: &mut IoSrc<'_, P>) -> Result<usize> {
        let (index, within, room) = split(at);
        let len = room.min(src.remaining()).min(most);
        let begun = src.place();
        loop {
            let (frame, cuts) = {
                let mut pages = self.pages.lock();
                let grows = add(at, len) > pages.size && pages.seals.contains(Seals::GROW);
                if pages.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) || grows {
                    return Err(errno!(PERM, "the file is sealed"));
                }
                (pages.ensure(&self.quota, index)?, pages.cuts)
            };
            let taken = src.take_to_frame(&frame, within, len);
            let mut pages = self.pages.lock();
            if pages.cuts != cuts {
                // Perhaps this page, or what was just put there: as if the cut had come first.
                src.go_back(&begun);
                continue;
            }
            if taken > 0 {
                pages.size = pages.size.max(add(at, taken));
            } else if index.saturating_mul(PAGE_SIZE_U64) >= pages.size {
                pages.map.remove(&index);
            }
            return Ok(taken);
        }
    }

    /// Cuts or extends to `size`.
    pub(super) fn resize(&self, size: u64) -> Result<()> {
        if size > OFFSET_MAX {
            return Err(errno!(FBIG));
        }
        let mut pages = self.pages.lock();
        let seal = if size < pages.size { Seals::SHRINK } else { Seals::GROW };
        if size != pages.size && pages.seals.contains(seal) {
            return Err(errno!(PERM, "the file is sealed"));
        }
        let mut gone = BTreeMap::new();
        if size < pages.size {
            pages.cuts = pages.cuts.wrapping_add(1);
            let (index, within, _) = split(size);
            gone = pages.map.split_off(&if within == 0 { index } else { index.saturating_add(1) });
            if let Some(last) = pages.map.get(&index).filter(|_| within > 0) {
                zero::<P>(&last.frame, within, PAGE_SIZE.saturating_sub(within));
            }
        }
        pages.size = size;
        drop(pages);
        drop(gone);
        Ok(())
    }

    /// Whether a page was ever handed out for a mapping.
    pub(super) fn was_mapped(&self) -> bool {
        self.mapped.load(Ordering::Acquire)
    }

    fn page(&self, index: u64) -> Result<P::Frame> {
        self.mapped.store(true, Ordering::Release);
        let mut pages = self.pages.lock();
        let start = index.checked_mul(PAGE_SIZE_U64).ok_or(errno!(FAULT, "past the end of the file"))?;
        if start >= pages.size {
            return Err(errno!(FAULT, "past the end of the file"));
        }
        pages.ensure(&self.quota, index)
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.pages.lock().map.get(&index).map(|page| page.frame.clone())
    }

    fn allocate(&self, offset: u64, len: u64, length: End) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= OFFSET_MAX).ok_or(errno!(FBIG))?;
        let (first, _, _) = split(offset);
        let (last, _, _) = split(end.saturating_sub(1));
        {
            let pages = self.pages.lock();
            if end > pages.size && pages.seals.contains(Seals::GROW) {
                return Err(errno!(PERM, "the file is sealed"));
            }
        }
        if last.saturating_sub(first) >= self.quota.limit() >> 12 {
            return Err(errno!(NOSPC, "more than the sandbox's memory"));
        }
        for index in first..=last {
            let mut pages = self.pages.lock();
            if pages.ensure(&self.quota, index).is_err() {
                // What lies past the end would be out of everybody's reach.
                let size = pages.size;
                pages.cuts = pages.cuts.wrapping_add(1);
                let gone = pages.map.split_off(&size.div_ceil(PAGE_SIZE_U64));
                drop(pages);
                drop(gone);
                return Err(errno!(NOSPC, "the sandbox's memory is used up"));
            }
        }
        let mut pages = self.pages.lock();
        if length == End::Moves {
            pages.size = pages.size.max(end);
        }
        Ok(())
    }

    /// Makes `offset..offset + len` a hole, within the file.
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let mut pages = self.pages.lock();
        if pages.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
            return Err(errno!(PERM, "the file is sealed"));
        }
        pages.cuts = pages.cuts.wrapping_add(1);
        let end = offset.saturating_add(len).min(pages.size);
        let (mut at, mut gone) = (offset, BTreeMap::new());
        while at < end {
            let (index, within, room) = split(at);
            let part = room.min(usize::try_from(end.saturating_sub(at)).unwrap_or(room));
            // The last page has nothing past the end that is to stay.
            if within == 0 && (part == PAGE_SIZE || end == pages.size) {
                let last = end >> 12;
                let mut rest = pages.map.split_off(&index);
                let kept = if end == pages.size { BTreeMap::new() } else { rest.split_off(&last) };
                gone.append(&mut rest);
                pages.map.extend(kept);
                at = if end == pages.size { end } else { last.saturating_mul(PAGE_SIZE_U64) };
                continue;
            }
            if let Some(page) = pages.map.get(&index) {
                zero::<P>(&page.frame, within, part);
            }
            at = add(at, part);
        }
        drop(pages);
        drop(gone);
        Ok(())
    }

    fn seek(&self, offset: u64, want_hole: bool) -> Result<u64> {
        let pages = self.pages.lock();
        if offset >= pages.size {
            return Err(errno!(NXIO, "at or past the end"));
        }
        let (index, _, _) = split(offset);
        let start_of = |page: u64| page.saturating_mul(PAGE_SIZE_U64).max(offset);
        if !want_hole {
            let next = pages.map.range(index..).next().map(|(page, _)| start_of(*page)).filter(|start| *start < pages.size);
            return next.ok_or(errno!(NXIO, "no data from there on"));
        }
        let mut hole = index;
        for (page, _) in pages.map.range(index..) {
            if *page != hole {
                break;
            }
            hole = hole.saturating_add(1);
        }
        Ok(start_of(hole).min(pages.size))
    }
}

/// Makes `len` bytes of `frame` from `within` on zeros.
fn zero<P: Platform>(frame: &P::Frame, within: usize, len: usize) {
    let zeros = [0u8; BOUNCE];
    let (mut at, mut left) = (within, len);
    while left > 0 {
        let written = frame.write(at, zeros.get(..left).unwrap_or(&zeros));
        if written == 0 {
            break;
        }
        at = at.saturating_add(written);
        left = left.saturating_sub(written);
    }
}

/// An open regular file.
pub(super) struct MemoryFile<P: Platform> {
    pub(super) node: Arc<MemoryNode<P>>,
}

impl<P: Platform> fmt::Debug for MemoryFile<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile").field("node", &self.node).finish()
    }
}

impl<P: Platform> MemoryFile<P> {
    fn content(&self) -> Result<&Content<P>> {
        match &self.node.body {
            super::Body::Regular(content) => Ok(content),
            _ => Err(errno!(INVAL)),
        }
    }
}

impl<P: Platform> FileOps<P> for MemoryFile<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, _cx: IoCx) -> Result<usize> {
        let count = self.content()?.read(offset, dst)?;
        self.node.meta.lock().accessed = now::<P>();
        Ok(count)
    }

    fn write_at(&self, offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        let content = self.content()?;
        let count = {
            let _writes = content.writes.lock();
            content.write(offset, src)?
        };
        self.node.written(cx);
        Ok(count)
    }

    fn append(&self, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<(usize, u64)> {
        let content = self.content()?;
        let _writes = content.writes.lock();
        let end = content.size();
        let count = content.write(end, src)?;
        self.node.written(cx);
        Ok((count, add(end, count)))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.content()?.size())
    }

    fn seek_data(&self, offset: u64, want_hole: bool) -> Result<u64> {
        self.content()?.seek(offset, want_hole)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.content()?.resize(size)?;
        self.node.touch(0);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64, length: End) -> Result<()> {
        self.content()?.allocate(offset, len, length)?;
        self.node.relink(0);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.content()?.punch(offset, len)?;
        self.node.touch(0);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn page(&self, index: u64, _for_write: bool) -> Result<P::Frame> {
        self.content()?.page(index)
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.content().ok()?.resident(index)
    }

    fn seals(&self) -> Result<Seals> {
        Ok(self.content()?.pages.lock().seals)
    }

    fn add_seals(&self, add: Seals) -> Result<()> {
        let content = self.content()?;
        // What stays executable is not to be written to either. Linux: `memfd_add_seals`.
        let is_program = add.contains(Seals::EXEC) && !self.node.meta.lock().mode.executable().is_empty();
        let all = Seals::SHRINK | Seals::GROW | Seals::WRITE | Seals::FUTURE_WRITE;
        let add = if is_program { add | all } else { add };
        let _writes = content.writes.lock();
        let mut pages = content.pages.lock();
        if pages.seals.contains(Seals::SEAL) {
            return Err(errno!(PERM, "sealed against seals"));
        }
        if add.contains(Seals::WRITE) && pages.writable > 0 {
            return Err(errno!(BUSY, "a mapping may write to it"));
        }
        pages.seals |= add;
        Ok(())
    }

    fn begin_writable_mapping(&self) -> Result<()> {
        let mut pages = self.content()?.pages.lock();
        if pages.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
            return Err(errno!(PERM, "the file is sealed"));
        }
        pages.writable = pages.writable.saturating_add(1);
        Ok(())
    }

    fn end_writable_mapping(&self) {
        if let Ok(content) = self.content() {
            let mut pages = content.pages.lock();
            pages.writable = pages.writable.saturating_sub(1);
        }
    }

    fn mappable(&self) -> bool {
        true
    }
}
