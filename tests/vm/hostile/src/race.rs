//! Threads and processes against each other at the device. What each gets is a matter of chance, but always one of few answers;
//! and afterwards the sandboxes are gone like any others.

use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use litebox_ioctl_abi::{Ended, Request, Target, WaitFlags, wire};
use zerocopy::{FromZeros, IntoBytes};

use crate::check::{self, Check, Numbers, Outcome, ensure, equal};
use crate::device::fire_and_forget;
use crate::host::settle;
use crate::sandbox::{Guest, Packed, Sandbox, clean, exited, name, null, reap, signalled, start};
use crate::sys::{self, Errno, PAGE, Pages};

/// All of them.
const CHECKS: &[Check] = &[
    ("one of many CONFIGUREs", || one_of_many(Sandbox::open, Request::Configure, wire::Configure::new_zeroed().as_bytes())),
    ("one of many TERMINALs", || {
        let terminal = wire::Terminal { descriptors: 7, rows: 24, ..wire::Terminal::new_zeroed() };
        one_of_many(|| Sandbox::described().map_err(|_| libc::EIO), Request::Terminal, terminal.as_bytes())
    }),
    ("what describes a sandbox, during RUN", describing_runs),
    ("a structure that changes", changing_structure),
    ("strings that change", changing_strings),
    ("memory that goes", going_memory),
    ("two RUNs", two_runs),
    ("a close during requests", closing),
    ("a kill during RUN", killed_run),
    ("many KILLs and WAITs", kills_and_waits),
    ("everything is gone", || settle(0)),
];

/// Runs them.
pub(crate) fn run() -> Outcome {
    check::run("race", CHECKS)
}

/// Of several threads that make a request which may be made once, one does.
fn one_of_many(make: impl Fn() -> Result<Sandbox, Errno>, request: Request, bytes: &[u8]) -> Outcome {
    const THREADS: usize = 4;
    for round in 0..200 {
        let sandbox = make().map_err(name)?;
        let (barrier, taken, odd) = (Barrier::new(THREADS), AtomicU32::new(0), AtomicI32::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    match sandbox.ask(request, bytes) {
                        Ok(()) => drop(taken.fetch_add(1, Ordering::Relaxed)),
                        Err(libc::EBUSY) => {}
                        Err(errno) => odd.store(errno, Ordering::Relaxed),
                    }
                });
            }
        });
        equal(format!("round {round}, an errno but EBUSY"), odd.into_inner(), 0)?;
        equal(format!("round {round}, how many did"), taken.into_inner(), 1)?;
    }
    Ok(())
}

/// While a child becomes the guest, another thread goes on describing the sandbox: it is let, until it is too late.
fn describing_runs() -> Outcome {
    let (packed, null, path) = (Packed::this_program(&["guest", "exit", "6"]), null(), "/late");
    let mount = wire::Mount { kind: 6, path: path.as_ptr().addr() as u64, path_len: 5, ..wire::Mount::new_zeroed() };
    let size = wire::Terminal { rows: 1, ..wire::Terminal::new_zeroed() };
    for round in 0..60 {
        let (sandbox, errno) = (Sandbox::described()?, Pages::new(1));
        let (over, odd) = (AtomicBool::new(false), AtomicI32::new(0));
        let ended = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let answers = [
                        sandbox.give(null.as_raw_fd(), 7),
                        sandbox.ask(Request::Mount, mount.as_bytes()),
                        sandbox.ask(Request::Configure, wire::Configure::new_zeroed().as_bytes()),
                        sandbox.ask(Request::Terminal, size.as_bytes()),
                    ];
                    for answer in answers {
                        match answer {
                            // The root is read-only, and there is no terminal.
                            Ok(()) | Err(libc::EBUSY | libc::ENXIO | libc::EROFS) => {}
                            Err(errno) => odd.store(errno, Ordering::Relaxed),
                        }
                    }
                }
            });
            let ended = start(&sandbox, &packed, &errno).and_then(reap).and_then(|()| sandbox.wait());
            over.store(true, Ordering::Relaxed);
            ended
        })?;
        equal(format!("round {round}, an odd answer"), odd.into_inner(), 0)?;
        equal(format!("round {round}, its end"), ended, exited(6))?;
    }
    Ok(())
}

