//! Names, paths, links, renames, mounts and permissions over the memory file system.

use litebox_core::capabilities::Capabilities;
use litebox_core::error::Errno;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::{InodeRef, Special};
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::memory::MemoryFs;
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::{At, FsContext, Resolve};
use litebox_core::fs::types::{Access, Attr, Credentials, DeviceId, Mode, NewNode, OFlags, RenameFlags, Uid};
use litebox_core::quota::Quota;
use litebox_platform_hosted::Hosted;
use std::sync::Arc;

const ALL: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

fn tree(quota: &Arc<Quota>, minor: u32) -> InodeRef<Hosted> {
    let root = NewNode { mode: ALL, uid: Uid(0), gid: Default::default() };
    MemoryFs::new(DeviceId { major: 0, minor }, quota, root).expect("a root")
}

fn mount_of(root: InodeRef<Hosted>) -> NewMount<Hosted> {
    NewMount { root, flags: MountFlags::empty(), kind: "tmpfs", source: "none".into() }
}

fn context() -> (Arc<Quota>, FsContext<Hosted>) {
    let quota = Quota::new(64 << 20);
    let namespace = MountNamespace::new(mount_of(tree(&quota, 1)), &quota).expect("room");
    (quota, FsContext::new(namespace))
}

fn root() -> Credentials {
    Credentials { capabilities: Capabilities::all(), ..Credentials::default() }
}

fn put(at: At<'_, Hosted>, path: &str, text: &[u8]) -> Arc<File<Hosted>> {
    let file = at.open(path.as_bytes(), OFlags::READ | OFlags::WRITE | OFlags::CREATE, ALL).expect("created");
    assert_eq!(file.write(&mut IoSrc::kernel(text)).expect("written"), text.len());
    file
}

fn get(at: At<'_, Hosted>, path: &str) -> Result<Vec<u8>, Errno> {
    let file = at.open(path.as_bytes(), OFlags::READ, Mode::empty()).map_err(|error| error.errno().expect("an errno"))?;
    let mut buffer = [0; 64];
    let count = file.read(&mut IoDst::kernel(&mut buffer)).map_err(|error| error.errno().expect("an errno"))?;
    Ok(buffer[..count].to_vec())
}

fn errno<T>(result: litebox_core::error::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| error.errno())
}

fn attr(at: At<'_, Hosted>, path: &str) -> Attr {
    at.resolve(path.as_bytes(), Resolve::empty()).expect("there").inode().attr().expect("attributes")
}

