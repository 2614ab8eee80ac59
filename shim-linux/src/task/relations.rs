//! Groups, sessions, and what a task stops to share. Source: setpgid(2), setsid(2), unshare(2); Linux kernel/sys.c.

use super::process::Process;
use super::thread::Task;
use crate::signal::Cpu;
use alloc::sync::Arc;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::path::FsContext;
use litebox_core::sync::Mutex;

impl<P: Cpu> Process<P> {
    /// Moves it, or the child `pid` of it, into `group`. See setpgid(2).
    ///
    /// # Errors
    /// - `SRCH`: not itself and no child of it.  - `INVAL`: a task that is not the first of its process.
    /// - `ACCESS`: the child runs another program already.
    /// - `PERM`: a child of another session, the first process of a session, or no such group in the session.
    pub(crate) fn set_group(&self, pid: u32, group: u32) -> Result<()> {
        let tree = self.sandbox().tree.lock();
        let Some(node) = tree.nodes.get(&pid) else {
            return Err(if tree.threads.contains_key(&pid) { errno!(INVAL, "no process") } else { errno!(SRCH) });
        };
        let session = self.with(|state| state.session);
        let target = &node.process;
        let of_target = target.with(|state| state.session);
        if node.parent == self.pid() {
            if of_target != session {
                return Err(errno!(PERM, "a child of another session"));
            }
            if node.has_execed {
                return Err(errno!(ACCESS, "the child runs another program"));
            }
        } else if pid != self.pid() {
            return Err(errno!(SRCH, "no child"));
        }
        if of_target == pid {
            return Err(errno!(PERM, "it leads a session"));
        }
        let is_member = |state: &mut super::ProcessState| state.group == group && state.session == session;
        if group != pid && !tree.nodes.values().any(|node| node.process.with(is_member)) {
            return Err(errno!(PERM, "no such group in the session"));
        }
        target.with(|state| state.group = group);
        Ok(())
    }

    /// Begins a session and a group of its own; gives their id. See setsid(2).
    ///
    /// # Errors
    /// `PERM`: it leads a group.
    pub(crate) fn begin_session(&self) -> Result<u32> {
        let tree = self.sandbox().tree.lock();
        let leads = |state: &mut super::ProcessState| state.group == self.pid();
        if tree.nodes.values().any(|node| node.process.with(leads)) {
            return Err(errno!(PERM, "it leads a group"));
        }
        self.with(|state| (state.group, state.session) = (self.pid(), self.pid()));
        self.forget_terminal();
        Ok(self.pid())
    }
}

impl<P: Cpu> Task<P> {
    /// Whether no other process has its memory.
    pub(crate) fn has_own_memory(&self) -> bool {
        let tree = self.sandbox().tree.lock();
        let mut others = tree.nodes.values().filter(|node| node.process.pid() != self.process.pid());
        !others.any(|node| node.process.running().get().is_some_and(|exec| exec.mm.as_ptr() == Arc::as_ptr(&self.mm)))
    }

    /// Gives it open files of its own, the same as before.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn unshare_files(&mut self) -> Result<()> {
        // Its own and, for a first task, its process's.
        let mut slot = self.process.files.lock();
        let is_first = slot.as_ref().is_some_and(|files| Arc::ptr_eq(files, &self.files));
        if Arc::strong_count(&self.files) <= if is_first { 2 } else { 1 } {
            return Ok(());
        }
        let copy = self.files.fork()?;
        if is_first && self.tid() == self.process.pid() {
            *slot = Some(Arc::clone(&copy));
        }
        drop(slot);
        self.files = copy;
        Ok(())
    }

    /// Has its paths start from places of their own.
    pub(crate) fn set_fs(&mut self, fs: FsContext<P>) {
        let copy = Arc::new(Mutex::<P, _>::new(fs));
        let mut slot = self.process.fs.lock();
        if self.tid() == self.process.pid() {
            *slot = Arc::clone(&copy);
        }
        drop(slot);
        self.fs = copy;
    }
}
