//! Changing the tree of mounts: attaching, binding, moving, unmounting, another root, a copy of the whole.
//!
//! Invariants: each operation is seen whole or not at all by who walks a path; what is made of several mounts is made apart and
//! then attached. Locks: those of the module's header; places are looked up before `mounts` is taken.
//! Hostile input: every place. Sources: mount(2), umount(2), `pivot_root(2)`; Linux fs/namespace.c.

use super::{MOUNTS_MAX, Mount, MountNamespace, Mounts, NewInfo};
use crate::fs::dentry::Dentry;
use crate::fs::types::NameBuf;
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// A root, and the one that shows the same.
type Pair<P> = (Arc<Dentry<P>>, Arc<Dentry<P>>);

/// What shows the same as something else.
struct Twins<P: Platform> {
    root: Arc<Dentry<P>>,
    /// The root's, and those of what is mounted in it.
    pairs: Vec<Pair<P>>,
    inner: Vec<Mount<P>>,
}

/// A namespace made of another.
#[derive(Debug)]
pub struct Copied<P: Platform> {
    /// The new one.
    pub namespace: Arc<MountNamespace<P>>,
    pairs: Vec<Pair<P>>,
}

impl<P: Platform> Copied<P> {
    /// The place that is in the new namespace what `place` is in the old one; `place` itself if there is none.
    #[must_use]
    pub fn counterpart(&self, place: &Arc<Dentry<P>>) -> Arc<Dentry<P>> {
        let pair = self.pairs.iter().find(|(old, _)| Arc::ptr_eq(old.mount(), place.mount()));
        let found = pair.and_then(|(old, new)| descend(new, &names_below(old, place)?));
        found.unwrap_or_else(|| Arc::clone(place))
    }
}

/// The names from `top` down to `place`, the last one first; `None` if it is not below `top` in the same mount, or was removed.
fn names_below<P: Platform>(top: &Arc<Dentry<P>>, place: &Arc<Dentry<P>>) -> Option<Vec<NameBuf>> {
    let mut names = Vec::new();
    let mut here = Arc::clone(place);
    while !Arc::ptr_eq(&here, top) {
        if here.is_deleted() {
            return None;
        }
        names.try_reserve(1).ok()?;
        names.push(here.name());
        here = here.parent()?;
    }
    Some(names)
}

/// The place that `names` of [`names_below`] lead to from `top` on.
fn descend<P: Platform>(top: &Arc<Dentry<P>>, names: &[NameBuf]) -> Option<Arc<Dentry<P>>> {
    names.iter().rev().try_fold(Arc::clone(top), |here, name| here.child(name.as_name()).ok())
}

impl<P: Platform> Mounts<P> {
    /// Where the mount with this root is in the list.
    fn position(&self, root: &Arc<Dentry<P>>) -> Option<usize> {
        self.list.iter().position(|mount| Arc::ptr_eq(&mount.root, root))
    }

    /// Whether `place` is in a mount of this namespace.
    fn has(&self, place: &Arc<Dentry<P>>) -> bool {
        let is = |root: &Arc<Dentry<P>>| Arc::ptr_eq(root.mount(), place.mount());
        is(&self.root) || self.list.iter().any(|mount| is(&mount.root))
    }

    /// Whether something is mounted in the mount with this root.
    fn is_mounted_in(&self, root: &Arc<Dentry<P>>) -> bool {
        self.list.iter().any(|mount| Arc::ptr_eq(mount.point.mount(), root.mount()))
    }

    /// Shows a mount where it says.
    fn put(&mut self, mount: Mount<P>) {
        *mount.root.mount().covers.lock() = Some(Arc::downgrade(&mount.point));
        mount.point.set_mounted(Some(Arc::clone(&mount.root)));
        self.list.push(mount);
    }
}

/// Whether `place` is `top` or below it, through mounts.
fn is_below<P: Platform>(top: &Arc<Dentry<P>>, place: &Arc<Dentry<P>>) -> bool {
    let mut here = Some(Arc::clone(place));
    while let Some(place) = here {
        if Arc::ptr_eq(&place, top) {
            return true;
        }
        here = place.parent().or_else(|| place.mount().covers());
    }
    false
}

impl<P: Platform> MountNamespace<P> {
    /// Shows `root`, which is nowhere yet, at `point`, with the mounts that are in it already.
    pub(super) fn attach(&self, point: &Arc<Dentry<P>>, root: Arc<Dentry<P>>, inner: Vec<Mount<P>>) -> Result<()> {
        if point.is_dir() != root.is_dir() {
            return Err(errno!(NOTDIR, "a directory goes on a directory, a file on a file"));
        }
        let mut mounts = self.mounts.lock();
        if point.is_deleted() {
            return Err(errno!(NOENT, "the mount point was removed"));
        }
        if !mounts.has(point) {
            return Err(errno!(INVAL, "not in this namespace"));
        }
        if mounts.list.len().saturating_add(inner.len()) >= MOUNTS_MAX {
            return Err(errno!(NOSPC, "too many mounts"));
        }
        // Somebody may have been faster.
        let point = Arc::clone(point).top();
        mounts.put(Mount { point, root });
        mounts.list.extend(inner);
        Ok(())
    }

