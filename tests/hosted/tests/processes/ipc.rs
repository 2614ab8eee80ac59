//! semop(2), msgop(2): what waits, and how it ends.

use crate::carrier::{errno, run};
use linux_raw_sys::general as nr;

const CREATE: u64 = 0o1000;
const NO_WAIT: u64 = 0o4000;
const UNDO: u16 = 0x1000;
const REMOVE: u64 = 0;
const STATUS: u64 = 2;
const GETPID: u64 = 11;
const GETVAL: u64 = 12;
const GETALL: u64 = 13;
const GETNCNT: u64 = 14;
const GETZCNT: u64 = 15;
const SETVAL: u64 = 16;
const SETALL: u64 = 17;

/// `struct sembuf`s.
fn ops(all: &[(u16, i16, u16)]) -> Vec<u8> {
    all.iter()
        .flat_map(|(index, change, flags)| [index.to_le_bytes(), change.to_le_bytes(), flags.to_le_bytes()].concat())
        .collect()
}

#[test]
fn operations_are_done_together_or_not_at_all() {
    run(|guest| {
        guest.fails(errno::ENOENT, nr::__NR_semget, &[5, 2, 0]);
        guest.fails(errno::EINVAL, nr::__NR_semget, &[5, 0, CREATE]);
        let set = guest.ok(nr::__NR_semget, &[5, 2, CREATE | 0o600]);
        assert_eq!(guest.ok(nr::__NR_semget, &[5, 0, 0]), set);
        guest.fails(errno::EINVAL, nr::__NR_semget, &[5, 3, 0]);
        guest.ok(nr::__NR_semctl, &[set, 0, SETVAL, 3]);
        let both = guest.bytes(&ops(&[(0, -1, 0), (1, -1, 0o4000)]));
        guest.fails(errno::EAGAIN, nr::__NR_semop, &[set, both, 2]);
        assert_eq!(guest.ok(nr::__NR_semctl, &[set, 0, GETVAL, 0]), 3, "taken back");
        guest.ok(nr::__NR_semctl, &[set, 1, SETVAL, 1]);
        guest.ok(nr::__NR_semop, &[set, both, 2]);
        let values = guest.room(4);
        guest.ok(nr::__NR_semctl, &[set, 0, GETALL, values]);
        assert_eq!(guest.half(values), 2);
        assert_eq!(guest.ok(nr::__NR_semctl, &[set, 1, GETPID, 0]), 2);
        let far = guest.bytes(&ops(&[(2, 1, 0)]));
        guest.fails(errno::EFBIG, nr::__NR_semop, &[set, far, 1]);
        guest.fails(errno::E2BIG, nr::__NR_semop, &[set, far, 501]);
        guest.fails(errno::EINVAL, nr::__NR_semop, &[set, far, 0]);
        guest.fails(errno::EFAULT, nr::__NR_semop, &[set, 8, 1]);
        let most = guest.bytes(&ops(&[(0, 32767, 0)]));
        guest.fails(errno::ERANGE, nr::__NR_semop, &[set, most, 1]);
        guest.fails(errno::ERANGE, nr::__NR_semctl, &[set, 0, SETVAL, 32768]);
        let values = guest.bytes(&[0xff; 4]);
        guest.fails(errno::ERANGE, nr::__NR_semctl, &[set, 0, SETALL, values]);
        let (down, soon) = (guest.bytes(&ops(&[(1, -1, 0)])), guest.words(&[0, 1_000_000]));
        guest.fails(errno::EAGAIN, nr::__NR_semtimedop, &[set, down, 1, soon]);
        let never = guest.words(&[0, 1_000_000_000]);
        guest.fails(errno::EINVAL, nr::__NR_semtimedop, &[set, down, 1, never]);
        guest.ok(nr::__NR_semctl, &[set, 0, REMOVE, 0]);
        guest.fails(errno::EINVAL, nr::__NR_semop, &[set, down, 1]);
        guest.exit(0);
    });
}

