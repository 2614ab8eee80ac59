// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Carriers: host threads that guests run on; and the sandboxes they belong to.
//!
//! Owns: [`Guest`], of which each carrier holds one reference in its task, and the list of a sandbox's carriers.
//! Invariants:
//! - A task's `syscall_dispatch.selector` is a kernel address exactly while the task is a carrier; it is then the pointer of an
//!   `Arc<Guest>` that the task owns, and `Guest::task` is that task. User space cannot put a kernel address there (prctl
//!   and ptrace check access_ok), and `on_fork` clears what a fork copies.
//! - Such a task has its user-dispatch work bit on, until `on_exit`. The selector's first byte is [`BLOCK`]: were the hook gone, the
//!   kernel itself would raise SIGSYS. It fails closed.
//! - A guest is in its sandbox's list from `enter` to `on_exit`; what is in the list has a live task.
//! - Whoever has a guest holds its space's file, and so the module.
//! Locks: `Sandbox::members` is a spinlock, taken in the probes; SIGKILL is sent under it.

use crate::flat::FlatImage;
use crate::mm::space::Space;
use crate::sys;
use crate::trap::{clone, signal::mask};
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow, SpinLock};

/// SYSCALL_DISPATCH_FILTER_BLOCK of linux/prctl.h.
const BLOCK: u8 = 1;
/// The work bit in `thread_info::syscall_work`.
const USER_DISPATCH: usize = 1 << sys::WORK_BIT_USER_DISPATCH;

/// One guest thread.
#[repr(C)]
pub(crate) struct Guest {
    /// First, because the kernel reads the selector's first byte.
    block: u8,
    task: AtomicPtr<sys::task_struct>,
    /// The clone under way, if any; set and cleared by the carrier itself.
    pub(crate) request: AtomicPtr<clone::Request>,
    sandbox: Arc<Sandbox>,
    /// Last: dropping it may drop the module's last reference, though never before this task has left the module's text.
    space: Space,
}

// SAFETY: The task pointer is an address for comparison and for signals under `members`; the rest is Send and Sync.
unsafe impl Send for Guest {}
// SAFETY: As above.
unsafe impl Sync for Guest {}

impl Guest {
    /// A guest thread without a carrier.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(sandbox: Arc<Sandbox>, space: Space) -> Result<Arc<Self>> {
        let guest = Self {
            block: BLOCK,
            task: AtomicPtr::new(ptr::null_mut()),
            request: AtomicPtr::new(ptr::null_mut()),
            sandbox,
            space,
        };
        Ok(Arc::new(guest, GFP_KERNEL_ACCOUNT)?)
    }

    /// Its memory.
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// The sandbox it is in.
    pub(crate) fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// Makes `task` the carrier of this guest.
    ///
    /// # Errors
    /// ENOMEM, or EPIPE if the sandbox has ended already.
    ///
    /// # Safety
    /// `task` is the current task, or a child in `sched_process_fork` that has not run; it is no carrier.
    pub(crate) unsafe fn enter(self: Arc<Self>, task: *mut sys::task_struct) -> Result {
        self.task.store(task, Ordering::Relaxed);
        {
            let mut members = self.sandbox.members.lock();
            if members.ended {
                return Err(EPIPE);
            }
            members.guests.push(Member(Arc::as_ptr(&self)), GFP_ATOMIC)?;
        }
        let selector = Arc::into_raw(self).cast_mut();
        // SAFETY: Contract: nobody else writes the task's dispatch settings; prctl does so only for the current task, and ptrace
        // only while it is stopped.
        let dispatch = unsafe { &mut (*task).syscall_dispatch };
        dispatch.selector = selector.cast();
        dispatch.offset = 0;
        dispatch.len = 0;
        // SAFETY: As for `dispatch`; other bits are changed atomically by others, so this one is as well.
        unsafe { syscall_work(task) }.fetch_or(USER_DISPATCH, Ordering::SeqCst);
        Ok(())
    }
}

