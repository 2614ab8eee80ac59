//! What is done with paths: open, make, link, remove, rename.
//!
//! Each follows its man page and Linux's order of errors. Locks: rename takes the namespace's rename lock, then both directories';
//! all others take one directory's inside [`Dentry`].

use super::dentry::Dentry;
use super::file::File;
use super::inode::Special;
use super::notify::Happened;
use super::path::{At, Last, Resolve, Steps};
use super::types::{Access, AttrChange, FileKind, Mode, Name, NewNode, OFlags, PATH_MAX, RenameFlags};
use super::uses::Uses;
use crate::capabilities::Capabilities;
use crate::platform::Platform;
use crate::{errno, error::Errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What a path's last name is needed for, which decides the errno for `.`, `..` and `/`.
enum Purpose {
    Make,
    Unlink,
    Rmdir,
    Rename,
}

/// Changes attributes of what is at `place`, which does not run if its length is among them. Linux: `handle_truncate`.
fn cut<P: Platform>(place: &Dentry<P>, change: &AttrChange) -> Result<()> {
    let uses = place.inode().uses().filter(|_| change.size.is_some());
    uses.map_or(Ok(()), Uses::begin_write)?;
    let done = place.inode().set_attr(change);
    uses.inspect(|uses| uses.end_write());
    done
}

impl<P: Platform> At<'_, P> {
    /// Opens `path`, making it if `flags` say so. See openat(2).
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<Arc<File<P>>> {
        let create = flags.contains(OFlags::CREATE) && !flags.contains(OFlags::PATH);
        let exclusive = create && flags.contains(OFlags::EXCL);
        let follow = !flags.contains(OFlags::NOFOLLOW) && !exclusive;
        let (mut steps, mut here) = self.start(path)?;
        loop {
            let place = match self.walk_to_last(&mut steps, &mut here, Resolve::empty())? {
                Last::Here { .. } | Last::Above if exclusive => return Err(errno!(EXIST)),
                Last::Here { .. } => Arc::clone(&here),
                Last::Above => self.above(&here)?,
                Last::Name { slash: true, .. } if create => return Err(errno!(ISDIR, "a slash follows the name")),
                Last::Name { at, slash } => {
                    let name = steps.name(&at)?;
                    let child = match self.step(&here, name) {
                        Ok(child) => child,
                        Err(error) if create && error.is(Errno::NOENT) => {
                            match self.make_at(&here, &steps, &at, |dir, new| dir.create(name, Special::Regular, new), mode) {
                                Ok(made) => return self.open_made(made, flags | OFlags::CREATED),
                                // Somebody else was faster: it is opened as what exists.
                                Err(error) if !exclusive && error.is(Errno::EXIST) => self.step(&here, name)?,
                                Err(error) => return Err(error),
                            }
                        }
                        Err(error) => return Err(error),
                    };
                    if exclusive {
                        return Err(errno!(EXIST));
                    }
                    if child.inode().kind() == FileKind::Symlink && (slash || follow) {
                        self.follow(&mut steps, &mut here, &child, Resolve::empty())?;
                        continue;
                    }
                    if slash && !child.is_dir() {
                        return Err(errno!(NOTDIR));
                    }
                    child
                }
            };
            if create && place.is_dir() {
                return Err(errno!(ISDIR));
            }
            return self.open_place(place, flags, mode);
        }
    }

    /// Opens what is at `place`.
    ///
    /// # Errors
    /// Those of open(2) for a file that exists.
    pub fn open_place(&self, place: Arc<Dentry<P>>, flags: OFlags, mode: Mode) -> Result<Arc<File<P>>> {
        let kind = place.inode().kind();
        if flags.contains(OFlags::DIRECTORY) && kind != FileKind::Directory {
            return Err(errno!(NOTDIR));
        }
        if flags.contains(OFlags::PATH) {
            return Ok(File::path_only(place, flags));
        }
        if flags.contains(OFlags::TMPFILE) {
            if kind != FileKind::Directory {
                return Err(errno!(NOTDIR));
            }
            self.may(&place, Access::WRITE | Access::EXEC)?;
            let inode = place.inode().create_unnamed(self.new_node(&place, mode)?)?;
            return self.open_made(Dentry::unnamed(inode, &place), flags);
        }
        let truncate = flags.contains(OFlags::TRUNC);
        let mut want = Access::empty();
        want.set(Access::READ, flags.contains(OFlags::READ));
        want.set(Access::WRITE, flags.contains(OFlags::WRITE) || truncate);
        match kind {
            FileKind::Symlink => return Err(errno!(LOOP, "a symbolic link, and none is to be followed")),
            FileKind::Directory if want.contains(Access::WRITE) => return Err(errno!(ISDIR)),
            FileKind::CharDevice | FileKind::BlockDevice if place.mount().flags().contains(super::mount::MountFlags::NODEV) => {
                return Err(errno!(ACCESS, "device nodes of this mount cannot be opened"));
            }
            _ => {}
        }
        self.may(&place, want)?;
        if flags.contains(OFlags::NOATIME) && !self.owns(&place)? {
            return Err(errno!(PERM, "only the owner may ask for no access times"));
        }
        if truncate && kind == FileKind::Regular {
            let mode = self.mode_left(&place)?;
            cut(&place, &AttrChange { size: Some(0), mode, ..AttrChange::default() })?;
        }
        self.open_made(place, flags)
    }

    /// Opens what was just made, whose mode does not bind its maker, or what may be opened.
    fn open_made(&self, place: Arc<Dentry<P>>, mut flags: OFlags) -> Result<Arc<File<P>>> {
        flags.set(OFlags::STRIPS, !self.credentials.can(Capabilities::FSETID) && flags.contains(OFlags::WRITE));
        File::opened(place, flags, self.credentials)
    }

    /// Makes a directory. See mkdirat(2).
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn mkdir(&self, path: &[u8], mode: Mode) -> Result<()> {
        let (steps, here, last) = self.parent(path, &Purpose::Make)?;
        let Last::Name { at, .. } = last else { return Err(errno!(EXIST)) };
        let name = steps.name(&at)?;
        self.make_at(
            &here,
            &steps,
            &at,
            |dir, mut new| {
                if dir.attr()?.mode.contains(Mode::SETGID) {
                    new.mode |= Mode::SETGID;
                }
                dir.mkdir(name, new)
            },
            mode & !(Mode::SETUID | Mode::SETGID),
        )?;
        Ok(())
    }

    /// Makes a file, pipe, socket name or device. See mknodat(2).
    ///
    /// # Errors
    /// Those of mknod(2).
    pub fn mknod(&self, path: &[u8], what: Special, mode: Mode) -> Result<Arc<Dentry<P>>> {
        let (steps, here, last) = self.parent(path, &Purpose::Make)?;
        let Last::Name { at, slash } = last else { return Err(errno!(EXIST)) };
        let name = steps.name(&at)?;
        self.no_slash(&here, name, slash)?;
        self.make_at(&here, &steps, &at, |dir, new| dir.create(name, what, new), mode)
    }

    /// Makes a symbolic link to `target`. See symlinkat(2).
    ///
    /// # Errors
    /// Those of symlink(2).
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(errno!(NOENT, "the target is empty"));
        }
        if target.len() >= PATH_MAX {
            return Err(errno!(NAMETOOLONG));
        }
        let (steps, here, last) = self.parent(path, &Purpose::Make)?;
        let Last::Name { at, slash } = last else { return Err(errno!(EXIST)) };
        let name = steps.name(&at)?;
        self.no_slash(&here, name, slash)?;
        self.make_at(
            &here,
            &steps,
            &at,
            |dir, mut new| {
                new.mode = Mode::RWXU | Mode::RWXG | Mode::RWXO;
                dir.symlink(name, target, new)
            },
            Mode::empty(),
        )?;
        Ok(())
    }

    /// Gives the file at `target` the name `path`. See linkat(2).
    ///
    /// # Errors
    /// Those of link(2).
    pub fn link(&self, target: &Arc<Dentry<P>>, path: &[u8]) -> Result<()> {
        let (steps, here, last) = self.parent(path, &Purpose::Make)?;
        let Last::Name { at, slash } = last else { return Err(errno!(EXIST)) };
        let name = steps.name(&at)?;
        self.no_slash(&here, name, slash)?;
        if here.child(name).is_ok() {
            return Err(errno!(EXIST));
        }
        if !Arc::ptr_eq(target.mount(), here.mount()) {
            return Err(errno!(XDEV));
        }
        if target.is_dir() {
            return Err(errno!(PERM, "a directory has one name"));
        }
        if target.is_deleted() && !target.is_unnamed() && target.inode().attr()?.links == 0 {
            return Err(errno!(NOENT, "the file was removed"));
        }
        self.make_at(
            &here,
            &steps,
            &at,
            |dir, _| {
                dir.link(name, target.inode())?;
                Ok(Arc::clone(target.inode()))
            },
            Mode::empty(),
        )?;
        Ok(())
    }

    /// Removes a name of what is no directory. See unlinkat(2).
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn unlink(&self, path: &[u8]) -> Result<()> {
        let (steps, here, last) = self.parent(path, &Purpose::Unlink)?;
        let Last::Name { at, slash } = last else { return Err(errno!(ISDIR)) };
        let name = steps.name(&at)?;
        let child = self.step(&here, name)?;
        if slash {
            return Err(if child.is_dir() { errno!(ISDIR) } else { errno!(NOTDIR) });
        }
        self.may_remove(&here, &child)?;
        if child.is_dir() {
            return Err(errno!(ISDIR));
        }
        here.remove(name, || here.inode().unlink(name))?;
        self.fs.namespace.forget(&child);
        Self::removed(&here, name.as_bytes(), &child);
        Ok(())
    }

    /// Tells who watches that `child` is no entry of `dir` any more.
    fn removed(dir: &Dentry<P>, name: &[u8], child: &Dentry<P>) {
        if let Some(watches) = dir.mount().watches() {
            watches.entry(dir, name, Happened::DELETE, child.is_dir(), 0);
            watches.unnamed(child);
        }
    }

    /// Removes an empty directory. See rmdir(2).
    ///
    /// # Errors
    /// Those of rmdir(2).
    pub fn rmdir(&self, path: &[u8]) -> Result<()> {
        let (steps, here, last) = self.parent(path, &Purpose::Rmdir)?;
        let Last::Name { at, .. } = last else { return Err(errno!(BUSY)) };
        let name = steps.name(&at)?;
        let child = self.step(&here, name)?;
        self.may_remove(&here, &child)?;
        if !child.is_dir() {
            return Err(errno!(NOTDIR));
        }
        here.remove(name, || here.inode().rmdir(name))?;
        self.fs.namespace.forget(&child);
        Self::removed(&here, name.as_bytes(), &child);
        Ok(())
    }

    /// Moves `from` to `to` of `other`. See renameat2(2).
    ///
    /// # Errors
    /// Those of rename(2).
    pub fn rename(&self, from: &[u8], other: &At<'_, P>, to: &[u8], flags: RenameFlags) -> Result<()> {
        if flags.contains(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE) {
            return Err(errno!(INVAL, "not replacing excludes exchanging"));
        }
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let (old_steps, old_dir, old_last) = self.parent(from, &Purpose::Rename)?;
        let (new_steps, new_dir, new_last) = other.parent(to, &Purpose::Rename)?;
        if !Arc::ptr_eq(old_dir.mount(), new_dir.mount()) {
            return Err(errno!(XDEV));
        }
        let Last::Name { at: old_at, slash: old_slash } = old_last else { return Err(errno!(BUSY)) };
        let Last::Name { at: new_at, slash: new_slash } = new_last else {
            return Err(if flags.contains(RenameFlags::NOREPLACE) { errno!(EXIST) } else { errno!(BUSY) });
        };
        let (old_name, new_name) = (old_steps.name(&old_at)?, new_steps.name(&new_at)?);
        let _rename = self.fs.namespace.lock_rename();
        let source = self.step(&old_dir, old_name)?;
        let target = match other.step(&new_dir, new_name) {
            Ok(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(errno!(EXIST)),
            Ok(target) => Some(target),
            Err(error) if error.is(Errno::NOENT) && !exchange => None,
            Err(error) => return Err(error),
        };
        if !source.is_dir() && (old_slash || (new_slash && !exchange)) {
            return Err(errno!(NOTDIR));
        }
        if source.is_ancestor_of(&new_dir) {
            return Err(errno!(INVAL, "a directory cannot go into itself"));
        }
        if let Some(target) = &target {
            if target.is_ancestor_of(&old_dir) {
                return Err(if exchange { errno!(INVAL) } else { errno!(NOTEMPTY) });
            }
        }
        self.may_remove(&old_dir, &source)?;
        match &target {
            Some(target) => other.may_remove(&new_dir, target)?,
            None => other.may(&new_dir, Access::WRITE | Access::EXEC)?,
        }
        let at_mount = |place: &Arc<Dentry<P>>| !Arc::ptr_eq(place.mount(), old_dir.mount());
        if at_mount(&source) || target.as_ref().is_some_and(at_mount) {
            return Err(errno!(BUSY, "something is mounted there"));
        }
        if let Some(target) = &target {
            if target.inode().id() == source.inode().id() {
                return Ok(());
            }
            match (source.is_dir(), target.is_dir()) {
                (true, false) if !exchange => return Err(errno!(NOTDIR)),
                (false, true) if !exchange => return Err(errno!(ISDIR)),
                _ => {}
            }
        }
        old_dir.rename(old_name, &new_dir, new_name, exchange, || {
            old_dir.inode().rename(old_name, new_dir.inode(), new_name, flags)
        })?;
        if let Some(target) = target.as_ref().filter(|_| !exchange) {
            self.fs.namespace.forget(target);
        }
        if let Some(watches) = old_dir.mount().watches() {
            let moved = |from: &Dentry<P>, old: &[u8], to: &Dentry<P>, new: &[u8], what: &Dentry<P>| {
                let (cookie, is_dir) = (watches.cookie(), what.is_dir());
                watches.entry(from, old, Happened::MOVED_FROM, is_dir, cookie);
                watches.entry(to, new, Happened::MOVED_TO, is_dir, cookie);
                watches.happened(what, Happened::MOVE_SELF);
            };
            let (old, new) = (old_name.as_bytes(), new_name.as_bytes());
            moved(&old_dir, old, &new_dir, new, &source);
            match &target {
                Some(target) if exchange => moved(&new_dir, new, &old_dir, old, target),
                Some(target) => watches.unnamed(target),
                None => {}
            }
        }
        Ok(())
    }

    /// A symbolic link's target. See readlinkat(2).
    ///
    /// # Errors
    /// `INVAL`: not a symbolic link. Those of `path_resolution(7)`.
    pub fn readlink(&self, path: &[u8]) -> Result<Vec<u8>> {
        self.resolve(path, Resolve::EMPTY)?.inode().readlink(self.credentials.asker)
    }

    /// Changes attributes of `place`, as far as the one who asks may. See chmod(2), chown(2), truncate(2), utimensat(2).
    ///
    /// # Errors
    /// `PERM`: not the owner. `ACCESS`: may not write. `ROFS`. `ISDIR`: a length for a directory. `TXTBSY`: a length, and it runs.
    pub fn set_attr(&self, place: &Arc<Dentry<P>>, change: &AttrChange) -> Result<()> {
        Self::writable(place)?;
        let owns = self.owns(place)?;
        if change.mode.is_some() && !owns {
            return Err(errno!(PERM, "only the owner may"));
        }
        let attr = place.inode().attr()?;
        let same_uid = change.uid.is_none_or(|uid| uid == attr.uid);
        let known_gid = change.gid.is_none_or(|gid| gid == attr.gid || self.in_group(gid));
        if (change.uid.is_some() || change.gid.is_some())
            && !self.credentials.can(Capabilities::CHOWN)
            && !(owns && same_uid && known_gid)
        {
            return Err(errno!(PERM, "only the owner may, and only to its own groups"));
        }
        if let Some(_size) = change.size {
            match place.inode().kind() {
                FileKind::Directory => return Err(errno!(ISDIR)),
                FileKind::Regular => {}
                _ => return Err(errno!(INVAL, "has no length")),
            }
            self.may(place, Access::WRITE)?;
        }
        let mut change = *change;
        if change.size.is_some() && change.mode.is_none() {
            change.mode = self.mode_left(place)?;
        }
        let now_only = [change.accessed, change.modified].iter().all(|time| *time == Some(super::types::SetTime::Now));
        let times = change.accessed.is_some() || change.modified.is_some();
        if times && !owns {
            if !now_only {
                return Err(errno!(PERM, "only the owner may set times"));
            }
            self.may(place, Access::WRITE)?;
        }
        cut(place, &change)?;
        if let Some(watches) = place.mount().watches() {
            watches.happened(place, if change.size.is_some() { Happened::MODIFY } else { Happened::ATTRIB });
        }
        Ok(())
    }

    /// The mode that a file is left with when the one who asks changes its content, if it is another one.
    fn mode_left(&self, place: &Dentry<P>) -> Result<Option<Mode>> {
        if self.credentials.can(Capabilities::FSETID) {
            return Ok(None);
        }
        let mode = place.inode().attr()?.mode;
        let left = mode.without_set_ids();
        Ok((left != mode).then_some(left))
    }

    fn in_group(&self, gid: super::types::Gid) -> bool {
        self.credentials.gid == gid || self.credentials.groups.contains(&gid)
    }

    fn owns(&self, place: &Dentry<P>) -> Result<bool> {
        Ok(self.credentials.can(Capabilities::FOWNER) || place.inode().attr()?.uid == self.credentials.uid)
    }

    /// The directory of `path`'s last component, and that component.
    fn parent<'p>(&self, path: &'p [u8], purpose: &Purpose) -> Result<(Steps<'p>, Arc<Dentry<P>>, Last)> {
        let (mut steps, mut here) = self.start(path)?;
        let last = self.walk_to_last(&mut steps, &mut here, Resolve::empty())?;
        match (&last, purpose) {
            // Both paths are walked before either's last component is looked at.
            (Last::Name { .. }, _) | (_, Purpose::Rename) => Ok((steps, here, last)),
            (_, Purpose::Make) => Err(errno!(EXIST)),
            (_, Purpose::Unlink) => Err(errno!(ISDIR)),
            (Last::Above, Purpose::Rmdir) => Err(errno!(NOTEMPTY)),
            (Last::Here { dot: true }, Purpose::Rmdir) => Err(errno!(INVAL)),
            (_, Purpose::Rmdir) => Err(errno!(BUSY)),
        }
    }

    /// Refuses to make what is no directory under a name that a slash follows. That the name is taken is said first. Linux:
    /// `filename_create`.
    fn no_slash(&self, dir: &Arc<Dentry<P>>, name: Name<'_>, slash: bool) -> Result<()> {
        match slash.then(|| self.step(dir, name)) {
            None => Ok(()),
            Some(Ok(_)) => Err(errno!(EXIST)),
            Some(Err(error)) if error.is(Errno::NOENT) => Err(errno!(NOENT, "a slash follows the name")),
            Some(Err(error)) => Err(error),
        }
    }

    /// Makes the name at `at` in `dir` by `make`, if that is allowed and the name is free.
    fn make_at(
        &self,
        dir: &Arc<Dentry<P>>,
        steps: &Steps<'_>,
        at: &core::ops::Range<usize>,
        make: impl FnOnce(&super::inode::InodeRef<P>, NewNode) -> Result<super::inode::InodeRef<P>>,
        mode: Mode,
    ) -> Result<Arc<Dentry<P>>> {
        let name = steps.name(at)?;
        match self.step(dir, name) {
            Ok(_) => return Err(errno!(EXIST)),
            Err(error) if error.is(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        self.may(dir, Access::WRITE | Access::EXEC)?;
        let new = self.new_node(dir, mode)?;
        let made = dir.make(name, || make(dir.inode(), new))?;
        if let Some(watches) = dir.mount().watches() {
            watches.entry(dir, name.as_bytes(), Happened::CREATE, made.is_dir(), 0);
        }
        Ok(made)
    }

    /// Owner and mode of what is made in `dir`.
    fn new_node(&self, dir: &Dentry<P>, mode: Mode) -> Result<NewNode> {
        let attr = dir.inode().attr()?;
        let gid = if attr.mode.contains(Mode::SETGID) { attr.gid } else { self.credentials.gid };
        let mut mode = mode & !self.fs.umask;
        // Nobody makes programs that run as a group that is not its own. Linux: `mode_strip_sgid`.
        let runs = mode.contains(Mode::SETGID | Mode::XGRP);
        if runs && attr.mode.contains(Mode::SETGID) && !self.credentials.can(Capabilities::FSETID) && !self.in_group(gid) {
            mode = mode.difference(Mode::SETGID);
        }
        Ok(NewNode { mode, uid: self.credentials.uid, gid })
    }

    /// Whether the one who asks may take `child` out of `dir`: write permission, and in a sticky directory ownership.
    fn may_remove(&self, dir: &Arc<Dentry<P>>, child: &Arc<Dentry<P>>) -> Result<()> {
        self.may(dir, Access::WRITE | Access::EXEC)?;
        let attr = dir.inode().attr()?;
        let sticky = attr.mode.contains(Mode::STICKY);
        if sticky && attr.uid != self.credentials.uid && !self.owns(child)? {
            return Err(errno!(PERM, "the directory is sticky"));
        }
        Ok(())
    }
}
