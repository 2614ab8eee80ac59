//! The plain types of the file layer: modes, flags, names, times, attributes.
//!
//! Typed in rustix's manner. No number here is Linux's but the permission bits of a mode, which are POSIX's; the ABI above maps
//! flags to its own. Invariant: a [`Name`] or [`NameBuf`] is one component: 1 to 255 bytes, no slash, no NUL, neither `.` nor `..`.

use crate::capabilities::Capabilities;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use bitflags::bitflags;
use core::borrow::Borrow;
use core::fmt;
use core::time::Duration;

/// Bytes of a page, the unit of caching and mapping.
pub const PAGE_SIZE: usize = 4096;
/// The same, for file offsets.
pub const PAGE_SIZE_U64: u64 = 4096;
/// Longest path, with its terminating NUL. See `path_resolution(7)`.
pub const PATH_MAX: usize = 4096;
/// Longest component.
pub const NAME_MAX: usize = 255;
/// Symbolic links that one path walk follows before it gives up.
pub const SYMLINKS_MAX: u32 = 40;
/// Largest file and largest offset: a signed 64-bit offset's last value.
pub const OFFSET_MAX: u64 = i64::MAX.unsigned_abs();
/// Most bytes that one read or write moves; Linux's `MAX_RW_COUNT`.
pub const TRANSFER_MAX: usize = 0x7fff_f000;

bitflags! {
    /// How a file is opened. See open(2). Access is [`OFlags::READ`] and [`OFlags::WRITE`], not a number of two bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct OFlags: u32 {
        /// Opened for reading.
        const READ = 1 << 0;
        /// Opened for writing.
        const WRITE = 1 << 1;
        /// Each write goes to the end.
        const APPEND = 1 << 2;
        /// Nothing blocks.
        const NONBLOCK = 1 << 3;
        /// Create the file if it is absent.
        const CREATE = 1 << 4;
        /// With `CREATE`: fail if the name exists.
        const EXCL = 1 << 5;
        /// Cut a regular file to length zero.
        const TRUNC = 1 << 6;
        /// Fail unless it is a directory.
        const DIRECTORY = 1 << 7;
        /// Fail if the last component is a symbolic link.
        const NOFOLLOW = 1 << 8;
        /// A handle on the place only: no reading, no writing, no permission on the file itself.
        const PATH = 1 << 9;
        /// An unnamed file in the given directory.
        const TMPFILE = 1 << 10;
        /// The descriptor is closed by exec.
        const CLOEXEC = 1 << 11;
        /// Do not become the controlling terminal's owner.
        const NOCTTY = 1 << 12;
        /// Reads do not change the access time.
        const NOATIME = 1 << 13;
        /// Bypass caches where there are any. Remembered, no effect.
        const DIRECT = 1 << 14;
        /// Data is stable when a write returns. Remembered, no effect.
        const DSYNC = 1 << 15;
        /// Data and attributes are stable when a write returns. Remembered, no effect.
        const SYNC = 1 << 16;
        /// Signal-driven I/O. Remembered, no effect.
        const ASYNC = 1 << 17;
        /// Whoever opened it is not privileged: what it writes takes the set-id bits of a program off.
        const STRIPS = 1 << 18;
        /// Opening made it.
        const CREATED = 1 << 19;
    }
}

impl OFlags {
    /// What fcntl(2)'s `F_SETFL` may change.
    pub const SETTABLE: Self = Self::APPEND.union(Self::NONBLOCK).union(Self::NOATIME).union(Self::DIRECT).union(Self::ASYNC);
    /// What belongs to opening and is forgotten afterwards.
    pub const CREATION: Self = Self::CREATE.union(Self::EXCL).union(Self::TRUNC).union(Self::CLOEXEC).union(Self::NOCTTY);
}

bitflags! {
    /// Permission bits, in POSIX's numbers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Mode: u32 {
        /// Set user id on execution.
        const SETUID = 0o4000;
        /// Set group id on execution; on a directory, new files inherit its group.
        const SETGID = 0o2000;
        /// Only owners remove entries.
        const STICKY = 0o1000;
        /// The owner's three.
        const RWXU = 0o700;
        /// The owner reads.
        const RUSR = 0o400;
        /// The owner writes.
        const WUSR = 0o200;
        /// The owner executes or searches.
        const XUSR = 0o100;
        /// The group's three.
        const RWXG = 0o070;
        /// The group reads.
        const RGRP = 0o040;
        /// The group writes.
        const WGRP = 0o020;
        /// The group executes or searches.
        const XGRP = 0o010;
        /// Everybody else's three.
        const RWXO = 0o007;
        /// Others read.
        const ROTH = 0o004;
        /// Others write.
        const WOTH = 0o002;
        /// Others execute or search.
        const XOTH = 0o001;
    }
}

