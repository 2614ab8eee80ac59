//! fork(2), wait(2), zombies and orphans.

use crate::carrier::{Flag, errno, run, run_as, run_with};
use linux_raw_sys::general as nr;
use litebox_shim_linux::task::{Condition, End, Ids};
use std::sync::Arc;

#[test]
fn a_child_has_copies_and_its_status_is_its_parent_s() {
    let end = run(|parent| {
        let word = parent.words(&[7]);
        let pid = parent.fork(move |child| {
            assert_eq!((child.getpid(), child.ok(nr::__NR_getppid, &[])), (3, 2));
            assert_eq!(child.ok(nr::__NR_gettid, &[]), 3);
            assert_eq!(child.word(word), 7);
            child.poke(word, &[9]);
            child.exit(0x1_0205);
        });
        assert_eq!(pid, 3);
        assert_eq!(parent.wait4(-1, 0), Ok((3, 0x0500)));
        assert_eq!(parent.word(word), 7);
        assert_eq!(parent.wait4(-1, 0), Err(errno::ECHILD));
        parent.exit(3);
    });
    assert_eq!(end, End::Process(3));
}

#[test]
fn a_zombie_stays_until_it_is_waited_for() {
    run(|parent| {
        let sandbox = Arc::clone(parent.task.sandbox());
        let pid = parent.fork(|child| child.exit(1));
        let zombie = sandbox.process(3).unwrap();
        parent.until(|_| zombie.condition() == Condition::Zombie);
        let info = parent.room(128);
        let (all, keep) = (nr::P_ALL.into(), u64::from(nr::WEXITED | nr::WNOWAIT));
        for _ in 0..2 {
            assert_eq!(parent.ok(nr::__NR_waitid, &[all, 0, info, keep, 0]), 0);
            assert_eq!((parent.half(info), parent.half(info + 8)), (nr::SIGCHLD, nr::CLD_EXITED));
            assert_eq!((parent.half(info + 16), parent.half(info + 24)), (3, 1));
        }
        assert_eq!(parent.kill(pid, nr::SIGKILL), Ok(0), "a zombie can be signalled");
        assert_eq!(parent.wait4(3, nr::WNOHANG), Ok((3, 0x100)));
        assert!(sandbox.process(3).is_none());
        assert_eq!(parent.kill(pid, 0), Err(errno::ESRCH));
    });
}

#[test]
fn waits_choose_by_id_group_and_kind() {
    run(|parent| {
        parent.action(nr::SIGUSR1, 1, 0);
        let other = Flag::default();
        let until = other.clone();
        let first = parent.fork(move |child| {
            child.ok(nr::__NR_setpgid, &[0, 0]);
            until.wait();
        });
        let second = parent.clone(nr::SIGUSR1, [0; 4], |child| child.exit(2));
        let (first, second) = (i64::try_from(first).unwrap(), i64::try_from(second).unwrap());
        assert_eq!(parent.wait4(first, nr::WNOHANG), Ok((0, 0)));
        assert_eq!(parent.wait4(second, 0), Err(errno::ECHILD), "its signal is not SIGCHLD");
        assert_eq!(parent.wait4(99, 0), Err(errno::ECHILD));
        assert_eq!(parent.wait4(-1, nr::__WCLONE), Ok((second.unsigned_abs(), 0x200)));
        parent.until(|parent| parent.ok(nr::__NR_getpgid, &[first.unsigned_abs()]) == first.unsigned_abs());
        assert_eq!(parent.wait4(0, nr::WNOHANG), Err(errno::ECHILD), "nobody is in the own group");
        other.raise();
        assert_eq!(parent.wait4(-first, 0), Ok((first.unsigned_abs(), 0)));
        let bad = parent.call(nr::__NR_wait4, &[u64::MAX, 0, u64::from(nr::WEXITED), 0]);
        assert_eq!(bad, Err(errno::EINVAL));
        assert_eq!(parent.wait4(i64::from(i32::MIN), 0), Err(errno::ESRCH));
        for (which, id, options, error) in [
            (nr::P_ALL, 0, 0, errno::EINVAL),
            (nr::P_PID, 0, nr::WEXITED, errno::EINVAL),
            (nr::P_PGID, u64::MAX, nr::WEXITED, errno::EINVAL),
            (9, 1, nr::WEXITED, errno::EINVAL),
            (nr::P_ALL, 0, nr::WEXITED, errno::ECHILD),
        ] {
            parent.fails(error, nr::__NR_waitid, &[which.into(), id, 0, options.into(), 0]);
        }
    });
}

