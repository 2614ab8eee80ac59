// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Open files of the host.
//!
//! Owns: references to files that a launcher gave, or that were opened under a directory that it gave. Bytes go through kernel
//! buffers. Invariants: a file that was given keeps the host's position where the guest has got to, since other processes may use
//! the same open file; its flags are never changed. A wait is interruptible (SIGKILL, or a kick of the carrier).
//!
//! A write to a broken pipe would raise SIGPIPE in the carrier, and the host kills its whole thread group at that moment, before
//! any hook of ours is asked (kernel/signal.c, `complete_signal`). So each write says that it wants no signal (RWF_NOSIGNAL, since
//! 6.18); the library OS raises the guest's own.

use super::LinuxKernel;
use super::attr;
use super::dir::Dir;
use super::watch::{self, Watches};
use crate::mm::frame::Frame;
use crate::sys;
use alloc::sync::Arc;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::time::Duration;
use kernel::prelude::{EBADF, ENOTDIR};
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::host::{HostDir, HostFile};
use litebox_core::fs::inode::{Blocking, WindowSize};
use litebox_core::fs::types::{Attr, OFlags, PAGE_SIZE_U64, Ready};
use litebox_core::platform::Clock;
use litebox_core::sync::WaitQueue;

/// How long a transfer rests that finds its file ready and yet gets nothing.
const REST: Duration = Duration::from_millis(1);

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

    /// Whether all of `bits` are in `f_mode`.
    fn mode(&self, bits: u32) -> bool {
        // SAFETY: The file is alive; what is asked of its mode is constant after open.
        unsafe { (*self.as_ptr()).f_mode & bits == bits }
    }

    /// `f_flags`, as open(2) has them.
    fn status(&self) -> u32 {
        // SAFETY: A live file; fcntl(2) may change the word at any time.
        unsafe { (&raw const (*self.as_ptr()).f_flags).read_volatile() }
    }

    /// The kind and permissions of its inode.
    fn inode_mode(&self) -> u32 {
        // SAFETY: The inode is alive as its file is; the kind is constant.
        unsafe { (*(*self.as_ptr()).f_inode).i_mode }.into()
    }

    /// Whether its file system keeps it on a disk or in memory of this machine.
    fn is_local(&self) -> bool {
        // SAFETY: A live file and its inode, whose file system has a type.
        let on_disk = unsafe { (*(*(*(*self.as_ptr()).f_inode).i_sb).s_type).fs_flags } & sys::FS_REQUIRES_DEV as i32 != 0;
        // SAFETY: A live file's mapping.
        on_disk || unsafe { sys::shmem_mapping((*self.as_ptr()).f_mapping) }
    }

    fn is(&self, kind: u32) -> bool {
        self.inode_mode() & sys::S_IFMT == kind
    }
}

/// Where a file's pages are.
enum Cache {
    /// Of a file system that reads pages; the file, or null where none is needed.
    OfFiles(*mut sys::address_space, *mut sys::file),
    /// Of tmpfs.
    OfMemory(*mut sys::address_space),
}

impl Open {
    /// The page cache behind it.
    ///
    /// # Errors
    /// `NODEV`: it has none.
    fn cache(&self) -> Result<Cache> {
        // SAFETY: A live file.
        let mapping = unsafe { (*self.as_ptr()).f_mapping };
        // SAFETY: The mapping lives as long as the file.
        if let Some(cache) = unsafe { cache_in(mapping, self.as_ptr()) } {
            return Ok(cache);
        }
        // An overlay has no pages of its own; those of the file below are shared with whoever maps that.
        // SAFETY: The path of a live file.
        let dentry = unsafe { (*self.path()).dentry };
        // SAFETY: A live dentry, whose operations are constant; null if it has none.
        let real = unsafe { (*dentry).d_op.as_ref() }.and_then(|ops| ops.d_real);
        let real = real.ok_or(errno!(NODEV, "the host's file has no page cache"))?;
        // SAFETY: As d_real calls it, on a dentry with a file open on it. The dentry that comes is alive as long as this one.
        let below = unsafe { real(dentry, sys::d_real_type_D_REAL_DATA) };
        // SAFETY: As above; a file is open on it, so it has an inode.
        let inode = unsafe { (*below).d_inode };
        // SAFETY: A live inode, its file system and that one's type.
        let on_disk = unsafe { (*(*(*inode).i_sb).s_type).fs_flags } & sys::FS_REQUIRES_DEV as i32 != 0;
        // SAFETY: A live inode. A file system on a disk reads pages by the mapping alone.
        let cache = unsafe { cache_in((*inode).i_mapping, ptr::null_mut()) };
        match cache {
            Some(cache @ Cache::OfMemory(_)) => Ok(cache),
            Some(cache @ Cache::OfFiles(..)) if on_disk => Ok(cache),
            _ => Err(errno!(NODEV, "the host's file has no page cache")),
        }
    }
}

