// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Directories of the host, one name at a time.
//!
//! Owns: references to places in the host's tree. The host is asked for one component that is neither `.` nor `..`, and never
//! follows a symbolic link; mounts below are crossed. Checks of permission are the host's, with the carrier's credentials, which are
//! the launcher's. Only regular files are opened: a FIFO would block and a device reach its driver.

use super::LinuxKernel;
use super::attr;
use super::file::{HostOpen, Open};
use crate::sys;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostNode};
use litebox_core::fs::types::{Attr, FileKind, Name};

/// Bytes of a name, with its NUL.
const NAME_ROOM: usize = 256;

/// A counted reference to a place in the host's tree: a mount and a dentry.
struct Place(sys::path);

// SAFETY: Mounts and dentries may be used by any thread; the counts are atomic.
unsafe impl Send for Place {}
// SAFETY: As above.
unsafe impl Sync for Place {}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: Gives up the references that this handle owned.
        unsafe { sys::path_put(&raw const self.0) };
    }
}

impl Place {
    fn attr(&self) -> Result<Attr> {
        // SAFETY: Our own references.
        unsafe { attr::of(&raw const self.0) }
    }

    fn open(&self, flags: u32) -> kernel::error::Result<Open> {
        // SAFETY: The current task's credentials are its own to read, and do not change during this call.
        let credentials = unsafe { (*sys::get_current()).cred };
        // SAFETY: Our own references; the file that comes is ours.
        unsafe { Open::from_raw(sys::dentry_open(&raw const self.0, flags as i32, credentials)) }
    }

    /// The target of the symbolic link that is here.
    fn target(&self) -> Result<Vec<u8>> {
        let mut done = sys::delayed_call::default();
        // SAFETY: Our own reference; the answer is a string or an error.
        let text = unsafe { sys::vfs_get_link(self.0.dentry, &raw mut done) };
        let text = kernel::error::from_err_ptr(text.cast_mut()).map_err(attr::from_kernel)?;
        // SAFETY: A string that lives until the delayed call.
        let bytes = unsafe { core::ffi::CStr::from_ptr(text.cast()) }.to_bytes();
        let mut target = Vec::new();
        let room = target.try_reserve_exact(bytes.len());
        if room.is_ok() {
            target.extend_from_slice(bytes);
        }
        if let Some(finish) = done.fn_ {
            // SAFETY: As do_delayed_call does, once.
            unsafe { finish(done.arg) };
        }
        room.map(|()| target).map_err(|_| errno!(NOMEM))
    }
}

/// A directory of the host.
pub(super) struct Dir(Place);

impl core::fmt::Debug for Dir {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("directory of the host")
    }
}

impl Dir {
    /// The place that `path` names, whatever is there.
    ///
    /// # Safety
    /// `path` is alive.
    pub(super) unsafe fn new(path: *const sys::path) -> Self {
        // SAFETY: Contract.
        unsafe { sys::path_get(path) };
        // SAFETY: A plain copy of two pointers, whose references were just taken.
        Self(Place(unsafe { path.read() }))
    }

    /// Opens what is here for reading.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn open_file(&self) -> kernel::error::Result<Open> {
        self.0.open(sys::O_RDONLY | sys::O_LARGEFILE)
    }

    fn find(&self, name: Name<'_>) -> Result<Place> {
        let mut text = [0_u8; NAME_ROOM];
        let bytes = name.as_bytes();
        let room = text.get_mut(..bytes.len()).filter(|room| room.len() < NAME_ROOM);
        room.ok_or(errno!(NAMETOOLONG))?.copy_from_slice(bytes);
        let mut found = MaybeUninit::<sys::path>::zeroed();
        let sys::path { mnt, dentry } = self.0.0;
        // SAFETY: Our own references; a string with its end; the answer goes to our buffer.
        attr::check(unsafe { sys::vfs_path_lookup(dentry, mnt, text.as_ptr().cast(), 0, found.as_mut_ptr()) })?;
        // SAFETY: Written by the call that succeeded, with references for us.
        Ok(Place(unsafe { found.assume_init() }))
    }
}

