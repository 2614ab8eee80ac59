// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a guest's trap makes of its registers and page tables: the one place where the rest of the platform meets both traps.
//!
//! Invariant: the carrier alone calls what [`Current`] has, between its guest's stays in ring 3.

use super::stub;
use crate::carrier::{self, Current, Guest};
use crate::sys;
use crate::trap::regs::shim_regs;
use kernel::prelude::*;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::signal::sequence::Sequences;

impl Guest {
    /// Whether it is in ring 3 by the processor's virtualisation.
    pub(crate) fn is_hardware(&self) -> bool {
        self.vcpu().is_some()
    }
}

impl Current {
    /// Its registers: those of `frame`, the current task's entry frame, or its virtual processor's. The borrow ends before the guest
    /// goes on.
    pub(crate) fn frame<'a>(&'a self, frame: &'a mut sys::pt_regs) -> &'a mut Regs {
        match self.vcpu() {
            // SAFETY: The carrier itself. Whoever borrows the frame, which is one at a time, borrows these.
            Some(vcpu) => unsafe { vcpu.regs() },
            None => shim_regs(frame),
        }
    }

    /// Makes the current task's way to ring 3 that of its guest, which is to begin with `regs`.
    pub(crate) fn set_registers(&self, regs: &Regs) {
        // SAFETY: The current task's own entry frame, which nobody borrows now.
        let frame = unsafe { &mut *carrier::registers() };
        *self.frame(frame) = *regs;
        if self.is_hardware() {
            stub::set_frame(frame);
        }
    }

    /// Maps its page tables over the current task's user half.
    ///
    /// # Errors
    /// Those of [`Space::replace_current`].
    pub(crate) fn show_space(&self) -> Result {
        self.sandbox().show(self.space().ok_or(ESRCH)?)
    }

    /// Has its virtual processor keep this area of restartable sequences.
    pub(crate) fn watch_sequences(&self, area: Option<Sequences>) {
        if let Some(vcpu) = self.vcpu() {
            // SAFETY: The carrier itself, outside of its guest's stays in ring 3.
            unsafe { vcpu.watch(area) };
        }
    }

    /// Gives `child`, which has not begun, what its virtual processor has of its maker's.
    pub(crate) fn hand_down(&self, child: &Guest) {
        if let (Some(vcpu), Some(new)) = (self.vcpu(), child.vcpu()) {
            // SAFETY: The carrier itself, outside of its guest's stays in ring 3.
            let area = unsafe { vcpu.watched() };
            // SAFETY: Nobody is the child's carrier yet; this is its maker.
            unsafe { new.watch(area) };
        }
    }

    /// Has its virtual processor begin anew, with another program or other page tables.
    pub(crate) fn reset_vcpu(&self) {
        if let (Some(vcpu), Some(engine)) = (self.vcpu(), self.sandbox().engine()) {
            // SAFETY: The carrier itself, outside of its guest's stays in ring 3.
            unsafe { vcpu.start_over(engine) };
        }
    }
}
