//! eventfd(2), timerfd(2), epoll(7).

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;

fn put(guest: &mut Guest, fd: u64, value: u64) -> Result<u64, u32> {
    let at = guest.words(&[value]);
    guest.call(nr::__NR_write, &[fd, at, 8])
}

fn get(guest: &mut Guest, fd: u64) -> Result<u64, u32> {
    let at = guest.room(8);
    guest.call(nr::__NR_read, &[fd, at, 8]).map(|_| guest.word(at))
}

#[test]
fn an_event_counter_adds_up_and_gives_all_or_one() {
    let mut guest = Guest::new();
    let all = guest.ok(nr::__NR_eventfd2, &[3, nr::EFD_NONBLOCK.into()]);
    assert_eq!((put(&mut guest, all, 4), get(&mut guest, all), get(&mut guest, all)), (Ok(8), Ok(7), Err(errno::EAGAIN)));
    assert_eq!(put(&mut guest, all, u64::MAX), Err(errno::EINVAL));
    assert_eq!(put(&mut guest, all, u64::MAX - 1), Ok(8));
    assert_eq!(put(&mut guest, all, 1), Err(errno::EAGAIN));
    let room = guest.room(8);
    guest.fails(errno::EINVAL, nr::__NR_read, &[all, room, 7]);
    guest.fails(errno::EINVAL, nr::__NR_write, &[all, room, 7]);
    guest.fails(errno::EFAULT, nr::__NR_write, &[all, NOWHERE, 8]);
    guest.fails(errno::ESPIPE, nr::__NR_pread64, &[all, room, 8, 0]);
    let one = guest.ok(nr::__NR_eventfd2, &[2, u64::from(nr::EFD_SEMAPHORE | nr::EFD_NONBLOCK)]);
    assert_eq!([get(&mut guest, one), get(&mut guest, one), get(&mut guest, one)], [Ok(1), Ok(1), Err(errno::EAGAIN)]);
    guest.fails(errno::EINVAL, nr::__NR_eventfd2, &[0, 2]);
}

#[test]
fn a_timer_counts_and_ends_a_wait() {
    let mut guest = Guest::new();
    let fd = guest.ok(nr::__NR_timerfd_create, &[nr::CLOCK_MONOTONIC.into(), 0]);
    let (set, now) = (guest.words(&[0, 1_000_000, 0, 1]), guest.room(32));
    guest.ok(nr::__NR_timerfd_settime, &[fd, 0, set, now]);
    assert_eq!(guest.peek(now, 32), [0; 32]);
    assert!(get(&mut guest, fd).unwrap() >= 1);
    let poll = guest.words(&[fd | u64::from(nr::POLLIN) << 32]);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, u64::MAX]), 1, "the host calls in time");
    guest.ok(nr::__NR_timerfd_gettime, &[fd, now]);
    assert_eq!(guest.word(now + 8), 1_000_000);
    let off = guest.words(&[0, 0, 0, 0]);
    guest.ok(nr::__NR_timerfd_settime, &[fd, 0, off, 0]);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, 5]), 0);
    let past = guest.words(&[0, 0, 1, 0]);
    let real = guest.ok(nr::__NR_timerfd_create, &[nr::CLOCK_REALTIME.into(), nr::TFD_NONBLOCK.into()]);
    guest.ok(nr::__NR_timerfd_settime, &[real, nr::TFD_TIMER_ABSTIME.into(), past, 0]);
    assert_eq!((get(&mut guest, real), get(&mut guest, real)), (Ok(1), Err(errno::EAGAIN)));
    let bad = guest.words(&[0, 0, 0, 1_000_000_000]);
    guest.fails(errno::EINVAL, nr::__NR_timerfd_settime, &[fd, 0, bad, 0]);
    guest.fails(errno::EINVAL, nr::__NR_timerfd_settime, &[fd, 8, off, 0]);
    let event = guest.ok(nr::__NR_eventfd, &[0]);
    guest.fails(errno::EINVAL, nr::__NR_timerfd_settime, &[event, 0, off, 0]);
    guest.fails(errno::EINVAL, nr::__NR_timerfd_create, &[99, 0]);
}

