//! The ways from ring 3 into the kernel that x86-64 has: `syscall` and `int 0x80` from 64-bit code; `int 0x80`, `syscall` and
//! `sysenter` from a 32-bit code segment; `sysenter` from 64-bit code.
//!
//! An entry that the processor does not have, or after which the kernel does not come back, raises a signal. Its handler, on a
//! stack of its own, goes on behind the call. The 32-bit code lies in a page below 4 GiB that is written here.

use std::arch::global_asm;

use crate::check::Outcome;
use crate::sandbox::name;
use crate::sys::{self, PAGE};

/// A page of zeroes below 4 GiB for calls to write to.
pub(crate) const SCRATCH: u64 = 0x2000_0000;
/// The page with 32-bit code, and one for its stack.
const CODE: u64 = 0x2001_0000;
/// See [`CODE`].
const STACK: u64 = 0x2002_0000;
/// Where the stack of [`STACK`] begins.
const STACK_TOP: u64 = STACK + PAGE as u64 - 64;
/// Bytes between the pieces of 32-bit code.
const PIECE: usize = 64;
/// What a call leaves in rax that ended in a signal, with the signal's number in its lowest byte. No call gives that.
const FAULT: u64 = 0x5ca1_ab1e_0000_0000;
/// Bytes of the handler's stack.
const SIGNAL_STACK: usize = 64 << 10;

global_asm!(
    ".pushsection .text",
    // fire(entry rdi, registers rsi) -> rax: loads all registers, goes to `entry`, and is gone on with at `litebox_fired`.
    ".globl litebox_fire",
    "litebox_fire:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + litebox_fire_stack], rsp",
    "mov r11, rdi",
    "mov r12, rsi",
    "mov rax, [r12]",
    "mov rbx, [r12 + 8]",
    "mov rcx, [r12 + 16]",
    "mov rdx, [r12 + 24]",
    "mov rsi, [r12 + 32]",
    "mov rdi, [r12 + 40]",
    "mov rbp, [r12 + 48]",
    "mov r8, [r12 + 56]",
    "mov r9, [r12 + 64]",
    "mov r10, [r12 + 72]",
    "jmp r11",
    // From all entries and from the signal handler: rax is the result.
    ".globl litebox_fired",
    "litebox_fired:",
    "mov rsp, [rip + litebox_fire_stack]",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // Entries from 64-bit code.
    ".globl litebox_enter_syscall",
    "litebox_enter_syscall:",
    "syscall",
    "jmp litebox_fired",
    ".globl litebox_enter_int80",
    "litebox_enter_int80:",
    "int 0x80",
    "jmp litebox_fired",
    ".globl litebox_enter_sysenter",
    "litebox_enter_sysenter:",
    "sysenter",
    "jmp litebox_fired",
    // To 32-bit code (selector 0x23) at r8, with the stack at r9.
    ".globl litebox_enter_32",
    "litebox_enter_32:",
    "mov rsp, r9",
    "push 0x23",
    "push r8",
    "retfq",
    // The signal handler: edi is the signal. It never returns, so the mask must not change (SA_NODEFER).
    ".globl litebox_fire_fault",
    "litebox_fire_fault:",
    "movabs rax, 0x5ca1ab1e00000000",
    "movzx edi, dil",
    "or rax, rdi",
    "jmp litebox_fired",
    ".popsection",
    ".pushsection .bss",
    ".balign 8",
    "litebox_fire_stack: .zero 8",
    ".popsection",
);

unsafe extern "C" {
    fn litebox_fire(entry: u64, registers: *const Registers) -> u64;
    fn litebox_fired();
    fn litebox_enter_syscall();
    fn litebox_enter_int80();
    fn litebox_enter_sysenter();
    fn litebox_enter_32();
    fn litebox_fire_fault();
}

/// As `litebox_fire` loads them.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Registers {
    ax: u64,
    bx: u64,
    cx: u64,
    dx: u64,
    si: u64,
    di: u64,
    bp: u64,
    r8: u64,
    r9: u64,
    r10: u64,
}

/// A way into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `syscall` in 64-bit code.
    Syscall,
    /// `int 0x80` in 64-bit code.
    Int80,
    /// `sysenter` in 64-bit code.
    Sysenter,
    /// `int 0x80` in 32-bit code.
    Int80From32,
    /// `syscall` in 32-bit code.
    SyscallFrom32,
    /// `sysenter` in 32-bit code.
    SysenterFrom32,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The value of the result register.
    Result(i64),
    /// A signal.
    Fault(u8),
}