#[test]
fn who_waits_for_a_semaphore_is_counted_served_in_turn_and_told_of_its_removal() {
    run(|parent| {
        let set = parent.ok(nr::__NR_semget, &[0, 2, 0o600]);
        let (two, one) = (parent.bytes(&ops(&[(0, -2, 0)])), parent.bytes(&ops(&[(0, -1, 0)])));
        let (up, zero) = (parent.bytes(&ops(&[(0, 3, 0)])), parent.bytes(&ops(&[(0, 0, 0)])));
        for operation in [two, one] {
            parent.fork(move |child| {
                child.ok(nr::__NR_semop, &[set, operation, 1]);
                child.exit(0);
            });
        }
        parent.until(|parent| parent.ok(nr::__NR_semctl, &[set, 0, GETNCNT, 0]) == 2);
        parent.ok(nr::__NR_semop, &[set, up, 1]);
        for _ in 0..2 {
            assert_eq!(parent.wait4(-1, 0).unwrap().1, 0);
        }
        assert_eq!(parent.ok(nr::__NR_semctl, &[set, 0, GETVAL, 0]), 0);
        parent.ok(nr::__NR_semctl, &[set, 0, SETVAL, 1]);
        parent.fork(move |child| {
            child.fails(errno::EIDRM, nr::__NR_semop, &[set, zero, 1]);
            child.exit(0);
        });
        parent.until(|parent| parent.ok(nr::__NR_semctl, &[set, 0, GETZCNT, 0]) == 1);
        parent.ok(nr::__NR_semctl, &[set, 0, REMOVE, 0]);
        assert_eq!(parent.wait4(-1, 0).unwrap().1, 0);
        parent.exit(0);
    });
}

#[test]
fn the_end_of_a_process_undoes_what_it_asked_for() {
    run(|parent| {
        let set = parent.ok(nr::__NR_semget, &[0, 1, 0o600]);
        parent.ok(nr::__NR_semctl, &[set, 0, SETVAL, 1]);
        let (down, kept) = (parent.bytes(&ops(&[(0, -1, UNDO)])), parent.bytes(&ops(&[(0, 4, 0)])));
        parent.fork(move |child| {
            child.ok(nr::__NR_semop, &[set, down, 1]);
            child.ok(nr::__NR_semop, &[set, kept, 1]);
            child.exit(0);
        });
        assert_eq!(parent.wait4(-1, 0).unwrap().1, 0);
        assert_eq!(parent.ok(nr::__NR_semctl, &[set, 0, GETVAL, 0]), 5);
        assert_eq!(parent.ok(nr::__NR_semctl, &[set, 0, GETPID, 0]), 3);
        parent.fork(move |child| {
            child.ok(nr::__NR_semop, &[set, down, 1]);
            child.ok(nr::__NR_semctl, &[set, 0, SETVAL, 2]);
            child.exit(0);
        });
        assert_eq!(parent.wait4(-1, 0).unwrap().1, 0);
        assert_eq!(parent.ok(nr::__NR_semctl, &[set, 0, GETVAL, 0]), 2, "a value that was set is not adjusted");
        parent.exit(0);
    });
}

