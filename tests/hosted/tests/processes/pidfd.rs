//! Descriptors of processes.

use crate::carrier::{Flag, Thread, errno, run};
use linux_raw_sys::general as nr;

/// What poll(2) says of a descriptor, at once.
fn ready(thread: &mut Thread, fd: u64) -> u32 {
    let at = thread.words(&[fd | u64::from(nr::POLLIN) << 32]);
    thread.ok(nr::__NR_poll, &[at, 1, 0]);
    thread.half(at + 4) >> 16
}

#[test]
fn a_descriptor_follows_its_process_to_the_end() {
    run(|first| {
        let may_end = Flag::default();
        let end = may_end.clone();
        let place = first.words(&[0]);
        first.next_child(move |child| {
            end.wait();
            child.spin();
        });
        let flags = u64::from(nr::CLONE_PIDFD | nr::SIGCHLD);
        let pid = first.ok(nr::__NR_clone, &[flags, 0, place, 0, 0]);
        let fd = u64::from(first.half(place));
        assert_eq!(first.ok(nr::__NR_fcntl, &[fd, nr::F_GETFD.into(), 0]), u64::from(nr::FD_CLOEXEC));
        let other = first.ok(nr::__NR_pidfd_open, &[pid, nr::O_NONBLOCK.into()]);
        assert_eq!(ready(first, fd), 0);
        let (which, options) = (u64::from(nr::P_PIDFD), u64::from(nr::WEXITED));
        first.fails(errno::EAGAIN, nr::__NR_waitid, &[which, other, 0, options, 0]);
        may_end.raise();
        first.ok(nr::__NR_pidfd_send_signal, &[fd, 0, 0, 0]);
        first.ok(nr::__NR_pidfd_send_signal, &[fd, nr::SIGTERM.into(), 0, 0]);
        let at = first.words(&[fd | u64::from(nr::POLLIN) << 32]);
        assert_eq!(first.ok(nr::__NR_poll, &[at, 1, u64::MAX]), 1, "its end ends the wait");
        assert_eq!(ready(first, fd), nr::POLLIN);
        let info = first.room(128);
        first.ok(nr::__NR_waitid, &[which, fd, info, options, 0]);
        assert_eq!((first.half(info + 8), first.half(info + 24)), (nr::CLD_KILLED, nr::SIGTERM));
        assert_eq!(ready(first, fd), nr::POLLIN | nr::POLLHUP);
        first.fails(errno::ESRCH, nr::__NR_pidfd_send_signal, &[fd, 0, 0, 0]);
        first.fails(errno::ECHILD, nr::__NR_waitid, &[which, fd, 0, options, 0]);
    });
}

#[test]
fn what_is_no_process_has_no_descriptor() {
    run(|first| {
        let word = first.words(&[0]);
        let tid = first.thread(word, |thread| thread.spin());
        for (pid, flags, error) in [
            (0, 0, errno::EINVAL),
            (u64::MAX, 0, errno::EINVAL),
            (99, 0, errno::ESRCH),
            (tid, 0, errno::ENOENT),
            (1, 1, errno::EINVAL),
        ] {
            first.fails(error, nr::__NR_pidfd_open, &[pid, flags]);
        }
        let fds = first.room(8);
        first.ok(nr::__NR_pipe2, &[fds, 0]);
        let pipe = u64::from(first.half(fds));
        first.fails(errno::EBADF, nr::__NR_pidfd_send_signal, &[pipe, 0, 0, 0]);
        first.fails(errno::EBADF, nr::__NR_waitid, &[nr::P_PIDFD.into(), pipe, 0, nr::WEXITED.into(), 0]);
        let own = first.ok(nr::__NR_pidfd_open, &[2, 0]);
        first.fails(errno::EINVAL, nr::__NR_pidfd_send_signal, &[own, 65, 0, 0]);
        first.fails(errno::EINVAL, nr::__NR_pidfd_send_signal, &[own, 0, 0, 3]);
        first.fails(errno::EINVAL, nr::__NR_pidfd_send_signal, &[own, 0, 0, 8]);
        let info = first.words(&[nr::SIGUSR1.into(), 0]);
        first.fails(errno::EINVAL, nr::__NR_pidfd_send_signal, &[own, nr::SIGUSR2.into(), info, 0]);
    });
}

#[test]
fn a_descriptor_can_be_of_a_thread() {
    const PIDFD_THREAD: u64 = nr::O_EXCL as u64;
    run(|first| {
        let word = first.words(&[0]);
        let may_end = Flag::default();
        let end = may_end.clone();
        let tid = first.thread(word, move |_| end.wait());
        let fd = first.ok(nr::__NR_pidfd_open, &[tid, PIDFD_THREAD]);
        assert_eq!(ready(first, fd), 0);
        first.ok(nr::__NR_pidfd_send_signal, &[fd, 0, 0, 0]);
        may_end.raise();
        first.join(word);
        first.until(|first| ready(first, fd) == nr::POLLIN | nr::POLLHUP);
        first.fails(errno::ESRCH, nr::__NR_pidfd_send_signal, &[fd, nr::SIGUSR1.into(), 0, 0]);
    });
}

#[test]
fn a_file_is_had_of_another_process() {
    run(|first| {
        let fds = first.room(8);
        first.ok(nr::__NR_pipe2, &[fds, 0]);
        let (reading, writing) = (u64::from(first.half(fds)), u64::from(first.half(fds + 4)));
        let pid = first.fork(|child| child.spin());
        let own = first.ok(nr::__NR_pidfd_open, &[pid, 0]);
        first.ok(nr::__NR_close, &[writing]);
        let back = first.ok(nr::__NR_pidfd_getfd, &[own, writing, 0]);
        assert_eq!(first.ok(nr::__NR_fcntl, &[back, nr::F_GETFD.into(), 0]), u64::from(nr::FD_CLOEXEC));
        assert_eq!(first.ok(nr::__NR_write, &[back, fds, 1]), 1);
        first.fails(errno::EBADF, nr::__NR_pidfd_getfd, &[own, 99, 0]);
        first.fails(errno::EINVAL, nr::__NR_pidfd_getfd, &[own, writing, 1]);
        first.fails(errno::EBADF, nr::__NR_pidfd_getfd, &[reading, writing, 0]);
        first.kill(pid, nr::SIGKILL).unwrap();
        first.wait4(-1, 0).unwrap();
        first.fails(errno::ESRCH, nr::__NR_pidfd_getfd, &[own, writing, 0]);
    });
}

#[test]
fn a_child_that_is_not_born_leaves_no_descriptor() {
    run(|first| {
        let flags = u64::from(nr::CLONE_PIDFD | nr::SIGCHLD);
        first.next_child(|_| unreachable!());
        first.fails(errno::EFAULT, nr::__NR_clone, &[flags, 0, 8, 0, 0]);
        first.sterilise();
        let place = first.words(&[0]);
        first.fails(errno::EAGAIN, nr::__NR_clone, &[flags, 0, place, 0, 0]);
        first.fails(errno::EBADF, nr::__NR_fcntl, &[0, nr::F_GETFD.into(), 0]);
        assert_eq!(first.wait4(-1, 0), Err(errno::ECHILD));
    });
}
