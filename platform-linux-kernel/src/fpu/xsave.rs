// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! XSAVE images: from the one that the kernel keeps, often compacted, to the standard format of signal frames, and back.
//!
//! A component counts only if its bit in the header's XSTATE_BV is set; else it is in its initial state and its bytes are anything. In
//! standard format components lie where CPUID leaf 0xD says; in compacted format one behind another, by the bits of XCOMP_BV.
//! Hostile input: the whole of `import`'s source. Source: SDM vol. 1 §13.4, §13.8 (what makes XRSTOR fault).

use core::arch::x86_64::__cpuid_count;
use core::ops::Range;
use kernel::sync::SetOnce;
use litebox_core::errno;
use litebox_core::error::Result;

/// The legacy area and the header: every image has them.
pub(super) const BYTES_MIN: usize = LEGACY + HEADER;
const LEGACY: usize = 512;
const HEADER: usize = 64;
/// MXCSR in the legacy area, and the mask of its bits that the processor knows behind it.
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const MXCSR_RESET: u32 = 0x1f80;
/// What a mask of zero means.
const MXCSR_MASK_DEFAULT: u32 = 0xffbf;
/// The x87 control word after FNINIT.
const CONTROL_RESET: u16 = 0x37f;
/// The x87 words (to MXCSR) and registers; the XMM registers.
const X87_WORDS: Range<usize> = 0..MXCSR;
const X87_REGISTERS: Range<usize> = 32..160;
const XMM: Range<usize> = 160..416;
/// What the processor leaves to software.
pub(super) const SOFTWARE: usize = 464;
const XSTATE_BV: usize = LEGACY;
const XCOMP_BV: usize = LEGACY + 8;
/// The two components of the legacy area.
const X87: u64 = 1;
const SSE: u64 = 2;
/// Both.
pub(super) const LEGACY_COMPONENTS: u64 = X87 | SSE;
/// What a component in its initial state is written as.
static ZEROS: [u8; 512] = [0; 512];
/// XCOMP_BV's bit for the compacted format.
const COMPACTED: u64 = 1 << 63;
/// The components beyond the legacy area that have numbers.
const NUMBERS: Range<usize> = 2..63;

/// Where a component lies.
#[derive(Clone, Copy)]
struct Component {
    bytes: usize,
    standard: usize,
    aligned: bool,
}

/// What CPUID says of each; found once.
static COMPONENTS: SetOnce<[Component; NUMBERS.end]> = SetOnce::new();

/// Asks the processor where the components lie. Called when the module is loaded: CPUID is slow under a hypervisor.
pub(crate) fn find_components() {
    let mut all = [Component { bytes: 0, standard: 0, aligned: false }; NUMBERS.end];
    for (number, component) in (0_u32..).zip(&mut all).skip(NUMBERS.start) {
        // SAFETY: Every x86-64 processor with XSAVE has the leaf; without it the sub-leaf answers zeros.
        let answer = unsafe { __cpuid_count(0xd, number) };
        *component = Component { bytes: answer.eax as usize, standard: answer.ebx as usize, aligned: answer.ecx & 2 != 0 };
    }
    COMPONENTS.populate(all);
}

/// The bytes of each component of `features` in an image with this XCOMP_BV and in standard format.
fn components(compacted: u64, features: u64) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let is_compacted = compacted & COMPACTED != 0;
    // Of a compacted image, all that it has count: one lies behind another.
    let mut left = if is_compacted { compacted & !COMPACTED } else { features } & !(X87 | SSE);
    let mut next = BYTES_MIN;
    core::iter::from_fn(move || {
        loop {
            let number = left.trailing_zeros();
            let component = COMPONENTS.as_ref()?.get(number as usize)?;
            let bit = 1_u64 << number;
            left &= !bit;
            let mut at = component.standard;
            if is_compacted {
                at = if component.aligned { next.next_multiple_of(64) } else { next };
                next = at.saturating_add(component.bytes);
            }
            if features & bit != 0 {
                let range = |start: usize| start..start.saturating_add(component.bytes);
                return Some((bit, range(at), range(component.standard)));
            }
        }
    })
}

/// The 64-bit word at `at`, or 0.
fn word(image: &[u8], at: usize) -> u64 {
    image.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn set_word(image: &mut [u8], at: usize, value: u64) {
    put(image, at, &value.to_le_bytes());
}

fn half_word(image: &[u8], at: usize) -> u32 {
    image.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = image.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
        to.copy_from_slice(bytes);
    }
}

/// Copies `from` of `src` to `to` of `dst`, if both are there.
fn copy(src: &[u8], from: Range<usize>, dst: &mut [u8], to: Range<usize>) {
    if let (Some(from), Some(to)) = (src.get(from), dst.get_mut(to)) {
        if from.len() == to.len() {
            to.copy_from_slice(from);
        }
    }
}

