//! Threads, processes and sandboxes, as the ABI sees them.
//!
//! Owns: what Linux's calls say of a task beyond core's objects. Invariants: a [`Task`] is used by its own carrier only; what
//! others reach is in its [`TaskShared`] or its [`Process`], under locks. Locks: `Sandbox::processes`, `Process::tasks`, then the
//! state of one process, then the pending signals.

use crate::exec::Running;
use crate::machine::Machine;
use crate::shared::Shared;
use crate::signal::{Actions, AltStack, Cpu, Info, Pending, SigSet};
use crate::timer::Timers;
use crate::tuning::Tuning;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::FdTable;
use litebox_core::fs::path::FsContext;
use litebox_core::fs::types::{Asker, Credentials, Gid, Uid};
use litebox_core::mm::{AddressSpace, GuestAddr};
use litebox_core::quota::Quota;
use litebox_core::sync::{Futexes, Mutex};
use litebox_core::{errno, platform::Platform};

/// How many kinds of resource limit there are.
pub const LIMITS: usize = 16;
/// How many signals may wait for a process and its tasks.
const SIGNALS_PENDING: u64 = 4096;

/// One sandbox: processes that see each other.
pub struct Sandbox<P: Platform> {
    quota: Arc<Quota>,
    machine: Machine<P>,
    started: Duration,
    last_id: AtomicU32,
    /// Bit `n` is set once unsupported call `n` was named.
    named: [AtomicU64; 8],
    futexes: Futexes<P>,
    shared: Shared,
    processes: Mutex<P, BTreeMap<u32, Weak<Process<P>>>>,
}

impl<P: Platform> fmt::Debug for Sandbox<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("quota", &self.quota).finish_non_exhaustive()
    }
}

impl<P: Platform> Sandbox<P> {
    /// An empty sandbox whose memory is charged to `quota`, which it shows to programs as `memory` bytes.
    #[must_use]
    pub fn new(quota: Arc<Quota>, memory: u64) -> Arc<Self> {
        Self::on(Machine::new(memory, None, None), quota)
    }

    /// An empty sandbox that shows `machine` to its programs, and whose memory is charged to `quota`.
    #[must_use]
    pub fn on(machine: Machine<P>, quota: Arc<Quota>) -> Arc<Self> {
        Arc::new(Self {
            quota,
            machine,
            started: P::monotonic(),
            last_id: AtomicU32::new(0),
            named: [const { AtomicU64::new(0) }; 8],
            futexes: Futexes::new(),
            shared: Shared::default(),
            processes: Mutex::<P, _>::new(BTreeMap::new()),
        })
    }

    /// Its memory book.
    #[must_use]
    pub fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// How many bytes of memory programs see.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.machine.memory
    }

    /// What its programs see of the machine.
    #[must_use]
    pub fn machine(&self) -> &Machine<P> {
        &self.machine
    }

    /// How long it has been there.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        P::monotonic().saturating_sub(self.started)
    }

    /// Whether unsupported call `number` has not been named yet; it has from now on.
    pub(crate) fn first_time(&self, number: u64) -> bool {
        let word = usize::try_from(number >> 6).ok().and_then(|word| self.named.get(word));
        let bit = 1u64.rotate_left(u32::try_from(number & 63).unwrap_or_default());
        // All numbers beyond the table share none: they are named each time, rate-limited by the log.
        word.is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Who waits for words in memory.
    #[must_use]
    pub fn futexes(&self) -> &Futexes<P> {
        &self.futexes
    }

    /// What its processes share beside files.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The process with this id, if it lives.
    pub fn process(&self, pid: u32) -> Option<Arc<Process<P>>> {
        self.processes.lock().get(&pid).and_then(Weak::upgrade)
    }

    /// How many processes there are.
    pub fn process_count(&self) -> usize {
        self.processes.lock().len()
    }

    /// The process with the lowest id from `from` on.
    pub fn next_process(&self, from: u32) -> Option<Arc<Process<P>>> {
        self.processes.lock().range(from..).find_map(|(_, process)| process.upgrade())
    }

    fn new_id(&self) -> Result<u32> {
        let next = |last: u32| last.checked_add(1).filter(|id| *id < 1 << 22);
        let last = self.last_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.ok().and_then(next).ok_or(errno!(AGAIN, "no process ids are left"))
    }
}

