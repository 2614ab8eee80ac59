//! Waiting on the hosted platform.

use litebox_core::error::Error;
use litebox_core::platform::{Clock, Wait, WaitMode, Wakeup};
use litebox_core::sync::{FutexKey, Futexes, Mutex, Purpose, WaitQueue};
use litebox_platform_hosted::{Hosted, Interrupter};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn a_word_that_differs_is_not_waited_for() {
    let word = AtomicU32::new(1);
    assert_eq!(Hosted::wait(&word, 0, WaitMode::Interruptible, None), Wakeup::Woken);
}

#[test]
fn a_deadline_ends_a_wait() {
    let word = AtomicU32::new(0);
    let deadline = Hosted::monotonic() + Duration::from_millis(5);
    while Hosted::wait(&word, 0, WaitMode::Interruptible, Some(deadline)) != Wakeup::TimedOut {}
    assert!(Hosted::monotonic() >= deadline);
}

#[test]
fn no_wake_is_lost() {
    let (turn, queue) = (Mutex::<Hosted, u32>::new(0), WaitQueue::<Hosted>::new());
    std::thread::scope(|scope| {
        for me in 0..2 {
            let (turn, queue) = (&turn, &queue);
            scope.spawn(move || {
                for _ in 0..2000 {
                    queue.wait_until(None, || (*turn.lock() % 2 == me).then_some(())).unwrap();
                    *turn.lock() += 1;
                    queue.wake_all();
                }
            });
        }
    });
    assert_eq!(*turn.lock(), 4000);
}

#[test]
fn an_interruption_ends_only_an_interruptible_wait() {
    let queue = WaitQueue::<Hosted>::new();
    let released = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let (queue, released) = (&queue, &released);
        let waiter = scope.spawn(move || {
            send.send(Interrupter::current()).unwrap();
            let first = queue.wait_until(None, || None::<()>);
            while released.load(Ordering::SeqCst) == 0 {
                assert_ne!(Hosted::wait(released, 0, WaitMode::Uninterruptible, None), Wakeup::Interrupted);
            }
            first
        });
        let interrupter = receive.recv().unwrap();
        interrupter.interrupt();
        interrupter.interrupt();
        released.store(1, Ordering::SeqCst);
        Hosted::wake(released);
        assert!(matches!(waiter.join().unwrap(), Err(Error::Interrupted)));
    });
}

fn word(at: u64) -> FutexKey {
    FutexKey { space: 1, object: 0, at }
}

#[test]
fn a_futex_wakes_the_first_of_its_word_with_a_common_bit() {
    let futexes = Futexes::<Hosted>::new();
    let first = futexes.enter(word(4), 1, Purpose::Wake).unwrap();
    let second = futexes.enter(word(4), 2, Purpose::Wake).unwrap();
    let third = futexes.enter(word(4), u32::MAX, Purpose::Wake).unwrap();
    assert_eq!(futexes.wake(word(8), u32::MAX, 9).unwrap(), 0);
    assert_eq!(futexes.wake(word(4), 2, 9).unwrap(), 2);
    let now = Some(Duration::ZERO);
    assert!(!first.wait(now).unwrap() && second.wait(now).unwrap() && third.wait(now).unwrap());
    assert_eq!(futexes.wake(word(4), u32::MAX, 9).unwrap(), 0, "who gave up is not counted");
}

#[test]
fn a_requeue_wakes_some_and_moves_the_next_behind_who_waits_there() {
    let futexes = Futexes::<Hosted>::new();
    let there = futexes.enter(word(8), u32::MAX, Purpose::Wake).unwrap();
    let waiting: Vec<_> = (0..4).map(|_| futexes.enter(word(4), u32::MAX, Purpose::Wake).unwrap()).collect();
    assert_eq!(futexes.requeue(word(4), word(8), 1, 2).unwrap(), 3);
    assert_eq!(futexes.wake(word(8), u32::MAX, 1).unwrap(), 1);
    let now = Some(Duration::ZERO);
    assert!(there.wait(now).unwrap());
    assert_eq!(futexes.wake(word(8), u32::MAX, 9).unwrap(), 2);
    assert_eq!(waiting.into_iter().map(|waiting| waiting.wait(now).unwrap()).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(futexes.requeue(word(8), word(8), 1, 1).unwrap(), 0);
}

#[test]
fn a_waiter_sleeps_until_another_thread_wakes_its_word() {
    let futexes = Futexes::<Hosted>::new();
    for _ in 0..100 {
        let waiting = futexes.enter(word(4), u32::MAX, Purpose::Wake).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(futexes.wake(word(4), u32::MAX, 1).unwrap(), 1));
            assert!(waiting.wait(None).unwrap());
        });
    }
}
