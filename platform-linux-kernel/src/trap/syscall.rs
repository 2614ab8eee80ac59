// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The system-call hook: the one way from a guest's `syscall` instruction to the shim.
//!
//! Runs in task context on the carrier, interrupts on, and may sleep. Other tasks with user dispatch of their own pass through
//! here too and go on to the kernel's function. Hostile input: every register.
//! Cost: this is the hot path; nothing here but the look-up and the shim.

use super::clone::{self, Birth, Kind};
use super::entry::Answer;
use crate::bases::UserBase;
use crate::carrier::{self, Current, Guest};
use crate::mm::space::Space;
use crate::sys;
use kernel::prelude::*;

/// How a system call ends for the trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The registers hold the result; back to the guest.
    Resume,
    /// The carrier ends in the host's own exit.
    Exit {
        /// The whole thread group, or only this thread.
        group: bool,
        /// For the host's parent of the carrier.
        status: usize,
    },
    /// The host performs the call that `trap` has put into the registers (clone).
    Host,
}

/// **The seam to the shim**: everything above this function is the trap, everything below is Linux's meaning of the call.
/// `litebox_shim_linux::dispatch` belongs here; until it does, a guest can end and every other call is not implemented.
fn dispatch(guest: &Current, regs: &mut sys::pt_regs) -> Outcome {
    match regs.orig_ax {
        sys::HOST_EXIT => Outcome::Exit { group: false, status: regs.di },
        sys::HOST_EXIT_GROUP => Outcome::Exit { group: true, status: regs.di },
        sys::HOST_CLONE => match bring_up_clone(guest, regs) {
            Ok(()) => Outcome::Host,
            Err(error) => {
                regs.ax = carrier::result(Err(error));
                Outcome::Resume
            }
        },
        _ => {
            regs.ax = carrier::result(Err(ENOSYS));
            Outcome::Resume
        }
    }
}

/// Bring-up: a thread (CLONE_THREAD) or a process that shares the flat image; flags, stack and TLS as in clone(2). Goes with the shim.
fn bring_up_clone(guest: &Current, regs: &mut sys::pt_regs) -> Result {
    let flags = u32::try_from(regs.di)?;
    let kind = if flags & sys::CLONE_THREAD != 0 { Kind::Thread } else { Kind::Process };
    let space = match kind {
        Kind::Thread => guest.space().clone(),
        Kind::Process => Space::new()?,
    };
    let fs = if flags & sys::CLONE_SETTLS != 0 { Some(UserBase::new(regs.r8 as u64).ok_or(EPERM)?) } else { None };
    let mut child = clone::child_registers(regs);
    if regs.si != 0 {
        child.sp = regs.si;
    }
    let child = Birth { guest: Guest::new(guest.sandbox().clone(), space)?, kind, regs: child, fs, id: 2 };
    clone::start(guest, regs, child)
}

/// Called by the trampoline in place of `syscall_user_dispatch(regs)`.
///
/// # Safety
/// `regs` is the current task's entry frame.
pub(super) unsafe extern "C" fn on_syscall(regs: *mut sys::pt_regs) -> Answer {
    let Some(guest) = carrier::current() else {
        return Answer::Original;
    };
    // SAFETY: Contract; the frame lies on this task's kernel stack, and ptrace writes it only while the task is stopped.
    let regs = unsafe { &mut *regs };
    if carrier::in_compat_syscall() {
        // `int 0x80`: its numbers and registers are another ABI's, and the host would serve a rewritten call from its 32-bit table.
        regs.orig_ax = usize::MAX;
    }
    match dispatch(&guest, regs) {
        Outcome::Resume => {
            // Result in ax. Without -1 the host's restart logic would take some results for a request to repeat the call.
            regs.orig_ax = usize::MAX;
            carrier::mark_dispatched();
            Answer::SkipTrue
        }
        Outcome::Exit { group, status } => {
            // The entry code reads the number again from the frame after the hooked function returned false.
            regs.orig_ax = if group { sys::HOST_EXIT_GROUP } else { sys::HOST_EXIT };
            regs.di = status;
            Answer::SkipFalse
        }
        Outcome::Host => Answer::SkipFalse,
    }
}
