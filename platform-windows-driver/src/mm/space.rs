//! What one address space shows: our own list of entries, and the engine's tables, which hold the same.
//!
//! The list is what copies to and from a guest walk: no address of a guest's is ever dereferenced. Invariant: an entry's frame is
//! kept by whoever mapped it until `unmap` has returned, so a page found under the lock is alive while the lock is held.
//! Locks: `entries` is a leaf; the engine's own lock is taken under it.

use super::frame::{self, Frame, SIZE};
use crate::host::WindowsKernel;
use crate::trap::{Seed, Tables};
use alloc::collections::{BTreeMap, btree_map};
use core::fmt;
use core::ptr::NonNull;
use litebox_core::mm::{Access, GuestAddr, Prot};
use litebox_core::platform::Mapping;
use litebox_locks::RawRwLock;
use lock_api::RwLock;

/// One page that is shown.
#[derive(Clone, Copy)]
struct Entry {
    page: NonNull<u8>,
    prot: Prot,
}

// SAFETY: A page belongs to no thread; see `frame`.
unsafe impl Send for Entry {}
// SAFETY: As above.
unsafe impl Sync for Entry {}

impl Entry {
    fn of(mapping: &Mapping<'_, Frame>) -> Self {
        Self { page: mapping.frame.page(), prot: mapping.prot }
    }

    fn allows(self, access: Access) -> bool {
        match access {
            Access::Read => !self.prot.is_empty(),
            Access::Write => self.prot.contains(Prot::WRITE),
            Access::Exec => self.prot.contains(Prot::EXEC),
        }
    }
}

/// The host's side of an address space.
pub(crate) struct Space {
    entries: RwLock<RawRwLock<WindowsKernel>, BTreeMap<u64, Entry>>,
    tables: Tables,
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Space")
    }
}

impl Space {
    /// One that shows nothing.
    pub(crate) fn new() -> Option<Self> {
        Some(Self { entries: RwLock::new(BTreeMap::new()), tables: Tables::new()? })
    }

    /// A new thread in it.
    pub(crate) fn seed(&self) -> Option<Seed> {
        self.tables.seed()
    }

    /// Fills absent entries. False if the engine has no memory.
    pub(crate) fn fill<'a>(&self, mappings: impl Iterator<Item = Mapping<'a, Frame>>) -> bool {
        let mut entries = self.entries.write();
        let mut fresh = mappings.filter_map(|mapping| match entries.entry(mapping.addr.page()) {
            btree_map::Entry::Occupied(_) => None,
            btree_map::Entry::Vacant(vacant) => {
                let Entry { page, prot } = *vacant.insert(Entry::of(&mapping));
                Some((mapping.addr, page, prot))
            }
        });
        self.tables.map(&mut fresh)
    }

    /// Puts one entry where there is none or another one. False if the engine has no memory.
    pub(crate) fn replace(&self, mapping: &Mapping<'_, Frame>) -> bool {
        let mut entries = self.entries.write();
        let entry = Entry::of(mapping);
        entries.insert(mapping.addr.page(), entry);
        self.tables.map(&mut core::iter::once((mapping.addr, entry.page, entry.prot)))
    }

    /// Removes the entries of a range; nobody in ring 3 can use one afterwards.
    pub(crate) fn unmap(&self, start: GuestAddr, end: GuestAddr) {
        let mut entries = self.entries.write();
        let mut tail = entries.split_off(&start.page());
        let mut after = tail.split_off(&end.page());
        entries.append(&mut after);
        if !tail.is_empty() {
            self.tables.unmap(start, end);
        }
    }

    /// Whether the entry at `addr` allows `access`: for a fault that another thread has resolved meanwhile.
    #[cfg_attr(not(feature = "wine-double"), expect(dead_code, reason = "an engine's that is not told which access faulted"))]
    pub(crate) fn allows(&self, addr: GuestAddr, access: Access) -> bool {
        self.entries.read().get(&addr.page()).is_some_and(|entry| entry.allows(access))
    }

    /// Copies out of the page at `addr`, which must not reach into the next; whether it may be read.
    pub(crate) fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> bool {
        let entries = self.entries.read();
        let Some(entry) = entries.get(&addr.page()).filter(|entry| entry.allows(Access::Read)) else { return false };
        // SAFETY: An entry under the lock shows a page that is alive.
        unsafe { frame::read(entry.page, addr.offset_in_page(), dst) == dst.len() }
    }

    /// The same to the `len` bytes of `frame` from `offset` on.
    pub(crate) fn read_to(&self, addr: GuestAddr, frame: &Frame, offset: usize, len: usize) -> bool {
        let entries = self.entries.read();
        let Some(entry) = entries.get(&addr.page()).filter(|entry| entry.allows(Access::Read)) else { return false };
        // SAFETY: As in `write_from`, with the roles exchanged.
        unsafe { frame::copy((entry.page, addr.offset_in_page()), (frame.page(), offset), len) == len }
    }

    /// Copies into the page at `addr`, which must not reach into the next; whether it may be written.
    pub(crate) fn write(&self, addr: GuestAddr, src: &[u8]) -> bool {
        let entries = self.entries.read();
        let Some(entry) = entries.get(&addr.page()).filter(|entry| entry.allows(Access::Write)) else { return false };
        // SAFETY: As in `read`.
        unsafe { frame::write(entry.page, addr.offset_in_page(), src) == src.len() }
    }

    /// The same of `len` bytes of `frame` from `offset` on.
    pub(crate) fn write_from(&self, addr: GuestAddr, frame: &Frame, offset: usize, len: usize) -> bool {
        let entries = self.entries.read();
        let Some(entry) = entries.get(&addr.page()).filter(|entry| entry.allows(Access::Write)) else { return false };
        // SAFETY: An entry under the lock shows a page that is alive, and the handle keeps the other.
        unsafe { frame::copy((frame.page(), offset), (entry.page, addr.offset_in_page()), len) == len }
    }
}

/// How much of `len` bytes at `addr` lies in its page.
pub(crate) fn in_page(addr: GuestAddr, len: usize) -> usize {
    len.min(SIZE.saturating_sub(addr.offset_in_page()))
}
