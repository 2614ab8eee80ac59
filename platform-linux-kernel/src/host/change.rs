// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Changes to the host's directories, for what is shared for writing.
//!
//! Invariants: a change is bracketed by the mount's permission to write, and made under the directory's own lock by the host's
//! functions, which check permission with the carrier's credentials; what is made is the launcher's user's. Set-id bits are never put
//! on a file: they would lend that user to whoever runs it on the host. Locks: the host's only.
//! Sources: Linux fs/namei.c (start_creating to end_renaming), fs/open.c, fs/utimes.c.

use super::attr::{check, from_kernel};
use super::dir::{Dir, Place};
use crate::sys;
use alloc::vec::Vec;
use core::mem;
use core::ptr;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::types::{AttrChange, FileKind, Mode, Name, RenameFlags, SetTime};

/// The mount may be written to until this is dropped.
struct Writing(*mut sys::vfsmount);

impl Writing {
    fn begin(place: &Place) -> Result<Self> {
        // SAFETY: A live mount, which outlives this: each user borrows the place meanwhile.
        check(unsafe { sys::mnt_want_write(place.0.mnt) })?;
        Ok(Self(place.0.mnt))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // SAFETY: Ends what `begin` began.
        unsafe { sys::mnt_drop_write(self.0) };
    }
}

/// A name whose directory is locked for a change of it; dropping it unlocks.
struct Changing(*mut sys::dentry);

impl Changing {
    /// # Safety
    /// `name` is an error pointer, or what one of the host's `start_…` gave.
    unsafe fn new(name: *mut sys::dentry) -> Result<Self> {
        kernel::error::from_err_ptr(name).map(Self).map_err(from_kernel)
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        // SAFETY: Ends what the host's `start_…` began, whose parent is locked and referenced.
        unsafe { sys::end_dirop(self.0) };
    }
}

/// A name as the host has it, without its hash.
fn qstr(name: &[u8]) -> Result<sys::qstr> {
    let len = u32::try_from(name.len()).map_err(|_long| errno!(NAMETOOLONG))?;
    let mut text = sys::qstr::default();
    text.__bindgen_anon_1.__bindgen_anon_1.len = len;
    text.name = name.as_ptr();
    Ok(text)
}

/// A mode of a file as the host takes it.
fn file_mode(mode: Mode) -> u16 {
    (mode & !(Mode::SETUID | Mode::SETGID)).bits() as u16
}

impl Dir {
    fn dentry(&self) -> *mut sys::dentry {
        self.0.0.dentry
    }

    /// Locks the directory and finds `name`, which is free.
    fn start_making(&self, name: Name<'_>) -> Result<Changing> {
        let mut text = qstr(name.as_bytes())?;
        // SAFETY: Our own references; the text outlives the call, which copies it.
        let name = unsafe { Changing::new(sys::start_creating(self.0.idmap(), self.dentry(), &raw mut text)) }?;
        // SAFETY: A referenced dentry, which the lock keeps as it is.
        if unsafe { (*name.0).d_inode }.is_null() { Ok(name) } else { Err(errno!(EXIST)) }
    }

    /// Locks the directory and finds `name`, which is taken.
    fn start_removing(&self, name: Name<'_>) -> Result<Changing> {
        let mut text = qstr(name.as_bytes())?;
        // SAFETY: As in `start_making`.
        unsafe { Changing::new(sys::start_removing(self.0.idmap(), self.dentry(), &raw mut text)) }
    }

    /// Makes an empty regular file.
    pub(super) fn make_file(&self, name: Name<'_>, mode: Mode) -> Result<()> {
        let _writing = Writing::begin(&self.0)?;
        let name = self.start_making(name)?;
        // SAFETY: A free name in a locked directory; no delegation is waited for (null).
        check(unsafe { sys::vfs_create(self.0.idmap(), name.0, file_mode(mode), ptr::null_mut()) })
    }

    /// Makes a directory.
    pub(super) fn make_dir(&self, name: Name<'_>, mode: Mode) -> Result<()> {
        let _writing = Writing::begin(&self.0)?;
        let name = self.start_making(name)?;
        let free = name.0;
        // The host ends the change itself if it fails, and may give another dentry if it does not.
        mem::forget(name);
        // SAFETY: As in `make_file`.
        let made = unsafe { sys::vfs_mkdir(self.0.idmap(), self.0.inode(), free, mode.bits() as u16, ptr::null_mut()) };
        // SAFETY: The change goes on with what came, or has ended.
        unsafe { Changing::new(made) }.map(drop)
    }

    /// Makes a symbolic link.
    pub(super) fn make_symlink(&self, name: Name<'_>, target: &[u8]) -> Result<()> {
        let mut text = Vec::new();
        text.try_reserve_exact(target.len().saturating_add(1)).map_err(|_| errno!(NOMEM))?;
        text.extend_from_slice(target);
        text.push(0);
        let _writing = Writing::begin(&self.0)?;
        let name = self.start_making(name)?;
        // SAFETY: As in `make_file`; a string with its end.
        let result = unsafe { sys::vfs_symlink(self.0.idmap(), self.0.inode(), name.0, text.as_ptr().cast(), ptr::null_mut()) };
        check(result)
    }

