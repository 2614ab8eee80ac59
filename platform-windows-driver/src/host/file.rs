//! Open files of Windows's: what a launcher gave, or what was opened under a directory that it gave.
//!
//! Bytes go through buffers of the library OS. A handle's rights are looked at here, as the kernel does not check its own calls.
//! A transfer that waits (a console, a pipe) is not interruptible yet: see docs/windows.md. IRQL: `PASSIVE_LEVEL`.

use super::WindowsKernel;
use crate::mm::frame::Frame;
use crate::nt::file::{APPEND, Basic, IS_DIRECTORY, READ, WRITE};
use crate::nt::{Handle, Status};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::host::HostFile;
use litebox_core::fs::hostdir::page_by_reading;
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::pseudo::made_up_attr;
use litebox_core::fs::types::{Attr, DeviceId, FileKind, InodeId, Mode, OFlags, Timestamp};
use litebox_core::sync::Mutex;

/// Kinds of devices: `FILE_DEVICE_…` of wdm.h.
const DISKS: [u32; 3] = [0x07, 0x08, 0x14];
const PIPE: u32 = 0x11;

/// A file.
#[derive(Debug)]
pub(super) struct NtFile {
    handle: Handle,
    kind: FileKind,
    /// Whether it is a launcher's own, whose position moves with the guest's.
    given: bool,
    rights: u32,
    /// Pages that were asked for. A guest can map no more than the file has.
    pages: Mutex<WindowsKernel, BTreeMap<u64, Frame>>,
}

/// The file that a handle of the launcher's is.
///
/// # Errors
/// `BADF`: no right to read or write; those of the host.
pub(crate) fn file(handle: Handle) -> Result<Arc<dyn HostFile<WindowsKernel>>> {
    let rights = handle.rights();
    if rights & (READ | WRITE | APPEND) == 0 {
        return Err(errno!(BADF, "the launcher's handle is for neither reading nor writing"));
    }
    let kind = match handle.device_kind()? {
        kind if DISKS.contains(&kind) => FileKind::Regular,
        PIPE => FileKind::Fifo,
        _ => FileKind::CharDevice,
    };
    Ok(Arc::new(NtFile::new(handle, kind, true, rights)))
}

/// When a time of Windows's was.
fn timestamp(units: i64) -> Timestamp {
    /// Units of 100 ns in a second, and seconds from 1601 to 1970.
    const UNITS: i64 = 10_000_000;
    const EPOCH: i64 = 11_644_473_600;
    let nanoseconds = u32::try_from(units.rem_euclid(UNITS)).unwrap_or(0).saturating_mul(100);
    Timestamp { seconds: units.div_euclid(UNITS).saturating_sub(EPOCH), nanoseconds }
}

/// The attributes that Linux's programs see of what is open as `handle`. Windows has neither owners nor permissions of Linux's kind:
/// all is root's, and everybody may do everything but write.
pub(super) fn attr_of(handle: &Handle, kind: FileKind) -> Result<Attr> {
    let device = DeviceId { major: 0, minor: handle.serial().unwrap_or(0) };
    let id = InodeId { device, number: handle.number().unwrap_or(0) };
    let everybody = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    if kind != FileKind::Regular && kind != FileKind::Directory {
        let owner = Mode::RUSR | Mode::WUSR;
        return Ok(made_up_attr(id, kind, owner, Timestamp::default()));
    }
    let Basic { accessed, modified, changed, .. } = handle.basic()?;
    let standard = handle.standard()?;
    Ok(Attr {
        links: standard.links.max(1),
        size: standard.end.unsigned_abs(),
        blocks: standard.allocated.unsigned_abs().div_ceil(512),
        accessed: timestamp(accessed),
        modified: timestamp(modified),
        changed: timestamp(changed),
        ..made_up_attr(id, kind, everybody, Timestamp::default())
    })
}

/// Whether a handle is a directory's.
pub(crate) fn is_dir(handle: &Handle) -> bool {
    handle.basic().is_ok_and(|basic| basic.attributes & IS_DIRECTORY != 0)
}

