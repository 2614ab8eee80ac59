//! Limits that bind, and privileges by themselves.

use crate::guest::Guest;
use linux_raw_sys::{errno, general as nr, prctl};

#[test]
fn no_more_is_mapped_than_the_limits_allow() {
    let mut guest = Guest::new();
    let limit = |guest: &mut Guest, which: u32, bytes: u64| {
        let limit = guest.words(&[bytes, u64::MAX]);
        guest.ok(nr::__NR_setrlimit, &[which.into(), limit]);
    };
    let map = |prot: u32| [0, 1 << 20, prot.into(), (nr::MAP_PRIVATE | nr::MAP_ANONYMOUS).into(), u64::MAX, 0];
    let (read, write) = (nr::PROT_READ, nr::PROT_READ | nr::PROT_WRITE);
    let first = guest.ok(nr::__NR_mmap, &map(write));
    limit(&mut guest, nr::RLIMIT_DATA, 1 << 20);
    guest.fails(errno::ENOMEM, nr::__NR_mmap, &map(write));
    guest.ok(nr::__NR_mmap, &map(read));
    guest.fails(errno::ENOMEM, nr::__NR_mremap, &[first, 1 << 20, 2 << 20, nr::MREMAP_MAYMOVE.into(), 0]);
    // In the place of another it is no more.
    let mut again = map(write);
    (again[0], again[3]) = (first, again[3] | u64::from(nr::MAP_FIXED));
    limit(&mut guest, nr::RLIMIT_DATA, u64::MAX);
    limit(&mut guest, nr::RLIMIT_AS, 1);
    guest.fails(errno::ENOMEM, nr::__NR_mmap, &map(read));
    limit(&mut guest, nr::RLIMIT_AS, u64::MAX);
    guest.ok(nr::__NR_mmap, &again);
}

#[test]
fn root_without_a_capability_may_not_do_what_it_is_for() {
    let mut guest = Guest::new();
    let (header, data) = (guest.words(&[0x2008_0522]), guest.room(24));
    guest.ok(nr::__NR_capget, &[header, data]);
    let all = u64::MAX >> 23;
    let low = all & u64::from(u32::MAX);
    assert_eq!((guest.word(data), guest.word(data + 8)), (low | low << 32, (all >> 32) << 32));
    // Without the one that lets it take other users, and without the upper ones.
    let less = low & !(1 << nr::CAP_SETUID);
    let wanted = guest.words(&[less | less << 32, 0, 0]);
    guest.ok(nr::__NR_capset, &[header, wanted]);
    guest.fails(errno::EPERM, nr::__NR_setuid, &[1000]);
    guest.fails(errno::EPERM, nr::__NR_capset, &[header, data]);
    guest.fails(errno::EPERM, nr::__NR_prctl, &[prctl::PR_CAP_AMBIENT.into(), 2, nr::CAP_CHOWN.into(), 0, 0]);
    guest.ok(nr::__NR_prctl, &[prctl::PR_CAPBSET_DROP.into(), nr::CAP_KILL.into()]);
    assert_eq!(guest.ok(nr::__NR_prctl, &[prctl::PR_CAPBSET_READ.into(), nr::CAP_KILL.into()]), 0);
    guest.fails(errno::EINVAL, nr::__NR_prctl, &[prctl::PR_CAPBSET_READ.into(), 41]);
}

#[test]
fn what_is_kept_can_be_made_effective_again() {
    let mut guest = Guest::new();
    guest.ok(nr::__NR_prctl, &[prctl::PR_SET_KEEPCAPS.into(), 1]);
    guest.ok(nr::__NR_setresuid, &[1000, 1000, 1000]);
    let (header, data) = (guest.words(&[0x2008_0522]), guest.room(24));
    guest.ok(nr::__NR_capget, &[header, data]);
    let low = u64::from(u32::MAX);
    assert_eq!(guest.word(data), low << 32, "permitted, not effective");
    guest.fails(errno::EPERM, nr::__NR_setresuid, &[1, 1, 1]);
    let one = 1u64 << nr::CAP_SETUID;
    let sets = guest.words(&[one | one << 32, 0, 0]);
    guest.ok(nr::__NR_capset, &[header, sets]);
    guest.ok(nr::__NR_setresuid, &[1, 1, 1]);
}
