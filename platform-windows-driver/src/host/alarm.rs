//! Calls at a time: one system thread for all sandboxes, which sleeps until the earliest.
//!
//! A thread rather than a timer with a DPC: what is called may sleep. Invariant: `Timers` are held weakly, so a call that is far away
//! keeps no sandbox. Locks: `CALLS` is a spin lock; nothing is called or dropped under it.

use super::WindowsKernel;
use crate::nt::event::Event;
use crate::nt::spin::SpinLock;
use crate::nt::{Status, thread, time};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::time::Duration;
use litebox_core::time::Timers;

struct Call {
    at: Duration,
    timers: Weak<Timers<WindowsKernel>>,
}

struct Calls {
    list: Vec<Call>,
    /// Set when there is something new; there while the thread is.
    changed: Option<Arc<Event>>,
}

static CALLS: SpinLock<Calls> = SpinLock::new(Calls { list: Vec::new(), changed: None });

/// The thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Caller;

impl Caller {
    /// Starts it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn start() -> Result<Self, Status> {
        let changed = Event::new();
        CALLS.lock().changed = Some(Arc::clone(&changed));
        thread::spawn(move || run(&changed))?;
        Ok(Self)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let changed = CALLS.lock().changed.take();
        if let Some(changed) = changed {
            changed.set();
        }
    }
}

/// Has `timers` run at `at`, and not at the time before. IRQL: `PASSIVE_LEVEL`.
pub(super) fn call_at(at: Duration, timers: &Arc<Timers<WindowsKernel>>) {
    let timers = Arc::downgrade(timers);
    let mut calls = CALLS.lock();
    let before = calls.list.iter().position(|call| Weak::ptr_eq(&call.timers, &timers));
    let before = before.map(|index| calls.list.swap_remove(index));
    calls.list.push(Call { at, timers });
    let changed = calls.changed.clone();
    drop(calls);
    drop(before);
    if let Some(changed) = changed {
        changed.set();
    }
}

fn run(changed: &Event) {
    loop {
        let now = time::monotonic();
        let mut calls = CALLS.lock();
        if calls.changed.is_none() {
            return;
        }
        let due = calls.list.iter().position(|call| call.at <= now).map(|index| calls.list.swap_remove(index));
        let next = calls.list.iter().map(|call| call.at.saturating_sub(now)).min();
        drop(calls);
        match due {
            Some(call) => {
                if let Some(timers) = call.timers.upgrade() {
                    timers.run();
                }
            }
            None => {
                changed.wait(next);
            }
        }
    }
}
