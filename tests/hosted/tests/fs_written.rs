//! Shared writable mappings of a host's files: what is stored reaches the host, when it must and not before it is told.

use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::file::File;
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostLeaf, HostNode};
use litebox_core::fs::hostdir::{self, HostAccess};
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::io::IoSrc;
use litebox_core::fs::map::{FileSource, MapAccess, inode_owner};
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::FsContext;
use litebox_core::fs::pseudo::made_up_attr;
use litebox_core::fs::types::{Attr, Credentials, DeviceId, FileKind, InodeId, Mode, Name, OFlags, Timestamp};
use litebox_core::mm::{
    Access, AddressSpace, Backing, FaultOutcome, GuestAddr, MapFlags, MapRequest, MapSource, PAGE_SIZE, PageRange, Place, Prot,
};
use litebox_core::platform::{Frame, Frames, UserCopy};
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, HostedFrame, enter};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const DEVICE: DeviceId = DeviceId { major: 0, minor: 9 };
const AT: GuestAddr = GuestAddr::new(0x5000_0000);

fn attr(number: u64, kind: FileKind, size: u64) -> Attr {
    let mode = Mode::RWXU | Mode::RGRP | Mode::ROTH;
    Attr { size, ..made_up_attr(InodeId { device: DEVICE, number }, kind, mode, Timestamp::default()) }
}

/// A host with one file. It writes a page out at the moment when it is told of it, and never again by itself.
#[derive(Debug, Default)]
struct Host {
    disk: Mutex<Vec<u8>>,
    cache: Mutex<BTreeMap<u64, HostedFrame>>,
    told: AtomicU32,
    is_full: AtomicBool,
}

impl Host {
    fn frame(&self, index: u64) -> HostedFrame {
        let mut cache = self.cache.lock().expect("not poisoned");
        let fill = || {
            let frame = Hosted::zeroed_frame().expect("a frame");
            frame.write(0, self.disk.lock().expect("not poisoned").get(index as usize * 4096..).unwrap_or_default());
            frame
        };
        cache.entry(index).or_insert_with(fill).clone()
    }

    fn disk(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        self.disk.lock().expect("not poisoned")[range].to_vec()
    }

    fn told(&self) -> u32 {
        self.told.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Debug)]
struct Handle(Arc<Host>);

impl HostFile<Hosted> for Handle {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(2, FileKind::Regular, self.0.disk.lock().expect("not poisoned").len() as u64))
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read(&self, offset: u64, dst: &mut [u8], _: Blocking) -> Result<usize> {
        Ok(self.0.frame(offset / 4096).read(offset as usize % 4096, dst))
    }
    fn write(&self, offset: u64, src: &[u8], _: Blocking) -> Result<usize> {
        Ok(self.0.frame(offset / 4096).write(offset as usize % 4096, src))
    }
    fn truncate(&self, size: u64) -> Result<()> {
        self.0.disk.lock().expect("not poisoned").resize(size as usize, 0);
        self.0.cache.lock().expect("not poisoned").split_off(&size.div_ceil(4096));
        Ok(())
    }
    fn page(&self, index: u64) -> Result<HostedFrame> {
        Ok(self.0.frame(index))
    }
    fn resident(&self, index: u64) -> Option<HostedFrame> {
        self.0.cache.lock().expect("not poisoned").get(&index).cloned()
    }
    fn page_to_write(&self, index: u64) -> Result<HostedFrame> {
        if self.0.is_full.load(Ordering::SeqCst) {
            return Err(errno!(NOSPC));
        }
        let frame = self.0.frame(index);
        let mut disk = self.0.disk.lock().expect("not poisoned");
        let page = disk.get_mut(index as usize * 4096..).filter(|rest| !rest.is_empty()).ok_or(errno!(FAULT))?;
        let len = page.len().min(4096);
        frame.read(0, &mut page[..len]);
        self.0.told.fetch_add(1, Ordering::SeqCst);
        Ok(frame)
    }
    fn shares_writes(&self) -> bool {
        true
    }
}

