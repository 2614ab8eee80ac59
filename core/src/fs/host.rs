//! What a host hands in: files, streams and directories of whoever launched the sandbox.
//!
//! A platform implements these as objects; they cross into the library OS once, at launch or by [`HostDir::lookup`]. Every byte
//! goes through buffers of the library OS: no guest address reaches the host. Implementors hold no lock of the library OS and
//! may sleep; a wait that may last is interruptible and gives [`crate::error::Error::Interrupted`].

use super::inode::{Apply, Blocking, Terminal, WindowSize};
use super::types::{Attr, Name, OFlags, Ready};
use crate::platform::Platform;
use crate::sync::WaitQueue;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
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
    /// Reads into `dst`; 0 is the end. May give less.
    fn read(&self, offset: u64, dst: &mut [u8], blocking: Blocking) -> Result<usize>;
    /// Writes `src`. May take less.
    fn write(&self, _offset: u64, _src: &[u8], _blocking: Blocking) -> Result<usize> {
        Err(errno!(ROFS))
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
}

/// What [`HostDir::lookup`] found.
#[derive(Debug)]
pub enum HostNode<P: Platform> {
    /// A directory.
    Dir(Arc<dyn HostDir<P>>),
    /// A symbolic link, and its target.
    Symlink(Attr, Vec<u8>),
    /// Anything else: opened by [`HostDir::open`] when it is needed.
    Other(Attr),
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

/// A read-only directory of the host. One name at a time: no path, no `..`, no symbolic link is ever followed by the host.
#[expect(clippy::missing_errors_doc, reason = "the errors are the host's")]
pub trait HostDir<P: Platform>: Send + Sync + fmt::Debug {
    /// Its attributes.
    fn attr(&self) -> Result<Attr>;
    /// The entry `name`, not followed; `NOENT` if there is none.
    fn lookup(&self, name: Name<'_>) -> Result<HostNode<P>>;
    /// The present attributes of the entry `name`, not followed.
    fn attr_of(&self, name: Name<'_>) -> Result<Attr>;
    /// Opens the regular file `name` for reading, not followed.
    fn open(&self, name: Name<'_>) -> Result<Arc<dyn HostFile<P>>>;
    /// Gives entries from `cookie` (0 is the start) to `sink` until it answers that it has no room.
    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()>;
}
