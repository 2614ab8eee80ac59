//! A counter that is waited for. Source: eventfd(2); Linux `fs/eventfd.c`.
//!
//! Invariant: the count is below `u64::MAX`. Locks: `count` is a leaf; nothing is copied from or to a guest under it.

use super::anonymous;
use crate::fs::file::File;
use crate::fs::inode::{FileOps, IoCx};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollSource;
use crate::fs::types::{InodeId, OFlags, Ready};
use crate::platform::Platform;
use crate::sync::{Mutex, WaitQueue};
use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

/// What a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// The whole count.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// The counter.
pub struct EventFd<P: Platform> {
    count: Mutex<P, u64>,
    take: Take,
    changed: PollSource<P>,
}

impl<P: Platform> fmt::Debug for EventFd<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFd").field("take", &self.take).finish_non_exhaustive()
    }
}

impl<P: Platform> EventFd<P> {
    /// An open counter that begins with `count`.
    #[must_use]
    pub fn open(count: u32, take: Take, id: InodeId, status: OFlags) -> Arc<File<P>> {
        let ops = Arc::new(Self { count: Mutex::<P, _>::new(u64::from(count)), take, changed: PollSource::default() });
        anonymous(ops, id, "eventfd", status | OFlags::READ | OFlags::WRITE)
    }

    /// Whether that is what `file` is.
    #[must_use]
    pub fn is(file: &File<P>) -> bool {
        Arc::clone(file.ops()).into_any().is_some_and(|ops| ops.is::<Self>())
    }

    /// Takes from the count, unless it is 0.
    fn try_take(&self) -> Option<u64> {
        let mut count = self.count.lock();
        let taken = match self.take {
            Take::All => *count,
            Take::One => (*count).min(1),
        };
        *count = count.saturating_sub(taken);
        (taken > 0).then_some(taken)
    }

    /// Adds to the count, if it can hold that.
    fn try_add(&self, add: u64) -> Option<()> {
        let mut count = self.count.lock();
        *count = count.checked_add(add).filter(|sum| *sum < u64::MAX)?;
        Some(())
    }

    /// Waits until `attempt` succeeds, if it may; then tells the others that the count is ready for `what`.
    fn until<T>(&self, cx: IoCx, what: Ready, mut attempt: impl FnMut() -> Option<T>) -> Result<T> {
        let done = self.changed.until(cx.blocking, None, || attempt().map(Ok))?;
        self.changed.wake(what);
        Ok(done)
    }
}

impl<P: Platform> FileOps<P> for EventFd<P> {
    fn read_at(&self, _offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(errno!(INVAL, "no room for the count"));
        }
        let taken = self.until(cx, Ready::OUT, || self.try_take())?;
        let start = dst.done();
        dst.put(&taken.to_le_bytes());
        dst.outcome(start)
    }

    fn write_at(&self, _offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        let mut bytes = [0; 8];
        if src.remaining() < bytes.len() {
            return Err(errno!(INVAL, "no count"));
        }
        if src.take(&mut bytes) < bytes.len() {
            return Err(errno!(FAULT));
        }
        let add = u64::from_le_bytes(bytes);
        if add == u64::MAX {
            return Err(errno!(INVAL, "more than a count can hold"));
        }
        self.until(cx, Ready::IN, || self.try_add(add))?;
        Ok(bytes.len())
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.changed.watch(watcher);
        }
        let count = *self.count.lock();
        let mut ready = Ready::empty();
        ready.set(Ready::IN, count > 0);
        ready.set(Ready::OUT, count < u64::MAX.saturating_sub(1));
        ready
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}
