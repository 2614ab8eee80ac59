//! Pipes, with and without a name.
//!
//! The bytes are in `ring`; what moves them without a guest's memory between is in `splice`.
//!
//! Invariants: a write of at most [`PIPE_BUF`] bytes goes in whole or not at all. Locks: `reads` is held around the copy to a guest
//! (rank "file offset"), so that what a fault kept from arriving stays in the pipe; `ring` never is. No lock is held in a wait.
//! Sources: pipe(7), fifo(7); Linux fs/pipe.c.

mod ring;
mod splice;

use super::dentry::Dentry;
use super::file::File;
use super::inode::{FileOps, Inode, IoCx, OpsRef};
use super::io::{BOUNCE, IoDst, IoSrc, with_bounce};
use super::poll::PollSource;
use super::types::{Attr, DeviceId, FileKind, InodeId, NewNode, OFlags, PAGE_SIZE, Ready, Timestamp};
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::{Mutex, WaitQueue};
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use ring::Ring;

/// Bytes that are written in one step. See pipe(7).
pub const PIPE_BUF: usize = 4096;
/// Bytes that a pipe holds unless it is told otherwise.
pub const CAPACITY: usize = PAGES * PAGE_SIZE;
/// Bytes that whoever is not privileged can have a pipe hold at first. Linux: /proc/sys/fs/pipe-max-size.
pub const CAPACITY_MAX: u64 = 1 << 20;
const PAGES: usize = 16;
/// Most bytes that a pipe can hold.
const BYTES_MAX: usize = 1 << 31;
/// What a pipe is charged beside its frames.
const PIPE_COST: u64 = 1536;

/// A pipe's two open ends: the one to read from, the one to write to.
pub type Ends<P> = (Arc<File<P>>, Arc<File<P>>);

/// One pipe.
pub struct Pipe<P: Platform> {
    quota: Arc<Quota>,
    ring: Mutex<P, Ring<P>>,
    reads: Mutex<P, ()>,
    /// Who waits for bytes, or for a writer.
    readable: PollSource<P>,
    /// Who waits for room, or for a reader.
    writable: PollSource<P>,
    _charge: Charge,
}

impl<P: Platform> fmt::Debug for Pipe<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}

impl<P: Platform> Pipe<P> {
    /// An empty pipe without ends.
    ///
    /// # Errors
    /// `NOMEM`: the quota is used up.
    pub(super) fn new(quota: &Arc<Quota>) -> Result<Arc<Self>> {
        Self::of_pages(quota, PAGES)
    }

    fn of_pages(quota: &Arc<Quota>, pages: usize) -> Result<Arc<Self>> {
        let charge = quota.charge(PIPE_COST)?;
        let ring = Ring::new(quota, pages)?;
        Ok(Arc::new(Self {
            quota: Arc::clone(quota),
            ring: Mutex::<P, _>::new(ring),
            reads: Mutex::<P, _>::new(()),
            readable: PollSource::default(),
            writable: PollSource::default(),
            _charge: charge,
        }))
    }

    /// Makes a pipe that holds no more than `most` bytes, a power of two of pages, and opens both ends: to read from, to write to.
    /// See pipe2(2).
    ///
    /// # Errors
    /// `NOMEM`: the quota is used up.
    pub fn pair(quota: &Arc<Quota>, id: InodeId, owner: NewNode, flags: OFlags, most: usize) -> Result<Ends<P>> {
        let pipe = Self::of_pages(quota, (most / PAGE_SIZE).clamp(1, PAGES))?;
        let created = P::realtime().into();
        let inode = Arc::new(PipeInode { pipe: Arc::clone(&pipe), id, owner, created });
        let place = Dentry::detached(inode, alloc::format!("pipe:[{}]", id.number).as_bytes());
        let status = flags & (OFlags::NONBLOCK | OFlags::DIRECT);
        let reader = End::new(&pipe, true, false);
        let writer = End::new(&pipe, false, true);
        let reader = File::new(Arc::clone(&place), reader, status | OFlags::READ);
        Ok((reader, File::new(place, writer, status | OFlags::WRITE)))
    }

