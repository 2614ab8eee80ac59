//! A directory of this machine that is shared with the sandbox for reading and writing, over std.

use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::{Errno, Error, Result};
use litebox_core::fs::file::File;
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostLeaf, HostNode};
use litebox_core::fs::hostdir::{self, HostAccess};
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::map::{FileSource, MapAccess};
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::{FsContext, Resolve};
use litebox_core::fs::pseudo::made_up_attr;
use litebox_core::fs::types::{
    Attr, AttrChange, Credentials, DeviceId, FileKind, InodeId, Mode, Name, OFlags, RenameFlags, SetTime, Timestamp,
};
use litebox_platform_hosted::Hosted;
use std::any::Any;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

const DEVICE: DeviceId = DeviceId { major: 0, minor: 9 };

/// std's error in the library OS's terms.
fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => errno!(NOENT),
        io::ErrorKind::AlreadyExists => errno!(EXIST),
        io::ErrorKind::DirectoryNotEmpty => errno!(NOTEMPTY),
        io::ErrorKind::NotADirectory => errno!(NOTDIR),
        io::ErrorKind::IsADirectory => errno!(ISDIR),
        _ => panic!("{error}"),
    }
}

fn attr_of(path: &Path) -> Result<Attr> {
    let stat = fs::symlink_metadata(path).map_err(failed)?;
    let kind = if stat.is_dir() {
        FileKind::Directory
    } else if stat.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Regular
    };
    let id = InodeId { device: DeviceId { major: 8, minor: 1 }, number: stat.ino() };
    let mode = Mode::from_bits_truncate(stat.mode());
    let modified = Timestamp { seconds: stat.mtime(), nanoseconds: 0 };
    Ok(Attr { size: stat.size(), modified, links: stat.nlink() as u32, ..made_up_attr(id, kind, mode, Timestamp::default()) })
}

fn set_attr(path: &Path, change: &AttrChange) -> Result<()> {
    if let Some(mode) = change.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode.bits())).map_err(failed)?;
    }
    if let Some(size) = change.size {
        fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(size)).map_err(failed)?;
    }
    if let Some(SetTime::At(time)) = change.modified {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.seconds as u64);
        fs::File::open(path).and_then(|file| file.set_modified(time)).map_err(failed)?;
    }
    Ok(())
}

#[derive(Debug)]
struct StdFile(fs::File, PathBuf);

impl HostFile<Hosted> for StdFile {
    fn attr(&self) -> Result<Attr> {
        Ok(Attr { size: self.0.metadata().map_err(failed)?.len(), ..attr_of(&self.1)? })
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read(&self, offset: u64, dst: &mut [u8], _: Blocking) -> Result<usize> {
        self.0.read_at(dst, offset).map_err(failed)
    }
    fn write(&self, offset: u64, src: &[u8], _: Blocking) -> Result<usize> {
        self.0.write_at(src, offset).map_err(failed)
    }
    fn truncate(&self, size: u64) -> Result<()> {
        self.0.set_len(size).map_err(failed)
    }
}

/// Where a file was found. std has no handle that follows a rename, so links and attributes go by path.
#[derive(Debug)]
struct StdLeaf(PathBuf);

impl HostLeaf<Hosted> for StdLeaf {
    fn attr(&self) -> Result<Attr> {
        attr_of(&self.0)
    }
    fn open(&self, access: OFlags) -> Result<Arc<dyn HostFile<Hosted>>> {
        let (read, write) = (access.contains(OFlags::READ), access.contains(OFlags::WRITE));
        let file = fs::OpenOptions::new().read(read).write(write).open(&self.0).map_err(failed)?;
        Ok(Arc::new(StdFile(file, self.0.clone())))
    }
    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        set_attr(&self.0, change)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct StdDir(PathBuf);

impl StdDir {
    fn at(&self, name: Name<'_>) -> PathBuf {
        self.0.join(OsStr::from_bytes(name.as_bytes()))
    }
}

impl HostDir<Hosted> for StdDir {
    fn attr(&self) -> Result<Attr> {
        attr_of(&self.0)
    }
    fn lookup(&self, name: Name<'_>) -> Result<HostNode<Hosted>> {
        let path = self.at(name);
        Ok(match attr_of(&path)?.kind {
            FileKind::Directory => HostNode::Dir(Arc::new(Self(path))),
            FileKind::Symlink => {
                let target = fs::read_link(&path).map_err(failed)?.into_os_string().into_vec();
                HostNode::Symlink(Arc::new(StdLeaf(path)), target)
            }
            _ => HostNode::Leaf(Arc::new(StdLeaf(path))),
        })
    }
    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        for (index, entry) in fs::read_dir(&self.0).map_err(failed)?.enumerate().skip(cookie as usize) {
            let name = entry.map_err(failed)?.file_name();
            if !sink(HostEntry { name: name.as_bytes(), number: 1, kind: FileKind::Regular, next: index as u64 + 1 }) {
                break;
            }
        }
        Ok(())
    }
    fn may_list(&self) -> Result<()> {
        // As for a user who owns nothing here.
        if self.attr()?.mode.contains(Mode::ROTH) { Ok(()) } else { Err(errno!(ACCESS)) }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        set_attr(&self.0, change)
    }
    fn create(&self, name: Name<'_>, mode: Mode) -> Result<()> {
        fs::OpenOptions::new().write(true).create_new(true).mode(mode.bits()).open(self.at(name)).map(drop).map_err(failed)
    }
    fn mkdir(&self, name: Name<'_>, mode: Mode) -> Result<()> {
        fs::DirBuilder::new().mode(mode.bits()).create(self.at(name)).map_err(failed)
    }
    fn symlink(&self, name: Name<'_>, target: &[u8]) -> Result<()> {
        symlink(OsStr::from_bytes(target), self.at(name)).map_err(failed)
    }
    fn link(&self, name: Name<'_>, leaf: &dyn HostLeaf<Hosted>) -> Result<()> {
        let leaf = leaf.as_any().downcast_ref::<StdLeaf>().ok_or(errno!(XDEV))?;
        fs::hard_link(&leaf.0, self.at(name)).map_err(failed)
    }
    fn unlink(&self, name: Name<'_>) -> Result<()> {
        fs::remove_file(self.at(name)).map_err(failed)
    }
    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        fs::remove_dir(self.at(name)).map_err(failed)
    }
    fn rename(&self, from: Name<'_>, dir: &dyn HostDir<Hosted>, to: Name<'_>, _: RenameFlags) -> Result<()> {
        let dir = dir.as_any().downcast_ref::<Self>().ok_or(errno!(XDEV))?;
        fs::rename(self.at(from), dir.at(to)).map_err(failed)
    }
}

