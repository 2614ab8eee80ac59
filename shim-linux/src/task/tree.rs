//! Who is whose parent, and which ids are taken.
//!
//! Invariants: a process is in `nodes` from its birth until it is reaped; a child is in the `children` of its node's `parent`
//! unless that is 0, which is nobody in the sandbox. Groups and sessions change only with the tree locked. Source: Linux
//! kernel/exit.c, `forget_original_parent`, `exit_notify`, `kill_orphaned_pgrp`; kernel/pid.c.

use super::process::{INIT, Process, Role};
use super::ptrace::Entry;
use super::thread::End;
use crate::signal::{Cpu, DefaultAction, Handler, Info, Origin, SaFlags, Signal};
use crate::usage::Usage;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::mem;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;

/// Ids are below this. Linux: `PID_MAX_LIMIT`.
pub(super) const ID_END: u32 = 1 << 22;
/// Where ids begin again after the last. Linux: `RESERVED_PIDS`.
const ID_AGAIN: u32 = 300;

/// A process and its place.
pub(super) struct Node<P: Cpu> {
    pub(super) process: Arc<Process<P>>,
    /// Its parent; 0 if nobody in the sandbox will wait for it.
    pub(super) parent: u32,
    /// The task of the parent's that made it. See wait(2), `__WNOTHREAD`.
    pub(super) parent_task: u32,
    pub(super) children: BTreeSet<u32>,
    /// What tells the parent of its end: a signal's number, or anything else for nothing.
    pub(super) exit_signal: u32,
    pub(super) has_execed: bool,
    /// How it ended: it is a zombie.
    pub(super) ended: Option<End>,
    /// The signal of a stop that the parent has not been told of by wait(2).
    pub(super) stopped: Option<Signal>,
    /// A continuation that the parent has not been told of by wait(2).
    pub(super) continued: bool,
}

impl<P: Cpu> Node<P> {
    pub(super) fn new(process: Arc<Process<P>>, parent: u32, parent_task: u32, exit_signal: u32) -> Self {
        Self {
            process,
            parent,
            parent_task,
            children: BTreeSet::new(),
            exit_signal,
            has_execed: false,
            ended: None,
            stopped: None,
            continued: false,
        }
    }
}

/// Every process of a sandbox, and whose child it is.
pub(super) struct Tree<P: Cpu> {
    /// Tasks that there may be, and processes with their zombies.
    room: usize,
    last_id: u32,
    has_wrapped: bool,
    /// Whether the sandbox has ended: nobody is born any more.
    pub(super) ended: bool,
    pub(super) nodes: BTreeMap<u32, Node<P>>,
    /// The process of every living task, by the task's id.
    pub(super) threads: BTreeMap<u32, Arc<Process<P>>>,
    /// The tasks that are traced.
    pub(super) tracees: BTreeMap<u32, Entry<P>>,
    /// What processes have used that have ended.
    pub(super) spent: Usage,
}

/// What a parent is told of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Ended(End),
    /// It ended by this signal, at which Linux would write its memory to a file. None is written here.
    Dumped(u32),
    Stopped(Signal),
    Continued,
}

impl News {
    /// That `process` has ended, as `end`. See core(5): for a dump, its limit allows for one and others may look into it.
    pub(super) fn ended<P: Cpu>(process: &Process<P>, end: End) -> Self {
        let End::Signal(number) = end else { return Self::Ended(end) };
        let may = process.with(|state| state.dumpable && state.limit(raw::RLIMIT_CORE).is_some_and(|limit| limit.soft > 0));
        let dumps = Signal::new(u64::from(number)).is_some_and(|signal| DefaultAction::of(signal) == DefaultAction::Core);
        if may && dumps { Self::Dumped(number) } else { Self::Ended(end) }
    }

    /// `si_code` and `si_status` of the signal that tells it.
    pub(super) fn code_and_status(self) -> (i32, i32) {
        let (code, status) = match self {
            Self::Ended(End::Task(status) | End::Process(status)) => (raw::CLD_EXITED, u32::from(status)),
            Self::Ended(End::Signal(signal)) => (raw::CLD_KILLED, signal),
            Self::Dumped(signal) => (raw::CLD_DUMPED, signal),
            Self::Stopped(signal) => (raw::CLD_STOPPED, signal.number()),
            Self::Continued => (raw::CLD_CONTINUED, Signal::CONT.number()),
        };
        let int = |number: u32| i32::try_from(number).unwrap_or_default();
        (int(code), int(status))
    }
}

