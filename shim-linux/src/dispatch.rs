//! The doors of the shim: a system call, a fault, the way back to ring 3.
//!
//! What is common to all calls is here and nowhere else: the row, the trace, the result in `rax`, restarts, signals.
//! Hostile input: every register. Cost: a call without signals that nobody watches is one table jump and four tests.

use crate::signal::{
    Cpu, DefaultAction, FRAME_BYTES, Fault, Handler, Info, Origin, SaFlags, SigSet, Signal, build, fpu_seal, frame_of_return,
    restore,
};
use crate::table::{self, Restart, Support};
use crate::task::{After, End, Spawn, Task, Watch};
use crate::trace::{Call, Outcome};
use crate::watched::{self, Way, shown};
use crate::{errno as numbers, regs::Regs};
use alloc::boxed::Box;
use core::fmt;
use litebox_core::errno;
use litebox_core::error::{Errno, Error, Result};
use litebox_core::mm::{GUEST_END, GuestAddr, user};

/// What the platform does next.
pub enum Resume<P: Cpu> {
    /// Go on in ring 3 with the registers as they are.
    Guest,
    /// The task has ended: it must not be in ring 3 any more. Its carrier ends, and says so by [`Task::exit`]. Only
    /// [`End::Task`] leaves other tasks of the process, which may follow any of the doors: another task's execve(2) asks for it too.
    End(End),
    /// Make a carrier for a new task, then call [`after_spawn`](crate::after_spawn).
    Spawn(Box<Spawn<P>>),
    /// The task runs another program: switch to the page tables of its [`Task::mm`], begin with the initial floating-point state and
    /// segment bases, ask [`before_guest`], and go on with the registers as they are. It may have another id, and is its process's
    /// only task.
    Exec,
}

impl<P: Cpu> fmt::Debug for Resume<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest => f.write_str("Guest"),
            Self::End(end) => f.debug_tuple("End").field(end).finish(),
            Self::Spawn(spawn) => f.debug_tuple("Spawn").field(spawn).finish(),
            Self::Exec => f.write_str("Exec"),
        }
    }
}

/// Makes the system call that `regs` ask for.
pub fn dispatch<P: Cpu>(task: &mut Task<P>, regs: &mut Regs) -> Resume<P> {
    task.sp = regs.sp;
    if task.is_watched() {
        match watched::before(task, regs) {
            Way::Make => {}
            Way::Skip => return go_back(task, regs, None),
            Way::End(end) => return self::end(task, regs, end),
        }
    }
    let number = regs.number();
    let raw = regs.args();
    let result = match table::make(task, number, raw) {
        Some(result) => result,
        None => Err(unsupported(task, number)),
    };
    let is_watched = task.is_watched();
    if is_watched && task.shared().watch().contains(Watch::LOGGED) {
        trace(task, number, raw, &result);
    }
    let mut interrupted = None;
    match result {
        Ok(value) => regs.ax = value,
        Err(Error::Errno(errno, _)) => regs.ax = numbers::to_rax(errno),
        Err(Error::Interrupted) => interrupted = Some(number),
    }
    match core::mem::take(&mut task.after) {
        After::Return => {}
        After::End(end) => return self::end(task, regs, end),
        After::Exec(start) => {
            *regs = *start;
            return Resume::Exec;
        }
        After::Spawn(unborn) => return Resume::Spawn(unborn.into_spawn(regs)),
        After::SignalReturn => {
            if let Err(end) = signal_return(task, regs) {
                return end;
            }
        }
    }
    if is_watched {
        return go_back(task, regs, interrupted);
    }
    if interrupted.is_some() || task.may_have_signals() || task.saved_mask.is_some() {
        return signals(task, regs, interrupted);
    }
    task.resume_deadline = None;
    Resume::Guest
}

/// The long way back: what is due for a tracer comes before signals.
#[cold]
pub(crate) fn go_back<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, mut interrupted: Option<u64>) -> Resume<P> {
    watched::after(task, regs, &mut interrupted);
    if interrupted.is_some() || task.may_have_signals() || task.saved_mask.is_some() {
        return signals(task, regs, interrupted);
    }
    task.resume_deadline = None;
    Resume::Guest
}

/// Ends the task, or its process.
#[cold]
fn end<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, end: End) -> Resume<P> {
    if task.is_traced() {
        task.exit_stop(regs, end);
    }
    Resume::End(task.leave(end))
}

