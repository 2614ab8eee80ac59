//! The host's directories as a file system.
//!
//! Invariants: only names are asked for, one at a time; nothing is written to the host below a root that is shared
//! [`HostAccess::ReadOnly`]. A node stays the file that was found, whatever the host does with its name. Host inode numbers are
//! shown as they are, under a device of the sandbox's own. What is made belongs to whoever launched the sandbox, on the host's
//! disk: no quota of the sandbox counts it. Locks: `opened` is rank "directory entries" and may be held while the host opens.

use super::host::{HostDir, HostFile, HostLeaf, HostNode};
use super::inode::{DirEntry, DirSink, FileOps, Inode, InodeRef, IoCx, OpsRef, Special};
use super::io::{BOUNCE, IoDst, IoSrc, with_bounce};
use super::pseudo::DirectoryOps;
use super::types::{
    Asker, Attr, AttrChange, DeviceId, FileKind, InodeId, Name, NewNode, OFlags, PAGE_SIZE, PAGE_SIZE_U64, Ready, RenameFlags,
};
use super::uses::Uses;
use super::written::Written;
use crate::platform::{Frame, Platform};
use crate::quota::Quota;
use crate::sync::{Mutex, WaitQueue};
use crate::{errno, error::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// What the sandbox may do to a directory of the host and all below it, if the host lets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAccess {
    /// Look.
    ReadOnly,
    /// Whatever its launcher may.
    ReadWrite,
}

/// What kind of node, and what only that kind has.
enum Body<P: Platform> {
    Dir(Arc<dyn HostDir<P>>),
    Symlink(Arc<dyn HostLeaf<P>>, Vec<u8>),
    Leaf { leaf: Arc<dyn HostLeaf<P>>, opened: Mutex<P, Weak<Opened<P>>>, written: Arc<Written<P>> },
}

/// A node of the host.
struct HostInode<P: Platform> {
    id: InodeId,
    kind: FileKind,
    access: HostAccess,
    uses: Uses,
    /// Charged for pages that mappings write to.
    quota: Arc<Quota>,
    body: Body<P>,
}

impl<P: Platform> fmt::Debug for HostInode<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostInode").field("number", &self.id.number).finish_non_exhaustive()
    }
}

/// The inode of `dir`, whose file system is shown as `device`. Pages of its files that mappings write to are charged to `quota` until the
/// host has heard of it.
///
/// # Errors
/// Those of the host.
pub fn root<P: Platform>(
    device: DeviceId,
    quota: &Arc<Quota>,
    dir: Arc<dyn HostDir<P>>,
    access: HostAccess,
) -> Result<InodeRef<P>> {
    HostInode::found(device, quota, access, HostNode::Dir(dir)).map(|inode| inode as InodeRef<P>)
}

impl<P: Platform> HostInode<P> {
    fn found(device: DeviceId, quota: &Arc<Quota>, access: HostAccess, node: HostNode<P>) -> Result<Arc<Self>> {
        let (attr, body) = match node {
            HostNode::Dir(dir) => (dir.attr()?, Body::Dir(dir)),
            HostNode::Symlink(leaf, target) => (leaf.attr()?, Body::Symlink(leaf, target)),
            HostNode::Leaf(leaf) => {
                let (opened, written) = (Mutex::<P, _>::new(Weak::new()), Written::new(quota));
                (leaf.attr()?, Body::Leaf { leaf, opened, written })
            }
        };
        let kind = match &body {
            Body::Dir(_) => FileKind::Directory,
            Body::Symlink(..) => FileKind::Symlink,
            Body::Leaf { .. } => attr.kind,
        };
        let id = InodeId { device, number: attr.id.number };
        Ok(Arc::new(Self { id, kind, access, uses: Uses::default(), quota: Arc::clone(quota), body }))
    }

    /// The host's attributes, whose id is the host's.
    fn host_attr(&self) -> Result<Attr> {
        match &self.body {
            Body::Dir(dir) => dir.attr(),
            Body::Symlink(leaf, _) | Body::Leaf { leaf, .. } => leaf.attr(),
        }
    }

    fn find(&self, name: Name<'_>) -> Result<Arc<Self>> {
        let Body::Dir(dir) = &self.body else { return Err(errno!(NOTDIR)) };
        Self::found(self.id.device, &self.quota, self.access, dir.lookup(name)?)
    }

    /// Refuses to change what is shared for looking only.
    fn writable(&self) -> Result<()> {
        match self.access {
            HostAccess::ReadOnly => Err(errno!(ROFS)),
            HostAccess::ReadWrite => Ok(()),
        }
    }