/// An epoll set and two counters; events come to a place of their own.
struct Set {
    guest: Guest,
    set: u64,
    fds: [u64; 2],
    events: u64,
}

impl Set {
    fn new() -> Self {
        let mut guest = Guest::new();
        let set = guest.ok(nr::__NR_epoll_create1, &[nr::EPOLL_CLOEXEC.into()]);
        let fds = [(); 2].map(|()| guest.ok(nr::__NR_eventfd2, &[0, nr::EFD_NONBLOCK.into()]));
        let events = guest.room(12 * 8);
        Self { guest, set, fds, events }
    }

    fn control(&mut self, op: u32, fd: u64, bits: u32, data: u64) -> Result<u64, u32> {
        let event = self.guest.bytes(&[&bits.to_le_bytes()[..], &data.to_le_bytes()[..]].concat());
        self.guest.call(nr::__NR_epoll_ctl, &[self.set, op.into(), fd, event])
    }

    /// Events' bits and data; at most eight.
    fn wait(&mut self, most: u64) -> Vec<(u32, u64)> {
        let count = self.guest.ok(nr::__NR_epoll_wait, &[self.set, self.events, most, 0]);
        let at = |index| self.events + 12 * index;
        (0..count).map(|index| (self.guest.half(at(index)), self.guest.word(at(index) + 4))).collect()
    }
}

#[test]
fn level_edge_and_once_tell_as_often_as_they_say() {
    let mut set = Set::new();
    let [level, edge] = set.fds;
    set.control(nr::EPOLL_CTL_ADD, level, nr::EPOLLIN, 1).unwrap();
    set.control(nr::EPOLL_CTL_ADD, edge, nr::EPOLLIN | nr::EPOLLET, 2).unwrap();
    assert_eq!(set.wait(8), []);
    for fd in [level, edge] {
        put(&mut set.guest, fd, 1).unwrap();
    }
    assert_eq!(set.wait(8), [(nr::EPOLLIN, 1), (nr::EPOLLIN, 2)]);
    assert_eq!(set.wait(8), [(nr::EPOLLIN, 1)]);
    put(&mut set.guest, edge, 1).unwrap();
    assert_eq!(set.wait(8), [(nr::EPOLLIN, 1), (nr::EPOLLIN, 2)], "another edge");
    set.control(nr::EPOLL_CTL_MOD, level, nr::EPOLLIN | nr::EPOLLONESHOT, 3).unwrap();
    assert_eq!((set.wait(8), set.wait(8)), (vec![(nr::EPOLLIN, 3)], vec![]));
    set.control(nr::EPOLL_CTL_MOD, level, nr::EPOLLIN | nr::EPOLLOUT, 4).unwrap();
    assert_eq!(set.wait(8), [(nr::EPOLLIN | nr::EPOLLOUT, 4)]);
    get(&mut set.guest, level).unwrap();
    assert_eq!(set.wait(8), [(nr::EPOLLOUT, 4)]);
    set.control(nr::EPOLL_CTL_DEL, level, 0, 0).unwrap();
    assert_eq!(set.wait(8), []);
}

#[test]
fn each_member_has_its_turn_and_goes_with_its_file() {
    let mut set = Set::new();
    for (data, fd) in [1, 2].into_iter().zip(set.fds) {
        put(&mut set.guest, fd, 1).unwrap();
        set.control(nr::EPOLL_CTL_ADD, fd, nr::EPOLLIN, data).unwrap();
    }
    let turns: Vec<_> = (0..4).flat_map(|_| set.wait(1)).map(|(_, data)| data).collect();
    assert_eq!(turns, [1, 2, 1, 2]);
    let [first, second] = set.fds;
    let copy = set.guest.ok(nr::__NR_dup, &[first]);
    set.guest.ok(nr::__NR_close, &[first]);
    assert_eq!(set.wait(8).len(), 2, "another descriptor keeps the file");
    set.guest.ok(nr::__NR_close, &[copy]);
    assert_eq!(set.wait(8), [(nr::EPOLLIN, 2)]);
    assert_eq!(set.control(nr::EPOLL_CTL_ADD, second, nr::EPOLLIN, 0), Err(errno::EEXIST));
    assert_eq!(set.control(nr::EPOLL_CTL_DEL, first, 0, 0), Err(errno::EBADF));
}

