// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The signal hook: faults of the guest become signals of the guest; everything else stays the host's.
//!
//! Of a carrier's pending signals only the six that the processor raises are taken. SIGKILL, stop and continue, the freezer,
//! ptrace and live patching fall through to the kernel's function. Runs in task context, on the way to ring 3.

use super::entry::Answer;
use super::regs::shim_regs;
use super::syscall::note_end;
use crate::carrier::{self, Current, Guest};
use crate::host::LinuxKernel;
use crate::{fpu, lend, sys};
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use litebox_core::mm::{Access, FaultOutcome, GuestAddr, SegvCode};
use litebox_shim_linux::signal::{Fault, FaultKind};
use litebox_shim_linux::task::End;
use litebox_shim_linux::{Resume, before_guest};

/// The signals that an instruction can raise: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS; bit n - 1 is signal n.
pub(crate) const SYNCHRONOUS: usize =
    mask(sys::SIGILL) | mask(sys::SIGTRAP) | mask(sys::SIGBUS) | mask(sys::SIGFPE) | mask(sys::SIGSEGV) | mask(sys::SIGSYS);

/// The bit of a signal in a signal set.
pub(crate) const fn mask(signal: u32) -> usize {
    1 << (signal - 1)
}

/// What the processor reported of the current task's last fault: vector, error code, address.
fn last_fault() -> (u64, u64) {
    let task = carrier::task();
    // SAFETY: The current task's own words, written by its own fault handlers.
    unsafe { ((*task).thread.trap_nr as u64, (*task).thread.error_code as u64) }
}

