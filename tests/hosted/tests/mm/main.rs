//! Address spaces as guests and the calls above see them, on the hosted platform.

use litebox_core::error::{Errno, Result};
use litebox_core::mm::{
    Access, AddressSpace, Advice, AreaKind, Backing, FaultOutcome, GUEST_END, GUEST_START, GuestAddr, MapFlags, MapRequest,
    MapSource, PAGE_SIZE, PageRange, Place, Prot, RemapPlace, SegvCode, SharedMemory, SourceName, UserBytes, UserCStr, UserIn,
    UserOut, UserReader, WordKey,
};
use litebox_core::platform::{Frame, Frames};
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, HostedFrame, Random, enter};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

mod areas;
mod files;
mod model;

type Space = AddressSpace<Hosted>;

const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: u64 = 0x5000_0000;

fn space() -> Arc<Space> {
    space_with(64 << 20)
}

fn space_with(limit: u64) -> Arc<Space> {
    Arc::new(Space::new(&Quota::new(limit)).unwrap())
}

fn at(addr: u64) -> GuestAddr {
    GuestAddr::new(addr)
}

fn pages(first: u64, count: u64) -> PageRange {
    PageRange::new(at(BASE + first * PAGE_SIZE), count * PAGE_SIZE).unwrap()
}

fn request(range: PageRange, prot: Prot) -> MapRequest<Hosted> {
    MapRequest::anonymous(range.bytes(), prot).at(Place::Fixed(range.start()))
}

fn map(space: &Space, first: u64, count: u64, prot: Prot) -> PageRange {
    let range = pages(first, count);
    assert_eq!(space.map(request(range, prot)).unwrap(), range.start());
    range
}

fn store(space: &Arc<Space>, addr: u64, bytes: &[u8]) -> bool {
    enter(space, || UserOut::new(at(addr), bytes.len()).writer::<Hosted>().write(bytes).is_ok_and(|done| done == bytes.len()))
}

fn load(space: &Arc<Space>, addr: u64) -> Option<u8> {
    enter(space, || UserBytes::<Hosted, 1>::new(at(addr)).read().ok().map(|[byte]| byte))
}

fn areas(space: &Space) -> Vec<(u64, u64, Prot)> {
    let page = |addr: GuestAddr| (addr.get() - BASE) / PAGE_SIZE;
    space.vmas().map(|area| (page(area.range.start()), page(area.range.end()), area.prot)).collect()
}

/// A file of `size` bytes whose page `n` is full of `n`; counts reads.
#[derive(Debug)]
struct File {
    size: AtomicU64,
    pages: Mutex<BTreeMap<u64, HostedFrame>>,
    reads: AtomicU64,
    written: AtomicU64,
}

impl File {
    fn new(size: u64) -> Arc<Self> {
        let (size, pages) = (AtomicU64::new(size), Mutex::default());
        Arc::new(Self { size, pages, reads: AtomicU64::new(0), written: AtomicU64::new(0) })
    }
}

impl MapSource<Hosted> for File {
    fn page(&self, index: u64) -> Result<HostedFrame> {
        let mut pages = self.pages.lock().unwrap();
        let frame = pages.entry(index).or_insert_with(|| {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let frame = Hosted::zeroed_frame().unwrap();
            frame.write(0, &[index.to_le_bytes()[0]; 4096]);
            frame
        });
        Ok(frame.clone())
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }

    fn resident(&self, index: u64) -> Option<HostedFrame> {
        self.pages.lock().unwrap().get(&index).cloned()
    }

    fn is_write_ready(&self, _index: u64, _frame: &HostedFrame) -> bool {
        self.written.load(Ordering::SeqCst) > 0
    }

    fn prepare_write(&self, _index: u64) -> Result<()> {
        self.written.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn name(&self) -> SourceName {
        SourceName { device: 1, inode: 2, path: b"/file".to_vec() }
    }

    fn owner(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

fn map_file(space: &Space, file: &Arc<File>, range: PageRange, index: u64, flags: MapFlags, prot: Prot) {
    let source: Arc<dyn MapSource<Hosted>> = Arc::<File>::clone(file);
    let backing = Backing::Source { source, index };
    space.map(MapRequest { backing, flags, ..request(range, prot) }).unwrap();
}
