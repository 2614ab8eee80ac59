//! erofs's structures as they lie in an image: little-endian, read field by field.
//!
//! Invariants: nothing is believed. A field that does not fit gives `UCLEAN`, as Linux says of a damaged file system; a feature that is
//! not built gives `OPNOTSUPP` when the image is opened, or the file that needs it. Source: Linux `fs/erofs/erofs_fs.h`, super.c, inode.c.

use crate::fs::types::{DeviceId, FileKind, Mode, Timestamp};
use crate::{errno, error::Result};

/// Where the superblock begins, and how much of it is looked at.
pub(super) const SUPER_AT: u64 = 1024;
/// Bytes of it.
pub(super) const SUPER_BYTES: usize = 128;
/// Inodes lie at multiples of this.
const SLOT_BITS: u32 = 5;

/// A field of `N` bytes at `at`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let rest = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    rest.copied().ok_or(errno!(UCLEAN, "a structure of the image is cut off"))
}

/// The byte at `at`.
pub(super) fn u8_at(bytes: &[u8], at: usize) -> Result<u8> {
    field::<1>(bytes, at).map(u8::from_le_bytes)
}

/// The number of two bytes at `at`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

/// The number of four bytes at `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

/// The number of eight bytes at `at`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

/// The same with a sign.
fn i64_at(bytes: &[u8], at: usize) -> Result<i64> {
    field(bytes, at).map(i64::from_le_bytes)
}

/// A sum of places in the image.
pub(super) fn sum(at: u64, more: u64) -> Result<u64> {
    at.checked_add(more).ok_or(errno!(UCLEAN, "a place past the end of any image"))
}

/// A product of places in the image.
pub(super) fn product(count: u64, bytes: u64) -> Result<u64> {
    count.checked_mul(bytes).ok_or(errno!(UCLEAN, "a place past the end of any image"))
}

/// `at`, or the next multiple of `unit`, a power of two.
pub(super) fn align(at: u64, unit: u64) -> Result<u64> {
    at.checked_next_multiple_of(unit).ok_or(errno!(UCLEAN, "a place past the end of any image"))
}

/// What is known of an image as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct SuperBlock {
    /// log2 of a block's bytes: 9 to 12.
    pub(super) block_bits: u32,
    /// The root directory.
    pub(super) root: u64,
    /// Blocks of the image.
    pub(super) blocks: u64,
    /// Where inodes are counted from.
    inodes_at: u64,
    /// Where shared extended attributes are counted from.
    pub(super) shared_at: u64,
    /// Time of compact inodes.
    time: Timestamp,
    /// The file with the fragments of others.
    pub(super) fragments: u64,
    /// Whether files may be compressed with LZ4.
    pub(super) has_lz4: bool,
    /// Whether a compressed cluster may have several blocks.
    pub(super) has_big_clusters: bool,
    /// The checksum of its block, if there is one.
    pub(super) checksum: Option<u32>,
}

/// Features without which an image cannot be read.
mod feature {
    pub(super) const ZERO_PADDING: u32 = 1;
    pub(super) const CONFIGURATIONS: u32 = 1 << 1;
    pub(super) const SEVERAL_DEVICES: u32 = 1 << 3;
    pub(super) const PREFIXES: u32 = 1 << 6;
    /// All that Linux knows but the two behind it: addresses of 48 bits, and compressed metadata.
    pub(super) const BUILT: u32 = 0x7f;
    pub(super) const CHECKSUM: u32 = 1;
}

