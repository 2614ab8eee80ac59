//! Links from a process to things: its program, its directories, its open files.
//!
//! Sources: `proc_pid_fd(5)`, `proc_pid_fdinfo(5)`, `proc_pid_exe(5)`; Linux fs/proc/fd.c, `fs/d_path.c`.

use super::{Text, Who, number};
use crate::calls::fcntl::status_bits;
use crate::notify::Inotify;
use crate::signal::Cpu;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::fd_table::{Fd, FdFlags};
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::path::FsContext;
use litebox_core::fs::proc::{LinkTarget, ProcFile, ProcId, ProcLink, ProcNames};
use litebox_core::fs::types::{Asker, FileKind, InodeId, Mode, Name, OFlags, SeekFrom, Uid};

/// What a link to `place` shows: its path from the root, or its label if it is in no directory.
pub(super) fn path_text<P: Cpu>(fs: &FsContext<P>, place: &Arc<Dentry<P>>) -> Result<Vec<u8>> {
    if place.mount().id == 0 {
        return Ok(place.name().as_bytes().to_vec());
    }
    if !place.is_deleted() {
        return match fs.path_of(place) {
            Ok(path) => Ok(path),
            // Outside of the root: the last name is all there is to say.
            Err(_) => Ok([b"/", place.name().as_bytes()].concat()),
        };
    }
    let above = place.parent().and_then(|parent| fs.path_of(&parent).ok()).unwrap_or_default();
    let above = if above == b"/" { &[] } else { above.as_slice() };
    Ok([above, b"/", place.name().as_bytes(), b" (deleted)"].concat())
}

/// Whether the one who asks may look into the process. Linux: `ptrace_may_access`, without capabilities.
///
/// # Errors
/// `ACCESS`: it works for somebody else.
pub(super) fn may_look<P: Cpu>(who: &Who<P>, asker: Asker) -> Result<()> {
    if asker.process == who.pid {
        return Ok(());
    }
    let asks = who.sandbox()?.process(asker.process).ok_or(errno!(ACCESS, "nobody asks"))?.credentials();
    let (ids, dumpable) = who.process()?.with(|state| (state.ids, state.dumpable));
    let same = ids.users.iter().all(|uid| Uid(*uid) == asks.uid);
    if asks.can(Capabilities::SYS_PTRACE) || (same && dumpable) { Ok(()) } else { Err(errno!(ACCESS, "another user's process")) }
}

fn to<P: Cpu>(fs: &FsContext<P>, place: &Arc<Dentry<P>>) -> Result<LinkTarget<P>> {
    Ok(LinkTarget::Place(path_text(fs, place)?, Arc::clone(place)))
}

/// `exe`: the program.
pub(super) fn exe<P: Cpu>(who: &Who<P>, asker: Asker) -> Result<LinkTarget<P>> {
    may_look(who, asker)?;
    let process = who.process()?;
    let exec = process.running().get().filter(|_| process.task_count() > 0);
    to(&process.fs(), &exec.ok_or(errno!(NOENT, "it runs no program"))?.place)
}

/// `cwd`: the working directory.
pub(super) fn cwd<P: Cpu>(who: &Who<P>, asker: Asker) -> Result<LinkTarget<P>> {
    may_look(who, asker)?;
    let fs = who.process()?.fs();
    to(&fs, &fs.cwd)
}

/// `root`: where absolute paths start.
pub(super) fn root<P: Cpu>(who: &Who<P>, asker: Asker) -> Result<LinkTarget<P>> {
    may_look(who, asker)?;
    let fs = who.process()?.fs();
    to(&fs, &fs.root)
}

/// `fd`: links to the open files.
pub(super) fn descriptors<P: Cpu>(who: Who<P>) -> Arc<dyn ProcNames<P>> {
    Arc::new(Descriptors { who, shows: Shows::Files })
}

/// `fdinfo`: what is to be said of the open files.
pub(super) fn descriptor_infos<P: Cpu>(who: Who<P>) -> Arc<dyn ProcNames<P>> {
    Arc::new(Descriptors { who, shows: Shows::Infos })
}

/// What a directory of descriptors leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Files,
    Infos,
}

struct Descriptors<P: Cpu> {
    who: Who<P>,
    shows: Shows,
}

impl<P: Cpu> fmt::Debug for Descriptors<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.who.fmt(f)
    }
}

impl<P: Cpu> Descriptors<P> {
    fn number(&self, fd: u32) -> u64 {
        let kind = if self.shows == Shows::Files { 2 } else { 3 };
        (kind << 62) | (u64::from(self.who.pid) << 32) | u64::from(fd)
    }
}

impl<P: Cpu> ProcNames<P> for Descriptors<P> {
    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        let fd = number(name.as_bytes()).ok_or(errno!(NOENT))?;
        let process = self.who.process()?;
        let file = process.files().get(Fd(fd)).map_err(|_| errno!(NOENT, "not open"))?;
        let mut mode = Mode::from_bits_retain(0o444);
        if self.shows == Shows::Files {
            let flags = file.flags();
            mode = Mode::XUSR;
            mode.set(Mode::RUSR, flags.contains(OFlags::READ));
            mode.set(Mode::WUSR, flags.contains(OFlags::WRITE));
        }
        let owner = process.credentials();
        let id = InodeId { device: self.who.device, number: self.number(fd) };
        let id = ProcId { id, mode, uid: owner.uid, gid: owner.gid };
        let who = self.who.clone();
        Ok(match self.shows {
            Shows::Files => ProcLink::inode(id, move |asker| link(&who, Fd(fd), asker)),
            Shows::Infos => ProcFile::readable(id, self.who.sandbox()?.quota(), move || info(&who, Fd(fd))),
        })
    }

    fn next(&self, from: u64) -> Option<(u64, Vec<u8>, u64, FileKind)> {
        let fd = self.who.process().ok()?.files().next_open(Fd(u32::try_from(from).ok()?))?.0;
        let kind = if self.shows == Shows::Files { FileKind::Symlink } else { FileKind::Regular };
        Some((fd.into(), format!("{fd}").into_bytes(), self.number(fd), kind))
    }
}

fn link<P: Cpu>(who: &Who<P>, fd: Fd, asker: Asker) -> Result<LinkTarget<P>> {
    may_look(who, asker)?;
    let process = who.process()?;
    let file = process.files().get(fd).map_err(|_| errno!(NOENT, "not open"))?;
    to(&process.fs(), file.place())
}

fn info<P: Cpu>(who: &Who<P>, fd: Fd) -> Result<Vec<u8>> {
    let files = who.process()?.files();
    let gone = |_| errno!(NOENT, "not open");
    let (file, flags) = (files.get(fd).map_err(gone)?, files.flags(fd).map_err(gone)?);
    let mut bits = status_bits(file.flags());
    if flags.contains(FdFlags::CLOEXEC) {
        bits |= raw::O_CLOEXEC;
    }
    // What has no offset is always at its start.
    let pos = file.seek(SeekFrom::Current(0)).unwrap_or(0);
    let place = file.place();
    let mut text = Text::default();
    let (mount, inode) = (place.mount().id, place.inode().id().number);
    text.put(format_args!("pos:\t{pos}\nflags:\t0{bits:o}\nmnt_id:\t{mount}\nino:\t{inode}\n"))?;
    if let Ok(watches) = Inotify::of(&file) {
        watches.tell(&mut text)?;
    }
    Ok(text.finish())
}
