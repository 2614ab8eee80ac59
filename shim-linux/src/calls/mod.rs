//! Handlers, by family of man pages. Each reads like its page; what is common to all is in [`mod@crate::dispatch`].
//!
//! The functions' documentation is the man page of their name; a comment says only where they differ or what is not evident.

pub(crate) mod attributes;
pub(crate) mod dirs;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod fcntl;
pub(crate) mod files;
pub(crate) mod foreign;
pub(crate) mod futex;
pub(crate) mod futex2;
pub(crate) mod handle;
pub(crate) mod ids;
pub(crate) mod ioctl;
mod ipc;
pub(crate) mod kill;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod membarrier;
pub(crate) mod message;
pub(crate) mod mount;
pub(crate) mod mq;
pub(crate) mod msg;
pub(crate) mod names;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod prctl;
pub(crate) mod process;
pub(crate) mod ptrace;
pub(crate) mod rseq;
pub(crate) mod sched;
pub(crate) mod seccomp;
pub(crate) mod sem;
pub(crate) mod shm;
pub(crate) mod signals;
pub(crate) mod sigwait;
pub(crate) mod socket;
pub(crate) mod splice;
pub(crate) mod stat;
pub(crate) mod task;
pub(crate) mod terminal;
pub(crate) mod time;
pub(crate) mod timer;
pub(crate) mod transfer;
pub(crate) mod usage;
pub(crate) mod wait;
pub(crate) mod xattr;

use crate::signal::Cpu;
use alloc::vec::Vec;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, UserBytes};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Copies a structure out.
fn put<P: Cpu, const N: usize>(addr: GuestAddr, value: &(impl IntoBytes + Immutable)) -> Result<()> {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(value.as_bytes()) {
        *to = *from;
    }
    UserBytes::<P, N>::new(addr).write(&bytes)
}

/// Copies a structure in, once.
fn take<P: Cpu, T: FromBytes, const N: usize>(addr: GuestAddr) -> Result<T> {
    let bytes = UserBytes::<P, N>::new(addr).read()?;
    T::read_from_bytes(&bytes).map_err(|_| litebox_core::errno!(FAULT, "a structure of another size"))
}

/// `count` zeros, for what a guest gives.
fn zeros<T: Clone + Default>(count: usize) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| litebox_core::errno!(NOMEM))?;
    all.resize(count, T::default());
    Ok(all)
}
