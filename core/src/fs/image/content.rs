//! The content of an image's files, by page and by byte.
//!
//! A whole block that is not compressed is a page of the host's file, and is shown as it is. All else is made: decompressed, gathered
//! from pieces, or followed by zeros; the cache keeps it. Making one page makes those behind it in its [`WINDOW`] too, since clusters
//! and pages have no common borders. Invariants: memory for a cluster is charged while it is used. Locks: none held while the host
//! reads. Fragments lie in one further file, which has none itself, so that no read goes deeper than that.

use super::cache::{Cache, New, Owner};
use super::layout::{COMPACT_BYTES, INODE_BYTES, Layout, Node};
use super::packed::{self, Extent, Form, Held};
use super::place::{self, Run};
use super::store::{Store, zeros};
use super::{Image, lz4};
use crate::error::Errno;
use crate::fs::io::BOUNCE;
use crate::fs::types::{DeviceId, PAGE_SIZE, PAGE_SIZE_U64};
use crate::platform::{Frame, Platform};
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Pages, aligned to as many, that are made at once.
const WINDOW: u64 = 16;
/// How far behind the page that is asked for a cluster is decompressed that reaches out of its window.
const AHEAD: u64 = 1 << 20;

/// An image as one sandbox has it mounted.
pub(super) struct Mounted<P: Platform> {
    pub(super) image: Arc<Image<P>>,
    pub(super) device: DeviceId,
    pub(super) owner: Arc<Owner>,
}

/// A file of the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) node: Node,
}

impl Entry {
    fn is_packed(&self) -> bool {
        matches!(self.node.layout, Layout::Packed | Layout::PackedCompact)
    }
}

impl<P: Platform> Mounted<P> {
    pub(super) fn store(&self) -> &Store<P> {
        &self.image.store
    }

    fn cache(&self) -> &Cache<P> {
        &self.image.cache
    }

    /// The file `number`.
    ///
    /// # Errors
    /// `OPNOTSUPP`, `UCLEAN`: see [`Node::parse`]. Those of the host.
    pub(super) fn entry(&self, number: u64) -> Result<Entry> {
        let store = self.store();
        let at = store.about.inode_at(number)?;
        let mut bytes = [0; INODE_BYTES];
        let short = bytes.first_chunk_mut::<COMPACT_BYTES>().ok_or(errno!(UCLEAN))?;
        store.read(at, short)?;
        // The lowest bit tells the long form.
        if short.first().is_some_and(|low| low & 1 != 0) {
            store.read(at, &mut bytes)?;
        }
        Ok(Entry { number, node: Node::parse(&store.about, at, &bytes)? })
    }

    /// The run of an uncompressed file at `offset`.
    fn run(&self, entry: &Entry, offset: u64) -> Result<Run> {
        place::find(&self.store().about, &entry.node, offset, |at, dst| self.store().read(at, dst))
    }

    /// Which page of the host's file is page `index` of `entry`, if one is. `read` is as for [`place::find`].
    fn direct(&self, entry: &Entry, index: u64, read: impl FnOnce(u64, &mut [u8]) -> Result<()>) -> Result<Option<u64>> {
        if entry.is_packed() {
            return Ok(None);
        }
        let Some(start) = index.checked_mul(PAGE_SIZE_U64) else { return Ok(None) };
        if entry.node.size.saturating_sub(start) < PAGE_SIZE_U64 {
            return Ok(None);
        }
        let run = place::find(&self.store().about, &entry.node, start, read)?;
        let at = run.at.filter(|at| at % PAGE_SIZE_U64 == 0 && run.len >= PAGE_SIZE_U64);
        Ok(at.map(|at| at / PAGE_SIZE_U64))
    }

    /// Page `index` if it is in memory. Does not wait.
    pub(super) fn resident(&self, entry: &Entry, index: u64) -> Option<P::Frame> {
        let peek = |at, dst: &mut [u8]| if self.store().peek(at, dst) { Ok(()) } else { Err(errno!(AGAIN)) };
        match self.direct(entry, index, peek) {
            Ok(Some(page)) => self.store().file().resident(page),
            Ok(None) => self.cache().get((entry.number, index)),
            Err(_) => None,
        }
    }

