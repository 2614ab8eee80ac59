//! The tracee's side: where it stops, what it says, how it goes on.

use super::super::process::Process;
use super::super::thread::{End, Task, TaskShared};
use super::super::tree::Tree;
use super::{Going, Halt, Options, Registers, Watch};
use crate::regs::{FLAG_TF, Regs};
use crate::signal::{Cpu, Handler, Info, Origin, SaFlags, SigSet, Signal};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem;
use linux_raw_sys::general;
use linux_raw_sys::ptrace as raw;

/// What a tracee stops for beside signals and calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Fork,
    Vfork,
    Clone,
    Exec,
    VforkDone,
    Exit,
    Seccomp,
}

impl Event {
    const fn number(self) -> u32 {
        match self {
            Self::Fork => raw::PTRACE_EVENT_FORK,
            Self::Vfork => raw::PTRACE_EVENT_VFORK,
            Self::Clone => raw::PTRACE_EVENT_CLONE,
            Self::Exec => raw::PTRACE_EVENT_EXEC,
            Self::VforkDone => raw::PTRACE_EVENT_VFORK_DONE,
            Self::Exit => raw::PTRACE_EVENT_EXIT,
            Self::Seccomp => raw::PTRACE_EVENT_SECCOMP,
        }
    }

    const fn option(self) -> Options {
        match self {
            Self::Fork => Options::FORK,
            Self::Vfork => Options::VFORK,
            Self::Clone => Options::CLONE,
            Self::Exec => Options::EXEC,
            Self::VforkDone => Options::VFORK_DONE,
            Self::Exit => Options::EXIT,
            Self::Seccomp => Options::SECCOMP,
        }
    }
}

/// Whether a task makes one instruction at a time, and by whose wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stepping {
    /// It does not, or it set the flag itself.
    #[default]
    Own,
    /// Its tracer has set the flag, which nobody is shown.
    Forced,
}

/// A stop, as the tracee describes it.
struct Why {
    code: u32,
    info: Option<Info>,
    message: u64,
    /// It is the stop of the whole process.
    is_group: bool,
    /// It ends when its process does.
    is_last: bool,
}

fn int(number: u32) -> i32 {
    i32::from_le_bytes(number.to_le_bytes())
}

impl<P: Cpu> TaskShared<P> {
    /// Has it stop for its tracer soon. Linux: `JOBCTL_TRAP_STOP`, `JOBCTL_TRAP_NOTIFY`.
    pub(in crate::task) fn set_trap(&self) {
        self.set_trapped(true);
        self.park().wake_all();
        self.kick();
    }
}

impl<P: Cpu> Tree<P> {
    /// Tells the tracer of task `tid` of its stop or end. False if nobody will wait for it.
    pub(in crate::task) fn tell_tracer(&mut self, tid: u32, code: u32, status: i32) -> bool {
        let Some(entry) = self.tracees.get(&tid) else { return false };
        let Some(tracer) = self.nodes.get(&entry.tracer_process).map(|node| &node.process) else { return false };
        let action = tracer.with_actions(|actions| actions.get(Signal::CHLD));
        let ignores = action.handler() == Handler::Ignore;
        let is_end = !matches!(code, general::CLD_TRAPPED | general::CLD_STOPPED);
        let unwanted = if is_end { SaFlags::NOCLDWAIT } else { SaFlags::NOCLDSTOP };
        let wanted = !ignores && !action.flags().contains(unwanted);
        if wanted || (is_end && !ignores) {
            let [uid, ..] = entry.process.with(|state| state.ids).users;
            let origin = Origin::Child { pid: int(tid), uid, status };
            // A full queue loses the info, not the signal.
            let _ = tracer.post(Info::new(Signal::CHLD, int(code), origin), None);
        }
        tracer.children_changed().wake_all();
        wanted || !is_end
    }
}

impl<P: Cpu> Task<P> {
    /// Whether it has a tracer.
    pub(crate) fn is_traced(&self) -> bool {
        self.shared.watch().contains(Watch::TRACED)
    }

    /// Whether its tracer wants to be told of `event`.
    pub(crate) fn tells(&self, event: Event) -> bool {
        self.is_traced()
            && self.shared.tracing().lock().terms.as_ref().is_some_and(|terms| terms.options.contains(event.option()))
    }

    /// What its tracer asked for.
    fn options(&self) -> Options {
        self.shared.tracing().lock().terms.as_ref().map(|terms| terms.options).unwrap_or_default()
    }

