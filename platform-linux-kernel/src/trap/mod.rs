// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! How a guest's system calls and faults come here, and how its threads are born and die.
//!
//! `entry` is the assembly between the kernel and `syscall` and `signal`; `hooks` puts it in place and takes it away; `regs` shows the
//! entry frame to the shim.

pub(crate) mod clone;
pub(crate) mod entry;
pub(crate) mod hooks;
pub(crate) mod regs;
pub(crate) mod signal;
pub(crate) mod syscall;