#[test]
fn messages_are_chosen_by_type_and_may_be_copied() {
    run(|guest| {
        let queue = guest.ok(nr::__NR_msgget, &[9, CREATE | 0o600]);
        for (kind, text) in [(5, b"five"), (2, b"two!"), (7, b"last"), (2, b"more")] {
            let message = guest.bytes(&[&u64::to_le_bytes(kind)[..], text].concat());
            guest.ok(nr::__NR_msgsnd, &[queue, message, 4, NO_WAIT]);
        }
        let at = guest.room(16);
        let minus = |kind: u64| 0u64.wrapping_sub(kind);
        let (no_error, except, copy) = (0o10_000 | NO_WAIT, 0o20_000 | NO_WAIT, 0o40_000 | NO_WAIT);
        guest.fails(errno::EINVAL, nr::__NR_msgrcv, &[queue, at, 4, 0, 0o40_000]);
        guest.fails(errno::ENOMSG, nr::__NR_msgrcv, &[queue, at, 4, 4, copy]);
        guest.fails(errno::ENOMSG, nr::__NR_msgrcv, &[queue, at, 4, minus(1), NO_WAIT]);
        guest.fails(errno::E2BIG, nr::__NR_msgrcv, &[queue, at, 3, 0, NO_WAIT]);
        for (kind, flags, text) in
            [(3, copy, b"more"), (minus(5), NO_WAIT, b"two!"), (5, except, b"last"), (2, NO_WAIT, b"more"), (0, NO_WAIT, b"five")]
        {
            assert_eq!(guest.ok(nr::__NR_msgrcv, &[queue, at, 4, kind, flags]), 4);
            assert_eq!(guest.half(at + 8).to_le_bytes(), *text);
        }
        guest.fails(errno::ENOMSG, nr::__NR_msgrcv, &[queue, at, 4, 0, NO_WAIT]);
        let message = guest.bytes(&[&u64::to_le_bytes(1)[..], &[9; 8192]].concat());
        guest.fails(errno::EINVAL, nr::__NR_msgsnd, &[queue, message, 8193, NO_WAIT]);
        guest.ok(nr::__NR_msgsnd, &[queue, message, 8192, NO_WAIT]);
        guest.ok(nr::__NR_msgsnd, &[queue, message, 8192, NO_WAIT]);
        guest.fails(errno::EAGAIN, nr::__NR_msgsnd, &[queue, message, 1, NO_WAIT]);
        assert_eq!(guest.ok(nr::__NR_msgrcv, &[queue, at, 3, 0, no_error]), 3);
        let status = guest.room(120);
        guest.ok(nr::__NR_msgctl, &[queue, STATUS, status]);
        assert_eq!((guest.word(status + 72), guest.word(status + 80), guest.word(status + 88)), (8192, 1, 16384));
        let none = guest.words(&[0]);
        guest.fails(errno::EINVAL, nr::__NR_msgsnd, &[queue, none, 0, 0]);
        guest.exit(0);
    });
}

#[test]
fn who_waits_at_a_queue_gets_the_next_message() {
    run(|parent| {
        let queue = parent.ok(nr::__NR_msgget, &[0, 0o600]);
        let (message, at) = (parent.words(&[3, 4]), parent.room(16));
        parent.fork(move |child| {
            assert_eq!(child.ok(nr::__NR_msgrcv, &[queue, at, 8, 3, 0]), 8);
            assert_eq!(child.word(at + 8), 4);
            child.exit(0);
        });
        parent.ok(nr::__NR_msgsnd, &[queue, message, 8, 0]);
        assert_eq!(parent.wait4(-1, 0).unwrap().1, 0);
        parent.ok(nr::__NR_msgctl, &[queue, REMOVE, 0]);
        parent.exit(0);
    });
}

#[test]
fn who_waits_at_a_queue_learns_of_its_removal() {
    run(|parent| {
        let at = parent.room(16);
        // Nothing tells whether somebody waits already; who comes too late finds no queue, and the next one is given more time.
        let is_told = (0..10u32).any(|attempt| {
            let queue = parent.ok(nr::__NR_msgget, &[0, 0o600]);
            parent.fork(move |child| match child.call(nr::__NR_msgrcv, &[queue, at, 8, 3, 0]) {
                Err(errno::EIDRM) => child.exit(1),
                Err(errno::EINVAL) => child.exit(2),
                other => panic!("{other:?}"),
            });
            std::thread::sleep(std::time::Duration::from_millis(1 << attempt));
            parent.ok(nr::__NR_msgctl, &[queue, REMOVE, 0]);
            let status = parent.wait4(-1, 0).unwrap().1;
            assert!(status == 0x100 || status == 0x200, "{status:#x}");
            status == 0x100
        });
        assert!(is_told);
        parent.exit(0);
    });
}
