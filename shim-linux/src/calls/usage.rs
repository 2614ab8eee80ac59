//! getrusage(2), times(2). What is not counted, as blocks read and messages sent, is 0.

use super::put;
use crate::args::{Int, Ptr};
use crate::signal::Cpu;
use crate::task::{Resources, Task};
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::GuestAddr;

/// `struct rusage`: two times of seconds and microseconds, and fourteen numbers.
type Wire = [u64; 18];
const BYTES: usize = size_of::<raw::rusage>();

const _: () = assert!(size_of::<Wire>() == BYTES);

fn encode(used: &Resources) -> Wire {
    let usage = &used.usage;
    let time = |time: Duration| [time.as_secs(), u64::from(time.subsec_micros())];
    let ([user, user_micros], [system, system_micros]) = (time(usage.user), time(usage.system));
    let kib = used.pages.saturating_mul(4);
    let (minor, major) = (usage.minor_faults, usage.major_faults);
    let (voluntary, involuntary) = (usage.voluntary, usage.involuntary);
    [user, user_micros, system, system_micros, kib, 0, 0, 0, minor, major, 0, 0, 0, 0, 0, 0, voluntary, involuntary]
}

/// Stores what was used, unless nobody wants to know.
pub(super) fn write<P: Cpu>(at: Ptr, used: &Resources) -> Result<()> {
    if at.0 == GuestAddr::default() { Ok(()) } else { put::<P, BYTES>(at.0, &encode(used)) }
}

pub(crate) fn getrusage<P: Cpu>(task: &mut Task<P>, who: Int, usage: Ptr) -> Result<()> {
    let used = match who.0 {
        0 => task.resources(),
        1 => Resources { usage: task.shared().used(), ..task.resources() },
        -1 => task.process().children_resources(),
        _ => return Err(errno!(INVAL, "of whom?")),
    };
    put::<P, BYTES>(usage.0, &encode(&used))
}

/// Clock ticks of 10 ms.
fn ticks(time: Duration) -> u64 {
    time.as_secs().saturating_mul(100).saturating_add(u64::from(time.subsec_millis() / 10))
}

pub(crate) fn times<P: Cpu>(task: &mut Task<P>, buf: Ptr) -> Result<u64> {
    if buf.0 != GuestAddr::default() {
        let (own, children) = (task.process().used(), task.process().children_resources().usage);
        put::<P, 32>(buf.0, &[own.user, own.system, children.user, children.system].map(ticks))?;
    }
    Ok(ticks(task.sandbox().uptime()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Usage;

    #[test]
    fn times_are_seconds_and_microseconds_and_memory_is_kibibytes() {
        let (user, system) = (Duration::new(3, 5_999), Duration::from_millis(20));
        let usage = Usage { user, system, minor_faults: 7, major_faults: 8, voluntary: 9, involuntary: 10 };
        let wire = encode(&Resources { usage, pages: 3 });
        assert_eq!(wire, [3, 5, 0, 20_000, 12, 0, 0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 9, 10]);
        assert_eq!((ticks(user), ticks(system)), (300, 2));
    }
}
