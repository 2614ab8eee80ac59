//! The tracer's side: what it reads and changes of a stopped tracee, and how it lets it go on.

use super::super::process::Process;
use super::super::sandbox::Sandbox;
use super::super::thread::{Task, TaskShared};
use super::{Going, Halt, Options, Registers, Tracing, Watch};
use crate::regs::Regs;
use crate::signal::{Cpu, Info, SigSet, Signal};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::ptrace as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{AddressSpace, GUEST_END};

/// What the stop of a tracee was for, as `PTRACE_GET_SYSCALL_INFO` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtCall {
    /// Nothing of a call.
    No,
    /// A call is about to be made.
    Entry,
    /// A call has been made.
    Exit,
    /// A filter has asked, with this word.
    Seccomp(u32),
}

/// A task that the caller traces.
#[derive(Debug)]
pub(crate) struct Tracee<P: Cpu> {
    tid: u32,
    pub(crate) shared: Arc<TaskShared<P>>,
    pub(crate) process: Arc<Process<P>>,
    /// The caller's process and user.
    tracer: (u32, u32),
}

const NOT_STOPPED: litebox_core::error::Error = errno!(SRCH, "it is not stopped");

impl<P: Cpu> TaskShared<P> {
    /// Whether it sleeps in a stop for its tracer.
    pub(crate) fn is_halted(&self) -> bool {
        let tracing = self.tracing().lock();
        tracing.halt.is_some() && tracing.going.is_none()
    }
}

impl<P: Cpu> Sandbox<P> {
    /// The id of the process that traces the task `tid`, or 0.
    pub(crate) fn tracer_of(&self, tid: u32) -> u32 {
        self.tree.lock().tracees.get(&tid).map_or(0, |entry| entry.tracer_process)
    }
}

impl<P: Cpu> Task<P> {
    /// The task `tid`, which the caller traces.
    ///
    /// # Errors
    /// `SRCH`: no such task, or another's.
    pub(crate) fn tracee(&self, tid: u32) -> Result<Tracee<P>> {
        let tree = self.sandbox().tree.lock();
        let entry = tree.tracees.get(&tid).filter(|entry| entry.tracer == self.tid()).ok_or(errno!(SRCH, "no tracee"))?;
        let [uid, ..] = self.process.with(|state| state.ids).users;
        let tracer = (self.process.pid(), uid);
        Ok(Tracee { tid, shared: Arc::clone(&entry.shared), process: Arc::clone(&entry.process), tracer })
    }

    /// Ends the tracing of a stopped tracee, which goes on with `signal`.
    pub(crate) fn detach(&self, tracee: &Tracee<P>, signal: Option<Signal>) {
        self.sandbox().tree.lock().untrace(tracee.tid, signal);
    }
}

impl<P: Cpu> Tracee<P> {
    /// Looks at its stop, or changes what it goes on with.
    fn with_halt<T>(&self, look: impl FnOnce(&mut Halt<P>) -> Result<T>) -> Result<T> {
        let mut tracing = self.shared.tracing().lock();
        look(tracing.stopped().ok_or(NOT_STOPPED)?)
    }

    /// # Errors
    /// `SRCH`: it is not stopped, as is the error of all that follow.
    pub(crate) fn check_stopped(&self) -> Result<()> {
        self.with_halt(|_| Ok(()))
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Arc<AddressSpace<P>>> {
        self.with_halt(|halt| Ok(Arc::clone(&halt.memory)))
    }

    pub(crate) fn registers(&self) -> Result<Registers> {
        self.with_halt(|halt| Ok(halt.registers))
    }

    /// Sets registers, one word after another.
    ///
    /// # Errors
    /// Those of [`Registers::set`]; the words before are set then.
    pub(crate) fn set_registers(&self, words: impl Iterator<Item = (usize, u64)>) -> Result<()> {
        self.with_halt(|halt| {
            for (index, value) in words {
                halt.registers.set(index, value)?;
            }
            Ok(())
        })
    }

    /// The first `len` bytes of its floating-point state.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn image(&self, len: usize) -> Result<Vec<u8>> {
        self.with_halt(|halt| {
            let part = halt.image.get(..len.min(halt.image.len())).unwrap_or_default();
            let mut copy = Vec::new();
            copy.try_reserve_exact(part.len()).map_err(|_| errno!(NOMEM))?;
            copy.extend_from_slice(part);
            Ok(copy)
        })
    }

    /// Changes its floating-point state.
    pub(crate) fn change_image(&self, change: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
        self.with_halt(|halt| {
            change(&mut halt.image)?;
            halt.is_image_new = true;
            Ok(())
        })
    }

    /// What the signal is that it stopped for.
    ///
    /// # Errors
    /// `INVAL`: it stopped for none.
    pub(crate) fn info(&self) -> Result<Info> {
        self.with_halt(|halt| halt.info.ok_or(errno!(INVAL, "the stop of a process")))
    }

