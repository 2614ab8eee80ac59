//! Job control: stopping and going on, groups and sessions.

use crate::carrier::{Flag, HANDLER, Thread, errno, run};
use linux_raw_sys::general as nr;
use linux_raw_sys::ioctl::{TCGETS, TCSETS, TIOCGPGRP, TIOCSCTTY, TIOCSPGRP};
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::fd_table::{Fd, FdFlags};
use litebox_core::fs::file::File;
use litebox_core::fs::types::{DeviceId, OFlags, Uid};
use litebox_core::tty::devpts::Terminals;
use litebox_platform_hosted::Hosted;
use litebox_shim_linux::task::Sandbox;
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
        let child = sandbox.process(3).unwrap();
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
        first.ok(nr::__NR_setpgid, &[pid, 2]);
        may_end.raise();
        assert!(first.wait4(-1, 0).is_ok());
        let pid = first.fork(|child| {
            let own = child.getpid();
            assert_eq!(child.ok(nr::__NR_setsid, &[]), own);
            assert_eq!((child.ok(nr::__NR_getsid, &[0]), child.ok(nr::__NR_getpgid, &[0])), (own, own));
            child.fails(errno::EPERM, nr::__NR_setpgid, &[0, 2]);
            child.spin();
        });
        first.until(|first| first.ok(nr::__NR_getsid, &[pid]) == pid);
        first.fails(errno::EPERM, nr::__NR_setpgid, &[pid, 2]);
        first.kill(pid, nr::SIGKILL).unwrap();
        assert!(first.wait4(-1, 0).is_ok());
    });
}

/// A pair whose slave is descriptor 0 and, with the program in the foreground, its session's terminal; gives the master's descriptor.
fn on_terminal(first: &mut Thread) -> u64 {
    let terminals = Terminals::<Hosted>::new(
        first.task.sandbox().quota(),
        DeviceId { major: 0, minor: 8 },
        Arc::<Sandbox<Hosted>>::downgrade(first.task.sandbox()),
    );
    let master = terminals.open_master(Uid(0)).unwrap();
    master.pair().set_locked(false);
    let node = terminals.node(master.pair());
    let slave = Arc::clone(&node).open(OFlags::empty()).unwrap();
    let add = |ops, number| {
        let flags = OFlags::READ | OFlags::WRITE | OFlags::NONBLOCK;
        let file = File::new(Dentry::detached(Arc::clone(&node), b"/dev/pts/0"), ops, flags);
        u64::from(first.task.files().insert(file, FdFlags::empty(), Fd(number), 64).unwrap().0)
    };
    assert_eq!(add(slave, 0), 0);
    let master = add(master, 9);
    first.ok(nr::__NR_ioctl, &[0, TIOCSCTTY.into(), 0]);
    master
}

#[test]
fn who_uses_a_terminal_from_the_background_is_stopped() {
    run(|first| {
        on_terminal(first);
        let (room, settings) = (first.room(64), first.room(64));
        first.ok(nr::__NR_ioctl, &[0, TCGETS.into(), settings]);
        for (signal, number, args) in [
            (nr::SIGTTIN, nr::__NR_read, [0, room, 1]),
            (nr::SIGTTOU, nr::__NR_ioctl, [0, TCSETS.into(), settings]),
            (nr::SIGTTOU, nr::__NR_ioctl, [0, TIOCSPGRP.into(), room]),
        ] {
            let pid = first.fork(move |job| {
                job.ok(nr::__NR_setpgid, &[0, 0]);
                let _ = job.call(number, &args);
            });
            assert_eq!(first.wait4(-1, nr::WUNTRACED), Ok((pid, stopped(signal))));
            first.kill(pid, nr::SIGKILL).unwrap();
            assert_eq!(first.wait4(-1, 0), Ok((pid, nr::SIGKILL)));
        }
        let pid = first.fork(move |job| {
            job.ok(nr::__NR_setpgid, &[0, 0]);
            job.mask(&[nr::SIGTTIN, nr::SIGTTOU]);
            job.fails(errno::EIO, nr::__NR_read, &[0, room, 1]);
            job.ok(nr::__NR_write, &[0, room, 1]);
            let own = job.getpid();
            job.poke(room, &own.to_le_bytes());
            job.ok(nr::__NR_ioctl, &[0, TIOCSPGRP.into(), room]);
            job.fails(errno::EAGAIN, nr::__NR_read, &[0, room, 1]);
        });
        assert_eq!(first.wait4(-1, nr::WUNTRACED), Ok((pid, 0)));
    });
}

#[test]
fn a_leader_s_end_hangs_up_on_the_foreground_and_a_hang_up_on_the_leader() {
    run(|first| {
        let master = on_terminal(first);
        let (room, ready) = (first.room(64), Flag::default());
        let (raise, done) = (ready.clone(), Flag::default());
        let told = done.clone();
        let leader = first.fork(move |leader| {
            leader.ok(nr::__NR_setsid, &[]);
            leader.fails(errno::ENOTTY, nr::__NR_ioctl, &[0, TIOCGPGRP.into(), room]);
            leader.ok(nr::__NR_ioctl, &[0, TIOCSCTTY.into(), 1]);
            leader.fork(move |job| {
                job.action(nr::SIGHUP, HANDLER, 0);
                raise.raise();
                job.until(|job| job.handled == [nr::SIGHUP]);
                told.raise();
            });
            ready.wait();
        });
        assert_eq!(first.wait4(-1, 0), Ok((leader, 0)));
        done.wait();
        first.fails(errno::ENOTTY, nr::__NR_ioctl, &[0, TIOCGPGRP.into(), room]);
        first.ok(nr::__NR_ioctl, &[0, TIOCSCTTY.into(), 0]);
        first.action(nr::SIGHUP, HANDLER, 0);
        first.ok(nr::__NR_close, &[master]);
        first.until(|first| first.handled == [nr::SIGHUP]);
        first.fails(errno::EIO, nr::__NR_ioctl, &[0, TIOCGPGRP.into(), room]);
        first.fails(errno::ENOTTY, nr::__NR_ioctl, &[0, TIOCSPGRP.into(), room]);
        assert!(first.task.process().terminal().is_none());
    });
}
