//! Why a guest came out of ring 3, whichever processor says so.

/// The vector of a divide error.
pub const DIVIDE: u8 = 0;
/// The vector of a debug exception.
pub const DEBUG: u8 = 1;
/// The vector of an invalid opcode.
pub const INVALID_OPCODE: u8 = 6;
/// The vector of a general protection fault.
pub const PROTECTION: u8 = 13;
/// The vector of a page fault.
pub const PAGE: u8 = 14;
/// The vector of a machine check.
pub const MACHINE_CHECK: u8 = 18;

/// An exit. Unless it says otherwise the instruction has done nothing, and the guest's instruction pointer is at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// An exception, or a privileged instruction that was given to the host instead of raising one.
    Fault {
        /// Which.
        vector: u8,
        /// Its error code; 0 for those without.
        code: u64,
        /// The address accessed, of a page fault; else 0.
        addr: u64,
    },
    /// `int3` or `int n`: the bytes tell which, see [`crate::instruction::software_interrupt`].
    SoftwareInterrupt,
    /// `int1` (F1), of one byte.
    DebugInterrupt,
    /// CPUID, of two bytes, where the processor does not let a guest execute it. (SVM's guests do so.)
    Cpuid,
    /// An interrupt of the host's, which it takes when it lets interrupts in.
    Interrupt,
    /// A non-maskable interrupt of the host's.
    Nmi,
    /// A machine check, which the host has to be told of.
    MachineCheck,
    /// The guest cannot go on: the host's mistake, or the processor's.
    Dead(Reason),
}

/// Why a guest cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The processor refuses the state that it was to enter with.
    State,
    /// It is not in ring 3.
    Ring(u8),
    /// An event was being delivered to it, though none ever is: the processor's word for that.
    Event(u64),
    /// An exit that was not asked for, by its number.
    Unknown(u64),
}

impl Exit {
    /// An exception without an error code or an address.
    #[must_use]
    pub const fn plain(vector: u8) -> Self {
        Self::Fault { vector, code: 0, addr: 0 }
    }
}
