//! Where the content of a file that is not compressed lies.
//!
//! Hostile input: block numbers, chunk sizes and lists, lengths. What is found may lie past the image's end, which the store checks.
//! Source: Linux fs/erofs/data.c.

use super::layout::SuperBlock;
use super::layout::{Layout, Node, align, product, sum, u16_at, u32_at};
use crate::{errno, error::Result};

/// Bytes of a file that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where in the image; `None` is zeros.
    pub(super) at: Option<u64>,
    /// How many, from the offset that was asked for.
    pub(super) len: u64,
}

/// The run at `offset`, which is before the end of `node`. `read` fills a buffer from a place in the image.
///
/// # Errors
/// `OPNOTSUPP`: on another device. `UCLEAN`: damaged. Those of `read`.
pub(super) fn find(of: &SuperBlock, node: &Node, offset: u64, read: impl FnOnce(u64, &mut [u8]) -> Result<()>) -> Result<Run> {
    let left = node.size.checked_sub(offset).filter(|left| *left > 0).ok_or(errno!(UCLEAN, "past the end of a file"))?;
    match node.layout {
        Layout::Flat { start: None } => Ok(Run { at: None, len: left }),
        Layout::Flat { start: Some(start) } => Ok(Run { at: Some(sum(of.block_at(start)?, offset)?), len: left }),
        Layout::Inline { start } => {
            let tail = of.block_at(node.size.div_ceil(of.block()).saturating_sub(1))?;
            if let Some(before) = tail.checked_sub(offset).filter(|before| *before > 0) {
                return Ok(Run { at: Some(sum(of.block_at(start)?, offset)?), len: before });
            }
            let at = sum(node.end, offset.saturating_sub(tail))?;
            if sum(of.within_block(at), left)? > of.block() {
                return Err(errno!(UCLEAN, "the tail of a file crosses a block"));
            }
            Ok(Run { at: Some(at), len: left })
        }
        Layout::Chunks { bits, indexed } => {
            let unit = if indexed { 8 } else { 4 };
            let number = offset.wrapping_shr(bits);
            let within = offset.saturating_sub(number.wrapping_shl(bits));
            let entry = sum(align(node.end, unit)?, product(number, unit)?)?;
            let len = left.min(1u64.wrapping_shl(bits).saturating_sub(within));
            let mut bytes = [0; 8];
            // Without a device, the second half is all.
            read(entry, bytes.get_mut(if indexed { 0 } else { 4 }..).unwrap_or_default())?;
            if u16_at(&bytes, 2)? != 0 {
                return Err(errno!(OPNOTSUPP, "a chunk on another device"));
            }
            let block = u32_at(&bytes, 4)?;
            if block == u32::MAX {
                return Ok(Run { at: None, len });
            }
            Ok(Run { at: Some(sum(of.block_at(block.into())?, within)?), len })
        }
        Layout::Packed | Layout::PackedCompact => Err(errno!(UCLEAN, "a compressed file has no such runs")),
    }
}
