//! Places in the tree of names: an inode under a name in a directory.
//!
//! While somebody uses a place there is one [`Dentry`] for it, so that a rename shows everywhere at once: in working
//! directories, in /proc/self/fd, in getcwd(2). A dentry holds its parent; a directory knows its children weakly.
//! Invariants: of two live dentries with the same parent at most one has a given name and is not deleted; the chain of parents
//! ends at the root of a mount. Freeing is a loop, never a recursion: guests choose how deep a tree is.
//! Locks: `children` is rank "directory entries" and held around the file system's own call, so that what is remembered
//! and what is true change together; two of them only under the namespace's rename lock. `place` is a leaf.

use super::inode::InodeRef;
use super::mount::MountInfo;
use super::types::{FileKind, Name, NameBuf, PATH_MAX};
use crate::platform::Platform;
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// Dead entries that a directory may remember before it looks for them.
const PRUNE_AT: usize = 32;

/// The names under a directory that are in use.
pub(super) type Children<P> = BTreeMap<NameBuf, Weak<Dentry<P>>>;

struct Place<P: Platform> {
    parent: Option<Arc<Dentry<P>>>,
    name: NameBuf,
    deleted: bool,
    /// It never had a name: `O_TMPFILE`.
    unnamed: bool,
}

/// One place in the tree.
pub struct Dentry<P: Platform> {
    inode: InodeRef<P>,
    mount: Arc<MountInfo<P>>,
    place: Mutex<P, Place<P>>,
    children: Mutex<P, Children<P>>,
    is_mount_point: AtomicBool,
    /// Whether a namespace has kept it in mind.
    was_kept: AtomicBool,
    mounted: Mutex<P, Option<Arc<Dentry<P>>>>,
}

impl<P: Platform> fmt::Debug for Dentry<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dentry").field("inode", &self.inode.id()).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for Dentry<P> {
    fn drop(&mut self) {
        let mut next = self.place.get_mut().parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut last| last.place.get_mut().parent.take());
        }
    }
}

impl<P: Platform> Dentry<P> {
    fn new(inode: InodeRef<P>, mount: Arc<MountInfo<P>>, parent: Option<Arc<Self>>, name: NameBuf) -> Arc<Self> {
        Arc::new(Self {
            inode,
            mount,
            place: Mutex::<P, _>::new(Place { parent, name, deleted: false, unnamed: false }),
            children: Mutex::<P, _>::new(BTreeMap::new()),
            is_mount_point: AtomicBool::new(false),
            was_kept: AtomicBool::new(false),
            mounted: Mutex::<P, _>::new(None),
        })
    }

    /// The root of a mount.
    pub(super) fn root(inode: InodeRef<P>, mount: Arc<MountInfo<P>>) -> Arc<Self> {
        Self::new(inode, mount, None, NameBuf::label(b"/"))
    }

    /// A place for what is in no directory: a pipe, a socket, the launcher's stdio. `label` is what /proc shows for it.
    #[must_use]
    pub fn detached(inode: InodeRef<P>, label: &[u8]) -> Arc<Self> {
        Self::new(inode, MountInfo::detached(), None, NameBuf::label(label))
    }

    /// A place for a file of the file system of `dir` that has no name yet (`O_TMPFILE`).
    pub(super) fn unnamed(inode: InodeRef<P>, dir: &Arc<Self>) -> Arc<Self> {
        let label = NameBuf::label(alloc::format!("#{}", inode.id().number).as_bytes());
        let new = Self::new(inode, Arc::clone(&dir.mount), Some(Arc::clone(dir)), label);
        {
            let mut place = new.place.lock();
            (place.deleted, place.unnamed) = (true, true);
        }
        new
    }

    /// Whether it is what [`Dentry::unnamed`] made: it can be given one.
    pub(super) fn is_unnamed(&self) -> bool {
        self.place.lock().unnamed
    }

    /// What is here.
    #[must_use]
    pub fn inode(&self) -> &InodeRef<P> {
        &self.inode
    }

    /// The mount that it is in.
    #[must_use]
    pub fn mount(&self) -> &Arc<MountInfo<P>> {
        &self.mount
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.inode.kind() == FileKind::Directory
    }

    /// Its name; `/` for the root of a mount.
    #[must_use]
    pub fn name(&self) -> NameBuf {
        self.place.lock().name.clone()
    }