/// Turns a fault of the guest's instruction into its signal; the platform has tried to resolve it before.
pub fn fault<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, fault: &Fault) -> Resume<P> {
    regs.orig_ax = u64::MAX;
    let Some(info) = fault.signal() else { return Resume::Guest };
    let addr = if fault.addr < GUEST_END { fault.addr } else { 0 };
    task.fault = [fault.vector, fault.code, addr];
    force(task, regs, info)
}

/// Delivers signals before ring 3 when the platform was asked to look: after a kick.
pub fn before_guest<P: Cpu>(task: &mut Task<P>, regs: &mut Regs) -> Resume<P> {
    if task.due != watched::Due::default() {
        return go_back(task, regs, None);
    }
    if task.may_have_signals() { signals(task, regs, None) } else { Resume::Guest }
}

/// Names an unsupported call, once for each number.
#[cold]
fn unsupported<P: Cpu>(task: &Task<P>, number: u64) -> Error {
    let row = table::row(number);
    if task.sandbox().first_time(number) {
        let reason = match row.map(|row| row.support) {
            Some(Support::None(_, why)) => why,
            _ => "no such call",
        };
        let name = row.map_or("syscall", |row| row.name);
        P::log(format_args!(
            "{}[{}] {name} ({number}): {reason} (docs/compatibility.md#{name}); reported once",
            Name(&task.shared().name()),
            task.tid()
        ));
    }
    match row.map(|row| row.support) {
        Some(Support::None(Errno::PERM, _)) => errno!(PERM, "not offered in a sandbox"),
        _ => errno!(NOSYS, "not supported"),
    }
}

/// A task's name as text.
struct Name<'a>(&'a [u8; 16]);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take_while(|byte| **byte != 0).try_for_each(|byte| {
            let shown = if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
            fmt::Write::write_char(f, shown)
        })
    }
}

#[cold]
fn trace<P: Cpu>(task: &Task<P>, number: u64, raw: [u64; 6], result: &Result<u64>) {
    let call = Call { row: table::row(number), number, raw };
    task.sandbox().machine().trace(format_args!("{}[{}] {call}{}", Name(&task.shared().name()), task.tid(), Outcome(result)));
}

/// Ends the process by a signal.
fn die<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, signal: Signal) -> Resume<P> {
    end(task, regs, End::Signal(signal.number()))
}

/// Sends a signal that the task cannot put off: blocked or ignored, it takes its default action.
fn force<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, info: Info) -> Resume<P> {
    if task.is_traced() {
        task.compel(info);
        return signals(task, regs, None);
    }
    let action = task.process().with_actions(|actions| actions.get(info.signal));
    if task.mask().contains(info.signal) || action.handler() == Handler::Ignore {
        return die(task, regs, info.signal);
    }
    match act(task, regs, &info) {
        Some(resume) => resume,
        None => Resume::Guest,
    }
}

/// What becomes of call `number`, which was interrupted.
fn restart<P: Cpu>(task: &mut Task<P>, number: u64) -> Restart {
    let row = || table::row(number).map_or(Restart::No, |row| row.restart);
    task.restart.take().unwrap_or_else(row)
}

/// Delivers what waits; `interrupted` is the call that was, whose fate depends on it.
#[cold]
fn signals<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, mut interrupted: Option<u64>) -> Resume<P> {
    loop {
        if let Some(end) = task.verdict() {
            return self::end(task, regs, end);
        }
        if task.is_traced() {
            task.tell_continuation();
            if task.is_stopped() || task.is_trapped() {
                shown(task, regs, &mut interrupted, Task::trap);
                continue;
            }
        }
        if task.is_stopped() {
            if task.stay_stopped() {
                continue;
            }
            // The host kills it on its way.
            return Resume::Guest;
        }
        let Some(mut info) = task.next_signal() else { break };
        if task.is_traced() {
            let Some(given) = shown(task, regs, &mut interrupted, |task, regs| task.signal_stop(regs, info)) else { continue };
            info = given;
        }
        let action = task.process().with_actions(|actions| actions.get(info.signal));
        if action.ignores(info.signal) {
            continue;
        }
        if let (Handler::Function(_), Some(number)) = (action.handler(), interrupted) {
            let restart = restart(task, number);
            // Linux restarts a wait with a deadline by its restart block, which a handler ends.
            let timed = task.resume_deadline.take().is_some();
            let asked = restart == Restart::IfAsked && !timed && action.flags().contains(SaFlags::RESTART);
            if asked || restart == Restart::Always {
                regs.rewind(number);
            } else {
                regs.ax = INTR;
            }
            interrupted = None;
        }
        if let Some(resume) = act(task, regs, &info) {
            return resume;
        }
    }
    if let Some(number) = interrupted {
        // No handler ran: whatever can be made again is.
        match restart(task, number) {
            Restart::No => regs.ax = INTR,
            Restart::IfAsked | Restart::NoHandler | Restart::Block | Restart::Always => regs.rewind(number),
        }
    } else {
        task.resume_deadline = None;
    }
    if let Some(mask) = task.saved_mask.take() {
        task.set_mask(mask);
    }
    Resume::Guest
}

