//! Pages of an image that had to be made: decompressed, or with zeros behind the end of a file. All sandboxes that run from the image
//! share them; whole blocks that are not compressed need none, as those are pages of the host's file itself.
//!
//! Invariants: a page is charged to the sandbox that first asked for it, as long as it is here, so that no guest can keep more memory by
//! mapping it than its own quota; what nobody maps is at most [`MOST`] pages, and [`SHARE`] of the quota that it is charged to.
//! Locks: `pages` is rank "a file system's pages", and takes nothing inside.

use crate::fs::types::PAGE_SIZE_U64;
use crate::platform::{Frame, Platform};
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Bound;
use core::sync::atomic::{AtomicU64, Ordering};

/// Most pages in the cache of an image while nobody maps some of them: 64 MiB.
const MOST: usize = 16_384;
/// A sandbox keeps no more than one in so many bytes of its memory filled with what nobody maps.
const SHARE: u64 = 16;
/// A page's charge: itself, and its place in the map.
const PAGE_COST: u64 = PAGE_SIZE_U64 + 96;
/// Pages that are looked at for one that can go, when another one comes.
const LOOKS: usize = 64;

/// A file of the image, and a page of that.
pub(super) type Key = (u64, u64);

/// Whoever has pages made: a sandbox's mount of the image.
#[derive(Debug)]
pub(super) struct Owner {
    quota: Arc<Quota>,
    /// Pages that are charged to it.
    pages: AtomicU64,
}

impl Owner {
    pub(super) fn new(quota: &Arc<Quota>) -> Arc<Self> {
        Arc::new(Self { quota: Arc::clone(quota), pages: AtomicU64::new(0) })
    }

    /// The sandbox's book.
    pub(super) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Whether it has as many pages as may lie idle.
    fn is_full(&self) -> bool {
        self.pages.load(Ordering::Relaxed).saturating_mul(PAGE_COST) >= self.quota.limit() / SHARE
    }
}

/// A page before it is in the cache.
pub(super) struct New<P: Platform> {
    pub(super) frame: P::Frame,
    charge: Charge,
}

struct Page<P: Platform> {
    frame: P::Frame,
    _charge: Charge,
    owner: Arc<Owner>,
    /// Somebody asked for it since it was last looked at.
    is_used: bool,
}

impl<P: Platform> Drop for Page<P> {
    fn drop(&mut self) {
        self.owner.pages.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Pages<P: Platform> {
    map: BTreeMap<Key, Page<P>>,
    /// Where to look next for a page that can go.
    hand: Key,
}

/// The pages of one image.
pub(super) struct Cache<P: Platform> {
    pages: Mutex<P, Pages<P>>,
}

impl<P: Platform> core::fmt::Debug for Cache<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("image::Cache").finish_non_exhaustive()
    }
}

impl<P: Platform> Cache<P> {
    pub(super) fn new() -> Self {
        Self { pages: Mutex::<P, _>::new(Pages { map: BTreeMap::new(), hand: (0, 0) }) }
    }

    /// The page if it is here.
    pub(super) fn get(&self, key: Key) -> Option<P::Frame> {
        let mut pages = self.pages.lock();
        let page = pages.map.get_mut(&key)?;
        page.is_used = true;
        Some(page.frame.clone())
    }

    /// A page of zeros, to be filled and [`Self::put`].
    ///
    /// # Errors
    /// `NOMEM`: the sandbox's memory is used up, or the host's.
    pub(super) fn page(&self, owner: &Arc<Owner>) -> Result<New<P>> {
        let charge = owner.quota.charge(PAGE_COST).or_else(|refused| {
            let freed = self.pages.lock().shrink(usize::MAX, Some(owner));
            if freed == 0 { Err(refused) } else { owner.quota.charge(PAGE_COST) }
        })?;
        let frame = P::zeroed_frame().ok_or(errno!(NOMEM, "the host has no page"))?;
        Ok(New { frame, charge })
    }

    /// Keeps a page; gives it, or the one that another task was faster to put there.
    pub(super) fn put(&self, key: Key, owner: &Arc<Owner>, new: New<P>) -> P::Frame {
        let mut pages = self.pages.lock();
        if let Some(page) = pages.map.get_mut(&key) {
            page.is_used = true;
            return page.frame.clone();
        }
        if pages.map.len() >= MOST {
            pages.shrink(LOOKS, None);
        } else if owner.is_full() {
            pages.shrink(LOOKS, Some(owner));
        }
        owner.pages.fetch_add(1, Ordering::Relaxed);
        let (frame, owner) = (new.frame.clone(), Arc::clone(owner));
        pages.map.insert(key, Page { frame: new.frame, _charge: new.charge, owner, is_used: true });
        frame
    }

    /// How many pages there are.
    pub(super) fn len(&self) -> usize {
        self.pages.lock().map.len()
    }
}

impl<P: Platform> Pages<P> {
    /// Lets pages go that nobody holds and nobody asked for of late, of all or of one owner; says how many. Looks at `most` of them, the
    /// next ones in turn, and at each at most twice.
    fn shrink(&mut self, most: usize, of: Option<&Arc<Owner>>) -> usize {
        let mut freed = 0usize;
        let looks = most.min(self.map.len().saturating_mul(2));
        for _ in 0..looks {
            let ahead = (Bound::Excluded(self.hand), Bound::Unbounded);
            let next = self.map.range_mut(ahead).next();
            let Some((key, page)) = (match next {
                Some(next) => Some(next),
                None => self.map.iter_mut().next(),
            }) else {
                break;
            };
            let key = *key;
            self.hand = key;
            if of.is_some_and(|owner| !Arc::ptr_eq(owner, &page.owner)) || !page.frame.is_unique() {
                continue;
            }
            if core::mem::take(&mut page.is_used) {
                continue;
            }
            self.map.remove(&key);
            freed = freed.saturating_add(1);
        }
        freed
    }
}
