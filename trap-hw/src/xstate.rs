//! The instructions that move vector state between the registers and an image in memory.
//!
//! Only instructions: which components, what format, and whose image it is are the platform's to know.

use core::arch::asm;

/// How an image is laid out, and by which instructions so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Each component where CPUID says: XSAVE, XRSTOR.
    Standard,
    /// One behind another, the supervisor's too: XSAVES, XRSTORS.
    Compacted,
}

/// Writes the components in `mask` to `image`.
///
/// # Safety
/// 1. CR4.OSXSAVE is set; XSAVES exists if the format is compacted. 2. `image` is aligned to 64 bytes, and has room for the components in `mask` in that format.
/// 3. Ring 0.
pub unsafe fn save(image: *mut u8, mask: u64, format: Format) {
    let [low, high] = halves(mask);
    match format {
        // SAFETY: Contract.
        Format::Standard => unsafe {
            asm!("xsave64 [{}]", in(reg) image, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        },
        // SAFETY: Contract.
        Format::Compacted => unsafe {
            asm!("xsaves64 [{}]", in(reg) image, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        },
    }
}

/// Loads the components in `mask` from `image`; those in their initial state there get that.
///
/// # Safety
/// 1. and 3. as [`save`]. 2. `image` is aligned to 64 bytes and holds what the processor accepts. 4. Nobody else uses the registers.
pub unsafe fn restore(image: *const u8, mask: u64, format: Format) {
    let [low, high] = halves(mask);
    match format {
        // SAFETY: Contract.
        Format::Standard => unsafe {
            asm!("xrstor64 [{}]", in(reg) image, in("eax") low, in("edx") high, options(nostack, preserves_flags, readonly));
        },
        // SAFETY: Contract.
        Format::Compacted => unsafe {
            asm!("xrstors64 [{}]", in(reg) image, in("eax") low, in("edx") high, options(nostack, preserves_flags, readonly));
        },
    }
}

/// The lower and the upper half.
pub(crate) fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
