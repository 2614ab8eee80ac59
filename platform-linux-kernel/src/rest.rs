// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Carriers at rest: host threads whose guest has ended, and that wait for the next one instead of ending too.
//!
//! Making a host thread and ending it costs more than all else of a guest's clone(2) and exit(2); waking one that is there costs a
//! context switch. A carrier rests in one of two ways: as a thread, in a host process that still has guests, for another
//! thread of those; or as a process, alone with its empty page tables, for a child of any guest of the sandbox.
//! Invariants:
//! - A carrier at rest is in its sandbox's list of guests by the guest that has ended, so the sandbox's end kills it as well. Its
//!   selector and its work bit are as they were, and its ip and sp are 0: were it to run, it would die.
//! - Who takes a seat out of the sandbox's list, under its lock, owes it a guest; a carrier that is killed and does not find its seat
//!   there waits for that guest, and drops it.
//! - What the host's clone would have given the new thread of its maker's is given here: registers, vector state, bases, protection
//!   keys, and only a seat is taken whose processors are the maker's. The same holds for what a guest can change by itself.
//! - At most [`THREADS_MOST`] and [`PROCESSES_MOST`] rest in a sandbox. The first process's do not: the sandbox ends with it.
//! Locks: the sandbox's list, a spinlock. A carrier sleeps in a work of its task: other works, which close the host's files, come first.
//! Sources: Linux kernel/fork.c copy_process, kernel/task_work.c task_work_run.

use crate::bases::{self, UserBase};
use crate::carrier::{self, Current, Guest};
use crate::host::{LinuxKernel, rest_on};
use crate::mm::space::Kept;
use crate::sandbox::Sandbox;
use crate::trap::clone::Start;
use crate::trap::signal;
use crate::{fpu, sys};
use alloc::sync::Arc as Shared;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, SetOnce};
use litebox_core::mm::AddressSpace;
use litebox_core::platform::{Wait, WaitMode};
use litebox_shim_linux::signal::Cpu;
use litebox_shim_linux::task::End;

/// How many carriers rest as threads, in all processes of a sandbox.
pub(crate) const THREADS_MOST: usize = 8;
/// How many rest as processes.
pub(crate) const PROCESSES_MOST: usize = 4;

/// How often a carrier lets other works of its task go first; each may queue another.
const TURNS: u32 = 8;

/// The guests of one host process. Changed under the sandbox's lock.
#[derive(Debug)]
pub(crate) struct Crew {
    /// Whether the sandbox ends with it.
    is_first: bool,
    count: AtomicUsize,
}

