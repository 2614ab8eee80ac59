//! Threads, processes and sandboxes, as the ABI sees them.
//!
//! Owns: what Linux's calls say of a task beyond core's objects. Not here: carriers, which are the platform's; it makes them for
//! [`Spawn`]s and wakes them by [`Cpu::kick`](crate::signal::Cpu::kick).
//! Invariants: a [`Task`] is used by its own carrier only; what others reach is in its [`TaskShared`] or its [`Process`], under
//! locks. Locks, outermost first: `Sandbox::owners`; a process's `timers`; `Sandbox::tree`; `Process::tasks`; a process's state, actions, `files`, `fs`;
//! its `group`; a task's `tracing`, `seccomp` and `pending`; its `carried`, under which it is kicked; what a process has `spent`. Nothing is held while a task sleeps.
//! Sources: Linux kernel/fork.c, kernel/exit.c, kernel/signal.c.

mod aio;
mod exec;
mod exit;
mod filtered;
mod jobs;
mod owners;
mod pidfd;
mod post;
mod process;
mod ptrace;
mod relations;
mod sandbox;
mod signalfd;
mod spawn;
mod stop;
mod thread;
mod tree;
mod usage;
mod wait;

pub(crate) use jobs::Take;
pub(crate) use owners::Word;
pub(crate) use pidfd::PidFd;
pub use process::{Condition, Ids, LIMITS, Limit, Process, ProcessState};
pub use ptrace::Watch;
pub(crate) use ptrace::{AtCall, Event, Options, Tracee, UserWord, WORDS};
pub use sandbox::Sandbox;
pub(crate) use signalfd::SignalFd;
pub(crate) use spawn::Request;
pub use spawn::{Birth, Spawn, after_spawn};
pub(crate) use thread::After;
pub use thread::{End, Task, TaskShared};
pub(crate) use usage::Resources;
pub(crate) use wait::{Kind, Report, Wanted, Which};
