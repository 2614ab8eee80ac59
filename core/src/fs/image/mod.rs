//! Read-only file systems out of one file of the host: erofs, as mkfs.erofs(1) writes it, plain or compressed with LZ4.
//!
//! Chosen over formats of our own because its tools are everywhere, whole blocks can be mapped as they lie, and compressed clusters
//! have a fixed size in the image. Owns: reading, and the pages that had to be made (`cache`). Not here: changes, which an overlay
//! keeps. Invariants: an image is shared by all sandboxes that run from it; each value that is read from it is checked where it is
//! read, at every time, since whoever made the image may mean no good and the file may change meanwhile. What is damaged gives
//! `UCLEAN`, in a mapping SIGBUS. Locks: `cache`'s, and the registry's, which is outermost and held while nothing is read.
//! Not built: several devices, addresses of 48 bits, compressed metadata, own prefixes of attributes, other algorithms: `OPNOTSUPP`.
//! Source: Linux Documentation/filesystems/erofs.rst; fs/erofs/. Tests: tests/hosted/tests/image/, tests/vm/cases/images.toml.

mod attributes;
mod cache;
mod content;
mod dir;
mod file;
mod layout;
mod lz4;
mod packed;
mod place;
mod store;

use super::host::HostFile;
use super::inode::{DirSink, Inode, InodeRef, OpsRef};
use super::pseudo::DirectoryOps;
use super::types::{Asker, Attr, DeviceId, FileKind, FsStat, Gid, InodeId, Name, OFlags, PATH_MAX, Timestamp, Uid};
use crate::platform::Platform;
use crate::quota::Quota;
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use cache::{Cache, Owner};
use content::{Entry, Mounted};
use core::any::Any;
use core::fmt;
use store::Store;

/// An image that is in use.
#[derive(Debug)]
pub struct Image<P: Platform> {
    was: Identity,
    store: Store<P>,
    cache: Cache<P>,
}

/// Which file of the host, and in which state of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    file: InodeId,
    size: u64,
    modified: Timestamp,
    changed: Timestamp,
}

impl<P: Platform> Image<P> {
    /// How many pages of it were made and are in memory.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.cache.len()
    }
}

/// The images in use on a host, so that sandboxes share them.
pub struct Images<P: Platform> {
    open: Mutex<P, Vec<Weak<Image<P>>>>,
}

impl<P: Platform> fmt::Debug for Images<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}

impl<P: Platform> Default for Images<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Images<P> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { open: Mutex::<P, _>::const_new(<P::RawMutex as lock_api::RawMutex>::INIT, Vec::new()) }
    }

    /// The image in `file`: the one that is in use, if the file is the same and was not changed since.
    ///
    /// # Errors
    /// `INVAL`: no regular file, or none with an image. `OPNOTSUPP`: one that needs what is not built. `UCLEAN`: damaged. `NOMEM`.
    /// Those of the host.
    pub fn open(&self, file: Arc<dyn HostFile<P>>) -> Result<Arc<Image<P>>> {
        let attr = file.attr()?;
        if attr.kind != FileKind::Regular {
            return Err(errno!(INVAL, "an image is a regular file"));
        }
        let was = Identity { file: attr.id, size: attr.size, modified: attr.modified, changed: attr.changed };
        if let Some(image) = Self::known(&self.open.lock(), &was) {
            return Ok(image);
        }
        let image = Arc::new(Image { was, store: Store::open(file, attr.size)?, cache: Cache::new() });
        let mut open = self.open.lock();
        open.retain(|image| image.strong_count() > 0);
        if let Some(image) = Self::known(&open, &was) {
            return Ok(image);
        }
        open.try_reserve(1).map_err(|_| errno!(NOMEM))?;
        open.push(Arc::downgrade(&image));
        Ok(image)
    }

    /// One in use keeps its file open, so that no other has the same number.
    fn known(open: &[Weak<Image<P>>], was: &Identity) -> Option<Arc<Image<P>>> {
        open.iter().filter_map(Weak::upgrade).find(|image| image.was == *was)
    }
}

