//! How guests are in ring 3, and come out of it.
//!
//! One engine is compiled in. Each has the same names: `Pages` (memory that can be shown to guests), `Tables` (what one address space
//! shows), `Vcpu` (the registers of one guest thread, of which its carrier has the use alone), `Kicker` (ends another's stay
//! in ring 3), [`Exit`] and the functions `start`, `barrier`.
//!
//! `double` runs guests by Linux's ptrace(2): for tests under Wine. `absent` runs none: it stands where the engine over the
//! processor's virtualisation will, and refuses a sandbox with a message.

#[cfg(not(feature = "wine-double"))]
mod absent;
#[cfg(feature = "wine-double")]
mod double;

#[cfg(not(feature = "wine-double"))]
pub(crate) use absent::{Kicker, Pages, Seed, Tables, Vcpu, barrier, start};
#[cfg(feature = "wine-double")]
pub(crate) use double::{Kicker, Pages, Seed, Tables, Vcpu, barrier, start};

use litebox_core::mm::Access;
use litebox_shim_linux::signal::FaultKind;

/// Why a guest thread came out of ring 3; its registers are in the carrier's hands.
#[cfg_attr(not(feature = "wine-double"), expect(dead_code, reason = "there is no engine to say so"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exit {
    /// It executed `syscall`, whose number is in `orig_ax`.
    Call,
    /// It accessed this address, where the tables allow no such access.
    Page(u64, Access),
    /// An exception: which, at which address, with which vector.
    Exception(FaultKind, u64, u64),
    /// Somebody kicked it, or nothing happened at all.
    Kick,
    /// It cannot go on.
    Dead,
}
