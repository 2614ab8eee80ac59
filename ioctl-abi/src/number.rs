//! Request numbers, made from direction, size, type and ordinal as `_IOC` does.

use crate::wire;

/// The type byte of every request. Free in Linux's Documentation/userspace-api/ioctl/ioctl-number.rst.
const TYPE: u32 = 0xBD;
/// The kernel reads the structure.
const WRITE: u32 = 1;
/// The kernel writes the structure.
const READ: u32 = 2;

/// `_IOC(direction, TYPE, ordinal, sizeof(T))`. A structure is at most 16,383 bytes; ours are tens.
const fn ioc<T>(direction: u32, ordinal: u32) -> u32 {
    assert!(size_of::<T>() < 1 << 14 && ordinal < 256 && direction < 4, "does not fit its bits");
    #[expect(clippy::cast_possible_truncation, reason = "below 2^14, see above")]
    let size = size_of::<T>() as u32;
    direction << 30 | size << 16 | TYPE << 8 | ordinal
}

/// A request of the device. Ordinals start at 16: the VFS answers 1, 2, 0x5421 and others itself, whatever the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Request {
    /// [`crate::Version`].
    Version = ioc::<wire::Version>(READ, 16),
    /// [`crate::Configure`].
    Configure = ioc::<wire::Configure>(WRITE, 17),
    /// [`crate::Mount`].
    Mount = ioc::<wire::Mount>(WRITE, 18),
    /// [`crate::GiveFd`].
    GiveFd = ioc::<wire::GiveFd>(WRITE, 19),
    /// [`crate::Run`].
    Run = ioc::<wire::Run>(WRITE, 20),
    /// [`crate::Wait`].
    Wait = ioc::<wire::Wait>(READ | WRITE, 21),
    /// [`crate::Kill`].
    Kill = ioc::<wire::Kill>(WRITE, 22),
    /// [`crate::Terminal`].
    Terminal = ioc::<wire::Terminal>(WRITE, 23),
}

impl Request {
    /// Every request, in order.
    pub const ALL: [Self; 8] =
        [Self::Version, Self::Configure, Self::Mount, Self::GiveFd, Self::Run, Self::Wait, Self::Kill, Self::Terminal];

    /// The request with this number; `None` is for `ENOTTY`.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|request| request.number() == number)
    }

    /// The number for ioctl(2).
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Bytes of the structure.
    #[must_use]
    pub const fn size(self) -> usize {
        (self.number() >> 16 & 0x3fff) as usize
    }

    /// The code for `DeviceIoControl`: `CTL_CODE(0x80BD, 0x800 + ordinal, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)`.
    #[must_use]
    pub const fn windows_code(self) -> u32 {
        0x80BD << 16 | 3 << 14 | (0x800 | self.number() & 0xff) << 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_these_for_ever() {
        let numbers = Request::ALL.map(Request::number);
        assert_eq!(
            numbers,
            [0x8010_bd10, 0x4028_bd11, 0x4030_bd12, 0x4018_bd13, 0x4030_bd14, 0xc010_bd15, 0x4010_bd16, 0x4038_bd17],
            "{numbers:#x?}"
        );
    }

    #[test]
    fn a_number_is_known_exactly_or_not_at_all() {
        for request in Request::ALL {
            assert_eq!(Request::from_number(request.number()), Some(request));
            for bit in 0..32 {
                let other = request.number() ^ 1 << bit;
                assert!(Request::from_number(other).is_none_or(|found| found.number() == other));
            }
        }
        for vfs in [0, 1, 2, 0x5421, 0x5451, 0x5450, 0x5452, 0x5460, u32::MAX] {
            assert_eq!(Request::from_number(vfs), None);
        }
    }

    #[test]
    fn windows_codes_differ() {
        for (index, one) in Request::ALL.into_iter().enumerate() {
            assert_eq!(one.windows_code() & 3, 0, "buffered");
            assert!(Request::ALL.into_iter().skip(index + 1).all(|other| other.windows_code() != one.windows_code()));
        }
    }
}
