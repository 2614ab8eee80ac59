//! Signals between processes and threads.

use crate::carrier::{Flag, HANDLER, errno, run, run_as};
use linux_raw_sys::general as nr;
use litebox_shim_linux::task::{End, Ids};

#[test]
fn a_signal_reaches_ring_3_and_sleepers() {
    run(|first| {
        for sleeps in [false, true] {
            let ready = Flag::default();
            let raise = ready.clone();
            let pid = first.fork(move |child| {
                raise.raise();
                if sleeps {
                    let _ = child.call(nr::__NR_pause, &[]);
                }
                child.spin();
            });
            ready.wait();
            assert_eq!(first.kill(pid, nr::SIGINT), Ok(0));
            assert_eq!(first.wait4(-1, 0), Ok((pid, nr::SIGINT)));
        }
    });
}

#[test]
fn nothing_withstands_sigkill() {
    run(|first| {
        let ready = Flag::default();
        let raise = ready.clone();
        let pid = first.fork(move |child| {
            for signal in 1..=64 {
                if signal != nr::SIGKILL && signal != nr::SIGSTOP {
                    child.action(signal, 1, 0);
                }
            }
            child.mask(&(1..=64).collect::<Vec<_>>());
            child.next_child(|grandchild| grandchild.spin());
            raise.raise();
            // Asleep where no signal wakes it.
            let _ = child.call(nr::__NR_vfork, &[]);
        });
        ready.wait();
        assert_eq!(first.kill(pid, nr::SIGKILL), Ok(0));
        assert_eq!(first.wait4(-1, 0), Ok((pid, nr::SIGKILL)));
    });
}

#[test]
fn a_handler_interrupts_a_wait_as_its_action_says() {
    run(|first| {
        for (restarts, expected) in [(0, Err(errno::EINTR)), (0x1000_0000, Ok(()))] {
            let (ready, may_end) = (Flag::default(), Flag::default());
            let (raise, end) = (ready.clone(), may_end.clone());
            let pid = first.fork(move |child| {
                child.action(nr::SIGUSR1, HANDLER, restarts);
                let own = child.fork(move |grandchild| {
                    end.wait();
                    grandchild.exit(1);
                });
                raise.raise();
                let waited = child.wait4(i64::try_from(own).unwrap(), 0);
                assert_eq!(waited, expected.map(|()| (own, 0x100)));
                assert_eq!(child.handled, [nr::SIGUSR1]);
            });
            ready.wait();
            let sandbox = std::sync::Arc::clone(first.task.sandbox());
            let child = sandbox.process(u32::try_from(pid).unwrap()).unwrap();
            first.kill(pid, nr::SIGUSR1).unwrap();
            first.until(|_| child.pending().is_empty());
            may_end.raise();
            assert_eq!(first.wait4(i64::try_from(pid).unwrap(), 0), Ok((pid, 0)));
        }
    });
}

#[test]
fn groups_and_all_are_signalled_together() {
    run(|first| {
        let ready = [Flag::default(), Flag::default(), Flag::default()];
        let mut pids = Vec::new();
        for flag in &ready {
            let raise = flag.clone();
            let group = pids.first().copied().unwrap_or(0);
            pids.push(first.fork(move |child| {
                child.ok(nr::__NR_setpgid, &[0, group]);
                raise.raise();
                child.spin();
            }));
            flag.wait();
        }
        let group = 0u64.wrapping_sub(pids[0]);
        assert_eq!(first.kill(group, 0), Ok(0));
        assert_eq!(first.kill(group, 65), Err(errno::EINVAL));
        assert_eq!(first.kill(group, nr::SIGHUP), Ok(0));
        for pid in &pids {
            assert_eq!(first.wait4(i64::try_from(*pid).unwrap(), 0), Ok((*pid, nr::SIGHUP)));
        }
        assert_eq!(first.kill(group, nr::SIGHUP), Err(errno::ESRCH));
        let own = first.fork(|child| child.spin());
        assert_eq!(first.kill(u64::MAX, nr::SIGTERM), Ok(0));
        assert_eq!(first.wait4(-1, 0), Ok((own, nr::SIGTERM)));
        assert_eq!(first.kill(u64::MAX, nr::SIGTERM), Err(errno::ESRCH));
        assert_eq!(first.kill(99, 65), Err(errno::ESRCH));
        assert_eq!(first.kill(2, 65), Err(errno::EINVAL));
    });
}

