//! What a handler finds on its stack, and what `rt_sigreturn` reads back: `struct rt_sigframe` of x86-64.
//!
//! From `rsp` up: the restorer's address, `ucontext`, `siginfo`; above them, at a multiple of 64, the XSAVE image.
//! Hostile input: every byte that [`restore`] reads. Source: Linux `arch/x86/kernel/signal_64.c`, `fpu/signal.c`.

use super::{Action, AltStack, Info, SaFlags, SigSet};
use crate::regs::{FLAG_DF, FLAG_RF, FLAG_TF, Regs};
use litebox_core::errno;
use litebox_core::error::Result;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What leaf functions may use below `rsp`.
const RED_ZONE: u64 = 128;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 1 | 2 | 4;
/// At the XSAVE image's software bytes, and after its end.
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Bytes of an XSAVE image that the processor leaves to software, at byte 464.
pub const FPU_SOFTWARE_BYTES: usize = 48;

/// `struct sigcontext_64`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct SigContext {
    /// r8 to r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags.
    words: [u64; 18],
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    vector: u64,
    old_mask: u64,
    cr2: u64,
    fpu_at: u64,
    reserved: [u64; 8],
}

/// `struct _fpx_sw_bytes`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Software {
    magic: u32,
    total: u32,
    features: u64,
    image: u32,
    padding: [u32; 7],
}

/// `struct rt_sigframe`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Frame {
    restorer: u64,
    flags: u64,
    link: u64,
    stack: AltStack,
    context: SigContext,
    mask: u64,
    info: [u8; 128],
}

/// Bytes of `struct rt_sigframe`.
pub const FRAME_BYTES: usize = size_of::<Frame>();

const _: () = {
    assert!(size_of::<SigContext>() == 256);
    assert!(FRAME_BYTES == 440);
    assert!(core::mem::offset_of!(Frame, context) == 48);
    assert!(core::mem::offset_of!(Frame, mask) == 304);
    assert!(core::mem::offset_of!(Frame, info) == 312);
};

/// A frame to copy to the guest, and the registers to go on with.
#[derive(Debug)]
pub struct Built {
    /// Where the frame goes.
    pub at: u64,
    /// The frame.
    pub bytes: [u8; FRAME_BYTES],
    /// Where the XSAVE image goes.
    pub fpu_at: u64,
    /// Registers at the handler's first instruction.
    pub regs: Regs,
    /// What is blocked while it runs.
    pub mask: SigSet,
}

/// Bytes that an XSAVE image of `image` bytes takes on a signal stack.
#[must_use]
pub const fn fpu_bytes_on_stack(image: usize) -> usize {
    image.saturating_add(size_of::<u32>())
}

/// The same, as a number for addresses.
#[must_use]
pub fn sealed_fpu_bytes(image: usize) -> u64 {
    u64::try_from(fpu_bytes_on_stack(image)).unwrap_or(u64::MAX)
}

