// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A sandbox as the host sees it: one open file of the device, its carriers, and how far its life is.
//!
//! Owns: the list of carriers, the [`Phase`]. Not here: processes and files of the guest (the shim), requests (`device`).
//! Invariants: what is in the list has a live task (`carrier`); a phase goes forward, and back only from `Starting` when the program
//! cannot be loaded; once `ended` is set no carrier begins.
//! Locks: `phase` (a mutex), and after it `terminal`, before everything of the library OS; `members` is a spinlock, taken in the probes, and SIGKILL is
//! sent under it.

use crate::carrier::Guest;
use crate::hardware::engine::{Engine, Lease};
use crate::hardware::stub;
use crate::host::LinuxKernel;
use crate::mm::space::Space;
use crate::rest::{self, Crew, Seat};
use crate::sys;
use alloc::sync::Arc as Shared;
use kernel::prelude::*;
use kernel::sync::{Arc, CondVar, Mutex, SetOnce, SpinLock};
use litebox_core::tty::pair::TerminalFile;
use litebox_ioctl_abi::Ended;
use litebox_shim_linux::launch::Builder;
use litebox_shim_linux::task::Process;

/// How far a sandbox's life is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing was said yet.
    New,
    /// It is being described.
    Described(Builder<LinuxKernel>),
    /// Its first process is being loaded.
    Starting,
    /// Its first process runs.
    Running(Shared<Process<LinuxKernel>>),
    /// Its first process has ended.
    Ended(Ended),
}

/// A pointer to a guest in its sandbox's list.
struct Member(*const Guest);

// SAFETY: Followed only under the list's lock, while the guest is alive by the list's invariant.
unsafe impl Send for Member {}

/// The carriers of a sandbox.
struct Members {
    ended: bool,
    guests: KVec<Member>,
    /// Those at rest that have not been promised a guest.
    seats: KVec<Arc<Seat>>,
    /// How many rest as threads and as processes, or are about to; no more than `seats` has room for.
    resting: [usize; 2],
}

impl Members {
    /// How many rest as `kind` does.
    fn resting(&mut self, is_process: bool) -> &mut usize {
        let [threads, processes] = &mut self.resting;
        if is_process { processes } else { threads }
    }

    /// Takes the seat at `at` out.
    fn take(&mut self, at: usize) -> Option<Arc<Seat>> {
        let seat = self.seats.get(at)?.clone();
        let last = self.seats.pop()?;
        if let Some(slot) = self.seats.get_mut(at) {
            *slot = last;
        }
        let count = self.resting(seat.is_process());
        *count = count.saturating_sub(1);
        Some(seat)
    }
}

/// What is left of a host process's guests when one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Whether it was the last one.
    pub(crate) is_last: bool,
    /// Whether its carrier may rest; there is room then until it does, or [`Sandbox::stay`] says that it will not.
    pub(crate) may_rest: bool,
}

/// One open file of the device.
#[pin_data]
pub(crate) struct Sandbox {
    #[pin]
    members: SpinLock<Members>,
    /// See [`Phase`].
    #[pin]
    pub(crate) phase: Mutex<Phase>,
    /// Notified when the phase becomes [`Phase::Ended`], or goes back because a program could not be loaded.
    #[pin]
    pub(crate) over: CondVar,
    /// The guest's terminal, as whoever holds the device has it: made once, before the program runs.
    #[pin]
    terminal: Mutex<Option<Shared<TerminalFile<LinuxKernel>>>>,
    /// The processors' virtualisation, if its guests are hardware guests.
    lease: SetOnce<Lease>,
}

