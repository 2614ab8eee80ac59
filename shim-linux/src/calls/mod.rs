//! Handlers, by family of man pages. Each reads like its page; what is common to all is in [`mod@crate::dispatch`].
//!
//! The functions' documentation is the man page of their name; a comment says only where they differ or what is not evident.

pub(crate) mod aio;
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
pub(crate) mod old;
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
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, PAGE_BYTES, UserBytes, UserIn, user};
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
    T::read_from_bytes(&bytes).map_err(|_| errno!(FAULT, "a structure of another size"))
}

/// Copies in a structure that grows with Linux: `size` bytes at `addr`, of which those that are not known here must be zero, and
/// those that are not there are. Linux: `copy_struct_from_user`.
///
/// # Errors
/// `INVAL`: fewer bytes than the `least` that it ever had. `TOOBIG`: more than a page, or something that is not known. `FAULT`.
fn take_growing<P: Cpu, T: FromBytes + IntoBytes>(addr: GuestAddr, size: u64, least: usize) -> Result<T> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size < least {
        return Err(errno!(INVAL, "too few arguments"));
    }
    if size > PAGE_BYTES {
        return Err(errno!(TOOBIG, "more than a page of arguments"));
    }
    let mut value = T::new_zeroed();
    let known = size.min(size_of::<T>());
    user::read_exact::<P>(addr, value.as_mut_bytes().get_mut(..known).unwrap_or_default())?;
    if let Some(more) = size.checked_sub(known).filter(|more| *more > 0) {
        let rest = UserIn::new(addr.plus(u64::try_from(known).unwrap_or(u64::MAX))?, more).to_vec::<P>(PAGE_BYTES)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(errno!(TOOBIG, "arguments that are not known"));
        }
    }
    Ok(value)
}

/// `count` zeros, for what a guest gives.
fn zeros<T: Clone + Default>(count: usize) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    all.resize(count, T::default());
    Ok(all)
}
