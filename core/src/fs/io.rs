//! Where the bytes of a read go and those of a write come from: a kernel buffer, or ranges of guest memory.
//!
//! Both are cursors: what was moved is counted in `done` and never moved again. A guest copy may fault, and a fault takes the
//! address space's lock, so a caller holds no lock of rank "rename" or inner around [`IoDst::put`] and [`IoSrc::take`].
//! Hostile input: every address and length. A fault ends the transfer; what was done before it counts (`vfs_read` in Linux).

use super::types::TRANSFER_MAX;
use crate::mm::{GuestAddr, user};
use crate::platform::{Frame, UserCopy};
use crate::{errno, error::Result};
use core::fmt;
use core::marker::PhantomData;

/// Bytes that go through the stack at once between a frame and a guest.
pub const BOUNCE: usize = 1024;

/// What a transfer of no more than so many bytes goes through: most writes to pipes and terminals are a few words, and a buffer is
/// filled with zeros before it is used.
const SMALL: usize = 64;

/// Gives `act` a buffer for a transfer of `len` bytes in parts: no larger than [`BOUNCE`].
pub(super) fn with_bounce<T>(len: usize, act: impl FnOnce(&mut [u8]) -> T) -> T {
    if len <= SMALL { act(&mut [0; SMALL]) } else { act(&mut [0; BOUNCE]) }
}

/// One range of guest memory, as readv(2)'s iovec names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    /// Its first byte.
    pub addr: GuestAddr,
    /// Its length.
    pub len: usize,
}

/// Position in a list of guest ranges.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    ranges: &'a [GuestRange],
    /// Bytes used of the first of `ranges`.
    used: usize,
}

impl Cursor<'_> {
    /// The next range that is not empty, from the present place.
    #[inline]
    fn current(&mut self) -> Option<GuestRange> {
        loop {
            let (first, rest) = self.ranges.split_first()?;
            let left = first.len.saturating_sub(self.used);
            if left > 0 {
                let addr = GuestAddr::new(first.addr.get().checked_add(u64::try_from(self.used).ok()?)?);
                return Some(GuestRange { addr, len: left });
            }
            self.ranges = rest;
            self.used = 0;
        }
    }

    #[inline]
    fn advance(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
    }
}

/// Adds up the ranges' lengths.
///
/// # Errors
/// `INVAL`: the sum is above what a signed size can hold. See readv(2).
#[inline]
pub fn total_len(ranges: &[GuestRange]) -> Result<usize> {
    ranges
        .iter()
        .try_fold(0usize, |sum, range| sum.checked_add(range.len).filter(|sum| isize::try_from(*sum).is_ok()))
        .ok_or(errno!(INVAL, "the lengths add up to too much"))
}

enum DstKind<'a> {
    Kernel(&'a mut [u8]),
    Guest(Cursor<'a>),
}

/// Where a read's bytes go.
pub struct IoDst<'a, P> {
    kind: DstKind<'a>,
    remaining: usize,
    done: usize,
    faulted: bool,
    platform: PhantomData<fn() -> P>,
}

impl<P> fmt::Debug for IoDst<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoDst").field("remaining", &self.remaining).field("done", &self.done).finish_non_exhaustive()
    }
}

impl<'a, P: UserCopy> IoDst<'a, P> {
    /// Into a buffer of the library OS.
    #[must_use]
    pub fn kernel(buf: &'a mut [u8]) -> Self {
        let remaining = buf.len().min(TRANSFER_MAX);
        Self { kind: DstKind::Kernel(buf), remaining, done: 0, faulted: false, platform: PhantomData }
    }

    /// Into guest memory, one range after the other; at most [`TRANSFER_MAX`] bytes.
    ///
    /// # Errors
    /// `INVAL`: see [`total_len`].
    pub fn guest(ranges: &'a [GuestRange]) -> Result<Self> {
        let remaining = total_len(ranges)?.min(TRANSFER_MAX);
        let kind = DstKind::Guest(Cursor { ranges, used: 0 });
        Ok(Self { kind, remaining, done: 0, faulted: false, platform: PhantomData })
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Bytes put so far.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether a guest copy ended early; nothing more can be put.
    #[must_use]
    pub fn faulted(&self) -> bool {
        self.faulted
    }

    /// Puts as much of `bytes` as fits and can be copied; returns how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let mut put = 0usize;
        while let Some(rest) = bytes.get(put..).filter(|rest| !rest.is_empty() && !self.faulted && self.remaining > 0) {
            let rest = rest.get(..self.remaining).unwrap_or(rest);
            let copied = match &mut self.kind {
                DstKind::Kernel(buf) => {
                    let Some(target) = buf.get_mut(self.done..) else { break };
                    let len = target.len().min(rest.len());
                    if let (Some(target), Some(source)) = (target.get_mut(..len), rest.get(..len)) {
                        target.copy_from_slice(source);
                    }
                    len
                }
                DstKind::Guest(cursor) => {
                    let Some(range) = cursor.current() else {
                        self.faulted = true;
                        break;
                    };
                    let part = rest.get(..range.len).unwrap_or(rest);
                    let copied = user::copy_out::<P>(range.addr, part);
                    cursor.advance(copied);
                    self.faulted = copied < part.len();
                    copied
                }
            };
            self.done = self.done.saturating_add(copied);
            self.remaining = self.remaining.saturating_sub(copied);
            put = put.saturating_add(copied);
            if copied == 0 {
                break;
            }
        }
        put
    }