/// A pointer to a guest in its sandbox's list.
struct Member(*const Guest);

// SAFETY: Followed only under the list's lock, while the guest is alive by the list's invariant.
unsafe impl Send for Member {}

/// The carriers of a sandbox.
struct Members {
    ended: bool,
    guests: KVec<Member>,
}

/// One open file of the device.
#[pin_data]
pub(crate) struct Sandbox {
    #[pin]
    members: SpinLock<Members>,
    /// Stand-in for core's address space; see `flat.rs`.
    #[pin]
    pub(crate) flat: FlatImage,
}

impl Sandbox {
    /// An empty sandbox.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                members <- kernel::new_spinlock!(Members { ended: false, guests: KVec::new() }, "litebox_members"),
                flat <- FlatImage::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Ends every guest, and lets no other begin. The carriers go on their own; this does not wait.
    pub(crate) fn end(&self) {
        let mut members = self.members.lock();
        members.ended = true;
        for member in members.guests.iter() {
            // SAFETY: What is in the list is alive, and `members` is held.
            let task = unsafe { (*member.0).task.load(Ordering::Relaxed) };
            // SAFETY: A listed guest's task has not passed its exit probe, which takes this lock: it is alive. Signals may be sent
            // with interrupts on or off.
            unsafe { sys::send_sig(sys::SIGKILL as i32, task, 1) };
        }
    }

    fn forget(&self, guest: *const Guest) {
        let mut members = self.members.lock();
        let at = members.guests.iter().position(|member| member.0 == guest);
        if let Some(at) = at {
            // Order does not matter; the last one takes the place.
            if let Some(last) = members.guests.pop() {
                if let Some(slot) = members.guests.get_mut(at) {
                    *slot = last;
                }
            }
        }
    }
}

/// The guest of the current task, as long as this task does not return to its own code.
pub(crate) struct Current(NonNull<Guest>, PhantomData<*mut ()>);

impl Current {
    /// A reference of its own.
    pub(crate) fn reference(&self) -> Arc<Guest> {
        // SAFETY: The pointer came from `Arc::into_raw` in `enter`, and the task's reference outlives the borrow.
        unsafe { ArcBorrow::from_raw(self.0.as_ptr().cast_const()) }.into()
    }
}

impl Deref for Current {
    type Target = Guest;

    fn deref(&self) -> &Guest {
        // SAFETY: The current task owns a reference until its exit probe, which runs on this task, after whoever has this value
        // (it cannot be sent to another).
        unsafe { self.0.as_ref() }
    }
}

/// The current task.
pub(crate) fn task() -> *mut sys::task_struct {
    // SAFETY: May be asked anywhere.
    unsafe { sys::get_current() }
}

/// The work bits of a task.
///
/// # Safety
/// `task` is alive for as long as the answer is used.
unsafe fn syscall_work<'a>(task: *mut sys::task_struct) -> &'a AtomicUsize {
    // SAFETY: Contract; the kernel accesses the word by atomic bit operations only.
    unsafe { AtomicUsize::from_ptr(&raw mut (*task).thread_info.syscall_work) }
}

/// The guest that `task` carries.
///
/// # Safety
/// `task` is current, or a task that cannot exit meanwhile.
unsafe fn guest_of(task: *mut sys::task_struct) -> Option<NonNull<Guest>> {
    // SAFETY: Contract.
    let selector = unsafe { (*task).syscall_dispatch.selector };
    if (selector.addr() as isize) >= 0 {
        return None;
    }
    NonNull::new(selector.cast())
}

/// The guest of the current task, if it is a carrier.
#[inline]
pub(crate) fn current() -> Option<Current> {
    // SAFETY: The current task is alive.
    unsafe { guest_of(task()) }.map(|guest| Current(guest, PhantomData))
}

/// Whether the current system call came by the 32-bit entry.
pub(crate) fn in_compat_syscall() -> bool {
    // SAFETY: The current task's own status word, written by its own entry code.
    unsafe { (*task()).thread_info.status & sys::TS_COMPAT != 0 }
}

