//! poll(2), select(2), sigtimedwait(2).

use crate::guest::{Guest, errno};
use linux_raw_sys::general as nr;

/// Descriptors 0 and 1: a pipe's ends.
fn with_pipe() -> Guest {
    let mut guest = Guest::new();
    let fds = guest.room(8);
    guest.ok(nr::__NR_pipe, &[fds]);
    guest
}

/// An array of `struct pollfd`.
fn pollfds(guest: &mut Guest, list: &[(i32, u32)]) -> u64 {
    let bytes: Vec<u8> = list.iter().flat_map(|(fd, events)| [fd.to_le_bytes(), events.to_le_bytes()].concat()).collect();
    guest.bytes(&bytes)
}

fn revents(guest: &Guest, at: u64, index: u64) -> u32 {
    guest.half(at + 8 * index + 4) >> 16
}

#[test]
fn poll_tells_of_each_descriptor_what_was_asked() {
    let mut guest = with_pipe();
    let list = [(0, nr::POLLIN), (1, nr::POLLOUT | nr::POLLWRNORM), (-1, nr::POLLIN), (9, 0)];
    let fds = pollfds(&mut guest, &list);
    assert_eq!(guest.ok(nr::__NR_poll, &[fds, 4, 0]), 2);
    let all: Vec<_> = (0..4).map(|index| revents(&guest, fds, index)).collect();
    assert_eq!(all, [0, nr::POLLOUT | nr::POLLWRNORM, 0, nr::POLLNVAL]);
    let text = guest.bytes(b"x");
    guest.ok(nr::__NR_write, &[1, text, 1]);
    assert_eq!(guest.ok(nr::__NR_poll, &[fds, 1, u64::MAX]), 1);
    guest.ok(nr::__NR_close, &[1]);
    assert_eq!(guest.ok(nr::__NR_poll, &[fds, 1, u64::MAX]), 1);
    assert_eq!(revents(&guest, fds, 0), nr::POLLIN | nr::POLLHUP);
    guest.fails(errno::EINVAL, nr::__NR_poll, &[fds, 1025, 0]);
    guest.fails(errno::EFAULT, nr::__NR_poll, &[8, 1, 0]);
}

#[test]
fn a_wait_ends_at_its_time_and_ppoll_tells_what_is_left() {
    let mut guest = with_pipe();
    let fds = pollfds(&mut guest, &[(0, nr::POLLIN)]);
    assert_eq!(guest.ok(nr::__NR_poll, &[fds, 1, 5]), 0);
    let time = guest.words(&[0, 2_000_000]);
    assert_eq!(guest.ok(nr::__NR_ppoll, &[fds, 1, time, 0, 0]), 0);
    assert_eq!((guest.word(time), guest.word(time + 8)), (0, 0));
    let ready = pollfds(&mut guest, &[(1, nr::POLLOUT)]);
    let time = guest.words(&[100, 0]);
    assert_eq!(guest.ok(nr::__NR_ppoll, &[ready, 1, time, 0, 0]), 1);
    assert_eq!(guest.word(time), 99);
    guest.fails(errno::EINVAL, nr::__NR_ppoll, &[ready, 1, 0, time, 4]);
}

#[test]
fn a_write_from_another_thread_ends_a_poll() {
    let mut guest = with_pipe();
    let fds = pollfds(&mut guest, &[(0, nr::POLLIN)]);
    let (writer, text) = (std::sync::Arc::clone(guest.task.process()), [7u8]);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let file = writer.files().get(litebox_core::fs::fd_table::Fd(1)).unwrap();
            assert_eq!(file.write(&mut litebox_core::fs::io::IoSrc::kernel(&text)).unwrap(), 1);
        });
        assert_eq!(guest.ok(nr::__NR_poll, &[fds, 1, u64::MAX]), 1);
    });
    assert_eq!(revents(&guest, fds, 0), nr::POLLIN);
}

#[test]
fn select_counts_bits_and_refuses_what_is_not_open() {
    let mut guest = with_pipe();
    let (read, write, time) = (guest.words(&[0b11, 0]), guest.words(&[0b11, 0]), guest.words(&[0, 0]));
    assert_eq!(guest.ok(nr::__NR_select, &[2, read, write, 0, time]), 1);
    assert_eq!((guest.word(read), guest.word(write)), (0, 0b10));
    let text = guest.bytes(b"x");
    guest.ok(nr::__NR_write, &[1, text, 1]);
    let read = guest.words(&[0b1, 0]);
    assert_eq!(guest.ok(nr::__NR_pselect6, &[64, read, write, 0, 0, 0]), 2);
    let bad = guest.words(&[0b100]);
    guest.fails(errno::EBADF, nr::__NR_select, &[3, bad, 0, 0, time]);
    assert_eq!(guest.ok(nr::__NR_select, &[2, bad, 0, 0, time]), 0, "past the count nothing is looked at");
    guest.fails(errno::EINVAL, nr::__NR_select, &[u64::MAX, read, 0, 0, 0]);
    let wrong = guest.words(&[0, u64::MAX]);
    guest.fails(errno::EINVAL, nr::__NR_select, &[0, 0, 0, 0, wrong]);
}

#[test]
fn a_blocked_signal_is_taken_and_one_that_is_not_ends_waits() {
    let mut guest = with_pipe();
    let blocked = guest.words(&[1 << (nr::SIGUSR1 - 1)]);
    guest.ok(nr::__NR_rt_sigprocmask, &[nr::SIG_BLOCK.into(), blocked, 0, 8]);
    let (info, soon) = (guest.room(128), guest.words(&[0, 1_000_000]));
    guest.fails(errno::EAGAIN, nr::__NR_rt_sigtimedwait, &[blocked, info, soon, 8]);
    let tid = guest.task.tid().into();
    guest.ok(nr::__NR_tkill, &[tid, nr::SIGUSR1.into()]);
    assert_eq!(guest.ok(nr::__NR_rt_sigtimedwait, &[blocked, info, soon, 8]), nr::SIGUSR1.into());
    assert_eq!(guest.half(info), nr::SIGUSR1);
    guest.fails(errno::EINVAL, nr::__NR_rt_sigtimedwait, &[blocked, info, soon, 4]);
    // With a handler, so that the task goes on.
    let action = guest.words(&[0x1000, 0x0400_0000, 0x1000, 0]);
    guest.ok(nr::__NR_rt_sigaction, &[nr::SIGUSR1.into(), action, 0, 8]);
    guest.ok(nr::__NR_tkill, &[tid, nr::SIGUSR1.into()]);
    let none = guest.words(&[0]);
    let fds = pollfds(&mut guest, &[(0, nr::POLLIN)]);
    let mask = |guest: &mut Guest| {
        let at = guest.room(8);
        guest.ok(nr::__NR_rt_sigprocmask, &[0, 0, at, 8]);
        guest.word(at)
    };
    assert!(guest.interrupted(nr::__NR_ppoll, &[fds, 1, 0, none, 8]));
    assert_ne!(mask(&mut guest) & 1 << (nr::SIGUSR1 - 1), 0, "the handler runs with its own signal blocked");
    guest.ok(nr::__NR_tkill, &[tid, nr::SIGUSR1.into()]);
    assert!(guest.interrupted(nr::__NR_rt_sigsuspend, &[none, 8]));
}
