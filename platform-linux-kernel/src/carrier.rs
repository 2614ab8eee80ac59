// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Carriers: host threads that guests run on.
//!
//! Owns: [`Guest`], of which each carrier holds one reference in its task.
//! Invariants:
//! - A task's `syscall_dispatch.selector` is a kernel address exactly while the task is a carrier; it is then the pointer of an
//!   `Arc<Guest>` that the task owns, and `Guest::task` is that task. (It is of others, too: see `rest`, `lend`.) User space cannot put a kernel address there (prctl
//!   and ptrace check access_ok), and `on_fork` clears what a fork copies.
//! - Such a task has its user-dispatch work bit on, until `on_exit`. The selector's first byte is [`BLOCK`]: were the hook gone, the
//!   kernel itself would raise SIGSYS. It fails closed. So it does without the probe of births: a fork copies the selector but not
//!   the work bit, and who lacks the bit is no carrier whatever its selector says ([`is_carrier`]).
//! - A guest is in its sandbox's list from `enter` to `on_exit`. `north` and `mm` are the carrier's own.
//! - Other tasks reach a guest by its [`Handle`], which the library OS gives up before the guest is dropped.
//! - Whoever has a guest holds its space's file, and so the module.
//! Locks: the sandbox's list, a spinlock, in the probes. The probes do not sleep; a guest is dropped in a task work.

use crate::hardware::vcpu::Vcpu;
use crate::host::LinuxKernel;
use crate::lend::Lent;
use crate::mm::space::{Kept, Space};
use crate::rest::{self, Crew, Seat};
use crate::sandbox::Sandbox;
use crate::sys;
use crate::trap::clone;
use crate::trap::signal::{self, mask};
use alloc::sync::Arc as Shared;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::num::NonZeroU32;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use litebox_core::mm::AddressSpace;
use litebox_ioctl_abi::Ended;
use litebox_shim_linux::task::{End, Task};

/// What a signal is that has no number.
const KILLED: NonZeroU32 = NonZeroU32::new(sys::SIGKILL).unwrap();
/// SYSCALL_DISPATCH_FILTER_BLOCK of linux/prctl.h.
const BLOCK: u8 = 1;
/// The work bit in `thread_info::syscall_work`.
const USER_DISPATCH: usize = 1 << sys::WORK_BIT_USER_DISPATCH;

/// One guest thread.
#[repr(C)]
pub(crate) struct Guest {
    /// First, because the kernel reads the selector's first byte.
    block: u8,
    /// Whether `kick_work` is queued.
    kicked: AtomicBool,
    task: AtomicPtr<sys::task_struct>,
    /// The clone under way, if any; set and cleared by the carrier itself.
    pub(crate) request: AtomicPtr<clone::Request>,
    sandbox: Arc<Sandbox>,
    /// The guests of its host process.
    crew: Arc<Crew>,
    /// Whether it counts among those; under its sandbox's lock.
    in_crew: AtomicBool,
    /// What the library OS knows of it; the carrier's own, and none once the guest has ended.
    north: UnsafeCell<Option<North>>,
    /// Its virtual processor, if it is a hardware guest; the carrier's own.
    vcpu: Option<KBox<Vcpu>>,
    /// What its maker, whose carrier this is, goes on with; the carrier's own.
    lent: UnsafeCell<Option<KBox<Lent>>>,
    /// Where the carrier is to rest, from the guest's end until it does; the carrier's own.
    seat: UnsafeCell<Option<Arc<Seat>>>,
    farewell: UnsafeCell<sys::callback_head>,
    rest_work: UnsafeCell<sys::callback_head>,
    kick_work: UnsafeCell<sys::callback_head>,
    /// What its page tables show; the carrier's own, and none once the guest has ended.
    ///
    /// Last: dropping it may drop the module's last reference, though never before this task has left the module's text.
    mm: UnsafeCell<Option<Shared<AddressSpace<LinuxKernel>>>>,
}

/// A guest, as other tasks reach it. The library OS has it from the carrier's first act to its last.
#[derive(Debug)]
pub(crate) struct Handle(NonNull<Guest>);

