//! North: the Linux x86-64 ABI over the library OS.
//!
//! Owns: system-call numbers, argument decoding, structure layouts, register conventions, program loading, signal frames.
//! Not here: files, memory, waiting (`litebox-core`); a host (`litebox-platform-*`).
//! Invariants: no unsafe code; no panic that a guest can reach; decoding registers is total; handlers neither log, count,
//! restart nor trace: the dispatcher does.
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
#[cfg(test)]
extern crate std;

pub mod args;
mod calls;
pub mod capabilities;
mod clock;
pub mod dispatch;
pub mod elf;
pub mod errno;
pub mod exec;
pub mod launch;
pub mod machine;
mod notify;
mod proc;
pub mod processors;
pub mod program;
mod quick;
pub mod regs;
mod seccomp;
mod settings;
mod shared;
pub mod signal;
pub mod table;
pub mod task;
mod timer;
pub mod trace;
mod tuning;
pub mod usage;
pub mod vdso;
mod watched;

pub use dispatch::{Resume, before_guest, dispatch, fault};
pub use quick::quick;
pub use task::after_spawn;
