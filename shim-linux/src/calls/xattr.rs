//! getxattr(2), setxattr(2), listxattr(2), removexattr(2).

use super::files::{open_file, path, with_dir};
use super::stat::{how, path_or_none};
use super::take_growing;
use crate::args::{DirFd, Fd, Flags, Len, Path, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::path::{At, Resolve};
use litebox_core::fs::xattr::{NAME_MAX, SetHow, VALUE_MAX};
use litebox_core::mm::{GuestAddr, UserCStr, UserIn, user};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How a call names its file.
#[derive(Clone, Copy)]
enum Which {
    Path(Path),
    Link(Path),
    Open(Fd),
    At(DirFd, Path, Flags),
}

/// Does `act` at the file that a call names.
fn at<P: Cpu, T>(task: &Task<P>, which: Which, act: impl FnOnce(At<'_, P>, &Arc<Dentry<P>>) -> Result<T>) -> Result<T> {
    const CWD: DirFd = DirFd(raw::AT_FDCWD);
    let (dir, name, how) = match which {
        Which::Path(name) => (CWD, path::<P>(name)?, Resolve::FOLLOW),
        Which::Link(name) => (CWD, path::<P>(name)?, Resolve::empty()),
        Which::At(dir, name, flags) => (dir, path_or_none::<P>(name, flags)?, how(flags)),
        Which::Open(fd) => {
            let file = open_file(task, fd)?;
            let (fs, credentials) = (task.fs(), task.credentials());
            return act(fs.at_cwd(&credentials), file.place());
        }
    };
    with_dir(task, dir, &name, |at| {
        let place = at.resolve(&name, how)?;
        act(at, &place)
    })
}

/// `struct xattr_args`: where the value is, its bytes, flags.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Wire {
    value: u64,
    size: u32,
    flags: u32,
}

/// Its size in the first Linux that had it.
const WIRE: usize = 16;
const _: () = assert!(size_of::<Wire>() == WIRE);

/// The file that a call with `AT_` flags names.
fn named(dir: DirFd, name: Path, flags: Flags) -> Result<Which> {
    if flags.0 & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) == 0 {
        Ok(Which::At(dir, name, flags))
    } else {
        Err(errno!(INVAL, "unknown flags"))
    }
}

pub(crate) fn setxattrat<P: Cpu>(
    task: &mut Task<P>,
    dir: DirFd,
    file: Path,
    at: Flags,
    name: Ptr,
    args: Ptr,
    size: Len,
) -> Result<()> {
    let args: Wire = take_growing::<P, _>(args.0, size.0, WIRE)?;
    let value = (Ptr(GuestAddr::new(args.value)), Len(args.size.into()));
    set(task, named(dir, file, at)?, name, value, Flags(args.flags))
}

pub(crate) fn getxattrat<P: Cpu>(
    task: &mut Task<P>,
    dir: DirFd,
    file: Path,
    at: Flags,
    name: Ptr,
    args: Ptr,
    size: Len,
) -> Result<usize> {
    let args: Wire = take_growing::<P, _>(args.0, size.0, WIRE)?;
    if args.flags != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    get(task, named(dir, file, at)?, name, Ptr(GuestAddr::new(args.value)), Len(args.size.into()))
}

pub(crate) fn listxattrat<P: Cpu>(task: &mut Task<P>, dir: DirFd, file: Path, at: Flags, names: Ptr, size: Len) -> Result<usize> {
    list(task, named(dir, file, at)?, names, size)
}

pub(crate) fn removexattrat<P: Cpu>(task: &mut Task<P>, dir: DirFd, file: Path, at: Flags, name: Ptr) -> Result<()> {
    remove(task, named(dir, file, at)?, name)
}

/// An attribute's name.
fn attribute<P: Cpu>(name: Ptr) -> Result<Vec<u8>> {
    let range = || errno!(RANGE, "no name, or a longer one than there is");
    let name = UserCStr::new(name.0).read::<P>(NAME_MAX.saturating_add(1));
    let name = name.map_err(|error| if error.is(Errno::NAMETOOLONG) { range() } else { error })?;
    if name.is_empty() { Err(range()) } else { Ok(name) }
}

