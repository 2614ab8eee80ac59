//! Areas that stay where and as they are (mlock(2), mseal(2)), and the rarer ways of mremap(2), on the hosted platform.

use litebox_core::error::{Errno, Result};
use litebox_core::mm::{
    AddressSpace, Advice, Backing, GuestAddr, Lock, MapFlags, MapLimits, MapRequest, PAGE_SIZE, PageRange, Place, Prot,
    RemapPlace, SharedMemory,
};
use litebox_core::quota::Quota;
use litebox_platform_hosted::Hosted;

type Space = AddressSpace<Hosted>;

const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: u64 = 0x5000_0000;

fn space() -> Space {
    Space::new(&Quota::new(64 << 20)).unwrap()
}

fn pages(first: u64, count: u64) -> PageRange {
    PageRange::new(GuestAddr::new(BASE + first * PAGE_SIZE), count * PAGE_SIZE).unwrap()
}

fn map(space: &Space, range: PageRange, prot: Prot) {
    space.map(MapRequest::anonymous(range.bytes(), prot).at(Place::Fixed(range.start()))).unwrap();
}

fn resident(space: &Space, range: PageRange) -> usize {
    let mut count = 0;
    space.mincore(range, |present| count += usize::from(present)).unwrap();
    count
}

fn fails(done: Result<()>) -> Errno {
    done.unwrap_err().errno().unwrap()
}

#[test]
fn locked_pages_are_in_memory_and_stay_there() {
    let space = space();
    map(&space, pages(0, 4), RW);
    space.lock(pages(1, 2), Lock::Now).unwrap();
    assert_eq!(resident(&space, pages(0, 4)), 0, "filled apart");
    space.fill_locked(pages(0, 4)).unwrap();
    assert_eq!(resident(&space, pages(0, 4)), 2);
    assert_eq!((space.locked_bytes(None), space.locked_bytes(Some(pages(2, 2)))), (2 * PAGE_SIZE, PAGE_SIZE));
    assert_eq!(fails(space.advise(pages(0, 4), Advice::DontNeed)), Errno::INVAL);
    assert_eq!(fails(space.advise(pages(0, 4), Advice::PageOut)), Errno::INVAL);
    assert_eq!(resident(&space, pages(0, 4)), 2);
    space.advise(pages(0, 4), Advice::DontNeedLocked).unwrap();
    assert_eq!(resident(&space, pages(0, 4)), 0);
    space.lock(pages(0, 4), Lock::Not).unwrap();
    assert_eq!((space.locked_bytes(None), space.vma_count()), (0, 1), "areas that are alike again are one");
}

#[test]
fn what_is_not_mapped_cannot_be_locked_and_what_is_before_it_is() {
    let space = space();
    map(&space, pages(0, 2), RW);
    map(&space, pages(3, 1), Prot::empty());
    assert_eq!(fails(space.lock(pages(0, 4), Lock::Now)), Errno::NOMEM);
    assert_eq!(space.locked_bytes(None), 2 * PAGE_SIZE);
    space.lock(pages(3, 1), Lock::Now).unwrap();
    assert_eq!(fails(space.fill_locked(pages(3, 1))), Errno::NOMEM, "nobody may touch it");
}

#[test]
fn new_areas_are_locked_on_request_and_a_childs_are_not() {
    let space = space();
    space.lock_new(Lock::OnFault);
    map(&space, pages(0, 2), RW);
    assert!(space.locks_new() && space.locked_bytes(None) == 2 * PAGE_SIZE);
    space.fill_locked(pages(0, 2)).unwrap();
    assert_eq!(resident(&space, pages(0, 2)), 0, "only once it is touched");
    let child = space.fork().unwrap();
    assert_eq!((child.locked_bytes(None), child.locks_new()), (0, false));
    space.lock_all(Lock::Now);
    space.fill_locked(pages(0, 2)).unwrap();
    assert_eq!(resident(&space, pages(0, 2)), 2);
}