impl HostDir<LinuxKernel> for Dir {
    fn attr(&self) -> Result<Attr> {
        self.0.attr()
    }

    fn lookup(&self, name: Name<'_>) -> Result<HostNode<LinuxKernel>> {
        let place = self.find(name)?;
        let attr = place.attr()?;
        Ok(match attr.kind {
            FileKind::Directory => HostNode::Dir(Arc::new(Self(place))),
            FileKind::Symlink => HostNode::Symlink(attr, place.target()?),
            FileKind::Regular | FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                HostNode::Other(attr)
            }
        })
    }

    fn attr_of(&self, name: Name<'_>) -> Result<Attr> {
        self.find(name)?.attr()
    }

    fn open(&self, name: Name<'_>) -> Result<Arc<dyn HostFile<LinuxKernel>>> {
        let place = self.find(name)?;
        if place.attr()?.kind != FileKind::Regular {
            return Err(errno!(ACCESS, "only regular files of the host are opened"));
        }
        let file = place.open(sys::O_RDONLY | sys::O_LARGEFILE).map_err(attr::from_kernel)?;
        Ok(Arc::new(HostOpen::new(file, false)))
    }

    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        let file = self.0.open(sys::O_RDONLY | sys::O_DIRECTORY).map_err(attr::from_kernel)?;
        let start = i64::try_from(cookie).map_err(|_big| errno!(INVAL, "no such entry"))?;
        // SAFETY: A file of our own, which nobody else knows.
        unsafe { (*file.as_ptr()).f_pos = start };
        let context = sys::dir_context { actor: Some(on_entry), pos: start, count: i32::MAX, dt_flags_mask: 0 };
        let mut listing = Listing { context, held: None, name: [0; NAME_ROOM], sink };
        // SAFETY: A live directory; `on_entry` takes a listing, which outlives the call.
        let result = unsafe { sys::iterate_dir(file.as_ptr(), &raw mut listing.context) };
        let end = listing.context.pos;
        listing.pass_on(end);
        attr::check(result)
    }
}

/// A directory that is being read. An entry comes with its own offset; where to go on after it is known with the next.
#[repr(C)]
struct Listing<'a> {
    context: sys::dir_context,
    /// Length of the name in `name`, inode number and kind of the entry that waits for its successor.
    held: Option<(usize, u64, FileKind)>,
    name: [u8; NAME_ROOM],
    sink: &'a mut dyn FnMut(HostEntry<'_>) -> bool,
}

impl Listing<'_> {
    /// Passes on the entry that is held, behind which `next` is; false if there is no room.
    fn pass_on(&mut self, next: i64) -> bool {
        let Some((len, number, kind)) = self.held.take() else { return true };
        let Some(name) = self.name.get(..len) else { return true };
        (self.sink)(HostEntry { name, number, kind, next: u64::try_from(next).unwrap_or_default().max(1) })
    }
}

/// The host has an entry; false ends the listing.
///
/// # Safety
/// Called by `iterate_dir` with the first field of a [`Listing`] and a name of `len` bytes.
unsafe extern "C" fn on_entry(
    context: *mut sys::dir_context,
    name: *const kernel::ffi::c_char,
    len: i32,
    pos: i64,
    number: u64,
    kind: u32,
) -> bool {
    // SAFETY: Contract.
    let listing = unsafe { &mut *context.cast::<Listing<'_>>() };
    if !listing.pass_on(pos) {
        return false;
    }
    let Ok(len) = usize::try_from(len) else { return true };
    // SAFETY: Contract.
    let bytes = unsafe { core::slice::from_raw_parts(name.cast::<u8>(), len) };
    if matches!(bytes, b"." | b"..") {
        return true;
    }
    if let Some(room) = listing.name.get_mut(..len) {
        room.copy_from_slice(bytes);
        // DT_ types are the kind bits of a mode.
        listing.held = Some((len, number, attr::kind_of_mode(kind << 12)));
    }
    true
}
