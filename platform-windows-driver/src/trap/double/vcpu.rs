//! One guest thread, traced by its carrier.
//!
//! Invariant: outside of `run` the thread is stopped, and its registers are what `run` was given last. All of it is done by the
//! thread that made the `Vcpu`, as ptrace(2) wants; [`Kicker`] alone is for others.

use super::linux;
use super::stub::{Seed, exit_at};
use crate::carrier;
use crate::trap::Exit;
use alloc::vec::Vec;
use litebox_core::mm::{Access, GuestAddr};
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::signal::FaultKind;

/// Requests of ptrace(2).
const CONT: u64 = 7;
const GETREGS: u64 = 12;
const SETREGS: u64 = 13;
const SYSEMU: u64 = 31;
const GETSIGINFO: u64 = 0x4202;
const GETREGSET: u64 = 0x4204;
const SETREGSET: u64 = 0x4205;
const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
/// `PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL`.
const OPTIONS: u64 = 1 | 1 << 20;
/// `NT_X86_XSTATE`.
const XSTATE: u64 = 0x202;
/// Room for any extended state.
const XSTATE_MAX: usize = 16 << 10;

/// Signals that stop a guest: what an instruction raises, and our own.
const SIGILL: u32 = 4;
const SIGTRAP: u32 = 5;
const SIGBUS: u32 = 7;
const SIGFPE: u32 = 8;
const SIGUSR1: u32 = 10;
const SIGSEGV: u32 = 11;
/// A stop at a system call.
const CALL: u32 = SIGTRAP | 0x80;
/// `SI_KERNEL`: no address.
const KERNEL: i32 = 0x80;

/// `struct user_regs_struct`: `pt_regs`, then the bases and the selectors.
type UserRegs = [u64; 27];

/// Ends another thread's stay in ring 3.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kicker {
    process: u64,
    thread: u64,
}

impl Kicker {
    /// Makes the thread stop, now or when it runs next.
    pub(crate) fn kick(self) {
        linux::call(linux::TGKILL, [self.process, self.thread, SIGUSR1.into(), 0, 0, 0]);
    }
}

/// A guest thread.
#[derive(Debug)]
pub(crate) struct Vcpu {
    seed: Seed,
    bases: [u64; 2],
    /// Bytes of Linux's image of the extended state.
    image: usize,
}

/// What stopped it.
enum Stop {
    Signal(u32),
    Event,
    Gone,
}

impl Vcpu {
    /// Begins to trace a thread.
    pub(crate) fn new(seed: Seed) -> Option<Self> {
        let mut vcpu = Self { seed, bases: [0; 2], image: XSTATE_MAX };
        if vcpu.trace(SEIZE, 0, OPTIONS) < 0 || vcpu.trace(INTERRUPT, 0, 0) < 0 {
            return None;
        }
        if matches!(vcpu.wait(), Stop::Gone) {
            return None;
        }
        vcpu.image = vcpu.fpu().len();
        Some(vcpu)
    }

    fn trace(&self, request: u64, address: u64, data: u64) -> i64 {
        linux::call(linux::PTRACE, [request, self.seed.thread, address, data, 0, 0])
    }

    fn wait(&self) -> Stop {
        let mut status = 0_u32;
        let at = (&raw mut status).expose_provenance() as u64;
        let result = loop {
            let result = linux::call(linux::WAIT4, [self.seed.thread, at, linux::WALL, 0, 0, 0]);
            if result != linux::EINTR {
                break result;
            }
        };
        // SAFETY: Our variable, which the call has written behind the compiler's back.
        let status = unsafe { (&raw const status).read_volatile() };
        if result < 0 || status & 0xff != 0x7f {
            Stop::Gone
        } else if status >> 16 != 0 {
            Stop::Event
        } else {
            Stop::Signal(status >> 8 & 0xff)
        }
    }

    /// Runs the guest from `regs` until something happens.
    pub(crate) fn run(&mut self, regs: &mut Regs) -> Exit {
        let mut user = self.user_regs(regs);
        let at = (&raw mut user).expose_provenance() as u64;
        if self.trace(SETREGS, 0, at) < 0 || self.trace(SYSEMU, 0, 0) < 0 {
            return Exit::Dead;
        }
        let stop = self.wait();
        if matches!(stop, Stop::Gone) || self.trace(GETREGS, 0, at) < 0 {
            return Exit::Dead;
        }
        // SAFETY: Our variable, which the call has written behind the compiler's back.
        let user = unsafe { (&raw const user).read_volatile() };
        self.take(&user, regs);
        match stop {
            Stop::Signal(signal) => self.exit(signal, regs),
            Stop::Event | Stop::Gone => Exit::Kick,
        }
    }

    fn user_regs(&self, regs: &Regs) -> UserRegs {
        let r = regs;
        let [fs, gs] = self.bases;
        [
            r.r15,
            r.r14,
            r.r13,
            r.r12,
            r.bp,
            r.bx,
            r.r11,
            r.r10,
            r.r9,
            r.r8,
            r.ax,
            r.cx,
            r.dx,
            r.si,
            r.di,
            u64::MAX, // no call of the host's to restart
            r.ip,
            r.cs,
            r.flags,
            r.sp,
            r.ss,
            fs,
            gs,
            0,
            0,
            0,
            0,
        ]
    }

