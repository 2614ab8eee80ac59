//! A process: what its tasks have in common, and what others see of it.

use super::jobs::Terminal;
use super::sandbox::Sandbox;
use super::thread::{End, TaskShared};
use super::usage::Spent;
use crate::capabilities::CapabilitySets;
use crate::exec::Running;
use crate::signal::{Actions, Cpu, Info, Origin, Pending, SigSet, Signal};
use crate::timer::Timers;
use crate::tuning::Tuning;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as raw;
use litebox_core::error::Result;
use litebox_core::event::completions::Completions;
use litebox_core::fs::fd_table::FdTable;
use litebox_core::fs::path::FsContext;
use litebox_core::fs::poll::PollSource;
use litebox_core::fs::types::{Asker, Credentials, Gid, Uid};
use litebox_core::mm::MapLimits;
use litebox_core::quota::Charge;
use litebox_core::sync::{Mutex, WaitQueue};
use litebox_core::tty::pair::Pair;

/// How many kinds of resource limit there are.
pub const LIMITS: usize = 16;
/// How many signals may wait for a process, and for each of its tasks.
pub(super) const SIGNALS_PENDING: u64 = 4096;
/// The id of what is everybody's first parent.
pub(super) const INIT: u32 = 1;
/// What a process is charged: the host's process, and what is here.
const PROCESS_BYTES: u64 = 16 * 1024;

/// Real, effective and saved user and group. See credentials(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Real, effective, saved user.
    pub users: [u32; 3],
    /// Real, effective, saved group.
    pub groups: [u32; 3],
}

impl Ids {
    /// Whether the real user and group are the effective ones.
    #[must_use]
    pub fn are_plain(&self) -> bool {
        let ([user, effective_user, _], [group, effective_group, _]) = (self.users, self.groups);
        user == effective_user && group == effective_group
    }
}

/// One resource's soft and hard limit; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// What the soft one may be raised to.
    pub hard: u64,
}

/// State of a process under one lock.
#[derive(Clone, Debug)]
pub struct ProcessState {
    /// Users and groups.
    pub ids: Ids,
    /// Resource limits by their number.
    pub limits: [Limit; LIMITS],
    /// Process group. Changed with the sandbox's tree locked.
    pub group: u32,
    /// Session. Changed with the sandbox's tree locked.
    pub session: u32,
    /// Supplementary groups.
    pub supplementary: Arc<[Gid]>,
    /// What it may beyond others.
    pub capabilities: CapabilitySets,
    /// Whether others may look into it. See prctl(2), `PR_SET_DUMPABLE`.
    pub dumpable: bool,
    /// The signal that its parent's end sends, or 0. See prctl(2), `PR_SET_PDEATHSIG`.
    pub parent_death: u32,
    /// Whether its descendants become its children when their parents end. See prctl(2), `PR_SET_CHILD_SUBREAPER`.
    pub subreaper: bool,
    /// Which barriers it may ask for: its registrations. See membarrier(2).
    pub barriers: u32,
    /// How it runs.
    pub tuning: Tuning,
    /// The name of its last task, once it has none.
    pub(super) name: [u8; 16],
}

impl ProcessState {
    fn new(ids: Ids, pid: u32) -> Self {
        let none = Limit { soft: u64::MAX, hard: u64::MAX };
        let mut limits = [none; LIMITS];
        let mut set = |which: u32, soft, hard| {
            if let Some(limit) = usize::try_from(which).ok().and_then(|which| limits.get_mut(which)) {
                *limit = Limit { soft, hard };
            }
        };
        set(raw::RLIMIT_STACK, 8 << 20, u64::MAX);
        set(raw::RLIMIT_CORE, 0, u64::MAX);
        set(raw::RLIMIT_NPROC, 4096, 4096);
        set(raw::RLIMIT_NOFILE, 1024, 1 << 20);
        set(raw::RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        set(raw::RLIMIT_SIGPENDING, SIGNALS_PENDING, SIGNALS_PENDING);
        set(raw::RLIMIT_MSGQUEUE, 819_200, 819_200);
        set(raw::RLIMIT_NICE, 0, 0);
        set(raw::RLIMIT_RTPRIO, 0, 0);
        Self {
            ids,
            limits,
            group: pid,
            session: pid,
            supplementary: Arc::default(),
            capabilities: CapabilitySets::of(&ids),
            dumpable: true,
            parent_death: 0,
            subreaper: false,
            barriers: 0,
            tuning: Tuning::default(),
            name: [0; 16],
        }
    }

    /// The limit `which`, if there is one.
    #[must_use]
    pub fn limit(&self, which: u32) -> Option<Limit> {
        usize::try_from(which).ok().and_then(|which| self.limits.get(which)).copied()
    }

    /// How much may be mapped.
    pub(crate) fn map_limits(&self) -> MapLimits {
        let soft = |which| self.limit(which).map_or(u64::MAX, |limit| limit.soft);
        MapLimits { stack: soft(raw::RLIMIT_STACK), all: soft(raw::RLIMIT_AS), data: soft(raw::RLIMIT_DATA) }
    }

    /// What a child begins with. See fork(2).
    pub(super) fn fork(&self) -> Self {
        let tuning = Tuning { timer_slack: self.tuning.timer_slack.fork(), ..self.tuning };
        Self { parent_death: 0, subreaper: false, tuning, ..self.clone() }
    }
}

/// Actions of signals, which processes may share. See clone(2), `CLONE_SIGHAND`.
pub(super) type ActionTable<P> = Arc<Mutex<P, Actions>>;
/// What paths start from, which tasks may share. See clone(2), `CLONE_FS`.
pub(super) type FsShared<P> = Arc<Mutex<P, FsContext<P>>>;

/// A stop of all tasks. See signal(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) signal: Signal,
    /// Whether every task has stopped, and the parent was told.
    pub(super) is_told: bool,
}