#[test]
fn sets_go_into_sets_but_not_into_themselves() {
    let mut set = Set::new();
    let [fd, other] = set.fds;
    let own = set.set;
    assert_eq!(set.control(nr::EPOLL_CTL_ADD, own, nr::EPOLLIN, 0), Err(errno::EINVAL));
    let outer = set.guest.ok(nr::__NR_epoll_create1, &[0]);
    set.control(nr::EPOLL_CTL_ADD, fd, nr::EPOLLIN, 1).unwrap();
    let inner = core::mem::replace(&mut set.set, outer);
    set.control(nr::EPOLL_CTL_ADD, inner, nr::EPOLLIN, 2).unwrap();
    assert_eq!(set.wait(8), []);
    put(&mut set.guest, fd, 1).unwrap();
    assert_eq!(set.wait(8), [(nr::EPOLLIN, 2)]);
    set.set = inner;
    assert_eq!(set.control(nr::EPOLL_CTL_ADD, outer, nr::EPOLLIN, 0), Err(errno::ELOOP));
    assert_eq!(set.control(nr::EPOLL_CTL_ADD, other, nr::EPOLLIN | nr::EPOLLEXCLUSIVE, 0), Ok(0));
    assert_eq!(set.control(nr::EPOLL_CTL_MOD, other, nr::EPOLLIN, 0), Err(errno::EINVAL));
    // From the top down and from the bottom up, a chain has five sets and no sixth.
    for downwards in [true, false] {
        let sets: Vec<_> = (0..6).map(|_| set.guest.ok(nr::__NR_epoll_create1, &[0])).collect();
        let mut pairs: Vec<_> = sets.windows(2).map(|pair| (pair[0], pair[1])).collect();
        if !downwards {
            pairs.reverse();
        }
        let mut results = Vec::new();
        for (outer, inner) in pairs {
            set.set = outer;
            results.push(set.control(nr::EPOLL_CTL_ADD, inner, nr::EPOLLIN, 0));
        }
        assert_eq!(results, [Ok(0), Ok(0), Ok(0), Ok(0), Err(errno::ELOOP)]);
    }
}

#[test]
fn a_set_refuses_what_cannot_be_waited_for() {
    let mut set = Set::new();
    set.guest.file("/file", b"");
    let file = set.guest.open("/file", nr::O_RDONLY);
    assert_eq!(set.control(nr::EPOLL_CTL_ADD, file, nr::EPOLLIN, 0), Err(errno::EPERM));
    assert_eq!(set.control(nr::EPOLL_CTL_ADD, 99, nr::EPOLLIN, 0), Err(errno::EBADF));
    let [fd, other] = set.fds;
    assert_eq!(set.control(nr::EPOLL_CTL_MOD, fd, nr::EPOLLIN, 0), Err(errno::ENOENT));
    assert_eq!(set.control(9, fd, nr::EPOLLIN, 0), Err(errno::EINVAL));
    let (own, events) = (set.set, set.events);
    set.guest.fails(errno::EFAULT, nr::__NR_epoll_ctl, &[own, nr::EPOLL_CTL_ADD.into(), fd, 0]);
    set.guest.fails(errno::EINVAL, nr::__NR_epoll_ctl, &[other, nr::EPOLL_CTL_ADD.into(), fd, events]);
    set.guest.fails(errno::EINVAL, nr::__NR_epoll_wait, &[own, events, 0, 0]);
    set.guest.fails(errno::EINVAL, nr::__NR_epoll_wait, &[fd, events, 1, 0]);
    set.guest.fails(errno::EINVAL, nr::__NR_epoll_create, &[0]);
    assert_eq!(set.guest.ok(nr::__NR_epoll_pwait, &[own, events, 1, 5, 0, 0]), 0);
}

