//! Random operations beside a model, in threads and at every quota.

use super::*;

/// What a page of the model is: rights and its first byte.
type Model = BTreeMap<u64, (Prot, u8)>;

fn check(space: &Arc<Space>, model: &Model, span: u64) {
    for page in 0..span {
        let expected = model.get(&page).filter(|(prot, _)| !prot.is_empty()).map(|(_, byte)| *byte);
        assert_eq!(load(space, BASE + page * PAGE_SIZE), expected, "page {page}");
    }
    let mut end = 0;
    for (start, stop, _) in areas(space) {
        assert!(start >= end && stop > start);
        end = stop;
    }
}

#[test]
fn random_operations_agree_with_a_model() {
    const SPAN: u64 = 160;
    const RIGHTS: [Prot; 3] = [RW, Prot::READ, Prot::empty()];
    for seed in 1..=40 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let quota = Quota::new(256 << 20);
        let mut spaces = vec![(Arc::new(Space::new(&quota).unwrap()), Model::new())];
        for _ in 0..300 {
            let which = usize::try_from(random.below(spaces.len() as u64)).unwrap();
            let (first, count) = (random.below(SPAN - 40), 1 + random.below(40));
            let (range, prot) = (pages(first, count), RIGHTS[usize::try_from(random.below(3)).unwrap()]);
            let choice = random.below(12);
            let alive = spaces.len();
            let (space, model) = &mut spaces[which];
            match choice {
                0..=1 => {
                    space.map(request(range, prot)).unwrap();
                    model.extend((first..first + count).map(|page| (page, (prot, 0))));
                }
                2 => {
                    space.unmap(range).unwrap();
                    model.retain(|page, _| !(first..first + count).contains(page));
                }
                3 => {
                    let reached = (first..first + count).take_while(|page| model.contains_key(page)).count() as u64;
                    assert_eq!(space.protect(range, prot).is_ok(), reached == count);
                    for page in first..first + reached {
                        model.entry(page).and_modify(|(rights, _)| *rights = prot);
                    }
                }
                4 => {
                    let whole = (first..first + count).all(|page| model.contains_key(&page));
                    assert_eq!(space.advise(range, Advice::DontNeed).is_ok(), whole);
                    for (_, (_, byte)) in model.range_mut(first..first + count) {
                        *byte = 0;
                    }
                }
                5 => {
                    let to = random.below(SPAN - 40);
                    let done = space.remap(range, range.bytes(), RemapPlace::Fixed(pages(to, 1).start()));
                    if done.is_ok() {
                        let moved: Vec<_> = (0..count).map(|page| (to + page, model.remove(&(first + page)).unwrap())).collect();
                        model.extend(moved);
                    }
                }
                6 if alive < 4 => {
                    let fork = (Arc::new(space.fork().unwrap()), model.clone());
                    spaces.push(fork);
                }
                7 if alive > 1 => drop(spaces.swap_remove(which)),
                _ => {
                    for page in first..first + count.min(5) {
                        let byte = u8::try_from(1 + random.below(200)).unwrap();
                        let writable = model.get(&page).is_some_and(|(prot, _)| prot.contains(Prot::WRITE));
                        assert_eq!(store(space, BASE + page * PAGE_SIZE, &[byte]), writable);
                        if writable {
                            model.insert(page, (model[&page].0, byte));
                        }
                    }
                }
            }
            if random.below(8) == 0 {
                spaces.iter().for_each(|(space, model)| check(space, model, SPAN));
            }
        }
        spaces.iter().for_each(|(space, model)| check(space, model, SPAN));
        drop(spaces);
        assert_eq!(quota.used(), 0);
    }
}

#[test]
fn threads_fault_map_and_fork_at_once() {
    let space = space();
    map(&space, 0, 64, RW);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let space = &space;
            scope.spawn(move || {
                for round in 0..200 {
                    let page = thread * 16 + round % 16;
                    let byte = [u8::try_from(round % 250).unwrap()];
                    assert!(store(space, BASE + page * PAGE_SIZE, &byte));
                    assert_eq!(load(space, BASE + page * PAGE_SIZE), Some(byte[0]));
                }
            });
        }
        for _ in 0..50 {
            drop(space.fork().unwrap());
            let range = map(&space, 100, 8, RW);
            assert!(store(&space, range.start().get(), b"x"));
            space.unmap(range).unwrap();
        }
    });
}

#[test]
fn whatever_the_quota_an_operation_succeeds_or_says_no() {
    for limit in (20..220).step_by(3) {
        let mut random = Random(0x1234_5678_9abc_def1 ^ limit);
        let (quota, file) = (Quota::new(limit << 10), File::new(30 * PAGE_SIZE));
        let Ok(first) = Space::new(&quota) else { continue };
        let mut spaces = vec![Arc::new(first)];
        for _ in 0..400 {
            let which = usize::try_from(random.below(spaces.len() as u64)).unwrap();
            let range = pages(random.below(100), 1 + random.below(30));
            let space = &spaces[which];
            match random.below(9) {
                0 => _ = space.map(request(range, RW)),
                1 => _ = space.unmap(range),
                2 => _ = space.protect(range, Prot::READ),
                3 => _ = space.remap(range, PAGE_SIZE * (1 + random.below(40)), RemapPlace::Move),
                4 => {
                    let source: Arc<dyn MapSource<Hosted>> = Arc::<File>::clone(&file);
                    _ = space.map(MapRequest { backing: Backing::Source { source, index: 3 }, ..request(range, RW) });
                }
                5 if spaces.len() < 5 => spaces.extend(space.fork().ok().map(Arc::new)),
                6 if spaces.len() > 1 => drop(spaces.swap_remove(which)),
                _ => {
                    for page in range.pages() {
                        let addr = page * PAGE_SIZE;
                        if store(space, addr, &[7]) {
                            assert_eq!(load(space, addr), Some(7));
                        }
                    }
                }
            }
            assert!(quota.used() <= limit << 10);
        }
        drop(spaces);
        assert_eq!(quota.used(), 0);
    }
}
