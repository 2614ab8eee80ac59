//! Processor time: whose it is, and who is told.

use crate::carrier::{HANDLER, Thread, errno, run};
use linux_raw_sys::general as nr;
use litebox_platform_hosted::Interrupter;
use std::time::Duration;

/// Works so many milliseconds in ring 3 and in the kernel.
fn work(user: u64, system: u64) {
    Interrupter::work(Duration::from_millis(user), Duration::from_millis(system));
}

/// User and system time in milliseconds as getrusage(2) tells them.
fn usage(thread: &mut Thread, who: u64) -> [u64; 2] {
    let at = thread.room(144);
    thread.ok(nr::__NR_getrusage, &[who, at]);
    times(thread, at)
}

fn times(thread: &Thread, at: u64) -> [u64; 2] {
    [0, 16].map(|of| thread.word(at + of) * 1000 + thread.word(at + of + 8) / 1000)
}

fn clock(thread: &mut Thread, clock: i32) -> u64 {
    let at = thread.room(16);
    thread.ok(nr::__NR_clock_gettime, &[clock as u64, at]);
    thread.word(at) * 1000 + thread.word(at + 8) / 1_000_000
}

const OWN: u64 = 0;
const THREAD: u64 = 1;
const CHILDREN: u64 = -1i64 as u64;

#[test]
fn time_is_the_threads_and_the_processs() {
    run(|main| {
        work(30, 10);
        assert_eq!(usage(main, OWN), [30, 10]);
        let word = main.words(&[0]);
        main.thread(word, |thread| {
            work(5, 2);
            assert_eq!(usage(thread, THREAD), [5, 2]);
            assert_eq!(usage(thread, OWN), [35, 12]);
            assert_eq!(clock(thread, 3), 7);
            assert_eq!(clock(thread, 2), 47);
        });
        main.join(word);
        let process = std::sync::Arc::clone(main.task.process());
        main.until(|_| process.task_count() == 1);
        assert_eq!(usage(main, OWN), [35, 12], "that of a thread that has ended");
        assert_eq!(usage(main, THREAD), [30, 10]);
        assert_eq!(usage(main, CHILDREN), [0, 0]);
        main.fails(errno::EINVAL, nr::__NR_getrusage, &[2, word]);
    });
}

#[test]
fn a_parent_learns_what_its_children_used() {
    run(|main| {
        work(1, 1);
        let pid = main.fork(|child| {
            work(20, 3);
            assert_eq!(usage(child, OWN), [20, 3], "its maker's is not its own");
            let grandchild = child.fork(|_| work(100, 0));
            assert_eq!(child.wait4(grandchild.cast_signed(), 0), Ok((grandchild, 0)));
            assert_eq!(usage(child, CHILDREN), [100, 0]);
        });
        let (info, at) = (main.room(128), main.room(144));
        let wait = [1, pid, info, u64::from(nr::WEXITED | nr::WNOWAIT), at];
        main.ok(nr::__NR_waitid, &wait);
        assert_eq!((times(main, at), usage(main, CHILDREN)), ([120, 3], [0, 0]), "not waited for yet");
        main.ok(nr::__NR_wait4, &[pid, 0, 0, at]);
        assert_eq!((times(main, at), usage(main, CHILDREN), usage(main, OWN)), ([120, 3], [120, 3], [1, 1]));
        let tms = main.room(32);
        main.ok(nr::__NR_times, &[tms]);
        assert_eq!([0, 8, 16, 24].map(|of| main.word(tms + of)), [0, 0, 12, 0]);
    });
}

#[test]
fn clocks_are_those_of_whoever_is_named() {
    run(|main| {
        let numbered = |id: u64, low: i32| (!i32::try_from(id).unwrap() << 3) | low;
        let pid = main.fork(|child| {
            work(8, 1);
            child.spin();
        });
        main.until(|main| clock(main, numbered(pid, 2)) == 9);
        assert_eq!((clock(main, numbered(pid, 1)), clock(main, numbered(0, 2))), (8, 0));
        let at = main.room(16);
        let mut fails = |call: u32, number: i32| main.fails(errno::EINVAL, call, &[number as u64, at]);
        fails(nr::__NR_clock_gettime, numbered(pid, 6));
        fails(nr::__NR_clock_gettime, numbered(pid, 3));
        fails(nr::__NR_clock_getres, numbered(9999, 2));
        fails(nr::__NR_clock_nanosleep, 3);
        main.kill(pid, nr::SIGKILL).unwrap();
        main.wait4(-1, 0).unwrap();
        main.fails(errno::EINVAL, nr::__NR_clock_gettime, &[numbered(pid, 2) as u64, at]);
    });
}

