//! The top of /proc: fixed names, then a directory for each process.

use super::fixed::{self, Fixed};
use super::process::Table;
use super::{Who, number};
use crate::signal::Cpu;
use crate::task::{Process, Sandbox};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::proc::{self, LinkTarget, ProcId, ProcLink, ProcNames};
use litebox_core::fs::types::{DeviceId, FileKind, Gid, InodeId, Mode, Name, Uid};

/// The directory that shows the processes of `sandbox`.
pub(crate) fn root<P: Cpu>(device: DeviceId, sandbox: &Arc<Sandbox<P>>) -> InodeRef<P> {
    let mut names = fixed::build(device, sandbox, Fixed::<P>::TOP);
    names.push(("self", link(device, 2, |pid, _| format!("{pid}"))));
    names.push(("thread-self", link(device, 3, |pid, tid| format!("{pid}/task/{tid}"))));
    let id = InodeId { device, number: 1 };
    let id = ProcId { id, mode: Mode::from_bits_retain(0o555), uid: Uid(0), gid: Gid(0) };
    proc::directory(id, Arc::new(Root { sandbox: Arc::downgrade(sandbox), device, names }))
}

/// A link to where `path` says that the one who asks is.
fn link<P: Cpu>(device: DeviceId, number: u64, path: fn(u32, u32) -> alloc::string::String) -> InodeRef<P> {
    let id = InodeId { device, number };
    let id = ProcId { id, mode: Mode::from_bits_retain(0o777), uid: Uid(0), gid: Gid(0) };
    ProcLink::inode(id, move |who| {
        if who.process == 0 {
            return Err(errno!(NOENT, "no process asks"));
        }
        Ok(LinkTarget::Path(path(who.process, who.task).into_bytes()))
    })
}

struct Root<P: Cpu> {
    sandbox: Weak<Sandbox<P>>,
    device: DeviceId,
    names: Vec<(&'static str, InodeRef<P>)>,
}

impl<P: Cpu> fmt::Debug for Root<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").finish_non_exhaustive()
    }
}

impl<P: Cpu> Root<P> {
    fn who(&self, process: &Arc<Process<P>>) -> Who<P> {
        let sandbox = Weak::clone(&self.sandbox);
        Who { sandbox, process: Arc::downgrade(process), pid: process.pid(), tid: None, device: self.device }
    }
}

impl<P: Cpu> ProcNames<P> for Root<P> {
    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        if let Some((_, inode)) = self.names.iter().find(|(known, _)| known.as_bytes() == name.as_bytes()) {
            return Ok(Arc::clone(inode));
        }
        // As in Linux any task has a directory here, though only processes are listed.
        let process = number(name.as_bytes()).and_then(|pid| self.sandbox.upgrade()?.process_of(pid));
        Table::directory(self.who(&process.ok_or(errno!(NOENT))?))
    }

    fn next(&self, from: u64) -> Option<(u64, Vec<u8>, u64, FileKind)> {
        let fixed = u64::try_from(self.names.len()).ok()?;
        if let Some((name, inode)) = usize::try_from(from).ok().and_then(|from| self.names.get(from)) {
            return Some((from, name.as_bytes().to_vec(), inode.id().number, inode.kind()));
        }
        let from = u32::try_from(from.checked_sub(fixed)?).ok()?;
        let process = self.sandbox.upgrade()?.next_process(from)?;
        let at = fixed.checked_add(u64::from(process.pid()))?;
        let number = Table::number(&self.who(&process), 0);
        Some((at, format!("{}", process.pid()).into_bytes(), number, FileKind::Directory))
    }
}
