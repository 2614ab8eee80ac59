//! Open files: those of the file system in memory, each change noted.

use super::node::Node;
use super::record::Record;
use crate::error::Result;
use crate::fs::inode::{End, FileOps, IoCx, OpsRef};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::types::Seals;
use crate::platform::Platform;
use alloc::sync::Arc;
use core::fmt;

/// An open regular file.
pub(super) struct Opened<P: Platform> {
    node: Arc<Node<P>>,
    inner: OpsRef<P>,
}

/// An open directory.
pub(super) struct OpenedDir<P: Platform>(Arc<Node<P>>);

impl<P: Platform> fmt::Debug for Opened<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("journal::Opened").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<P: Platform> fmt::Debug for OpenedDir<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("journal::OpenedDir").field(&self.0).finish()
    }
}

impl<P: Platform> Opened<P> {
    pub(super) fn new(node: Arc<Node<P>>, inner: OpsRef<P>) -> Self {
        Self { node, inner }
    }

    fn note(&self, offset: u64, len: u64) {
        self.node.journal.note_data(self.node.number, &self.node.inner, offset, len);
    }

    /// Makes a change of the length, and adds a record of what it is then.
    fn resize(&self, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let id = self.node.number;
        self.node.journal.change(act, |log, ()| {
            log.push(&Record::Size { id, size: self.inner.size()? });
            Ok(())
        })
    }
}

impl<P: Platform> OpenedDir<P> {
    pub(super) fn new(node: Arc<Node<P>>) -> Self {
        Self(node)
    }
}

impl<P: Platform> FileOps<P> for OpenedDir<P> {
    fn sync(&self) -> Result<()> {
        self.0.journal.keep()
    }
}

impl<P: Platform> FileOps<P> for Opened<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        self.inner.read_at(offset, dst, cx)
    }

    fn write_at(&self, offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        let count = self.inner.write_at(offset, src, cx)?;
        self.note(offset, u64::try_from(count).unwrap_or(0));
        Ok(count)
    }

    fn append(&self, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<(usize, u64)> {
        let (count, end) = self.inner.append(src, cx)?;
        let len = u64::try_from(count).unwrap_or(0);
        self.note(end.saturating_sub(len), len);
        Ok((count, end))
    }

    fn seekable(&self) -> bool {
        self.inner.seekable()
    }

    fn size(&self) -> Result<u64> {
        self.inner.size()
    }

    fn mapped_size(&self) -> Result<u64> {
        self.inner.mapped_size()
    }

    fn seek_data(&self, offset: u64, want_hole: bool) -> Result<u64> {
        self.inner.seek_data(offset, want_hole)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.resize(|| self.inner.truncate(size))
    }

    fn allocate(&self, offset: u64, len: u64, end: End) -> Result<()> {
        self.resize(|| self.inner.allocate(offset, len, end))
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.inner.punch(offset, len)?;
        let size = self.inner.size()?;
        self.note(offset, len.min(size.saturating_sub(offset)));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.node.journal.keep()
    }

    fn page(&self, index: u64, for_write: bool) -> Result<P::Frame> {
        self.inner.page(index, for_write)
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.inner.resident(index)
    }

    fn seals(&self) -> Result<Seals> {
        self.inner.seals()
    }

    fn begin_writable_mapping(&self) -> Result<()> {
        self.inner.begin_writable_mapping()
    }

    fn end_writable_mapping(&self) {
        self.inner.end_writable_mapping();
        // Others may map it still, and are noticed again; it is no loss to note a page too many.
        self.node.journal.note_mapped(self.node.number, &mut || {});
    }

    fn is_write_ready(&self, index: u64, _frame: &P::Frame) -> bool {
        self.node.journal.is_mapped(self.node.number, index)
    }

    fn prepare_write(&self, index: u64) -> Result<()> {
        self.node.journal.note(self.node.number, &self.node.inner, |file| {
            file.mapped.insert(index);
            file.pages.insert(index);
        });
        Ok(())
    }

    fn settle(&self, hide: &mut dyn FnMut()) -> Result<()> {
        self.node.journal.note_mapped(self.node.number, hide);
        Ok(())
    }

    fn mappable(&self) -> bool {
        self.inner.mappable()
    }
}
