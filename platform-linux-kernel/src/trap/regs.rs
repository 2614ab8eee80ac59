// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The entry frame, as the shim sees it.

use crate::sys;
use core::mem::{align_of, offset_of, size_of};
use litebox_shim_linux::regs::Regs;

const _: () = {
    assert!(size_of::<Regs>() == size_of::<sys::pt_regs>() && align_of::<Regs>() == align_of::<sys::pt_regs>());
    assert!(offset_of!(Regs, r15) == offset_of!(sys::pt_regs, r15));
    assert!(offset_of!(Regs, ax) == offset_of!(sys::pt_regs, ax));
    assert!(offset_of!(Regs, orig_ax) == offset_of!(sys::pt_regs, orig_ax));
    assert!(offset_of!(Regs, ip) == offset_of!(sys::pt_regs, ip));
    assert!(offset_of!(Regs, sp) == offset_of!(sys::pt_regs, sp));
};

/// The same registers in the shim's type: nothing is copied on the way of a call.
///
/// What a guest may not choose is put right by the shim whenever it takes registers from guest memory (`Regs::sanitise`).
pub(crate) fn shim_regs(regs: &mut sys::pt_regs) -> &mut Regs {
    // SAFETY: The same layout (asserted above), both of plain words that may have any value, and the borrow is passed on.
    unsafe { &mut *core::ptr::from_mut(regs).cast::<Regs>() }
}