/// Gives bytes to a program that has room for `size`; one without room only asks how many there are.
fn give<P: Cpu>(bytes: &[u8], to: Ptr, size: Len) -> Result<usize> {
    if size.0 == 0 {
        return Ok(bytes.len());
    }
    if u64::try_from(bytes.len()).is_ok_and(|len| len > size.0) {
        return Err(errno!(RANGE, "no room"));
    }
    user::write_all::<P>(to.0, bytes)?;
    Ok(bytes.len())
}

fn get<P: Cpu>(task: &Task<P>, which: Which, name: Ptr, value: Ptr, size: Len) -> Result<usize> {
    let name = attribute::<P>(name)?;
    let found = at(task, which, |at, place| at.get_xattr(place, &name))?;
    give::<P>(&found, value, size)
}

fn set<P: Cpu>(task: &Task<P>, which: Which, name: Ptr, (value, size): (Ptr, Len), flags: Flags) -> Result<()> {
    let how = match flags.0 {
        0 => SetHow::Any,
        1 => SetHow::Create,
        2 => SetHow::Replace,
        _ => return Err(errno!(INVAL, "unknown flags")),
    };
    let name = attribute::<P>(name)?;
    let size =
        usize::try_from(size.0).ok().filter(|size| *size <= VALUE_MAX).ok_or(errno!(TOOBIG, "longer than a value can be"))?;
    let bytes = if size == 0 { Vec::new() } else { UserIn::new(value.0, size).to_vec::<P>(VALUE_MAX)? };
    at(task, which, |at, place| at.set_xattr(place, &name, &bytes, how))
}

fn list<P: Cpu>(task: &Task<P>, which: Which, names: Ptr, size: Len) -> Result<usize> {
    let found = at(task, which, |at, place| at.list_xattr(place))?;
    give::<P>(&found, names, size)
}

fn remove<P: Cpu>(task: &Task<P>, which: Which, name: Ptr) -> Result<()> {
    let name = attribute::<P>(name)?;
    at(task, which, |at, place| at.remove_xattr(place, &name))
}

pub(crate) fn getxattr<P: Cpu>(task: &mut Task<P>, file: Path, name: Ptr, value: Ptr, size: Len) -> Result<usize> {
    get(task, Which::Path(file), name, value, size)
}

pub(crate) fn setxattr<P: Cpu>(task: &mut Task<P>, file: Path, name: Ptr, value: Ptr, size: Len, flags: Flags) -> Result<()> {
    set(task, Which::Path(file), name, (value, size), flags)
}

pub(crate) fn listxattr<P: Cpu>(task: &mut Task<P>, file: Path, names: Ptr, size: Len) -> Result<usize> {
    list(task, Which::Path(file), names, size)
}

pub(crate) fn removexattr<P: Cpu>(task: &mut Task<P>, file: Path, name: Ptr) -> Result<()> {
    remove(task, Which::Path(file), name)
}

pub(crate) fn lgetxattr<P: Cpu>(task: &mut Task<P>, file: Path, name: Ptr, value: Ptr, size: Len) -> Result<usize> {
    get(task, Which::Link(file), name, value, size)
}

pub(crate) fn lsetxattr<P: Cpu>(task: &mut Task<P>, file: Path, name: Ptr, value: Ptr, size: Len, flags: Flags) -> Result<()> {
    set(task, Which::Link(file), name, (value, size), flags)
}

pub(crate) fn llistxattr<P: Cpu>(task: &mut Task<P>, file: Path, names: Ptr, size: Len) -> Result<usize> {
    list(task, Which::Link(file), names, size)
}

pub(crate) fn lremovexattr<P: Cpu>(task: &mut Task<P>, file: Path, name: Ptr) -> Result<()> {
    remove(task, Which::Link(file), name)
}

pub(crate) fn fgetxattr<P: Cpu>(task: &mut Task<P>, file: Fd, name: Ptr, value: Ptr, size: Len) -> Result<usize> {
    get(task, Which::Open(file), name, value, size)
}

pub(crate) fn fsetxattr<P: Cpu>(task: &mut Task<P>, file: Fd, name: Ptr, value: Ptr, size: Len, flags: Flags) -> Result<()> {
    set(task, Which::Open(file), name, (value, size), flags)
}

pub(crate) fn flistxattr<P: Cpu>(task: &mut Task<P>, file: Fd, names: Ptr, size: Len) -> Result<usize> {
    list(task, Which::Open(file), names, size)
}

pub(crate) fn fremovexattr<P: Cpu>(task: &mut Task<P>, file: Fd, name: Ptr) -> Result<()> {
    remove(task, Which::Open(file), name)
}
