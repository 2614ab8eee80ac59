//! A file that was opened for reading while it was only below.
//!
//! Invariant: it reads what is above from the moment on at which that exists. Pages that a mapping already has stay those below.

use super::Node;
use crate::fs::inode::{FileOps, IoCx, OpsRef};
use crate::fs::io::IoDst;
use crate::fs::types::OFlags;
use crate::platform::Platform;
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::fmt;

/// The open file.
pub(super) struct Reader<P: Platform> {
    node: Arc<Node<P>>,
    lower: OpsRef<P>,
    upper: Mutex<P, Option<OpsRef<P>>>,
}

impl<P: Platform> fmt::Debug for Reader<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("overlay::Reader").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<P: Platform> Reader<P> {
    /// `lower` is what is below `node`, open.
    pub(super) fn new(node: Arc<Node<P>>, lower: OpsRef<P>) -> Self {
        Self { node, lower, upper: Mutex::<P, _>::new(None) }
    }

    /// What is to be read now.
    fn now(&self) -> OpsRef<P> {
        let Some(inode) = self.node.upper() else { return Arc::clone(&self.lower) };
        let mut upper = self.upper.lock();
        if upper.is_none() {
            *upper = inode.open(OFlags::READ).ok();
        }
        Arc::clone(upper.as_ref().unwrap_or(&self.lower))
    }
}

impl<P: Platform> FileOps<P> for Reader<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        self.now().read_at(offset, dst, cx)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        self.now().size()
    }

    fn mapped_size(&self) -> Result<u64> {
        self.now().mapped_size()
    }

    fn seek_data(&self, offset: u64, want_hole: bool) -> Result<u64> {
        self.now().seek_data(offset, want_hole)
    }

    fn sync(&self) -> Result<()> {
        self.now().sync()
    }

    fn readable_bytes(&self) -> Result<u64> {
        self.now().readable_bytes()
    }

    fn page(&self, index: u64, for_write: bool) -> Result<P::Frame> {
        self.now().page(index, for_write)
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.now().resident(index)
    }

    fn begin_writable_mapping(&self) -> Result<()> {
        Err(errno!(ACCESS, "open for reading"))
    }

    fn mappable(&self) -> bool {
        true
    }
}
