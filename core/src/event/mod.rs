//! Descriptors that tell of events: [`eventfd`], [`epoll`], [`timerfd`].
//!
//! Each is an open file without a place in any directory. Not here: what a file is ready for (`fs::poll`), signals (the ABI's).

pub mod completions;
pub mod epoll;
pub mod eventfd;
pub mod timerfd;

use crate::fs::dentry::Dentry;
use crate::fs::file::File;
use crate::fs::inode::{Inode, OpsRef};
use crate::fs::pseudo::made_up_attr;
use crate::fs::types::{Attr, FileKind, InodeId, Mode, OFlags, Timestamp};
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::any::Any;

/// The inode of what has no name and no content. Linux: `fs/anon_inodes.c`.
#[derive(Debug)]
struct Anonymous {
    id: InodeId,
    created: Timestamp,
}

impl<P: Platform> Inode<P> for Anonymous {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn attr(&self) -> Result<Attr> {
        Ok(made_up_attr(self.id, FileKind::Regular, Mode::RUSR | Mode::WUSR, self.created))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Err(errno!(NXIO, "cannot be opened again"))
    }
}

/// An open file of `ops`, which /proc shows as `anon_inode:[name]`.
pub fn anonymous<P: Platform>(ops: OpsRef<P>, id: InodeId, name: &str, flags: OFlags) -> Arc<File<P>> {
    let inode = Arc::new(Anonymous { id, created: P::realtime().into() });
    let place = Dentry::detached(inode, alloc::format!("anon_inode:[{name}]").as_bytes());
    File::new(place, ops, flags)
}