    /// # Errors
    /// As [`Self::info`].
    pub(crate) fn set_info(&self, info: Info) -> Result<()> {
        self.with_halt(|halt| halt.info.as_mut().map(|old| *old = info).ok_or(errno!(INVAL, "the stop of a process")))
    }

    pub(crate) fn mask(&self) -> Result<SigSet> {
        self.with_halt(|halt| Ok(halt.mask))
    }

    pub(crate) fn set_mask(&self, mask: SigSet) -> Result<()> {
        self.with_halt(|halt| {
            halt.mask = mask.blockable();
            Ok(())
        })
    }

    /// The signal number `index` of those that wait for it, or for its process.
    pub(crate) fn waiting(&self, index: u64, is_shared: bool) -> Option<Info> {
        if is_shared { self.process.with_group(|group| group.pending.nth(index)) } else { self.shared.nth_pending(index) }
    }

    pub(crate) fn message(&self) -> u64 {
        self.shared.tracing().lock().message
    }

    pub(crate) fn set_options(&self, options: Options) {
        if let Some(terms) = &mut self.shared.tracing().lock().terms {
            terms.options = options;
        }
    }

    /// Debug register `number`.
    pub(crate) fn debug(&self, number: usize) -> u64 {
        self.shared.tracing().lock().debug.get(number).copied().unwrap_or_default()
    }

    /// Sets debug register `number`: an address, the status, or the control register without a breakpoint that is switched on.
    ///
    /// # Errors
    /// `IO`: there is no such register. `INVAL`: an address outside of the guest. `NOSPC`: a breakpoint, of which there are none.
    pub(crate) fn set_debug(&self, number: usize, value: u64) -> Result<()> {
        /// The bits that switch breakpoints on.
        const ENABLED: u64 = 0xff;
        match number {
            0..=3 if value >= GUEST_END => return Err(errno!(INVAL, "an address outside of the guest")),
            4 | 5 => return Err(errno!(IO, "no such register")),
            7 if value & ENABLED != 0 => return Err(errno!(NOSPC, "a sandbox has no breakpoints of the processor")),
            _ => {}
        }
        if let Some(slot) = self.shared.tracing().lock().debug.get_mut(number) {
            *slot = value;
        }
        Ok(())
    }

    /// What of a call it stopped for, and the registers.
    pub(crate) fn at_call(&self) -> Result<(AtCall, Regs)> {
        let mut tracing = self.shared.tracing().lock();
        let message = tracing.message;
        let halt = tracing.stopped().ok_or(NOT_STOPPED)?;
        let trap = Signal::TRAP.number();
        let code = halt.info.and_then(|info| u32::try_from(info.code).ok()).unwrap_or_default();
        let at = if code == trap | 0x80 {
            match u32::try_from(message) {
                Ok(raw::PTRACE_EVENTMSG_SYSCALL_ENTRY) => AtCall::Entry,
                Ok(raw::PTRACE_EVENTMSG_SYSCALL_EXIT) => AtCall::Exit,
                _ => AtCall::No,
            }
        } else if code == trap | raw::PTRACE_EVENT_SECCOMP << 8 {
            AtCall::Seccomp(u32::try_from(message).unwrap_or(u32::MAX))
        } else {
            AtCall::No
        };
        Ok((at, halt.registers.regs))
    }

    /// Lets it go on, with a signal or without.
    pub(crate) fn go_on(&self, pace: Watch, signal: Option<Signal>) -> Result<()> {
        {
            let mut tracing = self.shared.tracing().lock();
            tracing.stopped().ok_or(NOT_STOPPED)?;
            self.shared.watch_no_more(Watch::PACE);
            self.shared.watch_also(pace);
            tracing.going = Some(Going { signal, steps: pace.contains(Watch::STEP), tracer: self.tracer });
        }
        self.shared.park().wake_all();
        Ok(())
    }

    /// Whether `PTRACE_SEIZE` began it.
    pub(crate) fn is_seized(&self) -> bool {
        self.shared.watch().contains(Watch::SEIZED)
    }

    /// Has it stop soon, wherever it is.
    pub(crate) fn interrupt(&self) {
        self.shared.set_trap();
    }

    /// Leaves it stopped, but has it stop anew when its process goes on.
    ///
    /// # Errors
    /// `IO`: not in a stop of `PTRACE_EVENT_STOP`.
    pub(crate) fn listen(&self) -> Result<()> {
        let mut tracing = self.shared.tracing().lock();
        let Tracing { halt, listens, going, .. } = &mut *tracing;
        let halt = halt.as_ref().filter(|_| going.is_none() && !*listens).ok_or(NOT_STOPPED)?;
        if halt.code >> 8 != raw::PTRACE_EVENT_STOP {
            return Err(errno!(IO, "not in such a stop"));
        }
        *listens = true;
        drop(tracing);
        // A continuation may have come meanwhile.
        self.shared.park().wake_all();
        Ok(())
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }
}
