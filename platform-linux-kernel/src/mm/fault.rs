// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Page faults: from the kernel's fault handler to whoever knows what belongs at an address.

use super::frame::Frame;
use super::space::{Entry, Rights};
use crate::carrier::Guest;

/// What the access that faulted wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Instruction fetch.
    Execute,
}

/// How a fault ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// The entry is there; repeat the access.
    Done,
    /// Nothing belongs there, or not with these rights: a signal for the guest.
    Refused,
    /// The host has no memory.
    NoMemory,
}

/// **The seam to core** for faults: `AddressSpace::fault` belongs here. May sleep; holds no lock.
///
/// `replace` says that an entry with fewer rights is present.
pub(super) fn on_fault(guest: &Guest, addr: usize, access: Access, replace: bool) -> Resolution {
    let found: Result<(Frame, Rights), Resolution> = guest.sandbox().flat.resolve(addr);
    let (frame, rights) = match found {
        Ok(found) => found,
        Err(resolution) => return resolution,
    };
    let allowed = match access {
        Access::Read => rights.read,
        Access::Write => rights.write,
        Access::Execute => rights.execute,
    };
    if !allowed {
        return Resolution::Refused;
    }
    if guest.space().insert(&[Entry { addr, frame, rights }], replace) { Resolution::Done } else { Resolution::NoMemory }
}
