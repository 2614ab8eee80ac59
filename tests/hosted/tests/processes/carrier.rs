//! Carriers: threads that make a task's calls through the shim's doors, as a platform's do.
//!
//! A task's program is a closure. It is left by unwinding when the task ends, wherever it is.

use linux_raw_sys::general as nr;
use litebox_core::fs::memory::MemoryFs;
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::FsContext;
use litebox_core::fs::types::{DeviceId, Gid, Mode, NewNode, Uid};
use litebox_core::mm::{AddressSpace, GuestAddr, MapRequest, Place, Prot};
use litebox_core::platform::{Wait, WaitMode};
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, Interrupter, enter};
use litebox_shim_linux::machine::Machine;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::signal::Cpu;
use litebox_shim_linux::task::{Birth, End, Ids, Process, Sandbox, Spawn, Task};
use litebox_shim_linux::{Resume, after_spawn, before_guest, dispatch};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use linux_raw_sys::errno;

/// Where every program's memory begins.
const MEMORY: u64 = 0x1000_0000;
/// Where handlers are.
pub(crate) const HANDLER: u64 = 0x3000;
/// How much there is.
const BYTES: u64 = 0x40_0000;
/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

type Program = Box<dyn FnOnce(&mut Thread) + Send>;

/// What the carriers of one test have in common.
struct World {
    carriers: Mutex<Vec<JoinHandle<()>>>,
    /// How the sandbox ended, once it has.
    ended: Mutex<Option<End>>,
    /// Whether the host makes carriers.
    fertile: AtomicBool,
    top: AtomicU64,
}

/// A task on its carrier.
pub(crate) struct Thread {
    pub(crate) task: Task<Hosted>,
    pub(crate) regs: Regs,
    world: Arc<World>,
    /// What the next child runs.
    child: Option<Program>,
    /// Whether the last call began another program.
    pub(crate) execed: bool,
    /// The signals that handlers ran for.
    pub(crate) handled: Vec<u32>,
}

/// Thrown when the task has ended.
struct Gone(End);

/// Runs `program` as the first process of a sandbox, as root, until every task of it has ended; says how it ended.
pub(crate) fn run(program: impl FnOnce(&mut Thread) + Send + 'static) -> End {
    run_as(Ids::default(), program)
}

pub(crate) fn run_as(ids: Ids, program: impl FnOnce(&mut Thread) + Send + 'static) -> End {
    run_with(ids, None, program)
}

