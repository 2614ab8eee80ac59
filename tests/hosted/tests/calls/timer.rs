//! `timer_create(2)`, and timers that end waits.

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;

/// A handler for a signal, so that the task goes on.
fn handle(guest: &mut Guest, signal: u32) {
    let action = guest.words(&[0x1000, 0x0400_0000, 0x1000, 0]);
    guest.ok(nr::__NR_rt_sigaction, &[signal.into(), action, 0, 8]);
}

#[test]
fn an_alarm_ends_a_wait_that_nothing_else_does() {
    let mut guest = Guest::new();
    guest.begin();
    handle(&mut guest, nr::SIGALRM);
    // Again and again: the first may come before the wait.
    let soon = guest.words(&[0, 10_000, 0, 10_000]);
    guest.ok(nr::__NR_setitimer, &[0, soon, 0]);
    assert!(guest.interrupted(nr::__NR_pause, &[]));
}

#[test]
fn a_timer_tells_its_value_and_what_was_missed() {
    let mut guest = Guest::new();
    guest.begin();
    let signal = nr::SIGUSR1;
    let blocked = guest.words(&[1 << (signal - 1)]);
    guest.ok(nr::__NR_rt_sigprocmask, &[nr::SIG_BLOCK.into(), blocked, 0, 8]);
    let event = guest.words(&[0x1234_5678_9abc, signal.into(), 0, 0, 0, 0, 0, 0]);
    let (first, second, info) = (guest.room(4), guest.room(4), guest.room(128));
    guest.ok(nr::__NR_timer_create, &[nr::CLOCK_MONOTONIC.into(), event, first]);
    guest.ok(nr::__NR_timer_create, &[nr::CLOCK_REALTIME.into(), event, second]);
    let (id, other) = (guest.half(first).into(), guest.half(second).into());
    assert_ne!(id, other);
    let often = guest.words(&[0, 1_000_000, 0, 1]);
    guest.ok(nr::__NR_timer_settime, &[id, 0, often, 0]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.ok(nr::__NR_rt_sigtimedwait, &[blocked, info, 0, 8]), signal.into());
    assert_eq!((guest.half(info + 8), guest.half(info + 16), guest.word(info + 24)), (-2i32 as u32, 0, 0x1234_5678_9abc));
    assert_eq!(guest.ok(nr::__NR_rt_sigtimedwait, &[blocked, info, 0, 8]), signal.into());
    assert!(guest.half(info + 20) >= 10 && guest.ok(nr::__NR_timer_getoverrun, &[id]) >= 10);
    guest.ok(nr::__NR_timer_gettime, &[id, info]);
    assert_eq!(guest.word(info + 8), 1_000_000);
    guest.ok(nr::__NR_timer_delete, &[id]);
    guest.fails(errno::EINVAL, nr::__NR_timer_gettime, &[id, info]);
    guest.fails(errno::EINVAL, nr::__NR_timer_settime, &[id, 0, often, 0]);
    guest.fails(errno::EFAULT, nr::__NR_timer_create, &[nr::CLOCK_MONOTONIC.into(), event, NOWHERE]);
    guest.fails(errno::EINVAL, nr::__NR_timer_create, &[99, event, first]);
    let bad = guest.words(&[0, 65, 0, 0, 0, 0, 0, 0]);
    guest.fails(errno::EINVAL, nr::__NR_timer_create, &[nr::CLOCK_MONOTONIC.into(), bad, first]);
    let thread = guest.words(&[0, u64::from(signal) | 4 << 32, 999, 0, 0, 0, 0, 0]);
    guest.fails(errno::EINVAL, nr::__NR_timer_create, &[nr::CLOCK_MONOTONIC.into(), thread, first]);
}
