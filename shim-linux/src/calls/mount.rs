//! What is mounted: mount(2), umount2(2), `pivot_root(2)`, setns(2).
//!
//! Errors come in the order of Linux fs/namespace.c: `path_mount`, `path_umount`, `path_pivot_root`. Only what lives in the sandbox can be
//! mounted: memory, processes, terminals, and what is mounted already. Mounts are private: nothing propagates.

use super::files::{file, path, with_dir};
use crate::args::{DirFd, Fd, Flags, Path, Ptr, Word};
use crate::proc;
use crate::signal::Cpu;
use crate::task::Task;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::memory::{Limits, MemoryFs};
use litebox_core::fs::mount::{MountFlags, NewMount};
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{Gid, Mode, NewNode, Uid};
use litebox_core::mm::UserCStr;

/// Longest string of a call. Linux: a page.
const TEXT_MAX: usize = 4096;
/// How a mount is shared with others; all are private here. Linux: `do_change_type`.
const TYPES: u32 = raw::MS_SHARED | raw::MS_PRIVATE | raw::MS_SLAVE | raw::MS_UNBINDABLE;

/// A string that may be left out.
fn text<P: Cpu>(at: Ptr) -> Result<Option<Vec<u8>>> {
    let text = UserCStr::new(at.0);
    if text.is_null() { Ok(None) } else { text.read::<P>(TEXT_MAX).map(Some) }
}

/// The place of a path, with what is mounted on it.
fn place<P: Cpu>(task: &Task<P>, name: &[u8], how: Resolve) -> Result<Arc<Dentry<P>>> {
    with_dir(task, DirFd(raw::AT_FDCWD), name, |at| at.resolve(name, how)).map(Dentry::top)
}

fn is_root<P: Cpu>(place: &Dentry<P>) -> bool {
    place.mount().id != 0 && place.parent().is_none()
}

fn restrictions(flags: u32) -> MountFlags {
    let pairs = [
        (raw::MS_RDONLY, MountFlags::READ_ONLY),
        (raw::MS_NOSUID, MountFlags::NOSUID),
        (raw::MS_NODEV, MountFlags::NODEV),
        (raw::MS_NOEXEC, MountFlags::NOEXEC),
    ];
    pairs.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, flag)| flag).collect()
}

pub(crate) fn mount<P: Cpu>(task: &mut Task<P>, source: Ptr, target: Path, kind: Ptr, flags: Word, data: Ptr) -> Result<()> {
    let kind = text::<P>(kind)?;
    let source = text::<P>(source)?;
    let options = text::<P>(data)?.unwrap_or_default();
    let target = path::<P>(target)?;
    let point = place(task, &target, Resolve::FOLLOW)?;
    if !task.credentials().can(Capabilities::SYS_ADMIN) {
        return Err(errno!(PERM, "only root may mount"));
    }
    let mut flags = u32::try_from(flags.0 & 0xffff_ffff).unwrap_or_default();
    if flags & raw::MS_MGC_MSK == raw::MS_MGC_VAL {
        flags &= !raw::MS_MGC_MSK;
    }
    let has = |flag: u32| flags & flag != 0;
    let namespace = task.fs().namespace;
    let from = || {
        let name = source.as_deref().filter(|name| !name.is_empty()).ok_or(errno!(INVAL, "no source"))?;
        place(task, name, Resolve::FOLLOW)
    };
    if has(raw::MS_REMOUNT) {
        if !is_root(&point) {
            return Err(errno!(INVAL, "no root of a mount"));
        }
        point.mount().set_flags(restrictions(flags));
        return Ok(());
    }
    if has(raw::MS_BIND) {
        return namespace.bind(&from()?, &point, has(raw::MS_REC)).map(drop);
    }
    if has(TYPES) {
        let kind = flags & !(raw::MS_REC | raw::MS_SILENT);
        return if kind & !TYPES != 0 || !kind.is_power_of_two() || !is_root(&point) {
            Err(errno!(INVAL, "no one type of sharing, or no root of a mount"))
        } else {
            Ok(())
        };
    }
    if has(raw::MS_MOVE) {
        return namespace.move_to(&from()?, &point);
    }
    let kind = kind.ok_or(errno!(INVAL, "no type of file system"))?;
    let (root, kind) = new_root(task, &kind, &options)?;
    let source = String::from_utf8_lossy(source.as_deref().unwrap_or(b"none")).into_owned();
    namespace.mount(&point, NewMount { root, flags: restrictions(flags), kind, source }).map(drop)
}

/// A new file system, and the name of its type.
fn new_root<P: Cpu>(task: &Task<P>, kind: &[u8], options: &[u8]) -> Result<(InodeRef<P>, &'static str)> {
    let sandbox = task.sandbox();
    let shared = sandbox.shared();
    Ok(match kind {
        b"tmpfs" | b"ramfs" => {
            let options = Memory::parse(options, sandbox.memory()).ok_or(errno!(INVAL, "options that tmpfs does not have"))?;
            let root = MemoryFs::limited(shared.new_device(), sandbox.quota(), options.root, options.limits)?;
            (root, if kind == b"tmpfs" { "tmpfs" } else { "ramfs" })
        }
        b"proc" => (proc::root(shared.new_device(), sandbox), "proc"),
        b"devpts" => (shared.terminals().root(), "devpts"),
        _ => return Err(errno!(NODEV, "no file system that a sandbox can mount")),
    })
}

/// What tmpfs(5) may be told. What only a host's memory management would do differently is taken and has no effect.
#[derive(Debug)]
struct Memory {
    limits: Limits,
    root: NewNode,
}

