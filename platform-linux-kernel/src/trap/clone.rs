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

use super::regs::shim_regs;
use super::signal;
use crate::bases::{self, UserBase};
use crate::carrier::{self, Current, Guest};
use crate::host::LinuxKernel;
use crate::rest::{self, Crew, Processor};
use crate::sys;
use core::ptr;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;
use litebox_shim_linux::after_spawn;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::task::{Birth, Spawn};

/// -ERESTARTSYS to -ERESTART_RESTARTBLOCK, which never leave the kernel as results (include/linux/errno.h).
const RESTARTS: core::ops::RangeInclusive<isize> = -516..=-512;

/// The child's part; becomes a task work of the child, or wakes a carrier at rest.
#[repr(C)]
pub(crate) struct Start {
    head: sys::callback_head,
    pub(crate) guest: Arc<Guest>,
    /// Whether it is a thread of its maker's host process, with the same page tables; if not it gets page tables of its own.
    thread: bool,
    regs: Regs,
    /// Its FS base, if not its maker's.
    fs: Option<UserBase>,
    /// What a carrier that was not cloned lacks of its maker's.
    processor: Option<Processor>,
}

impl Start {
    /// Gives the current carrier, which is the guest's, the registers to begin with.
    pub(crate) fn set_registers(&self) {
        if let Some(processor) = &self.processor {
            processor.set();
        }
        // SAFETY: The current task's own entry frame, which nobody borrows now.
        *shim_regs(unsafe { &mut *carrier::registers() }) = self.regs;
        if let Some(base) = self.fs {
            bases::set_fs(base);
        }
    }
}

/// How a clone goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The host makes it when the hook answers [`super::entry::Answer::SkipFalse`].
    ByHost,
    /// It is made: a carrier that was at rest has it.
    Done,
}

/// The parent's part; a task work of the parent while the host's clone runs.
#[repr(C)]
pub(crate) struct Request {
    head: sys::callback_head,
    parent: Arc<Guest>,
    saved: sys::pt_regs,
    start: Option<KBox<Start>>,
}

/// Gives the new task a carrier: one at rest, or a clone of the current one.
///
/// # Errors
/// ENOMEM; ESRCH if the task is exiting. `regs` is as it was then, and the new task was dropped.
pub(crate) fn start(guest: &Current, regs: &mut sys::pt_regs, spawn: Spawn<LinuxKernel>) -> Result<Way> {
    let Spawn { task, regs: first, thread, fs_base, .. } = spawn;
    let flags = if thread {
        sys::CLONE_VM | sys::CLONE_FS | sys::CLONE_FILES | sys::CLONE_SIGHAND | sys::CLONE_THREAD | sys::CLONE_SYSVSEM
    } else {
        0
    };
    let crew = if thread { guest.crew().clone() } else { Crew::new(false)? };
    let mm = task.mm().clone();
    let child = Guest::new(guest.sandbox().clone(), crew, task)?;
    let head = sys::callback_head { next: ptr::null_mut(), func: Some(begin) };
    let fs = fs_base.and_then(UserBase::new);
    let mut start = KBox::new(Start { head, guest: child, thread, regs: first, fs, processor: None }, GFP_KERNEL_ACCOUNT)?;
    if let Some((seat, processor)) = rest::take_seat(guest, thread, &mm) {
        start.processor = Some(processor);
        seat.give(start);
        return Ok(Way::Done);
    }
    if !thread {
        mm.host().file()?;
    }
    drop(mm);
    let head = sys::callback_head { next: ptr::null_mut(), func: Some(finish) };
    let request = KBox::new(Request { head, parent: guest.reference(), saved: *regs, start: Some(start) }, GFP_KERNEL_ACCOUNT)?;
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
    Ok(Way::ByHost)
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
    if !start.thread {
        // No zombie and no SIGCHLD at whoever is the host's parent: the library OS has its own wait.
        // SAFETY: The child's own, new signal structure; it has not run, and the probe precedes its wake-up.
        unsafe { sys::signal_struct::set_autoreap_raw((*child).signal, 1) };
    }
    let guest = start.guest.clone();
    let start = KBox::into_raw(start);
    // SAFETY: The child is alive and has not run; the work is a box that `begin` takes back.
    if unsafe { sys::task_work_add(child, start.cast(), sys::task_work_notify_mode_TWA_RESUME) } != 0 {
        // `finish` lets it go: what it holds may sleep when dropped.
        // SAFETY: Not queued, so still ours; the request is as above.
        unsafe { (*request).start = Some(KBox::from_raw(start)) };
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
    let Some(current) = carrier::current() else {
        // Killed before it began.
        return;
    };
    start.set_registers();
    // VM_DONTCOPY left a new process's user half empty.
    if !start.thread && !current.space().is_some_and(|space| space.replace_current().is_ok()) {
        carrier::kill_current();
        return;
    }
    signal::begin(&current);
}

/// The parent's way back from the host's clone.
///
/// # Safety
/// Called once as the task work of a [`Request`].
unsafe extern "C" fn finish(head: *mut sys::callback_head) {
    // SAFETY: `head` is the first field of a `Request` that `start` queued, taken back once.
    let request = unsafe { KBox::<Request>::from_raw(head.cast()) };
    request.parent.request.store(ptr::null_mut(), Ordering::Relaxed);
    let Some(current) = carrier::current() else {
        // Killed meanwhile.
        return;
    };
    // SAFETY: The current task's own entry frame, which nobody borrows now.
    let regs = unsafe { &mut *carrier::registers() };
    let result = regs.ax as isize;
    // The host's restart logic has gone back by one instruction from 0, or has not been asked yet.
    let again = regs.ip != 0 || RESTARTS.contains(&result);
    *regs = request.saved;
    regs.orig_ax = usize::MAX;
    let birth = match (&request.start, again) {
        (None, _) => Birth::Born,
        (Some(_), true) => Birth::Again,
        (Some(_), false) => Birth::Failed,
    };
    // A task that was not born is undone before its maker is told.
    drop(request);
    let resume = current.with_north(|north| after_spawn(&mut north.task, shim_regs(regs), birth));
    signal::go_on(&current, resume);
}
