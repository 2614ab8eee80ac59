//! openat2(2).

use crate::guest::{CWD, Guest, errno};
use linux_raw_sys::general as nr;

fn open(guest: &mut Guest, dir: u64, path: &str, flags: u32, resolve: u32) -> Result<u64, u32> {
    let (path, how) = (guest.path(path), guest.words(&[flags.into(), 0, resolve.into()]));
    guest.call(nr::__NR_openat2, &[dir, path, how, 24])
}

/// `/dir/file`, `/dir/inner/`, and links: up, absolute, and to the file.
fn tree() -> (Guest, u64) {
    let mut guest = Guest::new();
    for dir in ["/dir", "/dir/inner"] {
        let path = guest.path(dir);
        guest.ok(nr::__NR_mkdir, &[path, 0o755]);
    }
    guest.file("/dir/file", b"inside");
    guest.file("/file", b"outside");
    for (target, link) in [("../file", "/dir/up"), ("/file", "/dir/absolute"), ("file", "/dir/link")] {
        let (target, link) = (guest.path(target), guest.path(link));
        guest.ok(nr::__NR_symlink, &[target, link]);
    }
    let dir = guest.open("/dir", nr::O_PATH);
    (guest, dir)
}

fn content(guest: &mut Guest, fd: u64) -> Vec<u8> {
    let room = guest.room(16);
    let len = guest.ok(nr::__NR_read, &[fd, room, 16]);
    guest.peek(room, usize::try_from(len).unwrap())
}

#[test]
fn a_walk_beneath_a_directory_never_leaves_it() {
    let (mut guest, dir) = tree();
    let beneath = nr::RESOLVE_BENEATH;
    for path in ["file", "inner/../file", "link"] {
        let fd = open(&mut guest, dir, path, 0, beneath).unwrap();
        assert_eq!(content(&mut guest, fd), b"inside", "{path}");
    }
    for path in ["../file", "inner/../../file", "/dir/file", "up", "absolute", ".."] {
        assert_eq!(open(&mut guest, dir, path, 0, beneath), Err(errno::EXDEV), "{path}");
    }
}

#[test]
fn a_directory_as_the_root_is_where_all_leads() {
    let (mut guest, dir) = tree();
    for path in ["file", "/file", "../file", "../../../file", "up", "absolute", "/inner/../../link"] {
        let fd = open(&mut guest, dir, path, 0, nr::RESOLVE_IN_ROOT).unwrap();
        assert_eq!(content(&mut guest, fd), b"inside", "{path}");
    }
}

#[test]
fn links_and_bad_requests_are_refused() {
    let (mut guest, dir) = tree();
    assert_eq!(open(&mut guest, dir, "link", 0, nr::RESOLVE_NO_SYMLINKS), Err(errno::ELOOP));
    assert!(open(&mut guest, dir, "file", 0, nr::RESOLVE_NO_SYMLINKS | nr::RESOLVE_NO_XDEV).is_ok());
    assert_eq!(open(&mut guest, dir, "file", 0, nr::RESOLVE_BENEATH | nr::RESOLVE_IN_ROOT), Err(errno::EINVAL));
    assert_eq!(open(&mut guest, dir, "file", 0, 0x40), Err(errno::EINVAL));
    assert_eq!(open(&mut guest, dir, "file", 1 << 30, 0), Err(errno::EINVAL));
    assert_eq!(open(&mut guest, dir, "file", nr::O_PATH | nr::O_RDWR, 0), Err(errno::EINVAL));
    let path = guest.path("/new");
    let with_mode = guest.words(&[0, 0o600, 0, 0]);
    guest.fails(errno::EINVAL, nr::__NR_openat2, &[CWD, path, with_mode, 24]);
    guest.fails(errno::EINVAL, nr::__NR_openat2, &[CWD, path, with_mode, 16]);
    let longer = guest.words(&[u64::from(nr::O_CREAT | nr::O_WRONLY), 0o600, 0, 0]);
    guest.ok(nr::__NR_openat2, &[CWD, path, longer, 32]);
    let unknown = guest.words(&[0, 0, 0, 1]);
    guest.fails(errno::E2BIG, nr::__NR_openat2, &[CWD, path, unknown, 32]);
}
