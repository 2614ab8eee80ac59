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
    // Nobody looks at a word that only this process has; what others may share must be there.
    assert_eq!(futex(&mut guest, nr::FUTEX_WAKE | PRIVATE, [NOWHERE, 1, 0, 0, 0]), Ok(0));
    guest.ok(nr::__NR_mprotect, &[other & !0xfff, 4096, nr::PROT_NONE.into()]);
    assert_eq!(futex(&mut guest, nr::FUTEX_WAKE, [other, 1, 0, 0, 0]), Err(errno::EFAULT));
    assert_eq!(futex(&mut guest, nr::FUTEX_CMP_REQUEUE, [other, 1, 1, other, 2]), Err(errno::EFAULT));
    assert_eq!(futex(&mut guest, 99, [word, 1, 0, other, 0]), Err(errno::ENOSYS));
}

/// A word of 32 bits, low half of a guest's word of 64.
fn value(guest: &Guest, at: u64) -> u32 {
    u32::from_le_bytes(guest.peek(at, 4).try_into().unwrap())
}

#[test]
fn a_word_has_its_owner_until_that_lets_it_go() {
    let mut guest = Guest::new();
    let me = u32::try_from(guest.ok(nr::__NR_gettid, &[])).unwrap();
    let word = guest.words(&[0]);
    assert_eq!(futex(&mut guest, nr::FUTEX_UNLOCK_PI, [word, 0, 0, 0, 0]), Err(errno::EPERM));
    assert_eq!(futex(&mut guest, nr::FUTEX_LOCK_PI, [word, 0, 0, 0, 0]), Ok(0));
    assert_eq!(value(&guest, word), me);
    for op in [nr::FUTEX_LOCK_PI, nr::FUTEX_LOCK_PI2, nr::FUTEX_TRYLOCK_PI] {
        assert_eq!(futex(&mut guest, op, [word, 0, 0, 0, 0]), Err(errno::EDEADLK));
    }
    assert_eq!(futex(&mut guest, nr::FUTEX_UNLOCK_PI, [word, 0, 0, 0, 0]), Ok(0));
    assert_eq!(value(&guest, word), 0);
    let dead = guest.words(&[0x3fff_0000]);
    assert_eq!(futex(&mut guest, nr::FUTEX_LOCK_PI, [dead, 0, 0, 0, 0]), Err(errno::ESRCH));
    let died = guest.words(&[nr::FUTEX_OWNER_DIED.into()]);
    assert_eq!(futex(&mut guest, nr::FUTEX_TRYLOCK_PI | PRIVATE, [died, 0, 0, 0, 0]), Ok(0));
    assert_eq!(value(&guest, died), nr::FUTEX_OWNER_DIED | me, "the new owner sees how it came to it");
    let same = nr::FUTEX_CMP_REQUEUE_PI | PRIVATE;
    assert_eq!(futex(&mut guest, same, [word, 1, 0, word, 0]), Err(errno::EINVAL));
    assert_eq!(futex(&mut guest, same, [word, 1, 0, died, 0]), Ok(0));
    assert_eq!(futex(&mut guest, same, [word, 1, 0, died, 5]), Err(errno::EAGAIN));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAIT_REQUEUE_PI, [word, 5, 0, died, 0]), Err(errno::EAGAIN));
}

#[test]
fn a_wake_changes_the_second_word_and_asks_what_it_was() {
    let mut guest = Guest::new();
    let (word, other) = (guest.words(&[1]), guest.words(&[5]));
    let add_one_if_five = nr::FUTEX_OP_ADD << 28 | 1 << 12 | 5;
    assert_eq!(futex(&mut guest, nr::FUTEX_WAKE_OP | PRIVATE, [word, 1, 1, other, add_one_if_five.into()]), Ok(0));
    assert_eq!(value(&guest, other), 6);
    assert_eq!(futex(&mut guest, nr::FUTEX_WAKE_OP, [word, 1, 1, NOWHERE, 0]), Err(errno::EFAULT));
    assert_eq!(futex(&mut guest, nr::FUTEX_WAKE_OP | PRIVATE, [word, 1, 1, other, 5 << 28]), Err(errno::ENOSYS));
}

#[test]
fn a_vector_of_words_says_which_flags_and_values_are_wrong() {
    let mut guest = Guest::new();
    let word = guest.words(&[7]);
    let (flags, soon) = (2 | 128u64, guest.words(&[0, 1_000_000]));
    let monotonic = u64::from(nr::CLOCK_MONOTONIC);
    let waitv = |guest: &mut Guest, vector: &[u64], until: u64| {
        let (at, count) = (guest.words(vector), vector.len() as u64 / 3);
        guest.call(nr::__NR_futex_waitv, &[at, count, 0, until, monotonic])
    };
    assert_eq!(waitv(&mut guest, &[8, word, flags], 0), Err(errno::EAGAIN));
    assert_eq!(waitv(&mut guest, &[7, word, 0], 0), Err(errno::EINVAL));
    assert_eq!(waitv(&mut guest, &[1 << 32, word, flags], 0), Err(errno::EINVAL));
    assert_eq!(waitv(&mut guest, &[7, word, flags | 1 << 32], 0), Err(errno::EINVAL));
    let past = guest.words(&[0, 0]);
    assert_eq!(waitv(&mut guest, &[7, word, flags, 7, word, flags], past), Err(errno::ETIMEDOUT));
    guest.fails(errno::EINVAL, nr::__NR_futex_waitv, &[word, 0, 0, 0, 0]);
    guest.fails(errno::EAGAIN, nr::__NR_futex_wait, &[word, 8, 1, flags, 0, 0]);
    guest.fails(errno::EINVAL, nr::__NR_futex_wait, &[word, 7, 0, flags, 0, 0]);
    guest.fails(errno::EINVAL, nr::__NR_futex_wait, &[word, 7, 1, flags, soon, 7]);
    assert_eq!(guest.ok(nr::__NR_futex_wake, &[word, 1, 1, flags]), 0);
    guest.fails(errno::EINVAL, nr::__NR_futex_wake, &[word, 1, 1, 3]);
    let pair = guest.words(&[7, word, flags, 7, word, 2]);
    guest.fails(errno::EINVAL, nr::__NR_futex_requeue, &[pair, 0, 1, 1]);
}

#[test]
fn a_timer_rings_and_says_what_is_left() {
    let mut guest = Guest::new();
    let (new, old) = (guest.words(&[0, 0, 100, 0]), guest.room(32));
    guest.ok(nr::__NR_setitimer, &[0, new, old]);
    assert_eq!(guest.peek(old, 32), [0; 32]);
    guest.ok(nr::__NR_getitimer, &[0, old]);
    assert!(guest.word(old) == 0 && (90..100).contains(&guest.word(old + 16)), "a hundred seconds less a little");
    assert!((90..=100).contains(&guest.ok(nr::__NR_alarm, &[0])));
    assert_eq!(guest.ok(nr::__NR_alarm, &[0]), 0);
    guest.fails(errno::EINVAL, nr::__NR_setitimer, &[3, new, old]);
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
