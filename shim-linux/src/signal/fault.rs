//! Faults of guest instructions, as the processor reports them, and the signals they are.
//! Source: Linux `arch/x86/kernel/traps.c`, `arch/x86/mm/fault.c`; sigaction(2).

use super::{Info, Origin, Signal};
use linux_raw_sys::general as raw;

/// What the processor or the address space reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Division by zero or overflow (`#DE`).
    Divide,
    /// Single step or a hardware breakpoint (`#DB`).
    Debug,
    /// `int3`.
    Breakpoint,
    /// An instruction that there is not (`#UD`).
    Invalid,
    /// Privileged, a non-canonical address, a bad selector (`#GP`, `#SS`, `#NP`, `#TS`).
    Protection,
    /// x87 exception (`#MF`), with its status and control word.
    X87 {
        /// Status word.
        status: u16,
        /// Control word.
        control: u16,
    },
    /// SSE exception (`#XM`), with `MXCSR`.
    Simd {
        /// Its value.
        mxcsr: u32,
    },
    /// Misaligned access with AC set (`#AC`).
    Alignment,
    /// Nothing is mapped there.
    Unmapped,
    /// Mapped without the right that was needed.
    Access,
    /// Mapped past the end of the file.
    PastEnd,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// The address accessed for memory faults, else the instruction's.
    pub addr: u64,
    /// Vector and error code for the signal frame.
    pub vector: u64,
    /// The processor's error code.
    pub code: u64,
}

/// The `si_code` of unmasked exception bits (IE DE ZE OE UE PE, from bit 0), most urgent first.
fn fpe_code(bits: u32) -> u32 {
    if bits & 0x01 != 0 {
        raw::FPE_FLTINV
    } else if bits & 0x04 != 0 {
        raw::FPE_FLTDIV
    } else if bits & 0x08 != 0 {
        raw::FPE_FLTOVF
    } else if bits & 0x12 != 0 {
        raw::FPE_FLTUND
    } else if bits & 0x20 != 0 {
        raw::FPE_FLTRES
    } else {
        0
    }
}

impl Fault {
    /// The signal that it is. `None`: an x87 or SSE report without an unmasked exception, which Linux ignores.
    #[must_use]
    pub fn signal(&self) -> Option<Info> {
        let (signal, code) = match self.kind {
            FaultKind::Divide => (Signal::FPE, raw::FPE_INTDIV),
            FaultKind::Debug => (Signal::TRAP, raw::TRAP_TRACE),
            FaultKind::Breakpoint => return Some(Info::new(Signal::TRAP, Info::SI_KERNEL, Origin::None)),
            FaultKind::Invalid => (Signal::ILL, raw::ILL_ILLOPN),
            FaultKind::Protection => return Some(Info::new(Signal::SEGV, Info::SI_KERNEL, Origin::None)),
            FaultKind::X87 { status, control } => (Signal::FPE, fpe_code(u32::from(status & !control & 0x3f))),
            FaultKind::Simd { mxcsr } => (Signal::FPE, fpe_code(!(mxcsr >> 7) & mxcsr & 0x3f)),
            FaultKind::Alignment => (Signal::BUS, raw::BUS_ADRALN),
            FaultKind::Unmapped => (Signal::SEGV, raw::SEGV_MAPERR),
            FaultKind::Access => (Signal::SEGV, raw::SEGV_ACCERR),
            FaultKind::PastEnd => (Signal::BUS, raw::BUS_ADRERR),
        };
        if code == 0 {
            return None;
        }
        // A non-canonical or kernel address is never shown: the processor gives none with #GP, and Linux 0.
        Some(Info::new(signal, i32::try_from(code).unwrap_or_default(), Origin::Fault { addr: self.addr }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: FaultKind) -> Option<(Signal, i32)> {
        Fault { kind, addr: 0x1234, vector: 0, code: 0 }.signal().map(|info| (info.signal, info.code))
    }

    #[test]
    fn each_fault_has_the_signal_and_code_of_linux() {
        assert_eq!(of(FaultKind::Divide), Some((Signal::FPE, 1)));
        assert_eq!(of(FaultKind::Breakpoint), Some((Signal::TRAP, 0x80)));
        assert_eq!(of(FaultKind::Debug), Some((Signal::TRAP, 2)));
        assert_eq!(of(FaultKind::Invalid), Some((Signal::ILL, 2)));
        assert_eq!(of(FaultKind::Protection), Some((Signal::SEGV, 0x80)));
        assert_eq!(of(FaultKind::Unmapped), Some((Signal::SEGV, 1)));
        assert_eq!(of(FaultKind::Access), Some((Signal::SEGV, 2)));
        assert_eq!(of(FaultKind::PastEnd), Some((Signal::BUS, 2)));
        assert_eq!(of(FaultKind::Alignment), Some((Signal::BUS, 1)));
        assert_eq!(of(FaultKind::X87 { status: 0x4, control: 0x37b }), Some((Signal::FPE, 3)));
        assert_eq!(of(FaultKind::Simd { mxcsr: 0x1f80 & !(1 << 9) | 4 }), Some((Signal::FPE, 3)));
        assert_eq!(of(FaultKind::Simd { mxcsr: 0x1f84 }), None);
    }
}