    /// Opens an end of a named pipe; waits for the other end as fifo(7) says.
    ///
    /// # Errors
    /// `NXIO`: for writing, without waiting, and nobody reads. `Interrupted`.
    pub(super) fn open(pipe: &Arc<Self>, flags: OFlags) -> Result<OpsRef<P>> {
        let (read, write) = (flags.contains(OFlags::READ), flags.contains(OFlags::WRITE));
        let blocking = !flags.contains(OFlags::NONBLOCK);
        if write && !read && !blocking && pipe.ring.lock().readers == 0 {
            return Err(errno!(NXIO, "nobody reads from the pipe"));
        }
        let (reader_opens, writer_opens) = {
            let ring = pipe.ring.lock();
            (ring.reader_opens, ring.writer_opens)
        };
        let end = End::new(pipe, read, write);
        if blocking && read != write {
            let source = if read { &pipe.readable } else { &pipe.writable };
            source.queue.wait_until(None, || {
                let ring = pipe.ring.lock();
                let met = if read {
                    ring.writers > 0 || ring.writer_opens != writer_opens
                } else {
                    ring.readers > 0 || ring.reader_opens != reader_opens
                };
                met.then_some(())
            })?;
        }
        Ok(end)
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.lock().capacity()
    }

    /// Has it hold at least `bytes`: the next power of two of pages; returns what it holds then. See fcntl(2), `F_SETPIPE_SZ`.
    ///
    /// # Errors
    /// `INVAL`: above 2 GiB. `PERM`: more than it holds, and above `most`. `BUSY`: more is in it. `NOMEM`.
    pub fn set_capacity(&self, bytes: usize, most: usize) -> Result<usize> {
        if bytes > BYTES_MAX {
            return Err(errno!(INVAL, "no pipe holds so much"));
        }
        let pages = bytes.div_ceil(PAGE_SIZE).max(1).next_power_of_two();
        let _reads = self.reads.lock();
        let mut ring = self.ring.lock();
        if pages > ring.pages() && pages.saturating_mul(PAGE_SIZE) > most {
            return Err(errno!(PERM, "only root has larger pipes"));
        }
        if pages != ring.pages() {
            ring.resize(&self.quota, pages)?;
        }
        drop(ring);
        self.writable.wake(Ready::OUT);
        Ok(pages.saturating_mul(PAGE_SIZE))
    }

    fn read(&self, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        loop {
            let start = dst.done();
            let moved = self.drain(dst);
            if moved > 0 || dst.faulted() {
                return dst.outcome(start);
            }
            if self.readable.until(cx.blocking, None, || self.ring.lock().to_have().map(Ok))? == 0 {
                return Ok(0);
            }
        }
    }

    /// Moves what there is to `dst`; returns how much.
    fn drain(&self, dst: &mut IoDst<'_, P>) -> usize {
        let _reads = self.reads.lock();
        let mut moved = 0usize;
        while dst.remaining() > 0 && !dst.faulted() {
            let Some((frame, within, len)) = self.ring.lock().first() else { break };
            let put = dst.put_frame(&frame, within, len);
            self.consume(put);
            moved = moved.saturating_add(put);
            if put == 0 {
                break;
            }
        }
        moved
    }

    /// Takes the first `count` bytes away. Who blocks can use any room; who watches is told when there is as much as it can count on.
    fn consume(&self, count: usize) {
        if count == 0 {
            return;
        }
        let has_come = {
            let mut ring = self.ring.lock();
            let was_full = ring.room() < PIPE_BUF;
            ring.consume(count);
            was_full && ring.room() >= PIPE_BUF
        };
        self.writable.queue.wake_all();
        if has_come {
            self.writable.tell(Ready::OUT);
        }
    }

    /// Wakes everybody: an end came or went.
    fn wake_all(&self) {
        self.readable.wake_all();
        self.writable.wake_all();
    }

    fn write(&self, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        let whole = src.remaining() <= PIPE_BUF;
        if src.remaining() <= BOUNCE {
            return with_bounce(src.remaining(), |buffer| self.write_by(buffer, src, whole, cx));
        }
        let mut heap = Vec::new();
        heap.try_reserve_exact(PIPE_BUF).map_err(|_| errno!(NOMEM))?;
        heap.resize(PIPE_BUF, 0);
        self.write_by(&mut heap, src, whole, cx)
    }

    fn write_by(&self, buffer: &mut [u8], src: &mut IoSrc<'_, P>, whole: bool, cx: IoCx) -> Result<usize> {
        let mut written = 0usize;
        while src.remaining() > 0 {
            let taken = src.take(buffer);
            let mut rest = buffer.get(..taken).unwrap_or_default();
            if rest.is_empty() || (whole && src.faulted()) {
                break;
            }
            while !rest.is_empty() {
                match self.offer(rest, whole, cx) {
                    Ok(count) => {
                        written = written.saturating_add(count);
                        rest = rest.get(count..).unwrap_or_default();
                    }
                    Err(error) => return if written > 0 { Ok(written) } else { Err(error) },
                }
            }
        }
        if written == 0 && src.faulted() { Err(errno!(FAULT)) } else { Ok(written) }
    }

