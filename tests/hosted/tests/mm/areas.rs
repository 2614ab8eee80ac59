//! Areas, places and anonymous memory.

use super::*;

#[test]
fn zeros_are_read_without_memory_and_written_with() {
    let space = space();
    map(&space, 0, 64, RW);
    let before = space.quota().used();
    assert_eq!(load(&space, BASE + 5), Some(0));
    let tables = space.quota().used() - before;
    assert_eq!(load(&space, BASE + 40 * PAGE_SIZE), Some(0));
    assert_eq!(space.quota().used(), before + tables);
    assert!(store(&space, BASE + 4095, b"ab"));
    assert_eq!((load(&space, BASE + 4095), load(&space, BASE + 4096)), (Some(b'a'), Some(b'b')));
    assert!(space.quota().used() > before + 2 * PAGE_SIZE);
}

#[test]
fn a_fault_says_which_signal() {
    let space = space();
    map(&space, 0, 1, Prot::READ);
    map(&space, 1, 1, Prot::empty());
    assert_eq!(space.fault(at(BASE), Access::Read), FaultOutcome::Resolved);
    assert_eq!(space.fault(at(BASE), Access::Write), FaultOutcome::Segv(SegvCode::AccErr));
    assert_eq!(space.fault(at(BASE), Access::Exec), FaultOutcome::Segv(SegvCode::AccErr));
    assert_eq!(space.fault(at(BASE + 4096), Access::Read), FaultOutcome::Segv(SegvCode::AccErr));
    for addr in [BASE + 8192, 0, GUEST_START - 1, GUEST_END, u64::MAX] {
        assert_eq!(space.fault(at(addr), Access::Read), FaultOutcome::Segv(SegvCode::MapErr));
    }
}

#[test]
fn areas_split_and_join() {
    let space = space();
    map(&space, 0, 10, RW);
    space.protect(pages(3, 2), Prot::READ).unwrap();
    assert_eq!(areas(&space), [(0, 3, RW), (3, 5, Prot::READ), (5, 10, RW)]);
    space.protect(pages(3, 2), RW).unwrap();
    assert_eq!(areas(&space), [(0, 10, RW)]);
    space.unmap(pages(4, 1)).unwrap();
    assert_eq!(areas(&space), [(0, 4, RW), (5, 10, RW)]);
    map(&space, 4, 1, RW);
    assert_eq!(areas(&space), [(0, 10, RW)]);
    map(&space, 2, 3, Prot::READ);
    assert_eq!(areas(&space), [(0, 2, RW), (2, 5, Prot::READ), (5, 10, RW)]);
    space.unmap(pages(0, 100)).unwrap();
    assert_eq!(areas(&space), []);
}

#[test]
fn everything_is_given_back() {
    let quota = Quota::new(64 << 20);
    let space = Arc::new(Space::new(&quota).unwrap());
    let empty = quota.used();
    map(&space, 0, 1000, RW);
    for page in (0..1000).step_by(7) {
        assert!(store(&space, BASE + page * PAGE_SIZE, b"x"));
    }
    let child = space.fork().unwrap();
    space.unmap(pages(0, 1000)).unwrap();
    assert!(quota.used() > empty);
    drop(child);
    assert!(quota.used() <= empty + 4 * PAGE_SIZE, "only page tables are left");
    drop(space);
    assert_eq!(quota.used(), 0);
}

#[test]
fn protecting_past_a_gap_changes_what_is_before_it() {
    let space = space();
    map(&space, 0, 2, RW);
    map(&space, 3, 1, RW);
    assert!(space.protect(pages(0, 4), Prot::READ).unwrap_err().is(Errno::NOMEM));
    assert_eq!(areas(&space), [(0, 2, Prot::READ), (3, 4, RW)]);
}

#[test]
fn a_right_taken_away_is_gone_at_once() {
    let space = space();
    map(&space, 0, 4, RW);
    assert!(store(&space, BASE, b"x"));
    space.protect(pages(0, 1), Prot::READ).unwrap();
    assert!(!store(&space, BASE, b"y"));
    assert_eq!(load(&space, BASE), Some(b'x'));
    space.protect(pages(0, 1), Prot::empty()).unwrap();
    assert_eq!(load(&space, BASE), None);
    space.unmap(pages(0, 4)).unwrap();
    assert_eq!(space.host().entries(), 0);
}

