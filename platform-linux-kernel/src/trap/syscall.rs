// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The system-call hook: the one way from a guest's `syscall` instruction to the shim.
//!
//! Runs in task context on the carrier, interrupts on, and may sleep. Other tasks with user dispatch of their own go on from the
//! trampoline to the kernel's function. Hostile input: every register.
//! Cost: this is the hot path; nothing here but the look-up and the shim.

use super::clone::{self, Way};
use super::entry::Answer;
use super::regs::shim_regs;
use super::signal;
use crate::carrier::{self, Current, Guest};
use crate::host::LinuxKernel;
use crate::rest::{self, Then};
use crate::{hardware, lend, start, sys};
use core::ptr::NonNull;
use litebox_shim_linux::task::End;
use litebox_shim_linux::{Resume, after_spawn, before_guest};

/// Called by the trampoline in place of `syscall_user_dispatch(regs)`.
///
/// # Safety
/// `regs` is the current task's entry frame, and `guest` what its selector points to.
pub(super) unsafe extern "C" fn on_syscall(regs: *mut sys::pt_regs, guest: NonNull<Guest>) -> Answer {
    // SAFETY: Contract.
    let guest = unsafe { Current::of_selector(guest) };
    // SAFETY: Contract; the frame lies on this task's kernel stack, and ptrace writes it only while the task is stopped.
    let regs = unsafe { &mut *regs };
    if guest.is_hardware() {
        return hardware::run(regs);
    }
    if carrier::in_compat_syscall() {
        // `int 0x80`: its numbers and registers are another ABI's, and the host would serve a rewritten call from its 32-bit table.
        regs.orig_ax = usize::MAX;
    }
    if let Some(value) = guest.with_north(|north| litebox_shim_linux::quick(&north.task, regs.orig_ax as u64)) {
        regs.ax = value as usize;
        return done(regs);
    }
    dispatch(guest, regs)
}

/// The long way. Not inlined, so that the short one needs no stack.
#[inline(never)]
fn dispatch(guest: Current, regs: &mut sys::pt_regs) -> Answer {
    match guest.with_north(|north| litebox_shim_linux::dispatch(&mut north.task, shim_regs(regs))) {
        Resume::Guest => done(regs),
        other => turn(guest, regs, other),
    }
}

/// Back to ring 3 with the registers as they are, the result in ax.
#[inline]
pub(crate) fn done(regs: &mut sys::pt_regs) -> Answer {
    // Without -1 the host's restart logic would take some results for a request to repeat the call.
    regs.orig_ax = usize::MAX;
    carrier::mark_dispatched();
    Answer::SkipTrue
}

/// What a call leads to besides ring 3.
#[cold]
pub(crate) fn turn(mut guest: Current, regs: &mut sys::pt_regs, resume: Resume<LinuxKernel>) -> Answer {
    match resume {
        Resume::Guest => done(regs),
        Resume::End(_) if carrier::in_compat_syscall() => {
            // Never by a host call: that would be another one in the 32-bit table.
            signal::go_on(guest, regs, resume);
            done(regs)
        }
        Resume::End(end) => {
            let guest = match lend::end(guest, regs, end) {
                Ok((maker, next)) => return turn(maker, regs, next),
                Err(guest) => guest,
            };
            note_end(&guest, end);
            let then = rest::after(&guest, end);
            if then == Then::Rest {
                // Were it to come to ring 3 all the same, it would die.
                (regs.ip, regs.sp) = (0, 0);
                return done(regs);
            }
            // The entry code reads the number again from the frame after the hooked function returned false.
            regs.orig_ax = if then == Then::EndThread { sys::HOST_EXIT } else { sys::HOST_EXIT_GROUP };
            regs.di = match end {
                End::Task(status) | End::Process(status) => usize::from(status),
                End::Signal(signal) => 128_usize.saturating_add(signal as usize),
            };
            Answer::SkipFalse
        }
        Resume::Spawn(spawn) => {
            let (guest, way) = clone::start(guest, regs, *spawn);
            let next = match way {
                Way::ByHost => return Answer::SkipFalse,
                Way::Lent => guest.with_north(|north| before_guest(&mut north.task, guest.frame(regs))),
                Way::Done(birth) => guest.with_north(|north| after_spawn(&mut north.task, guest.frame(regs), birth)),
            };
            turn(guest, regs, next)
        }
        Resume::Exec => {
            guest = match lend::exec(guest, regs) {
                Ok((maker, next)) => return turn(maker, regs, next),
                Err(guest) => guest,
            };
            carrier::threads_ended();
            let mm = guest.with_north(|north| north.task.mm().clone());
            if guest.replace_mm(mm).is_err() {
                carrier::kill_current();
                return done(regs);
            }
            start::reset_processor();
            let next = guest.with_north(|north| before_guest(&mut north.task, guest.frame(regs)));
            turn(guest, regs, next)
        }
    }
}

/// Keeps how a guest has ended for its last work.
pub(super) fn note_end(guest: &Current, end: End) {
    guest.with_north(|north| north.end = Some(end));
}
