//! A read-only file system with a writable one over it, as overlayfs has them.
//!
//! What is changed is first copied up: into `upper`, at the same path. A name that is only below is taken away by a *whiteout* above
//! it, a character device 0:0, and what a new directory would uncover is hidden by the attribute `OPAQUE`. Both are overlayfs's
//! own marks. Invariants: nothing below is ever written; a copied-up file keeps its inode number (`ORIGIN`) unless it had several
//! names, of which only the changed one is copied; a directory that has something below cannot be renamed (`XDEV`), as mv(1) knows.
//! Beyond overlayfs: a descriptor that was opened for reading sees what is later written to the copy.
//!
//! `upper` is changed by nobody else. Locks: a node's `raising`, then `change`, then those of `upper`; all are rank "directory
//! entries", and `raising` may be held while the host reads. `upper` and `children` of a node, `nodes` and `whiteout` are leaves.
//! Freeing is a loop, never a recursion. Sources: the kernel's Documentation/filesystems/overlayfs.rst; Linux fs/overlayfs/.

mod change;
mod file;
mod list;
mod raise;

use super::inode::{DirSink, Inode, InodeRef, OpsRef, Special};
use super::types::{
    Asker, Attr, AttrChange, DeviceId, FileKind, FsStat, InodeId, Mode, Name, NameBuf, NewNode, OFlags, RenameFlags,
};
use super::uses::Uses;
use super::xattr::SetHow;
use crate::platform::Platform;
use crate::quota::Quota;
use crate::sync::Mutex;
use crate::{errno, error::Errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use list::Listing;

/// Begins the names of the attributes that are the overlay's own, and that nobody else sees.
const OWN: &[u8] = b"trusted.overlay.";
/// On a directory above: what is below it is not shown.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// On what was copied up: the number of the inode below, and 1 if it is still shown under that number.
const ORIGIN: &[u8] = b"trusted.overlay.origin";
/// Set in the numbers of what is above only. Hosts' inode numbers are smaller.
const ABOVE: u64 = 1 << 62;
/// Dead nodes that may be remembered before they are looked for.
const PRUNE_AT: usize = 32;

/// What all nodes of one overlay share.
struct Shared<P: Platform> {
    device: DeviceId,
    quota: Arc<Quota>,
    /// A directory of the upper file system in which files are made before they appear.
    work: InodeRef<P>,
    /// For names in `work`.
    serial: AtomicU64,
    /// Held by whoever changes a directory that has something below.
    change: Mutex<P, ()>,
    /// The last whiteout; more are links to it.
    whiteout: Mutex<P, Option<InodeRef<P>>>,
    /// What is not a directory and above, by the upper file system's number.
    nodes: Mutex<P, BTreeMap<u64, Weak<Node<P>>>>,
}

/// Where a node is that has something below: it does not move.
struct Place<P: Platform> {
    dir: Arc<Node<P>>,
    name: NameBuf,
}

/// A file or directory of an overlay.
struct Node<P: Platform> {
    me: Weak<Self>,
    shared: Arc<Shared<P>>,
    number: u64,
    kind: FileKind,
    lower: Option<InodeRef<P>>,
    /// Set once.
    upper: Mutex<P, Option<InodeRef<P>>>,
    /// Held while it is copied up.
    raising: Mutex<P, ()>,
    /// It was a directory and was removed.
    gone: AtomicBool,
    uses: Uses,
    place: Option<Place<P>>,
    /// What is in use in it and has something below.
    children: Mutex<P, BTreeMap<NameBuf, Weak<Self>>>,
    /// The names below, once somebody has listed it.
    listing: Mutex<P, Option<Arc<Listing>>>,
}

impl<P: Platform> fmt::Debug for Node<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("overlay::Node").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for Node<P> {
    fn drop(&mut self) {
        let mut next = self.place.take();
        while let Some(place) = next {
            next = Arc::into_inner(place.dir).and_then(|mut last| last.place.take());
        }
    }
}

/// An overlay of `lower`, shown as `device`. Changes go to `upper`, the root of a file system that is the overlay's alone and has extended
/// attributes: an empty one, or that of an earlier overlay of the same directory; what else the overlay needs is charged to `quota`.
///
/// # Errors
/// Those of the two file systems.
pub fn root<P: Platform>(device: DeviceId, quota: &Arc<Quota>, lower: InodeRef<P>, upper: &InodeRef<P>) -> Result<InodeRef<P>> {
    let attr = lower.attr()?;
    let (uid, gid) = (attr.uid, attr.gid);
    let dir = found_or_made(upper, b"upper", NewNode { mode: attr.mode, uid, gid })?;
    let work = found_or_made(upper, b"work", NewNode { mode: Mode::RWXU, uid, gid })?;
    let serial = AtomicU64::new(clear(&work)?);
    let shared = Shared {
        device,
        quota: Arc::clone(quota),
        work,
        serial,
        change: Mutex::<P, _>::new(()),
        whiteout: Mutex::<P, _>::new(None),
        nodes: Mutex::<P, _>::new(BTreeMap::new()),
    };
    Ok(Node::new(&Arc::new(shared), attr.id.number, Some(lower), Some(dir), None)?)
}

/// The directory `name` of `upper`.
fn found_or_made<P: Platform>(upper: &InodeRef<P>, name: &[u8], new: NewNode) -> Result<InodeRef<P>> {
    let name = Name::new(name)?;
    match optional(upper.lookup(name))? {
        Some(dir) if dir.kind() == FileKind::Directory => Ok(dir),
        Some(_) => Err(errno!(NOTDIR)),
        None => upper.mkdir(name, new),
    }
}

/// Removes what was left in `work` when it was used last; gives a number that nothing there has for its name.
fn clear<P: Platform>(work: &InodeRef<P>) -> Result<u64> {
    let (mut names, mut next) = (Vec::new(), 0u64);
    work.read_dir(0, &mut |entry| {
        names.extend(Name::new(entry.name).ok().map(NameBuf::from));
        true
    })?;
    for name in names {
        let number = name.as_bytes().strip_prefix(b"#").and_then(|digits| core::str::from_utf8(digits).ok()?.parse::<u64>().ok());
        next = next.max(number.map_or(0, |number| number.saturating_add(1)));
        // A directory that was not empty stays, and is in nobody's way.
        let _ = work.unlink(name.as_name()).or_else(|_| work.rmdir(name.as_name()));
    }
    Ok(next)
}

/// `None` for a name that is not there.
fn optional<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an inode above stands for nothing.
fn is_whiteout<P: Platform>(upper: &InodeRef<P>) -> Result<bool> {
    Ok(upper.kind() == FileKind::CharDevice && upper.attr()?.device == DeviceId::default())
}

impl<P: Platform> Shared<P> {
    /// A name in `work` that nothing has.
    fn temporary(&self) -> Result<NameBuf> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        Name::new(alloc::format!("#{serial}").as_bytes()).map(NameBuf::from)
    }

    /// The number that an inode above is shown under.
    fn number(upper: &InodeRef<P>) -> u64 {
        match upper.get_xattr(ORIGIN).as_deref() {
            Ok([number @ .., 1]) => <[u8; 8]>::try_from(number).map_or(0, u64::from_le_bytes),
            _ => upper.id().number | ABOVE,
        }
    }

    /// The node of what is above only.
    fn above(self: &Arc<Self>, upper: InodeRef<P>) -> Result<Arc<Node<P>>> {
        let mut nodes = self.nodes.lock();
        let key = upper.id().number;
        if let Some(node) = nodes.get(&key).and_then(Weak::upgrade) {
            return Ok(node);
        }
        let node = Node::new(self, Self::number(&upper), None, Some(upper), None)?;
        Self::remember(&mut nodes, key, &node);
        Ok(node)
    }

    fn remember(nodes: &mut BTreeMap<u64, Weak<Node<P>>>, key: u64, node: &Arc<Node<P>>) {
        if nodes.len() >= PRUNE_AT && nodes.len().is_power_of_two() {
            nodes.retain(|_, node| node.strong_count() > 0);
        }
        nodes.insert(key, Arc::downgrade(node));
    }
}

