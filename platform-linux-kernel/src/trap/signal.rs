// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The signal hook: faults of the guest become signals of the guest; everything else stays the host's.
//!
//! Of a carrier's pending signals only the six that the processor raises are taken. SIGKILL, stop and continue, the freezer,
//! ptrace and live patching fall through to the kernel's function. Runs in task context, on the way to ring 3.

use super::entry::Answer;
use crate::carrier::{self, Guest};
use crate::sys;
use core::mem::MaybeUninit;
use kernel::prelude::*;

/// The signals that an instruction can raise: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS; bit n - 1 is signal n.
pub(crate) const SYNCHRONOUS: usize =
    mask(sys::SIGILL) | mask(sys::SIGTRAP) | mask(sys::SIGBUS) | mask(sys::SIGFPE) | mask(sys::SIGSEGV) | mask(sys::SIGSYS);

/// The bit of a signal in a signal set.
pub(crate) const fn mask(signal: u32) -> usize {
    1 << (signal - 1)
}

/// A fault that the guest's own instruction raised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The signal number.
    pub(crate) signal: i32,
    /// si_code.
    pub(crate) code: i32,
    /// si_addr, for those signals that have one.
    pub(crate) addr: usize,
}

/// **The seam to the shim** for faults: true if the guest goes on with a handler set up in `regs`.
/// Until the shim delivers signals, every fault ends the guest.
fn deliver(_guest: &Guest, _fault: &Fault, _regs: &mut sys::pt_regs) -> bool {
    false
}

/// Called by the trampoline in place of `arch_do_signal_or_restart(regs)`.
///
/// # Safety
/// `regs` is the current task's entry frame.
pub(super) unsafe extern "C" fn on_signal(regs: *mut sys::pt_regs) -> Answer {
    let Some(guest) = carrier::current() else {
        return Answer::Original;
    };
    if carrier::kill_pending() {
        return Answer::Original;
    }
    let mut info = MaybeUninit::<sys::kernel_siginfo>::zeroed();
    // SAFETY: Task context of the current task; the information is written to our buffer.
    let signal = unsafe { sys::litebox_dequeue_signal(SYNCHRONOUS, info.as_mut_ptr()) };
    if signal == 0 {
        return Answer::Original;
    }
    // SAFETY: Every bit pattern is a value of this C structure, and the buffer was zeroed to begin with.
    let info = unsafe { info.assume_init() };
    // SAFETY: signo, errno and code are common to all members of the union; the address is read as bits.
    let (code, addr) = unsafe { (info.__bindgen_anon_1.si_code, info.__bindgen_anon_1._sifields._sigfault._addr) };
    // SI_USER (0) and negative codes were sent by a process; no instruction of the guest raised them, and a guest cannot send any.
    let raised_here = code > 0;
    let fault = Fault { signal, code, addr: addr.addr() };
    // SAFETY: Contract; see `on_syscall`.
    let regs = unsafe { &mut *regs };
    if raised_here && deliver(&guest, &fault, regs) {
        regs.orig_ax = usize::MAX;
        return Answer::SkipTrue;
    }
    pr_info_ratelimited_fault(&fault);
    carrier::kill_current();
    Answer::Original
}

/// Says that a guest was ended. No guest addresses in the host's log.
fn pr_info_ratelimited_fault(fault: &Fault) {
    pr_debug!("guest ended by signal {} (code {})\n", fault.signal, fault.code);
}
