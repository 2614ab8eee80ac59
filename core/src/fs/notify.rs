//! Who watches files, and is told what happens to them. See inotify(7).
//!
//! A [`Watches`] is of one namespace; its mounts lead to it, so that each place knows who may watch it. Invariant: `any` counts the
//! watches, so that nothing but a load is done where there is none. Locks: `list` is a leaf, let go before anybody is told.

use super::dentry::Dentry;
use super::types::InodeId;
use crate::platform::Platform;
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

bitflags! {
    /// What can happen. See inotify(7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Happened: u32 {
        /// It was read.
        const ACCESS = 1 << 0;
        /// It was written to, or its length was changed.
        const MODIFY = 1 << 1;
        /// Its attributes were changed.
        const ATTRIB = 1 << 2;
        /// It was closed by somebody who could write.
        const CLOSE_WRITE = 1 << 3;
        /// It was closed by somebody who could not.
        const CLOSE_NOWRITE = 1 << 4;
        /// It was opened.
        const OPEN = 1 << 5;
        /// An entry went elsewhere.
        const MOVED_FROM = 1 << 6;
        /// An entry came from elsewhere.
        const MOVED_TO = 1 << 7;
        /// An entry was made.
        const CREATE = 1 << 8;
        /// An entry was removed.
        const DELETE = 1 << 9;
        /// It has no name any more, and will have none.
        const DELETE_SELF = 1 << 10;
        /// It has another name.
        const MOVE_SELF = 1 << 11;
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// What.
    pub what: Happened,
    /// Whether to a directory.
    pub is_dir: bool,
    /// Ties the two halves of a move; 0 for all else.
    pub cookie: u32,
    /// The entry of the watched directory that it happened to; `None` if to what is watched itself.
    pub name: Option<&'a [u8]>,
    /// Whether it happened to an entry that is no longer in its directory.
    pub is_gone: bool,
}

/// Somebody who watches. Told without locks of the file system, on whatever thread made it happen.
pub trait Observer: Send + Sync {
    /// Something happened to what watch number `watch` is on.
    fn observe(&self, watch: u32, notice: &Notice<'_>);
    /// What watch number `watch` was on is gone, and so is the watch.
    fn lost(&self, watch: u32);
}

struct Watch {
    observer: Weak<dyn Observer>,
    number: u32,
    events: Happened,
}

/// The watches of one namespace.
pub struct Watches<P: Platform> {
    any: AtomicUsize,
    cookie: AtomicU32,
    list: Mutex<P, BTreeMap<InodeId, Vec<Watch>>>,
}

impl<P: Platform> fmt::Debug for Watches<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("any", &self.any).finish_non_exhaustive()
    }
}

/// What an entry's directory is told too.
const SEEN_FROM_ABOVE: Happened = Happened::ACCESS
    .union(Happened::MODIFY)
    .union(Happened::ATTRIB)
    .union(Happened::CLOSE_WRITE)
    .union(Happened::CLOSE_NOWRITE)
    .union(Happened::OPEN);

impl<P: Platform> Watches<P> {
    pub(super) fn new() -> Arc<Self> {
        let list = Mutex::<P, _>::new(BTreeMap::new());
        Arc::new(Self { any: AtomicUsize::new(0), cookie: AtomicU32::new(0), list })
    }

    /// Has `observer` told of `events` at an inode, by the number that it chose.
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn add(&self, inode: InodeId, observer: Weak<dyn Observer>, number: u32, events: Happened) -> Result<()> {
        let mut list = self.list.lock();
        let here = list.entry(inode).or_default();
        here.try_reserve(1).map_err(|_| errno!(NOMEM))?;
        here.push(Watch { observer, number, events });
        self.any.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Changes what one of `observer`'s watches tells of.
    pub fn change(&self, inode: InodeId, observer: &Weak<dyn Observer>, number: u32, events: Happened) {
        let mut list = self.list.lock();
        for watch in list.get_mut(&inode).into_iter().flatten() {
            if watch.number == number && Weak::ptr_eq(&watch.observer, observer) {
                watch.events = events;
            }
        }
    }

    /// Ends one of `observer`'s watches.
    pub fn remove(&self, inode: InodeId, observer: &Weak<dyn Observer>, number: u32) {
        let mut list = self.list.lock();
        let Some(here) = list.get_mut(&inode) else { return };
        let before = here.len();
        here.retain(|watch| watch.number != number || !Weak::ptr_eq(&watch.observer, observer));
        self.any.fetch_sub(before.saturating_sub(here.len()), Ordering::Release);
        if here.is_empty() {
            list.remove(&inode);
        }
    }

    /// A number that ties the two halves of a move.
    pub(super) fn cookie(&self) -> u32 {
        self.cookie.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    fn has_any(&self) -> bool {
        self.any.load(Ordering::Acquire) > 0
    }

    /// Tells who watches `inode`.
    fn tell(&self, inode: InodeId, notice: &Notice<'_>) {
        let told: Vec<(Arc<dyn Observer>, u32)> = {
            let list = self.list.lock();
            let here = list.get(&inode).into_iter().flatten().filter(|watch| watch.events.intersects(notice.what));
            here.filter_map(|watch| watch.observer.upgrade().map(|observer| (observer, watch.number))).collect()
        };
        for (observer, number) in told {
            observer.observe(number, notice);
        }
    }

    /// Tells who watches the directory of `place`, then who watches itself, what happened to it.
    pub(super) fn happened(&self, place: &Dentry<P>, what: Happened) {
        if !self.has_any() {
            return;
        }
        let is_dir = place.is_dir();
        if let Some(parent) = place.parent().filter(|_| SEEN_FROM_ABOVE.contains(what) && !place.is_unnamed()) {
            let (name, is_gone) = (place.name(), place.is_deleted());
            self.tell(parent.inode().id(), &Notice { what, is_dir, cookie: 0, name: Some(name.as_bytes()), is_gone });
        }
        self.tell(place.inode().id(), &Notice { what, is_dir, cookie: 0, name: None, is_gone: false });
    }

    /// Tells who watches `dir` what happened to its entry `name`.
    pub(super) fn entry(&self, dir: &Dentry<P>, name: &[u8], what: Happened, is_dir: bool, cookie: u32) {
        if self.has_any() {
            self.tell(dir.inode().id(), &Notice { what, is_dir, cookie, name: Some(name), is_gone: false });
        }
    }

    /// Tells who watches `place` that it has lost a name, and if that was its last one, that it is gone.
    pub(super) fn unnamed(&self, place: &Dentry<P>) {
        if !self.has_any() {
            return;
        }
        let (inode, is_dir) = (place.inode().id(), place.is_dir());
        let is_last = is_dir || place.inode().attr().is_ok_and(|attr| attr.links == 0);
        let told = |what| Notice { what, is_dir, cookie: 0, name: None, is_gone: false };
        // A file's count of names is told; a directory goes without a word of that.
        if !is_dir {
            self.tell(inode, &told(Happened::ATTRIB));
        }
        if !is_last {
            return;
        }
        self.tell(inode, &told(Happened::DELETE_SELF));
        let gone = self.list.lock().remove(&inode).unwrap_or_default();
        self.any.fetch_sub(gone.len(), Ordering::Release);
        for watch in gone {
            if let Some(observer) = watch.observer.upgrade() {
                observer.lost(watch.number);
            }
        }
    }
}
