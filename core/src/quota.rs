//! What a sandbox may still allocate.
//!
//! Invariants: a [`Charge`] is taken *before* the memory it stands for is allocated and given back when that memory is;
//! `used <= limit` at all times. Lock-free: charging is on the page-fault path.

use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// The memory book of one sandbox, or of a part of it, in bytes.
#[derive(Debug)]
pub struct Quota {
    used: AtomicU64,
    limit: u64,
    /// Of which it is a part.
    whole: Option<Arc<Quota>>,
}

impl Quota {
    /// A book with `limit` bytes to give.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit, whole: None })
    }

    /// A book for a part of `whole`: what is charged to it is charged to both.
    #[must_use]
    pub fn within(whole: &Arc<Self>, limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit, whole: Some(Arc::clone(whole)) })
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
    /// `NOMEM`: the sandbox would pass its limit. `NOSPC`: a part of it would pass its own. Nothing was charged.
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge> {
        self.take(bytes)?;
        Ok(Charge { quota: Arc::clone(self), bytes })
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.limit));
        match (taken, &self.whole) {
            (Ok(_), None) => Ok(()),
            (Ok(_), Some(whole)) => whole.take(bytes).inspect_err(|_| {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
            }),
            (Err(_), None) => Err(errno!(NOMEM, "the sandbox's memory quota is used up")),
            (Err(_), Some(_)) => Err(errno!(NOSPC, "the file system is full")),
        }
    }

    /// Gives back what [`Self::take`] took, once: never below zero.
    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give(bytes);
        }
    }
}

/// Bytes charged to a [`Quota`]; given back on drop.
#[derive(Debug)]
pub struct Charge {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Charge {
    /// A part of it, as a charge of its own; `None` if it is smaller.
    #[must_use]
    pub fn part(&mut self, bytes: u64) -> Option<Self> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(Self { quota: Arc::clone(&self.quota), bytes })
    }

    /// How many bytes this stands for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // What `charge` took, and no more than once, since a `Charge` is neither Clone nor Copy.
        self.quota.give(self.bytes);
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
    fn a_part_is_charged_to_the_whole() {
        let whole = Quota::new(100);
        let part = Quota::within(&whole, 60);
        let held = part.charge(50).expect("within both limits");
        assert_eq!((part.used(), whole.used()), (50, 50));
        assert!(part.charge(11).expect_err("past its own limit").is(Errno::NOSPC));
        let other = whole.charge(45).expect("within the limit");
        assert!(part.charge(6).expect_err("past the whole's limit").is(Errno::NOMEM));
        assert_eq!((part.used(), whole.used()), (50, 95));
        drop((held, other));
        assert_eq!((part.used(), whole.used()), (0, 0));
    }

    #[test]
    fn the_parts_of_a_charge_are_given_back_one_by_one() {
        let quota = Quota::new(100);
        let mut whole = quota.charge(60).expect("within the limit");
        let part = whole.part(20).expect("a part");
        assert_eq!((part.bytes(), whole.bytes(), quota.used()), (20, 40, 60));
        assert!(whole.part(41).is_none());
        drop(part);
        assert_eq!(quota.used(), 40);
        drop(whole);
        assert_eq!(quota.used(), 0);
    }

    #[test]
    fn a_charge_that_overflows_fails() {
        let quota = Quota::new(u64::MAX);
        let _held = quota.charge(2).expect("within the limit");
        assert!(quota.charge(u64::MAX).is_err());
    }
}
