//! Guests' pages: parts of one sparse memory file, which this process maps whole.
//!
//! Invariant: a page is in the list of free ones, above `next`, or in one frame. Locks: `POOL` is a spin lock and a leaf.

use super::linux;
use crate::nt::spin::SpinLock;
use alloc::vec::Vec;
use core::ptr::NonNull;

/// Bytes of a page, and pages of the file: 8 GiB, of which Linux has those that were touched.
const PAGE: usize = 4096;
const COUNT: usize = 1 << 21;

struct Pool {
    file: u64,
    base: Option<NonNull<u8>>,
    next: usize,
    free: Vec<u32>,
}

// SAFETY: The mapping belongs to no thread.
unsafe impl Send for Pool {}

static POOL: SpinLock<Pool> = SpinLock::new(Pool { file: 0, base: None, next: 0, free: Vec::new() });

/// Makes the file, unless it is there.
pub(super) fn prepare() -> bool {
    let mut pool = POOL.lock();
    if pool.base.is_none() {
        let bytes = (COUNT * PAGE) as u64;
        if let Some(file) = linux::memory_file(bytes) {
            pool.file = file;
            pool.base = linux::map(file, bytes);
        }
    }
    pool.base.is_some()
}

/// The file.
pub(super) fn file() -> u64 {
    POOL.lock().file
}

/// Where in the file a page is.
pub(super) fn offset(page: NonNull<u8>) -> u64 {
    let base = POOL.lock().base.map_or(0, |base| base.addr().get());
    page.addr().get().wrapping_sub(base) as u64
}

/// The pages.
#[derive(Debug)]
pub(crate) enum Pages {}

impl Pages {
    /// A page filled with zeros.
    pub(crate) fn take() -> Option<NonNull<u8>> {
        let mut pool = POOL.lock();
        let base = pool.base?;
        let (index, used) = match pool.free.pop() {
            Some(index) => (index as usize, true),
            None if pool.next < COUNT => {
                pool.next += 1;
                (pool.next - 1, false)
            }
            None => return None,
        };
        drop(pool);
        // SAFETY: Below `COUNT`, so within the mapping.
        let page = unsafe { base.add(index * PAGE) };
        if used {
            // SAFETY: A page of the mapping that nobody else has.
            unsafe { page.write_bytes(0, PAGE) };
        }
        Some(page)
    }

    /// Gives a page back.
    ///
    /// # Safety
    /// It came from `take`, and nobody uses it.
    pub(crate) unsafe fn give_back(page: NonNull<u8>) {
        let index = offset(page) / PAGE as u64;
        // Below `COUNT`, so it fits.
        POOL.lock().free.push(index as u32);
    }
}
