//! `mq_open(2)`, `mq_unlink(2)`, `mq_timedsend(2)`, `mq_timedreceive(2)`, `mq_notify(2)`, `mq_getsetattr(2)`.
//!
//! Errors come in the order of Linux ipc/mqueue.c.

use super::files::{install, open_file};
use super::{put, take, time};
use crate::args::{Count, Fd, Flags, Len, Mode, Path, Ptr};
use crate::signal::{Cpu, Info, Origin, Signal};
use crate::task::{Process, Task};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::fd_table::{Fd as Number, FdFlags};
use litebox_core::fs::file::File;
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::types::OFlags;
use litebox_core::ipc::posix::{self, Opening, PRIORITY_END, Queue, Size, Told};
use litebox_core::ipc::{Make, Patience};
use litebox_core::mm::{GuestAddr, UserCStr, user};

/// Longest name. Linux: `NAME_MAX`.
const NAME_MAX: usize = 255;
/// How a process is told. Linux: uapi/asm-generic/siginfo.h.
const SIGEV_SIGNAL: u32 = 0;
const SIGEV_NONE: u32 = 1;
const SIGEV_THREAD: u32 = 2;
/// `si_code`: a message has come.
const SI_MESGQ: i32 = -3;

/// A queue's name: one component of a path.
fn name<P: Cpu>(name: Path) -> Result<Vec<u8>> {
    let name = UserCStr::new(name.0).read::<P>(4096)?;
    match &*name {
        [] => Err(errno!(NOENT, "no name")),
        b"." | b".." => Err(errno!(ACCESS, "no queue's name")),
        long if long.len() > NAME_MAX => Err(errno!(NAMETOOLONG)),
        other if other.contains(&b'/') => Err(errno!(ACCESS, "a path")),
        _ => Ok(name),
    }
}

pub(crate) fn mq_open<P: Cpu>(task: &mut Task<P>, path: Path, flags: Flags, mode: Mode, attr: Ptr) -> Result<u32> {
    let has = |flag: u32| flags.0 & flag != 0;
    let size = if has(raw::O_CREAT) && attr.0 != GuestAddr::default() {
        let [_, messages, bytes, ..] = take::<P, [i64; 8], 64>(attr.0)?;
        Some(Size { messages, bytes })
    } else {
        None
    };
    let name = name::<P>(path)?;
    let make = match (has(raw::O_CREAT), has(raw::O_EXCL)) {
        (false, _) => Make::No,
        (true, false) => Make::IfAbsent,
        (true, true) => Make::New,
    };
    let access = match flags.0 & raw::O_ACCMODE {
        raw::O_RDONLY => OFlags::READ,
        raw::O_WRONLY => OFlags::WRITE,
        raw::O_RDWR => OFlags::READ | OFlags::WRITE,
        _ => return Err(errno!(INVAL, "no such access")),
    };
    let status = if has(raw::O_NONBLOCK) { OFlags::NONBLOCK } else { OFlags::empty() };
    let limit = task.process().with(|state| state.limit(raw::RLIMIT_MSGQUEUE)).map_or(u64::MAX, |limit| limit.soft);
    let opening = Opening {
        make,
        flags: access | status,
        mode: mode.0 & !task.fs().umask.bits(),
        size,
        limit,
        id: task.sandbox().shared().new_inode(),
    };
    let file = task.sandbox().shared().queues().open(&name, &opening, &task.credentials())?;
    install(task, file, FdFlags::CLOEXEC, Number(0))
}

pub(crate) fn mq_unlink<P: Cpu>(task: &mut Task<P>, path: Path) -> Result<()> {
    task.sandbox().shared().queues().unlink(&name::<P>(path)?, &task.credentials())
}

/// The end of a wait, a time of the realtime clock, as one of the monotonic.
fn deadline<P: Cpu>(at: Ptr) -> Result<Option<Duration>> {
    if at.0 == GuestAddr::default() {
        return Ok(None);
    }
    let until = time::read::<P>(at.0)?;
    Ok(Some(P::monotonic().saturating_add(until.saturating_sub(P::realtime()))))
}

/// A queue, and the file that it is open by.
type Opened<P> = (Arc<Queue<P>>, Arc<File<P>>);

/// The queue of `fd`, if it is open for `access`.
fn queue<P: Cpu>(task: &Task<P>, fd: Fd, access: OFlags) -> Result<Opened<P>> {
    let file = open_file(task, fd)?;
    let queue = posix::of(&file)?;
    if file.flags().contains(access) { Ok((queue, file)) } else { Err(errno!(BADF, "not open for that")) }
}

fn patience<P: Cpu>(file: &File<P>, deadline: Option<Duration>) -> Patience {
    let blocking = if file.flags().contains(OFlags::NONBLOCK) { Blocking::No } else { Blocking::Yes };
    Patience { blocking, deadline }
}

/// A wait that came to its end has another errno than one that was not allowed.
fn timed<T>(patience: Patience, outcome: Result<T>) -> Result<T> {
    match outcome {
        Err(error) if error.is(Errno::AGAIN) && patience.blocking == Blocking::Yes => Err(errno!(TIMEDOUT)),
        other => other,
    }
}