/// What happens to all tasks of a process. Linux: `signal_struct`, under `siglock`.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Signals for any of them.
    pub(super) pending: Pending,
    /// How the process ends, once that is decided.
    pub(super) verdict: Option<End>,
    /// Whether a task calls execve(2) and waits until it is the only one.
    pub(super) execing: bool,
    /// They stop, or have stopped.
    pub(super) stop: Option<Stop>,
    /// They go on, and the parent is to be told.
    pub(super) continued: bool,
    /// Somebody has killed it, whatever had been decided before.
    pub(super) killed: bool,
}

impl Group {
    /// Whether tasks must look here before they go back to ring 3.
    fn wants_a_look(&self) -> bool {
        !self.pending.set().is_empty() || self.verdict.is_some() || self.stop.is_some()
    }
}

/// What one looks like from outside. See `proc_pid_stat(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It runs or waits.
    Alive,
    /// Job control has stopped it.
    Stopped,
    /// It has ended, and its parent was not told yet.
    Zombie,
}

/// What a process is to its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The parent of the first program and, by name, of orphans, as programs expect one: nothing runs in it. Linux: a namespace's
    /// `child_reaper`.
    Init,
    /// The first program's: the sandbox ends with it.
    First,
    /// A child of another.
    Child,
}

/// A process.
pub struct Process<P: Cpu> {
    pid: u32,
    role: Role,
    parent: AtomicU32,
    sandbox: Arc<Sandbox<P>>,
    /// Those of its first task; gone once it has ended.
    pub(super) files: Mutex<P, Option<Arc<FdTable<P>>>>,
    pub(super) fs: Mutex<P, FsShared<P>>,
    timers: Timers<P>,
    running: Running<P>,
    file_limit: AtomicU64,
    state: Mutex<P, ProcessState>,
    pub(super) actions: Mutex<P, ActionTable<P>>,
    pub(super) group: Mutex<P, Group>,
    /// Whether tasks must look at `group`; written under its lock.
    look: AtomicBool,
    pub(super) tasks: Mutex<P, Vec<Arc<TaskShared<P>>>>,
    pub(super) terminal: Mutex<P, Terminal<P>>,
    pub(super) spent: Mutex<P, Spent>,
    /// Contexts of asynchronous operations by their number.
    pub(super) completions: Mutex<P, BTreeMap<u64, Arc<Completions<P>>>>,
    children_changed: WaitQueue<P>,
    signalled: PollSource<P>,
    ended: PollSource<P>,
    _charge: Charge,
}

impl<P: Cpu> fmt::Debug for Process<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// What a new process begins with.
pub(super) struct Origins<P: Cpu> {
    pub(super) pid: u32,
    pub(super) role: Role,
    pub(super) parent: u32,
    pub(super) state: ProcessState,
    pub(super) actions: ActionTable<P>,
    pub(super) files: Arc<FdTable<P>>,
    pub(super) fs: FsShared<P>,
    pub(super) running: Running<P>,
    pub(super) terminal: Option<Arc<Pair<P>>>,
    pub(super) charge: Charge,
}

