//! What a file system implements: inodes, and the operations of an open file.
//!
//! Invariants: [`Inode::id`] and [`Inode::kind`] never change. An implementation checks what only it can know (a name exists, a
//! directory is empty); permissions, mounts, symbolic links and `..` are the path walk's, which calls with plain names only.
//! Locks: an implementation holds none of its own while it calls a sink, a guest copy or another inode it does not own.
//! Each default says that the kind of thing has no such operation, with the errno that Linux gives.

use super::dentry::Dentry;
use super::io::{IoDst, IoSrc};
use super::types::{
    Asker, Attr, AttrChange, Credentials, DeviceId, FileKind, FsStat, InodeId, Name, NewNode, OFlags, Ready, RenameFlags, Seals,
};
use super::uses::Uses;
use super::xattr::SetHow;
use crate::platform::{Frames, Platform};
use crate::sync::WaitQueue;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// A counted inode of whatever file system.
pub type InodeRef<P> = Arc<dyn Inode<P>>;
/// A counted open file of whatever kind.
pub type OpsRef<P> = Arc<dyn FileOps<P>>;
/// Takes directory entries; answers whether it has room for another. An entry that is refused comes again.
pub type DirSink<'a> = dyn FnMut(DirEntry<'_>) -> bool + 'a;

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Its name; `.` and `..` too.
    pub name: &'a [u8],
    /// Inode number.
    pub number: u64,
    /// Kind of the inode.
    pub kind: FileKind,
    /// Where to go on after this entry.
    pub next: u64,
}

/// A special file to make. See mknod(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// An empty regular file.
    Regular,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A device of bytes.
    CharDevice(DeviceId),
    /// A device of blocks.
    BlockDevice(DeviceId),
}

impl Special {
    /// The kind of its inode.
    #[must_use]
    pub fn kind(self) -> FileKind {
        match self {
            Self::Regular => FileKind::Regular,
            Self::Fifo => FileKind::Fifo,
            Self::Socket => FileKind::Socket,
            Self::CharDevice(_) => FileKind::CharDevice,
            Self::BlockDevice(_) => FileKind::BlockDevice,
        }
    }
}

/// A file of a file system, with or without a name.
#[expect(clippy::missing_errors_doc, reason = "each default names its errno; the man page of the call has the others")]
pub trait Inode<P: Platform>: Any + Send + Sync + fmt::Debug {
    /// Which inode it is.
    fn id(&self) -> InodeId;
    /// What kind.
    fn kind(&self) -> FileKind;
    /// Its attributes.
    fn attr(&self) -> Result<Attr>;
    /// This, to be downcast by its own file system.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// Changes attributes; all or none.
    fn set_attr(&self, _change: &AttrChange) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// The value of an extended attribute; `NODATA` if there is none.
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(errno!(OPNOTSUPP, "no extended attributes"))
    }
    /// Sets an extended attribute.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _how: SetHow) -> Result<()> {
        Err(errno!(OPNOTSUPP, "no extended attributes"))
    }
    /// Takes an extended attribute away; `NODATA` if there is none.
    fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(errno!(OPNOTSUPP, "no extended attributes"))
    }
    /// The names of its extended attributes, each with a NUL behind it.
    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    /// Figures of its file system.
    fn fs_stat(&self) -> FsStat {
        FsStat { block_size: 4096, blocks: 0, free: 0 }
    }
    /// Whether nothing in its file system can be changed by anybody.
    fn read_only(&self) -> bool {
        false
    }

    /// The entry `name`; `NOENT` if there is none.
    fn lookup(&self, _name: Name<'_>) -> Result<InodeRef<P>> {
        Err(errno!(NOTDIR))
    }
    /// Whether names in it come and go without a call through the path walk, so that none may be remembered.
    fn volatile(&self) -> bool {
        false
    }
    /// Whether it pays, and is right, to keep it in mind when nobody uses it, so that it need not be looked up again.
    fn keepable(&self) -> bool {
        true
    }
    /// Whether the name that it was found by leads to it still, as far as it can tell by itself; asked before a remembered name is used.
    fn is_current(&self) -> bool {
        true
    }
    /// Whether `name` leads to `child` as it did; asked before a remembered name is used.
    fn is_still(&self, _name: Name<'_>, _child: &InodeRef<P>) -> bool {
        true
    }
    /// Makes a file; `EXIST` if the name is taken.
    fn create(&self, _name: Name<'_>, _what: Special, _new: NewNode) -> Result<InodeRef<P>> {
        Err(errno!(PERM, "no files can be made here"))
    }
    /// Makes a regular file without a name.
    fn create_unnamed(&self, _new: NewNode) -> Result<InodeRef<P>> {
        Err(errno!(OPNOTSUPP))
    }
    /// Makes a directory.
    fn mkdir(&self, _name: Name<'_>, _new: NewNode) -> Result<InodeRef<P>> {
        Err(errno!(PERM, "no directories can be made here"))
    }
    /// Makes a symbolic link.
    fn symlink(&self, _name: Name<'_>, _target: &[u8], _new: NewNode) -> Result<InodeRef<P>> {
        Err(errno!(PERM, "no links can be made here"))
    }
    /// Gives `target` another name.
    fn link(&self, _name: Name<'_>, _target: &InodeRef<P>) -> Result<()> {
        Err(errno!(PERM, "no links can be made here"))
    }
    /// Takes a name from what is not a directory.
    fn unlink(&self, _name: Name<'_>) -> Result<()> {
        Err(errno!(PERM, "nothing can be removed here"))
    }
    /// Removes an empty directory.
    fn rmdir(&self, _name: Name<'_>) -> Result<()> {
        Err(errno!(PERM, "nothing can be removed here"))
    }
    /// Moves `from` of this directory to `to` of `dir`, which is of the same file system.
    fn rename(&self, _from: Name<'_>, _dir: &InodeRef<P>, _to: Name<'_>, _flags: RenameFlags) -> Result<()> {
        Err(errno!(PERM, "nothing can be renamed here"))
    }
    /// Gives entries from `cookie` (0 is the start) to `sink` until it has no room; returns the cookie to go on with.
    fn read_dir(&self, _cookie: u64, _sink: &mut DirSink<'_>) -> Result<u64> {
        Err(errno!(NOTDIR))
    }

    /// Whether a page of it was ever asked for, to be mapped; if not, a truncation need not look for mappings.
    fn was_mapped(&self) -> bool {
        true
    }

    /// A symbolic link's target, as `_who` sees it.
    fn readlink(&self, _who: Asker) -> Result<Vec<u8>> {
        Err(errno!(INVAL, "not a symbolic link"))
    }
    /// For a link of /proc that leads to a thing, not to a path: the thing.
    fn jump(&self, _who: Asker) -> Option<Result<Arc<Dentry<P>>>> {
        None
    }

    /// The count of who writes to it or runs it; only regular files of file systems have one.
    fn uses(&self) -> Option<&Uses> {
        None
    }

    /// Opens it. `flags` has access and status flags; creation is done and permission checked.
    fn open(self: Arc<Self>, flags: OFlags) -> Result<OpsRef<P>>;
    /// Opens it for `_who`, where that makes a difference.
    fn open_as(self: Arc<Self>, flags: OFlags, _who: &Credentials) -> Result<OpsRef<P>> {
        self.open(flags)
    }
}