impl SuperBlock {
    /// From the [`SUPER_BYTES`] at [`SUPER_AT`].
    ///
    /// # Errors
    /// `INVAL`: no erofs. `OPNOTSUPP`: a feature that is not built. `UCLEAN`: damaged.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        if u32_at(bytes, 0)? != 0xe0f5_e1e2 {
            return Err(errno!(INVAL, "not an erofs image"));
        }
        let block_bits = u32::from(u8_at(bytes, 12)?);
        if !(9..=12).contains(&block_bits) || u8_at(bytes, 90)? != 0 {
            return Err(errno!(INVAL, "an image with blocks of such a size"));
        }
        let needs = u32_at(bytes, 80)?;
        if needs & !feature::BUILT != 0 {
            return Err(errno!(OPNOTSUPP, "addresses of 48 bits, compressed metadata, or what is newer"));
        }
        if needs & feature::SEVERAL_DEVICES != 0 && u16_at(bytes, 86)? != 0 {
            return Err(errno!(OPNOTSUPP, "an image of several devices"));
        }
        if needs & feature::PREFIXES != 0 && u8_at(bytes, 91)? != 0 {
            return Err(errno!(OPNOTSUPP, "an image with its own prefixes of extended attributes"));
        }
        let has_configurations = needs & feature::CONFIGURATIONS != 0;
        let algorithms = u16_at(bytes, 84)?;
        // Without configurations the field has LZ4's window.
        if has_configurations && algorithms & !1 != 0 {
            return Err(errno!(OPNOTSUPP, "compressed with another algorithm than LZ4"));
        }
        let block = |at| Ok(u64::from(u32_at(bytes, at)?).wrapping_shl(block_bits));
        let time = Timestamp { seconds: i64_at(bytes, 24)?, nanoseconds: u32_at(bytes, 32)? };
        let has_checksum = u32_at(bytes, 8)? & feature::CHECKSUM != 0;
        Ok(Self {
            block_bits,
            root: u16_at(bytes, 14)?.into(),
            blocks: u32_at(bytes, 36)?.into(),
            inodes_at: block(40)?,
            shared_at: block(44)?,
            time: checked_time(time)?,
            fragments: u64_at(bytes, 96)?,
            has_lz4: needs & feature::ZERO_PADDING != 0 || algorithms != 0,
            has_big_clusters: has_configurations,
            checksum: if has_checksum { Some(u32_at(bytes, 4)?) } else { None },
        })
    }

    /// Bytes of a block.
    pub(super) fn block(&self) -> u64 {
        1u64.wrapping_shl(self.block_bits)
    }

    /// Where block `number` begins.
    pub(super) fn block_at(&self, number: u64) -> Result<u64> {
        product(number, self.block())
    }

    /// Bytes from the start of its block to `at`.
    pub(super) fn within_block(&self, at: u64) -> u64 {
        at & self.block().wrapping_sub(1)
    }

    /// Where the inode `number` begins.
    pub(super) fn inode_at(&self, number: u64) -> Result<u64> {
        sum(self.inodes_at, product(number, 1 << SLOT_BITS)?)
    }
}

/// Refuses a time whose parts of a second are more than one.
fn checked_time(time: Timestamp) -> Result<Timestamp> {
    if time.nanoseconds < 1_000_000_000 { Ok(time) } else { Err(errno!(UCLEAN, "a time that is none")) }
}

/// How a file's content lies in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In consecutive blocks; `None` is a hole.
    Flat { start: Option<u64> },
    /// The same, and what does not fill a block lies behind the inode.
    Inline { start: u64 },
    /// In chunks of this many bytes (log2), each with its block in a list behind the inode.
    Chunks { bits: u32, indexed: bool },
    /// Compressed, with an index of eight bytes for each cluster.
    Packed,
    /// Compressed, with an index of two or four bytes for each cluster.
    PackedCompact,
}

/// A file's inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Where what belongs to it and is no extended attribute begins.
    pub(super) end: u64,
    /// Where the inode itself ends; from there to `end` lie its extended attributes.
    pub(super) attributes_at: u64,
    pub(super) kind: FileKind,
    pub(super) mode: Mode,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) time: Timestamp,
    pub(super) device: DeviceId,
    /// Space in the image, in blocks.
    pub(super) blocks: u64,
    pub(super) layout: Layout,
    /// A directory whose list has no `.`.
    pub(super) omits_dot: bool,
}

/// Bytes of the longest form of an inode.
pub(super) const INODE_BYTES: usize = 64;
/// Bytes of the shortest form.
pub(super) const COMPACT_BYTES: usize = 32;

