// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! vfork(2) without a new host process: the maker, which waits, lends its carrier to the child.
//!
//! Until it executes another program or ends, the child has its maker's memory and the maker does nothing. So it runs on the maker's
//! carrier, in the page tables that are there; a process of its own would fill page tables with what it throws away at execve(2). When
//! that comes, the child goes to a carrier at rest, which was taken when the maker lent its own: the step cannot fail.
//! Invariants:
//! - A lent carrier's selector is the child; the maker stays in the sandbox's list, and so does its reference, in [`Lent`].
//! - Only a process of one thread lends, and only one whose carrier is not lent itself; a child on a lent carrier makes no threads.
//! - The maker gets back all that is its carrier's: registers, vector state, bases, protection keys, processors, its area of
//!   restartable sequences.
//! - What comes for the maker meanwhile, its end too, it finds when it goes on: it waits for the child even if it is killed.
//! Source: vfork(2); Linux kernel/fork.c wait_for_vfork_done.

use crate::carrier::{self, Current, Guest};
use crate::host::LinuxKernel;
use crate::rest::{Processor, Promised};
use crate::sys;
use crate::trap::clone::Start;
use crate::trap::regs::shim_regs;
use kernel::prelude::*;
use kernel::sync::Arc;
use litebox_shim_linux::processors::Processors;
use litebox_shim_linux::signal::Cpu;
use litebox_shim_linux::task::{Birth, End};
use litebox_shim_linux::{Resume, after_spawn};

/// What the maker of the guest on a lent carrier goes on with.
pub(crate) struct Lent {
    /// The maker; the reference that the selector held.
    maker: Arc<Guest>,
    regs: sys::pt_regs,
    processor: Processor,
    processors: Processors,
    /// The carrier at rest that the child will have.
    seat: Promised,
}

impl Lent {
    /// The maker, whose carrier has ended.
    pub(crate) fn into_maker(self) -> Arc<Guest> {
        self.maker
    }

    /// The maker.
    pub(crate) fn maker(&self) -> &Guest {
        &self.maker
    }
}

/// Lends the current carrier to the guest that `start` is about, its child, and gives that; the frame is the child's then.
///
/// # Errors
/// The guest and `start` as they were: nothing to lend by, or no memory.
pub(crate) fn lend(
    maker: Current,
    regs: &mut sys::pt_regs,
    start: KBox<Start>,
) -> core::result::Result<Current, (Current, KBox<Start>)> {
    // A hardware guest's state is its virtual processor's, which is not handed on.
    if maker.is_hardware() || maker.is_lent() || !maker.crew().is_alone() || !maker.sandbox().has_seat(None) {
        return Err((maker, start));
    }
    let Some(processor) = Processor::of_current() else { return Err((maker, start)) };
    let Some(seat) = Promised::take(&maker, processor.image_bytes()) else { return Err((maker, start)) };
    let lent = Lent { maker: maker.reference(), regs: *regs, processor, processors: LinuxKernel::processors(), seat };
    let Ok(lent) = KBox::new(lent, GFP_KERNEL_ACCOUNT) else { return Err((maker, start)) };
    let maker = match carrier::lend(maker, start.guest.clone(), lent) {
        Ok(child) => {
            start.set_frame(shim_regs(regs));
            return Ok(child);
        }
        Err(maker) => maker,
    };
    Err((maker, start))
}

/// Gives the carrier back to the maker, whose frame `regs` are then; `child` has gone elsewhere, or has ended.
fn give_back(child: Current, lent: KBox<Lent>, regs: &mut sys::pt_regs) -> Current {
    let Lent { maker, regs: saved, processor, processors, seat } = KBox::into_inner(lent);
    seat.put_back(maker.sandbox());
    let maker = carrier::take_back(child, maker);
    processor.set();
    if LinuxKernel::processors() != processors {
        // A host that does not let it leaves it where the child was.
        let _allowed = LinuxKernel::set_affinity(&maker.handle(), &processors);
    }
    *regs = saved;
    regs.orig_ax = usize::MAX;
    maker
}

/// Ends the guest on a lent carrier, and gives the maker and how that goes on.
///
/// # Errors
/// The guest, whose carrier is its own.
pub(crate) fn end(
    child: Current,
    regs: &mut sys::pt_regs,
    end: End,
) -> core::result::Result<(Current, Resume<LinuxKernel>), Current> {
    let Some(lent) = child.take_lent() else { return Err(child) };
    child.with_north(|north| north.end = Some(end));
    child.sandbox().leave(&child, false, false);
    drop(carrier::end(&child));
    Ok(resume(give_back(child, lent, regs), regs))
}

/// Moves the guest on a lent carrier, which is to run another program, to one of its own; gives the maker and how that goes on.
///
/// # Errors
/// The guest, whose carrier is its own.
pub(crate) fn exec(child: Current, regs: &mut sys::pt_regs) -> core::result::Result<(Current, Resume<LinuxKernel>), Current> {
    let Some(mut lent) = child.take_lent() else { return Err(child) };
    let first = *shim_regs(regs);
    let processors = LinuxKernel::processors();
    child.sandbox().leave(&child, false, false);
    if let (Some(north), _shared) = child.part() {
        let moved = (processors != lent.processors).then_some(processors);
        // Without memory the child is dropped, and ends as if it was killed: its old program is gone.
        let _moved = Start::elsewhere(&child, north.task, first, moved).map(|start| lent.seat.give(start));
    }
    Ok(resume(give_back(child, lent, regs), regs))
}

/// How the maker goes on.
fn resume(maker: Current, regs: &mut sys::pt_regs) -> (Current, Resume<LinuxKernel>) {
    let resume = maker.with_north(|north| after_spawn(&mut north.task, shim_regs(regs), Birth::Born));
    (maker, resume)
}
