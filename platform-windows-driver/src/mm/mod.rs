//! Guests' memory: frames, what each address space shows, and copies.

pub(crate) mod frame;
pub(crate) mod space;
