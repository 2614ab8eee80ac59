//! msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::ipc::{self, IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT};
use super::{put, take, zeros};
use crate::args::{Flags, Int, Len, Offset, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::ipc::Key;
use litebox_core::ipc::msg::{Messages, Status, Want};
use litebox_core::mm::user;

/// Of `linux/msg.h`.
const MSG_NOERROR: u32 = 0o10_000;
const MSG_EXCEPT: u32 = 0o20_000;
const MSG_COPY: u32 = 0o40_000;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
/// `sizeof(struct msqid64_ds)`.
const STATUS: usize = 120;
/// The type before a message's text.
const KIND: u64 = 8;

fn messages<P: Cpu>(task: &Task<P>) -> &Messages<P> {
    task.sandbox().shared().messages()
}

pub(crate) fn msgget<P: Cpu>(task: &mut Task<P>, key: Int, flags: Flags) -> Result<u32> {
    messages(task).find(Key(key.0), ipc::make(flags), flags.0 & 0o777, &task.credentials())
}

pub(crate) fn msgsnd<P: Cpu>(task: &mut Task<P>, queue: Int, message: Ptr, size: Len, flags: Flags) -> Result<()> {
    let kind = take::<P, i64, 8>(message.0)?;
    let most = messages(task).limits.message.count();
    let size = usize::try_from(size.0).ok().filter(|size| *size <= most).ok_or(errno!(INVAL, "too long"))?;
    let id = ipc::id(queue)?;
    if kind < 1 {
        return Err(errno!(INVAL, "no type of a message"));
    }
    let mut text = zeros::<u8>(size)?;
    if size > 0 {
        user::read_exact::<P>(message.0.plus(KIND)?, &mut text)?;
    }
    let waits = flags.0 & IPC_NOWAIT == 0;
    messages(task).send(id, kind, text, waits, (&task.credentials(), task.process().pid()))
}

/// Which message a type and flags ask for.
fn want(kind: i64, flags: u32) -> Result<Want> {
    if flags & MSG_COPY != 0 {
        if flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0 {
            return Err(errno!(INVAL, "a copy is of one place, and does not wait"));
        }
        return Ok(Want::CopyOf(kind));
    }
    Ok(match kind {
        0 => Want::Any,
        ..0 => Want::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
        _ if flags & MSG_EXCEPT != 0 => Want::NotKind(kind),
        _ => Want::Kind(kind),
    })
}

pub(crate) fn msgrcv<P: Cpu>(
    task: &mut Task<P>,
    queue: Int,
    message: Ptr,
    size: Len,
    kind: Offset,
    flags: Flags,
) -> Result<usize> {
    let id = ipc::id(queue)?;
    if i64::try_from(size.0).is_err() {
        return Err(errno!(INVAL, "too long"));
    }
    let want = want(kind.0, flags.0)?;
    let (cuts, waits) = (flags.0 & MSG_NOERROR != 0, flags.0 & IPC_NOWAIT == 0);
    let who = (&task.credentials(), task.process().pid());
    let received = messages(task).receive(id, want, (size.0, cuts), waits, who)?;
    put::<P, 8>(message.0, &received.kind)?;
    let len = usize::try_from(size.0).unwrap_or(usize::MAX).min(received.text.len());
    if len > 0 {
        user::write_all::<P>(message.0.plus(KIND)?, received.text.get(..len).unwrap_or_default())?;
    }
    Ok(len)
}

fn encode(status: &Status) -> [u64; 15] {
    let [a, b, c, d, e, f] = ipc::perm(&status.perm, 0);
    let ([sent, received, changed], [sender, receiver]) = (status.times.map(ipc::seconds), status.pids);
    let count = u64::try_from(status.count).unwrap_or_default();
    let pids = ipc::pair(sender, receiver);
    [a, b, c, d, e, f, sent, received, changed, status.bytes, count, status.most, pids, 0, 0]
}

pub(crate) fn msgctl<P: Cpu>(task: &mut Task<P>, queue: Int, command: Int, buf: Ptr) -> Result<u32> {
    let (who, messages, id) = (task.credentials(), messages(task), ipc::id(queue)?);
    match command.0 {
        IPC_INFO | MSG_INFO => {
            let (highest, queues, count, bytes) = messages.totals();
            let limits = &messages.limits;
            let [most, longest, room] = [&limits.queues, &limits.message, &limits.bytes].map(|limit| ipc::int(limit.count()));
            // `struct msginfo`: pool, map, longest, room, queues, segment size, headers, segments.
            let [pool, map, headers] = if command.0 == MSG_INFO {
                [ipc::int(queues), ipc::int(count), ipc::int(bytes)]
            } else {
                [most.saturating_mul(room / 1024), room, room]
            };
            put::<P, 32>(buf.0, &[pool, map, longest, room, most, 16, headers, 0xffff])?;
            Ok(highest)
        }
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => {
            put::<P, STATUS>(buf.0, &encode(&messages.status(id, command.0 == MSG_STAT_ANY, &who)?))?;
            Ok(if command.0 == IPC_STAT { 0 } else { id })
        }
        IPC_SET => {
            let [first, second, third, _, _, _, _, _, _, _, _, most, ..] = take::<P, [u64; 15], STATUS>(buf.0)?;
            let (owner, mode) = ipc::owner([first, second, third]);
            messages.change(id, owner, mode, most, &who).map(|()| 0)
        }
        IPC_RMID => messages.remove(id, &who).map(|()| 0),
        _ => Err(errno!(INVAL, "unknown command")),
    }
}
