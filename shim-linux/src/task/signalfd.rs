//! Signals that are read from a descriptor. Source: signalfd(2); Linux fs/signalfd.c.
//!
//! Such a descriptor gives the signals of the process that made it. Locks: `wanted` is a leaf.

use super::process::Process;
use crate::signal::{Cpu, Info, Origin, SigSet};
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::event::anonymous;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::{FileOps, IoCx};
use litebox_core::fs::io::IoDst;
use litebox_core::fs::types::{OFlags, Ready};
use litebox_core::sync::WaitQueue;

/// `struct signalfd_siginfo`.
const BYTES: usize = 128;

/// What such a descriptor is open on.
pub(crate) struct SignalFd<P: Cpu> {
    process: Arc<Process<P>>,
    wanted: AtomicU64,
}

impl<P: Cpu> fmt::Debug for SignalFd<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalFd").field("process", &self.process).finish_non_exhaustive()
    }
}

/// What a program reads of a signal.
fn encode(info: &Info) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut put = |at: usize, field: &[u8]| {
        for (to, from) in bytes.iter_mut().skip(at).zip(field) {
            *to = *from;
        }
    };
    put(0, &info.signal.number().to_le_bytes());
    put(4, &info.errno.to_le_bytes());
    put(8, &info.code.to_le_bytes());
    match info.origin {
        Origin::None | Origin::Call { .. } => {}
        Origin::Process { pid, uid, value } if info.code == Info::SI_TIMER => {
            put(24, &pid.to_le_bytes());
            put(32, &uid.to_le_bytes());
            put(44, value.to_le_bytes().get(..4).unwrap_or_default());
            put(48, &value.to_le_bytes());
        }
        Origin::Process { pid, uid, value } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
            put(44, value.to_le_bytes().get(..4).unwrap_or_default());
            put(48, &value.to_le_bytes());
        }
        Origin::Child { pid, uid, status } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
            put(40, &status.to_le_bytes());
        }
        Origin::Fault { addr } => put(72, &addr.to_le_bytes()),
        // Sender, its user, and a value, as `siginfo_t` has them from byte 16 on.
        Origin::Raw(rest) => {
            let [_, _, _, _, a, b, c, d, e, f, g, h, value @ ..] = rest;
            put(12, &[a, b, c, d]);
            put(16, &[e, f, g, h]);
            put(44, value.get(..4).unwrap_or_default());
            put(48, value.get(..8).unwrap_or_default());
        }
    }
    bytes
}

impl<P: Cpu> SignalFd<P> {
    /// An open file that gives the signals `wanted` of `process`.
    pub(crate) fn open(process: &Arc<Process<P>>, wanted: SigSet, status: OFlags) -> Arc<File<P>> {
        let ops = Self { process: Arc::clone(process), wanted: AtomicU64::new(wanted.bits()) };
        let id = process.sandbox().shared().new_inode();
        anonymous(Arc::new(ops), id, "signalfd", status | OFlags::READ | OFlags::WRITE)
    }

    /// Has `file` give the signals `wanted` instead.
    ///
    /// # Errors
    /// `INVAL`: it is another kind of file.
    pub(crate) fn change(file: &File<P>, wanted: SigSet) -> Result<()> {
        let ops = Arc::clone(file.ops()).into_any().and_then(|any| any.downcast::<Self>().ok());
        let ops = ops.ok_or(errno!(INVAL, "no descriptor of signals"))?;
        ops.wanted.store(wanted.bits(), Ordering::Release);
        ops.process.signalled().wake(Ready::IN);
        Ok(())
    }

    fn wanted(&self) -> SigSet {
        SigSet::from_bits(self.wanted.load(Ordering::Acquire))
    }

    fn take(&self) -> Option<Info> {
        let others = SigSet::from_bits(!self.wanted().bits());
        self.process.with_group(|group| group.pending.pop(others))
    }
}

impl<P: Cpu> FileOps<P> for SignalFd<P> {
    fn read_at(&self, _offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        if dst.remaining() < BYTES {
            return Err(errno!(INVAL, "no room for a signal"));
        }
        let first = self.process.signalled().until(cx.blocking, None, || self.take().map(Ok))?;
        let (start, mut next) = (dst.done(), Some(first));
        while let Some(info) = next {
            dst.put(&encode(&info));
            next = if dst.remaining() >= BYTES && !dst.faulted() { self.take() } else { None };
        }
        dst.outcome(start)
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.process.signalled().watch(watcher);
        }
        if self.process.pending().intersection(self.wanted()).is_empty() { Ready::empty() } else { Ready::IN }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;

    #[test]
    fn fields_are_where_programs_look() {
        let sent = Info::new(Signal::USR1, -1, Origin::Process { pid: 7, uid: 1000, value: 9 });
        let bytes = encode(&sent);
        assert_eq!((bytes[0], bytes[12], bytes[16..18].to_vec(), bytes[44], bytes[48]), (10, 7, alloc::vec![0xe8, 3], 9, 9));
        let again = Info::decode(Signal::USR1, &sent.encode());
        assert_eq!(encode(&again), bytes);
        let child = encode(&Info::new(Signal::CHLD, 1, Origin::Child { pid: 5, uid: 0, status: 3 }));
        assert_eq!((child[12], child[40]), (5, 3));
    }
}
