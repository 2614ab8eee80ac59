//! CRC-32C: what on-disk structures are checked with. Source: RFC 3720, appendix B.4.

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u32;
    while byte < 256 {
        let mut value = byte;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[byte as usize] = value;
        byte += 1;
    }
    table
};

/// The checksum of `bytes` behind what came to `start`; neither end is complemented.
pub(super) fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        let at = usize::from(crc.to_le_bytes()[0] ^ byte);
        TABLE.get(at).copied().unwrap_or(0) ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_one_of_the_rfc() {
        assert_eq!(!super::crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!super::crc32c(!0, &[0; 32]), 0x8a91_36aa);
    }
}
