//! A file system in memory, as tmpfs is. Directories and nodes are here, pages of regular files in `file`.
//!
//! Invariants: each node, name, link target and page is charged to the sandbox's quota before it is allocated; a node's `links`
//! counts its names (for a directory: its own, its `.` and its subdirectories). Freeing a tree is a loop, never a recursion.
//! Locks: `tree` is held by whoever locks two directories; then a directory's `entries`; then a node's `meta`. All are rank
//! "directory entries" and no guest copy, sink or wait happens under one.
//! Sources: tmpfs(5), rename(2), unlink(2); Linux mm/shmem.c.

mod file;
mod rename;

use super::inode::{DirEntry, DirSink, Inode, InodeRef, IoCx, OpsRef, Special};
use super::pipe::Pipe;
use super::types::{
    Asker, Attr, AttrChange, DeviceId, FileKind, FsStat, InodeId, Mode, Name, NameBuf, NewNode, OFlags, RenameFlags, Seals,
    SetTime, Timestamp,
};
use super::uses::Uses;
use super::xattr::{SetHow, VALUE_MAX};
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use file::Content;

/// What a node is charged beside its content: itself and its place in the tree of names, rounded up.
const NODE_COST: u64 = 1024;
/// What a name is charged beside its bytes.
const NAME_COST: u64 = 192;
/// Names that one file may have.
const LINKS_MAX: u32 = 65_000;

/// What all nodes of one file system share.
struct Shared<P: Platform> {
    device: DeviceId,
    quota: Arc<Quota>,
    /// The book of what is in files, as tmpfs counts its size.
    blocks: Arc<Quota>,
    /// A book of files, if their number is limited.
    files: Option<Arc<Quota>>,
    next_number: AtomicU64,
    tree: Mutex<P, ()>,
}

/// How much a file system in memory may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes in files; `None`: as many as its quota has.
    pub bytes: Option<u64>,
    /// Most files, the root counted.
    pub files: Option<u64>,
}

/// A file system in memory.
#[derive(Debug)]
pub struct MemoryFs;

impl MemoryFs {
    /// Makes one and returns its root directory. All that is put into it is charged to `quota`.
    ///
    /// # Errors
    /// `NOMEM`: not even the root fits.
    #[expect(clippy::new_ret_no_self, reason = "a file system is known by its root")]
    pub fn new<P: Platform>(device: DeviceId, quota: &Arc<Quota>, root: NewNode) -> Result<InodeRef<P>> {
        Self::limited(device, quota, root, Limits::default())
    }

    /// The same within `limits` of its own.
    ///
    /// # Errors
    /// `NOMEM`, `NOSPC`: not even the root fits.
    pub fn limited<P: Platform>(device: DeviceId, quota: &Arc<Quota>, root: NewNode, limits: Limits) -> Result<InodeRef<P>> {
        let blocks = limits.bytes.map_or_else(|| Arc::clone(quota), |bytes| Quota::within(quota, bytes));
        // A part of something without an end, so that it is full by NOSPC.
        let files = limits.files.map(|files| Quota::within(&Quota::new(u64::MAX), files));
        let (quota, next_number, tree) = (Arc::clone(quota), AtomicU64::new(1), Mutex::<P, _>::new(()));
        let shared = Arc::new(Shared { device, quota, blocks, files, next_number, tree });
        let node: InodeRef<P> = MemoryNode::new(&shared, root, Body::Directory(Directory::new(Weak::new())), 2)?;
        Ok(node)
    }

    /// Makes a regular file that is in no directory and can be sealed, as `memfd_create(2)` does. Its number is the caller's to choose.
    ///
    /// # Errors
    /// `NOMEM`: the quota is used up.
    pub fn unnamed<P: Platform>(id: InodeId, quota: &Arc<Quota>, new: NewNode) -> Result<InodeRef<P>> {
        let next_number = AtomicU64::new(id.number);
        let tree = Mutex::<P, _>::new(());
        let body = Body::Regular(Content::with_seals(quota, Seals::empty()));
        let (quota, blocks) = (Arc::clone(quota), Arc::clone(quota));
        let shared = Shared { device: id.device, quota, blocks, files: None, next_number, tree };
        let node: InodeRef<P> = MemoryNode::new(&Arc::new(shared), new, body, 0)?;
        Ok(node)
    }
}

