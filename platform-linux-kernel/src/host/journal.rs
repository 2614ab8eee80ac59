// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The upper layers that last, each of which one sandbox has.

use super::LinuxKernel;
use crate::device::failed;
use litebox_core::fs::host::HostDir;
use litebox_core::fs::journal::{Claim, Journals};

/// Those in use.
static JOURNALS: Journals<LinuxKernel> = Journals::new();

/// Takes the upper layer in `dir` for one sandbox.
///
/// # Errors
/// EBUSY: another one has it. Those of [`Journals::claim`].
pub(crate) fn claim(dir: &dyn HostDir<LinuxKernel>) -> kernel::error::Result<Claim<LinuxKernel>> {
    JOURNALS.claim(dir).map_err(failed)
}
