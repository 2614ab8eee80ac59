//! Host directories, streams and mapped files, over a host made up in the test.

use litebox_core::capabilities::Capabilities;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::devices::HostStream;
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostLeaf, HostNode};
use litebox_core::fs::hostdir::{self, HostAccess};
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::map::{FileSource, MapAccess};
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::{FsContext, Resolve};
use litebox_core::fs::pseudo::made_up_attr;
use litebox_core::fs::types::{Attr, Credentials, DeviceId, FileKind, InodeId, Mode, Name, OFlags, Timestamp};
use litebox_core::mm::MapSource;
use litebox_core::platform::Frame;
use litebox_platform_hosted::Hosted;
use std::any::Any;
use std::sync::{Arc, Mutex};

const DEVICE: DeviceId = DeviceId { major: 8, minor: 1 };

fn attr(number: u64, kind: FileKind, size: u64) -> Attr {
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    Attr { size, ..made_up_attr(InodeId { device: DEVICE, number }, kind, mode, Timestamp::default()) }
}

#[derive(Debug)]
struct Bytes(&'static [u8], Mutex<Vec<u8>>);

impl HostFile<Hosted> for Bytes {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(11, FileKind::Regular, self.0.len() as u64))
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read(&self, offset: u64, dst: &mut [u8], _: Blocking) -> Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        // A host may give less than it was asked for.
        let len = rest.len().min(dst.len()).min(3);
        dst[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
    fn write(&self, _: u64, src: &[u8], _: Blocking) -> Result<usize> {
        let len = src.len().min(2);
        self.1.lock().expect("not poisoned").extend_from_slice(&src[..len]);
        Ok(len)
    }
    fn page(&self, index: u64) -> Result<<Hosted as litebox_core::platform::Frames>::Frame> {
        hostdir::page_by_reading::<Hosted>(self, index)
    }
}

/// A file, link or pipe: its attributes.
#[derive(Debug)]
struct Leaf(Attr);

impl HostLeaf<Hosted> for Leaf {
    fn attr(&self) -> Result<Attr> {
        Ok(self.0)
    }
    fn open(&self, _: OFlags) -> Result<Arc<dyn HostFile<Hosted>>> {
        Ok(Arc::new(Bytes(b"host's text", Mutex::default())))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct Dir;

impl HostDir<Hosted> for Dir {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(1, FileKind::Directory, 0))
    }
    fn lookup(&self, name: Name<'_>) -> Result<HostNode<Hosted>> {
        let leaf = |number, kind, size| Arc::new(Leaf(attr(number, kind, size)));
        match name.as_bytes() {
            b"text" => Ok(HostNode::Leaf(leaf(11, FileKind::Regular, 11))),
            b"sub" => Ok(HostNode::Dir(Arc::new(Dir))),
            b"link" => Ok(HostNode::Symlink(leaf(12, FileKind::Symlink, 8), b"sub/text".to_vec())),
            b"pipe" => Ok(HostNode::Leaf(leaf(13, FileKind::Fifo, 0))),
            _ => Err(litebox_core::errno!(NOENT)),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        for (index, name) in [&b"text"[..], b"sub", b"link", b"pipe"].iter().enumerate().skip(cookie as usize) {
            let next = index as u64 + 1;
            if !sink(HostEntry { name, number: next, kind: FileKind::Regular, next }) {
                break;
            }
        }
        Ok(())
    }
}

fn context() -> FsContext<Hosted> {
    let root =
        hostdir::root(DEVICE, &litebox_core::quota::Quota::new(64 << 20), Arc::new(Dir), HostAccess::ReadOnly).expect("a root");
    let mount = NewMount { root, flags: MountFlags::empty(), kind: "host", source: "/".into() };
    FsContext::new(MountNamespace::new(mount, &litebox_core::quota::Quota::new(1 << 20)).unwrap())
}

#[test]
fn host_files_are_read_through_links_and_never_written() {
    let fs = context();
    let user = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
    let at = fs.at_cwd(&user);
    let file = at.open(b"/sub/../link", OFlags::READ, Mode::empty()).expect("opened");
    let mut text = [0; 64];
    assert_eq!(file.read(&mut IoDst::kernel(&mut text)).expect("read"), 11);
    assert_eq!(&text[..11], b"host's text");
    let refused = |error: litebox_core::error::Error| error.errno();
    assert_eq!(at.open(b"/text", OFlags::WRITE, Mode::empty()).map_err(refused).err(), Some(Some(Errno::ROFS)));
    assert_eq!(at.mkdir(b"/new", Mode::RWXU).map_err(refused), Err(Some(Errno::ROFS)));
    assert_eq!(at.unlink(b"/text").map_err(refused), Err(Some(Errno::ROFS)));
    assert_eq!(at.open(b"/pipe", OFlags::READ, Mode::empty()).map_err(refused).err(), Some(Some(Errno::NXIO)));
    assert_eq!(at.resolve(b"/none", Resolve::FOLLOW).map_err(refused).err(), Some(Some(Errno::NOENT)));
}

#[test]
fn host_directories_list_in_pieces() {
    let fs = context();
    let user = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
    let dir = fs.at_cwd(&user).open(b"/", OFlags::READ | OFlags::DIRECTORY, Mode::empty()).expect("opened");
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for _ in 0..10 {
        let mut room = true;
        dir.read_dir(&mut |entry| {
            if room {
                seen.push(entry.name.to_vec());
            }
            core::mem::take(&mut room)
        })
        .expect("listed");
    }
    assert_eq!(seen, [&b"."[..], b"..", b"text", b"sub", b"link", b"pipe"]);
}

#[test]
fn a_mapped_host_file_shows_its_bytes_then_zeros() {
    let fs = context();
    let user = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
    let file = fs.at_cwd(&user).open(b"/text", OFlags::READ, Mode::empty()).expect("opened");
    let source = FileSource::new(&file, b"/text".to_vec(), MapAccess::Private).expect("mappable");
    assert_eq!((source.size(), source.name().inode), (11, 11));
    let mut bytes = [1; 13];
    source.page(0).expect("a page").read(0, &mut bytes);
    assert_eq!(&bytes, b"host's text\0\0");
    assert!(source.page(1).is_err());
    let shared = FileSource::new(&file, Vec::new(), MapAccess::SharedWritable).expect_err("not open for writing");
    assert!(shared.is(Errno::ACCESS));
}

#[test]
fn a_host_stream_takes_all_that_is_written() {
    let bytes = Arc::new(Bytes(b"in", Mutex::default()));
    let id = InodeId { device: DEVICE, number: 5 };
    let file = HostStream::open(Arc::clone(&bytes) as Arc<dyn HostFile<Hosted>>, id, b"stdio", OFlags::READ | OFlags::WRITE);
    assert_eq!(file.write(&mut IoSrc::kernel(&[b'x'; 2501])).expect("written"), 2501);
    assert_eq!(*bytes.1.lock().expect("not poisoned"), [b'x'; 2501]);
    assert_eq!(file.place().name().as_bytes(), b"stdio");
}
