//! What the processor says of an exit, in [`Exit`]'s words. Source: SDM vol. 3, 26.9, 29.2, appendix C.

use crate::exit::{DEBUG, Exit, INVALID_OPCODE, MACHINE_CHECK, PAGE, PROTECTION, Reason};

/// The fields that an exit is read from, by their names in [`super::field`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `REASON`.
    pub reason: u32,
    /// `QUALIFICATION`.
    pub qualification: u64,
    /// `EVENT`.
    pub event: u32,
    /// `EVENT_ERROR`.
    pub error: u32,
    /// `VECTORING`.
    pub vectoring: u32,
}

/// The word holds something.
const VALID: u32 = 1 << 31;
/// The entry failed.
const ENTRY_FAILED: u32 = 1 << 31;
/// The exception has an error code.
const HAS_ERROR: u32 = 1 << 11;

/// Why a guest came out.
#[must_use]
pub fn decode(fields: &Fields) -> Exit {
    let reason = fields.reason & 0xffff;
    if fields.reason & ENTRY_FAILED != 0 {
        return Exit::Dead(Reason::State);
    }
    if fields.vectoring & VALID != 0 {
        return Exit::Dead(Reason::Event(fields.vectoring.into()));
    }
    match reason {
        0 => event(fields),
        1 | 3 | 4 | 6 => Exit::Interrupt,
        10 => Exit::Cpuid,
        // HLT, INVD, INVLPG, RDPMC; control and debug registers, ports, registers read and written; descriptor tables; WBINVD, XSETBV, INVPCID.
        12..=15 | 28..=32 | 46 | 47 | 54 | 55 | 58 => Exit::plain(PROTECTION),
        // GETSEC, RSM, VMCALL and the other instructions of VMX; MWAIT, MONITOR, INVEPT, INVVPID, VMFUNC.
        11 | 17..=27 | 36 | 39 | 50 | 53 | 59 => Exit::plain(INVALID_OPCODE),
        _ => Exit::Dead(Reason::Unknown(reason.into())),
    }
}

/// An exception or an NMI.
fn event(fields: &Fields) -> Exit {
    let [vector, ..] = fields.event.to_le_bytes();
    let code = if fields.event & HAS_ERROR == 0 { 0 } else { u64::from(fields.error) };
    match (fields.event >> 8 & 7, vector) {
        _ if fields.event & VALID == 0 => Exit::Dead(Reason::Unknown(0)),
        (2, _) => Exit::Nmi,
        // Software exceptions: `int3`, `into`. The privileged one: `int1`.
        (6, _) => Exit::SoftwareInterrupt,
        (5, DEBUG) => Exit::DebugInterrupt,
        (3, MACHINE_CHECK) => Exit::MachineCheck,
        (3, PAGE) => Exit::Fault { vector, code, addr: fields.qualification },
        (3, _) => Exit::Fault { vector, code, addr: 0 },
        _ => Exit::Dead(Reason::Event(fields.event.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(event: u32) -> Exit {
        decode(&Fields { reason: 0, qualification: 0x1234, event, error: 6, vectoring: 0 })
    }

    fn plain(reason: u32) -> Exit {
        decode(&Fields { reason, qualification: 7, ..Fields::default() })
    }

    #[test]
    fn exceptions_keep_their_code_and_address() {
        assert_eq!(exception(0x8000_0b0e), Exit::Fault { vector: PAGE, code: 6, addr: 0x1234 });
        assert_eq!(exception(0x8000_0b0d), Exit::Fault { vector: PROTECTION, code: 6, addr: 0 });
        assert_eq!(exception(0x8000_0306), Exit::plain(INVALID_OPCODE));
        assert_eq!((exception(0x8000_0603), exception(0x8000_0501)), (Exit::SoftwareInterrupt, Exit::DebugInterrupt));
        assert_eq!((exception(0x8000_0202), exception(0x8000_0312)), (Exit::Nmi, Exit::MachineCheck));
        assert_eq!(exception(0x0000_0306), Exit::Dead(Reason::Unknown(0)));
    }

    #[test]
    fn reasons_are_the_manual_s() {
        // SDM vol. 3, table C-1.
        assert_eq!((plain(1), plain(10)), (Exit::Interrupt, Exit::Cpuid));
        for (reason, name) in [(12, "HLT"), (15, "RDPMC"), (28, "CR"), (29, "DR"), (30, "I/O"), (31, "RDMSR"), (32, "WRMSR")] {
            assert_eq!(plain(reason), Exit::plain(PROTECTION), "{name}");
        }
        for (reason, name) in [(17, "RSM"), (18, "VMCALL"), (27, "VMXON"), (36, "MWAIT"), (39, "MONITOR"), (59, "VMFUNC")] {
            assert_eq!(plain(reason), Exit::plain(INVALID_OPCODE), "{name}");
        }
        // Triple fault, task switch, RDTSC, EPT violation, PAUSE: not asked for, or never to come.
        for reason in [2, 9, 16, 40, 48, 52, 65] {
            assert_eq!(plain(reason), Exit::Dead(Reason::Unknown(reason.into())));
        }
    }

    #[test]
    fn failed_entries_and_events_under_way_end_the_guest() {
        assert_eq!(plain(0x8000_0021), Exit::Dead(Reason::State));
        let fields = Fields { reason: 1, vectoring: 0x8000_0b0e, ..Fields::default() };
        assert_eq!(decode(&fields), Exit::Dead(Reason::Event(0x8000_0b0e)));
    }
}
