//! Listing a merged directory: first the names below that are shown, then those that are above only.
//!
//! Invariant: what is below never changes, so its names are read once, sorted, and the cookie of one is its place among them. A
//! name that is copied up or replaced while somebody lists stays where it was, so it comes once.

use super::{Node, Shared, is_whiteout, optional};
use crate::fs::inode::{DirEntry, DirSink, InodeRef};
use crate::fs::types::{FileKind, Name, NameBuf};
use crate::platform::Platform;
use crate::quota::Charge;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Cookies from here on are those of the directory above.
const UPPER: u64 = 1 << 40;
/// What a remembered name is charged beside its bytes.
const NAME_COST: u64 = 64;

/// The names below, in order, without `.` and `..`.
pub(super) struct Listing {
    names: Vec<(NameBuf, u64, FileKind)>,
    _charges: Vec<Charge>,
}

impl Listing {
    fn has(&self, name: &[u8]) -> bool {
        self.names.binary_search_by(|(known, ..)| known.as_bytes().cmp(name)).is_ok()
    }
}

impl<P: Platform> Node<P> {
    /// The names below, read now or earlier.
    fn listing(&self, lower: &InodeRef<P>) -> Result<Arc<Listing>> {
        if let Some(listing) = &*self.listing.lock() {
            return Ok(Arc::clone(listing));
        }
        let (mut names, mut charges, mut failed) = (Vec::new(), Vec::new(), None);
        let mut cookie = 0;
        loop {
            let before = names.len();
            let next = lower.read_dir(cookie, &mut |entry| {
                let Ok(name) = Name::new(entry.name) else { return true };
                let cost = NAME_COST.saturating_add(u64::try_from(entry.name.len()).unwrap_or(0));
                let room = self.shared.quota.charge(cost);
                if names.try_reserve(1).is_err() || charges.try_reserve(1).is_err() {
                    failed = Some(errno!(NOMEM));
                    return false;
                }
                match room {
                    Ok(charge) => charges.push(charge),
                    Err(error) => {
                        failed = Some(error);
                        return false;
                    }
                }
                names.push((NameBuf::from(name), entry.number, entry.kind));
                true
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            if names.len() == before || next == cookie {
                break;
            }
            cookie = next;
        }
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        names.dedup_by(|one, other| one.0 == other.0);
        let listing = Arc::new(Listing { names, _charges: charges });
        Ok(Arc::clone(self.listing.lock().get_or_insert(listing)))
    }

    /// Gives entries from `cookie` on; see [`crate::fs::inode::Inode::read_dir`].
    pub(super) fn list(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        self.alive()?;
        let mut at = cookie;
        let above = self.place.as_ref().map_or(self.number, |place| place.dir.number);
        for (own, name, number) in [(0, &b"."[..], self.number), (1, &b".."[..], above)] {
            if at == own {
                let next = at.saturating_add(1);
                if !sink(DirEntry { name, number, kind: FileKind::Directory, next }) {
                    return Ok(at);
                }
                at = next;
            }
        }
        let mut known = None;
        if let Some(lower) = &self.lower {
            let listing = self.listing(lower)?;
            if at < UPPER {
                match self.list_lower(&listing, at, sink)? {
                    (next, true) => at = next,
                    (next, false) => return Ok(next),
                }
            }
            known = Some(listing);
        }
        at = at.max(UPPER);
        let Some(upper) = self.upper() else { return Ok(at) };
        upper.read_dir(at.saturating_sub(UPPER).max(2), &mut |entry| {
            let next = entry.next.saturating_add(UPPER);
            if known.as_ref().is_some_and(|known| known.has(entry.name)) {
                at = next;
                return true;
            }
            let Some(number) = Name::new(entry.name).and_then(|name| number_above(&upper, name)).unwrap_or(None) else {
                at = next;
                return true;
            };
            let room = sink(DirEntry { number, next, ..entry });
            if room {
                at = next;
            }
            room
        })?;
        Ok(at)
    }

    /// The names below from `at` on; also whether all were taken.
    fn list_lower(&self, listing: &Listing, at: u64, sink: &mut DirSink<'_>) -> Result<(u64, bool)> {
        let upper = self.upper();
        let mut at = at;
        let first = usize::try_from(at.saturating_sub(2)).unwrap_or(usize::MAX);
        for (name, number, kind) in listing.names.iter().skip(first) {
            let next = at.saturating_add(1);
            let over = upper.as_ref().map_or(Ok(None), |upper| optional(upper.lookup(name.as_name())))?;
            let (number, kind) = match &over {
                None => (*number, *kind),
                Some(over) if is_whiteout(over)? => {
                    at = next;
                    continue;
                }
                Some(over) => (Shared::number(over), over.kind()),
            };
            if !sink(DirEntry { name: name.as_bytes(), number, kind, next }) {
                return Ok((at, false));
            }
            at = next;
        }
        Ok((at, true))
    }

    /// Refuses a directory that shows any name.
    pub(super) fn empty(&self) -> Result<()> {
        let mut empty = true;
        self.list(2, &mut |_| {
            empty = false;
            false
        })?;
        if empty { Ok(()) } else { Err(errno!(NOTEMPTY)) }
    }
}

/// The number that `name` above is shown under; `None` if it is a whiteout or gone.
fn number_above<P: Platform>(upper: &InodeRef<P>, name: Name<'_>) -> Result<Option<u64>> {
    let Some(inode) = optional(upper.lookup(name))? else { return Ok(None) };
    Ok(if is_whiteout(&inode)? { None } else { Some(Shared::number(&inode)) })
}
