//! Page frames: counted handles of the engine's pages.
//!
//! Invariant: a page is in one frame; page tables hold none. Guests write to a frame at any moment: contents are copied as bytes and
//! never borrowed. IRQL: `PASSIVE_LEVEL`.

use crate::trap::Pages;
use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use litebox_core::platform;

/// Bytes in a frame.
pub(crate) const SIZE: usize = 4096;

/// A page that is given back when dropped.
#[derive(Debug)]
struct Page(NonNull<u8>);

// SAFETY: The memory belongs to no thread; its bytes may change at any time, as the module says.
unsafe impl Send for Page {}
// SAFETY: As above.
unsafe impl Sync for Page {}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: The page came from `take`; the last handle goes, and tables show it no more (the contract of `Frames::map`).
        unsafe { Pages::give_back(self.0) };
    }
}

/// A counted reference to one page frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame(Arc<Page>);

impl Frame {
    /// A frame filled with zeros.
    pub(crate) fn zeroed() -> Option<Self> {
        Pages::take().map(|page| Self(Arc::new(Page(page))))
    }

    /// Its page.
    pub(super) fn page(&self) -> NonNull<u8> {
        self.0.0
    }
}

/// Copies out of a page from `offset`; returns bytes copied.
///
/// # Safety
/// The page is alive.
pub(super) unsafe fn read(page: NonNull<u8>, offset: usize, dst: &mut [u8]) -> usize {
    let offset = offset.min(SIZE);
    let count = dst.len().min(SIZE - offset);
    // SAFETY: Within the page (see the lines above).
    let from = unsafe { page.add(offset) };
    // SAFETY: The page is alive (contract) and other memory than a borrowed slice. The guest may write meanwhile: the copy is by
    // bytes, any of which are fine.
    unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), dst.as_mut_ptr(), count) };
    count
}

/// Copies into a page at `offset`; returns bytes copied.
///
/// # Safety
/// The page is alive.
pub(super) unsafe fn write(page: NonNull<u8>, offset: usize, src: &[u8]) -> usize {
    let offset = offset.min(SIZE);
    let count = src.len().min(SIZE - offset);
    // SAFETY: Within the page (see the lines above).
    let to = unsafe { page.add(offset) };
    // SAFETY: As in `read`, with the roles exchanged.
    unsafe { core::ptr::copy_nonoverlapping(src.as_ptr(), to.as_ptr(), count) };
    count
}

/// Copies from one page, at an offset, to another; returns bytes copied.
///
/// # Safety
/// Both pages are alive.
pub(super) unsafe fn copy(from: (NonNull<u8>, usize), to: (NonNull<u8>, usize), len: usize) -> usize {
    let (from_at, to_at) = (from.1.min(SIZE), to.1.min(SIZE));
    let count = len.min(SIZE - from_at).min(SIZE - to_at);
    // SAFETY: Within the page (see the lines above).
    let from = unsafe { from.0.add(from_at) };
    // SAFETY: As above.
    let to = unsafe { to.0.add(to_at) };
    // SAFETY: Both pages are alive (contract); they may be the same, and the guest may write meanwhile.
    unsafe { core::ptr::copy(from.as_ptr(), to.as_ptr(), count) };
    count
}

impl platform::Frame for Frame {
    fn read(&self, offset: usize, dst: &mut [u8]) -> usize {
        // SAFETY: The handle keeps the page.
        unsafe { read(self.page(), offset, dst) }
    }

    fn write(&self, offset: usize, src: &[u8]) -> usize {
        // SAFETY: The handle keeps the page.
        unsafe { write(self.page(), offset, src) }
    }

    fn copy_from(&self, from: &Self) {
        if !self.same(from) {
            // SAFETY: Two pages, each kept by its handle; see `read` for the guest's writes.
            unsafe { core::ptr::copy_nonoverlapping(from.page().as_ptr(), self.page().as_ptr(), SIZE) };
        }
    }

    fn exchange(&self, offset: usize, expected: u32, new: u32) -> u32 {
        // A word that begins on its boundary before the end ends before it, too.
        let offset = (offset & !3).min(SIZE - 4);
        // SAFETY: Within the page, which the handle keeps.
        let word = unsafe { self.page().add(offset) }.cast::<u32>();
        // SAFETY: Aligned, since pages are and `offset` is; alive as above. Nobody borrows the contents; a guest's instructions are no
        // part of this program's memory model.
        let word = unsafe { AtomicU32::from_ptr(word.as_ptr()) };
        word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|found| found)
    }

    fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
