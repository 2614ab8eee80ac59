// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The current carrier's floating-point and vector state.
//!
//! The kernel's own writer (a regset's `set`) warns and is lost on the current task. The way that works: `kernel_fpu_begin` and
//! `kernel_fpu_end` put the live registers into the task's memory image and set TIF_NEED_FPU_LOAD, so the exit path loads the
//! image; `last_cpu` is set so that no processor believes its registers to be newer. Then the image may be read or edited.
//! What the image looks like is in `xsave`. Protection keys (PKRU) are not in it: the kernel switches them by itself, and guests
//! have none. No FPU instruction is executed in the module but for hardware guests, between [`load_for_guest`] and
//! [`store_from_guest`], and for signal frames. Sources: Linux arch/x86/kernel/fpu/core.c, fpu/signal.c.
//!
//! Signal frames are most often written and read by one XSAVE or XRSTOR on the guest's memory, in a helper: when the registers are in
//! the processor, and no page of the frame is missing. They go by the image otherwise, and after whatever fault.

mod xsave;

use crate::host::LinuxKernel;
use crate::{carrier, sys};
use core::ffi::c_void;
use kernel::prelude::*;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, user};
use litebox_shim_linux::signal::FPU_SOFTWARE_BYTES;
use litebox_trap_hw::xstate::{self, Format};
pub(crate) use xsave::find_components;

/// The protection keys' component of an XSAVE image.
const PKRU: u64 = 1 << 9;

/// The current task's state.
fn state() -> *mut sys::fpstate {
    // SAFETY: The area behind the current task is its FPU state (arch/x86/include/asm/processor.h, x86_task_fpu), whose pointer is
    // set at the task's creation and changed by the task itself only (dynamic features).
    unsafe { (*sys::litebox_task_fpu(carrier::task())).fpstate }
}

/// The components that the current task's ring 3 may use.
pub(crate) fn features() -> u64 {
    // SAFETY: The current task's own state; the word is constant but for the task's own requests.
    unsafe { (*state()).user_xfeatures & !PKRU }
}

/// Bytes of an image in standard format.
pub(crate) fn standard_bytes() -> usize {
    // SAFETY: As in `features`.
    let bytes = unsafe { (*state()).user_size };
    (bytes as usize).max(xsave::BYTES_MIN)
}

/// Runs `edit` on the memory image of the current task's registers, which are loaded from it before ring 3. It may sleep and fault:
/// until ring 3 nobody else writes the image, since the registers are not the task's any more.
fn with_image<R>(edit: impl FnOnce(&mut [u8]) -> R) -> R {
    // SAFETY: Task context, preemptible, not nested: the module never uses the FPU otherwise. No register is used in between.
    unsafe { sys::kernel_fpu_begin_mask(0) };
    // SAFETY: Pairs with the above.
    unsafe { sys::kernel_fpu_end() };
    // SAFETY: As in `state`.
    let fpu = unsafe { sys::litebox_task_fpu(carrier::task()) };
    // SAFETY: Ours alone: the context switch writes it only while the registers are live, which they are not any more.
    unsafe { (*fpu).last_cpu = u32::MAX };
    let state = state();
    // SAFETY: As in `features`.
    let size = unsafe { (*state).size };
    // SAFETY: `size` is the length of the register image that starts at `regs` (arch/x86/include/asm/fpu/types.h).
    let image = unsafe { core::slice::from_raw_parts_mut((&raw mut (*state).regs).cast::<u8>(), size as usize) };
    edit(image)
}

/// The format of an image, by the mark in its header.
fn format_of(image: &[u8]) -> Format {
    if xsave::is_compacted(image) { Format::Compacted } else { Format::Standard }
}

/// Loads the guest's registers from the image. Until [`store_from_guest`] the current task stays on its processor, must not sleep, and
/// uses no register of them for itself.
pub(crate) fn load_for_guest() {
    // SAFETY: Task context, preemptible, not nested.
    unsafe { sys::kernel_fpu_begin_mask(0) };
    let state = state();
    // SAFETY: As in `with_image`; from here to the end of this function the image is read only.
    let image = unsafe { core::slice::from_raw_parts((&raw const (*state).regs).cast::<u8>(), (*state).size as usize) };
    // SAFETY: As in `features`.
    let components = unsafe { (*state).xfeatures } & !PKRU;
    // SAFETY: The image is aligned and holds what the processor accepts, since the kernel would load it as well. The registers are ours.
    unsafe { xstate::restore(image.as_ptr(), components, format_of(image)) };
}

/// Puts the guest's registers back into the image, from where ring 3 of this task gets them.
pub(crate) fn store_from_guest() {
    let state = state();
    // SAFETY: As in `with_image`.
    let image = unsafe { core::slice::from_raw_parts_mut((&raw mut (*state).regs).cast::<u8>(), (*state).size as usize) };
    // All that the image has: a compacted one is laid out by what is asked for.
    // SAFETY: As in `features`.
    let components = unsafe { (*state).xfeatures };
    let format = format_of(image);
    // SAFETY: The image is aligned, and as large as these components need in its format.
    unsafe { xstate::save(image.as_mut_ptr(), components, format) };
    // SAFETY: As in `state`.
    let fpu = unsafe { sys::litebox_task_fpu(carrier::task()) };
    // SAFETY: As in `with_image`: no processor may believe its registers to be newer than the image.
    unsafe { (*fpu).last_cpu = u32::MAX };
    // SAFETY: Pairs with that of `load_for_guest`.
    unsafe { sys::kernel_fpu_end() };
}

