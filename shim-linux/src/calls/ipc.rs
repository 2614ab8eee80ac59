//! What the calls of sysvipc(7) have in common. Source: `linux/ipc.h`, `asm-generic/ipcbuf.h`.

use crate::args::{Flags, Int};
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::types::{Gid, Timestamp, Uid};
use litebox_core::ipc::{Make, Perm};

const IPC_CREAT: u32 = 0o1000;
const IPC_EXCL: u32 = 0o2000;
/// In a flag of an operation: it does not wait.
pub(super) const IPC_NOWAIT: u32 = 0o4000;
pub(super) const IPC_RMID: i32 = 0;
pub(super) const IPC_SET: i32 = 1;
pub(super) const IPC_STAT: i32 = 2;
pub(super) const IPC_INFO: i32 = 3;

/// Whether the flags of a `get` call make an object.
pub(super) fn make(flags: Flags) -> Make {
    match (flags.0 & IPC_CREAT != 0, flags.0 & IPC_EXCL != 0) {
        (false, _) => Make::No,
        (true, false) => Make::IfAbsent,
        (true, true) => Make::New,
    }
}

/// An object's number.
///
/// # Errors
/// `INVAL`: negative.
pub(super) fn id(id: Int) -> Result<u32> {
    u32::try_from(id.0).map_err(|_| errno!(INVAL, "no such object"))
}

/// Two halves as a word.
pub(super) fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | (u64::from(high) << 32)
}

/// An `int` in a structure.
pub(super) fn int(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

/// Seconds, and 0 for never.
pub(super) fn seconds(time: Option<Timestamp>) -> u64 {
    time.map_or(0, |time| u64::from_le_bytes(time.seconds.to_le_bytes()))
}

/// `struct ipc64_perm`, of which `more` joins the mode.
pub(super) fn perm(perm: &Perm, more: u32) -> [u64; 6] {
    let key = u32::from_le_bytes(perm.key.0.to_le_bytes());
    let ((uid, gid), (maker, maker_group)) = (perm.owner, perm.maker);
    [pair(key, uid.0), pair(gid.0, maker.0), pair(maker_group.0, perm.mode | more), 0, 0, 0]
}

/// The owner and the mode of `struct ipc64_perm`, as `IPC_SET` takes them: behind the key, before the maker, behind its group.
pub(super) fn owner([first, second, third]: [u64; 3]) -> ((Uid, Gid), u32) {
    let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default();
    ((Uid(low(first >> 32)), Gid(low(second))), low(third >> 32))
}
