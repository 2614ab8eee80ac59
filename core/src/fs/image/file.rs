//! An open file of an image.

use super::content::{Entry, Mounted};
use crate::fs::hostdir::with_buffer;
use crate::fs::inode::{FileOps, IoCx};
use crate::fs::io::IoDst;
use crate::fs::types::{PAGE_SIZE, PAGE_SIZE_U64};
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::fmt;

/// See the module.
pub(super) struct Opened<P: Platform> {
    mounted: Arc<Mounted<P>>,
    entry: Entry,
}

impl<P: Platform> fmt::Debug for Opened<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("image::Opened").field("number", &self.entry.number).finish_non_exhaustive()
    }
}

impl<P: Platform> Opened<P> {
    pub(super) fn new(mounted: &Arc<Mounted<P>>, entry: Entry) -> Self {
        Self { mounted: Arc::clone(mounted), entry }
    }

    /// Puts some of the bytes at `offset`, of which there are `left`; 0 once nothing more can be put.
    fn put(&self, offset: u64, left: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        let within = usize::try_from(offset % PAGE_SIZE_U64).unwrap_or(0);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let len = left.min(PAGE_SIZE.saturating_sub(within));
        let Some((at, run)) = self.mounted.in_file(&self.entry, offset)? else {
            let frame = self.mounted.page(&self.entry, offset / PAGE_SIZE_U64)?;
            return Ok(dst.put_frame(&frame, within, len));
        };
        let file = self.mounted.store().file();
        if let Some(frame) = file.cached(at / PAGE_SIZE_U64) {
            return Ok(dst.put_frame(&frame, within, len));
        }
        // The host reads ahead of such a read, and not of a page.
        let want = dst.remaining().min(usize::try_from(run).unwrap_or(usize::MAX));
        with_buffer(want, |buffer| {
            let room = buffer.len().min(want);
            let part = buffer.get_mut(..room).unwrap_or_default();
            let count = file.read(at, part, cx.blocking)?;
            if count == 0 {
                return Err(errno!(IO, "the image became shorter"));
            }
            Ok(dst.put(part.get(..count).unwrap_or_default()))
        })
    }
}

impl<P: Platform> FileOps<P> for Opened<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        let start = dst.done();
        let mut at = offset;
        while dst.remaining() > 0 && !dst.faulted() {
            let left = self.entry.node.size.saturating_sub(at);
            if left == 0 {
                break;
            }
            match self.put(at, left, dst, cx) {
                Ok(0) => break,
                Ok(count) => at = at.saturating_add(u64::try_from(count).unwrap_or(0)),
                Err(error) if dst.done() == start => return Err(error),
                Err(_) => break,
            }
        }
        dst.outcome(start)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.entry.node.size)
    }

    fn page(&self, index: u64, for_write: bool) -> Result<P::Frame> {
        if for_write {
            return Err(errno!(NODEV, "an image is not written to"));
        }
        self.mounted.page(&self.entry, index)
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.mounted.resident(&self.entry, index)
    }

    fn begin_writable_mapping(&self) -> Result<()> {
        Err(errno!(NODEV, "an image is not written to"))
    }

    fn mappable(&self) -> bool {
        true
    }
}
