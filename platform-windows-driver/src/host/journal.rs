//! The upper layers that last, each of which one sandbox has.

use super::WindowsKernel;
use litebox_core::error::Result;
use litebox_core::fs::host::HostDir;
use litebox_core::fs::journal::{Claim, Journals};

/// Those in use.
static JOURNALS: Journals<WindowsKernel> = Journals::new();

/// Takes the upper layer in `dir` for one sandbox.
///
/// # Errors
/// Those of [`Journals::claim`].
pub(crate) fn claim(dir: &dyn HostDir<WindowsKernel>) -> Result<Claim<WindowsKernel>> {
    JOURNALS.claim(dir)
}
