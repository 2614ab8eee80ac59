//! The requests of `/dev/litebox`: numbers, wire structures and their decoding.
//!
//! Owns: what crosses from a launcher into a kernel, for the Linux module, the Windows driver and the launcher alike. Not here:
//! copying from user memory (the platforms), what a request does (the platforms and core), packing (the launcher).
//! Invariants: nothing allocates, panics or holds a pointer; user addresses are `u64`. Every structure has one size, no padding
//! and no invalid bit pattern. What is not understood is refused: an unknown flag, a reserved field that is not zero, a byte
//! too few or too many. A later version adds requests or sizes; a number never changes its meaning.
//! Hostile input: all of it. A kernel copies a structure once, then decodes the copy.
//! Sources: Linux Documentation/process/botching-up-ioctls.rst; include/uapi/asm-generic/ioctl.h.
//!
//! # Life of a sandbox
//!
//! An open of the device is a sandbox. It ends when it is told to, when its first process ends, or when its last descriptor is
//! closed. `RUN` closes the descriptor of the process that becomes the guest, so the launcher's death is the sandbox's.
//!
//! | request | before `RUN` | while it runs | after its end | does |
//! |---|---|---|---|---|
//! | `VERSION` | yes | yes | yes | says what the kernel side speaks |
//! | `CONFIGURE` | once, first | `EBUSY` | `EBUSY` | limits and flags |
//! | `MOUNT` | yes, `/` first | `EBUSY` | `EBUSY` | shows a host directory or a new file system at a guest path |
//! | `GIVE_FD` | yes | `EBUSY` | `EBUSY` | makes a host object a guest descriptor |
//! | `RUN` | yes | `EBUSY` | `EBUSY` | turns the calling thread into the guest; returns on failure only, and then nothing changed |
//! | `WAIT` | `ESRCH` | blocks | at once | how it ended |
//! | `KILL` | `ESRCH` | yes | `ESRCH` | a signal for its first process or for all |
//! | `TERMINAL` | once, then a size | a size | a size | makes a terminal that the guest has as descriptors, or gives it a size |
//!
//! What is written to the device's descriptor is typed at that terminal, and what it shows is read from there: `ENXIO` without one.
//! A read waits until there is something, and gives 0 once the sandbox has ended and all was read.
//!
//! All but `VERSION` give `EPERM` to a caller whose credentials are not those the device was opened with, and an unknown
//! number gives `ENOTTY`.
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

mod mount;
mod number;
mod request;
mod run;
pub mod wire;

pub use mount::{Mount, MountFlags, Permissions, Source};
pub use number::Request;
pub use request::{
    Configure, Ended, GiveFd, HostObject, Kill, NewTerminal, Target, Terminal, TerminalSize, Trap, UserBytes, Version, Wait,
    WaitFlags,
};
pub use run::{Run, RunText, Strings, guest_path};

/// The version of this ABI. A launcher runs with any kernel side whose [`Version`] range holds it. 2 added [`Source::Overlay`],
/// 3 [`Terminal`], 4 what a [`Mount`] makes and limits, names and users, 5 [`Trap`], 6 [`Source::Image`] and [`Source::Lasting`].
pub const VERSION: u32 = 6;
/// The oldest version whose requests mean the same in this one.
pub const OLDEST: u32 = 1;

/// Most bytes of a machine's name. As Linux's `__NEW_UTS_LEN`.
pub const NAME_BYTES_MAX: u32 = 64;
/// Most bytes of a path, its final NUL not counted. As Linux's `PATH_MAX`.
pub const PATH_BYTES_MAX: u32 = 4095;

/// Most bytes of all strings of one [`Run`], their NULs counted. As Linux's limit for a stack of 8 MiB, and two paths.
pub const RUN_BYTES_MAX: u32 = 2 * 1024 * 1024 + 2 * (PATH_BYTES_MAX + 1);

/// One past the highest guest descriptor that [`GiveFd`] can name.
pub const GUEST_FD_END: u32 = 1024;

/// One past the highest signal number.
pub const SIGNAL_END: u32 = 65;

/// Why bytes are not a request. A kernel answers with [`Bad::errno`]; the text is for its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Not exactly the structure's size, or lengths inside do not add up.
    Size,
    /// A reserved or output field is not zero, or a field that this variant does not use.
    Reserved,
    /// A flag bit that this version does not know.
    Flags,
    /// A number outside its range, such as an unknown kind.
    Range,
    /// A path that is empty, relative, or has a NUL or a `..` in it.
    Path,
    /// Strings that are not as many as was said, or not ended by NUL.
    Strings,
    /// More bytes than a limit allows.
    TooBig,
}

impl Bad {
    /// Linux's number for it: `EINVAL`, or `E2BIG` past a limit.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Self::TooBig => 7,
            Self::Size | Self::Reserved | Self::Flags | Self::Range | Self::Path | Self::Strings => 22,
        }
    }

    /// The reason, in a few words.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Size => "wrong size",
            Self::Reserved => "a reserved field is not zero",
            Self::Flags => "unknown flag",
            Self::Range => "value out of range",
            Self::Path => "not an absolute path without NUL and ..",
            Self::Strings => "strings do not match their count",
            Self::TooBig => "past a limit",
        }
    }
}

impl core::fmt::Display for Bad {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.why())
    }
}

impl core::error::Error for Bad {}
