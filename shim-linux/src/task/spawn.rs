//! New tasks: what clone(2) makes of its caller.
//!
//! A new task is whole, and others see it, before its carrier is there; the platform makes that when [`dispatch`](crate::dispatch())
//! returns [`Resume::Spawn`], and says by [`after_spawn`] what came of it. One whose carrier could not be made is undone: nobody
//! waits for it and no signal tells of it. Source: Linux kernel/fork.c, `copy_process`, `kernel_clone`, `mm_release`.

use super::process::{Origins, Process, Role};
use super::ptrace::Event;
use super::thread::{After, Phase, Task, TaskShared};
use super::tree::{Node, Tree};
use crate::dispatch::go_back;
use crate::errno as numbers;
use crate::exec::Running;
use crate::regs::Regs;
use crate::signal::{AltStack, Cpu, Signal};
use crate::{Resume, before_guest};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::{Errno, Error, Result};
use litebox_core::fs::fd_table::Fd;
use litebox_core::mm::{GuestAddr, user};
use litebox_core::sync::Mutex;

/// A task that is to get a carrier.
pub struct Spawn<P: Cpu> {
    /// It. Dropped, it has never been.
    pub task: Task<P>,
    /// Its registers; the floating-point state is a copy of its maker's.
    pub regs: Regs,
    /// Whether it is a thread of its maker's process, with the same page tables. If not, it gets page tables of its own, even over
    /// the same memory.
    pub thread: bool,
    /// Its FS base, or `None` for a copy of its maker's. GS is always a copy.
    pub fs_base: Option<u64>,
    /// Its id, which the call returns.
    pub id: u64,
    /// Whether its maker does nothing, in the same memory, until it runs another program or ends: see vfork(2). The platform may run it
    /// on its maker's carrier until then.
    pub maker_waits: bool,
}

impl<P: Cpu> fmt::Debug for Spawn<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn").field("task", &self.task).field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// What came of a [`Spawn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// It has its carrier.
    Born,
    /// The host has none; the task was dropped.
    Failed,
    /// The host was interrupted; the task was dropped and the call is to be made again.
    Again,
}

/// Goes on with the call that returned [`Resume::Spawn`]: its result, and for vfork(2) the wait for the child.
///
/// Called by the maker's carrier; sleeps. `regs` are those that [`dispatch`](crate::dispatch()) left.
pub fn after_spawn<P: Cpu>(task: &mut Task<P>, regs: &mut Regs, birth: Birth) -> Resume<P> {
    let mut again = None;
    if let Some(spawned) = task.spawned.take() {
        if spawned.vfork.is_some() {
            task.go_on();
        }
        if task.is_watched() {
            // A tracer sees which call it is.
            regs.orig_ax = spawned.call;
        }
        match birth {
            Birth::Born => {
                if let Some(event) = spawned.event {
                    task.event(regs, event, spawned.child.into());
                }
                if let Some(vfork) = &spawned.vfork {
                    // If it has to end, it does so without its child.
                    task.park_until(|| vfork.is_done().then_some(()));
                    task.event(regs, Event::VforkDone, spawned.child.into());
                }
            }
            Birth::Failed => regs.ax = numbers::to_rax(Errno::AGAIN),
            Birth::Again if task.is_watched() => again = Some(spawned.call),
            Birth::Again => regs.rewind(spawned.call),
        }
        if let Some(fd) = spawned.descriptor.filter(|_| birth != Birth::Born) {
            // Another task may have closed it.
            let _ = task.files().remove(fd);
        }
    }
    if task.is_watched() { go_back(task, regs, again) } else { before_guest(task, regs) }
}

/// A task without a carrier, as its maker's handler leaves it to the dispatcher.
pub(crate) struct Unborn<P: Cpu> {
    task: Task<P>,
    thread: bool,
    maker_waits: bool,
    stack: Option<u64>,
    fs_base: Option<u64>,
}

impl<P: Cpu> fmt::Debug for Unborn<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unborn").field("task", &self.task).finish_non_exhaustive()
    }
}

impl<P: Cpu> Unborn<P> {
    /// The same for the platform; `regs` are its maker's.
    pub(crate) fn into_spawn(self, regs: &Regs) -> Box<Spawn<P>> {
        let regs = Regs { ax: 0, orig_ax: u64::MAX, sp: self.stack.unwrap_or(regs.sp), ..*regs };
        let id = u64::from(self.task.tid());
        let Self { task, thread, maker_waits, fs_base, .. } = self;
        Box::new(Spawn { task, regs, thread, fs_base, id, maker_waits })
    }
}

/// A child whose carrier is being made.
#[derive(Debug)]
pub(super) struct Spawned<P: Cpu> {
    /// The number of the call.
    call: u64,
    /// What the call waits for.
    vfork: Option<Arc<Vfork<P>>>,
    /// The descriptor of it that its maker was given.
    descriptor: Option<Fd>,
    /// Its id.
    child: u32,
    /// What the maker's tracer is told.
    event: Option<Event>,
}