    /// The directory that it is, to be changed.
    fn writable_dir(&self) -> Result<&dyn HostDir<P>> {
        self.writable()?;
        match &self.body {
            Body::Dir(dir) => Ok(&**dir),
            Body::Symlink(..) | Body::Leaf { .. } => Err(errno!(NOTDIR)),
        }
    }

    /// `inode` as one of this file system.
    fn own(inode: &InodeRef<P>) -> Result<Arc<Self>> {
        Arc::clone(inode).into_any().downcast().map_err(|_other| errno!(XDEV))
    }
}

impl<P: Platform> Inode<P> for HostInode<P> {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        Ok(Attr { id: self.id, kind: self.kind, ..self.host_attr()? })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn uses(&self) -> Option<&Uses> {
        (self.kind == FileKind::Regular).then_some(&self.uses)
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        self.writable()?;
        match &self.body {
            Body::Dir(dir) => dir.set_attr(change),
            Body::Symlink(leaf, _) => leaf.set_attr(change),
            Body::Leaf { leaf, written, .. } => {
                leaf.set_attr(change)?;
                change.size.into_iter().for_each(|size| written.cut(size));
                Ok(())
            }
        }
    }

    fn read_only(&self) -> bool {
        self.access == HostAccess::ReadOnly
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        self.find(name).map(|inode| inode as InodeRef<P>)
    }

    fn keepable(&self) -> bool {
        self.access == HostAccess::ReadOnly
    }

    fn is_current(&self) -> bool {
        match &self.body {
            // What is shared for writing is looked up again each time, and directories for reading are looked at once.
            Body::Dir(_) => true,
            Body::Symlink(leaf, _) | Body::Leaf { leaf, .. } => self.access == HostAccess::ReadWrite || leaf.is_current(),
        }
    }

    fn is_still(&self, name: Name<'_>, child: &InodeRef<P>) -> bool {
        self.access == HostAccess::ReadOnly
            || self.find(name).is_ok_and(|found| found.id == child.id() && found.kind == child.kind())
    }

    fn create(&self, name: Name<'_>, what: Special, new: NewNode) -> Result<InodeRef<P>> {
        let dir = self.writable_dir()?;
        if what != Special::Regular {
            return Err(errno!(PERM, "the host's directories take no pipes, sockets and devices"));
        }
        dir.create(name, new.mode)?;
        self.lookup(name)
    }

    fn mkdir(&self, name: Name<'_>, new: NewNode) -> Result<InodeRef<P>> {
        self.writable_dir()?.mkdir(name, new.mode)?;
        self.lookup(name)
    }

    fn symlink(&self, name: Name<'_>, target: &[u8], _new: NewNode) -> Result<InodeRef<P>> {
        self.writable_dir()?.symlink(name, target)?;
        self.lookup(name)
    }

    fn link(&self, name: Name<'_>, target: &InodeRef<P>) -> Result<()> {
        let target = Self::own(target)?;
        match &target.body {
            Body::Dir(_) => Err(errno!(PERM, "a directory has one name")),
            Body::Symlink(leaf, _) | Body::Leaf { leaf, .. } => self.writable_dir()?.link(name, &**leaf),
        }
    }

