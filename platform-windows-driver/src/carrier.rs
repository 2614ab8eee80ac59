//! Carriers: system threads that guests run on, one each.
//!
//! Owns: [`Guest`], what others reach of a carrier, and the run loop. Invariants: a carrier is in the table of carriers exactly while its
//! `Local` lives on its own stack, so what the table gives to the current thread is alive and its alone; a handle that the
//! library OS has is given up in `Task::exit`.
//! Locks: the table's spin locks are leaves. IRQL: `PASSIVE_LEVEL` but where it says otherwise.

use crate::host::WindowsKernel;
use crate::nt::event::Event;
use crate::nt::spin::SpinLock;
use crate::nt::{Status, thread};
use crate::sandbox::Sandbox;
use crate::trap::{Exit, Kicker, Seed, Vcpu};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::num::NonZeroU32;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use litebox_core::mm::{Access, AddressSpace, FaultOutcome, GuestAddr, SegvCode};
use litebox_ioctl_abi::Ended;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::signal::sequence::Sequences;
use litebox_shim_linux::signal::{Cpu, Fault, FaultKind};
use litebox_shim_linux::task::{Birth, End, Spawn, Task};
use litebox_shim_linux::{Resume, after_spawn, before_guest, dispatch, fault, quick};

/// SIGKILL, for an end that has no number of its own.
const KILLED: u32 = 9;

/// A guest thread, as other threads reach it.
#[derive(Debug)]
struct Guest {
    sandbox: Arc<Sandbox>,
    /// What it sleeps on.
    event: Arc<Event>,
    /// Whether it is to look after its task.
    kicked: AtomicBool,
    kicker: SpinLock<Option<Kicker>>,
}

/// A guest, as others have it.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<Guest>);

impl Handle {
    /// Makes the carrier look after its task. IRQL: `DISPATCH_LEVEL` or below.
    pub(crate) fn kick(&self) {
        self.0.kicked.store(true, Ordering::SeqCst);
        self.0.event.set();
        if let Some(kicker) = *self.0.kicker.lock() {
            kicker.kick();
        }
    }

    /// Whether both are the same carrier.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What a carrier alone has, on its own stack.
struct Local {
    guest: Arc<Guest>,
    mm: UnsafeCell<Option<Arc<AddressSpace<WindowsKernel>>>>,
    vcpu: UnsafeCell<Option<Vcpu>>,
}

/// A carrier's entry in the table.
struct Listed {
    thread: usize,
    local: NonNull<Local>,
}

// SAFETY: Only the thread itself follows its pointer; others compare numbers.
unsafe impl Send for Listed {}

/// Carriers by thread. (A kernel thread has no memory of its own that a driver may use.)
const SHARDS: usize = 16;
static TABLE: [SpinLock<Vec<Listed>>; SHARDS] = [const { SpinLock::new(Vec::new()) }; SHARDS];

#[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
fn shard(thread: usize) -> &'static SpinLock<Vec<Listed>> {
    // Numbers are multiples of 4.
    &TABLE[thread / 4 % SHARDS]
}

/// Runs `act` on the current carrier, if the thread is one. `act` must not ask for the same cell again.
fn with<R>(act: impl FnOnce(&Local) -> R) -> Option<R> {
    let thread = thread::current();
    let local = shard(thread).lock().iter().find(|listed| listed.thread == thread)?.local;
    // SAFETY: The thread's own entry: `Local` is on this stack, below this frame, until `carry` takes it out.
    Some(act(unsafe { local.as_ref() }))
}

/// Whether the current carrier is to end. IRQL: `DISPATCH_LEVEL` or below; so for the next two.
pub(crate) fn killed() -> bool {
    with(|local| local.guest.sandbox.is_ended()) == Some(true)
}

/// Whether the current carrier is to look after its task.
pub(crate) fn kicked() -> bool {
    with(|local| local.guest.kicked.load(Ordering::SeqCst)) == Some(true)
}

/// What the current carrier sleeps on.
pub(crate) fn event() -> Option<Arc<Event>> {
    with(|local| Arc::clone(&local.guest.event))
}

/// The memory of the current guest.
pub(crate) fn mm() -> Option<Arc<AddressSpace<WindowsKernel>>> {
    // SAFETY: The carrier's own; it is written in `carry` and `exec` only, neither of which runs inside this.
    with(|local| unsafe { &*local.mm.get() }.clone()).flatten()
}

