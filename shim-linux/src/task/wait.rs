//! Waiting for children. Source: wait(2); Linux kernel/exit.c, `do_wait`, `wait_consider_task`, `eligible_child`.

use super::process::Process;
use super::thread::Task;
use super::tree::{News, Node, Tree};
use super::usage::Resources;
use crate::signal::{Cpu, Signal};
use litebox_core::errno;
use litebox_core::error::Result;

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Any.
    All,
    /// The one with this id.
    Process(u32),
    /// Those of this group.
    Group(u32),
}

/// Children by the signal that tells of their end. See clone(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `SIGCHLD`.
    Ordinary,
    /// Another, or none: `__WCLONE`.
    Clones,
    /// Either: `__WALL`.
    Both,
}

/// What one waits for.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "options of wait(2), each by itself")]
pub(crate) struct Wanted {
    pub(crate) which: Which,
    pub(crate) kind: Kind,
    /// Ends.
    pub(crate) ended: bool,
    /// Stops.
    pub(crate) stopped: bool,
    /// Continuations.
    pub(crate) continued: bool,
    /// The child is left as it is, to be waited for again: `WNOWAIT`.
    pub(crate) keep: bool,
    /// Only children that the caller's own task made: `__WNOTHREAD`.
    pub(crate) own: bool,
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The child.
    pub(crate) pid: u32,
    /// Its real user.
    pub(crate) uid: u32,
    /// `si_code`.
    pub(crate) code: i32,
    /// `si_status`.
    pub(crate) status: i32,
    /// The status as wait4(2) has it.
    pub(crate) word: u32,
    /// What it and its children have used.
    pub(crate) used: Resources,
}

impl Report {
    pub(super) fn of(pid: u32, uid: u32, news: News, used: Resources) -> Self {
        let (code, status) = news.code_and_status();
        let low = u32::from(status.to_le_bytes()[0]);
        let word = match news {
            News::Ended(super::End::Signal(_)) => low,
            News::Dumped(_) => low | 0x80,
            News::Ended(_) => low.wrapping_shl(8),
            News::Stopped(_) => low.wrapping_shl(8) | 0x7f,
            News::Continued => 0xffff,
        };
        Self { pid, uid, code, status, word, used }
    }
}

impl Wanted {
    /// Whether the task `tid` of `process` is meant.
    pub(super) fn names<P: Cpu>(&self, tid: u32, process: &Process<P>) -> bool {
        match self.which {
            Which::All => true,
            Which::Process(pid) => tid == pid,
            Which::Group(group) => process.with(|state| state.group) == group,
        }
    }

    fn is_eligible<P: Cpu>(&self, node: &Node<P>, task: u32) -> bool {
        let matches = self.names(node.process.pid(), &node.process);
        let kind = match self.kind {
            Kind::Both => true,
            Kind::Ordinary => node.exit_signal == Signal::CHLD.number(),
            Kind::Clones => node.exit_signal != Signal::CHLD.number(),
        };
        matches && kind && (!self.own || node.parent_task == task)
    }

    /// News of a child, if wanted. Of one that is traced the tracer hears first of its end, and its parent only if it is the tracer.
    fn news<P: Cpu>(&self, tree: &Tree<P>, node: &Node<P>) -> Option<News> {
        let pid = node.process.pid();
        let (is_traced, is_reparented) = (tree.tracees.contains_key(&pid), tree.is_reparented(pid));
        let is_held = is_reparented || tree.has_ended_threads(pid);
        let ended = node.ended.filter(|_| self.ended && !is_held).map(|end| News::ended(&node.process, end));
        let stopped = node.stopped.filter(|_| self.stopped && (!is_traced || is_reparented)).map(News::Stopped);
        ended.or(stopped).or_else(|| (self.continued && node.continued).then_some(News::Continued))
    }
}

impl<P: Cpu> Tree<P> {
    /// The first wanted news of the children of `pid`, or of who else it traces.
    ///
    /// # Errors
    /// `CHILD`: there is none of either.
    fn find(&mut self, pid: u32, task: u32, wanted: &Wanted) -> Result<Option<Report>> {
        let none = errno!(CHILD, "no such child");
        let parent = self.nodes.get(&pid).ok_or(none)?;
        let mut eligible = parent.children.iter().filter_map(|child| self.nodes.get(child));
        let mut eligible = eligible.by_ref().filter(|node| wanted.is_eligible(node, task)).peekable();
        let has_children = eligible.peek().is_some();
        let found = eligible.find_map(|node| {
            let news = wanted.news(self, node)?;
            let [uid, ..] = node.process.with(|state| state.ids).users;
            Some((Report::of(node.process.pid(), uid, news, node.process.all_resources()), news))
        });
        let Some((report, news)) = found else {
            let (has_tracees, report) = self.find_tracee(pid, task, wanted);
            return if has_children || has_tracees { Ok(report) } else { Err(none) };
        };
        if !wanted.keep {
            match news {
                News::Ended(_) | News::Dumped(_) => {
                    if let Some(parent) = self.nodes.get(&pid) {
                        parent.process.note_child(&report.used);
                    }
                    self.remove(report.pid);
                }
                News::Stopped(_) | News::Continued => {
                    if let Some(node) = self.nodes.get_mut(&report.pid) {
                        (node.stopped, node.continued) = (None, false);
                    }
                }
            }
        }
        Ok(Some(report))
    }
}

impl<P: Cpu> Process<P> {
    /// Looks for wanted news of its children, on behalf of its task `task`.
    ///
    /// # Errors
    /// `CHILD`: it has no such child.
    fn find_child(&self, task: u32, wanted: &Wanted) -> Result<Option<Report>> {
        self.sandbox().tree.lock().find(self.pid(), task, wanted)
    }
}

impl<P: Cpu> Task<P> {
    /// News of a child, without waiting for any.
    ///
    /// # Errors
    /// `CHILD`: there is no such child.
    pub(crate) fn look_for_child(&self, wanted: &Wanted) -> Result<Option<Report>> {
        self.process.find_child(self.tid(), wanted)
    }

    /// Waits for news of a child.
    ///
    /// # Errors
    /// `CHILD`: there is no such child. `Interrupted`.
    pub(crate) fn wait_for_child(&self, wanted: &Wanted) -> Result<Report> {
        let found = self.process.children_changed().wait_until(None, || self.look_for_child(wanted).transpose())?;
        // Without a deadline there is news, or an error.
        found.unwrap_or(Err(errno!(CHILD)))
    }
}