    /// Gives `place` another name. It must be the user's own, as fs.protected_hardlinks asks for.
    pub(super) fn make_link(&self, name: Name<'_>, place: &Place) -> Result<()> {
        if place.0.mnt != self.0.0.mnt {
            return Err(errno!(XDEV));
        }
        // SAFETY: A live inode, seen through this mount.
        if !unsafe { sys::inode_owner_or_capable(self.0.idmap(), place.inode()) } {
            return Err(errno!(PERM, "only the owner gives a file of the host another name"));
        }
        let _writing = Writing::begin(&self.0)?;
        let name = self.start_making(name)?;
        // SAFETY: As in `make_file`; the other dentry is referenced.
        let result = unsafe { sys::vfs_link(place.0.dentry, self.0.idmap(), self.0.inode(), name.0, ptr::null_mut()) };
        check(result)
    }

    /// Takes a name from what is no directory.
    pub(super) fn remove_name(&self, name: Name<'_>) -> Result<()> {
        let _writing = Writing::begin(&self.0)?;
        let name = self.start_removing(name)?;
        // SAFETY: A taken name in a locked directory.
        check(unsafe { sys::vfs_unlink(self.0.idmap(), self.0.inode(), name.0, ptr::null_mut()) })
    }

    /// Removes an empty directory.
    pub(super) fn remove_dir(&self, name: Name<'_>) -> Result<()> {
        let _writing = Writing::begin(&self.0)?;
        let name = self.start_removing(name)?;
        // SAFETY: A taken name in a locked directory.
        check(unsafe { sys::vfs_rmdir(self.0.idmap(), self.0.inode(), name.0, ptr::null_mut()) })
    }

    /// Moves `from` of this directory to `to` of `dir`.
    pub(super) fn move_name(&self, from: Name<'_>, dir: &Self, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        if dir.0.0.mnt != self.0.0.mnt {
            return Err(errno!(XDEV));
        }
        let mut bits = 0;
        if flags.contains(RenameFlags::NOREPLACE) {
            bits |= sys::RENAME_NOREPLACE;
        }
        if flags.contains(RenameFlags::EXCHANGE) {
            bits |= sys::RENAME_EXCHANGE;
        }
        let (mut from, mut to) = (qstr(from.as_bytes())?, qstr(to.as_bytes())?);
        let _writing = Writing::begin(&self.0)?;
        let mut rename = sys::renamedata {
            mnt_idmap: self.0.idmap(),
            old_parent: self.dentry(),
            new_parent: dir.dentry(),
            flags: bits,
            ..sys::renamedata::default()
        };
        // SAFETY: Our own references; the texts outlive the call. On success both directories are locked.
        check(unsafe { sys::start_renaming(&raw mut rename, 0, &raw mut from, &raw mut to) })?;
        // SAFETY: What `start_renaming` filled in.
        let result = unsafe { sys::vfs_rename(&raw mut rename) };
        // SAFETY: Ends what it began.
        unsafe { sys::end_renaming(&raw mut rename) };
        check(result)
    }
}

/// A time as vfs_utimes takes it.
fn time(time: Option<SetTime>) -> sys::timespec64 {
    match time {
        None => sys::timespec64 { tv_sec: 0, tv_nsec: sys::UTIME_OMIT as isize },
        Some(SetTime::Now) => sys::timespec64 { tv_sec: 0, tv_nsec: sys::UTIME_NOW as isize },
        Some(SetTime::At(at)) => sys::timespec64 { tv_sec: at.seconds, tv_nsec: at.nanoseconds as isize },
    }
}

impl Place {
    /// Changes attributes. The owner stays who it is.
    pub(super) fn set_attr(&self, change: &AttrChange) -> Result<()> {
        let now = self.attr()?;
        if change.uid.is_some_and(|uid| uid != now.uid) || change.gid.is_some_and(|gid| gid != now.gid) {
            return Err(errno!(PERM, "files of the host stay their owner's"));
        }
        if let Some(size) = change.size {
            let size = i64::try_from(size).map_err(|_big| errno!(FBIG))?;
            // SAFETY: Our own references.
            check(unsafe { sys::vfs_truncate(&raw const self.0, size) })?;
        }
        if let Some(mode) = change.mode {
            self.set_mode(now.kind, mode)?;
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let mut times = [time(change.accessed), time(change.modified)];
            // SAFETY: Our own references, and two times.
            check(unsafe { sys::vfs_utimes(&raw const self.0, times.as_mut_ptr()) })?;
        }
        Ok(())
    }

    fn set_mode(&self, kind: FileKind, mode: Mode) -> Result<()> {
        let bits = match kind {
            FileKind::Symlink => return Err(errno!(OPNOTSUPP, "a symbolic link has no mode of its own")),
            FileKind::Directory => mode.bits() as u16,
            _ => file_mode(mode),
        };
        let _writing = Writing::begin(self)?;
        let inode = self.inode();
        let mut new = sys::iattr { ia_valid: sys::ATTR_MODE | sys::ATTR_CTIME, ..sys::iattr::default() };
        // SAFETY: A live inode; as inode_lock does.
        unsafe { sys::down_write(&raw mut (*inode).i_rwsem) };
        // SAFETY: A live inode, locked.
        new.ia_mode = bits | unsafe { (*inode).i_mode } & sys::S_IFMT as u16;
        // SAFETY: As above, and our own attributes; no delegation is waited for (null).
        let result = unsafe { sys::notify_change(self.idmap(), self.0.dentry, &raw mut new, ptr::null_mut()) };
        // SAFETY: Locked above.
        unsafe { sys::up_write(&raw mut (*inode).i_rwsem) };
        check(result)
    }
}
