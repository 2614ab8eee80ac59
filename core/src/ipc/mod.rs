//! System V's objects, known by keys and numbers. See sysvipc(7).

pub mod shm;
