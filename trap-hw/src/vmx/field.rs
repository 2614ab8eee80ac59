//! The fields of a virtual machine control structure, which VMREAD and VMWRITE name by number.
//!
//! A number tells its field's width, kind and place among those. Source: SDM vol. 3, 26.11.2, appendix B.

/// How wide a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 16 bits.
    Word = 0,
    /// 64 bits.
    Quad = 1,
    /// 32 bits.
    Double = 2,
    /// The processor's word.
    Natural = 3,
}

/// What a field is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the processor is told.
    Control = 0,
    /// What it tells of an exit.
    Exit = 1,
    /// The guest's state.
    Guest = 2,
    /// The host's state, loaded at an exit.
    Host = 3,
}

/// A field's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(u32);

impl Field {
    const fn new(width: Width, kind: Kind, index: u32) -> Self {
        Self((width as u32) << 13 | (kind as u32) << 10 | index << 1)
    }

    /// For VMREAD and VMWRITE.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

macro_rules! fields {
    ($($width:ident $kind:ident { $($(#[$meta:meta])* $name:ident = $index:literal;)* })*) => {
        $($($(#[$meta])* pub const $name: Field = Field::new(Width::$width, Kind::$kind, $index);)*)*
        /// Every field here, with its number by the manual's table in the tests.
        #[cfg(test)]
        const ALL: &[(&str, Field)] = &[$($((stringify!($name), $name),)*)*];
    };
}

fields! {
    Word Control {
        /// Tag of translations.
        VPID = 0;
    }
    Word Guest {
        /// Selectors: ES, CS, SS, DS, FS, GS, LDTR, TR.
        GUEST_ES = 0;
        /// CS.
        GUEST_CS = 1;
        /// SS.
        GUEST_SS = 2;
        /// DS.
        GUEST_DS = 3;
        /// FS.
        GUEST_FS = 4;
        /// GS.
        GUEST_GS = 5;
        /// LDTR.
        GUEST_LDTR = 6;
        /// TR.
        GUEST_TR = 7;
    }
    Word Host {
        /// The host's selectors, without LDTR.
        HOST_ES = 0;
        /// CS.
        HOST_CS = 1;
        /// SS.
        HOST_SS = 2;
        /// DS.
        HOST_DS = 3;
        /// FS.
        HOST_FS = 4;
        /// GS.
        HOST_GS = 5;
        /// TR.
        HOST_TR = 6;
    }
    Quad Control {
        /// Map of ports 0 to 0x7fff.
        IO_MAP_A = 0;
        /// Map of ports 0x8000 to 0xffff.
        IO_MAP_B = 1;
        /// Map of model-specific registers.
        MSR_MAP = 2;
        /// Added to the time stamp counter.
        TSC_OFFSET = 8;
        /// Nested tables.
        EPT_POINTER = 13;
    }
    Quad Exit {
        /// Physical address of a nested fault.
        PHYSICAL_ADDRESS = 0;
    }
    Quad Guest {
        /// All ones: no shadow.
        LINK = 0;
        /// `IA32_DEBUGCTL`.
        GUEST_DEBUG_CONTROL = 1;
        /// `IA32_PAT`.
        GUEST_PAT = 2;
        /// `IA32_EFER`.
        GUEST_EFER = 3;
    }
    Quad Host {
        /// `IA32_PAT`.
        HOST_PAT = 0;
        /// `IA32_EFER`.
        HOST_EFER = 1;
    }
    Double Control {
        /// Pin-based controls.
        PIN = 0;
        /// Primary processor-based controls.
        PROCESSOR = 1;
        /// Which exceptions exit.
        EXCEPTIONS = 2;
        /// With the next: which page faults do, by their error code.
        PAGE_FAULT_MASK = 3;
        /// See above.
        PAGE_FAULT_MATCH = 4;
        /// Values of CR3 that do not exit.
        CR3_TARGETS = 5;
        /// Controls of an exit.
        EXIT = 6;
        /// Registers stored at an exit.
        EXIT_STORES = 7;
        /// Registers loaded at an exit.
        EXIT_LOADS = 8;
        /// Controls of an entry.
        ENTRY = 9;
        /// Registers loaded at an entry.
        ENTRY_LOADS = 10;
        /// Event to be delivered.
        ENTRY_EVENT = 11;
        /// Secondary processor-based controls.
        PROCESSOR_2 = 15;
    }
    Double Exit {
        /// Why an instruction of VMX failed.
        INSTRUCTION_ERROR = 0;
        /// Why it came out.
        REASON = 1;
        /// The exception or interrupt.
        EVENT = 2;
        /// Its error code.
        EVENT_ERROR = 3;
        /// The event that was being delivered.
        VECTORING = 4;
        /// Its error code.
        VECTORING_ERROR = 5;
        /// Bytes of the instruction.
        INSTRUCTION_BYTES = 6;
        /// More about it.
        INSTRUCTION = 7;
    }
    Double Guest {
        /// Limits, in the order of the selectors, then GDTR and IDTR.
        GUEST_ES_LIMIT = 0;
        /// CS.
        GUEST_CS_LIMIT = 1;
        /// SS.
        GUEST_SS_LIMIT = 2;
        /// DS.
        GUEST_DS_LIMIT = 3;
        /// FS.
        GUEST_FS_LIMIT = 4;
        /// GS.
        GUEST_GS_LIMIT = 5;
        /// LDTR.
        GUEST_LDTR_LIMIT = 6;
        /// TR.
        GUEST_TR_LIMIT = 7;
        /// GDTR.
        GUEST_GDTR_LIMIT = 8;
        /// IDTR.
        GUEST_IDTR_LIMIT = 9;
        /// Access rights, in the order of the selectors.
        GUEST_ES_RIGHTS = 10;
        /// CS.
        GUEST_CS_RIGHTS = 11;
        /// SS.
        GUEST_SS_RIGHTS = 12;
        /// DS.
        GUEST_DS_RIGHTS = 13;
        /// FS.
        GUEST_FS_RIGHTS = 14;
        /// GS.
        GUEST_GS_RIGHTS = 15;
        /// LDTR.
        GUEST_LDTR_RIGHTS = 16;
        /// TR.
        GUEST_TR_RIGHTS = 17;
        /// Blocking of events.
        GUEST_INTERRUPTIBILITY = 18;
        /// Active, halted and so on.
        GUEST_ACTIVITY = 19;
        /// `IA32_SYSENTER_CS`.
        GUEST_SYSENTER_CS = 21;
    }
    Double Host {
        /// `IA32_SYSENTER_CS`.
        HOST_SYSENTER_CS = 0;
    }
    Natural Control {
        /// Bits of CR0 that are the host's.
        CR0_MASK = 0;
        /// Bits of CR4 that are.
        CR4_MASK = 1;
        /// What the guest reads of CR0.
        CR0_SHADOW = 2;
        /// What it reads of CR4.
        CR4_SHADOW = 3;
    }
    Natural Exit {
        /// More about an exit; the address of a page fault.
        QUALIFICATION = 0;
        /// Linear address of a nested fault.
        LINEAR_ADDRESS = 5;
    }
    Natural Guest {
        /// CR0.
        GUEST_CR0 = 0;
        /// CR3.
        GUEST_CR3 = 1;
        /// CR4.
        GUEST_CR4 = 2;
        /// Bases, in the order of the selectors, then GDTR and IDTR.
        GUEST_ES_BASE = 3;
        /// CS.
        GUEST_CS_BASE = 4;
        /// SS.
        GUEST_SS_BASE = 5;
        /// DS.
        GUEST_DS_BASE = 6;
        /// FS.
        GUEST_FS_BASE = 7;
        /// GS.
        GUEST_GS_BASE = 8;
        /// LDTR.
        GUEST_LDTR_BASE = 9;
        /// TR.
        GUEST_TR_BASE = 10;
        /// GDTR.
        GUEST_GDTR_BASE = 11;
        /// IDTR.
        GUEST_IDTR_BASE = 12;
        /// DR7.
        GUEST_DR7 = 13;
        /// Stack pointer.
        GUEST_RSP = 14;
        /// Instruction pointer.
        GUEST_RIP = 15;
        /// Flags.
        GUEST_RFLAGS = 16;
        /// Debug exceptions to come.
        GUEST_PENDING_DEBUG = 17;
        /// `IA32_SYSENTER_ESP`.
        GUEST_SYSENTER_ESP = 18;
        /// `IA32_SYSENTER_EIP`.
        GUEST_SYSENTER_EIP = 19;
    }
    Natural Host {
        /// CR0.
        HOST_CR0 = 0;
        /// CR3.
        HOST_CR3 = 1;
        /// CR4.
        HOST_CR4 = 2;
        /// FS.
        HOST_FS_BASE = 3;
        /// GS.
        HOST_GS_BASE = 4;
        /// TR.
        HOST_TR_BASE = 5;
        /// GDTR.
        HOST_GDTR_BASE = 6;
        /// IDTR.
        HOST_IDTR_BASE = 7;
        /// `IA32_SYSENTER_ESP`.
        HOST_SYSENTER_ESP = 8;
        /// `IA32_SYSENTER_EIP`.
        HOST_SYSENTER_EIP = 9;
        /// Stack pointer.
        HOST_RSP = 10;
        /// Instruction pointer.
        HOST_RIP = 11;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_manual_s() {
        // SDM vol. 3, tables B-1 to B-17: the first and last of each group, and those in between that skip a number.
        let manual = [
            (VPID, 0x0000),
            (GUEST_ES, 0x0800),
            (GUEST_TR, 0x080e),
            (HOST_ES, 0x0c00),
            (HOST_TR, 0x0c0c),
            (IO_MAP_A, 0x2000),
            (MSR_MAP, 0x2004),
            (TSC_OFFSET, 0x2010),
            (EPT_POINTER, 0x201a),
            (PHYSICAL_ADDRESS, 0x2400),
            (LINK, 0x2800),
            (GUEST_EFER, 0x2806),
            (HOST_PAT, 0x2c00),
            (HOST_EFER, 0x2c02),
            (PIN, 0x4000),
            (EXIT, 0x400c),
            (ENTRY, 0x4012),
            (ENTRY_EVENT, 0x4016),
            (PROCESSOR_2, 0x401e),
            (INSTRUCTION_ERROR, 0x4400),
            (REASON, 0x4402),
            (INSTRUCTION, 0x440e),
            (GUEST_ES_LIMIT, 0x4800),
            (GUEST_IDTR_LIMIT, 0x4812),
            (GUEST_ES_RIGHTS, 0x4814),
            (GUEST_TR_RIGHTS, 0x4822),
            (GUEST_ACTIVITY, 0x4826),
            (GUEST_SYSENTER_CS, 0x482a),
            (HOST_SYSENTER_CS, 0x4c00),
            (CR0_MASK, 0x6000),
            (CR4_SHADOW, 0x6006),
            (QUALIFICATION, 0x6400),
            (LINEAR_ADDRESS, 0x640a),
            (GUEST_CR0, 0x6800),
            (GUEST_IDTR_BASE, 0x6818),
            (GUEST_RIP, 0x681e),
            (GUEST_SYSENTER_EIP, 0x6826),
            (HOST_CR0, 0x6c00),
            (HOST_RIP, 0x6c16),
        ];
        for (field, number) in manual {
            assert_eq!(field.number(), number, "{number:#x}");
        }
    }

    #[test]
    fn no_two_fields_have_one_number() {
        for (at, (name, field)) in ALL.iter().enumerate() {
            assert!(ALL[at + 1..].iter().all(|(_, other)| other != field), "{name}");
        }
    }
}