/// Whether an operation may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// It may, until it is interrupted.
    Yes,
    /// It gives `AGAIN` instead.
    No,
}

/// What becomes of a file's length when memory is reserved past its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It grows to the end of what is reserved.
    Moves,
    /// It stays (`FALLOC_FL_KEEP_SIZE`).
    Stays,
}

/// How one transfer is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoCx {
    /// Whether it may wait.
    pub blocking: Blocking,
    /// Whether a write takes the set-id bits off; see [`OFlags::STRIPS`].
    pub strips: bool,
}

/// A terminal's size. See `ioctl_tty(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Width and height in pixels, or 0.
    pub pixels: [u16; 2],
}

/// A terminal's settings, in the numbers of the host's termios(3), which pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Flags of input, output, control and local modes.
    pub modes: [u32; 4],
    /// The line discipline.
    pub line: u8,
    /// Special characters.
    pub characters: [u8; 19],
}

/// When a terminal's new settings hold. See `tcsetattr(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// At once.
    Now,
    /// When all that was written has gone out.
    Drained,
    /// The same, and what was not read is forgotten.
    Flushed,
}

/// What an open file does. An object of an inode, or of none (a pipe).
#[expect(clippy::missing_errors_doc, reason = "each default names its errno; the man page of the call has the others")]
pub trait FileOps<P: Platform>: Send + Sync + fmt::Debug {
    /// Reads from `offset` on; 0 is the end. A stream ignores the offset. A partial transfer is a success.
    fn read_at(&self, _offset: u64, _dst: &mut IoDst<'_, P>, _cx: IoCx) -> Result<usize> {
        Err(errno!(INVAL, "not readable"))
    }
    /// Writes at `offset`. A stream ignores the offset. A partial transfer is a success.
    fn write_at(&self, _offset: u64, _src: &mut IoSrc<'_, P>, _cx: IoCx) -> Result<usize> {
        Err(errno!(INVAL, "not writable"))
    }
    /// Writes at the end, in one step against other appends; returns the count and the offset after it.
    fn append(&self, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<(usize, u64)> {
        self.write_at(0, src, cx).map(|count| (count, 0))
    }
    /// Whether it has offsets.
    fn seekable(&self) -> bool {
        false
    }
    /// Its length, where offsets have an end.
    fn size(&self) -> Result<u64> {
        Err(errno!(SPIPE))
    }
    /// Its length as page faults see it: what is at hand, without asking a file server.
    fn mapped_size(&self) -> Result<u64> {
        self.size()
    }
    /// The first offset from `offset` on that has data, or is a hole; the end counts as a hole.
    fn seek_data(&self, offset: u64, want_hole: bool) -> Result<u64> {
        let size = self.size()?;
        if offset >= size {
            return Err(errno!(NXIO, "at or past the end"));
        }
        Ok(if want_hole { size } else { offset })
    }
    /// Cuts or extends it.
    fn truncate(&self, _size: u64) -> Result<()> {
        Err(errno!(INVAL, "has no length"))
    }
    /// Reserves memory for a range, which may lie past the end.
    fn allocate(&self, _offset: u64, _len: u64, _end: End) -> Result<()> {
        Err(errno!(OPNOTSUPP))
    }
    /// Makes a range zeros and gives its memory back; the length stays.
    fn punch(&self, _offset: u64, _len: u64) -> Result<()> {
        Err(errno!(OPNOTSUPP))
    }
    /// Makes what was written last.
    fn sync(&self) -> Result<()> {
        Err(errno!(INVAL, "cannot be synchronised"))
    }
    /// What it is ready for now; with a watcher, also wakes that at each change from now on.
    fn poll(&self, _watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        Ready::IN | Ready::OUT
    }
    /// Whether it can be waited for at all, as epoll(7) needs it; what cannot is always ready.
    fn pollable(&self) -> bool {
        false
    }
    /// This, for calls that are for one kind of file only.
    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
    /// Bytes that can be read without waiting (`FIONREAD`).
    fn readable_bytes(&self) -> Result<u64> {
        Err(errno!(NOTTY))
    }
    /// Whether it is a terminal that stops who uses it in the background, which the ABI above sees to.
    fn has_jobs(&self) -> bool {
        false
    }
    /// The terminal's settings, if it is a terminal whose settings are known.
    fn terminal(&self) -> Result<Terminal> {
        Err(errno!(NOTTY))
    }
    /// Changes the terminal's settings.
    fn set_terminal(&self, _settings: &Terminal, _apply: Apply) -> Result<()> {
        Err(errno!(NOTTY))
    }
    /// The terminal's size, if it is a terminal.
    fn window_size(&self) -> Result<WindowSize> {
        Err(errno!(NOTTY))
    }
    /// The frame of page `index`, for a mapping: the same one until a truncation drops it. A hole becomes a page. What lies past
    /// the end of the file within the last page is zero; a page wholly past it is `FAULT`. May sleep.
    fn page(&self, _index: u64, _for_write: bool) -> Result<<P as Frames>::Frame> {
        Err(errno!(NODEV, "cannot be mapped"))
    }
    /// The frame of page `index` if it is in memory. Called under an address space's lock: does not wait for input.
    fn resident(&self, _index: u64) -> Option<<P as Frames>::Frame> {
        None
    }
    /// What can never be done to it any more; only a file in memory has that.
    fn seals(&self) -> Result<Seals> {
        Err(errno!(INVAL, "cannot be sealed"))
    }
    /// Adds seals; `PERM` if it has [`Seals::SEAL`], `BUSY` for [`Seals::WRITE`] while a mapping may write to it.
    fn add_seals(&self, _add: Seals) -> Result<()> {
        Err(errno!(INVAL, "cannot be sealed"))
    }
    /// Begins a mapping that may write to it; `PERM` if it is sealed against that.
    fn begin_writable_mapping(&self) -> Result<()> {
        Ok(())
    }
    /// Ends what [`FileOps::begin_writable_mapping`] began.
    fn end_writable_mapping(&self) {}
    /// Whether a mapping may write to page `index`, which is `frame`, at once; [`Self::prepare_write`] first if not. Does not wait.
    fn is_write_ready(&self, _index: u64, _frame: &<P as Frames>::Frame) -> bool {
        true
    }
    /// Sees to it that a mapping may write to page `index`. May sleep.
    fn prepare_write(&self, _index: u64) -> Result<()> {
        Ok(())
    }
    /// Sees to it that what mappings have written is what [`Self::sync`] makes last. `hide` has all of them fault before they write again;
    /// it is called where that is needed.
    fn settle(&self, _hide: &mut dyn FnMut()) -> Result<()> {
        Ok(())
    }
    /// Whether it can be mapped at all.
    fn mappable(&self) -> bool {
        false
    }
    /// Whether each mapping of it is fresh memory of zeros, as of nothing.
    fn maps_zeros(&self) -> bool {
        false
    }
}
