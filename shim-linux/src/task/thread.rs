//! A task: one thread, with what only itself sees, and what others reach of it.

use super::process::{FsShared, Process};
use super::ptrace::{Stepping, Tracing, Watch};
use super::sandbox::Sandbox;
use super::spawn::{Spawned, Unborn, Vfork};
use super::usage::Carried;
use crate::regs::Regs;
use crate::seccomp::Mode;
use crate::signal::sequence::Sequences;
use crate::signal::{AltStack, Cpu, Info, Pending, SigSet};
use crate::table::Restart;
use crate::watched::Due;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::FdTable;
use litebox_core::fs::path::FsContext;
use litebox_core::fs::types::{Asker, Credentials};
use litebox_core::mm::{AddressSpace, GuestAddr};
use litebox_core::quota::{Charge, Quota};
use litebox_core::sync::{Mutex, WaitQueue};

/// What a task is charged: the host's thread with its kernel stack, and what is here.
const TASK_BYTES: u64 = 24 * 1024;

/// What other tasks reach of a task.
pub struct TaskShared<P: Cpu> {
    tid: AtomicU32,
    pending: Mutex<P, Pending>,
    /// Whether it must look before it goes back to ring 3: signals wait, or it is doomed.
    look: AtomicBool,
    /// A copy of what it blocks.
    mask: AtomicU64,
    /// What it waits for though it may block it. See sigtimedwait(2); Linux: `real_blocked`.
    awaited: AtomicU64,
    /// Another task calls execve(2), so it has to end.
    doomed: AtomicBool,
    /// It takes no more signals.
    ending: AtomicBool,
    /// It has stopped; written under its process's `group`.
    stopped: AtomicBool,
    /// It is traced and has not taken part in its process's stop yet; written under its process's `group`.
    stop_due: AtomicBool,
    /// It is to stop for its tracer.
    trapped: AtomicBool,
    /// Why its calls go the long way: bits of [`Watch`].
    watch: AtomicU32,
    tracing: Mutex<P, Tracing<P>>,
    /// What filters its calls.
    pub(super) seccomp: Mutex<P, Mode>,
    name: Mutex<P, [u8; 16]>,
    /// Where it sleeps when no signal may wake it.
    park: WaitQueue<P>,
    carried: Mutex<P, Carried<P>>,
    /// The address of its list of futexes to release at its end. See `set_robust_list(2)`.
    robust_list: AtomicU64,
    _charge: Charge,
}

impl<P: Cpu> fmt::Debug for TaskShared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskShared").field("tid", &self.tid).finish_non_exhaustive()
    }
}

impl<P: Cpu> TaskShared<P> {
    /// # Errors
    /// `NOMEM`.
    pub(super) fn new(sandbox: &Sandbox<P>, tid: u32, mask: SigSet, name: [u8; 16]) -> Result<Arc<Self>> {
        let charge = sandbox.quota().charge(TASK_BYTES)?;
        let watch = if sandbox.machine().is_traced() { Watch::LOGGED } else { Watch::empty() };
        Ok(Arc::new(Self {
            tid: AtomicU32::new(tid),
            pending: Mutex::<P, _>::new(Pending::default()),
            look: AtomicBool::new(false),
            mask: AtomicU64::new(mask.bits()),
            awaited: AtomicU64::new(0),
            doomed: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            stop_due: AtomicBool::new(false),
            trapped: AtomicBool::new(false),
            watch: AtomicU32::new(watch.bits()),
            tracing: Mutex::<P, _>::new(Tracing::default()),
            seccomp: Mutex::<P, _>::new(Mode::Off),
            name: Mutex::<P, _>::new(name),
            park: WaitQueue::new(),
            carried: Mutex::<P, _>::new(Carried::default()),
            robust_list: AtomicU64::new(0),
            _charge: charge,
        }))
    }

    /// Its id.
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// Gives it another id: execve(2) makes its caller the first task of the process.
    pub(super) fn set_tid(&self, tid: u32) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// Where its list of futexes begins that are to be released at its end; null for none.
    pub(crate) fn robust_list(&self) -> GuestAddr {
        GuestAddr::new(self.robust_list.load(Ordering::Relaxed))
    }

    /// Sets where that list begins.
    pub(crate) fn set_robust_list(&self, head: GuestAddr) {
        self.robust_list.store(head.get(), Ordering::Relaxed);
    }

    /// Its name, NUL-padded.
    pub fn name(&self) -> [u8; 16] {
        *self.name.lock()
    }

    /// Names it; the last byte is a NUL whatever it is in `name`.
    pub fn set_name(&self, mut name: [u8; 16]) {
        if let Some(last) = name.last_mut() {
            *last = 0;
        }
        *self.name.lock() = name;
    }