/// Does `act` some times while another thread does `meddle` without end.
fn meanwhile(times: u32, meddle: impl Fn(&mut Numbers) + Sync, mut act: impl FnMut(u32) -> Outcome) -> Outcome {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut numbers = Numbers::from_seed(7);
            while !over.load(Ordering::Relaxed) {
                meddle(&mut numbers);
            }
        });
        let outcome = (0..times).try_for_each(&mut act);
        over.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Fails unless an answer is one of those that some mixture of right and wrong may get.
fn one_of(what: &str, answer: Result<(), Errno>, allowed: &[Errno]) -> Outcome {
    match answer {
        Ok(()) => Ok(()),
        Err(errno) => ensure(allowed.contains(&errno), || format!("{what}: {}", name(errno))),
    }
}

fn changing_structure() -> Outcome {
    let pages = Pages::new(1);
    let path = "/".as_ptr().addr() as u64;
    let right = wire::Mount { kind: 2, path, path_len: 1, ..wire::Mount::new_zeroed() };
    pages.write(0, right.as_bytes());
    let wrong = [(0, 9), (4, 0xff), (8, 1), (24, 0), (32, 0), (36, 1), (40, 1)];
    let meddle = |numbers: &mut Numbers| {
        let (at, value) = numbers.one_of(&wrong);
        pages.write(at, &[value]);
        pages.write(0, right.as_bytes());
    };
    let allowed = [libc::EINVAL, libc::EFAULT, libc::E2BIG, libc::EBADF, libc::ENOENT, libc::ENOTDIR, libc::EACCES];
    meanwhile(3000, meddle, |_| {
        let sandbox = Sandbox::open().map_err(name)?;
        let answer = sys::ioctl(sandbox.fd(), Request::Mount.number(), pages.address(0)).map(drop);
        one_of("MOUNT", answer, &allowed)
    })
}

/// The structure is checked, then the strings are copied and looked at: whatever another thread makes of them meanwhile, RUN comes
/// back with an error of its own or starts a program.
fn changing_strings() -> Outcome {
    let packed = Packed::this_program(&["guest", "exit", "0"]);
    let pages = Pages::new(1);
    let text = packed.text().to_vec();
    pages.write(0, &text);
    let meddle = |numbers: &mut Numbers| {
        let at = numbers.below(text.len());
        pages.write(at, &[numbers.one_of(b"\0/.x")]);
        pages.write(0, &text);
    };
    let result = Pages::new(1);
    let allowed = [libc::EINVAL, libc::ENOENT, libc::EACCES, libc::ENOTDIR];
    meanwhile(150, meddle, |_| {
        let sandbox = Sandbox::described()?;
        let run = wire::Run { text: pages.address(0) as u64, ..packed.request(sandbox.fd()) };
        result.set_number(0, 0);
        // The text's pages are shared, so that the parent's thread writes to what the child sends.
        let Some(pid) = sys::fork().map_err(name)? else {
            let answer = clean(sandbox.fd()).and_then(|()| sandbox.ask(Request::Run, run.as_bytes()));
            result.set_number(0, answer.err().unwrap_or(-1));
            sys::exit(0)
        };
        reap(pid)?;
        match result.number(0) {
            0 => sandbox.wait().map(drop),
            errno => one_of("RUN", Err(errno), &allowed),
        }
    })
}

/// The page of a structure becomes inaccessible and comes back while the module copies.
fn going_memory() -> Outcome {
    let pages = Pages::new(2);
    let structure = wire::Wait { flags: 1, ..wire::Wait::new_zeroed() };
    let at = PAGE - 8;
    pages.write(at, structure.as_bytes());
    let sandbox = Sandbox::open().map_err(name)?;
    let meddle = |_: &mut Numbers| {
        pages.protect(PAGE, libc::PROT_NONE);
        pages.protect(PAGE, libc::PROT_READ | libc::PROT_WRITE);
    };
    meanwhile(3000, meddle, |_| {
        let answer = sys::ioctl(sandbox.fd(), Request::Wait.number(), pages.address(at)).map(drop);
        one_of("WAIT", answer, &[libc::ESRCH, libc::EFAULT])
    })
}