/// Runs `act` on the current guest's registers.
pub(crate) fn with_vcpu<R>(act: impl FnOnce(&mut Vcpu) -> R) -> Option<R> {
    // SAFETY: The carrier's own; `act` is a few steps of the engine's, which ask for nothing here, and `run` is called outside of the
    // library OS, which is who asks.
    with(|local| unsafe { &mut *local.vcpu.get() }.as_mut().map(act)).flatten()
}

/// Puts the number of a processor into a new area: the first's, whatever the guest runs on.
pub(crate) fn keep_sequences(area: Sequences) {
    /// `cpu_id_start`, `cpu_id`; the node and the concurrency id behind `rseq_cs` and `flags`.
    const NUMBERS: [(u64, [u8; 8]); 2] = [(0, [0; 8]), (20, [0; 8])];
    if let Some(mm) = mm() {
        for (at, bytes) in NUMBERS {
            // An area that cannot be written is the guest's own trouble: it reads what it left there.
            let _ = area.area.plus(at).and_then(|at| mm.poke(at, &bytes));
        }
    }
}

/// What a new carrier begins with.
pub(crate) struct Start {
    task: Task<WindowsKernel>,
    regs: Regs,
    seed: Seed,
    /// Bases and image that it has from its maker.
    state: Option<([u64; 2], Vec<u8>)>,
}

impl Start {
    /// For a program's first thread; `None` without memory.
    pub(crate) fn first(task: Task<WindowsKernel>, regs: Regs) -> Option<Self> {
        let seed = task.mm().host().seed()?;
        Some(Self { task, regs, seed, state: None })
    }

    /// For a task that the current guest makes.
    fn born(spawn: Spawn<WindowsKernel>) -> Option<Self> {
        let Spawn { task, regs, fs_base, .. } = spawn;
        let seed = task.mm().host().seed()?;
        let (mut bases, image) = with_vcpu(|vcpu| (*vcpu.bases(), vcpu.fpu()))?;
        if let Some(base) = fs_base {
            bases[0] = base;
        }
        Some(Self { task, regs, seed, state: Some((bases, image)) })
    }

    /// Runs it on a new thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn spawn(self, sandbox: Arc<Sandbox>) -> Result<(), Status> {
        thread::spawn(move || carry(self, sandbox))
    }

    /// Runs it on this thread, until it ends.
    pub(crate) fn run(self, sandbox: Arc<Sandbox>) {
        carry(self, sandbox);
    }
}

/// Makes `vcpu` the one of this carrier, and what ends its stay in ring 3.
fn install(local: &Local, vcpu: Option<Vcpu>) {
    let kicker = vcpu.as_ref().map(Vcpu::kicker);
    *local.guest.kicker.lock() = kicker;
    // SAFETY: The carrier's own, and nobody borrows it now: this is called between the library OS and the engine.
    let slot = unsafe { &mut *local.vcpu.get() };
    *slot = vcpu;
}

fn carry(start: Start, sandbox: Arc<Sandbox>) {
    let Start { mut task, mut regs, seed, state } = start;
    let guest = Arc::new(Guest { sandbox, event: Event::new(), kicked: AtomicBool::new(true), kicker: SpinLock::new(None) });
    let (mm, vcpu) = (UnsafeCell::new(Some(Arc::clone(task.mm()))), UnsafeCell::new(None));
    let local = Local { guest: Arc::clone(&guest), mm, vcpu };
    let me = thread::current();
    shard(me).lock().push(Listed { thread: me, local: NonNull::from(&local) });
    let handle = Handle(Arc::clone(&guest));

    let mut end = None;
    install(&local, Vcpu::new(seed));
    if with_vcpu(|_| ()).is_some() && guest.sandbox.remember(handle.clone()) {
        match state {
            None => WindowsKernel::reset_fpu(),
            Some((bases, image)) => {
                with_vcpu(|vcpu| {
                    *vcpu.bases() = bases;
                    vcpu.set_fpu(&image)
                });
            }
        }
        task.begin(handle.clone());
        end = run(&local, &mut task, &mut regs);
    }
    guest.sandbox.forget(&handle);
    install(&local, None);
    // SAFETY: The carrier's own; nobody borrows it now.
    drop(unsafe { &mut *local.mm.get() }.take());
    // Locks of the library OS may be waited for to the last: the thread leaves the table behind it.
    let over = task.exit(end);
    drop(task);
    shard(me).lock().retain(|listed| listed.thread != me);
    if let Some(over) = over {
        guest.sandbox.set_ended(ended(over));
    }
}

