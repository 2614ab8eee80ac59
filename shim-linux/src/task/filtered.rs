//! Which filters tasks have, and giving them to others. See seccomp(2).

use super::process::Process;
use super::ptrace::Watch;
use super::thread::TaskShared;
use crate::seccomp::Mode;
use crate::signal::Cpu;

impl<P: Cpu> TaskShared<P> {
    /// What filters its calls.
    pub(crate) fn seccomp(&self) -> Mode {
        self.seccomp.lock().clone()
    }

    /// From now on, `mode` filters its calls.
    pub(crate) fn set_seccomp(&self, mode: Mode) {
        if mode.number() != 0 {
            let old = core::mem::replace(&mut *self.seccomp.lock(), mode);
            self.watch_also(Watch::FILTERED);
            drop(old);
        }
    }
}

impl<P: Cpu> Process<P> {
    /// Gives all tasks `mode`, which task `tid` has built on its own mode `own`; if one has others, nobody gets it, and that one's id
    /// is returned.
    pub(crate) fn set_seccomp(&self, tid: u32, own: &Mode, mode: &Mode) -> Option<u32> {
        let tasks = self.tasks.lock();
        let mut others = tasks.iter().filter(|task| task.tid() != tid && !task.is_ending());
        if let Some(task) = others.find(|task| !task.seccomp().may_become(own)) {
            return Some(task.tid());
        }
        tasks.iter().for_each(|task| task.set_seccomp(mode.clone()));
        None
    }
}
