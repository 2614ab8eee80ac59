//! Address space of one guest process.
//!
//! Owns: the area tree, the pages that the process has for itself, and a hold on every frame that it shows. Not here: file contents (a [`MapSource`](super::MapSource)),
//! page tables (the platform's `Space`).
//! Invariants: what the page tables show is a subset of what the trees say, with no more rights: whoever takes something away
//! zaps it before the lock is given back, and before a frame is dropped. A private page is charged once, however many spaces
//! share it copy-on-write. Locks: `state`, then those of sources that do not sleep; a source that may sleep is asked without it.
//! Sources: mmap(2), fork(2), brk(2); Linux mm/memory.c.

use super::addr::{GUEST_END, GuestAddr, PAGE_BYTES, PAGE_SHIFT, PAGE_SIZE, PageRange, Prot};
use super::fault::{Fetched, Missing, TABLE_PAGES};
use super::limits::MapLimits;
use super::pages::{Pages, Slot};
use super::vma::{Backing, MapFlags, VmaTree};
use crate::errno;
use crate::error::Result;
use crate::limit::Limit;
use crate::platform::{Frame, Frames, Platform};
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;

/// What an address space is charged as before it has any page: its page tables' root, the zero page and the trees.
const SPACE_BYTES: u64 = 4 * PAGE_SIZE;
/// Room left above the highest mapping for the stack that exec puts there.
const STACK_ROOM: u64 = 256 << 20;
/// The mapping area's top moves by up to this many pages. Linux: `mmap_rnd_bits`.
const RANDOM_PAGES: u64 = 1 << 28;
/// Pages of a [`Table`] that one bit of its note stands for.
const PART_PAGES: u64 = TABLE_PAGES / u64::BITS as u64;
/// Parts that are no further apart are emptied together: a host walks the entries between them in less time than it begins anew.
const PARTS_TOGETHER: u64 = 10;

/// Page tables by the region that each covers. There are few, and every fault asks for one.
pub(super) type Tables = BTreeMap<u64, Table>;

/// A page table of the host.
pub(super) struct Table {
    _charge: Charge,
    /// Which parts may have entries, a bit for each.
    shown: u64,
}

impl Table {
    /// An empty one.
    pub(super) const fn new(charge: Charge) -> Self {
        Self { _charge: charge, shown: 0 }
    }

    /// Notes that entries of `block`, which lies in its region, are about to be filled.
    #[inline]
    pub(super) fn note(&mut self, block: &PageRange) {
        let part = |page: u64| (page % TABLE_PAGES).checked_div(PART_PAGES).unwrap_or_default();
        let (first, last) = (part(block.pages().start), part(block.pages().end.saturating_sub(1)));
        for at in first..=last {
            self.shown |= 1u64.rotate_left(u32::try_from(at).unwrap_or_default());
        }
    }
}

/// What the lock protects.
pub(super) struct State<P: Platform> {
    pub(super) vmas: VmaTree<P>,
    pub(super) pages: Pages<Slot<P>>,
    pub(super) limits: MapLimits,
    /// How new areas are locked. See mlockall(2), `MCL_FUTURE`.
    pub(super) locks_new: MapFlags,
    /// The host's page tables. A host frees them with the space, not before, so they are counted until then, or touching and
    /// unmapping page after page would fill it.
    pub(super) tables: Tables,
    heap: Heap,
    /// The most pages that were in it, as far as anybody has counted.
    most_pages: u64,
}

impl<P: Platform> State<P> {
    /// Counts the pages. Walks all of them.
    pub(super) fn count_pages(&mut self) -> u64 {
        let count = self.pages.count();
        self.most_pages = self.most_pages.max(count);
        count
    }
}

/// The heap that brk(2) moves: `start..end`, to the byte.
#[derive(Clone, Copy, Debug, Default)]
struct Heap {
    start: GuestAddr,
    end: GuestAddr,
}

