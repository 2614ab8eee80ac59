//! What a host hands in: files, streams and directories of whoever launched the sandbox.
//!
//! A platform implements these as objects; they cross into the library OS once, at launch or by [`HostDir::lookup`]. Every byte
//! goes through buffers of the library OS: no guest address reaches the host. Implementors hold no lock of the library OS and
//! may sleep; a wait that may last is interruptible and gives [`crate::error::Error::Interrupted`].

use super::inode::{Apply, Blocking, Terminal, WindowSize};
use super::types::{Attr, AttrChange, Mode, Name, OFlags, Ready, RenameFlags};
use crate::platform::Platform;
use crate::sync::WaitQueue;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// An open file, pipe or terminal of the host.
#[expect(clippy::missing_errors_doc, reason = "the errors are the host's")]
pub trait HostFile<P: Platform>: Send + Sync + fmt::Debug {
    /// Its attributes as the host has them.
    fn attr(&self) -> Result<Attr>;
    /// Access and status flags of the host's own open file description.
    fn flags(&self) -> OFlags {
        OFlags::READ | OFlags::WRITE
    }
    /// Whether it has offsets; a stream ignores the ones below.
    fn seekable(&self) -> bool;
    /// Where the host's own open file description stands; a file of the sandbox begins there.
    fn position(&self) -> u64 {
        0
    }
    /// Which open file description of the host it is: the same for two descriptors that share offset and flags. `None` if no
    /// other can be the same.
    fn description(&self) -> Option<usize> {
        None
    }
    /// Reads into `dst`; 0 is the end. May give less.
    fn read(&self, offset: u64, dst: &mut [u8], blocking: Blocking) -> Result<usize>;
    /// Writes `src`. May take less.
    fn write(&self, _offset: u64, _src: &[u8], _blocking: Blocking) -> Result<usize> {
        Err(errno!(ROFS))
    }
    /// Writes `src` at the end, in one step against other appends where the host has that; returns the count and the offset after it.
    fn append(&self, src: &[u8], blocking: Blocking) -> Result<(usize, u64)> {
        let end = self.attr()?.size;
        let count = self.write(end, src, blocking)?;
        Ok((count, end.saturating_add(u64::try_from(count).unwrap_or(0))))
    }
    /// Cuts or extends it.
    fn truncate(&self, _size: u64) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// Makes what was written last.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// What it is ready for; with a watcher, wakes that at each change from now on.
    fn poll(&self, _watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        Ready::IN | Ready::OUT
    }
    /// The settings of the terminal that it is, or `NOTTY`.
    fn terminal(&self) -> Result<Terminal> {
        Err(errno!(NOTTY))
    }
    /// Changes the settings of the terminal that it is. `NOTTY` too where the host lets nobody.
    fn set_terminal(&self, _settings: &Terminal, _apply: Apply) -> Result<()> {
        Err(errno!(NOTTY))
    }
    /// The size of the terminal that it is, or `NOTTY`.
    fn window_size(&self) -> Result<WindowSize> {
        Err(errno!(NOTTY))
    }
    /// The frame of page `index` of a regular file, out of the host's page cache where that is possible; the same one
    /// each time, as long as the host keeps it. Never written to.
    fn page(&self, _index: u64) -> Result<P::Frame> {
        Err(errno!(NODEV, "cannot be mapped"))
    }
    /// The same frame if the host has it in memory. Does not wait for input; for filling page tables around a fault.
    fn resident(&self, _index: u64) -> Option<P::Frame> {
        None
    }
    /// The same if what is in it is what [`Self::read`] would give: not where a file server is asked for each read.
    fn cached(&self, _index: u64) -> Option<P::Frame> {
        None
    }
    /// The frame of page `index` of the page cache, which the host writes out from now on as it is then: it has room for it. To be called
    /// again, with no mapping that may write to it, after stores that the host has not seen. `FAULT`: past the end; `NODEV`: it does not
    /// let its pages be written to.
    fn page_to_write(&self, _index: u64) -> Result<P::Frame> {
        Err(errno!(NODEV, "the host's pages are not the guest's to write to"))
    }
    /// Whether [`Self::page_to_write`] can be had.
    fn shares_writes(&self) -> bool {
        false
    }
    /// Its length as the host has it at hand, as a page fault of its own would take it: no file server is asked.
    fn length_at_hand(&self) -> Result<u64> {
        Ok(self.attr()?.size)
    }
}

