//! `/proc/PID/mem`: the memory of a process, at its addresses. Source: `proc_pid_mem(5)`; Linux fs/proc/base.c, `mem_rw`.
//!
//! Whoever has it open keeps no memory: once the process has ended or runs another program, there is nothing to read. Who may open
//! it is who may open the process's other private files.

use super::Who;
use crate::signal::Cpu;
use alloc::sync::{Arc, Weak};
use core::fmt;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::inode::{FileOps, IoCx, OpsRef};
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::mm::{AddressSpace, GuestAddr};

/// Bytes that go through the library OS at once.
const CHUNK: usize = 1024;

struct Memory<P: Cpu>(Weak<AddressSpace<P>>);

impl<P: Cpu> fmt::Debug for Memory<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

/// Opens it.
///
/// # Errors
/// `SRCH`: the process has ended.
pub(super) fn open<P: Cpu>(who: &Who<P>) -> Result<OpsRef<P>> {
    let exec = who.process()?.running().get().ok_or(errno!(SRCH, "it has ended"))?;
    Ok(Arc::new(Memory(Weak::clone(&exec.mm))))
}

impl<P: Cpu> FileOps<P> for Memory<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, _cx: IoCx) -> Result<usize> {
        let Some(mm) = self.0.upgrade() else { return Ok(0) };
        let (start, mut at) = (dst.done(), offset);
        let mut buffer = [0; CHUNK];
        while dst.remaining() > 0 {
            let part = buffer.get_mut(..dst.remaining().min(CHUNK)).unwrap_or_default();
            let wanted = part.len();
            let Ok(found) = mm.peek(GuestAddr::new(at), part) else {
                return if dst.done() == start { Err(errno!(IO, "nothing is there")) } else { dst.outcome(start) };
            };
            let put = dst.put(part.get(..found).unwrap_or_default());
            if put < wanted {
                break;
            }
            at = at.saturating_add(put as u64);
        }
        dst.outcome(start)
    }

    fn write_at(&self, offset: u64, src: &mut IoSrc<'_, P>, _cx: IoCx) -> Result<usize> {
        let Some(mm) = self.0.upgrade() else { return Ok(0) };
        let mut done = 0usize;
        let mut buffer = [0; CHUNK];
        while src.remaining() > 0 {
            let part = buffer.get_mut(..src.remaining().min(CHUNK)).unwrap_or_default();
            let taken = src.take(part);
            if taken == 0 {
                break;
            }
            let at = offset.saturating_add(done as u64);
            let Ok(stored) = mm.poke(GuestAddr::new(at), part.get(..taken).unwrap_or_default()) else {
                return if done == 0 { Err(errno!(IO, "nothing is there")) } else { Ok(done) };
            };
            done = done.saturating_add(stored);
            if stored < taken {
                return Ok(done);
            }
        }
        if done == 0 && src.faulted() { Err(errno!(FAULT)) } else { Ok(done) }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Err(errno!(INVAL, "memory has no end to go to"))
    }
}
