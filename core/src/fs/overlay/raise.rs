//! Copying up: what is only below gets its counterpart above, with all that a guest can see of it.
//!
//! Invariants: a copy is made in `work` and appears whole, by a rename; it is lost if the name was taken away meanwhile, and then
//! serves those who have the file open. Directories above it come first, from the top, in a loop.

use super::{ABOVE, Node, ORIGIN, OWN, optional};
use crate::fs::inode::{Blocking, InodeRef, IoCx, Special};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::types::{Asker, Attr, AttrChange, FileKind, Name, NewNode, OFlags, SetTime};
use crate::fs::xattr::SetHow;
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Bytes copied at once.
const CHUNK: usize = 64 << 10;
/// A piece of so many zeros is left out of the copy.
const HOLE: usize = 4096;
/// A host's files do not wait; what does is no reason to hang.
const CX: IoCx = IoCx { blocking: Blocking::Yes, strips: false };

impl<P: Platform> Node<P> {
    /// What is above, copied up if need be with at most the first `keep` bytes.
    pub(super) fn raised(&self, keep: u64) -> Result<InodeRef<P>> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let mut missing: Vec<Arc<Self>> = Vec::new();
        let mut next = self.place.as_ref().map(|place| &place.dir);
        while let Some(dir) = next.filter(|dir| dir.upper().is_none()) {
            missing.try_reserve(1).map_err(|_| errno!(NOMEM))?;
            missing.push(Arc::clone(dir));
            next = dir.place.as_ref().map(|place| &place.dir);
        }
        while let Some(dir) = missing.pop() {
            dir.raise(0)?;
        }
        self.raise(keep)
    }

    /// The same, if the directory that it is in is above.
    fn raise(&self, keep: u64) -> Result<InodeRef<P>> {
        let _raising = self.raising.lock();
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let lower = self.lower.as_ref().ok_or(errno!(NOENT))?;
        let attr = lower.attr()?;
        let temporary = self.shared.temporary()?;
        let copy = self.copy(lower, &attr, temporary.as_name(), keep)?;
        let _change = self.shared.change.lock();
        let upper = match self.settle(temporary.as_name(), copy, attr.kind) {
            Ok(upper) => upper,
            Err(error) => {
                self.shared.discard(temporary.as_name(), attr.kind);
                return Err(error);
            }
        };
        *self.upper.lock() = Some(Arc::clone(&upper));
        if let Some(me) = self.me.upgrade().filter(|_| !self.is_dir()) {
            super::Shared::remember(&mut self.shared.nodes.lock(), upper.id().number, &me);
        }
        Ok(upper)
    }

    /// Gives the copy its place, unless the name is not this file's any more. Under `change`.
    fn settle(&self, temporary: Name<'_>, copy: InodeRef<P>, kind: FileKind) -> Result<InodeRef<P>> {
        let work = &self.shared.work;
        let place = self.place.as_ref().filter(|place| !place.dir.gone.load(Ordering::Acquire));
        if let Some((place, dir)) = place.and_then(|place| place.dir.upper().map(|dir| (place, dir))) {
            let name = place.name.as_name();
            match optional(dir.lookup(name))? {
                None => {
                    let before = dir.attr()?;
                    work.rename(temporary, &dir, name, crate::fs::types::RenameFlags::empty())?;
                    // The directory shows no change.
                    dir.set_attr(&times(&before))?;
                    return Ok(copy);
                }
                // Somebody else copied it.
                Some(other) if other.kind() == kind && other.get_xattr(ORIGIN).ok() == copy.get_xattr(ORIGIN).ok() => {
                    self.shared.discard(temporary, kind);
                    return Ok(other);
                }
                Some(_) => {}
            }
        }
        self.shared.discard(temporary, kind);
        Ok(copy)
    }

    /// Copies what is below to `name` in `work`.
    fn copy(&self, lower: &InodeRef<P>, attr: &Attr, name: Name<'_>, keep: u64) -> Result<InodeRef<P>> {
        let work = &self.shared.work;
        let new = NewNode { mode: attr.mode, uid: attr.uid, gid: attr.gid };
        let copy = match attr.kind {
            FileKind::Directory => work.mkdir(name, new)?,
            FileKind::Symlink => work.symlink(name, &lower.readlink(Asker::default())?, new)?,
            FileKind::Regular => work.create(name, Special::Regular, new)?,
            FileKind::Fifo => work.create(name, Special::Fifo, new)?,
            FileKind::Socket => work.create(name, Special::Socket, new)?,
            FileKind::CharDevice => work.create(name, Special::CharDevice(attr.device), new)?,
            FileKind::BlockDevice => work.create(name, Special::BlockDevice(attr.device), new)?,
        };
        let filled = self.fill(&copy, lower, attr, keep);
        filled.inspect_err(|_| self.shared.discard(name, attr.kind))?;
        Ok(copy)
    }

    fn fill(&self, copy: &InodeRef<P>, lower: &InodeRef<P>, attr: &Attr, keep: u64) -> Result<()> {
        if attr.kind == FileKind::Regular && keep > 0 {
            copy_content(copy, lower, attr.size.min(keep))?;
        }
        let names = lower.list_xattr()?;
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.starts_with(OWN)) {
            copy.set_xattr(name, &lower.get_xattr(name)?, SetHow::Any)?;
        }
        let mut origin = [0; 9];
        let (number, shown) = origin.split_at_mut(8);
        number.copy_from_slice(&self.number.to_le_bytes());
        // A name of several is a file of its own from now on.
        shown.fill(u8::from((attr.links <= 1 || self.is_dir()) && self.number & ABOVE == 0));
        copy.set_xattr(ORIGIN, &origin, SetHow::Any)?;
        copy.set_attr(&times(attr))
    }
}

/// Sets access and modification time to those of `attr`.
fn times(attr: &Attr) -> AttrChange {
    let (accessed, modified) = (Some(SetTime::At(attr.accessed)), Some(SetTime::At(attr.modified)));
    AttrChange { accessed, modified, ..AttrChange::default() }
}

/// Copies `size` bytes; long zeros become holes.
fn copy_content<P: Platform>(copy: &InodeRef<P>, lower: &InodeRef<P>, size: u64) -> Result<()> {
    let from = Arc::clone(lower).open(OFlags::READ)?;
    let to = Arc::clone(copy).open(OFlags::WRITE)?;
    let mut buffer = Vec::new();
    let len = usize::try_from(size).unwrap_or(CHUNK).min(CHUNK);
    buffer.try_reserve_exact(len).map_err(|_| errno!(NOMEM))?;
    buffer.resize(len, 0u8);
    let mut at = 0u64;
    while at < size {
        let want = usize::try_from(size.saturating_sub(at)).unwrap_or(CHUNK).min(buffer.len());
        let Some(part) = buffer.get_mut(..want) else { break };
        let got = from.read_at(at, &mut IoDst::kernel(part), CX)?;
        if got == 0 {
            break;
        }
        let mut offset = at;
        for piece in part.get(..got).unwrap_or_default().chunks(HOLE) {
            if piece.iter().any(|byte| *byte != 0) {
                let mut done = 0usize;
                while let Some(rest) = piece.get(done..).filter(|rest| !rest.is_empty()) {
                    let start = offset.saturating_add(u64::try_from(done).unwrap_or(0));
                    match to.write_at(start, &mut IoSrc::kernel(rest), CX)? {
                        0 => return Err(errno!(IO, "a copy takes no more")),
                        count => done = done.saturating_add(count),
                    }
                }
            }
            offset = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
        }
        at = offset;
    }
    to.truncate(at)
}
