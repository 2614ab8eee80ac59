//! `MOUNT`: what a sandbox's files are made of, and the way there and back.

use crate::request::{exactly, zero};
use crate::{Bad, HostObject, PATH_BYTES_MAX, UserBytes, wire};
use bitflags::bitflags;
use core::num::NonZeroU64;

bitflags! {
    /// How to mount.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MountFlags: u32 {
        /// Nothing below can be changed by the guest.
        const READ_ONLY = 1;
    }
}

/// Permission bits of something that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// As chmod(2) has them, up to `0o7777`.
    #[must_use]
    pub const fn new(bits: u32) -> Option<Self> {
        if bits <= 0o7777 { Some(Self(bits)) } else { None }
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    fn decode(mode: u32) -> Result<Option<Self>, Bad> {
        mode.checked_sub(1).map(|bits| Self::new(bits).ok_or(Bad::Range)).transpose()
    }

    fn encode(mode: Option<Self>) -> u32 {
        mode.map_or(0, |Self(bits)| bits.saturating_add(1))
    }
}

/// What a mount shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory or a file of the host, as the caller opened it (`O_PATH` is enough).
    Host(HostObject),
    /// A new, empty file system in memory.
    Memory {
        /// Most bytes of it; `None`: the sandbox's limit alone.
        size: Option<NonZeroU64>,
        /// Most files of it, its root counted.
        files: Option<NonZeroU64>,
        /// Its root's permissions; `None`: everybody may use it, as /tmp.
        mode: Option<Permissions>,
    },
    /// A new procfs of the sandbox.
    Proc,
    /// A new file system with the sandbox's devices: null, zero, full, random, urandom, tty, fd, shm, pts.
    Dev,
    /// A directory of the host or an image, which stays as it is, and what the guest changes in it, in memory.
    Overlay {
        /// The directory, or the file with the image, as the caller opened it (`O_PATH` is enough).
        lower: HostObject,
        /// Most bytes of changes; `None`: the sandbox's limit alone.
        size: Option<NonZeroU64>,
    },
    /// Nothing: a directory is made, with those on the way to it, unless it is there.
    Directory(Option<Permissions>),
    /// Nothing: a symbolic link to this target is made.
    Symlink(UserBytes),
    /// Nothing: a file is made, or replaced, with what the caller can read of this one.
    Copy(HostObject, Option<Permissions>),
    /// The erofs image in this file of the host, read-only, as the caller opened it (`O_PATH` is enough).
    Image(HostObject),
    /// A directory of the host or an image, which stays as it is, and what the guest changes in it, kept in another directory.
    Lasting {
        /// The directory, or the file with the image, as the caller opened it (`O_PATH` is enough).
        lower: HostObject,
        /// The directory with the changes, which may be empty; the same.
        upper: HostObject,
    },
}

/// `MOUNT`: shows something at a guest path. The first must be at `/`; a later one covers what an earlier one shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What.
    pub source: Source,
    /// How.
    pub flags: MountFlags,
    /// Where: the kernel side copies these bytes, then asks [`crate::guest_path`].
    pub path: UserBytes,
}

impl Mount {
    /// From a copy of the caller's bytes.
    ///
    /// # Errors
    /// [`Bad::Size`], [`Bad::Flags`], [`Bad::Reserved`], [`Bad::Range`] for an unknown kind or mode, [`Bad::Path`] for an empty path,
    /// [`Bad::TooBig`] for a long one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::Mount = exactly(bytes)?;
        let flags = MountFlags::from_bits(wire.flags).ok_or(Bad::Flags)?;
        let mode = Permissions::decode(wire.mode)?;
        let source = match wire.kind {
            1 => Source::Host(HostObject(wire.host)),
            2 => Source::Memory { size: NonZeroU64::new(wire.size), files: NonZeroU64::new(wire.files), mode },
            3 => Source::Proc,
            4 => Source::Dev,
            5 => Source::Overlay { lower: HostObject(wire.host), size: NonZeroU64::new(wire.size) },
            6 => Source::Directory(mode),
            7 => match u32::try_from(wire.size) {
                Ok(0) => return Err(Bad::Path),
                Ok(len @ 1..=PATH_BYTES_MAX) => Source::Symlink(UserBytes { addr: wire.host, len }),
                _ => return Err(Bad::TooBig),
            },
            8 => Source::Copy(HostObject(wire.host), mode),
            9 => Source::Image(HostObject(wire.host)),
            10 => Source::Lasting { lower: HostObject(wire.host), upper: HostObject(wire.size) },
            _ => return Err(Bad::Range),
        };
        for (kinds, field) in [
            (&[1, 5, 7, 8, 9, 10][..], wire.host),
            (&[2, 5, 7, 10][..], wire.size),
            (&[2, 6, 8][..], wire.mode.into()),
            (&[2][..], wire.files),
        ] {
            if !kinds.contains(&wire.kind) {
                zero(&[field])?;
            }
        }
        match wire.path_len {
            0 => Err(Bad::Path),
            1..=PATH_BYTES_MAX => Ok(Self { source, flags, path: UserBytes { addr: wire.path, len: wire.path_len } }),
            _ => Err(Bad::TooBig),
        }
    }

    /// To bytes.
    #[must_use]
    pub fn encode(self) -> wire::Mount {
        let number = |number: Option<NonZeroU64>| number.map_or(0, NonZeroU64::get);
        let (kind, host, size) = match self.source {
            Source::Host(object) => (1, object.0, 0),
            Source::Memory { size, .. } => (2, 0, number(size)),
            Source::Proc => (3, 0, 0),
            Source::Dev => (4, 0, 0),
            Source::Overlay { lower, size } => (5, lower.0, number(size)),
            Source::Directory(_) => (6, 0, 0),
            Source::Symlink(target) => (7, target.addr, target.len.into()),
            Source::Copy(object, _) => (8, object.0, 0),
            Source::Image(object) => (9, object.0, 0),
            Source::Lasting { lower, upper } => (10, lower.0, upper.0),
        };
        let (mode, files) = match self.source {
            Source::Memory { mode, files, .. } => (mode, files),
            Source::Directory(mode) | Source::Copy(_, mode) => (mode, None),
            _ => (None, None),
        };
        wire::Mount {
            kind,
            flags: self.flags.bits(),
            host,
            size,
            path: self.path.addr,
            path_len: self.path.len,
            mode: Permissions::encode(mode),
            files: number(files),
        }
    }
}