#[test]
fn places_are_found_kept_and_refused() {
    let space = space();
    let first = space.map(MapRequest::anonymous(PAGE_SIZE, RW)).unwrap();
    let second = space.map(MapRequest::anonymous(3 * PAGE_SIZE, RW)).unwrap();
    assert_eq!(first.since(second), Some(3 * PAGE_SIZE));
    let hinted = space.map(MapRequest::anonymous(1, RW).at(Place::Anywhere(at(BASE + 1)))).unwrap();
    assert_eq!(hinted, at(BASE + PAGE_SIZE));
    let elsewhere = space.map(MapRequest::anonymous(1, RW).at(Place::Anywhere(hinted))).unwrap();
    assert_ne!(elsewhere, hinted);
    let no_replace = |addr| space.map(MapRequest::anonymous(1, RW).at(Place::FixedNoReplace(addr)));
    assert!(no_replace(hinted).unwrap_err().is(Errno::EXIST));
    assert!(no_replace(at(BASE + 1)).unwrap_err().is(Errno::INVAL));
    assert!(no_replace(at(0)).unwrap_err().is(Errno::PERM));
    assert!(no_replace(at(GUEST_END)).unwrap_err().is(Errno::NOMEM));
    assert!(space.map(MapRequest::anonymous(0, RW)).unwrap_err().is(Errno::INVAL));
    assert!(space.map(MapRequest::anonymous(u64::MAX, RW)).unwrap_err().is(Errno::NOMEM));
    assert!(space.map(MapRequest::anonymous(GUEST_END, RW)).unwrap_err().is(Errno::NOMEM));
    // A hole is used again.
    space.unmap(PageRange::new(first, PAGE_SIZE).unwrap()).unwrap();
    assert_eq!(space.map(MapRequest::anonymous(PAGE_SIZE, Prot::READ)).unwrap(), first);
}

#[test]
fn a_fork_shares_until_one_writes() {
    let parent = space();
    map(&parent, 0, 200, RW);
    for page in 0..200 {
        assert!(store(&parent, BASE + page * PAGE_SIZE, b"p"));
    }
    let before = parent.quota().used();
    let child = Arc::new(parent.fork().unwrap());
    assert!(parent.quota().used() < before + 10 * PAGE_SIZE, "fork copies no page");
    assert!(store(&child, BASE, b"c"));
    assert!(store(&parent, BASE + PAGE_SIZE, b"q"));
    assert_eq!((load(&parent, BASE), load(&child, BASE)), (Some(b'p'), Some(b'c')));
    assert_eq!((load(&parent, BASE + PAGE_SIZE), load(&child, BASE + PAGE_SIZE)), (Some(b'q'), Some(b'p')));
    let grandchild = Arc::new(child.fork().unwrap());
    drop(child);
    assert_eq!(load(&grandchild, BASE), Some(b'c'));
    assert_eq!(load(&grandchild, BASE + 150 * PAGE_SIZE), Some(b'p'));
}

#[test]
fn a_child_gets_what_the_advice_says() {
    let parent = space();
    map(&parent, 0, 3, RW);
    for page in 0..3 {
        assert!(store(&parent, BASE + page * PAGE_SIZE, b"p"));
    }
    parent.advise(pages(0, 1), Advice::DontFork).unwrap();
    parent.advise(pages(1, 1), Advice::WipeOnFork).unwrap();
    let child = Arc::new(parent.fork().unwrap());
    let seen = |space, page| load(space, BASE + page * PAGE_SIZE);
    assert_eq!([seen(&child, 0), seen(&child, 1), seen(&child, 2)], [None, Some(0), Some(b'p')]);
    assert_eq!(seen(&parent, 1), Some(b'p'));
}

#[test]
fn past_the_quota_a_fault_is_out_of_memory() {
    let space = space_with(64 << 10);
    map(&space, 0, 1000, RW);
    let last =
        (0..1000).map(|page| space.fault(at(BASE + page * PAGE_SIZE), Access::Write)).find(|o| *o != FaultOutcome::Resolved);
    assert_eq!(last, Some(FaultOutcome::OutOfMemory));
    space.advise(pages(0, 1000), Advice::DontNeed).unwrap();
    assert_eq!(space.fault(at(BASE), Access::Write), FaultOutcome::Resolved);
}

