//! rseq(2), membarrier(2), `sched_setaffinity(2)`: what they refuse, and in which order.

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;

const SIGNATURE: u64 = 0x5305_3053;

#[test]
fn an_area_is_registered_once_and_found_again_by_all_its_words() {
    let mut guest = Guest::new();
    let area = guest.words(&[u64::MAX; 8]);
    let none = [(area, 16, 0), (area + 4, 32, 0), (area + 32, 64, 0), (area, 32, 4), (area, 32, 1)];
    for (at, len, flags) in none {
        guest.fails(errno::EINVAL, nr::__NR_rseq, &[at, len, flags, SIGNATURE]);
    }
    guest.fails(errno::EFAULT, nr::__NR_rseq, &[NOWHERE, 32, 0, SIGNATURE]);
    guest.fails(errno::EFAULT, nr::__NR_rseq, &[0xffff_ffff_ffff_f000, 32, 0, SIGNATURE]);
    guest.ok(nr::__NR_rseq, &[area, 64, 0, SIGNATURE]);
    assert_eq!((guest.half(area), guest.half(area + 4)), (u32::MAX, u32::MAX), "no processor yet");
    assert_eq!(guest.peek(area + 8, 20), [0; 20]);
    assert_eq!(guest.half(area + 28), u32::MAX, "behind what it is asked to keep");
    guest.fails(errno::EBUSY, nr::__NR_rseq, &[area, 64, 0, SIGNATURE]);
    guest.fails(errno::EPERM, nr::__NR_rseq, &[area, 64, 0, 1]);
    guest.fails(errno::EINVAL, nr::__NR_rseq, &[area, 32, 0, SIGNATURE]);
    guest.fails(errno::EINVAL, nr::__NR_rseq, &[area, 64, 3, SIGNATURE]);
    guest.fails(errno::EPERM, nr::__NR_rseq, &[area, 64, 1, 1]);
    guest.ok(nr::__NR_rseq, &[area, 64, 1, SIGNATURE]);
    assert_eq!((guest.half(area), guest.half(area + 4)), (0, u32::MAX));
    guest.fails(errno::EINVAL, nr::__NR_rseq, &[area, 64, 1, SIGNATURE]);
}

#[test]
fn a_barrier_needs_its_registration() {
    let mut guest = Guest::new();
    let mut call = |command: u32, flags: u64| guest.call(nr::__NR_membarrier, &[command.into(), flags, 0]);
    assert_eq!(call(0, 0), Ok(0x3ff));
    for (command, flags) in [(0, 1), (3, 0), (1 << 10, 0), (u32::MAX, 0), (8, 1), (128, 2)] {
        assert_eq!(call(command, flags), Err(errno::EINVAL));
    }
    assert_eq!((call(1, 0), call(2, 0), call(512, 0)), (Ok(0), Ok(0), Ok(0)));
    for command in [8, 32, 128] {
        assert_eq!(call(command, 0), Err(errno::EPERM));
        assert_eq!((call(command << 1, 0), call(command, 0)), (Ok(0), Ok(0)));
    }
    assert_eq!(call(128, 1), Ok(0));
    assert_eq!((call(4, 0), call(512, 0)), (Ok(0), Ok(4 + 16 + 64 + 256)));
}

#[test]
fn processors_are_those_of_the_host() {
    let mut guest = Guest::new();
    guest.begin();
    let mask = guest.words(&[0; 16]);
    assert_eq!(guest.ok(nr::__NR_sched_getaffinity, &[0, 128, mask]), 8);
    assert_eq!(guest.word(mask), 3);
    guest.fails(errno::EINVAL, nr::__NR_sched_getaffinity, &[0, 4, mask]);
    guest.fails(errno::EINVAL, nr::__NR_sched_getaffinity, &[0, 12, mask]);
    guest.fails(errno::ESRCH, nr::__NR_sched_getaffinity, &[99, 8, mask]);
    guest.ok(nr::__NR_sched_setaffinity, &[0, 8, mask]);
    let beyond = guest.words(&[4]);
    guest.fails(errno::EINVAL, nr::__NR_sched_setaffinity, &[0, 8, beyond]);
    guest.fails(errno::EINVAL, nr::__NR_sched_setaffinity, &[0, 0, mask]);
    guest.fails(errno::EFAULT, nr::__NR_sched_setaffinity, &[0, 8, NOWHERE]);
}
