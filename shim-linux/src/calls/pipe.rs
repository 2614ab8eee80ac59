//! pipe(2), pipe2(2).

use super::files::{descriptor_flags, install, open_flags};
use super::put;
use crate::args::{Flags, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::{Fd as Number, FdFlags};
use litebox_core::fs::file::File;
use litebox_core::fs::pipe::Pipe;
use litebox_core::fs::types::{Mode, NewNode};

/// Gives two files numbers and tells them at `fds`; both or none stay.
pub(super) fn install_two<P: Cpu>(task: &Task<P>, files: [Arc<File<P>>; 2], flags: FdFlags, fds: Ptr) -> Result<()> {
    let [first, second] = files;
    let first = install(task, first, flags, Number(0))?;
    let table = task.files();
    let told = match install(task, second, flags, Number(0)) {
        Ok(second) => put::<P, 8>(fds.0, &[first, second]).inspect_err(|_| drop(table.remove(Number(second)))),
        Err(error) => Err(error),
    };
    told.inspect_err(|_| drop(table.remove(Number(first))))
}

pub(crate) fn pipe2<P: Cpu>(task: &mut Task<P>, fds: Ptr, flags: Flags) -> Result<()> {
    if flags.0 & !(raw::O_CLOEXEC | raw::O_NONBLOCK | raw::O_DIRECT) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let flags = open_flags(flags.0);
    let credentials = task.credentials();
    let owner = NewNode { mode: Mode::RUSR | Mode::WUSR, uid: credentials.uid, gid: credentials.gid };
    let id = task.sandbox().shared().new_inode();
    let most = if credentials.can(Capabilities::SYS_RESOURCE) {
        usize::MAX
    } else {
        task.sandbox().shared().settings().pipe_bytes.count()
    };
    let (reader, writer) = Pipe::pair(task.sandbox().quota(), id, owner, flags, most)?;
    install_two(task, [reader, writer], descriptor_flags(flags), fds)
}

pub(crate) fn pipe<P: Cpu>(task: &mut Task<P>, fds: Ptr) -> Result<()> {
    pipe2(task, fds, Flags(0))
}
