//! rseq(2).
//!
//! The area is the host's to keep once it is registered: a carrier's preemption and its processor are known there first. What is
//! checked here is what Linux checks, in its order. Source: Linux kernel/rseq.c.

use crate::args::{Count, Flags, Ptr};
use crate::signal::sequence::{AREA_ALIGN, FEATURE_BYTES, Sequences};
use crate::signal::{Cpu, Info, Origin, Signal};
use crate::task::Task;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GUEST_END, user};

/// Takes the area away again.
const UNREGISTER: u32 = 1;
/// Asks for longer time slices where the host gives any; it gives none.
const SLICE_DEFAULT_ON: u32 = 2;
/// Length and boundary of the area in its first version.
const FIRST_BYTES: u32 = 32;
/// No processor yet. Linux: `RSEQ_CPU_ID_UNINITIALIZED`.
const NO_CPU: [u8; 4] = [0xff; 4];

pub(crate) fn rseq<P: Cpu>(task: &mut Task<P>, area: Ptr, len: Count, flags: Flags, signature: Flags) -> Result<()> {
    let asked = Sequences { area: area.0, len: len.0, signature: signature.0 };
    if flags.0 & UNREGISTER != 0 {
        if flags.0 != UNREGISTER {
            return Err(errno!(INVAL, "unknown flags"));
        }
        return unregister(task, &asked);
    }
    if flags.0 & !SLICE_DEFAULT_ON != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    if let Some(known) = task.sequences {
        same(&known, &asked)?;
        return Err(errno!(BUSY, "registered already"));
    }
    if !fits(&asked) {
        return Err(errno!(INVAL, "a bad length or boundary"));
    }
    if area.0.plus(len.0.into()).map_or(true, |end| end.get() > GUEST_END) {
        return Err(errno!(FAULT, "outside of the guest"));
    }
    // Two numbers of a processor that is not known yet; no sequence, no flags, node 0, concurrency id 0.
    let mut fresh = [0; 28];
    if let Some(numbers) = fresh.first_chunk_mut::<8>() {
        *numbers = [0xff; 8];
    }
    user::write_all::<P>(area.0, &fresh)?;
    task.sequences = Some(asked);
    P::watch_sequences(Some(asked));
    Ok(())
}

fn unregister<P: Cpu>(task: &mut Task<P>, asked: &Sequences) -> Result<()> {
    let known = task.sequences.ok_or(errno!(INVAL, "none is registered"))?;
    same(&known, asked)?;
    let reset = || -> Result<()> {
        let put = |at: u64, bytes: &[u8]| user::write_all::<P>(known.area.plus(at)?, bytes);
        put(0, &[0; 4])?;
        put(4, &NO_CPU)?;
        put(20, &[0; 8])
    };
    if let Err(error) = reset() {
        // It would be told at the next change of its processor anyway.
        task.send(Info::new(Signal::SEGV, Info::SI_KERNEL, Origin::None))?;
        return Err(error);
    }
    task.sequences = None;
    P::watch_sequences(None);
    Ok(())
}

/// Checks that an area is the registered one.
fn same(known: &Sequences, asked: &Sequences) -> Result<()> {
    if (known.area, known.len) != (asked.area, asked.len) {
        return Err(errno!(INVAL, "another area"));
    }
    if known.signature == asked.signature { Ok(()) } else { Err(errno!(PERM, "another signature")) }
}

/// Whether the area has one of the lengths that there are, on its boundary.
fn fits(asked: &Sequences) -> bool {
    let on = |boundary: u32| asked.area.get() & u64::from(boundary.wrapping_sub(1)) == 0;
    match asked.len {
        FIRST_BYTES => on(FIRST_BYTES),
        len => len >= FEATURE_BYTES && on(AREA_ALIGN),
    }
}
