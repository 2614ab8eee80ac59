//! What comes out of a guest, as data.
//!
//! All that is privileged, or would go through tables that a guest does not have. Left out on purpose, since ring 3 has them of a host
//! too: CPUID, RDTSC, RDTSCP, RDPRU, PAUSE, PUSHF and POPF, IRET; and the sixth word (INVLPGB, INVPCID, TLBSYNC, MCOMMIT), which not every
//! processor has: those fault in ring 3 by themselves.
//! Source: APM vol. 2, 15.9 and table B-1.

use crate::exit::{INVALID_OPCODE, PROTECTION};

/// Something that is intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intercept {
    /// What it is.
    pub name: &'static str,
    /// Bit of the six words of intercepts, from the first word's lowest on.
    pub bit: u32,
    /// The exit's number.
    pub exit: u64,
    /// Which exception ring 3 gets for it.
    pub instead: Instead,
}

/// What a guest gets for something intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// An exception of this vector, as ring 3 gets it from a host without virtual machines.
    Exception(u8),
    /// Something of its own: see [`super::exit`].
    Other,
}

const fn fault(name: &'static str, bit: u32, exit: u64, vector: u8) -> Intercept {
    Intercept { name, bit, exit, instead: Instead::Exception(vector) }
}

const fn other(name: &'static str, bit: u32, exit: u64) -> Intercept {
    Intercept { name, bit, exit, instead: Instead::Other }
}

/// All but accesses to control and debug registers and exceptions, which fill the first three words.
pub const INTERCEPTS: [Intercept; 38] = [
    other("INTR", 96, 0x60),
    other("NMI", 97, 0x61),
    other("SMI", 98, 0x62),
    other("INIT", 99, 0x63),
    fault("a selective write to CR0", 101, 0x65, PROTECTION),
    fault("SIDT", 102, 0x66, PROTECTION),
    fault("SGDT", 103, 0x67, PROTECTION),
    fault("SLDT", 104, 0x68, PROTECTION),
    fault("STR", 105, 0x69, PROTECTION),
    fault("LIDT", 106, 0x6a, PROTECTION),
    fault("LGDT", 107, 0x6b, PROTECTION),
    fault("LLDT", 108, 0x6c, PROTECTION),
    fault("LTR", 109, 0x6d, PROTECTION),
    fault("RDPMC", 111, 0x6f, PROTECTION),
    fault("RSM", 115, 0x73, INVALID_OPCODE),
    other("INTn", 117, 0x75),
    fault("INVD", 118, 0x76, PROTECTION),
    fault("HLT", 120, 0x78, PROTECTION),
    fault("INVLPG", 121, 0x79, PROTECTION),
    fault("INVLPGA", 122, 0x7a, INVALID_OPCODE),
    fault("a port", 123, 0x7b, PROTECTION),
    fault("RDMSR, WRMSR", 124, 0x7c, PROTECTION),
    fault("a task switch", 125, 0x7d, PROTECTION),
    other("FERR freeze", 126, 0x7e),
    other("shutdown", 127, 0x7f),
    fault("VMRUN", 128, 0x80, INVALID_OPCODE),
    fault("VMMCALL", 129, 0x81, INVALID_OPCODE),
    fault("VMLOAD", 130, 0x82, INVALID_OPCODE),
    fault("VMSAVE", 131, 0x83, INVALID_OPCODE),
    fault("STGI", 132, 0x84, INVALID_OPCODE),
    fault("CLGI", 133, 0x85, INVALID_OPCODE),
    fault("SKINIT", 134, 0x86, INVALID_OPCODE),
    other("ICEBP", 136, 0x88),
    fault("WBINVD", 137, 0x89, PROTECTION),
    fault("MONITOR", 138, 0x8a, INVALID_OPCODE),
    fault("MWAIT", 139, 0x8b, INVALID_OPCODE),
    fault("MWAIT with its monitor armed", 140, 0x8c, INVALID_OPCODE),
    fault("XSETBV", 141, 0x8d, PROTECTION),
];

/// The six words. The first three: every control register, every debug register, every exception.
pub const WORDS: [u32; 6] = words();

const fn words() -> [u32; 6] {
    let mut words = [u32::MAX, u32::MAX, u32::MAX, 0, 0, 0];
    let mut all: &[Intercept] = &INTERCEPTS;
    while let [first, rest @ ..] = all {
        let bit = 1_u32.wrapping_shl(first.bit % 32);
        match first.bit / 32 {
            3 => words[3] |= bit,
            _ => words[4] |= bit,
        }
        all = rest;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_s_number_is_its_bit_s() {
        // APM appendix C: exit codes of the fourth word on follow the bits, 0x60 being INTR.
        for intercept in INTERCEPTS {
            assert_eq!(intercept.exit, u64::from(intercept.bit) - 96 + 0x60, "{}", intercept.name);
        }
    }

    #[test]
    fn nothing_is_there_twice() {
        for (at, one) in INTERCEPTS.iter().enumerate() {
            assert!(INTERCEPTS[at + 1..].iter().all(|other| other.bit != one.bit), "{}", one.name);
        }
        let bits: u32 = WORDS[3..].iter().map(|word| word.count_ones()).sum();
        assert_eq!(bits as usize, INTERCEPTS.len());
    }

    #[test]
    fn what_the_processor_insists_on_and_what_would_be_a_hole_is_there() {
        let has = |bit: u32| WORDS[bit as usize / 32] >> (bit % 32) & 1 == 1;
        // VMRUN itself; VMLOAD and VMSAVE, which read and write physical memory; ports, registers; INTR and NMI, so that the host lives.
        assert!([128, 130, 131, 123, 124, 96, 97, 117].into_iter().all(has));
        // CPUID, RDTSC, PUSHF, POPF, IRET, PAUSE stay the guest's.
        assert!(![114, 110, 112, 113, 116, 119].into_iter().any(has));
    }
}
