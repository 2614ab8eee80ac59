//! Every call with arguments that no program gives: none may panic, none may leave the task without an answer.

use crate::guest::{CWD, Guest};
use linux_raw_sys::general as nr;
use litebox_platform_hosted::{Interrupter, enter};
use litebox_shim_linux::args::ArgKind;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::table::{ArgRow, ROWS, Row, Support};
use litebox_shim_linux::task::{Birth, Process};
use litebox_shim_linux::{Resume, after_spawn, dispatch};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Calls of one run; all of the table come some fifty times.
const CALLS: u64 = 20_000;

/// Numbers that look random and are the same in each run. Source: xorshift64*, G. Marsaglia.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.next() % list.len() as u64).unwrap()]
    }
}

/// A guest with a few files open, and memory with paths and words in it.
struct Prey {
    guest: Guest,
    memory: u64,
    paths: Vec<u64>,
}

const ROOM: usize = 1 << 16;

impl Prey {
    fn new(random: &mut Random) -> Self {
        let mut guest = Guest::new();
        guest.begin();
        let paths = ["/", ".", "..", "/file", "/dir", "/dir/new", "/link", "", "dir/../file", "/none/x", "\0"];
        let paths: Vec<_> = paths.iter().map(|path| guest.path(path)).collect();
        guest.file("/file", &[1; 9000]);
        guest.ok(nr::__NR_mkdir, &[paths[4], 0o755]);
        guest.ok(nr::__NR_symlink, &[paths[3], paths[6]]);
        guest.open("/file", nr::O_RDWR);
        guest.open("/", nr::O_RDONLY);
        guest.open("/dir", nr::O_PATH);
        let memory = guest.room(ROOM);
        for at in (0..ROOM as u64).step_by(8) {
            let small = random.next() % 24;
            let word = random.pick(&[0, small, small, memory + random.0 % 4096, random.0, u64::MAX, 1 << 32, small << 32]);
            guest.poke(memory + at, &word.to_le_bytes());
        }
        // A pipe, two sockets, an event counter, an epoll set, a timer, signals.
        guest.ok(nr::__NR_pipe2, &[memory, nr::O_NONBLOCK.into()]);
        guest.ok(nr::__NR_socketpair, &[1, u64::from(2 | nr::O_NONBLOCK), 0, memory]);
        guest.ok(nr::__NR_eventfd2, &[1, nr::EFD_NONBLOCK.into()]);
        guest.ok(nr::__NR_epoll_create1, &[0]);
        guest.ok(nr::__NR_timerfd_create, &[1, 0]);
        guest.ok(nr::__NR_signalfd4, &[u64::MAX, memory, 8, nr::O_NONBLOCK.into()]);
        Self { guest, memory, paths }
    }

    /// What a program could give, more often than not.
    fn argument(&self, arg: Option<&ArgRow>, random: &mut Random) -> u64 {
        let anything = random.next() % 6 == 0;
        let Some(arg) = arg.filter(|_| !anything) else { return self.anything(random) };
        let pointer = self.memory + (random.next() % (ROOM as u64 - 64)) / 8 * 8;
        match arg.kind {
            ArgKind::Address if matches!(arg.name, "path" | "old" | "new" | "target") => random.pick(&self.paths),
            ArgKind::Address => random.pick(&[pointer, pointer, pointer, 0]),
            ArgKind::Dir => random.pick(&[CWD, CWD, 3, 4, 5]),
            ArgKind::Hex => random.pick(&[0, 0, 0, 1, 2, 3, 1 << (random.0 % 20)]),
            ArgKind::Octal => random.next() % 0o10000,
            ArgKind::Signal => random.next() % 66,
            ArgKind::Int | ArgKind::Unsigned | ArgKind::Signed => match arg.name {
                "size" => random.pick(&[8, 24, 128, 4096]),
                _ => random.pick(&[0, 1, 2, 8, random.0 % 16, random.0 % 5000, random.0 % 16]),
            },
        }
    }

    /// What hardly a program gives.
    fn anything(&self, random: &mut Random) -> u64 {
        let bits = 1 << (random.next() % 64) | 1 << (random.next() % 20);
        match random.next() % 8 {
            0 => random.next() % 14,
            1 => self.memory + (random.next() % (ROOM as u64 - 64)),
            2 => random.pick(&[u64::MAX, u64::MAX - 99, 1 << 31, u64::MAX << 31, u64::MAX >> 1, 1 << 63]),
            3 => random.pick(&[0x4000, (1 << 47) - 4096, (1 << 47) - 8, 1 << 47, 0xffff_8000_0000_0000]),
            4 => bits,
            5 => random.next() % 4096,
            6 => 0,
            _ => random.next(),
        }
    }

    /// Makes one call; whether the task goes on.
    fn call(&mut self, row: &Row, random: &mut Random) -> bool {
        let args: [u64; 6] = std::array::from_fn(|at| self.argument(row.args.get(at), random));
        let [di, si, dx, r10, r8, r9] = args;
        let start = Regs::start(0x1000, self.memory + ROOM as u64);
        let mut regs = Regs { orig_ax: row.number.into(), di, si, dx, r10, r8, r9, ..start };
        let (mm, task) = (Arc::clone(&self.guest.mm), &mut self.guest.task);
        enter(&mm, || {
            let mut resume = dispatch(task, &mut regs);
            while let Resume::Spawn(child) = resume {
                drop(child);
                resume = after_spawn(task, &mut regs, Birth::Failed);
            }
            matches!(resume, Resume::Guest)
        })
    }
}

/// Ends waits that nothing else would end: a kick now and then, and a kill where that does not help.
fn hunt(
    done: &AtomicBool,
    calls: &AtomicU64,
    kicks: &Interrupter,
    process: &Mutex<Option<Arc<Process<litebox_platform_hosted::Hosted>>>>,
) {
    let (mut seen, mut idle) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_micros(200));
        kicks.interrupt();
        let now = calls.load(Ordering::SeqCst);
        idle = if now == seen { idle + 1 } else { 0 };
        seen = now;
        if idle > 500 {
            idle = 0;
            if let Some(process) = process.lock().unwrap().as_ref() {
                process.kill();
            }
        }
    }
}

#[test]
fn no_arguments_are_too_bad_for_a_call() {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| !matches!(row.support, Support::None(..))).collect();
    let (done, calls, process) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(None));
    let kicks = Interrupter::current();
    std::thread::scope(|scope| {
        scope.spawn(|| hunt(&done, &calls, &kicks, &process));
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut prey = None;
        for _ in 0..CALLS {
            let current = prey.get_or_insert_with(|| Prey::new(&mut random));
            *process.lock().unwrap() = Some(Arc::clone(current.guest.task.process()));
            let row = random.pick(&rows);
            calls.fetch_add(1, Ordering::SeqCst);
            if !current.call(row, &mut random) {
                prey = None;
            }
        }
        done.store(true, Ordering::SeqCst);
    });
}
