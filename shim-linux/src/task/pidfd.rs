//! Descriptors of processes. Source: `pidfd_open(2)`; Linux fs/pidfs.c.
//!
//! One keeps its process, and so the id, from being mistaken for another's that gets the same id later; it does not keep a zombie
//! from being reaped.

use super::process::{Condition, Process};
use super::sandbox::Sandbox;
use super::thread::TaskShared;
use crate::signal::Cpu;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::event::anonymous;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::FileOps;
use litebox_core::fs::types::{OFlags, Ready};
use litebox_core::sync::WaitQueue;

/// What such a descriptor is open on.
pub(crate) struct PidFd<P: Cpu> {
    process: Arc<Process<P>>,
    /// The thread that it is of; none is the process.
    thread: Option<Arc<TaskShared<P>>>,
}

impl<P: Cpu> fmt::Debug for PidFd<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PidFd").field("process", &self.process).field("thread", &self.thread).finish()
    }
}

impl<P: Cpu> PidFd<P> {
    /// An open file of `process`, or of that thread of it, with `status` flags.
    pub(crate) fn open(process: Arc<Process<P>>, thread: Option<Arc<TaskShared<P>>>, status: OFlags) -> Arc<File<P>> {
        let id = process.sandbox().shared().new_inode();
        anonymous(Arc::new(Self { process, thread }), id, "pidfd", status | OFlags::READ | OFlags::WRITE)
    }

    /// What `file` is of.
    ///
    /// # Errors
    /// `BADF`: it is another kind of file.
    pub(crate) fn of(file: &File<P>) -> Result<Arc<Self>> {
        let ops = Arc::clone(file.ops()).into_any().and_then(|any| any.downcast::<Self>().ok());
        ops.ok_or(errno!(BADF, "no descriptor of a process"))
    }

    /// The process, or the thread's.
    pub(crate) fn process(&self) -> &Arc<Process<P>> {
        &self.process
    }

    /// The thread, if it is of one.
    pub(crate) fn thread(&self) -> Option<&Arc<TaskShared<P>>> {
        self.thread.as_ref()
    }
}

impl<P: Cpu> FileOps<P> for PidFd<P> {
    /// Readable once the process, or the thread, has ended.
    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.process.has_ended().watch(watcher);
        }
        if let Some(thread) = &self.thread {
            // A first thread that has ended is there as long as its process is.
            let is_first = thread.tid() == self.process.pid();
            if !is_first && self.process.task(thread.tid()).is_none() {
                return Ready::IN | Ready::HUP;
            }
        }
        match (self.process.condition(), self.process.sandbox().knows(&self.process)) {
            (Condition::Zombie, true) => Ready::IN,
            (Condition::Zombie, false) => Ready::IN | Ready::HUP,
            (Condition::Alive | Condition::Stopped, _) => Ready::empty(),
        }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}

impl<P: Cpu> Sandbox<P> {
    /// Whether `process` has not been reaped.
    pub(crate) fn knows(&self, process: &Arc<Process<P>>) -> bool {
        self.tree.lock().nodes.get(&process.pid()).is_some_and(|node| Arc::ptr_eq(&node.process, process))
    }
}