impl<P: Cpu> Tree<P> {
    /// An empty one with room for so many tasks.
    pub(super) fn new(tasks: u32) -> Self {
        let room = usize::try_from(tasks).unwrap_or(usize::MAX);
        Self {
            room,
            last_id: INIT,
            has_wrapped: false,
            ended: false,
            nodes: BTreeMap::new(),
            threads: BTreeMap::new(),
            tracees: BTreeMap::new(),
            spent: Usage::default(),
        }
    }

    pub(super) fn last_id(&self) -> u32 {
        self.last_id
    }

    /// An id that no task, group or session has.
    ///
    /// # Errors
    /// `AGAIN`: none is left.
    pub(super) fn new_id(&mut self) -> Result<u32> {
        for _ in 0..ID_END {
            let next = self.last_id.saturating_add(1);
            self.has_wrapped |= next >= ID_END;
            self.last_id = if next < ID_END { next } else { ID_AGAIN };
            if !self.has_wrapped || !self.is_taken(self.last_id) {
                return Ok(self.last_id);
            }
        }
        Err(errno!(AGAIN, "no ids are left"))
    }

    fn is_taken(&self, id: u32) -> bool {
        let related = |node: &Node<P>| node.process.with(|state| state.group == id || state.session == id);
        self.nodes.contains_key(&id)
            || self.threads.contains_key(&id)
            || self.tracees.contains_key(&id)
            || self.nodes.values().any(related)
    }

    /// How many processes there are, zombies included, without init.
    pub(super) fn processes(&self) -> usize {
        self.nodes.len().saturating_sub(usize::from(self.nodes.contains_key(&INIT)))
    }

    /// Whether another task may be born.
    ///
    /// # Errors
    /// `AGAIN`: there are too many, or the sandbox has ended.
    pub(super) fn check_room(&self) -> Result<()> {
        if self.ended || self.threads.len() >= self.room || self.processes() >= self.room {
            return Err(errno!(AGAIN, "no more tasks in this sandbox"));
        }
        Ok(())
    }

