// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Open files of the host.
//!
//! Owns: references to files that a launcher gave, or that were opened under a directory that it gave. Bytes go through kernel
//! buffers. Invariants: a file that was given keeps the host's position where the guest has got to, since other processes may use
//! the same open file; its flags are never changed. A wait is interruptible (SIGKILL, or a kick of the carrier); SIGPIPE is blocked in
//! every carrier (the launcher sees to it), so the guest's own EPIPE is all that comes of a broken pipe.

use super::LinuxKernel;
use super::attr;
use super::dir::Dir;
use super::watch::{self, Watches};
use crate::mm::frame::Frame;
use crate::sys;
use alloc::sync::Arc;
use core::ptr::NonNull;
use kernel::prelude::{EBADF, ENOTDIR};
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::host::{HostDir, HostFile};
use litebox_core::fs::inode::{Blocking, WindowSize};
use litebox_core::fs::types::{Attr, OFlags, Ready};
use litebox_core::sync::WaitQueue;

/// FMODE_READ and FMODE_WRITE of include/linux/fs.h, and FMODE_PATH: no file but a place.
const MODE_READ: u32 = 1;
const MODE_WRITE: u32 = 1 << 1;
const MODE_PATH: u32 = 1 << 14;

/// A counted reference to an open file.
pub(super) struct Open(NonNull<sys::file>);

// SAFETY: The kernel's files may be used by any thread; the count is atomic.
unsafe impl Send for Open {}
// SAFETY: As above.
unsafe impl Sync for Open {}

impl core::fmt::Debug for Open {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("file of the host")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: Gives up the reference that this handle owned.
        unsafe { sys::fput(self.as_ptr()) };
    }
}

impl Open {
    /// Takes over a reference.
    ///
    /// # Errors
    /// The error that the pointer is; EBADF if it is null.
    ///
    /// # Safety
    /// `file` is null, an error pointer, or a file with a reference that is the caller's to give.
    pub(super) unsafe fn from_raw(file: *mut sys::file) -> kernel::error::Result<Self> {
        let file = kernel::error::from_err_ptr(file)?;
        NonNull::new(file).map(Self).ok_or(EBADF)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::file {
        self.0.as_ptr()
    }

    pub(super) fn path(&self) -> *const sys::path {
        // SAFETY: The file is alive; its place is constant after open, and lies in a union with itself only (f_path, __f_path).
        unsafe { &raw const (*self.as_ptr()).__bindgen_anon_1 }.cast()
    }

    /// `f_mode`.
    fn mode(&self) -> u32 {
        // SAFETY: The file is alive; what is asked of its mode is constant after open.
        unsafe { (*self.as_ptr()).f_mode }
    }

    /// The kind and permissions of its inode.
    fn inode_mode(&self) -> u32 {
        // SAFETY: The inode is alive as its file is; the kind is constant.
        unsafe { (*(*self.as_ptr()).f_inode).i_mode }.into()
    }

    fn is(&self, kind: u32) -> bool {
        self.inode_mode() & sys::S_IFMT == kind
    }
}

/// The caller's descriptor, a mere place (O_PATH) too.
fn open(fd: u32) -> kernel::error::Result<Open> {
    // SAFETY: Any number; gives null or a file with a reference for us.
    unsafe { Open::from_raw(sys::fget_raw(fd)) }
}

/// The file behind a descriptor of the caller. A place that can be read is opened for reading.
///
/// # Errors
/// EBADF; those of open(2).
pub(crate) fn file(fd: u32) -> kernel::error::Result<Arc<dyn HostFile<LinuxKernel>>> {
    let file = open(fd)?;
    if file.mode() & MODE_PATH != 0 {
        // SAFETY: The path of a live file.
        let place = unsafe { Dir::new(file.path()) };
        return Ok(Arc::new(HostOpen::new(place.open_file()?, false)));
    }
    let is_char_device = file.is(sys::S_IFCHR);
    let mut file = HostOpen::new(file, true);
    if is_char_device {
        file.window = window_size(&file.open);
    }
    Ok(Arc::new(file))
}

/// The directory behind a descriptor of the caller.
///
/// # Errors
/// EBADF, ENOTDIR.
pub(crate) fn dir(fd: u32) -> kernel::error::Result<Arc<dyn HostDir<LinuxKernel>>> {
    let file = open(fd)?;
    if !file.is(sys::S_IFDIR) {
        return Err(ENOTDIR);
    }
    // SAFETY: The path of a live file.
    Ok(Arc::new(unsafe { Dir::new(file.path()) }))
}

/// Asks a device for the size of the terminal that it may be. Its ioctl wants user memory, so a page of the caller's, which is a
/// launcher, is mapped for it.
fn window_size(file: &Open) -> Option<WindowSize> {
    // SAFETY: A live file, whose operations are constant.
    let ioctl = unsafe { (*(*file.as_ptr()).f_op).unlocked_ioctl }?;
    // SAFETY: Anonymous memory of the current task, at a place of the host's choice.
    let at = unsafe { sys::vm_mmap(core::ptr::null_mut(), 0, sys::PAGE_SIZE, sys::PROT_RW, sys::PRIVATE_MEMORY, 0) };
    if kernel::error::from_err_ptr(core::ptr::without_provenance_mut::<u8>(at)).is_err() {
        return None;
    }
    // SAFETY: As ioctl(2) would call it.
    let result = unsafe { ioctl(file.as_ptr(), sys::TIOCGWINSZ, at) };
    let mut words = [0_u8; 4];
    let copied = crate::mm::user_copy::from_guest(&mut words, at);
    // SAFETY: What was mapped above; nobody was told of it. A failure leaves the launcher a page.
    unsafe { sys::vm_munmap(at, sys::PAGE_SIZE) };
    let [r0, r1, c0, c1] = words;
    (result == 0 && copied == words.len())
        .then(|| WindowSize { rows: u16::from_le_bytes([r0, r1]), columns: u16::from_le_bytes([c0, c1]) })
}

/// An open file.
#[derive(Debug)]
pub(super) struct HostOpen {
    /// Before `open`: they are taken off its queues first.
    watches: Watches,
    open: Open,
    /// Whether others of the host may use the same open file.
    shared: bool,
    /// The size that the terminal had when it was given.
    window: Option<WindowSize>,
}

impl HostOpen {
    pub(super) fn new(open: Open, shared: bool) -> Self {
        Self { watches: Watches::default(), open, shared, window: None }
    }

