//! The tree of mounts: binding, moving, expiring, another root, a namespace of its own.

use litebox_core::capabilities::Capabilities;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::memory::{Limits, MemoryFs};
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::{At, FsContext, Resolve};
use litebox_core::fs::types::{Credentials, DeviceId, Gid, Mode, NewNode, OFlags, RenameFlags, Uid};
use litebox_core::quota::Quota;
use litebox_platform_hosted::Hosted;
use std::sync::Arc;

const ALL: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

fn memory(quota: &Arc<Quota>, minor: u32) -> NewMount<Hosted> {
    let root = NewNode { mode: ALL, uid: Uid(0), gid: Gid(0) };
    let root: InodeRef<Hosted> = MemoryFs::new(DeviceId { major: 0, minor }, quota, root).unwrap();
    NewMount { root, flags: MountFlags::empty(), kind: "tmpfs", source: "none".into() }
}

fn context() -> (Arc<Quota>, FsContext<Hosted>, Credentials) {
    let quota = Quota::new(1 << 20);
    let fs = FsContext::new(MountNamespace::new(memory(&quota, 1), &quota).unwrap());
    (quota, fs, Credentials { capabilities: Capabilities::all(), ..Credentials::default() })
}

fn place(at: At<'_, Hosted>, path: &str) -> Arc<Dentry<Hosted>> {
    at.resolve(path.as_bytes(), Resolve::FOLLOW).unwrap()
}

fn dirs(at: At<'_, Hosted>, paths: &[&str]) {
    for path in paths {
        at.mkdir(path.as_bytes(), ALL).unwrap();
    }
}

fn touch(at: At<'_, Hosted>, path: &str) {
    at.open(path.as_bytes(), OFlags::WRITE | OFlags::CREATE, ALL).unwrap();
}

fn has(at: At<'_, Hosted>, path: &str) -> bool {
    at.resolve(path.as_bytes(), Resolve::FOLLOW).is_ok()
}

fn errno<T>(result: Result<T>) -> Option<Errno> {
    result.err().and_then(|error| error.errno())
}

#[test]
fn what_is_bound_is_one_tree_seen_twice() {
    let (quota, fs, user) = context();
    let at = fs.at_cwd(&user);
    dirs(at, &["/a", "/a/sub", "/a/m", "/b"]);
    fs.namespace.mount(&place(at, "/a/m"), memory(&quota, 2)).unwrap();
    touch(at, "/a/m/inner");
    fs.namespace.bind(&place(at, "/a"), &place(at, "/b"), false).unwrap();
    assert_eq!(place(at, "/b").mount().within, b"/a");
    assert!(!has(at, "/b/m/inner"), "what is mounted below stays behind");
    // Each side holds a place and must not believe in it.
    let held = (place(at, "/a/sub"), place(at, "/b/sub"));
    touch(at, "/b/sub/f");
    assert!(has(at, "/a/sub/f"));
    at.rename(b"/a/sub", &at, b"/a/other", RenameFlags::empty()).unwrap();
    assert!(!has(at, "/b/sub") && has(at, "/b/other/f"));
    at.unlink(b"/b/other/f").unwrap();
    assert!(!has(at, "/a/other/f"));
    assert_eq!(fs.path_of(&place(at, "/b/other")).unwrap(), b"/b/other");
    assert_eq!(errno(at.rename(b"/a/other", &at, b"/b/other2", RenameFlags::empty())), Some(Errno::XDEV));
    drop(held);
    let top = place(at, "/b");
    fs.namespace.unmount(&top).unwrap();
    assert!(!has(at, "/b/other"));
}

#[test]
fn binding_deeply_takes_mounts_along() {
    let (quota, fs, user) = context();
    let at = fs.at_cwd(&user);
    dirs(at, &["/a", "/a/m", "/b"]);
    fs.namespace.mount(&place(at, "/a/m"), memory(&quota, 2)).unwrap();
    dirs(at, &["/a/m/n"]);
    fs.namespace.mount(&place(at, "/a/m/n"), memory(&quota, 3)).unwrap();
    touch(at, "/a/m/n/f");
    fs.namespace.bind(&place(at, "/a"), &place(at, "/b"), true).unwrap();
    assert!(has(at, "/b/m/n/f"));
    assert_eq!(fs.namespace.list().len(), 6);
    let top = place(at, "/b");
    assert_eq!(errno(fs.namespace.unmount(&top)), Some(Errno::BUSY), "something is mounted in it");
    fs.namespace.detach(&top).unwrap();
    assert_eq!(fs.namespace.list().len(), 3);
    assert!(has(at, "/a/m/n/f") && !has(at, "/b/m"));
}

