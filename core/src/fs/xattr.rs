//! Extended attributes: names with values, beside a file's content. See xattr(7).
//!
//! Here are the rules of the name spaces; what is kept, and where, is the file system's.

use super::dentry::Dentry;
use super::notify::Happened;
use super::path::At;
use super::types::{Access, FileKind};
use crate::capabilities::Capabilities;
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::vec::Vec;

/// Longest name.
pub const NAME_MAX: usize = 255;
/// Longest value, and longest list of names.
pub const VALUE_MAX: usize = 65_536;

/// Whether a value may be new, and may replace another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetHow {
    /// Both.
    Any,
    /// It must be new (`XATTR_CREATE`).
    Create,
    /// It must replace another (`XATTR_REPLACE`).
    Replace,
}

/// Who may use a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    /// Whoever may read or write the file.
    User,
    /// Root.
    Trusted,
    /// Everybody reads, root writes.
    Security,
}

fn space(name: &[u8]) -> Result<Space> {
    let spaces = [(&b"user."[..], Space::User), (&b"trusted."[..], Space::Trusted), (&b"security."[..], Space::Security)];
    let found = spaces.into_iter().find(|(prefix, _)| name.starts_with(prefix));
    match found {
        Some((prefix, _)) if name.len() == prefix.len() => Err(errno!(INVAL, "a name space without a name")),
        Some((_, space)) => Ok(space),
        None => Err(errno!(OPNOTSUPP, "no such name space")),
    }
}

impl<P: Platform> At<'_, P> {
    fn may_use(&self, place: &Dentry<P>, name: &[u8], want: Access) -> Result<()> {
        let writes = want.contains(Access::WRITE);
        if writes {
            Self::writable(place)?;
        }
        match space(name)? {
            Space::Security if !writes => Ok(()),
            Space::Trusted | Space::Security if self.credentials.can(Capabilities::SYS_ADMIN) => Ok(()),
            Space::Trusted if !writes => Err(errno!(NODATA, "only root sees it")),
            Space::Trusted | Space::Security => Err(errno!(PERM, "only root may")),
            Space::User => match place.inode().kind() {
                FileKind::Regular | FileKind::Directory => self.may(place, want),
                _ if writes => Err(errno!(PERM, "only files and directories have such")),
                _ => Err(errno!(NODATA)),
            },
        }
    }

    /// The value of `name` at `place`.
    ///
    /// # Errors
    /// `NODATA`: none. `ACCESS`. `OPNOTSUPP`: its file system has none, or no such name space. `INVAL`: no name.
    pub fn get_xattr(&self, place: &Dentry<P>, name: &[u8]) -> Result<Vec<u8>> {
        self.may_use(place, name, Access::READ)?;
        place.inode().get_xattr(name)
    }

    /// Gives `name` at `place` a value.
    ///
    /// # Errors
    /// `EXIST`, `NODATA`: against `how`. `ACCESS`, `PERM`, `ROFS`. `NOSPC`, `NOMEM`. `OPNOTSUPP`, `INVAL`: as [`Self::get_xattr`].
    pub fn set_xattr(&self, place: &Dentry<P>, name: &[u8], value: &[u8], how: SetHow) -> Result<()> {
        self.may_use(place, name, Access::WRITE)?;
        place.inode().set_xattr(name, value, how)?;
        Self::changed(place);
        Ok(())
    }

    /// Takes `name` away at `place`.
    ///
    /// # Errors
    /// `NODATA`: it is not there. `ACCESS`, `PERM`, `ROFS`, `OPNOTSUPP`, `INVAL`: as [`Self::set_xattr`].
    pub fn remove_xattr(&self, place: &Dentry<P>, name: &[u8]) -> Result<()> {
        self.may_use(place, name, Access::WRITE)?;
        place.inode().remove_xattr(name)?;
        Self::changed(place);
        Ok(())
    }

    /// The names at `place` that whoever asks may see, each with a NUL behind it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn list_xattr(&self, place: &Dentry<P>) -> Result<Vec<u8>> {
        let mut names = place.inode().list_xattr()?;
        if !self.credentials.can(Capabilities::SYS_ADMIN) {
            let seen = names.split_inclusive(|byte| *byte == 0).filter(|name| !name.starts_with(b"trusted."));
            names = seen.flatten().copied().collect();
        }
        Ok(names)
    }

    fn changed(place: &Dentry<P>) {
        if let Some(watches) = place.mount().watches() {
            watches.happened(place, Happened::ATTRIB);
        }
    }
}
