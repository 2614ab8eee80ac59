//! Adding, taking away and moving names.
//!
//! Invariants: each call changes what is shown at once or not at all; where two steps are needed above, the first is one that shows
//! nothing. Locks: the caller holds none of the overlay's; `change` is held around every step. A directory that has nothing below
//! has no whiteouts, and leaves all to the upper file system.

use super::{Node, OPAQUE, Shared, is_whiteout, optional};
use crate::fs::inode::{InodeRef, Special};
use crate::fs::types::{DeviceId, FileKind, Gid, Mode, Name, NameBuf, NewNode, RenameFlags, Uid};
use crate::fs::xattr::SetHow;
use crate::platform::Platform;
use crate::{errno, error::Errno, error::Result};
use core::sync::atomic::Ordering;

impl<P: Platform> Shared<P> {
    /// Takes away what was made in `work` and is of no use. That it stays is the worst that a failure does.
    pub(super) fn discard(&self, name: Name<'_>, kind: FileKind) {
        let _ = if kind == FileKind::Directory { self.work.rmdir(name) } else { self.work.unlink(name) };
    }

    /// Puts a whiteout at `name` in `dir`, a directory above.
    fn whiten(&self, dir: &InodeRef<P>, name: Name<'_>) -> Result<()> {
        let mut last = self.whiteout.lock();
        if let Some(whiteout) = &*last {
            match dir.link(name, whiteout) {
                Err(error) if error.is(Errno::MLINK) => {}
                done => return done,
            }
        }
        let new = NewNode { mode: Mode::empty(), uid: Uid(0), gid: Gid(0) };
        *last = Some(dir.create(name, Special::CharDevice(DeviceId::default()), new)?);
        Ok(())
    }

    /// Takes a whiteout away that was put where nothing was.
    fn unwhiten(&self, dir: &InodeRef<P>, name: Name<'_>) {
        // What it hides stays hidden if that fails; no call has been told otherwise.
        let _ = dir.unlink(name);
    }

    /// Puts a whiteout in the place of `name` in `dir`, which is there.
    fn replace_by_whiteout(&self, dir: &InodeRef<P>, name: Name<'_>, old: &InodeRef<P>) -> Result<()> {
        let temporary = self.temporary()?;
        let temporary = temporary.as_name();
        self.whiten(&self.work, temporary)?;
        let swapped = self.work.rename(temporary, dir, name, RenameFlags::EXCHANGE);
        swapped.inspect_err(|_| self.discard(temporary, FileKind::CharDevice))?;
        if old.kind() == FileKind::Directory {
            purge(old)?;
        }
        self.discard(temporary, old.kind());
        Ok(())
    }
}

/// Takes away the whiteouts in `dir`, a directory above that shows no name.
fn purge<P: Platform>(dir: &InodeRef<P>) -> Result<()> {
    loop {
        let mut first = None;
        dir.read_dir(2, &mut |entry| {
            first = Name::new(entry.name).ok().map(NameBuf::from);
            false
        })?;
        let Some(name) = first else { return Ok(()) };
        dir.unlink(name.as_name())?;
    }
}

