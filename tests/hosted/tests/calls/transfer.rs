//! sendfile(2), `copy_file_range(2)`, fallocate(2), preadv(2), getdents(2), ioctl(2).

use crate::guest::{Guest, errno};
use linux_raw_sys::general as nr;
use linux_raw_sys::ioctl;

#[test]
fn files_are_copied_into_files_and_pipes() {
    let mut guest = Guest::new();
    let content: Vec<u8> = (0..40_000u32).map(|at| at.to_le_bytes()[0]).collect();
    guest.file("/from", &content);
    let from = guest.open("/from", nr::O_RDONLY);
    let to = guest.open("/to", nr::O_CREAT | nr::O_RDWR);
    let offset = guest.words(&[10]);
    assert_eq!(guest.ok(nr::__NR_sendfile, &[to, from, offset, 1 << 40]), 39_990);
    assert_eq!(guest.word(offset), 40_000);
    assert_eq!(guest.ok(nr::__NR_lseek, &[from, 0, nr::SEEK_CUR.into()]), 0, "the file's own offset stays");
    assert_eq!(guest.ok(nr::__NR_sendfile, &[to, from, 0, 5]), 5);
    assert_eq!(guest.ok(nr::__NR_lseek, &[from, 0, nr::SEEK_CUR.into()]), 5);
    let room = guest.room(8);
    assert_eq!(guest.ok(nr::__NR_pread64, &[to, room, 8, 39_987]), 8);
    assert_eq!(guest.peek(room, 8), [&content[39_997..], &content[..5]].concat());
    let (in_at, out_at) = (guest.words(&[0]), guest.words(&[50_000]));
    assert_eq!(guest.ok(nr::__NR_copy_file_range, &[from, in_at, to, out_at, 40_000, 0]), 40_000);
    assert_eq!((guest.word(in_at), guest.word(out_at)), (40_000, 90_000));
    assert_eq!(guest.ok(nr::__NR_copy_file_range, &[from, in_at, to, out_at, 1, 0]), 0);
    let overlapping = guest.words(&[10]);
    guest.fails(errno::EINVAL, nr::__NR_copy_file_range, &[to, overlapping, to, 0, 1 << 20, 0]);
    guest.fails(errno::EINVAL, nr::__NR_copy_file_range, &[from, 0, to, 0, 1, 1]);
    guest.fails(errno::EBADF, nr::__NR_copy_file_range, &[to, 0, from, 0, 1, 0]);
    let fds = guest.room(8);
    guest.ok(nr::__NR_pipe, &[fds]);
    let (read, write) = (guest.half(fds).into(), guest.half(fds + 4).into());
    assert_eq!(guest.ok(nr::__NR_sendfile, &[write, from, overlapping, 100]), 100);
    guest.fails(errno::EINVAL, nr::__NR_sendfile, &[to, read, 0, 100]);
    guest.fails(errno::ESPIPE, nr::__NR_sendfile, &[to, read, overlapping, 100]);
    guest.fails(errno::EINVAL, nr::__NR_copy_file_range, &[from, 0, write, 0, 1, 0]);
    let append = guest.open("/to", nr::O_WRONLY | nr::O_APPEND);
    guest.fails(errno::EINVAL, nr::__NR_sendfile, &[append, from, 0, 1]);
    guest.fails(errno::EBADF, nr::__NR_copy_file_range, &[from, 0, append, 0, 1, 0]);
    assert_eq!(guest.ok(nr::__NR_ioctl, &[read, ioctl::FIONREAD.into(), room]), 0);
    assert_eq!(guest.half(room), 100);
}

#[test]
fn holes_are_punched_and_space_is_reserved() {
    let mut guest = Guest::new();
    guest.file("/file", &[9; 20_000]);
    let fd = guest.open("/file", nr::O_RDWR);
    let punch = u64::from(nr::FALLOC_FL_PUNCH_HOLE | nr::FALLOC_FL_KEEP_SIZE);
    guest.ok(nr::__NR_fallocate, &[fd, punch, 1000, 11_000]);
    assert_eq!(guest.ok(nr::__NR_lseek, &[fd, 0, nr::SEEK_HOLE.into()]), 4096);
    assert_eq!(guest.ok(nr::__NR_lseek, &[fd, 4096, nr::SEEK_DATA.into()]), 8192);
    let room = guest.room(20_000);
    assert_eq!(guest.ok(nr::__NR_pread64, &[fd, room, 20_000, 0]), 20_000);
    let bytes = guest.peek(room, 20_000);
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == if (1000..12_000).contains(&at) { 0 } else { 9 }));
    guest.ok(nr::__NR_fallocate, &[fd, punch, 15_000, 1 << 40]);
    assert_eq!(guest.ok(nr::__NR_lseek, &[fd, 0, nr::SEEK_END.into()]), 20_000);
    guest.ok(nr::__NR_fallocate, &[fd, 0, 20_000, 10_000]);
    assert_eq!(guest.ok(nr::__NR_lseek, &[fd, 0, nr::SEEK_END.into()]), 30_000);
    guest.fails(errno::ENOSPC, nr::__NR_fallocate, &[fd, nr::FALLOC_FL_KEEP_SIZE.into(), 0, 1 << 40]);
    guest.fails(errno::ENOSPC, nr::__NR_fallocate, &[fd, 0, 0, 1 << 40]);
    guest.fails(errno::EINVAL, nr::__NR_fallocate, &[fd, 0, 0, 0]);
    guest.fails(errno::EOPNOTSUPP, nr::__NR_fallocate, &[fd, 8, 0, 1]);
    guest.fails(errno::EFBIG, nr::__NR_fallocate, &[fd, 0, 1 << 62, 1 << 62]);
}

