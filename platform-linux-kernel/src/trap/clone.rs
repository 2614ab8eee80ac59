// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! New carriers: the host's clone, made on the guest's behalf by rewriting the trapped registers.
//!
//! The hook puts the host's clone into the entry frame and answers "skipped, false"; the entry code then makes that one call. A
//! task work gives the parent its registers and result back before ring 3; another does the same for the child. No guest instruction
//! runs in between, and the work bit is never off.
//! Invariants: during the call ip and sp are 0, so a child that the birth probe missed dies at once: it fails closed. Each queued
//! work holds a reference of its guest, and so the module, because works also run late in exit, after the exit probe.
//! Never on the 32-bit entry (`syscall::on_syscall` sees to it). clone can ask for a restart when a signal is pending.
//! Sources: Linux kernel/fork.c copy_process, kernel/task_work.c; include/linux/entry-common.h.

use crate::bases::{self, UserBase};
use crate::carrier::{self, Current, Guest};
use crate::sys;
use core::ptr;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The length of the `syscall` instruction, to which a restart goes back.
const SYSCALL_LENGTH: usize = 2;
/// -ERESTARTSYS to -ERESTART_RESTARTBLOCK, which never leave the kernel as results (include/linux/errno.h).
const RESTARTS: core::ops::RangeInclusive<isize> = -516..=-512;

/// What kind of host task carries the new guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another thread of the same host process: the same page tables.
    Thread,
    /// A process of its own: page tables of its own, over the new guest's space.
    Process,
}

/// How the new guest begins.
pub(crate) struct Birth {
    /// The new guest.
    pub(crate) guest: Arc<Guest>,
    /// Thread or process.
    pub(crate) kind: Kind,
    /// Its registers.
    pub(crate) regs: sys::pt_regs,
    /// Its FS base, if not the parent's.
    pub(crate) fs: Option<UserBase>,
    /// What the parent's call returns.
    pub(crate) id: usize,
}

/// The child's part; becomes a task work of the child.
#[repr(C)]
struct Start {
    head: sys::callback_head,
    birth: Birth,
}

/// The parent's part; a task work of the parent while the host's clone runs.
#[repr(C)]
pub(crate) struct Request {
    head: sys::callback_head,
    parent: Arc<Guest>,
    saved: sys::pt_regs,
    id: usize,
    start: Option<KBox<Start>>,
}

/// Has the host clone the current carrier when the hook answers [`super::entry::Answer::SkipFalse`].
///
/// # Errors
/// ENOMEM; ESRCH if the task is exiting. `regs` is as it was then.
pub(crate) fn start(guest: &Current, regs: &mut sys::pt_regs, birth: Birth) -> Result {
    let flags = match birth.kind {
        Kind::Thread => {
            sys::CLONE_VM | sys::CLONE_FS | sys::CLONE_FILES | sys::CLONE_SIGHAND | sys::CLONE_THREAD | sys::CLONE_SYSVSEM
        }
        Kind::Process => 0,
    };
    let (id, head) = (birth.id, sys::callback_head { next: ptr::null_mut(), func: Some(begin) });
    let start = KBox::new(Start { head, birth }, GFP_KERNEL_ACCOUNT)?;
    let head = sys::callback_head { next: ptr::null_mut(), func: Some(finish) };
    let request =
        KBox::new(Request { head, parent: guest.reference(), saved: *regs, id, start: Some(start) }, GFP_KERNEL_ACCOUNT)?;
    let request = KBox::into_raw(request);
    // SAFETY: The current task; the work is a box that `finish` takes back.
    let result = unsafe { sys::task_work_add(carrier::task(), request.cast(), sys::task_work_notify_mode_TWA_RESUME) };
    if result != 0 {
        // SAFETY: Not queued, so still ours.
        drop(unsafe { KBox::from_raw(request) });
        return Err(Error::from_errno(result));
    }
    guest.request.store(request, Ordering::Relaxed);
    regs.orig_ax = sys::HOST_CLONE;
    regs.di = flags as usize;
    (regs.si, regs.dx, regs.r10, regs.r8, regs.r9) = (0, 0, 0, 0, 0);
    (regs.ip, regs.sp) = (0, 0);
    Ok(())
}

