//! getxattr(2), setxattr(2), listxattr(2), removexattr(2), and those with a directory (`setxattrat(2)`).

use crate::guest::{Guest, errno};
use linux_raw_sys::general as nr;
use litebox_shim_linux::task::Ids;

fn set(guest: &mut Guest, file: u64, name: &str, value: &[u8], flags: u64) -> Result<u64, u32> {
    let (name, at) = (guest.path(name), guest.bytes(value));
    guest.call(nr::__NR_setxattr, &[file, name, at, value.len() as u64, flags])
}

fn get(guest: &mut Guest, file: u64, name: &str) -> Result<Vec<u8>, u32> {
    let (name, room) = (guest.path(name), guest.room(64));
    let len = guest.call(nr::__NR_getxattr, &[file, name, room, 64])?;
    Ok(guest.peek(room, usize::try_from(len).unwrap()))
}

#[test]
fn values_are_kept_listed_replaced_and_removed() {
    let mut guest = Guest::new();
    guest.file("/file", b"");
    let (file, fd) = (guest.path("/file"), guest.open("/file", nr::O_RDONLY));
    assert_eq!(set(&mut guest, file, "user.a", b"one", 2), Err(errno::ENODATA));
    assert_eq!(set(&mut guest, file, "user.a", b"one", 1), Ok(0));
    assert_eq!(set(&mut guest, file, "user.a", b"one", 1), Err(errno::EEXIST));
    assert_eq!(set(&mut guest, file, "user.a", b"", 0), Ok(0));
    assert_eq!(get(&mut guest, file, "user.a").unwrap(), b"");
    assert_eq!(set(&mut guest, file, "trusted.b", b"two", 0), Ok(0));
    let (names, room) = (b"trusted.b\0user.a\0", guest.room(64));
    assert_eq!(guest.ok(nr::__NR_flistxattr, &[fd, 0, 0]), names.len() as u64);
    assert_eq!(guest.ok(nr::__NR_listxattr, &[file, room, 64]), names.len() as u64);
    assert_eq!(guest.peek(room, names.len()), names);
    guest.fails(errno::ERANGE, nr::__NR_listxattr, &[file, room, 4]);
    let name = guest.path("trusted.b");
    assert_eq!(guest.ok(nr::__NR_fgetxattr, &[fd, name, 0, 0]), 3);
    guest.fails(errno::ERANGE, nr::__NR_fgetxattr, &[fd, name, room, 2]);
    guest.ok(nr::__NR_fremovexattr, &[fd, name]);
    guest.fails(errno::ENODATA, nr::__NR_removexattr, &[file, name]);
    assert_eq!(get(&mut guest, file, "trusted.b"), Err(errno::ENODATA));
}

#[test]
fn names_and_owners_are_checked() {
    let mut guest = Guest::with_ids(Ids { users: [1000; 3], groups: [1000; 3] });
    guest.file("/file", b"");
    let (root, file) = (guest.path("/"), guest.path("/file"));
    assert_eq!(set(&mut guest, root, "user.a", b"x", 0), Ok(0), "whoever may write may");
    assert_eq!(set(&mut guest, file, "trusted.a", b"x", 0), Err(errno::EPERM));
    assert_eq!(set(&mut guest, file, "security.a", b"x", 0), Err(errno::EPERM));
    assert_eq!(get(&mut guest, file, "security.a"), Err(errno::ENODATA));
    assert_eq!(set(&mut guest, file, "system.posix_acl_access", b"x", 0), Err(errno::EOPNOTSUPP));
    assert_eq!(set(&mut guest, file, "user.", b"x", 0), Err(errno::EINVAL));
    assert_eq!(set(&mut guest, file, "", b"x", 0), Err(errno::ERANGE));
    assert_eq!(set(&mut guest, file, &"user.".repeat(60), b"x", 0), Err(errno::ERANGE));
    assert_eq!(set(&mut guest, file, "user.a", b"x", 4), Err(errno::EINVAL));
    let (name, big) = (guest.path("user.a"), guest.room(8));
    guest.fails(errno::E2BIG, nr::__NR_setxattr, &[file, name, big, 65_537, 0]);
    guest.ok(nr::__NR_chmod, &[file, 0o000]);
    assert_eq!(set(&mut guest, file, "user.a", b"x", 0), Err(errno::EACCES));
    let (target, link) = (guest.path("none"), guest.path("/link"));
    guest.ok(nr::__NR_symlink, &[target, link]);
    guest.fails(errno::EPERM, nr::__NR_lsetxattr, &[link, name, big, 1, 0]);
    guest.fails(errno::ENOENT, nr::__NR_getxattr, &[link, name, 0, 0]);
}

#[test]
fn a_directory_says_where_the_file_is() {
    let mut guest = Guest::new();
    guest.file("/file", b"");
    let (dir, fd) = (guest.open("/", nr::O_DIRECTORY), guest.open("/file", nr::O_RDONLY));
    let (file, name, value, room) = (guest.path("file"), guest.path("user.a"), guest.bytes(b"one"), guest.room(64));
    let args = |guest: &mut Guest, at: u64, len: u64, flags: u64| guest.words(&[at, len | flags << 32, 0]);
    let (given, taken) = (args(&mut guest, value, 3, 0), args(&mut guest, room, 64, 0));
    guest.ok(nr::__NR_setxattrat, &[dir, file, 0, name, given, 16]);
    assert_eq!(guest.ok(nr::__NR_getxattrat, &[fd, 0, nr::AT_EMPTY_PATH.into(), name, taken, 24]), 3);
    assert_eq!(guest.peek(room, 3), b"one");
    assert_eq!(guest.ok(nr::__NR_listxattrat, &[dir, file, 0, room, 64]), 7);
    let create = args(&mut guest, value, 3, 1);
    guest.fails(errno::EEXIST, nr::__NR_setxattrat, &[dir, file, 0, name, create, 16]);
    guest.fails(errno::EINVAL, nr::__NR_getxattrat, &[dir, file, 0, name, create, 16]);
    guest.fails(errno::EINVAL, nr::__NR_getxattrat, &[dir, file, 0, name, taken, 8]);
    guest.fails(errno::EINVAL, nr::__NR_getxattrat, &[dir, file, 1, name, taken, 16]);
    let more = guest.words(&[room, 64, 1]);
    guest.fails(errno::E2BIG, nr::__NR_getxattrat, &[dir, file, 0, name, more, 24]);
    guest.fails(errno::E2BIG, nr::__NR_getxattrat, &[dir, file, 0, name, taken, 5000]);
    guest.ok(nr::__NR_removexattrat, &[dir, file, 0, name]);
    guest.fails(errno::ENODATA, nr::__NR_getxattrat, &[dir, file, 0, name, taken, 16]);
}
