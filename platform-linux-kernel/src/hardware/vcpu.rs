// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One guest thread's virtual processor, and its stays in ring 3.
//!
//! A stay is a *section*: the carrier stays on its processor, the vector registers are the guest's, and the control block has the
//! segment bases. What may sleep is done outside of it; calls that `quick` answers, within.
//! Invariants: outside of a section the guest's state is where the first trap has it too: vector state in the task's image, bases in the task's
//! registers. The top table's upper half leads to the page of descriptors and nowhere else. A section is left at each
//! interrupt of the host's, because softirqs wait for its end.
//! Locks: none; preemption is off within a section.

use super::engine::{Engine, physical};
use super::sequences::Watched;
use super::take_syscall;
use crate::bases::{self, UserBase};
use crate::carrier::Current;
use crate::mm::frame::Frame;
use crate::mm::space::Space;
use crate::{fpu, sys};
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::{align_of, offset_of, size_of};
use kernel::prelude::*;
use litebox_shim_linux::quick;
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::signal::sequence::Sequences;
use litebox_trap_hw::exit::{Exit, INVALID_OPCODE};
use litebox_trap_hw::gdt::TABLE_ENTRIES;
use litebox_trap_hw::instruction::{BYTES_MOST, is_syscall};
use litebox_trap_hw::registers::Registers;
use litebox_trap_hw::svm::asid::{Renewed, Tag};
use litebox_trap_hw::svm::cpu;
use litebox_trap_hw::svm::enter::enter;
use litebox_trap_hw::svm::exit::decode;
use litebox_trap_hw::svm::vmcb::{self, Flush, Vmcb};

const _: () = {
    assert!(size_of::<Regs>() == size_of::<Registers>() && align_of::<Regs>() == align_of::<Registers>());
    assert!(offset_of!(Regs, r15) == offset_of!(Registers, r15) && offset_of!(Regs, bx) == offset_of!(Registers, bx));
    assert!(offset_of!(Regs, ax) == offset_of!(Registers, ax) && offset_of!(Regs, ip) == offset_of!(Registers, ip));
    assert!(offset_of!(Regs, flags) == offset_of!(Registers, flags) && offset_of!(Regs, ss) == offset_of!(Registers, ss));
    assert!(vmcb::BYTES == crate::mm::frame::SIZE);
};

/// The shim's registers, as the engine crate has them.
pub(super) fn registers(regs: &mut Regs) -> &mut Registers {
    // SAFETY: The same layout (asserted above), both of plain words that may have any value, and the borrow is passed on.
    unsafe { &mut *core::ptr::from_mut(regs).cast::<Registers>() }
}

/// A guest thread's. It is its carrier's own.
pub(crate) struct Vcpu {
    regs: UnsafeCell<Regs>,
    state: UnsafeCell<State>,
}

/// What a section needs.
struct State {
    block: Frame,
    top: Frame,
    tag: Tag,
    /// The space's count of changes when this guest entered last.
    seen: u64,
    /// Its area of restartable sequences, if it has one.
    sequences: Option<Watched>,
}

/// What ended a section.
#[derive(Clone, Copy, Debug)]
pub(super) enum Came {
    /// Something of the host's: there is work to do before the next one, or was.
    Work,
    /// A system call that is not quick; its number is in `orig_ax`.
    Call,
    /// None began: the area of restartable sequences is bad.
    BadSequences,
    /// Something else of the guest's.
    Exit(Exit),
}

