//! `process_vm_readv(2)`, `process_madvise(2)`, kcmp(2).

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;

#[test]
fn memory_is_read_and_written_by_ranges() {
    let mut guest = Guest::new();
    let pid = guest.task.process().pid().into();
    let (text, room) = (guest.bytes(&[7; 3000]), guest.room(3000));
    let local = guest.words(&[room, 10, room + 100, 2900]);
    let remote = guest.words(&[text, 2000, text + 2000, 1000]);
    assert_eq!(guest.ok(nr::__NR_process_vm_readv, &[pid, local, 2, remote, 2, 0]), 2910);
    assert_eq!((guest.peek(room, 11), guest.peek(room + 2999, 1)), ([vec![7; 10], vec![0]].concat(), vec![7]));
    let back = guest.words(&[text, 8, NOWHERE, 8]);
    let from = guest.words(&[room + 8, 8, room, 8]);
    assert_eq!(guest.ok(nr::__NR_process_vm_writev, &[pid, from, 2, back, 2, 0]), 8, "up to where there is nothing");
    assert_eq!(guest.peek(text, 8), [7, 7, 0, 0, 0, 0, 0, 0]);
    let nowhere = guest.words(&[NOWHERE, 8]);
    guest.fails(errno::EFAULT, nr::__NR_process_vm_readv, &[pid, local, 1, nowhere, 1, 0]);
    guest.fails(errno::EFAULT, nr::__NR_process_vm_readv, &[pid, nowhere, 1, remote, 1, 0]);
    let read_only = guest.ok(nr::__NR_mmap, &[0, 8192, 1, u64::from(nr::MAP_PRIVATE | nr::MAP_ANONYMOUS), u64::MAX, 0]);
    guest.ok(nr::__NR_mprotect, &[read_only, 4096, 3]);
    let half = guest.words(&[read_only + 4000, 200]);
    let long = guest.words(&[room, 200]);
    assert_eq!(guest.ok(nr::__NR_process_vm_writev, &[pid, long, 1, half, 1, 0]), 96, "up to where it may not write");
    assert_eq!(guest.ok(nr::__NR_process_vm_readv, &[pid, long, 1, half, 1, 0]), 200);
    guest.fails(errno::ESRCH, nr::__NR_process_vm_readv, &[99, local, 1, remote, 1, 0]);
    guest.fails(errno::EINVAL, nr::__NR_process_vm_readv, &[pid, local, 1, remote, 1, 1]);
}

#[test]
fn descriptors_of_one_file_are_equal() {
    let mut guest = Guest::new();
    guest.file("/file", b"");
    let pid: u64 = guest.task.process().pid().into();
    let (a, b) = (guest.open("/file", nr::O_RDONLY), guest.open("/file", nr::O_RDONLY));
    let copy = guest.ok(nr::__NR_dup, &[a]);
    assert_eq!(guest.ok(nr::__NR_kcmp, &[pid, pid, 0, a, copy]), 0);
    assert_ne!(guest.ok(nr::__NR_kcmp, &[pid, pid, 0, a, b]), 0);
    assert_eq!(guest.ok(nr::__NR_kcmp, &[pid, pid, 1, 0, 0]), 0);
    for kind in 2..=6 {
        assert_eq!(guest.ok(nr::__NR_kcmp, &[pid, pid, kind, 0, 0]), 0);
    }
    guest.fails(errno::EBADF, nr::__NR_kcmp, &[pid, pid, 0, a, 77]);
    guest.fails(errno::EINVAL, nr::__NR_kcmp, &[pid, pid, 9, 0, 0]);
    guest.fails(errno::ESRCH, nr::__NR_kcmp, &[pid, 99, 0, a, b]);
}

#[test]
fn advice_about_a_process_is_given_by_its_descriptor() {
    let mut guest = Guest::new();
    let pid: u64 = guest.task.process().pid().into();
    let fd = guest.ok(nr::__NR_pidfd_open, &[pid, 0]);
    let at = guest.ok(nr::__NR_mmap, &[0, 8192, 3, u64::from(nr::MAP_PRIVATE | nr::MAP_ANONYMOUS), u64::MAX, 0]);
    let (ranges, beyond) = (guest.words(&[at, 4096, at + 4096, 4096]), guest.words(&[at, 4096, NOWHERE, 4096]));
    assert_eq!(guest.ok(nr::__NR_process_madvise, &[fd, ranges, 2, nr::MADV_COLD.into(), 0]), 8192);
    assert_eq!(guest.ok(nr::__NR_process_madvise, &[fd, ranges, 2, nr::MADV_DONTNEED.into(), 0]), 8192, "its own");
    assert_eq!(guest.ok(nr::__NR_process_madvise, &[fd, beyond, 2, nr::MADV_COLD.into(), 0]), 4096);
    guest.fails(errno::EINVAL, nr::__NR_process_madvise, &[fd, ranges, 2, nr::MADV_COLD.into(), 1]);
    guest.fails(errno::EINVAL, nr::__NR_process_madvise, &[fd, ranges, 2, 999, 0]);
    guest.fails(errno::EBADF, nr::__NR_process_madvise, &[77, ranges, 2, nr::MADV_COLD.into(), 0]);
}