/// Bytes of the current task's image.
pub(crate) fn image_bytes() -> usize {
    // SAFETY: As in `features`.
    unsafe { (*state()).size as usize }
}

/// Registers for another task.
pub(crate) struct Copy {
    /// The image up to its last component that is not in its initial state.
    image: KVec<u8>,
    /// Bytes of the whole image.
    bytes: usize,
}

impl Copy {
    /// Bytes of the image that it is of.
    pub(crate) fn image_bytes(&self) -> usize {
        self.bytes
    }
}

/// A copy of the registers for another task; none if they hold what belongs to the host, or there is no memory.
pub(crate) fn copy() -> Option<Copy> {
    let features = features();
    with_image(|image| {
        let used = image.get(..xsave::used_bytes(image)).unwrap_or(image);
        let mut copy = KVec::with_capacity(used.len(), GFP_KERNEL_ACCOUNT).ok()?;
        copy.extend_from_slice(used, GFP_KERNEL_ACCOUNT).ok()?;
        (xsave::present(image) & !(features | PKRU) == 0).then_some(Copy { image: copy, bytes: image.len() })
    })
}

/// Loads what [`copy`] gave in a task with as large an image.
pub(crate) fn set(copy: &Copy) {
    with_image(|image| {
        let fits = image.len() == copy.bytes;
        if let Some(used) = image.get_mut(..copy.image.len()).filter(|_| fits) {
            used.copy_from_slice(&copy.image);
        }
    });
}

/// Puts the registers into the state that a new program finds.
pub(crate) fn reset() {
    // SAFETY: Task context. The features are such as ring 3 may use; whoever has the registers, they are the current task's afterwards.
    if !unsafe { sys::litebox_xrstor_initial(features()) } {
        with_image(xsave::reset);
    }
}

/// A place in the guest's memory as the host has it.
fn pointer(at: GuestAddr) -> *mut c_void {
    // On x86-64, usize has the 64 bits of a guest address.
    core::ptr::without_provenance_mut(at.get() as usize)
}

/// Writes the registers to the guest's memory at `at`, in standard format with `software` as the bytes that are software's.
///
/// # Errors
/// FAULT.
pub(crate) fn save(at: GuestAddr, software: &[u8; FPU_SOFTWARE_BYTES]) -> Result<()> {
    let features = features();
    // SAFETY: Task context that may sleep; the address is checked by the callee, which resolves no fault of the instruction.
    if unsafe { sys::litebox_xsave(pointer(at), standard_bytes(), features) } {
        return user::write_all::<LinuxKernel>(at.plus(xsave::SOFTWARE as u64)?, software);
    }
    with_image(|image| {
        let write = |offset, bytes: &[u8]| user::write_all::<LinuxKernel>(at.plus(offset)?, bytes);
        xsave::export(image, features, software, xsave::LEGACY_COMPONENTS, write)
    })
}

/// Copies the registers to `image`, in standard format; what finds no room there is left out.
pub(crate) fn read(to: &mut [u8]) {
    let features = features();
    with_image(|image| {
        // Each part is copied, or has no room: that is no error.
        let _ = xsave::export(image, features, &[], 0, |offset, bytes| {
            let part = usize::try_from(offset).ok().and_then(|at| to.get_mut(at..)).and_then(|rest| rest.get_mut(..bytes.len()));
            if let Some(part) = part {
                part.copy_from_slice(bytes);
            }
            Ok(())
        });
    });
}

/// Loads the registers from an image in standard format; they are in their initial state if the processor would refuse it.
pub(crate) fn write(from: &[u8]) {
    let features = features();
    with_image(|image| {
        let loaded = xsave::import(features, image, |offset, bytes| {
            let part = usize::try_from(offset).ok().and_then(|at| from.get(at..)).and_then(|rest| rest.get(..bytes.len()));
            bytes.copy_from_slice(part.ok_or(errno!(FAULT, "a short image"))?);
            Ok(())
        });
        if loaded.is_err() {
            xsave::reset(image);
        }
    });
}

/// Loads the registers from an image in standard format in the guest's memory at `at`.
///
/// # Errors
/// FAULT: it cannot be read, or the processor would refuse it; the registers are in their initial state then.
pub(crate) fn load(at: GuestAddr) -> Result<()> {
    let features = features();
    // SAFETY: As in `save`. The guest's own registers hold anything after a fault, and are loaded anew below.
    if unsafe { sys::litebox_xrstor(pointer(at), standard_bytes(), features) } {
        return Ok(());
    }
    with_image(|image| {
        let loaded = xsave::import(features, image, |offset, bytes| user::read_exact::<LinuxKernel>(at.plus(offset)?, bytes));
        if loaded.is_err() {
            xsave::reset(image);
        }
        loaded
    })
}

/// The x87 status word and control word.
pub(crate) fn x87_words() -> (u16, u16) {
    with_image(|image| xsave::x87_words(image))
}

/// The SSE control and status register.
pub(crate) fn mxcsr() -> u32 {
    with_image(|image| xsave::mxcsr(image))
}
