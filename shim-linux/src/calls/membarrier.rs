//! membarrier(2).
//!
//! Registrations belong to the process, are inherited by fork(2) and end with execve(2). The barriers are the platform's. A barrier on
//! one processor is made on all that the process runs on. Source: Linux kernel/sched/membarrier.c.

use crate::args::{Flags, Int};
use crate::signal::{Barrier, Cpu};
use crate::task::Task;
use linux_raw_sys::general::{membarrier_cmd as command, membarrier_cmd_flag};
use litebox_core::errno;
use litebox_core::error::Result;

/// What there is: each command that is not a query is one bit.
const COMMANDS: u32 = {
    (command::MEMBARRIER_CMD_GLOBAL as u32)
        | (command::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32)
        | (command::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32)
        | (command::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32)
        | (command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32)
        | (command::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE as u32)
        | (command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE as u32)
        | (command::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ as u32)
        | (command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ as u32)
        | (command::MEMBARRIER_CMD_GET_REGISTRATIONS as u32)
};

pub(crate) fn membarrier<P: Cpu>(task: &mut Task<P>, asked: Int, flags: Flags, _cpu: Int) -> Result<u32> {
    const SEQUENCES: u32 = command::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ as u32;
    let asked = u32::try_from(asked.0).map_err(|_| errno!(INVAL, "no such command"))?;
    let allowed = if asked == SEQUENCES { membarrier_cmd_flag::MEMBARRIER_CMD_FLAG_CPU as u32 } else { 0 };
    if flags.0 & !allowed != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    if asked == 0 {
        return Ok(COMMANDS);
    }
    if !asked.is_power_of_two() || asked & COMMANDS == 0 {
        return Err(errno!(INVAL, "no such command"));
    }
    let registered = task.process().with(|state| state.barriers);
    let is_command = |other: command| asked == other as u32;
    if is_command(command::MEMBARRIER_CMD_GET_REGISTRATIONS) {
        return Ok(registered);
    }
    if is_command(command::MEMBARRIER_CMD_GLOBAL) || is_command(command::MEMBARRIER_CMD_GLOBAL_EXPEDITED) {
        P::barrier(Barrier::All);
        return Ok(0);
    }
    let kind = match asked {
        SEQUENCES => Barrier::Sequences,
        _ if is_command(command::MEMBARRIER_CMD_PRIVATE_EXPEDITED) => Barrier::Memory,
        _ if is_command(command::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE) => Barrier::Instructions,
        _ => {
            task.process().with(|state| state.barriers |= asked);
            return Ok(0);
        }
    };
    // The registration of each has the next bit.
    if registered & asked.rotate_left(1) == 0 {
        return Err(errno!(PERM, "not registered for this"));
    }
    P::barrier(kind);
    Ok(0)
}
