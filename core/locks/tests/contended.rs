//! Both locks under contention from real threads: nothing is lost, nobody sleeps for ever.

use litebox_locks::{Futex, RawMutex, RawRwLock};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};

/// A futex out of one condition variable for all words: slow, and right.
#[derive(Debug)]
struct TestFutex;

fn bell() -> &'static (Mutex<HashMap<usize, u64>>, Condvar) {
    static BELL: OnceLock<(Mutex<HashMap<usize, u64>>, Condvar)> = OnceLock::new();
    BELL.get_or_init(Default::default)
}

impl Futex for TestFutex {
    fn wait(word: &AtomicU32, expected: u32) {
        let (wakes, rung) = bell();
        let key = std::ptr::from_ref(word).addr();
        let mut wakes = wakes.lock().unwrap();
        let before = wakes.get(&key).copied();
        while word.load(Ordering::SeqCst) == expected && wakes.get(&key).copied() == before {
            wakes = rung.wait(wakes).unwrap();
        }
    }

    fn wake(word: &AtomicU32) {
        let (wakes, rung) = bell();
        *wakes.lock().unwrap().entry(std::ptr::from_ref(word).addr()).or_default() += 1;
        rung.notify_all();
    }
}

const THREADS: u32 = 4;
const ROUNDS: u32 = 5_000;

#[test]
fn a_contended_mutex_loses_no_update() {
    let total = lock_api::Mutex::<RawMutex<TestFutex>, u32>::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..ROUNDS).for_each(|_| *total.lock() += 1));
        }
    });
    assert_eq!(*total.lock(), THREADS * ROUNDS);
}

#[test]
fn readers_never_see_half_a_write() {
    let pair = lock_api::RwLock::<RawRwLock<TestFutex>, (u32, u32)>::new((0, 0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut pair = pair.write();
                    pair.0 += 1;
                    pair.1 += 1;
                }
            });
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let pair = pair.read();
                    assert_eq!(pair.0, pair.1);
                }
            });
        }
    });
    assert_eq!(*pair.read(), (2 * ROUNDS, 2 * ROUNDS));
}

#[test]
fn a_held_lock_refuses_a_try() {
    let lock = lock_api::RwLock::<RawRwLock<TestFutex>, ()>::new(());
    let reading = lock.read();
    assert!(lock.try_read().is_some());
    assert!(lock.try_write().is_none());
    drop(reading);
    let _writing = lock.try_write().unwrap();
    assert!(lock.try_read().is_none());
}
