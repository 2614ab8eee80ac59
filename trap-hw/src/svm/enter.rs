//! The way into the guest and out of it.
//!
//! The global interrupt flag is off around the world switch, so an interrupt that comes before the guest's first instruction, or after its
//! last, waits: with interrupts virtually masked it ends VMRUN, and is taken when the caller lets interrupts in. A pending NMI fires at
//! STGI. Not done here, and to be done before guests of different owners share a core of an affected processor: filling the return
//! stack, untraining returns, the barrier between two guests. Sources: APM vol. 2, 15.5, 15.17, 15.21.

use super::vmcb::Vmcb;
use crate::registers::Registers;
use core::arch::asm;
use core::mem::offset_of;

/// Runs the guest of `vmcb` until it comes out; what came is in the block. Registers go in and out by `regs`, segment bases and the like
/// by the block.
///
/// # Safety
/// 1. Ring 0 with interrupts off, on a processor where SVM is on; FS is not in use by the host but as a register to be kept.
/// 2. `vmcb` has the physical address `guest`, keeps [`Vmcb::check`], and its tables lead to nothing that is not the guest's.
/// 3. `host` is the physical address of a page of this processor's own, of a block's size, for the host's segments meanwhile.
/// 4. The vector registers are the guest's, or hold nothing that it may not see, and are not in use by the host.
pub unsafe fn enter(vmcb: &mut Vmcb, guest: u64, regs: &mut Registers, host: u64) {
    vmcb.load(regs);
    // SAFETY:
    // - Interrupts cannot come between CLGI and STGI, and are off outside of them again, as before: contract 1.
    // - VMSAVE and VMLOAD keep and bring back what VMRUN does not of the host's segments; nothing in between uses the stack's guard or
    //   per-processor data. The stack pointer and flags are VMRUN's to bring back.
    // - All general registers are outputs but rbx and rbp, which are pushed. The block and `regs` are borrowed mutably, and written within
    //   this statement: both are operands, so the compiler takes nothing that it knew of them for granted afterwards.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdx",
            "push rdi",
            "clgi",
            "sti",
            "mov rax, rdx",
            "vmsave rax",
            "mov rax, rsi",
            "vmload rax",
            "mov r15, [rdi + {r15}]",
            "mov r14, [rdi + {r14}]",
            "mov r13, [rdi + {r13}]",
            "mov r12, [rdi + {r12}]",
            "mov rbp, [rdi + {bp}]",
            "mov rbx, [rdi + {bx}]",
            "mov r11, [rdi + {r11}]",
            "mov r10, [rdi + {r10}]",
            "mov r9, [rdi + {r9}]",
            "mov r8, [rdi + {r8}]",
            "mov rcx, [rdi + {cx}]",
            "mov rdx, [rdi + {dx}]",
            "mov rsi, [rdi + {si}]",
            "mov rdi, [rdi + {di}]",
            "vmrun rax",
            "vmsave rax",
            "xchg rdi, [rsp]",
            "mov [rdi + {r15}], r15",
            "mov [rdi + {r14}], r14",
            "mov [rdi + {r13}], r13",
            "mov [rdi + {r12}], r12",
            "mov [rdi + {bp}], rbp",
            "mov [rdi + {bx}], rbx",
            "mov [rdi + {r11}], r11",
            "mov [rdi + {r10}], r10",
            "mov [rdi + {r9}], r9",
            "mov [rdi + {r8}], r8",
            "mov [rdi + {cx}], rcx",
            "mov [rdi + {dx}], rdx",
            "mov [rdi + {si}], rsi",
            "pop rcx",
            "mov [rdi + {di}], rcx",
            "pop rax",
            "vmload rax",
            "cli",
            "stgi",
            "pop rbp",
            "pop rbx",
            // What the guest had there is not for speculation.
            "xor ecx, ecx",
            "xor edx, edx",
            "xor esi, esi",
            "xor edi, edi",
            "xor r8d, r8d",
            "xor r9d, r9d",
            "xor r10d, r10d",
            "xor r11d, r11d",
            "xor r12d, r12d",
            "xor r13d, r13d",
            "xor r14d, r14d",
            "xor r15d, r15d",
            r15 = const offset_of!(Registers, r15),
            r14 = const offset_of!(Registers, r14),
            r13 = const offset_of!(Registers, r13),
            r12 = const offset_of!(Registers, r12),
            bp = const offset_of!(Registers, bp),
            bx = const offset_of!(Registers, bx),
            r11 = const offset_of!(Registers, r11),
            r10 = const offset_of!(Registers, r10),
            r9 = const offset_of!(Registers, r9),
            r8 = const offset_of!(Registers, r8),
            cx = const offset_of!(Registers, cx),
            dx = const offset_of!(Registers, dx),
            si = const offset_of!(Registers, si),
            di = const offset_of!(Registers, di),
            inout("rdi") core::ptr::from_mut(regs) => _,
            inout("rsi") guest => _,
            inout("rdx") host => _,
            out("rax") _,
            out("rcx") _,
            // The block's own address is not needed, but tells the compiler that what is there changes.
            inout("r8") core::ptr::from_mut(vmcb) => _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
        );
    }
    vmcb.store(regs);
}
