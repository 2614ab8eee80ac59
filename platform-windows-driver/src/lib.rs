//! litebox.sys: the library OS's host side on Windows.
//!
//! `entry` and `device` are the driver and what launchers talk to, `sandbox` and `carrier` what guests run in and on, `host` the
//! services of Windows under the library OS, `mm` guests' memory, `trap` how ring 3 is entered and left, `nt` the bindings.
//! Unproven: no Windows kernel has loaded it; see docs/windows.md. For another host than Windows the crate is empty but for what
//! needs no host, which is unit-tested there.
#![cfg_attr(windows, no_std)]

#[cfg(windows)]
extern crate alloc;

#[cfg(windows)]
mod carrier;
#[cfg(windows)]
mod device;
#[cfg(windows)]
mod entry;
#[cfg(windows)]
mod host;
#[cfg(windows)]
mod mm;
mod names;
#[cfg(windows)]
mod nt;
#[cfg(windows)]
mod sandbox;
#[cfg(windows)]
mod trap;
