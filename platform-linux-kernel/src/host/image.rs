// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The images that sandboxes run from, which they share.

use super::LinuxKernel;
use crate::device::failed;
use alloc::sync::Arc;
use litebox_core::fs::image::{Image, Images};

/// Those in use; each is closed with the last sandbox that has it.
static IMAGES: Images<LinuxKernel> = Images::new();

/// The image in the file behind a descriptor of the caller.
///
/// # Errors
/// EBADF; those of open(2) and of [`Images::open`].
pub(crate) fn image(fd: u32) -> kernel::error::Result<Arc<Image<LinuxKernel>>> {
    IMAGES.open(super::file(fd)?).map_err(failed)
}
