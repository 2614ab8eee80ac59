// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Directories of the host, one name at a time.
//!
//! Owns: references to places in the host's tree. The host is asked for one component that is neither `.` nor `..`, and never
//! follows a symbolic link; mounts below are crossed. Checks of permission are the host's, with the carrier's credentials, which are
//! the launcher's. Only regular files are opened: a FIFO would block and a device reach its driver. Changes are in `change`.

use super::LinuxKernel;
use super::attr;
use super::file::{HostOpen, Open};
use crate::sys;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::mem::MaybeUninit;
use core::ops::Range;
use kernel::prelude::EPERM;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostLeaf, HostNode};
use litebox_core::fs::types::{Attr, AttrChange, FileKind, Mode, Name, OFlags, RenameFlags};

/// Bytes of a name, with its NUL.
const NAME_ROOM: usize = 256;

/// A counted reference to a place in the host's tree: a mount and a dentry.
pub(super) struct Place(pub(super) sys::path);

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

impl core::fmt::Debug for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("place of the host")
    }
}

impl Place {
    pub(super) fn attr(&self) -> Result<Attr> {
        // SAFETY: Our own references.
        unsafe { attr::of(&raw const self.0) }
    }

    pub(super) fn inode(&self) -> *mut sys::inode {
        // SAFETY: Our own reference; a place that was found or opened has an inode, and keeps it.
        unsafe { (*self.0.dentry).d_inode }
    }

    /// How the mount shows owners.
    pub(super) fn idmap(&self) -> *mut sys::mnt_idmap {
        // SAFETY: Our own reference; the map lives as long as the mount.
        unsafe { (*self.0.mnt).mnt_idmap }
    }

    /// Whether the current task may do all of `wanted`.
    fn permits(&self, wanted: u32) -> kernel::error::Result {
        // SAFETY: A live inode, seen through this mount.
        kernel::error::to_result(unsafe { sys::inode_permission(self.idmap(), self.inode(), wanted as i32) })
    }

    /// Opens it, as the current task may.
    fn open(&self, flags: u32) -> kernel::error::Result<Open> {
        let wanted = match flags & sys::O_ACCMODE {
            sys::O_RDONLY => sys::MAY_READ,
            sys::O_WRONLY => sys::MAY_WRITE,
            _ => sys::MAY_READ | sys::MAY_WRITE,
        };
        // dentry_open asks nobody.
        self.permits(sys::MAY_OPEN | wanted)?;
        // SAFETY: A live inode.
        if wanted & sys::MAY_WRITE != 0 && unsafe { (*self.inode()).i_flags } & sys::S_APPEND != 0 {
            return Err(EPERM);
        }
        // SAFETY: The current task's credentials are its own to read, and do not change during this call.
        let credentials = unsafe { (*sys::get_current()).cred };
        // SAFETY: Our own references; the file that comes is ours.
        unsafe { Open::from_raw(sys::dentry_open(&raw const self.0, flags as i32, credentials)) }
    }

    /// What the dentry counts its renamings and removals with, if it has `name` in `dir`, and its file system lets the host rely on that.
    fn seq(&self, dir: &Self, name: Name<'_>) -> Option<u32> {
        let bytes = name.as_bytes();
        let len = u32::try_from(bytes.len()).ok()?;
        let mut seq = 0;
        // SAFETY: Our own references; a string of `len` bytes; the answer goes to our word.
        let named = unsafe { sys::litebox_is_named(self.0.dentry, dir.0.dentry, bytes.as_ptr().cast(), len, &raw mut seq) };
        named.then_some(seq)
    }

    /// The target of the symbolic link that is here.
    ///
    /// # Errors
    /// `ACCESS`: a link of /proc and its like, which leads to a thing and not to a path: its function works only inside the host's
    /// own path walk. Those have a function of their own for readlink(2), as that would fail in the same way.
    fn target(&self) -> Result<Vec<u8>> {
        // SAFETY: A live inode, whose operations are constant.
        if unsafe { (*(*self.inode()).i_op).readlink }.is_some() {
            return Err(errno!(ACCESS, "a link that only its own host can follow"));
        }
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
#[derive(Debug)]
pub(super) struct Dir(pub(super) Place);

/// Anything else.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) place: Place,
    /// What its dentry counted when it was found by its name; none if that says nothing.
    seq: Option<u32>,
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

    fn may_list(&self) -> Result<()> {
        self.0.permits(sys::MAY_OPEN | sys::MAY_READ).map_err(attr::from_kernel)
    }

    fn lookup(&self, name: Name<'_>) -> Result<HostNode<LinuxKernel>> {
        let place = self.find(name)?;
        let seq = place.seq(&self.0, name);
        Ok(match place.attr()?.kind {
            FileKind::Directory => HostNode::Dir(Arc::new(Self(place))),
            FileKind::Symlink => {
                let target = place.target()?;
                HostNode::Symlink(Arc::new(Leaf { place, seq }), target)
            }
            FileKind::Regular | FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                HostNode::Leaf(Arc::new(Leaf { place, seq }))
            }
        })
    }

    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        let file = self.0.open(sys::O_RDONLY | sys::O_DIRECTORY | sys::O_LARGEFILE).map_err(attr::from_kernel)?;
        let start = i64::try_from(cookie).map_err(|_big| errno!(INVAL, "no such entry"))?;
        if start > 0 {
            // SAFETY: A live file of our own. Some file systems keep more than the position, so they are told.
            let at = unsafe { sys::vfs_llseek(file.as_ptr(), start, sys::SEEK_SET as i32) };
            if at < 0 {
                return Err(attr::error(i32::try_from(at).unwrap_or_default()));
            }
        }
        let mut listing = Listing::new()?;
        loop {
            listing.clear();
            // SAFETY: A live directory; `on_entry` takes a listing, which outlives the call.
            attr::check(unsafe { sys::iterate_dir(file.as_ptr(), (&raw mut listing).cast()) })?;
            if listing.found.is_empty() {
                return Ok(());
            }
            if !self.pass_on(&listing, sink) {
                return Ok(());
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        self.0.set_attr(change)
    }

    fn create(&self, name: Name<'_>, mode: Mode) -> Result<()> {
        self.make_file(name, mode)
    }

    fn mkdir(&self, name: Name<'_>, mode: Mode) -> Result<()> {
        self.make_dir(name, mode)
    }

    fn symlink(&self, name: Name<'_>, target: &[u8]) -> Result<()> {
        self.make_symlink(name, target)
    }

    fn link(&self, name: Name<'_>, leaf: &dyn HostLeaf<LinuxKernel>) -> Result<()> {
        let leaf = leaf.as_any().downcast_ref::<Leaf>().ok_or(errno!(XDEV))?;
        self.make_link(name, &leaf.place)
    }

    fn unlink(&self, name: Name<'_>) -> Result<()> {
        self.remove_name(name)
    }

    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        self.remove_dir(name)
    }

