//! What a process runs, as /proc shows it.
//!
//! Invariants: what is running is replaced whole, by exec. A running program does not keep its address space: the tasks in it do.
//! Locks: a leaf.

use alloc::sync::{Arc, Weak};
use core::fmt;
use core::time::Duration;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::uses::Runs;
use litebox_core::mm::AddressSpace;
use litebox_core::platform::Platform;
use litebox_core::sync::Mutex;

/// One program in one address space.
pub struct Exec<P: Platform> {
    /// Its file.
    pub place: Arc<Dentry<P>>,
    /// Its memory, as long as a task is in it.
    pub mm: Weak<AddressSpace<P>>,
    /// First and last address of the argument strings.
    pub arguments: (u64, u64),
    /// First and last address of the environment strings.
    pub environment: (u64, u64),
    /// First address of the stack, as the program found it.
    pub stack: u64,
    /// The auxiliary vector, in the processor's words.
    pub auxv: Arc<[u8]>,
}

impl<P: Platform> fmt::Debug for Exec<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<P: Platform> Exec<P> {
    /// The same program in a copy of its memory, as fork(2) makes it.
    #[must_use]
    pub fn forked(&self, mm: &Arc<AddressSpace<P>>) -> Self {
        Self {
            place: Arc::clone(&self.place),
            mm: Arc::downgrade(mm),
            arguments: self.arguments,
            environment: self.environment,
            stack: self.stack,
            auxv: Arc::clone(&self.auxv),
        }
    }
}

/// The program that a process runs; none until the first is loaded.
pub struct Running<P: Platform> {
    began: Duration,
    exec: Mutex<P, Option<Arc<Exec<P>>>>,
    /// Keeps others from writing to its file, until it has ended.
    runs: Mutex<P, Option<Runs<P>>>,
}

impl<P: Platform> fmt::Debug for Running<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("began", &self.began).finish_non_exhaustive()
    }
}

impl<P: Platform> Running<P> {
    /// Nothing, or `exec`; the process begins now.
    #[must_use]
    pub fn new(exec: Option<Arc<Exec<P>>>) -> Self {
        // Whoever it is a copy of runs it: that cannot fail.
        let runs = exec.as_ref().and_then(|exec| Runs::begin(&exec.place).ok());
        Self { began: P::monotonic(), exec: Mutex::<P, _>::new(exec), runs: Mutex::<P, _>::new(runs) }
    }

    /// What runs.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Exec<P>>> {
        self.exec.lock().clone()
    }

    /// How long the process has been there.
    #[must_use]
    pub fn age(&self) -> Duration {
        P::monotonic().saturating_sub(self.began)
    }

    /// Replaces it; `runs` is of its file.
    pub fn set(&self, exec: Exec<P>, runs: Runs<P>) {
        let former = self.exec.lock().replace(Arc::new(exec));
        let former_runs = self.runs.lock().replace(runs);
        // May be the last user of a file, so without the locks.
        drop((former, former_runs));
    }

    /// It has ended: its file may be written to.
    pub fn end(&self) {
        let runs = self.runs.lock().take();
        drop(runs);
    }
}
