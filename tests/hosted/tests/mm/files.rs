//! Mappings of files, and shared memory.

use super::*;

#[test]
fn a_private_file_is_copied_when_written() {
    let (space, file) = (space(), File::new(3 * PAGE_SIZE));
    map_file(&space, &file, pages(0, 3), 0, MapFlags::empty(), RW);
    assert_eq!(load(&space, BASE + PAGE_SIZE), Some(1));
    assert!(store(&space, BASE + PAGE_SIZE + 1, b"x"));
    assert_eq!((load(&space, BASE + PAGE_SIZE), load(&space, BASE + PAGE_SIZE + 1)), (Some(1), Some(b'x')));
    let mut byte = [0];
    file.page(1).unwrap().read(1, &mut byte);
    assert_eq!((byte, file.written.load(Ordering::SeqCst)), ([1], 0));
    space.advise(pages(0, 3), Advice::DontNeed).unwrap();
    assert_eq!(load(&space, BASE + PAGE_SIZE + 1), Some(1));
    assert_eq!(file.reads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_shared_file_is_written_through_and_ends_in_sigbus() {
    let (space, file) = (space(), File::new(PAGE_SIZE + 1));
    map_file(&space, &file, pages(0, 4), 0, MapFlags::SHARED, RW);
    let child = Arc::new(space.fork().unwrap());
    assert_eq!(load(&space, BASE), Some(0));
    assert_eq!(file.written.load(Ordering::SeqCst), 0);
    assert!(store(&child, BASE, b"c"));
    assert_eq!(file.written.load(Ordering::SeqCst), 1);
    assert_eq!(load(&space, BASE), Some(b'c'));
    assert_eq!(space.fault(at(BASE + PAGE_SIZE), Access::Write), FaultOutcome::Resolved);
    assert_eq!(space.fault(at(BASE + 2 * PAGE_SIZE), Access::Write), FaultOutcome::Bus);
    assert_eq!(load(&space, BASE + 2 * PAGE_SIZE), None);
}

#[test]
fn rights_beyond_the_opened_file_are_refused() {
    let (space, file) = (space(), File::new(PAGE_SIZE));
    let source: Arc<dyn MapSource<Hosted>> = file;
    let read_only = |prot| MapRequest {
        backing: Backing::Source { source: Arc::clone(&source), index: 0 },
        flags: MapFlags::SHARED,
        max_prot: Prot::READ,
        ..request(pages(0, 1), prot)
    };
    assert!(space.map(read_only(RW)).unwrap_err().is(Errno::ACCESS));
    space.map(read_only(Prot::READ)).unwrap();
    assert!(space.protect(pages(0, 1), RW).unwrap_err().is(Errno::ACCESS));
    let far = MapRequest { backing: Backing::Source { source, index: u64::MAX }, ..request(pages(0, 1), RW) };
    assert!(space.map(far).unwrap_err().is(Errno::OVERFLOW));
}

#[test]
fn shared_memory_is_one_memory_after_fork() {
    let space = space();
    let source: Arc<dyn MapSource<Hosted>> = SharedMemory::<Hosted>::new(space.quota(), 5 * PAGE_SIZE).unwrap();
    let backing = Backing::Source { source, index: 0 };
    space.map(MapRequest { backing, flags: MapFlags::SHARED, ..request(pages(0, 5), RW) }).unwrap();
    let child = Arc::new(space.fork().unwrap());
    assert!(store(&child, BASE + 4 * PAGE_SIZE, b"s"));
    assert_eq!(load(&space, BASE + 4 * PAGE_SIZE), Some(b's'));
    assert_eq!(space.fault(at(BASE), Access::Read), FaultOutcome::Resolved);
    assert!(space.host().translate(at(BASE), Access::Write).is_some(), "nobody needs to know of the first write");
    let key = space.word_key(at(BASE + 8)).unwrap();
    assert!(matches!(key, WordKey::Shared(_, 8)));
    assert_eq!(child.word_key(at(BASE + 8)).unwrap(), key);
}

#[test]
fn a_page_that_its_file_drops_stays_alive_while_it_is_shown() {
    let (space, file) = (space(), File::new(4 * PAGE_SIZE));
    map_file(&space, &file, pages(0, 4), 0, MapFlags::SHARED, RW);
    map_file(&space, &file, pages(8, 2), 2, MapFlags::empty(), RW);
    assert!(store(&space, BASE + 3 * PAGE_SIZE, b"x") && store(&space, BASE + 9 * PAGE_SIZE, b"y"));
    let child = Arc::new(space.fork().unwrap());
    assert_eq!(load(&child, BASE + 3 * PAGE_SIZE), Some(b'x'));
    file.pages.lock().unwrap().clear();
    // Entries are weak: to read through one whose frame is gone is a panic.
    assert_eq!(load(&child, BASE + 3 * PAGE_SIZE), Some(b'x'));
    drop(child);
    // Made shorter: gone at once, private copies too, and what is left is read anew.
    file.size.store(3 * PAGE_SIZE, Ordering::SeqCst);
    space.forget(file.owner(), 3);
    assert_eq!(space.fault(at(BASE + 3 * PAGE_SIZE), Access::Read), FaultOutcome::Bus);
    assert_eq!(space.fault(at(BASE + 9 * PAGE_SIZE), Access::Read), FaultOutcome::Bus);
    assert_eq!((load(&space, BASE + 2 * PAGE_SIZE), load(&space, BASE + 8 * PAGE_SIZE)), (Some(2), Some(2)));
}

#[test]
fn a_page_that_its_file_replaces_is_seen_after_the_next_fault() {
    let (space, file) = (space(), File::new(PAGE_SIZE));
    map_file(&space, &file, pages(0, 1), 0, MapFlags::SHARED, RW);
    assert_eq!(load(&space, BASE), Some(0));
    file.pages.lock().unwrap().clear();
    file.page(0).unwrap().write(0, b"new");
    assert_eq!(space.fault(at(BASE), Access::Read), FaultOutcome::Resolved);
    assert_eq!(load(&space, BASE), Some(b'n'));
}
