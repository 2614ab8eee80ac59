//! Which file system is shown where.
//!
//! Each mount has places ([`Dentry`]) of its own, also if another mount shows the same files: then neither believes what it remembers
//! of names without asking the file system (`MountInfo::has_twin`). Changing the tree of mounts is in `tree`.
//! Invariants: a mount point is held by its [`MountNamespace`], so what it shows stays until it is unmounted; the root mount is
//! never unmounted; a mount is in one namespace; each is charged. Locks: `mounts` before a dentry's own, and no file system is called
//! under it; `rename` is rank "rename", outside every directory, and one for all namespaces that were made of each other, since
//! descriptors go from one to another; `recent`, `covers` are leaves.
//! Sources: `mount_namespaces(7)`; Linux fs/namespace.c.

mod tree;

pub use tree::Copied;

use super::dentry::Dentry;
use super::inode::InodeRef;
use super::notify::Watches;
use crate::error::Result;
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::{Mutex, MutexGuard};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What a mount is charged beside the text that it is given.
const MOUNT_COST: u64 = 1024;
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
    flags: AtomicU32,
    /// Name of the file-system type, such as `tmpfs`.
    pub kind: &'static str,
    /// What was mounted, as /proc/mounts shows it.
    pub source: String,
    /// Where its root is in the file system: `/`, but for a bind mount.
    pub within: Vec<u8>,
    covers: Mutex<P, Option<Weak<Dentry<P>>>>,
    watches: Option<Arc<Watches<P>>>,
    has_twin: AtomicBool,
    expires: AtomicBool,
    _charge: Option<Charge>,
}

impl<P: Platform> fmt::Debug for MountInfo<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountInfo").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<P: Platform> MountInfo<P> {
    /// For places that are in no mount.
    pub(super) fn detached() -> Arc<Self> {
        let nothing = NewInfo { flags: MountFlags::empty(), kind: "none", source: String::new(), within: Vec::new() };
        Arc::new(Self::new(0, nothing, None, None, None))
    }

    fn new(
        id: u32,
        new: NewInfo,
        covers: Option<&Arc<Dentry<P>>>,
        watches: Option<Arc<Watches<P>>>,
        charge: Option<Charge>,
    ) -> Self {
        Self {
            id,
            flags: AtomicU32::new(new.flags.bits()),
            kind: new.kind,
            source: new.source,
            within: new.within,
            covers: Mutex::<P, _>::new(covers.map(Arc::downgrade)),
            watches,
            has_twin: AtomicBool::new(false),
            expires: AtomicBool::new(false),
            _charge: charge,
        }
    }

    /// Its restrictions.
    #[must_use]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Changes its restrictions. What is open stays as it was opened.
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// Whether another mount shows the same files, so that names come and go without a call through this one's places.
    pub(super) fn has_twin(&self) -> bool {
        self.has_twin.load(Ordering::Relaxed)
    }

    /// Who watches places in it; nobody does what is in no mount.
    pub(super) fn watches(&self) -> Option<&Watches<P>> {
        self.watches.as_deref()
    }

    /// The mount point that its root is shown on; `None` for the root mount and for one that was unmounted.
    #[must_use]
    pub fn covers(&self) -> Option<Arc<Dentry<P>>> {
        self.covers.lock().as_ref().and_then(Weak::upgrade)
    }
}

/// What a mount begins with.
struct NewInfo {
    flags: MountFlags,
    kind: &'static str,
    source: String,
    within: Vec<u8>,
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

impl<P: Platform> Clone for Mount<P> {
    fn clone(&self) -> Self {
        Self { point: Arc::clone(&self.point), root: Arc::clone(&self.root) }
    }
}

struct Mounts<P: Platform> {
    root: Arc<Dentry<P>>,
    /// All but the root's.
    list: Vec<Mount<P>>,
}

/// What namespaces share of which one was made of the other.
struct Common<P: Platform> {
    last_id: AtomicU32,
    rename: Mutex<P, ()>,
    quota: Arc<Quota>,
}

impl<P: Platform> Common<P> {
    fn info(&self, new: NewInfo, covers: Option<&Arc<Dentry<P>>>, watches: &Arc<Watches<P>>) -> Result<Arc<MountInfo<P>>> {
        let text = u64::try_from(new.source.len().saturating_add(new.within.len())).unwrap_or(u64::MAX);
        let charge = self.quota.charge(MOUNT_COST.saturating_add(text))?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        Ok(Arc::new(MountInfo::new(id, new, covers, Some(Arc::clone(watches)), Some(charge))))
    }
}

/// Places that are kept in mind, the oldest first.
struct Recent<P: Platform> {
    dirs: VecDeque<Arc<Dentry<P>>>,
    /// A list of its own, so that many files do not push out the directories on the way to all of them.
    others: VecDeque<Arc<Dentry<P>>>,
}

impl<P: Platform> Default for Recent<P> {
    fn default() -> Self {
        Self { dirs: VecDeque::new(), others: VecDeque::new() }
    }
}

impl<P: Platform> Recent<P> {
    fn list(&mut self, is_dir: bool) -> &mut VecDeque<Arc<Dentry<P>>> {
        if is_dir { &mut self.dirs } else { &mut self.others }
    }

