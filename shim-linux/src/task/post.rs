//! Sending signals: who gets them, whom they wake, and what they undo.
//!
//! Source: signal(7); Linux kernel/signal.c, `prepare_signal`, `complete_signal`, `retarget_shared_pending`.

use super::process::{Process, SIGNALS_PENDING};
use super::ptrace::Watch;
use super::thread::{End, TaskShared};
use crate::signal::{Cpu, Info, SigSet, Signal};
use alloc::sync::Arc;
use litebox_core::error::Result;
use litebox_core::fs::types::Ready;

/// What stops a process by default.
pub(super) const STOPS: SigSet = SigSet::EMPTY.with(Signal::STOP).with(Signal::TSTP).with(Signal::TTIN).with(Signal::TTOU);
/// How many signals may wait in one place.
pub(super) const PENDING_MAX: usize = 4096;

const _: () = assert!(PENDING_MAX as u64 == SIGNALS_PENDING);

impl<P: Cpu> Process<P> {
    /// Sends it a signal, which any of its tasks takes, or drops one that it ignores.
    ///
    /// # Errors
    /// `AGAIN`: too many wait.
    pub fn send(&self, info: Info) -> Result<()> {
        self.post(info, None)
    }

    /// Sends a signal to one of its tasks.
    ///
    /// # Errors
    /// `AGAIN`: too many wait.
    pub fn send_to(&self, task: &TaskShared<P>, info: Info) -> Result<()> {
        self.post(info, Some(task))
    }

    /// Sends a signal to it, or to one of its tasks. Nothing comes of it once it has ended.
    ///
    /// # Errors
    /// `AGAIN`: too many wait.
    pub(super) fn post(&self, info: Info, to: Option<&TaskShared<P>>) -> Result<()> {
        let signal = info.signal;
        let tasks = self.tasks.lock();
        let Some(first) = to.or(tasks.first().map(|first| &**first)) else { return Ok(()) };
        if signal == Signal::KILL {
            self.doom(&tasks, End::Signal(signal.number()));
            return Ok(());
        }
        if STOPS.contains(signal) {
            self.forget(&tasks, SigSet::EMPTY.with(Signal::CONT));
        } else if signal == Signal::CONT {
            self.forget(&tasks, STOPS);
            self.go_on(&tasks);
        }
        // What is blocked waits even if it is ignored: whoever blocks it may wait for it. A tracer sees all.
        let is_shown = first.watch().contains(Watch::TRACED);
        if !is_shown && !first.mask().contains(signal) && self.with_actions(|actions| actions.get(signal)).ignores(signal) {
            return Ok(());
        }
        match to {
            Some(task) => task.queue(info, self.sandbox().quota())?,
            None => self.with_group(|group| group.pending.push(info, PENDING_MAX, self.sandbox().quota()))?,
        }
        self.signalled().wake(Ready::IN);
        let taker = match to {
            Some(task) => Some(task),
            None => tasks.iter().map(|task| &**task).find(|task| task.wants(signal)),
        };
        if let Some(task) = taker.filter(|task| task.wants(signal)) {
            task.kick();
        }
        Ok(())
    }

    /// Forgets waiting signals of all its tasks.
    fn forget(&self, tasks: &[Arc<TaskShared<P>>], which: SigSet) {
        self.with_group(|group| group.pending.discard(which));
        tasks.iter().for_each(|task| task.forget(which));
    }

    /// Forgets waiting signals that came to be ignored.
    pub(crate) fn discard(&self, which: SigSet) {
        self.forget(&self.tasks.lock(), which);
    }

    /// Lets stopped tasks go on; they tell the parent.
    fn go_on(&self, tasks: &[Arc<TaskShared<P>>]) {
        let was_stopped = self.with_group(|group| {
            let stop = group.stop.take();
            group.continued |= stop.is_some_and(|stop| stop.is_told);
            stop.is_some()
        });
        for task in tasks {
            task.set_stop_due(false);
            if was_stopped {
                task.park().wake_all();
            }
            if task.watch().contains(Watch::SEIZED) {
                task.set_trap();
            }
        }
    }

    /// Lets another task take the waiting signals of `which` that the task `except` does not take any more.
    pub(super) fn pass_on(&self, which: SigSet, except: &TaskShared<P>) {
        let waiting = self.pending().intersection(which);
        if waiting.is_empty() {
            return;
        }
        let tasks = self.tasks.lock();
        for number in 1..=64 {
            let Some(signal) = Signal::new(number).filter(|signal| waiting.contains(*signal)) else { continue };
            let mut others = tasks.iter().filter(|task| !core::ptr::eq(Arc::as_ptr(task), except));
            if let Some(task) = others.find(|task| task.wants(signal)) {
                task.kick();
            }
        }
    }

    /// Decides that the process ends, and how unless that is decided already; makes every task see it.
    pub(super) fn begin_end(&self, end: End) {
        let tasks = self.tasks.lock();
        self.doom(&tasks, end);
    }

    fn doom(&self, tasks: &[Arc<TaskShared<P>>], end: End) {
        let is_new = self.with_group(|group| {
            let is_new = group.verdict.is_none();
            group.verdict.get_or_insert(end);
            group.stop = None;
            let kills = end == End::Signal(Signal::KILL.number());
            is_new || kills && !core::mem::replace(&mut group.killed, true)
        });
        if is_new {
            for task in tasks {
                task.park().wake_all();
                task.kick();
            }
        }
    }

    /// Ends it from outside of the sandbox, as `SIGKILL` does.
    pub fn kill(&self) {
        self.begin_end(End::Signal(Signal::KILL.number()));
    }
}

impl<P: Cpu> TaskShared<P> {
    /// Whether it would take `signal` soon if it were woken.
    fn wants(&self, signal: Signal) -> bool {
        self.woken_by().contains(signal) && !self.is_ending()
    }
}
