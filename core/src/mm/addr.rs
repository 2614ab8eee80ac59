//! Guest addresses, ranges of pages, and rights.
//!
//! Invariants: a [`GuestAddr`] may be any 64-bit value, since guests name any; a [`PageRange`] is page-aligned, not empty and
//! within `GUEST_START..GUEST_END`. Hostile input: every address and length of mmap(2) and its family.

use crate::{errno, error::Result};
use core::fmt;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes in a page, for offsets within one.
pub const PAGE_BYTES: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// The first address that a guest can map; what lies below catches null pointers.
pub const GUEST_START: u64 = 0x1_0000;
/// The end of what a guest can map.
pub const GUEST_END: u64 = 0x7fff_f000_0000;

/// An address in a guest's memory, or what a guest claims to be one. `Debug` prints it in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GuestAddr(u64);

impl GuestAddr {
    /// The address with this number.
    #[must_use]
    #[inline]
    pub const fn new(addr: u64) -> Self {
        Self(addr)
    }

    /// Its number.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on.
    ///
    /// # Errors
    /// `FAULT`: past the end of the 64-bit space.
    #[inline]
    pub fn plus(self, bytes: u64) -> Result<Self> {
        self.0.checked_add(bytes).map(Self).ok_or(errno!(FAULT, "the address wraps around"))
    }

    /// Bytes from `start` to here, or `None` if `start` is above.
    #[must_use]
    #[inline]
    pub const fn since(self, start: Self) -> Option<u64> {
        self.0.checked_sub(start.0)
    }

    /// The start of its page.
    #[must_use]
    #[inline]
    pub const fn page_start(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// The next page boundary, or itself if it is one; `None` past the end of the 64-bit space.
    #[must_use]
    #[inline]
    pub const fn page_up(self) -> Option<Self> {
        match self.0.checked_add(PAGE_SIZE - 1) {
            Some(sum) => Some(Self(sum & !(PAGE_SIZE - 1))),
            None => None,
        }
    }

    /// Whether it is the start of a page.
    #[must_use]
    #[inline]
    pub const fn is_page_start(self) -> bool {
        self.0 & (PAGE_SIZE - 1) == 0
    }

    /// The number of its page.
    #[must_use]
    #[inline]
    pub const fn page(self) -> u64 {
        self.0 >> PAGE_SHIFT
    }

    /// Offset within its page: `0..4096`.
    #[must_use]
    #[inline]
    pub const fn offset_in_page(self) -> usize {
        (self.0 & (PAGE_SIZE - 1)) as usize
    }

    /// Whether a guest can map it.
    #[must_use]
    #[inline]
    pub const fn is_mappable(self) -> bool {
        GUEST_START <= self.0 && self.0 < GUEST_END
    }
}

impl fmt::Debug for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Rounds `len` up to whole pages; `None` when that overflows.
#[must_use]
#[inline]
pub const fn round_up(len: u64) -> Option<u64> {
    match GuestAddr::new(len).page_up() {
        Some(end) => Some(end.get()),
        None => None,
    }
}

/// A non-empty range of whole pages that a guest can map.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageRange {
    start: GuestAddr,
    end: GuestAddr,
}

impl PageRange {
    /// The pages from `start`, for `len` bytes rounded up to whole pages.
    ///
    /// # Errors
    /// - `INVAL`: `start` is not a page boundary, or `len` is 0.
    /// - `NOMEM`: not within what a guest can map.
    #[inline]
    pub fn new(start: GuestAddr, len: u64) -> Result<Self> {
        if !start.is_page_start() {
            return Err(errno!(INVAL, "the address is no page boundary"));
        }
        if len == 0 {
            return Err(errno!(INVAL, "the length is 0"));
        }
        let end = round_up(len)
            .and_then(|len| start.get().checked_add(len))
            .filter(|end| *end <= GUEST_END && start.get() >= GUEST_START)
            .ok_or(errno!(NOMEM, "outside of what a guest can map"))?;
        Ok(Self { start, end: GuestAddr::new(end) })
    }

    /// The pages of `start..end`, or `None` if that is empty, not aligned or not mappable.
    #[must_use]
    #[inline]
    pub fn between(start: GuestAddr, end: GuestAddr) -> Option<Self> {
        let fits =
            start < end && start.is_page_start() && end.is_page_start() && start.get() >= GUEST_START && end.get() <= GUEST_END;
        fits.then_some(Self { start, end })
    }

    /// Its first address.
    #[must_use]
    #[inline]
    pub const fn start(self) -> GuestAddr {
        self.start
    }

    /// The address after its last.
    #[must_use]
    #[inline]
    pub const fn end(self) -> GuestAddr {
        self.end
    }

    /// Bytes in it.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Pages in it.
    #[must_use]
    #[inline]
    pub const fn count(self) -> u64 {
        self.bytes() >> PAGE_SHIFT
    }

    /// Its page numbers.
    #[must_use]
    #[inline]
    pub const fn pages(self) -> core::ops::Range<u64> {
        self.start.page()..self.end.page()
    }

    /// Whether `addr` is in it.
    #[must_use]
    #[inline]
    pub fn contains(self, addr: GuestAddr) -> bool {
        self.start <= addr && addr < self.end
    }

    /// What both have, if anything.
    #[must_use]
    #[inline]
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end.min(other.end))
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}..{:?}", self.start, self.end)
    }
}

bitflags::bitflags! {
    /// What a guest may do with a page.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Prot: u8 {
        /// Load from it.
        const READ = 1;
        /// Store to it.
        const WRITE = 1 << 1;
        /// Fetch instructions from it.
        const EXEC = 1 << 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    #[test]
    fn page_arithmetic_at_the_edges() {
        assert_eq!(GuestAddr::new(0x1001).page_start(), GuestAddr::new(0x1000));
        assert_eq!(GuestAddr::new(0x1001).page_up(), Some(GuestAddr::new(0x2000)));
        assert_eq!(GuestAddr::new(0x1000).page_up(), Some(GuestAddr::new(0x1000)));
        assert_eq!(GuestAddr::new(u64::MAX).page_up(), None);
        assert!(GuestAddr::new(u64::MAX).plus(1).is_err());
        assert_eq!(round_up(1), Some(PAGE_SIZE));
    }

    #[test]
    fn a_range_is_aligned_not_empty_and_mappable() {
        let start = GuestAddr::new(GUEST_START);
        assert_eq!(PageRange::new(start, 1).expect("fits").count(), 1);
        assert!(PageRange::new(start, 0).expect_err("empty").is(Errno::INVAL));
        assert!(PageRange::new(GuestAddr::new(GUEST_START + 1), 1).expect_err("unaligned").is(Errno::INVAL));
        assert!(PageRange::new(GuestAddr::new(0), 4096).expect_err("null page").is(Errno::NOMEM));
        assert!(PageRange::new(start, GUEST_END).expect_err("past the end").is(Errno::NOMEM));
        assert!(PageRange::new(start, u64::MAX).expect_err("overflow").is(Errno::NOMEM));
        assert!(PageRange::new(start, GUEST_END - GUEST_START).is_ok());
    }
}
