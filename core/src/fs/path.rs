//! From a path to a place: the walk, with `..`, symbolic links, mounts and permissions.
//!
//! Invariants: a walk never leaves the root of its [`FsContext`]; it follows at most [`SYMLINKS_MAX`] links, so it ends and its
//! memory is bounded. Hostile input: every path, and every link's target. Nothing is locked between two steps.
//! Sources: `path_resolution(7)`, symlink(7); Linux fs/namei.c. What is done with the place is in `path_ops`.

use super::dentry::Dentry;
use super::mount::MountNamespace;
use super::types::{Access, Credentials, FileKind, Mode, NAME_MAX, Name, PATH_MAX, SYMLINKS_MAX};
use crate::capabilities::Capabilities;
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::ops::Range;

bitflags! {
    /// How a path is resolved.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Resolve: u32 {
        /// Follow a symbolic link that is the last component.
        const FOLLOW = 1 << 0;
        /// The result must be a directory.
        const DIRECTORY = 1 << 1;
        /// An empty path means the base itself (`AT_EMPTY_PATH`).
        const EMPTY = 1 << 2;
        /// Follow no symbolic link at all (`RESOLVE_NO_SYMLINKS`).
        const NO_SYMLINKS = 1 << 3;
        /// Follow no link of /proc that leads to a thing (`RESOLVE_NO_MAGICLINKS`).
        const NO_MAGIC_LINKS = 1 << 4;
        /// Stay in the mount of the base (`RESOLVE_NO_XDEV`).
        const NO_XDEV = 1 << 5;
        /// Stay below the base: what would leave it is `XDEV` (`RESOLVE_BENEATH`).
        const BENEATH = 1 << 6;
        /// The base is the root (`RESOLVE_IN_ROOT`).
        const IN_ROOT = 1 << 7;
    }
}

/// What a process's paths start from; shared between threads by whoever owns it.
#[derive(Debug)]
pub struct FsContext<P: Platform> {
    /// The mounts that it sees.
    pub namespace: Arc<MountNamespace<P>>,
    /// Where absolute paths start, and what `..` does not leave.
    pub root: Arc<Dentry<P>>,
    /// Where relative paths start.
    pub cwd: Arc<Dentry<P>>,
    /// Permissions that new files do not get.
    pub umask: Mode,
}

impl<P: Platform> Clone for FsContext<P> {
    fn clone(&self) -> Self {
        Self {
            namespace: Arc::clone(&self.namespace),
            root: Arc::clone(&self.root),
            cwd: Arc::clone(&self.cwd),
            umask: self.umask,
        }
    }
}

impl<P: Platform> FsContext<P> {
    /// A context at the root of `namespace`.
    #[must_use]
    pub fn new(namespace: Arc<MountNamespace<P>>) -> Self {
        let root = namespace.root().top();
        Self { namespace, cwd: Arc::clone(&root), root, umask: Mode::WGRP | Mode::WOTH }
    }

    /// The same places in a namespace of its own, which begins with the same mounts. See unshare(2).
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn with_own_mounts(&self) -> Result<Self> {
        let copied = self.namespace.copy()?;
        let (root, cwd) = (copied.counterpart(&self.root), copied.counterpart(&self.cwd));
        Ok(Self { namespace: copied.namespace, root, cwd, umask: self.umask })
    }

    /// Paths of the current working directory, on behalf of `credentials`.
    #[must_use]
    pub fn at_cwd<'a>(&'a self, credentials: &'a Credentials) -> At<'a, P> {
        At { fs: self, credentials, base: &self.cwd, limits: Resolve::empty() }
    }

