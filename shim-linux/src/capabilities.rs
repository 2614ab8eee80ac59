//! What a process may beyond others, and how that changes: with its users, with the program it runs, and as it asks.
//!
//! Invariants: what is effective or ambient is permitted; what is ambient is inheritable. Files have no capabilities here
//! (`security.capability` is an attribute like others). Source: capabilities(7); Linux security/commoncap.c.

use crate::exec::Gains;
use crate::task::Ids;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;

// Core's sets have the ABI's bits.
const _: () = assert!(Capabilities::all().bits() == (1 << (raw::CAP_LAST_CAP + 1)) - 1);
const _: () = assert!(Capabilities::CHOWN.bits() == 1 << raw::CAP_CHOWN && Capabilities::SETPCAP.bits() == 1 << raw::CAP_SETPCAP);
const _: () =
    assert!(Capabilities::SYS_ADMIN.bits() == 1 << raw::CAP_SYS_ADMIN && Capabilities::MKNOD.bits() == 1 << raw::CAP_MKNOD);

/// The capability of this number.
///
/// # Errors
/// `INVAL`: there is none.
pub(crate) fn numbered(number: u64) -> Result<Capabilities> {
    let bit = u32::try_from(number).ok().and_then(|number| 1u64.checked_shl(number)).and_then(Capabilities::from_bits);
    bit.ok_or(errno!(INVAL, "no such capability"))
}

/// How a process's capabilities change with its users. Linux: include/uapi/linux/securebits.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecureBits(u32);

impl SecureBits {
    /// Being the superuser gives nothing at execve(2).
    const NO_ROOT: u32 = 1;
    /// Capabilities do not change with users.
    const NO_SETUID_FIXUP: u32 = 1 << 2;
    /// What is permitted is kept when no user is the superuser any more, until execve(2).
    const KEEP_CAPS: u32 = 1 << 4;
    /// No capability becomes ambient.
    const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    /// Two that are for programs' own use, and that anybody may set.
    const EXECUTION: u32 = 1 << 8 | 1 << 10;
    /// Each has a lock, one bit higher.
    const ALL: u32 = Self::NO_ROOT | Self::NO_SETUID_FIXUP | Self::KEEP_CAPS | Self::NO_CAP_AMBIENT_RAISE | Self::EXECUTION;
    const LOCKS: u32 = Self::ALL << 1;

    /// As the ABI has them.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// A process's capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What it may.
    pub effective: Capabilities,
    /// What it may make effective.
    pub permitted: Capabilities,
    /// What programs that it runs may have, if their files say so.
    pub inheritable: Capabilities,
    /// What no program that it runs has more than.
    pub bounding: Capabilities,
    /// What programs that it runs have.
    pub ambient: Capabilities,
    /// How they change.
    pub secure: SecureBits,
}

impl CapabilitySets {
    /// Those of a sandbox's first program.
    pub(crate) fn of(ids: &Ids) -> Self {
        let [_, user, _] = ids.users;
        let has = if user == 0 { Capabilities::all() } else { Capabilities::empty() };
        Self { effective: has, permitted: has, bounding: Capabilities::all(), ..Self::default() }
    }

