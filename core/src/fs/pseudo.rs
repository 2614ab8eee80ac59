//! Directories and files that are made up: fixed trees such as /dev, and the files of /proc.
//!
//! Invariants: a tree is fixed once it is built, but for directories whose names a closure gives. No locks.

use super::inode::{DirEntry, DirSink, FileOps, Inode, InodeRef, OpsRef};
use super::types::{Attr, DeviceId, FileKind, Gid, InodeId, Mode, Name, OFlags, Timestamp, Uid};
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

/// What an open directory does: its names are read through its inode.
#[derive(Debug)]
pub struct DirectoryOps;

impl<P: Platform> FileOps<P> for DirectoryOps {
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

/// Attributes of something made up: owned by root, of no size, born at `time`.
#[must_use]
pub fn made_up_attr(id: InodeId, kind: FileKind, mode: Mode, time: Timestamp) -> Attr {
    Attr {
        id,
        kind,
        mode,
        links: if kind == FileKind::Directory { 2 } else { 1 },
        uid: Uid(0),
        gid: Gid(0),
        device: DeviceId::default(),
        size: 0,
        blocks: 0,
        block_size: 4096,
        accessed: time,
        modified: time,
        changed: time,
    }
}

/// A directory with fixed entries.
pub struct FixedDir<P: Platform> {
    id: InodeId,
    time: Timestamp,
    entries: BTreeMap<&'static str, InodeRef<P>>,
}

impl<P: Platform> fmt::Debug for FixedDir<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedDir").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<P: Platform> FixedDir<P> {
    /// A directory of these entries.
    #[must_use]
    pub fn new(id: InodeId, entries: impl IntoIterator<Item = (&'static str, InodeRef<P>)>) -> Arc<Self> {
        Arc::new(Self { id, time: P::realtime().into(), entries: entries.into_iter().collect() })
    }
}

impl<P: Platform> Inode<P> for FixedDir<P> {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn attr(&self) -> Result<Attr> {
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        Ok(made_up_attr(self.id, FileKind::Directory, mode, self.time))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        let text = core::str::from_utf8(name.as_bytes()).map_err(|_| errno!(NOENT))?;
        self.entries.get(text).cloned().ok_or(errno!(NOENT))
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        let own = [(".", self.id.number, FileKind::Directory), ("..", self.id.number, FileKind::Directory)];
        let rest = self.entries.iter().map(|(name, inode)| (*name, inode.id().number, inode.kind()));
        give(cookie, own.into_iter().chain(rest), sink)
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Ok(Arc::new(DirectoryOps))
    }
}

/// Gives the entries from number `cookie` on to `sink`; returns the cookie to go on with.
///
/// # Errors
/// None yet.
pub(super) fn give<N: AsRef<str>>(
    cookie: u64,
    entries: impl Iterator<Item = (N, u64, FileKind)>,
    sink: &mut DirSink<'_>,
) -> Result<u64> {
    let mut at = cookie;
    for (name, number, kind) in entries.skip(usize::try_from(cookie).unwrap_or(usize::MAX)) {
        let next = at.saturating_add(1);
        if !sink(DirEntry { name: name.as_ref().as_bytes(), number, kind, next }) {
            break;
        }
        at = next;
    }
    Ok(at)
}