#[test]
fn a_stack_grows_to_its_limit_and_keeps_its_guard() {
    let space = space();
    space.set_stack_limit(64 * PAGE_SIZE);
    let stack = pages(1000, 2);
    space.map(MapRequest { flags: MapFlags::GROWS_DOWN, ..request(stack, RW) }).unwrap();
    assert!(store(&space, BASE + 990 * PAGE_SIZE, b"s"));
    assert_eq!(areas(&space), [(990, 1002, RW)]);
    assert_eq!(space.vmas().next().unwrap().kind, AreaKind::Stack);
    assert!(!store(&space, BASE + 937 * PAGE_SIZE, b"s"), "past the limit");
    map(&space, 700, 40, RW);
    assert!(!store(&space, BASE + 980 * PAGE_SIZE, b"s"), "into the guard");
}

#[test]
fn the_heap_moves_both_ways() {
    let space = space();
    assert_eq!(space.brk(at(BASE)), at(0), "exec has not said where it is");
    space.set_heap(at(BASE + 8));
    assert_eq!(space.brk(at(0)), at(BASE + 8));
    assert_eq!(space.brk(at(BASE + 3 * PAGE_SIZE + 1)), at(BASE + 3 * PAGE_SIZE + 1));
    assert!(store(&space, BASE + 3 * PAGE_SIZE, b"h"));
    assert_eq!(space.vmas().next().unwrap().kind, AreaKind::Heap);
    assert_eq!(space.brk(at(BASE + 2 * PAGE_SIZE)), at(BASE + 2 * PAGE_SIZE));
    assert_eq!(load(&space, BASE + 3 * PAGE_SIZE), None);
    map(&space, 5, 1, RW);
    assert_eq!(space.brk(at(BASE + 6 * PAGE_SIZE)), at(BASE + 2 * PAGE_SIZE), "something is in its way");
    assert_eq!(space.brk(at(u64::MAX)), at(BASE + 2 * PAGE_SIZE));
}

#[test]
fn a_mapping_grows_moves_and_shrinks_with_its_pages() {
    let space = space();
    map(&space, 0, 3, RW);
    assert!(store(&space, BASE, b"a") && store(&space, BASE + 2 * PAGE_SIZE, b"c"));
    assert_eq!(space.remap(pages(0, 3), 4 * PAGE_SIZE, RemapPlace::Stay).unwrap(), at(BASE));
    assert_eq!(areas(&space), [(0, 4, RW)]);
    map(&space, 4, 1, Prot::READ);
    assert!(space.remap(pages(0, 4), 5 * PAGE_SIZE, RemapPlace::Stay).unwrap_err().is(Errno::NOMEM));
    let moved = space.remap(pages(0, 4), 9 * PAGE_SIZE, RemapPlace::Move).unwrap();
    assert_eq!(load(&space, BASE), None);
    assert_eq!((load(&space, moved.get()), load(&space, moved.get() + 2 * PAGE_SIZE)), (Some(b'a'), Some(b'c')));
    assert_eq!(load(&space, moved.get() + 8 * PAGE_SIZE), Some(0));
    let old = PageRange::new(moved, 9 * PAGE_SIZE).unwrap();
    assert_eq!(space.remap(old, PAGE_SIZE, RemapPlace::Fixed(at(BASE + 4 * PAGE_SIZE))).unwrap(), at(BASE + 4 * PAGE_SIZE));
    assert_eq!(areas(&space), [(4, 5, RW)]);
    assert_eq!(load(&space, BASE + 4 * PAGE_SIZE), Some(b'a'));
    assert!(store(&space, BASE + 4 * PAGE_SIZE, b"A"));
    assert!(space.remap(pages(4, 1), PAGE_SIZE, RemapPlace::Fixed(at(BASE + 4 * PAGE_SIZE))).unwrap_err().is(Errno::INVAL));
    assert!(space.remap(pages(9, 1), PAGE_SIZE, RemapPlace::Move).unwrap_err().is(Errno::FAULT));
}

#[test]
fn peek_and_poke_reach_any_private_page_and_keep_sharing_intact() {
    let (parent, file) = (space(), File::new(PAGE_SIZE));
    map(&parent, 0, 1, Prot::empty());
    map_file(&parent, &file, pages(1, 1), 0, MapFlags::SHARED, Prot::READ);
    assert_eq!(parent.poke(at(BASE + 4090), b"0123456789").unwrap(), 6, "a shared page that is not writable stops it");
    let child = parent.fork().unwrap();
    assert_eq!(child.poke(at(BASE + 4090), b"x").unwrap(), 1);
    let mut seen = [0xff; 8];
    assert_eq!(parent.peek(at(BASE + 4090), &mut seen).unwrap(), 8);
    assert_eq!(&seen, b"012345\0\0");
    assert!(parent.peek(at(BASE + 2 * PAGE_SIZE), &mut seen).unwrap_err().is(Errno::FAULT));
    assert!(parent.peek(at(u64::MAX - 1), &mut seen).unwrap_err().is(Errno::FAULT));
}