/// Which access a page fault's error code tells of (SDM vol. 3, 4.7).
fn access_of(code: u64) -> Access {
    if code & 1 << 4 != 0 {
        Access::Exec
    } else if code & 1 << 1 != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

/// A fault, as the processor or the host reports it.
pub(crate) struct Reported {
    /// The exception's.
    pub(crate) vector: u64,
    /// Its error code.
    pub(crate) code: u64,
    /// The address that the signal is to tell.
    pub(crate) addr: u64,
    /// The host gives no place, as for a protection fault, or found the area of restartable sequences bad; vector and code may be those of an
    /// older fault then.
    pub(crate) by_kernel: bool,
}

/// The shim's word for a fault; `None` if it is resolved and the instruction may be tried again.
pub(crate) fn fault_of(guest: &Current, reported: Reported) -> Option<Fault> {
    let Reported { vector, code, addr, by_kernel } = reported;
    if by_kernel {
        return Some(Fault { kind: FaultKind::Protection, addr, vector, code });
    }
    /// A protection key forbade it.
    const KEY: u64 = 1 << 5;
    let kind = match vector {
        0 => FaultKind::Divide,
        1 => FaultKind::Debug,
        3 => FaultKind::Breakpoint,
        6 => FaultKind::Invalid,
        14 if code & KEY != 0 => FaultKind::Access,
        // The kernel says MAPERR for whatever the module refuses; the library OS knows which it is.
        14 => match guest.mm()?.fault(GuestAddr::new(addr), access_of(code)) {
            FaultOutcome::Resolved => return None,
            FaultOutcome::Segv(SegvCode::MapErr) => FaultKind::Unmapped,
            FaultOutcome::Segv(SegvCode::AccErr) => FaultKind::Access,
            FaultOutcome::Bus | FaultOutcome::OutOfMemory => FaultKind::PastEnd,
        },
        16 => {
            let (status, control) = fpu::x87_words();
            FaultKind::X87 { status, control }
        }
        17 => FaultKind::Alignment,
        19 => FaultKind::Simd { mxcsr: fpu::mxcsr() },
        _ => FaultKind::Protection,
    };
    Some(Fault { kind, addr, vector, code })
}

/// Called by the trampoline in place of `arch_do_signal_or_restart(regs)`.
///
/// # Safety
/// `regs` is the current task's entry frame, and `guest` what its selector points to.
pub(super) unsafe extern "C" fn on_signal(regs: *mut sys::pt_regs, guest: NonNull<Guest>) -> Answer {
    // The system-call hook need not ask: without the work bit the kernel does not come to it.
    // SAFETY: The current task.
    if !unsafe { carrier::is_carrier(carrier::task()) } {
        return Answer::Original;
    }
    // SAFETY: Contract.
    let guest = unsafe { Current::of_selector(guest) };
    // A hardware guest's faults are exits; what comes for its carrier is the host's.
    if carrier::kill_pending() || guest.is_over() || guest.is_hardware() {
        return Answer::Original;
    }
    let mut info = MaybeUninit::<sys::kernel_siginfo>::zeroed();
    // SAFETY: Task context of the current task; the information is written to our buffer.
    let signal = unsafe { sys::litebox_dequeue_signal(SYNCHRONOUS, info.as_mut_ptr()) };
    if signal == 0 {
        // Perhaps a kick, whose work the host's function runs.
        return Answer::Original;
    }
    // SAFETY: Contract; see `on_syscall`.
    let regs = unsafe { &mut *regs };
    // SAFETY: Every bit pattern is a value of this C structure, and the buffer was zeroed to begin with.
    let info = unsafe { info.assume_init() };
    // SAFETY: signo, errno and code are common to all members of the union; the address is read as bits.
    let (code, addr) = unsafe { (info.__bindgen_anon_1.si_code, info.__bindgen_anon_1._sifields._sigfault._addr) };
    // SI_USER (0) and negative codes were sent by a process; no instruction of the guest raised them, and a guest cannot send any.
    if code <= 0 {
        carrier::kill_current();
        return Answer::Original;
    }
    regs.orig_ax = usize::MAX;
    let by_kernel = signal == sys::SIGSEGV as i32 && code == sys::SI_KERNEL as i32;
    let (vector, error) = last_fault();
    let reported = Reported { vector, code: error, addr: addr.addr() as u64, by_kernel };
    if let Some(fault) = fault_of(&guest, reported) {
        let resume = guest.with_north(|north| litebox_shim_linux::fault(&mut north.task, shim_regs(regs), &fault));
        if !go_on(guest, regs, resume) {
            return Answer::Original;
        }
    }
    Answer::SkipTrue
}

/// Tells the library OS that the guest has its carrier, which is about to enter ring 3 for the first time.
pub(crate) fn begin(guest: Current) {
    let handle = guest.handle();
    guest.with_north(|north| north.task.begin(handle));
    look(guest);
}

/// Looks for signals of the guest, on its carrier's way to ring 3 and outside of the hooks.
pub(crate) fn look(guest: Current) {
    // SAFETY: The current task's own entry frame, which nobody borrows while works run, and `start` no more.
    let regs = unsafe { &mut *carrier::registers() };
    let resume = guest.with_north(|north| before_guest(&mut north.task, guest.frame(regs)));
    // The host looks for signals, and finds a kill, after its works.
    go_on(guest, regs, resume);
}

/// Whether the guest goes on to ring 3 after a fault or a kick; if it has ended its carrier is killed, since no call can be made for
/// it here.
pub(crate) fn go_on(guest: Current, regs: &mut sys::pt_regs, resume: Resume<LinuxKernel>) -> bool {
    match resume {
        Resume::Guest => true,
        Resume::End(end) => {
            let guest = match lend::end(guest, regs, end) {
                // A maker is not lent to itself: this goes one deep.
                Ok((maker, resume)) => return go_on(maker, regs, resume),
                Err(guest) => guest,
            };
            note_end(&guest, end);
            let is_last = guest.sandbox().leave(&guest, false, false).is_last;
            match end {
                End::Task(_) if !is_last => carrier::end_thread(),
                // Those of the host process that are at rest end with the last guest.
                End::Task(_) | End::Process(_) | End::Signal(_) => carrier::kill_current(),
            }
            false
        }
        // What only a call asks for.
        Resume::Spawn(_) | Resume::Exec => {
            carrier::kill_current();
            false
        }
    }
}
