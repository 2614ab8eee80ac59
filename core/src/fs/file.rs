//! Open file descriptions: an open file, its offset and its flags. See open(2), "Open file descriptions".
//!
//! Invariants: access is fixed at opening; the offset moves by exactly what was transferred. Locks: `offset` is held during a
//! transfer of a seekable file, so that two readers of one description never get the same bytes; it is a rank that may be held
//! around a guest copy. A stream has no offset and takes no lock here.

use super::dentry::Dentry;
use super::inode::{Blocking, DirSink, FileOps, IoCx, OpsRef};
use super::io::{IoDst, IoSrc};
use super::locks::FileLocks;
use super::notify::Happened;
use super::types::{AttrChange, Credentials, FileKind, OFFSET_MAX, OFlags, Ready, SeekFrom};
use super::uses::Uses;
use crate::platform::Platform;
use crate::sync::{Mutex, WaitQueue};
use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

/// One open file description.
pub struct File<P: Platform> {
    place: Arc<Dentry<P>>,
    ops: OpsRef<P>,
    seekable: bool,
    has_jobs: bool,
    /// Whether it is counted among those that write to the file.
    writes: bool,
    flags: AtomicU32,
    /// Set when it was locked; its end gives that up.
    locks: Mutex<P, Option<Arc<FileLocks<P>>>>,
    offset: Mutex<P, u64>,
}

impl<P: Platform> fmt::Debug for File<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("place", &self.place).field("flags", &self.flags()).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for File<P> {
    fn drop(&mut self) {
        let owner = core::ptr::from_ref(self).addr();
        if let Some(locks) = self.locks.get_mut().take() {
            locks.release(self.place.inode().id(), owner);
        }
        if !self.flags().contains(OFlags::PATH) {
            let wrote = self.flags().contains(OFlags::WRITE);
            if let Some(uses) = self.place.inode().uses().filter(|_| self.writes) {
                uses.end_write();
            }
            self.tell(if wrote { Happened::CLOSE_WRITE } else { Happened::CLOSE_NOWRITE });
        }
    }
}

/// What a handle on a place only can do: nothing.
#[derive(Debug)]
struct PathOnly;

impl<P: Platform> FileOps<P> for PathOnly {}

impl<P: Platform> File<P> {
    /// Opens what is at `place` for `who`, past permissions. See open(2).
    ///
    /// # Errors
    /// `TXTBSY`: for writing, and it runs. Those of the file system.
    pub fn opened(place: Arc<Dentry<P>>, flags: OFlags, who: &Credentials) -> Result<Arc<Self>> {
        let writes = flags.contains(OFlags::WRITE);
        let uses = place.inode().uses().filter(|_| writes);
        uses.map_or(Ok(()), Uses::begin_write)?;
        match Arc::clone(place.inode()).open_as(flags, who) {
            Ok(ops) => {
                let mut file = Self::fresh(place, ops, flags);
                file.writes = writes;
                Ok(Arc::new(file))
            }
            Err(error) => {
                uses.inspect(|uses| uses.end_write());
                Err(error)
            }
        }
    }

    /// A description of `ops`, found at `place`. It is not counted among those that write to the file: a new file in memory can be
    /// run while it is open.
    #[must_use]
    pub fn new(place: Arc<Dentry<P>>, ops: OpsRef<P>, flags: OFlags) -> Arc<Self> {
        Arc::new(Self::fresh(place, ops, flags))
    }

    fn fresh(place: Arc<Dentry<P>>, ops: OpsRef<P>, flags: OFlags) -> Self {
        let kept = flags.difference(OFlags::CREATION).bits();
        if let Some(watches) = place.mount().watches().filter(|_| !flags.contains(OFlags::PATH)) {
            watches.happened(&place, Happened::OPEN);
        }
        let (seekable, has_jobs) = (ops.seekable(), ops.has_jobs());
        let (locks, offset) = (Mutex::<P, _>::new(None), Mutex::<P, _>::new(0));
        Self { place, ops, seekable, has_jobs, writes: false, flags: AtomicU32::new(kept), locks, offset }
    }

    /// A handle on `place` only (`O_PATH`).
    #[must_use]
    pub fn path_only(place: Arc<Dentry<P>>, flags: OFlags) -> Arc<Self> {
        let kept = flags & (OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC);
        Self::new(place, Arc::new(PathOnly), kept | OFlags::PATH)
    }

    /// Who it is among the owners of locks, which it gives up when it is closed for the last time.
    pub fn lock_owner(&self, locks: &Arc<FileLocks<P>>) -> usize {
        self.locks.lock().get_or_insert_with(|| Arc::clone(locks));
        core::ptr::from_ref(self).addr()
    }

    /// Where it was found.
    #[must_use]
    pub fn place(&self) -> &Arc<Dentry<P>> {
        &self.place
    }