/// A parent that waits until its child runs another program, or ends.
#[derive(Debug)]
pub(super) struct Vfork<P: Cpu> {
    is_done: AtomicBool,
    parent: Arc<TaskShared<P>>,
}

impl<P: Cpu> Vfork<P> {
    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// Lets the parent go on.
    fn release(&self) {
        self.is_done.store(true, Ordering::Release);
        self.parent.park().wake_all();
    }
}

/// What clone(2) is asked for; the flags go together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// `CLONE_*`, without the exit signal.
    pub(crate) flags: u64,
    /// What tells the parent of the child's end.
    pub(crate) exit_signal: u32,
    /// The child's stack pointer, if not the caller's.
    pub(crate) stack: Option<u64>,
    /// The child's FS base, if not the caller's.
    pub(crate) fs_base: Option<u64>,
    /// Where the caller finds the child's id.
    pub(crate) parent_tid: GuestAddr,
    /// Where the child finds its id, or has it cleared at its end.
    pub(crate) child_tid: GuestAddr,
    /// The number of the call.
    pub(crate) call: u64,
}

impl Request {
    fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }
}

impl Request {
    /// What a tracer is told of it.
    fn event(&self) -> Option<Event> {
        if self.has(raw::CLONE_UNTRACED) {
            None
        } else if self.has(raw::CLONE_VFORK) {
            Some(Event::Vfork)
        } else if self.exit_signal == Signal::CHLD.number() {
            Some(Event::Fork)
        } else {
            Some(Event::Clone)
        }
    }
}

impl<P: Cpu> Task<P> {
    /// Makes a child, which begins when the call returns; gives its id.
    ///
    /// # Errors
    /// `AGAIN`: too many tasks. `NOMEM`. `Interrupted`: signals wait; they are to be delivered to the caller alone.
    pub(crate) fn spawn(&mut self, request: &Request) -> Result<u32> {
        if self.verdict().is_some() || !self.pending().difference(self.mask()).is_empty() {
            return Err(Error::Interrupted);
        }
        let mm = if request.has(raw::CLONE_VM) { Arc::clone(&self.mm) } else { Arc::new(self.mm.fork()?) };
        let files = if request.has(raw::CLONE_FILES) { Arc::clone(&self.files) } else { self.files.fork()? };
        let fs = if request.has(raw::CLONE_FS) {
            Arc::clone(&self.fs)
        } else {
            let fs = if request.has(raw::CLONE_NEWNS) { self.fs().with_own_mounts()? } else { self.fs() };
            Arc::new(Mutex::<P, _>::new(fs))
        };
        let thread = request.has(raw::CLONE_THREAD);
        let sandbox = Arc::clone(self.sandbox());
        let mut tree = sandbox.tree.lock();
        tree.check_room()?;
        self.check_user(&tree)?;
        let id = tree.new_id()?;
        let shared = TaskShared::new(&sandbox, id, self.mask(), self.shared.name())?;
        let process = if thread {
            Arc::clone(&self.process)
        } else {
            let node = tree.nodes.get(&self.process.pid()).filter(|_| request.has(raw::CLONE_PARENT));
            let kin = node.map_or((self.process.pid(), self.tid(), request.exit_signal), |node| {
                (node.parent, node.parent_task, node.exit_signal)
            });
            let origins = Origins {
                pid: id,
                role: Role::Child,
                parent: if node.is_some() { self.process.parent() } else { kin.0 },
                state: self.process.with(|state| state.fork()),
                actions: self.actions_for_child(request),
                files: Arc::clone(&files),
                fs: Arc::clone(&fs),
                running: Running::new(self.process.running().get().map(|exec| Arc::new(exec.forked(&mm)))),
                terminal: self.process.terminal(),
                charge: Process::charge(&sandbox)?,
            };
            let process = Process::from_origins(&sandbox, origins);
            let (parent, parent_task, exit_signal) = kin;
            tree.insert(Node::new(Arc::clone(&process), parent, parent_task, exit_signal));
            process
        };
        if let Err(error) = process.add_task(&shared) {
            if !thread {
                tree.remove(id);
            }
            return Err(error);
        }
        // After it is among its process's tasks, so that filters for all reach it or its maker.
        shared.set_seccomp(self.shared.seccomp());
        tree.threads.insert(id, Arc::clone(&process));
        let event = request.event().filter(|event| self.tells(*event));
        let traced = if event.is_some() || request.has(raw::CLONE_PTRACE) {
            tree.trace_child(&self.shared, &shared, &process)
        } else {
            Ok(())
        };
        drop(tree);

        if !thread && self.process.with(|state| state.limit(raw::RLIMIT_CPU)).is_some_and(|limit| limit.soft != u64::MAX) {
            process.timers().limit_changed(&process);
        }
        let mut child = Self::with(shared, process, mm, files, fs);
        let shares_stack = !request.has(raw::CLONE_VM) || request.has(raw::CLONE_VFORK);
        // From here on a failure undoes the child.
        traced?;
        child.stack = if shares_stack { self.stack } else { AltStack::default() };
        child.sequences = self.sequences.filter(|_| !request.has(raw::CLONE_VM));
        child.sp = request.stack.unwrap_or(self.sp);
        if request.has(raw::CLONE_CHILD_CLEARTID) {
            child.clear_tid = request.child_tid;
        }
        // As in Linux, an id that cannot be stored is not missed.
        if request.has(raw::CLONE_CHILD_SETTID) {
            let _ = child.mm.poke(request.child_tid, &id.to_le_bytes());
        }
        if request.has(raw::CLONE_PARENT_SETTID) {
            let _ = user::write_all::<P>(request.parent_tid, &id.to_le_bytes());
        }
        let vfork = request
            .has(raw::CLONE_VFORK)
            .then(|| Arc::new(Vfork { is_done: AtomicBool::new(false), parent: Arc::clone(&self.shared) }));
        child.vfork.clone_from(&vfork);
        if vfork.is_some() {
            self.pause();
        }
        self.spawned = Some(Spawned { call: request.call, vfork, descriptor: None, child: id, event });
        // A tracer sees both go on side by side.
        let is_seen = self.is_watched() || child.is_watched();
        let maker_waits = request.has(raw::CLONE_VFORK) && request.has(raw::CLONE_VM) && !thread && !is_seen;
        let unborn = Unborn { task: child, thread, maker_waits, stack: request.stack, fs_base: request.fs_base };
        self.after = After::Spawn(Box::new(unborn));
        Ok(id)
    }

