//! Locks that sleep, and wait queues.
//!
//! [`Mutex`] and [`RwLock`] are `lock_api` front ends over the raw locks that a platform gives: making exclusion out of an
//! atomic word is an unsafe promise, and those are kept below. [`WaitQueue`] is for conditions that a guest can make last.
//! Order: a lock is taken only when its rank is above all held ones; [`order`] has the whole list.

mod futex;
pub mod order;
mod queue;

pub use futex::{FutexKey, Futexes, Purpose, Waiting};
pub use queue::{WaitQueue, Woken};

use crate::platform::Wait;

/// A mutex whose waiters sleep. `P` is the platform.
pub type Mutex<P, T> = lock_api::Mutex<<P as Wait>::RawMutex, T>;
/// Guard of a [`Mutex`].
pub type MutexGuard<'a, P, T> = lock_api::MutexGuard<'a, <P as Wait>::RawMutex, T>;
/// A readers-writer lock whose waiters sleep. `P` is the platform.
pub type RwLock<P, T> = lock_api::RwLock<<P as Wait>::RawRwLock, T>;