impl Node {
    /// From the bytes at `at`: [`INODE_BYTES`] of them, or [`COMPACT_BYTES`] if those are the last of the image.
    ///
    /// # Errors
    /// `OPNOTSUPP`: a form that is not built. `UCLEAN`: damaged.
    pub(super) fn parse(of: &SuperBlock, at: u64, bytes: &[u8]) -> Result<Self> {
        let format = u16_at(bytes, 0)?;
        if format & !0x1f != 0 {
            return Err(errno!(OPNOTSUPP, "an inode of an unknown form"));
        }
        let is_long = format & 1 != 0;
        let mode = u16_at(bytes, 4)?;
        let kind = u8::try_from(mode >> 12).ok().and_then(FileKind::from_number).ok_or(errno!(UCLEAN, "an inode of no kind"))?;
        let nlink = u16_at(bytes, 6)?;
        let (size, time, uid, gid, links, inode_bytes) = if is_long {
            let time = Timestamp { seconds: i64_at(bytes, 32)?, nanoseconds: u32_at(bytes, 40)? };
            (u64_at(bytes, 8)?, time, u32_at(bytes, 24)?, u32_at(bytes, 28)?, u32_at(bytes, 44)?, INODE_BYTES)
        } else {
            let seconds = of.time.seconds.wrapping_add(u32_at(bytes, 12)?.into());
            let time = Timestamp { seconds, nanoseconds: of.time.nanoseconds };
            let links = if kind != FileKind::Directory && format & 0x10 != 0 { 1 } else { nlink.into() };
            (u32_at(bytes, 8)?.into(), time, u16_at(bytes, 24)?.into(), u16_at(bytes, 26)?.into(), links, COMPACT_BYTES)
        };
        if i64::try_from(size).is_err() {
            return Err(errno!(UCLEAN, "a file of less than nothing"));
        }
        let attributes = match u64::from(u16_at(bytes, 2)?) {
            0 => 0,
            count => sum(product(count.saturating_sub(1), 4)?, 12)?,
        };
        let what = u32_at(bytes, 16)?;
        let attributes_at = sum(at, u64::try_from(inode_bytes).unwrap_or(0))?;
        let has_content = matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink);
        let layout = if has_content { layout(of, (format >> 1) & 7, what)? } else { Layout::Flat { start: None } };
        let blocks = match layout {
            Layout::Packed | Layout::PackedCompact => what.into(),
            _ => size.div_ceil(of.block()),
        };
        Ok(Self {
            end: sum(attributes_at, attributes)?,
            attributes_at,
            kind,
            mode: Mode::from_bits_truncate(mode.into()),
            links,
            uid,
            gid,
            size,
            time: checked_time(time)?,
            device: if has_content { DeviceId::default() } else { device(kind, what) },
            blocks,
            layout,
            omits_dot: kind == FileKind::Directory && format & 0x10 != 0,
        })
    }
}

fn layout(of: &SuperBlock, number: u16, what: u32) -> Result<Layout> {
    let is_packed = matches!(number, 1 | 3);
    if is_packed && !of.has_lz4 {
        return Err(errno!(UCLEAN, "a compressed file in an image without compression"));
    }
    match number {
        0 => Ok(Layout::Flat { start: (what != u32::MAX).then_some(what.into()) }),
        1 => Ok(Layout::Packed),
        2 => Ok(Layout::Inline { start: what.into() }),
        3 => Ok(Layout::PackedCompact),
        4 if what & 0xffff & !0x3f != 0 => Err(errno!(OPNOTSUPP, "chunks with addresses of 48 bits")),
        4 => Ok(Layout::Chunks { bits: of.block_bits.saturating_add(what & 0x1f), indexed: what & 0x20 != 0 }),
        _ => Err(errno!(OPNOTSUPP, "a file of an unknown form")),
    }
}

/// Linux's `new_decode_dev`.
fn device(kind: FileKind, bits: u32) -> DeviceId {
    match kind {
        FileKind::CharDevice | FileKind::BlockDevice => {
            DeviceId { major: (bits & 0xf_ff00) >> 8, minor: (bits & 0xff) | ((bits >> 12) & 0xf_ff00) }
        }
        _ => DeviceId::default(),
    }
}

/// What the kind in a directory's entry is; an unknown one is asked of the inode.
pub(super) fn entry_kind(number: u8) -> Option<FileKind> {
    match number {
        1 => Some(FileKind::Regular),
        2 => Some(FileKind::Directory),
        3 => Some(FileKind::CharDevice),
        4 => Some(FileKind::BlockDevice),
        5 => Some(FileKind::Fifo),
        6 => Some(FileKind::Socket),
        7 => Some(FileKind::Symlink),
        _ => None,
    }
}
