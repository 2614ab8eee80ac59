//! Raw sleeping locks over one futex-like primitive.
//!
//! Exclusion made from an atomic word is an unsafe promise (`lock_api`'s traits say so), so it cannot live in `litebox-core`;
//! it is the same on every host, so it does not live in a platform either. This crate knows nothing but words and [`Futex`].
//! Invariant: whoever frees a lock that may have sleepers wakes them after the free is visible.
#![no_std]

mod mutex;
mod rwlock;

pub use mutex::RawMutex;
pub use rwlock::RawRwLock;

use core::sync::atomic::AtomicU32;

/// Sleeping on a word, uninterruptibly; futex(2)'s `FUTEX_WAIT` and `FUTEX_WAKE` within one host.
pub trait Futex: 'static {
    /// Sleeps while `*word == expected`, until a wake, or returns early for no reason.
    ///
    /// The comparison and falling asleep are one step with respect to [`Futex::wake`].
    fn wait(word: &AtomicU32, expected: u32);
    /// Wakes every task that sleeps on `word`.
    fn wake(word: &AtomicU32);
}