    fn take(&mut self, user: &UserRegs, regs: &mut Regs) {
        let [r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss, fs, gs, ..] =
            *user;
        *regs = Regs { r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss };
        self.bases = [fs, gs];
    }

    /// What a stop means.
    fn exit(&mut self, signal: u32, regs: &mut Regs) -> Exit {
        if signal == CALL {
            if code_at(regs.ip.wrapping_sub(2)) == Some([0xcd, 0x80]) {
                // `int 0x80`: another ABI's number.
                regs.orig_ax = u64::MAX;
            }
            return Exit::Call;
        }
        regs.orig_ax = u64::MAX;
        let (code, addr) = self.signal_info();
        if code <= 0 {
            return Exit::Kick;
        }
        match signal {
            SIGSEGV if code == KERNEL => Exit::Exception(FaultKind::Protection, 0, 13),
            SIGSEGV => Exit::Page(addr, access_at(addr, regs.ip)),
            SIGBUS if code == 1 => Exit::Exception(FaultKind::Alignment, 0, 17),
            SIGBUS => Exit::Exception(FaultKind::PastEnd, addr, 14),
            SIGILL => Exit::Exception(FaultKind::Invalid, addr, 6),
            // TRAP_TRACE; the rest are breakpoints.
            SIGTRAP if code == 2 => Exit::Exception(FaultKind::Debug, addr, 1),
            SIGTRAP => Exit::Exception(FaultKind::Breakpoint, 0, 3),
            SIGFPE if code == 1 => Exit::Exception(FaultKind::Divide, addr, 0),
            SIGFPE => self.floating_point(addr),
            _ => Exit::Kick,
        }
    }

    /// Which of the two units raised an exception.
    fn floating_point(&mut self, addr: u64) -> Exit {
        let image = self.fpu();
        let half = |at: usize| image.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes);
        let (control, status, mxcsr) = (half(0), half(2), u32::from(half(24)));
        if status & !control & 0x3f != 0 {
            Exit::Exception(FaultKind::X87 { status, control }, addr, 16)
        } else {
            Exit::Exception(FaultKind::Simd { mxcsr }, addr, 19)
        }
    }

    fn signal_info(&self) -> (i32, u64) {
        let mut info = [0_u64; 16];
        self.trace(GETSIGINFO, 0, (&raw mut info).expose_provenance() as u64);
        // SAFETY: Our variable, which the call has written behind the compiler's back.
        let [_number, code, addr, ..] = unsafe { (&raw const info).read_volatile() };
        ((code as u32).cast_signed(), addr)
    }

    /// How others end its stay in ring 3.
    pub(crate) fn kicker(&self) -> Kicker {
        Kicker { process: self.seed.process, thread: self.seed.thread }
    }

    /// The bases of FS and GS.
    pub(crate) fn bases(&mut self) -> &mut [u64; 2] {
        &mut self.bases
    }

    /// An image of its extended state in standard format.
    pub(crate) fn fpu(&mut self) -> Vec<u8> {
        let mut image = alloc::vec![0_u8; self.image];
        let mut vector = [image.as_mut_ptr().expose_provenance(), image.len()];
        let at = (&raw mut vector).expose_provenance() as u64;
        self.trace(GETREGSET, XSTATE, at);
        // SAFETY: Our variable, which the call has written behind the compiler's back.
        let [_, len] = unsafe { (&raw const vector).read_volatile() };
        image.truncate(len);
        image
    }

    /// Makes `image` its extended state; false if the processor would not take it.
    pub(crate) fn set_fpu(&mut self, image: &[u8]) -> bool {
        let mut whole = image.to_vec();
        whole.resize(self.image, 0);
        let vector = [whole.as_ptr().expose_provenance(), whole.len()];
        self.trace(SETREGSET, XSTATE, (&raw const vector).expose_provenance() as u64) >= 0
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        let mut user = self.user_regs(&Regs::start(exit_at(), 0));
        let at = (&raw mut user).expose_provenance() as u64;
        // A stub that was killed has no thread any more that could be told.
        while self.trace(SETREGS, 0, at) >= 0 && self.trace(CONT, 0, 0) >= 0 {
            if matches!(self.wait(), Stop::Gone) {
                return;
            }
        }
        // Killed in between: its end is still to be seen.
        while !matches!(self.wait(), Stop::Gone) {}
    }
}

/// Two bytes of the current guest's code.
fn code_at(at: u64) -> Option<[u8; 2]> {
    let (mm, mut code) = (carrier::mm()?, [0; 2]);
    (mm.peek(GuestAddr::new(at), &mut code).ok()? == 2).then_some(code)
}

/// Which access an instruction at `ip` made to `addr`: ptrace(2) does not say. A fetch if it is the instruction's own place; a write
/// if a read would have been allowed; else a read, after which a write faults again and is seen as one.
fn access_at(addr: u64, ip: u64) -> Access {
    /// The longest instruction.
    const LONGEST: u64 = 15;
    let allows = |access| carrier::mm().is_some_and(|mm| mm.host().allows(GuestAddr::new(addr), access));
    let next_page = addr.is_multiple_of(4096) && addr.wrapping_sub(ip) < LONGEST;
    let readable = allows(Access::Read);
    if addr == ip || (next_page && readable && !allows(Access::Exec) && addr > ip) {
        Access::Exec
    } else if readable && !allows(Access::Write) {
        Access::Write
    } else {
        Access::Read
    }
}
