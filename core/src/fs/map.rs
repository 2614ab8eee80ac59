//! Files as the memory that mappings show.
//!
//! Invariants: the open file lives as long as a mapping of it; what the file system hands out as page `index` stays that page until
//! a truncation drops it. Locks: a file system's page lock is inside the address space's and takes nothing but the quota.

use super::file::File;
use super::inode::InodeRef;
use super::types::OFlags;
use crate::mm::{MapSource, SourceName};
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// What a mapping does with its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapAccess {
    /// Writes stay with the mapping, or there are none.
    Private,
    /// Writes reach the file.
    SharedWritable,
    /// Others' writes are seen; the mapping has none.
    SharedReadOnly,
}

/// An open file that is mapped.
pub struct FileSource<P: Platform> {
    file: Arc<File<P>>,
    path: Vec<u8>,
    /// Whether the mapping may come to write to the file; told to the file, for its seals.
    may_write: bool,
}

impl<P: Platform> fmt::Debug for FileSource<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource").field("file", &self.file).finish_non_exhaustive()
    }
}

impl<P: Platform> FileSource<P> {
    /// `file` for a mapping; `path` is what /proc/PID/maps shows.
    ///
    /// # Errors
    /// - `ACCESS`: not open for reading, or for writing where writes reach the file, or append-only.
    /// - `NODEV`: it cannot be mapped. `PERM`: it is sealed against writes. Source: mmap(2).
    pub fn new(file: &Arc<File<P>>, path: Vec<u8>, access: MapAccess) -> Result<Arc<Self>> {
        Self::check(file, access)?;
        let flags = file.flags();
        if !file.ops().mappable() {
            return Err(errno!(NODEV, "cannot be mapped"));
        }
        let may_write = match access {
            MapAccess::SharedWritable => file.ops().begin_writable_mapping().map(|()| true)?,
            MapAccess::SharedReadOnly => flags.contains(OFlags::WRITE) && file.ops().begin_writable_mapping().is_ok(),
            MapAccess::Private => false,
        };
        Ok(Arc::new(Self { file: Arc::clone(file), path, may_write }))
    }

    /// Checks that `file` is open for what `access` needs.
    ///
    /// # Errors
    /// `ACCESS`: not open for reading, or for writing where writes reach the file. `BADF`: open as a place only.
    pub fn check(file: &File<P>, access: MapAccess) -> Result<()> {
        let flags = file.flags();
        if flags.contains(OFlags::PATH) {
            return Err(errno!(BADF, "a handle on a place only"));
        }
        if !flags.contains(OFlags::READ) {
            return Err(errno!(ACCESS, "not open for reading"));
        }
        if access == MapAccess::SharedWritable && !flags.contains(OFlags::WRITE) {
            return Err(errno!(ACCESS, "not open for writing"));
        }
        Ok(())
    }

    /// Whether a shared mapping of it may come to write to the file.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.may_write
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &Arc<File<P>> {
        &self.file
    }
}

impl<P: Platform> Drop for FileSource<P> {
    fn drop(&mut self) {
        if self.may_write {
            self.file.ops().end_writable_mapping();
        }
    }
}

impl<P: Platform> MapSource<P> for FileSource<P> {
    fn page(&self, index: u64) -> Result<P::Frame> {
        self.file.ops().page(index, false)
    }

    fn size(&self) -> u64 {
        self.file.ops().mapped_size().unwrap_or(0)
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.file.ops().resident(index)
    }

    fn is_write_ready(&self, index: u64, frame: &P::Frame) -> bool {
        self.file.ops().is_write_ready(index, frame)
    }

    fn prepare_write(&self, index: u64) -> Result<()> {
        self.file.ops().prepare_write(index)
    }

    fn sync(&self, hide: &mut dyn FnMut()) -> Result<()> {
        self.file.ops().settle(hide)?;
        self.file.ops().sync()
    }

    fn name(&self) -> SourceName {
        let id = self.file.place().inode().id();
        // Both halves of the device's number, the major one above; the ABI splits them again.
        let device = (u64::from(id.device.major) << 32) | u64::from(id.device.minor);
        let mut path = Vec::new();
        if path.try_reserve_exact(self.path.len()).is_ok() {
            path.extend_from_slice(&self.path);
        }
        SourceName { device, inode: id.number, path }
    }

    fn owner(&self) -> usize {
        inode_owner(self.file.place().inode())
    }
}

/// What [`MapSource::owner`] gives for every mapping of `inode`.
#[must_use]
pub fn inode_owner<P: Platform>(inode: &InodeRef<P>) -> usize {
    Arc::as_ptr(inode).cast::<()>().addr()
}
