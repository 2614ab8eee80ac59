//! Reads of host files that are in the host's cache, in part: they give what the host's own reads give, without asking it.

use litebox_core::capabilities::Capabilities;
use litebox_core::error::Result;
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostLeaf, HostNode};
use litebox_core::fs::hostdir::{self, HostAccess};
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::io::IoDst;
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::FsContext;
use litebox_core::fs::pseudo::made_up_attr;
use litebox_core::fs::types::{Attr, Credentials, DeviceId, FileKind, InodeId, Mode, Name, OFlags, Timestamp};
use litebox_core::platform::{Frame, Frames};
use litebox_platform_hosted::{Hosted, HostedFrame};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const DEVICE: DeviceId = DeviceId { major: 8, minor: 1 };
const PAGE: usize = 4096;
const SIZE: usize = 3 * PAGE + 100;
/// Which pages the host has in its cache.
const CACHED: [bool; 4] = [true, false, true, true];

fn attr(kind: FileKind, size: usize) -> Attr {
    let number = if kind == FileKind::Directory { 1 } else { 2 };
    let id = InodeId { device: DEVICE, number };
    Attr { size: size as u64, ..made_up_attr(id, kind, Mode::RWXU, Timestamp::default()) }
}

/// The byte at `at`.
fn byte(at: usize) -> u8 {
    (at / 7) as u8
}

/// A file that counts the reads of which the host learns.
#[derive(Debug, Default)]
struct Counted(Arc<AtomicUsize>);

impl HostFile<Hosted> for Counted {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(FileKind::Regular, SIZE))
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read(&self, offset: u64, dst: &mut [u8], _: Blocking) -> Result<usize> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let offset = offset as usize;
        let len = dst.len().min(SIZE.saturating_sub(offset));
        dst[..len].iter_mut().zip(offset..).for_each(|(to, at)| *to = byte(at));
        Ok(len)
    }
    fn cached(&self, index: u64) -> Option<HostedFrame> {
        let first = index as usize * PAGE;
        let frame = Hosted::zeroed_frame().filter(|_| CACHED.get(index as usize) == Some(&true))?;
        let bytes: Vec<u8> = (first..SIZE.min(first + PAGE)).map(byte).collect();
        frame.write(0, &bytes);
        Some(frame)
    }
}

#[derive(Debug)]
struct Leaf(Arc<AtomicUsize>);

impl HostLeaf<Hosted> for Leaf {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(FileKind::Regular, SIZE))
    }
    fn open(&self, _: OFlags) -> Result<Arc<dyn HostFile<Hosted>>> {
        Ok(Arc::new(Counted(Arc::clone(&self.0))))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct Dir(Arc<AtomicUsize>);

impl HostDir<Hosted> for Dir {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(FileKind::Directory, 0))
    }
    fn lookup(&self, _: Name<'_>) -> Result<HostNode<Hosted>> {
        Ok(HostNode::Leaf(Arc::new(Leaf(Arc::clone(&self.0)))))
    }
    fn read_dir(&self, _: u64, _: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[test]
fn what_the_host_has_at_hand_is_read_without_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let root = hostdir::root(
        DEVICE,
        &litebox_core::quota::Quota::new(64 << 20),
        Arc::new(Dir(Arc::clone(&asked))),
        HostAccess::ReadOnly,
    )
    .expect("a root");
    let mount = NewMount { root, flags: MountFlags::empty(), kind: "host", source: "/".into() };
    let fs = FsContext::<Hosted>::new(MountNamespace::new(mount, &litebox_core::quota::Quota::new(1 << 20)).unwrap());
    let user = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
    let file = fs.at_cwd(&user).open(b"/file", OFlags::READ, Mode::empty()).expect("opened");
    // Offset, length, and how often the host is asked: a read of a page that it lacks goes on past that page.
    let cases = [
        (0, 10, 0),
        (4000, 96, 0),
        (4000, 200, 1),
        (0, SIZE, 1),
        (2 * PAGE, 2 * PAGE, 0),
        (3 * PAGE + 50, 500, 0),
        (PAGE + 1, 1, 1),
        (SIZE, 10, 1),
        (10 * PAGE, 10, 1),
    ];
    for (offset, len, reads) in cases {
        asked.store(0, Ordering::Relaxed);
        let mut bytes = vec![0; len];
        let got = file.read_at(offset as u64, &mut IoDst::kernel(&mut bytes)).expect("read");
        assert_eq!(got, len.min(SIZE.saturating_sub(offset)), "{offset} {len}");
        assert!(bytes[..got].iter().zip(offset..).all(|(found, at)| *found == byte(at)), "{offset} {len}");
        assert_eq!(asked.load(Ordering::Relaxed), reads, "{offset} {len}");
    }
}
