//! What a guest that has ring 3 alone asks of the processor, and what the processor makes of it.
//!
//! A processor says for each word which bits must be set and which may be; a bit that is wanted and may not be set is a refusal, never left
//! out in silence. Source: SDM vol. 3, 26.6 to 26.8, appendix A.3 to A.5.

/// Pin-based controls: interrupts and NMIs exit. Not acknowledged at the exit: the host takes them by itself.
pub const PIN: u32 = 1 | 1 << 3;
/// Primary controls: HLT, INVLPG, MWAIT, RDPMC, CR3 and CR8 both ways, debug registers, all ports, MONITOR exit; the map of registers and the
/// secondary controls are used.
pub const PROCESSOR: u32 =
    1 << 7 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 15 | 1 << 16 | 1 << 19 | 1 << 20 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 29 | 1 << 31;
/// Secondary controls: descriptor tables exit; RDTSCP is as on the host; translations are tagged.
pub const PROCESSOR_2: u32 = 1 << 2 | 1 << 3 | 1 << 5;
/// Of an exit: the host is 64-bit; PAT is loaded; EFER is saved and loaded.
pub const EXIT: u32 = 1 << 9 | 1 << 19 | 1 << 20 | 1 << 21;
/// Of an entry: the guest is 64-bit; PAT and EFER are loaded.
pub const ENTRY: u32 = 1 << 9 | 1 << 14 | 1 << 15;
/// Every exception exits, whatever a page fault's error code.
pub const EXCEPTIONS: u32 = u32::MAX;

/// The model-specific registers that say what may be set, of pin, primary, exit, entry (those that tell the truth about bits which must be set
/// by default) and secondary controls.
pub const CAPABILITIES: [u32; 5] = [0x48d, 0x48e, 0x48f, 0x490, 0x48b];

/// `wanted` with what must be set as well, by `capability`, the register's value.
///
/// # Errors
/// The bits that are wanted and may not be set.
pub const fn adjust(wanted: u32, capability: u64) -> Result<u32, u32> {
    let [a, b, c, d, e, f, g, h] = capability.to_le_bytes();
    let (must, may) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if wanted & !may != 0 { Err(wanted & !may) } else { Ok(wanted | must) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_is_added_and_what_may_not_be_is_told() {
        // Default settings of the pin-based controls are 0x16 (SDM appendix A.3.1).
        assert_eq!(adjust(PIN, 0x0000_007f_0000_0016), Ok(0x1f));
        assert_eq!(adjust(PIN, 0x0000_0077_0000_0016), Err(1 << 3));
        assert_eq!(adjust(0, 0), Ok(0));
    }

    #[test]
    fn nothing_that_opens_a_way_is_asked_for() {
        // Acknowledge at an exit; EPT and unrestricted guests, which are not needed; VMFUNC, which ring 3 may execute.
        assert_eq!((EXIT >> 15 & 1, PROCESSOR_2 & (1 << 1 | 1 << 7 | 1 << 13)), (0, 0));
        // The map of ports would let some through; RDTSC is the guest's.
        assert_eq!((PROCESSOR >> 25 & 1, PROCESSOR >> 12 & 1), (0, 0));
    }
}
