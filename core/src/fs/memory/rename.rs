//! Moving names between and within directories in memory.
//!
//! Invariants: a directory never becomes its own ancestor; a replaced directory is empty and stays unusable. Locks: the caller
//! holds `tree`, so nobody else holds two directories' `entries`; plain creates and unlinks hold one. Source: rename(2).

use super::{Entry, MemoryNode};
use crate::fs::types::{Name, RenameFlags};
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;

impl<P: Platform> MemoryNode<P> {
    /// Makes an emptied directory unusable. The caller holds `tree`.
    pub(super) fn retire(&self) -> Result<()> {
        let mut entries = self.entries()?.lock();
        if !entries.by_name.is_empty() {
            return Err(errno!(NOTEMPTY));
        }
        entries.removed = true;
        Ok(())
    }

    /// Whether `self` is `other` or above it. The caller holds `tree`.
    fn is_above(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut here = Some(Arc::clone(other));
        while let Some(node) = here {
            if Arc::ptr_eq(self, &node) {
                return true;
            }
            here = node.entries().ok().and_then(|entries| entries.lock().parent.upgrade());
        }
        false
    }

    fn set_parent(&self, parent: &Arc<Self>) {
        if let Ok(entries) = self.entries() {
            entries.lock().parent = Arc::downgrade(parent);
        }
    }

    /// Renames within `tree`. `self` and `dir` are directories, different ones.
    pub(super) fn rename_across(
        self: &Arc<Self>,
        from: Name<'_>,
        dir: &Arc<Self>,
        to: Name<'_>,
        flags: RenameFlags,
    ) -> Result<()> {
        let source = Arc::clone(self.entries()?.lock().get(from)?);
        let target = dir.entries()?.lock().get(to).ok().cloned();
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        check_replace(&source, target.as_ref(), flags)?;
        if source.is_above(dir) || (exchange && target.as_ref().is_some_and(|target| target.is_above(self))) {
            return Err(errno!(INVAL, "a directory cannot go into itself"));
        }
        let charge = dir.charge_name(to)?;
        // `tree` is held: nobody else locks two, so the order of these does not matter.
        let mut old = self.entries()?.lock();
        let mut new = dir.entries()?.lock();
        if new.removed {
            return Err(errno!(NOENT, "the directory was removed"));
        }
        // A plain create or unlink may have come in between: those take one directory's lock only.
        let same = |found: Option<&Entry<P>>, known: Option<&Arc<Self>>| {
            found.map(|entry| Arc::as_ptr(&entry.node)) == known.map(Arc::as_ptr)
        };
        if !same(old.by_name.get(from.as_bytes()), Some(&source)) || !same(new.by_name.get(to.as_bytes()), target.as_ref()) {
            return Err(errno!(NOENT, "somebody else was faster"));
        }
        if let (Some(target), false) = (&target, exchange) {
            if target.is_dir() {
                target.retire()?;
            }
        }
        let replaced = new.remove(to);
        let moved = old.remove(from);
        if let Some(moved) = moved {
            new.insert(to, moved.node, charge);
        }
        let (mut old_links, mut new_links) = (0i32, 0i32);
        if source.is_dir() {
            (old_links, new_links) = (-1, 1);
        }
        match replaced {
            Some(entry) if exchange => {
                let charge = self.charge_name(from);
                if entry.node.is_dir() {
                    (old_links, new_links) = (old_links.saturating_add(1), new_links.saturating_sub(1));
                }
                old.insert(from, Arc::clone(&entry.node), charge.unwrap_or(entry._charge));
            }
            Some(entry) if entry.node.is_dir() => new_links = new_links.saturating_sub(1),
            _ => {}
        }
        drop((old, new));
        source.set_parent(dir);
        source.relink(0);
        if let Some(target) = target {
            if exchange {
                target.set_parent(self);
                target.relink(0);
            } else {
                target.relink(if target.is_dir() { -2 } else { -1 });
            }
        }
        self.touch(old_links);
        dir.touch(new_links);
        Ok(())
    }

    /// Renames within one directory.
    pub(super) fn rename_within(&self, from: Name<'_>, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        let charge = self.charge_name(to)?;
        let mut entries = self.entries()?.lock();
        let source = Arc::clone(entries.get(from)?);
        let target = entries.get(to).ok().cloned();
        check_replace(&source, target.as_ref(), flags)?;
        if from == to {
            return Ok(());
        }
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if let (Some(target), false) = (&target, exchange) {
            if target.is_dir() {
                target.retire()?;
            }
        }
        let replaced = entries.remove(to);
        let moved = entries.remove(from);
        if let Some(moved) = moved {
            entries.insert(to, moved.node, charge);
            if let (Some(replaced), true) = (replaced, exchange) {
                entries.insert(from, replaced.node, moved._charge);
            }
        }
        drop(entries);
        source.relink(0);
        let mut links = 0;
        if let Some(target) = target.filter(|_| !exchange) {
            target.relink(if target.is_dir() { -2 } else { -1 });
            links = if target.is_dir() { -1 } else { 0 };
        }
        self.touch(links);
        Ok(())
    }
}

/// Whether `source` may take the place of `target`.
fn check_replace<P: Platform>(
    source: &Arc<MemoryNode<P>>,
    target: Option<&Arc<MemoryNode<P>>>,
    flags: RenameFlags,
) -> Result<()> {
    let Some(target) = target else {
        return if flags.contains(RenameFlags::EXCHANGE) { Err(errno!(NOENT)) } else { Ok(()) };
    };
    if flags.contains(RenameFlags::NOREPLACE) {
        return Err(errno!(EXIST));
    }
    match (source.is_dir(), target.is_dir()) {
        (true, false) if !flags.contains(RenameFlags::EXCHANGE) => Err(errno!(NOTDIR)),
        (false, true) if !flags.contains(RenameFlags::EXCHANGE) => Err(errno!(ISDIR)),
        _ => Ok(()),
    }
}
