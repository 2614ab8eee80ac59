//! Names: mkdir(2), rmdir(2), unlink(2), link(2), symlink(2), rename(2), mknod(2), chdir(2), chroot(2), getcwd(2).

use super::files::{dir_of, file, path, with_dir};
use crate::args::{DirFd, Fd, Flags, Len, Mode, Path, Ptr, Word};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::inode::Special;
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{self, DeviceId, RenameFlags};
use litebox_core::mm::user;

/// The working directory's descriptor, for the calls that have none.
const CWD: DirFd = DirFd(raw::AT_FDCWD);

pub(crate) fn getcwd<P: Cpu>(task: &mut Task<P>, buf: Ptr, size: Len) -> Result<usize> {
    let fs = task.fs();
    let mut name = fs.path_of(&fs.cwd)?;
    name.try_reserve(1).map_err(|_| errno!(NOMEM))?;
    name.push(0);
    if u64::try_from(name.len()).is_ok_and(|len| len > size.0) {
        return Err(errno!(RANGE, "no room for the path"));
    }
    user::write_all::<P>(buf.0, &name)?;
    Ok(name.len())
}

fn change_to<P: Cpu>(task: &Task<P>, place: Arc<Dentry<P>>) -> Result<()> {
    if !place.is_dir() {
        return Err(errno!(NOTDIR));
    }
    let (fs, credentials) = (task.fs(), task.credentials());
    fs.at_cwd(&credentials).may(&place, types::Access::EXEC)?;
    task.change_fs(|fs| fs.cwd = place);
    Ok(())
}

pub(crate) fn chdir<P: Cpu>(task: &mut Task<P>, name: Path) -> Result<()> {
    let name = path::<P>(name)?;
    let how = Resolve::FOLLOW | Resolve::DIRECTORY;
    let place = with_dir(task, CWD, &name, |at| at.resolve(&name, how))?;
    change_to(task, place)
}

pub(crate) fn fchdir<P: Cpu>(task: &mut Task<P>, fd: Fd) -> Result<()> {
    let place = Arc::clone(file(task, fd)?.place());
    change_to(task, place)
}

pub(crate) fn mkdirat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, mode: Mode) -> Result<()> {
    let name = path::<P>(name)?;
    with_dir(task, dir, &name, |at| at.mkdir(&name, types::Mode::from_bits_truncate(mode.0 & 0o1777)))
}

pub(crate) fn mkdir<P: Cpu>(task: &mut Task<P>, name: Path, mode: Mode) -> Result<()> {
    mkdirat(task, CWD, name, mode)
}

pub(crate) fn unlinkat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, flags: Flags) -> Result<()> {
    let name = path::<P>(name)?;
    match flags.0 {
        0 => with_dir(task, dir, &name, |at| at.unlink(&name)),
        raw::AT_REMOVEDIR => with_dir(task, dir, &name, |at| at.rmdir(&name)),
        _ => Err::<(), Error>(errno!(INVAL, "unknown flags")),
    }
}

pub(crate) fn unlink<P: Cpu>(task: &mut Task<P>, name: Path) -> Result<()> {
    unlinkat(task, CWD, name, Flags(0))
}

pub(crate) fn rmdir<P: Cpu>(task: &mut Task<P>, name: Path) -> Result<()> {
    unlinkat(task, CWD, name, Flags(raw::AT_REMOVEDIR))
}

pub(crate) fn chroot<P: Cpu>(task: &mut Task<P>, name: Path) -> Result<()> {
    let name = path::<P>(name)?;
    let place = with_dir(task, CWD, &name, |at| {
        let place = at.resolve(&name, Resolve::FOLLOW | Resolve::DIRECTORY)?;
        at.may(&place, types::Access::EXEC).map(|()| place)
    })?;
    if !task.credentials().can(Capabilities::SYS_CHROOT) {
        return Err(errno!(PERM, "only root may"));
    }
    task.change_fs(|fs| fs.root = place);
    Ok(())
}

