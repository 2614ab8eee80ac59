//! The one page above ring 3's half that a guest's tables show: its segment descriptors, for the supervisor's eyes alone.
//!
//! Without descriptors a program's far return, `iretq` or load of a data segment faults. So there is a page with those three that Linux gives to programs. It
//! is not ring 3's to read, and nobody's to write: the accessed bits are set already. The same page and its tables serve all guests.
//! Source: APM vol. 2, 4.7, 5.3.

/// Where the page is shown.
pub const ADDRESS: u64 = 0xffff_ff80_0000_0000;
/// Its descriptors' limit.
pub const LIMIT: u32 = 8 * 8 - 1;
/// Linux's selectors: 32-bit code (0x20), data (0x28), 64-bit code (0x30), all of ring 3.
pub const DESCRIPTORS: [u64; 8] = [0, 0, 0, 0, 0x00cf_fb00_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0];

/// Entries of a table.
pub const TABLE_ENTRIES: usize = 512;
/// The first entry of a top table that is not ring 3's.
pub const FIRST_UPPER: usize = 256;
/// Which levels of tables lead to the page, below the top one.
pub const TABLES: usize = 3;

/// Present.
const PRESENT: u64 = 1;
/// Accessed: the processor need not write it.
const ACCESSED: u64 = 1 << 5;
/// No fetch.
const NO_EXECUTE: u64 = 1 << 63;

/// Which entry of the table of `level` (4: the top) leads to the page.
#[must_use]
pub const fn index(level: u32) -> usize {
    let shift = 12_u32.wrapping_add(9_u32.wrapping_mul(level.wrapping_sub(1)));
    (ADDRESS.wrapping_shr(shift) & 0x1ff) as usize
}

/// The entry of a table above the lowest that leads to the table at `physical`: neither ring 3 nor a write gets through.
#[must_use]
pub const fn link(physical: u64) -> u64 {
    physical | PRESENT | ACCESSED
}

/// The entry of the lowest table for the page at `physical`.
#[must_use]
pub const fn leaf(physical: u64) -> u64 {
    link(physical) | NO_EXECUTE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a descriptor as the processor does: (DPL, is code, is 64-bit, is 32-bit, accessed, limit).
    fn read(descriptor: u64) -> (u64, bool, bool, bool, bool, u64) {
        let bit = |at: u32| descriptor >> at & 1 == 1;
        let limit = descriptor & 0xffff | (descriptor >> 48 & 0xf) << 16;
        (descriptor >> 45 & 3, bit(43), bit(53), bit(54), bit(40), limit)
    }

    #[test]
    fn segments_are_flat_ring_3_s_and_accessed() {
        assert_eq!(read(DESCRIPTORS[0x20 / 8]), (3, true, false, true, true, 0xf_ffff));
        assert_eq!(read(DESCRIPTORS[0x28 / 8]), (3, false, false, true, true, 0xf_ffff));
        assert_eq!(read(DESCRIPTORS[0x30 / 8]), (3, true, true, false, true, 0xf_ffff));
        assert_eq!(LIMIT, 0x3f);
    }

    #[test]
    fn ring_3_neither_reads_nor_writes_the_page() {
        for entry in [link(0x1000), leaf(0x1000)] {
            assert_eq!(entry & 0b110, 0, "neither user nor writable");
        }
        assert_eq!(leaf(0x1000) >> 63, 1);
        assert!(index(4) >= FIRST_UPPER, "in the upper half");
        assert_eq!([index(4), index(3), index(2), index(1)], [511, 0, 0, 0]);
    }
}
