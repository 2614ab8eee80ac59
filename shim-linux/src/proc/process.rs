//! The directory of a process, and of each of its tasks, as one table.

use super::text::line;
use super::{Who, links, maps, mem, mounts, net, ns, smaps, status};
use crate::signal::Cpu;
use crate::task::Process;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::marker::PhantomData;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::inode::{InodeRef, OpsRef};
use litebox_core::fs::proc::{self, LinkTarget, OpenedFile, ProcFile, ProcId, ProcLink, ProcNames};
use litebox_core::fs::types::{Asker, FileKind, Gid, InodeId, Mode, Name, Uid};

/// What a name leads to.
enum What<P: Cpu> {
    /// A file.
    File(fn(&Who<P>) -> Result<Vec<u8>>),
    /// A file that can be written to.
    Setting(fn(&Who<P>) -> Result<Vec<u8>>, fn(&Who<P>, &[u8]) -> Result<()>),
    /// A file that is more than a text.
    Opened(fn(&Who<P>) -> Result<OpsRef<P>>),
    /// A link to a thing.
    Link(fn(&Who<P>, Asker) -> Result<LinkTarget<P>>),
    /// A directory of changing names.
    Dir(fn(Who<P>) -> Arc<dyn ProcNames<P>>),
}

impl<P: Cpu> What<P> {
    fn kind(&self) -> FileKind {
        match self {
            Self::File(_) | Self::Setting(..) | Self::Opened(_) => FileKind::Regular,
            Self::Link(_) => FileKind::Symlink,
            Self::Dir(_) => FileKind::Directory,
        }
    }
}

/// `io`: what it read and wrote. Nobody counts that.
fn io<P: Cpu>(_: &Who<P>) -> Result<Vec<u8>> {
    Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n".to_vec())
}

/// A name, its permissions, what it leads to.
type Row<P> = (&'static str, u32, What<P>);

/// The directory.
pub(super) struct Table<P: Cpu> {
    who: Who<P>,
    platform: PhantomData<P>,
}

impl<P: Cpu> fmt::Debug for Table<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.who.fmt(f)
    }
}

impl<P: Cpu> Table<P> {
    #[rustfmt::skip]
    const ROWS: &'static [Row<P>] = &[
        ("auxv", 0o400, What::File(maps::auxv)),
        ("cgroup", 0o444, What::File(|_| Ok(b"0::/\n".to_vec()))),
        ("clear_refs", 0o200, What::Setting(|_| Err(errno!(ACCESS, "cannot be read")), smaps::clear)),
        ("cmdline", 0o444, What::File(maps::cmdline)),
        ("comm", 0o644, What::Setting(status::comm, status::set_comm)),
        ("coredump_filter", 0o644, What::Setting(status::core_filter, status::set_core_filter)),
        ("cpuset", 0o444, What::File(|_| Ok(b"/\n".to_vec()))),
        ("cwd", 0o777, What::Link(links::cwd)),
        ("environ", 0o400, What::File(maps::environ)),
        ("exe", 0o777, What::Link(links::exe)),
        ("fd", 0o500, What::Dir(links::descriptors)),
        ("fdinfo", 0o555, What::Dir(links::descriptor_infos)),
        ("gid_map", 0o644, What::File(|_| line(format_args!("{:>10} {:>10} {:>10}\n", 0, 0, u32::MAX)))),
        ("io", 0o400, What::File(io)),
        ("limits", 0o444, What::File(status::limits)),
        ("loginuid", 0o644, What::File(|_| line(format_args!("{}", u32::MAX)))),
        ("maps", 0o444, What::File(maps::maps)),
        ("mem", 0o600, What::Opened(mem::open)),
        ("mountinfo", 0o444, What::File(mounts::mountinfo)),
        ("mounts", 0o444, What::File(mounts::mounts)),
        ("mountstats", 0o400, What::File(mounts::mountstats)),
        ("net", 0o555, What::Dir(net::names)),
        ("ns", 0o511, What::Dir(ns::names)),
        ("oom_adj", 0o644, What::File(status::oom_adj)),
        ("oom_score", 0o444, What::File(|_| Ok(b"0\n".to_vec()))),
        ("oom_score_adj", 0o644, What::Setting(status::oom_score_adj, status::set_oom_score_adj)),
        ("pagemap", 0o400, What::Opened(smaps::pagemap)),
        ("personality", 0o400, What::File(status::personality)),
        ("root", 0o777, What::Link(links::root)),
        ("sessionid", 0o444, What::File(|_| line(format_args!("{}", u32::MAX)))),
        ("setgroups", 0o644, What::File(|_| Ok(b"allow\n".to_vec()))),
        ("smaps", 0o444, What::File(smaps::smaps)),
        ("smaps_rollup", 0o444, What::File(smaps::rollup)),
        ("stat", 0o444, What::File(status::stat)),
        ("statm", 0o444, What::File(status::statm)),
        ("status", 0o444, What::File(status::status)),
        ("syscall", 0o400, What::File(|_| Ok(b"running\n".to_vec()))),
        ("timerslack_ns", 0o666, What::Setting(status::timer_slack, status::set_timer_slack)),
        ("uid_map", 0o644, What::File(|_| line(format_args!("{:>10} {:>10} {:>10}\n", 0, 0, u32::MAX)))),
        ("wchan", 0o444, What::File(|_| Ok(b"0".to_vec()))),
        // Last: a task has all but this.
        ("task", 0o555, What::Dir(Tasks::names)),
    ];

    /// The rows of `who`.
    fn rows(who: &Who<P>) -> &'static [Row<P>] {
        match (who.tid, Self::ROWS.split_last()) {
            (Some(_), Some((_, rest))) => rest,
            _ => Self::ROWS,
        }
    }

    /// The inode number of row `row` of `who`, counted from 1; 0 is the directory itself.
    pub(super) fn number(who: &Who<P>, row: u64) -> u64 {
        (u64::from(who.pid) << 40) | (u64::from(who.tid.unwrap_or(0)) << 16) | row
    }

    /// Whose a file is: the user's that the process works for, or root's if others may not look into it.
    fn id(who: &Who<P>, number: u64, mode: u32) -> Result<ProcId> {
        let (ids, dumpable) = who.process()?.with(|state| (state.ids, state.dumpable));
        let ([_, uid, _], [_, gid, _]) = if dumpable { (ids.users, ids.groups) } else { ([0; 3], [0; 3]) };
        let id = InodeId { device: who.device, number };
        Ok(ProcId { id, mode: Mode::from_bits_retain(mode), uid: Uid(uid), gid: Gid(gid) })
    }

    /// The directory of `who`.
    ///
    /// # Errors
    /// `SRCH`: it has ended.
    pub(super) fn directory(who: Who<P>) -> Result<InodeRef<P>> {
        let id = Self::id(&who, Self::number(&who, 0), 0o555)?;
        Ok(proc::directory(id, Arc::new(Self { who, platform: PhantomData })))
    }
}