    /// Notes the descriptor of the child that the present call makes.
    pub(crate) fn spawn_has(&mut self, fd: Fd) {
        if let Some(spawned) = &mut self.spawned {
            spawned.descriptor = Some(fd);
        }
    }

    /// Undoes [`Self::spawn`].
    pub(crate) fn unspawn(&mut self) {
        let descriptor = self.spawned.take().and_then(|spawned| spawned.descriptor);
        if let Some(fd) = descriptor {
            let _ = self.files.remove(fd);
        }
        self.after = After::Return;
    }

    /// The actions of a child that is a process of its own.
    fn actions_for_child(&self, request: &Request) -> super::process::ActionTable<P> {
        let actions = Arc::clone(&self.process.actions.lock());
        if request.has(raw::CLONE_SIGHAND) {
            return actions;
        }
        let mut copy = actions.lock().clone();
        if request.flags & raw::CLONE_CLEAR_SIGHAND != 0 {
            copy.exec();
        }
        Arc::new(Mutex::<P, _>::new(copy))
    }

    /// Whether its user may have another task. See getrlimit(2), `RLIMIT_NPROC`.
    fn check_user(&self, tree: &Tree<P>) -> Result<()> {
        let (ids, limit, may) =
            self.process.with(|state| (state.ids, state.limit(raw::RLIMIT_NPROC), state.capabilities.effective));
        let ([user, ..], limit) = (ids.users, limit.map_or(u64::MAX, |limit| limit.soft));
        let exempt = user == 0 || may.intersects(Capabilities::SYS_RESOURCE | Capabilities::SYS_ADMIN);
        // Zombies count as well; most of the time there are few of all.
        let all = tree.threads.len().saturating_add(tree.nodes.len());
        if exempt || u64::try_from(all).is_ok_and(|all| all < limit) {
            return Ok(());
        }
        let of_user = |node: &Node<P>| node.process.with(|state| state.ids.users.first() == Some(&user));
        let tasks = tree.nodes.values().filter(|node| of_user(node)).map(|node| node.process.task_count().max(1));
        if u64::try_from(tasks.sum::<usize>()).is_ok_and(|sum| sum < limit) {
            return Ok(());
        }
        Err(errno!(AGAIN, "the user has too many tasks"))
    }

    /// Lets a parent that waits for it go on. See vfork(2).
    pub(super) fn release_parent(&mut self) {
        if let Some(vfork) = self.vfork.take() {
            vfork.release();
        }
    }

    /// As if it had never been: it got no carrier.
    pub(super) fn undo(&mut self) {
        self.phase = Phase::Gone;
        self.vfork = None;
        let (tid, process) = (self.tid(), Arc::clone(&self.process));
        let parent = {
            let mut tree = self.sandbox().tree.lock();
            tree.threads.remove(&tid);
            tree.tracees.remove(&tid);
            process.tasks.lock().retain(|task| !Arc::ptr_eq(task, &self.shared));
            let parent = tree.nodes.get(&tid).map(|node| node.parent);
            tree.remove(tid);
            tree.dismiss_init();
            parent.and_then(|parent| tree.nodes.get(&parent).map(|node| Arc::clone(&node.process)))
        };
        process.task_left();
        if let Some(parent) = parent {
            parent.children_changed().wake_all();
        }
    }
}