impl Vcpu {
    /// That of a new guest thread.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new(engine: &Engine) -> Result<Self> {
        let (block, top) = (Frame::zeroed().ok_or(ENOMEM)?, Frame::zeroed().ok_or(ENOMEM)?);
        top.write((TABLE_ENTRIES - 1) * 8, &engine.descriptors().to_le_bytes());
        let mut state = State { block, top, tag: Tag::default(), seen: 0, sequences: None };
        state.make_guest(engine);
        Ok(Self { regs: UnsafeCell::new(Regs::default()), state: UnsafeCell::new(state) })
    }

    /// The guest's registers.
    ///
    /// # Safety
    /// The caller is its carrier, or nobody is yet; there is one borrow at a time.
    #[expect(clippy::mut_from_ref, reason = "the contract")]
    pub(crate) unsafe fn regs(&self) -> &mut Regs {
        // SAFETY: Contract.
        unsafe { &mut *self.regs.get() }
    }

    /// Keeps this area of restartable sequences from now on.
    ///
    /// # Safety
    /// As [`Self::regs`]; the guest is not in a section.
    pub(crate) unsafe fn watch(&self, area: Option<Sequences>) {
        // SAFETY: Contract.
        unsafe { &mut *self.state.get() }.sequences = area.map(Watched::new);
    }

    /// The area that it keeps.
    ///
    /// # Safety
    /// As [`Self::watch`].
    pub(crate) unsafe fn watched(&self) -> Option<Sequences> {
        // SAFETY: Contract.
        unsafe { &*self.state.get() }.sequences.as_ref().map(Watched::area)
    }

    /// Its tables are others than before, or it begins with another program.
    ///
    /// # Safety
    /// As [`Self::regs`]; the guest is not in a section.
    pub(crate) unsafe fn start_over(&self, engine: &Engine) {
        // SAFETY: Contract.
        let state = unsafe { &mut *self.state.get() };
        state.tag = Tag::default();
        state.make_guest(engine);
    }
}

impl State {
    fn block(&mut self) -> &mut Vmcb {
        // SAFETY: The frame is this state's alone, a whole page, aligned; any bytes are a value. The processor writes it in `enter` only.
        unsafe { &mut *self.block.bytes().cast::<Vmcb>() }
    }

    fn make_guest(&mut self, engine: &Engine) {
        let top = physical(&self.top);
        // SAFETY: Ring 0.
        let host_cr4 = unsafe { cpu::cr4() };
        self.block().make_guest(engine.maps(), top, host_cr4);
    }

    /// Takes what the current task's memory has in its top table.
    fn copy_tables(&mut self) {
        // SAFETY: The frame is a table; its lower half is written by nobody else. The current task is a carrier, and has memory.
        unsafe { sys::litebox_user_tables(self.top.bytes().cast()) };
    }

    /// Sees to it that the guest uses no translation that is not its tables'.
    fn prepare(&mut self, engine: &Engine, space: &Space, number: u32) {
        let Some(here) = engine.cpu(number) else { return };
        // SAFETY: The current processor, interrupts off; used in this statement only.
        let renewed = unsafe { here.tags() }.renew(number, &mut self.tag);
        let changes = space.changes();
        let flush = match renewed {
            Renewed::New(flush) => flush,
            Renewed::Kept if changes == self.seen => Flush::Nothing,
            Renewed::Kept if engine.flushes_by_tag() => Flush::Tag,
            Renewed::Kept => Flush::Everything,
        };
        self.seen = changes;
        let number = self.tag.number();
        let block = self.block();
        block.control.asid = number;
        block.set_changed(renewed != Renewed::Kept);
        block.set_flush(flush);
    }
}

