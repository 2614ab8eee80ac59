//! The images that sandboxes run from, which they share.

use super::WindowsKernel;
use crate::nt::Handle;
use alloc::sync::Arc;
use litebox_core::error::Result;
use litebox_core::fs::image::{Image, Images};

/// Those in use; each is closed with the last sandbox that has it.
static IMAGES: Images<WindowsKernel> = Images::new();

/// The image in the file that a handle of the launcher's is.
///
/// # Errors
/// Those of [`super::file`] and of [`Images::open`].
pub(crate) fn image(handle: Handle) -> Result<Arc<Image<WindowsKernel>>> {
    IMAGES.open(super::file(handle)?)
}