/// The same in a sandbox with room for `tasks`.
pub(crate) fn run_with(ids: Ids, tasks: Option<u32>, program: impl FnOnce(&mut Thread) + Send + 'static) -> End {
    let quota = Quota::new(256 << 20);
    let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
    let node = NewNode { mode: all, uid: Uid(0), gid: Gid(0) };
    let root = MemoryFs::new(DeviceId { major: 0, minor: 1 }, &quota, node).unwrap();
    let mount = NewMount { root, flags: MountFlags::empty(), kind: "tmpfs", source: "none".into() };
    let fs = FsContext::new(MountNamespace::new(mount, &quota).unwrap());
    let sandbox = Sandbox::on(Machine::new(256 << 20, tasks, None), Arc::clone(&quota));
    let process = Process::new(&sandbox, ids, fs).unwrap();
    let mm = Arc::new(AddressSpace::new(&quota).unwrap());
    let place = Place::Fixed(GuestAddr::new(MEMORY));
    mm.map(MapRequest::anonymous(BYTES, Prot::READ | Prot::WRITE).at(place)).unwrap();
    let task = Task::first(process, mm).unwrap();
    let world = Arc::new(World {
        carriers: Mutex::default(),
        ended: Mutex::default(),
        fertile: AtomicBool::new(true),
        top: AtomicU64::new(MEMORY),
    });
    carry(&world, task, Regs::start(0x1000, MEMORY + BYTES), None, Box::new(program));
    let begun = Instant::now();
    loop {
        let carrier = world.carriers.lock().unwrap().pop();
        let Some(carrier) = carrier else { break };
        while !carrier.is_finished() {
            assert!(begun.elapsed() < PATIENCE, "a carrier never ends");
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Err(panic) = carrier.join() {
            resume_unwind(panic);
        }
    }
    assert_eq!((sandbox.process_count(), sandbox.task_count()), (0, 0), "what is left of a sandbox that has ended");
    let end = world.ended.lock().unwrap().take();
    let books = (Arc::downgrade(&sandbox), quota);
    drop(sandbox);
    assert_eq!(books.0.strong_count(), 0, "somebody holds the sandbox");
    end.expect("nobody said how the sandbox ended")
}

fn carry(world: &Arc<World>, task: Task<Hosted>, regs: Regs, fs_base: Option<u64>, program: Program) {
    let theirs = Arc::clone(world);
    let carrier = std::thread::spawn(move || {
        let mut thread = Thread { task, regs, world: theirs, child: None, execed: false, handled: Vec::new() };
        if let Some(base) = fs_base {
            Hosted::set_fs_base(base);
        }
        thread.task.begin(Interrupter::current());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            thread.look();
            program(&mut thread);
            thread.call(nr::__NR_exit_group, &[0])
        }));
        let end = match outcome {
            Ok(_) => panic!("exit_group(2) returned"),
            Err(payload) => match payload.downcast::<Gone>() {
                Ok(gone) => gone.0,
                Err(panic) => {
                    // A failed test: let everybody end.
                    thread.task.process().kill();
                    let first = thread.task.sandbox().process(1);
                    first.into_iter().for_each(|process| process.kill());
                    thread.task.exit(None);
                    resume_unwind(panic)
                }
            },
        };
        if let Some(end) = thread.task.exit(Some(end)) {
            *thread.world.ended.lock().unwrap() = Some(end);
        }
    });
    world.carriers.lock().unwrap().push(carrier);
}

impl Thread {
    /// Follows what a door of the shim asks for.
    fn follow(&mut self, mut resume: Resume<Hosted>) {
        loop {
            resume = match resume {
                Resume::Guest => {
                    // On its way to ring 3 it looks once more after each kick.
                    if Interrupter::take() {
                        self.enter(before_guest)
                    } else if self.regs.ip == HANDLER {
                        self.leave_handler()
                    } else {
                        return;
                    }
                }
                Resume::End(end) => resume_unwind(Box::new(Gone(end))),
                Resume::Spawn(spawn) => {
                    let birth = self.bear(*spawn);
                    self.enter(|task, regs| after_spawn(task, regs, birth))
                }
                Resume::Exec => {
                    self.execed = true;
                    Hosted::reset_fpu();
                    Hosted::set_fs_base(0);
                    self.enter(before_guest)
                }
            };
        }
    }

    /// A handler does nothing but go back by `rt_sigreturn(2)`.
    fn leave_handler(&mut self) -> Resume<Hosted> {
        self.handled.push(u32::try_from(self.regs.di).unwrap());
        self.regs.sp += 8;
        self.regs.orig_ax = nr::__NR_rt_sigreturn.into();
        self.enter(dispatch)
    }

    fn enter<T>(&mut self, door: impl FnOnce(&mut Task<Hosted>, &mut Regs) -> T) -> T {
        let mm = Arc::clone(self.task.mm());
        enter(&mm, || door(&mut self.task, &mut self.regs))
    }

    fn bear(&mut self, spawn: Spawn<Hosted>) -> Birth {
        let program = self.child.take().expect("a child without a program");
        if !self.world.fertile.load(Ordering::SeqCst) {
            return Birth::Failed;
        }
        assert_eq!((spawn.regs.ax, spawn.id), (0, u64::from(spawn.task.tid())));
        assert_eq!(spawn.thread, Arc::ptr_eq(spawn.task.process(), self.task.process()));
        carry(&self.world, spawn.task, spawn.regs, spawn.fs_base, program);
        Birth::Born
    }

