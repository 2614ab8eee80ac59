//! What /proc holds: tables of names and of who makes their content.
//!
//! Owns: formats, which are Linux's to the byte, and which names there are. Not here: made-up files themselves (core's `fs::proc`), what
//! is shown (tasks, address spaces, mounts). What nobody measures in a sandbox (processor time, faults) is shown as 0.
//! Invariants: nothing here holds a process or a sandbox, so that an open file of /proc keeps neither.
//! Sources: proc(5) and its parts; Linux Documentation/filesystems/proc.rst, `fs/proc`.

mod cpuinfo;
mod fixed;
mod links;
mod locks;
mod maps;
mod mem;
mod mounts;
mod net;
mod ns;
mod process;
mod root;
mod setting;
mod smaps;
mod status;
mod sys;
mod system;
mod sysvipc;
mod text;

pub(crate) use process::of_directory;
pub(crate) use text::Text;

pub(crate) use fixed::FILE_SYSTEMS;
pub(crate) use root::root;

use crate::signal::Cpu;
use crate::task::{Process, Sandbox, TaskShared};
use alloc::sync::{Arc, Weak};
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::types::DeviceId;

/// Whom a file or directory is about.
pub(crate) struct Who<P: Cpu> {
    sandbox: Weak<Sandbox<P>>,
    process: Weak<Process<P>>,
    pid: u32,
    /// The task; `None` is the process as a whole.
    tid: Option<u32>,
    device: DeviceId,
}

impl<P: Cpu> Clone for Who<P> {
    fn clone(&self) -> Self {
        Self { sandbox: Weak::clone(&self.sandbox), process: Weak::clone(&self.process), ..*self }
    }
}

impl<P: Cpu> core::fmt::Debug for Who<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Who").field("pid", &self.pid).field("tid", &self.tid).finish_non_exhaustive()
    }
}

impl<P: Cpu> Who<P> {
    /// # Errors
    /// `SRCH`: it has ended.
    fn sandbox(&self) -> Result<Arc<Sandbox<P>>> {
        self.sandbox.upgrade().ok_or(errno!(SRCH, "the sandbox has ended"))
    }

    /// # Errors
    /// `SRCH`: it has ended, and its parent was told.
    fn process(&self) -> Result<Arc<Process<P>>> {
        self.process.upgrade().ok_or(errno!(SRCH, "the process has ended"))
    }

    /// The task, or the first one of the process; none for a zombie.
    fn task(&self) -> Result<Option<Arc<TaskShared<P>>>> {
        let process = self.process()?;
        match self.tid {
            Some(tid) => process.task(tid).map(Some).ok_or(errno!(SRCH, "the task has ended")),
            None => Ok(process.task(self.pid).or_else(|| process.next_task(0))),
        }
    }
}

/// A number that is a name of /proc: decimal, without zeros in front.
fn number(name: &[u8]) -> Option<u32> {
    if name.len() > 1 && name.first() == Some(&b'0') {
        return None;
    }
    name.iter().try_fold(0u32, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_numbers() {
        assert_eq!((number(b"0"), number(b"17"), number(b"4294967295")), (Some(0), Some(17), Some(u32::MAX)));
        for bad in [&b"01"[..], b"00", b"-1", b"1x", b"4294967296", b" 1"] {
            assert_eq!(number(bad), None);
        }
    }
}
