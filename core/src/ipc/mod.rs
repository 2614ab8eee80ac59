//! System V's objects, known by keys and numbers, and POSIX's queues of messages, known by names. See sysvipc(7),
//! `mq_overview(7)`.

pub mod msg;
mod perm;
pub mod posix;
pub mod sem;
pub mod shm;

pub use perm::{Key, Make, Perm};

use crate::fs::inode::Blocking;
use core::time::Duration;

/// Whether a call waits, and until when of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Whether it waits.
    pub blocking: Blocking,
    /// Until when, if not for ever.
    pub deadline: Option<Duration>,
}
