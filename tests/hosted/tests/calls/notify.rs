//! inotify(7).

use crate::guest::{Guest, errno};
use linux_raw_sys::general as nr;

/// A descriptor that watches `path` for everything in `mask`.
fn watch(guest: &mut Guest, path: &str, mask: u32) -> (u64, u64) {
    let fd = guest.ok(nr::__NR_inotify_init1, &[nr::IN_NONBLOCK.into()]);
    let path = guest.path(path);
    (fd, guest.ok(nr::__NR_inotify_add_watch, &[fd, path, mask.into()]))
}

/// Events as mask and name.
fn events(guest: &mut Guest, fd: u64) -> Vec<(u32, String)> {
    let room = guest.room(4096);
    let Ok(len) = guest.call(nr::__NR_read, &[fd, room, 4096]) else { return Vec::new() };
    let (mut at, mut list) = (room, Vec::new());
    while at < room + len {
        let name_len = guest.half(at + 12);
        let name = guest.peek(at + 16, usize::try_from(name_len).unwrap());
        let name = String::from_utf8(name.into_iter().take_while(|byte| *byte != 0).collect()).unwrap();
        list.push((guest.half(at + 4), name));
        at += 16 + u64::from(name_len);
    }
    list
}

fn named(list: &[(u32, &str)]) -> Vec<(u32, String)> {
    list.iter().map(|(mask, name)| (*mask, (*name).to_owned())).collect()
}

#[test]
fn a_directory_tells_of_its_entries() {
    let mut guest = Guest::new();
    let [dir, sub, file, other] = ["/dir", "/dir/sub", "/dir/file", "/dir/other"].map(|path| guest.path(path));
    guest.ok(nr::__NR_mkdir, &[dir, 0o755]);
    let (fd, _) = watch(&mut guest, "/dir", nr::IN_ALL_EVENTS);
    guest.fails(errno::EAGAIN, nr::__NR_read, &[fd, file, 64]);
    guest.ok(nr::__NR_mkdir, &[sub, 0o755]);
    guest.file("/dir/file", b"x");
    let made = [
        (nr::IN_CREATE | nr::IN_ISDIR, "sub"),
        (nr::IN_CREATE, "file"),
        (nr::IN_OPEN, "file"),
        (nr::IN_MODIFY, "file"),
        (nr::IN_CLOSE_WRITE, "file"),
    ];
    assert_eq!(events(&mut guest, fd), named(&made));
    assert_eq!(guest.content("/dir/file"), b"x");
    guest.ok(nr::__NR_chmod, &[file, 0o600]);
    guest.ok(nr::__NR_rename, &[file, other]);
    guest.ok(nr::__NR_unlink, &[other]);
    guest.ok(nr::__NR_rmdir, &[sub]);
    let read = [(nr::IN_OPEN, "file"), (nr::IN_ACCESS, "file"), (nr::IN_CLOSE_NOWRITE, "file"), (nr::IN_ATTRIB, "file")];
    let gone = [
        (nr::IN_MOVED_FROM, "file"),
        (nr::IN_MOVED_TO, "other"),
        (nr::IN_DELETE, "other"),
        (nr::IN_DELETE | nr::IN_ISDIR, "sub"),
    ];
    assert_eq!(events(&mut guest, fd), named(&[&read[..], &gone[..]].concat()));
}

#[test]
fn a_file_tells_of_its_end_and_the_watch_goes_with_it() {
    let mut guest = Guest::new();
    guest.file("/file", b"x");
    let (fd, number) = watch(&mut guest, "/file", nr::IN_DELETE_SELF | nr::IN_MOVE_SELF);
    let [file, other] = ["/file", "/other"].map(|path| guest.path(path));
    assert_eq!(guest.ok(nr::__NR_inotify_add_watch, &[fd, file, u64::from(nr::IN_MODIFY | nr::IN_MASK_ADD)]), number);
    guest.fails(errno::EEXIST, nr::__NR_inotify_add_watch, &[fd, file, u64::from(nr::IN_MODIFY | nr::IN_MASK_CREATE)]);
    guest.ok(nr::__NR_rename, &[file, other]);
    guest.ok(nr::__NR_truncate, &[other, 0]);
    guest.ok(nr::__NR_unlink, &[other]);
    let list = [(nr::IN_MOVE_SELF, ""), (nr::IN_MODIFY, ""), (nr::IN_DELETE_SELF, ""), (nr::IN_IGNORED, "")];
    assert_eq!(events(&mut guest, fd), named(&list));
    guest.fails(errno::EINVAL, nr::__NR_inotify_rm_watch, &[fd, number]);
}

#[test]
fn watches_end_and_bad_ones_are_refused() {
    let mut guest = Guest::new();
    guest.file("/file", b"x");
    let (fd, number) = watch(&mut guest, "/", nr::IN_CREATE);
    let poll = guest.words(&[fd | u64::from(nr::POLLIN) << 32]);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, 0]), 0);
    guest.ok(nr::__NR_inotify_rm_watch, &[fd, number]);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, 0]), 1);
    assert_eq!(events(&mut guest, fd), named(&[(nr::IN_IGNORED, "")]));
    guest.file("/new", b"");
    assert_eq!(events(&mut guest, fd), []);
    let (file, root, none) = (guest.path("/file"), guest.path("/"), guest.path("/none"));
    guest.ok(nr::__NR_inotify_add_watch, &[fd, root, u64::from(nr::IN_CREATE | nr::IN_ONESHOT)]);
    guest.file("/once", b"");
    guest.file("/twice", b"");
    assert_eq!(events(&mut guest, fd), named(&[(nr::IN_CREATE, "once"), (nr::IN_IGNORED, "")]));
    guest.fails(errno::EINVAL, nr::__NR_inotify_add_watch, &[fd, file, 0]);
    guest.fails(errno::ENOENT, nr::__NR_inotify_add_watch, &[fd, none, 1]);
    guest.fails(errno::ENOTDIR, nr::__NR_inotify_add_watch, &[fd, file, u64::from(1 | nr::IN_ONLYDIR)]);
    guest.fails(errno::EBADF, nr::__NR_inotify_add_watch, &[99, file, 1]);
    let open = guest.open("/file", nr::O_RDONLY);
    guest.fails(errno::EINVAL, nr::__NR_inotify_add_watch, &[open, file, 1]);
    guest.fails(errno::EINVAL, nr::__NR_inotify_init1, &[1]);
}
