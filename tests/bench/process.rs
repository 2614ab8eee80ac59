//! Benchmark group `process`: processes, threads, and what they wait for each other with. One line for each: NAME VALUE UNIT, smaller is
//! better.
//!
//! Each figure is the least of several batches, in ticks of the time-stamp counter per operation.

use std::arch::x86_64::_rdtsc;
use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{ptr, thread};

/// Batches of which the fastest counts.
const BATCHES: usize = 3;
const PAGE: usize = 4096;
/// The program that is executed.
const TRUE: &str = "/mnt/litebox/nothing-static";

// From Linux's headers for x86-64.
const SYS_FUTEX: c_long = 202;
const SYS_SCHED_YIELD: c_long = 24;
const FUTEX_WAIT_PRIVATE: c_int = 128;
const FUTEX_WAKE_PRIVATE: c_int = 129;
const EPOLL_CTL_ADD: c_int = 1;
const EPOLLIN: u32 = 1;
const SIG_BLOCK: c_int = 0;
const SIGUSR1: c_int = 10;
const SIGUSR2: c_int = 12;

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct EpollEvent {
    events: u32,
    data: u64,
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn fork() -> c_int;
    fn vfork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    fn execv(path: *const c_char, argv: *const *const c_char) -> c_int;
    fn pipe(fds: *mut c_int) -> c_int;
    fn eventfd(value: c_uint, flags: c_int) -> c_int;
    fn epoll_create1(flags: c_int) -> c_int;
    fn epoll_ctl(set: c_int, operation: c_int, fd: c_int, event: *mut EpollEvent) -> c_int;
    fn epoll_wait(set: c_int, events: *mut EpollEvent, most: c_int, timeout: c_int) -> c_int;
    fn getpid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn sigemptyset(set: *mut c_void) -> c_int;
    fn sigaddset(set: *mut c_void, signal: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const c_void, old: *mut c_void) -> c_int;
    fn sigwait(set: *const c_void, signal: *mut c_int) -> c_int;
}

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux lets user space read it.
    unsafe { _rdtsc() }
}

/// Measures `times` of `operation` and prints the line.
fn measure(name: &str, times: u32, mut operation: impl FnMut()) {
    let mut batch = || {
        let begun = ticks();
        for _ in 0..times {
            operation();
        }
        ticks() - begun
    };
    let least = (0..BATCHES).map(|_| batch()).min().unwrap_or(0);
    println!("{name} {:.1} ticks", least as f64 / f64::from(times));
}