#[test]
fn nothing_changes_what_is_sealed() {
    let space = space();
    map(&space, pages(0, 4), RW);
    map(&space, pages(5, 1), Prot::READ);
    assert_eq!(fails(space.seal(pages(3, 3))), Errno::NOMEM);
    space.seal(pages(1, 2)).unwrap();
    space.seal(pages(5, 1)).unwrap();
    assert_eq!(fails(space.unmap(pages(0, 4))), Errno::PERM);
    assert_eq!(fails(space.protect(pages(2, 1), Prot::READ)), Errno::PERM);
    let over = MapRequest::anonymous(PAGE_SIZE, RW).at(Place::Fixed(pages(1, 1).start()));
    assert!(space.map(over).unwrap_err().is(Errno::PERM));
    assert!(space.remap(pages(1, 2), 4 * PAGE_SIZE, RemapPlace::Move).unwrap_err().is(Errno::PERM));
    assert!(space.remap(pages(0, 1), PAGE_SIZE, RemapPlace::Fixed(pages(2, 1).start())).unwrap_err().is(Errno::PERM));
    assert!(space.remap_leaving(pages(1, 1), None).unwrap_err().is(Errno::PERM));
    space.advise(pages(1, 2), Advice::DontNeed).unwrap();
    assert_eq!(fails(space.advise(pages(5, 1), Advice::DontNeed)), Errno::PERM);
    space.unmap(pages(0, 1)).unwrap();
    space.unmap(pages(3, 1)).unwrap();
    assert_eq!(fails(space.fork().unwrap().unmap(pages(1, 1))), Errno::PERM, "a child's too");
}

#[test]
fn pages_move_and_leave_their_mapping_behind() {
    let space = space();
    map(&space, pages(0, 4), RW);
    space.poke(pages(1, 1).start(), b"moved").unwrap();
    let to = space.remap_leaving(pages(1, 2), None).unwrap();
    let mut seen = [0xff; 5];
    space.peek(to, &mut seen).unwrap();
    assert_eq!(&seen, b"moved");
    space.peek(pages(1, 1).start(), &mut seen).unwrap();
    assert_eq!(seen, [0; 5], "as if it was new");
    assert_eq!(space.mapped_bytes(), 6 * PAGE_SIZE);
    assert!(space.remap_leaving(pages(1, 2), Some(pages(2, 1).start())).unwrap_err().is(Errno::INVAL));
    assert!(space.remap_leaving(pages(3, 2), None).unwrap_err().is(Errno::FAULT));
}

#[test]
fn a_shared_mapping_is_made_twice() {
    let space = space();
    let source = SharedMemory::new(space.quota(), 2 * PAGE_SIZE).unwrap();
    let request = MapRequest {
        backing: Backing::Source { source, index: 0 },
        flags: MapFlags::SHARED,
        ..MapRequest::anonymous(2 * PAGE_SIZE, RW)
    };
    space.map(request.at(Place::Fixed(pages(0, 2).start()))).unwrap();
    let again = space.map_again(pages(1, 1).start(), PAGE_SIZE, None).unwrap();
    space.poke(again, b"both").unwrap();
    let mut seen = [0; 4];
    space.peek(pages(1, 1).start(), &mut seen).unwrap();
    assert_eq!(&seen, b"both");
    map(&space, pages(8, 1), RW);
    assert!(space.map_again(pages(8, 1).start(), PAGE_SIZE, None).unwrap_err().is(Errno::INVAL));
}

#[test]
fn low_places_are_below_two_gibibytes() {
    let space = space();
    for _ in 0..3 {
        let low = space.map(MapRequest::anonymous(PAGE_SIZE, RW).at(Place::Low)).unwrap();
        assert!(low.get() < 1 << 31);
    }
    let high = space.map(MapRequest::anonymous(PAGE_SIZE, RW)).unwrap();
    assert!(high.get() > 1 << 31, "others are not drawn there");
    assert!(space.map(MapRequest::anonymous(1 << 32, RW).at(Place::Low)).unwrap_err().is(Errno::NOMEM));
}

#[test]
fn moved_and_doubled_mappings_are_held_to_the_limits() {
    let space = space();
    map(&space, pages(0, 2), RW);
    let source = SharedMemory::new(space.quota(), 2 * PAGE_SIZE).unwrap();
    let backing = Backing::Source { source, index: 0 };
    let request = MapRequest { backing, flags: MapFlags::SHARED, ..MapRequest::anonymous(2 * PAGE_SIZE, RW) };
    space.map(request.at(Place::Fixed(pages(4, 2).start()))).unwrap();
    space.set_limits(MapLimits { all: 5 * PAGE_SIZE, ..MapLimits::default() });
    assert!(space.remap_leaving(pages(0, 2), None).unwrap_err().is(Errno::NOMEM));
    assert!(space.map_again(pages(4, 1).start(), 2 * PAGE_SIZE, None).unwrap_err().is(Errno::NOMEM));
    assert!(space.remap(pages(0, 2), 4 * PAGE_SIZE, RemapPlace::Fixed(pages(8, 1).start())).unwrap_err().is(Errno::NOMEM));
    assert_eq!(space.mapped_bytes(), 4 * PAGE_SIZE, "nothing changed");
    space.remap(pages(0, 2), 3 * PAGE_SIZE, RemapPlace::Fixed(pages(8, 1).start())).unwrap();
    assert_eq!(space.mapped_bytes(), 5 * PAGE_SIZE);
}
