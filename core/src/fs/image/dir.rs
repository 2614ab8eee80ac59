//! Directories of an image: blocks of entries, sorted by name, each followed by its names.
//!
//! Invariants: a name that is given out is one, of 1 to 255 bytes without slash and NUL. Hostile input: offsets of names, counts, and
//! blocks in no order, in which a name may not be found. Cookies are byte offsets, as Linux has them. Source: Linux fs/erofs/{dir,namei}.c.

use super::content::{Entry, Mounted};
use super::layout::{entry_kind, u8_at, u16_at, u64_at};
use super::store::zeros;
use crate::fs::inode::{DirEntry, DirSink};
use crate::fs::types::{FileKind, NAME_MAX, Name};
use crate::platform::Platform;
use crate::{errno, error::Error, error::Result};
use alloc::vec::Vec;
use core::cmp::Ordering;

const ENTRY_BYTES: usize = 12;
const ENTRY_BYTES_U64: u64 = 12;

fn damaged() -> Error {
    errno!(UCLEAN, "a directory of the image is damaged")
}

/// A block of entries.
struct Block {
    bytes: Vec<u8>,
    count: usize,
}

impl Block {
    fn new(bytes: Vec<u8>) -> Result<Self> {
        let names_at = usize::from(u16_at(&bytes, 8)?);
        let is_sound = names_at > 0 && names_at < bytes.len() && names_at % ENTRY_BYTES == 0;
        if is_sound { Ok(Self { count: names_at / ENTRY_BYTES, bytes }) } else { Err(damaged()) }
    }

    fn name_at(&self, which: usize) -> Result<usize> {
        u16_at(&self.bytes, which.saturating_mul(ENTRY_BYTES).saturating_add(8)).map(usize::from)
    }

    fn name(&self, which: usize) -> Result<&[u8]> {
        let start = self.name_at(which)?;
        let next = which.saturating_add(1);
        let name = if next < self.count {
            self.bytes.get(start..self.name_at(next)?)
        } else {
            // The last one ends with the block, or before zeros.
            self.bytes.get(start..).and_then(|rest| rest.split(|byte| *byte == 0).next())
        };
        let is_name = |name: &&[u8]| (1..=NAME_MAX).contains(&name.len()) && !name.iter().any(|byte| matches!(byte, b'/' | 0));
        name.filter(is_name).ok_or_else(damaged)
    }

    fn number(&self, which: usize) -> Result<u64> {
        u64_at(&self.bytes, which.saturating_mul(ENTRY_BYTES))
    }

    fn kind(&self, which: usize) -> Result<Option<FileKind>> {
        u8_at(&self.bytes, which.saturating_mul(ENTRY_BYTES).saturating_add(10)).map(entry_kind)
    }
}

impl<P: Platform> Mounted<P> {
    /// The block of `dir` that begins at `at`, which is before its end.
    fn block(&self, dir: &Entry, at: u64) -> Result<Block> {
        let len = dir.node.size.saturating_sub(at).min(self.store().about.block());
        let mut bytes = zeros(usize::try_from(len).unwrap_or(0))?;
        self.read(dir, at, &mut bytes)?;
        Block::new(bytes)
    }

    /// The number of the file `name` in `dir`.
    ///
    /// # Errors
    /// `NOENT`. `UCLEAN`: damaged. Those of [`Mounted::read`].
    pub(super) fn find(&self, dir: &Entry, name: Name<'_>) -> Result<u64> {
        let wanted = name.as_bytes();
        let unit = self.store().about.block();
        // The last block whose first name is not behind the one that is wanted.
        let (mut low, mut high, mut found) = (0u64, dir.node.size.div_ceil(unit), None);
        while low < high {
            let middle = low.midpoint(high);
            let block = self.block(dir, middle.saturating_mul(unit))?;
            match block.name(0)?.cmp(wanted) {
                Ordering::Greater => high = middle,
                Ordering::Equal => return block.number(0),
                Ordering::Less => {
                    low = middle.saturating_add(1);
                    found = Some(block);
                }
            }
        }
        let Some(block) = found else { return Err(errno!(NOENT)) };
        let (mut low, mut high) = (1usize, block.count);
        while low < high {
            let middle = low.midpoint(high);
            match block.name(middle)?.cmp(wanted) {
                Ordering::Greater => high = middle,
                Ordering::Equal => return block.number(middle),
                Ordering::Less => low = middle.saturating_add(1),
            }
        }
        Err(errno!(NOENT))
    }

    /// Gives the entries of `dir` from `cookie` on to `sink`; returns the cookie to go on with.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(super) fn list(&self, dir: &Entry, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        let unit = self.store().about.block();
        let mut at = cookie;
        while at < dir.node.size {
            let start = at.saturating_sub(self.store().about.within_block(at));
            let block = self.block(dir, start)?;
            let first = usize::try_from(at.saturating_sub(start).div_ceil(ENTRY_BYTES_U64)).unwrap_or(usize::MAX);
            for which in first..block.count {
                let (name, number) = (block.name(which)?, block.number(which)?);
                let kind = match block.kind(which)? {
                    Some(kind) => kind,
                    None => self.entry(number)?.node.kind,
                };
                let after = which.saturating_add(1);
                let within = u64::try_from(after).unwrap_or(0).saturating_mul(ENTRY_BYTES_U64);
                let next = start.saturating_add(if after == block.count { unit } else { within });
                if !sink(DirEntry { name, number, kind, next }) {
                    return Ok(at);
                }
                at = next;
            }
            at = start.saturating_add(unit);
        }
        let end = dir.node.size.div_ceil(unit).saturating_mul(unit);
        if dir.node.omits_dot && at == end {
            let next = at.saturating_add(1);
            if sink(DirEntry { name: b".", number: dir.number, kind: FileKind::Directory, next }) {
                at = next;
            }
        }
        Ok(at)
    }
}