// SAFETY: All that is done through it is `kick`, which any task may call.
unsafe impl Send for Handle {}
// SAFETY: As above.
unsafe impl Sync for Handle {}

impl Handle {
    /// The carrier, which lives as long as the library OS has the handle: null only for one whose last work could not be queued.
    pub(crate) fn task(&self) -> *mut sys::task_struct {
        // SAFETY: As in `kick`.
        unsafe { self.0.as_ref() }.task()
    }

    /// Makes the carrier look after its task.
    pub(crate) fn kick(&self) {
        // SAFETY: The library OS gives a handle up in `Task::exit`, before the guest is dropped (`say_farewell`), and waits for kicks.
        unsafe { self.0.as_ref() }.kick();
    }
}

/// The library OS's side of a guest thread.
pub(crate) struct North {
    /// The thread.
    pub(crate) task: Task<LinuxKernel>,
    /// How it ended, once it has.
    pub(crate) end: Option<End>,
}

// SAFETY: The task pointer is an address for comparison and for signals under the sandbox's lock; `north` is accessed by the
// carrier alone; a work is written before it is queued, and is queued once at a time. The rest is Send and Sync.
unsafe impl Send for Guest {}
// SAFETY: As above.
unsafe impl Sync for Guest {}

impl Guest {
    /// A guest thread without a carrier.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(sandbox: Arc<Sandbox>, crew: Arc<Crew>, task: Task<LinuxKernel>) -> Result<Arc<Self>> {
        let vcpu = sandbox.engine().map(|engine| KBox::new(Vcpu::new(engine)?, GFP_KERNEL_ACCOUNT).map_err(Error::from));
        let vcpu = vcpu.transpose()?;
        let guest = Self {
            block: BLOCK,
            kicked: AtomicBool::new(false),
            task: AtomicPtr::new(ptr::null_mut()),
            request: AtomicPtr::new(ptr::null_mut()),
            sandbox,
            crew,
            in_crew: AtomicBool::new(false),
            mm: UnsafeCell::new(Some(task.mm().clone())),
            north: UnsafeCell::new(Some(North { task, end: None })),
            vcpu,
            lent: UnsafeCell::new(None),
            seat: UnsafeCell::new(None),
            rest_work: UnsafeCell::new(sys::callback_head { next: ptr::null_mut(), func: Some(rest::come_to_rest) }),
            farewell: UnsafeCell::new(sys::callback_head { next: ptr::null_mut(), func: Some(say_farewell) }),
            kick_work: UnsafeCell::new(sys::callback_head { next: ptr::null_mut(), func: Some(after_kick) }),
        };
        Ok(Arc::new(guest, GFP_KERNEL_ACCOUNT)?)
    }

    /// Its sandbox.
    pub(crate) fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// Asks the memory of a guest that has not begun.
    fn before_begin<R>(&self, ask: impl FnOnce(&AddressSpace<LinuxKernel>) -> R) -> Option<R> {
        // SAFETY: Written by its carrier alone; it has none yet, and its maker, which this is, gives it one later.
        unsafe { &*self.mm.get() }.as_deref().map(ask)
    }

    /// Whether no carrier has had the page tables of this guest, which has not begun.
    pub(crate) fn has_new_space(&self) -> bool {
        self.before_begin(|mm| mm.host().is_new()).unwrap_or(false)
    }

    /// Makes page tables that are `kept` those of this guest, which has not begun; false if that cannot be.
    pub(crate) fn takes_over(&self, kept: &Kept) -> bool {
        self.before_begin(|mm| mm.host().take_over(kept, mm.quota())).unwrap_or(false)
    }

    /// Makes the file of this guest's page tables, if there is none: it has not begun.
    ///
    /// # Errors
    /// ENOMEM, ENFILE.
    pub(crate) fn make_space(&self) -> Result {
        self.before_begin(|mm| mm.host().file().map(|_file| ())).unwrap_or(Err(ESRCH))
    }

    /// Its virtual processor.
    pub(crate) fn vcpu(&self) -> Option<&Vcpu> {
        self.vcpu.as_deref()
    }

    /// The guests of its host process.
    pub(crate) fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Counts it among its crew; the sandbox's lock is held.
    pub(crate) fn join_crew(&self) {
        self.in_crew.store(true, Ordering::Relaxed);
        self.crew.join();
    }

    /// Does so no more, if it did; says whether nobody is left. The sandbox's lock is held.
    pub(crate) fn leave_crew(&self) -> bool {
        if self.in_crew.swap(false, Ordering::Relaxed) { self.crew.leave() } else { self.crew.is_empty() }
    }

    /// The guest of a work that [`Current::queue_rest`] queued, whose reference it is.
    ///
    /// # Safety
    /// `head` is such a work's, which runs; once for each time that it was queued.
    pub(crate) unsafe fn of_rest_work(head: *mut sys::callback_head) -> Arc<Self> {
        let guest = head.wrapping_byte_sub(offset_of!(Self, rest_work)).cast::<Self>();
        // SAFETY: Contract; `queue_rest` left the reference.
        unsafe { Arc::from_raw(guest.cast_const()) }
    }

    /// Its carrier.
    pub(crate) fn task(&self) -> *mut sys::task_struct {
        self.task.load(Ordering::Relaxed)
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
        self.sandbox.remember(&self)?;
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

    /// Interrupts the carrier's sleep, or its run in ring 3, so that it looks at its signals.
    fn kick(&self) {
        if self.task().is_null() || self.kicked.swap(true, Ordering::AcqRel) {
            return;
        }
        // SAFETY: Guests live in `Arc`s only, and this one is alive (see above). The queued work owns the reference.
        let queued: Arc<Self> = unsafe { ArcBorrow::from_raw(ptr::from_ref(self)) }.into();
        // SAFETY: The task is alive, as it has not dropped its guest; the work is in the guest, which the reference keeps.
        if unsafe { sys::task_work_add(self.task(), self.kick_work.get(), sys::task_work_notify_mode_TWA_SIGNAL) } == 0 {
            let _owned_by_the_work = Arc::into_raw(queued);
        }
    }
}