    /// Stops for its tracer until that lets it go on; `None` if there is none, or if it has to end.
    fn halt(&mut self, regs: &mut Regs, why: Why) -> Option<Going> {
        if !self.is_traced() || (!why.is_last && self.verdict().is_some()) {
            return None;
        }
        let code = why.code;
        if !self.publish(regs, &why) {
            return None;
        }
        if why.is_group {
            self.process.with_group(|_| self.shared.set_stopped(true));
        }
        let what = if why.is_group { general::CLD_STOPPED } else { general::CLD_TRAPPED };
        self.sandbox().tree.lock().tell_tracer(self.tid(), what, int(code & 0x7f));
        if let Some(signal) = why.is_group.then(|| self.process.settle_stop()).flatten() {
            self.process.tell_stop(signal);
        }
        let (shared, process) = (&self.shared, &self.process);
        let goes_on = || {
            let tracing = shared.tracing().lock();
            tracing.going.is_some() || (tracing.listens && (shared.is_trapped() || shared.is_stop_due()))
        };
        // Killed by the host: the carrier never gets back to ring 3.
        let went_on = if why.is_last {
            shared.park().wait_until_killed(|| (goes_on() || process.was_killed()).then_some(())).ok()
        } else {
            self.park_until(|| goes_on().then_some(()))
        };
        if why.is_group {
            self.process.with_group(|_| self.shared.set_stopped(false));
        }
        let going = self.take_back(regs);
        went_on.and(going)
    }

    /// Puts what its tracer may ask for where that finds it. False if it has no tracer any more.
    fn publish(&mut self, regs: &Regs, why: &Why) -> bool {
        let is_forced = mem::take(&mut self.stepping) == Stepping::Forced;
        let registers = Registers::shown(regs, [P::fs_base(), P::gs_base()], is_forced);
        let mut image = match &mut self.shared.tracing().lock().terms {
            Some(terms) => mem::take(&mut terms.image),
            None => return false,
        };
        P::read_fpu(&mut image);
        // What software finds in the image, as Linux has it: which components there may be.
        if let Some(bytes) = image.get_mut(464..472) {
            bytes.copy_from_slice(&P::fpu_features().to_le_bytes());
        }
        let memory = Arc::clone(&self.mm);
        let mask = self.mask();
        let halt = Halt { code: why.code, told: false, info: why.info, registers, memory, image, is_image_new: false, mask };
        let mut tracing = self.shared.tracing().lock();
        tracing.message = why.message;
        tracing.going = None;
        tracing.halt = Some(Box::new(halt));
        // A trap that was asked for is this one, and so is what others asked for before they could see it.
        self.shared.set_trapped(false);
        tracing.terms.is_some()
    }

    /// Takes back what its tracer may have changed.
    fn take_back(&mut self, regs: &mut Regs) -> Option<Going> {
        let (mut halt, going) = {
            let mut tracing = self.shared.tracing().lock();
            tracing.listens = false;
            (tracing.halt.take()?, tracing.going.take())
        };
        *regs = halt.registers.to_guest();
        P::set_fs_base(halt.registers.fs_base);
        P::set_gs_base(halt.registers.gs_base);
        if halt.is_image_new {
            P::write_fpu(&halt.image);
        }
        if let Some(terms) = self.shared.tracing().lock().terms.as_mut().filter(|terms| terms.image.is_empty()) {
            terms.image = mem::take(&mut halt.image);
        }
        self.halted_info = halt.info;
        if halt.mask != self.mask() {
            self.set_mask(halt.mask);
        }
        if going.is_some_and(|going| going.steps) && regs.flags & FLAG_TF == 0 {
            regs.flags |= FLAG_TF;
            self.stepping = Stepping::Forced;
        }
        going
    }

    /// Stops before a signal is delivered; gives what is to be delivered in its place, if anything.
    pub(crate) fn signal_stop(&mut self, regs: &mut Regs, info: Info) -> Option<Info> {
        let code = info.signal.number();
        let why = Why { code, info: Some(info), message: 0, is_group: false, is_last: false };
        if !self.is_traced() {
            return Some(info);
        }
        let going = self.halt(regs, why)?;
        let signal = going.signal?;
        let info = match self.halted_info.take().filter(|info| info.signal == signal) {
            Some(info) => info,
            None => {
                let (pid, uid) = going.tracer;
                Info::new(signal, Info::SI_USER, Origin::Process { pid: int(pid), uid, value: 0 })
            }
        };
        if self.mask().contains(signal) {
            // It waits again, for this task alone.
            let _ = self.send(info);
            return None;
        }
        Some(info)
    }

    /// Stops by its own doing, with `code` as wait(2) shows it.
    fn notify(&mut self, regs: &mut Regs, code: u32, message: u64, is_last: bool) -> Option<Going> {
        let [uid, ..] = self.process.with(|state| state.ids).users;
        let origin = Origin::Process { pid: int(self.tid()), uid, value: 0 };
        let info = Some(Info::new(Signal::TRAP, int(code), origin));
        self.halt(regs, Why { code, info, message, is_group: false, is_last })
    }

