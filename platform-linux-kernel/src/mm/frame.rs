// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Page frames: counted handles over the kernel's own page reference.
//!
//! Invariants: a handle owns one reference, of an order-0 page that this module allocated (of a run that was split into such, too) or of
//! a page in a file's page cache;
//! page-table entries own none, so whoever shows a frame to a guest keeps a handle until the entry is zapped. What the module
//! allocates is charged to the memory cgroup of the carrier that asked.
//! Guests write to a frame at any moment: contents are copied as bytes and never borrowed.

use crate::sys;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes in a frame.
pub(crate) const SIZE: usize = sys::PAGE_SIZE;

/// The largest run that is allocated at once: 64 pages.
const ORDER_MAX: u32 = 6;

/// A counted reference to one page frame.
#[derive(Debug)]
pub(crate) struct Frame(NonNull<sys::page>);

// SAFETY: The reference count is atomic, and contents are accessed as untyped bytes that may change under us.
unsafe impl Send for Frame {}
// SAFETY: As above.
unsafe impl Sync for Frame {}

impl Frame {
    /// A frame filled with zeros. May sleep.
    pub(crate) fn zeroed() -> Option<Self> {
        // SAFETY: Task context; order 0.
        let page = unsafe { sys::litebox_alloc_pages(sys::GFP_KERNEL_ACCOUNT | sys::__GFP_ZERO, 0) };
        NonNull::new(page).map(Self)
    }

    /// Gives up to `count` frames filled with zeros to `take`: in runs, which cost the allocator less, as long as it has some without
    /// an effort. May sleep.
    pub(crate) fn zeroed_run(count: usize, mut take: impl FnMut(Self)) {
        let mut left = count;
        while let Some(order) = left.checked_ilog2().map(|order| order.min(ORDER_MAX)).filter(|order| *order > 0) {
            // SAFETY: Task context.
            let Some(first) = NonNull::new(unsafe { sys::litebox_alloc_pages(sys::GFP_RUN_OF_ZEROS, order) }) else { break };
            // SAFETY: A run of this order that nobody else knows, and no compound page.
            unsafe { sys::split_page(first.as_ptr(), order) };
            let pages = 1_usize.wrapping_shl(order);
            for at in 0..pages {
                // SAFETY: The run's pages lie side by side; each has a reference of its own now.
                take(Self(unsafe { first.add(at) }));
            }
            left = left.saturating_sub(pages);
        }
        (0..left).map_while(|_| Self::zeroed()).for_each(take);
    }

    /// Takes over a reference to a page of a file's page cache. The cache has one of its own, so it is not unique while it is there.
    ///
    /// # Safety
    /// The page is normal memory, and its reference is the caller's to give.
    pub(crate) unsafe fn of_file(page: NonNull<sys::page>) -> Self {
        Self(page)
    }

    /// The kernel's page.
    pub(crate) fn page(&self) -> *mut sys::page {
        self.0.as_ptr()
    }

    /// Whether this handle is the only one.
    pub(crate) fn is_unique(&self) -> bool {
        // SAFETY: We own a reference, so the page exists.
        unsafe { sys::litebox_page_count(self.page()) == 1 }
    }

    /// Whether both are the same frame.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Where the kernel sees its contents.
    pub(crate) fn bytes(&self) -> *mut u8 {
        // SAFETY: A page of normal memory (no GFP_HIGHMEM on x86-64), so it has an address.
        unsafe { sys::litebox_page_address(self.page()).cast() }
    }

    /// Copies out from `offset`; returns bytes copied, which is less than asked at the frame's end.
    pub(crate) fn read(&self, offset: usize, dst: &mut [u8]) -> usize {
        let offset = offset.min(SIZE);
        let count = dst.len().min(SIZE - offset);
        // SAFETY: `offset + count` is within the page, which our reference keeps; `dst` is a borrow of other memory. The guest may
        // write meanwhile; bytes of any value are fine, and memcpy makes no assumption about them.
        unsafe { sys::memcpy(dst.as_mut_ptr().cast(), self.bytes().add(offset).cast(), count) };
        count
    }

    /// Copies in at `offset`; returns bytes copied.
    pub(crate) fn write(&self, offset: usize, src: &[u8]) -> usize {
        let offset = offset.min(SIZE);
        let count = src.len().min(SIZE - offset);
        // SAFETY: As in `read`, with the roles exchanged.
        unsafe { sys::memcpy(self.bytes().add(offset).cast(), src.as_ptr().cast(), count) };
        count
    }

    /// Copies the whole of `from` here.
    pub(crate) fn copy_from(&self, from: &Self) {
        if !self.same(from) {
            // SAFETY: Two different pages, each kept by its reference.
            unsafe { sys::memcpy(self.bytes().cast(), from.bytes().cast(), SIZE) };
        }
    }

    /// Replaces the word at `offset` by `new` if it is `expected`; returns what it was.
    pub(crate) fn exchange(&self, offset: usize, expected: u32, new: u32) -> u32 {
        // A word that begins on its boundary before the end ends before it, too.
        let offset = (offset & !3).min(SIZE - 4);
        // SAFETY: Within the page, which our reference keeps.
        let word = unsafe { self.bytes().add(offset) }.cast::<u32>();
        // SAFETY: Aligned, since pages are and `offset` is; valid as above. Nobody borrows the contents, and whoever writes them
        // besides, an instruction of a guest or a copy, is no part of this program's memory model.
        let word = unsafe { AtomicU32::from_ptr(word) };
        word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|found| found)
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        // SAFETY: We own a reference, so the page exists and one more may be taken.
        unsafe { sys::litebox_get_page(self.page()) };
        Self(self.0)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: Gives up the reference that this handle owned; the kernel frees the page with the last one.
        unsafe { sys::litebox_put_page(self.page()) };
    }
}
