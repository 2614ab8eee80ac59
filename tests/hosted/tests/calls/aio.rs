//! `io_setup(2)`, `io_submit(2)`, `io_getevents(2)` and their kin.

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;

const PREAD: u64 = 0;
const PWRITE: u64 = 1;
const FSYNC: u64 = 2;
const POLL: u64 = 5;
const PWRITEV: u64 = 8;

/// A `struct iocb` in the guest's memory.
fn control(guest: &mut Guest, data: u64, opcode: u64, fd: u64, buf: u64, bytes: u64, offset: u64) -> u64 {
    guest.words(&[data, 77, opcode | fd << 32, buf, bytes, offset, 0, 0])
}

fn context(guest: &mut Guest, room: u64) -> u64 {
    let at = guest.words(&[0]);
    guest.ok(nr::__NR_io_setup, &[room, at]);
    u64::from_le_bytes(guest.peek(at, 8).try_into().unwrap())
}

/// Up to `most` events.
fn events(guest: &mut Guest, context: u64, least: u64, most: u64) -> Vec<(u64, u64, i64)> {
    let room = guest.room(32 * usize::try_from(most).unwrap());
    let count = guest.ok(nr::__NR_io_getevents, &[context, least, most, room, 0]);
    let word = |guest: &mut Guest, at: u64| u64::from_le_bytes(guest.peek(at, 8).try_into().unwrap());
    (0..count)
        .map(|index| room + 32 * index)
        .map(|at| (word(guest, at), word(guest, at + 8), i64::from_le_bytes(word(guest, at + 16).to_le_bytes())))
        .collect()
}

#[test]
fn operations_are_done_in_order_and_told_of_once() {
    let mut guest = Guest::new();
    guest.file("/file", b"");
    let (file, id) = (guest.open("/file", nr::O_RDWR), context(&mut guest, 4));
    let (text, room) = (guest.bytes(b"hello"), guest.room(5));
    let write = control(&mut guest, 1, PWRITE, file, text, 5, 3);
    let sync = control(&mut guest, 2, FSYNC, file, 0, 0, 0);
    let read = control(&mut guest, 3, PREAD, file, room, 5, 4);
    let list = guest.words(&[write, sync, read]);
    assert_eq!(guest.ok(nr::__NR_io_submit, &[id, 3, list]), 3);
    assert_eq!(guest.peek(write + 8, 4), [0; 4], "the key says that it was handed in");
    assert_eq!(events(&mut guest, id, 1, 2), [(1, write, 5), (2, sync, 0)]);
    assert_eq!(events(&mut guest, id, 1, 2), [(3, read, 4)]);
    assert_eq!(guest.peek(room, 4), b"ello");
    assert_eq!(events(&mut guest, id, 0, 2), []);
    let (time, room) = (guest.words(&[0, 1]), guest.room(32));
    assert_eq!(guest.ok(nr::__NR_io_pgetevents, &[id, 1, 1, room, time, 0]), 0, "time is up");
    guest.ok(nr::__NR_io_destroy, &[id]);
    guest.fails(errno::EINVAL, nr::__NR_io_destroy, &[id]);
    guest.fails(errno::EINVAL, nr::__NR_io_submit, &[id, 0, list]);
}

#[test]
fn what_is_wrong_at_once_is_no_event_and_what_fails_later_is_one() {
    let mut guest = Guest::new();
    guest.file("/file", b"text");
    let (file, read_only, id) = (guest.open("/file", nr::O_RDWR), guest.open("/file", nr::O_RDONLY), context(&mut guest, 1));
    let (room, pair) = (guest.room(8), guest.room(8));
    let good = control(&mut guest, 1, PREAD, file, room, 4, 0);
    let submit = |guest: &mut Guest, bad: u64, error: u32| {
        let list = guest.words(&[good, bad]);
        assert_eq!(guest.ok(nr::__NR_io_submit, &[id, 2, list]), 1, "up to the bad one");
        let list = guest.words(&[bad]);
        guest.fails(error, nr::__NR_io_submit, &[id, 1, list]);
        assert_eq!(events(guest, id, 0, 4), [(1, good, 4)]);
    };
    for (bad, error) in [
        (control(&mut guest, 9, PREAD, 99, room, 4, 0), errno::EBADF),
        (control(&mut guest, 9, PWRITE, read_only, room, 4, 0), errno::EBADF),
        (control(&mut guest, 9, PWRITEV, file, NOWHERE, 1, 0), errno::EFAULT),
        (control(&mut guest, 9, FSYNC, file, 0, 1, 0), errno::EINVAL),
        (control(&mut guest, 9, POLL, file, 1, 0, 0), errno::EINVAL),
        (guest.words(&[9, 0, PREAD | file << 32, room, 4, 0, 1, 0]), errno::EINVAL),
        (guest.words(&[9, 0, PREAD | file << 32, room, 4, 0, 0, 1 | file << 32]), errno::EINVAL),
        (NOWHERE, errno::EFAULT),
    ] {
        submit(&mut guest, bad, error);
    }
    let nowhere = control(&mut guest, 2, PREAD, file, NOWHERE, 4, 0);
    let negative = control(&mut guest, 3, PREAD, file, room, 4, u64::MAX);
    let list = guest.words(&[nowhere, negative]);
    assert_eq!(guest.ok(nr::__NR_io_submit, &[id, 2, list]), 2);
    assert_eq!(events(&mut guest, id, 2, 2), [(2, nowhere, -14), (3, negative, -22)]);
    guest.ok(nr::__NR_pipe2, &[pair, 0]);
    guest.fails(errno::EINVAL, nr::__NR_io_cancel, &[id, good, room]);
    guest.fails(errno::EINVAL, nr::__NR_io_getevents, &[id, 3, 2, room, 0]);
    guest.fails(errno::EINVAL, nr::__NR_io_submit, &[id, u64::MAX, list]);
}

#[test]
fn a_counter_counts_what_is_done_and_room_is_limited() {
    let mut guest = Guest::new();
    guest.file("/file", b"text");
    let (file, id) = (guest.open("/file", nr::O_RDONLY), context(&mut guest, 1));
    let (counter, room) = (guest.ok(nr::__NR_eventfd2, &[0, nr::O_NONBLOCK.into()]), guest.room(8));
    let read = guest.words(&[1, 0, PREAD | file << 32, room, 4, 0, 0, 1 | counter << 32]);
    let list = guest.words(&[read; 40]);
    assert_eq!(guest.ok(nr::__NR_io_submit, &[id, 40, list]), 32, "as many as there is room for");
    guest.fails(errno::EAGAIN, nr::__NR_io_submit, &[id, 1, list]);
    assert_eq!(guest.ok(nr::__NR_read, &[counter, room, 8]), 8);
    assert_eq!(guest.peek(room, 8), 32u64.to_le_bytes());
    assert_eq!(events(&mut guest, id, 32, 40).len(), 32);
    assert_eq!(guest.ok(nr::__NR_io_submit, &[id, 1, list]), 1);
    let (used, none) = (guest.words(&[id]), guest.words(&[0]));
    guest.fails(errno::EINVAL, nr::__NR_io_setup, &[1, used]);
    guest.fails(errno::EINVAL, nr::__NR_io_setup, &[0, none]);
    guest.fails(errno::EAGAIN, nr::__NR_io_setup, &[65_537, none]);
    guest.fails(errno::EAGAIN, nr::__NR_io_setup, &[65_536, none]);
    guest.fails(errno::EFAULT, nr::__NR_io_setup, &[1, NOWHERE]);
}