/// The memory of one guest process, or of several after `vfork`.
pub struct AddressSpace<P: Platform> {
    pub(super) quota: Arc<Quota>,
    pub(super) host: P::Space,
    /// Shown, read-only, where nothing was ever written.
    pub(super) zero: P::Frame,
    pub(super) state: Mutex<P, State<P>>,
    _charge: Charge,
}

impl<P: Platform> fmt::Debug for AddressSpace<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace").field("host", &self.host).finish_non_exhaustive()
    }
}

/// An area as /proc/PID/maps shows it.
#[derive(Debug)]
pub struct Area<P: Platform> {
    /// Its pages.
    pub range: PageRange,
    /// Rights.
    pub prot: Prot,
    /// Rights that mprotect(2) may give.
    pub max_prot: Prot,
    /// Shared, stack.
    pub flags: MapFlags,
    /// Where its pages come from; ask the source for its name.
    pub backing: Backing<P>,
    /// What it is for.
    pub kind: AreaKind,
}

/// What an area is for, as far as one can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// Nothing in particular.
    Plain,
    /// brk(2)'s.
    Heap,
    /// A stack that grows.
    Stack,
}

impl<P: Platform> AddressSpace<P> {
    /// An empty address space. Where mappings without an address go is random.
    ///
    /// # Errors
    /// `NOMEM`: past the quota, or the host has no memory.
    pub fn new(quota: &Arc<Quota>) -> Result<Self> {
        let mut seed = [0; 8];
        P::fill_random(&mut seed);
        let pages = u64::from_le_bytes(seed) & RANDOM_PAGES.saturating_sub(1);
        let top = GUEST_END.saturating_sub(STACK_ROOM).saturating_sub(pages.saturating_mul(PAGE_SIZE));
        let charge = quota.charge(SPACE_BYTES)?;
        let zero = P::zeroed_frame().ok_or(errno!(NOMEM, "the host has no memory"))?;
        let state = State {
            vmas: VmaTree::new(GuestAddr::new(top)),
            pages: Pages::new(),
            limits: MapLimits::default(),
            locks_new: MapFlags::empty(),
            tables: Tables::new(),
            heap: Heap::default(),
            most_pages: 0,
        };
        Self::with_state(quota, charge, zero, state)
    }

    fn with_state(quota: &Arc<Quota>, charge: Charge, zero: P::Frame, state: State<P>) -> Result<Self> {
        let host = P::new_space().ok_or(errno!(NOMEM, "the host has no memory"))?;
        Ok(Self { quota: Arc::clone(quota), host, zero, state: Mutex::<P, _>::new(state), _charge: charge })
    }

    /// The page tables.
    #[must_use]
    pub fn host(&self) -> &P::Space {
        &self.host
    }

    /// The book that its pages are charged to.
    #[must_use]
    pub fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Mappings without an address are put below this.
    pub fn map_top(&self) -> GuestAddr {
        self.state.lock().vmas.top()
    }

    /// How many bytes a stack may grow to. See setrlimit(2), `RLIMIT_STACK`.
    pub fn set_stack_limit(&self, bytes: u64) {
        self.state.lock().limits.stack = bytes;
    }

    /// How much may be mapped from now on.
    pub fn set_limits(&self, limits: MapLimits) {
        self.state.lock().limits = limits;
    }

    /// A copy for a child: every private page is shared until one of both writes to it. Its cost is that of one
    /// step for a thousand pages.
    ///
    /// # Errors
    /// `NOMEM`: past the quota, or the host has no memory.
    pub fn fork(&self) -> Result<Self> {
        let charge = self.quota.charge(SPACE_BYTES)?;
        let mut state = self.state.lock();
        let mut vmas = VmaTree::new(state.vmas.top());
        vmas.most.clone_from(&state.vmas.most);
        let child = State {
            vmas,
            pages: state.pages.share(&self.quota)?,
            limits: state.limits,
            locks_new: MapFlags::empty(),
            tables: Tables::new(),
            heap: state.heap,
            most_pages: 0,
        };
        let child = Self::with_state(&self.quota, charge, self.zero.clone(), child)?;
        {
            let mut copy = child.state.lock();
            for area in state.vmas.iter() {
                if area.flags.intersects(MapFlags::DONT_FORK | MapFlags::WIPE_ON_FORK) {
                    copy.pages.remove(area.range().pages(), &self.quota);
                }
                if !area.flags.contains(MapFlags::DONT_FORK) {
                    copy.vmas.insert(area.duplicate(&self.quota)?)?;
                }
            }
        }
        // Entries that let the parent write to what is shared now must go before anybody can run.
        if !state.pages.is_empty() {
            zap_all::<P>(&self.host, &mut state);
        }
        Ok(child)
    }

