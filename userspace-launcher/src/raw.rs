//! The only unsafe code: calls that rustix leaves out because they are a language runtime's business.
//!
//! Invariant: whatever undoes the runtime ([`silence_signals`], [`forget_areas`], [`close_all_but`]) runs in the child alone,
//! which has one thread and never comes back to code that wants it.

use litebox_ioctl_abi::{Request, wire};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::{c_int, c_long};
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use zerocopy::{FromBytes, IntoBytes};

/// The wire structures: plain bytes.
pub(crate) trait Wire: FromBytes + IntoBytes {}
impl Wire for wire::Version {}
impl Wire for wire::Configure {}
impl Wire for wire::Mount {}
impl Wire for wire::GiveFd {}
impl Wire for wire::Run {}
impl Wire for wire::Wait {}
impl Wire for wire::Kill {}
impl Wire for wire::Terminal {}

/// -1 is an error, which errno names.
fn check(result: c_long) -> Result<c_long, Errno> {
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Makes a request of the device.
pub(crate) fn ioctl<T: Wire>(device: BorrowedFd<'_>, request: Request, wire: &mut T) -> Result<(), Errno> {
    assert_eq!(size_of::<T>(), request.size(), "a request with another's structure");
    // SAFETY:
    // - The kernel reads and writes `request.size()` bytes at the pointer, which are exactly `wire`'s; the request's number says
    //   so (`_IOC`), and any bytes are a `T` (`FromBytes`).
    // - User addresses inside are only read by it, and a wrong one gives EFAULT.
    // - `RUN` replaces this address space on success, and then returns to no code of ours.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), request.number().into(), std::ptr::from_mut(wire)) };
    check(result.into()).map(drop)
}

/// Forks. `None` in the child, which must only make system calls, without the heap, until it ends by [`exit`].
pub(crate) fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: fork(2) is unsound only for what the child does: its callers are `Carrier::start` and a test, and their child code
    // neither allocates nor takes a lock.
    let pid = unsafe { libc::fork() };
    check(pid.into()).map(|_pid| Pid::from_raw(pid))
}

/// Ends the child at once, without the runtime's exit handlers.
pub(crate) fn exit(status: u8) -> ! {
    // SAFETY: no precondition.
    unsafe { libc::_exit(status.into()) }
}

/// Closes every descriptor but one.
pub(crate) fn close_all_but(keep: BorrowedFd<'_>) -> Result<(), Errno> {
    let keep = keep.as_raw_fd().cast_unsigned();
    let close = |from: u32, to: u32| {
        // SAFETY: the child owns no descriptor that code of it uses later but `keep`, which is outside the range.
        check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) })
    };
    if keep > 0 {
        close(0, keep - 1)?;
    }
    close(keep + 1, u32::MAX).map(drop)
}

/// The kernel's `struct sigaction` of x86-64, which is not the C library's.
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Signals that an instruction raises.
const FAULTS: [c_int; 6] = [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];

/// Blocks all signals but the six of faults, which get a handler that can never run.
///
/// The module takes a guest's faults before the host delivers them. Should it ever not, the host finds a handler without
/// `SA_RESTORER`, for which x86-64 builds no frame, and ends the process; but with *some* handler, and so it logs no "segfault at".
pub(crate) fn silence_signals() -> Result<(), Errno> {
    let action = KernelSigaction { handler: usize::MAX & !0xfff, flags: 0, restorer: 0, mask: 0 };
    let mut blocked = u64::MAX;
    for signal in FAULTS {
        blocked &= !(1 << (signal - 1));
        // SAFETY: the kernel reads one `struct sigaction`, whose layout `KernelSigaction` has (arch/x86 asm/signal.h), with masks
        // of 8 bytes; the old action is not wanted. The handler is never called, see above.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, 0_usize, 8_usize) })?;
    }
    // SAFETY: the kernel reads 8 bytes; the child runs no code that waits for a signal.
    check(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const blocked, 0_usize, 8_usize) })?;
    Ok(())
}

/// Unregisters every piece of user memory that the host reads or writes by itself.
pub(crate) fn forget_areas() -> Result<(), Errno> {
    let stack = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: reads one `stack_t`; we are not on the alternate stack, for no handler runs.
    check(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) }.into())?;
    // SAFETY: an empty robust list; its length is the kernel's `struct robust_list_head`. No robust mutex is held.
    check(unsafe { libc::syscall(libc::SYS_set_robust_list, 0_usize, 24_usize) })?;
    // SAFETY: no address to clear when the thread ends; nothing joins the child's one thread.
    unsafe { libc::syscall(libc::SYS_set_tid_address, 0_usize) };
    rseq::unregister()
}

/// Restartable sequences, which glibc registers at start. A stale area would kill the guest at its first preemption.
#[cfg(target_env = "gnu")]
mod rseq {
    use super::check;
    use rustix::io::Errno;
    use std::ffi::c_uint;