/// The guest of the current task, as long as this task does not return to its own code.
pub(crate) struct Current(NonNull<Guest>, PhantomData<*mut ()>);

impl Current {
    /// The guest that the current task's selector points to.
    ///
    /// # Safety
    /// `guest` is the selector's value, and a kernel address.
    pub(crate) unsafe fn of_selector(guest: NonNull<Guest>) -> Self {
        Self(guest, PhantomData)
    }

    /// Makes it what the current task's selector points to; `reference`, of it, is the selector's then. That of the one before is the
    /// caller's.
    fn selected(self, reference: Arc<Guest>) -> Self {
        let selector = Arc::into_raw(reference).cast_mut();
        // SAFETY: Nobody else writes the current task's settings. The work bit is on, and stays.
        unsafe { (*task()).syscall_dispatch.selector = selector.cast() };
        self
    }

    /// A reference of its own.
    pub(crate) fn reference(&self) -> Arc<Guest> {
        // SAFETY: The pointer came from `Arc::into_raw` in `enter`, and the task's reference outlives the borrow.
        unsafe { ArcBorrow::from_raw(self.0.as_ptr().cast_const()) }.into()
    }

    /// Its memory. The borrow ends before [`Current::replace_mm`].
    pub(crate) fn mm(&self) -> Option<&AddressSpace<LinuxKernel>> {
        // SAFETY: Written by the carrier alone, which this is, in `replace_mm` and at its end.
        unsafe { &*self.mm.get() }.as_deref()
    }

    /// Its page tables.
    pub(crate) fn space(&self) -> Option<&Space> {
        self.mm().map(AddressSpace::host)
    }

    /// Shows `mm` to the guest instead of what it had; the carrier's user half is empty if that fails.
    ///
    /// # Errors
    /// Those of [`Space::replace_current`].
    pub(crate) fn replace_mm(&mut self, mm: Shared<AddressSpace<LinuxKernel>>) -> Result {
        // SAFETY: The carrier alone uses it, and `self` is borrowed mutably: nobody holds what `mm` gave.
        let old = unsafe { &mut *self.mm.get() }.replace(mm);
        let (old, kept) = match old.map(Shared::try_unwrap) {
            Some(Ok(old)) => {
                let kept = Kept::of(&old);
                // Its entries go with it, and then its pages.
                drop(old);
                (None, kept)
            }
            Some(Err(shared)) => (Some(shared), None),
            None => (None, None),
        };
        self.reset_vcpu();
        let mm = self.mm().ok_or(ESRCH)?;
        if kept.is_some_and(|kept| mm.host().take_over(&kept, mm.quota())) {
            return Ok(());
        }
        // The host's mapping keeps the old space's file by itself. The old memory goes when its last table is gone.
        let result = self.show_space();
        drop(old);
        result
    }

