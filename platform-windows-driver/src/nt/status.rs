//! Results of the kernel's functions.

use core::fmt;
use litebox_core::errno;
use litebox_core::error::{Errno, Error};

/// An `NTSTATUS`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Status(i32);

/// A status by the number that Microsoft's list gives.
const fn status(number: u32) -> Status {
    Status(number.cast_signed())
}

impl Status {
    pub(crate) const SUCCESS: Self = status(0);
    pub(crate) const TIMEOUT: Self = status(0x102);
    pub(crate) const PENDING: Self = status(0x103);
    pub(crate) const NO_MORE_FILES: Self = status(0x8000_0006);
    pub(crate) const NOT_IMPLEMENTED: Self = status(0xC000_0002);
    pub(crate) const INVALID_DEVICE_REQUEST: Self = status(0xC000_0010);
    pub(crate) const END_OF_FILE: Self = status(0xC000_0011);
    pub(crate) const INSUFFICIENT_RESOURCES: Self = status(0xC000_009A);
    pub(crate) const CANCELLED: Self = status(0xC000_0120);
    pub(crate) const PIPE_BROKEN: Self = status(0xC000_014B);

    /// What a request that failed with Linux's error `number` gives: a code of our own (bit 29), which Windows passes on to
    /// `GetLastError` as it is. The launcher knows the way back.
    pub(crate) const fn of_errno(number: u32) -> Self {
        status(0xE0BD_0000 | number & 0xffff)
    }

    /// Whether it is a success, or information.
    pub(crate) const fn is_success(self) -> bool {
        self.0 >= 0
    }

    /// The number.
    pub(crate) const fn number(self) -> u32 {
        self.0.cast_unsigned()
    }

    /// Itself, if it is no success.
    ///
    /// # Errors
    /// Itself.
    pub(crate) const fn check(self) -> Result<(), Self> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.number())
    }
}

impl From<Status> for Error {
    /// The library OS's error for a host's: what the same thing is called by Linux.
    fn from(status: Status) -> Self {
        match status.number() {
            // OBJECT_NAME_INVALID, _NOT_FOUND, OBJECT_PATH_NOT_FOUND, NO_SUCH_FILE, NO_MORE_FILES, DELETE_PENDING
            0xC000_0033 | 0xC000_0034 | 0xC000_003A | 0xC000_000F | 0x8000_0006 | 0xC000_0056 => {
                errno!(NOENT, "the host has none")
            }
            // ACCESS_DENIED, SHARING_VIOLATION, PRIVILEGE_NOT_HELD
            0xC000_0022 | 0xC000_0043 | 0xC000_0061 => errno!(ACCESS, "the host refuses"),
            // OBJECT_NAME_COLLISION
            0xC000_0035 => errno!(EXIST, "the host has one"),
            // NOT_A_DIRECTORY, OBJECT_PATH_SYNTAX_BAD
            0xC000_0103 | 0xC000_003B => errno!(NOTDIR, "no directory of the host"),
            0xC000_00BA => errno!(ISDIR, "a directory of the host"),
            0xC000_0101 => errno!(NOTEMPTY, "the host's directory is not empty"),
            // DISK_FULL, QUOTA_EXCEEDED
            0xC000_007F | 0xC000_0044 => errno!(NOSPC, "the host's disk is full"),
            0xC000_00A2 => errno!(ROFS, "the host's disk is write-protected"),
            // NO_MEMORY, INSUFFICIENT_RESOURCES
            0xC000_0017 | 0xC000_009A => errno!(NOMEM, "the host has no memory"),
            // INVALID_HANDLE, OBJECT_TYPE_MISMATCH
            0xC000_0008 | 0xC000_0024 => errno!(BADF, "no handle of the launcher"),
            // NOT_SAME_DEVICE
            0xC000_00D4 => errno!(XDEV, "another volume of the host"),
            // PIPE_BROKEN, PIPE_DISCONNECTED, PIPE_CLOSING
            0xC000_014B | 0xC000_00B0 | 0xC000_00B1 => errno!(PIPE, "nobody reads from the host's pipe"),
            0xC000_0106 => errno!(NAMETOOLONG, "too long for the host"),
            // CANCELLED, ALERTED
            0xC000_0120 | 0x0000_0101 => Self::Interrupted,
            _ => errno!(IO, "the host's file fails"),
        }
    }
}

impl Status {
    /// The status of a request for an error of the library OS.
    pub(crate) fn of_error(error: Error) -> Self {
        match error {
            Error::Errno(errno, _) => Self::of_linux(errno),
            Error::Interrupted => Self::CANCELLED,
        }
    }

    /// The same for its name.
    pub(crate) fn of_linux(errno: Errno) -> Self {
        Self::of_errno(litebox_shim_linux::errno::number(errno))
    }
}
