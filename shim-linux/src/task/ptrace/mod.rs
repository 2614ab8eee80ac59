//! Tracing: one task stops, and another looks into it and changes it.
//!
//! Owns: who traces whom, the stops of a tracee and what its tracer reaches of it meanwhile. Not here: the requests' numbers and
//! structures (`calls::ptrace`), where a task's way leads by a stop (`crate::watched`, `crate::dispatch`).
//!
//! A stopped tracee has put its registers where its tracer finds them ([`Halt`]), and takes them back when it goes on: no request
//! needs the tracee to run. Its memory is reached by `AddressSpace::peek` and `poke`.
//!
//! Invariants:
//! - A task has an entry in `Tree::tracees` exactly while it is traced, its [`Tracing::terms`] are there, and its
//!   [`Watch::TRACED`] is set; changed with the tree locked. The entry outlives a task that is not the first of its process until the
//!   tracer has waited for it.
//! - A [`Halt`] is there while the tracee sleeps in its stop. It *is stopped* for others until [`Tracing::going`] says how it goes on.
//!
//! Locks: a task's `tracing` is a leaf, taken with the tree locked or without. Sources: ptrace(2); Linux kernel/ptrace.c,
//! kernel/signal.c (`ptrace_stop`, `do_jobctl_trap`, `ptrace_signal`), arch/x86/kernel/ptrace.c.

mod link;
mod reach;
mod registers;
mod stop;
mod wait;

use link::Terms;
pub(crate) use reach::{AtCall, Tracee};
pub(crate) use registers::{Registers, UserWord, WORDS};
pub(crate) use stop::{Event, Stepping};

use super::process::Process;
use super::thread::{End, TaskShared};
use crate::signal::{Cpu, Info, SigSet, Signal};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use linux_raw_sys::ptrace as raw;
use litebox_core::mm::AddressSpace;

bitflags! {
    /// Why a task's calls go the long way.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Watch: u32 {
        /// They are written to the sandbox's trace.
        const LOGGED = 1;
        /// The task has a tracer.
        const TRACED = 1 << 1;
        /// Its tracer came by `PTRACE_SEIZE`.
        const SEIZED = 1 << 2;
        /// It stops before and after each call: `PTRACE_SYSCALL`.
        const CALLS = 1 << 3;
        /// It stops before each call, which is not made: `PTRACE_SYSEMU`.
        const EMULATED = 1 << 4;
        /// It stops after one instruction.
        const STEP = 1 << 5;
        /// Its calls are filtered. See seccomp(2).
        const FILTERED = 1 << 6;

        /// How it goes on, as its tracer said last.
        const PACE = Self::CALLS.bits() | Self::EMULATED.bits() | Self::STEP.bits();
        /// All that tracing makes of it.
        const TRACING = Self::TRACED.bits() | Self::SEIZED.bits() | Self::PACE.bits();
    }
}

bitflags! {
    /// `PTRACE_SETOPTIONS`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Options: u32 {
        const SYSGOOD = raw::PTRACE_O_TRACESYSGOOD;
        const FORK = raw::PTRACE_O_TRACEFORK;
        const VFORK = raw::PTRACE_O_TRACEVFORK;
        const CLONE = raw::PTRACE_O_TRACECLONE;
        const EXEC = raw::PTRACE_O_TRACEEXEC;
        const VFORK_DONE = raw::PTRACE_O_TRACEVFORKDONE;
        const EXIT = raw::PTRACE_O_TRACEEXIT;
        const SECCOMP = raw::PTRACE_O_TRACESECCOMP;
        const EXITKILL = raw::PTRACE_O_EXITKILL;
        const SUSPEND_SECCOMP = raw::PTRACE_O_SUSPEND_SECCOMP;
    }
}

/// What a task has to do with its tracer. Linux: `task_struct::ptrace`, `last_siginfo`, `exit_code`, `ptrace_message`.
pub(in crate::task) struct Tracing<P: Cpu> {
    /// What was agreed on; `None` without a tracer.
    terms: Option<Terms>,
    /// The stop that it is in.
    halt: Option<Box<Halt<P>>>,
    /// How it leaves the stop, once that is said.
    going: Option<Going>,
    /// It is stopped and told of a continuation, but takes no requests: `PTRACE_LISTEN`.
    listens: bool,
    /// What `PTRACE_GETEVENTMSG` gives.
    message: u64,
    /// What was stored in the debug registers, which nothing here uses.
    debug: [u64; 8],
}

impl<P: Cpu> Default for Tracing<P> {
    fn default() -> Self {
        Self { terms: None, halt: None, going: None, listens: false, message: 0, debug: [0; 8] }
    }
}

impl<P: Cpu> Tracing<P> {
    /// The stop, if the task takes requests in it.
    fn stopped(&mut self) -> Option<&mut Halt<P>> {
        if self.going.is_some() || self.listens { None } else { self.halt.as_deref_mut() }
    }
}

/// How a tracee leaves a stop.
#[derive(Clone, Copy, Debug, Default)]
struct Going {
    /// The signal that it gets, which takes the place of the one that it stopped for.
    signal: Option<Signal>,
    /// Whether to make one instruction only.
    steps: bool,
    /// Who said so, as the sender of a signal in another's place.
    tracer: (u32, u32),
}

/// A stop, and what others reach of the task in it.
struct Halt<P: Cpu> {
    /// The status that wait(2) gives, without its lowest byte: a signal, and an event above it.
    code: u32,
    /// Whether somebody has waited for it.
    told: bool,
    /// The signal of the stop, if there is one: not of a stop of the whole process.
    info: Option<Info>,
    registers: Registers,
    memory: Arc<AddressSpace<P>>,
    /// x87, SSE and so on, in the processor's standard format.
    image: Vec<u8>,
    /// Whether the image was changed.
    is_image_new: bool,
    mask: SigSet,
}

/// A traced task's entry in the tree.
pub(in crate::task) struct Entry<P: Cpu> {
    pub(in crate::task) shared: Arc<TaskShared<P>>,
    pub(in crate::task) process: Arc<Process<P>>,
    /// The task that traces it, and that one's process.
    pub(in crate::task) tracer: u32,
    pub(in crate::task) tracer_process: u32,
    /// How it ended, if it did and its tracer was not told by wait(2).
    pub(in crate::task) ended: Option<End>,
}
