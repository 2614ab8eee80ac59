//! The rest of a task's processor state, which a platform reads and writes.

use litebox_core::platform::Platform;

/// Floating-point and vector registers, and the two segment bases, of the *current* guest thread.
///
/// Five kinds of function of the host interface, beside [`Platform`]'s. None sleeps.
pub trait Cpu: Platform {
    /// Bytes of an XSAVE image in standard format with all that guests may use: at least 576.
    fn fpu_bytes() -> usize;
    /// The state components in it: `XCR0` and what the host leaves of it.
    fn fpu_features() -> u64;
    /// Writes the image of the current state to `dst`, [`Cpu::fpu_bytes`] long.
    fn read_fpu(dst: &mut [u8]);
    /// Makes `src`, [`Cpu::fpu_bytes`] long, the current state; false, changing nothing, for one that the processor refuses
    /// (reserved bits of MXCSR or of the header). `None` is the initial state.
    fn write_fpu(src: Option<&[u8]>) -> bool;
    /// The base of FS.
    fn fs_base() -> u64;
    /// Sets the base of FS; `base` is an address that a guest can map, or 0.
    fn set_fs_base(base: u64);
    /// The base of GS.
    fn gs_base() -> u64;
    /// Sets the base of GS; `base` is an address that a guest can map, or 0.
    fn set_gs_base(base: u64);
    /// `CPUID.1:EDX`, for the auxiliary vector.
    fn hwcap() -> u64;
}
