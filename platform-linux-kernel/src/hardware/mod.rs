// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The second trap: guests that the processor keeps in ring 3, as virtual machines with nothing else in them.
//!
//! `engine` has the processors' virtualisation while a sandbox uses it, `vcpu` one guest thread's control block and its stays in
//! ring 3, `stub` the page by which a carrier comes here, `sequences` what the host keeps of others, `guest` what both traps have. Here is the loop between the two. See docs/internals/trap-hw.md.
//! Invariants: a carrier of such a guest executes nothing in the host's ring 3 but the stub; its entry frame is the stub's, and the
//! guest's registers are its vCPU's.
//! Locks: none. Runs in task context, within the host's system call of the stub.

pub(crate) mod engine;
mod guest;
mod sequences;
pub(crate) mod stub;
pub(crate) mod vcpu;

use crate::carrier::{self, Current};
use crate::host::LinuxKernel;
use crate::mm::user_copy;
use crate::sys;
use crate::trap::entry::Answer;
use crate::trap::signal::{self, Reported};
use crate::trap::syscall;
use litebox_shim_linux::regs::{Regs, USER_CS};
use litebox_shim_linux::signal::{Fault, FaultKind};
use litebox_shim_linux::{Resume, dispatch, fault};
use litebox_trap_hw::exit::{DEBUG, DIVIDE, Exit, INVALID_OPCODE, PAGE, PROTECTION};
use litebox_trap_hw::instruction::{self, BYTES_MOST, CALL_32, is_syscall, software_interrupt};
use vcpu::{Came, registers};

/// The vectors of `int3` and `into`, whose gates are ring 3's to use, and those of the floating-point exceptions.
const BREAKPOINT: u8 = 3;
const OVERFLOW: u8 = 4;
const X87: u8 = 16;
const SIMD: u8 = 19;
/// Outside of a call.
const NO_CALL: u64 = u64::MAX;

/// Runs the current guest from the stub's system call on, whose frame `regs` is, until the host has to do something.
pub(crate) fn run(regs: &mut sys::pt_regs) -> Answer {
    stub::set_frame(regs);
    loop {
        // SAFETY: Task context, interrupts on, no lock held.
        if !unsafe { sys::litebox_take_work() } {
            return syscall::done(regs);
        }
        let Some(guest) = carrier::current() else { return syscall::done(regs) };
        let Some(came) = vcpu::run(&guest) else {
            carrier::kill_current();
            continue;
        };
        let resume = answer(&guest, guest.frame(regs), came);
        match resume {
            Resume::Guest => {}
            other => match syscall::turn(guest, regs, other) {
                Answer::SkipTrue => {}
                answer => return answer,
            },
        }
    }
}

/// What the library OS says to what came.
fn answer(guest: &Current, regs: &mut Regs, came: Came) -> Resume<LinuxKernel> {
    match came {
        Came::Work => Resume::Guest,
        Came::BadSequences => {
            let found = Fault { kind: FaultKind::Protection, addr: 0, vector: PROTECTION.into(), code: 0 };
            guest.with_north(|north| fault(&mut north.task, regs, &found))
        }
        Came::Call => call(guest, regs),
        Came::Exit(Exit::Fault { vector: INVALID_OPCODE, .. }) if fetch(regs).is_some_and(is_syscall) => {
            take_syscall(regs);
            call(guest, regs)
        }
        Came::Exit(Exit::Fault { vector, code, addr }) => raise(guest, regs, vector, code, addr),
        Came::Exit(Exit::SoftwareInterrupt) => match fetch(regs).and_then(software_interrupt) {
            Some((vector @ (BREAKPOINT | OVERFLOW), bytes)) => {
                regs.ip = regs.ip.wrapping_add(bytes);
                raise(guest, regs, vector, 0, 0)
            }
            Some((CALL_32, bytes)) => {
                regs.ip = regs.ip.wrapping_add(bytes);
                other_abi(guest, regs)
            }
            Some((vector, _)) => raise(guest, regs, PROTECTION, instruction::gate_error(vector), 0),
            None => raise(guest, regs, PROTECTION, 0, 0),
        },
        Came::Exit(Exit::DebugInterrupt) => {
            regs.ip = regs.ip.wrapping_add(1);
            raise(guest, regs, DEBUG, 0, 0)
        }
        // The section has seen to these; CPUID is the guest's to execute.
        Came::Exit(Exit::Cpuid | Exit::Interrupt | Exit::Nmi | Exit::MachineCheck) => Resume::Guest,
        Came::Exit(Exit::Dead(reason)) => {
            kernel::pr_warn!("a guest cannot go on in its virtual machine: {reason:?} at {:#x}\n", regs.ip);
            carrier::kill_current();
            Resume::Guest
        }
    }
}

/// Goes behind the guest's `syscall`. One of 32-bit code is another ABI's.
pub(super) fn take_syscall(regs: &mut Regs) {
    let is_ours = regs.cs == USER_CS;
    registers(regs).take_syscall();
    if !is_ours {
        regs.orig_ax = NO_CALL;
    }
}

/// A system call, whose number is in `orig_ax`.
fn call(guest: &Current, regs: &mut Regs) -> Resume<LinuxKernel> {
    let resume = guest.with_north(|north| dispatch(&mut north.task, regs));
    // What comes next is no call; a signal frame that is restored brings its own.
    regs.orig_ax = NO_CALL;
    resume
}

/// `int 0x80`: its numbers and registers are another ABI's, so it has none of ours.
fn other_abi(guest: &Current, regs: &mut Regs) -> Resume<LinuxKernel> {
    regs.orig_ax = NO_CALL;
    call(guest, regs)
}

/// An exception of the guest's, unless core can resolve it.
fn raise(guest: &Current, regs: &mut Regs, vector: u8, code: u64, addr: u64) -> Resume<LinuxKernel> {
    /// Of the upper half nothing is shown: Linux says that something is there.
    const PRESENT: u64 = 1;
    regs.orig_ax = NO_CALL;
    let (addr, code) = match vector {
        PAGE if addr >= crate::bases::USER_END => (addr, code | PRESENT),
        PAGE => (addr, code),
        DIVIDE | DEBUG | INVALID_OPCODE | X87 | SIMD => (regs.ip, code),
        _ => (0, code),
    };
    match signal::fault_of(guest, Reported { vector: vector.into(), code, addr, by_kernel: false }) {
        Some(found) => guest.with_north(|north| fault(&mut north.task, regs, &found)),
        None => Resume::Guest,
    }
}

/// The first bytes of the guest's instruction, as far as they can be read; may sleep.
fn fetch(regs: &Regs) -> Option<[u8; BYTES_MOST]> {
    let mut bytes = [0; BYTES_MOST];
    let count = user_copy::from_guest(&mut bytes, usize::try_from(regs.ip).ok()?);
    (count > 0).then_some(bytes)
}