struct Entry<P: Platform> {
    node: Arc<MemoryNode<P>>,
    cookie: u64,
    _charge: Charge,
}

struct Entries<P: Platform> {
    by_name: BTreeMap<NameBuf, Entry<P>>,
    by_cookie: BTreeMap<u64, NameBuf>,
    next_cookie: u64,
    removed: bool,
    parent: Weak<MemoryNode<P>>,
}

struct Directory<P: Platform>(Mutex<P, Entries<P>>);

/// Cookies of `.` and `..`; entries follow.
const FIRST_COOKIE: u64 = 3;

impl<P: Platform> Directory<P> {
    fn new(parent: Weak<MemoryNode<P>>) -> Self {
        Self(Mutex::<P, _>::new(Entries {
            by_name: BTreeMap::new(),
            by_cookie: BTreeMap::new(),
            next_cookie: FIRST_COOKIE,
            removed: false,
            parent,
        }))
    }
}

impl<P: Platform> Entries<P> {
    fn get(&self, name: Name<'_>) -> Result<&Arc<MemoryNode<P>>> {
        self.by_name.get(name.as_bytes()).map(|entry| &entry.node).ok_or(errno!(NOENT))
    }

    fn insert(&mut self, name: Name<'_>, node: Arc<MemoryNode<P>>, charge: Charge) {
        let name = NameBuf::from(name);
        let cookie = self.next_cookie;
        self.next_cookie = cookie.saturating_add(1);
        self.by_cookie.insert(cookie, name.clone());
        if let Some(former) = self.by_name.insert(name, Entry { node, cookie, _charge: charge }) {
            self.by_cookie.remove(&former.cookie);
        }
    }

    fn remove(&mut self, name: Name<'_>) -> Option<Entry<P>> {
        let entry = self.by_name.remove(name.as_bytes())?;
        self.by_cookie.remove(&entry.cookie);
        Some(entry)
    }
}

/// What a node holds, by kind.
enum Body<P: Platform> {
    Regular(Content<P>),
    Directory(Directory<P>),
    Symlink(Vec<u8>),
    Fifo(Arc<Pipe<P>>),
    Socket,
    CharDevice(DeviceId),
    BlockDevice(DeviceId),
}

struct Meta {
    mode: Mode,
    uid: super::types::Uid,
    gid: super::types::Gid,
    links: u32,
    accessed: Timestamp,
    modified: Timestamp,
    changed: Timestamp,
    /// Extended attributes: values by names.
    extended: BTreeMap<Vec<u8>, Extended>,
}

/// An extended attribute's value.
struct Extended {
    value: Vec<u8>,
    _charge: Charge,
}

/// What an extended attribute is charged beside its bytes.
const EXTENDED_COST: u64 = 256;

/// A copy of `bytes`, if there is memory for it.
fn copied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| errno!(NOMEM))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// A node of a [`MemoryFs`].
struct MemoryNode<P: Platform> {
    me: Weak<Self>,
    shared: Arc<Shared<P>>,
    number: u64,
    meta: Mutex<P, Meta>,
    body: Body<P>,
    uses: Uses,
    _charge: Charge,
    _file: Option<Charge>,
}

impl<P: Platform> fmt::Debug for MemoryNode<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNode").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for MemoryNode<P> {
    fn drop(&mut self) {
        let Body::Directory(directory) = &mut self.body else { return };
        let names = core::mem::take(&mut directory.0.get_mut().by_name);
        if names.is_empty() {
            return;
        }
        let mut pending = alloc::vec![names];
        while let Some(mut names) = pending.pop() {
            while let Some((_, entry)) = names.pop_first() {
                let Some(mut node) = Arc::into_inner(entry.node) else { continue };
                if let Body::Directory(inner) = &mut node.body {
                    pending.push(core::mem::take(&mut inner.0.get_mut().by_name));
                }
            }
        }
    }
}

fn now<P: Platform>() -> Timestamp {
    P::realtime().into()
}