/// The page cache of `mapping`, if it has one.
///
/// # Safety
/// `mapping` is alive.
unsafe fn cache_in(mapping: *mut sys::address_space, file: *mut sys::file) -> Option<Cache> {
    // SAFETY: Contract.
    if unsafe { sys::shmem_mapping(mapping) } {
        return Some(Cache::OfMemory(mapping));
    }
    // SAFETY: Contract; the operations are constant.
    unsafe { (*(*mapping).a_ops).read_folio }.map(|_| Cache::OfFiles(mapping, file))
}

/// The caller's descriptor, a mere place (O_PATH) too.
fn open(fd: u32) -> kernel::error::Result<Open> {
    // SAFETY: Any number; gives null or a file with a reference for us.
    unsafe { Open::from_raw(sys::fget_raw(fd)) }
}

/// The file behind a descriptor of the caller. A regular file that is a mere place is opened for reading.
///
/// # Errors
/// EBADF; those of open(2).
pub(crate) fn file(fd: u32) -> kernel::error::Result<Arc<dyn HostFile<LinuxKernel>>> {
    let file = open(fd)?;
    if file.mode(sys::MODE_PATH) {
        if !file.is(sys::S_IFREG) {
            return Err(EBADF);
        }
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
    (result == 0 && copied == words.len()).then(|| WindowSize {
        rows: u16::from_le_bytes([r0, r1]),
        columns: u16::from_le_bytes([c0, c1]),
        pixels: [0; 2],
    })
}

/// An open file.
#[derive(Debug)]
pub(super) struct HostOpen {
    /// Before `open`: they are taken off its queues first.
    watches: Watches,
    open: Open,
    /// Whether others of the host may use the same open file.
    shared: bool,
    /// Whether its page cache holds what a read gives: of file systems on this machine's own disks and memory, and of no overlay.
    reads_cache: bool,
    /// The size that the terminal had when it was given.
    window: Option<WindowSize>,
}

impl HostOpen {
    pub(super) fn new(open: Open, shared: bool) -> Self {
        let reads_cache = open.is(sys::S_IFREG) && open.is_local();
        Self { watches: Watches::default(), open, shared, reads_cache, window: None }
    }

    /// How a transfer is to be done that may or may not wait: flags of preadv2(2).
    fn manner(&self, blocking: Blocking, way: Way) -> Result<i32> {
        if blocking == Blocking::Yes || self.seekable() || self.open.status() & sys::O_NONBLOCK != 0 {
            return Ok(0);
        }
        if self.open.mode(sys::MODE_NOWAIT) {
            return Ok(sys::DO_NOT_WAIT);
        }
        // A terminal, for one. Another reader may still be faster, and then this waits.
        if self.is_ready(way) { Ok(0) } else { Err(errno!(AGAIN, "the host's file would block")) }
    }

    fn is_ready(&self, way: Way) -> bool {
        let wanted = match way {
            Way::In => Ready::IN,
            Way::Out | Way::End => Ready::OUT,
        };
        watch::ready(&self.open).intersects(wanted | Ready::ERR | Ready::HUP)
    }

    /// One transfer between `offset` and the `len` bytes at `buffer`; gives the count and the position after it.
    ///
    /// # Safety
    /// The buffer is ours, and writable if the way is `In`.
    unsafe fn once(&self, way: Way, offset: u64, buffer: *mut u8, len: usize, blocking: Blocking) -> Result<(usize, i64)> {
        let manner = self.manner(blocking, way)?;
        let mut at = i64::try_from(offset).map_err(|_big| errno!(INVAL, "an offset past the host's"))?;
        let position = if self.seekable() { &raw mut at } else { ptr::null_mut() };
        let part = sys::kvec { iov_base: buffer.cast(), iov_len: len };
        let direction = match way {
            Way::In => sys::ITER_DEST,
            Way::Out | Way::End => sys::ITER_SOURCE,
        };
        let mut parts = MaybeUninit::<sys::iov_iter>::uninit();
        // SAFETY: Writes all of `parts`; it and `part` outlive the transfer.
        unsafe { sys::iov_iter_kvec(parts.as_mut_ptr(), direction, &raw const part, 1, len) };
        let file = self.open.as_ptr();
        // SAFETY: A live file, an iterator over our buffer (contract), and a position of ours.
        let result = unsafe {
            match way {
                Way::In => sys::vfs_iter_read(file, parts.as_mut_ptr(), position, manner),
                Way::Out => sys::vfs_iter_write(file, parts.as_mut_ptr(), position, manner | sys::NO_SIGPIPE),
                Way::End => sys::vfs_iter_write(file, parts.as_mut_ptr(), position, manner | sys::NO_SIGPIPE | sys::APPEND),
            }
        };
        attr::count(result).map(|count| (count, at))
    }

    /// A transfer that waits if it may, though the host's file be non-blocking.
    ///
    /// # Safety
    /// As for `once`.
    unsafe fn transfer(&self, way: Way, offset: u64, buffer: *mut u8, len: usize, blocking: Blocking) -> Result<(usize, i64)> {
        let mut tries = 0_u32;
        loop {
            // SAFETY: Contract.
            match unsafe { self.once(way, offset, buffer, len, blocking) } {
                Err(error) if error.is(Errno::AGAIN) && blocking == Blocking::Yes => {
                    self.wait(way, tries > 0)?;
                    tries = tries.saturating_add(1);
                }
                Err(error) => return Err(error),
                Ok((count, at)) => {
                    self.moved_to(at);
                    return Ok((count, at));
                }
            }
        }
    }

    /// Waits until it is ready; rests first if that was not enough before.
    fn wait(&self, way: Way, rest: bool) -> Result<()> {
        let queue = Arc::new(WaitQueue::new());
        if rest {
            queue.wait_until(Some(LinuxKernel::monotonic().saturating_add(REST)), || None::<()>)?;
        }
        self.watches.add(&self.open, &queue);
        queue.wait_until(None, || self.is_ready(way).then_some(()))?;
        Ok(())
    }

    /// Moves the host's position to where the guest has got to.
    fn moved_to(&self, at: i64) {
        if self.shared && self.seekable() {
            // SAFETY: A live file. As with a descriptor that several processes use without a lock, the last one wins.
            unsafe { (&raw mut (*self.open.as_ptr()).f_pos).write_volatile(at) };
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy)]
enum Way {
    /// From the host.
    In,
    /// To the host.
    Out,
    /// To the end of the host's file.
    End,
}

impl HostFile<LinuxKernel> for HostOpen {
    fn attr(&self) -> Result<Attr> {
        // SAFETY: The path of a live file.
        unsafe { attr::of(self.open.path()) }
    }

    fn flags(&self) -> OFlags {
        let mut flags = OFlags::empty();
        let status = self.open.status();
        flags.set(OFlags::READ, self.open.mode(sys::MODE_READ));
        flags.set(OFlags::WRITE, self.open.mode(sys::MODE_WRITE));
        flags.set(OFlags::APPEND, status & sys::O_APPEND != 0);
        flags.set(OFlags::NONBLOCK, status & sys::O_NONBLOCK != 0);
        flags
    }

    fn seekable(&self) -> bool {
        self.open.is(sys::S_IFREG) || self.open.is(sys::S_IFBLK)
    }

    fn description(&self) -> Option<usize> {
        self.shared.then(|| self.open.as_ptr().addr())
    }

    fn position(&self) -> u64 {
        // SAFETY: A live file.
        let at = unsafe { (&raw const (*self.open.as_ptr()).f_pos).read_volatile() };
        u64::try_from(at).unwrap_or_default()
    }

    fn read(&self, offset: u64, dst: &mut [u8], blocking: Blocking) -> Result<usize> {
        // SAFETY: A borrow of ours for writing.
        unsafe { self.transfer(Way::In, offset, dst.as_mut_ptr(), dst.len(), blocking) }.map(|(count, _)| count)
    }

    fn write(&self, offset: u64, src: &[u8], blocking: Blocking) -> Result<usize> {
        // SAFETY: A borrow of ours for reading, which is all that a source is used for.
        unsafe { self.transfer(Way::Out, offset, src.as_ptr().cast_mut(), src.len(), blocking) }.map(|(count, _)| count)
    }

    fn append(&self, src: &[u8], blocking: Blocking) -> Result<(usize, u64)> {
        let way = if self.seekable() { Way::End } else { Way::Out };
        // SAFETY: As in `write`.
        let (count, at) = unsafe { self.transfer(way, 0, src.as_ptr().cast_mut(), src.len(), blocking) }?;
        Ok((count, u64::try_from(at).unwrap_or_default()))
    }

    fn truncate(&self, size: u64) -> Result<()> {
        let size = i64::try_from(size).map_err(|_big| errno!(FBIG))?;
        // SAFETY: The path of a live file.
        attr::check(unsafe { sys::vfs_truncate(self.open.path(), size) })
    }

    fn sync(&self) -> Result<()> {
        // SAFETY: A live file.
        attr::check(unsafe { sys::vfs_fsync(self.open.as_ptr(), 0) })
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<LinuxKernel>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.watches.add(&self.open, watcher);
        }
        watch::ready(&self.open)
    }

    fn window_size(&self) -> Result<WindowSize> {
        let given = self.window.ok_or(errno!(NOTTY))?;
        let mut now = sys::winsize::default();
        // SAFETY: A live file that answers as a terminal does; the size goes to our buffer.
        let known = unsafe { sys::litebox_tty_size(self.open.as_ptr(), &raw mut now) };
        Ok(if known {
            WindowSize { rows: now.ws_row, columns: now.ws_col, pixels: [now.ws_xpixel, now.ws_ypixel] }
        } else {
            given
        })
    }

    fn page(&self, index: u64) -> Result<Frame> {
        let start = index.checked_mul(PAGE_SIZE_U64).ok_or(errno!(FAULT, "past the end of the file"))?;
        if start >= self.length_at_hand()? {
            return Err(errno!(FAULT, "past the end of the file"));
        }
        let index = usize::try_from(index).map_err(|_big| errno!(INVAL))?;
        let cache = self.open.cache()?;
        // SAFETY: The cache is alive as the file is; both read what is not there, and may sleep.
        let page = unsafe {
            match cache {
                Cache::OfFiles(mapping, file) => sys::read_cache_page(mapping, index, None, file),
                Cache::OfMemory(mapping) => sys::shmem_read_mapping_page_gfp(mapping, index, sys::GFP_KERNEL_ACCOUNT),
            }
        };
        let page = kernel::error::from_err_ptr(page).map_err(attr::from_kernel)?;
        let page = NonNull::new(page).ok_or(errno!(IO, "the host gave no page"))?;
        // SAFETY: It comes with a reference; what a CPU reads and writes files through is normal memory.
        Ok(unsafe { Frame::of_file(page) })
    }

    fn resident(&self, index: u64) -> Option<Frame> {
        let (Cache::OfFiles(mapping, _) | Cache::OfMemory(mapping)) = self.open.cache().ok()?;
        // SAFETY: The cache is alive as the file is; a look-up of what is there neither reads nor sleeps.
        let page = unsafe { sys::litebox_resident_page(mapping, usize::try_from(index).ok()?) };
        // SAFETY: As in `page`.
        NonNull::new(page).map(|page| unsafe { Frame::of_file(page) })
    }

    fn cached(&self, index: u64) -> Option<Frame> {
        if self.reads_cache { self.resident(index) } else { None }
    }

    fn page_to_write(&self, index: u64) -> Result<Frame> {
        let start = index.checked_mul(PAGE_SIZE_U64).ok_or(errno!(FAULT, "past the end of the file"))?;
        let frame = self.page(index)?;
        // A write of the page's first byte over itself has the host do all that a write takes: room on the disk, times, and that the page
        // is to be written out. Its pages have no other door that every file system has. Nobody here maps it for writing meanwhile.
        // SAFETY: A byte of the page, which the frame keeps; a source is read only. What else writes there is another program's race.
        match unsafe { self.transfer(Way::Out, start, frame.bytes(), 1, Blocking::Yes) } {
            Ok(_) => {}
            // A carrier that is killed writes no more, but what its guest wrote before is not lost for that.
            // SAFETY: A page of a file's cache, which the frame keeps; may sleep.
            Err(error) if error.errno().is_none() => unsafe {
                sys::set_page_dirty_lock(frame.page());
            },
            Err(error) => return Err(error),
        }
        match self.resident(index) {
            Some(now) if now.same(&frame) => Ok(frame),
            _ => Err(errno!(FAULT, "the host cut the file meanwhile")),
        }
    }

    fn shares_writes(&self) -> bool {
        self.reads_cache && self.open.mode(sys::MODE_WRITE)
    }

    fn length_at_hand(&self) -> Result<u64> {
        // SAFETY: The inode is alive as its file is; the size is one word, which may change at any time.
        let size = unsafe { (&raw const (*(*self.open.as_ptr()).f_inode).i_size).read_volatile() };
        Ok(u64::try_from(size).unwrap_or_default())
    }
}
