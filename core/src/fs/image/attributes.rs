//! Extended attributes of an image's files: some lie behind the inode, others are shared by several files.
//!
//! Access control lists, which nobody here looks at, are left out. Hostile input: lengths, counts, places. Source: Linux fs/erofs/xattr.c.

use super::content::{Entry, Mounted};
use super::layout::{align, product, sum, u8_at, u16_at, u32_at};
use crate::platform::Platform;
use crate::{errno, error::Error, error::Result};
use alloc::vec::Vec;

/// Before the attributes of an inode.
const HEADER_BYTES: u64 = 12;
/// Before the name of one.
const ENTRY_BYTES: u64 = 4;

/// One attribute.
struct Found {
    prefix: u8,
    name: Vec<u8>,
    value_at: u64,
    value_len: usize,
    end: u64,
}

/// What a name begins with. Linux: `EROFS_XATTR_INDEX_USER` and so on.
fn prefix(number: u8) -> Option<&'static [u8]> {
    match number {
        1 => Some(b"user."),
        4 => Some(b"trusted."),
        6 => Some(b"security."),
        _ => None,
    }
}

fn damaged() -> Error {
    errno!(UCLEAN, "an extended attribute of the image is damaged")
}

impl<P: Platform> Mounted<P> {
    fn attribute(&self, at: u64) -> Result<Found> {
        let mut header = [0; 4];
        self.store().read(at, &mut header)?;
        let (name_len, prefix) = (u8_at(&header, 0)?, u8_at(&header, 1)?);
        let value_len = u16_at(&header, 2)?;
        let name_at = sum(at, ENTRY_BYTES)?;
        let value_at = sum(name_at, name_len.into())?;
        let end = align(sum(value_at, value_len.into())?, 4)?;
        let name = self.store().vec(name_at, name_len.into())?;
        Ok(Found { prefix, name, value_at, value_len: value_len.into(), end })
    }

    /// Gives each attribute of `entry` to `visit` until it has an answer.
    fn visit<T>(&self, entry: &Entry, mut visit: impl FnMut(Found) -> Result<Option<T>>) -> Result<Option<T>> {
        let (start, end) = (entry.node.attributes_at, entry.node.end);
        // A header alone has no meaning yet.
        if end.saturating_sub(start) <= HEADER_BYTES {
            return Ok(None);
        }
        let mut count = [0];
        self.store().read(sum(start, 4)?, &mut count)?;
        let shared_at = sum(start, HEADER_BYTES)?;
        let own_at = sum(shared_at, product(u64::from(u8_at(&count, 0)?), 4)?)?;
        if own_at > end {
            return Err(damaged());
        }
        let mut at = own_at;
        while at < end {
            let found = self.attribute(at)?;
            at = found.end;
            if at > end {
                return Err(damaged());
            }
            if let Some(answer) = visit(found)? {
                return Ok(Some(answer));
            }
        }
        let mut at = shared_at;
        while at < own_at {
            let mut number = [0; 4];
            self.store().read(at, &mut number)?;
            let place = sum(self.store().about.shared_at, product(u32_at(&number, 0)?.into(), 4)?)?;
            if let Some(answer) = visit(self.attribute(place)?)? {
                return Ok(Some(answer));
            }
            at = sum(at, 4)?;
        }
        Ok(None)
    }

    /// The value of the attribute `name`.
    ///
    /// # Errors
    /// `NODATA`. `UCLEAN`: damaged. `NOMEM`. Those of the host.
    pub(super) fn value(&self, entry: &Entry, name: &[u8]) -> Result<Vec<u8>> {
        let found = self.visit(entry, |found| {
            let rest = prefix(found.prefix).and_then(|prefix| name.strip_prefix(prefix));
            if rest.is_none_or(|rest| rest != found.name) {
                return Ok(None);
            }
            self.store().vec(found.value_at, found.value_len).map(Some)
        })?;
        found.ok_or(errno!(NODATA))
    }

    /// The names, each with a NUL behind it.
    ///
    /// # Errors
    /// `UCLEAN`: damaged. `NOMEM`. Those of the host.
    pub(super) fn names(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        self.visit(entry, |found| {
            let Some(prefix) = prefix(found.prefix) else { return Ok(None) };
            if found.name.is_empty() || found.name.contains(&0) {
                return Err(damaged());
            }
            names.try_reserve(prefix.len().saturating_add(found.name.len()).saturating_add(1)).map_err(|_| errno!(NOMEM))?;
            names.extend_from_slice(prefix);
            names.extend_from_slice(&found.name);
            names.push(0);
            Ok(None::<()>)
        })?;
        Ok(names)
    }
}
