//! sysfs(2), ustat(2), syslog(2): what old programs ask of a system.

use super::put;
use crate::args::{Int, Path, Ptr, Word};
use crate::calls::files::path;
use crate::calls::stat::device;
use crate::proc::FILE_SYSTEMS;
use crate::signal::Cpu;
use crate::task::Task;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, user};

pub(crate) fn sysfs<P: Cpu>(_task: &mut Task<P>, option: Int, first: Word, second: Ptr) -> Result<u64> {
    let names = || FILE_SYSTEMS.iter().copied();
    match option.0 {
        1 => {
            let name = path::<P>(Path(GuestAddr::new(first.0)))?;
            let found = names().position(|known| known.as_bytes() == name);
            found.and_then(|index| u64::try_from(index).ok()).ok_or(errno!(INVAL, "no such file system"))
        }
        2 => {
            let index = usize::try_from(first.0).ok();
            let name = index.and_then(|index| names().nth(index)).ok_or(errno!(INVAL, "no such file system"))?;
            user::write_all::<P>(second.0, name.as_bytes())?;
            put::<P, 1>(second.0.plus(u64::try_from(name.len()).unwrap_or(0))?, &0u8).map(|()| 0)
        }
        3 => Ok(u64::try_from(names().count()).unwrap_or(0)),
        _ => Err(errno!(INVAL, "no such option")),
    }
}

/// `struct ustat`: free blocks, free inodes, and two names that nobody fills in.
type Wire = [u64; 4];

pub(crate) fn ustat<P: Cpu>(task: &mut Task<P>, dev: Word, buf: Ptr) -> Result<()> {
    // A `dev_t` of 32 bits.
    let wanted = dev.0 & u64::from(u32::MAX);
    let mounts = task.fs().namespace.list();
    let of = |id: litebox_core::fs::types::InodeId| device(id.device) == wanted;
    let root = mounts.iter().find(|root| of(root.inode().id())).ok_or(errno!(INVAL, "nothing of that device is mounted"))?;
    let free = u32::try_from(root.inode().fs_stat().free).unwrap_or(u32::MAX);
    let wire: Wire = [free.into(), 0, 0, 0];
    put::<P, 32>(buf.0, &wire)
}

/// Bytes of the log. Linux: `CONFIG_LOG_BUF_SHIFT` as its default is.
const LOG_BYTES: u64 = 1 << 17;

/// A sandbox has a log of its own, which stays empty: nobody sees the host's.
pub(crate) fn syslog<P: Cpu>(task: &mut Task<P>, action: Int, buf: Ptr, len: Int) -> Result<u64> {
    if !task.credentials().can(Capabilities::SYSLOG) {
        return Err(errno!(PERM, "only root reads the log"));
    }
    let no_room = || buf.0 == GuestAddr::default() || len.0 < 0;
    match action.0 {
        // Open, close, empty, the console off and on.
        0 | 1 | 5 | 6 | 7 => Ok(0),
        2..=4 if no_room() => Err(errno!(INVAL, "no room")),
        2..=4 => Ok(0),
        8 if (1..=8).contains(&len.0) => Ok(0),
        9 => Ok(0),
        10 => Ok(LOG_BYTES),
        _ => Err(errno!(INVAL, "no such action, or no such level")),
    }
}