#[test]
fn a_poke_is_seen_by_a_guest_that_read_before() {
    let space = space();
    map(&space, 0, 1, RW);
    assert_eq!(load(&space, BASE), Some(0));
    space.poke(at(BASE), b"x").unwrap();
    assert_eq!(load(&space, BASE), Some(b'x'));
}

#[test]
fn mincore_tells_what_is_in_memory() {
    let (space, file) = (space(), File::new(2 * PAGE_SIZE));
    map(&space, 0, 2, RW);
    map_file(&space, &file, pages(2, 2), 0, MapFlags::empty(), RW);
    assert!(store(&space, BASE + PAGE_SIZE, b"x"));
    assert_eq!(load(&space, BASE + 3 * PAGE_SIZE), Some(1));
    let mut told = Vec::new();
    space.mincore(pages(0, 4), |resident| told.push(resident)).unwrap();
    assert_eq!(told, [false, true, false, true]);
    assert!(space.mincore(pages(0, 5), |_| ()).unwrap_err().is(Errno::NOMEM));
}

#[test]
fn copies_stop_at_a_fault_with_a_count() {
    let space = space();
    map(&space, 0, 1, RW);
    enter(&space, || {
        let mut writer = UserOut::new(at(BASE + 4090), 16).writer::<Hosted>();
        assert_eq!(writer.write(b"0123456789").unwrap(), 6);
        assert!(writer.write(b"x").unwrap_err().is(Errno::FAULT));
        assert_eq!((writer.done(), writer.left()), (6, 10));
        let mut reader = UserIn::new(at(BASE + 4090), 4).reader::<Hosted>();
        let mut bytes = [0; 9];
        assert_eq!(reader.read(&mut bytes).unwrap(), 4);
        assert_eq!(&bytes[..4], b"0123");
        assert_eq!(reader.read(&mut bytes).unwrap(), 0);
        let parts = vec![(at(BASE + 4092), 1), (at(1), 0), (at(BASE + 4090), 2), (at(1), 5)];
        let mut gather = UserReader::<Hosted>::gather(parts);
        assert_eq!((gather.left(), gather.read(&mut bytes).unwrap()), (8, 3));
        assert_eq!(&bytes[..3], b"201");
        assert!(UserIn::new(at(u64::MAX), usize::MAX).reader::<Hosted>().read(&mut bytes).unwrap_err().is(Errno::FAULT));
        assert!(UserIn::new(at(BASE), 9).to_vec::<Hosted>(8).unwrap_err().is(Errno::INVAL));
        assert_eq!(UserOut::new(at(BASE), 600).writer::<Hosted>().write_zeros(700).unwrap(), 600);
    });
}

#[test]
fn strings_are_bounded() {
    let space = space();
    map(&space, 0, 2, RW);
    assert!(store(&space, BASE + 4000, &[b'a'; 200]));
    assert!(store(&space, BASE + 8190, b"zz"));
    enter(&space, || {
        assert_eq!(UserCStr::new(at(BASE + 4000)).read::<Hosted>(4096).unwrap(), [b'a'; 200]);
        assert_eq!(UserCStr::new(at(BASE + 4000)).read::<Hosted>(201).unwrap().len(), 200);
        assert!(UserCStr::new(at(BASE + 4000)).read::<Hosted>(200).unwrap_err().is(Errno::NAMETOOLONG));
        assert!(UserCStr::new(at(BASE + 8190)).read::<Hosted>(9).unwrap_err().is(Errno::FAULT));
        assert!(UserCStr::new(at(BASE + 8190)).read::<Hosted>(2).unwrap_err().is(Errno::NAMETOOLONG));
        assert_eq!(UserCStr::new(at(BASE)).read::<Hosted>(9).unwrap(), b"");
    });
}

