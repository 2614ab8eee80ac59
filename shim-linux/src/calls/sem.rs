//! semget(2), semop(2), semtimedop(2), semctl(2).

use super::ipc::{self, IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT};
use super::time;
use super::{put, take, zeros};
use crate::args::{Count, Flags, Int, Ptr, Word};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::ipc::Key;
use litebox_core::ipc::sem::{Limits, Op, Semaphores, Status, VALUE_MAX};
use litebox_core::mm::{GuestAddr, user};
use zerocopy::IntoBytes;

/// Of `linux/sem.h`.
const SEM_UNDO: u32 = 0x1000;
const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;
/// `sizeof(struct sembuf)`.
const OP: usize = 6;
/// `sizeof(struct semid64_ds)`.
const STATUS: usize = 104;

fn semaphores<P: Cpu>(task: &Task<P>) -> &Semaphores<P> {
    task.sandbox().shared().semaphores()
}

pub(crate) fn semget<P: Cpu>(task: &mut Task<P>, key: Int, count: Int, flags: Flags) -> Result<u32> {
    let count = usize::try_from(count.0).map_err(|_| errno!(INVAL, "a negative count"))?;
    semaphores(task).find(Key(key.0), count, ipc::make(flags), flags.0 & 0o777, &task.credentials())
}

/// Reads operations; the count is bounded.
fn operations<P: Cpu>(at: GuestAddr, count: usize) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    ops.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    let mut bytes = zeros::<[u8; OP]>(count)?;
    user::read_exact::<P>(at, bytes.as_mut_bytes())?;
    ops.extend(bytes.iter().map(|[i0, i1, c0, c1, f0, f1]| {
        let flags = u32::from(u16::from_le_bytes([*f0, *f1]));
        Op {
            index: u16::from_le_bytes([*i0, *i1]),
            change: i16::from_le_bytes([*c0, *c1]),
            undo: flags & SEM_UNDO != 0,
            no_wait: flags & IPC_NOWAIT != 0,
        }
    }));
    Ok(ops)
}

pub(crate) fn semtimedop<P: Cpu>(task: &mut Task<P>, set: Int, ops: Ptr, count: Count, timeout: Ptr) -> Result<()> {
    // Read before the rest is looked at, and judged after it.
    let timeout = if timeout.0 == GuestAddr::default() { None } else { Some(take::<P, [i64; 2], 16>(timeout.0)?) };
    let count = usize::try_from(count.0).ok().filter(|count| *count <= semaphores(task).limits.ops.count());
    let count = count.ok_or(errno!(TOOBIG, "too many operations"))?;
    if count == 0 {
        return Err(errno!(INVAL, "no operations"));
    }
    let ops = operations::<P>(ops.0, count)?;
    let set = ipc::id(set)?;
    let timeout = timeout.map(time::decode).transpose()?;
    let deadline = timeout.map(|time| P::monotonic().saturating_add(time));
    semaphores(task).operate(set, ops, deadline, (&task.credentials(), task.process().pid()))
}

pub(crate) fn semop<P: Cpu>(task: &mut Task<P>, set: Int, ops: Ptr, count: Count) -> Result<()> {
    semtimedop(task, set, ops, count, Ptr(GuestAddr::default()))
}

fn encode(status: &Status) -> [u64; 13] {
    let [a, b, c, d, e, f] = ipc::perm(&status.perm, 0);
    let (operated, changed) = (ipc::seconds(status.operated), ipc::seconds(Some(status.changed)));
    [a, b, c, d, e, f, operated, 0, changed, 0, u64::try_from(status.count).unwrap_or_default(), 0, 0]
}

/// `struct seminfo`; the two counts are of what there is, or may be.
fn info<P: Cpu>(at: GuestAddr, limits: &Limits, [sets, all]: [i32; 2]) -> Result<()> {
    let limits = [&limits.in_set, &limits.all, &limits.ops, &limits.sets];
    let [in_set, most, ops, most_sets] = limits.map(|limit| ipc::int(limit.count()));
    let words = [most, most_sets, most, most, in_set, ops, ops, sets, VALUE_MAX, all];
    put::<P, 40>(at, &words)
}

pub(crate) fn semctl<P: Cpu>(task: &mut Task<P>, set: Int, index: Int, command: Int, arg: Word) -> Result<u32> {
    let (who, pid, semaphores) = (task.credentials(), task.process().pid(), semaphores(task));
    let (id, at) = (ipc::id(set)?, GuestAddr::new(arg.0));
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    match command.0 {
        IPC_INFO | SEM_INFO => {
            let (highest, sets, all) = semaphores.totals();
            let counts = if command.0 == SEM_INFO { [ipc::int(sets), ipc::int(all)] } else { [20, VALUE_MAX] };
            info::<P>(at, &semaphores.limits, counts).map(|()| highest)
        }
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            put::<P, STATUS>(at, &encode(&semaphores.status(id, command.0 == SEM_STAT_ANY, &who)?))?;
            Ok(if command.0 == IPC_STAT { 0 } else { id })
        }
        GETALL => {
            let values = semaphores.values(id, &who)?;
            user::write_all::<P>(at, values.as_bytes()).map(|()| 0)
        }
        GETVAL => semaphores.semaphore(id, index.0, &who).map(|(value, ..)| value.into()),
        GETPID => semaphores.semaphore(id, index.0, &who).map(|(_, pid, _)| pid),
        GETNCNT => semaphores.semaphore(id, index.0, &who).map(|(.., [more, _])| number(more)),
        GETZCNT => semaphores.semaphore(id, index.0, &who).map(|(.., [_, zero])| number(zero)),
        SETVAL => {
            let [a, b, c, d, ..] = arg.0.to_le_bytes();
            semaphores.set_value(id, index.0, i32::from_le_bytes([a, b, c, d]), (&who, pid)).map(|()| 0)
        }
        SETALL => {
            let count = semaphores.count_to_set(id, &who)?;
            let mut values = zeros::<u16>(count)?;
            user::read_exact::<P>(at, values.as_mut_bytes())?;
            semaphores.set_values(id, &values, (&who, pid)).map(|()| 0)
        }
        IPC_SET => {
            let [first, second, third, ..] = take::<P, [u64; 13], STATUS>(at)?;
            let (owner, mode) = ipc::owner([first, second, third]);
            semaphores.change(id, owner, mode, &who).map(|()| 0)
        }
        IPC_RMID => semaphores.remove(id, &who).map(|()| 0),
        _ => Err(errno!(INVAL, "unknown command")),
    }
}