impl<P: Platform> Node<P> {
    fn new(
        shared: &Arc<Shared<P>>,
        number: u64,
        lower: Option<InodeRef<P>>,
        upper: Option<InodeRef<P>>,
        place: Option<Place<P>>,
    ) -> Result<Arc<Self>> {
        let kind = upper.as_ref().or(lower.as_ref()).map(|inode| inode.kind()).ok_or(errno!(NOENT))?;
        let shared = Arc::clone(shared);
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            shared,
            number,
            kind,
            lower,
            upper: Mutex::<P, _>::new(upper),
            raising: Mutex::<P, _>::new(()),
            gone: AtomicBool::new(false),
            uses: Uses::default(),
            place,
            children: Mutex::<P, _>::new(BTreeMap::new()),
            listing: Mutex::<P, _>::new(None),
        }))
    }

    /// What is above.
    fn upper(&self) -> Option<InodeRef<P>> {
        self.upper.lock().clone()
    }

    /// What is shown: above if that exists, else below.
    fn shown(&self) -> Result<InodeRef<P>> {
        self.upper().or_else(|| self.lower.clone()).ok_or(errno!(NOENT))
    }

    fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Refuses what cannot be done in a directory that was removed, or in a file.
    fn alive(&self) -> Result<()> {
        if !self.is_dir() {
            return Err(errno!(NOTDIR));
        }
        if self.gone.load(Ordering::Acquire) { Err(errno!(NOENT, "the directory was removed")) } else { Ok(()) }
    }

    /// What `name` is below, whether it is hidden or not.
    fn below(&self, name: Name<'_>) -> Result<Option<InodeRef<P>>> {
        self.lower.as_ref().map_or(Ok(None), |lower| optional(lower.lookup(name)))
    }

    /// The entry `name`.
    fn find(&self, name: Name<'_>) -> Result<Arc<Self>> {
        self.alive()?;
        let upper = self.upper().map_or(Ok(None), |dir| optional(dir.lookup(name)))?;
        let Some(upper) = upper else {
            let lower = self.below(name)?.ok_or(errno!(NOENT))?;
            return self.with_lower(name, lower, None);
        };
        if is_whiteout(&upper)? {
            return Err(errno!(NOENT));
        }
        if upper.kind() == FileKind::Directory && self.lower.is_some() && upper.get_xattr(OPAQUE).is_err() {
            if let Some(lower) = self.below(name)?.filter(|lower| lower.kind() == FileKind::Directory) {
                return self.with_lower(name, lower, Some(upper));
            }
        }
        self.shared.above(upper)
    }

    /// The node of what is below in it, and perhaps above.
    fn with_lower(&self, name: Name<'_>, lower: InodeRef<P>, upper: Option<InodeRef<P>>) -> Result<Arc<Self>> {
        let place = Place { dir: self.me.upgrade().ok_or(errno!(NOENT))?, name: NameBuf::from(name) };
        let number = lower.id().number;
        let mut children = self.children.lock();
        // A file below may be another one by now; directories are looked at once. What is in use keeps its number.
        let is_same = |child: &Arc<Self>| child.is_dir() || child.lower.as_ref().is_some_and(|old| old.id() == lower.id());
        if let Some(child) = children.get(name.as_bytes()).and_then(Weak::upgrade).filter(is_same) {
            return Ok(child);
        }
        if children.len() >= PRUNE_AT && children.len().is_power_of_two() {
            children.retain(|_, child| child.strong_count() > 0);
        }
        let child = Self::new(&self.shared, number, Some(lower), upper, Some(place))?;
        children.insert(NameBuf::from(name), Arc::downgrade(&child));
        Ok(child)
    }

    /// `inode` as one of this overlay.
    fn own(&self, inode: &InodeRef<P>) -> Result<Arc<Self>> {
        let node: Arc<Self> = Arc::clone(inode).into_any().downcast().map_err(|_other| errno!(XDEV))?;
        if Arc::ptr_eq(&node.shared, &self.shared) { Ok(node) } else { Err(errno!(XDEV)) }
    }
}

