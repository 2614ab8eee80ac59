//! The bytes of an image, out of the host's file.
//!
//! Invariants: nothing past the length that the file had when it was opened is read; one that is shorter by now gives `IO`. The file may
//! change meanwhile, so whoever reads twice checks twice. Locks: none; [`Store::read`] may sleep, [`Store::peek`] does not.

use super::layout::{SUPER_AT, SUPER_BYTES, SuperBlock};
use crate::fs::crc::crc32c;
use crate::fs::host::HostFile;
use crate::fs::inode::Blocking;
use crate::fs::types::{PAGE_SIZE, PAGE_SIZE_U64};
use crate::platform::{Frame, Platform};
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The file, and what its superblock says.
#[derive(Debug)]
pub(super) struct Store<P: Platform> {
    file: Arc<dyn HostFile<P>>,
    len: u64,
    pub(super) about: SuperBlock,
}

impl<P: Platform> Store<P> {
    /// Looks at the superblock of `file`, of `len` bytes.
    ///
    /// # Errors
    /// Those of [`SuperBlock::parse`]; `UCLEAN` for a wrong checksum. `IO`, and those of the host.
    pub(super) fn open(file: Arc<dyn HostFile<P>>, len: u64) -> Result<Self> {
        let mut bytes = [0; SUPER_BYTES];
        read(&*file, len, SUPER_AT, &mut bytes)?;
        let store = Self { file, len, about: SuperBlock::parse(&bytes)? };
        if let Some(expected) = store.about.checksum {
            let block = usize::try_from(store.about.block()).unwrap_or(PAGE_SIZE);
            let start = usize::try_from(SUPER_AT).unwrap_or(0);
            // From behind the checksum itself to the end of its block; a small block begins with the superblock.
            let covered = block.checked_sub(start).filter(|left| *left > 0).unwrap_or(block).saturating_sub(8);
            let bytes = store.vec(SUPER_AT.saturating_add(8), covered)?;
            // What the magic number and a checksum of zero come to.
            if crc32c(0x5045_b54a, &bytes) != expected {
                return Err(errno!(UCLEAN, "the image's checksum is wrong"));
            }
        }
        Ok(store)
    }

    /// The host's file.
    pub(super) fn file(&self) -> &dyn HostFile<P> {
        &*self.file
    }

    /// Fills `dst` from `at` on.
    ///
    /// # Errors
    /// `UCLEAN`: that is past the image's end. `IO`: the file is shorter by now. Those of the host.
    pub(super) fn read(&self, at: u64, dst: &mut [u8]) -> Result<()> {
        read(&*self.file, self.len, at, dst)
    }

    /// As [`Self::read`], into memory of the heap.
    ///
    /// # Errors
    /// The same, and `NOMEM`.
    pub(super) fn vec(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = zeros(len)?;
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`Self::read`], of what the host has in memory; false if that is not all of it.
    pub(super) fn peek(&self, at: u64, dst: &mut [u8]) -> bool {
        end_of(self.len, at, dst.len()).is_ok() && peek(&*self.file, at, dst)
    }
}

/// Zeros on the heap.
///
/// # Errors
/// `NOMEM`.
pub(super) fn zeros(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| errno!(NOMEM))?;
    bytes.resize(len, 0);
    Ok(bytes)
}

fn end_of(len: u64, at: u64, count: usize) -> Result<u64> {
    let end = u64::try_from(count).ok().and_then(|count| at.checked_add(count));
    end.filter(|end| *end <= len).ok_or(errno!(UCLEAN, "past the end of the image"))
}

fn read<P: Platform>(file: &dyn HostFile<P>, len: u64, at: u64, dst: &mut [u8]) -> Result<()> {
    end_of(len, at, dst.len())?;
    if peek(file, at, dst) {
        return Ok(());
    }
    let (mut at, mut rest) = (at, dst);
    while !rest.is_empty() {
        let count = file.read(at, rest, Blocking::Yes)?.min(rest.len());
        if count == 0 {
            return Err(errno!(IO, "the image became shorter"));
        }
        at = at.saturating_add(u64::try_from(count).unwrap_or(0));
        rest = rest.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

fn peek<P: Platform>(file: &dyn HostFile<P>, at: u64, dst: &mut [u8]) -> bool {
    let (mut at, mut rest) = (at, dst);
    while !rest.is_empty() {
        let Some(frame) = file.cached(at / PAGE_SIZE_U64) else { return false };
        let within = usize::try_from(at % PAGE_SIZE_U64).unwrap_or(0);
        let count = rest.len().min(PAGE_SIZE.saturating_sub(within));
        let (part, left) = rest.split_at_mut(count);
        if frame.read(within, part) != count {
            return false;
        }
        at = at.saturating_add(u64::try_from(count).unwrap_or(0));
        rest = left;
    }
    true
}
