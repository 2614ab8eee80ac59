//! The host's directories as a read-only file system.
//!
//! Invariants: nothing here writes to the host; only names are asked for, one at a time. Host inode numbers are shown as they
//! are, under a device of the sandbox's own. Locks: `opened` is rank "directory entries" and may be held while the host opens.

use super::host::{HostDir, HostFile, HostNode};
use super::inode::{DirEntry, DirSink, FileOps, Inode, InodeRef, IoCx, OpsRef};
use super::io::{BOUNCE, IoDst};
use super::pseudo::DirectoryOps;
use super::types::{Asker, Attr, DeviceId, FileKind, InodeId, Name, NameBuf, OFlags, PAGE_SIZE, Ready};
use crate::platform::{Frame, Platform};
use crate::sync::{Mutex, WaitQueue};
use crate::{errno, error::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// What kind of node, and what only that kind has.
enum Body<P: Platform> {
    Dir(Arc<dyn HostDir<P>>),
    Symlink(Vec<u8>),
    Other { opened: Mutex<P, Weak<Opened<P>>> },
}

/// A node of the host.
struct HostInode<P: Platform> {
    device: DeviceId,
    attr: Attr,
    /// Where it was found, to ask for its present attributes and to open it.
    found: Option<(Arc<dyn HostDir<P>>, NameBuf)>,
    body: Body<P>,
}

impl<P: Platform> fmt::Debug for HostInode<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostInode").field("number", &self.attr.id.number).finish_non_exhaustive()
    }
}

/// The inode of `dir`, whose file system is shown as `device`.
///
/// # Errors
/// Those of the host.
pub fn root<P: Platform>(device: DeviceId, dir: Arc<dyn HostDir<P>>) -> Result<InodeRef<P>> {
    let attr = dir.attr()?;
    Ok(Arc::new(HostInode { device, attr, found: None, body: Body::Dir(dir) }))
}

impl<P: Platform> Inode<P> for HostInode<P> {
    fn id(&self) -> InodeId {
        InodeId { device: self.device, number: self.attr.id.number }
    }

    fn kind(&self) -> FileKind {
        match &self.body {
            Body::Dir(_) => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Other { .. } => self.attr.kind,
        }
    }

    fn attr(&self) -> Result<Attr> {
        let now = match (&self.body, &self.found) {
            (Body::Dir(dir), _) => dir.attr()?,
            (Body::Other { .. }, Some((dir, name))) => match dir.attr_of(name.as_name()) {
                Ok(attr) if attr.id.number == self.attr.id.number => attr,
                // The host has put another file there, or none; this is the one that was found.
                _ => self.attr,
            },
            _ => self.attr,
        };
        Ok(Attr { id: self.id(), kind: self.kind(), ..now })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn read_only(&self) -> bool {
        true
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        let Body::Dir(dir) = &self.body else { return Err(errno!(NOTDIR)) };
        let found = Some((Arc::clone(dir), NameBuf::from(name)));
        let (attr, body) = match dir.lookup(name)? {
            HostNode::Dir(dir) => (dir.attr()?, Body::Dir(dir)),
            HostNode::Symlink(attr, target) => (attr, Body::Symlink(target)),
            HostNode::Other(attr) => (attr, Body::Other { opened: Mutex::<P, _>::new(Weak::new()) }),
        };
        Ok(Arc::new(HostInode { device: self.device, attr, found, body }))
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        let Body::Dir(dir) = &self.body else { return Err(errno!(NOTDIR)) };
        let number = self.attr.id.number;
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
        let Body::Symlink(target) = &self.body else { return Err(errno!(INVAL, "not a symbolic link")) };
        let mut copy = Vec::new();
        copy.try_reserve_exact(target.len()).map_err(|_| errno!(NOMEM))?;
        copy.extend_from_slice(target);
        Ok(copy)
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        match (&self.body, &self.found) {
            (Body::Dir(_), _) => Ok(Arc::new(DirectoryOps)),
            (Body::Other { opened }, Some((dir, name))) if self.attr.kind == FileKind::Regular => {
                let mut opened = opened.lock();
                if let Some(open) = opened.upgrade() {
                    return Ok(open);
                }
                let open = Arc::new(Opened { file: dir.open(name.as_name())? });
                *opened = Arc::downgrade(&open);
                Ok(open)
            }
            (Body::Symlink(_), _) => Err(errno!(LOOP)),
            _ => Err(errno!(NXIO, "pipes, sockets and devices of the host are out of reach")),
        }
    }
}

/// An open regular file of the host.
struct Opened<P: Platform> {
    file: Arc<dyn HostFile<P>>,
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

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.file.attr()?.size)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn page(&self, index: u64, for_write: bool) -> Result<P::Frame> {
        if for_write {
            return Err(errno!(ROFS));
        }
        self.file.page(index)
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
    let mut stack = [0u8; BOUNCE];
    let mut heap = Vec::new();
    let want = dst.remaining();
    let buffer: &mut [u8] = if want > BOUNCE && heap.try_reserve_exact(LARGE).is_ok() {
        heap.resize(LARGE, 0);
        &mut heap
    } else {
        &mut stack
    };
    let len = buffer.len().min(want);
    let Some(part) = buffer.get_mut(..len) else { return Ok(0) };
    let read = file.read(offset, part, cx.blocking)?;
    Ok(dst.put(part.get(..read).unwrap_or_default()))
}

/// Buffer of a large transfer with the host.
pub(super) const LARGE: usize = 16 * PAGE_SIZE;

/// A frame of page `index` filled by reading `file`: for hosts that cannot lend their page cache.
///
/// # Errors
/// `FAULT`: wholly past the end. `NOMEM`. Those of the host.
pub fn page_by_reading<P: Platform>(file: &dyn HostFile<P>, index: u64) -> Result<P::Frame> {
    let start = index.checked_mul(super::types::PAGE_SIZE_U64).ok_or(errno!(FAULT, "past the end of the file"))?;
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
