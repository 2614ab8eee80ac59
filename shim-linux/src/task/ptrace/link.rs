//! Who traces whom: how tracing begins and ends. Source: Linux kernel/ptrace.c, `ptrace_attach`, `ptrace_traceme`, `__ptrace_unlink`,
//! `exit_ptrace`; include/linux/ptrace.h, `ptrace_init_task`.

use super::super::process::Process;
use super::super::thread::{Task, TaskShared};
use super::super::tree::{News, Tree};
use super::{Entry, Going, Options, Tracing, Watch};
use crate::signal::{Cpu, Info, Origin, Signal};
use alloc::sync::Arc;
use alloc::vec::Vec;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::quota::{Charge, Quota};

/// What a tracee is charged beside its image: its entry and the rest of a stop.
const TRACEE_BYTES: u64 = 1024;

/// What tracer and tracee have agreed on.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(super) options: Options,
    /// Room for the tracee's floating-point state; a stop takes it.
    pub(super) image: Vec<u8>,
    _charge: Charge,
}

impl Terms {
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn new<P: Cpu>(options: Options, quota: &Arc<Quota>) -> Result<Self> {
        let bytes = P::fpu_bytes();
        let charge = quota.charge(TRACEE_BYTES.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)))?;
        let mut image = Vec::new();
        image.try_reserve_exact(bytes).map_err(|_| errno!(NOMEM))?;
        image.resize(bytes, 0);
        Ok(Self { options, image, _charge: charge })
    }
}

impl<P: Cpu> Tree<P> {
    /// Makes `tracer`, a task of `tracer_process`, the tracer of a task.
    ///
    /// # Errors
    /// `PERM`: it has one, or has ended.
    fn trace(
        &mut self,
        shared: &Arc<TaskShared<P>>,
        process: &Arc<Process<P>>,
        terms: Terms,
        how: Watch,
        by: (u32, u32),
    ) -> Result<()> {
        if self.tracees.contains_key(&shared.tid()) || shared.is_ending() {
            return Err(errno!(PERM, "it has a tracer, or has ended"));
        }
        {
            let mut tracing = shared.tracing().lock();
            tracing.terms = Some(terms);
            (tracing.message, tracing.listens, tracing.debug) = (0, false, [0; 8]);
        }
        shared.watch_also(Watch::TRACED | how);
        let (tracer, tracer_process) = by;
        let entry = Entry { shared: Arc::clone(shared), process: Arc::clone(process), tracer, tracer_process, ended: None };
        self.tracees.insert(shared.tid(), entry);
        Ok(())
    }

    /// Ends the tracing of the task `tid`, which goes on with `signal` if it is stopped.
    pub(super) fn untrace(&mut self, tid: u32, signal: Option<Signal>) {
        let Some(entry) = self.tracees.remove(&tid) else { return };
        entry.shared.watch_no_more(Watch::TRACING);
        {
            let mut tracing = entry.shared.tracing().lock();
            let Tracing { terms, halt, going, listens, .. } = &mut *tracing;
            (*terms, *listens) = (None, false);
            if halt.is_some() && going.is_none() {
                *going = Some(Going { signal, steps: false, tracer: (entry.tracer_process, 0) });
            }
        }
        entry.shared.park().wake_all();
        // It may have run on while its process is stopped.
        entry.shared.kick();
        if let Some(end) = entry.ended {
            if tid == entry.process.pid() && (self.tell_parent(tid, News::Ended(end)) || self.ended) {
                self.remove(tid);
            }
            // The end of the process may have waited for this.
            let parent = self.nodes.get(&entry.process.pid()).and_then(|node| self.nodes.get(&node.parent));
            if let Some(parent) = parent {
                parent.process.children_changed().wake_all();
            }
        }
    }

    /// Ends all tracing by the task `tracer`, which ends.
    pub(in crate::task) fn tracer_ended(&mut self, tracer: u32) {
        while let Some((tid, entry)) = self.tracees.iter().find(|(_, entry)| entry.tracer == tracer) {
            let kills =
                entry.shared.tracing().lock().terms.as_ref().is_some_and(|terms| terms.options.contains(Options::EXITKILL));
            let (tid, process) = (*tid, Arc::clone(&entry.process));
            if kills {
                process.kill();
            }
            self.untrace(tid, None);
        }
    }