/// What [`HostDir::lookup`] found.
#[derive(Debug)]
pub enum HostNode<P: Platform> {
    /// A directory.
    Dir(Arc<dyn HostDir<P>>),
    /// A symbolic link, and its target.
    Symlink(Arc<dyn HostLeaf<P>>, Vec<u8>),
    /// Anything else.
    Leaf(Arc<dyn HostLeaf<P>>),
}

/// What is no directory. It stays the one that was found, whatever becomes of its name.
#[expect(clippy::missing_errors_doc, reason = "the errors are the host's")]
pub trait HostLeaf<P: Platform>: Send + Sync + fmt::Debug {
    /// Its present attributes.
    fn attr(&self) -> Result<Attr>;
    /// Whether the name that it was found by leads to it still; false as well where the host cannot tell without looking it up.
    fn is_current(&self) -> bool {
        false
    }
    /// Opens the regular file that it is, for what `access` says of [`OFlags::READ`] and [`OFlags::WRITE`].
    fn open(&self, access: OFlags) -> Result<Arc<dyn HostFile<P>>>;
    /// Changes attributes.
    fn set_attr(&self, _change: &AttrChange) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// This, for [`HostDir::link`] of the same host.
    fn as_any(&self) -> &dyn Any;
}

/// One entry that a host directory lists; `.` and `..` are left out.
#[derive(Clone, Copy, Debug)]
pub struct HostEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Inode number.
    pub number: u64,
    /// Its kind.
    pub kind: super::types::FileKind,
    /// Where to go on after it, above 0.
    pub next: u64,
}

/// A directory of the host. One name at a time: no path, no `..`, no symbolic link is ever followed by the host.
///
/// What changes something is refused unless the host has been asked to share it for writing.
#[expect(clippy::missing_errors_doc, reason = "the errors are the host's")]
pub trait HostDir<P: Platform>: Send + Sync + fmt::Debug {
    /// Its attributes.
    fn attr(&self) -> Result<Attr>;
    /// Whether it may be listed; `ACCESS` if not.
    fn may_list(&self) -> Result<()> {
        Ok(())
    }
    /// The entry `name`, not followed; `NOENT` if there is none.
    fn lookup(&self, name: Name<'_>) -> Result<HostNode<P>>;
    /// Gives entries from `cookie` (0 is the start) to `sink` until it answers that it has no room.
    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()>;
    /// This, for [`HostDir::rename`] of the same host.
    fn as_any(&self) -> &dyn Any;

    /// Changes attributes.
    fn set_attr(&self, _change: &AttrChange) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// Makes an empty regular file; `EXIST` if the name is taken. The owner is whoever launched the sandbox; so for the next two.
    fn create(&self, _name: Name<'_>, _mode: Mode) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// Makes a directory.
    fn mkdir(&self, _name: Name<'_>, _mode: Mode) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// Makes a symbolic link; `target` has no NUL.
    fn symlink(&self, _name: Name<'_>, _target: &[u8]) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// Gives `leaf` another name.
    fn link(&self, _name: Name<'_>, _leaf: &dyn HostLeaf<P>) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// Takes a name from what is not a directory.
    fn unlink(&self, _name: Name<'_>) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// Removes an empty directory.
    fn rmdir(&self, _name: Name<'_>) -> Result<()> {
        Err(errno!(ROFS))
    }
    /// Moves `from` of this directory to `to` of `dir`.
    fn rename(&self, _from: Name<'_>, _dir: &dyn HostDir<P>, _to: Name<'_>, _flags: RenameFlags) -> Result<()> {
        Err(errno!(ROFS))
    }
}