    /// From now on the host has no carriers.
    pub(crate) fn sterilise(&self) {
        self.world.fertile.store(false, Ordering::SeqCst);
    }

    /// Makes a call; a negated errno is an error.
    pub(crate) fn call(&mut self, number: u32, args: &[u64]) -> Result<u64, u32> {
        let before = self.regs;
        loop {
            self.regs.orig_ax = number.into();
            let r = &mut self.regs;
            for (slot, arg) in [&mut r.di, &mut r.si, &mut r.dx, &mut r.r10, &mut r.r8, &mut r.r9].into_iter().zip(args) {
                *slot = *arg;
            }
            let resume = self.enter(dispatch);
            self.follow(resume);
            if self.regs.ip != before.ip.wrapping_sub(2) {
                break;
            }
            // The call is to be made again.
            assert_eq!(self.regs.ax, u64::from(number));
            self.regs.ip = before.ip;
        }
        match i64::from_le_bytes(self.regs.ax.to_le_bytes()) {
            error @ -4095..0 => Err(u32::try_from(-error).unwrap()),
            _ => Ok(self.regs.ax),
        }
    }

    /// Makes a call that must succeed.
    #[track_caller]
    pub(crate) fn ok(&mut self, number: u32, args: &[u64]) -> u64 {
        match self.call(number, args) {
            Ok(value) => value,
            Err(errno) => panic!("call {number} gave errno {errno}"),
        }
    }

    /// Makes a call that must give `errno`.
    #[track_caller]
    pub(crate) fn fails(&mut self, errno: u32, number: u32, args: &[u64]) {
        assert_eq!(self.call(number, args), Err(errno), "call {number}");
    }

    /// Makes a child by clone(2), which runs `program`; gives its id.
    pub(crate) fn clone(&mut self, flags: u32, args: [u64; 4], program: impl FnOnce(&mut Self) + Send + 'static) -> u64 {
        self.child = Some(Box::new(program));
        let [stack, parent_tid, child_tid, tls] = args;
        self.ok(nr::__NR_clone, &[flags.into(), stack, parent_tid, child_tid, tls])
    }

    /// Makes a child by fork(2).
    pub(crate) fn fork(&mut self, program: impl FnOnce(&mut Self) + Send + 'static) -> u64 {
        self.child = Some(Box::new(program));
        self.ok(nr::__NR_fork, &[])
    }

    /// Says what the child of the next call is to run.
    pub(crate) fn next_child(&mut self, program: impl FnOnce(&mut Self) + Send + 'static) {
        self.child = Some(Box::new(program));
    }

    /// Makes a thread, as `pthread_create(3)` does; `word` is cleared at its end.
    pub(crate) fn thread(&mut self, word: u64, program: impl FnOnce(&mut Self) + Send + 'static) -> u64 {
        self.poke(word, &[1, 0, 0, 0]);
        let flags = nr::CLONE_VM
            | nr::CLONE_FS
            | nr::CLONE_FILES
            | nr::CLONE_SIGHAND
            | nr::CLONE_THREAD
            | nr::CLONE_SYSVSEM
            | nr::CLONE_SETTLS
            | nr::CLONE_CHILD_CLEARTID;
        self.clone(flags, [MEMORY + BYTES, 0, word, 0x5000], |thread| {
            program(thread);
            let _ = thread.call(nr::__NR_exit, &[0]);
        })
    }

    /// Waits until the thread that clears `word` has ended, as `pthread_join(3)` does.
    pub(crate) fn join(&mut self, word: u64) {
        loop {
            let value = self.half(word);
            if value == 0 {
                return;
            }
            let _ = self.call(nr::__NR_futex, &[word, nr::FUTEX_WAIT.into(), value.into(), 0]);
        }
    }

    pub(crate) fn exit(&mut self, status: u64) {
        let _ = self.call(nr::__NR_exit_group, &[status]);
    }

