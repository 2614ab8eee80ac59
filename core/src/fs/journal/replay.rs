//! A journal becomes a file system, and a file system a journal.
//!
//! Records are applied as if they were calls, with names checked; one that does not apply, as none that this module wrote, is `UCLEAN`.
//! Both are loops: how deep a tree is, is a guest's choice.

use super::log::Log;
use super::record::Record;
use super::{attributes, node, number, put_content, put_make, set_number};
use crate::fs::inode::{InodeRef, Special};
use crate::fs::io::IoSrc;
use crate::fs::types::{
    AttrChange, DeviceId, FileKind, Gid, Mode, Name, NameBuf, NewNode, OFlags, PAGE_SIZE_U64, RenameFlags, SetTime, Timestamp,
    Uid,
};
use crate::fs::xattr::SetHow;
use crate::platform::Platform;
use crate::{errno, error::Errno, error::Error, error::Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

fn damaged() -> Error {
    errno!(UCLEAN, "the journal tells of what cannot be")
}

/// A file system that comes to be.
pub(super) struct Replay<P: Platform> {
    files: BTreeMap<u64, InodeRef<P>>,
}

impl<P: Platform> Replay<P> {
    pub(super) fn new(root: &InodeRef<P>) -> Self {
        Self { files: BTreeMap::from([(0, Arc::clone(root))]) }
    }

    /// A number that no file has or had.
    pub(super) fn next_number(&self) -> u64 {
        self.files.last_key_value().map_or(1, |(last, _)| last.saturating_add(1))
    }

    fn file(&self, id: u64) -> Result<&InodeRef<P>> {
        self.files.get(&id).ok_or_else(damaged)
    }

    /// Does what a record says. What a sandbox has no room for any more is `NOMEM` or `NOSPC`.
    pub(super) fn apply(&mut self, record: &Record<'_>) -> Result<()> {
        self.try_apply(record).map_err(|error| match error.errno() {
            Some(Errno::NOMEM | Errno::NOSPC) | None => error,
            Some(_) => damaged(),
        })
    }

    fn try_apply(&mut self, record: &Record<'_>) -> Result<()> {
        match *record {
            Record::Make { dir, name, id, time, .. } => {
                let dir = Arc::clone(self.file(dir)?);
                let made = make(&dir, Name::new(name)?, record)?;
                set_number(&made, id)?;
                set_times(&made, time, time)?;
                set_times(&dir, time, time)?;
                if self.files.insert(id, made).is_some() {
                    return Err(damaged());
                }
                Ok(())
            }
            Record::Link { dir, name, id, time } => {
                let dir = self.file(dir)?;
                dir.link(Name::new(name)?, self.file(id)?)?;
                set_times(dir, time, time)
            }
            Record::Remove { dir, name, is_dir, time } => {
                let (dir, name) = (self.file(dir)?, Name::new(name)?);
                if is_dir { dir.rmdir(name) } else { dir.unlink(name) }?;
                set_times(dir, time, time)
            }
            Record::Rename { dirs: [old, new], from, to, flags, time } => {
                let (old, new) = (self.file(old)?, self.file(new)?);
                let flags = RenameFlags::from_bits(flags).ok_or_else(damaged)?;
                old.rename(Name::new(from)?, new, Name::new(to)?, flags)?;
                set_times(old, time, time)?;
                set_times(new, time, time)
            }
            Record::Attributes { id, mode, owner: [uid, gid], accessed, modified } => {
                let file = self.file(id)?;
                let mode = Some(Mode::from_bits_truncate(mode));
                let change = AttrChange { mode, uid: Some(Uid(uid)), gid: Some(Gid(gid)), ..AttrChange::default() };
                file.set_attr(&change)?;
                set_times(file, accessed, modified)
            }
            Record::Size { id, size } => self.file(id)?.set_attr(&AttrChange { size: Some(size), ..AttrChange::default() }),
            Record::Data { id, offset, bytes } => {
                let ops = Arc::clone(self.file(id)?).open(OFlags::WRITE)?;
                let count = ops.write_at(offset, &mut IoSrc::kernel(bytes), node::AT_ONCE)?;
                if count == bytes.len() { Ok(()) } else { Err(errno!(NOMEM)) }
            }
            Record::Extended { id, name, value: Some(value) } => self.file(id)?.set_xattr(name, value, SetHow::Any),
            Record::Extended { id, name, value: None } => self.file(id)?.remove_xattr(name),
            Record::Kept => Ok(()),
        }
    }
}

fn make<P: Platform>(dir: &InodeRef<P>, name: Name<'_>, record: &Record<'_>) -> Result<InodeRef<P>> {
    let Record::Make { kind, mode, owner: [uid, gid], device: [major, minor], target, .. } = *record else {
        return Err(damaged());
    };
    let new = NewNode { mode: Mode::from_bits_truncate(mode), uid: Uid(uid), gid: Gid(gid) };
    let device = DeviceId { major, minor };
    match FileKind::from_number(kind).ok_or_else(damaged)? {
        FileKind::Directory => dir.mkdir(name, new),
        FileKind::Symlink => dir.symlink(name, target, new),
        FileKind::Fifo => dir.create(name, Special::Fifo, new),
        FileKind::CharDevice => dir.create(name, Special::CharDevice(device), new),
        FileKind::BlockDevice => dir.create(name, Special::BlockDevice(device), new),
        FileKind::Regular => dir.create(name, Special::Regular, new),
        FileKind::Socket => dir.create(name, Special::Socket, new),
    }
}

fn set_times<P: Platform>(file: &InodeRef<P>, accessed: Timestamp, modified: Timestamp) -> Result<()> {
    let (accessed, modified) = (Some(SetTime::At(accessed)), Some(SetTime::At(modified)));
    file.set_attr(&AttrChange { accessed, modified, ..AttrChange::default() })
}

/// Writes records that come to the tree below `root`.
pub(super) fn write_anew<P: Platform>(log: &mut Log<P>, root: &InodeRef<P>) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut dirs = alloc::vec![Arc::clone(root)];
    put_rest(log, root)?;
    while let Some(dir) = dirs.pop() {
        for name in names(&dir)? {
            let inode = dir.lookup(name.as_name())?;
            let (id, into) = (number(&inode), number(&dir));
            log.room()?;
            if !seen.insert(id) {
                log.push(&Record::Link { dir: into, name: name.as_bytes(), id, time: dir.attr()?.modified });
                continue;
            }
            put_make(log, into, name.as_bytes(), id, &inode)?;
            put_rest(log, &inode)?;
            if inode.kind() == FileKind::Directory {
                dirs.try_reserve(1).map_err(|_| errno!(NOMEM))?;
                dirs.push(inode);
            }
        }
        log.room()?;
        log.push(&attributes(number(&dir), &dir.attr()?));
    }
    Ok(())
}

