//! Job control: stopping and going on, groups and sessions.

use crate::carrier::{Flag, HANDLER, errno, run};
use linux_raw_sys::general as nr;
use std::sync::Arc;

fn stopped(signal: u32) -> u32 {
    signal << 8 | 0x7f
}

#[test]
fn a_child_stops_goes_on_and_its_parent_is_told() {
    run(|first| {
        first.mask(&[nr::SIGCHLD]);
        let (word, count) = (first.words(&[0]), first.words(&[0]));
        let pid = first.fork(move |child| {
            child.thread(word, |thread| thread.spin());
            loop {
                let seen = child.word(count);
                child.poke(count, &seen.wrapping_add(1).to_le_bytes());
                child.look();
            }
        });
        let sandbox = Arc::clone(first.task.sandbox());
        let child = sandbox.process(2).unwrap();
        let (set, info) = (first.words(&[1 << (nr::SIGCHLD - 1)]), first.room(128));
        first.until(|_| child.task_count() == 2);
        for signal in [nr::SIGSTOP, nr::SIGSTOP] {
            first.kill(pid, signal).unwrap();
            assert_eq!(first.ok(nr::__NR_rt_sigtimedwait, &[set, info, 0, 8]), nr::SIGCHLD.into());
            assert_eq!((first.half(info + 8), first.half(info + 24)), (nr::CLD_STOPPED, signal));
            assert_eq!(first.wait4(-1, nr::WNOHANG), Ok((0, 0)), "a stop was not asked for");
            assert_eq!(first.wait4(-1, nr::WUNTRACED), Ok((pid, stopped(signal))));
            assert_eq!(first.wait4(-1, nr::WUNTRACED | nr::WNOHANG), Ok((0, 0)), "told once");
            first.kill(pid, nr::SIGCONT).unwrap();
            assert_eq!(first.ok(nr::__NR_rt_sigtimedwait, &[set, info, 0, 8]), nr::SIGCHLD.into());
            assert_eq!((first.half(info + 8), first.half(info + 24)), (nr::CLD_CONTINUED, nr::SIGCONT));
            assert_eq!(first.wait4(-1, nr::WCONTINUED), Ok((pid, 0xffff)));
        }
        first.kill(pid, nr::SIGSTOP).unwrap();
        assert_eq!(first.wait4(-1, nr::WUNTRACED), Ok((pid, stopped(nr::SIGSTOP))));
        first.kill(pid, nr::SIGTERM).unwrap();
        assert_eq!(first.wait4(-1, nr::WNOHANG), Ok((0, 0)), "what is stopped takes no signal");
        first.kill(pid, nr::SIGKILL).unwrap();
        assert_eq!(first.wait4(-1, 0), Ok((pid, nr::SIGKILL)));
    });
}

#[test]
fn only_groups_with_somebody_outside_stop_by_themselves() {
    run(|first| {
        // The first process's group has nobody outside of it in its session: SIGTSTP is nothing to it, but to a job of its.
        first.kill(1, nr::SIGTSTP).unwrap();
        let pid = first.fork(|child| {
            child.ok(nr::__NR_setpgid, &[0, 0]);
            let own = child.getpid();
            child.kill(own, nr::SIGTSTP).unwrap();
            child.exit(1);
        });
        assert_eq!(first.wait4(-1, nr::WUNTRACED), Ok((pid, stopped(nr::SIGTSTP))));
        first.kill(pid, nr::SIGCONT).unwrap();
        assert_eq!(first.wait4(-1, 0), Ok((pid, 0x100)));
    });
}

#[test]
fn a_stopped_job_without_a_parent_is_hung_up() {
    run(|first| {
        let done = Flag::default();
        let raise = done.clone();
        first.fork(move |shell| {
            let job = shell.fork(move |job| {
                job.ok(nr::__NR_setpgid, &[0, 0]);
                let own = job.getpid();
                job.action(nr::SIGHUP, HANDLER, 0);
                job.kill(own, nr::SIGSTOP).unwrap();
                job.until(|job| job.handled == [nr::SIGHUP]);
                raise.raise();
            });
            assert_eq!(shell.wait4(-1, nr::WUNTRACED), Ok((job, stopped(nr::SIGSTOP))));
        });
        done.wait();
        assert!(first.wait4(-1, 0).is_ok());
    });
}

#[test]
fn groups_are_joined_and_sessions_begun_by_the_rules() {
    run(|first| {
        first.fails(errno::EPERM, nr::__NR_setsid, &[]);
        first.fails(errno::EPERM, nr::__NR_setpgid, &[0, 0]);
        first.fails(errno::EINVAL, nr::__NR_setpgid, &[0, u64::MAX]);
        first.fails(errno::ESRCH, nr::__NR_setpgid, &[99, 99]);
        let may_end = Flag::default();
        let end = may_end.clone();
        let pid = first.fork(move |_| end.wait());
        first.fails(errno::EPERM, nr::__NR_setpgid, &[pid, 77]);
        first.ok(nr::__NR_setpgid, &[pid, 0]);
        assert_eq!(first.ok(nr::__NR_getpgid, &[pid]), pid);
        first.ok(nr::__NR_setpgid, &[pid, 1]);
        may_end.raise();
        assert!(first.wait4(-1, 0).is_ok());
        let pid = first.fork(|child| {
            let own = child.getpid();
            assert_eq!(child.ok(nr::__NR_setsid, &[]), own);
            assert_eq!((child.ok(nr::__NR_getsid, &[0]), child.ok(nr::__NR_getpgid, &[0])), (own, own));
            child.fails(errno::EPERM, nr::__NR_setpgid, &[0, 1]);
            child.spin();
        });
        first.until(|first| first.ok(nr::__NR_getsid, &[pid]) == pid);
        first.fails(errno::EPERM, nr::__NR_setpgid, &[pid, 1]);
        first.kill(pid, nr::SIGKILL).unwrap();
        assert!(first.wait4(-1, 0).is_ok());
    });
}