    /// Stops for `event` if its tracer wants to be told.
    pub(crate) fn event(&mut self, regs: &mut Regs, event: Event, message: u64) {
        if self.tells(event) {
            let code = event.number() << 8 | Signal::TRAP.number();
            self.notify(regs, code, message, event == Event::Exit);
        }
    }

    /// Stops on its way into a call, or out of it. The signal with which it goes on is sent to it.
    pub(crate) fn call_stop(&mut self, regs: &mut Regs, message: u32) {
        let mark = if self.options().contains(Options::SYSGOOD) { 0x80 } else { 0 };
        let going = self.notify(regs, Signal::TRAP.number() | mark, message.into(), false);
        if let Some(signal) = going.and_then(|going| going.signal) {
            let origin = Origin::Process { pid: int(self.process.pid()), uid: 0, value: 0 };
            // One too many is lost, as in Linux.
            let _ = self.send(Info::new(signal, Info::SI_KERNEL, origin));
        }
    }

    /// Stops because it has begun to run another program: by an event, or by a signal where none was agreed on.
    pub(crate) fn exec_stop(&mut self, regs: &mut Regs, old_tid: u32) {
        if self.tells(Event::Exec) {
            self.event(regs, Event::Exec, old_tid.into());
        } else if self.is_traced() && !self.shared.watch().contains(Watch::SEIZED) {
            let [uid, ..] = self.process.with(|state| state.ids).users;
            let origin = Origin::Process { pid: int(self.process.pid()), uid, value: 0 };
            let _ = self.send(Info::new(Signal::TRAP, Info::SI_USER, origin));
        }
    }

    /// Stops before it ends, with the status that wait(2) will give.
    pub(crate) fn exit_stop(&mut self, regs: &mut Regs, end: End) {
        if !self.process.was_killed() {
            let message = match end {
                End::Task(status) | End::Process(status) => u64::from(status) << 8,
                End::Signal(signal) => signal.into(),
            };
            self.event(regs, Event::Exit, message);
        }
    }

    /// Whether it is to stop for its tracer, which asked for that or is to be told of a continuation.
    pub(crate) fn is_trapped(&self) -> bool {
        self.shared.is_trapped()
    }

    /// Stops with its process, or because its tracer asked for it. Linux: `do_jobctl_trap`.
    pub(crate) fn trap(&mut self, regs: &mut Regs) {
        self.shared.set_trapped(false);
        let stop = self.process.with_group(|group| {
            self.shared.set_stop_due(false);
            group.stop.map(|stop| stop.signal)
        });
        if self.shared.watch().contains(Watch::SEIZED) {
            let signal = stop.unwrap_or(Signal::TRAP);
            let code = raw::PTRACE_EVENT_STOP << 8 | signal.number();
            let [uid, ..] = self.process.with(|state| state.ids).users;
            let origin = Origin::Process { pid: int(self.tid()), uid, value: 0 };
            let info = Some(Info::new(signal, int(code), origin));
            self.halt(regs, Why { code, info, message: 0, is_group: stop.is_some(), is_last: false });
        } else if let Some(signal) = stop {
            self.halt(regs, Why { code: signal.number(), info: None, message: 0, is_group: true, is_last: false });
        }
    }

    /// Ends a single step before a handler's frame is built, which is not to hold the flag; says whether there was one.
    pub(crate) fn stop_stepping(&mut self, regs: &mut Regs) -> bool {
        let was_forced = mem::take(&mut self.stepping) == Stepping::Forced;
        if was_forced {
            regs.flags &= !FLAG_TF;
        }
        was_forced
    }

    /// Stops at a handler's first instruction, to which a single step led.
    pub(crate) fn handler_stop(&mut self, regs: &mut Regs) {
        self.notify(regs, Signal::TRAP.number(), 0, false);
    }

    /// Has the end of a call be the end of a single step.
    pub(crate) fn report_step(&mut self, regs: &Regs) {
        let code = int(general::TRAP_BRKPT);
        self.compel(Info::new(Signal::TRAP, code, Origin::Fault { addr: regs.ip }));
    }

    /// Sends it a signal that it cannot put off. Linux: `force_sig_info`.
    pub(crate) fn compel(&mut self, info: Info) {
        let signal = info.signal;
        let blocks = self.mask().contains(signal);
        let ignores = self.process.with_actions(|actions| actions.get(signal)).handler() == Handler::Ignore;
        if blocks || ignores {
            self.process.with_actions(|actions| actions.reset_handler(signal));
            self.set_mask(self.mask().difference(SigSet::EMPTY.with(signal)));
        }
        // A synchronous signal never finds the queue full.
        let _ = self.shared.queue(info, self.sandbox().quota());
    }
}

impl<P: Cpu> Process<P> {
    /// Whether somebody has killed it.
    pub(super) fn was_killed(&self) -> bool {
        self.with_group(|group| group.killed)
    }
}
