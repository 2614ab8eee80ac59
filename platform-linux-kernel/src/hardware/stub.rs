// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The only code that a carrier of a hardware guest executes in the host's ring 3: one `syscall`.
//!
//! Whatever the host's exit path did, its way ends there, and the system call brings the carrier back to [`super::run`]. The page lies
//! behind the last that a program can have, since the kernel keeps the last page of the lower half free. It is in the guest's tables as well: the
//! same instruction in the guest is a system call of the guest's.
//! Invariant: each mm that a carrier of such a guest returns to has the page.

use super::engine::Engine;
use crate::bases::USER_END;
use crate::mm::frame::{self, Frame};
use crate::mm::space::{Inserted, Rights, Space};
use crate::sys;
use crate::trap::regs::shim_regs;
use core::iter::once;
use kernel::prelude::*;
use litebox_shim_linux::regs::Regs;

/// Where it is shown.
const ADDRESS: usize = USER_END as usize;
/// `syscall`, and `ud2` behind it.
const CODE: [u8; 4] = [0x0f, 0x05, 0x0f, 0x0b];

/// A page with the code.
pub(super) fn page() -> Option<Frame> {
    let page = Frame::zeroed()?;
    page.write(0, &CODE);
    Some(page)
}

/// Shows the page in the current task's memory, which `space` has just been mapped over.
///
/// # Errors
/// ENOMEM.
pub(crate) fn show(engine: &Engine, space: &Space) -> Result {
    let rights = Rights { read: true, write: false, execute: true };
    match space.insert(ADDRESS, frame::SIZE, once((ADDRESS, engine.stub(), rights))) {
        Inserted::All | Inserted::SomeWereThere => Ok(()),
        Inserted::NoMemory => Err(ENOMEM),
    }
}

/// Makes `regs`, the current task's entry frame, go to the stub.
pub(crate) fn set_frame(regs: &mut sys::pt_regs) {
    *shim_regs(regs) = Regs::start(ADDRESS as u64, 0);
}