impl Mode {
    /// What is left when an unprivileged user changed a file that runs with other ids. A set-group-ID bit without the group's
    /// right to execute once stood for mandatory locks, and stays. Linux: `setattr_should_drop_suidgid`.
    #[must_use]
    pub fn without_set_ids(self) -> Self {
        let mode = self.difference(Self::SETUID);
        if mode.contains(Self::XGRP) { mode.difference(Self::SETGID) } else { mode }
    }

    /// The rights to execute in it.
    #[must_use]
    pub fn executable(self) -> Self {
        self.intersection(Self::XUSR.union(Self::XGRP).union(Self::XOTH))
    }
}

bitflags! {
    /// What somebody wants to do with a file. See access(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Access: u32 {
        /// Read, or list a directory.
        const READ = 0o4;
        /// Write, or change a directory's entries.
        const WRITE = 0o2;
        /// Execute, or search a directory.
        const EXEC = 0o1;
    }
}

bitflags! {
    /// Flags of a rename. See renameat2(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct RenameFlags: u32 {
        /// Fail if the new name exists.
        const NOREPLACE = 1 << 0;
        /// Swap both names.
        const EXCHANGE = 1 << 1;
    }
}

bitflags! {
    /// What a file is ready for. See poll(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Ready: u32 {
        /// Reading would not block.
        const IN = 1 << 0;
        /// Urgent data.
        const PRI = 1 << 1;
        /// Writing would not block.
        const OUT = 1 << 2;
        /// An error waits, or a pipe's readers are gone.
        const ERR = 1 << 3;
        /// The other side hung up.
        const HUP = 1 << 4;
        /// A stream's other side will write no more.
        const RDHUP = 1 << 5;
    }
}

bitflags! {
    /// What can never be done to a file in memory any more. See fcntl(2), `F_ADD_SEALS`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Seals: u32 {
        /// No more seals.
        const SEAL = 1 << 0;
        /// Not made shorter.
        const SHRINK = 1 << 1;
        /// Not made longer.
        const GROW = 1 << 2;
        /// Not written to.
        const WRITE = 1 << 3;
        /// Not written to but by mappings that there are.
        const FUTURE_WRITE = 1 << 4;
        /// Not made executable, nor the reverse.
        const EXEC = 1 << 5;
    }
}

/// What kind of thing an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// A path to walk instead.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A device of bytes.
    CharDevice,
    /// A device of blocks.
    BlockDevice,
}

impl FileKind {
    /// Its number, the upper four bits of a mode where that has a kind. Sources: inode(7), `S_IFMT`; readdir(3), `d_type`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Fifo => 1,
            Self::CharDevice => 2,
            Self::Directory => 4,
            Self::BlockDevice => 6,
            Self::Regular => 8,
            Self::Symlink => 10,
            Self::Socket => 12,
        }
    }

    /// The kind of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Fifo),
            2 => Some(Self::CharDevice),
            4 => Some(Self::Directory),
            6 => Some(Self::BlockDevice),
            8 => Some(Self::Regular),
            10 => Some(Self::Symlink),
            12 => Some(Self::Socket),
            _ => None,
        }
    }
}

/// A user's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uid(pub u32);

/// A group's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gid(pub u32);

/// A device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeviceId {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// Which inode: equal ids are the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId {
    /// The file system.
    pub device: DeviceId,
    /// The inode's number in it.
    pub number: u64,
}

/// A point in time: seconds since 1970-01-01 UTC, which may be negative, and nanoseconds after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: i64,
    /// `0..1_000_000_000`.
    pub nanoseconds: u32,
}

impl From<Duration> for Timestamp {
    fn from(since_epoch: Duration) -> Self {
        Self { seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX), nanoseconds: since_epoch.subsec_nanos() }
    }
}

/// An inode's attributes. See inode(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Which inode.
    pub id: InodeId,
    /// What kind.
    pub kind: FileKind,
    /// Permissions.
    pub mode: Mode,
    /// Names that it has.
    pub links: u32,
    /// Owner.
    pub uid: Uid,
    /// Owning group.
    pub gid: Gid,
    /// The device that a device node stands for.
    pub device: DeviceId,
    /// Length in bytes.
    pub size: u64,
    /// Memory or disk used, in units of 512 bytes.
    pub blocks: u64,
    /// Unit in which I/O is good.
    pub block_size: u32,
    /// Last read.
    pub accessed: Timestamp,
    /// Last change of content.
    pub modified: Timestamp,
    /// Last change of content or attributes.
    pub changed: Timestamp,
}

/// What a time is set to. See utimensat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// This time.
    At(Timestamp),
}