    /// Takes the page-table entries of `range` away. The state is borrowed as a proof that the lock is held.
    pub(super) fn zap(&self, _held: &mut State<P>, range: Option<PageRange>) {
        if let Some(range) = range {
            P::unmap(&self.host, range.start(), range.end());
        }
    }

    /// Has `most` bound the number of its areas, and of those of its copies; exec's to say, once.
    pub fn limit_areas(&self, most: &Arc<Limit>) {
        self.state.lock().vmas.most = Some(Arc::clone(most));
    }

    /// Sets where the heap begins; exec's to say, once.
    pub fn set_heap(&self, start: GuestAddr) {
        self.state.lock().heap = Heap { start, end: start };
    }

    /// Moves the end of the heap to `end`, if that can be; returns where it is then. See brk(2).
    pub fn brk(&self, end: GuestAddr) -> GuestAddr {
        let heap = self.state.lock().heap;
        let (Some(old), Some(new)) = (heap.end.page_up(), end.page_up()) else { return heap.end };
        if end < heap.start || heap.start == GuestAddr::default() {
            return heap.end;
        }
        let done = match (PageRange::between(old, new), PageRange::between(new, old)) {
            (Some(grown), _) => self.map_heap(grown),
            (None, Some(gone)) => self.unmap(gone),
            (None, None) if old == new => Ok(()),
            (None, None) => return heap.end,
        };
        if done.is_err() {
            return heap.end;
        }
        self.state.lock().heap.end = end;
        end
    }

    /// Where the heap begins and ends.
    pub fn heap(&self) -> (GuestAddr, GuestAddr) {
        let heap = self.state.lock().heap;
        (heap.start, heap.end)
    }

    /// The first area that ends after `addr`.
    pub fn area_after(&self, addr: GuestAddr) -> Option<Area<P>> {
        let state = self.state.lock();
        let area = state.vmas.find(addr).or_else(|| state.vmas.after(addr))?;
        let (range, heap) = (area.range(), state.heap);
        let kind = if area.flags.contains(MapFlags::GROWS_DOWN) {
            AreaKind::Stack
        } else if range.start() < heap.end && heap.start < range.end() {
            AreaKind::Heap
        } else {
            AreaKind::Plain
        };
        Some(Area { range, prot: area.prot, max_prot: area.max_prot, flags: area.flags, backing: area.backing.clone(), kind })
    }

