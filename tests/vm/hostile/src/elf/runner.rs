//! Runs command lines by the thousand: a child tries one after the other until one does not come back.

use std::ffi::c_char;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use litebox_ioctl_abi::{Ended, Request, Run, Target};
use zerocopy::IntoBytes;

use super::{Came, Case, ROOT};
use crate::check::{Outcome, ensure};
use crate::sandbox::{Sandbox, clean, name, object};
use crate::sys::{self, Errno, PAGE, Pages};

/// A program that runs so long does not end.
const LIMIT: Duration = Duration::from_secs(3);
/// Who the programs are on Linux's side: nobody who could do harm.
const USER: u32 = 4242;

/// What a child is at, and what came back; shared with it.
struct Board(Pages);

impl Board {
    fn new(cases: usize) -> Self {
        Self(Pages::new((cases + 1) * 4 / PAGE + 1))
    }

    /// The case that the child tries.
    fn current(&self) -> usize {
        self.0.number(0).unsigned_abs() as usize
    }

    /// In the child: goes on to a case.
    fn begin(&self, index: usize) {
        self.0.set_number(0, i32::try_from(index).unwrap_or(i32::MAX));
    }

    /// In the child: a case came back.
    fn came_back(&self, index: usize, errno: Errno) {
        self.0.set_number(index + 1, errno);
    }
}

/// Tries all cases in children made by `begin`, which give what ended them.
fn all(cases: &[Case], board: &Board, mut child: impl FnMut(usize) -> Outcome<Came>) -> Outcome<Vec<Came>> {
    let mut came = Vec::with_capacity(cases.len());
    while came.len() < cases.len() {
        let from = came.len();
        board.begin(from);
        let last = child(from)?;
        let reached = board.current();
        ensure(reached >= from && reached <= cases.len(), || format!("the child of case {from} is at {reached}"))?;
        came.extend((from..reached).map(|index| Came::Errno(board.0.number(index + 1))));
        if reached < cases.len() {
            came.push(last);
        }
    }
    Ok(came)
}

/// By Linux.
pub(super) fn natively(cases: &[Case]) -> Outcome<Vec<Came>> {
    let board = Board::new(cases.len());
    let lists: Vec<Vec<*const c_char>> = cases.iter().map(|case| pointers(&case.argv)).collect();
    let environment = [ptr::null()];
    all(cases, &board, |from| {
        let Some(pid) = sys::fork().map_err(name)? else {
            if sys::enter(ROOT).and_then(|()| sys::become_user(USER, USER)).is_err() {
                sys::exit(255);
            }
            for (index, (case, list)) in cases.iter().zip(&lists).enumerate().skip(from) {
                board.begin(index);
                board.came_back(index, sys::execve(&case.path, list, &environment));
            }
            board.begin(cases.len());
            sys::exit(0)
        };
        match limited(pid, &board)? {
            None => {
                sys::kill(pid, libc::SIGKILL).map_err(name)?;
                sys::wait_child(pid).map_err(name)?;
                Ok(Came::Hung)
            }
            Some(signal) if signal < 0 => Ok(Came::Signalled(-signal)),
            Some(status) => Ok(Came::Exited(status)),
        }
    })
}

fn pointers(argv: &[u8]) -> Vec<*const c_char> {
    argv.split_inclusive(|byte| *byte == 0).map(|argument| argument.as_ptr().cast()).chain([ptr::null()]).collect()
}

/// A case as RUN wants it.
struct Strings {
    text: Vec<u8>,
    lens: [u32; 4],
    argc: u32,
}

impl Strings {
    fn of(case: &Case) -> Self {
        let program = case.path.as_bytes_with_nul();
        let lens = [program.len(), 2, case.argv.len(), 0].map(|length| u32::try_from(length).expect("a few megabytes"));
        let argc = u32::try_from(case.argv.iter().filter(|byte| **byte == 0).count()).expect("not so many");
        Self { text: [program, b"/\0", &case.argv].concat(), lens, argc }
    }
}

/// By the module.
pub(super) fn sandboxed(cases: &[Case]) -> Outcome<Vec<Came>> {
    let board = Board::new(cases.len());
    let strings: Vec<Strings> = cases.iter().map(Strings::of).collect();
    all(cases, &board, |from| {
        let sandbox = Sandbox::open().map_err(name)?;
        sandbox.mount_host(ROOT, "/")?;
        let Some(pid) = sys::fork().map_err(name)? else {
            if clean(sandbox.fd()).is_err() {
                sys::exit(255);
            }
            for (index, strings) in strings.iter().enumerate().skip(from) {
                board.begin(index);
                let text = strings.text.as_ptr().addr() as u64;
                let run = Run::encode(object(sandbox.fd()), text, strings.lens, [strings.argc, 0]);
                board.came_back(index, sandbox.ask(Request::Run, run.as_bytes()).err().unwrap_or(-1));
            }
            board.begin(cases.len());
            sys::exit(0)
        };
        if limited(pid, &board)?.is_none() {
            // Gone meanwhile is as good.
            let _ = sandbox.kill(libc::SIGKILL.unsigned_abs(), Target::All);
            sys::wait_child(pid).map_err(name)?;
            return Ok(Came::Hung);
        }
        if board.current() == cases.len() {
            return Ok(Came::Exited(0));
        }
        match sandbox.wait().map_err(|why| format!("{}: {why}", cases[board.current()].what))? {
            Ended::Exited(status) => Ok(Came::Exited(status.into())),
            Ended::Signalled(signal) => Ok(Came::Signalled(signal.get().cast_signed())),
            other => Err(format!("{}: {other:?}", cases[board.current()].what)),
        }
    })
}

/// Waits for a child; `None` if the case that it is at takes too long.
fn limited(pid: i32, board: &Board) -> Outcome<Option<i32>> {
    let (mut at, mut limit) = (board.current(), Instant::now() + LIMIT);
    // Most end within a fork's time; then less often.
    let mut nap = Duration::from_micros(50);
    loop {
        match sys::try_wait_child(pid) {
            Ok(Some(status)) => return Ok(Some(status)),
            // A carrier of whom the host keeps no status.
            Err(libc::ECHILD) => return Ok(Some(0)),
            Ok(None) => {}
            Err(errno) => return Err(format!("waitpid: {}", name(errno))),
        }
        if board.current() != at {
            (at, limit) = (board.current(), Instant::now() + LIMIT);
        }
        if Instant::now() > limit {
            return Ok(None);
        }
        thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(2));
    }
}