/// Runs `guest`, the current carrier's, in ring 3 until something comes that is not to be answered within its section. None if it has no
/// virtual processor or no memory.
pub(super) fn run(guest: &Current) -> Option<Came> {
    let (vcpu, engine, space) = (guest.vcpu()?, guest.sandbox().engine()?, guest.space()?);
    // SAFETY: The carrier itself; nobody borrows them now (`Current::frame` is not held across this).
    let regs = unsafe { vcpu.regs() };
    // SAFETY: As above.
    let state = unsafe { &mut *vcpu.state.get() };

    if state.sequences.as_mut().is_some_and(|watched| watched.keep(regs).is_err()) {
        return Some(Came::BadSequences);
    }
    fpu::load_for_guest();
    space.note_inside(true);
    state.copy_tables();
    state.block().save.fs.base = bases::fs();
    state.block().save.gs.base = bases::gs();
    // SAFETY: Ring 0.
    let breakpoints = unsafe { cpu::breakpoints() };
    // SAFETY: Reads a register of the current task's.
    let keys = unsafe { sys::litebox_protection_keys() };

    let came = stay(state, regs, engine, space, guest);

    // SAFETY: As above. What the guest has made of it is not the host's.
    if unsafe { sys::litebox_protection_keys() } != keys {
        // SAFETY: What the register had.
        unsafe { sys::litebox_set_protection_keys(keys) };
    }
    /// The enabling bits of DR7.
    const ARMED: u64 = 0xff;
    if breakpoints & ARMED != 0 {
        // SAFETY: Ring 0, on the same processor, and preemption was off: nobody has changed them.
        unsafe { cpu::set_breakpoints(breakpoints) };
    }
    bases::set_fs(UserBase::of_processor(state.block().save.fs.base));
    bases::set_gs(UserBase::of_processor(state.block().save.gs.base));
    space.note_inside(false);
    fpu::store_from_guest();
    Some(came)
}

/// The section's loop.
fn stay(state: &mut State, regs: &mut Regs, engine: &Engine, space: &Space, guest: &Current) -> Came {
    let mut node = 0;
    // SAFETY: Reads this processor's number, which stays so until the section's end.
    let number = unsafe { sys::litebox_processor(&raw mut node) };
    let Some(here) = engine.cpu(number) else { return Came::Work };
    if state.sequences.as_ref().is_some_and(|watched| !watched.is_for(number)) {
        return Came::Work;
    }
    let (block, segments) = (physical(&state.block), here.segments());
    loop {
        // SAFETY: On again below, whichever way is taken.
        unsafe { sys::litebox_interrupts_off() };
        // SAFETY: Interrupts are off.
        if !here.is_on() || unsafe { sys::litebox_has_work() } {
            // SAFETY: They were on before.
            unsafe { sys::litebox_interrupts_on() };
            return Came::Work;
        }
        state.prepare(engine, space, number);
        // SAFETY: Interrupts are off, and no lock for reading is held.
        unsafe { sys::litebox_note_guest() };
        // SAFETY:
        // - Ring 0, interrupts off, on a processor that is on; the kernel does not use FS.
        // - The block is that of its address, made by `make_guest`. Its tables are those of the current memory, which shows the guest's
        //   pages and the stub, and the descriptors.
        // - The page is this processor's. The vector registers are the guest's since `load_for_guest`.
        unsafe { enter(state.block(), block, registers(regs), segments) };
        let exit = decode(state.block());
        if exit == Exit::MachineCheck {
            // Hands it to the host, whose handler reads what has happened from the processor.
            // SAFETY: Interrupts are off, and the handler returns here or not at all.
            unsafe { asm!("int 18") };
        }
        // SAFETY: They were on before. What is pending comes now.
        unsafe { sys::litebox_interrupts_on() };
        match exit {
            Exit::Nmi | Exit::MachineCheck => {}
            Exit::Interrupt => {
                if let Some(watched) = &mut state.sequences {
                    watched.note_interrupt();
                }
                return Came::Work;
            }
            Exit::Fault { vector: INVALID_OPCODE, .. } if is_syscall(peek(regs.ip)) => {
                take_syscall(regs);
                match guest.with_north(|north| quick(&north.task, regs.orig_ax)) {
                    Some(value) => {
                        regs.ax = value;
                        regs.orig_ax = u64::MAX;
                    }
                    None => return Came::Call,
                }
            }
            other => return Came::Exit(other),
        }
    }
}

/// The guest's bytes at `ip`, if they can be had without sleeping; else zeros.
fn peek(ip: u64) -> [u8; BYTES_MOST] {
    let mut bytes = [0; BYTES_MOST];
    // SAFETY: As many bytes as there is room for; the address is checked by the callee, and faults are caught.
    if unsafe { sys::litebox_peek(bytes.as_mut_ptr(), ip as usize, bytes.len()) } { bytes } else { [0; BYTES_MOST] }
}