    /// Paths relative to `base`, on behalf of `credentials`.
    #[must_use]
    pub fn at<'a>(&'a self, credentials: &'a Credentials, base: &'a Arc<Dentry<P>>) -> At<'a, P> {
        At { fs: self, credentials, base, limits: Resolve::empty() }
    }

    /// The path of `place` as this context sees it. See getcwd(2).
    ///
    /// # Errors
    /// `NOENT`: it was removed, or is not below the root. `NAMETOOLONG`.
    pub fn path_of(&self, place: &Arc<Dentry<P>>) -> Result<Vec<u8>> {
        place.path(&self.root)?.ok_or(errno!(NOENT, "not below the root"))
    }
}

/// A base for relative paths, and who asks. The operations with paths are its methods.
#[derive(Debug)]
pub struct At<'a, P: Platform> {
    pub(super) fs: &'a FsContext<P>,
    pub(super) credentials: &'a Credentials,
    pub(super) base: &'a Arc<Dentry<P>>,
    /// What holds for all walks.
    limits: Resolve,
}

impl<P: Platform> Clone for At<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for At<'_, P> {}

/// The last component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// A name, and whether a slash follows it.
    Name { at: Range<usize>, slash: bool },
    /// There is none, or it is `.`: the directory reached.
    Here { dot: bool },
    /// `..`.
    Above,
}

/// A path that is being walked.
pub(super) struct Steps<'p> {
    path: Cow<'p, [u8]>,
    pos: usize,
    links: u32,
}

impl<'p> Steps<'p> {
    fn new(path: &'p [u8]) -> Result<Self> {
        if path.len() >= PATH_MAX {
            return Err(errno!(NAMETOOLONG, "a path has more than 4095 bytes"));
        }
        Ok(Self { path: Cow::Borrowed(path), pos: 0, links: 0 })
    }

    fn rest(&self) -> &[u8] {
        self.path.get(self.pos..).unwrap_or_default()
    }

    /// The next component, whether a slash follows it and whether it is the last one; `None` at the end.
    fn next(&mut self) -> Result<Option<(Range<usize>, bool, bool)>> {
        let slashes = self.rest().iter().take_while(|byte| **byte == b'/').count();
        let start = self.pos.saturating_add(slashes);
        let after_start = self.path.get(start..).unwrap_or_default();
        let len = after_start.iter().position(|byte| *byte == b'/').unwrap_or(after_start.len());
        if len == 0 {
            self.pos = start;
            return Ok(None);
        }
        if len > NAME_MAX {
            return Err(errno!(NAMETOOLONG, "a component has more than 255 bytes"));
        }
        let end = start.saturating_add(len);
        self.pos = end;
        let slash = !self.rest().is_empty();
        let last = self.rest().iter().all(|byte| *byte == b'/');
        Ok(Some((start..end, slash, last)))
    }

    fn bytes(&self, at: &Range<usize>) -> &[u8] {
        self.path.get(at.clone()).unwrap_or_default()
    }

    /// The name at `at`.
    pub(super) fn name(&self, at: &Range<usize>) -> Result<Name<'_>> {
        Name::new(self.bytes(at))
    }

    /// Puts `target` before what is left.
    fn substitute(&mut self, mut target: Vec<u8>) -> Result<()> {
        let rest = self.rest();
        target.try_reserve(rest.len()).map_err(|_| errno!(NOMEM))?;
        target.extend_from_slice(rest);
        self.path = Cow::Owned(target);
        self.pos = 0;
        Ok(())
    }
}

impl<'a, P: Platform> At<'a, P> {
    /// The same for paths relative to `base`, or to the working directory.
    #[must_use]
    pub fn relative_to(self, base: Option<&'a Arc<Dentry<P>>>) -> Self {
        Self { base: base.unwrap_or(&self.fs.cwd), ..self }
    }

    /// The same within `limits`. See openat2(2).
    #[must_use]
    pub fn within(self, limits: Resolve) -> Self {
        Self { limits, ..self }
    }

    /// Whoever asks.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        self.credentials
    }

    /// The same on behalf of somebody else.
    #[must_use]
    pub fn on_behalf_of(self, credentials: &'a Credentials) -> Self {
        Self { credentials, ..self }
    }
}