impl<P: Platform> MemoryNode<P> {
    fn new(shared: &Arc<Shared<P>>, new: NewNode, body: Body<P>, links: u32) -> Result<Arc<Self>> {
        let extra = if let Body::Symlink(target) = &body { u64::try_from(target.len()).unwrap_or(0) } else { 0 };
        let file = shared.files.as_ref().map(|files| files.charge(1)).transpose()?;
        let charge = shared.quota.charge(NODE_COST.saturating_add(extra))?;
        let number = shared.next_number.fetch_add(1, Ordering::Relaxed);
        let time = now::<P>();
        let (accessed, modified, changed, extended) = (time, time, time, BTreeMap::new());
        let meta = Meta { mode: new.mode, uid: new.uid, gid: new.gid, links, accessed, modified, changed, extended };
        let meta = Mutex::<P, _>::new(meta);
        let shared = Arc::clone(shared);
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            shared,
            number,
            meta,
            body,
            uses: Uses::default(),
            _charge: charge,
            _file: file,
        }))
    }

    fn is_dir(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    fn entries(&self) -> Result<&Mutex<P, Entries<P>>> {
        match &self.body {
            Body::Directory(directory) => Ok(&directory.0),
            _ => Err(errno!(NOTDIR)),
        }
    }

    fn charge_name(&self, name: Name<'_>) -> Result<Charge> {
        let len = u64::try_from(name.as_bytes().len()).unwrap_or(NAME_COST);
        self.shared.quota.charge(NAME_COST.saturating_add(len))
    }

    /// Notes a change of content or entries.
    fn touch(&self, links: i32) {
        let time = now::<P>();
        let mut meta = self.meta.lock();
        meta.modified = time;
        meta.changed = time;
        meta.links = meta.links.saturating_add_signed(links);
    }

    /// Notes a write.
    fn written(&self, cx: IoCx) {
        let time = now::<P>();
        let mut meta = self.meta.lock();
        meta.modified = time;
        meta.changed = time;
        if cx.strips {
            meta.mode = meta.mode.without_set_ids();
        }
    }

    /// Notes a change of the number of names.
    fn relink(&self, by: i32) {
        let mut meta = self.meta.lock();
        meta.changed = now::<P>();
        meta.links = meta.links.saturating_add_signed(by);
    }

    /// Puts a new node under `name`.
    fn add(&self, name: Name<'_>, make: impl FnOnce() -> Result<Arc<Self>>) -> Result<Arc<Self>> {
        let charge = self.charge_name(name)?;
        let mut entries = self.entries()?.lock();
        if entries.removed {
            return Err(errno!(NOENT, "the directory was removed"));
        }
        if entries.by_name.contains_key(name.as_bytes()) {
            return Err(errno!(EXIST));
        }
        let node = make()?;
        entries.insert(name, Arc::clone(&node), charge);
        drop(entries);
        self.touch(i32::from(node.is_dir()));
        Ok(node)
    }

    /// The same node of this file system, or `XDEV`.
    fn of(inode: &InodeRef<P>) -> Result<Arc<Self>> {
        Arc::clone(inode).into_any().downcast::<Self>().map_err(|_| errno!(XDEV))
    }
}

impl<P: Platform> Inode<P> for MemoryNode<P> {
    fn id(&self) -> InodeId {
        InodeId { device: self.shared.device, number: self.number }
    }

    fn kind(&self) -> FileKind {
        match &self.body {
            Body::Regular(_) => FileKind::Regular,
            Body::Directory(_) => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Fifo(_) => FileKind::Fifo,
            Body::Socket => FileKind::Socket,
            Body::CharDevice(_) => FileKind::CharDevice,
            Body::BlockDevice(_) => FileKind::BlockDevice,
        }
    }

