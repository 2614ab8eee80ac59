//! Spin locks: for what a cancel routine or a wake may have to change, where nobody may sleep.
//!
//! Invariant: under one the IRQL is `DISPATCH_LEVEL`, so nothing in it waits, touches paged memory or calls the library OS.

use super::raw::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// A value behind a `KSPIN_LOCK`.
pub(crate) struct SpinLock<T> {
    /// Zero is free, as `KeInitializeSpinLock` of wdm.h sets it.
    lock: UnsafeCell<usize>,
    value: UnsafeCell<T>,
}

// SAFETY: The lock lets one thread at a time to the value.
unsafe impl<T: Send> Send for SpinLock<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpinLock")
    }
}

impl<T> SpinLock<T> {
    /// A free lock.
    pub(crate) const fn new(value: T) -> Self {
        Self { lock: UnsafeCell::new(0), value: UnsafeCell::new(value) }
    }

    /// Takes the lock. IRQL: `DISPATCH_LEVEL` or below, and that until the guard goes.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        // SAFETY: A lock that was set to free before it was shared; it is not held by this processor, as nothing under it takes it.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        Guard { lock: self, irql }
    }
}

/// The lock, held.
#[must_use]
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
    irql: u8,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The lock is held, so nobody else has the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: As above, and the guard is borrowed alone.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: Held since `lock`, which gave this IRQL.
        unsafe { KeReleaseSpinLock(self.lock.lock.get(), self.irql) };
    }
}
