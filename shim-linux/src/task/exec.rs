//! A process becomes another program: what execve(2) keeps, and what it takes away.
//!
//! All that can fail is done before (`crate::exec`), but for the end of other tasks, and open files that are shared with another
//! process: whatever goes wrong then ends the process. Source: execve(2); Linux fs/exec.c, `begin_new_exec`, `de_thread`.

use super::thread::{End, Task};
use crate::exec::Prepared;
use crate::signal::{AltStack, Cpu, Signal};
use crate::task::thread::After;
use alloc::boxed::Box;
use alloc::sync::Arc;
use litebox_core::error::{Error, Result};
use litebox_core::sync::Mutex;

impl<P: Cpu> Task<P> {
    /// Runs `prepared` in place of the present program, once the call returns.
    ///
    /// # Errors
    /// `Interrupted`: the task has to end.
    pub(crate) fn exec(&mut self, prepared: Prepared<P>) -> Result<()> {
        let old_tid = self.tid();
        self.be_alone()?;
        let process = Arc::clone(&self.process);
        // Handlers and stacks of the old program mean nothing in the new one.
        self.release_futexes();
        self.clear_tid();
        self.sequences = None;
        P::watch_sequences(None);
        if self.unshare_files().is_err() {
            process.begin_end(End::Signal(Signal::KILL.number()));
            return Err(Error::Interrupted);
        }
        *process.files.lock() = Some(Arc::clone(self.files()));
        *process.fs.lock() = Arc::clone(&self.fs);
        self.files().close_on_exec();
        process.own_actions();
        process.close_completions();
        process.timers().delete_all(&process);
        self.stack = AltStack::default();
        self.saved_mask = None;
        self.shared.set_name(prepared.name);
        process.with(|state| {
            (state.dumpable, state.barriers) = (prepared.dumpable, 0);
            let is_set_id = !prepared.ids.are_plain();
            if is_set_id {
                state.parent_death = 0;
            }
            state.ids = prepared.ids;
            state.capabilities.exec(&prepared.ids, is_set_id, prepared.gains);
        });
        process.running().set(prepared.exec, prepared.runs);
        self.note_memory();
        self.mm = prepared.mm;
        self.mm.set_limits(process.with(|state| state.map_limits()));
        if let Some(node) = self.sandbox().tree.lock().nodes.get_mut(&process.pid()) {
            (node.has_execed, node.exit_signal) = (true, Signal::CHLD.number());
        }
        self.release_parent();
        if self.is_traced() {
            self.due.exec = Some(old_tid);
        }
        self.after = After::Exec(Box::new(prepared.regs));
        Ok(())
    }

    /// Ends all other tasks of the process and takes its id.
    fn be_alone(&mut self) -> Result<()> {
        let process = Arc::clone(&self.process);
        {
            let tasks = process.tasks.lock();
            let is_late = process.with_group(|group| group.verdict.is_some() || core::mem::replace(&mut group.execing, true));
            if is_late {
                return Err(Error::Interrupted);
            }
            tasks.iter().filter(|task| !Arc::ptr_eq(task, &self.shared)).for_each(|task| task.doom());
        }
        let alone = self.park_until(|| (process.task_count() == 1).then_some(()));
        process.with_group(|group| group.execing = false);
        alone.ok_or(Error::Interrupted)?;
        let (old, pid) = (self.tid(), process.pid());
        if old != pid {
            self.sandbox().owners().end(old);
            let mut tree = self.sandbox().tree.lock();
            tree.threads.remove(&old);
            self.shared.set_tid(pid);
            tree.threads.insert(pid, Arc::clone(&process));
            tree.tracee_renamed(old, pid);
            let children = tree.nodes.get(&pid).map(|node| node.children.clone()).unwrap_or_default();
            for child in children {
                if let Some(node) = tree.nodes.get_mut(&child).filter(|node| node.parent_task == old) {
                    node.parent_task = pid;
                }
            }
        }
        Ok(())
    }
}

impl<P: Cpu> super::Process<P> {
    /// Gives it actions of its own, with all handlers taken away.
    fn own_actions(&self) {
        let mut slot = self.actions.lock();
        let mut actions = slot.lock().clone();
        actions.exec();
        *slot = Arc::new(Mutex::<P, _>::new(actions));
    }
}
