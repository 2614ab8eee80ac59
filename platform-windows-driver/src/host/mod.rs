//! The services of Windows under the library OS: sleeping, time, random bytes, memory, files.
//!
//! Each file implements one trait of the library OS for [`WindowsKernel`].

mod alarm;
mod cpu;
mod dir;
mod file;
mod image;
mod journal;
mod memory;
mod plain;
mod wait;

pub(crate) use alarm::Caller;
pub(crate) use dir::dir;
pub(crate) use file::{file, is_dir};
pub(crate) use image::image;
pub(crate) use journal::claim;

/// The platform: a Windows kernel that this driver is loaded into.
#[derive(Debug)]
pub(crate) enum WindowsKernel {}
