//! Job control: stopping and going on. Source: signal(7); Linux kernel/signal.c, `do_signal_stop`, `do_notify_parent_cldstop`.

use super::process::{Process, Stop};
use super::ptrace::Watch;
use super::thread::Task;
use super::tree::News;
use crate::signal::{Cpu, Signal};
use alloc::sync::Arc;

impl<P: Cpu> Task<P> {
    /// Stops all tasks of its process by `signal`'s default action; each stops on its way to ring 3.
    ///
    /// Nothing comes of it in a group that nobody could continue, but for `SIGSTOP`.
    pub(crate) fn stop(&self, signal: Signal) {
        if signal != Signal::STOP {
            let group = self.process.with(|state| state.group);
            if self.sandbox().tree.lock().is_orphaned(group, 0) {
                return;
            }
        }
        let tasks = self.process.tasks.lock();
        self.process.with_group(|group| {
            if group.verdict.is_none() && group.stop.is_none() {
                group.stop = Some(Stop { signal, is_told: false });
            }
        });
        for task in tasks.iter() {
            task.set_stop_due(true);
            if task.watch().contains(Watch::SEIZED) {
                task.park().wake_all();
            }
            if !Arc::ptr_eq(task, &self.shared) {
                task.kick();
            }
        }
    }

    /// Sleeps as long as its process is stopped; false if the host kills it.
    pub(crate) fn stay_stopped(&self) -> bool {
        let stops = self.process.with_group(|group| {
            let stops = group.stop.is_some();
            self.shared.set_stopped(stops);
            stops
        });
        if !stops {
            return true;
        }
        if let Some(signal) = self.process.settle_stop() {
            self.process.tell_stop(signal);
        }
        // A tracer that comes takes the stop over.
        let went_on = self.park_until(|| (!self.process.is_stopped() || self.is_traced()).then_some(())).is_some();
        self.process.with_group(|_| self.shared.set_stopped(false));
        self.tell_continuation();
        went_on || self.verdict().is_some()
    }

    /// Tells the parent that the process goes on, if nobody did yet.
    pub(crate) fn tell_continuation(&self) {
        if self.process.with_group(|group| core::mem::take(&mut group.continued)) {
            self.process.tell_continued();
        }
    }

    /// Whether it is to stop. A tracee stops once, and then goes on as its tracer says.
    pub(crate) fn is_stopped(&self) -> bool {
        self.process.wants_a_look() && self.process.is_stopped() && (!self.is_traced() || self.shared.is_stop_due())
    }
}

impl<P: Cpu> Process<P> {
    /// The signal of a stop that is complete now: every task has stopped, or is ending.
    pub(super) fn settle_stop(&self) -> Option<Signal> {
        let tasks = self.tasks.lock();
        self.with_group(|group| {
            let stop = group.stop.as_mut().filter(|stop| !stop.is_told)?;
            let all = !tasks.is_empty() && tasks.iter().all(|task| task.is_stopped() || task.is_ending());
            stop.is_told = all;
            all.then_some(stop.signal)
        })
    }

    /// Tells the parent of a stop.
    pub(super) fn tell_stop(&self, signal: Signal) {
        let mut tree = self.sandbox().tree.lock();
        if let Some(node) = tree.nodes.get_mut(&self.pid()) {
            (node.stopped, node.continued) = (Some(signal), false);
            tree.tell_parent(self.pid(), News::Stopped(signal));
        }
    }

    /// Tells the parent that it goes on.
    fn tell_continued(&self) {
        let mut tree = self.sandbox().tree.lock();
        if let Some(node) = tree.nodes.get_mut(&self.pid()) {
            (node.stopped, node.continued) = (None, true);
            tree.tell_parent(self.pid(), News::Continued);
        }
    }
}