#[test]
fn a_page_that_is_nobody_elses_is_writable_after_one_fault() {
    let space = space();
    map(&space, 0, 1, RW);
    assert!(store(&space, BASE, b"x"));
    space.protect(pages(0, 1), Prot::READ).unwrap();
    space.protect(pages(0, 1), RW).unwrap();
    assert_eq!(space.fault(at(BASE), Access::Read), FaultOutcome::Resolved);
    assert!(space.host().translate(at(BASE), Access::Write).is_some());
    let child = space.fork().unwrap();
    assert_eq!(space.fault(at(BASE), Access::Read), FaultOutcome::Resolved);
    assert!(space.host().translate(at(BASE), Access::Write).is_none());
    assert_eq!((child.resident_pages(), child.mapped_bytes()), (1, PAGE_SIZE));
}

#[test]
fn a_new_mapping_keeps_off_a_stack() {
    let space = space();
    let top = space.map_top();
    let stack = GuestAddr::new(top.get() - 16 * PAGE_SIZE);
    let area = MapRequest::anonymous(16 * PAGE_SIZE, RW).at(Place::Fixed(stack));
    space.map(MapRequest { flags: MapFlags::GROWS_DOWN, ..area }).unwrap();
    let below = space.map(MapRequest::anonymous(PAGE_SIZE, RW)).unwrap();
    assert!(stack.since(below).unwrap() > 256 * PAGE_SIZE);
}

#[test]
fn page_tables_are_charged_until_the_space_is_gone() {
    const REGION: u64 = 2 << 20;
    let quota = Quota::new(8 << 20);
    let space = Arc::new(Space::new(&quota).unwrap());
    let all = PageRange::new(at(BASE), 1 << 40).unwrap();
    let mut touched = 0;
    loop {
        let addr = at(BASE + touched * REGION);
        space.map(MapRequest::anonymous(PAGE_SIZE, RW).at(Place::Fixed(addr))).unwrap();
        match space.fault(addr, Access::Read) {
            FaultOutcome::Resolved => touched += 1,
            outcome => {
                assert_eq!(outcome, FaultOutcome::OutOfMemory);
                break;
            }
        }
        space.unmap(all).unwrap();
    }
    assert!(touched > 500 && touched * PAGE_SIZE <= 8 << 20);
    drop(space);
    assert_eq!(quota.used(), 0);
}

#[test]
fn populating_is_bounded() {
    let space = space();
    let huge = space.map(MapRequest::anonymous(100 << 40, RW)).unwrap();
    let huge = PageRange::new(huge, 100 << 40).unwrap();
    assert_eq!(space.populate(huge, Access::Read), FaultOutcome::Resolved);
    assert_eq!(space.populate(huge, Access::Write), FaultOutcome::OutOfMemory);
    map(&space, 0, 3, RW);
    space.advise(huge, Advice::DontNeed).unwrap();
    space.advise(pages(0, 3), Advice::PopulateWrite).unwrap();
    assert_eq!(space.host().entries(), 3);
}

#[test]
fn places_stay_close_together_however_one_maps_and_unmaps() {
    let (space, mut random) = (space(), Random(0xfeed_beef_1234_5677));
    let (mut held, mut most, mut sum) = (Vec::new(), 0, 0);
    for _ in 0..6000 {
        if held.len() < 200 && random.below(5) < 3 {
            let most_pages = if random.below(10) == 0 { 300 } else { 8 };
            let len = PAGE_SIZE * (1 + random.below(most_pages));
            let prot = if random.below(2) == 0 { RW } else { Prot::READ };
            held.push(PageRange::new(space.map(MapRequest::anonymous(len, prot)).unwrap(), len).unwrap());
            sum += len;
        } else if !held.is_empty() {
            let range = held.swap_remove(usize::try_from(random.below(held.len() as u64)).unwrap());
            sum -= range.bytes();
            space.unmap(range).unwrap();
        }
        most = most.max(sum);
        assert_eq!(space.mapped_bytes(), sum);
    }
    let lowest = space.vmas().next().unwrap().range.start();
    assert!(space.map_top().since(lowest).unwrap() < 3 * most);
}

#[test]
fn there_can_be_only_so_many_areas() {
    let space = space();
    map(&space, 0, 140_000, RW);
    let refused = (0..70_000).find(|page| space.protect(pages(2 * page, 1), Prot::READ).is_err()).unwrap();
    assert_eq!(refused, 32_765);
    assert!(space.unmap(pages(100_000, 1)).unwrap_err().is(Errno::NOMEM));
    space.unmap(pages(0, 140_000)).unwrap();
    assert_eq!(space.vma_count(), 0);
}