    /// Takes out what is in `mount`.
    fn take(&mut self, mount: &Arc<MountInfo<P>>) -> Vec<Arc<Dentry<P>>> {
        let mut taken = Vec::new();
        for list in [&mut self.dirs, &mut self.others] {
            let is_in = |place: &&Arc<Dentry<P>>| Arc::ptr_eq(place.mount(), mount);
            taken.extend(list.iter().filter(is_in).cloned());
            list.retain(|place| !is_in(&place));
        }
        taken
    }
}

/// The mounts that a set of processes sees.
pub struct MountNamespace<P: Platform> {
    common: Arc<Common<P>>,
    watches: Arc<Watches<P>>,
    mounts: Mutex<P, Mounts<P>>,
    recent: Mutex<P, Recent<P>>,
}

impl<P: Platform> fmt::Debug for MountNamespace<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountNamespace").field("root", &self.root()).finish_non_exhaustive()
    }
}

impl<P: Platform> MountNamespace<P> {
    /// A namespace with this root. What is mounted in it is charged to `quota`.
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn new(root: NewMount<P>, quota: &Arc<Quota>) -> Result<Arc<Self>> {
        let common = Common { last_id: AtomicU32::new(0), rename: Mutex::<P, _>::new(()), quota: Arc::clone(quota) };
        let watches = Watches::new();
        let new = NewInfo { flags: root.flags, kind: root.kind, source: root.source, within: b"/".to_vec() };
        let root = Dentry::root(root.root, common.info(new, None, &watches)?);
        Ok(Self::with(Arc::new(common), watches, Mounts { root, list: Vec::new() }))
    }

    fn with(common: Arc<Common<P>>, watches: Arc<Watches<P>>, mounts: Mounts<P>) -> Arc<Self> {
        let (mounts, recent) = (Mutex::<P, _>::new(mounts), Mutex::<P, _>::new(Recent::default()));
        Arc::new(Self { common, watches, mounts, recent })
    }

    /// Who watches its files.
    #[must_use]
    pub fn watches(&self) -> &Arc<Watches<P>> {
        &self.watches
    }

    /// The root of all.
    #[must_use]
    pub fn root(&self) -> Arc<Dentry<P>> {
        Arc::clone(&self.mounts.lock().root)
    }

    /// Shows `new` at `point`, over what is there.
    ///
    /// # Errors
    /// - `NOTDIR`: one is a directory and the other is not.
    /// - `NOENT`: `point` was removed. `NOSPC`: there are too many mounts. `NOMEM`.
    pub fn mount(&self, point: &Arc<Dentry<P>>, new: NewMount<P>) -> Result<Arc<Dentry<P>>> {
        let point = Arc::clone(point).top();
        let info = NewInfo { flags: new.flags, kind: new.kind, source: new.source, within: b"/".to_vec() };
        let root = Dentry::root(new.root, self.common.info(info, Some(&point), &self.watches)?);
        self.attach(&point, Arc::clone(&root), Vec::new())?;
        Ok(root)
    }

    /// Every mount's root, the namespace's own first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Dentry<P>>> {
        let mounts = self.mounts.lock();
        core::iter::once(&mounts.root).chain(mounts.list.iter().map(|mount| &mount.root)).cloned().collect()
    }

    /// Keeps a place that was just looked up in mind for a while, so that the next walk need not ask its file system.
    ///
    /// What is kept is used by nobody: whoever takes its name away calls [`Self::forget`], or its file would stay.
    pub(super) fn keep(&self, place: &Arc<Dentry<P>>) {
        place.note_kept();
        let mut recent = self.recent.lock();
        let list = recent.list(place.is_dir());
        let evicted = if list.len() >= RECENT_MAX { list.pop_front() } else { None };
        // Without memory nothing is kept.
        if list.try_reserve(1).is_ok() {
            list.push_back(Arc::clone(place));
        }
        drop(recent);
        drop(evicted);
    }

    /// Keeps a place whose name is gone no longer.
    pub(super) fn forget(&self, place: &Arc<Dentry<P>>) {
        if !place.was_kept() {
            return;
        }
        let mut recent = self.recent.lock();
        let list = recent.list(place.is_dir());
        let gone = list.iter().position(|kept| Arc::ptr_eq(kept, place)).and_then(|at| list.remove(at));
        drop(recent);
        drop(gone);
    }

    /// Held by whoever changes two directories at once.
    pub(super) fn lock_rename(&self) -> MutexGuard<'_, P, ()> {
        self.common.rename.lock()
    }
}

impl<P: Platform> Drop for MountNamespace<P> {
    fn drop(&mut self) {
        // Last mounted first: a root that is itself covered lets go of what covers it.
        while let Some(mount) = self.mounts.get_mut().list.pop() {
            mount.point.set_mounted(None);
        }
    }
}
