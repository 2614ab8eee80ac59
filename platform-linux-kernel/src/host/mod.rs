//! The plain services of the host: sleeping, time, random bytes and the kernel log.
//!
//! Each file implements one trait of `litebox_core::platform` for [`LinuxKernel`]. Memory is in `mm`, guests are in `trap`.

mod clock;
mod entropy;
mod log;
mod memory;
mod wait;

/// The platform: a Linux kernel that this module is loaded into.
#[derive(Debug)]
pub(crate) struct LinuxKernel;
