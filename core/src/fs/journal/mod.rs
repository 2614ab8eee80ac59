//! A file system in memory that outlives its sandbox: what happens in it is written down, in a directory of the host.
//!
//! It is a [`super::memory`] whose changes of names and attributes become records at once, in order, and whose data become records when
//! somebody wants something kept: fsync(2) of any file keeps all that was done until then, and ends with a record that says so. What is
//! found later ends with the last of those: it is the state of one moment, that of the last fsync(2). The end of the sandbox is one, too.
//! Invariants: a record is added
//! under the lock under which the change is made; a file's number in the journal is an attribute of it, `NUMBER`, which nobody else
//! sees. Locks: `log`, rank "directory entries", before those of the file system in memory, and held while the host writes; `files`, a
//! leaf. Hostile input: the journal, which is replayed like calls of a guest. The directory is one
//! sandbox's at a time, which [`Journals`] is for. Tests: tests/hosted/tests/journal/.

mod file;
mod log;
mod node;
mod record;
mod replay;

use super::host::HostDir;
use super::inode::{InodeRef, OpsRef};
use super::memory::{Limits, MemoryFs};
use super::types::{Attr, DeviceId, FileKind, Gid, InodeId, Mode, NewNode, OFlags, PAGE_SIZE, PAGE_SIZE_U64, Timestamp, Uid};
use super::xattr::SetHow;
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use log::Log;
use node::Node;
use record::Record;

/// The attribute with a file's number.
const NUMBER: &[u8] = b"trusted.litebox.number";
/// A journal is written anew when it is longer than this, and than twice what lives.
const LONG: u64 = 4 << 20;

/// What is not yet kept of a file.
struct Unkept<P: Platform> {
    inode: InodeRef<P>,
    /// Pages with data that no record has.
    pages: BTreeSet<u64>,
    /// Pages that mappings may write to.
    mapped: BTreeSet<u64>,
}

/// The journals in use on a host: one sandbox has one at a time.
pub struct Journals<P: Platform> {
    open: Mutex<P, Vec<InodeId>>,
}

impl<P: Platform> fmt::Debug for Journals<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journals").finish_non_exhaustive()
    }
}

impl<P: Platform> Default for Journals<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Journals<P> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { open: Mutex::<P, _>::const_new(<P::RawMutex as lock_api::RawMutex>::INIT, Vec::new()) }
    }

    /// Takes the journal in `dir` for one sandbox.
    ///
    /// # Errors
    /// `BUSY`: another one has it, or is about to end and keeps it. `NOMEM`. Those of the host.
    pub fn claim(&'static self, dir: &dyn HostDir<P>) -> Result<Claim<P>> {
        let id = dir.attr()?.id;
        let mut open = self.open.lock();
        if open.contains(&id) {
            return Err(errno!(BUSY, "another sandbox has this upper layer"));
        }
        open.try_reserve(1).map_err(|_| errno!(NOMEM))?;
        open.push(id);
        Ok(Claim { journals: self, id })
    }
}

/// A journal that is one sandbox's, until this is dropped.
#[derive(Debug)]
pub struct Claim<P: Platform> {
    journals: &'static Journals<P>,
    id: InodeId,
}

impl<P: Platform> Drop for Claim<P> {
    fn drop(&mut self) {
        self.journals.open.lock().retain(|id| *id != self.id);
    }
}

/// The file system.
struct Journal<P: Platform> {
    log: Mutex<P, Log<P>>,
    files: Mutex<P, BTreeMap<u64, Unkept<P>>>,
    next_number: AtomicU64,
    _charge: Charge,
    /// Given up after all was kept.
    _claim: Option<Claim<P>>,
}

/// The root of a file system in memory, shown as `device`, with what its journal in `dir` says. What it holds is charged to `quota`, at
/// most `bytes` of it. `claim` is held until the last of it was kept.
///
/// # Errors
/// `INVAL`, `OPNOTSUPP`, `UCLEAN`: what is in `dir` is no journal of this version, or damaged. `NOMEM`, `NOSPC`. Those of the host.
pub fn root<P: Platform>(
    device: DeviceId,
    quota: &Arc<Quota>,
    dir: &dyn HostDir<P>,
    bytes: Option<u64>,
    claim: Option<Claim<P>>,
) -> Result<InodeRef<P>> {
    let charge = quota.charge(log::MEMORY)?;
    let used = Quota::within(quota, u64::MAX);
    let new = NewNode { mode: Mode::RWXU, uid: Uid(0), gid: Gid(0) };
    let memory = MemoryFs::limited(device, &used, new, Limits { bytes, files: None })?;
    let mut replayed = replay::Replay::new(&memory);
    let mut log = Log::open(dir, |record| replayed.apply(&record))?;
    let next = replayed.next_number();
    drop(replayed);
    if log.len() > LONG.max(used.used().saturating_mul(2)) {
        log.switch()?;
        replay::write_anew(&mut log, &memory)?;
        log.finish()?;
    }
    let journal = Journal {
        log: Mutex::<P, _>::new(log),
        files: Mutex::<P, _>::new(BTreeMap::new()),
        next_number: AtomicU64::new(next),
        _charge: charge,
        _claim: claim,
    };
    Ok(Node::of(&Arc::new(journal), memory)?)
}

/// The number of a file of the file system in memory; the root has none, and is 0.
fn number<P: Platform>(inode: &InodeRef<P>) -> u64 {
    let value = inode.get_xattr(NUMBER).unwrap_or_default();
    value.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

fn set_number<P: Platform>(inode: &InodeRef<P>, number: u64) -> Result<()> {
    inode.set_xattr(NUMBER, &number.to_le_bytes(), SetHow::Any)
}

fn now<P: Platform>() -> Timestamp {
    P::realtime().into()
}

fn attributes(id: u64, attr: &Attr) -> Record<'static> {
    let Attr { mode, uid, gid, accessed, modified, .. } = *attr;
    Record::Attributes { id, mode: mode.bits(), owner: [uid.0, gid.0], accessed, modified }
}