/// How the library OS says that a sandbox has ended, for its launcher.
fn ended(end: End) -> Ended {
    match end {
        End::Task(status) | End::Process(status) => Ended::Exited(status),
        End::Signal(signal) => Ended::Signalled(NonZeroU32::new(signal).or(NonZeroU32::new(KILLED)).unwrap_or(NonZeroU32::MIN)),
    }
}

/// Goes between the guest and the library OS until the task has ended; `None` if it was killed.
fn run(local: &Local, task: &mut Task<WindowsKernel>, regs: &mut Regs) -> Option<End> {
    let mut resume = Resume::Guest;
    loop {
        resume = match resume {
            Resume::End(end) => return Some(end),
            Resume::Spawn(spawn) => {
                let birth = match Start::born(*spawn).map(|start| start.spawn(Arc::clone(&local.guest.sandbox))) {
                    Some(Ok(())) => Birth::Born,
                    Some(Err(_)) | None => Birth::Failed,
                };
                after_spawn(task, regs, birth)
            }
            Resume::Exec => {
                if !exec(local, task) {
                    return None;
                }
                before_guest(task, regs)
            }
            Resume::Guest if local.guest.sandbox.is_ended() => return None,
            Resume::Guest if local.guest.kicked.swap(false, Ordering::SeqCst) => before_guest(task, regs),
            Resume::Guest => {
                // SAFETY: The carrier's own; the engine asks for nothing of the library OS.
                let vcpu = unsafe { &mut *local.vcpu.get() };
                let exit = vcpu.as_mut()?.run(regs);
                answer(task, regs, exit)?
            }
        };
    }
}

/// Shows the memory of the program that the task runs now.
fn exec(local: &Local, task: &Task<WindowsKernel>) -> bool {
    let vcpu = task.mm().host().seed().and_then(Vcpu::new);
    let ready = vcpu.is_some();
    install(local, vcpu);
    // SAFETY: The carrier's own; nobody borrows it now.
    let old = unsafe { &mut *local.mm.get() }.replace(Arc::clone(task.mm()));
    drop(old);
    WindowsKernel::reset_fpu();
    ready
}

/// What the library OS says to an exit; `None` if the carrier is to end.
fn answer(task: &mut Task<WindowsKernel>, regs: &mut Regs, exit: Exit) -> Option<Resume<WindowsKernel>> {
    Some(match exit {
        Exit::Call => {
            let resume = match quick(task, regs.orig_ax) {
                Some(value) => {
                    regs.ax = value;
                    Resume::Guest
                }
                None => dispatch(task, regs),
            };
            // What comes next is no call; a signal frame that is restored brings its own.
            regs.orig_ax = u64::MAX;
            resume
        }
        Exit::Page(addr, access) => {
            /// The vector of a page fault, and its error code: user, write, fetch.
            const PAGE_FAULT: u64 = 14;
            let kind = match task.mm().fault(GuestAddr::new(addr), access) {
                FaultOutcome::Resolved => return Some(Resume::Guest),
                FaultOutcome::Segv(SegvCode::MapErr) => FaultKind::Unmapped,
                FaultOutcome::Segv(SegvCode::AccErr) => FaultKind::Access,
                FaultOutcome::Bus | FaultOutcome::OutOfMemory => FaultKind::PastEnd,
            };
            let how = match access {
                Access::Read => 0,
                Access::Write => 2,
                Access::Exec => 0x10,
            };
            let present = u64::from(matches!(kind, FaultKind::Access));
            fault(task, regs, &Fault { kind, addr, vector: PAGE_FAULT, code: 4 | how | present })
        }
        Exit::Exception(kind, addr, vector) => fault(task, regs, &Fault { kind, addr, vector, code: 0 }),
        Exit::Kick => Resume::Guest,
        Exit::Dead => return None,
    })
}
