//! System V's objects, known by keys and numbers. See sysvipc(7).

pub mod msg;
mod perm;
pub mod sem;
pub mod shm;

pub use perm::{Key, Make, Perm};
