// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Registration of the four hooks, and their removal.
//!
//! Owns: the ftrace operations and the probes. Invariants: what is registered is unregistered, in reverse order, on every way
//! out; a hook is gone only after every task has left it (ftrace waits for RCU tasks, `Probe` for the tracepoints' readers).
//! A task that *sleeps* in a hook counts as having left: it is a carrier, which holds the module by its address-space file.
//! Sources: Linux kernel/trace/ftrace.c, kernel/tracepoint.c.

use super::entry;
use crate::{carrier, sys};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use kernel::prelude::*;

/// A trampoline at the start of one kernel function.
struct Direct {
    ops: KBox<MaybeUninit<sys::ftrace_ops>>,
    entry: usize,
}

impl Direct {
    /// Hooks `function`.
    ///
    /// # Safety
    /// `entry` is a trampoline as `entry.rs` describes, for a function of one argument that returns a truth value or nothing.
    unsafe fn register(function: &'static CStr, entry: unsafe extern "C" fn()) -> Result<Self> {
        let mut direct = Self { ops: KBox::new(MaybeUninit::zeroed(), GFP_KERNEL)?, entry: entry as usize };
        let ops = direct.ops.as_mut_ptr();
        let length = i32::try_from(function.to_bytes().len())?;
        // SAFETY:
        // - `ops` is zeroed, which is how C initialises one, and lies in a box that is not moved while it is registered.
        // - The name is only read (ftrace_set_regex copies it), although its type lacks the const.
        let result = unsafe { sys::ftrace_set_filter(ops, function.as_ptr().cast_mut().cast(), length, 1) };
        if result != 0 {
            pr_err!(
                "cannot load: the kernel has no traceable function {} (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, CONFIG_GENERIC_ENTRY)\n",
                function
            );
            return Err(Error::from_errno(result));
        }
        // SAFETY: `ops` has its filter and is not registered; `entry` is a trampoline by the contract.
        let result = unsafe { sys::register_ftrace_direct(ops, direct.entry) };
        if result == EBUSY.to_errno() {
            pr_err!(
                "cannot load: a bpf fentry program is attached to {}, or another module hooks it; detach it first\n",
                function
            );
        } else if result != 0 {
            pr_err!("cannot load: hooking {} failed with {} (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)\n", function, result);
        }
        if result != 0 {
            // Not registered, so Drop has nothing to do.
            direct.entry = 0;
            // SAFETY: `ops` has a filter, and nobody else uses it: it is not registered.
            unsafe { sys::ftrace_free_filter(ops) };
            return Err(Error::from_errno(result));
        }
        Ok(direct)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        if self.entry == 0 {
            return;
        }
        // SAFETY: `ops` was registered with this address by `register` and only there.
        let result = unsafe { sys::unregister_ftrace_direct(self.ops.as_mut_ptr(), self.entry, true) };
        if result != 0 {
            pr_err!("a hook cannot be removed ({}): this is a bug\n", result);
        }
    }
}

/// A probe on a tracepoint of the kernel.
struct Probe {
    tracepoint: *mut sys::tracepoint,
    probe: *mut c_void,
}

/// What `find` looks for, and what it found.
struct Search {
    name: &'static CStr,
    found: *mut sys::tracepoint,
}

impl Probe {
    /// Puts `probe` on the tracepoint `name`.
    ///
    /// # Safety
    /// `probe` is a C function of the tracepoint's prototype, with a data pointer before the arguments.
    unsafe fn register(name: &'static CStr, probe: *mut c_void) -> Result<Self> {
        let mut search = Search { name, found: core::ptr::null_mut() };
        // SAFETY: `find` expects a `Search`, which outlives this synchronous call.
        unsafe { sys::for_each_kernel_tracepoint(Some(Self::find), (&raw mut search).cast()) };
        if search.found.is_null() {
            pr_err!("cannot load: the kernel has no tracepoint {} (CONFIG_TRACEPOINTS)\n", name);
            return Err(ENOENT);
        }
        // SAFETY: A tracepoint of the kernel itself exists for ever; the probe fits by the contract.
        let result = unsafe { sys::tracepoint_probe_register(search.found, probe, core::ptr::null_mut()) };
        if result != 0 {
            pr_err!("cannot load: probing {} failed with {}\n", name, result);
            return Err(Error::from_errno(result));
        }
        Ok(Self { tracepoint: search.found, probe })
    }

    /// # Safety
    /// `search` points to a [`Search`].
    unsafe extern "C" fn find(tracepoint: *mut sys::tracepoint, search: *mut c_void) {
        // SAFETY: Contract; nobody else has the pointer during the search.
        let search = unsafe { &mut *search.cast::<Search>() };
        // SAFETY: The kernel hands out live tracepoints.
        let name = unsafe { (*tracepoint).name };
        // SAFETY: A tracepoint's name is a string literal of the kernel.
        if unsafe { CStr::from_ptr(name.cast()) } == search.name {
            search.found = tracepoint;
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: Registered with these values by `register`, and unregistered only here.
        unsafe { sys::tracepoint_probe_unregister(self.tracepoint, self.probe, core::ptr::null_mut()) };
        // SAFETY: Task context, which may sleep; waits until no task runs the probe.
        unsafe { sys::litebox_tracepoints_quiesce() };
    }
}

/// All four hooks. Fields are dropped from the top: births end before deaths go unseen, and system calls, without which a
/// carrier would reach the host's table, are the last to go.
pub(crate) struct Hooks {
    _birth: Probe,
    _death: Probe,
    _signals: Direct,
    _syscalls: Direct,
}

// SAFETY: The raw pointers are to tracepoints, which are the kernel's and take any thread's calls.
unsafe impl Send for Hooks {}
// SAFETY: Nothing is done through a shared reference.
unsafe impl Sync for Hooks {}

impl Hooks {
    /// Registers the hooks, or says in the log what is missing.
    ///
    /// # Errors
    /// EBUSY if somebody else has hooked one of the functions; else that of the kernel.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: The trampoline calls `syscall::on_syscall`; `bool syscall_user_dispatch(struct pt_regs *)`.
        let syscalls = unsafe { Direct::register(c"syscall_user_dispatch", entry::litebox_syscall_entry) }?;
        // SAFETY: The trampoline calls `signal::on_signal`; `void arch_do_signal_or_restart(struct pt_regs *)`.
        let signals = unsafe { Direct::register(c"arch_do_signal_or_restart", entry::litebox_signal_entry) }?;
        // SAFETY: TP_PROTO(struct task_struct *p, bool group_dead) in include/trace/events/sched.h.
        let death = unsafe { Probe::register(c"sched_process_exit", carrier::on_exit as *mut c_void) }?;
        // SAFETY: TP_PROTO(struct task_struct *parent, struct task_struct *child), same file.
        let birth = unsafe { Probe::register(c"sched_process_fork", carrier::on_fork as *mut c_void) }?;
        Ok(Self { _birth: birth, _death: death, _signals: signals, _syscalls: syscalls })
    }
}