#[test]
fn signals_are_read_and_polled_for() {
    let mut guest = Guest::new();
    guest.begin();
    let set = guest.words(&[1 << (nr::SIGUSR1 - 1)]);
    guest.ok(nr::__NR_rt_sigprocmask, &[nr::SIG_BLOCK.into(), set, 0, 8]);
    let fd = guest.ok(nr::__NR_signalfd4, &[u64::MAX, set, 8, nr::O_NONBLOCK.into()]);
    let (room, pid) = (guest.room(256), u64::from(guest.task.process().pid()));
    let poll = guest.words(&[fd | u64::from(nr::POLLIN) << 32]);
    guest.fails(errno::EAGAIN, nr::__NR_read, &[fd, room, 256]);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, 0]), 0);
    guest.ok(nr::__NR_kill, &[pid, nr::SIGUSR1.into()]);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, u64::MAX]), 1);
    assert_eq!(guest.ok(nr::__NR_read, &[fd, room, 256]), 128);
    assert_eq!((guest.half(room), u64::from(guest.half(room + 12))), (nr::SIGUSR1, pid));
    guest.fails(errno::EINVAL, nr::__NR_read, &[fd, room, 127]);
    guest.ok(nr::__NR_kill, &[pid, nr::SIGUSR1.into()]);
    let other = guest.words(&[1 << (nr::SIGUSR2 - 1)]);
    assert_eq!(guest.ok(nr::__NR_signalfd4, &[fd, other, 8, 0]), fd);
    guest.fails(errno::EAGAIN, nr::__NR_read, &[fd, room, 256]);
    let event = guest.ok(nr::__NR_eventfd, &[0]);
    guest.fails(errno::EINVAL, nr::__NR_signalfd4, &[event, other, 8, 0]);
    guest.fails(errno::EINVAL, nr::__NR_signalfd4, &[u64::MAX, other, 4, 0]);
}

#[test]
fn an_edge_is_told_to_the_end_that_it_concerns() {
    let mut set = Set::new();
    let page = 4096u64;
    let (pipe, buffer) = (set.guest.room(8), set.guest.room(4096));
    set.guest.ok(nr::__NR_pipe2, &[pipe, nr::O_NONBLOCK.into()]);
    let [read, write] = [set.guest.half(pipe).into(), set.guest.half(pipe + 4).into()];
    set.guest.ok(nr::__NR_fcntl, &[write, nr::F_SETPIPE_SZ.into(), page]);
    set.control(nr::EPOLL_CTL_ADD, read, nr::EPOLLIN | nr::EPOLLET, 1).unwrap();
    set.control(nr::EPOLL_CTL_ADD, write, nr::EPOLLOUT | nr::EPOLLET, 2).unwrap();
    assert_eq!(set.wait(8), [(nr::EPOLLOUT, 2)]);
    set.guest.ok(nr::__NR_write, &[write, buffer, page]);
    assert_eq!(set.wait(8), [(nr::EPOLLIN, 1)]);
    set.guest.ok(nr::__NR_read, &[read, buffer, page / 2]);
    assert_eq!(set.wait(8), [], "the only page is still in use");
    set.guest.ok(nr::__NR_read, &[read, buffer, page / 2]);
    assert_eq!(set.wait(8), [(nr::EPOLLOUT, 2)]);
    set.guest.ok(nr::__NR_write, &[write, buffer, 1]);
    set.guest.ok(nr::__NR_read, &[read, buffer, 1]);
    assert_eq!(set.wait(8), [(nr::EPOLLOUT, 2)], "a byte uses the page, too; that it is empty again is no edge");
}
