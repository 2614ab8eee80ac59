//! What the processes of a sandbox share beside files: numbers of what is in no directory.

use core::sync::atomic::{AtomicU64, Ordering};
use litebox_core::fs::types::{DeviceId, InodeId};

/// The device of what is in no directory. Linux numbers such file systems from 0:1 on; any that no mount has will do.
const ANONYMOUS: DeviceId = DeviceId { major: 0, minor: 0xfffff };

/// One sandbox's share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    inodes: AtomicU64,
}

impl Shared {
    /// An inode number for a pipe or another thing without a name.
    pub(crate) fn new_inode(&self) -> InodeId {
        InodeId { device: ANONYMOUS, number: self.inodes.fetch_add(1, Ordering::Relaxed).saturating_add(1) }
    }
}
