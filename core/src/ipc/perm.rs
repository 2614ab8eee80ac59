//! What all of System V's objects have: a key, a number, an owner and a mode. See sysvipc(7); Linux ipc/util.c.
//!
//! Invariants: a number is not given again while there are others, so that whoever waits for an object sees that it is gone;
//! `by_key` has each object with a key that is not private.

use crate::capabilities::Capabilities;
use crate::fs::types::{Credentials, Gid, Uid};
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;

/// A key; the private one is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub i32);

impl Key {
    /// `IPC_PRIVATE`.
    pub const PRIVATE: Self = Self(0);
}

/// Whether an object is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Never.
    No,
    /// If there is none with the key.
    IfAbsent,
    /// Always; that there is one is an error.
    New,
}

/// Who may do what with an object. Linux: `kern_ipc_perm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Perm {
    /// Its key.
    pub key: Key,
    /// Its owner.
    pub owner: (Uid, Gid),
    /// Who made it.
    pub maker: (Uid, Gid),
    /// Permissions, nine bits.
    pub mode: u32,
}

impl Perm {
    /// Of an object that `who` makes.
    #[must_use]
    pub fn new(key: Key, mode: u32, who: &Credentials) -> Self {
        let owner = (who.uid, who.gid);
        Self { key, owner, maker: owner, mode: mode & 0o777 }
    }

    /// Whether `who` may do all of `want`, nine bits of which any third counts. Linux: `ipcperms`.
    ///
    /// # Errors
    /// `ACCESS`.
    pub fn check(&self, who: &Credentials, want: u32) -> Result<()> {
        let ((uid, gid), (maker, maker_group)) = (self.owner, self.maker);
        let want = (want >> 6) | (want >> 3) | want;
        let in_group = |group: Gid| who.gid == group || who.groups.contains(&group);
        let granted = if who.uid == uid || who.uid == maker {
            self.mode >> 6
        } else if in_group(gid) || in_group(maker_group) {
            self.mode >> 3
        } else {
            self.mode
        };
        if who.can(Capabilities::IPC_OWNER) || want & !granted & 7 == 0 {
            Ok(())
        } else {
            Err(errno!(ACCESS, "the mode does not allow it"))
        }
    }

    /// Whether `who` may change or remove it.
    ///
    /// # Errors
    /// `PERM`.
    pub fn owns(&self, who: &Credentials) -> Result<()> {
        let is_owner = who.uid == self.owner.0 || who.uid == self.maker.0;
        if who.can(Capabilities::SYS_ADMIN) || is_owner { Ok(()) } else { Err(errno!(PERM, "only its owner may")) }
    }

    /// Gives it another owner and mode.
    ///
    /// # Errors
    /// `INVAL`: there is no such user or group.
    pub fn change(&mut self, owner: (Uid, Gid), mode: u32) -> Result<()> {
        if owner.0.0 == u32::MAX || owner.1.0 == u32::MAX {
            return Err(errno!(INVAL, "nobody's id"));
        }
        (self.owner, self.mode) = (owner, mode & 0o777);
        Ok(())
    }
}

/// What has a [`Perm`].
pub(super) trait Keyed {
    /// It.
    fn perm(&self) -> &Perm;
}

/// Objects of one kind by their numbers.
pub(super) struct Objects<T> {
    pub(super) by_id: BTreeMap<u32, T>,
    by_key: BTreeMap<Key, u32>,
    next: u32,
}

impl<T: Keyed> Objects<T> {
    pub(super) fn new() -> Self {
        Self { by_id: BTreeMap::new(), by_key: BTreeMap::new(), next: 0 }
    }

    /// The object with this number.
    ///
    /// # Errors
    /// `INVAL`: there is none.
    pub(super) fn get(&mut self, id: u32) -> Result<&mut T> {
        self.by_id.get_mut(&id).ok_or(errno!(INVAL, "no such object"))
    }

    /// The number of the object with `key`, which must pass `fits`, or `None` if one is to be made. Linux: `ipcget`.
    ///
    /// # Errors
    /// `NOENT`: there is none. `EXIST`: there is one. `ACCESS`: its mode does not allow `mode`.
    pub(super) fn find(
        &self,
        key: Key,
        make: Make,
        (who, mode): (&Credentials, u32),
        fits: impl FnOnce(&T) -> Result<()>,
    ) -> Result<Option<u32>> {
        let known = self.by_key.get(&key).and_then(|id| self.by_id.get(id).map(|object| (id, object)));
        match (known, make) {
            (Some(_), Make::New) => Err(errno!(EXIST)),
            (Some((id, object)), _) => {
                fits(object)?;
                object.perm().check(who, mode)?;
                Ok(Some(*id))
            }
            (None, Make::No) if key != Key::PRIVATE => Err(errno!(NOENT)),
            (None, _) => Ok(None),
        }
    }

    /// Whether there are fewer than `most`.
    ///
    /// # Errors
    /// `NOSPC`.
    pub(super) fn has_room(&self, most: usize) -> Result<()> {
        if self.by_id.len() < most { Ok(()) } else { Err(errno!(NOSPC, "too many objects")) }
    }

    /// Gives an object a number.
    pub(super) fn insert(&mut self, object: T) -> u32 {
        while self.by_id.contains_key(&self.next) {
            self.next = self.next.saturating_add(1) & 0x7fff_ffff;
        }
        let id = self.next;
        self.next = id.saturating_add(1) & 0x7fff_ffff;
        if object.perm().key != Key::PRIVATE {
            self.by_key.insert(object.perm().key, id);
        }
        self.by_id.insert(id, object);
        id
    }

    /// Takes an object away.
    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let object = self.by_id.remove(&id)?;
        self.forget(object.perm().key);
        Some(object)
    }

    /// Lets nobody find an object by its key any more.
    pub(super) fn forget(&mut self, key: Key) {
        self.by_key.remove(&key);
    }

    /// The highest number, and 0 if there is none.
    pub(super) fn highest(&self) -> u32 {
        self.by_id.last_key_value().map_or(0, |(id, _)| *id)
    }
}
