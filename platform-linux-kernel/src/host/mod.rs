//! The plain services of the host: sleeping, time, random bytes and the kernel log.
//!
//! Each file implements one trait of `litebox_core::platform` for [`LinuxKernel`]. Memory is in `mm`, guests are in `trap`.

mod alarm;
mod attr;
mod change;
mod clock;
mod cpu;
mod dir;
mod entropy;
mod file;
mod image;
mod journal;
mod log;
mod memory;
mod wait;
mod watch;

pub(crate) use alarm::Caller;
pub(crate) use file::{dir, file};
pub(crate) use image::image;
pub(crate) use journal::claim;
pub(crate) use wait::rest_on;

/// The platform: a Linux kernel that this module is loaded into.
#[derive(Debug)]
pub(crate) struct LinuxKernel;
