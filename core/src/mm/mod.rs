//! Address spaces of guest processes: which page is where, and with which rights.
//!
//! Owns: the area tree, private pages copy-on-write, faults, and copies between the library OS and a guest. Not here: contents
//! of files (each is a [`MapSource`]), page tables (the platform's `Space`).
//! Way of a fault: platform → [`AddressSpace::fault`] → area → own page, or page of the source, or zeros → `Frames::map`.

mod addr;
mod fault;
mod limits;
mod map;
mod pages;
mod remap;
mod source;
mod space;
mod stay;
pub mod user;
mod vma;

pub use addr::{GUEST_END, GUEST_START, GuestAddr, PAGE_BYTES, PAGE_SHIFT, PAGE_SIZE, PageRange, Prot, round_up};
pub use fault::{Access, FaultOutcome, SegvCode};
pub use limits::MapLimits;
pub use map::{Advice, MapRequest, Place};
pub use remap::RemapPlace;
pub use source::{MapSource, SharedMemory, SourceName};
pub use space::{AddressSpace, Area, AreaKind, WordKey};
pub use stay::Lock;
pub use user::{UserBytes, UserCStr, UserIn, UserOut, UserReader, UserWriter};
pub use vma::{Backing, MAX_AREAS, MapFlags, STACK_GUARD, Vma};
