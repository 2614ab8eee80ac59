//! What the processor says of an exit, in [`Exit`]'s words. Source: APM vol. 2, appendix C; 15.7, 15.12.

use super::intercept::{INTERCEPTS, Instead};
use super::vmcb::Vmcb;
use crate::exit::{Exit, MACHINE_CHECK, PAGE, PROTECTION, Reason};

/// `VMEXIT_INVALID`: VMRUN found the state inconsistent.
pub const INVALID: u64 = u64::MAX;
/// `VMEXIT_INTR`.
pub const INTERRUPT: u64 = 0x60;
/// `VMEXIT_NMI`.
pub const NMI: u64 = 0x61;
/// The first exception's.
const EXCEPTIONS: u64 = 0x40;
/// SMI and INIT: as interrupts, the host takes them when it lets them in.
const SMI: u64 = 0x62;
const INIT: u64 = 0x63;
/// `VMEXIT_SWINT`.
const SOFTWARE_INTERRUPT: u64 = 0x75;
/// `VMEXIT_ICEBP`.
const DEBUG_INTERRUPT: u64 = 0x88;
/// Accesses to control registers, then to debug registers.
const REGISTERS_END: u64 = 0x40;
/// The vector of `int3`.
const BREAKPOINT: u8 = 3;
/// EXITINTINFO holds an event.
const EVENT_VALID: u64 = 1 << 31;

/// Why the guest of `vmcb` came out last.
#[must_use]
pub fn decode(vmcb: &Vmcb) -> Exit {
    let control = &vmcb.control;
    let [info, address] = control.exit_info;
    let code = control.exit_code;
    if code == INVALID {
        return Exit::Dead(Reason::State);
    }
    if vmcb.save.cpl != 3 {
        return Exit::Dead(Reason::Ring(vmcb.save.cpl));
    }
    if control.exit_event & EVENT_VALID != 0 {
        return Exit::Dead(Reason::Event(control.exit_event));
    }
    match code {
        0..REGISTERS_END => Exit::plain(PROTECTION),
        EXCEPTIONS..INTERRUPT => {
            u8::try_from(code & 0x1f).map_or(Exit::Dead(Reason::Unknown(code)), |vector| exception(vector, info, address))
        }
        INTERRUPT | SMI | INIT => Exit::Interrupt,
        NMI => Exit::Nmi,
        SOFTWARE_INTERRUPT => Exit::SoftwareInterrupt,
        DEBUG_INTERRUPT => Exit::DebugInterrupt,
        _ => match INTERCEPTS.iter().find(|intercept| intercept.exit == code).map(|intercept| intercept.instead) {
            Some(Instead::Exception(vector)) => Exit::plain(vector),
            Some(Instead::Other) | None => Exit::Dead(Reason::Unknown(code)),
        },
    }
}

fn exception(vector: u8, code: u64, addr: u64) -> Exit {
    match vector {
        BREAKPOINT => Exit::SoftwareInterrupt,
        MACHINE_CHECK => Exit::MachineCheck,
        PAGE => Exit::Fault { vector, code, addr },
        // #DF, #TS, #NP, #SS, #GP, #AC, #CP push an error code.
        8 | 10..=13 | 17 | 21 => Exit::Fault { vector, code, addr: 0 },
        _ => Exit::plain(vector),
    }
}

#[cfg(test)]
mod tests {
    use super::super::guest::tests::example;
    use super::*;
    use crate::exit::INVALID_OPCODE;

    fn decoded(code: u64, info: [u64; 2]) -> Exit {
        let mut vmcb = example();
        vmcb.control.exit_code = code;
        vmcb.control.exit_info = info;
        decode(&vmcb)
    }

    #[test]
    fn faults_keep_their_code_and_address() {
        assert_eq!(decoded(0x4e, [6, 0x1234]), Exit::Fault { vector: PAGE, code: 6, addr: 0x1234 });
        assert_eq!(decoded(0x4d, [0x402, 9]), Exit::Fault { vector: PROTECTION, code: 0x402, addr: 0 });
        assert_eq!(decoded(0x46, [7, 9]), Exit::plain(INVALID_OPCODE));
        assert_eq!(decoded(0x40, [7, 9]), Exit::plain(0));
    }

    #[test]
    fn breakpoints_come_by_either_number() {
        // Silicon says 0x43; QEMU says 0x75 when INTn is intercepted, too.
        assert_eq!((decoded(0x43, [0; 2]), decoded(0x75, [0; 2])), (Exit::SoftwareInterrupt, Exit::SoftwareInterrupt));
    }

    #[test]
    fn the_host_s_events_are_told_apart() {
        assert_eq!((decoded(0x60, [0; 2]), decoded(0x61, [0; 2])), (Exit::Interrupt, Exit::Nmi));
        assert_eq!((decoded(0x52, [0; 2]), decoded(0x88, [0; 2])), (Exit::MachineCheck, Exit::DebugInterrupt));
    }

    #[test]
    fn privileged_instructions_are_what_ring_3_gets() {
        for code in (0..0x40).chain([0x78, 0x7b, 0x7c, 0x6f, 0x8d]) {
            assert_eq!(decoded(code, [1, 2]), Exit::plain(PROTECTION), "{code:#x}");
        }
        for code in [0x80, 0x81, 0x82, 0x83, 0x86, 0x8a] {
            assert_eq!(decoded(code, [1, 2]), Exit::plain(INVALID_OPCODE), "{code:#x}");
        }
    }

    #[test]
    fn whatever_else_comes_ends_the_guest() {
        assert_eq!(decoded(u64::MAX, [0; 2]), Exit::Dead(Reason::State));
        for code in [0x6e, 0x72, 0x7e, 0x7f, 0xa5, 0x400, 0x403, u64::MAX - 1] {
            assert_eq!(decoded(code, [0; 2]), Exit::Dead(Reason::Unknown(code)));
        }
        let mut vmcb = example();
        vmcb.control.exit_code = 0x60;
        vmcb.save.cpl = 0;
        assert_eq!(decode(&vmcb), Exit::Dead(Reason::Ring(0)));
        vmcb.save.cpl = 3;
        vmcb.control.exit_event = 1 << 31 | 3 << 8 | 14;
        assert_eq!(decode(&vmcb), Exit::Dead(Reason::Event(vmcb.control.exit_event)));
    }
}