    /// The areas, ascending. Holds no lock between two: what is mapped meanwhile may or may not be met.
    pub fn vmas(&self) -> impl Iterator<Item = Area<P>> + '_ {
        let mut at = GuestAddr::default();
        core::iter::from_fn(move || {
            let area = self.area_after(at)?;
            at = area.range.end();
            Some(area)
        })
    }

    /// How many areas there are.
    pub fn vma_count(&self) -> usize {
        self.state.lock().vmas.len()
    }

    /// Bytes mapped. See getrlimit(2), `RLIMIT_AS`.
    pub fn mapped_bytes(&self) -> u64 {
        self.state.lock().vmas.iter().fold(0, |sum, area| sum.saturating_add(area.range().bytes()))
    }

    /// Pages in memory, those of files included as far as this space has shown them. Walks all of them.
    pub fn resident_pages(&self) -> u64 {
        self.state.lock().count_pages()
    }

    /// Shows `tell` each page of `range` that is in memory, as [`Self::resident_pages`] counts them: its number, and whether it is the
    /// space's own, not a file's. `tell` runs under the space's lock.
    pub fn each_resident(&self, range: PageRange, mut tell: impl FnMut(u64, bool)) {
        let state = self.state.lock();
        let (mut from, end) = (range.pages().start, range.pages().end);
        while let Some((page, slot)) = state.pages.next(from, end) {
            tell(page, slot.own().is_some());
            from = page.saturating_add(1);
        }
    }

    /// The most pages that were in memory at a time: now, or before much was taken away. Walks all of them.
    pub fn most_pages(&self) -> u64 {
        let mut state = self.state.lock();
        state.count_pages();
        state.most_pages
    }

    /// Copies from the guest's memory at `addr`, whoever runs now and whatever its rights are; for exec, ptrace and /proc/PID/mem.
    ///
    /// Returns the bytes copied, fewer than asked for if a page in between cannot be had.
    ///
    /// # Errors
    /// `FAULT`: nothing is mapped at `addr`. `NOMEM`: no memory. May sleep.
    pub fn peek(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = dst.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let copied = self.at(addr, done, |at| {
                let room = PAGE_BYTES.saturating_sub(at.offset_in_page()).min(rest.len());
                let frame = self.frame_for_reading(at)?;
                Ok(frame.read(at.offset_in_page(), rest.get_mut(..room).unwrap_or_default()))
            });
            match copied {
                Ok(copied) if copied > 0 => done = done.saturating_add(copied),
                Err(error) if done == 0 => return Err(error),
                Ok(_) | Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Copies into the guest's memory at `addr`, whoever runs now and whatever its rights are, except that a shared area must be
    /// writable. Otherwise as [`Self::peek`].
    ///
    /// # Errors
    /// `FAULT`: nothing is mapped at `addr`, or it is shared and not writable. `NOMEM`: no memory. May sleep.
    pub fn poke(&self, addr: GuestAddr, src: &[u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = src.get(done..).filter(|rest| !rest.is_empty()) {
            let copied = self.at(addr, done, |at| {
                let room = PAGE_BYTES.saturating_sub(at.offset_in_page()).min(rest.len());
                let frame = self.frame_for_writing(at)?;
                Ok(frame.write(at.offset_in_page(), rest.get(..room).unwrap_or_default()))
            });
            match copied {
                Ok(copied) if copied > 0 => done = done.saturating_add(copied),
                Err(error) if done == 0 => return Err(error),
                Ok(_) | Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Replaces the word at `addr` by `new` if it is `expected`, in one step, whoever else writes there. Gives what it was.
    ///
    /// # Errors
    /// `INVAL`: no word begins at `addr`. `FAULT`: nothing that can be written is mapped there. `NOMEM`: no memory. May sleep.
    pub fn exchange(&self, addr: GuestAddr, expected: u32, new: u32) -> Result<u32> {
        if addr.get() & 3 != 0 {
            return Err(errno!(INVAL, "no word begins there"));
        }
        self.with_pages(|state, fetched| {
            let area = state.vmas.find(addr).ok_or(Missing::Unmapped)?;
            if !area.prot.contains(Prot::WRITE) {
                return Err(Missing::Unmapped);
            }
            // Under the lock, so that no fork shares the page in between.
            let frame = self.writable(state, addr, fetched)?;
            Ok(frame.exchange(addr.offset_in_page(), expected, new))
        })
    }

    fn at<T>(&self, addr: GuestAddr, done: usize, copy: impl FnOnce(GuestAddr) -> Result<T>) -> Result<T> {
        copy(addr.plus(done as u64)?)
    }

    fn frame_for_reading(&self, addr: GuestAddr) -> Result<P::Frame> {
        self.with_pages(|state, fetched| {
            let area = state.vmas.find(addr).ok_or(Missing::Unmapped)?;
            if let Some(page) = state.pages.get(addr.page()).and_then(Slot::own) {
                return Ok(page.frame.clone());
            }
            Ok(Self::backing_frame(&area.backing_at(addr), fetched)?.unwrap_or_else(|| self.zero.clone()))
        })
    }

    /// The frame at `addr` for writing; also the one that a futex in shared or private memory is known by.
    fn frame_for_writing(&self, addr: GuestAddr) -> Result<P::Frame> {
        self.with_pages(|state, fetched| self.writable(state, addr, fetched))
    }

    /// The same, under the lock.
    fn writable(&self, state: &mut State<P>, addr: GuestAddr, fetched: Option<&Fetched<P>>) -> Result<P::Frame, Missing<P>> {
        let area = state.vmas.find(addr).ok_or(Missing::Unmapped)?;
        let backing = area.backing_at(addr);
        if area.is_shared() {
            if !area.prot.contains(Prot::WRITE) {
                return Err(Missing::Unmapped);
            }
            return Self::shared_frame(&backing, fetched);
        }
        let owned = self.own_page(&mut state.pages, &backing, addr.page(), fetched)?;
        if owned.changed {
            let page = addr.page_start();
            self.zap(state, PageRange::new(page, PAGE_SIZE).ok());
        }
        Ok(owned.frame)
    }
}

impl<P: Platform> Drop for AddressSpace<P> {
    /// Entries go before the frames that they show.
    fn drop(&mut self) {
        zap_all::<P>(&self.host, self.state.get_mut());
    }
}

/// Takes all page-table entries away: where there are some, since a host walks a range of nothing, too.
fn zap_all<P: Platform>(host: &P::Space, state: &mut State<P>) {
    let at = |part: u64| GuestAddr::new(part.saturating_mul(PART_PAGES) << PAGE_SHIFT);
    let mut run: Option<(u64, u64)> = None;
    let unmap = |run: Option<(u64, u64)>| {
        if let Some((first, last)) = run {
            P::unmap(host, at(first), at(last.saturating_add(1)));
        }
    };
    for (region, table) in &mut state.tables {
        let mut shown = core::mem::take(&mut table.shown);
        while shown != 0 {
            let lowest = shown.trailing_zeros();
            let length = (shown >> lowest).trailing_ones();
            shown &= u64::MAX.checked_shl(lowest.saturating_add(length)).unwrap_or_default();
            let first = region.saturating_mul(u64::BITS.into()).saturating_add(lowest.into());
            let last = first.saturating_add(length.saturating_sub(1).into());
            run = match run {
                Some((begin, end)) if first.saturating_sub(end) <= PARTS_TOGETHER => Some((begin, last)),
                other => {
                    unmap(other);
                    Some((first, last))
                }
            };
        }
    }
    unmap(run);
}

/// A number by which a shared word can be told from others, for futexes: see [`AddressSpace::word_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WordKey {
    /// In memory that is private to this address space; its address.
    Private(GuestAddr),
    /// In a shared source: its owner ([`super::MapSource::owner`]), and the byte in it.
    Shared(usize, u64),
}

impl<P: Platform> AddressSpace<P> {
    /// What tells the word at `addr` from others, in every process that shares it. See futex(2).
    ///
    /// # Errors
    /// `FAULT`: nothing is mapped there.
    pub fn word_key(&self, addr: GuestAddr) -> Result<WordKey> {
        let state = self.state.lock();
        let area = state.vmas.find(addr).ok_or(errno!(FAULT, "nothing is mapped there"))?;
        match &area.backing {
            Backing::Source { source, index } if area.is_shared() => {
                let into = addr.since(area.range().start()).unwrap_or(0);
                let byte = index.saturating_mul(PAGE_SIZE).saturating_add(into);
                Ok(WordKey::Shared(source.owner(), byte))
            }
            Backing::Source { .. } | Backing::Anonymous => Ok(WordKey::Private(addr)),
        }
    }
}

/// A frame of `P`.
pub(super) type FrameOf<P> = <P as Frames>::Frame;