    unsafe extern "C" {
        /// The area's distance from the thread pointer (glibc 2.35, sys/rseq.h).
        #[link_name = "__rseq_offset"]
        safe static OFFSET: isize;
        /// 0 if nothing was registered.
        #[link_name = "__rseq_size"]
        safe static SIZE: c_uint;
    }
    /// `RSEQ_SIG` of x86: what glibc registers with.
    const SIGNATURE: u32 = 0x5305_3053;
    /// `RSEQ_FLAG_UNREGISTER`.
    const UNREGISTER: u32 = 1;

    pub(super) fn unregister() -> Result<(), Errno> {
        if SIZE == 0 {
            return Ok(());
        }
        let thread: usize;
        // SAFETY: the x86-64 psABI keeps the thread pointer at fs:0; reading it touches nothing else.
        unsafe { std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly)) };
        let area = thread.wrapping_add_signed(OFFSET);
        // The length must be the one registered: 32, or since glibc 2.42 what AT_RSEQ_FEATURE_SIZE rounds up to. SIZE is neither.
        let mut result = Err(Errno::INVAL);
        for len in (32_usize..=512).step_by(32) {
            // SAFETY: the kernel only forgets the area; glibc's readers of it (sched_getcpu) are not called any more.
            result = check(unsafe { libc::syscall(libc::SYS_rseq, area, len, UNREGISTER, SIGNATURE) }).map(drop);
            if result != Err(Errno::INVAL) {
                break;
            }
        }
        result
    }
}

/// musl registers none.
#[cfg(not(target_env = "gnu"))]
mod rseq {
    pub(super) fn unregister() -> Result<(), rustix::io::Errno> {
        Ok(())
    }
}

/// Signals that are waited for rather than handled, to be passed on.
#[derive(Debug)]
pub(crate) struct ForwardedSignals {
    over: AtomicBool,
    /// Whether stops and their ends are waited for, too.
    stops: bool,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// The terminal has another size.
    Resized,
    /// This process is to stop.
    Stop,
    /// It goes on after a stop.
    Continue,
    /// One for the guest.
    Other(NonZeroU32),
}

impl Forwarded {
    fn new(number: c_int) -> Option<Self> {
        match number {
            libc::SIGWINCH => Some(Self::Resized),
            libc::SIGTSTP => Some(Self::Stop),
            libc::SIGCONT => Some(Self::Continue),
            number => NonZeroU32::new(number.cast_unsigned()).map(Self::Other),
        }
    }

    /// Its number.
    pub(crate) fn number(self) -> NonZeroU32 {
        let known = match self {
            Self::Other(number) => return number,
            Self::Resized => libc::SIGWINCH,
            Self::Stop => libc::SIGTSTP,
            Self::Continue => libc::SIGCONT,
        };
        NonZeroU32::new(known.cast_unsigned()).unwrap_or(NonZeroU32::MIN)
    }
}

/// Stops this process until somebody continues it.
pub(crate) fn stop() {
    // SAFETY: to ourselves; no memory is involved.
    unsafe { libc::kill(rustix::process::getpid().as_raw_pid(), libc::SIGSTOP) };
}

impl ForwardedSignals {
    const PASSED_ON: [c_int; 8] =
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGTERM, libc::SIGWINCH];

    /// The set of them, and the one that says that all is over.
    fn set(stops: bool) -> libc::sigset_t {
        let stops = if stops { &[libc::SIGTSTP, libc::SIGCONT][..] } else { &[] };
        let mut set = MaybeUninit::uninit();
        // SAFETY: initialises the set, and cannot fail.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for signal in Self::PASSED_ON.into_iter().chain([libc::SIGRTMIN()]).chain(stops.iter().copied()) {
            // SAFETY: the set was initialised above; the number is valid.
            unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
        }
        // SAFETY: initialised above.
        unsafe { set.assume_init() }
    }

    /// Blocks them in this thread and those it starts: call it while it is the only one.
    pub(crate) fn block(stops: bool) -> Self {
        let set = Self::set(stops);
        // SAFETY: reads a valid set; the old one is not wanted.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        Self { over: AtomicBool::new(false), stops }
    }

    /// Waits for the next one; `None` after [`ForwardedSignals::interrupt`].
    pub(crate) fn next(&self) -> Option<Forwarded> {
        let set = Self::set(self.stops);
        loop {
            let mut signal = 0;
            // SAFETY: reads a valid set, whose signals are blocked in every thread (`block`), and writes one number.
            unsafe { libc::sigwait(&raw const set, &raw mut signal) };
            if self.over.load(Ordering::Acquire) {
                return None;
            }
            if signal != libc::SIGRTMIN() {
                return Forwarded::new(signal);
            }
        }
    }

    /// Whether [`ForwardedSignals::interrupt`] was called.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Ends the waiting.
    pub(crate) fn interrupt(&self) {
        self.over.store(true, Ordering::Release);
        let us = rustix::process::getpid().as_raw_pid();
        // SAFETY: to ourselves, a signal that `block` blocked: it can only be waited for.
        unsafe { libc::kill(us, libc::SIGRTMIN()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_sigaction_has_its_layout() {
        assert_eq!(size_of::<KernelSigaction>(), 32);
    }
}
