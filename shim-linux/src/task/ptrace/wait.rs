//! Waiting for tracees. Source: wait(2), ptrace(2); Linux kernel/exit.c, `wait_consider_task`, `wait_task_zombie`.

use super::super::thread::End;
use super::super::tree::{News, Tree};
use super::super::wait::{Report, Wanted};
use super::Entry;
use crate::signal::Cpu;
use linux_raw_sys::general as raw;

impl<P: Cpu> Tree<P> {
    /// Whether the process `pid` is traced by another than its parent, which learns of its end only after its tracer.
    pub(in crate::task) fn is_reparented(&self, pid: u32) -> bool {
        let parent = self.nodes.get(&pid).map(|node| node.parent);
        self.tracees.get(&pid).is_some_and(|entry| Some(entry.tracer_process) != parent)
    }

    /// Whether other tasks of process `pid` have ended and their tracer was not told: its own end is told after theirs.
    pub(in crate::task) fn has_ended_threads(&self, pid: u32) -> bool {
        self.tracees.iter().any(|(tid, entry)| *tid != pid && entry.ended.is_some() && entry.process.pid() == pid)
    }

    /// Looks among the tracees of process `pid`, on behalf of its task `task`: whether there is any that is wanted, and its news.
    pub(in crate::task) fn find_tracee(&mut self, pid: u32, task: u32, wanted: &Wanted) -> (bool, Option<Report>) {
        let mut any = false;
        let mut found = None;
        for (tid, entry) in &self.tracees {
            if entry.tracer_process != pid || (wanted.own && entry.tracer != task) || !wanted.names(*tid, &entry.process) {
                continue;
            }
            any = true;
            let is_held = entry.ended.is_some() && *tid == entry.process.pid() && self.has_ended_threads(*tid);
            found = if is_held { None } else { entry.news(*tid, wanted) };
            if found.is_some() {
                break;
            }
        }
        let Some((report, has_ended)) = found else { return (any, None) };
        if has_ended && !wanted.keep {
            // The real parent, if that is another, is told now.
            self.untrace(report.pid, None);
        }
        (true, Some(report))
    }

    /// Notes the end of the task `tid`, which may be traced: of the first task of a process, when the process has ended. True if its
    /// tracer, another than its parent, is to be told before anybody else.
    pub(in crate::task) fn tracee_ended(&mut self, tid: u32, end: End) -> bool {
        let is_leader = self.nodes.contains_key(&tid);
        if is_leader && !self.is_reparented(tid) {
            // Its parent waits for it as for any child.
            return false;
        }
        let Some(entry) = self.tracees.get_mut(&tid) else { return false };
        entry.ended = Some(end);
        let (code, status) = News::ended(&entry.process, end).code_and_status();
        if self.tell_tracer(tid, u32::try_from(code).unwrap_or_default(), status) {
            return true;
        }
        if let Some(entry) = self.tracees.get_mut(&tid) {
            entry.ended = None;
        }
        self.untrace(tid, None);
        false
    }
}

impl<P: Cpu> Entry<P> {
    /// Its news, if any is wanted, and whether that is its end.
    fn news(&self, tid: u32, wanted: &Wanted) -> Option<(Report, bool)> {
        let [uid, ..] = self.process.with(|state| state.ids).users;
        let used = self.process.all_resources();
        if let Some(end) = self.ended {
            return wanted.ended.then(|| (Report::of(tid, uid, News::ended(&self.process, end), used), true));
        }
        let mut tracing = self.shared.tracing().lock();
        let halt = tracing.stopped().filter(|halt| !halt.told)?;
        halt.told = !wanted.keep;
        let status = i32::try_from(halt.code).unwrap_or_default();
        let code = i32::try_from(raw::CLD_TRAPPED).unwrap_or_default();
        Some((Report { pid: tid, uid, code, status, word: halt.code << 8 | 0x7f, used }, false))
    }
}