    /// Page `index`, with zeros behind the end of the file.
    ///
    /// # Errors
    /// `FAULT`: past the end. `NOMEM`. `UCLEAN`, `OPNOTSUPP`: damaged, or of a form that is not built. Those of the host.
    pub(super) fn page(&self, entry: &Entry, index: u64) -> Result<P::Frame> {
        let start = index.checked_mul(PAGE_SIZE_U64).filter(|start| *start < entry.node.size);
        let start = start.ok_or(errno!(FAULT, "past the end of the file"))?;
        if let Some(page) = self.direct(entry, index, |at, dst| self.store().read(at, dst))? {
            match self.store().file().page(page) {
                // Its file system has no page cache.
                Err(error) if error.is(Errno::NODEV) => {}
                found => return found,
            }
        }
        if let Some(frame) = self.cache().get((entry.number, index)) {
            return Ok(frame);
        }
        if entry.is_packed() { self.unpack(entry, index, start) } else { self.gather(entry, index, start) }
    }

    /// Makes a page of an uncompressed file.
    fn gather(&self, entry: &Entry, index: u64, start: u64) -> Result<P::Frame> {
        let new = self.cache().page(&self.owner)?;
        let (mut at, end) = (start, entry.node.size.min(start.saturating_add(PAGE_SIZE_U64)));
        let mut buffer = [0; BOUNCE];
        while at < end {
            let run = self.run(entry, at)?;
            let len = run.len.min(end.saturating_sub(at));
            if let Some(from) = run.at {
                let len = usize::try_from(len).unwrap_or(BOUNCE).min(BOUNCE);
                let part = buffer.get_mut(..len).unwrap_or_default();
                self.store().read(from, part)?;
                new.frame.write(within(at), part);
                at = at.saturating_add(u64::try_from(len).unwrap_or(0));
            } else {
                at = at.saturating_add(len);
            }
        }
        Ok(self.cache().put((entry.number, index), &self.owner, new))
    }

    /// Makes page `index`, which begins at `start`, of a compressed file; where there is memory, with those of its window.
    fn unpack(&self, entry: &Entry, index: u64, start: u64) -> Result<P::Frame> {
        match self.unpack_window(entry, index, start, true) {
            Err(error) if error.is(Errno::NOMEM) => self.unpack_window(entry, index, start, false),
            done => done,
        }
    }

    fn unpack_window(&self, entry: &Entry, index: u64, start: u64, is_wide: bool) -> Result<P::Frame> {
        let mut window =
            index.checked_next_multiple_of(WINDOW).filter(|next| *next > index).unwrap_or(index.saturating_add(WINDOW));
        window = window.saturating_mul(PAGE_SIZE_U64).min(entry.node.size);
        let needed = start.saturating_add(PAGE_SIZE_U64).min(entry.node.size);
        if !is_wide {
            window = needed;
        }
        let (mut at, mut pages): (u64, Vec<New<P>>) = (start, Vec::new());
        while at < window {
            let extent = packed::find(self.store(), &entry.node, at)?;
            let end = extent.start.saturating_add(extent.len);
            if at == start && is_wide {
                window = window.max(end.min(start.saturating_add(AHEAD)));
            }
            match self.add(entry, &extent, start, (at, end.min(window)), &mut pages) {
                Ok(()) => at = end.min(window),
                // What was asked for is there; this was more.
                Err(_) if at >= needed => break,
                Err(error) => return Err(error),
            }
        }
        let whole = pages.into_iter().zip(index..).filter(|(_, index)| {
            let end = index.saturating_add(1).saturating_mul(PAGE_SIZE_U64).min(entry.node.size);
            end <= at
        });
        let mut first = None;
        for (new, at) in whole {
            let frame = self.cache().put((entry.number, at), &self.owner, new);
            if at == index {
                first = Some(frame);
            }
        }
        first.ok_or(errno!(UCLEAN, "a compressed page that is not whole"))
    }

    /// Writes the bytes from `from` to `to` of the file, which `extent` holds, into `pages`, the first of which begins at `start`.
    fn add(&self, entry: &Entry, extent: &Extent, start: u64, (from, to): (u64, u64), pages: &mut Vec<New<P>>) -> Result<()> {
        let count = to.saturating_sub(start).div_ceil(PAGE_SIZE_U64);
        while u64::try_from(pages.len()).is_ok_and(|len| len < count) {
            pages.try_reserve(1).map_err(|_| errno!(NOMEM))?;
            pages.push(self.cache().page(&self.owner)?);
        }
        let skipped = size(from.saturating_sub(extent.start))?;
        let wanted = size(to.saturating_sub(extent.start))?;
        // Fragments and clusters lie at offsets of their own; the book is for both buffers.
        let packed = match extent.held {
            Held::Hole => return Ok(()),
            Held::Cluster { len, .. } => len,
            Held::Fragment(_) => 0,
        };
        let wanted_bytes = u64::try_from(wanted).unwrap_or(u64::MAX);
        let _charge = self.owner.quota().charge(packed.saturating_add(wanted_bytes))?;
        let bytes = self.bytes(entry, extent, wanted)?;
        let mut rest = bytes.get(skipped..).unwrap_or_default();
        let mut at = from;
        while !rest.is_empty() {
            let page = size(at.saturating_sub(start) / PAGE_SIZE_U64)?;
            let len = rest.len().min(PAGE_SIZE.saturating_sub(within(at)));
            let (part, left) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            pages.get(page).ok_or(errno!(UCLEAN))?.frame.write(within(at), part);
            at = at.saturating_add(u64::try_from(len).unwrap_or(0));
            rest = left;
        }
        Ok(())
    }