#[test]
fn a_parent_that_does_not_want_to_know_has_no_zombies() {
    for (handler, flags) in [(1, 0), (0, 2)] {
        run(move |parent| {
            parent.action(nr::SIGCHLD, handler, flags);
            for _ in 0..3 {
                parent.fork(|child| child.exit(1));
            }
            assert_eq!(parent.wait4(-1, 0), Err(errno::ECHILD));
        });
    }
}

#[test]
fn the_end_of_a_child_is_signalled() {
    run(|parent| {
        parent.mask(&[nr::SIGCHLD]);
        let info = parent.room(128);
        let set = parent.words(&[1 << (nr::SIGCHLD - 1)]);
        let pid = parent.fork(|child| {
            let own = child.getpid();
            let _ = child.kill(own, nr::SIGTERM);
        });
        assert_eq!(parent.ok(nr::__NR_rt_sigtimedwait, &[set, info, 0, 8]), nr::SIGCHLD.into());
        let fields: Vec<_> = [0, 8, 16, 24].iter().map(|at| parent.half(info + at)).collect();
        assert_eq!(fields, [nr::SIGCHLD, nr::CLD_KILLED, u32::try_from(pid).unwrap(), nr::SIGTERM]);
        assert_eq!(parent.wait4(-1, 0), Ok((pid, nr::SIGTERM)));
    });
}

#[test]
fn an_orphan_goes_to_the_reaper_that_asked_for_it() {
    run(|first| {
        let (told, sought) = (Flag::default(), Flag::default());
        let (tell, seek) = (told.clone(), sought.clone());
        first.fork(move |reaper| {
            reaper.task.process().with(|state| state.subreaper = true);
            let own = reaper.getpid();
            let middle = reaper.fork(move |middle| {
                middle.fork(move |orphan| {
                    orphan.until(|orphan| orphan.ok(nr::__NR_getppid, &[]) == own);
                    orphan.exit(5);
                });
                middle.exit(4);
            });
            let mut seen = [reaper.wait4(-1, 0).unwrap(), reaper.wait4(-1, 0).unwrap()];
            seen.sort_unstable();
            assert_eq!(seen, [(middle, 0x400), (middle + 1, 0x500)]);
            // Without one, an orphan is reaped by itself.
            reaper.task.process().with(|state| state.subreaper = false);
            reaper.fork(move |middle| {
                middle.fork(move |orphan| {
                    orphan.until(|orphan| orphan.ok(nr::__NR_getppid, &[]) == 1);
                    tell.raise();
                    seek.wait();
                });
            });
            assert!(reaper.wait4(-1, 0).is_ok());
            assert_eq!(reaper.wait4(-1, 0), Err(errno::ECHILD));
        });
        told.wait();
        assert!(first.wait4(-1, 0).is_ok());
        assert_eq!(first.wait4(-1, 0), Err(errno::ECHILD));
        sought.raise();
        let sandbox = Arc::clone(first.task.sandbox());
        first.until(|_| sandbox.process_count() == 1);
    });
}

#[test]
fn the_end_of_the_first_process_ends_all() {
    let end = run(|first| {
        for _ in 0..3 {
            first.fork(|child| child.spin());
        }
        first.fork(|child| {
            let _ = child.call(nr::__NR_pause, &[]);
        });
        first.exit(9);
    });
    assert_eq!(end, End::Process(9));
}

