//! The long way of a call whose task somebody watches: the sandbox's trace, a tracer, a filter.
//!
//! [`dispatch`](crate::dispatch()) comes here only for tasks with a [`Watch`] bit. Order, as in Linux kernel/entry/common.c: the
//! tracer is stopped for before the filter, and after the call; a single step over a call ends after it.

use crate::calls::ptrace::ARCH;
use crate::regs::Regs;
use crate::seccomp::{Data, Mode, action};
use crate::signal::{Cpu, Info, Origin, Signal};
use crate::table::{self, Restart};
use crate::task::{End, Event, Task, Watch};
use linux_raw_sys::general;
use linux_raw_sys::ptrace as raw;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is made.
    Make,
    /// It is not made; its result is in `ax` already.
    Skip,
    /// The task ends instead.
    End(End),
}

/// What a task has to tell on its way to ring 3, when other things that it waits for are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// It runs another program: the id that it had before.
    pub(crate) exec: Option<u32>,
    /// The end of this call.
    pub(crate) call: Option<u64>,
}

/// `-ENOSYS`: what `ax` shows as long as a call has no result.
const NO_RESULT: u64 = 0u64.wrapping_sub(linux_raw_sys::errno::ENOSYS as u64);

/// On the way into a call.
#[cold]
pub(crate) fn before<P: Cpu>(task: &mut Task<P>, regs: &mut Regs) -> Way {
    let watch = task.shared().watch();
    let number = regs.number();
    if watch.intersects(Watch::CALLS | Watch::EMULATED) {
        regs.ax = NO_RESULT;
        task.call_stop(regs, raw::PTRACE_EVENTMSG_SYSCALL_ENTRY);
        if task.verdict().is_some() || watch.contains(Watch::EMULATED) {
            return Way::Skip;
        }
    }
    if watch.intersects(Watch::TRACED) {
        task.due.call = Some(number);
        // A call's number may be anything; the one below all skips the call.
        if regs.number() == u64::MAX {
            return Way::Skip;
        }
    }
    if watch.contains(Watch::FILTERED) { filter(task, regs, true) } else { Way::Make }
}

/// Largest errno. Linux: `MAX_ERRNO`.
const ERRNO_MAX: u32 = 4095;

/// Asks the task's filters. `may_trace`: a tracer may be asked, which is so once for each call. Linux: `__secure_computing`.
fn filter<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, may_trace: bool) -> Way {
    let number = low(regs.number());
    let mode = task.shared().seccomp();
    let answer = match mode {
        Mode::Off => return Way::Make,
        Mode::Strict => return strict(task, number),
        Mode::Filters(_) => mode.ask(&Data::new(number, ARCH, regs.ip, regs.args())),
    };
    drop(mode);
    let word = answer & action::WORD;
    match answer & action::MASK {
        action::ALLOW | action::LOG => Way::Make,
        action::ERRNO => {
            regs.ax = 0u64.wrapping_sub(word.min(ERRNO_MAX).into());
            Way::Skip
        }
        action::TRAP => {
            regs.ax = regs.orig_ax;
            task.compel(stopped_by_filter(regs, number, word));
            Way::Skip
        }
        action::TRACE if !may_trace => Way::Make,
        action::TRACE if task.tells(Event::Seccomp) => {
            regs.ax = NO_RESULT;
            task.event(regs, Event::Seccomp, word.into());
            let is_negative = regs.number() >> 63 != 0;
            if task.verdict().is_some() || is_negative {
                return Way::Skip;
            }
            // The tracer may have made it another call.
            filter(task, regs, false)
        }
        action::TRACE => {
            regs.ax = NO_RESULT;
            Way::Skip
        }
        action::KILL_THREAD if task.process().task_count() > 1 => Way::End(End::Task(31)),
        // What is not known kills, too.
        _ => {
            regs.ax = regs.orig_ax;
            Way::End(End::Signal(Signal::SYS.number()))
        }
    }
}

fn low(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default()
}

/// `SIGSYS`, as a filter sends it.
fn stopped_by_filter(regs: &Regs, number: u32, word: u32) -> Info {
    let int = |word: u32| i32::from_le_bytes(word.to_le_bytes());
    let origin = Origin::Call { ip: regs.ip, number: int(number) };
    Info { signal: Signal::SYS, errno: int(word), code: int(general::SYS_SECCOMP), origin }
}

/// The calls of strict mode.
fn strict<P: Cpu>(task: &Task<P>, number: u32) -> Way {
    let is_allowed = matches!(number, general::__NR_read | general::__NR_write | general::__NR_exit | general::__NR_rt_sigreturn);
    match (is_allowed, task.process().task_count()) {
        (true, _) => Way::Make,
        (false, 1) => Way::End(End::Signal(Signal::KILL.number())),
        // The thread alone.
        (false, _) => Way::End(End::Task(9)),
    }
}

/// On the way out of a call, or to a new program: everything that is due.
#[cold]
pub(crate) fn after<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, interrupted: &mut Option<u64>) {
    let due = core::mem::take(&mut task.due);
    if let Some(old_tid) = due.exec {
        regs.orig_ax = due.call.unwrap_or(u64::MAX);
        task.exec_stop(regs, old_tid);
    }
    let watch = task.shared().watch();
    if watch.contains(Watch::CALLS) {
        if due.call.is_some() {
            shown(task, regs, interrupted, |task, regs| task.call_stop(regs, raw::PTRACE_EVENTMSG_SYSCALL_EXIT));
        }
    } else if watch.contains(Watch::STEP) && due.call.is_some() {
        task.report_step(regs);
    }
}

/// Results that say how an interrupted call is to be made again, which no guest sees but a tracer. Linux: include/linux/errno.h.
const CODES: [(Restart, u64); 4] =
    [(Restart::IfAsked, 512), (Restart::Always, 513), (Restart::NoHandler, 514), (Restart::Block, 516)];

/// Shows an interrupted call to a tracer as Linux does, for as long as `stop` takes; the tracer may make it another, or none.
pub(crate) fn shown<P: Cpu, T>(
    task: &mut Task<P>,
    regs: &mut Regs,
    interrupted: &mut Option<u64>,
    stop: impl FnOnce(&mut Task<P>, &mut Regs) -> T,
) -> T {
    if let Some(number) = *interrupted {
        let restart = table::row(number).map_or(Restart::No, |row| row.restart);
        let code = CODES.iter().find(|(kind, _)| *kind == restart).map_or(linux_raw_sys::errno::EINTR.into(), |(_, code)| *code);
        (regs.orig_ax, regs.ax) = (number, 0u64.wrapping_sub(code));
    }
    let stopped = stop(task, regs);
    let is_call = regs.orig_ax != u64::MAX;
    *interrupted = (is_call && CODES.iter().any(|(_, code)| 0u64.wrapping_sub(*code) == regs.ax)).then_some(regs.orig_ax);
    stopped
}