impl Memory {
    /// `None` for options that there are not. `memory`: of which a part may be meant.
    fn parse(options: &[u8], memory: u64) -> Option<Self> {
        let everybody = Mode::STICKY | Mode::RWXU | Mode::RWXG | Mode::RWXO;
        let mut all = Self { limits: Limits::default(), root: NewNode { mode: everybody, uid: Uid(0), gid: Gid(0) } };
        for option in core::str::from_utf8(options).ok()?.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "size" => all.limits.bytes = bytes(value, memory)?,
                "nr_blocks" => all.limits.bytes = bytes(value, memory)?.map(|blocks| blocks.saturating_mul(4096)),
                "nr_inodes" => all.limits.files = bytes(value, memory)?,
                "mode" => all.root.mode = Mode::from_bits_truncate(u32::from_str_radix(value, 8).ok()? & 0o7777),
                "uid" => all.root.uid = Uid(value.parse().ok()?),
                "gid" => all.root.gid = Gid(value.parse().ok()?),
                "huge" | "mpol" | "inode32" | "inode64" | "noswap" => {}
                _ => return None,
            }
        }
        Some(all)
    }
}

/// `512m`, `4K` or `50%`; 0 is no limit.
fn bytes(text: &str, memory: u64) -> Option<Option<u64>> {
    let (digits, unit) = match text.as_bytes().split_last()? {
        (b'%', rest) => (rest, memory.checked_div(100)?),
        (b'k' | b'K', rest) => (rest, 1 << 10),
        (b'm' | b'M', rest) => (rest, 1 << 20),
        (b'g' | b'G', rest) => (rest, 1 << 30),
        _ => (text.as_bytes(), 1),
    };
    let number: u64 = core::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(Some(number.checked_mul(unit)?).filter(|size| *size != 0))
}

pub(crate) fn umount2<P: Cpu>(task: &mut Task<P>, target: Path, flags: Flags) -> Result<()> {
    let flags = flags.0;
    let has = |flag: u32| flags & flag != 0;
    if has(!(raw::MNT_FORCE | raw::MNT_DETACH | raw::MNT_EXPIRE | raw::UMOUNT_NOFOLLOW)) {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let how = if has(raw::UMOUNT_NOFOLLOW) { Resolve::empty() } else { Resolve::FOLLOW };
    let root = place(task, &path::<P>(target)?, how)?;
    if !task.credentials().can(Capabilities::SYS_ADMIN) {
        return Err(errno!(PERM, "only root may unmount"));
    }
    if !is_root(&root) {
        return Err(errno!(INVAL, "no root of a mount"));
    }
    let fs = task.fs();
    let is_own_root = Arc::ptr_eq(fs.root.mount(), root.mount());
    let namespace = Arc::clone(&fs.namespace);
    // What is in use is told by who has a handle.
    drop(fs);
    if has(raw::MNT_EXPIRE) {
        if is_own_root || has(raw::MNT_FORCE | raw::MNT_DETACH) {
            return Err(errno!(INVAL, "only a mount that nobody needs expires"));
        }
        return namespace.expire(&root);
    }
    if has(raw::MNT_DETACH) { namespace.detach(&root) } else { namespace.unmount(&root) }
}

pub(crate) fn pivot_root<P: Cpu>(task: &mut Task<P>, new: Path, put: Path) -> Result<()> {
    if !task.credentials().can(Capabilities::SYS_ADMIN) {
        return Err(errno!(PERM, "only root may"));
    }
    let (new, put) = (path::<P>(new)?, path::<P>(put)?);
    let how = Resolve::FOLLOW | Resolve::DIRECTORY;
    let new = place(task, &new, how)?;
    let put = place(task, &put, how)?;
    let fs = task.fs();
    fs.namespace.pivot(&fs.root, &new, &put)?;
    // Whoever was at the old root is at the new one. Linux: `chroot_fs_refs`.
    let follow = |here: &mut Arc<Dentry<P>>| {
        if Arc::ptr_eq(here, &fs.root) {
            *here = Arc::clone(&new);
        }
    };
    let (sandbox, mut from) = (Arc::clone(task.sandbox()), 0);
    while let Some(process) = sandbox.next_process(from) {
        from = process.pid().saturating_add(1);
        process.change_fs(|fs| [&mut fs.root, &mut fs.cwd].into_iter().for_each(follow));
    }
    task.change_fs(|fs| [&mut fs.root, &mut fs.cwd].into_iter().for_each(follow));
    Ok(())
}

pub(crate) fn setns<P: Cpu>(task: &mut Task<P>, fd: Fd, _kind: Flags) -> Result<()> {
    file(task, fd)?;
    Err(errno!(INVAL, "no descriptor of a namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_memory() {
        let parse = |text: &str| Memory::parse(text.as_bytes(), 1000);
        let all = parse("size=1k,mode=750,uid=3,gid=4,nr_inodes=9,huge=never").unwrap();
        assert_eq!((all.limits.bytes, all.limits.files, all.root.mode.bits()), (Some(1024), Some(9), 0o750));
        assert_eq!((all.root.uid, all.root.gid), (Uid(3), Gid(4)));
        assert_eq!(parse("size=50%").unwrap().limits.bytes, Some(500));
        assert_eq!(parse("nr_blocks=2,").unwrap().limits.bytes, Some(8192));
        assert_eq!(parse("size=0").unwrap().limits.bytes, None);
        for bad in ["size", "size=x", "mode=9", "errors=panic", "size=99999999999999999999g"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