impl<P: Platform> At<'_, P> {
    /// The place that `path` leads to.
    ///
    /// # Errors
    /// `NOENT`, `NOTDIR`, `ACCESS`, `LOOP`, `NAMETOOLONG`: see `path_resolution(7)`.
    pub fn resolve(&self, path: &[u8], how: Resolve) -> Result<Arc<Dentry<P>>> {
        if path.is_empty() && how.contains(Resolve::EMPTY) {
            return Ok(Arc::clone(self.base));
        }
        let (mut steps, mut here) = self.start(path)?;
        loop {
            let place = match self.walk_to_last(&mut steps, &mut here, how)? {
                Last::Here { .. } => here,
                Last::Above => self.above(&here)?,
                Last::Name { at, slash } => {
                    let child = self.step(&here, steps.name(&at)?)?;
                    if child.inode().kind() == FileKind::Symlink && (slash || how.contains(Resolve::FOLLOW)) {
                        self.follow(&mut steps, &mut here, &child, how)?;
                        continue;
                    }
                    if slash && !child.is_dir() {
                        return Err(errno!(NOTDIR, "a slash follows what is no directory"));
                    }
                    child
                }
            };
            if how.contains(Resolve::DIRECTORY) && !place.is_dir() {
                return Err(errno!(NOTDIR));
            }
            return Ok(place);
        }
    }

    /// Begins the walk of `path`.
    pub(super) fn start<'p>(&self, path: &'p [u8]) -> Result<(Steps<'p>, Arc<Dentry<P>>)> {
        if path.is_empty() {
            return Err(errno!(NOENT, "the path is empty"));
        }
        let base = if path.first() == Some(&b'/') { self.root()? } else { self.base };
        Ok((Steps::new(path)?, Arc::clone(base)))
    }

    /// Where absolute paths start.
    fn root(&self) -> Result<&Arc<Dentry<P>>> {
        if self.limits.contains(Resolve::BENEATH) {
            return Err(errno!(XDEV, "an absolute path leaves the base"));
        }
        if self.limits.contains(Resolve::IN_ROOT) {
            return Ok(self.base);
        }
        self.same_mount(self.base, &self.fs.root)?;
        Ok(&self.fs.root)
    }

    /// `XDEV` if a step from one place to the other leaves the mount that it must stay in.
    fn same_mount(&self, from: &Arc<Dentry<P>>, to: &Arc<Dentry<P>>) -> Result<()> {
        if self.limits.contains(Resolve::NO_XDEV) && !Arc::ptr_eq(from.mount(), to.mount()) {
            return Err(errno!(XDEV, "another mount"));
        }
        Ok(())
    }

    /// Walks all components but the last, following links on the way; `here` becomes the directory that has the last one.
    pub(super) fn walk_to_last(&self, steps: &mut Steps<'_>, here: &mut Arc<Dentry<P>>, how: Resolve) -> Result<Last> {
        loop {
            let Some((at, slash, last)) = steps.next()? else { return Ok(Last::Here { dot: false }) };
            let component = steps.bytes(&at);
            if matches!(component, b"." | b"..") {
                self.may_search(here)?;
                let up = component == b"..";
                match (up, last) {
                    (false, false) => {}
                    (false, true) => return Ok(Last::Here { dot: true }),
                    (true, false) => *here = self.above(here)?,
                    (true, true) => return Ok(Last::Above),
                }
                continue;
            }
            if last {
                if !here.is_dir() {
                    return Err(errno!(NOTDIR));
                }
                return Ok(Last::Name { at, slash });
            }
            let child = self.step(here, steps.name(&at)?)?;
            if child.inode().kind() == FileKind::Symlink {
                self.follow(steps, here, &child, how)?;
            } else if child.is_dir() {
                *here = child;
            } else {
                return Err(errno!(NOTDIR));
            }
        }
    }

    /// The place `name` in `here`, with what is mounted on it.
    pub(super) fn step(&self, here: &Arc<Dentry<P>>, name: Name<'_>) -> Result<Arc<Dentry<P>>> {
        self.may_search(here)?;
        let (child, fresh) = here.child_or_fresh(name)?;
        if fresh && here.keeps(&child) {
            self.fs.namespace.keep(&child);
        }
        let child = child.top();
        self.same_mount(here, &child)?;
        Ok(child)
    }

    /// Goes on at the target of `link`, which lies in `here`.
    pub(super) fn follow(
        &self,
        steps: &mut Steps<'_>,
        here: &mut Arc<Dentry<P>>,
        link: &Arc<Dentry<P>>,
        how: Resolve,
    ) -> Result<()> {
        steps.links = steps.links.saturating_add(1);
        if steps.links > SYMLINKS_MAX || (how | self.limits).contains(Resolve::NO_SYMLINKS) {
            return Err(errno!(LOOP, "too many symbolic links"));
        }
        if let Some(target) = link.inode().jump(self.credentials.asker) {
            if self.limits.contains(Resolve::NO_MAGIC_LINKS) {
                return Err(errno!(LOOP, "a link that leads to a thing"));
            }
            if self.limits.intersects(Resolve::BENEATH | Resolve::IN_ROOT) {
                return Err(errno!(XDEV, "a link that leads to a thing leaves the base"));
            }
            let target = target?;
            self.same_mount(here, &target)?;
            *here = target;
            return Ok(());
        }
        let target = link.inode().readlink(self.credentials.asker)?;
        if target.is_empty() {
            return Err(errno!(NOENT, "a link leads nowhere"));
        }
        if target.first() == Some(&b'/') {
            *here = Arc::clone(self.root()?);
        }
        steps.substitute(target)
    }

    /// What `..` means at `here`.
    ///
    /// # Errors
    /// `XDEV`: it leaves what a walk must stay in.
    pub(super) fn above(&self, here: &Arc<Dentry<P>>) -> Result<Arc<Dentry<P>>> {
        if Arc::ptr_eq(here, self.base) {
            if self.limits.contains(Resolve::BENEATH) {
                return Err(errno!(XDEV, "above the base"));
            }
            if self.limits.contains(Resolve::IN_ROOT) {
                return Ok(Arc::clone(here));
            }
        }
        if Arc::ptr_eq(here, &self.fs.root) {
            return Ok(Arc::clone(here));
        }
        let above = here.above().map_or_else(|| Arc::clone(here), Dentry::top);
        self.same_mount(here, &above)?;
        Ok(above)
    }

    fn may_search(&self, dir: &Arc<Dentry<P>>) -> Result<()> {
        if !dir.is_dir() {
            return Err(errno!(NOTDIR));
        }
        // A privileged searcher always passes, so the attributes are not asked for.
        if self.credentials.can(Capabilities::DAC_OVERRIDE) { Ok(()) } else { self.may(dir, Access::EXEC) }
    }

    /// Whether the one who asks may do `want` at `place`; also whether its mount lets anybody.
    ///
    /// # Errors
    /// `ACCESS`: the mode forbids it. `ROFS`: it is on something read-only.
    pub fn may(&self, place: &Dentry<P>, want: Access) -> Result<()> {
        if want.contains(Access::WRITE)
            && matches!(place.inode().kind(), FileKind::Regular | FileKind::Directory | FileKind::Symlink)
        {
            Self::writable(place)?;
        }
        self.credentials.check(&place.inode().attr()?, want)
    }

    /// # Errors
    /// `ROFS`: the place is on something read-only.
    pub(super) fn writable(place: &Dentry<P>) -> Result<()> {
        if place.mount().flags().contains(super::mount::MountFlags::READ_ONLY) || place.inode().read_only() {
            return Err(errno!(ROFS));
        }
        Ok(())
    }
}