impl Crew {
    /// That of a new process.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(is_first: bool) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { is_first, count: AtomicUsize::new(0) }, GFP_KERNEL_ACCOUNT)?)
    }

    /// One more.
    pub(crate) fn join(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// One less; says whether nobody is left.
    pub(crate) fn leave(&self) -> bool {
        self.count.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Whether there is one guest.
    pub(crate) fn is_alone(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 1
    }

    /// Whether there is nobody.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }
}

/// Where a carrier rests.
pub(crate) struct Seat {
    /// Whose thread it waits to be; none if it waits for a process.
    crew: Option<Arc<Crew>>,
    /// The page tables that a process here has.
    kept: SetOnce<Kept>,
    task: *mut sys::task_struct,
    /// Bytes of its vector state's image.
    fpu_bytes: usize,
    /// How often it has let other works go first; its carrier's own.
    turns: AtomicU32,
    /// 0 until somebody has decided about it.
    word: AtomicU32,
    /// Its next guest.
    start: AtomicPtr<Start>,
}

// SAFETY: The task is asked for its processors while the seat is in its sandbox's list, under the lock that its carrier takes before it
// ends; the start is handed over by an atomic exchange. The rest is Send and Sync.
unsafe impl Send for Seat {}
// SAFETY: As above.
unsafe impl Sync for Seat {}

impl Seat {
    fn new(crew: Option<Arc<Crew>>) -> Result<Arc<Self>> {
        let seat = Self {
            crew,
            kept: SetOnce::new(),
            task: carrier::task(),
            fpu_bytes: fpu::image_bytes(),
            turns: AtomicU32::new(0),
            word: AtomicU32::new(0),
            start: AtomicPtr::new(ptr::null_mut()),
        };
        Ok(Arc::new(seat, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whether its carrier waits to be a thread of `crew`, or a process.
    pub(crate) fn is_for(&self, crew: Option<&Arc<Crew>>) -> bool {
        match (&self.crew, crew) {
            (Some(own), Some(crew)) => Arc::ptr_eq(own, crew),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether it does and can go on where the current carrier makes a child; the sandbox's lock is held.
    pub(crate) fn fits(&self, crew: Option<&Arc<Crew>>, fpu_bytes: usize) -> bool {
        // SAFETY: The task is alive: see above.
        self.is_for(crew) && self.fpu_bytes == fpu_bytes && unsafe { sys::litebox_same_processors(self.task, carrier::task()) }
    }

    /// Whether it waits for a process.
    pub(crate) fn is_process(&self) -> bool {
        self.crew.is_none()
    }

    /// Gives it the guest that it is owed: it was in its sandbox's list, and the caller has taken it out.
    pub(crate) fn give(&self, start: KBox<Start>) {
        self.start.store(KBox::into_raw(start), Ordering::Relaxed);
        self.decide();
    }

    /// Has its carrier go on: it has got a guest, or none, and then it ends.
    fn decide(&self) {
        self.word.store(1, Ordering::Release);
        LinuxKernel::wake(&self.word);
    }

    fn is_decided(&self) -> bool {
        self.word.load(Ordering::Acquire) != 0
    }

    /// The guest that it has got.
    fn take(&self) -> Option<KBox<Start>> {
        let start = self.start.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: A box that `give` left here, taken back once.
        (!start.is_null()).then(|| unsafe { KBox::from_raw(start) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Vector state, segment bases, protection keys of a guest, and what the host knows of its restartable sequences.
pub(crate) struct Processor {
    vectors: fpu::Copy,
    sequences: sys::rseq_data,
    bases: [Option<UserBase>; 2],
    keys: u32,
}

impl Processor {
    /// Those of the current guest; none if they hold what another task cannot simply be given.
    pub(crate) fn of_current() -> Option<Self> {
        let bases = [UserBase::new(bases::fs()), UserBase::new(bases::gs())];
        // SAFETY: Reads a register of the current task's.
        let keys = unsafe { sys::litebox_protection_keys() };
        // SAFETY: The current task's own, outside of its way to ring 3. A barrier(2) of another task may set a bit meanwhile that asks
        // for an update, and an update is made anyway.
        let sequences = unsafe { (&raw const (*carrier::task()).rseq).read_volatile() };
        Some(Self { vectors: fpu::copy()?, sequences, bases, keys })
    }

    pub(crate) fn image_bytes(&self) -> usize {
        self.vectors.image_bytes()
    }

    /// Gives them to the current guest, whose vector state is as large.
    pub(crate) fn set(&self) {
        fpu::set(&self.vectors);
        let [fs, gs] = self.bases;
        fs.map(bases::set_fs);
        gs.map(bases::set_gs);
        // SAFETY: A register of the current task's that may have any value.
        unsafe { sys::litebox_set_protection_keys(self.keys) };
        // SAFETY: What a task had whose memory, or a copy of it, this one has now.
        unsafe { sys::litebox_resume_rseq(&raw const self.sequences) };
    }
}

/// A carrier at rest that has been taken for a process that is still to come.
pub(crate) struct Promised(Option<Arc<Seat>>);

impl Promised {
    /// Takes one for a child of the current guest.
    pub(crate) fn take(maker: &Current, fpu_bytes: usize) -> Option<Self> {
        maker.sandbox().take_seat(None, fpu_bytes).map(|seat| Self(Some(seat)))
    }

    /// Gives it its guest; without one before, or a second time, that is dropped. It ends if it cannot have the guest's memory.
    pub(crate) fn give(&mut self, start: KBox<Start>) {
        if let Some(seat) = self.0.take() {
            let fits = seat.kept.as_ref().is_some_and(|kept| start.takes_over(kept));
            if fits { seat.give(start) } else { seat.decide() }
        }
    }

    /// Lets it rest on, if it has got no guest.
    pub(crate) fn put_back(mut self, sandbox: &Sandbox) {
        if let Some(seat) = self.0.take() {
            if sandbox.return_seat(seat.clone()).is_err() {
                seat.decide();
            } else {
                // It may have been killed meanwhile, and wait for a guest without listening.
                LinuxKernel::wake(&seat.word);
            }
        }
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        if let Some(seat) = self.0.take() {
            seat.decide();
        }
    }
}

/// A carrier at rest for a child of the current guest, a thread or a process, and what to give it.
pub(crate) fn take_seat(guest: &Current, thread: bool, child: &Guest) -> Option<(Arc<Seat>, Processor)> {
    let crew = thread.then(|| guest.crew());
    let sandbox = guest.sandbox();
    // vfork's child has memory that somebody maps already.
    if !sandbox.has_seat(crew) || !(thread || child.has_new_space()) {
        return None;
    }
    let processor = Processor::of_current()?;
    let seat = sandbox.take_seat(crew, processor.image_bytes())?;
    if !thread && !seat.kept.as_ref().is_some_and(|kept| child.takes_over(kept)) {
        // No room in the quota for its page tables. It is a process, so it ends alone.
        seat.decide();
        return None;
    }
    Some((seat, processor))
}

/// What a carrier is to do when its guest has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Go on to ring 3, and rest on the way.
    Rest,
    /// End this host thread.
    EndThread,
    /// End the host process.
    EndAll,
}

/// What the current carrier is to do, whose guest has ended by a system call.
pub(crate) fn after(guest: &Current, end: End) -> Then {
    let is_thread = matches!(end, End::Task(_));
    // As in `lend`.
    let may_rest = !guest.is_hardware();
    // SAFETY: The current task's signal structure. If its thread is alone, others come only by itself.
    let is_alone = unsafe { (*(*carrier::task()).signal).nr_threads == 1 };
    let left = guest.sandbox().leave(guest, may_rest && is_thread, may_rest && is_alone && !guest.crew().is_first);
    if left.may_rest {
        // All that can fail, before the guest's end is made known.
        let seat = Seat::new((!left.is_last).then(|| guest.crew().clone()));
        if let Ok(seat) = seat {
            guest.note_seat(Some(seat));
            if guest.queue_rest() {
                return Then::Rest;
            }
            guest.note_seat(None);
        }
        guest.sandbox().stay(left.is_last);
    }
    if is_thread && !left.is_last { Then::EndThread } else { Then::EndAll }
}

/// The way of a carrier to its rest, and to its next guest.
///
/// # Safety
/// Called as the task work that [`Current::queue_rest`] queued.
pub(crate) unsafe extern "C" fn come_to_rest(head: *mut sys::callback_head) {
    // SAFETY: Contract: the work's own reference.
    let guest = unsafe { Guest::of_rest_work(head) };
    let Some(current) = carrier::current() else {
        // The carrier was killed meanwhile, and its last work ends the guest.
        return;
    };
    let Some(seat) = current.seat() else { return };
    let turns = seat.turns.fetch_add(1, Ordering::Relaxed);
    if turns == 0 {
        // Queued before anything else, so that it runs after what the end of the guest queues: the host's files are closed by works,
        // of which the last queued is the first run.
        if current.queue_rest() {
            // The host must not write to what was the guest's memory.
            LinuxKernel::watch_sequences(None);
            let mm = carrier::end(&current);
            if let (true, Some(kept)) = (seat.is_process(), mm.and_then(keep)) {
                let _new = seat.kept.populate(kept);
            }
        }
        return;
    }
    if turns < TURNS && carrier::has_works() && current.queue_rest() {
        return;
    }
    current.note_seat(None);
    let start = wait(&current, &seat);
    let is_process = seat.is_process();
    // The next guest's may rest again.
    drop((seat, guest));
    match start {
        Some(start) => go_on(current, &start),
        // The last guest of its process, for which there is no other. A thread is given one, or its process or the sandbox is killed.
        None if is_process => carrier::kill_current(),
        None => {}
    }
}

/// Waits at `seat` for a guest; none if the carrier is killed, or is to end.
fn wait(current: &Current, seat: &Arc<Seat>) -> Option<KBox<Start>> {
    let sandbox = current.sandbox();
    let has_tables = !seat.is_process() || seat.kept.as_ref().is_some();
    if !has_tables || sandbox.seat(seat.clone()).is_err() {
        sandbox.stay(seat.is_process());
        return None;
    }
    while !seat.is_decided() {
        rest_on(&seat.word);
        if carrier::kill_pending() && !seat.is_decided() {
            if sandbox.stand_up(seat) {
                return None;
            }
            // Somebody has taken the seat, and is about to decide.
            let _woken = LinuxKernel::wait(&seat.word, 0, WaitMode::Uninterruptible, None);
        }
    }
    seat.take()
}

/// Becomes the carrier of the guest that `start` is about.
fn go_on(old: Current, start: &Start) {
    if carrier::change_guest(old, start.guest.clone()).is_err() {
        // The sandbox has ended, and is being killed.
        carrier::kill_current();
        return;
    }
    if let Some(current) = carrier::current() {
        start.set_registers();
        signal::begin(current);
    }
}

/// What is left of the memory of a guest that has ended: its page tables, emptied, unless somebody else has it as well.
fn keep(mm: Shared<AddressSpace<LinuxKernel>>) -> Option<Kept> {
    let mm = Shared::into_inner(mm)?;
    Kept::of(&mm)
}