/// Real, effective and saved user and group. See credentials(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Real, effective, saved user.
    pub users: [u32; 3],
    /// Real, effective, saved group.
    pub groups: [u32; 3],
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
    /// What is done about signals.
    pub actions: Actions,
    /// Resource limits by their number.
    pub limits: [Limit; LIMITS],
    /// Process group and session.
    pub group: u32,
    /// Session.
    pub session: u32,
    /// Supplementary groups.
    pub supplementary: Arc<[Gid]>,
    /// Whether others may look into it. See prctl(2), `PR_SET_DUMPABLE`.
    pub dumpable: bool,
    /// The signal that its parent's end sends, or 0. See prctl(2), `PR_SET_PDEATHSIG`.
    pub parent_death: u32,
    /// How it runs.
    pub tuning: Tuning,
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
            actions: Actions::default(),
            limits,
            group: pid,
            session: pid,
            supplementary: Arc::default(),
            dumpable: true,
            parent_death: 0,
            tuning: Tuning::default(),
        }
    }

    /// The limit `which`, if there is one.
    #[must_use]
    pub fn limit(&self, which: u32) -> Option<Limit> {
        usize::try_from(which).ok().and_then(|which| self.limits.get(which)).copied()
    }
}

/// A process.
pub struct Process<P: Platform> {
    pid: u32,
    parent: u32,
    sandbox: Arc<Sandbox<P>>,
    files: Arc<FdTable<P>>,
    fs: Mutex<P, FsContext<P>>,
    timers: Timers<P>,
    running: Running<P>,
    state: Mutex<P, ProcessState>,
    pending: Mutex<P, Pending>,
    has_pending: AtomicBool,
    tasks: Mutex<P, Vec<Arc<TaskShared<P>>>>,
}

impl<P: Platform> fmt::Debug for Process<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for Process<P> {
    fn drop(&mut self) {
        self.sandbox.processes.lock().remove(&self.pid);
    }
}

impl<P: Platform> Process<P> {
    /// The first process of `sandbox`, or another one that nobody is the parent of; its paths start from `fs`,
    /// and no file is open.
    ///
    /// # Errors
    /// `AGAIN`: no process id is left.
    pub fn new(sandbox: &Arc<Sandbox<P>>, ids: Ids, fs: FsContext<P>) -> Result<Arc<Self>> {
        let pid = sandbox.new_id()?;
        let process = Arc::new(Self {
            pid,
            parent: 0,
            sandbox: Arc::clone(sandbox),
            files: FdTable::new(&sandbox.quota),
            fs: Mutex::<P, _>::new(fs),
            timers: Timers::new(),
            running: Running::new(None),
            state: Mutex::<P, _>::new(ProcessState::new(ids, pid)),
            pending: Mutex::<P, _>::new(Pending::default()),
            has_pending: AtomicBool::new(false),
            tasks: Mutex::<P, _>::new(Vec::new()),
        });
        sandbox.processes.lock().insert(pid, Arc::downgrade(&process));
        Ok(process)
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its parent's id; 0 if that is outside of the sandbox.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent
    }

    /// Its sandbox.
    #[must_use]
    pub fn sandbox(&self) -> &Arc<Sandbox<P>> {
        &self.sandbox
    }

    /// Its open files.
    #[must_use]
    pub fn files(&self) -> &Arc<FdTable<P>> {
        &self.files
    }

    /// What its paths start from, now.
    pub fn fs(&self) -> FsContext<P> {
        self.fs.lock().clone()
    }

    /// Changes what its paths start from. What is replaced is dropped under the lock, which is of rank "process state".
    pub(crate) fn change_fs(&self, change: impl FnOnce(&mut FsContext<P>)) {
        change(&mut self.fs.lock());
    }

