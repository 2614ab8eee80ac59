//! Waiting on the hosted platform.

use litebox_core::error::Error;
use litebox_core::platform::{Clock, Wait, WaitMode, Wakeup};
use litebox_core::sync::{Mutex, WaitQueue};
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
