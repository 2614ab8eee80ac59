//! setuid(2), setgroups(2), capget(2), prctl(2), getpriority(2), `sched_setscheduler(2)`.

use crate::guest::{Guest, errno};
use linux_raw_sys::general as nr;
use linux_raw_sys::prctl as op;
use litebox_shim_linux::task::Ids;

const KEEP: u64 = u64::MAX;

fn users(guest: &mut Guest) -> [u32; 3] {
    let at = guest.room(12);
    guest.ok(nr::__NR_getresuid, &[at, at + 4, at + 8]);
    [guest.half(at), guest.half(at + 4), guest.half(at + 8)]
}

#[test]
fn root_takes_any_id_and_gives_it_up_for_good() {
    let mut guest = Guest::new();
    guest.ok(nr::__NR_setreuid, &[KEEP, 5]);
    assert_eq!(users(&mut guest), [0, 5, 5]);
    guest.fails(errno::EPERM, nr::__NR_setresuid, &[KEEP, 0, 7]);
    guest.ok(nr::__NR_setresuid, &[KEEP, 0, KEEP]);
    guest.ok(nr::__NR_setresuid, &[KEEP, KEEP, 7]);
    assert_eq!(users(&mut guest), [0, 0, 7]);
    let groups = guest.words(&[3 | 1 << 32]);
    guest.ok(nr::__NR_setgroups, &[2, groups]);
    guest.ok(nr::__NR_setgid, &[9]);
    guest.ok(nr::__NR_setuid, &[1000]);
    assert_eq!(users(&mut guest), [1000; 3]);
    guest.fails(errno::EPERM, nr::__NR_setuid, &[0]);
    guest.fails(errno::EPERM, nr::__NR_setgroups, &[0, 0]);
    let list = guest.room(16);
    assert_eq!(guest.ok(nr::__NR_getgroups, &[0, 0]), 2);
    assert_eq!(guest.ok(nr::__NR_getgroups, &[4, list]), 2);
    assert_eq!((guest.half(list), guest.half(list + 4)), (1, 3));
    guest.fails(errno::EINVAL, nr::__NR_getgroups, &[1, list]);
    guest.fails(errno::EINVAL, nr::__NR_setuid, &[KEEP]);
    assert_eq!(guest.ok(nr::__NR_setfsuid, &[0]), 1000);
}

#[test]
fn others_go_back_and_forth_between_their_own() {
    let mut guest = Guest::with_ids(Ids { users: [1000, 1000, 7], groups: [1; 3] });
    guest.ok(nr::__NR_setuid, &[7]);
    assert_eq!(users(&mut guest), [1000, 7, 7]);
    guest.ok(nr::__NR_setreuid, &[7, 1000]);
    assert_eq!(users(&mut guest), [7, 1000, 1000]);
    guest.fails(errno::EPERM, nr::__NR_setresuid, &[0, KEEP, KEEP]);
}

#[test]
fn capabilities_are_all_or_none() {
    let mut guest = Guest::new();
    let header = guest.words(&[nr::_LINUX_CAPABILITY_VERSION_3.into()]);
    let data = guest.room(24);
    guest.ok(nr::__NR_capget, &[header, data]);
    assert_eq!((guest.half(data), guest.half(data + 12), guest.half(data + 8)), (u32::MAX, 0x1ff, 0));
    guest.ok(nr::__NR_setuid, &[1000]);
    guest.ok(nr::__NR_capget, &[header, data]);
    assert_eq!(guest.peek(data, 24), [0; 24]);
    guest.ok(nr::__NR_capset, &[header, data]);
    let more = guest.words(&[1, 0, 0]);
    guest.fails(errno::EPERM, nr::__NR_capset, &[header, more]);
    let unknown = guest.words(&[1]);
    guest.fails(errno::EINVAL, nr::__NR_capget, &[unknown, data]);
    assert_eq!(guest.half(unknown), nr::_LINUX_CAPABILITY_VERSION_3);
}