/// Tells the exit path that the call was dispatched: no audit, no trace, no restart.
pub(crate) fn mark_dispatched() {
    // SAFETY: The current task's own flag, read by its own exit path.
    unsafe { (*task()).syscall_dispatch.on_dispatch = true };
}

/// Whether a SIGKILL waits for the current task.
pub(crate) fn kill_pending() -> bool {
    // SAFETY: A word of the current task; another may set the bit at any time, hence the volatile read. A late one is found later.
    let pending = unsafe { (&raw const (*task()).pending.signal.sig[0]).read_volatile() };
    pending & mask(sys::SIGKILL) != 0
}

/// Ends the current carrier on its way to ring 3.
pub(crate) fn kill_current() {
    // SAFETY: The current task.
    unsafe { sys::send_sig(sys::SIGKILL as i32, task(), 1) };
}

/// The registers that the current task entered the kernel with.
pub(crate) fn registers() -> *mut sys::pt_regs {
    // SAFETY: The current task has a kernel stack.
    unsafe { sys::litebox_pt_regs(task()) }
}

/// The value of a system call in its result register.
pub(crate) fn result(result: Result<usize>) -> usize {
    match result {
        Ok(value) => value,
        Err(error) => error.to_errno() as usize,
    }
}

/// Whether the current task is the only one of its process, and no carrier yet.
pub(crate) fn can_become_guest() -> bool {
    // SAFETY: The current task's signal structure lives as long as the task; the count changes only by its threads, and if it is 1
    // that is this one.
    let alone = unsafe { (*(*task()).signal).nr_threads == 1 };
    alone && current().is_none()
}

/// Makes the current task the carrier of `guest`.
///
/// # Errors
/// As [`Guest::enter`].
pub(crate) fn enter_current(guest: Arc<Guest>) -> Result {
    // SAFETY: The current task; the caller asked `can_become_guest` on it.
    unsafe { guest.enter(task()) }
}

/// Probe on `sched_process_fork`: runs in the parent, before the child's first instruction.
///
/// # Safety
/// Called by the tracepoint.
pub(crate) unsafe extern "C" fn on_fork(_data: *mut c_void, parent: *mut sys::task_struct, child: *mut sys::task_struct) {
    // SAFETY: The parent is current.
    if let Some(guest) = unsafe { guest_of(parent) } {
        // The copy of the selector is not the child's. (The work bit is not copied.)
        // SAFETY: The child has not run; nobody else writes its settings.
        unsafe { (*child).syscall_dispatch.selector = ptr::null_mut() };
        // SAFETY: The parent, current, owns a reference.
        let guest = unsafe { guest.as_ref() };
        // SAFETY: The probe's child, whose selector is clear.
        if !unsafe { clone::adopt(guest, child) } {
            // Not ours, or the sandbox has ended: it must not run outside.
            // SAFETY: The child is alive and has not run.
            unsafe { sys::send_sig(sys::SIGKILL as i32, child, 1) };
        }
    }
}

/// Probe on `sched_process_exit`: the one place where a carrier is let go, however it died.
///
/// # Safety
/// Called by the tracepoint, on the exiting task.
pub(crate) unsafe extern "C" fn on_exit(_data: *mut c_void, task: *mut sys::task_struct, _group_dead: bool) {
    // SAFETY: The exiting task is current.
    let Some(guest) = (unsafe { guest_of(task) }) else {
        return;
    };
    // SAFETY: Current is alive.
    unsafe { syscall_work(task) }.fetch_and(!USER_DISPATCH, Ordering::SeqCst);
    // SAFETY: Nobody else writes the current task's settings.
    unsafe { (*task).syscall_dispatch.selector = ptr::null_mut() };
    // SAFETY: The pointer came from `Arc::into_raw` in `enter`, and the selector that held it is gone: taken back once.
    let guest = unsafe { Arc::from_raw(guest.as_ptr().cast_const()) };
    guest.sandbox.forget(Arc::as_ptr(&guest));
}