    fn rename(&self, from: Name<'_>, dir: &dyn HostDir<LinuxKernel>, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        let dir = dir.as_any().downcast_ref::<Self>().ok_or(errno!(XDEV))?;
        self.move_name(from, dir, to, flags)
    }
}

impl HostLeaf<LinuxKernel> for Leaf {
    fn attr(&self) -> Result<Attr> {
        self.place.attr()
    }

    fn is_current(&self) -> bool {
        // SAFETY: Our own reference.
        self.seq.is_some_and(|seq| unsafe { sys::litebox_is_named_still(self.place.0.dentry, seq) })
    }

    fn open(&self, access: OFlags) -> Result<Arc<dyn HostFile<LinuxKernel>>> {
        if self.attr()?.kind != FileKind::Regular {
            return Err(errno!(ACCESS, "only regular files of the host are opened"));
        }
        let access = match (access.contains(OFlags::READ), access.contains(OFlags::WRITE)) {
            (_, false) => sys::O_RDONLY,
            (false, true) => sys::O_WRONLY,
            (true, true) => sys::O_RDWR,
        };
        let file = self.place.open(access | sys::O_LARGEFILE).map_err(attr::from_kernel)?;
        Ok(Arc::new(HostOpen::new(file, false)))
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        self.place.set_attr(change)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Dir {
    /// Passes on what was found; false once there is no room.
    fn pass_on(&self, listing: &Listing, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> bool {
        let ends = listing.found.iter().skip(1).map(|next| next.at).chain([listing.context.pos]);
        for (entry, end) in listing.found.iter().zip(ends) {
            let Some(name) = listing.names.get(entry.name.clone()) else { continue };
            let kind = match entry.kind {
                sys::DT_UNKNOWN => match Name::new(name).and_then(|name| self.find(name)?.attr()) {
                    Ok(attr) => attr.kind,
                    // It has gone meanwhile.
                    Err(_) => continue,
                },
                // The other types are the kind bits of a mode.
                known => attr::kind_of_mode(known << 12),
            };
            let next = u64::try_from(end).unwrap_or_default().max(1);
            if !sink(HostEntry { name, number: entry.number, kind, next }) {
                return false;
            }
        }
        true
    }
}

/// A part of a directory. The host's lock on the directory is held while it is filled, so nobody is called meanwhile.
#[repr(C)]
struct Listing {
    context: sys::dir_context,
    found: Vec<Found>,
    names: Vec<u8>,
}

/// An entry of the host.
struct Found {
    /// The position that it is at.
    at: i64,
    number: u64,
    /// DT_REG and so on.
    kind: u32,
    /// Where in `names` its own is.
    name: Range<usize>,
}

impl Listing {
    /// Entries, and bytes of their names, in one part.
    const ENTRIES: usize = 128;
    const NAMES: usize = 4096;

    fn new() -> Result<Self> {
        let context = sys::dir_context { actor: Some(on_entry), pos: 0, count: i32::MAX, dt_flags_mask: 0 };
        let (mut found, mut names) = (Vec::new(), Vec::new());
        found.try_reserve_exact(Self::ENTRIES).map_err(|_| errno!(NOMEM))?;
        names.try_reserve_exact(Self::NAMES).map_err(|_| errno!(NOMEM))?;
        Ok(Self { context, found, names })
    }

    fn clear(&mut self) {
        self.found.clear();
        self.names.clear();
    }

    /// Adds an entry; false if there is no room.
    fn add(&mut self, name: &[u8], at: i64, number: u64, kind: u32) -> bool {
        let start = self.names.len();
        let end = start.saturating_add(name.len());
        if self.found.len() >= Self::ENTRIES || end > Self::NAMES {
            return false;
        }
        self.names.extend_from_slice(name);
        self.found.push(Found { at, number, kind, name: start..end });
        true
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
    at: i64,
    number: u64,
    kind: u32,
) -> bool {
    // SAFETY: Contract.
    let listing = unsafe { &mut *context.cast::<Listing>() };
    let Ok(len) = usize::try_from(len) else { return true };
    // SAFETY: Contract.
    let name = unsafe { core::slice::from_raw_parts(name.cast::<u8>(), len) };
    matches!(name, b"." | b"..") || listing.add(name, at, number, kind)
}