    /// A root that shows what is at `of`, with the same restrictions.
    fn twin(&self, of: &Arc<Dentry<P>>, covers: Option<&Arc<Dentry<P>>>) -> Result<Arc<Dentry<P>>> {
        let info = of.mount();
        let mut within = info.within.clone();
        if let Some(top) = of.mount_root() {
            let names = names_below(&top, of).ok_or(errno!(NOENT, "it was removed"))?;
            for name in names.iter().rev() {
                if within.last() != Some(&b'/') {
                    within.push(b'/');
                }
                within.extend_from_slice(name.as_bytes());
            }
        }
        let new = NewInfo { flags: info.flags(), kind: info.kind, source: info.source.clone(), within };
        let twin = self.common.info(new, covers, &self.watches)?;
        info.has_twin.store(true, Ordering::Relaxed);
        twin.has_twin.store(true, Ordering::Relaxed);
        // Nobody forgets them any more when their names go by way of the other (see `Dentry::keeps`).
        let kept = self.recent.lock().take(info);
        drop(kept);
        Ok(Dentry::root(Arc::clone(of.inode()), twin))
    }

    /// What shows the same as `from` does, with all that is mounted below it if that is wanted.
    fn twins(&self, from: &Arc<Dentry<P>>, covers: Option<&Arc<Dentry<P>>>, deep: bool) -> Result<Twins<P>> {
        let list = if deep { self.mounts.lock().list.clone() } else { Vec::new() };
        let first = self.twin(from, covers)?;
        let mut twins = Twins { pairs: alloc::vec![(Arc::clone(from), Arc::clone(&first))], root: first, inner: Vec::new() };
        let mut next = 0usize;
        while let Some((old, new)) = twins.pairs.get(next).cloned() {
            next = next.saturating_add(1);
            for mount in list.iter().filter(|mount| Arc::ptr_eq(mount.point.mount(), old.mount())) {
                let point = names_below(&old, &mount.point).and_then(|names| descend(&new, &names));
                let Some(point) = point else { continue };
                let root = self.twin(&mount.root, Some(&point))?;
                point.set_mounted(Some(Arc::clone(&root)));
                twins.pairs.push((Arc::clone(&mount.root), Arc::clone(&root)));
                twins.inner.push(Mount { point, root });
            }
        }
        Ok(twins)
    }

    /// Shows what is at `from` at `point` as well; with `deep` also what is mounted below it.
    ///
    /// # Errors
    /// - `INVAL`: `from` is in no mount of this namespace.  - Those of [`MountNamespace::mount`].
    pub fn bind(&self, from: &Arc<Dentry<P>>, point: &Arc<Dentry<P>>, deep: bool) -> Result<Arc<Dentry<P>>> {
        if !self.mounts.lock().has(from) {
            return Err(errno!(INVAL, "in another namespace"));
        }
        let point = Arc::clone(point).top();
        let twins = self.twins(from, Some(&point), deep)?;
        self.attach(&point, Arc::clone(&twins.root), twins.inner)?;
        Ok(twins.root)
    }

    /// Shows the mount with this root at `point` instead of where it is.
    ///
    /// # Errors
    /// - `INVAL`: no root of a mount, or the namespace's own.  - `LOOP`: `point` is below it.
    /// - `NOTDIR`, `NOENT`: as for [`MountNamespace::mount`].
    pub fn move_to(&self, root: &Arc<Dentry<P>>, point: &Arc<Dentry<P>>) -> Result<()> {
        let point = Arc::clone(point).top();
        let mut mounts = self.mounts.lock();
        let index = mounts.position(root).filter(|_| mounts.has(&point)).ok_or(errno!(INVAL, "no mount that can be moved"))?;
        if point.is_dir() != root.is_dir() {
            return Err(errno!(NOTDIR, "a directory goes on a directory, a file on a file"));
        }
        if point.is_deleted() {
            return Err(errno!(NOENT, "the mount point was removed"));
        }
        if is_below(root, &point) {
            return Err(errno!(LOOP, "a mount cannot go into itself"));
        }
        let moved = mounts.list.remove(index);
        moved.point.set_mounted(None);
        mounts.put(Mount { point, root: moved.root });
        drop(mounts);
        drop(moved.point);
        Ok(())
    }

    /// Whether somebody uses the mount with this root, of which the caller has one handle. Under `mounts`.
    fn is_used(&self, root: &Arc<Dentry<P>>) -> bool {
        /// A root's handles when nobody uses it: its mount's, its mount point's, the caller's.
        const IDLE: usize = 3;
        let kept = self.recent.lock().take(root.mount());
        drop(kept);
        Arc::strong_count(root.mount()) > 1 || Arc::strong_count(root) > IDLE
    }

