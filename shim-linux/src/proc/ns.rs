//! `/proc/PID/ns`: the namespaces that a process is in: one of each kind for a whole sandbox.
//!
//! Source: namespaces(7); Linux fs/proc/namespaces.c, and for the numbers include/uapi/linux/nsfs.h.

use super::links::may_look;
use super::{Who, process::Table};
use crate::signal::Cpu;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::proc::{LinkTarget, ProcFile, ProcId, ProcLink, ProcNames};
use litebox_core::fs::types::{DeviceId, FileKind, Gid, InodeId, Mode, Name, Uid};

/// Names, what their kind is called, and the number of the first namespace of that kind.
const NAMES: [(&str, &str, u64); 10] = [
    ("cgroup", "cgroup", 0xefff_fffb),
    ("ipc", "ipc", 0xefff_ffff),
    ("mnt", "mnt", 0xefff_fff8),
    ("net", "net", 0xefff_fff9),
    ("pid", "pid", 0xefff_fffc),
    ("pid_for_children", "pid", 0xefff_fffc),
    ("time", "time", 0xefff_fffa),
    ("time_for_children", "time", 0xefff_fffa),
    ("user", "user", 0xefff_fffd),
    ("uts", "uts", 0xefff_fffe),
];

/// The device of what such links lead to.
const DEVICE: DeviceId = DeviceId { major: 0, minor: 4 };
/// Rows of a process's directory end below this; these links are numbered from here.
const FIRST: u64 = 0x8000;

/// The directory.
struct Namespaces<P: Cpu>(Who<P>);

impl<P: Cpu> fmt::Debug for Namespaces<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The names of `who`.
pub(super) fn names<P: Cpu>(who: Who<P>) -> Arc<dyn ProcNames<P>> {
    Arc::new(Namespaces(who))
}

fn id(device: DeviceId, number: u64, mode: u32) -> ProcId {
    ProcId { id: InodeId { device, number }, mode: Mode::from_bits_retain(mode), uid: Uid(0), gid: Gid(0) }
}

impl<P: Cpu> ProcNames<P> for Namespaces<P> {
    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        let mut rows = (FIRST..).zip(NAMES);
        let found = rows.find(|(_, (known, ..))| known.as_bytes() == name.as_bytes());
        let (row, (_, kind, number)) = found.ok_or(errno!(NOENT))?;
        let who = self.0.clone();
        let quota = Arc::clone(who.sandbox()?.quota());
        Ok(ProcLink::inode(id(who.device, Table::number(&who, row), 0o777), move |asker| {
            may_look(&who, asker)?;
            let text = format!("{kind}:[{number}]").into_bytes();
            let file = ProcFile::readable(id(DEVICE, number, 0o444), &quota, || Err(errno!(INVAL, "a namespace has no content")));
            let place = Dentry::detached(file, &text);
            Ok(LinkTarget::Place(text, place))
        }))
    }

    fn next(&self, from: u64) -> Option<(u64, Vec<u8>, u64, FileKind)> {
        let (name, ..) = NAMES.get(usize::try_from(from).ok()?)?;
        let number = Table::number(&self.0, FIRST.saturating_add(from));
        Some((from, name.as_bytes().to_vec(), number, FileKind::Symlink))
    }
}
