//! Names and attributes: rename(2), link(2), chmod(2), chown(2), utimensat(2), truncate(2), stat(2), statx(2).

use crate::guest::{CWD, Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;
use litebox_shim_linux::task::Ids;

fn user() -> Guest {
    Guest::with_ids(Ids { users: [1000; 3], groups: [1000; 3] })
}

/// `st_mode`, `st_nlink` and `st_size`.
fn stat(guest: &mut Guest, path: &str) -> (u32, u64, u64) {
    let (path, buf) = (guest.path(path), guest.room(144));
    guest.ok(nr::__NR_lstat, &[path, buf]);
    (guest.half(buf + 24), guest.word(buf + 16), guest.word(buf + 48))
}

#[test]
fn renames_replace_refuse_or_exchange() {
    let mut guest = Guest::new();
    guest.file("/a", b"a");
    guest.file("/b", b"b");
    let [a, b, none, dir] = ["/a", "/b", "/none", "/dir"].map(|path| guest.path(path));
    guest.ok(nr::__NR_mkdir, &[dir, 0o755]);
    guest.fails(errno::EEXIST, nr::__NR_renameat2, &[CWD, a, CWD, b, 1]);
    guest.ok(nr::__NR_renameat2, &[CWD, a, CWD, b, 2]);
    assert_eq!((guest.content("/a"), guest.content("/b")), (b"b".to_vec(), b"a".to_vec()));
    guest.fails(errno::EINVAL, nr::__NR_renameat2, &[CWD, a, CWD, b, 3]);
    guest.fails(errno::EINVAL, nr::__NR_renameat2, &[CWD, a, CWD, b, 4]);
    guest.fails(errno::ENOENT, nr::__NR_rename, &[none, b]);
    guest.fails(errno::EISDIR, nr::__NR_rename, &[a, dir]);
    guest.fails(errno::EFAULT, nr::__NR_rename, &[a, NOWHERE]);
    guest.ok(nr::__NR_rename, &[a, b]);
    assert_eq!(guest.content("/b"), b"b");
    let fd = guest.open("/dir", nr::O_DIRECTORY);
    let under = guest.path("under");
    guest.ok(nr::__NR_renameat, &[CWD, b, fd, under]);
    assert_eq!(guest.content("/dir/under"), b"b");
    guest.fails(errno::ENOENT, nr::__NR_unlink, &[b]);
}

#[test]
fn links_count_and_symbolic_ones_lead() {
    let mut guest = Guest::new();
    guest.file("/file", b"text");
    let [file, hard, soft, other] = ["/file", "/hard", "/soft", "/other"].map(|path| guest.path(path));
    guest.ok(nr::__NR_link, &[file, hard]);
    guest.fails(errno::EEXIST, nr::__NR_link, &[file, hard]);
    assert_eq!(stat(&mut guest, "/hard"), (nr::S_IFREG | 0o644, 2, 4));
    guest.ok(nr::__NR_symlink, &[file, soft]);
    assert_eq!(stat(&mut guest, "/soft"), (nr::S_IFLNK | 0o777, 1, 5));
    assert_eq!(guest.content("/soft"), b"text");
    guest.ok(nr::__NR_linkat, &[CWD, soft, CWD, other, nr::AT_SYMLINK_FOLLOW.into()]);
    assert_eq!(stat(&mut guest, "/other").1, 3);
    guest.fails(errno::EINVAL, nr::__NR_linkat, &[CWD, soft, CWD, other, 1]);
    // A file without a name gets one by its descriptor.
    let fd = guest.open("/", nr::O_TMPFILE | nr::O_RDWR);
    let [empty, named] = ["", "/named"].map(|path| guest.path(path));
    guest.ok(nr::__NR_linkat, &[fd, empty, CWD, named, nr::AT_EMPTY_PATH.into()]);
    assert_eq!(stat(&mut guest, "/named").1, 1);
    // One that lost its name does not.
    let fd = guest.open("/named", nr::O_RDWR);
    guest.ok(nr::__NR_unlink, &[named]);
    guest.fails(errno::ENOENT, nr::__NR_linkat, &[fd, empty, CWD, named, nr::AT_EMPTY_PATH.into()]);
}

#[test]
fn modes_and_owners_are_the_owner_s_to_change() {
    let mut guest = Guest::new();
    guest.file("/file", b"");
    let [file, fifo, soft] = ["/file", "/fifo", "/soft"].map(|path| guest.path(path));
    guest.ok(nr::__NR_chmod, &[file, 0o6755]);
    guest.ok(nr::__NR_chown, &[file, 1000, u64::MAX]);
    assert_eq!(stat(&mut guest, "/file").0, nr::S_IFREG | 0o755, "set-id bits go with the owner");
    guest.ok(nr::__NR_mknod, &[fifo, u64::from(nr::S_IFIFO) | 0o666, 0]);
    assert_eq!(stat(&mut guest, "/fifo").0, nr::S_IFIFO | 0o644, "less the umask");
    guest.ok(nr::__NR_symlink, &[file, soft]);
    let no_follow = nr::AT_SYMLINK_NOFOLLOW.into();
    guest.fails(errno::EOPNOTSUPP, nr::__NR_fchmodat2, &[CWD, soft, 0o700, no_follow]);
    guest.ok(nr::__NR_lchown, &[soft, 7, 7]);
    guest.fails(errno::EINVAL, nr::__NR_fchownat, &[CWD, soft, 7, 7, 1]);
    let fd = guest.open("/file", nr::O_PATH);
    guest.fails(errno::EBADF, nr::__NR_fchmod, &[fd, 0o700]);
    guest.fails(errno::EBADF, nr::__NR_fchown, &[fd, 0, 0]);
    guest.fails(errno::EPERM, nr::__NR_mknod, &[file, u64::from(nr::S_IFDIR), 0]);
    guest.fails(errno::EINVAL, nr::__NR_mknod, &[file, 0o170_000, 0]);

    let mut guest = user();
    let [root, file] = ["/", "/file"].map(|path| guest.path(path));
    guest.fails(errno::EPERM, nr::__NR_chmod, &[root, 0o777]);
    guest.fails(errno::EPERM, nr::__NR_chown, &[root, 1000, 1000]);
    guest.fails(errno::EPERM, nr::__NR_mknod, &[file, u64::from(nr::S_IFCHR), 0x103]);
    guest.fails(errno::EPERM, nr::__NR_chroot, &[root]);
    guest.file("/file", b"");
    guest.ok(nr::__NR_chmod, &[file, 0o2755]);
    guest.fails(errno::EPERM, nr::__NR_chown, &[file, 0, u64::MAX]);
    guest.fails(errno::EPERM, nr::__NR_chown, &[file, u64::MAX, 0]);
    guest.ok(nr::__NR_chown, &[file, 1000, 1000]);
}

#[test]
fn times_are_set_left_or_now() {
    let mut guest = Guest::new();
    guest.file("/file", b"");
    let (file, buf) = (guest.path("/file"), guest.room(144));
    let both = guest.words(&[100, 5, u64::MAX, 6]);
    guest.ok(nr::__NR_utimensat, &[CWD, file, both, 0]);
    guest.ok(nr::__NR_stat, &[file, buf]);
    let times = |guest: &Guest| (guest.word(buf + 72), guest.word(buf + 80), guest.word(buf + 88), guest.word(buf + 96));
    assert_eq!(times(&guest), (100, 5, u64::MAX, 6));
    let one = guest.words(&[0, nr::UTIME_OMIT.into(), 200, 7]);
    let fd = guest.open("/file", nr::O_RDONLY);
    guest.ok(nr::__NR_utimensat, &[fd, 0, one, 0]);
    guest.ok(nr::__NR_stat, &[file, buf]);
    assert_eq!(times(&guest), (100, 5, 200, 7));
    let bad = guest.words(&[0, 1_000_000_000, 0, 0]);
    guest.fails(errno::EINVAL, nr::__NR_utimensat, &[CWD, file, bad, 0]);
    guest.fails(errno::EFAULT, nr::__NR_utimensat, &[CWD, 0, one, 0]);
    guest.fails(errno::EINVAL, nr::__NR_utimensat, &[fd, 0, one, 0x100]);
    let none = guest.words(&[0, nr::UTIME_OMIT.into(), 0, nr::UTIME_OMIT.into()]);
    guest.ok(nr::__NR_utimensat, &[99, NOWHERE, none, 0]);
    guest.ok(nr::__NR_utimensat, &[CWD, file, 0, 0]);
    guest.ok(nr::__NR_stat, &[file, buf]);
    assert!(guest.word(buf + 72) > 1_000_000_000);
    let micros = guest.words(&[3, 999_999, 4, 0]);
    guest.ok(nr::__NR_utimes, &[file, micros]);
    guest.ok(nr::__NR_stat, &[file, buf]);
    assert_eq!(times(&guest), (3, 999_999_000, 4, 0));
    let seconds = guest.words(&[8, 9]);
    guest.ok(nr::__NR_utime, &[file, seconds]);
    guest.ok(nr::__NR_stat, &[file, buf]);
    assert_eq!(times(&guest), (8, 0, 9, 0));

    let mut guest = user();
    let root = guest.path("/");
    guest.ok(nr::__NR_utimensat, &[CWD, root, 0, 0]);
    let one = guest.words(&[0, nr::UTIME_NOW.into(), 0, nr::UTIME_OMIT.into()]);
    guest.fails(errno::EPERM, nr::__NR_utimensat, &[CWD, root, one, 0]);
}

#[test]
fn a_shorter_file_takes_its_pages_from_mappings() {
    let mut guest = Guest::new();
    guest.file("/file", &[7; 5000]);
    let fd = guest.open("/file", nr::O_RDWR);
    let shared = nr::MAP_SHARED.into();
    let at = guest.ok(nr::__NR_mmap, &[0, 8192, nr::PROT_READ.into(), shared, fd, 0]);
    assert_eq!((guest.peek(at + 4096, 1), guest.peek(at, 1)), (vec![7], vec![7]));
    guest.ok(nr::__NR_ftruncate, &[fd, 100]);
    let text = guest.room(8);
    guest.fails(errno::EFAULT, nr::__NR_getcwd, &[at + 4096, 100]);
    guest.fails(errno::EFAULT, nr::__NR_write, &[fd, at + 4096, 1]);
    assert_eq!(guest.ok(nr::__NR_pread64, &[fd, text, 8, 96]), 4);
    let file = guest.path("/file");
    guest.fails(errno::EINVAL, nr::__NR_truncate, &[file, u64::MAX]);
    guest.ok(nr::__NR_truncate, &[file, 6000]);
    assert_eq!(guest.peek(at + 4096, 1), [0]);
    let root = guest.path("/");
    guest.fails(errno::EISDIR, nr::__NR_truncate, &[root, 0]);
}

#[test]
fn statx_and_statfs_have_linux_s_layout() {
    let mut guest = Guest::new();
    guest.file("/file", &[1; 5000]);
    let (file, buf, empty) = (guest.path("/file"), guest.room(256), guest.path(""));
    guest.ok(nr::__NR_statx, &[CWD, file, 0, nr::STATX_BASIC_STATS.into(), buf]);
    assert_eq!(guest.half(buf) & nr::STATX_BASIC_STATS, nr::STATX_BASIC_STATS);
    assert_eq!((guest.half(buf + 4), guest.half(buf + 16)), (4096, 1));
    assert_eq!(guest.half(buf + 28) & 0xffff, nr::S_IFREG | 0o644);
    assert_eq!((guest.word(buf + 40), guest.word(buf + 48)), (5000, 16));
    assert_eq!(guest.word(buf + 8), 0);
    let fd = guest.open("/", nr::O_PATH);
    guest.ok(nr::__NR_statx, &[fd, empty, nr::AT_EMPTY_PATH.into(), 0, buf]);
    assert_eq!(guest.word(buf + 8), nr::STATX_ATTR_MOUNT_ROOT.into());
    guest.ok(nr::__NR_statx, &[fd, 0, nr::AT_EMPTY_PATH.into(), 0, buf]);
    guest.fails(errno::EINVAL, nr::__NR_statx, &[CWD, file, 0, 1 << 31, buf]);
    guest.fails(errno::EINVAL, nr::__NR_statx, &[CWD, file, 0x6000, 0, buf]);
    guest.fails(errno::ENOENT, nr::__NR_statx, &[CWD, empty, 0, 0, buf]);
    guest.ok(nr::__NR_statfs, &[file, buf]);
    assert_eq!((guest.word(buf), guest.word(buf + 8)), (nr::TMPFS_MAGIC.into(), 4096));
    assert_eq!(guest.word(buf + 16), (256 << 20) / 4096);
    assert!(guest.word(buf + 24) < guest.word(buf + 16) && guest.word(buf + 24) > 0);
    assert_eq!(guest.word(buf + 64), 255);
    guest.ok(nr::__NR_fstatfs, &[fd, buf]);
}

#[test]
fn access_is_of_the_real_user() {
    let mut guest = Guest::with_ids(Ids { users: [1000, 0, 0], groups: [1000, 0, 0] });
    guest.file("/file", b"");
    let file = guest.path("/file");
    guest.ok(nr::__NR_chmod, &[file, 0o600]);
    guest.fails(errno::EACCES, nr::__NR_access, &[file, 4]);
    guest.ok(nr::__NR_faccessat2, &[CWD, file, 4, nr::AT_EACCESS.into()]);
    guest.fails(errno::EINVAL, nr::__NR_access, &[file, 8]);
}

#[test]
fn who_is_not_root_takes_the_set_id_bits_off_by_writing() {
    let mode = |guest: &mut Guest, path: &str| {
        let (path, stat) = (guest.path(path), guest.room(144));
        guest.ok(nr::__NR_stat, &[path, stat]);
        guest.half(stat + 24) & 0o7777
    };
    for (uid, left) in [(0, 0o6777), (1000, 0o777)] {
        let mut guest = Guest::with_ids(Ids { users: [uid; 3], groups: [uid; 3] });
        let path = guest.path("/program");
        let fd = guest.open("/program", nr::O_RDWR | nr::O_CREAT);
        let byte = guest.bytes(b"x");
        for (number, args) in [
            (nr::__NR_write, vec![fd, byte, 1]),
            (nr::__NR_pwrite64, vec![fd, byte, 1, 100]),
            (nr::__NR_ftruncate, vec![fd, 1]),
            (nr::__NR_truncate, vec![path, 0]),
            (nr::__NR_open, vec![path, (nr::O_WRONLY | nr::O_TRUNC).into()]),
        ] {
            guest.ok(nr::__NR_chmod, &[path, 0o6777]);
            guest.ok(number, &args);
            assert_eq!(mode(&mut guest, "/program"), left, "call {number} by {uid}");
        }
        guest.ok(nr::__NR_chmod, &[path, 0o2666]);
        guest.ok(nr::__NR_write, &[fd, byte, 1]);
        assert_eq!(mode(&mut guest, "/program"), 0o2666, "without a right to execute it is no program");
    }
}
