//! Calls that are answered before everything else: they only read a word of the task's own.
//!
//! What this leaves out, and why it may: no registers are decoded, since there are no arguments; no signal is looked for, since none
//! of these calls sends one, and whoever else sends one kicks the carrier, which looks on its way to ring 3 whatever the call was;
//! nothing is restarted, since none waits. A watched task's calls all go the long way, where the trace, the tracer and
//! the filter are.

use crate::signal::Cpu;
use crate::task::Task;
use linux_raw_sys::general as nr;

/// The result of call `number`, if it is such a call. Whoever gets `None` asks [`dispatch`](crate::dispatch()).
#[inline]
pub fn quick<P: Cpu>(task: &Task<P>, number: u64) -> Option<u64> {
    // The table has the same handlers; a test compares what they answer.
    let value = match u32::try_from(number).ok()? {
        nr::__NR_getpid => task.process().pid(),
        nr::__NR_gettid => task.tid(),
        nr::__NR_getppid => task.process().parent(),
        _ => return None,
    };
    (!task.is_watched()).then_some(u64::from(value))
}