fn names<P: Platform>(dir: &InodeRef<P>) -> Result<Vec<NameBuf>> {
    let (mut names, mut room) = (Vec::new(), Ok(()));
    dir.read_dir(0, &mut |entry| {
        if let Ok(name) = Name::new(entry.name) {
            room = names.try_reserve(1).map_err(|_| errno!(NOMEM));
            if room.is_ok() {
                names.push(NameBuf::from(name));
            }
        }
        room.is_ok()
    })?;
    room.map(|()| names)
}

/// Adds what a file has besides its name and kind.
fn put_rest<P: Platform>(log: &mut Log<P>, inode: &InodeRef<P>) -> Result<()> {
    let id = number(inode);
    let listed = inode.list_xattr()?;
    for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != super::NUMBER) {
        let value = inode.get_xattr(name)?;
        log.room()?;
        log.push(&Record::Extended { id, name, value: Some(&value) });
    }
    if inode.kind() != FileKind::Regular {
        log.room()?;
        log.push(&attributes(id, &inode.attr()?));
        return Ok(());
    }
    let ops = Arc::clone(inode).open(OFlags::READ)?;
    let last = inode.attr()?.size.div_ceil(PAGE_SIZE_U64);
    // Holes stay holes.
    let pages = (0..last)
        .filter(|page| ops.seek_data(page.saturating_mul(PAGE_SIZE_U64), false).is_ok_and(|data| data / PAGE_SIZE_U64 == *page));
    put_content(log, id, inode, pages)
}
