//! Directories of Windows's, below one that a launcher gave: looked at, not changed.
//!
//! Confinement: each step opens one plain name (`names`) relative to a handle, with links not followed, and what is a link or another
//! reparse point is refused. So nothing outside of the given directory is ever named. Case matters, as Linux's programs expect: an
//! entry is there if the disk spells it so. IRQL: `PASSIVE_LEVEL`.

use super::WindowsKernel;
use super::file::{NtFile, attr_of, is_dir};
use crate::names::is_plain;
use crate::nt::Handle;
use crate::nt::file::{IS_DIRECTORY, IS_REPARSE_POINT, READ, READ_ATTRIBUTES, Wanted};
use crate::nt::string::{bytes_of, units_of};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostLeaf, HostNode};
use litebox_core::fs::types::{Attr, FileKind, Name, OFlags};
use litebox_core::sync::Mutex;

/// One entry of a listing.
#[derive(Debug)]
struct Listed {
    name: String,
    number: u64,
    kind: FileKind,
}

/// A directory.
#[derive(Debug)]
struct NtDir {
    handle: Arc<Handle>,
    /// What the last reader from the start found: cookies are places in it, as Windows has none.
    listing: Mutex<WindowsKernel, Arc<Vec<Listed>>>,
}

/// What is not one.
#[derive(Debug)]
struct NtLeaf {
    dir: Arc<Handle>,
    name: Vec<u16>,
    handle: Handle,
}

/// The directory that a handle of the launcher's is.
///
/// # Errors
/// `ACCESS`: the handle is not for listing it.
pub(crate) fn dir(handle: Handle) -> Result<Arc<dyn HostDir<WindowsKernel>>> {
    if handle.rights() & READ == 0 {
        return Err(errno!(ACCESS, "the launcher's handle is not for listing the directory"));
    }
    Ok(Arc::new(NtDir::new(handle)))
}

impl NtDir {
    fn new(handle: Handle) -> Self {
        Self { handle: Arc::new(handle), listing: Mutex::<WindowsKernel, _>::new(Arc::default()) }
    }
}

impl HostDir<WindowsKernel> for NtDir {
    fn attr(&self) -> Result<Attr> {
        attr_of(&self.handle, FileKind::Directory)
    }

    fn lookup(&self, name: Name<'_>) -> Result<HostNode<WindowsKernel>> {
        let text = core::str::from_utf8(name.as_bytes()).unwrap_or_default();
        if !is_plain(text) {
            return Err(errno!(NOENT, "no name of Windows's"));
        }
        let name = units_of(name.as_bytes())?;
        let handle = self.handle.open_at(&name, READ_ATTRIBUTES, Wanted::Any)?;
        if !handle.is_named(&name) {
            return Err(errno!(NOENT, "the host has one of another case"));
        }
        let attributes = handle.basic()?.attributes;
        if attributes & IS_REPARSE_POINT != 0 {
            return Err(errno!(ACCESS, "a link of the host's is not followed"));
        }
        if is_dir(&handle) {
            let handle = self.handle.open_at(&name, READ | READ_ATTRIBUTES, Wanted::Directory)?;
            return Ok(HostNode::Dir(Arc::new(Self::new(handle))));
        }
        Ok(HostNode::Leaf(Arc::new(NtLeaf { dir: Arc::clone(&self.handle), name, handle })))
    }

    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        let mut listing = self.listing.lock();
        if cookie == 0 {
            let mut fresh = Vec::new();
            self.handle.list(|name, number, attributes| {
                // Nobody could ask for a name that is not plain, so nobody is shown one.
                let name = bytes_of(name).filter(|name| is_plain(name));
                let kind = if attributes & IS_DIRECTORY != 0 { FileKind::Directory } else { FileKind::Regular };
                if let Some(name) = name.filter(|_| attributes & IS_REPARSE_POINT == 0) {
                    fresh.push(Listed { name, number, kind });
                }
            })?;
            fresh.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            *listing = Arc::new(fresh);
        }
        let shown = Arc::clone(&listing);
        drop(listing);
        let from = usize::try_from(cookie).unwrap_or(usize::MAX);
        for (next, Listed { name, number, kind }) in (1_u64..).zip(shown.iter()).skip(from) {
            if !sink(HostEntry { name: name.as_bytes(), number: *number, kind: *kind, next }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl HostLeaf<WindowsKernel> for NtLeaf {
    fn attr(&self) -> Result<Attr> {
        attr_of(&self.handle, FileKind::Regular)
    }

    fn open(&self, access: OFlags) -> Result<Arc<dyn HostFile<WindowsKernel>>> {
        if access.contains(OFlags::WRITE) {
            return Err(errno!(ROFS, "directories of Windows's are shared for looking only"));
        }
        let handle = self.dir.open_at(&self.name, READ | READ_ATTRIBUTES, Wanted::Any)?;
        // The name may be another file's by now.
        if handle.number()? != self.handle.number()? {
            return Err(errno!(STALE, "the host has another file of that name"));
        }
        Ok(Arc::new(NtFile::new(handle, FileKind::Regular, false, READ)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