#[test]
fn scattered_reads_have_offsets() {
    let mut guest = Guest::new();
    guest.file("/file", b"0123456789");
    let fd = guest.open("/file", nr::O_RDWR);
    let (a, b) = (guest.room(3), guest.room(4));
    let iov = guest.words(&[a, 3, b, 4]);
    assert_eq!(guest.ok(nr::__NR_preadv, &[fd, iov, 2, 1, 0]), 7);
    assert_eq!((guest.peek(a, 3), guest.peek(b, 4)), (b"123".to_vec(), b"4567".to_vec()));
    assert_eq!(guest.ok(nr::__NR_pwritev, &[fd, iov, 2, 8, 0]), 7);
    assert_eq!(guest.content("/file"), b"012345671234567");
    assert_eq!(guest.ok(nr::__NR_preadv2, &[fd, iov, 1, u64::MAX, 0, 0]), 3);
    assert_eq!(guest.ok(nr::__NR_preadv2, &[fd, iov, 1, u64::MAX, 0, 0]), 3);
    assert_eq!(guest.peek(a, 3), b"345");
    guest.fails(errno::EINVAL, nr::__NR_preadv, &[fd, iov, 2, u64::MAX, 0]);
    guest.fails(errno::EOPNOTSUPP, nr::__NR_preadv2, &[fd, iov, 1, 0, 0, nr::RWF_NOWAIT.into()]);
    guest.fails(errno::EBADF, nr::__NR_preadv, &[99, iov, 2, 0, 0]);
}

#[test]
fn old_directory_entries_have_their_kind_last() {
    let mut guest = Guest::new();
    guest.file("/abc", b"");
    let (fd, room) = (guest.open("/", nr::O_DIRECTORY), guest.room(256));
    let len = guest.ok(nr::__NR_getdents, &[fd, room, 256]);
    assert_eq!(len, 24 + 24 + 24);
    assert_eq!(guest.peek(room + 48 + 18, 4), b"abc\0");
    assert_eq!(guest.peek(room + 48 + 23, 1), [8]);
    guest.ok(nr::__NR_lseek, &[fd, 0, 0]);
    guest.fails(errno::EINVAL, nr::__NR_getdents, &[fd, room, 20]);
}

#[test]
fn requests_know_their_files() {
    let mut guest = Guest::new();
    guest.file("/file", b"12345");
    let (fd, room, one) = (guest.open("/file", nr::O_RDWR), guest.room(64), guest.words(&[1]));
    guest.ok(nr::__NR_lseek, &[fd, 2, 0]);
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::FIONREAD.into(), room]);
    assert_eq!(guest.half(room), 3);
    guest.fails(errno::ENOTTY, nr::__NR_ioctl, &[fd, ioctl::TCGETS.into(), room]);
    guest.fails(errno::ENOTTY, nr::__NR_ioctl, &[fd, 0x1234, room]);
    guest.fails(errno::EOPNOTSUPP, nr::__NR_ioctl, &[fd, ioctl::FICLONE.into(), fd]);
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::FIONBIO.into(), one]);
    assert_ne!(guest.ok(nr::__NR_fcntl, &[fd, nr::F_GETFL.into()]) & u64::from(nr::O_NONBLOCK), 0);
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::FIOCLEX.into()]);
    assert_eq!(guest.ok(nr::__NR_fcntl, &[fd, nr::F_GETFD.into()]), 1);
    guest.fails(errno::EBADF, nr::__NR_ioctl, &[77, ioctl::FIONREAD.into(), room]);
}

#[test]
fn space_past_the_end_is_reserved_and_the_length_stays() {
    let mut guest = Guest::new();
    guest.file("/file", b"1234");
    let fd = guest.open("/file", nr::O_RDWR);
    let stat = guest.room(144);
    let size_and_blocks = |guest: &mut Guest| {
        guest.ok(nr::__NR_fstat, &[fd, stat]);
        (guest.word(stat + 48), guest.word(stat + 64))
    };
    assert_eq!(size_and_blocks(&mut guest), (4, 8));
    guest.ok(nr::__NR_fallocate, &[fd, nr::FALLOC_FL_KEEP_SIZE.into(), 8192, 8192]);
    assert_eq!(size_and_blocks(&mut guest), (4, 24));
    guest.fails(errno::ENXIO, nr::__NR_lseek, &[fd, 4, nr::SEEK_DATA.into()]);
    guest.ok(nr::__NR_ftruncate, &[fd, 10_000]);
    let room = guest.room(100);
    assert_eq!(guest.ok(nr::__NR_pread64, &[fd, room, 100, 8192]), 100);
    assert_eq!(guest.peek(room, 100), [0; 100]);
    guest.ok(nr::__NR_ftruncate, &[fd, 4]);
    assert_eq!(size_and_blocks(&mut guest), (4, 8), "a cut gives back what is past the end");
}