impl<P: Cpu> Process<P> {
    /// The process of a first program in `sandbox`, with which that ends; its paths start from `fs`, and no file is open. Its id
    /// is above 1, which is that of init. Others see it from its first task on.
    ///
    /// # Errors
    /// `AGAIN`: no process id is left. `NOMEM`.
    pub fn new(sandbox: &Arc<Sandbox<P>>, ids: Ids, fs: FsContext<P>) -> Result<Arc<Self>> {
        let pid = sandbox.tree.lock().new_id()?;
        Self::without_parent(sandbox, (pid, Role::First), ids, fs)
    }

    /// What is process 1 for the others, beside the first program's process `first`: programs take the end of their parents for
    /// what has happened when that becomes their parent, and treat being process 1 in ways of their own.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(super) fn init(first: &Self) -> Result<Arc<Self>> {
        let init = Self::without_parent(&first.sandbox, (INIT, Role::Init), Ids::default(), first.fs())?;
        *init.files.lock() = None;
        init.with(|state| state.name = *b"init\0\0\0\0\0\0\0\0\0\0\0\0");
        Ok(init)
    }

    fn without_parent(sandbox: &Arc<Sandbox<P>>, who: (u32, Role), ids: Ids, fs: FsContext<P>) -> Result<Arc<Self>> {
        let (pid, role) = who;
        let charge = Self::charge(sandbox)?;
        let origins = Origins {
            pid,
            role,
            parent: if role == Role::Init { 0 } else { INIT },
            state: ProcessState::new(ids, pid),
            actions: Arc::new(Mutex::<P, _>::new(Actions::default())),
            files: FdTable::with_locks(sandbox.quota(), sandbox.shared().locks()),
            fs: Arc::new(Mutex::<P, _>::new(fs)),
            running: Running::new(None),
            terminal: None,
            charge,
        };
        Ok(Self::from_origins(sandbox, origins))
    }

    /// Charges what a process costs.
    pub(super) fn charge(sandbox: &Sandbox<P>) -> Result<Charge> {
        sandbox.quota().charge(PROCESS_BYTES)
    }

    pub(super) fn from_origins(sandbox: &Arc<Sandbox<P>>, origins: Origins<P>) -> Arc<Self> {
        Arc::new(Self {
            pid: origins.pid,
            role: origins.role,
            parent: AtomicU32::new(origins.parent),
            sandbox: Arc::clone(sandbox),
            files: Mutex::<P, _>::new(Some(origins.files)),
            fs: Mutex::<P, _>::new(origins.fs),
            timers: Timers::new(),
            running: origins.running,
            file_limit: AtomicU64::new(origins.state.limit(raw::RLIMIT_FSIZE).map_or(u64::MAX, |limit| limit.soft)),
            state: Mutex::<P, _>::new(origins.state),
            actions: Mutex::<P, _>::new(origins.actions),
            group: Mutex::<P, _>::new(Group::default()),
            look: AtomicBool::new(false),
            tasks: Mutex::<P, _>::new(Vec::new()),
            terminal: Mutex::<P, _>::new(Terminal::new(origins.terminal)),
            spent: Mutex::<P, _>::new(Spent::default()),
            completions: Mutex::<P, _>::new(BTreeMap::new()),
            children_changed: WaitQueue::new(),
            signalled: PollSource::default(),
            ended: PollSource::default(),
            _charge: origins.charge,
        })
    }

    /// Where the regular files that it writes end: its soft `RLIMIT_FSIZE`, at hand for each write.
    pub(crate) fn file_limit(&self) -> u64 {
        self.file_limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_file_limit(&self, limit: u64) {
        self.file_limit.store(limit, Ordering::Relaxed);
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it is to its sandbox.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// The name of its last task, once it has none.
    pub(crate) fn last_name(&self) -> [u8; 16] {
        self.with(|state| state.name)
    }

    /// Its parent's id; 1 if that has ended or was never in the sandbox.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent.load(Ordering::Relaxed)
    }

    pub(super) fn set_parent(&self, parent: u32) {
        self.parent.store(parent, Ordering::Relaxed);
    }

    /// Its sandbox.
    #[must_use]
    pub fn sandbox(&self) -> &Arc<Sandbox<P>> {
        &self.sandbox
    }

    /// The open files of its first task; none once it has ended. A task's own are [`Task::files`](super::Task::files).
    pub fn files(&self) -> Arc<FdTable<P>> {
        let files = self.files.lock().clone();
        files.unwrap_or_else(|| FdTable::new(self.sandbox.quota()))
    }

    /// What the paths of its first task start from, now.
    pub fn fs(&self) -> FsContext<P> {
        let fs = Arc::clone(&self.fs.lock());
        let fs = fs.lock();
        fs.clone()
    }

    /// A number that tells what its paths start from from others', while it lives.
    pub(crate) fn fs_identity(&self) -> usize {
        Arc::as_ptr(&self.fs.lock()).addr()
    }

    /// A number that tells its actions from others', while it lives.
    pub(crate) fn actions_identity(&self) -> usize {
        Arc::as_ptr(&self.actions.lock()).addr()
    }

    /// Changes what the paths of its first task start from. What is replaced is dropped under the lock, which is of rank "process
    /// state".
    pub(crate) fn change_fs(&self, change: impl FnOnce(&mut FsContext<P>)) {
        let fs = Arc::clone(&self.fs.lock());
        change(&mut fs.lock());
    }

    /// Who it is for permission checks.
    pub fn credentials(&self) -> Credentials {
        let look = |state: &mut ProcessState| (state.ids, Arc::clone(&state.supplementary), state.capabilities.effective);
        let (ids, groups, capabilities) = self.with(look);
        let ([_, uid, _], [_, gid, _]) = (ids.users, ids.groups);
        let asker = Asker { process: self.pid, task: self.pid };
        Credentials { uid: Uid(uid), gid: Gid(gid), groups, capabilities, asker }
    }

    /// Looks at its state, or changes it, under the lock. `look` must not touch guest memory.
    pub fn with<T>(&self, look: impl FnOnce(&mut ProcessState) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// Looks at what it does about signals, or changes that, under the lock. `look` must not touch guest memory.
    pub fn with_actions<T>(&self, look: impl FnOnce(&mut Actions) -> T) -> T {
        let actions = Arc::clone(&self.actions.lock());
        let mut actions = actions.lock();
        look(&mut actions)
    }

    /// Looks at what happens to all its tasks, or changes that, under the lock, which is a leaf.
    pub(super) fn with_group<T>(&self, look: impl FnOnce(&mut Group) -> T) -> T {
        let mut group = self.group.lock();
        let found = look(&mut group);
        self.look.store(group.wants_a_look(), Ordering::Release);
        found
    }

    /// Whether tasks must look at `group` before they go back to ring 3.
    pub(super) fn wants_a_look(&self) -> bool {
        self.look.load(Ordering::Acquire)
    }

    /// Its timers.
    pub(crate) fn timers(&self) -> &Timers<P> {
        &self.timers
    }

    /// The program that it runs.
    #[must_use]
    pub fn running(&self) -> &Running<P> {
        &self.running
    }

    /// Woken when a child ends, stops or goes on.
    pub(super) fn children_changed(&self) -> &WaitQueue<P> {
        &self.children_changed
    }

    /// Woken when a signal comes for it or one of its tasks; for signalfd(2).
    pub fn signalled(&self) -> &PollSource<P> {
        &self.signalled
    }

    /// Woken when it has ended, and when it was reaped.
    pub(super) fn has_ended(&self) -> &PollSource<P> {
        &self.ended
    }

    /// The signals that wait for any of its tasks.
    pub fn pending(&self) -> SigSet {
        self.group.lock().pending.set()
    }

    /// The task with this id.
    pub fn task(&self, tid: u32) -> Option<Arc<TaskShared<P>>> {
        self.tasks.lock().iter().find(|task| task.tid() == tid).map(Arc::clone)
    }

    /// How many tasks it has; 0 once it has ended.
    pub fn task_count(&self) -> usize {
        self.tasks.lock().len()
    }

    /// The task with the lowest id from `from` on; for listing them.
    pub fn next_task(&self, from: u32) -> Option<Arc<TaskShared<P>>> {
        self.tasks.lock().iter().filter(|task| task.tid() >= from).min_by_key(|task| task.tid()).map(Arc::clone)
    }

    /// Whether job control has stopped it, or is about to.
    pub(super) fn is_stopped(&self) -> bool {
        self.group.lock().stop.is_some()
    }

    /// What it looks like from outside.
    pub fn condition(&self) -> Condition {
        match (self.task_count(), self.is_stopped()) {
            (0, _) if self.role != Role::Init => Condition::Zombie,
            (_, true) => Condition::Stopped,
            (_, false) => Condition::Alive,
        }
    }

    /// Sends the signal that it asked for at its parent's end. See prctl(2), `PR_SET_PDEATHSIG`.
    pub(super) fn parent_died(&self) {
        if let Some(signal) = Signal::new(u64::from(self.with(|state| state.parent_death))) {
            // A real-time signal past the limit is lost, as in Linux.
            let _ = self.post(Info::new(signal, Info::SI_USER, Origin::Process { pid: 0, uid: 0, value: 0 }), None);
        }
    }
}
