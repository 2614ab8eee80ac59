// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Restartable sequences of hardware guests: the host's own keeping looks at entry frames, and theirs is the stub's.
//!
//! Before a section the numbers in the area are made right if the carrier has moved, and a sequence is given up if an interrupt of the
//! host's ended the section before: that is when somebody else may have run. A carrier that moves in between leaves its section at once and
//! comes back here. Hostile input: the area, as in `litebox_shim_linux::signal::sequence`. Source: rseq(2); Linux kernel/rseq.c.

use crate::host::LinuxKernel;
use litebox_core::error::Result;
use litebox_core::mm::user;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::signal::Cpu;
use litebox_shim_linux::signal::sequence::Sequences;

/// Of no processor.
const NOWHERE: u32 = u32::MAX;
/// Where the area has the node and the concurrency id.
const NODE_AT: u64 = 20;

/// The area of one guest thread.
pub(super) struct Watched {
    area: Sequences,
    /// The processor whose number is in it.
    processor: u32,
    interrupted: bool,
}

impl Watched {
    /// A new one, in which nothing is right yet.
    pub(super) fn new(area: Sequences) -> Self {
        Self { area, processor: NOWHERE, interrupted: false }
    }

    /// The area.
    pub(super) fn area(&self) -> Sequences {
        self.area
    }

    /// Notes that somebody else may run, or has run, before the guest goes on.
    pub(super) fn note_interrupt(&mut self) {
        self.interrupted = true;
    }

    /// Whether the numbers are those of `processor`.
    pub(super) fn is_for(&self, processor: u32) -> bool {
        self.processor == processor
    }

    /// Makes the area right for a guest that is about to go on with `regs`. May sleep.
    ///
    /// # Errors
    /// The area is bad: the guest is to get `SIGSEGV`.
    pub(super) fn keep(&mut self, regs: &mut Regs) -> Result<()> {
        let (processor, node) = LinuxKernel::processor();
        let has_moved = !self.is_for(processor);
        if self.interrupted || has_moved {
            self.area.give_up::<LinuxKernel>(regs)?;
            self.interrupted = false;
        }
        if has_moved {
            // A concurrency id is one that no thread which runs at the same time has: so is a processor's number.
            for (at, one, other) in [(0, processor, processor), (NODE_AT, node, processor)] {
                user::write_all::<LinuxKernel>(
                    self.area.area.plus(at)?,
                    &(u64::from(other) << 32 | u64::from(one)).to_le_bytes(),
                )?;
            }
            self.processor = processor;
        }
        Ok(())
    }
}
