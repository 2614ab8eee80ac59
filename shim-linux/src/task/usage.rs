//! What tasks, processes and children have used. Source: getrusage(2); Linux kernel/exit.c, `wait_task_zombie`, `__exit_signal`.

use super::process::Process;
use super::sandbox::Sandbox;
use super::thread::{Task, TaskShared};
use crate::signal::Cpu;
use crate::usage::{Meter, Usage};
use litebox_core::mm::AddressSpace;

/// A task's carrier, and what the task has used on it and on those before.
pub(super) struct Carried<P: Cpu> {
    pub(super) carrier: Option<P::Carrier>,
    meter: Meter,
}

impl<P: Cpu> Default for Carried<P> {
    fn default() -> Self {
        Self { carrier: None, meter: Meter::default() }
    }
}

impl<P: Cpu> Carried<P> {
    pub(super) fn begin(&mut self, carrier: P::Carrier) {
        self.meter.start(&P::used(&carrier));
        self.carrier = Some(carrier);
    }

    /// Takes the carrier away.
    pub(super) fn leave(&mut self) -> Option<P::Carrier> {
        self.pause();
        self.carrier.take()
    }

    /// From now on the carrier may carry another task.
    fn pause(&mut self) {
        if let Some(carrier) = &self.carrier {
            self.meter.stop(&P::used(carrier));
        }
    }

    /// It does so no more.
    fn go_on(&mut self) {
        if let Some(carrier) = &self.carrier {
            self.meter.start(&P::used(carrier));
        }
    }

    fn used(&mut self) -> Usage {
        self.meter.read(self.carrier.as_ref().map(P::used))
    }
}

/// What a process and its children have used that are no more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Its tasks that have ended.
    tasks: Usage,
    /// The most pages that were in memory of programs that it ran before.
    most_pages: u64,
    /// Children that it has waited for, and theirs.
    children: Usage,
    /// The most pages that one of those had in memory.
    children_pages: u64,
}

/// What somebody has used, and the most pages that were in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) usage: Usage,
    pub(crate) pages: u64,
}

impl Resources {
    /// These and `other` together; memory is not used twice at a time.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self { usage: self.usage.plus(&other.usage), pages: self.pages.max(other.pages) }
    }
}

impl<P: Cpu> TaskShared<P> {
    /// What it has used.
    pub(crate) fn used(&self) -> Usage {
        self.carried().lock().used()
    }
}

impl<P: Cpu> Task<P> {
    /// Its carrier may carry its child until it goes on itself. See vfork(2).
    pub(crate) fn pause(&self) {
        self.shared.carried().lock().pause();
    }

    /// It goes on after [`Self::pause`].
    pub(super) fn go_on(&self) {
        self.shared.carried().lock().go_on();
    }

    /// What its process has used.
    pub(crate) fn resources(&self) -> Resources {
        let own = self.process.resources();
        Resources { pages: own.pages.max(self.mm.most_pages()), ..own }
    }

    /// Notes how much memory the program used that ends. That of its maker, which it may share, is none of its own.
    pub(super) fn note_memory(&self) {
        if self.vfork.is_none() {
            self.process.note_memory(&self.mm);
        }
    }
}

impl<P: Cpu> Sandbox<P> {
    /// What all its processes have used, those too that are no more.
    pub(crate) fn used(&self) -> Usage {
        let tree = self.tree.lock();
        let alive = tree.nodes.values().filter(|node| node.ended.is_none());
        alive.fold(tree.spent, |sum, node| sum.plus(&node.process.used()))
    }
}

impl<P: Cpu> Process<P> {
    fn note_memory(&self, mm: &AddressSpace<P>) {
        let pages = mm.most_pages();
        let mut spent = self.spent.lock();
        spent.most_pages = spent.most_pages.max(pages);
    }

    /// Notes what `task` has used, which leaves the list of tasks under the lock that is held.
    pub(super) fn note_usage(&self, task: &TaskShared<P>) {
        let used = task.used();
        let mut spent = self.spent.lock();
        spent.tasks = spent.tasks.plus(&used);
    }

    /// What its tasks have used.
    pub(crate) fn used(&self) -> Usage {
        let tasks = self.tasks.lock();
        let ended = self.spent.lock().tasks;
        tasks.iter().fold(ended, |sum, task| sum.plus(&task.used()))
    }

    /// What it has used; of memory, what the programs before the present one had.
    pub(crate) fn resources(&self) -> Resources {
        Resources { usage: self.used(), pages: self.spent.lock().most_pages }
    }

    /// What the children have used that it has waited for, and theirs.
    pub(crate) fn children_resources(&self) -> Resources {
        let spent = self.spent.lock();
        Resources { usage: spent.children, pages: spent.children_pages }
    }

    /// What it and its children have used.
    pub(super) fn all_resources(&self) -> Resources {
        self.resources().and(&self.children_resources())
    }

    /// Notes what a child has used that it has waited for.
    pub(super) fn note_child(&self, used: &Resources) {
        let sum = self.children_resources().and(used);
        let mut spent = self.spent.lock();
        (spent.children, spent.children_pages) = (sum.usage, sum.pages);
    }
}