#[test]
fn another_user_s_process_is_not_signalled() {
    run_as(Ids { users: [1000; 3], groups: [1000; 3] }, |first| {
        let (ready, may_end) = (Flag::default(), Flag::default());
        let (raise, end) = (ready.clone(), may_end.clone());
        first.fork(move |child| {
            child.task.process().with(|state| state.ids.users = [1001; 3]);
            raise.raise();
            child.until(|_| end.is_raised());
        });
        ready.wait();
        assert_eq!(first.kill(3, nr::SIGTERM), Err(errno::EPERM));
        assert_eq!(first.kill(3, 0), Err(errno::EPERM));
        assert_eq!(first.kill(3, nr::SIGCONT), Ok(0), "in the same session");
        assert_eq!(first.kill(u64::MAX, nr::SIGTERM), Ok(0), "nobody could be signalled, which is no error");
        first.fails(errno::EPERM, nr::__NR_tgkill, &[3, 3, nr::SIGTERM.into()]);
        may_end.raise();
        assert!(first.wait4(-1, 0).is_ok());
    });
}

#[test]
fn a_task_is_signalled_by_its_id() {
    run(|first| {
        let word = first.words(&[0]);
        let ready = Flag::default();
        let raise = ready.clone();
        let tid = first.thread(word, move |thread| {
            thread.mask(&[nr::SIGUSR1]);
            raise.raise();
            let set = thread.words(&[1 << (nr::SIGUSR1 - 1)]);
            assert_eq!(thread.ok(nr::__NR_rt_sigtimedwait, &[set, 0, 0, 8]), nr::SIGUSR1.into());
        });
        ready.wait();
        let signal = u64::from(nr::SIGUSR1);
        first.fails(errno::EINVAL, nr::__NR_tgkill, &[0, tid, signal]);
        first.fails(errno::ESRCH, nr::__NR_tgkill, &[tid, tid, signal]);
        first.fails(errno::ESRCH, nr::__NR_tkill, &[99, signal]);
        first.ok(nr::__NR_tgkill, &[2, tid, 0]);
        first.ok(nr::__NR_tkill, &[tid, signal]);
        first.join(word);
    });
}

#[test]
fn a_queued_signal_carries_what_its_sender_says() {
    run(|first| {
        let (ready, may_end) = (Flag::default(), Flag::default());
        let (raise, end) = (ready.clone(), may_end.clone());
        let pid = first.fork(move |child| {
            child.mask(&[40]);
            raise.raise();
            let (set, info) = (child.words(&[1 << 39]), child.room(128));
            for value in [7, 8] {
                assert_eq!(child.ok(nr::__NR_rt_sigtimedwait, &[set, info, 0, 8]), 40);
                assert_eq!((child.half(info), child.half(info + 8), child.half(info + 24)), (40, u32::MAX, value));
            }
            end.wait();
        });
        ready.wait();
        let info = first.room(128);
        for value in [7u32, 8] {
            first.poke(info + 8, &(-1i32).to_le_bytes());
            first.poke(info + 24, &value.to_le_bytes());
            first.ok(nr::__NR_rt_sigqueueinfo, &[pid, 40, info]);
        }
        first.poke(info + 8, &0i32.to_le_bytes());
        first.fails(errno::EPERM, nr::__NR_rt_sigqueueinfo, &[pid, 40, info]);
        first.fails(errno::EPERM, nr::__NR_rt_tgsigqueueinfo, &[pid, pid, 40, info]);
        first.fails(errno::EFAULT, nr::__NR_rt_sigqueueinfo, &[pid, 40, 8]);
        may_end.raise();
        assert!(first.wait4(-1, 0).is_ok());
    });
}

#[test]
fn what_is_blocked_waits_even_if_it_is_ignored_by_default() {
    run(|first| {
        first.mask(&[nr::SIGCHLD, nr::SIGURG]);
        for signal in [nr::SIGCHLD, nr::SIGURG] {
            first.kill(2, signal).unwrap();
        }
        let set = first.room(8);
        first.ok(nr::__NR_rt_sigpending, &[set, 8]);
        assert_eq!(first.word(set), 1 << (nr::SIGCHLD - 1) | 1 << (nr::SIGURG - 1));
        first.action(nr::SIGURG, 1, 0);
        first.ok(nr::__NR_rt_sigpending, &[set, 8]);
        assert_eq!(first.word(set), 1 << (nr::SIGCHLD - 1));
    });
}

#[test]
fn the_first_process_dies_of_signals_like_any_other() {
    let end = run(|first| {
        first.kill(2, nr::SIGTERM).unwrap();
        unreachable!("it has ended");
    });
    assert_eq!(end, End::Signal(nr::SIGTERM));
}
