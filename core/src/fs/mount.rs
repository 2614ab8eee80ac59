//! Which file system is shown where.
//!
//! Invariants: a mount point is held by its [`MountNamespace`], so what it shows stays until it is unmounted; the root mount is
//! the first and is never unmounted. Locks: `mounts` before a dentry's own; `rename` is rank "rename", outside every directory; `recent` is a
//! leaf.

use super::dentry::Dentry;
use super::inode::InodeRef;
use super::notify::Watches;
use super::types::FileKind;
use crate::platform::Platform;
use crate::sync::{Mutex, MutexGuard};
use crate::{errno, error::Result};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;

/// Mounts that one namespace may have.
const MOUNTS_MAX: usize = 1024;
/// Read-only directories that are kept in mind; at most some 128 KiB a namespace.
const RECENT_MAX: usize = 256;

bitflags! {
    /// How a mount restricts its files. See mount(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// Nothing in it can be changed.
        const READ_ONLY = 1 << 0;
        /// Set-user-id bits have no effect.
        const NOSUID = 1 << 1;
        /// Device nodes cannot be opened.
        const NODEV = 1 << 2;
        /// Nothing in it can be executed.
        const NOEXEC = 1 << 3;
    }
}

/// What is known of one mount, shared by all places in it.
pub struct MountInfo<P: Platform> {
    /// Number within the namespace; 0 for what is in no mount.
    pub id: u32,
    /// Its restrictions.
    pub flags: MountFlags,
    /// Name of the file-system type, such as `tmpfs`.
    pub kind: &'static str,
    /// What was mounted, as /proc/mounts shows it.
    pub source: String,
    covers: Option<Weak<Dentry<P>>>,
    watches: Option<Arc<Watches<P>>>,
}

impl<P: Platform> fmt::Debug for MountInfo<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountInfo").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<P: Platform> MountInfo<P> {
    /// For places that are in no mount.
    pub(super) fn detached() -> Arc<Self> {
        Arc::new(Self { id: 0, flags: MountFlags::empty(), kind: "none", source: String::new(), covers: None, watches: None })
    }

    /// Who watches places in it; nobody does what is in no mount.
    pub(super) fn watches(&self) -> Option<&Watches<P>> {
        self.watches.as_deref()
    }

    /// The mount point that its root is shown on; `None` for the root mount and for one that was unmounted.
    #[must_use]
    pub fn covers(&self) -> Option<Arc<Dentry<P>>> {
        self.covers.as_ref().and_then(Weak::upgrade)
    }
}

/// A file system to mount.
#[derive(Debug)]
pub struct NewMount<P: Platform> {
    /// Its root directory, or for a bind mount any inode.
    pub root: InodeRef<P>,
    /// Its restrictions.
    pub flags: MountFlags,
    /// Name of the file-system type.
    pub kind: &'static str,
    /// What is mounted.
    pub source: String,
}

struct Mount<P: Platform> {
    point: Arc<Dentry<P>>,
    root: Arc<Dentry<P>>,
}

/// The mounts that a set of processes sees.
pub struct MountNamespace<P: Platform> {
    root: Arc<Dentry<P>>,
    watches: Arc<Watches<P>>,
    mounts: Mutex<P, (u32, Vec<Mount<P>>)>,
    rename: Mutex<P, ()>,
    recent: Mutex<P, VecDeque<Arc<Dentry<P>>>>,
}