    /// Waits for a child; gives its id and the status word.
    pub(crate) fn wait4(&mut self, pid: i64, options: u32) -> Result<(u64, u32), u32> {
        let status = self.room(4);
        let pid = u64::from_le_bytes(pid.to_le_bytes());
        let found = self.call(nr::__NR_wait4, &[pid, status, options.into(), 0])?;
        Ok((found, self.half(status)))
    }

    /// Runs in ring 3 without end.
    pub(crate) fn spin(&mut self) -> ! {
        loop {
            self.look();
            std::thread::yield_now();
        }
    }

    /// Looks after itself if it was kicked, as ring 3 is left for.
    pub(crate) fn look(&mut self) {
        let resume = if Interrupter::take() || self.task.may_have_signals() { self.enter(before_guest) } else { Resume::Guest };
        self.follow(resume);
    }

    /// Runs in ring 3 until `done` says so.
    #[track_caller]
    pub(crate) fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "it never comes");
            self.look();
            std::thread::yield_now();
        }
    }

    /// Memory for `len` bytes that no other task of the test gets.
    pub(crate) fn room(&mut self, len: u64) -> u64 {
        let at = self.world.top.fetch_add(len.next_multiple_of(64), Ordering::SeqCst);
        assert!(at + len < MEMORY + BYTES, "a test uses up its memory");
        at
    }

    /// Puts 64-bit words into memory.
    pub(crate) fn words(&mut self, words: &[u64]) -> u64 {
        self.bytes(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Puts bytes into memory.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.room(bytes.len() as u64);
        self.poke(at, bytes);
        at
    }

    pub(crate) fn poke(&self, at: u64, bytes: &[u8]) {
        assert_eq!(self.task.mm().poke(GuestAddr::new(at), bytes).unwrap(), bytes.len());
    }

    pub(crate) fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        assert_eq!(self.task.mm().peek(GuestAddr::new(at), &mut bytes).unwrap(), len);
        bytes
    }

    pub(crate) fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.peek(at, 8).try_into().unwrap())
    }

    pub(crate) fn half(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.peek(at, 4).try_into().unwrap())
    }

    /// Sets what is done about a signal: 0 default, 1 ignore, else a handler.
    pub(crate) fn action(&mut self, signal: u32, handler: u64, flags: u64) {
        let restorer = 0x0400_0000;
        let action = self.words(&[handler, flags | restorer, 0x2000, 0]);
        self.ok(nr::__NR_rt_sigaction, &[signal.into(), action, 0, 8]);
    }

    /// Blocks these signals and no others.
    pub(crate) fn mask(&mut self, signals: &[u32]) {
        let bits = signals.iter().fold(0u64, |bits, signal| bits | 1 << (signal - 1));
        let set = self.words(&[bits]);
        self.ok(nr::__NR_rt_sigprocmask, &[nr::SIG_SETMASK.into(), set, 0, 8]);
    }

    pub(crate) fn kill(&mut self, pid: u64, signal: u32) -> Result<u64, u32> {
        self.call(nr::__NR_kill, &[pid, signal.into()])
    }

    pub(crate) fn getpid(&mut self) -> u64 {
        self.ok(nr::__NR_getpid, &[])
    }
}

/// A point that tasks of a test reach, outside of what they do as guests.
#[derive(Clone, Default)]
pub(crate) struct Flag(Arc<AtomicU32>);

impl Flag {
    pub(crate) fn raise(&self) {
        self.0.store(1, Ordering::SeqCst);
        Hosted::wake(&self.0);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// Waits for it, deaf to signals.
    pub(crate) fn wait(&self) {
        let deadline = Some(<Hosted as litebox_core::platform::Clock>::monotonic() + PATIENCE);
        while !self.is_raised() {
            let _ = Hosted::wait(&self.0, 0, WaitMode::Uninterruptible, deadline);
        }
    }
}