    fn unlink(&self, name: Name<'_>) -> Result<()> {
        self.writable_dir()?.unlink(name)
    }

    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        self.writable_dir()?.rmdir(name)
    }

    fn rename(&self, from: Name<'_>, dir: &InodeRef<P>, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        self.writable_dir()?.rename(from, Self::own(dir)?.writable_dir()?, to, flags)
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        let Body::Dir(dir) = &self.body else { return Err(errno!(NOTDIR)) };
        let number = self.id.number;
        let mut at = cookie;
        // The host's cookies are shifted by the two own entries.
        for (own, name) in [(0, &b"."[..]), (1, &b".."[..])] {
            if at == own {
                let next = at.saturating_add(1);
                if !sink(DirEntry { name, number, kind: FileKind::Directory, next }) {
                    return Ok(at);
                }
                at = next;
            }
        }
        dir.read_dir(at.saturating_sub(2), &mut |entry| {
            let next = entry.next.saturating_add(2);
            let room = sink(DirEntry { name: entry.name, number: entry.number, kind: entry.kind, next });
            if room {
                at = next;
            }
            room
        })?;
        Ok(at)
    }

    fn readlink(&self, _who: Asker) -> Result<Vec<u8>> {
        let Body::Symlink(_, target) = &self.body else { return Err(errno!(INVAL, "not a symbolic link")) };
        let mut copy = Vec::new();
        copy.try_reserve_exact(target.len()).map_err(|_| errno!(NOMEM))?;
        copy.extend_from_slice(target);
        Ok(copy)
    }

    fn open(self: Arc<Self>, flags: OFlags) -> Result<OpsRef<P>> {
        match &self.body {
            Body::Dir(dir) => dir.may_list().map(|()| Arc::new(DirectoryOps) as OpsRef<P>),
            Body::Symlink(..) => Err(errno!(LOOP)),
            Body::Leaf { leaf, written, .. } if self.kind == FileKind::Regular && flags.contains(OFlags::WRITE) => {
                self.writable()?;
                let file = leaf.open(flags & (OFlags::READ | OFlags::WRITE))?;
                Ok(Arc::new(Opened { file, written: Arc::clone(written) }))
            }
            Body::Leaf { leaf, opened, written } if self.kind == FileKind::Regular => {
                let mut opened = opened.lock();
                if let Some(open) = opened.upgrade() {
                    return Ok(open);
                }
                let open = Arc::new(Opened { file: leaf.open(OFlags::READ)?, written: Arc::clone(written) });
                *opened = Arc::downgrade(&open);
                Ok(open)
            }
            Body::Leaf { .. } => Err(errno!(NXIO, "pipes, sockets and devices of the host are out of reach")),
        }
    }
}

/// An open regular file of the host.
struct Opened<P: Platform> {
    file: Arc<dyn HostFile<P>>,
    written: Arc<Written<P>>,
}

impl<P: Platform> Opened<P> {
    /// Where the bytes from `offset` on lie that the host would read without a wait, as far as they lie in one frame. `None` as well
    /// at the end.
    fn at_hand(&self, offset: u64) -> Option<AtHand<P>> {
        let frame = self.file.cached(offset / PAGE_SIZE_U64)?;
        // After the look-up, as in Linux's filemap_read: who finds a page finds the size that it was read with, or a later one.
        let left = self.file.length_at_hand().ok()?.checked_sub(offset).filter(|left| *left > 0)?;
        let within = usize::try_from(offset % PAGE_SIZE_U64).ok()?;
        let room = PAGE_SIZE.saturating_sub(within);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        Some(AtHand { frame, within, len: left.min(room), is_last: left <= room })
    }
}

/// Bytes of a file in the host's cache.
struct AtHand<P: Platform> {
    frame: P::Frame,
    /// Where in the frame they begin.
    within: usize,
    len: usize,
    /// Whether they reach to the end of the file.
    is_last: bool,
}

impl<P: Platform> fmt::Debug for Opened<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("file", &self.file).finish()
    }
}

impl<P: Platform> FileOps<P> for Opened<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        let start = dst.done();
        let mut at = offset;
        while dst.remaining() > 0 && !dst.faulted() {
            if let Some(AtHand { frame, within, len, is_last }) = self.at_hand(at) {
                let put = dst.put_frame(&frame, within, len);
                at = at.saturating_add(u64::try_from(put).unwrap_or(0));
                if put == len && is_last {
                    break;
                }
                continue;
            }
            let put = match read_host(&*self.file, at, dst, cx) {
                Ok(0) => break,
                Ok(put) => put,
                Err(error) if dst.done() == start => return Err(error),
                Err(_) => break,
            };
            at = at.saturating_add(u64::try_from(put).unwrap_or(0));
        }
        dst.outcome(start)
    }

    fn write_at(&self, offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        write_host(&*self.file, offset, src, cx)
    }

    fn append(&self, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<(usize, u64)> {
        append_host(&*self.file, src, cx)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.file.attr()?.size)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.file.truncate(size)?;
        self.written.cut(size);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn begin_writable_mapping(&self) -> Result<()> {
        if !self.file.shares_writes() {
            return Err(errno!(NODEV, "the host's pages are not the guest's to write to"));
        }
        self.written.begin();
        Ok(())
    }

    fn end_writable_mapping(&self) {
        self.written.end();
    }

    fn is_write_ready(&self, index: u64, frame: &P::Frame) -> bool {
        self.written.is_noted(index, frame)
    }

    fn prepare_write(&self, index: u64) -> Result<()> {
        self.written.note(&self.file, index)
    }

    fn settle(&self, hide: &mut dyn FnMut()) -> Result<()> {
        self.written.settle(hide)
    }

    fn page(&self, index: u64, _for_write: bool) -> Result<P::Frame> {
        self.file.page(index)
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.file.resident(index)
    }

    fn mapped_size(&self) -> Result<u64> {
        self.file.length_at_hand()
    }

    fn mappable(&self) -> bool {
        true
    }

    fn poll(&self, _watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        Ready::IN | Ready::OUT
    }
}