    /// Gives the tracee `old` the id `new` of its process's first task, which has ended. See execve(2).
    pub(in crate::task) fn tracee_renamed(&mut self, old: u32, new: u32) {
        self.tracees.remove(&new);
        if let Some(entry) = self.tracees.remove(&old) {
            self.tracees.insert(new, entry);
        }
        for entry in self.tracees.values_mut().filter(|entry| entry.tracer == old) {
            entry.tracer = new;
        }
    }

    /// Has the new task `child` traced as its maker `parent` is.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(in crate::task) fn trace_child(
        &mut self,
        parent: &TaskShared<P>,
        child: &Arc<TaskShared<P>>,
        process: &Arc<Process<P>>,
    ) -> Result<()> {
        let Some(entry) = self.tracees.get(&parent.tid()) else { return Ok(()) };
        let by = (entry.tracer, entry.tracer_process);
        let Some(options) = parent.tracing().lock().terms.as_ref().map(|terms| terms.options) else { return Ok(()) };
        let quota = process.sandbox().quota();
        let terms = Terms::new::<P>(options, quota)?;
        let seized = parent.watch() & Watch::SEIZED;
        self.trace(child, process, terms, seized, by)?;
        if seized.is_empty() {
            child.queue(Info::new(Signal::STOP, Info::SI_USER, Origin::Process { pid: 0, uid: 0, value: 0 }), quota)
        } else {
            child.set_trap();
            Ok(())
        }
    }
}

impl<P: Cpu> Task<P> {
    /// Whether it may look into `process`, as ptrace(2) says: its own, one of the same user that lets itself be looked into, or any
    /// for root. Linux: `__ptrace_may_access`.
    pub(crate) fn may_reach(&self, process: &Arc<Process<P>>) -> bool {
        if Arc::ptr_eq(process, &self.process) || self.credentials().can(Capabilities::SYS_PTRACE) {
            return true;
        }
        let own = self.process.with(|state| state.ids);
        let ([user, ..], [group, ..]) = (own.users, own.groups);
        process.with(|state| state.ids.users == [user; 3] && state.ids.groups == [group; 3] && state.dumpable)
    }

    /// Has its parent trace it. See ptrace(2), `PTRACE_TRACEME`.
    ///
    /// # Errors
    /// `PERM`: it has a tracer, or its parent is outside of the sandbox. `NOMEM`.
    pub(crate) fn trace_me(&self) -> Result<()> {
        let terms = Terms::new::<P>(Options::empty(), self.sandbox().quota())?;
        let mut tree = self.sandbox().tree.lock();
        let node = tree.nodes.get(&self.process.pid()).filter(|node| tree.nodes.contains_key(&node.parent));
        let by = node.map(|node| (node.parent_task, node.parent)).ok_or(errno!(PERM, "nobody in the sandbox is its parent"))?;
        tree.trace(&self.shared, &self.process, terms, Watch::empty(), by)
    }

    /// Traces the task `tid`: which stops at once, unless the tracing begins by `PTRACE_SEIZE`.
    ///
    /// # Errors
    /// - `SRCH`: no such task.
    /// - `PERM`: of the same process, not to be looked into, or traced already.
    /// - `NOMEM`. `Interrupted`.
    pub(crate) fn attach(&self, tid: u32, seize: Option<Options>) -> Result<()> {
        let process = self.sandbox().process_of(tid).ok_or(errno!(SRCH))?;
        if Arc::ptr_eq(&process, &self.process) {
            return Err(errno!(PERM, "of the same process"));
        }
        if !self.may_reach(&process) {
            return Err(errno!(PERM, "another user's process"));
        }
        // The first task of a process, ended, is there as long as its process is.
        let shared = process.task(tid).ok_or(errno!(PERM, "it has ended"))?;
        let terms = Terms::new::<P>(seize.unwrap_or_default(), self.sandbox().quota())?;
        let how = if seize.is_some() { Watch::SEIZED } else { Watch::empty() };
        self.sandbox().tree.lock().trace(&shared, &process, terms, how, (self.tid(), self.process.pid()))?;
        if seize.is_none() {
            // A standard signal never finds the queue full.
            let _ = process.send_to(&shared, Info::new(Signal::STOP, Info::SI_KERNEL, Origin::None));
        }
        if process.is_stopped() {
            // What is stopped with its process stops for its tracer now, before anybody asks.
            shared.set_stop_due(true);
            shared.park().wake_all();
            let moved = || shared.tracing().lock().halt.is_some() || !process.is_stopped() || shared.is_ending();
            self.process.children_changed().wait_until_killed(|| moved().then_some(()))?;
        }
        Ok(())
    }
}