    /// Puts `len` bytes of `frame` from `offset` on, or as much as fits and can be copied; returns how many.
    pub fn put_frame(&mut self, frame: &P::Frame, offset: usize, len: usize) -> usize {
        let mut put = 0usize;
        while put < len && !self.faulted && self.remaining > 0 {
            let (from, len) = (offset.saturating_add(put), len.saturating_sub(put).min(self.remaining));
            let (copied, part) = match &mut self.kind {
                DstKind::Kernel(buf) => {
                    let target = buf.get_mut(self.done..).unwrap_or_default();
                    let len = len.min(target.len());
                    (frame.read(from, target.get_mut(..len).unwrap_or_default()), len)
                }
                DstKind::Guest(cursor) => {
                    let Some(range) = cursor.current() else {
                        self.faulted = true;
                        break;
                    };
                    let len = len.min(range.len);
                    let copied = user::copy_frame_out::<P>(range.addr, frame, from, len);
                    cursor.advance(copied);
                    self.faulted = copied < len;
                    (copied, len)
                }
            };
            self.done = self.done.saturating_add(copied);
            self.remaining = self.remaining.saturating_sub(copied);
            put = put.saturating_add(copied);
            if copied < part || copied == 0 {
                break;
            }
        }
        put
    }

    /// Puts `len` zero bytes, or as many as fit; returns how many.
    pub fn put_zeros(&mut self, len: usize) -> usize {
        static ZEROS: [u8; BOUNCE] = [0; BOUNCE];
        let mut put = 0usize;
        while put < len {
            let part = len.saturating_sub(put).min(BOUNCE);
            let copied = self.put(ZEROS.get(..part).unwrap_or(&ZEROS));
            put = put.saturating_add(copied);
            if copied < part {
                break;
            }
        }
        put
    }

    /// The result of a read that put what it could since `start`, a former [`IoDst::done`].
    ///
    /// # Errors
    /// `FAULT`: nothing was put because the guest's memory is not accessible.
    pub fn outcome(&self, start: usize) -> Result<usize> {
        let done = self.done.saturating_sub(start);
        if done == 0 && self.faulted { Err(errno!(FAULT)) } else { Ok(done) }
    }
}

enum SrcKind<'a> {
    Kernel(&'a [u8]),
    Guest(Cursor<'a>),
}

/// How far a write has come.
pub(super) struct SrcPlace<'a> {
    cursor: Option<Cursor<'a>>,
    remaining: usize,
    done: usize,
    faulted: bool,
}

/// Where a write's bytes come from.
pub struct IoSrc<'a, P> {
    kind: SrcKind<'a>,
    remaining: usize,
    done: usize,
    faulted: bool,
    limit: u64,
    platform: PhantomData<fn() -> P>,
}

impl<P> fmt::Debug for IoSrc<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoSrc").field("remaining", &self.remaining).field("done", &self.done).finish_non_exhaustive()
    }
}

impl<'a, P: UserCopy> IoSrc<'a, P> {
    /// From a buffer of the library OS.
    #[must_use]
    pub fn kernel(buf: &'a [u8]) -> Self {
        let remaining = buf.len().min(TRANSFER_MAX);
        Self { kind: SrcKind::Kernel(buf), remaining, done: 0, faulted: false, limit: u64::MAX, platform: PhantomData }
    }

    /// From guest memory, one range after the other; at most [`TRANSFER_MAX`] bytes.
    ///
    /// # Errors
    /// `INVAL`: see [`total_len`].
    pub fn guest(ranges: &'a [GuestRange]) -> Result<Self> {
        let remaining = total_len(ranges)?.min(TRANSFER_MAX);
        let kind = SrcKind::Guest(Cursor { ranges, used: 0 });
        Ok(Self { kind, remaining, done: 0, faulted: false, limit: u64::MAX, platform: PhantomData })
    }

