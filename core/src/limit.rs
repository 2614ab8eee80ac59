//! A number that bounds what guests make, and that may change while it is in force.

use alloc::sync::Arc;
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

/// How much there is of something that several objects have parts of.
#[derive(Clone, Debug, Default)]
pub struct Total(Arc<AtomicU64>);

impl Total {
    /// Counts `part` more, if that makes no more than `limit`, as long as what it gives lives.
    #[must_use]
    pub fn add(&self, part: u64, limit: &Limit) -> Option<Part> {
        let most = limit.get();
        let add = |total: u64| total.checked_add(part).filter(|sum| *sum <= most);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok().map(|_| Part { total: self.clone(), part })
    }
}

/// An object's part of a [`Total`].
#[derive(Debug)]
pub struct Part {
    total: Total,
    part: u64,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.total.0.fetch_sub(self.part, Ordering::Relaxed);
    }
}