    /// The signals that it blocks.
    #[must_use]
    pub fn mask(&self) -> SigSet {
        SigSet::from_bits(self.mask.load(Ordering::Relaxed))
    }

    /// The signals that wake it.
    #[must_use]
    pub(super) fn woken_by(&self) -> SigSet {
        let awaited = self.awaited.load(Ordering::Relaxed);
        SigSet::from_bits(!self.mask().bits() | awaited)
    }

    /// The signals that wait for it alone.
    pub fn pending(&self) -> SigSet {
        self.pending.lock().set()
    }

    fn with_pending<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        let mut pending = self.pending.lock();
        let result = change(&mut pending);
        let looks = !pending.set().is_empty() || self.is_doomed() || self.is_trapped();
        self.look.store(looks, Ordering::Release);
        result
    }

    /// Adds a signal to those that wait.
    ///
    /// # Errors
    /// `AGAIN`: too many wait.
    pub(super) fn queue(&self, info: Info, quota: &Arc<Quota>) -> Result<()> {
        self.with_pending(|pending| pending.push(info, super::post::PENDING_MAX, quota))
    }

    /// Forgets waiting signals.
    pub(super) fn forget(&self, which: SigSet) {
        self.with_pending(|pending| pending.discard(which));
    }

    /// Makes it end by itself, its process going on.
    pub(super) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
        self.with_pending(|_| ());
        self.park.wake_all();
        self.kick();
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Acquire)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    pub(super) fn set_ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::Relaxed);
    }

    pub(super) fn is_stop_due(&self) -> bool {
        self.stop_due.load(Ordering::Relaxed)
    }

    pub(super) fn set_stop_due(&self, due: bool) {
        self.stop_due.store(due, Ordering::Relaxed);
    }

    pub(super) fn is_trapped(&self) -> bool {
        self.trapped.load(Ordering::Acquire)
    }

    pub(super) fn set_trapped(&self, trapped: bool) {
        self.trapped.store(trapped, Ordering::Release);
        self.with_pending(|_| ());
    }

    /// Why its calls go the long way.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::from_bits_retain(self.watch.load(Ordering::Relaxed))
    }

    pub(super) fn watch_also(&self, watch: Watch) {
        self.watch.fetch_or(watch.bits(), Ordering::Release);
    }

    pub(super) fn watch_no_more(&self, watch: Watch) {
        self.watch.fetch_and(!watch.bits(), Ordering::Release);
    }

    /// What it has to do with its tracer.
    pub(super) fn tracing(&self) -> &Mutex<P, Tracing<P>> {
        &self.tracing
    }

    /// The signal number `index` of those that wait for it alone.
    pub(super) fn nth_pending(&self, index: u64) -> Option<Info> {
        self.pending.lock().nth(index)
    }

    /// Where it sleeps when no signal may wake it.
    pub(super) fn park(&self) -> &WaitQueue<P> {
        &self.park
    }

    /// Makes its carrier look, if it has one.
    pub(super) fn kick(&self) {
        if let Some(carrier) = &self.carried.lock().carrier {
            P::kick(carrier);
        }
    }

    /// What `ask` learns of its carrier, if it has one.
    pub(crate) fn with_carrier<T>(&self, ask: impl FnOnce(&P::Carrier) -> T) -> Option<T> {
        self.carried.lock().carrier.as_ref().map(ask)
    }

    /// Its carrier, and what it has used; a leaf.
    pub(super) fn carried(&self) -> &Mutex<P, Carried<P>> {
        &self.carried
    }

    /// Takes the carrier away; no kick of it is under way any more.
    pub(super) fn leave_carrier(&self) {
        let carrier = self.carried.lock().leave();
        drop(carrier);
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
#[derive(Debug, Default)]
pub(crate) enum After<P: Cpu> {
    /// Go on with its result.
    #[default]
    Return,
    /// Go back to before a signal.
    SignalReturn,
    /// End.
    End(End),
    /// Give a new task a carrier.
    Spawn(Box<Unborn<P>>),
    /// Go on in another program, with these registers.
    Exec(Box<Regs>),
}

/// How far a task's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has no carrier yet.
    Unborn,
    /// It has one.
    Alive,
    /// It runs no more in ring 3, and has let go of its memory; how it ends.
    Left(End),
    /// It has ended.
    Gone,
}

