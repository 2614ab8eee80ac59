//! What /proc holds.

use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::sync::Arc;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::pseudo::FixedDir;
use litebox_core::fs::types::{DeviceId, InodeId};

/// The directory that shows the processes of `sandbox`.
pub(crate) fn root<P: Cpu>(device: DeviceId, _sandbox: &Arc<Sandbox<P>>) -> InodeRef<P> {
    FixedDir::new(InodeId { device, number: 1 }, [])
}
