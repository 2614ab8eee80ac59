//! Events that release one waiter, and forget it.

use super::raw::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject, Pointer};
use super::{Status, time};
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use core::time::Duration;

/// `SynchronizationEvent` of `EVENT_TYPE`: a wait that succeeds clears it.
const SYNCHRONIZATION: u32 = 1;
/// `Executive` of `KWAIT_REASON`, and `KernelMode`.
const EXECUTIVE: u32 = 0;
const KERNEL_MODE: u32 = 0;

/// A `KEVENT`, which stays where it was made.
#[repr(C, align(8))]
pub(crate) struct Event(UnsafeCell<[u64; 3]>);

// SAFETY: The kernel's functions on an event may be called by any thread at any time.
unsafe impl Send for Event {}
// SAFETY: As above.
unsafe impl Sync for Event {}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

impl Event {
    /// One that is not set.
    pub(crate) fn new() -> Arc<Self> {
        let event = Arc::new(Self(UnsafeCell::new([0; 3])));
        // SAFETY: Of a `KEVENT`'s size, in memory that is not paged and from which it does not move: only borrows are given out.
        unsafe { KeInitializeEvent(event.pointer(), SYNCHRONIZATION, 0) };
        event
    }

    fn pointer(&self) -> Pointer {
        self.0.get().cast()
    }

    /// Lets one waiter go, or the next that comes. IRQL: `DISPATCH_LEVEL` or below.
    pub(crate) fn set(&self) {
        // SAFETY: An event that `new` made; no wait follows in the same breath (the last argument).
        unsafe { KeSetEvent(self.pointer(), 0, 0) };
    }

    /// Waits until it is set, or for `timeout`; whether it was set. IRQL: below `DISPATCH_LEVEL`.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let timeout = timeout.map(time::relative);
        let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: An event that `new` made; the timeout, if any, lives through the call.
        let status = unsafe { KeWaitForSingleObject(self.pointer(), EXECUTIVE, KERNEL_MODE, 0, timeout) };
        status == Status::SUCCESS
    }
}

/// Waits until an object is signalled: a thread, when it has ended; or for `timeout`. IRQL: below `DISPATCH_LEVEL`.
///
/// # Safety
/// `object` is a dispatcher object that the caller holds a reference of.
pub(super) unsafe fn wait_for(object: Pointer, timeout: Option<Duration>) -> bool {
    let timeout = timeout.map(time::relative);
    let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: Contract; the timeout, if any, lives through the call.
    let status = unsafe { KeWaitForSingleObject(object, EXECUTIVE, KERNEL_MODE, 0, timeout) };
    status.is_success() && status != Status::TIMEOUT
}