    /// Whether the name is gone and only users are left.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.place.lock().deleted
    }

    /// The directory that it is in, within its mount.
    #[must_use]
    pub fn parent(&self) -> Option<Arc<Self>> {
        self.place.lock().parent.clone()
    }

    /// The root of its mount; `None` for itself.
    #[must_use]
    pub(super) fn mount_root(self: &Arc<Self>) -> Option<Arc<Self>> {
        let mut top = self.parent()?;
        while let Some(parent) = top.parent() {
            top = parent;
        }
        Some(top)
    }

    /// The directory above, through mount points: what `..` means below the root.
    #[must_use]
    pub fn above(self: &Arc<Self>) -> Option<Arc<Self>> {
        let mut here = Arc::clone(self);
        loop {
            if let Some(parent) = here.parent() {
                return Some(parent);
            }
            here = here.mount.covers()?;
        }
    }

    /// What is mounted on it, and on that, and so on; itself if nothing is.
    #[must_use]
    pub fn top(self: Arc<Self>) -> Arc<Self> {
        let mut here = self;
        while here.is_mount_point.load(Ordering::Acquire) {
            let Some(root) = here.mounted.lock().clone() else { break };
            here = root;
        }
        here
    }

    /// Whether something is mounted on it.
    #[must_use]
    pub fn is_mount_point(&self) -> bool {
        self.is_mount_point.load(Ordering::Acquire)
    }

    /// Shows `root` instead of itself, or itself again.
    pub(super) fn set_mounted(&self, root: Option<Arc<Self>>) -> Option<Arc<Self>> {
        let mut mounted = self.mounted.lock();
        self.is_mount_point.store(root.is_some(), Ordering::Release);
        core::mem::replace(&mut *mounted, root)
    }

    /// The place `name` in this directory.
    ///
    /// # Errors
    /// Those of [`super::inode::Inode::lookup`].
    pub fn child(self: &Arc<Self>, name: Name<'_>) -> Result<Arc<Self>> {
        self.child_or_fresh(name).map(|(child, _)| child)
    }

    /// The same, and whether the file system had to be asked.
    pub(super) fn child_or_fresh(self: &Arc<Self>, name: Name<'_>) -> Result<(Arc<Self>, bool)> {
        let mut children = self.children.lock();
        if let Some(known) = self.known(&children, name) {
            return Ok((known, false));
        }
        let inode = self.inode.lookup(name)?;
        Ok((self.attach(&mut children, name, inode), true))
    }

    /// The live dentry of `name`, if one is remembered.
    fn known(&self, children: &Children<P>, name: Name<'_>) -> Option<Arc<Self>> {
        if self.inode.volatile() {
            return None;
        }
        let child = children.get(name.as_bytes()).and_then(Weak::upgrade)?;
        // Whoever cannot tell by itself is looked up again: what is in use keeps its number.
        let is_same = || self.inode.lookup(name).is_ok_and(|inode| inode.id() == child.inode.id());
        let is_told = child.inode.is_current() && !self.mount.has_twin();
        if child.is_mount_point() || (self.inode.is_still(name, &child.inode) && (is_told || is_same())) {
            return Some(child);
        }
        // Somebody else took the name from it.
        child.place.lock().deleted = true;
        None
    }

    /// Whether it pays, and is right, to keep `child`, which was just looked up here, in mind. What other mounts show as well may lose
    /// its name without a call through this one, and would stay.
    pub(super) fn keeps(&self, child: &Self) -> bool {
        !self.inode.volatile() && child.inode.keepable() && (!self.mount.has_twin() || child.inode.read_only())
    }

    /// Notes that a namespace keeps it in mind.
    pub(super) fn note_kept(&self) {
        self.was_kept.store(true, Ordering::Release);
    }

    pub(super) fn was_kept(&self) -> bool {
        self.was_kept.load(Ordering::Acquire)
    }

    /// Remembers that `name` is `inode`.
    fn attach(self: &Arc<Self>, children: &mut Children<P>, name: Name<'_>, inode: InodeRef<P>) -> Arc<Self> {
        if children.len() >= PRUNE_AT && children.len().is_power_of_two() {
            children.retain(|_, child| child.strong_count() > 0);
        }
        let name = NameBuf::from(name);
        let child = Self::new(inode, Arc::clone(&self.mount), Some(Arc::clone(self)), name.clone());
        children.insert(name, Arc::downgrade(&child));
        child
    }

    /// Makes `name` by `make`, which calls the file system, unless it exists.
    pub(super) fn make(self: &Arc<Self>, name: Name<'_>, make: impl FnOnce() -> Result<InodeRef<P>>) -> Result<Arc<Self>> {
        let mut children = self.children.lock();
        if self.is_deleted() {
            return Err(errno!(NOENT, "the directory was removed"));
        }
        let inode = make()?;
        Ok(self.attach(&mut children, name, inode))
    }

    /// Removes `name` by `remove`, which calls the file system, and forgets it.
    pub(super) fn remove(&self, name: Name<'_>, remove: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut children = self.children.lock();
        let child = children.get(name.as_bytes()).and_then(Weak::upgrade);
        if child.as_ref().is_some_and(|child| child.is_mount_point()) {
            return Err(errno!(BUSY, "something is mounted on it"));
        }
        remove()?;
        children.remove(name.as_bytes());
        if let Some(child) = child {
            child.place.lock().deleted = true;
        }
        Ok(())
    }

    /// Renames by `rename`, which calls the file system, and moves what is remembered along. Under the rename lock.
    pub(super) fn rename(
        self: &Arc<Self>,
        from: Name<'_>,
        dir: &Arc<Self>,
        to: Name<'_>,
        exchange: bool,
        rename: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if Arc::ptr_eq(self, dir) {
            let mut children = self.children.lock();
            rename()?;
            let (old, new) = (children.remove(from.as_bytes()), children.remove(to.as_bytes()));
            dir.settle(&mut children, to, old, true);
            self.settle(&mut children, from, new, exchange);
            return Ok(());
        }
        // The rename lock makes this the only task that holds two, so the order does not matter.
        let mut source = self.children.lock();
        let mut target = dir.children.lock();
        if dir.is_deleted() {
            return Err(errno!(NOENT, "the directory was removed"));
        }
        rename()?;
        let (old, new) = (source.remove(from.as_bytes()), target.remove(to.as_bytes()));
        dir.settle(&mut target, to, old, true);
        self.settle(&mut source, from, new, exchange);
        Ok(())
    }

    /// Puts a moved dentry under its new name here, or marks it deleted.
    fn settle(self: &Arc<Self>, children: &mut Children<P>, name: Name<'_>, moved: Option<Weak<Self>>, lives: bool) {
        let Some(moved) = moved.and_then(|weak| weak.upgrade()) else { return };
        let former = {
            let mut place = moved.place.lock();
            if !lives {
                place.deleted = true;
                return;
            }
            let name = NameBuf::from(name);
            children.insert(name.clone(), Arc::downgrade(&moved));
            place.name = name;
            place.parent.replace(Arc::clone(self))
        };
        drop(former);
    }

    /// Whether `self` is `other` or above it in the same mount.
    #[must_use]
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut here = Some(Arc::clone(other));
        while let Some(place) = here {
            if Arc::ptr_eq(self, &place) {
                return true;
            }
            here = place.parent();
        }
        false
    }

    /// The path from `root` to here; `None` if here is not below `root`. See getcwd(2).
    ///
    /// # Errors
    /// `NAMETOOLONG`: above [`PATH_MAX`]. `NOENT`: a directory on the way was removed.
    pub fn path(self: &Arc<Self>, root: &Arc<Self>) -> Result<Option<Vec<u8>>> {
        let mut names: Vec<NameBuf> = Vec::new();
        let mut len = 1usize;
        let mut here = Arc::clone(self);
        while !Arc::ptr_eq(&here, root) {
            let (parent, name, deleted) = {
                let place = here.place.lock();
                (place.parent.clone(), place.name.clone(), place.deleted)
            };
            if deleted {
                return Err(errno!(NOENT, "a directory on the way was removed"));
            }
            here = match parent {
                Some(parent) => {
                    len = len.saturating_add(name.as_bytes().len()).saturating_add(1);
                    names.push(name);
                    parent
                }
                None => match here.mount.covers() {
                    Some(point) => point,
                    None => return Ok(None),
                },
            };
            if len > PATH_MAX {
                return Err(errno!(NAMETOOLONG));
            }
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(Some(path))
    }
}
