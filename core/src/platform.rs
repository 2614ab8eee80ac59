//! South: what the library OS asks of its host.
//!
//! A platform is a type without values; its functions are associated, so that the library OS calls them directly and a test
//! chooses its own. Each trait is one kind of service. The number of functions here *is* the host interface: README has the
//! count, and `cargo xtask tidy` checks it.
//!
//! Invariants for every implementor: no function panics; none calls back into the library OS except where it says so; all may
//! be called with library-OS locks held unless they say that they sleep.

use crate::mm::{GuestAddr, PageRange, Prot};
use crate::time::Timers;
use alloc::sync::Arc;
use core::sync::atomic::AtomicU32;
use core::time::Duration;

/// Everything that a host must offer.
pub trait Platform: Wait + Frames + UserCopy + Clock + Entropy + Log + Sized + Send + Sync + 'static {}

/// Why a [`Wait::wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// The word differed, somebody woke it, or for no reason: look at your condition again.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A kill, or a kick for this task, came; never in [`WaitMode::Uninterruptible`].
    Interrupted,
}

/// Whether a wait ends when the waiting task is to be killed or looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitMode {
    /// For locks, held for a bounded time.
    Uninterruptible,
    /// For waits that a guest can make last for ever.
    Interruptible,
    /// For waits that a guest can make last for ever and that no signal ends: a kick does not, only the host's kill does.
    Killable,
}

/// Blocking on a word, as futex(2) does: the one primitive under every wait queue; and the locks that a platform makes of it.
pub trait Wait {
    /// The raw lock under [`crate::sync::Mutex`]. Waiters sleep.
    type RawMutex: lock_api::RawMutex + Send + Sync + 'static;
    /// The raw lock under [`crate::sync::RwLock`]. Waiters sleep; a waiting writer holds off new readers.
    type RawRwLock: lock_api::RawRwLock + Send + Sync + 'static;

    /// Sleeps while `*word == expected`, until a wake, `deadline` (of the monotonic [`Clock`]) or an interruption.
    ///
    /// The comparison and falling asleep are one step with respect to [`Wait::wake`]. Sleeps; needs task context.
    fn wait(word: &AtomicU32, expected: u32, mode: WaitMode, deadline: Option<Duration>) -> Wakeup;

    /// Wakes every task that waits on `word`. Does not sleep.
    fn wake(word: &AtomicU32);
}

/// One 4 KiB page frame of the host, reference-counted. Clones are the same frame.
///
/// Guests may write to a frame at any moment: what is read twice may differ.
pub trait Frame: Clone + Send + Sync + core::fmt::Debug + 'static {
    /// Copies out from `offset` into `dst`; bytes past the frame's end are left as they were. Returns bytes copied.
    fn read(&self, offset: usize, dst: &mut [u8]) -> usize;
    /// Copies `src` to `offset`; what would pass the frame's end is not copied. Returns bytes copied.
    fn write(&self, offset: usize, src: &[u8]) -> usize;
    /// Copies the whole of `from` here.
    fn copy_from(&self, from: &Self);
    /// Replaces the little-endian word at `offset`, a multiple of 4 within the frame, by `new` if it is `expected`, in one step, also
    /// with respect to guests' own instructions. Returns what it was.
    fn exchange(&self, offset: usize, expected: u32, new: u32) -> u32;
    /// Whether this handle is the only one. Page tables hold none.
    fn is_unique(&self) -> bool;
    /// Whether both are the same frame.
    fn same(&self, other: &Self) -> bool;
}

/// One entry for a page table.
#[derive(Debug)]
pub struct Mapping<'a, F> {
    /// The page's address.
    pub addr: GuestAddr,
    /// What is shown there; whoever maps it keeps it until the entry is gone.
    pub frame: &'a F,
    /// With which rights; a page shared copy-on-write comes without [`Prot::WRITE`].
    pub prot: Prot,
}

/// Page frames, and the page tables that show them to guests.
pub trait Frames {
    /// A reference to a frame.
    type Frame: Frame;
    /// The host's side of one address space: its page tables.
    type Space: Send + Sync + core::fmt::Debug + 'static;