    /// Its users have changed. Linux: `cap_task_fix_setuid`, `cap_emulate_setxuid`.
    pub(crate) fn users_changed(&mut self, old: [u32; 3], new: [u32; 3]) {
        if self.secure.has(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        if old.contains(&0) && !new.contains(&0) {
            if !self.secure.has(SecureBits::KEEP_CAPS) {
                self.permitted = Capabilities::empty();
                self.effective = Capabilities::empty();
            }
            self.ambient = Capabilities::empty();
        }
        let ([_, before, _], [_, now, _]) = (old, new);
        if before == 0 && now != 0 {
            self.effective = Capabilities::empty();
        } else if before != 0 && now == 0 {
            self.effective = self.permitted;
        }
    }

    /// It runs a program as the users of `ids`, of which the effective ones may be others than the real ones: `is_set_id`. Linux:
    /// `cap_bprm_creds_from_file`, `handle_privileged_root`.
    pub(crate) fn exec(&mut self, ids: &Ids, is_set_id: bool, gains: Gains) {
        let before = self.permitted;
        let [real, effective, _] = ids.users;
        let by_root = !self.secure.has(SecureBits::NO_ROOT) && (real == 0 || effective == 0);
        if is_set_id {
            self.ambient = Capabilities::empty();
        }
        self.permitted = if by_root { self.inheritable | self.bounding } else { Capabilities::empty() };
        self.permitted |= self.ambient;
        if gains != Gains::All && !before.contains(self.permitted) {
            self.permitted &= before;
        }
        self.effective = if by_root && effective == 0 { self.permitted } else { self.ambient };
        self.secure.0 &= !SecureBits::KEEP_CAPS;
    }

    /// Takes other sets, as capset(2) does.
    ///
    /// # Errors
    /// `PERM`: more than it may.
    pub(crate) fn set(&mut self, effective: Capabilities, permitted: Capabilities, inheritable: Capabilities) -> Result<()> {
        let may_inherit = self.effective.contains(Capabilities::SETPCAP);
        if !may_inherit && !(self.inheritable | self.permitted).contains(inheritable) {
            return Err(errno!(PERM, "more to inherit than it has"));
        }
        if !(self.inheritable | self.bounding).contains(inheritable) {
            return Err(errno!(PERM, "more to inherit than its bounding set"));
        }
        if !self.permitted.contains(permitted) || !permitted.contains(effective) {
            return Err(errno!(PERM, "more than the process has"));
        }
        let ambient = self.ambient & permitted & inheritable;
        *self = Self { effective, permitted, inheritable, ambient, ..*self };
        Ok(())
    }

    /// Takes `capability` out of the bounding set.
    ///
    /// # Errors
    /// `PERM`: it may not.
    pub(crate) fn bound(&mut self, capability: Result<Capabilities>) -> Result<()> {
        if !self.effective.contains(Capabilities::SETPCAP) {
            return Err(errno!(PERM, "it may not change its capabilities"));
        }
        self.bounding.remove(capability?);
        Ok(())
    }

    /// Makes `capability` ambient.
    ///
    /// # Errors
    /// `PERM`: it is not both permitted and inheritable, or nothing may be.
    pub(crate) fn raise(&mut self, capability: Capabilities) -> Result<()> {
        let may = self.permitted.contains(capability) && self.inheritable.contains(capability);
        if !may || self.secure.has(SecureBits::NO_CAP_AMBIENT_RAISE) {
            return Err(errno!(PERM, "not both permitted and inheritable, or nothing may be ambient"));
        }
        self.ambient |= capability;
        Ok(())
    }

    /// Whether what is permitted outlives the superuser's last user id.
    pub(crate) fn keeps(&self) -> bool {
        self.secure.has(SecureBits::KEEP_CAPS)
    }

    /// Says so.
    ///
    /// # Errors
    /// `PERM`: that is locked.
    pub(crate) fn keep(&mut self, keep: bool) -> Result<()> {
        if self.secure.has(SecureBits::KEEP_CAPS << 1) {
            return Err(errno!(PERM, "that is locked"));
        }
        self.secure.0 &= !SecureBits::KEEP_CAPS;
        self.secure.0 |= if keep { SecureBits::KEEP_CAPS } else { 0 };
        Ok(())
    }

    /// Sets the secure bits.
    ///
    /// # Errors
    /// `PERM`: unknown or locked bits, a lock is to be opened, or it may not.
    pub(crate) fn set_secure(&mut self, bits: u64) -> Result<()> {
        let (old, none) = (self.secure.0, errno!(PERM, "unknown or locked bits"));
        let bits = u32::try_from(bits).map_err(|_| none)?;
        let locked = (old & SecureBits::LOCKS) >> 1;
        let opens = old & SecureBits::LOCKS & !bits != 0;
        if bits & !(SecureBits::ALL | SecureBits::LOCKS) != 0 || locked & (old ^ bits) != 0 || opens {
            return Err(errno!(PERM, "unknown or locked bits"));
        }
        let own = SecureBits::EXECUTION | SecureBits::EXECUTION << 1;
        if (old ^ bits) & !own != 0 && !self.effective.contains(Capabilities::SETPCAP) {
            return Err(errno!(PERM, "it may not change its capabilities"));
        }
        self.secure.0 = bits;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Ids = Ids { users: [0; 3], groups: [0; 3] };
    const USER: Ids = Ids { users: [1000; 3], groups: [0; 3] };
    const ALL: Capabilities = Capabilities::all();
    const NONE: Capabilities = Capabilities::empty();

    fn has(sets: &CapabilitySets) -> (Capabilities, Capabilities) {
        (sets.effective, sets.permitted)
    }

    #[test]
    fn they_go_with_the_superusers_ids() {
        let mut sets = CapabilitySets::of(&ROOT);
        sets.users_changed([0, 0, 0], [0, 1000, 0]);
        assert_eq!(has(&sets), (NONE, ALL), "to come back");
        sets.users_changed([0, 1000, 0], [0, 0, 0]);
        assert_eq!(has(&sets), (ALL, ALL));
        sets.keep(true).unwrap();
        sets.users_changed([0, 0, 0], [1000, 1000, 1000]);
        assert_eq!(has(&sets), (NONE, ALL), "kept, not effective");
        sets.set(Capabilities::NET_RAW, Capabilities::NET_RAW, Capabilities::NET_RAW).unwrap();
        assert!(sets.set(NONE, ALL, NONE).is_err() && sets.set(ALL, Capabilities::NET_RAW, NONE).is_err());
        sets.raise(Capabilities::NET_RAW).unwrap();
        assert!(sets.raise(Capabilities::CHOWN).is_err());
        sets.exec(&USER, false, Gains::All);
        assert_eq!((has(&sets), sets.keeps()), ((Capabilities::NET_RAW, Capabilities::NET_RAW), false), "ambient");
        sets.exec(&USER, true, Gains::All);
        assert_eq!(has(&sets), (NONE, NONE));
        let mut plain = CapabilitySets::of(&ROOT);
        plain.users_changed([0, 0, 0], [1000, 1000, 1000]);
        assert_eq!(has(&plain), (NONE, NONE));
    }

    #[test]
    fn a_program_of_the_superusers_has_what_is_bounding() {
        let mut sets = CapabilitySets::of(&ROOT);
        sets.bound(Ok(Capabilities::SYS_ADMIN)).unwrap();
        sets.exec(&ROOT, false, Gains::All);
        assert_eq!(has(&sets), (ALL - Capabilities::SYS_ADMIN, ALL - Capabilities::SYS_ADMIN));
        assert!(sets.set(NONE, NONE, Capabilities::SYS_ADMIN).is_err(), "not to be inherited either");
        sets.set_secure(1).unwrap();
        sets.exec(&ROOT, false, Gains::All);
        assert_eq!(has(&sets), (NONE, NONE));
        assert!(sets.bound(Ok(Capabilities::CHOWN)).is_err());
    }

    #[test]
    fn secure_bits_have_locks() {
        let mut sets = CapabilitySets::of(&ROOT);
        sets.set_secure(0b11_0000).unwrap();
        assert!(sets.keep(false).is_err() && sets.set_secure(0).is_err() && sets.set_secure(0b10_0000).is_err());
        assert!(sets.set_secure(1 << 12).is_err() && sets.set_secure(u64::MAX).is_err());
        sets.exec(&ROOT, false, Gains::All);
        assert_eq!(sets.secure.bits(), 0b10_0000);
        assert!(numbered(41).is_err() && numbered(64).is_err() && numbered(40).is_ok());
    }
}