/// A directory of this machine for one test, removed with it, and a sandbox that sees it as its root.
struct Shared {
    path: PathBuf,
    fs: FsContext<Hosted>,
    user: Credentials,
}

impl Shared {
    fn new(access: HostAccess) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("litebox-share-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a fresh directory");
        let root = hostdir::root(DEVICE, &litebox_core::quota::Quota::new(64 << 20), Arc::new(StdDir(path.clone())), access)
            .expect("a root");
        let mount = NewMount { root, flags: MountFlags::empty(), kind: "host", source: "/".into() };
        let fs = FsContext::new(MountNamespace::new(mount, &litebox_core::quota::Quota::new(1 << 20)).unwrap());
        Self { path, fs, user: Credentials { capabilities: Capabilities::all(), ..Credentials::default() } }
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<Arc<File<Hosted>>> {
        self.fs.at_cwd(&self.user).open(path.as_bytes(), flags, Mode::from_bits_truncate(0o644))
    }

    fn host(&self, path: &str) -> String {
        fs::read_to_string(self.path.join(path)).expect("the host has it")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn read(file: &File<Hosted>) -> Vec<u8> {
    let mut bytes = [0; 64];
    let count = file.read(&mut IoDst::kernel(&mut bytes)).expect("read");
    bytes[..count].to_vec()
}

fn write(file: &File<Hosted>, bytes: &[u8]) {
    assert_eq!(file.write(&mut IoSrc::kernel(bytes)).expect("written"), bytes.len());
}

const NEW: OFlags = OFlags::WRITE.union(OFlags::CREATE);

#[test]
fn what_the_guest_writes_is_on_the_host() {
    let shared = Shared::new(HostAccess::ReadWrite);
    let file = shared.open("/f", NEW | OFlags::EXCL).expect("made");
    write(&file, b"first ");
    write(&file, b"second");
    assert_eq!(shared.host("f"), "first second");
    assert!(shared.open("/f", NEW | OFlags::EXCL).is_err_and(|error| error.is(Errno::EXIST)));

    let end = shared.open("/f", OFlags::WRITE | OFlags::APPEND).expect("opened");
    fs::write(shared.path.join("f"), "host").expect("written");
    write(&end, b"+guest");
    assert_eq!(shared.host("f"), "host+guest");
    end.truncate(2).expect("cut");
    assert_eq!(read(&shared.open("/f", OFlags::READ).expect("opened")), b"ho");
    shared.open("/f", OFlags::WRITE | OFlags::TRUNC).expect("emptied");
    assert_eq!(shared.host("f"), "");
}

#[test]
fn what_the_host_replaces_is_found_anew() {
    let shared = Shared::new(HostAccess::ReadOnly);
    let host = |name: &str| shared.path.join(name);
    fs::write(host("f"), "old").expect("written");
    assert_eq!(read(&shared.open("/f", OFlags::READ).expect("opened")), b"old");
    fs::write(host("g"), "new").expect("written");
    fs::rename(host("g"), host("f")).expect("moved");
    assert_eq!(read(&shared.open("/f", OFlags::READ).expect("opened")), b"new");
    fs::remove_file(host("f")).expect("removed");
    assert!(shared.open("/f", OFlags::READ).is_err_and(|error| error.is(Errno::NOENT)));
}

#[test]
fn names_are_made_moved_and_removed_on_the_host() {
    let shared = Shared::new(HostAccess::ReadWrite);
    let at = shared.fs.at_cwd(&shared.user);
    at.mkdir(b"/d", Mode::RWXU).expect("made");
    write(&shared.open("/d/a", NEW).expect("made"), b"text");
    at.symlink(b"d/b", b"/link").expect("linked");
    at.rename(b"/d/a", &at, b"/d/b", RenameFlags::empty()).expect("moved");
    let place = at.resolve(b"/d/b", Resolve::FOLLOW).expect("found");
    at.link(&place, b"/hard").expect("linked");
    assert_eq!((shared.host("link"), shared.host("hard")), ("text".to_owned(), "text".to_owned()));
    assert_eq!(place.inode().attr().expect("attributes").links, 2);
    assert!(at.rmdir(b"/d").is_err_and(|error| error.is(Errno::NOTEMPTY)));
    at.unlink(b"/d/b").expect("removed");
    at.rmdir(b"/d").expect("removed");
    assert!(!shared.path.join("d").exists());
}

#[test]
fn attributes_reach_the_host() {
    let shared = Shared::new(HostAccess::ReadWrite);
    drop(shared.open("/f", NEW).expect("made"));
    let at = shared.fs.at_cwd(&shared.user);
    let place = at.resolve(b"/f", Resolve::FOLLOW).expect("found");
    let time = Timestamp { seconds: 1000, nanoseconds: 0 };
    let change = AttrChange { mode: Some(Mode::RUSR), size: Some(3), modified: Some(SetTime::At(time)), ..AttrChange::default() };
    at.set_attr(&place, &change).expect("changed");
    let stat = fs::metadata(shared.path.join("f")).expect("there");
    assert_eq!((stat.mode() & 0o7777, stat.len(), stat.mtime()), (0o400, 3, 1000));
}

#[test]
fn what_the_host_changes_meanwhile_is_seen() {
    let shared = Shared::new(HostAccess::ReadWrite);
    fs::write(shared.path.join("f"), "old").expect("written");
    // The place stays in use, and its name with it.
    let old = shared.open("/f", OFlags::READ).expect("opened");
    fs::write(shared.path.join("g"), "new").expect("written");
    fs::rename(shared.path.join("g"), shared.path.join("f")).expect("moved");
    assert_eq!(read(&shared.open("/f", OFlags::READ).expect("opened")), b"new");
    assert_eq!(read(&old), b"old");
    assert!(old.place().is_deleted());
    fs::remove_file(shared.path.join("f")).expect("removed");
    assert!(shared.open("/f", OFlags::READ).is_err_and(|error| error.is(Errno::NOENT)));
}

#[test]
fn what_is_shared_for_looking_stays_as_it_is() {
    let shared = Shared::new(HostAccess::ReadOnly);
    fs::write(shared.path.join("f"), "text").expect("written");
    let at = shared.fs.at_cwd(&shared.user);
    let place = at.resolve(b"/f", Resolve::FOLLOW).expect("found");
    let refused = [
        shared.open("/f", OFlags::WRITE).map(drop),
        shared.open("/new", NEW).map(drop),
        at.mkdir(b"/d", Mode::RWXU),
        at.symlink(b"f", b"/l"),
        at.link(&place, b"/h"),
        at.unlink(b"/f"),
        at.rename(b"/f", &at, b"/g", RenameFlags::empty()),
        at.set_attr(&place, &AttrChange { size: Some(0), ..AttrChange::default() }),
        // Past the path walk, the inode itself refuses as well.
        place.inode().set_attr(&AttrChange { size: Some(0), ..AttrChange::default() }),
    ];
    for (index, result) in refused.into_iter().enumerate() {
        assert!(result.is_err_and(|error| error.is(Errno::ROFS)), "case {index}");
    }
    assert_eq!(shared.host("f"), "text");
}

#[test]
fn a_hosts_file_is_not_mapped_for_writing() {
    let shared = Shared::new(HostAccess::ReadWrite);
    let file = shared.open("/f", NEW | OFlags::READ).expect("made");
    let error = FileSource::new(&file, Vec::new(), MapAccess::SharedWritable).expect_err("the host's pages");
    assert!(error.is(Errno::NODEV), "{error:?}");
}

#[test]
fn a_directory_that_the_host_does_not_let_list_is_not_opened() {
    let shared = Shared::new(HostAccess::ReadOnly);
    fs::DirBuilder::new().mode(0o711).create(shared.path.join("d")).expect("made");
    // The guest is privileged, and its launcher is not.
    let error = shared.open("/d", OFlags::READ | OFlags::DIRECTORY).expect_err("the host refuses");
    assert!(error.is(Errno::ACCESS), "{error:?}");
}
