//! Thin bindings to Windows: the functions that the driver imports, and safe types over what they make.
//!
//! Owns: structures of the kernel's and the framework's interface, each with its size asserted. Not here: anything of a sandbox.
//! The functions in `raw` are the driver's host interface; `cargo xtask windows build` compares the imports of the linked driver
//! with a list that has a reason for each. IRQL: `PASSIVE_LEVEL` unless a function says otherwise.
//! Sources: Microsoft's reference of wdm.h, ntifs.h and wdf.h; layouts were compared with mingw's ddk headers.

pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod memory;
pub(crate) mod object;
pub(crate) mod raw;
pub(crate) mod spin;
pub(crate) mod status;
pub(crate) mod string;
pub(crate) mod thread;
pub(crate) mod time;
pub(crate) mod wdf;

pub(crate) use object::Handle;
pub(crate) use status::Status;