impl<P: Platform> fmt::Debug for MountNamespace<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountNamespace").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<P: Platform> MountNamespace<P> {
    /// A namespace with this root.
    #[must_use]
    pub fn new(root: NewMount<P>) -> Arc<Self> {
        let watches = Watches::new();
        let known = Some(Arc::clone(&watches));
        let info = MountInfo { id: 1, flags: root.flags, kind: root.kind, source: root.source, covers: None, watches: known };
        let root = Dentry::root(root.root, Arc::new(info));
        Arc::new(Self {
            root,
            watches,
            mounts: Mutex::<P, _>::new((1, Vec::new())),
            rename: Mutex::<P, _>::new(()),
            recent: Mutex::<P, _>::new(VecDeque::new()),
        })
    }

    /// Who watches its files.
    #[must_use]
    pub fn watches(&self) -> &Arc<Watches<P>> {
        &self.watches
    }

    /// The root of all.
    #[must_use]
    pub fn root(&self) -> &Arc<Dentry<P>> {
        &self.root
    }

    /// Shows `new` at `point`, over what is there.
    ///
    /// # Errors
    /// - `NOTDIR`: one is a directory and the other is not.
    /// - `NOENT`: `point` was removed. `NOSPC`: there are too many mounts.
    pub fn mount(&self, point: &Arc<Dentry<P>>, new: NewMount<P>) -> Result<Arc<Dentry<P>>> {
        let point = Arc::clone(point).top();
        if point.is_dir() != (new.root.kind() == FileKind::Directory) {
            return Err(errno!(NOTDIR, "a directory goes on a directory, a file on a file"));
        }
        let mut mounts = self.mounts.lock();
        if point.is_deleted() {
            return Err(errno!(NOENT, "the mount point was removed"));
        }
        if mounts.1.len() >= MOUNTS_MAX {
            return Err(errno!(NOSPC, "too many mounts"));
        }
        mounts.0 = mounts.0.saturating_add(1);
        let covers = Some(Arc::downgrade(&point));
        let watches = Some(Arc::clone(&self.watches));
        let info = MountInfo { id: mounts.0, flags: new.flags, kind: new.kind, source: new.source, covers, watches };
        let root = Dentry::root(new.root, Arc::new(info));
        point.set_mounted(Some(Arc::clone(&root)));
        mounts.1.push(Mount { point, root: Arc::clone(&root) });
        Ok(root)
    }

    /// Takes away the mount with this root. Files that are open in it stay so.
    ///
    /// # Errors
    /// `INVAL`: not the root of a mount, or the namespace's own root. `BUSY`: something is mounted on it.
    pub fn unmount(&self, root: &Arc<Dentry<P>>) -> Result<()> {
        let mut mounts = self.mounts.lock();
        if root.is_mount_point() || mounts.1.iter().any(|mount| Arc::ptr_eq(mount.point.mount(), root.mount())) {
            return Err(errno!(BUSY, "something is mounted on it"));
        }
        let index = mounts.1.iter().position(|mount| Arc::ptr_eq(&mount.root, root)).ok_or(errno!(INVAL))?;
        let gone = mounts.1.swap_remove(index);
        gone.point.set_mounted(None);
        drop(mounts);
        drop(gone);
        Ok(())
    }

    /// Every mount's root, the namespace's own first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Dentry<P>>> {
        let mounts = self.mounts.lock();
        core::iter::once(&self.root).chain(mounts.1.iter().map(|mount| &mount.root)).cloned().collect()
    }

    /// Keeps a directory that is costly to look into in mind for a while, so that the next walk through it need not ask the host.
    pub(super) fn keep(&self, dir: &Arc<Dentry<P>>) {
        let mut recent = self.recent.lock();
        let evicted = if recent.len() >= RECENT_MAX { recent.pop_front() } else { None };
        // Without memory nothing is kept.
        if recent.try_reserve(1).is_ok() {
            recent.push_back(Arc::clone(dir));
        }
        drop(recent);
        drop(evicted);
    }

    /// Held by whoever changes two directories at once.
    pub(super) fn lock_rename(&self) -> MutexGuard<'_, P, ()> {
        self.rename.lock()
    }
}

impl<P: Platform> Drop for MountNamespace<P> {
    fn drop(&mut self) {
        // Last mounted first: a root that is itself covered lets go of what covers it.
        while let Some(mount) = self.mounts.get_mut().1.pop() {
            mount.point.set_mounted(None);
        }
    }
}