    /// Who it is for permission checks.
    pub fn credentials(&self) -> Credentials {
        let (ids, groups) = self.with(|state| (state.ids, Arc::clone(&state.supplementary)));
        let ([_, uid, _], [_, gid, _]) = (ids.users, ids.groups);
        let asker = Asker { process: self.pid, task: self.pid };
        Credentials { uid: Uid(uid), gid: Gid(gid), groups, privileged: uid == 0, asker }
    }

    /// Looks at its state, or changes it, under the lock. `look` must not touch guest memory.
    pub fn with<T>(&self, look: impl FnOnce(&mut ProcessState) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// Sends it a signal, which any of its tasks takes, or drops one that it ignores.
    ///
    /// # Errors
    /// `AGAIN`: too many wait.
    pub fn send(&self, info: Info) -> Result<()> {
        if self.with(|state| state.actions.get(info.signal).ignores(info.signal)) {
            return Ok(());
        }
        self.pending.lock().push(info, usize::try_from(SIGNALS_PENDING).unwrap_or_default())?;
        self.has_pending.store(true, Ordering::Release);
        Ok(())
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

    /// How many tasks it has.
    pub fn task_count(&self) -> usize {
        self.tasks.lock().len()
    }

    /// The task with the lowest id from `from` on.
    pub fn next_task(&self, from: u32) -> Option<Arc<TaskShared<P>>> {
        self.tasks.lock().iter().filter(|task| task.tid >= from).min_by_key(|task| task.tid).map(Arc::clone)
    }

    /// The task with this id.
    pub fn task(&self, tid: u32) -> Option<Arc<TaskShared<P>>> {
        self.tasks.lock().iter().find(|task| task.tid == tid).map(Arc::clone)
    }
}

/// What other tasks reach of a task.
pub struct TaskShared<P: Platform> {
    tid: u32,
    name: Mutex<P, [u8; 16]>,
    pending: Mutex<P, Pending>,
    has_pending: AtomicBool,
}

impl<P: Platform> fmt::Debug for TaskShared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskShared").field("tid", &self.tid).finish_non_exhaustive()
    }
}

impl<P: Platform> TaskShared<P> {
    /// Its id.
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Its name, NUL-padded.
    pub fn name(&self) -> [u8; 16] {
        *self.name.lock()
    }

    /// Names it.
    pub fn set_name(&self, name: [u8; 16]) {
        *self.name.lock() = name;
    }

    /// Sends it a signal of its own.
    ///
    /// # Errors
    /// `AGAIN`: too many wait.
    pub fn send(&self, info: Info) -> Result<()> {
        self.pending.lock().push(info, usize::try_from(SIGNALS_PENDING).unwrap_or_default())?;
        self.has_pending.store(true, Ordering::Release);
        Ok(())
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// exit(2): this task only, with this status.
    Task(u8),
    /// `exit_group(2)`: the process.
    Process(u8),
    /// A signal ended the process.
    Signal(u32),
}

/// What is to be done when a call's handler is through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum After {
    /// Go on with its result.
    #[default]
    Return,
    /// Go back to before a signal.
    SignalReturn,
    /// End.
    End(End),
}

/// A thread, with what only itself sees.
pub struct Task<P: Cpu> {
    shared: Arc<TaskShared<P>>,
    process: Arc<Process<P>>,
    mm: Arc<AddressSpace<P>>,
    /// Signals that wait until unblocked.
    pub(crate) mask: SigSet,
    /// The mask to restore after the handler that `sigsuspend` and its kin wait for.
    pub(crate) saved_mask: Option<SigSet>,
    /// The alternate stack.
    pub(crate) stack: AltStack,
    /// Where to store 0 and wake a futex at the end. See `set_tid_address(2)`.
    pub(crate) clear_tid: GuestAddr,
    /// Futexes to release at the end. See `set_robust_list(2)`.
    pub(crate) robust_list: GuestAddr,
    /// `rsp` at its last system call.
    pub(crate) sp: u64,
    /// What follows the present call.
    pub(crate) after: After,
    /// Until when the interrupted call that is to be made again waits.
    pub(crate) resume_deadline: Option<Duration>,
    /// Vector, error code and address of its last fault.
    pub(crate) fault: [u64; 3],
}

