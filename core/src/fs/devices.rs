//! Devices of bytes: null, zero, full, random, and the streams that the launcher handed in.
//!
//! Invariants: each has no state but a host stream's, which the host keeps. No locks here.
//! Sources: null(4), full(4), random(4); Linux drivers/char/mem.c.

use super::dentry::Dentry;
use super::file::File;
use super::host::HostFile;
use super::hostdir::{append_host, read_host, write_host};
use super::inode::{Apply, FileOps, Inode, InodeRef, IoCx, OpsRef, Terminal, WindowSize};
use super::io::{IoDst, IoSrc, with_bounce};
use super::pseudo::made_up_attr;
use super::types::{Attr, DeviceId, FileKind, InodeId, Mode, OFlags, Ready, SeekFrom, Timestamp};
use crate::platform::Platform;
use crate::sync::WaitQueue;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Takes everything, gives nothing.
    Null,
    /// Takes everything, gives zeros.
    Zero,
    /// Takes nothing for want of space, gives zeros.
    Full,
    /// Gives random bytes; the same as `Urandom`, as on Linux once it is seeded.
    Random,
    /// Gives random bytes.
    Urandom,
}

impl Device {
    /// All of them, with their names in /dev.
    pub const ALL: [(&'static str, Self); 5] =
        [("null", Self::Null), ("zero", Self::Zero), ("full", Self::Full), ("random", Self::Random), ("urandom", Self::Urandom)];

    /// Its inode. `device` is the number that programs know it by.
    #[must_use]
    pub fn inode<P: Platform>(self, id: InodeId, device: DeviceId) -> InodeRef<P> {
        Arc::new(DeviceInode { id, device, which: self, time: P::realtime().into() })
    }
}

#[derive(Debug)]
struct DeviceInode {
    id: InodeId,
    device: DeviceId,
    which: Device,
    time: Timestamp,
}

impl<P: Platform> Inode<P> for DeviceInode {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn attr(&self) -> Result<Attr> {
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
        Ok(Attr { device: self.device, ..made_up_attr(self.id, FileKind::CharDevice, mode, self.time) })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Ok(Arc::new(self.which))
    }
}

impl<P: Platform> FileOps<P> for Device {
    fn maps_zeros(&self) -> bool {
        matches!(self, Self::Zero)
    }

    fn read_at(&self, _offset: u64, dst: &mut IoDst<'_, P>, _cx: IoCx) -> Result<usize> {
        let start = dst.done();
        match self {
            Self::Null => return Ok(0),
            Self::Zero | Self::Full => {
                dst.put_zeros(dst.remaining());
            }
            Self::Random | Self::Urandom => {
                with_bounce(dst.remaining(), |buffer| {
                    while dst.remaining() > 0 && !dst.faulted() {
                        let len = dst.remaining().min(buffer.len());
                        let Some(part) = buffer.get_mut(..len) else { break };
                        P::fill_random(part);
                        dst.put(part);
                    }
                });
            }
        }
        dst.outcome(start)
    }

    fn write_at(&self, _offset: u64, src: &mut IoSrc<'_, P>, _cx: IoCx) -> Result<usize> {
        match self {
            Self::Full if src.remaining() > 0 => Err(errno!(NOSPC)),
            _ => Ok(src.skip(src.remaining())),
        }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }
}

/// A stream or file that the launcher handed in: standard input, output and error.
pub struct HostStream<P: Platform> {
    file: Arc<dyn HostFile<P>>,
    id: InodeId,
}

impl<P: Platform> fmt::Debug for HostStream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostStream").field("id", &self.id).field("file", &self.file).finish()
    }
}

impl<P: Platform> HostStream<P> {
    /// `file` as an open file of the sandbox. `label` is what /proc/self/fd shows.
    ///
    /// A host file with offsets starts where the host's own description stands.
    #[must_use]
    pub fn open(file: Arc<dyn HostFile<P>>, id: InodeId, label: &[u8], flags: OFlags) -> Arc<File<P>> {
        let inode = Arc::new(Self { file: Arc::clone(&file), id });
        let position = file.position();
        let open = File::new(Dentry::detached(inode, label), Arc::new(StreamOps { file }), flags);
        // Nothing but a stream refuses, and that has no place to be at.
        let _ = open.seek(SeekFrom::Start(position));
        open
    }
}

impl<P: Platform> Inode<P> for HostStream<P> {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        // The kind of a host's object does not change; what cannot say its own is treated as a stream.
        self.file.attr().map_or(FileKind::Fifo, |attr| attr.kind)
    }

    fn attr(&self) -> Result<Attr> {
        Ok(Attr { id: self.id, ..self.file.attr()? })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn set_attr(&self, _change: &super::types::AttrChange) -> Result<()> {
        Err(errno!(PERM, "the host's file is not the sandbox's to change"))
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Ok(Arc::new(StreamOps { file: Arc::clone(&self.file) }))
    }
}

struct StreamOps<P: Platform> {
    file: Arc<dyn HostFile<P>>,
}

impl<P: Platform> fmt::Debug for StreamOps<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamOps").field("file", &self.file).finish()
    }
}

impl<P: Platform> FileOps<P> for StreamOps<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        let start = dst.done();
        if dst.remaining() == 0 {
            return Ok(0);
        }
        // One host read: a stream gives what it has, and a second read could wait.
        read_host(&*self.file, offset, dst, cx)?;
        dst.outcome(start)
    }

    fn write_at(&self, offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        write_host(&*self.file, offset, src, cx)
    }

    fn append(&self, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<(usize, u64)> {
        append_host(&*self.file, src, cx)
    }

    fn seekable(&self) -> bool {
        self.file.seekable()
    }

    fn size(&self) -> Result<u64> {
        Ok(self.file.attr()?.size)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.file.truncate(size)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        self.file.poll(watcher)
    }

    fn pollable(&self) -> bool {
        !self.file.seekable()
    }

    fn terminal(&self) -> Result<Terminal> {
        self.file.terminal()
    }

    fn set_terminal(&self, settings: &Terminal, apply: Apply) -> Result<()> {
        self.file.set_terminal(settings, apply)
    }

    fn window_size(&self) -> Result<WindowSize> {
        self.file.window_size()
    }

    fn page(&self, index: u64, for_write: bool) -> Result<P::Frame> {
        if for_write {
            return Err(errno!(ACCESS, "the host's file is not mapped for writing"));
        }
        self.file.page(index)
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.file.resident(index)
    }

    fn mapped_size(&self) -> Result<u64> {
        self.file.length_at_hand()
    }

    fn mappable(&self) -> bool {
        self.file.seekable()
    }
}
