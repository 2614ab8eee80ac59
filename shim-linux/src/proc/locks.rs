//! `/proc/locks`: who has locked what. Source: `proc_locks(5)`; Linux fs/locks.c, `lock_get_status`.

use super::text::Text;
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::vec::Vec;
use litebox_core::error::Result;
use litebox_core::fs::locks::{Domain, LockKind};
use litebox_core::fs::types::OFFSET_MAX;

/// The file.
pub(super) fn locks<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let (mut text, mut number) = (Text::default(), 0u64);
    sandbox.shared().locks().each(|inode, domain, lock| {
        number = number.saturating_add(1);
        let (kind, pid) = match (domain, lock.owner.pid) {
            (Domain::Whole, pid) => ("FLOCK ", pid),
            (Domain::Records, None) => ("OFDLCK", None),
            (Domain::Records, pid) => ("POSIX ", pid),
        };
        let mode = if lock.kind == LockKind::Shared { "READ " } else { "WRITE" };
        let pid = pid.map_or(-1, i64::from);
        let (device, inode) = (inode.device, inode.number);
        text.put(format_args!("{number}: {kind} ADVISORY  {mode} {pid} {:02x}:{:02x}:{inode} ", device.major, device.minor))?;
        match lock.end {
            OFFSET_MAX.. => text.put(format_args!("{} EOF\n", lock.start)),
            end => text.put(format_args!("{} {end}\n", lock.start)),
        }
    })?;
    Ok(text.finish())
}