#[test]
fn a_parent_s_end_is_signalled_to_children_that_asked() {
    run(|first| {
        let ready = Flag::default();
        let (raise, own) = (ready.clone(), Flag::default());
        let dies = own.clone();
        first.fork(move |parent| {
            parent.fork(move |child| {
                child.task.process().with(|state| state.parent_death = nr::SIGTERM);
                raise.raise();
                child.spin();
            });
            own.wait();
        });
        ready.wait();
        dies.raise();
        assert!(first.wait4(-1, 0).is_ok());
        let sandbox = Arc::clone(first.task.sandbox());
        first.until(|_| sandbox.process_count() == 1);
    });
}

#[test]
fn a_child_that_gets_no_carrier_has_never_been() {
    run(|parent| {
        parent.sterilise();
        parent.next_child(|_| unreachable!());
        parent.fails(errno::EAGAIN, nr::__NR_fork, &[]);
        parent.next_child(|_| unreachable!());
        parent.fails(errno::EAGAIN, nr::__NR_vfork, &[]);
        assert_eq!(parent.wait4(-1, 0), Err(errno::ECHILD));
        assert_eq!(parent.task.sandbox().task_count(), 1);
        assert!(parent.task.process().pending().is_empty());
    });
}

#[test]
fn vfork_waits_for_the_child_and_shares_its_memory() {
    run(|parent| {
        let word = parent.words(&[0]);
        let (began, may_end) = (Flag::default(), Flag::default());
        let (begin, wait) = (began.clone(), may_end.clone());
        std::thread::spawn(move || {
            began.wait();
            may_end.raise();
        });
        parent.next_child(move |child| {
            begin.raise();
            wait.wait();
            child.poke(word, &[5]);
            let _ = child.call(nr::__NR_exit, &[1]);
        });
        let pid = parent.ok(nr::__NR_vfork, &[]);
        assert_eq!(parent.word(word), 5, "the parent went on before its child had ended");
        assert_eq!(parent.wait4(-1, 0), Ok((pid, 0x100)));
    });
}

#[test]
fn flags_that_do_not_go_together_are_errors() {
    run(|parent| {
        for (flags, error) in [
            (nr::CLONE_THREAD, errno::EINVAL),
            (nr::CLONE_SIGHAND, errno::EINVAL),
            (nr::CLONE_THREAD | nr::CLONE_SIGHAND, errno::EINVAL),
            (nr::CLONE_NEWNS | nr::CLONE_FS, errno::EINVAL),
            (nr::CLONE_NEWUTS, errno::EPERM),
            (nr::CLONE_NEWUSER, errno::EPERM),
            (nr::CLONE_PIDFD | nr::CLONE_PARENT_SETTID, errno::EINVAL),
        ] {
            parent.fails(error, nr::__NR_clone, &[flags.into(), 0, 0, 0, 0]);
        }
        parent.fails(errno::EPERM, nr::__NR_clone, &[u64::from(nr::CLONE_SETTLS), 0, 0, 0, 1 << 63]);
        let (vm, chld) = (u64::from(nr::CLONE_VM), u64::from(nr::SIGCHLD));
        let cases: [([u64; 12], u64, u32); 13] = [
            ([0; 12], 63, errno::EINVAL),
            ([0; 12], 5000, errno::E2BIG),
            ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 96, errno::E2BIG),
            ([17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 88, errno::EINVAL),
            ([0, 0, 0, 0, 65, 0, 0, 0, 0, 0, 0, 0], 88, errno::EINVAL),
            ([vm, 0, 0, 0, chld, 4096, 0, 0, 0, 0, 0, 0], 88, errno::EINVAL),
            ([vm, 0, 0, 0, chld, 0, 4096, 0, 0, 0, 0, 0], 88, errno::EINVAL),
            ([vm | 1 << 15, 0, 0, 0, chld, 0, 0, 0, 0, 0, 0, 0], 88, errno::EINVAL),
            ([0, 0, 0, 0, chld, 0, 0, 0, 1, 0, 0, 0], 88, errno::EINVAL),
            ([0, 0, 0, 0, chld, 0, 0, 0, 1, 1, 0, 0], 88, errno::EPERM),
            ([nr::CLONE_INTO_CGROUP, 0, 0, 0, chld, 0, 0, 0, 0, 0, 0, 0], 80, errno::EINVAL),
            ([nr::CLONE_INTO_CGROUP, 0, 0, 0, chld, 0, 0, 0, 0, 0, 0, 0], 88, errno::EOPNOTSUPP),
            ([nr::CLONE_CLEAR_SIGHAND | vm | 0x800, 0, 0, 0, chld, 0, 0, 0, 0, 0, 0, 0], 88, errno::EINVAL),
        ];
        for (args, size, error) in cases {
            let at = parent.words(&args);
            parent.fails(error, nr::__NR_clone3, &[at, size]);
        }
        parent.fails(errno::EFAULT, nr::__NR_clone3, &[8, 88]);
        assert_eq!(parent.task.sandbox().process_count(), 1);
    });
}

