//! splice(2), tee(2), vmsplice(2), and the size of pipes.

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;

const NONBLOCK: u64 = nr::SPLICE_F_NONBLOCK as u64;

fn pipe(guest: &mut Guest) -> (u64, u64) {
    let fds = guest.room(8);
    guest.ok(nr::__NR_pipe, &[fds]);
    (guest.half(fds).into(), guest.half(fds + 4).into())
}

fn put(guest: &mut Guest, fd: u64, bytes: &[u8]) {
    let at = guest.bytes(bytes);
    assert_eq!(guest.ok(nr::__NR_write, &[fd, at, bytes.len() as u64]), bytes.len() as u64);
}

fn get(guest: &mut Guest, fd: u64, most: usize) -> Vec<u8> {
    let at = guest.room(most);
    let len = guest.ok(nr::__NR_read, &[fd, at, most as u64]);
    guest.peek(at, usize::try_from(len).unwrap())
}

#[test]
fn a_file_goes_through_a_pipe_into_a_file() {
    let mut guest = Guest::new();
    let content: Vec<u8> = (0..100_000u32).map(|at| (at % 253) as u8).collect();
    guest.file("/from", &content);
    let from = guest.open("/from", nr::O_RDONLY);
    let to = guest.open("/to", nr::O_CREAT | nr::O_RDWR);
    let (read, write) = pipe(&mut guest);
    let offset = guest.words(&[50_000]);
    assert_eq!(guest.ok(nr::__NR_splice, &[from, offset, write, 0, 1 << 30, 0]), 50_000);
    assert_eq!(guest.word(offset), 100_000);
    assert_eq!(guest.ok(nr::__NR_splice, &[read, 0, to, 0, 1 << 30, 0]), 50_000);
    let copy = guest.room(60_000);
    assert_eq!(guest.ok(nr::__NR_pread64, &[to, copy, 60_000, 0]), 50_000);
    assert!(guest.peek(copy, 50_000) == content[50_000..], "what arrived is what was sent");
    assert_eq!(guest.ok(nr::__NR_splice, &[from, 0, write, 0, 1 << 30, 0]), 65_536, "as much as the pipe holds");
    guest.fails(errno::EAGAIN, nr::__NR_splice, &[from, 0, write, 0, 1, NONBLOCK]);
    let at = guest.words(&[7]);
    assert_eq!(guest.ok(nr::__NR_splice, &[read, 0, to, at, 3, 0]), 3);
    assert_eq!(guest.word(at), 10);
    assert_eq!(guest.content("/to")[7..10], content[..3]);
    assert_eq!(get(&mut guest, read, 100), content[3..103]);
}

#[test]
fn a_pipe_goes_into_another_with_and_without_being_emptied() {
    let mut guest = Guest::new();
    let (a, into_a) = pipe(&mut guest);
    let (b, into_b) = pipe(&mut guest);
    guest.fails(errno::EAGAIN, nr::__NR_tee, &[a, into_b, 5, NONBLOCK]);
    put(&mut guest, into_a, b"abcdef");
    assert_eq!(guest.ok(nr::__NR_tee, &[a, into_b, 4, 0]), 4);
    assert_eq!(guest.ok(nr::__NR_splice, &[a, 0, into_b, 0, 3, 0]), 3);
    assert_eq!(get(&mut guest, b, 100), b"abcdabc");
    assert_eq!(get(&mut guest, a, 100), b"def");
    guest.fails(errno::EINVAL, nr::__NR_tee, &[a, into_a, 4, 0]);
    guest.fails(errno::EINVAL, nr::__NR_splice, &[a, 0, into_a, 0, 4, 0]);
    guest.ok(nr::__NR_close, &[into_a]);
    assert_eq!(guest.ok(nr::__NR_splice, &[a, 0, into_b, 0, 3, 0]), 0, "nobody writes any more");
    guest.ok(nr::__NR_close, &[b]);
    let file = guest.open("/file", nr::O_CREAT | nr::O_RDWR);
    put(&mut guest, file, b"x");
    guest.fails(errno::EPIPE, nr::__NR_splice, &[file, 0, into_b, 0, 3, 0]);
}