pub(crate) fn mq_timedsend<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    message: Ptr,
    len: Len,
    priority: Count,
    timeout: Ptr,
) -> Result<()> {
    let deadline = deadline::<P>(timeout)?;
    if priority.0 >= PRIORITY_END {
        return Err(errno!(INVAL, "no such priority"));
    }
    let (queue, file) = queue(task, fd, OFlags::WRITE)?;
    if i64::try_from(len.0).is_ok_and(|len| len > queue.size().bytes) || i64::try_from(len.0).is_err() {
        return Err(errno!(MSGSIZE, "longer than the queue's messages"));
    }
    let mut text = super::zeros::<u8>(usize::try_from(len.0).unwrap_or(usize::MAX))?;
    user::read_exact::<P>(message.0, &mut text)?;
    let patience = patience(&file, deadline);
    let [uid, ..] = task.process().with(|state| state.ids).users;
    timed(patience, queue.send(priority.0, text, patience, (task.process().pid(), uid)))
}

pub(crate) fn mq_timedreceive<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    message: Ptr,
    len: Len,
    priority: Ptr,
    timeout: Ptr,
) -> Result<usize> {
    let deadline = deadline::<P>(timeout)?;
    let (queue, file) = queue(task, fd, OFlags::READ)?;
    if i64::try_from(len.0).is_ok_and(|len| len < queue.size().bytes) {
        return Err(errno!(MSGSIZE, "shorter than the queue's messages"));
    }
    let patience = patience(&file, deadline);
    let (level, text) = timed(patience, queue.receive(patience))?;
    if priority.0 != GuestAddr::default() {
        put::<P, 4>(priority.0, &level)?;
    }
    user::write_all::<P>(message.0, &text)?;
    Ok(text.len())
}

/// A process that is told of a message.
struct Registered<P: Cpu> {
    process: Weak<Process<P>>,
    pid: u32,
    signal: Option<Signal>,
    value: u64,
}

impl<P: Cpu> fmt::Debug for Registered<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("pid", &self.pid).field("signal", &self.signal).finish_non_exhaustive()
    }
}

impl<P: Cpu> Told for Registered<P> {
    fn process(&self) -> u32 {
        self.pid
    }

    fn lives(&self) -> bool {
        self.process.upgrade().is_some_and(|process| process.task_count() > 0)
    }

    fn signal(&self) -> Option<u32> {
        self.signal.map(Signal::number)
    }

    fn tell(&self, pid: u32, uid: u32) {
        if let (Some(process), Some(signal)) = (self.process.upgrade(), self.signal) {
            let origin = Origin::Process { pid: i32::try_from(pid).unwrap_or_default(), uid, value: self.value };
            // One too many is lost, as in Linux.
            let _ = process.send(Info::new(signal, SI_MESGQ, origin));
        }
    }
}

pub(crate) fn mq_notify<P: Cpu>(task: &mut Task<P>, fd: Fd, event: Ptr) -> Result<()> {
    let asked = if event.0 == GuestAddr::default() {
        None
    } else {
        // Value, signal, kind: the head of `struct sigevent`.
        let [value, rest] = take::<P, [u64; 2], 16>(event.0)?;
        let [a, b, c, d, e, f, g, h] = rest.to_le_bytes();
        let (signal, kind) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let signal = match kind {
            SIGEV_NONE => None,
            SIGEV_SIGNAL if signal == 0 => None,
            SIGEV_SIGNAL => Some(Signal::new(signal.into()).ok_or(errno!(INVAL, "no such signal"))?),
            SIGEV_THREAD => return Err(errno!(BADF, "there are no sockets that it could be told by")),
            _ => return Err(errno!(INVAL, "told how?")),
        };
        Some((signal, value))
    };
    let (queue, _) = queue(task, fd, OFlags::empty())?;
    let (process, pid) = (Arc::downgrade(task.process()), task.process().pid());
    match asked {
        Some((signal, value)) => queue.notify(Arc::new(Registered { process, pid, signal, value })),
        None => {
            queue.forget(pid);
            Ok(())
        }
    }
}

pub(crate) fn mq_getsetattr<P: Cpu>(task: &mut Task<P>, fd: Fd, new: Ptr, old: Ptr) -> Result<()> {
    let nonblock = i64::from(raw::O_NONBLOCK);
    let wanted = if new.0 == GuestAddr::default() {
        None
    } else {
        let [flags, ..] = take::<P, [i64; 8], 64>(new.0)?;
        if flags & !nonblock != 0 {
            return Err(errno!(INVAL, "only O_NONBLOCK can be changed"));
        }
        Some(flags)
    };
    let (queue, file) = queue(task, fd, OFlags::empty())?;
    let status = file.flags();
    let now = if status.contains(OFlags::NONBLOCK) { nonblock } else { 0 };
    let count = i64::try_from(queue.count()).unwrap_or(i64::MAX);
    if let Some(flags) = wanted {
        let rest = status.difference(OFlags::NONBLOCK);
        file.set_status(if flags == 0 { rest } else { rest | OFlags::NONBLOCK });
    }
    if old.0 == GuestAddr::default() {
        return Ok(());
    }
    put::<P, 64>(old.0, &[now, queue.size().messages, queue.size().bytes, count, 0, 0, 0, 0])
}
