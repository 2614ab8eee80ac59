// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Page faults: from the kernel's fault handler to the library OS, which knows what belongs at an address.

use crate::carrier::{self, Current};
use crate::sys;
use litebox_core::mm::{Access, FaultOutcome, GuestAddr};

/// Resolves a fault of `guest`, the current carrier's, and says so in the kernel's terms. May sleep; holds no lock.
pub(super) fn on_fault(guest: &Current, addr: usize, access: Access) -> sys::vm_fault_t {
    let Some(mm) = guest.mm() else { return sys::vm_fault_reason_VM_FAULT_SIGBUS };
    match mm.fault(GuestAddr::new(addr as u64), access) {
        FaultOutcome::Resolved => sys::vm_fault_reason_VM_FAULT_NOPAGE,
        FaultOutcome::Segv(_code) => sys::vm_fault_reason_VM_FAULT_SIGSEGV,
        FaultOutcome::Bus => sys::vm_fault_reason_VM_FAULT_SIGBUS,
        FaultOutcome::OutOfMemory => {
            // The kernel's own answer would have the guest fault for ever. As its OOM killer does.
            carrier::kill_current();
            sys::vm_fault_reason_VM_FAULT_SIGBUS
        }
    }
}