impl<P: Cpu> fmt::Debug for Task<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("tid", &self.shared.tid).field("process", &self.process).finish_non_exhaustive()
    }
}

impl<P: Cpu> Drop for Task<P> {
    fn drop(&mut self) {
        self.process.tasks.lock().retain(|task| !Arc::ptr_eq(task, &self.shared));
    }
}

impl<P: Cpu> Task<P> {
    /// The first task of `process`, whose id is the process's.
    ///
    /// # Errors
    /// `NOMEM`.
    pub fn first(process: Arc<Process<P>>, mm: Arc<AddressSpace<P>>) -> Result<Self> {
        let shared = Arc::new(TaskShared {
            tid: process.pid,
            name: Mutex::<P, _>::new([0; 16]),
            pending: Mutex::<P, _>::new(Pending::default()),
            has_pending: AtomicBool::new(false),
        });
        {
            let mut tasks = process.tasks.lock();
            tasks.try_reserve(1).map_err(|_| errno!(NOMEM))?;
            tasks.push(Arc::clone(&shared));
        }
        Ok(Self {
            shared,
            process,
            mm,
            mask: SigSet::EMPTY,
            saved_mask: None,
            stack: AltStack::default(),
            clear_tid: GuestAddr::default(),
            robust_list: GuestAddr::default(),
            sp: 0,
            after: After::Return,
            resume_deadline: None,
            fault: [0; 3],
        })
    }

    /// Its id.
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.shared.tid
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Arc<Process<P>> {
        &self.process
    }

    /// Who it is for permission checks.
    pub fn credentials(&self) -> Credentials {
        let asker = Asker { process: self.process.pid, task: self.shared.tid };
        Credentials { asker, ..self.process.credentials() }
    }

    /// Its sandbox.
    #[must_use]
    pub fn sandbox(&self) -> &Arc<Sandbox<P>> {
        &self.process.sandbox
    }

    /// Its address space.
    #[must_use]
    pub fn mm(&self) -> &Arc<AddressSpace<P>> {
        &self.mm
    }

    /// What others reach of it.
    #[must_use]
    pub fn shared(&self) -> &Arc<TaskShared<P>> {
        &self.shared
    }

    /// Whether signals may wait for it, blocked ones too. Cheap: asked after every call.
    #[must_use]
    pub fn may_have_signals(&self) -> bool {
        self.shared.has_pending.load(Ordering::Acquire)
            || self.process.has_pending.load(Ordering::Acquire)
            || self.process.timers.is_due()
    }

    /// The signals that wait for it or its process.
    pub(crate) fn pending(&self) -> SigSet {
        let own = self.shared.pending.lock().set();
        own.union(self.process.pending.lock().set())
    }

    /// Takes the next signal that it does not block.
    pub(crate) fn next_signal(&self) -> Option<Info> {
        self.process.timers.ring(&self.process);
        self.take_signal(self.mask)
    }

    /// Takes the next signal that `mask` does not block.
    pub(crate) fn take_signal(&self, mask: SigSet) -> Option<Info> {
        let take = |pending: &Mutex<P, Pending>, flag: &AtomicBool| {
            let mut pending = pending.lock();
            let info = pending.pop(mask);
            flag.store(!pending.set().is_empty(), Ordering::Release);
            info
        };
        take(&self.shared.pending, &self.shared.has_pending).or_else(|| take(&self.process.pending, &self.process.has_pending))
    }

    /// Forgets waiting signals that came to be ignored.
    pub(crate) fn discard(&self, which: SigSet) {
        self.shared.pending.lock().discard(which);
        self.process.pending.lock().discard(which);
    }
}
