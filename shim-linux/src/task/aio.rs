//! A process's contexts of asynchronous operations. See `io_setup(2)`.
//!
//! They go with its memory: at execve(2) and at its end. Locks: `Process::completions` is a leaf.

use super::process::Process;
use crate::signal::Cpu;
use alloc::sync::Arc;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::event::completions::Completions;

impl<P: Cpu> Process<P> {
    /// The context `id`.
    pub(crate) fn completions(&self, id: u64) -> Option<Arc<Completions<P>>> {
        self.completions.lock().get(&id).map(Arc::clone)
    }

    /// Keeps a context as `id`, if it and the others together have room for no more than `most` operations.
    ///
    /// # Errors
    /// `AGAIN`: more.
    pub(crate) fn keep_completions(&self, id: u64, context: Arc<Completions<P>>, most: usize) -> Result<()> {
        let mut contexts = self.completions.lock();
        let sum = contexts.values().fold(context.room(), |sum, other| sum.saturating_add(other.room()));
        if sum > most {
            return Err(errno!(AGAIN, "more operations than there may be"));
        }
        contexts.insert(id, context);
        Ok(())
    }

    /// Takes the context `id` away.
    pub(crate) fn forget_completions(&self, id: u64) -> Option<Arc<Completions<P>>> {
        self.completions.lock().remove(&id)
    }

    /// Closes all of them.
    pub(super) fn close_completions(&self) {
        let contexts = core::mem::take(&mut *self.completions.lock());
        contexts.values().for_each(|context| context.close());
    }
}
