//! shmget(2), shmat(2), shmdt(2), shmctl(2).

use crate::guest::{Guest, errno};
use linux_raw_sys::general as nr;

const CREATE: u64 = 0o1000;
const EXCLUSIVE: u64 = 0o2000;
const READ_ONLY: u64 = 0o10_000;
const ROUND: u64 = 0o20_000;
const REMOVE: u64 = 0;
const SET: u64 = 1;
const STATUS: u64 = 2;

#[test]
fn a_segment_is_found_by_its_key_and_its_size() {
    let mut guest = Guest::new();
    guest.fails(errno::ENOENT, nr::__NR_shmget, &[7, 100, 0]);
    let id = guest.ok(nr::__NR_shmget, &[7, 5000, CREATE | 0o600]);
    assert_eq!(guest.ok(nr::__NR_shmget, &[7, 5000, CREATE | 0o600]), id);
    guest.fails(errno::EEXIST, nr::__NR_shmget, &[7, 5000, CREATE | EXCLUSIVE]);
    guest.fails(errno::EINVAL, nr::__NR_shmget, &[7, 5001, 0]);
    guest.fails(errno::EINVAL, nr::__NR_shmget, &[8, 0, CREATE]);
    let private = guest.ok(nr::__NR_shmget, &[0, 10, 0o600]);
    assert_ne!(guest.ok(nr::__NR_shmget, &[0, 10, 0o600]), private);
    guest.ok(nr::__NR_setuid, &[1000]);
    guest.fails(errno::EACCES, nr::__NR_shmget, &[7, 0, 0o400]);
    guest.fails(errno::EACCES, nr::__NR_shmat, &[id, 0, 0]);
    guest.fails(errno::EPERM, nr::__NR_shmctl, &[id, REMOVE, 0]);
}

#[test]
fn attachments_share_their_bytes_until_the_last_goes() {
    let mut guest = Guest::new();
    let id = guest.ok(nr::__NR_shmget, &[7, 5000, CREATE | 0o640]);
    let (one, two) = (guest.ok(nr::__NR_shmat, &[id, 0, 0]), guest.ok(nr::__NR_shmat, &[id, 0, READ_ONLY]));
    guest.poke(one + 4096, b"shared");
    assert_eq!(guest.peek(two + 4096, 6), b"shared");
    guest.fails(errno::EACCES, nr::__NR_mprotect, &[two, 4096, 3]);
    guest.fails(errno::EINVAL, nr::__NR_shmat, &[id, one, 0]);
    guest.fails(errno::EINVAL, nr::__NR_shmat, &[id, one + 1, 0]);
    let status = guest.room(112);
    guest.ok(nr::__NR_shmctl, &[id, STATUS, status]);
    assert_eq!((guest.half(status), guest.half(status + 20), guest.word(status + 48)), (7, 0o640, 5000));
    assert_eq!((guest.word(status + 88), guest.half(status + 80)), (2, guest.task.process().pid()));
    guest.ok(nr::__NR_shmctl, &[id, REMOVE, 0]);
    guest.fails(errno::ENOENT, nr::__NR_shmget, &[7, 0, 0]);
    guest.ok(nr::__NR_shmctl, &[id, STATUS, status]);
    assert_eq!((guest.half(status), guest.half(status + 20)), (0, 0o1640), "no key, and to be removed");
    guest.fails(errno::EINVAL, nr::__NR_shmdt, &[one + 4096]);
    guest.ok(nr::__NR_shmdt, &[one]);
    guest.fails(errno::EINVAL, nr::__NR_shmdt, &[one]);
    assert_eq!(guest.peek(two + 4096, 6), b"shared");
    guest.ok(nr::__NR_shmdt, &[two]);
    guest.fails(errno::EINVAL, nr::__NR_shmctl, &[id, STATUS, status]);
}

#[test]
fn an_address_is_rounded_if_asked_and_memory_comes_back() {
    let mut guest = Guest::new();
    let before = guest.task.sandbox().quota().used();
    let id = guest.ok(nr::__NR_shmget, &[0, 1 << 20, 0o600]);
    let at = guest.ok(nr::__NR_shmat, &[id, 0x2000_0123, ROUND]);
    assert_eq!(at, 0x2000_0000);
    guest.poke(at, &[1; 8192]);
    // A hole in it: the rest is detached all the same.
    guest.ok(nr::__NR_munmap, &[at + 4096, 4096]);
    guest.ok(nr::__NR_shmdt, &[at]);
    let set = guest.room(112);
    guest.ok(nr::__NR_shmctl, &[id, STATUS, set]);
    guest.poke(set + 4, &5u32.to_le_bytes());
    guest.ok(nr::__NR_shmctl, &[id, SET, set]);
    guest.ok(nr::__NR_shmctl, &[id, STATUS, set]);
    assert_eq!((guest.half(set + 4), guest.word(set + 88)), (5, 0));
    guest.ok(nr::__NR_shmctl, &[id, REMOVE, 0]);
    guest.fails(errno::EINVAL, nr::__NR_shmctl, &[id, REMOVE, 0]);
    assert!(guest.task.sandbox().quota().used() <= before + 64 * 1024);
}
