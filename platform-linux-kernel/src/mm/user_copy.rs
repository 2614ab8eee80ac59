// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Copies between the module and the current guest's memory: the only place where guest memory is read or written by address.
//!
//! Both may sleep and may fault, which calls `fault::on_fault`: hold no lock of the address space. Hostile input: the address. The
//! kernel's functions check that it is a user address, and an access that cannot be resolved ends the copy instead of the kernel.

use super::frame::{Frame, SIZE};
use crate::sys;

/// Copies from guest memory; returns how many bytes were copied before a fault that could not be resolved.
pub(crate) fn from_guest(dst: &mut [u8], src: usize) -> usize {
    // SAFETY: `dst` is valid for writes of its length. `src` is checked by the callee, and faults are caught (extable).
    let left = unsafe { sys::_copy_from_user(dst.as_mut_ptr().cast(), core::ptr::without_provenance(src), dst.len()) };
    dst.len() - left.min(dst.len())
}

/// Copies to guest memory; returns how many bytes were copied before a fault that could not be resolved.
pub(crate) fn to_guest(dst: usize, src: &[u8]) -> usize {
    // SAFETY: `src` is valid for reads of its length. `dst` is checked by the callee, and faults are caught (extable).
    let left = unsafe { sys::_copy_to_user(core::ptr::without_provenance_mut(dst), src.as_ptr().cast(), src.len()) };
    src.len() - left.min(src.len())
}

/// Copies `len` bytes of `frame` from `offset` on to guest memory, no more than it has; otherwise as [`to_guest`].
pub(crate) fn frame_to_guest(dst: usize, frame: &Frame, offset: usize, len: usize) -> usize {
    let offset = offset.min(SIZE);
    let len = len.min(SIZE - offset);
    // SAFETY: `offset + len` is within the page, which `frame`'s reference keeps; whoever writes to it meanwhile, bytes of any value
    // are fine. `dst` is checked by the callee, and faults are caught (extable).
    let left = unsafe { sys::_copy_to_user(core::ptr::without_provenance_mut(dst), frame.bytes().add(offset).cast(), len) };
    len - left.min(len)
}

/// Copies from guest memory to the `len` bytes of `frame` from `offset` on, no more than it has; otherwise as [`from_guest`]. What is
/// not copied stays as it was.
pub(crate) fn guest_to_frame(frame: &Frame, offset: usize, src: usize, len: usize) -> usize {
    let offset = offset.min(SIZE);
    let len = len.min(SIZE - offset);
    // SAFETY: `offset + len` is within the page, which `frame`'s reference keeps; whoever reads or writes it meanwhile takes bytes of
    // any value. `src` is checked by the callee, and faults are caught (extable).
    let left = unsafe { sys::litebox_copy_from_user(frame.bytes().add(offset).cast(), core::ptr::without_provenance(src), len) };
    len - left.min(len)
}
