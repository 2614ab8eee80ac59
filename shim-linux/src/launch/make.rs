//! What is made in a sandbox before its first program starts: directories, links, files, points to mount on.

use super::Builder;
use crate::signal::Cpu;
use alloc::sync::Arc;
use alloc::vec::Vec;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::host::HostFile;
use litebox_core::fs::inode::{Blocking, Special};
use litebox_core::fs::io::IoSrc;
use litebox_core::fs::path::{At, FsContext, Resolve};
use litebox_core::fs::types::{AttrChange, Credentials, FileKind, Mode, OFlags};

/// The permissions of a directory that is made on the way to something.
const DIRECTORY: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);
/// Those of a file.
const FILE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::ROTH);
/// Bytes of a file that are copied at once.
const CHUNK: usize = 64 << 10;

fn unless_there(done: Result<()>) -> Result<()> {
    if done.as_ref().is_err_and(|error| error.is(Errno::EXIST)) { Ok(()) } else { done }
}

/// Makes the directories on the way to `at` that are missing.
fn parents<P: Cpu>(paths: At<'_, P>, at: &[u8]) -> Result<()> {
    let slashes = at.iter().enumerate().filter(|(index, byte)| *index > 0 && **byte == b'/');
    for (end, _) in slashes {
        unless_there(paths.mkdir(at.get(..end).unwrap_or_default(), DIRECTORY))?;
    }
    Ok(())
}

/// Makes what is missing of the path `at`, so that something of that kind can be mounted there.
pub(super) fn point<P: Cpu>(paths: At<'_, P>, at: &[u8], kind: FileKind) -> Result<()> {
    parents(paths, at)?;
    match kind {
        FileKind::Directory => unless_there(paths.mkdir(at, DIRECTORY)),
        _ => paths.mknod(at, Special::Regular, FILE).map(drop),
    }
}

fn change_mode<P: Cpu>(paths: At<'_, P>, at: &[u8], mode: Option<Mode>) -> Result<()> {
    paths.set_attr(&paths.resolve(at, Resolve::FOLLOW)?, &AttrChange { mode, ..AttrChange::default() })
}

impl<P: Cpu> Builder<P> {
    /// Does `act` with the paths that the first process will see.
    fn with_paths<T>(&self, act: impl FnOnce(At<'_, P>) -> Result<T>) -> Result<T> {
        let process = self.first.as_ref().ok_or(errno!(INVAL, "the first mount is at the root"))?;
        let mut fs = FsContext::new(process.fs().namespace);
        fs.umask = Mode::empty();
        let launcher = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
        act(fs.at_cwd(&launcher))
    }

    /// Makes a directory at `at` and those on the way to it, unless they are there; `mode` is for `at` alone.
    ///
    /// # Errors
    /// `INVAL`: nothing is mounted at the root. Those of mkdir(2).
    pub fn make_dir(&mut self, at: &[u8], mode: Option<Mode>) -> Result<()> {
        self.with_paths(|paths| {
            parents(paths, at)?;
            let made = paths.mkdir(at, mode.unwrap_or(DIRECTORY));
            match mode {
                // mkdir(2) leaves out a part of it.
                Some(_) if made.is_ok() => change_mode(paths, at, mode),
                _ => unless_there(made),
            }
        })
    }

    /// Makes a symbolic link to `target` at `at`, unless that very link is there.
    ///
    /// # Errors
    /// `INVAL`: nothing is mounted at the root. Those of symlink(2).
    pub fn make_symlink(&mut self, at: &[u8], target: &[u8]) -> Result<()> {
        self.with_paths(|paths| {
            parents(paths, at)?;
            match paths.symlink(target, at) {
                Err(error) if error.is(Errno::EXIST) && paths.readlink(at).is_ok_and(|found| found == target) => Ok(()),
                done => done,
            }
        })
    }

    /// Makes a file at `at` with what can be read of `from`, or replaces what the file there has.
    ///
    /// # Errors
    /// `INVAL`: nothing is mounted at the root. Those of open(2), read(2) and write(2).
    pub fn make_file(&mut self, at: &[u8], from: &Arc<dyn HostFile<P>>, mode: Option<Mode>) -> Result<()> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(CHUNK).map_err(|_| errno!(NOMEM))?;
        buffer.resize(CHUNK, 0);
        self.with_paths(|paths| {
            parents(paths, at)?;
            let file = paths.open(at, OFlags::WRITE | OFlags::CREATE | OFlags::TRUNC, mode.unwrap_or(FILE))?;
            if mode.is_some() {
                change_mode(paths, at, mode)?;
            }
            let mut offset = from.position();
            loop {
                let count = from.read(offset, &mut buffer, Blocking::Yes)?.min(CHUNK);
                let mut rest = buffer.get(..count).unwrap_or_default();
                if rest.is_empty() {
                    return Ok(());
                }
                offset = offset.saturating_add(u64::try_from(count).unwrap_or(0));
                while !rest.is_empty() {
                    let written = file.write(&mut IoSrc::kernel(rest))?;
                    rest = rest.get(written.max(1)..).unwrap_or_default();
                }
            }
        })
    }
}
