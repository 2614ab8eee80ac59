//! Made-up files, links and directories for /proc, filled by closures of whoever knows the content.
//!
//! Invariants: a file's content is made once per open file, at its first read from the start, so that reads in pieces fit
//! together, and charged as long as it is kept. Locks: a closure runs with none held here; `text` is held around the copy to a guest only after the content is
//! made (rank "file offset"). Sources: proc(5).

use super::dentry::Dentry;
use super::inode::{DirEntry, DirSink, FileOps, Inode, InodeRef, IoCx, OpsRef};
use super::io::{IoDst, IoSrc};
use super::pseudo::{DirectoryOps, made_up_attr};
use super::types::{Asker, Attr, FileKind, Gid, InodeId, Mode, Name, OFlags, Timestamp, Uid};
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// Makes a file's content.
pub type Generate = dyn Fn() -> Result<Vec<u8>> + Send + Sync;
/// Takes what is written to a file in one write.
pub type Accept = dyn Fn(&[u8]) -> Result<()> + Send + Sync;
/// Most bytes that one write to a made-up file takes.
const WRITE_MAX: usize = 4096;

/// Which inode it is and whose.
#[derive(Clone, Copy, Debug)]
pub struct ProcId {
    /// The inode.
    pub id: InodeId,
    /// Permissions.
    pub mode: Mode,
    /// Owner.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
}

impl ProcId {
    fn attr(&self, kind: FileKind, time: Timestamp) -> Attr {
        Attr { uid: self.uid, gid: self.gid, ..made_up_attr(self.id, kind, self.mode, time) }
    }
}

/// A file whose content a closure makes.
pub struct ProcFile {
    id: ProcId,
    quota: Arc<Quota>,
    generate: Arc<Generate>,
    accept: Option<Arc<Accept>>,
}

impl fmt::Debug for ProcFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcFile").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ProcFile {
    /// A file to read. What it holds is charged to `quota` while it is open.
    #[must_use]
    pub fn readable<P: Platform>(
        id: ProcId,
        quota: &Arc<Quota>,
        generate: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> InodeRef<P> {
        Self { id, quota: Arc::clone(quota), generate: Arc::new(generate), accept: None }.inode()
    }

    /// A file to read and to write.
    #[must_use]
    pub fn writable<P: Platform>(
        id: ProcId,
        quota: &Arc<Quota>,
        generate: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
        accept: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> InodeRef<P> {
        Self { id, quota: Arc::clone(quota), generate: Arc::new(generate), accept: Some(Arc::new(accept)) }.inode()
    }

    fn inode<P: Platform>(self) -> InodeRef<P> {
        let (id, file) = (self.id, Arc::new(self));
        OpenedFile::inode(id, move |flags| {
            if flags.contains(OFlags::WRITE) && file.accept.is_none() {
                return Err(errno!(ACCESS, "cannot be written to"));
            }
            // Not even by who may read everything.
            if flags.contains(OFlags::READ) && !id.mode.intersects(Mode::RUSR | Mode::RGRP | Mode::ROTH) {
                return Err(errno!(ACCESS, "cannot be read"));
            }
            Ok(Arc::new(ProcOps { file: Arc::clone(&file), text: Mutex::<P, _>::new(None) }))
        })
    }
}

/// Opens a file.
type Open<P> = dyn Fn(OFlags) -> Result<OpsRef<P>> + Send + Sync;

/// A file that is what a closure opens.
pub struct OpenedFile<P: Platform> {
    id: ProcId,
    open: Arc<Open<P>>,
}

impl<P: Platform> fmt::Debug for OpenedFile<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedFile").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<P: Platform> OpenedFile<P> {
    /// A file.
    #[must_use]
    pub fn inode(id: ProcId, open: impl Fn(OFlags) -> Result<OpsRef<P>> + Send + Sync + 'static) -> InodeRef<P> {
        Arc::new(Self { id, open: Arc::new(open) })
    }
}

impl<P: Platform> Inode<P> for OpenedFile<P> {
    fn id(&self) -> InodeId {
        self.id.id
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn attr(&self) -> Result<Attr> {
        Ok(self.id.attr(FileKind::Regular, P::realtime().into()))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn set_attr(&self, change: &super::types::AttrChange) -> Result<()> {
        set_nothing(change)
    }

    fn open(self: Arc<Self>, flags: OFlags) -> Result<OpsRef<P>> {
        (self.open)(flags)
    }
}

/// A shell opens with `O_TRUNC` to write; everything else is fixed.
fn set_nothing(change: &super::types::AttrChange) -> Result<()> {
    if change.mode.is_none() && change.uid.is_none() && change.gid.is_none() { Ok(()) } else { Err(errno!(PERM)) }
}

/// Content, and what it is charged.
type Text = (Vec<u8>, Charge);

struct ProcOps<P: Platform> {
    file: Arc<ProcFile>,
    text: Mutex<P, Option<Text>>,
}

impl<P: Platform> fmt::Debug for ProcOps<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcOps").field("file", &self.file).finish_non_exhaustive()
    }
}

impl<P: Platform> ProcOps<P> {
    fn make(&self) -> Result<Text> {
        let text = (self.file.generate)()?;
        let charge = self.file.quota.charge(u64::try_from(text.capacity()).unwrap_or(u64::MAX))?;
        Ok((text, charge))
    }
}