    /// Takes away the mount with this root, of which the caller has one handle, if nobody uses it.
    ///
    /// # Errors
    /// `INVAL`: not the root of a mount. `BUSY`: something is mounted or open in it, or it is the namespace's own root.
    pub fn unmount(&self, root: &Arc<Dentry<P>>) -> Result<()> {
        let mut mounts = self.mounts.lock();
        if Arc::ptr_eq(&mounts.root, root) {
            return Err(errno!(BUSY, "the root of all"));
        }
        let index = mounts.position(root).ok_or(errno!(INVAL, "no root of a mount"))?;
        if root.is_mount_point() || mounts.is_mounted_in(root) || self.is_used(root) {
            return Err(errno!(BUSY, "it is in use"));
        }
        let gone = mounts.list.remove(index);
        gone.point.set_mounted(None);
        drop(mounts);
        drop(gone);
        Ok(())
    }

    /// The same, but for the first call: that only marks it (`MNT_EXPIRE`).
    ///
    /// # Errors
    /// Those of [`MountNamespace::unmount`]. `AGAIN`: it was not marked.
    pub fn expire(&self, root: &Arc<Dentry<P>>) -> Result<()> {
        let mounts = self.mounts.lock();
        if mounts.is_mounted_in(root) || self.is_used(root) {
            return Err(errno!(BUSY, "it is in use"));
        }
        drop(mounts);
        if !root.mount().expires.swap(true, Ordering::Relaxed) {
            return Err(errno!(AGAIN, "the next call takes it away"));
        }
        self.unmount(root)
    }

    /// Takes away the mount with this root and all that is mounted in it; what is open there stays so (`MNT_DETACH`).
    ///
    /// # Errors
    /// `INVAL`: not the root of a mount, or the namespace's own root.
    pub fn detach(&self, root: &Arc<Dentry<P>>) -> Result<()> {
        let mut mounts = self.mounts.lock();
        let index = mounts.position(root).ok_or(errno!(INVAL, "no root of a mount, or that of all"))?;
        let mut gone = alloc::vec![mounts.list.remove(index)];
        let mut next = 0usize;
        while let Some(outer) = gone.get(next).map(|mount| Arc::clone(mount.root.mount())) {
            next = next.saturating_add(1);
            while let Some(index) = mounts.list.iter().position(|mount| Arc::ptr_eq(mount.point.mount(), &outer)) {
                gone.push(mounts.list.remove(index));
            }
        }
        for mount in &gone {
            mount.point.set_mounted(None);
        }
        drop(mounts);
        drop(gone);
        Ok(())
    }

    /// Makes `new`, a mount's root, the root instead of `old`, which is shown at `put` from then on. See `pivot_root(2)`.
    ///
    /// # Errors
    /// - `BUSY`: `new` or `put` is in the mount of `old`.
    /// - `INVAL`: `new` or `old` is no root of a mount; `put` is not below `new`, or `new` not below `old`.  - `NOENT`: `new` was removed.
    pub fn pivot(&self, old: &Arc<Dentry<P>>, new: &Arc<Dentry<P>>, put: &Arc<Dentry<P>>) -> Result<()> {
        let put = Arc::clone(put).top();
        let mut mounts = self.mounts.lock();
        if !mounts.has(new) || !mounts.has(&put) || !mounts.has(old) {
            return Err(errno!(INVAL, "in another namespace"));
        }
        if new.is_deleted() || put.is_deleted() {
            return Err(errno!(NOENT, "it was removed"));
        }
        let is_old = |place: &Arc<Dentry<P>>| Arc::ptr_eq(place.mount(), old.mount());
        if is_old(new) || is_old(&put) {
            return Err(errno!(BUSY, "on the present root's file system"));
        }
        let is_root = |place: &Arc<Dentry<P>>| place.parent().is_none();
        let index = mounts.position(new).filter(|_| is_root(old) && is_root(new)).ok_or(errno!(INVAL, "no root of a mount"))?;
        if !is_below(new, &put) || !is_below(old, new) {
            return Err(errno!(INVAL, "not below it"));
        }
        let moved = mounts.list.remove(index);
        moved.point.set_mounted(None);
        match mounts.position(old) {
            Some(index) => {
                let outer = mounts.list.remove(index);
                mounts.put(Mount { point: outer.point, root: Arc::clone(new) });
            }
            None => {
                *new.mount().covers.lock() = None;
                mounts.root = Arc::clone(new);
            }
        }
        mounts.put(Mount { point: put, root: Arc::clone(old) });
        drop(mounts);
        drop(moved);
        Ok(())
    }

    /// A namespace of its own with all that this one has.
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn copy(&self) -> Result<Copied<P>> {
        let root = self.root();
        let Twins { pairs, root, inner } = self.twins(&root, None, true)?;
        let (common, watches) = (Arc::clone(&self.common), Arc::clone(&self.watches));
        Ok(Copied { namespace: Self::with(common, watches, Mounts { root, list: inner }), pairs })
    }
}
