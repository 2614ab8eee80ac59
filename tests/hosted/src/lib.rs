//! A platform over std: the library OS's tests run on it as ordinary processes.
//!
//! A guest's page tables are a map, its memory frames behind mutexes, its processor a copy loop that faults as hardware would:
//! an entry that is absent or lacks a right calls [`AddressSpace::fault`](litebox_core::mm::AddressSpace::fault). Not fast, and
//! strict where a real host is lenient: see [`memory`].
#![forbid(unsafe_code)]

mod cpu;
pub mod memory;
mod random;
mod timer;
mod wait;

pub use memory::{HostedFrame, HostedSpace, enter};
pub use random::Random;
pub use wait::Interrupter;

use litebox_core::platform::{Clock, Entropy, Log, Platform};
use litebox_core::time::Timers;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The platform.
#[derive(Debug)]
pub enum Hosted {}

impl Platform for Hosted {}

impl Clock for Hosted {
    type Alarm = ();

    fn monotonic() -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    fn realtime() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn call_at(at: Duration, timers: &Arc<Timers<Self>>) {
        timer::call_at(at, timers);
    }
}

impl Entropy for Hosted {
    fn fill_random(dst: &mut [u8]) {
        // Fit for tests, not for keys: std gives no more.
        for (index, chunk) in dst.chunks_mut(8).enumerate() {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_usize(index);
            for (byte, random) in chunk.iter_mut().zip(hasher.finish().to_le_bytes()) {
                *byte = random;
            }
        }
    }
}

impl Log for Hosted {
    fn log(line: std::fmt::Arguments<'_>) {
        eprintln!("litebox: {line}");
    }
}
