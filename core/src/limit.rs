//! A number that bounds what guests make, and that may change while it is in force.

use core::sync::atomic::{AtomicU64, Ordering};

/// Such a number. It is looked at where something is made; what there is already stays.
#[derive(Debug)]
pub struct Limit(AtomicU64);

impl Limit {
    /// `most` to begin with.
    #[must_use]
    pub const fn new(most: u64) -> Self {
        Self(AtomicU64::new(most))
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What it is as a count.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.get()).unwrap_or(usize::MAX)
    }

    /// Makes it `most`.
    pub fn set(&self, most: u64) {
        self.0.store(most, Ordering::Relaxed);
    }
}