    /// What is left of a guest that has ended: its library OS's side and its memory, which nobody asks for any more.
    pub(crate) fn part(&self) -> (Option<North>, Option<Shared<AddressSpace<LinuxKernel>>>) {
        // SAFETY: The carrier itself, on its way to rest or to its end: neither a hook nor a fault of this guest comes any more.
        unsafe { ((*self.north.get()).take(), (*self.mm.get()).take()) }
    }

    /// Whether the guest has ended, and its carrier is about to rest or to end.
    pub(crate) fn is_over(&self) -> bool {
        // SAFETY: As in `with_north`, for the length of this statement.
        unsafe { (*self.north.get()).is_none() }
    }

    /// Whether its carrier is its maker's.
    pub(crate) fn is_lent(&self) -> bool {
        // SAFETY: The carrier alone uses it, for the length of this statement.
        unsafe { (*self.lent.get()).is_some() }
    }

    /// What its maker goes on with, if its carrier is that one's.
    pub(crate) fn take_lent(&self) -> Option<KBox<Lent>> {
        // SAFETY: As above.
        unsafe { (*self.lent.get()).take() }
    }

    /// Notes where it is to rest, or that it has come to rest; gives what was noted before.
    pub(crate) fn note_seat(&self, seat: Option<Arc<Seat>>) -> Option<Arc<Seat>> {
        // SAFETY: The carrier alone uses it, for the length of this statement.
        core::mem::replace(unsafe { &mut *self.seat.get() }, seat)
    }

    /// Where it is to rest.
    pub(crate) fn seat(&self) -> Option<Arc<Seat>> {
        // SAFETY: As above.
        unsafe { (*self.seat.get()).clone() }
    }

    /// Has [`rest::come_to_rest`] called on its way to ring 3; false if it ends.
    pub(crate) fn queue_rest(&self) -> bool {
        let reference = Arc::into_raw(self.reference());
        // SAFETY: The current task; the work lies in the guest, which the reference keeps, and is queued once at a time.
        let queued = unsafe { sys::task_work_add(task(), self.rest_work.get(), sys::task_work_notify_mode_TWA_RESUME) == 0 };
        if !queued {
            // SAFETY: Not queued, so still ours.
            drop(unsafe { Arc::from_raw(reference) });
        }
        queued
    }

    /// How other tasks reach it.
    pub(crate) fn handle(&self) -> Handle {
        Handle(self.0)
    }