impl NtFile {
    pub(super) fn new(handle: Handle, kind: FileKind, given: bool, rights: u32) -> Self {
        Self { handle, kind, given, rights, pages: Mutex::<WindowsKernel, _>::new(BTreeMap::new()) }
    }

    /// An offset as the host wants it.
    fn at(&self, offset: u64) -> Result<Option<i64>> {
        if !self.seekable() {
            return Ok(None);
        }
        i64::try_from(offset).map(Some).map_err(|_| errno!(INVAL, "past the end of all files"))
    }

    /// After a transfer to where a launcher's other programs would go on.
    fn moved(&self, to: u64) {
        if let (true, Ok(to)) = (self.given, i64::try_from(to)) {
            // A position that cannot be set is one that nobody has.
            let _ = self.handle.set_position(to);
        }
    }
}

impl HostFile<WindowsKernel> for NtFile {
    fn attr(&self) -> Result<Attr> {
        attr_of(&self.handle, self.kind)
    }

    fn flags(&self) -> OFlags {
        let mut flags = OFlags::empty();
        flags.set(OFlags::READ, self.rights & READ != 0);
        flags.set(OFlags::WRITE, self.rights & (WRITE | APPEND) != 0);
        flags.set(OFlags::APPEND, self.rights & (WRITE | APPEND) == APPEND);
        flags
    }

    fn seekable(&self) -> bool {
        self.kind == FileKind::Regular
    }

    fn position(&self) -> u64 {
        if self.seekable() { self.handle.position().map_or(0, i64::unsigned_abs) } else { 0 }
    }

    fn read(&self, offset: u64, dst: &mut [u8], _blocking: Blocking) -> Result<usize> {
        if self.rights & READ == 0 {
            return Err(errno!(BADF, "the launcher's handle is not for reading"));
        }
        let count = self.handle.read(self.at(offset)?, dst)?;
        if self.seekable() {
            self.moved(offset.saturating_add(count as u64));
        }
        Ok(count)
    }

    fn write(&self, offset: u64, src: &[u8], _blocking: Blocking) -> Result<usize> {
        if self.rights & WRITE == 0 {
            return if self.rights & APPEND != 0 {
                self.append(src, _blocking).map(|(count, _end)| count)
            } else {
                Err(errno!(BADF, "the launcher's handle is not for writing"))
            };
        }
        let count = self.handle.write(self.at(offset)?, src)?;
        if self.seekable() {
            self.moved(offset.saturating_add(count as u64));
        }
        Ok(count)
    }

    fn append(&self, src: &[u8], _blocking: Blocking) -> Result<(usize, u64)> {
        if self.rights & (WRITE | APPEND) == 0 {
            return Err(errno!(BADF, "the launcher's handle is not for writing"));
        }
        /// `FILE_WRITE_TO_END_OF_FILE`.
        const END: i64 = -1;
        let count = self.handle.write(self.seekable().then_some(END), src)?;
        let end = self.handle.standard().map_or(0, |standard| standard.end.unsigned_abs());
        Ok((count, end))
    }

    fn truncate(&self, size: u64) -> Result<()> {
        if self.rights & WRITE == 0 {
            return Err(errno!(INVAL, "the launcher's handle is not for writing"));
        }
        let size = i64::try_from(size).map_err(|_| errno!(FBIG))?;
        Ok(self.handle.set_end(size)?)
    }

    fn sync(&self) -> Result<()> {
        match self.handle.flush() {
            Ok(()) => Ok(()),
            // What is not a file on a disk has nothing to flush.
            Err(Status::INVALID_DEVICE_REQUEST | Status::NOT_IMPLEMENTED) => Ok(()),
            Err(status) => Err(status.into()),
        }
    }

    fn page(&self, index: u64) -> Result<Frame> {
        if let Some(frame) = self.resident(index) {
            return Ok(frame);
        }
        let frame = page_by_reading::<WindowsKernel>(self, index)?;
        // Whoever came first: it is the same frame each time.
        Ok(self.pages.lock().entry(index).or_insert(frame).clone())
    }

    fn resident(&self, index: u64) -> Option<Frame> {
        self.pages.lock().get(&index).cloned()
    }
}
