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

use super::signal;
use crate::bases::{self, UserBase};
use crate::carrier::{self, Current, Guest};
use crate::host::LinuxKernel;
use crate::mm::space::Kept;
use crate::rest::{self, Crew, Processor};
use crate::{lend, start, sys};
use core::ptr;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;
use litebox_shim_linux::after_spawn;
use litebox_shim_linux::processors::Processors;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::signal::Cpu;
use litebox_shim_linux::task::{Birth, Spawn, Task};

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
    /// What a carrier that was not cloned lacks.
    lacks: Lacks,
}

/// What a carrier that was not cloned needs besides the frame.
enum Lacks {
    /// Nothing.
    Nothing,
    /// Its maker's.
    Processor(Processor),
    /// What a program begins with; and where it may run, if not where this carrier may.
    Program(Option<Processors>),
}

impl Start {
    /// Gives the current carrier, which is the guest's, the registers to begin with.
    pub(crate) fn set_registers(&self) {
        match &self.lacks {
            Lacks::Nothing => {}
            Lacks::Processor(processor) => processor.set(),
            Lacks::Program(processors) => {
                start::reset_processor();
                if let (Some(processors), Some(current)) = (processors, carrier::current()) {
                    // A host that does not let it leaves it where it is.
                    let _allowed = LinuxKernel::set_affinity(&current.handle(), processors);
                }
            }
        }
        if let Some(current) = carrier::current() {
            current.set_registers(&self.regs);
        }
        self.set_base();
    }

    /// Makes `frame` the guest's, and the FS base.
    pub(crate) fn set_frame(&self, frame: &mut Regs) {
        *frame = self.regs;
        self.set_base();
    }

    fn set_base(&self) {
        if let Some(base) = self.fs {
            bases::set_fs(base);
        }
    }

    /// The guest `task`, which leaves `old`'s carrier for another one, to run another program.
    ///
    /// # Errors
    /// ENOMEM; the task is dropped.
    pub(crate) fn elsewhere(
        old: &Current,
        task: Task<LinuxKernel>,
        regs: Regs,
        processors: Option<Processors>,
    ) -> Result<KBox<Self>> {
        task.leave_carrier();
        let guest = Guest::new(old.sandbox().clone(), Crew::new(false)?, task)?;
        let head = sys::callback_head { next: ptr::null_mut(), func: Some(begin) };
        Ok(KBox::new(Self { head, guest, thread: false, regs, fs: None, lacks: Lacks::Program(processors) }, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whether the guest's memory could be that of page tables that are `kept`, and is now.
    pub(crate) fn takes_over(&self, kept: &Kept) -> bool {
        self.guest.takes_over(kept)
    }
}

/// How a clone goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The host makes it when the hook answers [`super::entry::Answer::SkipFalse`].
    ByHost,
    /// The maker, which waits for it, has lent it its own carrier: it is the current guest.
    Lent,
    /// It is made, by a carrier that was at rest; or it could not be made, and was dropped.
    Done(Birth),
}

/// The parent's part; a task work of the parent while the host's clone runs.
#[repr(C)]
pub(crate) struct Request {
    head: sys::callback_head,
    parent: Arc<Guest>,
    saved: sys::pt_regs,
    start: Option<KBox<Start>>,
}

/// Gives the new task a carrier: its maker's, one at rest, or a clone of its maker's. Gives the current guest, too.
pub(crate) fn start(guest: Current, regs: &mut sys::pt_regs, spawn: Spawn<LinuxKernel>) -> (Current, Way) {
    let (thread, lends) = (spawn.thread, spawn.maker_waits);
    let Ok(start) = prepare(&guest, spawn) else { return (guest, Way::Done(Birth::Failed)) };
    let (guest, start) = match if lends { lend::lend(guest, regs, start) } else { Err((guest, start)) } {
        Ok(child) => {
            let handle = child.handle();
            child.with_north(|north| north.task.begin(handle));
            return (child, Way::Lent);
        }
        Err(both) => both,
    };
    let way = by_other(&guest, regs, start, thread).unwrap_or(Way::Done(Birth::Failed));
    (guest, way)
}

/// What the new task's carrier will need.
///
/// # Errors
/// ENOMEM; EAGAIN for a thread of a process that has its maker's carrier. The task was dropped.
fn prepare(guest: &Current, spawn: Spawn<LinuxKernel>) -> Result<KBox<Start>> {
    let Spawn { task, regs, thread, fs_base, .. } = spawn;
    if thread && guest.is_lent() {
        return Err(EAGAIN);
    }
    let crew = if thread { guest.crew().clone() } else { Crew::new(false)? };
    let child = Guest::new(guest.sandbox().clone(), crew, task)?;
    guest.hand_down(&child);
    let head = sys::callback_head { next: ptr::null_mut(), func: Some(begin) };
    let fs = fs_base.and_then(UserBase::new);
    Ok(KBox::new(Start { head, guest: child, thread, regs, fs, lacks: Lacks::Nothing }, GFP_KERNEL_ACCOUNT)?)
}

/// Gives the new task a carrier at rest, or has the host clone the current one.
///
/// # Errors
/// ENOMEM; ESRCH if the task is exiting. `regs` is as it was then, and the new task was dropped.
fn by_other(guest: &Current, regs: &mut sys::pt_regs, mut start: KBox<Start>, thread: bool) -> Result<Way> {
    let flags = if thread {
        sys::CLONE_VM | sys::CLONE_FS | sys::CLONE_FILES | sys::CLONE_SIGHAND | sys::CLONE_THREAD | sys::CLONE_SYSVSEM
    } else {
        0
    };
    if let Some((seat, processor)) = rest::take_seat(guest, thread, &start.guest) {
        start.lacks = Lacks::Processor(processor);
        seat.give(start);
        return Ok(Way::Done(Birth::Born));
    }
    if !thread {
        start.guest.make_space()?;
    }
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
    if !start.thread && current.show_space().is_err() {
        carrier::kill_current();
        return;
    }
    signal::begin(current);
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
    let resume = current.with_north(|north| after_spawn(&mut north.task, current.frame(regs), birth));
    signal::go_on(current, regs, resume);
}