/// Builds the frame of a handler; `fault` is vector, error code and address of the last fault; of `masks`, the first is what is
/// blocked now and the second what is to be blocked after.
///
/// # Errors
/// `FAULT`: no room for it on the alternate stack, or no restorer: the task gets `SIGSEGV` instead.
pub fn build(
    regs: &Regs,
    info: &Info,
    action: &Action,
    stack: &AltStack,
    masks: (SigSet, SigSet),
    fault: [u64; 3],
    fpu_image: usize,
) -> Result<Built> {
    let no_room = || errno!(FAULT, "no room for a signal frame");
    let (mask, saved_mask) = masks;
    let flags = action.flags();
    if !flags.contains(SaFlags::RESTORER) {
        return Err(errno!(FAULT, "a handler without a restorer"));
    }
    let was_on_stack = stack.is_in_use(regs.sp);
    let alternate = if flags.contains(SaFlags::ONSTACK) { stack.top(regs.sp) } else { None };
    let top = match alternate {
        Some(top) => top,
        None => regs.sp.wrapping_sub(RED_ZONE),
    };
    let frame_bytes = u64::try_from(FRAME_BYTES).map_err(|_| no_room())?;
    let fpu_at = top.checked_sub(sealed_fpu_bytes(fpu_image)).ok_or_else(no_room)? & !63;
    // As at a function's entry: a multiple of 16, less the return address.
    let at = (fpu_at.checked_sub(frame_bytes).ok_or_else(no_room)? & !15).checked_sub(8).ok_or_else(no_room)?;
    if (alternate.is_some() || was_on_stack) && !stack.holds(at) {
        return Err(errno!(FAULT, "the alternate stack is full"));
    }

    let r = regs;
    let [vector, error, cr2] = fault;
    let selector = |wide: u64| {
        let [low, high, ..] = wide.to_le_bytes();
        u16::from_le_bytes([low, high])
    };
    let frame = Frame {
        restorer: action.restorer,
        flags: UC_FLAGS,
        link: 0,
        stack: AltStack { padding: 0, ..*stack },
        context: SigContext {
            words: [
                r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.di, r.si, r.bp, r.bx, r.dx, r.ax, r.cx, r.sp, r.ip,
                r.flags,
            ],
            cs: selector(r.cs),
            gs: 0,
            fs: 0,
            ss: selector(r.ss),
            error,
            vector,
            old_mask: saved_mask.bits(),
            cr2,
            fpu_at,
            reserved: [0; 8],
        },
        mask: saved_mask.bits(),
        info: info.encode(),
    };
    let mut bytes = [0; FRAME_BYTES];
    frame.write_to(&mut bytes).map_err(|_| no_room())?;

    let context_at = at.wrapping_add(8);
    let info_at = at.wrapping_add(312);
    let entry = Regs {
        ip: action.handler,
        sp: at,
        di: u64::from(info.signal.number()),
        si: info_at,
        dx: context_at,
        ax: 0,
        orig_ax: u64::MAX,
        flags: r.flags & !(FLAG_DF | FLAG_RF | FLAG_TF),
        ..*r
    };
    let own = if flags.contains(SaFlags::NODEFER) { SigSet::EMPTY } else { SigSet::EMPTY.with(info.signal) };
    let mask = mask.union(SigSet::from_bits(action.mask)).union(own).blockable();
    Ok(Built { at, bytes, fpu_at, regs: entry.sanitise(), mask })
}

/// What marks an XSAVE image of `image` bytes and `features` as one that a return will take back: its software bytes, and what
/// follows its end.
#[must_use]
pub fn fpu_seal(image: usize, features: u64) -> ([u8; FPU_SOFTWARE_BYTES], [u8; 4]) {
    let bytes = |size: usize| u32::try_from(size).unwrap_or_default();
    let software =
        Software { magic: MAGIC1, total: bytes(fpu_bytes_on_stack(image)), features, image: bytes(image), padding: [0; 7] };
    (zerocopy::transmute!(software), MAGIC2.to_le_bytes())
}

/// Where the frame of a task that makes `rt_sigreturn` is: the restorer's address has been popped.
#[must_use]
pub const fn frame_of_return(regs: &Regs) -> u64 {
    regs.sp.wrapping_sub(8)
}

/// What a return brings back.
#[derive(Debug)]
pub struct Restored {
    /// Registers, sanitised.
    pub regs: Regs,
    /// What is blocked from now on.
    pub mask: SigSet,
    /// The alternate stack from now on; its errors are ignored, as in Linux.
    pub stack: AltStack,
    /// Where the XSAVE image is, or 0 for the initial state.
    pub fpu_at: u64,
}

