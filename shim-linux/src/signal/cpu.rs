//! The rest of a task's processor state, which a platform reads and writes; and how a task's carrier is woken.

use super::FPU_SOFTWARE_BYTES;
use super::sequence::Sequences;
use crate::processors::Processors;
use crate::usage::Usage;
use crate::vdso::Vdso;
use alloc::sync::Arc;
use core::fmt;
use litebox_core::error::Result;
use litebox_core::mm::GuestAddr;
use litebox_core::platform::Platform;

/// Which order membarrier(2) makes, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// Of memory accesses, for every thread that runs on the host.
    All,
    /// Of memory accesses, for the threads of the current process.
    Memory,
    /// The same, and each sees the instructions that are in memory now.
    Instructions,
    /// The same as [`Self::Memory`], and each restarts the sequence that it is in.
    Sequences,
}

/// What a carrier does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It runs, or would if there was a processor for it.
    Running,
    /// It waits, until a kick at the latest.
    Sleeping,
    /// It waits, and nothing but what it waits for ends that soon.
    Blocked,
}

/// Floating-point and vector registers, and the two segment bases, of the *current* guest thread; kicks of others.
///
/// Sixteen kinds of function of the host interface, beside [`Platform`]'s. None sleeps but where it says so.
pub trait Cpu: Platform {
    /// A carrier, as others reach it: a task has its own from [`Task::begin`](crate::task::Task::begin) to
    /// [`Task::exit`](crate::task::Task::exit).
    type Carrier: Send + Sync + fmt::Debug + 'static;

    /// Makes a carrier look after its task. The wait that it is in, or would begin before it looks, ends as
    /// [`Wakeup::Interrupted`](litebox_core::platform::Wakeup) if that is interruptible; out of ring 3 it comes to
    /// [`before_guest`](crate::before_guest) soon.
    ///
    /// Called by any task, under locks of the library OS: a leaf, which takes none of them. The carrier has not ended: `Task::exit`
    /// takes the handle away and waits for kicks under way. It need not do anything for the current carrier, which looks anyway.
    fn kick(carrier: &Self::Carrier);

    /// Bytes of an XSAVE image in standard format with all that guests may use: at least 576.
    fn fpu_bytes() -> usize;
    /// The state components in it: `XCR0` and what the host leaves of it.
    fn fpu_features() -> u64;
    /// Writes the image of the current state to guest memory at `at`, [`Cpu::fpu_bytes`] long and in standard format, with
    /// `software` as the bytes that are software's. May sleep, as a copy does.
    ///
    /// # Errors
    /// `FAULT`; a part may have been written.
    fn save_fpu(at: GuestAddr, software: &[u8; FPU_SOFTWARE_BYTES]) -> Result<()>;
    /// Makes the image in guest memory at `at` the current state. May sleep, as a copy does.
    ///
    /// # Errors
    /// `FAULT`: not readable, or one that the processor refuses (reserved bits of MXCSR or of the header); it is the initial state
    /// then.
    fn load_fpu(at: GuestAddr) -> Result<()>;
    /// Copies the image of the current state to `image`, [`Cpu::fpu_bytes`] long and in standard format.
    fn read_fpu(image: &mut [u8]);
    /// Makes `image`, as [`Cpu::read_fpu`] gives it, the current state; the initial one if the processor refuses it.
    fn write_fpu(image: &[u8]);
    /// Makes the initial state the current one.
    fn reset_fpu();
    /// The base of FS.
    fn fs_base() -> u64;
    /// Sets the base of FS; `base` is an address that a guest can map, or 0.
    fn set_fs_base(base: u64);
    /// The base of GS.
    fn gs_base() -> u64;
    /// Sets the base of GS; `base` is an address that a guest can map, or 0.
    fn set_gs_base(base: u64);
    /// What the processor says of itself: `CPUID` for this leaf and subleaf, `EAX` to `EDX`.
    fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4];

    /// From now on keeps the area of the current carrier, or none: writes the processor's number, its node and the thread's concurrency
    /// id there before ring 3 whenever one may have changed, and restarts the sequence that a preemption or a move interrupted. The
    /// numbers in a new area are those of no processor. A task for which the area is bad gets `SIGSEGV`.
    ///
    /// A new carrier that shares no memory with its maker has its maker's area from the start.
    fn watch_sequences(area: Option<Sequences>);

    /// Orders what the current thread did before with what others do afterwards, on all processors at once. May sleep.
    fn barrier(kind: Barrier);

    /// The processor that the current thread runs on, and its node; either may change at once.
    fn processor() -> (u32, u32);

    /// On which processors the current thread may run, of those that are online.
    fn processors() -> Processors;

    /// On which processors a carrier may run, of those that are online. Called as [`Cpu::kick`].
    fn affinity(carrier: &Self::Carrier) -> Processors;

    /// Has a carrier run on these only, from now on; false if none of them is online. Called as [`Cpu::kick`], and may sleep.
    fn set_affinity(carrier: &Self::Carrier, allowed: &Processors) -> bool;

    /// What a carrier has used since the host made it; the time up to now, if it runs. Called as [`Cpu::kick`].
    fn used(carrier: &Self::Carrier) -> Usage;

    /// What a carrier does; it may do something else at once. Called as [`Cpu::kick`].
    fn activity(carrier: &Self::Carrier) -> Activity;

    /// The vDSO that programs are shown, if there is one.
    fn vdso() -> Option<Arc<Vdso<Self>>> {
        None
    }
}
