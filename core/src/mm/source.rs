//! What a mapping shows that is not private zeros: the pages of a file, or memory shared between processes.
//!
//! Invariants: a source hands out the *same* frame for an index until it drops that page, so that all who map it see one memory.
//! Locks: a source's own lock is taken behind the address space's, never the reverse. [`MapSource::page`] is called with no lock
//! of this module held, since it may wait for input.

use super::pages::{Owned, Pages};
use super::{PAGE_SHIFT, round_up};
use crate::errno;
use crate::error::Result;
use crate::platform::Platform;
use crate::quota::Quota;
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// Who a source is, for /proc/PID/maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceName {
    /// Number of the device that the file is on.
    pub device: u64,
    /// The file's number there.
    pub inode: u64,
    /// Path as /proc/PID/maps shows it.
    pub path: Vec<u8>,
}

/// Pages by index, which a mapping shows to guests.
pub trait MapSource<P: Platform>: Send + Sync + fmt::Debug {
    /// The page at `index`, read in or made now if need be. May sleep.
    ///
    /// # Errors
    /// - `NOMEM`: no memory, or past the quota.
    /// - any other: the page cannot be had; the guest gets SIGBUS.
    fn page(&self, index: u64) -> Result<P::Frame>;

    /// Bytes in it now; a page that begins at or past this is SIGBUS.
    fn size(&self) -> u64;

    /// The page at `index` if it is in memory; for faulting around. Called under the address space's lock: must not wait for input.
    fn resident(&self, _index: u64) -> Option<P::Frame> {
        None
    }

    /// Whether [`Self::is_write_ready`] must be asked before a page can be written to. If not, shared pages are shown writable at once,
    /// which saves a fault for each.
    fn tracks_writes(&self) -> bool {
        true
    }

    /// Whether a guest may write to the page at `index`, which is `frame`, through a shared mapping; [`Self::prepare_write`] first if
    /// not. Called under the address space's lock: must not wait for input.
    fn is_write_ready(&self, _index: u64, _frame: &P::Frame) -> bool {
        true
    }

    /// Sees to it that guests may write to the page at `index`. May sleep.
    ///
    /// # Errors
    /// As [`Self::page`].
    fn prepare_write(&self, _index: u64) -> Result<()> {
        Ok(())
    }

    /// Makes what was written through mappings last, as fsync(2) does. `hide` has all of them fault before they write again.
    ///
    /// # Errors
    /// Those of fsync(2).
    fn sync(&self, _hide: &mut dyn FnMut()) -> Result<()> {
        Ok(())
    }

    /// Its name and identity.
    fn name(&self) -> SourceName;

    /// The address of what the pages belong to, which lives as long as this does: equal for two sources of one file.
    fn owner(&self) -> usize;
}

/// Memory of a fixed size that several processes share: `MAP_SHARED | MAP_ANONYMOUS`. Its pages are charged to one quota.
pub struct SharedMemory<P: Platform> {
    quota: Arc<Quota>,
    size: u64,
    pages: Mutex<P, Pages<Owned<P>>>,
}

impl<P: Platform> SharedMemory<P> {
    /// `len` bytes of zeros, rounded up to whole pages; a page is allocated when it is first touched.
    ///
    /// # Errors
    /// `NOMEM`: the length overflows.
    pub fn new(quota: &Arc<Quota>, len: u64) -> Result<Arc<Self>> {
        let size = round_up(len).ok_or(errno!(NOMEM, "the length overflows"))?;
        Ok(Arc::new(Self { quota: Arc::clone(quota), size, pages: Mutex::<P, _>::new(Pages::new()) }))
    }
}

impl<P: Platform> fmt::Debug for SharedMemory<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<P: Platform> MapSource<P> for SharedMemory<P> {
    fn page(&self, index: u64) -> Result<P::Frame> {
        if index >= self.size >> PAGE_SHIFT {
            return Err(errno!(IO, "past the end of shared memory"));
        }
        let mut pages = self.pages.lock();
        let slot = pages.slot(index, &self.quota)?;
        if let Some(page) = slot {
            return Ok(page.frame.clone());
        }
        let page = Owned::<P>::zeroed(&self.quota)?;
        let frame = page.frame.clone();
        *slot = Some(page);
        Ok(frame)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn tracks_writes(&self) -> bool {
        false
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.pages.lock().get(index).map(|page| page.frame.clone())
    }

    fn name(&self) -> SourceName {
        SourceName { path: b"/dev/zero (deleted)".to_vec(), ..SourceName::default() }
    }

    fn owner(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}
