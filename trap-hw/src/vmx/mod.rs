//! Intel's virtualisation, VMX: what it is told and how its exits read.
//!
//! **No processor has run this**: no emulator that the tests can have knows VMX. It is encoding and decoding, held against the manual's
//! tables; the way in and out is not written.

pub mod controls;
pub mod exit;
pub mod field;
pub mod guest;