/// Waits for the child `pid`, which must end well.
fn wait(pid: c_int) {
    let mut status = -1;
    // SAFETY: the status is ours.
    assert_eq!(unsafe { waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "a child failed");
}

/// A child that does `act` and ends.
fn child(act: impl FnOnce()) -> c_int {
    // SAFETY: the group's main thread is alone whenever it forks.
    match unsafe { fork() } {
        0 => {
            act();
            // SAFETY: ends the child at once, as no destructor of the parent's may run in it.
            unsafe { _exit(0) }
        }
        pid if pid > 0 => pid,
        _ => panic!("fork failed"),
    }
}

fn fork_exit_wait() {
    wait(child(|| ()));
}

fn spawn_with_vfork(path: &CString) {
    let argv = [path.as_ptr(), ptr::null()];
    // SAFETY: the child does nothing but execute another program, or end.
    let pid = unsafe { vfork() };
    if pid == 0 {
        // SAFETY: both are alive, and the list ends with a null pointer.
        unsafe { execv(path.as_ptr(), argv.as_ptr()) };
        // SAFETY: as in `child`.
        unsafe { _exit(1) };
    }
    wait(pid);
}

/// The two ends of a pipe.
fn pipe_ends() -> (File, File) {
    let mut fds = [-1; 2];
    // SAFETY: two numbers are written.
    assert_eq!(unsafe { pipe(fds.as_mut_ptr()) }, 0);
    // SAFETY: new descriptors, owned by nobody else.
    unsafe { (File::from_raw_fd(fds[0]), File::from_raw_fd(fds[1])) }
}

/// A counter of events.
fn event_counter() -> File {
    // SAFETY: takes numbers only.
    let fd = unsafe { eventfd(0, 0) };
    assert!(fd >= 0, "eventfd failed");
    // SAFETY: a new descriptor, owned by nobody else.
    unsafe { File::from_raw_fd(fd) }
}

/// Measures a byte's, or a count's, way to another process and back.
fn ping_pong(name: &str, (mut there, mut back): ((File, File), (File, File)), message: &[u8]) {
    let mut received = vec![0; message.len()];
    let other = child(|| {
        let mut got = vec![0; message.len()];
        while there.0.read_exact(&mut got).is_ok() && got[0] < 2 {
            back.1.write_all(&got).expect("write");
        }
    });
    measure(name, 500, || {
        there.1.write_all(message).expect("write");
        back.0.read_exact(&mut received).expect("read");
    });
    let mut last = message.to_vec();
    last[0] = 2;
    there.1.write_all(&last).expect("write");
    wait(other);
}

fn duplicate(file: &File) -> File {
    file.try_clone().expect("dup")
}

/// Measures two threads that wake each other by a word.
fn futex_ping_pong() {
    const STOP: u32 = 2;
    let word = Arc::new(AtomicU32::new(0));
    let await_not = |word: &AtomicU32, value: u32| loop {
        let now = word.load(Ordering::Acquire);
        if now != value {
            return now;
        }
        // SAFETY: the word outlives the call.
        unsafe { syscall(SYS_FUTEX, word.as_ptr(), FUTEX_WAIT_PRIVATE, value, 0usize) };
    };
    let put = |word: &AtomicU32, value: u32| {
        word.store(value, Ordering::Release);
        // SAFETY: as above.
        unsafe { syscall(SYS_FUTEX, word.as_ptr(), FUTEX_WAKE_PRIVATE, 1) };
    };
    let shared = Arc::clone(&word);
    let other = thread::spawn(move || {
        while await_not(&shared, 0) != STOP {
            put(&shared, 0);
        }
    });
    measure("futex-ping-pong", 500, || {
        put(&word, 1);
        await_not(&word, 1);
    });
    put(&word, STOP);
    other.join().expect("join");
}

/// Measures two processes that wake each other by signals.
fn signal_ping_pong() {
    let mut set = [0u64; 16];
    let at: *mut c_void = set.as_mut_ptr().cast();
    // SAFETY: `set` has a signal set's 128 bytes.
    unsafe {
        sigemptyset(at);
        sigaddset(at, SIGUSR1);
        sigaddset(at, SIGUSR2);
        sigprocmask(SIG_BLOCK, at, ptr::null_mut());
    }
    let mut got = 0;
    // SAFETY: as above, and the number is ours.
    let mut take = || unsafe {
        sigwait(at, &raw mut got);
        got
    };
    // SAFETY: it has no argument.
    let parent = unsafe { getpid() };
    let other = child(|| {
        while take() == SIGUSR1 {
            // SAFETY: takes numbers only.
            unsafe { kill(parent, SIGUSR1) };
        }
    });
    measure("signal-ping-pong", 300, || {
        // SAFETY: takes numbers only.
        unsafe { kill(other, SIGUSR1) };
        take();
    });
    // SAFETY: takes numbers only.
    unsafe { kill(other, SIGUSR2) };
    wait(other);
}

/// Measures a token's way around eight processes.
fn switches_among_eight() {
    let ends: Vec<(File, File)> = (0..8).map(|_| pipe_ends()).collect();
    let pass = |from: usize, to: usize| -> u8 {
        let mut byte = [0];
        (&ends[from].0).read_exact(&mut byte).expect("read");
        (&ends[to].1).write_all(&byte).expect("write");
        byte[0]
    };
    let others: Vec<c_int> = (1..8).map(|at| child(|| while pass(at, (at + 1) % 8) == 1 {})).collect();
    let round = |byte: u8| {
        (&ends[1].1).write_all(&[byte]).expect("write");
        (&ends[0].0).read_exact(&mut [0]).expect("read");
    };
    measure("round-of-8-processes", 100, || round(1));
    round(2);
    others.into_iter().for_each(wait);
}

/// Measures a wait for one of a thousand descriptors.
fn epoll_of_1000() {
    // SAFETY: takes a number only.
    let set = unsafe { epoll_create1(0) };
    let counters: Vec<File> = (0..1000).map(|_| event_counter()).collect();
    for (data, counter) in (0..).zip(&counters) {
        let mut event = EpollEvent { events: EPOLLIN, data };
        // SAFETY: the event is read only.
        assert_eq!(unsafe { epoll_ctl(set, EPOLL_CTL_ADD, counter.as_raw_fd(), &raw mut event) }, 0);
    }
    let mut next = 0;
    measure("epoll-1-of-1000", 500, || {
        next = (next + 377) % counters.len();
        (&counters[next]).write_all(&1u64.to_ne_bytes()).expect("write");
        let mut event = EpollEvent { events: 0, data: 0 };
        // SAFETY: one event is written.
        assert_eq!(unsafe { epoll_wait(set, &raw mut event, 1, -1) }, 1);
        assert_eq!({ event.data }, next as u64);
        (&counters[next]).read_exact(&mut [0; 8]).expect("read");
    });
}

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word == "loop") {
        let error = Command::new("sh").args(["-c", &format!("i=0; while [ $i -lt 50 ]; do {TRUE}; i=$((i+1)); done")]).exec();
        panic!("{error}");
    }
    let path = CString::new(TRUE).expect("a path");
    measure("fork-exit-wait", 100, fork_exit_wait);
    {
        let mut memory = vec![0u8; 200 << 20];
        memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        measure("fork-exit-wait-200MiB", 10, fork_exit_wait);
        assert_eq!(std::hint::black_box(&memory)[PAGE], 1);
    }
    measure("vfork-exec-wait", 50, || spawn_with_vfork(&path));
    measure("posix-spawn-wait", 50, || assert!(Command::new(TRUE).status().expect("it starts").success()));
    measure("thread-create-join", 100, || thread::spawn(|| ()).join().expect("join"));
    measure("yield", 2_000, || {
        // SAFETY: it has no argument.
        unsafe { syscall(SYS_SCHED_YIELD) };
    });
    futex_ping_pong();
    ping_pong("pipe-ping-pong", (pipe_ends(), pipe_ends()), &[1]);
    let (there, back) = (event_counter(), event_counter());
    ping_pong("eventfd-ping-pong", ((duplicate(&there), there), (duplicate(&back), back)), &1u64.to_ne_bytes());
    signal_ping_pong();
    switches_among_eight();
    epoll_of_1000();
    let this = std::env::current_exe().unwrap_or_else(|_| exit(1));
    measure("shell-loop-of-50", 1, || assert!(Command::new(&this).arg("loop").status().expect("it starts").success()));
}