/// Refuses the overlay's own attributes to everybody else.
fn not_own(name: &[u8]) -> Result<()> {
    if name.starts_with(OWN) { Err(errno!(OPNOTSUPP, "the overlay's own")) } else { Ok(()) }
}

impl<P: Platform> Inode<P> for Node<P> {
    fn id(&self) -> InodeId {
        InodeId { device: self.shared.device, number: self.number }
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        let mut attr = self.shown()?.attr()?;
        attr.id = self.id();
        // What is merged has no count that would be right; 1 tells find(1) so.
        if self.is_dir() && self.lower.is_some() && self.upper().is_some() {
            attr.links = 1;
        }
        Ok(attr)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn uses(&self) -> Option<&Uses> {
        (self.kind == FileKind::Regular).then_some(&self.uses)
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        self.raised(change.size.unwrap_or(u64::MAX))?.set_attr(change)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        not_own(name)?;
        self.shown()?.get_xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], how: SetHow) -> Result<()> {
        not_own(name)?;
        self.raised(u64::MAX)?.set_xattr(name, value, how)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        not_own(name)?;
        self.shown()?.get_xattr(name)?;
        self.raised(u64::MAX)?.remove_xattr(name)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        let mut names = self.shown()?.list_xattr()?;
        let seen = names.split_inclusive(|byte| *byte == 0).filter(|name| !name.starts_with(OWN));
        names = seen.flatten().copied().collect();
        Ok(names)
    }

