// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The two trampolines that ftrace calls in place of the start of a kernel function.
//!
//! ftrace patches the function's first instruction into a call of the trampoline. Returning goes on with the function; to skip
//! it, the trampoline points its own return address at a bare return, so that the caller sees the function return at once and the
//! stack stays as the unwinder expects. Invariants: 16-byte aligned (since Linux 6.19 the lowest bit of a direct address selects
//! another mode), ENDBR first, return through the kernel's thunk, the hooked function's one argument (rdi) preserved.
//! Sources: Linux Documentation/trace/ftrace-uses.rst, samples/ftrace/ftrace-direct.c, arch/x86/kernel/ftrace_64.S.

use super::{signal, syscall};
use crate::sys;
use core::arch::global_asm;
use core::mem::offset_of;

/// What becomes of the hooked function.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It runs as if nobody had looked.
    Original = 0,
    /// It is skipped and returns true. The trampoline keeps the lowest bit.
    SkipTrue = 1,
    /// It is skipped and returns false.
    SkipFalse = 2,
}

/// The kernel's return: through its thunk, or bare and followed by a trap against straight-line speculation.
#[cfg(CONFIG_MITIGATION_RETHUNK)]
macro_rules! asm_return {
    () => {
        "jmp __x86_return_thunk"
    };
}
#[cfg(not(CONFIG_MITIGATION_RETHUNK))]
macro_rules! asm_return {
    () => {
        "ret\nint3"
    };
}

global_asm!(
    ".pushsection .text",
    ".balign 16",
    ".type litebox_skip,@function",
    "litebox_skip:",
    "endbr64",
    "andl $1, %eax",
    asm_return!(),
    ".size litebox_skip, . - litebox_skip",
    ".popsection",
    options(att_syntax)
);

/// Defines one trampoline. Whoever is no carrier, by the look of `syscall_dispatch.selector` (see `carrier`), goes on with the
/// function at once; else the hook is called with the function's argument and the guest. Cost: this is on every call's way.
macro_rules! trampoline {
    ($name:literal, $hook:path) => {
        global_asm!(
            ".pushsection .text",
            ".balign 16",
            concat!(".globl ", $name),
            concat!(".type ", $name, ",@function"),
            concat!($name, ":"),
            "endbr64",
            "movq %gs:const_current_task(%rip), %rax",
            "movq {selector}(%rax), %rsi",
            "testq %rsi, %rsi",
            "jns 1f",
            "pushq %rbp",
            "movq %rsp, %rbp",
            "pushq %rdi",
            "call {hook}",
            "popq %rdi",
            "popq %rbp",
            "testl %eax, %eax",
            "jz 1f",
            "leaq litebox_skip(%rip), %rcx",
            "movq %rcx, (%rsp)",
            "1:",
            asm_return!(),
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            hook = sym $hook,
            selector = const offset_of!(sys::task_struct, syscall_dispatch.selector),
            options(att_syntax)
        );
    };
}
trampoline!("litebox_syscall_entry", syscall::on_syscall);
trampoline!("litebox_signal_entry", signal::on_signal);

unsafe extern "C" {
    /// Trampoline of `syscall_user_dispatch`. Its address is used; it is never called from here.
    pub(super) fn litebox_syscall_entry();
    /// Trampoline of `arch_do_signal_or_restart`.
    pub(super) fn litebox_signal_entry();
}