    /// The same for a writer whose regular files end at `limit`. See getrlimit(2), `RLIMIT_FSIZE`.
    #[must_use]
    pub fn within(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Where the writer's files end; `u64::MAX` if nowhere.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Leaves out what is past the next `room` bytes.
    pub(super) fn shorten(&mut self, room: u64) {
        self.remaining = usize::try_from(room).map_or(self.remaining, |room| self.remaining.min(room));
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether a guest copy ended early; nothing more can be taken.
    #[must_use]
    pub fn faulted(&self) -> bool {
        self.faulted
    }

    /// Fills `buf` from the front with what is left and can be copied; returns how many bytes.
    pub fn take(&mut self, buf: &mut [u8]) -> usize {
        let mut taken = 0usize;
        while !self.faulted && self.remaining > 0 {
            let Some(room) = buf.get_mut(taken..).filter(|room| !room.is_empty()) else { break };
            let len = room.len().min(self.remaining);
            let Some(room) = room.get_mut(..len) else { break };
            let copied = match &mut self.kind {
                SrcKind::Kernel(source) => {
                    let source = source.get(self.done..).unwrap_or_default();
                    let len = source.len().min(room.len());
                    if let (Some(room), Some(source)) = (room.get_mut(..len), source.get(..len)) {
                        room.copy_from_slice(source);
                    }
                    len
                }
                SrcKind::Guest(cursor) => {
                    let Some(range) = cursor.current() else {
                        self.faulted = true;
                        break;
                    };
                    let len = room.len().min(range.len);
                    let Some(room) = room.get_mut(..len) else { break };
                    let copied = user::copy_in::<P>(room, range.addr);
                    cursor.advance(copied);
                    self.faulted = copied < len;
                    copied
                }
            };
            self.done = self.done.saturating_add(copied);
            self.remaining = self.remaining.saturating_sub(copied);
            taken = taken.saturating_add(copied);
            if copied == 0 {
                break;
            }
        }
        taken
    }

    /// Fills the `len` bytes of `frame` from `offset` on with what is left and can be copied; returns how many bytes.
    pub fn take_to_frame(&mut self, frame: &P::Frame, offset: usize, len: usize) -> usize {
        let mut taken = 0usize;
        while taken < len && !self.faulted && self.remaining > 0 {
            let (to, len) = (offset.saturating_add(taken), len.saturating_sub(taken).min(self.remaining));
            let (copied, part) = match &mut self.kind {
                SrcKind::Kernel(source) => {
                    let source = source.get(self.done..).unwrap_or_default();
                    (frame.write(to, source.get(..len).unwrap_or(source)), len)
                }
                SrcKind::Guest(cursor) => {
                    let Some(range) = cursor.current() else {
                        self.faulted = true;
                        break;
                    };
                    let len = len.min(range.len);
                    let copied = user::copy_frame_in::<P>(frame, to, range.addr, len);
                    cursor.advance(copied);
                    self.faulted = copied < len;
                    (copied, len)
                }
            };
            self.done = self.done.saturating_add(copied);
            self.remaining = self.remaining.saturating_sub(copied);
            taken = taken.saturating_add(copied);
            if copied < part {
                break;
            }
        }
        taken
    }

    /// The present place, to [go back](Self::go_back) to.
    pub(super) fn place(&self) -> SrcPlace<'a> {
        let cursor = match &self.kind {
            SrcKind::Kernel(_) => None,
            SrcKind::Guest(cursor) => Some(*cursor),
        };
        SrcPlace { cursor, remaining: self.remaining, done: self.done, faulted: self.faulted }
    }

    /// Makes what was taken since `place` left again.
    pub(super) fn go_back(&mut self, place: &SrcPlace<'a>) {
        (self.remaining, self.done, self.faulted) = (place.remaining, place.done, place.faulted);
        if let (SrcKind::Guest(cursor), Some(place)) = (&mut self.kind, place.cursor) {
            *cursor = place;
        }
    }

    /// Takes `len` bytes and forgets them without looking, as /dev/null does; returns how many there were.
    pub fn skip(&mut self, len: usize) -> usize {
        let skipped = len.min(self.remaining);
        let mut left = skipped;
        if let SrcKind::Guest(cursor) = &mut self.kind {
            while let Some(range) = (left > 0).then(|| cursor.current()).flatten() {
                let part = range.len.min(left);
                cursor.advance(part);
                left = left.saturating_sub(part);
            }
        }
        self.done = self.done.saturating_add(skipped);
        self.remaining = self.remaining.saturating_sub(skipped);
        skipped
    }

    /// The result of a write that took what it could since `start`, a former [`IoSrc::done`].
    ///
    /// # Errors
    /// `FAULT`: nothing was taken because the guest's memory is not accessible.
    pub fn outcome(&self, start: usize) -> Result<usize> {
        let done = self.done.saturating_sub(start);
        if done == 0 && self.faulted { Err(errno!(FAULT)) } else { Ok(done) }
    }
}