/// Of two children that run a program in one sandbox at the same time, one does.
fn two_runs() -> Outcome {
    let packed = Packed::this_program(&["guest", "exit", "5"]);
    let shared = Pages::new(1);
    for round in 0..40 {
        let sandbox = Sandbox::described()?;
        let run = packed.request(sandbox.fd());
        (0..3).for_each(|index| shared.set_number(index, 0));
        let mut children = Vec::new();
        for index in 1..3 {
            let Some(pid) = sys::fork().map_err(name)? else {
                let cleaned = clean(sandbox.fd());
                while shared.number(0) == 0 {}
                let answer = cleaned.and_then(|()| sandbox.ask(Request::Run, run.as_bytes()));
                shared.set_number(index, answer.err().unwrap_or(-1));
                sys::exit(0)
            };
            children.push(pid);
        }
        shared.set_number(0, 1);
        children.into_iter().try_for_each(reap)?;
        let mut answers = [shared.number(1), shared.number(2)];
        answers.sort_unstable();
        equal(format!("round {round}"), answers, [0, libc::EBUSY])?;
        equal("its end", sandbox.wait()?, exited(5))?;
    }
    Ok(())
}

/// The descriptor is closed, and its number perhaps taken by another sandbox, while requests are made on it.
fn closing() -> Outcome {
    let fd = Sandbox::open().map_err(name)?.into_fd();
    let meddle = |_: &mut Numbers| {
        for request in [Request::Wait, Request::Kill, Request::Configure, Request::Mount, Request::Version] {
            let mut structure = [0_u8; 64];
            structure[0] = 1;
            // A number that is not open, or open again: any answer will do.
            let _ = sys::ioctl(fd, request.number(), structure.as_mut_ptr().expose_provenance());
        }
    };
    meanwhile(2000, meddle, |_| {
        sys::close(fd);
        let again = Sandbox::open().map_err(name)?;
        equal("the number", again.into_fd(), fd)
    })?;
    sys::close(fd);
    Ok(())
}

/// A child that is killed at any moment of its RUN, or of its life as a guest.
fn killed_run() -> Outcome {
    let mut numbers = Numbers::from_seed(3);
    for round in 0..150 {
        let sandbox = Sandbox::described()?;
        let pid = fire_and_forget(&sandbox, &["spin"])?;
        thread::sleep(Duration::from_micros(numbers.below(20_000) as u64));
        if round % 3 == 0 {
            // The child's own descriptor is the last one, and RUN closes it.
            drop(sandbox);
            reap(pid)?;
            continue;
        }
        sys::kill(pid, libc::SIGKILL).map_err(name)?;
        reap(pid)?;
        // It was a guest, or never one, or died on the way.
        match sandbox.ended(WaitFlags::NO_HANG) {
            Ok(Ended::Running) => equal("its end", sandbox.wait()?, signalled(libc::SIGKILL))?,
            Ok(Ended::Signalled(_) | Ended::Failed(_)) | Err(libc::ESRCH) => {}
            other => return Err(format!("round {round}: {other:?}")),
        }
    }
    Ok(())
}

/// Several threads send signals and wait while the guest ends.
fn kills_and_waits() -> Outcome {
    for _ in 0..30 {
        let guest = Guest::begin(&["spin"])?;
        let odd = AtomicI32::new(0);
        thread::scope(|scope| {
            for target in [Target::First, Target::All] {
                let (guest, odd) = (&guest, &odd);
                scope.spawn(move || {
                    loop {
                        match guest.sandbox.kill(libc::SIGTERM as u32, target) {
                            Ok(()) => {}
                            Err(libc::ESRCH) => break,
                            Err(errno) => return odd.store(errno, Ordering::Relaxed),
                        }
                    }
                });
                scope.spawn(move || match guest.sandbox.ended(WaitFlags::empty()) {
                    Ok(ended) if ended == signalled(libc::SIGTERM) => {}
                    Ok(_) => odd.store(-1, Ordering::Relaxed),
                    Err(errno) => odd.store(errno, Ordering::Relaxed),
                });
            }
        });
        equal("an odd answer", odd.into_inner(), 0)?;
        guest.wait()?;
    }
    // A null descriptor is no sandbox.
    equal("WAIT on /dev/null", sys::ioctl(null().as_raw_fd(), Request::Wait.number(), 0), Err(libc::ENOTTY))
}
