//! The requests of `/dev/litebox`: numbers, wire structures and their decoding.
#![no_std]
#![forbid(unsafe_code)]

/// The version of this ABI.
pub const VERSION: u32 = 1;
