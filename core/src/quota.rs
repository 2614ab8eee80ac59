//! What a sandbox may still allocate.
//!
//! Invariants: a [`Charge`] is taken *before* the memory it stands for is allocated and given back when that memory is;
//! `used <= limit` at all times. Lock-free: charging is on the page-fault path.

use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// The memory book of one sandbox, in bytes.
#[derive(Debug)]
pub struct Quota {
    used: AtomicU64,
    limit: u64,
}

impl Quota {
    /// A book with `limit` bytes to give.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit })
    }

    /// Bytes charged now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that can be charged in all.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Charges `bytes`.
    ///
    /// # Errors
    /// `NOMEM`: the sandbox would pass its limit; nothing was charged.
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.limit))
            .map_err(|_| errno!(NOMEM, "the sandbox's memory quota is used up"))?;
        Ok(Charge { quota: Arc::clone(self), bytes })
    }
}

/// Bytes charged to a [`Quota`]; given back on drop.
#[derive(Debug)]
pub struct Charge {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Charge {
    /// How many bytes this stands for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // Never below zero: only what `charge` added is taken off, once, since a `Charge` is neither Clone nor Copy.
        self.quota.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    #[test]
    fn a_charge_past_the_limit_fails_and_changes_nothing() {
        let quota = Quota::new(100);
        let held = quota.charge(60).expect("within the limit");
        let refused = quota.charge(41).expect_err("past the limit");
        assert!(refused.is(Errno::NOMEM));
        assert_eq!(quota.used(), 60);
        drop(held);
        assert_eq!(quota.used(), 0);
    }

    #[test]
    fn a_charge_that_overflows_fails() {
        let quota = Quota::new(u64::MAX);
        let _held = quota.charge(2).expect("within the limit");
        assert!(quota.charge(u64::MAX).is_err());
    }
}