impl<P: Cpu> ProcNames<P> for Table<P> {
    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        let rows = (1u64..).zip(Self::rows(&self.who));
        let mut found = rows.filter(|(_, (known, ..))| known.as_bytes() == name.as_bytes());
        let (number, (_, mode, what)) = found.next().ok_or(errno!(NOENT))?;
        let who = self.who.clone();
        let id = Self::id(&who, Self::number(&who, number), *mode)?;
        let sandbox = who.sandbox()?;
        let quota = sandbox.quota();
        Ok(match what {
            What::File(make) => ProcFile::readable(id, quota, move || make(&who)),
            What::Setting(make, accept) => {
                let writer = who.clone();
                ProcFile::writable(id, quota, move || make(&who), move |bytes| accept(&writer, bytes))
            }
            What::Opened(open) => OpenedFile::inode(id, move |_flags| open(&who)),
            What::Link(target) => ProcLink::inode(id, move |asker| target(&who, asker)),
            What::Dir(names) => proc::directory(id, names(who)),
        })
    }

    fn next(&self, from: u64) -> Option<(u64, Vec<u8>, u64, FileKind)> {
        let (name, _, what) = Self::rows(&self.who).get(usize::try_from(from).ok()?)?;
        let number = Self::number(&self.who, from.saturating_add(1));
        Some((from, name.as_bytes().to_vec(), number, what.kind()))
    }

    fn about(&self) -> Option<&dyn Any> {
        Some(&self.who)
    }
}

/// The process that `inode` is the directory of; `None` if it is another file, or that of a task.
///
/// # Errors
/// `SRCH`: it has ended, and its parent was told.
pub(crate) fn of_directory<P: Cpu>(inode: &InodeRef<P>) -> Option<Result<Arc<Process<P>>>> {
    proc::about(inode, |who: &Who<P>| who.tid.is_none().then(|| who.process())).flatten()
}

/// The directory of a process's tasks.
struct Tasks<P: Cpu>(Who<P>);

impl<P: Cpu> fmt::Debug for Tasks<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<P: Cpu> Tasks<P> {
    fn names(who: Who<P>) -> Arc<dyn ProcNames<P>> {
        Arc::new(Self(who))
    }
}

impl<P: Cpu> ProcNames<P> for Tasks<P> {
    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        let tid = super::number(name.as_bytes()).ok_or(errno!(NOENT))?;
        self.0.process()?.task(tid).ok_or(errno!(NOENT))?;
        Table::directory(Who { tid: Some(tid), ..self.0.clone() })
    }

    fn next(&self, from: u64) -> Option<(u64, Vec<u8>, u64, FileKind)> {
        let task = self.0.process().ok()?.next_task(u32::try_from(from).ok()?)?;
        let who = Who { tid: Some(task.tid()), ..self.0.clone() };
        Some((task.tid().into(), format!("{}", task.tid()).into_bytes(), Table::number(&who, 0), FileKind::Directory))
    }
}