/// A thread, with what only itself sees.
///
/// The platform gives it a carrier by [`Self::begin`] and takes it away by [`Self::exit`]. Dropped without the latter, it ends as
/// if it was killed; without the former, as if it had never been.
pub struct Task<P: Cpu> {
    pub(super) shared: Arc<TaskShared<P>>,
    pub(super) process: Arc<Process<P>>,
    pub(super) mm: Arc<AddressSpace<P>>,
    pub(super) files: Arc<FdTable<P>>,
    pub(super) fs: FsShared<P>,
    pub(super) phase: Phase,
    /// Signals that wait until unblocked.
    mask: SigSet,
    /// The mask to restore after the handler that `sigsuspend` and its kin wait for.
    pub(crate) saved_mask: Option<SigSet>,
    /// The alternate stack.
    pub(crate) stack: AltStack,
    /// Where to store 0 and wake a futex at the end. See `set_tid_address(2)`.
    pub(crate) clear_tid: GuestAddr,
    /// The area of its restartable sequences, if it has one. See rseq(2).
    pub(crate) sequences: Option<Sequences>,
    /// Whether it makes single steps.
    pub(super) stepping: Stepping,
    /// The signal of its last stop for its tracer.
    pub(super) halted_info: Option<Info>,
    /// What it has to tell before it is in ring 3 again.
    pub(crate) due: Due,
    /// `rsp` at its last system call that [`quick`](crate::quick()) did not answer.
    pub(crate) sp: u64,
    /// What follows the present call.
    pub(crate) after: After<P>,
    /// What becomes of the present call if a signal interrupts it, where that is not what its row says.
    pub(crate) restart: Option<Restart>,
    /// Until when the interrupted call that is to be made again waits.
    pub(crate) resume_deadline: Option<Duration>,
    /// Vector, error code and address of its last fault.
    pub(crate) fault: [u64; 3],
    /// The child that its present call makes.
    pub(super) spawned: Option<Spawned<P>>,
    /// The parent that waits until it runs another program, or ends. See vfork(2).
    pub(super) vfork: Option<Arc<Vfork<P>>>,
}

impl<P: Cpu> fmt::Debug for Task<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("tid", &self.tid()).field("process", &self.process).finish_non_exhaustive()
    }
}

impl<P: Cpu> Drop for Task<P> {
    fn drop(&mut self) {
        match self.phase {
            Phase::Unborn => self.undo(),
            Phase::Alive | Phase::Left(_) => {
                self.exit(None);
            }
            Phase::Gone => {}
        }
    }
}

impl<P: Cpu> Task<P> {
    /// The first task of `process`, whose id is the process's.
    ///
    /// # Errors
    /// `NOMEM`; `AGAIN`: the sandbox has ended, or has too many tasks.
    pub fn first(process: Arc<Process<P>>, mm: Arc<AddressSpace<P>>) -> Result<Self> {
        let shared = TaskShared::new(process.sandbox(), process.pid(), SigSet::EMPTY, [0; 16])?;
        let (files, fs) = (process.files(), Arc::clone(&process.fs.lock()));
        {
            let mut tree = process.sandbox().tree.lock();
            tree.check_room()?;
            process.add_task(&shared)?;
            tree.insert_first(&process)?;
            tree.threads.insert(process.pid(), Arc::clone(&process));
        }
        Ok(Self::with(shared, process, mm, files, fs))
    }

    pub(super) fn with(
        shared: Arc<TaskShared<P>>,
        process: Arc<Process<P>>,
        mm: Arc<AddressSpace<P>>,
        files: Arc<FdTable<P>>,
        fs: FsShared<P>,
    ) -> Self {
        let mask = shared.mask();
        Self {
            shared,
            process,
            mm,
            files,
            fs,
            phase: Phase::Unborn,
            mask,
            saved_mask: None,
            stack: AltStack::default(),
            clear_tid: GuestAddr::default(),
            sequences: None,
            stepping: Stepping::Own,
            halted_info: None,
            due: Due::default(),
            sp: 0,
            after: After::Return,
            restart: None,
            resume_deadline: None,
            fault: [0; 3],
            spawned: None,
            vfork: None,
        }
    }

    /// Gives it its carrier, which is the caller, and by which others wake it. The platform asks [`before_guest`](crate::before_guest) afterwards and before
    /// its first instruction: signals may have come before there was anybody to wake.
    pub fn begin(&mut self, carrier: P::Carrier) {
        self.shared.carried.lock().begin(carrier);
        self.phase = Phase::Alive;
        if self.sequences.is_none() {
            P::watch_sequences(None);
        }
    }

    /// Takes the carrier away from a task that is to get another one by [`Self::begin`]: no kick of the old one comes any more.
    pub fn leave_carrier(&self) {
        self.shared.leave_carrier();
    }

    /// Its id.
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.shared.tid()
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Arc<Process<P>> {
        &self.process
    }