    /// What it does, past access checks.
    #[must_use]
    pub fn ops(&self) -> &OpsRef<P> {
        &self.ops
    }

    /// Whether it is a terminal that stops who uses it in the background.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        self.has_jobs
    }

    /// Access and status flags.
    #[must_use]
    pub fn flags(&self) -> OFlags {
        OFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Changes the status flags that can be changed. See fcntl(2), `F_SETFL`.
    pub fn set_status(&self, status: OFlags) {
        let status = status & OFlags::SETTABLE;
        // The closure always gives a value, so the update cannot fail.
        let _ = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |flags| {
            let kept = OFlags::from_bits_retain(flags).difference(OFlags::SETTABLE);
            Some((kept | status).bits())
        });
    }

    /// Tells who watches it.
    fn tell(&self, what: Happened) {
        if let Some(watches) = self.place.mount().watches() {
            watches.happened(&self.place, what);
        }
    }

    /// `done`, of which who watches is told if there is something to tell.
    fn told(&self, done: Result<usize>, what: Happened) -> Result<usize> {
        if matches!(done, Ok(1..)) {
            self.tell(what);
        }
        done
    }

    fn cx(&self) -> IoCx {
        let blocking = if self.flags().contains(OFlags::NONBLOCK) { Blocking::No } else { Blocking::Yes };
        IoCx { blocking, strips: self.flags().contains(OFlags::STRIPS) }
    }

    fn readable(&self) -> Result<()> {
        if !self.flags().contains(OFlags::READ) {
            return Err(errno!(BADF, "not open for reading"));
        }
        if self.place.is_dir() { Err(errno!(ISDIR)) } else { Ok(()) }
    }

    fn writable(&self) -> Result<()> {
        if self.flags().contains(OFlags::WRITE) { Ok(()) } else { Err(errno!(BADF, "not open for writing")) }
    }

    /// Reads from the current offset into `dst` and advances the offset by what was copied; 0 is the end.
    ///
    /// # Errors
    /// `BADF`: opened without read access. `ISDIR`. `FAULT`: nothing could be copied. `AGAIN`: it would block and may not.
    pub fn read(&self, dst: &mut IoDst<'_, P>) -> Result<usize> {
        let done = self.read_next(dst);
        self.told(done, Happened::ACCESS)
    }

    fn read_next(&self, dst: &mut IoDst<'_, P>) -> Result<usize> {
        self.readable()?;
        if !self.seekable {
            return self.ops.read_at(0, dst, self.cx());
        }
        let mut offset = self.offset.lock();
        let count = self.ops.read_at(*offset, dst, self.cx())?;
        *offset = advanced(*offset, count);
        Ok(count)
    }

    /// Writes from `src` at the current offset, or at the end if appending, and advances the offset.
    ///
    /// # Errors
    /// `BADF`: opened without write access. `FAULT`, `AGAIN`, `NOSPC`, `NOMEM`, `FBIG`, `PIPE`.
    pub fn write(&self, src: &mut IoSrc<'_, P>) -> Result<usize> {
        let done = self.write_next(src);
        self.told(done, Happened::MODIFY)
    }

    fn write_next(&self, src: &mut IoSrc<'_, P>) -> Result<usize> {
        self.writable()?;
        if !self.seekable {
            return self.ops.write_at(0, src, self.cx());
        }
        let mut offset = self.offset.lock();
        self.limit(*offset, src)?;
        if self.flags().contains(OFlags::APPEND) {
            let (count, end) = self.ops.append(src, self.cx())?;
            *offset = end;
            return Ok(count);
        }
        let count = self.ops.write_at(*offset, src, self.cx())?;
        *offset = advanced(*offset, count);
        Ok(count)
    }

    /// Reads from `offset` and leaves the current one. See pread(2).
    ///
    /// # Errors
    /// Those of [`File::read`]; `SPIPE`: it has no offsets.
    pub fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>) -> Result<usize> {
        self.has_offsets(offset)?;
        self.readable()?;
        let done = self.ops.read_at(offset, dst, self.cx());
        self.told(done, Happened::ACCESS)
    }

    /// Writes at `offset`, or as Linux does at the end if appending, and leaves the current one. See pwrite(2).
    ///
    /// # Errors
    /// Those of [`File::write`]; `SPIPE`: it has no offsets.
    pub fn write_at(&self, offset: u64, src: &mut IoSrc<'_, P>) -> Result<usize> {
        self.has_offsets(offset)?;
        self.writable()?;
        self.limit(offset, src)?;
        let done = if self.flags().contains(OFlags::APPEND) {
            self.ops.append(src, self.cx()).map(|(count, _)| count)
        } else {
            self.ops.write_at(offset, src, self.cx())
        };
        self.told(done, Happened::MODIFY)
    }

    /// Leaves out of `src` what is past its writer's limit. Linux: `generic_write_checks`.
    fn limit(&self, offset: u64, src: &mut IoSrc<'_, P>) -> Result<()> {
        if src.limit() == u64::MAX || src.remaining() == 0 || self.place.inode().kind() != FileKind::Regular {
            return Ok(());
        }
        let offset = if self.flags().contains(OFlags::APPEND) { self.ops.size()? } else { offset };
        match src.limit().saturating_sub(offset) {
            0 => Err(errno!(FBIG, "past the writer's limit")),
            room => {
                src.shorten(room);
                Ok(())
            }
        }
    }

    fn has_offsets(&self, offset: u64) -> Result<()> {
        if self.flags().contains(OFlags::PATH) {
            return Err(errno!(BADF, "a handle on a place only"));
        }
        if !self.seekable && !self.place.is_dir() {
            return Err(errno!(SPIPE));
        }
        if offset > OFFSET_MAX { Err(errno!(INVAL, "a negative offset")) } else { Ok(()) }
    }

    /// Sets the current offset and returns it. See lseek(2).
    ///
    /// # Errors
    /// `SPIPE`: it has none. `INVAL`: the result is negative. `OVERFLOW`: too large. `NXIO`: no data or hole from there on.
    pub fn seek(&self, to: SeekFrom) -> Result<u64> {
        let is_dir = self.place.is_dir();
        if self.flags().contains(OFlags::PATH) {
            return Err(errno!(BADF, "a handle on a place only"));
        }
        if !self.seekable && !is_dir {
            return Err(errno!(SPIPE));
        }
        let mut offset = self.offset.lock();
        let base = |base: u64, by: i64| {
            let sum = base.checked_add_signed(by).ok_or(errno!(INVAL, "before the start"))?;
            if sum > OFFSET_MAX { Err(errno!(OVERFLOW)) } else { Ok(sum) }
        };
        let target = match to {
            SeekFrom::Start(start) if start > OFFSET_MAX => return Err(errno!(INVAL, "a negative offset")),
            SeekFrom::Start(start) => start,
            SeekFrom::Current(by) => base(*offset, by)?,
            SeekFrom::End(by) if is_dir => base(0, by)?,
            SeekFrom::End(by) => base(self.ops.size()?, by)?,
            SeekFrom::Data(_) | SeekFrom::Hole(_) if is_dir => return Err(errno!(INVAL)),
            SeekFrom::Data(from) => self.ops.seek_data(from, false)?,
            SeekFrom::Hole(from) => self.ops.seek_data(from, true)?,
        };
        *offset = target;
        Ok(target)
    }

    /// Gives directory entries from the current offset to `sink`. See getdents(2).
    ///
    /// `sink` fills a kernel buffer; the directory's own locks are not held around it, the offset is.
    ///
    /// # Errors
    /// `NOTDIR`; `BADF`: opened without read access; `NOENT`: the directory was removed.
    pub fn read_dir(&self, sink: &mut DirSink<'_>) -> Result<()> {
        if !self.flags().contains(OFlags::READ) {
            return Err(errno!(BADF, "not open for reading"));
        }
        if !self.place.is_dir() {
            return Err(errno!(NOTDIR));
        }
        if self.place.is_deleted() {
            return Err(errno!(NOENT, "the directory was removed"));
        }
        let mut offset = self.offset.lock();
        *offset = self.place.inode().read_dir(*offset, sink)?;
        Ok(())
    }

    /// Cuts or extends it. See ftruncate(2).
    ///
    /// # Errors
    /// `INVAL`: not open for writing, no regular file, or too large. `FBIG`.
    pub fn truncate(&self, size: u64) -> Result<()> {
        if self.flags().contains(OFlags::PATH) {
            return Err(errno!(BADF, "a handle on a place only"));
        }
        if !self.flags().contains(OFlags::WRITE) || self.place.inode().kind() != FileKind::Regular || size > OFFSET_MAX {
            return Err(errno!(INVAL, "not a regular file open for writing, or a bad length"));
        }
        self.ops.truncate(size)?;
        if self.flags().contains(OFlags::STRIPS) {
            let inode = self.place.inode();
            let mode = inode.attr()?.mode;
            let left = mode.without_set_ids();
            if left != mode {
                inode.set_attr(&AttrChange { mode: Some(left), ..AttrChange::default() })?;
            }
        }
        self.tell(Happened::MODIFY);
        Ok(())
    }

    /// What it is ready for; see [`FileOps::poll`].
    pub fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        self.ops.poll(watcher)
    }
}

/// `offset` after `count` more bytes.
#[inline]
fn advanced(offset: u64, count: usize) -> u64 {
    offset.saturating_add(u64::try_from(count).unwrap_or(0)).min(OFFSET_MAX)
}