    fn attr(&self) -> Result<Attr> {
        let (size, blocks) = match &self.body {
            Body::Regular(content) => content.size_and_blocks(),
            Body::Directory(directory) => {
                let names = directory.0.lock().by_name.len();
                (u64::try_from(names).unwrap_or(0).saturating_add(2).saturating_mul(20), 0)
            }
            Body::Symlink(target) => (u64::try_from(target.len()).unwrap_or(0), 0),
            _ => (0, 0),
        };
        let device = match self.body {
            Body::CharDevice(device) | Body::BlockDevice(device) => device,
            _ => DeviceId::default(),
        };
        let meta = self.meta.lock();
        Ok(Attr {
            id: self.id(),
            kind: self.kind(),
            mode: meta.mode,
            links: meta.links,
            uid: meta.uid,
            gid: meta.gid,
            device,
            size,
            blocks,
            block_size: 4096,
            accessed: meta.accessed,
            modified: meta.modified,
            changed: meta.changed,
        })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn uses(&self) -> Option<&Uses> {
        matches!(self.body, Body::Regular(_)).then_some(&self.uses)
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        if let Body::Regular(content) = &self.body {
            if let Some(mode) = change.mode {
                content.check_mode(self.meta.lock().mode, mode)?;
            }
            if let Some(size) = change.size {
                content.resize(size)?;
            }
        }
        let time = now::<P>();
        let set = |set: SetTime| match set {
            SetTime::Now => time,
            SetTime::At(at) => at,
        };
        let mut meta = self.meta.lock();
        meta.mode = change.mode.unwrap_or(meta.mode);
        meta.uid = change.uid.unwrap_or(meta.uid);
        meta.gid = change.gid.unwrap_or(meta.gid);
        if change.size.is_some() {
            meta.modified = time;
        }
        meta.accessed = change.accessed.map_or(meta.accessed, set);
        meta.modified = change.modified.map_or(meta.modified, set);
        meta.changed = time;
        Ok(())
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let meta = self.meta.lock();
        copied(&meta.extended.get(name).ok_or(errno!(NODATA))?.value)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], how: SetHow) -> Result<()> {
        let bytes = u64::try_from(name.len().saturating_add(value.len())).unwrap_or(u64::MAX);
        let charge = self.shared.quota.charge(EXTENDED_COST.saturating_add(bytes))?;
        let (name, value) = (copied(name)?, copied(value)?);
        let mut meta = self.meta.lock();
        match (how, meta.extended.contains_key(&name)) {
            (SetHow::Create, true) => return Err(errno!(EXIST)),
            (SetHow::Replace, false) => return Err(errno!(NODATA)),
            _ => {}
        }
        // All names together must fit into one list.
        let listed = meta.extended.keys().fold(name.len(), |sum, name| sum.saturating_add(name.len()).saturating_add(1));
        if listed >= VALUE_MAX {
            return Err(errno!(NOSPC, "too many extended attributes"));
        }
        meta.extended.insert(name, Extended { value, _charge: charge });
        meta.changed = now::<P>();
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let mut meta = self.meta.lock();
        meta.extended.remove(name).ok_or(errno!(NODATA))?;
        meta.changed = now::<P>();
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        let meta = self.meta.lock();
        let mut names = Vec::new();
        for name in meta.extended.keys() {
            names.try_reserve(name.len().saturating_add(1)).map_err(|_| errno!(NOMEM))?;
            names.extend_from_slice(name);
            names.push(0);
        }
        Ok(names)
    }

    fn fs_stat(&self) -> FsStat {
        let (limit, used) = (self.shared.blocks.limit(), self.shared.blocks.used());
        FsStat { block_size: 4096, blocks: limit >> 12, free: limit.saturating_sub(used) >> 12 }
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        let node: InodeRef<P> = Arc::clone(self.entries()?.lock().get(name)?) as InodeRef<P>;
        Ok(node)
    }

    fn create(&self, name: Name<'_>, what: Special, new: NewNode) -> Result<InodeRef<P>> {
        let node = self.add(name, || {
            let body = match what {
                Special::Regular => Body::Regular(Content::new(&self.shared.blocks)),
                Special::Fifo => Body::Fifo(Pipe::new(&self.shared.quota)?),
                Special::Socket => Body::Socket,
                Special::CharDevice(device) => Body::CharDevice(device),
                Special::BlockDevice(device) => Body::BlockDevice(device),
            };
            Self::new(&self.shared, new, body, 1)
        })?;
        Ok(node)
    }

    fn create_unnamed(&self, new: NewNode) -> Result<InodeRef<P>> {
        let node = Self::new(&self.shared, new, Body::Regular(Content::new(&self.shared.blocks)), 0)?;
        Ok(node)
    }

    fn mkdir(&self, name: Name<'_>, new: NewNode) -> Result<InodeRef<P>> {
        let node = self.add(name, || Self::new(&self.shared, new, Body::Directory(Directory::new(Weak::clone(&self.me))), 2))?;
        Ok(node)
    }

