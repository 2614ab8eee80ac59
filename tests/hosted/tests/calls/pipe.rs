//! pipe(2).

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;
use litebox_shim_linux::task::Ids;

#[test]
fn a_pipe_is_two_descriptors_or_none() {
    let mut guest = Guest::new();
    let fds = guest.room(8);
    guest.fails(errno::EINVAL, nr::__NR_pipe2, &[fds, 1]);
    guest.fails(errno::EFAULT, nr::__NR_pipe, &[NOWHERE]);
    guest.ok(nr::__NR_pipe2, &[fds, nr::O_CLOEXEC.into()]);
    assert_eq!((guest.half(fds), guest.half(fds + 4)), (0, 1), "the failed one left none");
    assert_eq!(guest.ok(nr::__NR_fcntl, &[1, nr::F_GETFD.into()]), nr::FD_CLOEXEC.into());
    let (text, room) = (guest.bytes(b"through"), guest.room(16));
    assert_eq!(guest.ok(nr::__NR_write, &[1, text, 7]), 7);
    assert_eq!(guest.ok(nr::__NR_read, &[0, room, 16]), 7);
    assert_eq!(guest.peek(room, 7), b"through");
    let tight = guest.words(&[3, 3]);
    guest.ok(nr::__NR_setrlimit, &[nr::RLIMIT_NOFILE.into(), tight]);
    guest.fails(errno::EMFILE, nr::__NR_pipe, &[fds]);
    assert_eq!(guest.ok(nr::__NR_dup, &[0]), 2, "the one that fitted was closed again");
}

#[test]
fn only_root_has_larger_pipes_than_may_be_set() {
    let mut guest = Guest::with_ids(Ids { users: [1000; 3], groups: [1000; 3] });
    let ends = guest.room(8);
    guest.ok(nr::__NR_pipe2, &[ends, 0]);
    let read = u64::from(guest.half(ends));
    assert_eq!(guest.ok(nr::__NR_fcntl, &[read, nr::F_SETPIPE_SZ.into(), 1 << 20]), 1 << 20);
    guest.fails(errno::EPERM, nr::__NR_fcntl, &[read, nr::F_SETPIPE_SZ.into(), 1 << 21]);
}