/// A file of a mounted image.
struct ImageInode<P: Platform> {
    mounted: Arc<Mounted<P>>,
    entry: Entry,
}

impl<P: Platform> fmt::Debug for ImageInode<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageInode").field("number", &self.entry.number).finish_non_exhaustive()
    }
}

/// The root directory of `image`, shown as `device`; what must be made of its pages is charged to `quota`.
///
/// # Errors
/// `UCLEAN`: damaged, such as one whose root is no directory. Those of the host.
pub fn root<P: Platform>(device: DeviceId, quota: &Arc<Quota>, image: &Arc<Image<P>>) -> Result<InodeRef<P>> {
    let mounted = Mounted { image: Arc::clone(image), device, owner: Owner::new(quota) };
    let entry = mounted.entry(image.store.about.root)?;
    if entry.node.kind != FileKind::Directory {
        return Err(errno!(UCLEAN, "the image's root is no directory"));
    }
    Ok(Arc::new(ImageInode { mounted: Arc::new(mounted), entry }))
}

impl<P: Platform> Inode<P> for ImageInode<P> {
    fn id(&self) -> InodeId {
        InodeId { device: self.mounted.device, number: self.entry.number }
    }

    fn kind(&self) -> FileKind {
        self.entry.node.kind
    }

    fn attr(&self) -> Result<Attr> {
        let node = &self.entry.node;
        let block = self.mounted.store().about.block();
        Ok(Attr {
            id: self.id(),
            kind: node.kind,
            mode: node.mode,
            links: node.links,
            uid: Uid(node.uid),
            gid: Gid(node.gid),
            device: node.device,
            size: node.size,
            blocks: node.blocks.saturating_mul(block / 512),
            block_size: u32::try_from(block).unwrap_or(4096),
            accessed: node.time,
            modified: node.time,
            changed: node.time,
        })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.mounted.value(&self.entry, name)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        self.mounted.names(&self.entry)
    }

    fn fs_stat(&self) -> FsStat {
        let about = &self.mounted.store().about;
        FsStat { block_size: u32::try_from(about.block()).unwrap_or(4096), blocks: about.blocks, free: 0 }
    }

    fn read_only(&self) -> bool {
        true
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        if self.kind() != FileKind::Directory {
            return Err(errno!(NOTDIR));
        }
        let entry = self.mounted.entry(self.mounted.find(&self.entry, name)?)?;
        Ok(Arc::new(Self { mounted: Arc::clone(&self.mounted), entry }))
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        if self.kind() != FileKind::Directory {
            return Err(errno!(NOTDIR));
        }
        self.mounted.list(&self.entry, cookie, sink)
    }

    fn was_mapped(&self) -> bool {
        false
    }

    fn readlink(&self, _who: Asker) -> Result<Vec<u8>> {
        if self.kind() != FileKind::Symlink {
            return Err(errno!(INVAL, "not a symbolic link"));
        }
        let len = usize::try_from(self.entry.node.size).ok().filter(|len| (1..PATH_MAX).contains(len));
        let mut target = store::zeros(len.ok_or(errno!(UCLEAN, "a link with no target, or too long a one"))?)?;
        self.mounted.read(&self.entry, 0, &mut target)?;
        if target.contains(&0) { Err(errno!(UCLEAN, "a link's target with a NUL")) } else { Ok(target) }
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        match self.kind() {
            FileKind::Regular => Ok(Arc::new(file::Opened::new(&self.mounted, self.entry))),
            FileKind::Directory => Ok(Arc::new(DirectoryOps)),
            FileKind::Symlink => Err(errno!(LOOP)),
            _ => Err(errno!(NXIO, "pipes, sockets and devices of an image are out of reach")),
        }
    }
}