/// In the birth probe: makes `child` the carrier that the current clone is for. False if it must not live.
///
/// # Safety
/// The probe's child, which has not run; the current task carries `parent`.
pub(crate) unsafe fn adopt(parent: &Guest, child: *mut sys::task_struct) -> bool {
    let request = parent.request.load(Ordering::Relaxed);
    if request.is_null() {
        return false;
    }
    // SAFETY: Set by `start` on this task and cleared by `finish` on this task, which frees it afterwards.
    let Some(start) = (unsafe { (*request).start.take() }) else {
        return false;
    };
    if start.birth.kind == Kind::Process {
        // No zombie and no SIGCHLD at whoever is the host's parent: the library OS has its own wait.
        // SAFETY: The child's own, new signal structure; it has not run, and the probe precedes its wake-up.
        unsafe { sys::signal_struct::set_autoreap_raw((*child).signal, 1) };
    }
    let guest = start.birth.guest.clone();
    let start = KBox::into_raw(start);
    // SAFETY: The child is alive and has not run; the work is a box that `begin` takes back.
    if unsafe { sys::task_work_add(child, start.cast(), sys::task_work_notify_mode_TWA_RESUME) } != 0 {
        // SAFETY: Not queued, so still ours.
        drop(unsafe { KBox::from_raw(start) });
        return false;
    }
    // SAFETY: The child has not run and is no carrier: its selector was cleared by the caller.
    unsafe { guest.enter(child) }.is_ok()
}

/// The child's first act on its way to ring 3.
///
/// # Safety
/// Called once as the task work of a [`Start`].
unsafe extern "C" fn begin(head: *mut sys::callback_head) {
    // SAFETY: `head` is the first field of a `Start` that `adopt` queued, taken back once.
    let start = unsafe { KBox::<Start>::from_raw(head.cast()) };
    if carrier::current().is_none() {
        // Killed before it began.
        return;
    }
    let birth = &start.birth;
    // SAFETY: The current task's own entry frame, which nobody borrows now.
    unsafe { carrier::registers().write(birth.regs) };
    if let Some(base) = birth.fs {
        bases::set_fs(base);
    }
    // VM_DONTCOPY left a new process's user half empty.
    if birth.kind == Kind::Process && birth.guest.space().replace_current().is_err() {
        carrier::kill_current();
    }
}

/// The parent's way back from the host's clone.
///
/// # Safety
/// Called once as the task work of a [`Request`].
unsafe extern "C" fn finish(head: *mut sys::callback_head) {
    // SAFETY: `head` is the first field of a `Request` that `start` queued, taken back once.
    let request = unsafe { KBox::<Request>::from_raw(head.cast()) };
    request.parent.request.store(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: The current task's own entry frame, which nobody borrows now.
    let regs = unsafe { &mut *carrier::registers() };
    let result = regs.ax as isize;
    // The host's restart logic has gone back by one instruction from 0, or has not been asked yet.
    let again = regs.ip != 0 || RESTARTS.contains(&result);
    *regs = request.saved;
    regs.orig_ax = usize::MAX;
    if request.start.is_none() {
        regs.ax = request.id;
    } else if again {
        regs.ax = request.saved.orig_ax;
        regs.ip = regs.ip.wrapping_sub(SYSCALL_LENGTH);
        regs.cx = regs.ip;
    } else {
        regs.ax = result as usize;
    }
}

/// A copy of `regs` for a child: the call returns 0 to it.
pub(crate) fn child_registers(regs: &sys::pt_regs) -> sys::pt_regs {
    sys::pt_regs { ax: 0, orig_ax: usize::MAX, ..*regs }
}