    /// Puts a first part of `bytes`, or all if `whole`; waits for room if it may.
    fn offer(&self, bytes: &[u8], whole: bool, cx: IoCx) -> Result<usize> {
        let least = if whole { bytes.len() } else { 1 };
        let attempt = || {
            let mut ring = self.ring.lock();
            let room = match ring.to_fill()? {
                Ok(room) if room < least => return None,
                Ok(room) => room,
                Err(error) => return Some(Err(error)),
            };
            let part = bytes.get(..room).unwrap_or(bytes);
            Some(ring.push(&self.quota, part).map(|()| part.len()))
        };
        let outcome = self.writable.until(cx.blocking, None, attempt);
        if outcome.is_ok() {
            self.readable.wake(Ready::IN);
        }
        outcome
    }
}

/// One open end, or both, of a pipe; counted among its readers and writers while it lives.
struct End<P: Platform> {
    pipe: Arc<Pipe<P>>,
    reads: bool,
    writes: bool,
}

impl<P: Platform> fmt::Debug for End<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("reads", &self.reads).field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl<P: Platform> End<P> {
    fn new(pipe: &Arc<Pipe<P>>, reads: bool, writes: bool) -> Arc<Self> {
        let mut ring = pipe.ring.lock();
        if reads {
            ring.readers = ring.readers.saturating_add(1);
            ring.reader_opens = ring.reader_opens.wrapping_add(1);
        }
        if writes {
            ring.writers = ring.writers.saturating_add(1);
            ring.writer_opens = ring.writer_opens.wrapping_add(1);
        }
        drop(ring);
        pipe.wake_all();
        Arc::new(Self { pipe: Arc::clone(pipe), reads, writes })
    }
}

impl<P: Platform> Drop for End<P> {
    fn drop(&mut self) {
        let mut ring = self.pipe.ring.lock();
        ring.readers = ring.readers.saturating_sub(u32::from(self.reads));
        ring.writers = ring.writers.saturating_sub(u32::from(self.writes));
        if ring.readers == 0 && ring.writers == 0 {
            let len = ring.len();
            ring.consume(len);
        }
        drop(ring);
        self.pipe.wake_all();
    }
}

impl<P: Platform> FileOps<P> for End<P> {
    fn read_at(&self, _offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        self.pipe.read(dst, cx)
    }

    fn write_at(&self, _offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        self.pipe.write(src, cx)
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            if self.reads {
                self.pipe.readable.watch(watcher);
            }
            if self.writes {
                self.pipe.writable.watch(watcher);
            }
        }
        let ring = self.pipe.ring.lock();
        let mut ready = Ready::empty();
        if self.reads {
            ready.set(Ready::IN, ring.len() > 0);
            ready.set(Ready::HUP, ring.writers == 0);
        }
        if self.writes {
            ready.set(Ready::OUT, ring.room() >= PIPE_BUF);
            ready.set(Ready::ERR, ring.readers == 0);
        }
        ready
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }

    fn readable_bytes(&self) -> Result<u64> {
        Ok(u64::try_from(self.pipe.ring.lock().len()).unwrap_or(0))
    }
}

/// The inode of a pipe without a name.
struct PipeInode<P: Platform> {
    pipe: Arc<Pipe<P>>,
    id: InodeId,
    owner: NewNode,
    created: Timestamp,
}

impl<P: Platform> fmt::Debug for PipeInode<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeInode").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<P: Platform> Inode<P> for PipeInode<P> {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        FileKind::Fifo
    }

    fn attr(&self) -> Result<Attr> {
        Ok(Attr {
            id: self.id,
            kind: FileKind::Fifo,
            mode: self.owner.mode,
            links: 1,
            uid: self.owner.uid,
            gid: self.owner.gid,
            device: DeviceId::default(),
            size: 0,
            blocks: 0,
            block_size: 4096,
            accessed: self.created,
            modified: self.created,
            changed: self.created,
        })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    /// By /proc/PID/fd. Unlike a named pipe's, the other end may have gone for good, so nobody is waited for.
    fn open(self: Arc<Self>, flags: OFlags) -> Result<OpsRef<P>> {
        Ok(End::new(&self.pipe, flags.contains(OFlags::READ), flags.contains(OFlags::WRITE)))
    }
}