/// The components that are not in their initial state.
pub(super) fn present(image: &[u8]) -> u64 {
    word(image, XSTATE_BV)
}

/// Whether the components lie one behind another.
pub(super) fn is_compacted(image: &[u8]) -> bool {
    word(image, XCOMP_BV) & COMPACTED != 0
}

/// Bytes up to the end of the last component that is not in its initial state: what follows is anything.
pub(super) fn used_bytes(image: &[u8]) -> usize {
    let ends = components(word(image, XCOMP_BV), present(image)).map(|(_, at, _)| at.end);
    ends.fold(BYTES_MIN, usize::max).min(image.len())
}

/// Puts `image` into the initial state.
pub(super) fn reset(image: &mut [u8]) {
    // No component present: each gets its initial value. MXCSR is loaded from the legacy area all the same.
    set_word(image, XSTATE_BV, 0);
    put(image, MXCSR, &MXCSR_RESET.to_le_bytes());
}

/// Gives `image`'s components of `features` to `write`, in standard format, each with its offset; as XSAVE does, zeros for those in
/// their initial state. `software` are the bytes of the legacy area that are software's; components of `marked` are called present.
pub(super) fn export(
    image: &[u8],
    features: u64,
    software: &[u8],
    marked: u64,
    mut write: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let present = word(image, XSTATE_BV) & features;
    let mut head = [0; BYTES_MIN];
    if present & X87 != 0 {
        copy(image, X87_WORDS, &mut head, X87_WORDS);
        copy(image, X87_REGISTERS, &mut head, X87_REGISTERS);
    } else {
        put(&mut head, 0, &CONTROL_RESET.to_le_bytes());
    }
    copy(image, MXCSR..X87_REGISTERS.start, &mut head, MXCSR..X87_REGISTERS.start);
    if present & SSE != 0 {
        copy(image, XMM, &mut head, XMM);
    }
    put(&mut head, SOFTWARE, software);
    set_word(&mut head, XSTATE_BV, present | marked);
    write(0, &head)?;
    for (bit, from, to) in components(word(image, XCOMP_BV), features) {
        if let Some(bytes) = image.get(from).filter(|_| present & bit != 0) {
            write(to.start as u64, bytes)?;
            continue;
        }
        for at in to.clone().step_by(ZEROS.len()) {
            write(at as u64, ZEROS.get(..to.end.saturating_sub(at)).unwrap_or(&ZEROS))?;
        }
    }
    Ok(())
}

/// Makes an image in standard format, parts of which `read` gives by offset, the contents of `image`.
///
/// # Errors
/// FAULT: XRSTOR would refuse it. Those of `read`. `image` is to be reset then.
pub(super) fn import(features: u64, image: &mut [u8], mut read: impl FnMut(u64, &mut [u8]) -> Result<()>) -> Result<()> {
    // Looked at and used from a copy: the guest may change its memory meanwhile.
    let mut head = [0; BYTES_MIN];
    read(0, &mut head)?;
    let present = word(&head, XSTATE_BV);
    let reserved_is_zero = (XCOMP_BV..BYTES_MIN).step_by(8).all(|at| word(&head, at) == 0);
    let known = match half_word(image, MXCSR_MASK) {
        0 => MXCSR_MASK_DEFAULT,
        mask => mask,
    };
    if present & !features != 0 || !reserved_is_zero || half_word(&head, MXCSR) & !known != 0 {
        return Err(errno!(FAULT, "a floating-point state that the processor refuses"));
    }
    copy(&head, X87_WORDS, image, X87_WORDS);
    put(image, MXCSR, &half_word(&head, MXCSR).to_le_bytes());
    copy(&head, X87_REGISTERS.start..XMM.end, image, X87_REGISTERS.start..XMM.end);
    for (bit, to, from) in components(word(image, XCOMP_BV), features) {
        if let Some(bytes) = image.get_mut(to).filter(|_| present & bit != 0) {
            read(from.start as u64, bytes)?;
        }
    }
    // What ring 3 has no say in stays: supervisor components are present or not as they were.
    let kept = word(image, XSTATE_BV) & !features;
    set_word(image, XSTATE_BV, kept | present);
    Ok(())
}

/// The x87 status word and control word.
pub(super) fn x87_words(image: &[u8]) -> (u16, u16) {
    let both = half_word(image, 0).to_le_bytes();
    let [c0, c1, s0, s1] = both;
    (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([c0, c1]))
}

/// MXCSR.
pub(super) fn mxcsr(image: &[u8]) -> u32 {
    half_word(image, MXCSR)
}