    /// Puts a new process in its place.
    pub(super) fn insert(&mut self, node: Node<P>) {
        let pid = node.process.pid();
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.children.insert(pid);
        }
        self.nodes.insert(pid, node);
    }

    /// Puts a first program's process in its place, and init beside it.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(super) fn insert_first(&mut self, first: &Arc<Process<P>>) -> Result<()> {
        if !self.nodes.contains_key(&INIT) {
            self.insert(Node::new(Process::init(first)?, 0, 0, 0));
        }
        self.insert(Node::new(Arc::clone(first), 0, 0, 0));
        Ok(())
    }

    /// Takes init away if nobody else is there: it would keep the sandbox.
    pub(super) fn dismiss_init(&mut self) {
        if self.nodes.values().all(|node| node.process.role() == Role::Init) {
            self.nodes.clear();
        }
    }

    /// Takes a process away: it was reaped, or never lived.
    pub(super) fn remove(&mut self, pid: u32) {
        let Some(node) = self.nodes.remove(&pid) else { return };
        self.tracees.remove(&pid);
        node.process.has_ended().wake_all();
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.children.remove(&pid);
        }
    }

    /// Sends the parent of `pid` what its signal for `news` is, and wakes it. True if nobody will wait for the child.
    pub(super) fn tell_parent(&self, pid: u32, news: News) -> bool {
        let Some(node) = self.nodes.get(&pid) else { return true };
        let news = if let News::Ended(end) = news { News::ended(&node.process, end) } else { news };
        let Some(parent) = self.nodes.get(&node.parent).map(|parent| &parent.process) else { return true };
        let action = parent.with_actions(|actions| actions.get(Signal::CHLD));
        let ignores = action.handler() == Handler::Ignore;
        let (signal, reaps) = match news {
            News::Ended(_) | News::Dumped(_) => {
                let is_chld = node.exit_signal == Signal::CHLD.number();
                let reaps = is_chld && (ignores || action.flags().contains(SaFlags::NOCLDWAIT));
                let signal = Signal::new(u64::from(node.exit_signal)).filter(|_| !(is_chld && ignores));
                (signal, reaps)
            }
            News::Stopped(_) | News::Continued => {
                let silent = ignores || action.flags().contains(SaFlags::NOCLDSTOP);
                ((!silent).then_some(Signal::CHLD), false)
            }
        };
        if let Some(signal) = signal {
            let [uid, ..] = node.process.with(|state| state.ids).users;
            let (code, status) = news.code_and_status();
            let origin = Origin::Child { pid: i32::try_from(pid).unwrap_or_default(), uid, status };
            // A full queue loses the info, not the signal; a real-time one past the limit is lost, as in Linux.
            let _ = parent.post(Info::new(signal, code, origin), None);
        }
        parent.children_changed().wake_all();
        reaps
    }

    /// Who becomes the parent of a child of `pid`, which ends: its nearest ancestor that asked for that, or nobody.
    ///
    /// Linux falls back on the first process of the namespace. Here that is init, which has nobody to wait: the sandbox reaps for it.
    fn reaper(&self, pid: u32) -> Option<u32> {
        let mut at = self.nodes.get(&pid)?.parent;
        // The way up ends: a parent was there before its child, and who adopts is an ancestor.
        while let Some(node) = self.nodes.get(&at) {
            if node.ended.is_none() && node.process.with(|state| state.subreaper) {
                return Some(at);
            }
            at = node.parent;
        }
        None
    }

    /// Gives the children of `pid`, which has ended, to somebody else.
    pub(super) fn orphan_children(&mut self, pid: u32) {
        let reaper = self.reaper(pid);
        let children = self.nodes.get_mut(&pid).map(|node| mem::take(&mut node.children)).unwrap_or_default();
        for child in &children {
            let Some(node) = self.nodes.get_mut(child) else { continue };
            node.parent = reaper.unwrap_or(0);
            node.parent_task = node.parent;
            node.exit_signal = Signal::CHLD.number();
            node.process.set_parent(reaper.unwrap_or(INIT));
            let ended = node.ended;
            let process = Arc::clone(&node.process);
            if let Some(reaper) = reaper.and_then(|reaper| self.nodes.get_mut(&reaper)) {
                reaper.children.insert(*child);
            }
            process.parent_died();
            if ended.is_some_and(|end| !self.is_reparented(*child) && self.tell_parent(*child, News::Ended(end))) {
                self.remove(*child);
            }
        }
        for child in children {
            self.tell_orphaned_group(child, pid, false);
        }
    }

    /// Tells the tasks of `parent_task` of its end, which was its process's to give it children: another task takes its place.
    pub(super) fn orphan_task(&mut self, pid: u32, from: u32, to: u32) {
        let Some(children) = self.nodes.get(&pid).map(|node| node.children.clone()) else { return };
        for child in children {
            let Some(node) = self.nodes.get_mut(&child).filter(|node| node.parent_task == from) else { continue };
            node.parent_task = to;
            node.process.parent_died();
        }
    }

    /// Members of a group that have not ended.
    fn members(&self, group: u32) -> impl Iterator<Item = (&u32, &Node<P>)> {
        self.nodes.iter().filter(move |(_, node)| node.ended.is_none() && node.process.with(|state| state.group) == group)
    }

    /// Whether no member of the group, `ignored` aside, has a parent in another group of the same session: nobody could continue it.
    pub(super) fn is_orphaned(&self, group: u32, ignored: u32) -> bool {
        !self.members(group).any(|(pid, node)| {
            let Some(parent) = self.nodes.get(&node.parent).filter(|_| *pid != ignored) else { return false };
            let session = node.process.with(|state| state.session);
            parent.process.with(|state| state.group != group && state.session == session)
        })
    }

    /// Sends `SIGHUP` and `SIGCONT` to the group of `pid` if it has stopped members and the end of `pid` itself, or else that of its
    /// parent `father`, left it without anybody who could continue it.
    pub(super) fn tell_orphaned_group(&self, pid: u32, father: u32, own: bool) {
        let relation = |pid: u32| {
            let node = self.nodes.get(&pid)?;
            Some(node.process.with(|state| (state.group, state.session)))
        };
        let Some((group, session)) = relation(pid) else { return };
        let other = if own { self.nodes.get(&pid).map_or(0, |node| node.parent) } else { father };
        let Some((others, others_session)) = relation(other) else { return };
        if others == group || others_session != session || !self.is_orphaned(group, if own { pid } else { 0 }) {
            return;
        }
        if self.members(group).any(|(_, node)| node.process.is_stopped()) {
            for (_, node) in self.members(group) {
                for signal in [Signal::HUP, Signal::CONT] {
                    // Standard signals never find the queue full.
                    let _ = node.process.post(Info::new(signal, Info::SI_KERNEL, Origin::None), None);
                }
            }
        }
    }
}