pub(crate) fn renameat2<P: Cpu>(
    task: &mut Task<P>,
    old_dir: DirFd,
    old: Path,
    new_dir: DirFd,
    new: Path,
    flags: Flags,
) -> Result<()> {
    let flags = RenameFlags::from_bits(flags.0).ok_or(errno!(INVAL, "unknown flags"))?;
    let (old, new) = (path::<P>(old)?, path::<P>(new)?);
    let to = dir_of(task, new_dir, &new)?;
    with_dir(task, old_dir, &old, |from| from.rename(&old, &from.relative_to(to.as_ref()), &new, flags))
}

pub(crate) fn renameat<P: Cpu>(task: &mut Task<P>, old_dir: DirFd, old: Path, new_dir: DirFd, new: Path) -> Result<()> {
    renameat2(task, old_dir, old, new_dir, new, Flags(0))
}

pub(crate) fn rename<P: Cpu>(task: &mut Task<P>, old: Path, new: Path) -> Result<()> {
    renameat2(task, CWD, old, CWD, new, Flags(0))
}

pub(crate) fn linkat<P: Cpu>(
    task: &mut Task<P>,
    old_dir: DirFd,
    old: Path,
    new_dir: DirFd,
    new: Path,
    flags: Flags,
) -> Result<()> {
    if flags.0 & !(raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let (old, new) = (path::<P>(old)?, path::<P>(new)?);
    let mut how = Resolve::empty();
    how.set(Resolve::FOLLOW, flags.0 & raw::AT_SYMLINK_FOLLOW != 0);
    how.set(Resolve::EMPTY, flags.0 & raw::AT_EMPTY_PATH != 0);
    let target = with_dir(task, old_dir, &old, |at| at.resolve(&old, how))?;
    with_dir(task, new_dir, &new, |at| at.link(&target, &new))
}

pub(crate) fn link<P: Cpu>(task: &mut Task<P>, old: Path, new: Path) -> Result<()> {
    linkat(task, CWD, old, CWD, new, Flags(0))
}

pub(crate) fn symlinkat<P: Cpu>(task: &mut Task<P>, target: Path, dir: DirFd, name: Path) -> Result<()> {
    let (target, name) = (path::<P>(target)?, path::<P>(name)?);
    with_dir(task, dir, &name, |at| at.symlink(&target, &name))
}

pub(crate) fn symlink<P: Cpu>(task: &mut Task<P>, target: Path, name: Path) -> Result<()> {
    symlinkat(task, target, CWD, name)
}

/// The number of a device as a program gives it. Linux: `new_decode_dev`.
fn device(raw: u64) -> DeviceId {
    let bits = u32::try_from(raw & 0xffff_ffff).unwrap_or_default();
    DeviceId { major: (bits >> 8) & 0xfff, minor: (bits & 0xff) | ((bits >> 12) & 0xf_ff00) }
}

pub(crate) fn mknodat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, mode: Mode, dev: Word) -> Result<()> {
    let what = match mode.0 & raw::S_IFMT {
        0 | raw::S_IFREG => Special::Regular,
        raw::S_IFIFO => Special::Fifo,
        raw::S_IFSOCK => Special::Socket,
        raw::S_IFCHR => Special::CharDevice(device(dev.0)),
        raw::S_IFBLK => Special::BlockDevice(device(dev.0)),
        raw::S_IFDIR => return Err(errno!(PERM, "directories are made otherwise")),
        _ => return Err(errno!(INVAL, "no kind of file")),
    };
    let name = path::<P>(name)?;
    if matches!(what, Special::CharDevice(_) | Special::BlockDevice(_)) && !task.credentials().can(Capabilities::MKNOD) {
        return Err(errno!(PERM, "only root may make devices"));
    }
    let mode = types::Mode::from_bits_truncate(mode.0);
    with_dir(task, dir, &name, |at| at.mknod(&name, what, mode).map(drop))
}

pub(crate) fn mknod<P: Cpu>(task: &mut Task<P>, name: Path, mode: Mode, dev: Word) -> Result<()> {
    mknodat(task, CWD, name, mode, dev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_taken_apart() {
        assert_eq!(device(0x103), DeviceId { major: 1, minor: 3 });
        assert_eq!(device(0x10_0823), DeviceId { major: 8, minor: 0x123 });
    }
}
