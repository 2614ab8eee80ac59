//! Pages of a host's file that mappings may write to, each store unseen by the host.
//!
//! The host hears of a page before a mapping may write to it ([`HostFile::page_to_write`]), and then writes it out when it likes; of what
//! is stored after that it must hear again. So such pages are noted here. [`Written::settle`] first has every mapping fault anew, then
//! tells the host of each; the end of the last mapping does the same. Invariants: a page that a mapping may write to is noted, with its
//! frame, so that the host keeps it in its cache, and charged. Locks: `pages` is rank "a file system's pages"; no lock is held while the
//! host is asked.

use super::host::HostFile;
use super::types::PAGE_SIZE_U64;
use crate::error::{Errno, Result};
use crate::platform::{Frame, Platform};
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A page's charge: the host's page, which is kept, and its place in the map.
const PAGE_COST: u64 = PAGE_SIZE_U64 + 96;

struct Page<P: Platform> {
    frame: P::Frame,
    /// Open for writing.
    file: Arc<dyn HostFile<P>>,
    _charge: Charge,
}

/// The pages of one file.
pub(super) struct Written<P: Platform> {
    quota: Arc<Quota>,
    pages: Mutex<P, BTreeMap<u64, Page<P>>>,
    /// Mappings that may write.
    mappings: AtomicUsize,
}

impl<P: Platform> Written<P> {
    pub(super) fn new(quota: &Arc<Quota>) -> Arc<Self> {
        let pages = Mutex::<P, _>::new(BTreeMap::new());
        Arc::new(Self { quota: Arc::clone(quota), pages, mappings: AtomicUsize::new(0) })
    }

    /// Whether the host has heard of the page `index`, which is `frame`.
    pub(super) fn is_noted(&self, index: u64, frame: &P::Frame) -> bool {
        self.pages.lock().get(&index).is_some_and(|page| page.frame.same(frame))
    }

    /// Tells the host that page `index` of `file` is written to from now on.
    ///
    /// # Errors
    /// `NOMEM`: past the quota. `FAULT`: past the end. `NOSPC` and others of the host.
    pub(super) fn note(&self, file: &Arc<dyn HostFile<P>>, index: u64) -> Result<()> {
        let charge = self.quota.charge(PAGE_COST)?;
        let frame = file.page_to_write(index)?;
        let page = Page { frame, file: Arc::clone(file), _charge: charge };
        let before = self.pages.lock().insert(index, page);
        drop(before);
        Ok(())
    }

    /// Forgets pages that begin at or past `size`: the file is that long now.
    pub(super) fn cut(&self, size: u64) {
        let gone = self.pages.lock().split_off(&size.div_ceil(PAGE_SIZE_U64));
        drop(gone);
    }

    /// Begins a mapping that may write.
    pub(super) fn begin(&self) {
        self.mappings.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends one; with the last the host hears of all that was written, as far as it listens.
    pub(super) fn end(&self) {
        if self.mappings.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Nobody is left whom the error could be told, as in Linux.
            let _ = self.settle(&mut || {});
        }
    }

    /// Tells the host of all that was written. `hide` takes the pages away from those who map them, so that what is stored later comes
    /// by here again.
    ///
    /// # Errors
    /// The first of the host's; the pages that it is about stay noted.
    pub(super) fn settle(&self, hide: &mut dyn FnMut()) -> Result<()> {
        let pages = core::mem::take(&mut *self.pages.lock());
        if pages.is_empty() {
            return Ok(());
        }
        hide();
        let mut outcome = Ok(());
        for (index, page) in pages {
            match page.file.page_to_write(index) {
                Ok(_) => {}
                // It was cut off meanwhile.
                Err(error) if error.is(Errno::FAULT) => {}
                Err(error) => {
                    outcome = outcome.and(Err(error));
                    self.pages.lock().entry(index).or_insert(page);
                }
            }
        }
        outcome
    }
}