/// Reads once from the host and puts what came into `dst`; returns how much arrived.
///
/// # Errors
/// Those of the host.
pub(super) fn read_host<P: Platform>(file: &dyn HostFile<P>, offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
    let want = dst.remaining();
    with_buffer(want, |buffer| {
        let len = buffer.len().min(want);
        let Some(part) = buffer.get_mut(..len) else { return Ok(0) };
        let read = file.read(offset, part, cx.blocking)?;
        Ok(dst.put(part.get(..read).unwrap_or_default()))
    })
}

/// Gives `act` a buffer for a transfer of `len` bytes in parts: no larger than [`LARGE`], and smaller where memory is short.
pub(super) fn with_buffer<T>(len: usize, act: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut heap = Vec::new();
    let large = len.min(LARGE);
    if len <= BOUNCE || heap.try_reserve_exact(large).is_err() {
        return with_bounce(len, act);
    }
    heap.resize(large, 0);
    act(&mut heap)
}

/// Writes all of `src` to the host at `offset`; returns how much it took.
///
/// # Errors
/// Those of the host and `FAULT`, if nothing was written.
pub(super) fn write_host<P: Platform>(file: &dyn HostFile<P>, offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
    let mut at = offset;
    give_host(src, |part| {
        let count = file.write(at, part, cx.blocking)?.min(part.len());
        at = at.saturating_add(u64::try_from(count).unwrap_or(0));
        Ok(count)
    })
}

/// The same at the end of the file; also returns the offset after it.
///
/// # Errors
/// Those of [`write_host`].
pub(super) fn append_host<P: Platform>(file: &dyn HostFile<P>, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<(usize, u64)> {
    let mut end = 0;
    let count = give_host(src, |part| {
        let (count, after) = file.append(part, cx.blocking)?;
        end = after;
        Ok(count.min(part.len()))
    })?;
    Ok((count, end))
}

/// Gives `src` to `write` in parts until it takes no more; returns how much was taken.
fn give_host<P: Platform>(src: &mut IoSrc<'_, P>, mut write: impl FnMut(&[u8]) -> Result<usize>) -> Result<usize> {
    let mut written = 0usize;
    with_buffer(src.remaining(), |buffer| {
        while src.remaining() > 0 {
            let taken = src.take(buffer);
            let mut rest = buffer.get(..taken).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                match write(rest) {
                    Ok(0) => return Ok(written),
                    Ok(count) => {
                        written = written.saturating_add(count);
                        rest = rest.get(count..).unwrap_or_default();
                    }
                    Err(error) => return if written > 0 { Ok(written) } else { Err(error) },
                }
            }
        }
        if written == 0 && src.faulted() { Err(errno!(FAULT)) } else { Ok(written) }
    })
}

/// Buffer of a large transfer with the host.
const LARGE: usize = 16 * PAGE_SIZE;

/// A frame of page `index` filled by reading `file`: for hosts that cannot lend their page cache.
///
/// # Errors
/// `FAULT`: wholly past the end. `NOMEM`. Those of the host.
pub fn page_by_reading<P: Platform>(file: &dyn HostFile<P>, index: u64) -> Result<P::Frame> {
    let start = index.checked_mul(PAGE_SIZE_U64).ok_or(errno!(FAULT, "past the end of the file"))?;
    if start >= file.attr()?.size {
        return Err(errno!(FAULT, "past the end of the file"));
    }
    let frame = P::zeroed_frame().ok_or(errno!(NOMEM, "the host has no page"))?;
    let mut buffer = [0u8; BOUNCE];
    let mut at = 0usize;
    while at < PAGE_SIZE {
        let offset = start.saturating_add(u64::try_from(at).unwrap_or(0));
        let room = buffer.len().min(PAGE_SIZE.saturating_sub(at));
        let Some(part) = buffer.get_mut(..room) else { break };
        let read = file.read(offset, part, super::inode::Blocking::Yes)?.min(room);
        if read == 0 {
            break;
        }
        frame.write(at, part.get(..read).unwrap_or_default());
        at = at.saturating_add(read);
    }
    Ok(frame)
}
