//! Calls at a time: one thread for all tests, started at the first.

use crate::Hosted;
use litebox_core::platform::Clock;
use litebox_core::time::Timers;
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

struct Call {
    at: Duration,
    timers: Weak<Timers<Hosted>>,
}

static CALLS: Mutex<Vec<Call>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();
static THREAD: Once = Once::new();

/// Has `timers` run at `at`; a former call for them is forgotten.
pub(crate) fn call_at(at: Duration, timers: &Arc<Timers<Hosted>>) {
    let timers = Arc::downgrade(timers);
    let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    calls.retain(|call| !Weak::ptr_eq(&call.timers, &timers));
    calls.push(Call { at, timers });
    drop(calls);
    CHANGED.notify_all();
    THREAD.call_once(|| drop(std::thread::spawn(run)));
}

fn run() {
    let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let now = Hosted::monotonic();
        if let Some(due) = calls.iter().position(|call| call.at <= now) {
            let call = calls.swap_remove(due);
            drop(calls);
            if let Some(timers) = call.timers.upgrade() {
                timers.run();
            }
            calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let next = calls.iter().map(|call| call.at.saturating_sub(now)).min().unwrap_or(Duration::from_secs(3600));
        calls = CHANGED.wait_timeout(calls, next).unwrap_or_else(PoisonError::into_inner).0;
    }
}