    /// The first `wanted` bytes of an extent.
    fn bytes(&self, entry: &Entry, extent: &Extent, wanted: usize) -> Result<Vec<u8>> {
        match extent.held {
            Held::Hole => zeros(wanted),
            Held::Fragment(offset) => {
                let about = &self.store().about;
                if entry.number == about.fragments {
                    return Err(errno!(UCLEAN, "the file of fragments has a fragment"));
                }
                let mut bytes = zeros(wanted)?;
                self.read(&self.entry(about.fragments)?, offset, &mut bytes)?;
                Ok(bytes)
            }
            Held::Cluster { at, len, form } => {
                let mut packed = self.store().vec(at, size(len)?)?;
                let block = self.store().about.block();
                match form {
                    Form::Plain => packed.truncate(wanted),
                    Form::Rotated => {
                        let last = size(block.saturating_sub(extent.start & block.wrapping_sub(1)))?;
                        let middle = packed.len().checked_sub(last).ok_or(errno!(UCLEAN, "a cluster of less than a block"))?;
                        packed.rotate_left(middle);
                        packed.truncate(wanted);
                    }
                    Form::Lz4 => {
                        // It stands at the end; zeros before it, less than a block.
                        let most = size(block.saturating_sub(self.store().about.within_block(at)))?;
                        let padding = packed.iter().take(most).take_while(|byte| **byte == 0).count();
                        let mut bytes = zeros(wanted)?;
                        lz4::decode(packed.get(padding..).unwrap_or_default(), &mut bytes)?;
                        return Ok(bytes);
                    }
                }
                if packed.len() == wanted { Ok(packed) } else { Err(errno!(UCLEAN, "a cluster with less than it should hold")) }
            }
        }
    }

    /// Fills `dst` with the content from `offset` on, all of which is before the end.
    ///
    /// # Errors
    /// `UCLEAN`: it is not. Those of [`Self::page`].
    pub(super) fn read(&self, entry: &Entry, offset: u64, dst: &mut [u8]) -> Result<()> {
        let (mut at, mut rest) = (offset, dst);
        while !rest.is_empty() {
            let left =
                entry.node.size.checked_sub(at).filter(|left| *left > 0).ok_or(errno!(UCLEAN, "past the end of a file"))?;
            let room = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = if entry.is_packed() {
                let frame = self.page(entry, at / PAGE_SIZE_U64)?;
                let count = room.min(PAGE_SIZE.saturating_sub(within(at)));
                frame.read(within(at), rest.get_mut(..count).unwrap_or_default());
                count
            } else {
                let run = self.run(entry, at)?;
                let count = room.min(usize::try_from(run.len).unwrap_or(usize::MAX));
                let part = rest.get_mut(..count).unwrap_or_default();
                match run.at {
                    Some(from) => self.store().read(from, part)?,
                    None => part.fill(0),
                }
                count
            };
            at = at.saturating_add(u64::try_from(count).unwrap_or(0));
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Where the bytes at `offset` lie side by side in the host's file, and how many, if the page there is one of that file.
    pub(super) fn in_file(&self, entry: &Entry, offset: u64) -> Result<Option<(u64, u64)>> {
        let read = |at, dst: &mut [u8]| self.store().read(at, dst);
        if self.direct(entry, offset / PAGE_SIZE_U64, read)?.is_none() {
            return Ok(None);
        }
        let run = self.run(entry, offset)?;
        Ok(run.at.map(|at| (at, run.len)))
    }
}

fn within(offset: u64) -> usize {
    usize::try_from(offset % PAGE_SIZE_U64).unwrap_or(0)
}

fn size(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_large| errno!(UCLEAN, "more than there can be"))
}