    /// Who it is for permission checks.
    pub fn credentials(&self) -> Credentials {
        let asker = Asker { process: self.process.pid(), task: self.tid() };
        Credentials { asker, ..self.process.credentials() }
    }

    /// Its sandbox.
    #[must_use]
    pub fn sandbox(&self) -> &Arc<Sandbox<P>> {
        self.process.sandbox()
    }

    /// Whether its calls go the long way.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        !self.shared.watch().is_empty()
    }

    /// Its address space.
    #[must_use]
    pub fn mm(&self) -> &Arc<AddressSpace<P>> {
        &self.mm
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

    /// What others reach of it.
    #[must_use]
    pub fn shared(&self) -> &Arc<TaskShared<P>> {
        &self.shared
    }

    /// The signals that it blocks.
    #[must_use]
    pub fn mask(&self) -> SigSet {
        self.mask
    }

    /// Blocks the signals of `mask` and no others; another task takes what waits for the process and is blocked now.
    pub(crate) fn set_mask(&mut self, mask: SigSet) {
        let blocked = mask.difference(self.mask);
        self.mask = mask;
        self.shared.mask.store(mask.bits(), Ordering::Relaxed);
        if !blocked.is_empty() && self.process.wants_a_look() {
            self.process.pass_on(blocked, &self.shared);
        }
    }

    /// Has the signals of `awaited` wake it, blocked or not, as long as `sleep` takes; no handler of them runs.
    pub(crate) fn await_signals<T>(&self, awaited: SigSet, sleep: impl FnOnce(&Self) -> T) -> T {
        self.shared.awaited.store(awaited.bits(), Ordering::SeqCst);
        let slept = sleep(self);
        self.shared.awaited.store(0, Ordering::SeqCst);
        slept
    }

    /// Sends it a signal of its own.
    ///
    /// # Errors
    /// `AGAIN`: too many wait.
    pub fn send(&self, info: Info) -> Result<()> {
        self.process.post(info, Some(&self.shared))
    }

    /// Whether it must look before it goes back to ring 3: signals may wait for it, blocked ones too, or it is to stop or to end.
    /// Cheap: asked after every call.
    #[must_use]
    pub fn may_have_signals(&self) -> bool {
        self.shared.look.load(Ordering::Acquire) || self.process.wants_a_look() || self.process.timers().is_due()
    }

    /// Whether a wait is to end, or not to begin: a signal waits that is not blocked, or it is to stop or to end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.process.timers().ring(&self.process);
        let is_signalled = !self.pending().intersection(self.shared.woken_by()).is_empty();
        is_signalled || self.verdict().is_some() || self.is_stopped() || self.shared.is_trapped()
    }

    /// The signals that wait for it or its process.
    pub(crate) fn pending(&self) -> SigSet {
        self.shared.pending().union(self.process.pending())
    }

    /// Takes the next signal that it does not block.
    pub(crate) fn next_signal(&self) -> Option<Info> {
        self.process.timers().ring(&self.process);
        self.take_signal(self.mask)
    }

    /// Takes the next signal that `mask` does not block.
    pub(crate) fn take_signal(&self, mask: SigSet) -> Option<Info> {
        let own = self.shared.with_pending(|pending| pending.pop(mask));
        own.or_else(|| self.process.with_group(|group| group.pending.pop(mask)))
    }

    /// What it has to end with, if that is decided: by its process's end, or by another task's execve(2).
    pub(crate) fn verdict(&self) -> Option<End> {
        let end = self.process.wants_a_look().then(|| self.process.with_group(|group| group.verdict)).flatten();
        end.or_else(|| self.shared.is_doomed().then_some(End::Task(0)))
    }

    /// Sleeps until `condition` gives a value; `None` if it has to end first.
    pub(super) fn park_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
        let found = self.shared.park.wait_until_killed(|| match condition() {
            Some(value) => Some(Some(value)),
            None => self.verdict().map(|_| None),
        });
        // Killed by the host: the carrier never gets back to ring 3.
        found.ok().flatten()
    }
}

impl<P: Cpu> Process<P> {
    /// # Errors
    /// `NOMEM`; `AGAIN`: the process ends.
    pub(super) fn add_task(&self, task: &Arc<TaskShared<P>>) -> Result<()> {
        let mut tasks = self.tasks.lock();
        if self.with_group(|group| group.verdict.is_some() || group.execing) {
            return Err(errno!(AGAIN, "the process ends"));
        }
        tasks.try_reserve(1).map_err(|_| errno!(NOMEM))?;
        tasks.push(Arc::clone(task));
        Ok(())
    }
}