/// Reads a frame back.
#[must_use]
pub fn restore(bytes: &[u8; FRAME_BYTES]) -> Option<Restored> {
    let frame = Frame::read_from_bytes(bytes).ok()?;
    let [r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags] = frame.context.words;
    let regs =
        Regs { r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, ip, flags, sp, orig_ax: u64::MAX, cs: 0, ss: 0 };
    Some(Restored {
        regs: regs.sanitise(),
        mask: SigSet::from_bits(frame.mask).blockable(),
        stack: frame.stack,
        fpu_at: frame.context.fpu_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Origin, Signal};
    use litebox_core::error::Errno;

    const FPU: usize = 832;

    fn action(flags: SaFlags) -> Action {
        Action { handler: 0x40_1000, flags: (flags | SaFlags::RESTORER).bits(), restorer: 0x40_2000, mask: 1 << 9 }
    }

    fn segv() -> Info {
        Info::new(Signal::SEGV, 1, Origin::Fault { addr: 0x10 })
    }

    fn built(flags: SaFlags, stack: AltStack, sp: u64) -> Result<Built> {
        let regs = Regs { sp, ip: 0x40_0000, flags: 0x746, ax: 5, r15: 15, ..Regs::default() }.sanitise();
        let masks = (SigSet::EMPTY, SigSet::EMPTY.with(Signal::HUP));
        build(&regs, &segv(), &action(flags), &stack, masks, [14, 6, 0x10], FPU)
    }

    #[test]
    fn a_frame_is_read_back_as_it_was() {
        let built = built(SaFlags::empty(), AltStack::default(), 0x7fff_0000).unwrap();
        assert_eq!((built.at % 16, built.fpu_at % 64), (8, 0));
        assert!(built.at + FRAME_BYTES as u64 <= built.fpu_at);
        assert!(built.fpu_at + sealed_fpu_bytes(FPU) <= 0x7fff_0000 - RED_ZONE);
        assert_eq!((built.regs.di, built.regs.sp, built.regs.ip), (11, built.at, 0x40_1000));
        assert_eq!(built.regs.flags & (FLAG_DF | FLAG_TF), 0);
        assert_eq!(built.mask, SigSet::EMPTY.with(Signal::SEGV).with(Signal::USR1));
        let back = restore(&built.bytes).unwrap();
        assert_eq!((back.regs.sp, back.regs.ip, back.regs.ax, back.regs.r15), (0x7fff_0000, 0x40_0000, 5, 15));
        assert_eq!((back.mask, back.fpu_at), (SigSet::EMPTY.with(Signal::HUP), built.fpu_at));
        assert_eq!(frame_of_return(&Regs { sp: built.at + 8, ..Regs::default() }), built.at);
    }

    #[test]
    fn a_handler_that_asks_gets_the_alternate_stack_if_there_is_room() {
        let stack = AltStack { start: 0x1_0000, flags: 0, padding: 0, bytes: 0x2000 };
        let on = built(SaFlags::ONSTACK, stack, 0x7fff_0000).unwrap();
        assert!(stack.holds(on.at) && on.fpu_at < 0x1_2000);
        let nested = built(SaFlags::ONSTACK, stack, on.at).unwrap();
        assert!(nested.at < on.at && stack.holds(nested.at));
        assert!(built(SaFlags::ONSTACK, stack, 0x1_0100).unwrap_err().is(Errno::FAULT), "full");
        let small = AltStack { bytes: 1024, ..stack };
        assert!(built(SaFlags::ONSTACK, small, 0x7fff_0000).unwrap_err().is(Errno::FAULT));
    }

    #[test]
    fn hostile_frames_and_stack_pointers_do_no_harm() {
        for sp in [0, 1, 127, 128, 500, 2000, u64::MAX] {
            let _ = built(SaFlags::empty(), AltStack::default(), sp);
        }
        let back = restore(&[0xff; FRAME_BYTES]).unwrap();
        assert_eq!((back.regs.cs, back.regs.ss, back.regs.flags & 0x3000), (0x33, 0x2b, 0));
        assert!(!back.mask.contains(Signal::KILL));
    }

    #[test]
    fn an_image_is_sealed_at_both_ends() {
        let (software, end) = fpu_seal(FPU, 7);
        assert_eq!(&software[..4], b"SXPF");
        assert_eq!(&software[4..8], &836u32.to_le_bytes());
        assert_eq!((software[8], &software[16..20]), (7, &832u32.to_le_bytes()[..]));
        assert_eq!(&end, b"EXPF");
        assert_eq!(fpu_seal(usize::MAX, 0).0[4..8], [0; 4]);
    }
}