    fn symlink(&self, name: Name<'_>, target: &[u8], new: NewNode) -> Result<InodeRef<P>> {
        let node = self.add(name, || {
            let mut copy = Vec::new();
            copy.try_reserve_exact(target.len()).map_err(|_| errno!(NOMEM))?;
            copy.extend_from_slice(target);
            Self::new(&self.shared, new, Body::Symlink(copy), 1)
        })?;
        Ok(node)
    }

    fn link(&self, name: Name<'_>, target: &InodeRef<P>) -> Result<()> {
        let node = Self::of(target)?;
        if !Arc::ptr_eq(&node.shared, &self.shared) {
            return Err(errno!(XDEV));
        }
        if node.is_dir() {
            return Err(errno!(PERM, "a directory has one name"));
        }
        if node.meta.lock().links >= LINKS_MAX {
            return Err(errno!(MLINK));
        }
        self.add(name, || Ok(Arc::clone(&node)))?;
        node.relink(1);
        Ok(())
    }

    fn unlink(&self, name: Name<'_>) -> Result<()> {
        let mut entries = self.entries()?.lock();
        if entries.get(name)?.is_dir() {
            return Err(errno!(ISDIR));
        }
        let entry = entries.remove(name);
        drop(entries);
        if let Some(entry) = entry {
            entry.node.relink(-1);
        }
        self.touch(0);
        Ok(())
    }

    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        let _tree = self.shared.tree.lock();
        let mut entries = self.entries()?.lock();
        entries.get(name)?.retire()?;
        let entry = entries.remove(name);
        drop(entries);
        if let Some(entry) = entry {
            entry.node.relink(-2);
        }
        self.touch(-1);
        Ok(())
    }

    fn rename(&self, from: Name<'_>, dir: &InodeRef<P>, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        let dir = Self::of(dir)?;
        if !Arc::ptr_eq(&dir.shared, &self.shared) {
            return Err(errno!(XDEV));
        }
        let _tree = self.shared.tree.lock();
        if core::ptr::eq(self, Arc::as_ptr(&dir)) {
            return dir.rename_within(from, to, flags);
        }
        self.me.upgrade().ok_or(errno!(NOENT))?.rename_across(from, &dir, to, flags)
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        let mut at = cookie;
        loop {
            let entries = self.entries()?.lock();
            let own = at < 2;
            let (name, number, kind, next) = match at {
                0 => (NameBuf::label(b"."), self.number, FileKind::Directory, 1),
                1 => {
                    let number = entries.parent.upgrade().map_or(self.number, |parent| parent.number);
                    (NameBuf::label(b".."), number, FileKind::Directory, 2)
                }
                _ => {
                    let Some((cookie, name)) = entries.by_cookie.range(at..).next() else { return Ok(at) };
                    let Some(entry) = entries.by_name.get(name) else { return Ok(at) };
                    (name.clone(), entry.node.number, entry.node.kind(), cookie.saturating_add(1))
                }
            };
            drop(entries);
            debug_assert!(own || next > at);
            if !sink(DirEntry { name: name.as_bytes(), number, kind, next }) {
                return Ok(at);
            }
            at = next;
        }
    }

    fn was_mapped(&self) -> bool {
        if let Body::Regular(content) = &self.body { content.was_mapped() } else { false }
    }

    fn readlink(&self, _who: Asker) -> Result<Vec<u8>> {
        let Body::Symlink(target) = &self.body else { return Err(errno!(INVAL, "not a symbolic link")) };
        let mut copy = Vec::new();
        copy.try_reserve_exact(target.len()).map_err(|_| errno!(NOMEM))?;
        copy.extend_from_slice(target);
        Ok(copy)
    }

    fn open(self: Arc<Self>, flags: OFlags) -> Result<OpsRef<P>> {
        match &self.body {
            Body::Regular(_) => Ok(Arc::new(file::MemoryFile { node: self })),
            Body::Directory(_) => Ok(Arc::new(super::pseudo::DirectoryOps)),
            Body::Fifo(pipe) => Pipe::open(pipe, flags),
            Body::Symlink(_) => Err(errno!(LOOP)),
            Body::Socket | Body::CharDevice(_) | Body::BlockDevice(_) => Err(errno!(NXIO)),
        }
    }
}