#[test]
fn a_mount_moves_but_not_into_itself() {
    let (quota, fs, user) = context();
    let at = fs.at_cwd(&user);
    dirs(at, &["/a", "/b"]);
    fs.namespace.mount(&place(at, "/a"), memory(&quota, 2)).unwrap();
    dirs(at, &["/a/in"]);
    let root = place(at, "/a");
    assert_eq!(errno(fs.namespace.move_to(&root, &place(at, "/a/in"))), Some(Errno::LOOP));
    assert_eq!(errno(fs.namespace.move_to(&place(at, "/b"), &place(at, "/a"))), Some(Errno::INVAL));
    fs.namespace.move_to(&root, &place(at, "/b")).unwrap();
    assert!(has(at, "/b/in") && !has(at, "/a/in"));
    assert_eq!(fs.path_of(&place(at, "/b/in")).unwrap(), b"/b/in");
}

#[test]
fn a_mount_expires_at_the_second_call() {
    let (quota, fs, user) = context();
    let at = fs.at_cwd(&user);
    dirs(at, &["/a"]);
    let root = fs.namespace.mount(&place(at, "/a"), memory(&quota, 2)).unwrap();
    let open = at.open(b"/a/f", OFlags::WRITE | OFlags::CREATE, ALL).unwrap();
    assert_eq!(errno(fs.namespace.expire(&root)), Some(Errno::BUSY));
    drop(open);
    assert_eq!(errno(fs.namespace.expire(&root)), Some(Errno::AGAIN));
    fs.namespace.expire(&root).unwrap();
    assert_eq!(errno(fs.namespace.unmount(&root)), Some(Errno::INVAL));
    assert_eq!(errno(fs.namespace.unmount(&fs.namespace.root())), Some(Errno::BUSY));
}

#[test]
fn another_root_takes_the_first_one_s_place() {
    let (quota, fs, user) = context();
    let at = fs.at_cwd(&user);
    dirs(at, &["/new", "/plain"]);
    touch(at, "/old");
    fs.namespace.mount(&place(at, "/new"), memory(&quota, 2)).unwrap();
    dirs(at, &["/new/put"]);
    let (old, new, put) = (fs.namespace.root(), place(at, "/new"), place(at, "/new/put"));
    assert_eq!(errno(fs.namespace.pivot(&old, &place(at, "/plain"), &put)), Some(Errno::BUSY));
    assert_eq!(errno(fs.namespace.pivot(&old, &new, &place(at, "/plain"))), Some(Errno::BUSY));
    fs.namespace.pivot(&old, &new, &put).unwrap();
    let fs = FsContext::new(Arc::clone(&fs.namespace));
    let at = fs.at_cwd(&user);
    assert!(has(at, "/put/old") && !has(at, "/old"));
    assert_eq!(fs.path_of(&place(at, "/put/old")).unwrap(), b"/put/old");
    assert!(Arc::ptr_eq(&place(at, "/.."), &fs.root));
    fs.namespace.detach(&place(at, "/put")).unwrap();
    assert!(!has(at, "/put/old"));
}

#[test]
fn a_namespace_of_its_own_begins_with_the_same_mounts() {
    let (quota, fs, user) = context();
    let at = fs.at_cwd(&user);
    dirs(at, &["/a", "/b", "/a/c"]);
    fs.namespace.mount(&place(at, "/a"), memory(&quota, 2)).unwrap();
    dirs(at, &["/a/deep"]);
    let mut fs = fs.clone();
    fs.cwd = place(at, "/a/deep");
    let own = fs.with_own_mounts().unwrap();
    assert_eq!(own.path_of(&own.cwd).unwrap(), b"/a/deep");
    let there = own.at_cwd(&user);
    own.namespace.mount(&place(there, "/b"), memory(&quota, 3)).unwrap();
    touch(there, "/b/f");
    assert!(has(there, "/b/f") && !has(fs.at_cwd(&user), "/b/f"));
    touch(there, "/a/shared");
    assert!(has(fs.at_cwd(&user), "/a/shared"));
    assert_eq!(errno(own.namespace.bind(&place(fs.at_cwd(&user), "/b"), &place(there, "/b"), false)), Some(Errno::INVAL));
    let before = quota.used();
    drop(own);
    assert!(quota.used() < before, "mounts are charged, and given back");
}

#[test]
fn files_can_be_counted() {
    let quota = Quota::new(1 << 20);
    let root = NewNode { mode: ALL, uid: Uid(0), gid: Gid(0) };
    let root: InodeRef<Hosted> =
        MemoryFs::limited(DeviceId { major: 0, minor: 1 }, &quota, root, Limits { bytes: None, files: Some(3) }).unwrap();
    let mount = NewMount { root, flags: MountFlags::empty(), kind: "tmpfs", source: "none".into() };
    let fs = FsContext::new(MountNamespace::new(mount, &quota).unwrap());
    let user = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
    let at = fs.at_cwd(&user);
    dirs(at, &["/a", "/b"]);
    assert_eq!(errno(at.mkdir(b"/c", ALL)), Some(Errno::NOSPC));
    at.rmdir(b"/a").unwrap();
    dirs(at, &["/c"]);
}