#[test]
fn switches_are_kept_and_unknown_ones_refused() {
    let mut guest = Guest::new();
    let at = guest.room(16);
    let mut prctl = |option: u32, args: &[u64]| guest.call(nr::__NR_prctl, &[&[option.into()], args].concat());
    assert_eq!(prctl(op::PR_SET_PDEATHSIG, &[9]), Ok(0));
    assert_eq!(prctl(op::PR_GET_PDEATHSIG, &[at]), Ok(0));
    assert_eq!(prctl(op::PR_SET_PDEATHSIG, &[65]), Err(errno::EINVAL));
    assert_eq!((prctl(op::PR_SET_DUMPABLE, &[0]), prctl(op::PR_GET_DUMPABLE, &[])), (Ok(0), Ok(0)));
    assert_eq!(prctl(op::PR_SET_DUMPABLE, &[2]), Err(errno::EINVAL));
    assert_eq!(prctl(op::PR_GET_TIMERSLACK, &[]), Ok(50_000));
    assert_eq!((prctl(op::PR_SET_KEEPCAPS, &[1]), prctl(op::PR_GET_KEEPCAPS, &[])), (Ok(0), Ok(1)));
    assert_eq!(prctl(op::PR_CAPBSET_READ, &[40]), Ok(1));
    assert_eq!(prctl(op::PR_CAPBSET_READ, &[41]), Err(errno::EINVAL));
    assert_eq!(prctl(op::PR_SET_SECCOMP, &[3]), Err(errno::EINVAL));
    assert_eq!(prctl(op::PR_SET_SECCOMP, &[2]), Err(errno::EFAULT));
    assert_eq!(guest.half(at), 9);
}

#[test]
fn priorities_and_policies_are_checked_and_kept() {
    let mut guest = Guest::with_ids(Ids { users: [1000; 3], groups: [1; 3] });
    assert_eq!(guest.ok(nr::__NR_getpriority, &[0, 0]), 20);
    guest.ok(nr::__NR_setpriority, &[0, 0, 5]);
    assert_eq!(guest.ok(nr::__NR_getpriority, &[1, 0]), 15);
    guest.fails(errno::EACCES, nr::__NR_setpriority, &[0, 0, 4]);
    guest.fails(errno::EINVAL, nr::__NR_setpriority, &[3, 0, 4]);
    guest.fails(errno::ESRCH, nr::__NR_getpriority, &[0, 99]);
    let param = guest.words(&[0]);
    guest.ok(nr::__NR_sched_setscheduler, &[0, nr::SCHED_BATCH.into(), param]);
    assert_eq!(guest.ok(nr::__NR_sched_getscheduler, &[0]), nr::SCHED_BATCH.into());
    let high = guest.words(&[50]);
    guest.fails(errno::EPERM, nr::__NR_sched_setscheduler, &[0, nr::SCHED_RR.into(), high]);
    guest.fails(errno::ESRCH, nr::__NR_sched_getparam, &[99, param]);
    assert_eq!(guest.ok(nr::__NR_sched_get_priority_max, &[nr::SCHED_FIFO.into()]), 99);
    let attr = guest.room(48);
    guest.ok(nr::__NR_sched_getattr, &[0, attr, 48, 0]);
    assert_eq!((guest.half(attr), guest.half(attr + 4), guest.half(attr + 16)), (48, nr::SCHED_BATCH, 5));
    guest.ok(nr::__NR_sched_setattr, &[0, attr, 0]);
    guest.ok(nr::__NR_ioprio_set, &[1, 0, 2 << 13 | 3]);
    assert_eq!(guest.ok(nr::__NR_ioprio_get, &[1, 0]), 2 << 13 | 3);
    guest.fails(errno::EPERM, nr::__NR_ioprio_set, &[1, 0, 1 << 13]);
}

#[test]
fn the_short_way_answers_what_the_long_one_does() {
    let mut guest = Guest::new();
    let mut answered = 0;
    for number in 0..512 {
        if let Some(value) = litebox_shim_linux::quick(&guest.task, number.into()) {
            assert_eq!(guest.ok(number, &[]), value, "call {number}");
            answered += 1;
        }
    }
    assert_eq!(answered, 3);
    // The number of a call by the 32-bit entry, and numbers that are another's in their low half.
    for number in [u64::MAX, 1 << 32 | u64::from(nr::__NR_getpid), 0x4000_0000 | u64::from(nr::__NR_getpid)] {
        assert_eq!(litebox_shim_linux::quick(&guest.task, number), None);
    }
}