impl Entry {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Syscall, Self::Int80, Self::Sysenter, Self::Int80From32, Self::SyscallFrom32, Self::SysenterFrom32];

    /// Makes a call with this number and these arguments, in the registers where this entry has them.
    pub(crate) fn fire(self, number: u64, arguments: [u64; 6]) -> Answer {
        let [a, b, c, d, e, f] = arguments;
        let of_32 = Registers { ax: number, bx: a, cx: b, dx: c, si: d, di: e, bp: f, ..Registers::default() };
        let from_32 = |piece: u64| Registers { r8: CODE + piece * PIECE as u64, r9: STACK_TOP, ..of_32 };
        // These two have their stack in ebp, where the sixth argument, and for `syscall` the second, is found.
        let with_stack = |piece: u64| Registers { bp: STACK_TOP, ..from_32(piece) };
        let (entry, registers) = match self {
            Self::Syscall => (
                litebox_enter_syscall as *const (),
                Registers { ax: number, di: a, si: b, dx: c, r10: d, r8: e, r9: f, ..Registers::default() },
            ),
            Self::Int80 => (litebox_enter_int80 as *const (), of_32),
            Self::Sysenter => (litebox_enter_sysenter as *const (), Registers { bp: STACK_TOP, ..of_32 }),
            Self::Int80From32 => (litebox_enter_32 as *const (), from_32(0)),
            Self::SyscallFrom32 => (litebox_enter_32 as *const (), with_stack(1)),
            Self::SysenterFrom32 => (litebox_enter_32 as *const (), with_stack(2)),
        };
        // SAFETY: the code keeps what the C ABI wants kept, and the call can change no memory but what `arguments` spares.
        let result = unsafe { litebox_fire(entry.addr() as u64, &raw const registers) };
        if result & !0xff == FAULT {
            return Answer::Fault(result as u8);
        }
        // The 32-bit entries have no more than eax; its sign is the result's.
        let wide = matches!(self, Self::Syscall | Self::Int80 | Self::Sysenter);
        Answer::Result(if wide { result.cast_signed() } else { i64::from((result as u32).cast_signed()) })
    }
}

/// A call by `syscall` in a process that has not called [`prepare`].
pub(crate) fn syscall(number: u64, arguments: [u64; 6]) -> Answer {
    Entry::Syscall.fire(number, arguments)
}

/// A call by `int 0x80`, as [`syscall`].
pub(crate) fn int80(number: u64, arguments: [u64; 6]) -> Answer {
    Entry::Int80.fire(number, arguments)
}

/// Maps the fixed pages, writes the 32-bit code, and sets the handler and its stack.
pub(crate) fn prepare() -> Outcome {
    for (page, rights) in [
        (SCRATCH, libc::PROT_READ | libc::PROT_WRITE),
        (CODE, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC),
        (STACK, libc::PROT_READ | libc::PROT_WRITE),
    ] {
        sys::map_fixed(page as usize, PAGE, rights).map_err(name)?;
    }
    for (piece, entry) in [[0xcd, 0x80], [0x0f, 0x05], [0x0f, 0x34]].into_iter().enumerate() {
        // The entry; a far jump to 64-bit code (selector 0x33) right behind; that jumps to `litebox_fired` by r11.
        let at = CODE + (piece * PIECE) as u64;
        let behind = u32::try_from(at + 9).map_err(|error| error.to_string())?;
        let mut code = entry.to_vec();
        code.push(0xea);
        code.extend(behind.to_le_bytes());
        code.extend([0x33, 0]);
        code.extend([0x49, 0xbb]);
        code.extend((litebox_fired as *const ()).addr().to_le_bytes());
        code.extend([0x41, 0xff, 0xe3]);
        sys::write_memory(at as usize, &code);
    }
    sys::set_signal_stack(SIGNAL_STACK).map_err(name)?;
    for signal in [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS] {
        sys::set_handler(signal, (litebox_fire_fault as *const ()).addr()).map_err(name)?;
    }
    for signal in [libc::SIGALRM, libc::SIGPIPE, libc::SIGIO, libc::SIGVTALRM, libc::SIGPROF, libc::SIGXFSZ] {
        sys::set_handler(signal, libc::SIG_IGN).map_err(name)?;
    }
    Ok(())
}