impl Sandbox {
    /// An empty sandbox.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let seats = KVec::with_capacity(rest::THREADS_MOST.saturating_add(rest::PROCESSES_MOST), GFP_KERNEL_ACCOUNT)?;
        Arc::pin_init(
            pin_init!(Self {
                members <- kernel::new_spinlock!(
                    Members { ended: false, guests: KVec::new(), seats, resting: [0; 2] },
                    "litebox_members"
                ),
                phase <- kernel::new_mutex!(Phase::New, "litebox_phase"),
                over <- kernel::new_condvar!("litebox_over"),
                terminal <- kernel::new_mutex!(None, "litebox_terminal"),
                lease: SetOnce::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The master of the guest's terminal.
    ///
    /// # Errors
    /// ENXIO: it has none.
    pub(crate) fn terminal(&self) -> Result<Shared<TerminalFile<LinuxKernel>>> {
        self.terminal.lock().clone().ok_or(ENXIO)
    }

    pub(crate) fn set_terminal(&self, master: Shared<TerminalFile<LinuxKernel>>) {
        *self.terminal.lock() = Some(master);
    }

    /// Makes its guests hardware guests; it has none yet.
    pub(crate) fn use_hardware(&self, lease: Lease) {
        // The first stays; another is given back.
        let _first = self.lease.populate(lease);
    }

    /// What its guests' virtual processors run on, if they have such.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.lease.as_ref().and_then(Lease::engine)
    }

    /// Maps the page tables of one of its guests over the current task's user half.
    ///
    /// # Errors
    /// Those of [`Space::replace_current`].
    pub(crate) fn show(&self, space: &Space) -> Result {
        space.replace_current()?;
        self.engine().map_or(Ok(()), |engine| stub::show(engine, space))
    }

    /// Puts a guest into the list.
    ///
    /// # Errors
    /// EPIPE if the sandbox has ended, ENOMEM.
    pub(crate) fn remember(&self, guest: &Guest) -> Result {
        let mut members = self.members.lock();
        if members.ended {
            return Err(EPIPE);
        }
        members.guests.push(Member(guest), GFP_ATOMIC)?;
        guest.join_crew();
        Ok(())
    }

    /// Puts `guest` into the place of `old`, which has ended.
    ///
    /// # Errors
    /// EPIPE if the sandbox has ended.
    pub(crate) fn change(&self, old: *const Guest, guest: &Guest) -> Result {
        let mut members = self.members.lock();
        let is_old = |member: &&mut Member| core::ptr::eq(member.0, old);
        if members.ended {
            return Err(EPIPE);
        }
        members.guests.iter_mut().find(is_old).ok_or(EPIPE)?.0 = guest;
        guest.join_crew();
        Ok(())
    }

    /// Notes that `guest` has ended, though its carrier has not; says whether that may rest. It wants to as a thread if that has others
    /// besides it, `if_others`, and as a process otherwise, `if_last`.
    pub(crate) fn leave(&self, guest: &Guest, if_others: bool, if_last: bool) -> Left {
        let mut members = self.members.lock();
        let is_last = guest.leave_crew();
        let (wants, most) = if is_last { (if_last, rest::PROCESSES_MOST) } else { (if_others, rest::THREADS_MOST) };
        let ended = members.ended;
        let count = members.resting(is_last);
        let may_rest = wants && !ended && *count < most;
        if may_rest {
            *count = count.saturating_add(1);
        }
        Left { is_last, may_rest }
    }

    /// The carrier that was to rest does not.
    pub(crate) fn stay(&self, is_process: bool) {
        let mut members = self.members.lock();
        let count = members.resting(is_process);
        *count = count.saturating_sub(1);
    }

    /// Puts a carrier that may rest into the list of those that do.
    ///
    /// # Errors
    /// EPIPE if the sandbox has ended.
    pub(crate) fn seat(&self, seat: Arc<Seat>) -> Result {
        let mut members = self.members.lock();
        if members.ended {
            return Err(EPIPE);
        }
        // There is room: `resting` sees to it.
        members.seats.push_within_capacity(seat).map_err(|_full| ENOMEM)
    }

    /// Takes a carrier at rest for a guest: of `crew`, or for another process.
    pub(crate) fn take_seat(&self, crew: Option<&Arc<Crew>>, fpu_bytes: usize) -> Option<Arc<Seat>> {
        let mut members = self.members.lock();
        let at = members.seats.iter().rposition(|seat| seat.fits(crew, fpu_bytes))?;
        members.take(at)
    }

    /// Puts one back that was taken.
    ///
    /// # Errors
    /// EPIPE if the sandbox has ended, ENOMEM if too many rest by now.
    pub(crate) fn return_seat(&self, seat: Arc<Seat>) -> Result {
        let mut members = self.members.lock();
        if members.ended {
            return Err(EPIPE);
        }
        if *members.resting(true) >= rest::PROCESSES_MOST {
            return Err(ENOMEM);
        }
        members.seats.push_within_capacity(seat).map_err(|_full| ENOMEM)?;
        let count = members.resting(true);
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Whether a carrier rests that may be good for that; another task may be faster.
    pub(crate) fn has_seat(&self, crew: Option<&Arc<Crew>>) -> bool {
        self.members.lock().seats.iter().any(|seat| seat.is_for(crew))
    }

    /// Takes the seat of a carrier that is killed out of the list; false if it has been promised a guest.
    pub(crate) fn stand_up(&self, seat: &Arc<Seat>) -> bool {
        let mut members = self.members.lock();
        let at = members.seats.iter().position(|other| Arc::ptr_eq(other, seat));
        let taken = at.and_then(|at| members.take(at));
        drop(members);
        taken.is_some()
    }

    /// Takes a guest off the list.
    pub(crate) fn forget(&self, guest: &Guest) {
        let mut members = self.members.lock();
        guest.leave_crew();
        let at = members.guests.iter().position(|member| core::ptr::eq(member.0, guest));
        let Some(at) = at else { return };
        // Order does not matter; the last one takes the place.
        if let Some(last) = members.guests.pop() {
            if let Some(slot) = members.guests.get_mut(at) {
                *slot = last;
            }
        }
    }

    /// Ends every guest, and lets no other begin. The carriers go on their own; this does not wait.
    pub(crate) fn end(&self) {
        let mut members = self.members.lock();
        members.ended = true;
        for member in members.guests.iter() {
            // SAFETY: What is in the list is alive, and `members` is held.
            let task = unsafe { (*member.0).task() };
            // SAFETY: A listed guest's task has not passed its exit probe, which takes this lock: it is alive. Signals may be sent
            // with interrupts on or off.
            unsafe { sys::send_sig(sys::SIGKILL as i32, task, 1) };
        }
    }

    /// Notes how the first process ended, and ends what is left.
    pub(crate) fn set_ended(&self, ended: Ended) {
        self.end();
        let before = {
            let mut phase = self.phase.lock();
            core::mem::replace(&mut *phase, Phase::Ended(ended))
        };
        self.over.notify_all();
        if let Ok(terminal) = self.terminal() {
            terminal.pair().end();
        }
        // May close files, so without the lock.
        drop(before);
    }
}