/// `-EINTR`, which core's errors do not have: interruption is no errno there.
const INTR: u64 = 0u64.wrapping_sub(linux_raw_sys::errno::EINTR as u64);

/// Carries out the action of one signal; `None` means that the task goes on.
fn act<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, info: &Info) -> Option<Resume<P>> {
    let signal = info.signal;
    let action = task.process().with_actions(|actions| {
        let action = actions.get(signal);
        if matches!(action.handler(), Handler::Function(_)) && action.flags().contains(SaFlags::RESETHAND) {
            actions.reset_handler(signal);
        }
        action
    });
    match action.handler() {
        Handler::Ignore => None,
        Handler::Default => match DefaultAction::of(signal) {
            DefaultAction::Terminate | DefaultAction::Core => Some(die(task, regs, signal)),
            DefaultAction::Stop => {
                task.stop(signal);
                None
            }
            // Going on was done when the signal was sent.
            DefaultAction::Ignore | DefaultAction::Continue => None,
        },
        Handler::Function(_) => {
            if let Some(sequences) = task.sequences {
                if sequences.give_up::<P>(regs).is_err() {
                    return Some(no_frame(task, regs, signal));
                }
            }
            let fault = core::mem::take(&mut task.fault);
            let was_stepping = task.stop_stepping(regs);
            let saved = task.saved_mask.take().unwrap_or(task.mask());
            let built = build(regs, info, &action, &task.stack, (task.mask(), saved), fault, P::fpu_bytes());
            let stored = built.and_then(|built| {
                let (software, end) = fpu_seal(P::fpu_bytes(), P::fpu_features());
                let fpu_at = GuestAddr::new(built.fpu_at);
                P::save_fpu(fpu_at, &software)?;
                user::write_all::<P>(fpu_at.plus(P::fpu_bytes() as u64)?, &end)?;
                user::write_all::<P>(GuestAddr::new(built.at), &built.bytes)?;
                Ok(built)
            });
            let Ok(built) = stored else { return Some(no_frame(task, regs, signal)) };
            *regs = built.regs;
            task.set_mask(built.mask);
            task.stack.delivered();
            P::reset_fpu();
            if was_stepping {
                task.handler_stop(regs);
            }
            None
        }
    }
}

/// A frame found no room, or the interrupted sequence cannot be given up: `SIGSEGV`, by default if that was the one, else by its handler.
fn no_frame<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, signal: Signal) -> Resume<P> {
    if signal == Signal::SEGV {
        return die(task, regs, Signal::SEGV);
    }
    force(task, regs, Info::new(Signal::SEGV, Info::SI_KERNEL, Origin::None))
}

/// Goes back to where a handler interrupted the task. See `sigreturn(2)`.
#[inline(never)]
fn signal_return<P: Cpu>(task: &mut Task<P>, regs: &mut Regs) -> core::result::Result<(), Resume<P>> {
    let back = (|| {
        let mut bytes = [0; FRAME_BYTES];
        user::read_exact::<P>(GuestAddr::new(frame_of_return(regs)), &mut bytes)?;
        let back = restore(&bytes).ok_or(errno!(FAULT, "no signal frame"))?;
        // A jump above what ring 3 may have would fault in the kernel's return path on some processors.
        if back.regs.ip >= GUEST_END {
            return Err(errno!(FAULT, "a return to outside of the guest"));
        }
        if back.fpu_at == 0 {
            P::reset_fpu();
        } else {
            P::load_fpu(GuestAddr::new(back.fpu_at))?;
        }
        Ok(back)
    })();
    match back {
        Ok(back) => {
            *regs = back.regs;
            task.set_mask(back.mask);
            // As in Linux, a stack that cannot be set is left as it is.
            let _ = task.stack.set(back.stack, regs.sp, crate::signal::MIN_SIGNAL_STACK);
            Ok(())
        }
        Err(_) => {
            task.set_mask(task.mask().difference(SigSet::SYNCHRONOUS));
            match force(task, regs, Info::new(Signal::SEGV, Info::SI_KERNEL, Origin::None)) {
                Resume::Guest => Ok(()),
                other => Err(other),
            }
        }
    }
}
