//! Guests by Linux's ptrace(2), for tests under Wine: a driver there is code in a Linux process.
//!
//! Each address space is a process of its own (`stub`), which shows pages of one memory file (`pages`) where it is told to; each guest
//! thread is a thread of that process, traced by its carrier (`vcpu`), so a `syscall` of the guest's stops before Linux makes it.
//! Why not in the driver's own process, by user dispatch and signal handlers: two guest processes need the same addresses at once, and
//! Wine's handlers stay as they are. It proves nothing about isolation. What ptrace does not tell is guessed: the kind of access
//! of a page fault (`vcpu::access_at`), and so a bit of the error code in a guest's signal frame.

mod linux;
mod pages;
mod stub;
mod vcpu;

pub(crate) use pages::Pages;
pub(crate) use stub::{Seed, Tables};
pub(crate) use vcpu::{Kicker, Vcpu};

use litebox_core::errno;
use litebox_core::error::Result;

/// Makes what all guests share, once.
///
/// # Errors
/// `NODEV`: Linux refuses.
pub(crate) fn start() -> Result<()> {
    if pages::prepare() && stub::prepare() { Ok(()) } else { Err(errno!(NODEV, "the host refuses memory files")) }
}

/// Orders accesses of all threads there are.
pub(crate) fn barrier() {
    /// `MEMBARRIER_CMD_GLOBAL`.
    const GLOBAL: u64 = 1;
    // A host without it has one processor, or an older kernel than tests run on.
    linux::call(linux::MEMBARRIER, [GLOBAL, 0, 0, 0, 0, 0]);
}
