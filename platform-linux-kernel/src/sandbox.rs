// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A sandbox as the host sees it: one open file of the device, its carriers, and how far its life is.
//!
//! Owns: the list of carriers, the [`Phase`]. Not here: processes and files of the guest (the shim), requests (`device`).
//! Invariants: what is in the list has a live task (`carrier`); a phase goes forward, and back only from `Starting` when the program
//! cannot be loaded; once `ended` is set no carrier begins.
//! Locks: `phase` (a mutex), and after it `terminal`, before everything of the library OS; `members` is a spinlock, taken in the probes, and SIGKILL is
//! sent under it.

use crate::carrier::Guest;
use crate::host::LinuxKernel;
use crate::sys;
use alloc::sync::Arc as Shared;
use kernel::prelude::*;
use kernel::sync::{Arc, CondVar, Mutex, SpinLock};
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
                phase <- kernel::new_mutex!(Phase::New, "litebox_phase"),
                over <- kernel::new_condvar!("litebox_over"),
                terminal <- kernel::new_mutex!(None, "litebox_terminal"),
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

    /// Puts a guest into the list.
    ///
    /// # Errors
    /// EPIPE if the sandbox has ended, ENOMEM.
    pub(crate) fn remember(&self, guest: *const Guest) -> Result {
        let mut members = self.members.lock();
        if members.ended {
            return Err(EPIPE);
        }
        members.guests.push(Member(guest), GFP_ATOMIC)?;
        Ok(())
    }

    /// Takes a guest off the list.
    pub(crate) fn forget(&self, guest: *const Guest) {
        let mut members = self.members.lock();
        let at = members.guests.iter().position(|member| core::ptr::eq(member.0, guest));
        // Order does not matter; the last one takes the place.
        if let (Some(at), Some(last)) = (at, members.guests.pop()) {
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