    /// The library OS's side of the guest, for the length of `act`, which must not ask again.
    pub(crate) fn with_north<R>(&self, act: impl FnOnce(&mut North) -> R) -> R {
        // SAFETY: Only the carrier comes here, from its hooks and works, none of which runs inside another: a fault taken in a copy to
        // or from the guest asks `mm` alone. (Works of the task do not run inside hooks.)
        let north = unsafe { (*self.north.get()).as_mut() };
        // SAFETY: None only after `part`, and then the carrier rests or dies on its way to ring 3: no instruction of the guest brings it
        // here. What else may come, signals and works, asks `is_over` first.
        act(unsafe { north.unwrap_unchecked() })
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

/// The current task. Linux: `get_current`, which is not inlined into Rust.
#[inline(always)]
pub(crate) fn task() -> *mut sys::task_struct {
    let task;
    // SAFETY: Reads a word of this processor's own; what it has of the current task does not change while that task runs.
    unsafe {
        asm!("movq %gs:const_current_task(%rip), {}", out(reg) task, options(att_syntax, pure, nomem, nostack, preserves_flags));
    };
    task
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
    // SAFETY: Contract.
    if (selector.addr() as isize) >= 0 || !unsafe { is_carrier(task) } {
        return None;
    }
    NonNull::new(selector.cast())
}

/// Whether a task with a kernel address for its selector is a carrier, and not what a carrier's fork made while no probe looked on.
///
/// # Safety
/// `task` is current, or a task that cannot exit meanwhile.
pub(crate) unsafe fn is_carrier(task: *mut sys::task_struct) -> bool {
    // SAFETY: Contract.
    unsafe { syscall_work(task) }.load(Ordering::Relaxed) & USER_DISPATCH != 0
}

/// The guest of the current task, if it is a carrier.
#[inline]
pub(crate) fn current() -> Option<Current> {
    // SAFETY: The current task is alive.
    let guest = unsafe { guest_of(task()) }?;
    // SAFETY: The value of its selector.
    Some(unsafe { Current::of_selector(guest) })
}

/// Whether the current system call came by the 32-bit entry.
#[inline]
pub(crate) fn in_compat_syscall() -> bool {
    // SAFETY: The current task's own status word, written by its own entry code.
    unsafe { (*task()).thread_info.status & sys::TS_COMPAT != 0 }
}

/// Tells the exit path that the call was dispatched: no audit, no trace, no restart.
#[inline]
pub(crate) fn mark_dispatched() {
    // SAFETY: The current task's own flag, read by its own exit path.
    unsafe { (*task()).syscall_dispatch.on_dispatch = true };
}

/// Whether works wait for the current task's way to ring 3.
pub(crate) fn has_works() -> bool {
    // SAFETY: A word of the current task; others may queue works at any time.
    !unsafe { (&raw const (*task()).task_works).read_volatile() }.is_null()
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

/// Ends the current carrier on its way to ring 3, and none of its threads: another of them runs another program.
pub(crate) fn end_thread() {
    // SAFETY: The current task, which carries a guest and is not exiting.
    unsafe { sys::litebox_end_thread() };
}

/// The current carrier is the only one left of its threads: from now on whatever ends it is no longer for one thread alone.
pub(crate) fn threads_ended() {
    // SAFETY: The current task's signal structure. The others, which set the word on their way out, have left the library OS after that.
    let word = unsafe { &raw mut (*(*task()).signal).group_exec_task };
    // SAFETY: As above; the kernel compares the word with null only, as nobody sets `notify_count`.
    unsafe { word.write_volatile(ptr::null_mut()) };
}

/// The registers that the current task entered the kernel with.
pub(crate) fn registers() -> *mut sys::pt_regs {
    // SAFETY: The current task has a kernel stack.
    unsafe { sys::litebox_pt_regs(task()) }
}

/// Makes the current task the carrier of `guest`.
///
/// # Errors
/// As [`Guest::enter`].
pub(crate) fn enter_current(guest: Arc<Guest>) -> Result {
    // SAFETY: The current task; `start::check_caller` was asked about it.
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
    // SAFETY: The current task owns a reference, the one that the selector held.
    let listed = unsafe { guest.as_ref() };
    listed.sandbox.forget(listed);
    // SAFETY: The carrier itself, in its last acts.
    if let Some(lent) = unsafe { (*listed.lent.get()).as_ref() } {
        listed.sandbox.forget(lent.maker());
    }
    // What the guest held is let go where that may sleep: the exit path runs task works after this probe (do_exit).
    // SAFETY: The current task; the work lies in the guest, whose reference passes to it.
    let queued = unsafe { sys::task_work_add(task, listed.farewell.get(), sys::task_work_notify_mode_TWA_NONE) } == 0;
    if !queued {
        listed.task.store(ptr::null_mut(), Ordering::Relaxed);
        kernel::pr_warn_once!("a guest is kept for ever: its task's works have ended already\n");
    }
}

/// The carrier's last act for its guest.
///
/// # Safety
/// Called once as the task work of a guest, whose task's reference is given up here.
unsafe extern "C" fn say_farewell(head: *mut sys::callback_head) {
    let guest = head.wrapping_byte_sub(offset_of!(Guest, farewell)).cast::<Guest>();
    // SAFETY: The pointer came from `Arc::into_raw` in `enter`; the selector that held it is gone: taken back once.
    let guest = unsafe { Arc::from_raw(guest.cast_const()) };
    // SAFETY: A guest, and the carrier itself.
    let guest = unsafe { Current::of_selector(NonNull::from(&*guest)) };
    if let Some(seat) = guest.note_seat(None) {
        guest.sandbox.stay(seat.is_process());
    }
    // The page tables are gone already; what they showed is the library OS's to keep.
    drop(end(&guest));
    if let Some(lent) = guest.take_lent() {
        let maker = KBox::into_inner(lent).into_maker();
        // SAFETY: As above, of the maker, whose only carrier this was.
        drop(end(&unsafe { Current::of_selector(NonNull::from(&*maker)) }));
    }
}

/// Ends the current guest for the library OS; gives what may be left of its memory.
pub(crate) fn end(guest: &Current) -> Option<Shared<AddressSpace<LinuxKernel>>> {
    let (north, mm) = guest.part();
    if let Some(mut north) = north {
        if let Some(end) = north.task.exit(north.end) {
            guest.sandbox.set_ended(ended(end));
        }
    }
    mm
}

/// Makes the carrier of `maker` that of `child`, which has `lent`.
///
/// # Errors
/// The maker: the sandbox has ended, or there is no memory.
pub(crate) fn lend(maker: Current, child: Arc<Guest>, lent: KBox<Lent>) -> core::result::Result<Current, Current> {
    child.task.store(task(), Ordering::Relaxed);
    // SAFETY: Nobody else has the child yet.
    unsafe { *child.lent.get() = Some(lent) };
    if child.sandbox.remember(&child).is_err() {
        // SAFETY: As above.
        drop(unsafe { (*child.lent.get()).take() });
        return Err(maker);
    }
    let child = Current(NonNull::from(&*child), PhantomData).selected(child);
    // SAFETY: The reference that the selector held; `lent` has one of its own.
    drop(unsafe { Arc::from_raw(maker.0.as_ptr().cast_const()) });
    Ok(child)
}

/// Makes the carrier that was lent to `child` that of `maker` again.
pub(crate) fn take_back(child: Current, maker: Arc<Guest>) -> Current {
    child.sandbox.forget(&child);
    let back = Current(NonNull::from(&*maker), PhantomData).selected(maker);
    // SAFETY: The reference that the selector held.
    drop(unsafe { Arc::from_raw(child.0.as_ptr().cast_const()) });
    back
}

/// Makes the current task, whose guest has ended, the carrier of `guest`.
///
/// # Errors
/// EPIPE if the sandbox has ended.
pub(crate) fn change_guest(old: Current, guest: Arc<Guest>) -> Result {
    guest.task.store(task(), Ordering::Relaxed);
    guest.sandbox.change(old.0.as_ptr(), &guest)?;
    let _current = Current(NonNull::from(&*guest), PhantomData).selected(guest);
    // SAFETY: The reference that the selector held.
    drop(unsafe { Arc::from_raw(old.0.as_ptr().cast_const()) });
    Ok(())
}

/// How the library OS says that a sandbox has ended, for its launcher.
fn ended(end: End) -> Ended {
    match end {
        End::Task(status) | End::Process(status) => Ended::Exited(status),
        End::Signal(signal) => Ended::Signalled(NonZeroU32::new(signal).unwrap_or(KILLED)),
    }
}

/// The carrier was asked to look at its signals: done here, on its way to ring 3. (A new kick is possible before the look, so none
/// is missed.)
///
/// # Safety
/// Called as the task work that `kick` queued.
unsafe extern "C" fn after_kick(head: *mut sys::callback_head) {
    let guest = head.wrapping_byte_sub(offset_of!(Guest, kick_work)).cast::<Guest>();
    // SAFETY: `kick` gave this reference to the work.
    let guest = unsafe { Arc::from_raw(guest.cast_const()) };
    guest.kicked.store(false, Ordering::Release);
    // A work that is left when a task exits runs after its exit probe; one that is queued at a guest's end, on the way to rest.
    if let Some(current) = current().filter(|current| !current.is_over()) {
        signal::look(current);
    }
}
