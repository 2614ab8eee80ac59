//! One sandbox: what its processes share.

use super::owners::{Held, Owners};
use super::process::Process;
use super::tree::Tree;
use crate::machine::Machine;
use crate::shared::Shared;
use crate::signal::Cpu;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::quota::Quota;
use litebox_core::sync::{Futexes, Mutex};
use litebox_core::tty::Jobs;

/// One sandbox: processes that see each other.
pub struct Sandbox<P: Cpu> {
    quota: Arc<Quota>,
    machine: Machine<P>,
    started: Duration,
    /// Bit `n` is set once unsupported call `n` was named.
    named: [AtomicU64; 8],
    futexes: Futexes<P>,
    owners: Owners<P>,
    shared: Shared<P>,
    pub(super) tree: Mutex<P, Tree<P>>,
}

impl<P: Cpu> fmt::Debug for Sandbox<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("quota", &self.quota).finish_non_exhaustive()
    }
}

impl<P: Cpu> Sandbox<P> {
    /// An empty sandbox whose memory is charged to `quota`, which it shows to programs as `memory` bytes.
    #[must_use]
    pub fn new(quota: Arc<Quota>, memory: u64) -> Arc<Self> {
        Self::on(Machine::new(memory, None, None), quota)
    }

    /// An empty sandbox that shows `machine` to its programs, and whose memory is charged to `quota`.
    #[must_use]
    pub fn on(machine: Machine<P>, quota: Arc<Quota>) -> Arc<Self> {
        Arc::new_cyclic(|sandbox: &Weak<Self>| Self {
            tree: Mutex::<P, _>::new(Tree::new(machine.tasks)),
            shared: Shared::new(&quota, Weak::clone(sandbox) as Weak<dyn Jobs>),
            quota,
            machine,
            started: P::monotonic(),
            named: [const { AtomicU64::new(0) }; 8],
            futexes: Futexes::new(),
            owners: Owners::new(),
        })
    }

    /// Its memory book.
    #[must_use]
    pub fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// How many bytes of memory programs see.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.machine.memory
    }

    /// What its programs see of the machine.
    #[must_use]
    pub fn machine(&self) -> &Machine<P> {
        &self.machine
    }

    /// How long it has been there.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        P::monotonic().saturating_sub(self.started)
    }

    /// Whether unsupported call `number` has not been named yet; it has from now on.
    pub(crate) fn first_time(&self, number: u64) -> bool {
        let word = usize::try_from(number >> 6).ok().and_then(|word| self.named.get(word));
        let bit = 1u64.rotate_left(u32::try_from(number & 63).unwrap_or_default());
        // All numbers beyond the table share none: they are named each time, rate-limited by the log.
        word.is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Who waits for words in memory.
    #[must_use]
    pub fn futexes(&self) -> &Futexes<P> {
        &self.futexes
    }

    /// The owners of words for which somebody waits, locked.
    pub(crate) fn owners(&self) -> Held<'_, P> {
        self.owners.lock(self)
    }

    /// What its processes share beside files.
    pub(crate) fn shared(&self) -> &Shared<P> {
        &self.shared
    }

    /// The process with this id: one that lives, or a zombie.
    pub fn process(&self, pid: u32) -> Option<Arc<Process<P>>> {
        self.tree.lock().nodes.get(&pid).map(|node| Arc::clone(&node.process))
    }

    /// The process that has, or had when it last lived, a task with this id.
    pub fn process_of(&self, tid: u32) -> Option<Arc<Process<P>>> {
        let tree = self.tree.lock();
        let process = tree.threads.get(&tid).or_else(|| tree.nodes.get(&tid).map(|node| &node.process));
        process.map(Arc::clone)
    }

    /// How many processes there are, zombies included; init is none.
    pub fn process_count(&self) -> usize {
        self.tree.lock().processes()
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> usize {
        self.tree.lock().threads.len()
    }

    /// The process with the lowest id from `from` on, zombies included.
    pub fn next_process(&self, from: u32) -> Option<Arc<Process<P>>> {
        self.tree.lock().nodes.range(from..).next().map(|(_, node)| Arc::clone(&node.process))
    }

    /// The processes, zombies included, that `matches`.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn select(&self, matches: impl Fn(&Process<P>) -> bool) -> Result<Vec<Arc<Process<P>>>> {
        let tree = self.tree.lock();
        let mut found = Vec::new();
        for node in tree.nodes.values().filter(|node| matches(&node.process)) {
            found.try_reserve(1).map_err(|_| errno!(NOMEM))?;
            found.push(Arc::clone(&node.process));
        }
        Ok(found)
    }

    /// The last id that was given to a task.
    pub fn last_id(&self) -> u32 {
        self.tree.lock().last_id()
    }
}