    /// Refuses a transfer that would wait.
    fn must_not_wait(&self, blocking: Blocking, wanted: Ready) -> Result<()> {
        let ready = wanted | Ready::ERR | Ready::HUP;
        if blocking == Blocking::Yes || self.seekable() || watch::ready(&self.open).intersects(ready) {
            return Ok(());
        }
        Err(errno!(AGAIN, "the host's file would block"))
    }

    /// Moves the host's position to where the guest has got to.
    fn moved_to(&self, at: i64) {
        if self.shared && self.seekable() {
            // SAFETY: A live file. As with a descriptor that several processes use without a lock, the last one wins.
            unsafe { (&raw mut (*self.open.as_ptr()).f_pos).write_volatile(at) };
        }
    }
}

/// An offset as the host has it.
fn position(offset: u64) -> Result<i64> {
    i64::try_from(offset).map_err(|_big| errno!(INVAL, "an offset past the host's"))
}

impl HostFile<LinuxKernel> for HostOpen {
    fn attr(&self) -> Result<Attr> {
        // SAFETY: The path of a live file.
        unsafe { attr::of(self.open.path()) }
    }

    fn flags(&self) -> OFlags {
        let mut flags = OFlags::empty();
        flags.set(OFlags::READ, self.open.mode() & MODE_READ != 0);
        flags.set(OFlags::WRITE, self.open.mode() & MODE_WRITE != 0);
        // SAFETY: A live file; fcntl(2) may change the word at any time.
        let status = unsafe { (&raw const (*self.open.as_ptr()).f_flags).read_volatile() };
        flags.set(OFlags::APPEND, status & sys::O_APPEND != 0);
        flags.set(OFlags::NONBLOCK, status & sys::O_NONBLOCK != 0);
        flags
    }

    fn seekable(&self) -> bool {
        self.open.is(sys::S_IFREG) || self.open.is(sys::S_IFBLK)
    }

    fn position(&self) -> u64 {
        // SAFETY: A live file.
        let at = unsafe { (&raw const (*self.open.as_ptr()).f_pos).read_volatile() };
        u64::try_from(at).unwrap_or_default()
    }

    fn read(&self, offset: u64, dst: &mut [u8], blocking: Blocking) -> Result<usize> {
        self.must_not_wait(blocking, Ready::IN)?;
        let mut at = position(offset)?;
        // SAFETY: A live file and a buffer of ours. A stream ignores the position.
        let count =
            attr::count(unsafe { sys::kernel_read(self.open.as_ptr(), dst.as_mut_ptr().cast(), dst.len(), &raw mut at) })?;
        self.moved_to(at);
        Ok(count)
    }

    fn write(&self, offset: u64, src: &[u8], blocking: Blocking) -> Result<usize> {
        self.must_not_wait(blocking, Ready::OUT)?;
        let mut at = position(offset)?;
        // SAFETY: As in `read`.
        let count = attr::count(unsafe { sys::kernel_write(self.open.as_ptr(), src.as_ptr().cast(), src.len(), &raw mut at) })?;
        self.moved_to(at);
        Ok(count)
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<LinuxKernel>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.watches.add(&self.open, watcher);
        }
        watch::ready(&self.open)
    }

    fn window_size(&self) -> Result<WindowSize> {
        self.window.ok_or(errno!(NOTTY))
    }

    fn page(&self, index: u64) -> Result<Frame> {
        let index = usize::try_from(index).map_err(|_big| errno!(INVAL))?;
        // SAFETY: A live file.
        let mapping = unsafe { (*self.open.as_ptr()).f_mapping };
        // SAFETY: A live mapping, whose operations are constant.
        if unsafe { (*(*mapping).a_ops).read_folio }.is_none() {
            return Err(errno!(NODEV, "the host's file has no page cache"));
        }
        // SAFETY: As above; read by the file's own function, if it is not there. May sleep.
        let folio = unsafe { sys::read_cache_folio(mapping, index, None, self.open.as_ptr()) };
        let folio = kernel::error::from_err_ptr(folio).map_err(attr::from_kernel)?;
        // SAFETY: The folio holds the page of that index, and comes with a reference, which becomes the frame's.
        unsafe { Frame::from_folio(folio, index) }.ok_or(errno!(IO, "no page in the folio"))
    }
}
