//! execve(2), execveat(2).

use super::files::{path, with_dir};
use crate::args::{DirFd, Flags, Path, Ptr};
use crate::elf::STACK_STRING_MAX;
use crate::exec::{self, Request};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Errno, Error, Result};
use litebox_core::fs::fd_table::{Fd, FdFlags};
use litebox_core::fs::path::Resolve;
use litebox_core::mm::{GuestAddr, UserCStr, user};
use litebox_core::quota::{Charge, Quota};

/// Bytes that are copied at most: what no limit of the stack exceeds. Linux: three quarters of `_STK_LIM`.
const BYTES_MAX: usize = 6 << 20;
/// What is charged at a time.
const CHUNK: usize = 64 * 1024;
/// What a string takes beside its bytes: its pointer in the guest; here its end and its slice.
const STRING_COST: usize = 8 + 8 + 16;

/// Arguments or environment, copied from the guest: its memory may change meanwhile, the copy does not.
#[derive(Debug, Default)]
struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    charges: Vec<Charge>,
}

fn too_big() -> Error {
    errno!(TOOBIG, "arguments and environment are too large")
}

impl Strings {
    /// Copies the strings that the array at `list` points to, up to its null pointer; no array is an empty one.
    ///
    /// # Errors
    /// `FAULT`, `TOOBIG`, `NOMEM`.
    fn read<P: Cpu>(quota: &Arc<Quota>, list: GuestAddr) -> Result<Self> {
        let mut strings = Self::default();
        if list == GuestAddr::default() {
            return Ok(strings);
        }
        let mut at = list;
        loop {
            let mut pointer = [0; 8];
            user::read_exact::<P>(at, &mut pointer)?;
            let string = u64::from_le_bytes(pointer);
            if string == 0 {
                return Ok(strings);
            }
            strings.charge(quota, STRING_COST)?;
            let string = UserCStr::new(GuestAddr::new(string))
                .read::<P>(STACK_STRING_MAX)
                .map_err(|error| if error.is(Errno::NAMETOOLONG) { errno!(TOOBIG, "a string is too long") } else { error })?;
            strings.charge(quota, string.len())?;
            strings.push(&string)?;
            at = at.plus(8)?;
        }
    }

    fn push(&mut self, string: &[u8]) -> Result<()> {
        self.bytes.try_reserve(string.len()).map_err(|_| errno!(NOMEM))?;
        self.bytes.extend_from_slice(string);
        self.ends.try_reserve(1).map_err(|_| errno!(NOMEM))?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn used(&self) -> usize {
        self.bytes.len().saturating_add(self.ends.len().saturating_mul(STRING_COST))
    }

    /// Has `more` bytes charged before they are there.
    fn charge(&mut self, quota: &Arc<Quota>, more: usize) -> Result<()> {
        let wanted = self.used().saturating_add(more);
        if self.used() > BYTES_MAX.saturating_mul(4) || self.bytes.len() > BYTES_MAX {
            return Err(too_big());
        }
        while self.charges.len().saturating_mul(CHUNK) < wanted {
            self.charges.try_reserve(1).map_err(|_| errno!(NOMEM))?;
            self.charges.push(quota.charge(CHUNK as u64)?);
        }
        Ok(())
    }

    fn slices(&self) -> Result<Vec<&[u8]>> {
        let mut slices = Vec::new();
        slices.try_reserve_exact(self.ends.len()).map_err(|_| errno!(NOMEM))?;
        let mut start = 0;
        for end in &self.ends {
            slices.push(self.bytes.get(start..*end).unwrap_or_default());
            start = *end;
        }
        Ok(slices)
    }
}

/// The name by which a program is known that was asked for as `name` in `dir`. Linux: `alloc_bprm`.
fn known_as(dir: DirFd, name: &[u8]) -> Result<Vec<u8>> {
    let mut known = Vec::new();
    // "/dev/fd/", a number and a slash.
    known.try_reserve(name.len().saturating_add(24)).map_err(|_| errno!(NOMEM))?;
    if dir.0 != raw::AT_FDCWD && name.first() != Some(&b'/') {
        known.extend_from_slice(alloc::format!("/dev/fd/{}", dir.0).as_bytes());
        if !name.is_empty() {
            known.push(b'/');
        }
    }
    known.extend_from_slice(name);
    Ok(known)
}

pub(crate) fn execveat<P: Cpu>(task: &mut Task<P>, dir: DirFd, name: Path, argv: Ptr, envp: Ptr, flags: Flags) -> Result<()> {
    if flags.0 & !(raw::AT_EMPTY_PATH | raw::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let name = path::<P>(name)?;
    let mut how = Resolve::empty();
    how.set(Resolve::FOLLOW, flags.0 & raw::AT_SYMLINK_NOFOLLOW == 0);
    how.set(Resolve::EMPTY, flags.0 & raw::AT_EMPTY_PATH != 0);
    let file = with_dir(task, dir, &name, |at| exec::open(at, &name, how))?;
    let known = known_as(dir, &name)?;
    let quota = Arc::clone(task.sandbox().quota());
    let mut args = Strings::read::<P>(&quota, argv.0)?;
    let env = Strings::read::<P>(&quota, envp.0)?;
    if args.ends.is_empty() {
        // Programs take it that there is a first argument.
        args.push(b"")?;
    }
    let (args, env) = (args.slices()?, env.slices()?);
    let request = Request::of(task, &args, &env);
    let prepared = exec::prepare(&request, file, &known)?;
    if is_script_that_closes(task, dir, &name, &prepared) {
        return Err(errno!(NOENT, "its interpreter could not open it: the descriptor is closed by then"));
    }
    task.exec(prepared)
}

/// Whether a script was named by a descriptor that its interpreter will not have.
fn is_script_that_closes<P: Cpu>(task: &Task<P>, dir: DirFd, name: &[u8], prepared: &exec::Prepared<P>) -> bool {
    let Ok(fd) = u32::try_from(dir.0) else { return false };
    let closes = task.files().flags(Fd(fd)).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC));
    closes && name.first() != Some(&b'/') && prepared.is_script
}

pub(crate) fn execve<P: Cpu>(task: &mut Task<P>, name: Path, argv: Ptr, envp: Ptr) -> Result<()> {
    execveat(task, DirFd(raw::AT_FDCWD), name, argv, envp, Flags(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_path_is_known_by_its_descriptor() {
        assert_eq!(known_as(DirFd(raw::AT_FDCWD), b"a").unwrap(), b"a");
        assert_eq!(known_as(DirFd(3), b"/a").unwrap(), b"/a");
        assert_eq!(known_as(DirFd(3), b"").unwrap(), b"/dev/fd/3");
        assert_eq!(known_as(DirFd(3), b"a").unwrap(), b"/dev/fd/3/a");
    }

    #[test]
    fn strings_are_charged_before_they_are_copied() {
        let quota = Quota::new(3 * CHUNK as u64);
        let mut strings = Strings::default();
        strings.charge(&quota, 2 * CHUNK).unwrap();
        assert_eq!(quota.used(), 2 * CHUNK as u64);
        assert!(strings.charge(&quota, 4 * CHUNK).unwrap_err().is(Errno::NOMEM));
        strings.push(b"ab").unwrap();
        strings.push(b"").unwrap();
        assert_eq!(strings.slices().unwrap(), [&b"ab"[..], b""]);
    }
}
