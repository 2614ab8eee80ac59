//! What is in a pipe: bytes in frames, in the order in which they came.
//!
//! Invariants: `len + reserved <= capacity()`; the number of frames is a power of two; a frame is charged before it is made, and
//! given back when the pipe runs empty. A ring is behind its pipe's lock; nothing here waits.

use crate::fs::types::PAGE_SIZE;
use crate::platform::{Frame, Platform};
use crate::quota::{Charge, Quota};
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes that move at once from one ring to another.
const STEP: usize = 1024;
/// What the place of a frame is charged.
const SLOT_COST: u64 = 32;

/// Bytes, and who is there to read and to write them.
pub(super) struct Ring<P: Platform> {
    frames: Vec<Option<(P::Frame, Charge)>>,
    head: usize,
    len: usize,
    /// Room that somebody who fetches bytes from elsewhere will fill.
    reserved: usize,
    /// Somebody carries the first bytes elsewhere; until that is done nobody else may take any.
    pub(super) taken: bool,
    pub(super) readers: u32,
    pub(super) writers: u32,
    pub(super) reader_opens: u64,
    pub(super) writer_opens: u64,
    charge: Charge,
}

impl<P: Platform> Ring<P> {
    /// Room for `pages`, a power of two, and nothing in it.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(super) fn new(quota: &Arc<Quota>, pages: usize) -> Result<Self> {
        let charge = quota.charge(u64::try_from(pages).unwrap_or(u64::MAX).saturating_mul(SLOT_COST))?;
        let mut frames = Vec::new();
        frames.try_reserve_exact(pages).map_err(|_| errno!(NOMEM))?;
        frames.resize_with(pages, || None);
        Ok(Self {
            frames,
            head: 0,
            len: 0,
            reserved: 0,
            taken: false,
            readers: 0,
            writers: 0,
            reader_opens: 0,
            writer_opens: 0,
            charge,
        })
    }

    pub(super) fn pages(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.frames.len().saturating_mul(PAGE_SIZE)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that a reader can have now.
    pub(super) fn available(&self) -> usize {
        if self.taken { 0 } else { self.len }
    }

    /// Bytes that a writer can put now.
    pub(super) fn room(&self) -> usize {
        self.capacity().saturating_sub(self.len).saturating_sub(self.reserved)
    }

    /// What one who wants bytes finds: 0, for there are none and none will come, or how many; `None`: it has to wait.
    pub(super) fn to_have(&self) -> Option<usize> {
        match (self.available(), self.taken, self.writers) {
            (0, false, 0) => Some(0),
            (0, _, _) => None,
            (len, _, _) => Some(len),
        }
    }

    /// What one who wants to put bytes finds: nobody to read them, or how much room; `None`: it has to wait.
    pub(super) fn to_fill(&self) -> Option<Result<usize>> {
        match (self.readers, self.room()) {
            (0, _) => Some(Err(errno!(PIPE, "nobody reads from the pipe"))),
            (_, 0) => None,
            (_, room) => Some(Ok(room)),
        }
    }

    /// Keeps room for `bytes`, of which there are no more than [`Self::room`].
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.reserved = self.reserved.saturating_add(bytes);
    }

    /// Gives back what [`Self::reserve`] kept.
    pub(super) fn unreserve(&mut self, bytes: usize) {
        self.reserved = self.reserved.saturating_sub(bytes);
    }

    /// Where the byte `at` bytes from the ring's start lies: frame, offset, bytes to the frame's end.
    fn place(&self, at: usize) -> (usize, usize, usize) {
        let at = at & self.capacity().wrapping_sub(1);
        let within = at & PAGE_SIZE.wrapping_sub(1);
        (at >> 12, within, PAGE_SIZE.saturating_sub(within))
    }

    /// Puts all of `bytes`, for which there is room, or nothing.
    pub(super) fn push(&mut self, quota: &Arc<Quota>, bytes: &[u8]) -> Result<()> {
        let tail = self.head.wrapping_add(self.len);
        let mut at = 0usize;
        while at < bytes.len() {
            let (index, _, left) = self.place(tail.wrapping_add(at));
            if let Some(slot @ None) = self.frames.get_mut(index) {
                let charge = quota.charge(4096)?;
                *slot = Some((P::zeroed_frame().ok_or(errno!(NOMEM, "the host has no page"))?, charge));
            }
            at = at.saturating_add(left);
        }
        let mut at = 0usize;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (index, within, left) = self.place(tail.wrapping_add(at));
            let part = rest.get(..left).unwrap_or(rest);
            if let Some(Some((frame, _))) = self.frames.get(index) {
                frame.write(within, part);
            }
            at = at.saturating_add(part.len());
        }
        self.len = self.len.saturating_add(bytes.len());
        Ok(())
    }

    /// Copies bytes from the one `skip` bytes behind the first on, and leaves them; returns how many.
    pub(super) fn peek(&self, skip: usize, out: &mut [u8]) -> usize {
        let (index, within, left) = self.place(self.head.wrapping_add(skip));
        let len = out.len().min(left).min(self.len.saturating_sub(skip));
        match (self.frames.get(index), out.get_mut(..len)) {
            (Some(Some((frame, _))), Some(out)) => frame.read(within, out),
            _ => 0,
        }
    }

    /// Where the first bytes that a reader can have lie, as far as they lie in one frame: that, where in it, how many.
    pub(super) fn first(&self) -> Option<(P::Frame, usize, usize)> {
        let (index, within, left) = self.place(self.head);
        let len = left.min(self.available());
        let (frame, _) = self.frames.get(index)?.as_ref().filter(|_| len > 0)?;
        Some((frame.clone(), within, len))
    }

    /// Takes the first `count` bytes away.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len = self.len.saturating_sub(count);
        self.head = self.head.wrapping_add(count) & self.capacity().wrapping_sub(1);
        if self.len == 0 {
            // One frame is kept for the next small message; the rest goes back.
            self.head = 0;
            for slot in self.frames.iter_mut().skip(1) {
                *slot = None;
            }
        }
    }

    /// Has room for `pages`, a power of two, from now on.
    ///
    /// # Errors
    /// `BUSY`: more than that is in it. `NOMEM`.
    pub(super) fn resize(&mut self, quota: &Arc<Quota>, pages: usize) -> Result<()> {
        let mut new = Self::new(quota, pages)?;
        if self.len.saturating_add(self.reserved) > new.capacity() {
            return Err(errno!(BUSY, "more than that is in the pipe"));
        }
        let mut buffer = [0; STEP];
        while new.len < self.len {
            let found = self.peek(new.len, &mut buffer);
            let Some(part) = buffer.get(..found).filter(|part| !part.is_empty()) else { break };
            new.push(quota, part)?;
        }
        self.frames = new.frames;
        self.charge = new.charge;
        self.head = 0;
        Ok(())
    }
}
