//! LZ4 blocks.
//!
//! Our own, of a page's length, since it has to stop where the output is full though the input goes on (a cluster of which a file has
//! only the beginning), and has no way to panic. Hostile input: all of it; reads and writes nothing outside of its two slices.
//! Source: the LZ4 block format description, `lz4/doc/lz4_Block_format.md`.

use crate::{errno, error::Error, error::Result};

const MIN_MATCH: usize = 4;

/// Fills `dst` from the block `src`, of which the rest may be left over.
///
/// # Errors
/// `UCLEAN`: the block is damaged, or has less than that.
pub(super) fn decode(src: &[u8], dst: &mut [u8]) -> Result<()> {
    let (mut src, mut done) = (src, 0usize);
    while done < dst.len() {
        let token = usize::from(take(&mut src, 1)?.first().copied().ok_or_else(damaged)?);
        let literals = length(token >> 4, &mut src)?.min(dst.len().saturating_sub(done));
        let from = take(&mut src, literals)?;
        let end = done.checked_add(literals).ok_or_else(damaged)?;
        dst.get_mut(done..end).ok_or_else(damaged)?.copy_from_slice(from);
        done = end;
        if done == dst.len() {
            break;
        }
        let [low, high] = *take(&mut src, 2)?.first_chunk().ok_or_else(damaged)?;
        let distance = usize::from(u16::from_le_bytes([low, high]));
        let matched = length(token & 15, &mut src)?.checked_add(MIN_MATCH).ok_or_else(damaged)?;
        done = repeat(dst, done, distance, matched)?;
    }
    Ok(())
}

/// Copies `len` bytes from `distance` before `done` to there, as far as there is room, the ones just copied too; gives the new end.
fn repeat(dst: &mut [u8], done: usize, distance: usize, len: usize) -> Result<usize> {
    let from = done.checked_sub(distance).filter(|_| distance > 0).ok_or_else(damaged)?;
    let end = done.saturating_add(len).min(dst.len());
    let mut at = done;
    while at < end {
        // What lies between is a whole number of periods, so that each step may double it.
        let count = at.saturating_sub(from).min(end.saturating_sub(at));
        let (before, after) = dst.split_at_mut_checked(at).ok_or_else(damaged)?;
        let source = before.get(from..from.saturating_add(count)).ok_or_else(damaged)?;
        after.get_mut(..count).ok_or_else(damaged)?.copy_from_slice(source);
        at = at.saturating_add(count);
    }
    Ok(end)
}

/// A length of four bits and of the bytes that follow it.
fn length(bits: usize, src: &mut &[u8]) -> Result<usize> {
    let mut length = bits;
    if bits == 15 {
        loop {
            let more = take(src, 1)?.first().copied().ok_or_else(damaged)?;
            length = length.checked_add(more.into()).ok_or_else(damaged)?;
            if more != u8::MAX {
                break;
            }
        }
    }
    Ok(length)
}

fn take<'a>(src: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, rest) = src.split_at_checked(count).ok_or_else(damaged)?;
    *src = rest;
    Ok(taken)
}

fn damaged() -> Error {
    errno!(UCLEAN, "a compressed cluster of the image is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    fn decoded(src: &[u8], len: usize) -> Option<alloc::vec::Vec<u8>> {
        let mut dst = alloc::vec![0; len];
        match decode(src, &mut dst) {
            Ok(()) => Some(dst),
            Err(error) => {
                assert!(error.is(Errno::UCLEAN));
                None
            }
        }
    }

    #[test]
    fn literals_and_matches_are_copied_and_matches_overlap() {
        // Three literals, then twelve bytes from three before; two literals end it.
        let block = [0x38, b'a', b'b', b'c', 3, 0, 0x20, b'x', b'y'];
        assert_eq!(decoded(&block, 17).as_deref(), Some(&b"abcabcabcabcabcxy"[..]));
        // A part of it, ended within a match and within literals.
        assert_eq!(decoded(&block, 8).as_deref(), Some(&b"abcabcab"[..]));
        assert_eq!(decoded(&block, 2).as_deref(), Some(&b"ab"[..]));
    }

    #[test]
    fn long_lengths_take_bytes_of_their_own() {
        let mut block = alloc::vec![0xff, 5];
        block.extend([b'l'; 20]);
        // 15 + 255 + 1 + 4 bytes from one before.
        block.extend([1, 0, 255, 1, 0x00]);
        assert_eq!(decoded(&block, 20 + 275), Some(alloc::vec![b'l'; 295]));
    }

    #[test]
    fn what_is_cut_off_or_points_before_the_start_is_damaged() {
        let block = [0x38, b'a', b'b', b'c', 3, 0, 0x20, b'x', b'y'];
        for len in 0..block.len() {
            assert_eq!(decoded(&block[..len], 17), None, "{len} bytes");
        }
        assert_eq!(decoded(&[0x10, b'a', 2, 0, 0], 8), None);
        assert_eq!(decoded(&[0x10, b'a', 0, 0, 0], 8), None);
        assert_eq!(decoded(&[0xf0, 255, 255, 255], 8), None);
    }
}