#[test]
fn clone3_clears_handlers_and_stores_ids_where_it_is_told() {
    run(|parent| {
        parent.action(nr::SIGUSR1, 0x3000, 0);
        parent.action(nr::SIGUSR2, 1, 0);
        let ids = parent.words(&[0, 0]);
        let flags = nr::CLONE_CLEAR_SIGHAND | u64::from(nr::CLONE_PARENT_SETTID | nr::CLONE_CHILD_SETTID);
        let stack = parent.room(4096);
        let args = parent.words(&[flags, 0, ids + 8, ids, nr::SIGCHLD.into(), stack, 4096, 0, 0, 0, 0]);
        parent.next_child(move |child| {
            assert_eq!((child.half(ids), child.half(ids + 8)), (0, 3));
            assert_eq!(child.regs.sp, stack + 4096);
            let old = child.room(32);
            for (signal, handler) in [(nr::SIGUSR1, 0), (nr::SIGUSR2, 1)] {
                child.ok(nr::__NR_rt_sigaction, &[signal.into(), 0, old, 8]);
                assert_eq!(child.word(old), handler);
            }
        });
        assert_eq!(parent.ok(nr::__NR_clone3, &[args, 88]), 3);
        assert_eq!((parent.half(ids), parent.half(ids + 8)), (3, 0));
        assert_eq!(parent.wait4(-1, 0), Ok((3, 0)));
    });
}

#[test]
fn a_user_has_as_many_tasks_as_the_limit_says() {
    run_as(Ids { users: [1000; 3], groups: [1000; 3] }, |parent| {
        let limit = parent.words(&[2, 2]);
        parent.ok(nr::__NR_setrlimit, &[nr::RLIMIT_NPROC.into(), limit]);
        parent.fork(|child| child.exit(0));
        parent.next_child(|_| unreachable!());
        parent.fails(errno::EAGAIN, nr::__NR_fork, &[]);
        assert!(parent.wait4(-1, 0).is_ok());
        parent.fork(|child| child.exit(0));
        assert!(parent.wait4(-1, 0).is_ok());
    });
}

#[test]
fn a_sandbox_has_as_many_tasks_as_its_launcher_says() {
    run_with(Ids::default(), Some(2), |parent| {
        parent.fork(|child| child.exit(0));
        parent.next_child(|_| unreachable!());
        parent.fails(errno::EAGAIN, nr::__NR_fork, &[]);
        assert!(parent.wait4(-1, 0).is_ok());
        parent.fork(|child| child.exit(0));
        assert!(parent.wait4(-1, 0).is_ok());
    });
}