    /// A frame filled with zeros, or `None` when the host has none. May sleep.
    fn zeroed_frame() -> Option<Self::Frame>;
    /// Gives up to `count` frames filled with zeros to `take`, of what the host has without an effort. May sleep.
    fn zeroed_frames(count: usize, mut take: impl FnMut(Self::Frame)) {
        (0..count).map_while(|_| Self::zeroed_frame()).for_each(&mut take);
    }
    /// Fresh, empty page tables, or `None` when the host has no memory. May sleep.
    fn new_space() -> Option<Self::Space>;
    /// Fills the absent entries among `mappings`, which ascend and lie in `range`, of one 2 MiB region.
    ///
    /// Called under the address space's lock. Returns false when the host has no memory for a table.
    fn fill<'a>(space: &Self::Space, range: PageRange, mappings: impl Iterator<Item = Mapping<'a, Self::Frame>>) -> bool;
    /// Puts one entry where there is none or another one, which no processor can use on return. Otherwise as [`Self::fill`].
    fn replace(space: &Self::Space, mapping: &Mapping<'_, Self::Frame>) -> bool;
    /// Removes every entry in `start..end`; on return no processor can use one. Called under the address space's lock.
    fn unmap(space: &Self::Space, start: GuestAddr, end: GuestAddr);
}

/// Copies between the library OS and the current guest's memory. May sleep and may fault, which calls
/// [`crate::mm::AddressSpace::fault`]: hold no lock at or inside the address space's.
pub trait UserCopy: Frames {
    /// Copies from guest memory; returns how many bytes were copied before a fault that could not be resolved.
    fn from_guest(dst: &mut [u8], src: GuestAddr) -> usize;
    /// Copies to guest memory; returns how many bytes were copied before a fault that could not be resolved.
    fn to_guest(dst: GuestAddr, src: &[u8]) -> usize;
    /// As [`Self::to_guest`], of `len` bytes of `frame` from `offset` on, which end within it: without a buffer between.
    fn frame_to_guest(dst: GuestAddr, frame: &Self::Frame, offset: usize, len: usize) -> usize;
    /// As [`Self::from_guest`], to the `len` bytes of `frame` from `offset` on, which end within it: without a buffer between.
    fn guest_to_frame(frame: &Self::Frame, offset: usize, src: GuestAddr, len: usize) -> usize;
}

/// Clocks beside the two that everything here goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherClock {
    /// Monotonic, and goes on while the host is suspended.
    Boot,
    /// Monotonic, as the hardware counts: not disciplined.
    Raw,
    /// International atomic time.
    Tai,
    /// The realtime clock at the last tick.
    RealCoarse,
    /// The monotonic clock at the last tick.
    MonotonicCoarse,
}

/// Time.
pub trait Clock {
    /// Time between two ticks: the resolution of the coarse clocks.
    const TICK: Duration = Duration::from_nanos(1);

    /// Since an arbitrary point, never backwards. `CLOCK_MONOTONIC` of the host.
    fn monotonic() -> Duration;
    /// Since 1970-01-01 UTC. `CLOCK_REALTIME` of the host.
    fn realtime() -> Duration;

    /// Another clock; on a host without it, the nearest.
    fn other(clock: OtherClock) -> Duration {
        match clock {
            OtherClock::Boot | OtherClock::Raw | OtherClock::MonotonicCoarse => Self::monotonic(),
            OtherClock::Tai | OtherClock::RealCoarse => Self::realtime(),
        }
    }

    /// The host's timer of one [`Timers`], which keeps it.
    type Alarm: Default + Send + Sync + 'static;

    /// Has [`Timers::run`] called once, no earlier than `at` of the monotonic clock, in a context that may sleep, unless `timers` are
    /// gone by then. A new time for the same `timers` replaces the one that has not come. Called under a leaf lock; does not sleep
    /// for long.
    fn call_at(at: Duration, timers: &Arc<Timers<Self>>)
    where
        Self: Platform;
}

/// Random numbers.
pub trait Entropy {
    /// Fills `dst` with bytes fit for keys.
    fn fill_random(dst: &mut [u8]);
}

/// Messages for whoever runs the host.
pub trait Log {
    /// Writes one line, rate-limited. Must not contain guest addresses.
    fn log(line: core::fmt::Arguments<'_>);
}