/// Sets one of setitimer(2)'s timers to `micros`, once.
fn set_timer(thread: &mut Thread, which: u32, micros: u64) {
    let new = thread.words(&[0, 0, 0, micros]);
    thread.ok(nr::__NR_setitimer, &[which.into(), new, 0]);
}

#[test]
fn timers_go_by_the_time_that_is_used() {
    run(|main| {
        main.action(nr::SIGPROF, HANDLER, 0);
        main.action(nr::SIGVTALRM, HANDLER, 0);
        work(100, 0);
        set_timer(main, nr::ITIMER_VIRTUAL, 50_000);
        set_timer(main, nr::ITIMER_PROF, 40_000);
        work(10, 31);
        main.until(|main| main.handled == [nr::SIGPROF]);
        let left = main.room(32);
        main.ok(nr::__NR_getitimer, &[nr::ITIMER_VIRTUAL.into(), left]);
        assert_eq!([0, 8, 16, 24].map(|at| main.word(left + at)), [0, 0, 0, 40_001], "and the tick that it may be late");
        work(0, 1000);
        main.look();
        assert_eq!(main.handled, [nr::SIGPROF]);
        work(41, 0);
        main.until(|main| main.handled == [nr::SIGPROF, nr::SIGVTALRM]);
        main.ok(nr::__NR_getitimer, &[nr::ITIMER_VIRTUAL.into(), left]);
        assert_eq!([16, 24].map(|at| main.word(left + at)), [0, 0]);
        main.fails(errno::EINVAL, nr::__NR_setitimer, &[3, 0, 0]);
    });
}

#[test]
fn timers_can_have_clocks_of_processor_time() {
    run(|main| {
        main.action(nr::SIGALRM, HANDLER, 0);
        let id = main.room(8);
        main.ok(nr::__NR_timer_create, &[2, 0, id]);
        let timer = main.half(id).into();
        let new = main.words(&[0, 0, 0, 20_000_000]);
        main.ok(nr::__NR_timer_settime, &[timer, 0, new, 0]);
        work(5, 5);
        let left = main.room(32);
        main.ok(nr::__NR_timer_gettime, &[timer, left]);
        assert_eq!([16, 24].map(|at| main.word(left + at)), [0, 10_000_000]);
        work(0, 10);
        main.until(|main| main.handled == [nr::SIGALRM]);
        main.fails(errno::EINVAL, nr::__NR_timer_create, &[-8i64 as u64 - (9999 << 3), 0, id]);
    });
}

#[test]
fn one_can_wait_for_the_time_that_another_uses() {
    run(|main| {
        let pid = main.fork(|child| {
            let times = child.words(&[0, 5_000_000]);
            let _ = child.call(nr::__NR_nanosleep, &[times, 0]);
            work(30, 0);
            child.spin();
        });
        let until = main.words(&[0, 30_000_000]);
        let clock = (!i32::try_from(pid).unwrap() << 3) | 2;
        main.ok(nr::__NR_clock_nanosleep, &[clock as u64, nr::TIMER_ABSTIME.into(), until, 0]);
        main.kill(pid, nr::SIGKILL).unwrap();
        main.wait4(-1, 0).unwrap();
    });
}

#[test]
fn a_limit_of_processor_time_is_told_and_kills() {
    run(|main| {
        let limited = |main: &mut Thread, ignores: bool| {
            let pid = main.fork(move |child| {
                if ignores {
                    child.action(nr::SIGXCPU, 1, 0);
                }
                let limit = child.words(&[1, 3]);
                child.ok(nr::__NR_setrlimit, &[nr::RLIMIT_CPU.into(), limit]);
                work(1100, 0);
                if ignores {
                    child.until(|child| {
                        child.ok(nr::__NR_getrlimit, &[nr::RLIMIT_CPU.into(), limit]);
                        child.word(limit) == 2
                    });
                    work(2000, 0);
                }
                child.spin();
            });
            main.wait4(pid.cast_signed(), 0).unwrap().1 & 0x7f
        };
        assert_eq!(limited(main, false), nr::SIGXCPU);
        assert_eq!(limited(main, true), nr::SIGKILL);
    });
}
