//! The guests' vDSO: clocks that a program reads without a system call.
//!
//! `data` is the page that a platform writes and every guest sees read-only; `clocks` makes times out of it. Both are compiled
//! twice: here, for the platform that writes the page and for tests, and in `image.rs`, the root of the shared object that
//! guests call. `kbuild/vdso.sh` builds that one; see there and in `image.lds` what it must not contain.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod clocks;
pub mod data;
