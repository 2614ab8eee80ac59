// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! How the process that asks for it becomes the first guest.
//!
//! Invariants: up to the point of no return nothing of the caller has changed; from there on a failure kills it, for its memory is
//! gone. What the host reads or writes in user memory by itself (robust list, restartable sequences, alternate stack) must
//! not be left pointing into what is to be the guest's.

use crate::carrier::{self, Guest};
use crate::host::LinuxKernel;
use crate::rest::Crew;
use crate::sandbox::{Phase, Sandbox};
use crate::trap::signal::{self, SYNCHRONOUS, mask};
use crate::{bases, fpu, sys};
use kernel::prelude::*;
use kernel::sync::Arc;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::task::Task;

/// Whether the calling process may become a guest.
///
/// # Errors
/// EBUSY for a guest, EINVAL for a process of several threads or with memory that the host uses by itself.
pub(crate) fn check_caller() -> Result {
    if carrier::current().is_some() {
        return Err(EBUSY);
    }
    let task = carrier::task();
    // SAFETY: The current task's own words, which only itself changes; its signal structure lives as long as the task, and its count
    // of threads changes only by them: if it is 1 that is this one.
    let (alone, clean) = unsafe {
        (
            (*(*task).signal).nr_threads == 1,
            (*task).sas_ss_size == 0
                && (*task).futex.robust_list.is_null()
                && (*task).clear_child_tid.is_null()
                && (*task).rseq.usrptr.is_null(),
        )
    };
    if alone && clean { Ok(()) } else { Err(EINVAL) }
}

/// Makes the calling process, which [`check_caller`] has checked, the carrier of `task`, and closes `device` in it.
///
/// # Errors
/// ENOMEM, EBADF before the point of no return; the caller is dead after it.
pub(crate) fn become_guest(sandbox: &Arc<Sandbox>, device: u32, task: Task<LinuxKernel>, regs: Regs) -> Result {
    let (process, mm) = (task.process().clone(), task.mm().clone());
    let guest = Guest::new(sandbox.clone(), Crew::new(true)?, task)?;
    // SAFETY: Closes a descriptor of the calling process, as close(2) does: the one of this very request, whose file lives on until the
    // task leaves the kernel, for its last put is a task work.
    kernel::error::to_result(unsafe { sys::close_fd(device) })?;

    reset_signals();
    *sandbox.phase.lock() = Phase::Running(process);
    let entered = sandbox.show(mm.host()).and_then(|()| carrier::enter_current(guest));
    if let Err(error) = entered {
        sandbox.set_ended(litebox_ioctl_abi::Ended::Failed(errno(error)));
        carrier::kill_current();
        return Err(error);
    }
    reset_processor();
    let Some(current) = carrier::current() else { return Err(ESRCH) };
    current.set_registers(&regs);
    signal::begin(current);
    Ok(())
}

/// The error's number, which is never zero.
fn errno(error: Error) -> core::num::NonZeroU32 {
    core::num::NonZeroU32::new(error.to_errno().unsigned_abs()).unwrap_or(core::num::NonZeroU32::MIN)
}

/// Puts what the entry frame does not hold into the state that a new program finds.
pub(crate) fn reset_processor() {
    if let Some(zero) = bases::UserBase::new(0) {
        bases::set_fs(zero);
        bases::set_gs(zero);
    }
    fpu::reset();
}

/// No handler of the launcher's survives. For the synchronous signals an address that no guest can map: the host then does not log
/// "segfault at", and should the signal hook ever be missing, the guest dies.
fn reset_signals() {
    for signal in 1..32_u32 {
        if signal == sys::SIGKILL || signal == sys::SIGSTOP {
            continue;
        }
        let handler = if SYNCHRONOUS & mask(signal) != 0 { bases::USER_END as usize } else { 0 };
        // SAFETY: `__sighandler_t` is a user-space address in C's clothes; the kernel never calls it. 0 is SIG_DFL.
        let handler = unsafe { core::mem::transmute::<usize, sys::__sighandler_t>(handler) };
        // SAFETY: A valid signal number of the current task.
        unsafe { sys::kernel_sigaction(signal as i32, handler) };
    }
}