impl<P: Platform> Node<P> {
    /// Gives `name` what `make` makes in a directory above.
    pub(super) fn add(
        &self,
        name: Name<'_>,
        make: impl FnOnce(&InodeRef<P>, Name<'_>) -> Result<InodeRef<P>>,
    ) -> Result<InodeRef<P>> {
        self.alive()?;
        let dir = self.raised(0)?;
        if self.lower.is_none() {
            return self.shared.above(make(&dir, name)?).map(|node| node as InodeRef<P>);
        }
        let below = self.below(name)?.is_some();
        let _change = self.shared.change.lock();
        self.alive()?;
        let made = match optional(dir.lookup(name))? {
            Some(old) if is_whiteout(&old)? => self.add_over_whiteout(&dir, name, make)?,
            Some(_) => return Err(errno!(EXIST)),
            None if below => return Err(errno!(EXIST)),
            None => make(&dir, name)?,
        };
        self.shared.above(made).map(|node| node as InodeRef<P>)
    }

    fn add_over_whiteout(
        &self,
        dir: &InodeRef<P>,
        name: Name<'_>,
        make: impl FnOnce(&InodeRef<P>, Name<'_>) -> Result<InodeRef<P>>,
    ) -> Result<InodeRef<P>> {
        let work = &self.shared.work;
        let temporary = self.shared.temporary()?;
        let temporary = temporary.as_name();
        let made = make(work, temporary)?;
        let hidden = if made.kind() == FileKind::Directory { made.set_xattr(OPAQUE, b"y", SetHow::Any) } else { Ok(()) };
        let done = hidden.and_then(|()| work.rename(temporary, dir, name, RenameFlags::EXCHANGE));
        done.inspect_err(|_| self.shared.discard(temporary, made.kind()))?;
        self.shared.discard(temporary, FileKind::CharDevice);
        Ok(made)
    }

    /// Removes `name`, which is no directory.
    pub(super) fn take_file(&self, name: Name<'_>) -> Result<()> {
        self.alive()?;
        let Some(below) = self.below(name)? else {
            return self.upper().ok_or(errno!(NOENT))?.unlink(name);
        };
        let dir = self.raised(0)?;
        let _change = self.shared.change.lock();
        match optional(dir.lookup(name))? {
            Some(old) if is_whiteout(&old)? => Err(errno!(NOENT)),
            Some(old) if old.kind() == FileKind::Directory => Err(errno!(ISDIR)),
            Some(old) => self.shared.replace_by_whiteout(&dir, name, &old),
            None if below.kind() == FileKind::Directory => Err(errno!(ISDIR)),
            None => self.shared.whiten(&dir, name),
        }
    }

    /// Removes the directory `name`, which must show no name.
    pub(super) fn take_dir(&self, name: Name<'_>) -> Result<()> {
        let child = self.find(name)?;
        if !child.is_dir() {
            return Err(errno!(NOTDIR));
        }
        let below = self.below(name)?.is_some();
        if !below && child.lower.is_none() {
            return self.upper().ok_or(errno!(NOENT))?.rmdir(name);
        }
        let dir = self.raised(0)?;
        let _change = self.shared.change.lock();
        child.empty()?;
        match child.upper() {
            Some(upper) => self.shared.replace_by_whiteout(&dir, name, &upper)?,
            None => self.shared.whiten(&dir, name)?,
        }
        self.retire(name, &child);
        Ok(())
    }

    /// Makes `child`, a directory that was removed, unusable.
    fn retire(&self, name: Name<'_>, child: &Self) {
        child.gone.store(true, Ordering::Release);
        self.children.lock().remove(name.as_bytes());
    }

    /// Refuses to move a directory that has something below: that would have to be copied with it.
    fn movable(&self) -> Result<()> {
        if self.is_dir() && self.lower.is_some() { Err(errno!(XDEV, "a directory of the lower layer")) } else { Ok(()) }
    }

    /// Moves `from` to `to` in `target`.
    pub(super) fn move_to(&self, from: Name<'_>, target: &Self, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let source = self.find(from)?;
        let replaced = optional(target.find(to))?;
        if replaced.is_some() && flags.contains(RenameFlags::NOREPLACE) {
            return Err(errno!(EXIST));
        }
        source.movable()?;
        if let (Some(replaced), true) = (&replaced, exchange) {
            replaced.movable()?;
            replaced.raised(u64::MAX)?;
        }
        let moved = source.raised(u64::MAX)?;
        let (old_dir, new_dir) = (self.raised(0)?, target.raised(0)?);
        if self.lower.is_none() && target.lower.is_none() {
            return old_dir.rename(from, &new_dir, to, flags);
        }
        let (below_from, below_to) = (self.below(from)?.is_some(), target.below(to)?.is_some());
        let _change = self.shared.change.lock();
        target.alive()?;
        let hide = |inode: &InodeRef<P>, hides: bool| {
            if hides && inode.kind() == FileKind::Directory { inode.set_xattr(OPAQUE, b"y", SetHow::Any) } else { Ok(()) }
        };
        hide(&moved, below_to)?;
        if exchange {
            if let Some(other) = replaced.and_then(|node| node.upper()) {
                hide(&other, below_from)?;
            }
            return old_dir.rename(from, &new_dir, to, RenameFlags::EXCHANGE);
        }
        if let Some(replaced) = replaced.as_ref().filter(|node| node.is_dir()) {
            if !source.is_dir() {
                return Err(errno!(ISDIR));
            }
            replaced.empty()?;
        }
        let over = optional(new_dir.lookup(to))?;
        let same_kind = over.as_ref().is_none_or(|over| !source.is_dir() && over.kind() != FileKind::Directory);
        if !below_from && same_kind {
            old_dir.rename(from, &new_dir, to, RenameFlags::empty())?;
        } else {
            self.swap_in(&old_dir, from, &new_dir, to, over, below_from)?;
        }
        if let Some(replaced) = replaced.filter(|node| node.is_dir()) {
            target.retire(to, &replaced);
        }
        Ok(())
    }

    /// Moves by an exchange, and makes what comes back a whiteout if something is `below`, else nothing.
    fn swap_in(
        &self,
        old_dir: &InodeRef<P>,
        from: Name<'_>,
        new_dir: &InodeRef<P>,
        to: Name<'_>,
        over: Option<InodeRef<P>>,
        below: bool,
    ) -> Result<()> {
        let Some(over) = over else {
            self.shared.whiten(new_dir, to)?;
            let swapped = old_dir.rename(from, new_dir, to, RenameFlags::EXCHANGE);
            if swapped.is_err() {
                self.shared.unwhiten(new_dir, to);
            }
            return swapped;
        };
        old_dir.rename(from, new_dir, to, RenameFlags::EXCHANGE)?;
        let cleared = match (is_whiteout(&over)?, below) {
            (true, true) => Ok(()),
            (_, true) => self.shared.replace_by_whiteout(old_dir, from, &over),
            (_, false) if over.kind() == FileKind::Directory => purge(&over).and_then(|()| old_dir.rmdir(from)),
            (_, false) => old_dir.unlink(from),
        };
        if cleared.is_err() {
            // Back to what was; there is nobody else to tell if that fails too.
            let _ = old_dir.rename(from, new_dir, to, RenameFlags::EXCHANGE);
        }
        cleared
    }
}