impl HostLeaf<Hosted> for Handle {
    fn attr(&self) -> Result<Attr> {
        HostFile::attr(self)
    }
    fn open(&self, _: OFlags) -> Result<Arc<dyn HostFile<Hosted>>> {
        Ok(Arc::new(self.clone()))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl HostDir<Hosted> for Handle {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(1, FileKind::Directory, 0))
    }
    fn lookup(&self, _: Name<'_>) -> Result<HostNode<Hosted>> {
        Ok(HostNode::Leaf(Arc::new(self.clone())))
    }
    fn read_dir(&self, _: u64, _: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The host, the file open in a sandbox, and two processes that map its three pages.
struct Setting {
    host: Arc<Host>,
    quota: Arc<Quota>,
    file: Arc<File<Hosted>>,
    spaces: [Arc<AddressSpace<Hosted>>; 2],
}

fn setting() -> Setting {
    let host = Arc::new(Host { disk: Mutex::new(vec![b'.'; 3 * 4096]), ..Host::default() });
    let quota = Quota::new(1 << 20);
    let root = hostdir::root(DEVICE, &quota, Arc::new(Handle(Arc::clone(&host))), HostAccess::ReadWrite).expect("a root");
    let mount = NewMount { root, flags: MountFlags::empty(), kind: "host", source: "/".into() };
    let fs = FsContext::new(MountNamespace::new(mount, &Quota::new(1 << 20)).expect("a namespace"));
    let user = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
    let file = fs.at_cwd(&user).open(b"/file", OFlags::READ | OFlags::WRITE, Mode::empty()).expect("opened");
    let spaces = [(); 2].map(|()| {
        let space = Arc::new(AddressSpace::new(&Quota::new(1 << 20)).expect("a space"));
        let source: Arc<dyn MapSource<Hosted>> =
            FileSource::new(&file, b"/file".to_vec(), MapAccess::SharedWritable).expect("mappable");
        let backing = Backing::Source { source, index: 0 };
        let request = MapRequest::anonymous(3 * PAGE_SIZE, Prot::READ | Prot::WRITE).at(Place::Fixed(AT));
        space.map(MapRequest { backing, flags: MapFlags::SHARED, ..request }).expect("mapped");
        space
    });
    Setting { host, quota, file, spaces }
}

impl Setting {
    fn store(&self, space: usize, page: u64, bytes: &[u8]) -> usize {
        enter(&self.spaces[space], || Hosted::to_guest(GuestAddr::new(AT.get() + page * PAGE_SIZE), bytes))
    }

    fn load(&self, space: usize, page: u64) -> u8 {
        let mut byte = [0];
        enter(&self.spaces[space], || Hosted::from_guest(&mut byte, GuestAddr::new(AT.get() + page * PAGE_SIZE)));
        byte[0]
    }

    /// fsync(2).
    fn sync(&self) -> Result<()> {
        let owner = inode_owner(self.file.place().inode());
        self.file.ops().settle(&mut || self.spaces.iter().for_each(|space| space.hide_shared(owner)))
    }

    fn unmap(&self, space: usize) {
        self.spaces[space].unmap(PageRange::new(AT, 3 * PAGE_SIZE).expect("a range")).expect("unmapped");
    }
}

#[test]
fn the_host_is_told_before_the_first_store_and_again_when_it_is_asked_to_keep_all() {
    let it = setting();
    assert_eq!((it.load(0, 0), it.host.told()), (b'.', 0));
    assert_eq!(it.store(0, 0, b"one"), 3);
    assert_eq!((it.host.told(), it.load(1, 0)), (1, b'o'));
    assert_eq!((it.store(0, 0, b"two"), it.store(1, 0, b"T")), (3, 1));
    assert_eq!((it.host.told(), it.host.disk(0..3)), (1, b"...".to_vec()), "stores go unseen");

    it.sync().expect("kept");
    assert_eq!((it.host.told(), it.host.disk(0..3)), (2, b"Two".to_vec()));
    assert_eq!(it.store(1, 0, b"x"), 1);
    assert_eq!((it.host.told(), it.load(0, 0)), (3, b'x'), "a store after that is noticed");
}

#[test]
fn the_end_of_the_last_mapping_tells_the_host_and_frees_what_was_charged() {
    let it = setting();
    assert_eq!((it.store(0, 1, b"a"), it.store(1, 2, b"b")), (1, 1));
    assert!(it.quota.used() > 2 * PAGE_SIZE);
    assert_eq!((it.store(0, 1, b"A"), it.store(1, 2, b"B")), (1, 1));
    it.unmap(0);
    assert_eq!(it.host.disk(4096..4097), b".", "the other one has it mapped still");
    it.unmap(1);
    assert_eq!((it.host.disk(4096..4097), it.host.disk(8192..8193)), (b"A".to_vec(), b"B".to_vec()));
    assert_eq!(it.quota.used(), 0);
}

#[test]
fn reads_writes_and_mappings_see_one_memory() {
    let it = setting();
    assert_eq!(it.store(0, 1, b"m"), 1);
    let mut bytes = [0; 2];
    it.file.read_at(4096, &mut litebox_core::fs::io::IoDst::kernel(&mut bytes)).expect("read");
    assert_eq!(&bytes, b"m.");
    it.file.write_at(4097, &mut IoSrc::kernel(b"w")).expect("written");
    let mut byte = [0];
    enter(&it.spaces[1], || Hosted::from_guest(&mut byte, GuestAddr::new(AT.get() + 4097)));
    assert_eq!(&byte, b"w");
}

#[test]
fn a_host_without_room_is_a_bus_error_and_a_shorter_file_is_forgotten() {
    let it = setting();
    assert_eq!((it.store(0, 0, b"a"), it.store(0, 2, b"b")), (1, 1));
    it.file.truncate(4096).expect("cut");
    assert!(it.quota.used() < 2 * PAGE_SIZE);
    it.host.is_full.store(true, Ordering::SeqCst);
    assert!(it.sync().is_err());
    assert!(it.quota.used() > PAGE_SIZE, "what could not be told stays noted");
    it.host.is_full.store(false, Ordering::SeqCst);
    it.sync().expect("kept");
    assert_eq!((it.host.disk(0..1), it.quota.used()), (b"a".to_vec(), 0));
    it.host.is_full.store(true, Ordering::SeqCst);
    assert_eq!(it.spaces[0].fault(AT, Access::Write), FaultOutcome::Bus);
}