/// Changes to an inode's attributes; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttrChange {
    /// New permissions.
    pub mode: Option<Mode>,
    /// New owner.
    pub uid: Option<Uid>,
    /// New group.
    pub gid: Option<Gid>,
    /// New length of a regular file.
    pub size: Option<u64>,
    /// New access time.
    pub accessed: Option<SetTime>,
    /// New modification time.
    pub modified: Option<SetTime>,
}

/// What a new inode is to be, beside its kind.
#[derive(Clone, Copy, Debug)]
pub struct NewNode {
    /// Permissions, with the umask already taken off.
    pub mode: Mode,
    /// Owner.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
}

/// Where an offset is counted from. See lseek(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekFrom {
    /// The file's start.
    Start(u64),
    /// The present offset.
    Current(i64),
    /// The file's end.
    End(i64),
    /// The next data at or after this offset.
    Data(u64),
    /// The next hole at or after this offset.
    Hole(u64),
}

/// A file system's figures. See statfs(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsStat {
    /// Unit of the two counts, in bytes.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks free.
    pub free: u64,
}

/// One component of a path, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks that `bytes` is one component.
    ///
    /// # Errors
    /// `NAMETOOLONG`: above [`NAME_MAX`]. `INVAL`: empty, `.`, `..`, or with a slash or NUL in it.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > NAME_MAX {
            return Err(errno!(NAMETOOLONG, "a component has more than 255 bytes"));
        }
        if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(errno!(INVAL, "not a name"));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// One component of a path, owned; clones share the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameBuf(Arc<[u8]>);

impl NameBuf {
    /// The borrowed form.
    #[must_use]
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }

    /// A label for what has no place in any directory, such as `pipe:[7]`; longer ones are cut. Not a component.
    pub(crate) fn label(text: &[u8]) -> Self {
        Self(Arc::from(text.get(..NAME_MAX).unwrap_or(text)))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Name<'_>> for NameBuf {
    fn from(name: Name<'_>) -> Self {
        Self(Arc::from(name.0))
    }
}

impl Borrow<[u8]> for NameBuf {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

/// Which process and task asks, by the numbers of the ABI above; for links such as /proc/self, which lead each to its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The process; 0 is none.
    pub process: u32,
    /// The task in it; 0 is none.
    pub task: u32,
}

/// Who asks: what permission checks look at. See credentials(7).
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// File-system user.
    pub uid: Uid,
    /// File-system group.
    pub gid: Gid,
    /// Supplementary groups.
    pub groups: Arc<[Gid]>,
    /// What it may beyond others: its effective capabilities.
    pub capabilities: Capabilities,
    /// Which process and task it is.
    pub asker: Asker,
}

impl Credentials {
    /// Whether it has `capability`.
    #[must_use]
    pub fn can(&self, capability: Capabilities) -> bool {
        self.capabilities.contains(capability)
    }

    /// Whether `attr` lets this one do all of `want`.
    ///
    /// # Errors
    /// `ACCESS`: it does not. Source: `path_resolution(7)`; Linux fs/namei.c `generic_permission`.
    pub fn check(&self, attr: &Attr, want: Access) -> Result<()> {
        let mode = attr.mode.bits();
        let granted = if self.uid == attr.uid {
            mode >> 6
        } else if self.gid == attr.gid || self.groups.contains(&attr.gid) {
            mode >> 3
        } else {
            mode
        };
        if Access::from_bits_truncate(granted).contains(want) {
            return Ok(());
        }
        let any_exec = attr.mode.intersects(Mode::XUSR | Mode::XGRP | Mode::XOTH);
        let is_dir = attr.kind == FileKind::Directory;
        if self.can(Capabilities::DAC_OVERRIDE) && (is_dir || !want.contains(Access::EXEC) || any_exec) {
            return Ok(());
        }
        let only_looks = if is_dir { !want.contains(Access::WRITE) } else { want == Access::READ };
        if only_looks && self.can(Capabilities::DAC_READ_SEARCH) {
            return Ok(());
        }
        Err(errno!(ACCESS, "the mode does not allow it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    #[test]
    fn a_kind_is_that_of_its_number() {
        let numbers = (0..=u8::MAX).filter_map(|number| Some((number, FileKind::from_number(number)?.number())));
        assert!(numbers.clone().all(|(number, same)| number == same));
        assert_eq!(numbers.count(), 7);
    }

    #[test]
    fn a_name_is_one_component() {
        assert!(Name::new(b"a").is_ok());
        assert!(Name::new(&[b'a'; 255]).is_ok());
        assert!(Name::new(&[b'a'; 256]).is_err_and(|error| error.is(Errno::NAMETOOLONG)));
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert!(Name::new(bad).is_err_and(|error| error.is(Errno::INVAL)));
        }
    }
}
