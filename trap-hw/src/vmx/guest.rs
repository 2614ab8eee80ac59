//! The state with which a guest that has ring 3 and nothing else is entered: the same as [`crate::svm::guest`]'s, in fields.
//!
//! `int n` comes as a protection fault, since there are no interrupt descriptors: the error code tells the vector.
//! Source: SDM vol. 3, 26.4, 28.3.1 (what an entry checks).

use super::field::{self, Field};
use crate::gdt;

/// A segment that a 64-bit program does not use.
const UNUSABLE: u64 = 1 << 16;
/// CR0: PE MP ET NE WP AM PG.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
/// CR4: PAE OSFXSR OSXMMEXCPT, and VMXE, which an entry wants.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 13;
/// UMIP FSGSBASE OSXSAVE, if the host has them.
const CR4_AS_HOST: u64 = 1 << 11 | 1 << 16 | 1 << 18;
/// EFER: LME LMA NXE. Not SCE.
const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;
const PAT: u64 = 0x0007_0406_0007_0406;
const FLAGS: u64 = 0x202;

/// Access rights in a field's form, of a segment's attributes as SVM packs them.
#[must_use]
pub const fn rights(attributes: u16) -> u64 {
    let [low, high] = attributes.to_le_bytes();
    low as u64 | (high as u64 & 0xf) << 12
}

/// The fields that do not change; registers and bases are the carrier's, and the host's are each processor's.
#[must_use]
pub const fn fields(root: u64, host_cr4: u64) -> [(Field, u64); 37] {
    let (code, data, task) = (rights(0xafb), rights(0xcf3), rights(0x8b));
    [
        (field::GUEST_CR0, CR0),
        (field::GUEST_CR3, root),
        (field::GUEST_CR4, CR4 | host_cr4 & CR4_AS_HOST),
        (field::CR0_MASK, u64::MAX),
        (field::CR4_MASK, u64::MAX),
        (field::CR0_SHADOW, CR0),
        (field::CR4_SHADOW, CR4 | host_cr4 & CR4_AS_HOST),
        (field::GUEST_EFER, EFER),
        (field::GUEST_PAT, PAT),
        (field::GUEST_DR7, 0x400),
        (field::GUEST_RFLAGS, FLAGS),
        (field::LINK, u64::MAX),
        (field::GUEST_CS, 0x33),
        (field::GUEST_CS_LIMIT, 0xffff_ffff),
        (field::GUEST_CS_RIGHTS, code),
        (field::GUEST_SS, 0x2b),
        (field::GUEST_SS_LIMIT, 0xffff_ffff),
        (field::GUEST_SS_RIGHTS, data),
        (field::GUEST_DS_RIGHTS, UNUSABLE),
        (field::GUEST_ES_RIGHTS, UNUSABLE),
        (field::GUEST_FS_RIGHTS, UNUSABLE),
        (field::GUEST_GS_RIGHTS, UNUSABLE),
        (field::GUEST_LDTR_RIGHTS, UNUSABLE),
        (field::GUEST_TR_RIGHTS, task),
        (field::GUEST_TR_LIMIT, 0),
        (field::GUEST_GDTR_BASE, gdt::ADDRESS),
        (field::GUEST_GDTR_LIMIT, gdt::LIMIT as u64),
        (field::GUEST_IDTR_LIMIT, 0),
        (field::GUEST_SYSENTER_CS, 0),
        (field::GUEST_ACTIVITY, 0),
        (field::GUEST_INTERRUPTIBILITY, 0),
        (field::GUEST_PENDING_DEBUG, 0),
        (field::ENTRY_EVENT, 0),
        (field::CR3_TARGETS, 0),
        (field::PAGE_FAULT_MASK, 0),
        (field::PAGE_FAULT_MATCH, 0),
        (field::EXCEPTIONS, super::controls::EXCEPTIONS as u64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(of: Field) -> u64 {
        fields(0x1000, u64::MAX).into_iter().find(|(field, _)| *field == of).unwrap().1
    }

    #[test]
    fn it_is_entered_in_ring_3_as_the_manual_wants() {
        // 28.3.1.2: in ring 3 by SS and CS alike; CS is code that was accessed, 64-bit and not 32-bit; SS is writable data; TR is busy.
        let (cs, ss, tr) = (value(field::GUEST_CS_RIGHTS), value(field::GUEST_SS_RIGHTS), value(field::GUEST_TR_RIGHTS));
        assert_eq!((cs >> 5 & 3, ss >> 5 & 3), (3, 3));
        assert_eq!((cs & 0xf, cs >> 13 & 1, cs >> 14 & 1, cs >> 15 & 1), (11, 1, 0, 1));
        assert_eq!((ss & 0xf, tr & 0xf, tr & UNUSABLE, tr >> 15 & 1), (3, 11, 0, 0));
        // 28.3.1.1, 28.3.1.4.
        assert_eq!(value(field::GUEST_RFLAGS) & 0x2_3002, 2);
        assert_eq!((value(field::GUEST_CR4) >> 13 & 1, value(field::GUEST_CR4) >> 5 & 1), (1, 1));
        assert_eq!((value(field::GUEST_EFER) & 0x500, value(field::GUEST_EFER) & 1), (0x500, 0));
        assert_eq!(value(field::LINK), u64::MAX);
    }

    #[test]
    fn rights_are_those_of_the_descriptors() {
        assert_eq!((rights(0xafb), rights(0xcf3), rights(0x8b)), (0xa0fb, 0xc0f3, 0x8b));
    }

    #[test]
    fn no_field_is_set_twice() {
        let all = fields(0, 0);
        for (at, (field, _)) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|(other, _)| other != field), "{field:?}");
        }
    }
}