/// Adds the record that makes `inode` under `name` of `dir`.
fn put_make<P: Platform>(log: &mut Log<P>, dir: u64, name: &[u8], id: u64, inode: &InodeRef<P>) -> Result<()> {
    let attr = inode.attr()?;
    let target = if attr.kind == FileKind::Symlink { inode.readlink(Default::default())? } else { Default::default() };
    let DeviceId { major, minor } = attr.device;
    log.push(&Record::Make {
        dir,
        name,
        id,
        kind: attr.kind.number(),
        mode: attr.mode.bits(),
        owner: [attr.uid.0, attr.gid.0],
        device: [major, minor],
        target: &target,
        time: attr.modified,
    });
    Ok(())
}

/// Adds the content of `pages` of a file, its length and its times.
fn put_content<P: Platform>(log: &mut Log<P>, id: u64, inode: &InodeRef<P>, pages: impl Iterator<Item = u64>) -> Result<()> {
    let ops: OpsRef<P> = Arc::clone(inode).open(OFlags::READ)?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(PAGE_SIZE).map_err(|_| errno!(NOMEM))?;
    buffer.resize(PAGE_SIZE, 0);
    for page in pages {
        let offset = page.saturating_mul(PAGE_SIZE_U64);
        let count = ops.read_at(offset, &mut super::io::IoDst::kernel(&mut buffer), node::AT_ONCE)?;
        log.room()?;
        log.push(&Record::Data { id, offset, bytes: buffer.get(..count).unwrap_or_default() });
    }
    let attr = inode.attr()?;
    log.room()?;
    log.push(&Record::Size { id, size: attr.size });
    log.push(&attributes(id, &attr));
    Ok(())
}

impl<P: Platform> Journal<P> {
    /// Makes a change and adds what `record` says of it, in one step against all others.
    fn change<T>(&self, act: impl FnOnce() -> Result<T>, record: impl FnOnce(&mut Log<P>, &T) -> Result<()>) -> Result<T> {
        let mut log = self.log.lock();
        log.room()?;
        let done = act()?;
        record(&mut log, &done)?;
        Ok(done)
    }

    fn new_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets `note` say what of a file is not kept.
    fn note(&self, id: u64, inode: &InodeRef<P>, note: impl FnOnce(&mut Unkept<P>)) {
        let mut files = self.files.lock();
        let new = || Unkept { inode: Arc::clone(inode), pages: BTreeSet::new(), mapped: BTreeSet::new() };
        note(files.entry(id).or_insert_with(new));
    }

    /// Notes that `len` bytes from `offset` on are others.
    fn note_data(&self, id: u64, inode: &InodeRef<P>, offset: u64, len: u64) {
        let Some(last) = offset.checked_add(len).and_then(|end| end.checked_sub(1)).filter(|_| len > 0) else { return };
        self.note(id, inode, |file| file.pages.extend(offset / PAGE_SIZE_U64..=last / PAGE_SIZE_U64));
    }

    /// Whether it is noted that mappings may write to a page of a file.
    fn is_mapped(&self, id: u64, page: u64) -> bool {
        self.files.lock().get(&id).is_some_and(|file| file.mapped.contains(&page))
    }

    /// Notes that mappings have written to what they could, once `hide` has taken it away from them.
    fn note_mapped(&self, id: u64, hide: &mut dyn FnMut()) {
        let take = |file: &mut Unkept<P>| (core::mem::take(&mut file.mapped), Arc::clone(&file.inode));
        let taken = self.files.lock().get_mut(&id).map(take);
        if let Some((mapped, inode)) = taken.filter(|(mapped, _)| !mapped.is_empty()) {
            hide();
            self.note(id, &inode, |file| file.pages.extend(mapped));
        }
    }

    /// Keeps all that was done until now.
    fn keep(&self) -> Result<()> {
        let mut log = self.log.lock();
        let mut left = self.take_unkept();
        while let Some((id, file)) = left.pop_first() {
            let is_gone = file.inode.attr().is_ok_and(|attr| attr.links == 0);
            let put = if is_gone { Ok(()) } else { put_content(&mut log, id, &file.inode, file.pages.iter().copied()) };
            if let Err(error) = put {
                left.insert(id, file);
                self.give_back(left);
                return Err(error);
            }
        }
        log.commit()
    }

    /// Takes what must become records; what mappings may write to stays.
    fn take_unkept(&self) -> BTreeMap<u64, Unkept<P>> {
        let mut files = self.files.lock();
        let mut taken = BTreeMap::new();
        files.retain(|id, file| {
            if !file.pages.is_empty() {
                let (pages, inode) = (core::mem::take(&mut file.pages), Arc::clone(&file.inode));
                taken.insert(*id, Unkept { inode, pages, mapped: BTreeSet::new() });
            }
            !file.mapped.is_empty()
        });
        taken
    }

    fn give_back(&self, left: BTreeMap<u64, Unkept<P>>) {
        for (id, mut file) in left {
            let inode = Arc::clone(&file.inode);
            self.note(id, &inode, |noted| noted.pages.append(&mut file.pages));
        }
    }
}

impl<P: Platform> Drop for Journal<P> {
    fn drop(&mut self) {
        // What cannot be kept now is as after a power cut; nobody is left to be told.
        let _ = self.keep();
    }
}