    fn fs_stat(&self) -> FsStat {
        self.shared.work.fs_stat()
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        self.find(name).map(|node| node as InodeRef<P>)
    }

    /// A file of several names below becomes another file when it is copied up, as who looks it up again sees.
    fn keepable(&self) -> bool {
        match self.lower.as_ref().filter(|_| !self.is_dir()) {
            Some(lower) => lower.attr().is_ok_and(|attr| attr.links == 1),
            None => true,
        }
    }

    /// What is above does not change unasked, and directories below are looked at once.
    fn is_current(&self) -> bool {
        self.is_dir() || self.upper.lock().is_some() || self.lower.as_ref().is_none_or(|lower| lower.is_current())
    }

    fn create(&self, name: Name<'_>, what: Special, new: NewNode) -> Result<InodeRef<P>> {
        if what == Special::CharDevice(DeviceId::default()) {
            return Err(errno!(PERM, "such a device stands for a removed name"));
        }
        self.add(name, |dir, name| dir.create(name, what, new))
    }

    fn create_unnamed(&self, new: NewNode) -> Result<InodeRef<P>> {
        let inode = self.raised(0)?.create_unnamed(new)?;
        self.shared.above(inode).map(|node| node as InodeRef<P>)
    }

    fn mkdir(&self, name: Name<'_>, new: NewNode) -> Result<InodeRef<P>> {
        self.add(name, |dir, name| dir.mkdir(name, new))
    }

    fn symlink(&self, name: Name<'_>, target: &[u8], new: NewNode) -> Result<InodeRef<P>> {
        self.add(name, |dir, name| dir.symlink(name, target, new))
    }

    fn link(&self, name: Name<'_>, target: &InodeRef<P>) -> Result<()> {
        let target = self.own(target)?.raised(u64::MAX)?;
        self.add(name, |dir, name| dir.link(name, &target).map(|()| Arc::clone(&target))).map(drop)
    }

    fn unlink(&self, name: Name<'_>) -> Result<()> {
        self.take_file(name)
    }

    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        self.take_dir(name)
    }

    fn rename(&self, from: Name<'_>, dir: &InodeRef<P>, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        self.move_to(from, &*self.own(dir)?, to, flags)
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        self.list(cookie, sink)
    }

    fn was_mapped(&self) -> bool {
        self.upper().is_some_and(|upper| upper.was_mapped())
    }

    fn readlink(&self, who: Asker) -> Result<Vec<u8>> {
        self.shown()?.readlink(who)
    }

    fn open(self: Arc<Self>, flags: OFlags) -> Result<OpsRef<P>> {
        if self.kind == FileKind::Regular && flags.contains(OFlags::WRITE) {
            return self.raised(u64::MAX)?.open(flags);
        }
        match (self.upper(), &self.lower) {
            (Some(upper), _) => upper.open(flags),
            (None, Some(lower)) if self.kind == FileKind::Regular => {
                let ops = Arc::clone(lower).open(flags)?;
                Ok(Arc::new(file::Reader::new(self, ops)))
            }
            (None, Some(lower)) => Arc::clone(lower).open(flags),
            (None, None) => Err(errno!(NOENT)),
        }
    }
}
