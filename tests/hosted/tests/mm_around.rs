//! What one fault fills beside the page that was touched, and what that costs a sandbox.

use litebox_core::error::Result;
use litebox_core::mm::{
    Access, AddressSpace, Backing, FaultOutcome, GuestAddr, MapFlags, MapRequest, MapSource, PAGE_SIZE, PageRange, Place, Prot,
    SourceName,
};
use litebox_core::platform::Frames;
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, HostedFrame};
use std::sync::Arc;

type Space = AddressSpace<Hosted>;

const RW: Prot = Prot::READ.union(Prot::WRITE);
/// The first page of a node of the tree, and of a 2 MiB region.
const BASE: u64 = 0x5000_0000;

fn space(quota: &Arc<Quota>) -> Space {
    Space::new(quota).unwrap()
}

fn at(page: u64) -> GuestAddr {
    GuestAddr::new(BASE + page * PAGE_SIZE)
}

fn pages(first: u64, count: u64) -> PageRange {
    PageRange::new(at(first), count * PAGE_SIZE).unwrap()
}

fn map(space: &Space, range: PageRange) {
    space.map(MapRequest::anonymous(range.bytes(), RW).at(Place::Fixed(range.start()))).unwrap();
}

fn touch(space: &Space, page: u64, access: Access) {
    assert_eq!(space.fault(at(page), access), FaultOutcome::Resolved);
}

#[test]
fn who_writes_in_order_gets_more_at_once_within_bounds() {
    let quota = Quota::new(64 << 20);
    let space = space(&quota);
    map(&space, pages(0, 100));
    let empty = quota.used();
    // Scattered writes get what they touch.
    for page in [5, 7, 90] {
        touch(&space, page, Access::Write);
    }
    assert_eq!(space.resident_pages(), 3);
    // The second in a row gets the rest of its sixteen, the first after those the rest of its sixty-four.
    touch(&space, 8, Access::Write);
    assert_eq!(space.resident_pages(), 1 + 9 + 1);
    for page in 0..=16 {
        touch(&space, page, Access::Write);
    }
    assert_eq!((space.resident_pages(), space.host().entries()), (64 + 1, 64 + 1));
    assert!(quota.used() - empty >= 65 * PAGE_SIZE, "what is filled ahead is charged");
    // A page that is there already ends the run, as the area does.
    for page in 64..=66 {
        touch(&space, page, Access::Write);
    }
    assert_eq!(space.resident_pages(), 64 + 26 + 1);
    space.unmap(pages(0, 100)).unwrap();
    assert_eq!((space.resident_pages(), space.host().entries()), (0, 0));
}

#[test]
fn a_run_that_finds_no_quota_leaves_one_page() {
    let quota = Quota::new(128 << 10);
    let space = space(&quota);
    map(&space, pages(0, 64));
    let mut touched = 0;
    while touched < 64 && space.fault(at(touched), Access::Write) == FaultOutcome::Resolved {
        touched += 1;
    }
    assert!((1..64).contains(&touched), "{touched} pages");
    assert!(quota.used() <= quota.limit());
    // Nothing was charged that is not there.
    assert!(quota.used() >= space.resident_pages() * PAGE_SIZE);
}

#[test]
fn pages_filled_ahead_are_copied_one_by_one_after_a_fork() {
    let quota = Quota::new(64 << 20);
    let parent = space(&quota);
    // Far apart, so that the tables lie in several places.
    let far = PageRange::new(GuestAddr::new(0x7000_0000_0000), PAGE_SIZE).unwrap();
    map(&parent, pages(0, 64));
    map(&parent, far);
    for page in 0..=16 {
        touch(&parent, page, Access::Write);
    }
    assert_eq!(parent.fault(far.start(), Access::Write), FaultOutcome::Resolved);
    let pages_bytes = quota.used();
    let child = parent.fork().unwrap();
    assert_eq!(parent.host().entries(), 0, "nothing that is shared may be written to");
    touch(&child, 30, Access::Read);
    assert!(child.host().translate(at(30), Access::Write).is_none());
    touch(&child, 30, Access::Write);
    touch(&parent, 31, Access::Write);
    assert!(child.host().translate(at(29), Access::Write).is_none() && child.host().translate(at(30), Access::Write).is_some());
    assert!(quota.used() - pages_bytes < 20 * PAGE_SIZE, "two pages and their nodes are copied, not a run");
    // The parent's fault showed its neighbours: the page that the child has copied is its own again, others are not.
    assert!(parent.host().translate(at(30), Access::Write).is_some());
    assert!(parent.host().translate(at(29), Access::Write).is_none());
    drop((parent, child));
    assert_eq!(quota.used(), 0);
}

/// A file with every page in memory.
#[derive(Debug)]
struct Cached(Vec<HostedFrame>);

impl MapSource<Hosted> for Cached {
    fn page(&self, index: u64) -> Result<HostedFrame> {
        Ok(self.0[usize::try_from(index).unwrap()].clone())
    }

    fn size(&self) -> u64 {
        self.0.len() as u64 * PAGE_SIZE
    }

    fn resident(&self, index: u64) -> Option<HostedFrame> {
        self.0.get(usize::try_from(index).unwrap()).cloned()
    }

    fn name(&self) -> SourceName {
        SourceName::default()
    }

    fn owner(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

#[test]
fn one_fault_shows_a_file_s_pages_around_it_and_none_past_its_end() {
    let space = space(&Quota::new(64 << 20));
    let source: Arc<dyn MapSource<Hosted>> = Arc::new(Cached((0..20).map(|_| Hosted::zeroed_frame().unwrap()).collect()));
    let backing = Backing::Source { source, index: 0 };
    let request = MapRequest { backing, flags: MapFlags::empty(), ..MapRequest::anonymous(32 * PAGE_SIZE, RW) };
    space.map(request.at(Place::Fixed(at(0)))).unwrap();
    touch(&space, 3, Access::Read);
    assert_eq!(space.host().entries(), 16);
    touch(&space, 18, Access::Read);
    assert_eq!(space.host().entries(), 20);
    // A private copy stays where it is, read-only pages around it.
    touch(&space, 4, Access::Write);
    assert!(space.host().translate(at(4), Access::Write).is_some());
    assert!(space.host().translate(at(5), Access::Write).is_none());
    assert_eq!(space.fault(at(20), Access::Read), FaultOutcome::Bus);
}
