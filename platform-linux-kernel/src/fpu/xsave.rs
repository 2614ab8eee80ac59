// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! XSAVE images: from the one that the kernel keeps, often compacted, to the standard format of signal frames, and back.
//!
//! A component counts only if its bit in the header's XSTATE_BV is set; else it is in its initial state and its bytes are anything. In
//! standard format components lie where CPUID leaf 0xD says; in compacted format one behind another, by the bits of XCOMP_BV.
//! Hostile input: the whole of `import`'s source. Source: SDM vol. 1 §13.4, §13.8 (what makes XRSTOR fault).

use core::arch::x86_64::__cpuid_count;
use core::ops::Range;
use kernel::sync::SetOnce;

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
const XSTATE_BV: usize = LEGACY;
const XCOMP_BV: usize = LEGACY + 8;
/// The two components of the legacy area.
const X87: u64 = 1;
const SSE: u64 = 2;
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
    let mut next = BYTES_MIN;
    let all = COMPONENTS.as_ref().map_or(&[][..], |all| &all[..]);
    all.iter().enumerate().skip(NUMBERS.start).filter_map(move |(number, component)| {
        let bit = 1 << number;
        let mut at = component.standard;
        if compacted & COMPACTED != 0 {
            if compacted & bit == 0 {
                return None;
            }
            at = if component.aligned { next.next_multiple_of(64) } else { next };
            next = at.saturating_add(component.bytes);
        }
        let range = |start: usize| start..start.saturating_add(component.bytes);
        (features & bit != 0).then(|| (bit, range(at), range(component.standard)))
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

/// Puts `image` into the initial state.
pub(super) fn reset(image: &mut [u8]) {
    // No component present: each gets its initial value. MXCSR is loaded from the legacy area all the same.
    set_word(image, XSTATE_BV, 0);
    put(image, MXCSR, &MXCSR_RESET.to_le_bytes());
}

/// Writes `image`'s components of `features` to `dst`, which is in standard format and as long as they need.
pub(super) fn export(image: &[u8], features: u64, dst: &mut [u8]) {
    dst.fill(0);
    let present = word(image, XSTATE_BV) & features;
    if present & X87 != 0 {
        copy(image, X87_WORDS, dst, X87_WORDS);
        copy(image, X87_REGISTERS, dst, X87_REGISTERS);
    } else {
        put(dst, 0, &CONTROL_RESET.to_le_bytes());
    }
    copy(image, MXCSR..X87_REGISTERS.start, dst, MXCSR..X87_REGISTERS.start);
    if present & SSE != 0 {
        copy(image, XMM, dst, XMM);
    }
    set_word(dst, XSTATE_BV, present);
    for (bit, from, to) in components(word(image, XCOMP_BV), features) {
        if present & bit != 0 {
            copy(image, from, dst, to);
        }
    }
}

/// Makes `src`, in standard format, the contents of `image`. False, changing nothing, for one that XRSTOR would refuse.
pub(super) fn import(src: &[u8], features: u64, image: &mut [u8]) -> bool {
    let present = word(src, XSTATE_BV);
    let reserved_is_zero = src.get(XCOMP_BV..BYTES_MIN).is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
    let known = match half_word(image, MXCSR_MASK) {
        0 => MXCSR_MASK_DEFAULT,
        mask => mask,
    };
    if present & !features != 0 || !reserved_is_zero || half_word(src, MXCSR) & !known != 0 {
        return false;
    }
    copy(src, X87_WORDS, image, X87_WORDS);
    put(image, MXCSR, &half_word(src, MXCSR).to_le_bytes());
    copy(src, X87_REGISTERS.start..XMM.end, image, X87_REGISTERS.start..XMM.end);
    for (bit, to, from) in components(word(image, XCOMP_BV), features) {
        if present & bit != 0 {
            copy(src, from, image, to);
        }
    }
    // What ring 3 has no say in stays: supervisor components are present or not as they were.
    let kept = word(image, XSTATE_BV) & !features;
    set_word(image, XSTATE_BV, kept | present);
    true
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
