//! The files: those of the file system in memory, each change written down.

use super::record::Record;
use super::{Journal, NUMBER, attributes, file, now, number, put_make, set_number};
use crate::fs::inode::{Blocking, DirSink, Inode, InodeRef, IoCx, OpsRef, Special};
use crate::fs::types::{Asker, Attr, AttrChange, FileKind, FsStat, InodeId, Name, NewNode, OFlags, RenameFlags};
use crate::fs::xattr::SetHow;
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// How the file system in memory is read.
pub(super) const AT_ONCE: IoCx = IoCx { blocking: Blocking::Yes, strips: false };

/// A file.
pub(super) struct Node<P: Platform> {
    pub(super) journal: Arc<Journal<P>>,
    pub(super) inner: InodeRef<P>,
    pub(super) number: u64,
}

impl<P: Platform> fmt::Debug for Node<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("journal::Node").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<P: Platform> Node<P> {
    /// The node of a file of the file system in memory.
    pub(super) fn of(journal: &Arc<Journal<P>>, inner: InodeRef<P>) -> Result<Arc<Self>> {
        let number = number(&inner);
        Ok(Arc::new(Self { journal: Arc::clone(journal), inner, number }))
    }

    fn wrap(&self, inner: InodeRef<P>) -> Result<InodeRef<P>> {
        Ok(Self::of(&self.journal, inner)?)
    }

    fn own(&self, inode: &InodeRef<P>) -> Result<Arc<Self>> {
        let node: Arc<Self> = Arc::clone(inode).into_any().downcast().map_err(|_other| errno!(XDEV))?;
        if Arc::ptr_eq(&node.journal, &self.journal) { Ok(node) } else { Err(errno!(XDEV)) }
    }

    /// Makes something under `name` by `make`.
    fn make(&self, name: Name<'_>, make: impl FnOnce() -> Result<InodeRef<P>>) -> Result<InodeRef<P>> {
        let id = self.journal.new_number();
        let made = self.journal.change(
            || {
                let made = make()?;
                set_number(&made, id)?;
                Ok(made)
            },
            |log, made| put_make(log, self.number, name.as_bytes(), id, made),
        )?;
        self.wrap(made)
    }
}

/// Refuses the journal's own attribute to everybody else.
fn not_own(name: &[u8]) -> Result<()> {
    if name == NUMBER { Err(errno!(OPNOTSUPP, "the journal's own")) } else { Ok(()) }
}

impl<P: Platform> Inode<P> for Node<P> {
    fn id(&self) -> InodeId {
        self.inner.id()
    }

    fn kind(&self) -> FileKind {
        self.inner.kind()
    }

    fn attr(&self) -> Result<Attr> {
        self.inner.attr()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        self.journal.change(
            || self.inner.set_attr(change),
            |log, ()| {
                let attr = self.inner.attr()?;
                if change.size.is_some() {
                    log.push(&Record::Size { id: self.number, size: attr.size });
                }
                log.push(&attributes(self.number, &attr));
                Ok(())
            },
        )
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        not_own(name)?;
        self.inner.get_xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], how: SetHow) -> Result<()> {
        not_own(name)?;
        self.journal.change(
            || self.inner.set_xattr(name, value, how),
            |log, ()| {
                log.push(&Record::Extended { id: self.number, name, value: Some(value) });
                Ok(())
            },
        )
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        not_own(name)?;
        self.journal.change(
            || self.inner.remove_xattr(name),
            |log, ()| {
                log.push(&Record::Extended { id: self.number, name, value: None });
                Ok(())
            },
        )
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        let names = self.inner.list_xattr()?;
        let own = |name: &&[u8]| name.strip_suffix(&[0]) != Some(NUMBER);
        Ok(names.split_inclusive(|byte| *byte == 0).filter(own).flatten().copied().collect())
    }

    fn fs_stat(&self) -> FsStat {
        self.inner.fs_stat()
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        self.wrap(self.inner.lookup(name)?)
    }

    fn create(&self, name: Name<'_>, what: Special, new: NewNode) -> Result<InodeRef<P>> {
        self.make(name, || self.inner.create(name, what, new))
    }

    fn create_unnamed(&self, new: NewNode) -> Result<InodeRef<P>> {
        let made = self.inner.create_unnamed(new)?;
        set_number(&made, self.journal.new_number())?;
        self.wrap(made)
    }

    fn mkdir(&self, name: Name<'_>, new: NewNode) -> Result<InodeRef<P>> {
        self.make(name, || self.inner.mkdir(name, new))
    }

    fn symlink(&self, name: Name<'_>, target: &[u8], new: NewNode) -> Result<InodeRef<P>> {
        self.make(name, || self.inner.symlink(name, target, new))
    }

    fn link(&self, name: Name<'_>, target: &InodeRef<P>) -> Result<()> {
        let target = self.own(target)?;
        // A file that was made without a name gets its first one: nothing was written down of it.
        let is_first = self.journal.change(
            || {
                let is_first = target.inner.attr()?.links == 0;
                self.inner.link(name, &target.inner).map(|()| is_first)
            },
            |log, is_first| {
                if *is_first {
                    return put_make(log, self.number, name.as_bytes(), target.number, &target.inner);
                }
                log.push(&Record::Link { dir: self.number, name: name.as_bytes(), id: target.number, time: now::<P>() });
                Ok(())
            },
        )?;
        if is_first {
            let size = target.inner.attr()?.size;
            self.journal.note_data(target.number, &target.inner, 0, size);
        }
        Ok(())
    }

    fn unlink(&self, name: Name<'_>) -> Result<()> {
        let time = now::<P>();
        self.journal.change(
            || self.inner.unlink(name),
            |log, ()| {
                log.push(&Record::Remove { dir: self.number, name: name.as_bytes(), is_dir: false, time });
                Ok(())
            },
        )
    }

    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        let time = now::<P>();
        self.journal.change(
            || self.inner.rmdir(name),
            |log, ()| {
                log.push(&Record::Remove { dir: self.number, name: name.as_bytes(), is_dir: true, time });
                Ok(())
            },
        )
    }

    fn rename(&self, from: Name<'_>, dir: &InodeRef<P>, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        let dir = self.own(dir)?;
        let time = now::<P>();
        self.journal.change(
            || self.inner.rename(from, &dir.inner, to, flags),
            |log, ()| {
                let dirs = [self.number, dir.number];
                let (from, to) = (from.as_bytes(), to.as_bytes());
                log.push(&Record::Rename { dirs, from, to, flags: flags.bits(), time });
                Ok(())
            },
        )
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        self.inner.read_dir(cookie, sink)
    }

    fn was_mapped(&self) -> bool {
        self.inner.was_mapped()
    }

    fn readlink(&self, who: Asker) -> Result<Vec<u8>> {
        self.inner.readlink(who)
    }

    fn open(self: Arc<Self>, flags: OFlags) -> Result<OpsRef<P>> {
        let ops = Arc::clone(&self.inner).open(flags)?;
        match self.kind() {
            FileKind::Regular => Ok(Arc::new(file::Opened::new(self, ops))),
            FileKind::Directory => Ok(Arc::new(file::OpenedDir::new(self))),
            _ => Ok(ops),
        }
    }
}