#[test]
fn memory_goes_into_a_pipe_and_out_of_it() {
    let mut guest = Guest::new();
    let (read, write) = pipe(&mut guest);
    let (one, two) = (guest.bytes(b"hello "), guest.bytes(b"world"));
    let iov = guest.words(&[one, 6, two, 5]);
    assert_eq!(guest.ok(nr::__NR_vmsplice, &[write, iov, 2, 0]), 11);
    let room = guest.room(20);
    let iov = guest.words(&[room, 8, room + 10, 10]);
    assert_eq!(guest.ok(nr::__NR_vmsplice, &[read, iov, 2, 0]), 11);
    assert_eq!(guest.peek(room, 8), b"hello wo");
    assert_eq!(guest.peek(room + 10, 3), b"rld");
    let nowhere = guest.words(&[NOWHERE, 10]);
    guest.fails(errno::EFAULT, nr::__NR_vmsplice, &[write, nowhere, 1, 0]);
    put(&mut guest, write, b"kept");
    guest.fails(errno::EFAULT, nr::__NR_vmsplice, &[read, nowhere, 1, 0]);
    assert_eq!(get(&mut guest, read, 10), b"kept");
    let large = guest.room(100_000);
    let iov = guest.words(&[large, 100_000]);
    assert_eq!(guest.ok(nr::__NR_vmsplice, &[write, iov, 1, 0]), 65_536, "as much as there is room for");
    guest.fails(errno::EAGAIN, nr::__NR_vmsplice, &[write, iov, 1, NONBLOCK]);
}

#[test]
fn what_splices_cannot_do_is_refused_in_linux_s_order() {
    let mut guest = Guest::new();
    let (read, write) = pipe(&mut guest);
    guest.file("/file", b"1234");
    let file = guest.open("/file", nr::O_RDONLY);
    let append = guest.open("/file", nr::O_WRONLY | nr::O_APPEND);
    let dir = guest.open("/", nr::O_RDONLY);
    let offset = guest.words(&[0]);
    assert_eq!(guest.ok(nr::__NR_splice, &[77, 0, 78, 0, 0, 0]), 0, "nothing is looked at for nothing");
    guest.fails(errno::EINVAL, nr::__NR_splice, &[77, 0, 78, 0, 1, 16]);
    guest.fails(errno::EBADF, nr::__NR_splice, &[77, 0, write, 0, 1, 0]);
    guest.fails(errno::ESPIPE, nr::__NR_splice, &[read, NOWHERE, file, 0, 1, 0]);
    guest.fails(errno::EFAULT, nr::__NR_splice, &[file, NOWHERE, write, 0, 1, 0]);
    guest.fails(errno::EBADF, nr::__NR_splice, &[read, 0, file, 0, 1, 0]);
    guest.fails(errno::EBADF, nr::__NR_splice, &[append, 0, write, 0, 1, 0]);
    guest.fails(errno::EINVAL, nr::__NR_splice, &[file, offset, append, 0, 1, 0]);
    put(&mut guest, write, b"x");
    guest.fails(errno::EINVAL, nr::__NR_splice, &[read, 0, append, 0, 1, 0]);
    guest.fails(errno::EINVAL, nr::__NR_splice, &[dir, 0, write, 0, 1, 0]);
    guest.fails(errno::EINVAL, nr::__NR_tee, &[file, write, 1, 0]);
    let iov = guest.words(&[offset, 1]);
    guest.fails(errno::EBADF, nr::__NR_vmsplice, &[file, iov, 1, 0]);
}

#[test]
fn pipes_grow_and_shrink_and_keep_what_is_in_them() {
    let mut guest = Guest::new();
    let (read, write) = pipe(&mut guest);
    let size = |guest: &mut Guest| guest.ok(nr::__NR_fcntl, &[read, nr::F_GETPIPE_SZ.into(), 0]);
    let set = u64::from(nr::F_SETPIPE_SZ);
    assert_eq!(size(&mut guest), 65_536);
    // The bytes begin in the middle of a page and go round the end.
    let text: Vec<u8> = (0..60_000u32).map(|at| (at % 241) as u8).collect();
    put(&mut guest, write, &text);
    assert!(get(&mut guest, read, 50_000) == text[..50_000]);
    put(&mut guest, write, &text[..40_000]);
    guest.fails(errno::EBUSY, nr::__NR_fcntl, &[write, set, 4096]);
    assert_eq!(guest.ok(nr::__NR_fcntl, &[write, set, 100_000]), 131_072);
    assert_eq!(size(&mut guest), 131_072);
    put(&mut guest, write, &text);
    assert!(
        get(&mut guest, read, 200_000) == [&text[50_000..], &text[..40_000], &text].concat(),
        "in the order in which it came"
    );
    assert_eq!(guest.ok(nr::__NR_fcntl, &[write, set, 1]), 4096);
    guest.fails(errno::EINVAL, nr::__NR_fcntl, &[write, set, (1 << 31) + 1]);
    let file = guest.open("/file", nr::O_CREAT | nr::O_RDWR);
    guest.fails(errno::EBADF, nr::__NR_fcntl, &[file, set, 4096]);
}