#[test]
fn paths_follow_dots_slashes_and_links() {
    let (_quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    at.mkdir(b"/a", ALL).expect("a");
    at.mkdir(b"a/b/", ALL).expect("a slash after a new directory is fine");
    put(at, "/a/b/file", b"hello");
    at.symlink(b"../a/b", b"/a/link").expect("a link");
    at.symlink(b"/a/b/file", b"/a/b/abs").expect("an absolute link");
    for path in ["/a/b/file", "//a/./b//file", "/../a/b/../b/file", "a/link/file", "a/link/../link/file", "/a/link/abs"] {
        assert_eq!(get(at, path).as_deref(), Ok(&b"hello"[..]), "{path}");
    }
    assert_eq!(get(at, "/a/b/file/"), Err(Errno::NOTDIR));
    assert_eq!(get(at, "/a/b/file/x"), Err(Errno::NOTDIR));
    assert_eq!(get(at, "/a/x/file"), Err(Errno::NOENT));
    assert_eq!(get(at, ""), Err(Errno::NOENT));
    assert_eq!(get(at, &"x".repeat(256)), Err(Errno::NAMETOOLONG));
    assert_eq!(get(at, &"a/".repeat(2048)), Err(Errno::NAMETOOLONG));
    assert_eq!(errno(at.open(b"/a/link", OFlags::READ | OFlags::NOFOLLOW, ALL)), Some(Errno::LOOP));
    assert_eq!(errno(at.open(b"/a/b/abs", OFlags::READ | OFlags::DIRECTORY, ALL)), Some(Errno::NOTDIR));
    assert_eq!(at.readlink(b"/a/link").expect("a target"), b"../a/b");
    assert_eq!(errno(at.readlink(b"/a/b")), Some(Errno::INVAL));
}

#[test]
fn forty_links_are_followed_and_a_loop_is_an_error() {
    let (_quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    put(at, "/l0", b"end");
    for index in 1..=41 {
        at.symlink(format!("l{}", index - 1).as_bytes(), format!("/l{index}").as_bytes()).expect("a link");
    }
    assert_eq!(get(at, "/l40").as_deref(), Ok(&b"end"[..]));
    assert_eq!(get(at, "/l41"), Err(Errno::LOOP));
    at.symlink(b"loop", b"/loop").expect("a link");
    assert_eq!(get(at, "/loop/x"), Err(Errno::LOOP));
    assert_eq!(errno(at.open(b"/loop", OFlags::WRITE | OFlags::CREATE, ALL)), Some(Errno::LOOP));
}

#[test]
fn open_creates_through_a_dangling_link_but_not_exclusively() {
    let (_quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    at.symlink(b"/made", b"/dangling").expect("a link");
    let exclusive = OFlags::WRITE | OFlags::CREATE | OFlags::EXCL;
    assert_eq!(errno(at.open(b"/dangling", exclusive, ALL)), Some(Errno::EXIST));
    put(at, "/dangling", b"x");
    assert_eq!(get(at, "/made").as_deref(), Ok(&b"x"[..]));
    assert_eq!(errno(at.open(b"/made", exclusive, ALL)), Some(Errno::EXIST));
    assert_eq!(errno(at.open(b"/new/", exclusive, ALL)), Some(Errno::ISDIR));
    assert_eq!(errno(at.open(b"/", OFlags::READ | OFlags::CREATE, ALL)), Some(Errno::ISDIR));
    assert_eq!(errno(at.open(b"/", OFlags::WRITE, ALL)), Some(Errno::ISDIR));
}

#[test]
fn removing_keeps_linux_errnos() {
    let (_quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    at.mkdir(b"/d", ALL).expect("d");
    put(at, "/d/f", b"");
    assert_eq!(errno(at.rmdir(b"/d")), Some(Errno::NOTEMPTY));
    assert_eq!(errno(at.rmdir(b"/d/f")), Some(Errno::NOTDIR));
    assert_eq!(errno(at.rmdir(b"/d/.")), Some(Errno::INVAL));
    assert_eq!(errno(at.rmdir(b"/d/..")), Some(Errno::NOTEMPTY));
    assert_eq!(errno(at.rmdir(b"/")), Some(Errno::BUSY));
    assert_eq!(errno(at.unlink(b"/d")), Some(Errno::ISDIR));
    assert_eq!(errno(at.unlink(b"/d/f/")), Some(Errno::NOTDIR));
    assert_eq!(errno(at.mkdir(b"/d", ALL)), Some(Errno::EXIST));
    at.unlink(b"/d/f").expect("unlinked");
    at.rmdir(b"/d").expect("removed");
    assert_eq!(attr(at, "/").links, 2);
}

#[test]
fn hard_links_share_a_file_and_count() {
    let (_quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    put(at, "/one", b"same");
    let one = at.resolve(b"/one", Resolve::empty()).expect("there");
    at.link(&one, b"/two").expect("linked");
    assert_eq!((attr(at, "/one").links, attr(at, "/one").id), (2, attr(at, "/two").id));
    at.rename(b"/one", &at, b"/two", RenameFlags::empty()).expect("two names of one file: nothing happens");
    assert_eq!(attr(at, "/one").links, 2);
    at.unlink(b"/one").expect("unlinked");
    assert_eq!(get(at, "/two").as_deref(), Ok(&b"same"[..]));
    assert_eq!(attr(at, "/two").links, 1);
    let dir = at.resolve(b"/", Resolve::empty()).expect("there");
    assert_eq!(errno(at.link(&dir, b"/three")), Some(Errno::PERM));
}

#[test]
fn renames_replace_exchange_and_refuse() {
    let (_quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    for dir in ["/a", "/a/b", "/c", "/c/full", "/c/full/x", "/e"] {
        at.mkdir(dir.as_bytes(), ALL).expect(dir);
    }
    put(at, "/f", b"f");
    put(at, "/g", b"g");
    let none = RenameFlags::empty();
    assert_eq!(errno(at.rename(b"/a", &at, b"/a/b/a", none)), Some(Errno::INVAL));
    assert_eq!(errno(at.rename(b"/a", &at, b"/c/full", none)), Some(Errno::NOTEMPTY));
    assert_eq!(errno(at.rename(b"/a/b", &at, b"/a", none)), Some(Errno::NOTEMPTY));
    assert_eq!(errno(at.rename(b"/a", &at, b"/f", none)), Some(Errno::NOTDIR));
    assert_eq!(errno(at.rename(b"/f", &at, b"/a", none)), Some(Errno::ISDIR));
    assert_eq!(errno(at.rename(b"/f", &at, b"/h/", none)), Some(Errno::NOTDIR));
    assert_eq!(errno(at.rename(b"/f", &at, b"/g", RenameFlags::NOREPLACE)), Some(Errno::EXIST));
    assert_eq!(errno(at.rename(b"/f", &at, b"/h", RenameFlags::EXCHANGE)), Some(Errno::NOENT));
    at.rename(b"/f", &at, b"/g", RenameFlags::EXCHANGE).expect("exchanged");
    assert_eq!((get(at, "/f"), get(at, "/g")), (Ok(b"g".to_vec()), Ok(b"f".to_vec())));
    at.rename(b"/f", &at, b"/c/f", none).expect("moved");
    assert_eq!((get(at, "/f"), get(at, "/c/f")), (Err(Errno::NOENT), Ok(b"g".to_vec())));
    at.rename(b"/a", &at, b"/e", none).expect("an empty directory is replaced");
    assert_eq!(attr(at, "/").links, 4);
    at.rename(b"/e", &at, b"/c/e", none).expect("moved");
    assert_eq!((attr(at, "/").links, attr(at, "/c").links), (3, 4));
    at.rename(b"/c/e", &at, b"/g", RenameFlags::EXCHANGE).expect("a directory for a file");
    assert_eq!((attr(at, "/").links, attr(at, "/c").links), (4, 3));
    assert_eq!(get(at, "/c/e").as_deref(), Ok(&b"f"[..]));
}

#[test]
fn a_rename_shows_in_the_working_directory() {
    let (_quota, mut fs) = context();
    let user = root();
    fs.at_cwd(&user).mkdir(b"/a", ALL).expect("a");
    fs.at_cwd(&user).mkdir(b"/a/b", ALL).expect("b");
    fs.cwd = fs.at_cwd(&user).resolve(b"/a/b", Resolve::DIRECTORY).expect("b");
    let at = fs.at_cwd(&user);
    at.rename(b"/a", &at, b"/z", RenameFlags::empty()).expect("renamed");
    assert_eq!(fs.path_of(&fs.cwd).expect("a path"), b"/z/b");
    at.rmdir(b"/z/b").expect("removed");
    assert_eq!(errno(fs.path_of(&fs.cwd)), Some(Errno::NOENT));
    assert_eq!(errno(at.mkdir(b"x", ALL)), Some(Errno::NOENT));
}

#[test]
fn mounts_cover_and_dot_dot_crosses_them() {
    let (quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    at.mkdir(b"/m", ALL).expect("m");
    put(at, "/m/below", b"below");
    let point = at.resolve(b"/m", Resolve::empty()).expect("m");
    let top = fs.namespace.mount(&point, mount_of(tree(&quota, 2))).expect("mounted");
    put(at, "/m/above", b"above");
    assert_eq!(get(at, "/m/below"), Err(Errno::NOENT));
    assert_eq!(get(at, "/m/../m/above").as_deref(), Ok(&b"above"[..]));
    assert_eq!(errno(at.rmdir(b"/m")), Some(Errno::BUSY));
    assert_eq!(errno(at.rename(b"/m", &at, b"/n", RenameFlags::empty())), Some(Errno::BUSY));
    let inside = at.resolve(b"/m/above", Resolve::empty()).expect("above");
    assert_eq!(errno(at.link(&inside, b"/x")), Some(Errno::XDEV));
    assert_eq!(fs.path_of(&inside).expect("a path"), b"/m/above");
    assert_eq!(errno(fs.namespace.unmount(&top)), Some(Errno::BUSY), "a file in it is held");
    drop(inside);
    fs.namespace.unmount(&top).expect("unmounted");
    assert_eq!(get(at, "/m/below").as_deref(), Ok(&b"below"[..]));
}

#[test]
fn permissions_bind_users() {
    let (_quota, fs) = context();
    let (admin, user) = (root(), Credentials { uid: Uid(7), ..Credentials::default() });
    let at = fs.at_cwd(&admin);
    at.mkdir(b"/private", Mode::RWXU).expect("private");
    put(at, "/private/f", b"x");
    at.mkdir(b"/tmp", ALL | Mode::STICKY).expect("tmp");
    let tmp = at.resolve(b"/tmp", Resolve::empty()).expect("tmp");
    let all = litebox_core::fs::types::AttrChange { mode: Some(ALL | Mode::STICKY), ..Default::default() };
    at.set_attr(&tmp, &all).expect("chmod");
    put(at, "/tmp/admins", b"x");
    let theirs = fs.at_cwd(&user);
    assert_eq!(get(theirs, "/private/f"), Err(Errno::ACCESS));
    assert_eq!(errno(theirs.unlink(b"/tmp/admins")), Some(Errno::PERM));
    assert_eq!(errno(theirs.set_attr(&tmp, &all)), Some(Errno::PERM));
    put(theirs, "/tmp/mine", b"y");
    assert_eq!(attr(theirs, "/tmp/mine").uid, Uid(7));
    theirs.unlink(b"/tmp/mine").expect("one's own");
    assert_eq!(errno(theirs.may(&tmp, Access::WRITE)), None);
}

#[test]
fn listing_goes_on_where_it_stopped_while_names_change() {
    let (_quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    for index in 0..10 {
        put(at, &format!("/f{index}"), b"");
    }
    let dir = at.open(b"/", OFlags::READ | OFlags::DIRECTORY, ALL).expect("a directory");
    let mut seen = Vec::new();
    loop {
        let mut room = 3;
        let before = seen.len();
        dir.read_dir(&mut |entry| {
            if room == 0 {
                return false;
            }
            room -= 1;
            seen.push(String::from_utf8(entry.name.to_vec()).expect("text"));
            true
        })
        .expect("listed");
        if seen.len() == before {
            break;
        }
        let last = seen.last().expect("one").clone();
        if last.starts_with('f') {
            at.unlink(format!("/{last}").as_bytes()).expect("unlinked");
        }
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
}

#[test]
fn a_very_deep_tree_is_freed_without_recursion_and_all_is_given_back() {
    let (quota, fs) = context();
    {
        let mut fs = fs;
        let user = root();
        for _ in 0..20_000 {
            let at = fs.at_cwd(&user);
            at.mkdir(b"d", ALL).expect("deeper");
            fs.cwd = at.resolve(b"d", Resolve::empty()).expect("d");
        }
        assert!(quota.used() > 20_000 * 500);
    }
    assert_eq!(quota.used(), 0);
}

#[test]
fn special_files_have_their_kind() {
    let (_quota, fs) = context();
    let user = root();
    let at = fs.at_cwd(&user);
    let device = DeviceId { major: 1, minor: 3 };
    at.mknod(b"/c", Special::CharDevice(device), ALL).expect("a node");
    assert_eq!(attr(at, "/c").device, device);
    assert_eq!(get(at, "/c"), Err(Errno::NXIO));
    at.mknod(b"/p", Special::Fifo, ALL).expect("a pipe");
    assert_eq!(errno(at.open(b"/p", OFlags::WRITE | OFlags::NONBLOCK, ALL)), Some(Errno::NXIO));
    let both = at.open(b"/p", OFlags::READ | OFlags::WRITE, ALL).expect("both ends");
    both.write(&mut IoSrc::kernel(b"pipe")).expect("written");
    assert_eq!(get(at, "/p").as_deref(), Ok(&b"pipe"[..]));
}
