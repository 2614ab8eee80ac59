//! The library OS: everything that Linux programs see, above the host and below the system-call ABI.
//!
//! Owns: address spaces, files, processes, signals, waiting. Not here: a Linux number or structure layout (`shim-linux`), a
//! register (`shim-linux`), a host interface other than [`platform`] (the platform crates).
//! Invariants: no unsafe code; no panic that a guest can reach; what a guest can make grow is charged to its
//! [`quota::Quota`] before it is allocated.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::float_arithmetic
    )
)]

extern crate alloc;

pub mod capabilities;
pub mod error;
pub mod event;
pub mod fs;
pub mod ipc;
pub mod limit;
pub mod mm;
pub mod net;
pub mod platform;
pub mod quota;
pub mod sync;
pub mod time;
pub mod tty;
