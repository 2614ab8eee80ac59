//! futex(2), setitimer(2).

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;

const PRIVATE: u32 = nr::FUTEX_PRIVATE_FLAG;

fn futex(guest: &mut Guest, op: u32, args: [u64; 5]) -> Result<u64, u32> {
    let [word, value, timeout, word2, value3] = args;
    guest.call(nr::__NR_futex, &[word, op.into(), value, timeout, word2, value3])
}

#[test]
fn a_wait_ends_by_its_value_its_address_or_its_time() {
    let mut guest = Guest::new();
    let word = guest.words(&[7]);
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT | PRIVATE, [word, 8, 0, 0, 0]), Err(errno::EAGAIN));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT | PRIVATE, [word + 1, 7, 0, 0, 0]), Err(errno::EINVAL));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT | PRIVATE, [NOWHERE, 7, 0, 0, 0]), Err(errno::EFAULT));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT, [NOWHERE, 7, 0, 0, 0]), Err(errno::EFAULT));
    let soon = guest.words(&[0, 1_000_000]);
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT | PRIVATE, [word, 7, soon, 0, 0]), Err(errno::ETIMEDOUT));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT, [word, 7, soon, 0, 0]), Err(errno::ETIMEDOUT));
    let past = guest.words(&[0, 0]);
    let realtime = nr::FUTEX_WAIT_BITSET | PRIVATE | nr::FUTEX_CLOCK_REALTIME;
    assert_eq!(futex(&mut guest, realtime, [word, 7, past, 0, 1]), Err(errno::ETIMEDOUT));
    assert_eq!(futex(&mut guest, realtime, [word, 7, past, 0, 0]), Err(errno::EINVAL));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT | nr::FUTEX_CLOCK_REALTIME, [word, 7, past, 0, 0]), Err(errno::ENOSYS));
    let bad = guest.words(&[0, 1_000_000_000]);
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT, [word, 7, bad, 0, 0]), Err(errno::EINVAL));
}

#[test]
fn wakes_and_requeues_count_nobody_where_nobody_waits() {
    let mut guest = Guest::new();
    let (word, other) = (guest.words(&[1]), guest.words(&[2]));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAKE | PRIVATE, [word, 1, 0, 0, 0]), Ok(0));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAKE_BITSET, [word, 1, 0, 0, 0]), Err(errno::EINVAL));
    assert_eq!(futex(&mut guest, nr::FUTEX_CMP_REQUEUE | PRIVATE, [word, 1, 1, other, 1]), Ok(0));
    assert_eq!(futex(&mut guest, nr::FUTEX_CMP_REQUEUE | PRIVATE, [word, 1, 1, other, 2]), Err(errno::EAGAIN));
    assert_eq!(futex(&mut guest, nr::FUTEX_REQUEUE, [word, u64::MAX, 1, other, 0]), Err(errno::EINVAL));
    for op in [nr::FUTEX_LOCK_PI, nr::FUTEX_WAKE_OP, 99] {
        assert_eq!(futex(&mut guest, op, [word, 1, 0, other, 0]), Err(errno::ENOSYS));
    }
}

#[test]
fn a_timer_rings_and_says_what_is_left() {
    let mut guest = Guest::new();
    let (new, old) = (guest.words(&[0, 0, 100, 0]), guest.room(32));
    guest.ok(nr::__NR_setitimer, &[0, new, old]);
    assert_eq!(guest.peek(old, 32), [0; 32]);
    guest.ok(nr::__NR_getitimer, &[0, old]);
    assert_eq!((guest.word(old), guest.word(old + 16)), (0, 99), "a hundred seconds less a little");
    assert_eq!(guest.ok(nr::__NR_alarm, &[0]), 100);
    assert_eq!(guest.ok(nr::__NR_alarm, &[0]), 0);
    guest.fails(errno::EINVAL, nr::__NR_setitimer, &[1, new, old]);
    // Blocked, so that it stays where the test can see it.
    let (blocked, pending) = (guest.words(&[1 << (nr::SIGALRM - 1)]), guest.room(8));
    guest.ok(nr::__NR_rt_sigprocmask, &[nr::SIG_BLOCK.into(), blocked, 0, 8]);
    let soon = guest.words(&[0, 0, 0, 1]);
    guest.ok(nr::__NR_setitimer, &[0, soon, 0]);
    while guest.word(pending) == 0 {
        guest.ok(nr::__NR_rt_sigpending, &[pending, 8]);
    }
    assert_eq!(guest.word(pending), 1 << (nr::SIGALRM - 1));
}