impl<P: Platform> FileOps<P> for ProcOps<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, _cx: IoCx) -> Result<usize> {
        let start = dst.done();
        let known = offset > 0 && self.text.lock().is_some();
        let fresh = if known { None } else { Some(self.make()?) };
        let mut text = self.text.lock();
        if fresh.is_some() {
            *text = fresh;
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = text.as_ref().and_then(|(text, _)| text.get(from..)).unwrap_or_default();
        dst.put(rest);
        dst.outcome(start)
    }

    fn write_at(&self, _offset: u64, src: &mut IoSrc<'_, P>, _cx: IoCx) -> Result<usize> {
        let accept = self.file.accept.as_ref().ok_or(errno!(ACCESS, "cannot be written to"))?;
        let len = src.remaining().min(WRITE_MAX);
        if len == 0 {
            return Ok(0);
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| errno!(NOMEM))?;
        bytes.resize(len, 0);
        let taken = src.take(&mut bytes);
        if taken < len {
            return Err(errno!(FAULT));
        }
        accept(&bytes)?;
        Ok(taken)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }
}

/// Where a link of /proc leads.
pub enum LinkTarget<P: Platform> {
    /// A path, walked as any link's.
    Path(Vec<u8>),
    /// A thing, reached without a walk; the bytes are what readlink(2) shows.
    Place(Vec<u8>, Arc<Dentry<P>>),
}

impl<P: Platform> fmt::Debug for LinkTarget<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Path(text) | Self::Place(text, _)) = self;
        write!(f, "LinkTarget(\"{}\")", text.escape_ascii())
    }
}

type Target<P> = dyn Fn(Asker) -> Result<LinkTarget<P>> + Send + Sync;

/// A symbolic link whose target a closure gives to each who asks, such as /proc/self/exe.
pub struct ProcLink<P: Platform> {
    id: ProcId,
    target: Arc<Target<P>>,
}

impl<P: Platform> fmt::Debug for ProcLink<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcLink").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<P: Platform> ProcLink<P> {
    /// A link.
    #[must_use]
    pub fn inode(id: ProcId, target: impl Fn(Asker) -> Result<LinkTarget<P>> + Send + Sync + 'static) -> InodeRef<P> {
        Arc::new(Self { id, target: Arc::new(target) })
    }
}

impl<P: Platform> Inode<P> for ProcLink<P> {
    fn id(&self) -> InodeId {
        self.id.id
    }

    fn kind(&self) -> FileKind {
        FileKind::Symlink
    }

    fn attr(&self) -> Result<Attr> {
        Ok(self.id.attr(FileKind::Symlink, P::realtime().into()))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn readlink(&self, who: Asker) -> Result<Vec<u8>> {
        Ok(match (self.target)(who)? {
            LinkTarget::Path(text) | LinkTarget::Place(text, _) => text,
        })
    }

    fn jump(&self, who: Asker) -> Option<Result<Arc<Dentry<P>>>> {
        match (self.target)(who) {
            Ok(LinkTarget::Path(_)) => None,
            Ok(LinkTarget::Place(_, place)) => Some(Ok(place)),
            Err(error) => Some(Err(error)),
        }
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Err(errno!(LOOP))
    }
}

/// What a directory of changing names needs to know.
pub trait ProcNames<P: Platform>: Send + Sync + fmt::Debug {
    /// The entry `name`.
    ///
    /// # Errors
    /// `NOENT`: there is none.
    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>>;

    /// The first entry numbered `from` or above: its number, name, inode number and kind. Numbers stay with entries.
    fn next(&self, from: u64) -> Option<(u64, Vec<u8>, u64, FileKind)>;

    /// What the directory is about, for who made it and finds it again by [`about`].
    fn about(&self) -> Option<&dyn Any> {
        None
    }
}

/// What `look` makes of the `T` that the directory `inode` is about; `None` if it is no such directory.
pub fn about<P: Platform, T: 'static, R>(inode: &InodeRef<P>, look: impl FnOnce(&T) -> R) -> Option<R> {
    let dir = Arc::clone(inode).into_any().downcast::<ChangingDir<P>>().ok()?;
    dir.names.about().and_then(<dyn Any>::downcast_ref).map(look)
}

/// Makes a directory whose names come and go, such as /proc/self/fd.
#[must_use]
pub fn directory<P: Platform>(id: ProcId, names: Arc<dyn ProcNames<P>>) -> InodeRef<P> {
    Arc::new(ChangingDir { id, names })
}

struct ChangingDir<P: Platform> {
    id: ProcId,
    names: Arc<dyn ProcNames<P>>,
}

impl<P: Platform> fmt::Debug for ChangingDir<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangingDir").field("id", &self.id).field("names", &self.names).finish()
    }
}

impl<P: Platform> Inode<P> for ChangingDir<P> {
    fn id(&self) -> InodeId {
        self.id.id
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn attr(&self) -> Result<Attr> {
        Ok(self.id.attr(FileKind::Directory, P::realtime().into()))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        self.names.lookup(name)
    }

    fn volatile(&self) -> bool {
        true
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        let number = self.id.id.number;
        let mut at = cookie;
        loop {
            let found = match at {
                0 => Some((1, b".".to_vec(), number, FileKind::Directory)),
                1 => Some((2, b"..".to_vec(), number, FileKind::Directory)),
                _ => self
                    .names
                    .next(at.saturating_sub(2))
                    .map(|(entry, name, number, kind)| (entry.saturating_add(3), name, number, kind)),
            };
            let Some((next, name, number, kind)) = found else { return Ok(at) };
            if !sink(DirEntry { name: &name, number, kind, next }) {
                return Ok(at);
            }
            at = next;
        }
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Ok(Arc::new(DirectoryOps))
    }
}
