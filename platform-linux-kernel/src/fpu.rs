// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The current carrier's floating-point and vector state.
//!
//! The kernel's own writer (a regset's `set`) warns and is lost on the current task. The way that works: `kernel_fpu_begin` and
//! `kernel_fpu_end` put the live registers into the task's memory image and set TIF_NEED_FPU_LOAD, so the exit path loads the
//! image; `last_cpu` is set so that no processor believes its registers to be newer. Then the image may be read or edited.
//! The image is in compacted form: a component counts only if its bit in the header is set, and components lie where
//! CPUID leaf 0xD says. Sources: Linux arch/x86/kernel/fpu/core.c; SDM vol. 1 §13.4. No FPU instruction is executed in the module.

use crate::sys;

/// Offset of MXCSR in the legacy area, and its value after reset.
const MXCSR: usize = 24;
const MXCSR_RESET: [u8; 4] = 0x1f80_u32.to_le_bytes();
/// Offset and length of XSTATE_BV, which says which components the image has.
const XSTATE_BV: usize = 512;

/// Runs `edit` on the memory image of the current task's registers, which are loaded from it before ring 3.
fn with_image<R>(edit: impl FnOnce(&mut [u8]) -> R) -> R {
    // SAFETY: Task context, preemptible, not nested: the module never uses the FPU otherwise. No register is used in between.
    unsafe { sys::kernel_fpu_begin_mask(0) };
    // SAFETY: Pairs with the above.
    unsafe { sys::kernel_fpu_end() };
    // SAFETY: `current` is valid for ever on its own CPU.
    let current = unsafe { sys::get_current() };
    // SAFETY: The area behind the current task is its FPU state (arch/x86/include/asm/processor.h, x86_task_fpu).
    let fpu = unsafe { sys::litebox_task_fpu(current) };
    // SAFETY: Ours alone: the context switch writes it only while the registers are live, which they are not any more.
    unsafe { (*fpu).last_cpu = u32::MAX };
    // SAFETY: As above; set at the task's creation and changed by the task itself only (dynamic features).
    let state = unsafe { (*fpu).fpstate };
    // SAFETY: As above.
    let size = unsafe { (*state).size };
    // SAFETY: `size` is the length of the register image that starts at `regs` (arch/x86/include/asm/fpu/types.h).
    let image = unsafe { core::slice::from_raw_parts_mut((&raw mut (*state).regs).cast::<u8>(), size as usize) };
    edit(image)
}

/// Puts the registers into the state that a new program finds.
pub(crate) fn reset() {
    with_image(|image| {
        // No component present: each gets its initial value. MXCSR is loaded from the legacy area all the same.
        if let Some(present) = image.get_mut(XSTATE_BV..XSTATE_BV + 8) {
            present.fill(0);
        }
        if let Some(mxcsr) = image.get_mut(MXCSR..MXCSR + 4) {
            mxcsr.copy_from_slice(&MXCSR_RESET);
        }
    });
}

/// Copies the image out; returns its length. Nothing is copied if `dst` is shorter.
pub(crate) fn save(dst: &mut [u8]) -> usize {
    with_image(|image| {
        if let Some(dst) = dst.get_mut(..image.len()) {
            dst.copy_from_slice(image);
        }
        image.len()
    })
}

/// Loads an image that [`save`] made on this machine, on this or another carrier.
///
/// # Errors
/// False, and no change, if the length is not that of an image.
pub(crate) fn restore(src: &[u8]) -> bool {
    with_image(|image| {
        let fits = image.len() == src.len();
        if fits {
            image.copy_from_slice(src);
        }
        fits
    })
}
