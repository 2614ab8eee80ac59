//! The process behind an address space: it shows what it is told to, and has the guest's threads.
//!
//! It is a program of a few instructions in a memory file. Its first thread is never the guest's: it waits for requests in a shared
//! page, the mailbox, makes the system calls that are written there, and answers. So any thread of the driver changes any address
//! space at once. The code and the mailbox lie below where guests may map. It ends with its maker.
//! Locks: a mailbox's, held until the answer; a leaf under `Space`'s.

use super::{linux, pages};
use crate::host::WindowsKernel;
use core::arch::global_asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use litebox_core::mm::{GuestAddr, Prot};
use litebox_locks::RawMutex;
use lock_api::Mutex;

/// Where the code and the mailbox lie in the stub: below 64 KiB, where no guest maps.
const CODE: u64 = 0x8000;
/// Bytes of both; the first half is code.
const BYTES: u64 = 0x2000;
/// The stub's descriptors of the guests' memory and of its own two pages.
const MEMORY: u64 = 1000;
/// Words of the mailbox before the calls, of a call (number, arguments, result), and calls in one request.
const HEAD: usize = 8;
const CALL: usize = 8;
const CALLS: usize = (4096 / 8 - HEAD) / CALL;

global_asm!(
    // The first program: an ELF file with one segment, which maps the two pages and goes there.
    ".pushsection .rdata",
    "litebox_stub_elf:",
    ".byte 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0",
    ".short 2, 62; .long 1; .quad 0x10078, 64, 0; .long 0; .short 64, 56, 1, 0, 0, 0",
    ".long 1, 5; .quad 0, 0x10000, 0x10000, 0x1000, 0x1000, 0x1000",
    "mov edi, 0x8000; mov esi, 0x1000; mov edx, 5; mov r10d, 0x11; mov r8d, 1001; xor r9d, r9d; mov eax, 9; syscall",
    "mov edi, 0x9000; mov esi, 0x1000; mov edx, 3; mov r10d, 0x11; mov r8d, 1001; mov r9d, 0x1000; mov eax, 9; syscall",
    "mov eax, 0x8000; jmp rax",
    "litebox_stub_elf_end:",
    // The code page. First: nothing else is mapped, nothing else is open.
    "litebox_stub_code:",
    "mov edi, 0xa000; movabs rsi, 0x7fffffff5000; mov eax, 11; syscall",
    "xor edi, edi; mov esi, 999; xor edx, edx; mov eax, 436; syscall",
    "mov edi, 1001; mov esi, -1; xor edx, edx; mov eax, 436; syscall",
    "mov r12d, 0x9000",
    // Waits for a request, a second at a time, as long as its maker lives.
    "2:",
    "mov eax, [r12]; cmp eax, [r12 + 4]; jne 3f",
    "mov edx, eax; mov rdi, r12; xor esi, esi; lea r10, [r12 + 32]; mov eax, 202; syscall",
    "mov eax, 110; syscall; cmp rax, [r12 + 16]; je 2b",
    "xor edi, edi; mov eax, 231; syscall",
    // Makes the calls.
    "3:",
    "mov r13, [r12 + 8]; lea r14, [r12 + 64]",
    "4:",
    "test r13, r13; jz 6f",
    "mov rax, [r14]; mov rdi, [r14 + 8]; mov rsi, [r14 + 16]; mov rdx, [r14 + 24]",
    "mov r10, [r14 + 32]; mov r8, [r14 + 40]; mov r9, [r14 + 48]; syscall",
    // A new thread, to whom clone(2) says 0, waits for its tracer.
    "test rax, rax; jnz 5f; cmp qword ptr [r14], 56; je 7f",
    "5:",
    "mov [r14 + 56], rax; add r14, 64; dec r13; jmp 4b",
    "6:",
    "mov eax, [r12]; mov [r12 + 4], eax; lea rdi, [r12 + 4]; mov esi, 1; mov edx, 0x7fffffff; mov eax, 202; syscall; jmp 2b",
    "7:",
    "mov eax, 34; syscall; jmp 7b",
    "litebox_stub_exit:",
    "xor edi, edi; mov eax, 60; syscall",
    "litebox_stub_code_end:",
    ".popsection",
    // Starts the stub: vfork(2) and execveat(2), with what the first argument points to: descriptors of the memory, of the two pages, of
    // the program; then the empty path, the arguments. The child touches no memory of its maker's.
    ".globl litebox_stub_start",
    "litebox_stub_start:",
    "push rbx; push rdi; push rsi",
    "mov rbx, rcx",
    "mov edi, 0x4100; xor esi, esi; xor edx, edx; xor r10d, r10d; xor r8d, r8d; mov eax, 56; syscall",
    "test rax, rax; jz 8f",
    "pop rsi; pop rdi; pop rbx; ret",
    "8:",
    "mov rdi, [rbx]; mov esi, 1000; mov eax, 33; syscall",
    "mov rdi, [rbx + 8]; mov esi, 1001; mov eax, 33; syscall",
    "mov rdi, [rbx + 16]; mov rsi, [rbx + 24]; mov rdx, [rbx + 32]; lea r10, [rdx + 8]; mov r8d, 0x1000; mov eax, 322; syscall",
    "mov edi, 127; mov eax, 60; syscall",
);

unsafe extern "C" {
    static litebox_stub_elf: [u8; 0];
    static litebox_stub_elf_end: [u8; 0];
    static litebox_stub_code: [u8; 0];
    static litebox_stub_exit: [u8; 0];
    static litebox_stub_code_end: [u8; 0];
    fn litebox_stub_start(arguments: *const [u64; 5]) -> i64;
}

/// The bytes between two labels.
fn between(start: *const [u8; 0], end: *const [u8; 0]) -> &'static [u8] {
    // SAFETY: Labels of one constant, in this order.
    unsafe { core::slice::from_raw_parts(start.cast::<u8>(), end.addr() - start.addr()) }
}

/// Where a thread of a stub ends itself.
pub(super) fn exit_at() -> u64 {
    CODE + ((&raw const litebox_stub_exit).addr() - (&raw const litebox_stub_code).addr()) as u64
}

/// The program's file, once it is there.
static PROGRAM: AtomicU64 = AtomicU64::new(u64::MAX);

/// Makes the program's file, unless it is there.
pub(super) fn prepare() -> bool {
    if PROGRAM.load(Ordering::Acquire) == u64::MAX {
        let code = between(&raw const litebox_stub_elf, &raw const litebox_stub_elf_end);
        if let Some(file) = linux::memory_file(4096) {
            linux::call(linux::PWRITE, [file, code.as_ptr().addr() as u64, code.len() as u64, 0, 0, 0]);
            PROGRAM.store(file, Ordering::Release);
        }
    }
    PROGRAM.load(Ordering::Acquire) != u64::MAX
}

/// The driver's view of the two pages.
struct Mailbox(NonNull<u8>);

// SAFETY: The mapping belongs to no thread.
unsafe impl Send for Mailbox {}

impl Mailbox {
    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: Within the second page: callers stay below 512.
        let word = unsafe { self.0.add(4096 + (index & 511) * 8) };
        // SAFETY: Aligned, mapped as long as `self`, and shared with another process: hence atomic.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    fn half(&self, index: usize) -> &AtomicU32 {
        // SAFETY: As above.
        let half = unsafe { self.0.add(4096 + (index & 1) * 4) };
        // SAFETY: As above.
        unsafe { AtomicU32::from_ptr(half.as_ptr().cast()) }
    }

    /// Has the stub make `calls`; the results are in the mailbox.
    fn request(&self, calls: usize) -> bool {
        let (request, answer) = (self.half(0), self.half(1));
        self.word(1).store(calls as u64, Ordering::Relaxed);
        let number = request.fetch_add(1, Ordering::Release).wrapping_add(1);
        linux::call(linux::FUTEX, [request.as_ptr().addr() as u64, 1, i32::MAX as u64, 0, 0, 0]);
        // A stub that was killed does not answer: whoever kills one does not ask it. Seconds are for one that crashed.
        for _ in 0..10 {
            let seen = answer.load(Ordering::Acquire);
            if seen == number {
                return true;
            }
            let second = [1_u64, 0];
            let until = second.as_ptr().addr() as u64;
            linux::call(linux::FUTEX, [answer.as_ptr().addr() as u64, 0, u64::from(seen), until, 0, 0]);
        }
        answer.load(Ordering::Acquire) == number
    }

    fn put(&self, index: usize, call: [u64; 7]) {
        for (at, word) in call.into_iter().enumerate() {
            self.word(HEAD + index * CALL + at).store(word, Ordering::Relaxed);
        }
    }

    fn result(&self, index: usize) -> i64 {
        self.word(HEAD + index * CALL + 7).load(Ordering::Relaxed).cast_signed()
    }
}

/// What an address space shows.
pub(crate) struct Tables {
    process: u64,
    file: u64,
    mailbox: Mutex<RawMutex<WindowsKernel>, Mailbox>,
}

impl core::fmt::Debug for Tables {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Tables of {}", self.process)
    }
}

/// A guest thread that nobody runs yet.
#[derive(Debug)]
pub(crate) struct Seed {
    pub(super) process: u64,
    pub(super) thread: u64,
}

impl Tables {
    /// A process that shows nothing.
    pub(crate) fn new() -> Option<Self> {
        let file = linux::memory_file(BYTES)?;
        let mailbox = Mailbox(linux::map(file, BYTES)?);
        let code = between(&raw const litebox_stub_code, &raw const litebox_stub_code_end);
        // SAFETY: The first page, which is larger than the code and nobody else's yet.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), mailbox.0.as_ptr(), code.len()) };
        mailbox.word(2).store(linux::call(linux::GETPID, [0; 6]).cast_unsigned(), Ordering::Relaxed);
        // A second, in which the stub looks whether its maker lives.
        mailbox.word(4).store(1, Ordering::Relaxed);
        let (path, name) = (c"", c"litebox-guest");
        let arguments = [name.as_ptr().addr(), 0, 0];
        let start =
            [pages::file(), file, PROGRAM.load(Ordering::Acquire), path.as_ptr().addr() as u64, arguments.as_ptr().addr() as u64];
        // SAFETY: Descriptors of ours and strings that live through the call: the child has its own memory when it returns.
        let process = u64::try_from(unsafe { litebox_stub_start(&raw const start) }).ok();
        let Some(process) = process else {
            linux::call(linux::CLOSE, [file, 0, 0, 0, 0, 0]);
            return None;
        };
        Some(Self { process, file, mailbox: Mutex::new(mailbox) })
    }

    /// Shows pages.
    pub(crate) fn map(&self, pages: &mut dyn Iterator<Item = (GuestAddr, NonNull<u8>, Prot)>) -> bool {
        let mailbox = self.mailbox.lock();
        let mut count = 0;
        let mut all = true;
        let flush = |count: usize| count == 0 || (mailbox.request(count) && (0..count).all(|index| mailbox.result(index) >= 0));
        for (at, page, prot) in pages {
            let mut rights = 0;
            for (right, bit) in [(Prot::READ, linux::READ), (Prot::WRITE, linux::WRITE), (Prot::EXEC, linux::EXEC)] {
                if prot.contains(right) {
                    rights |= bit;
                }
            }
            let (flags, offset) = (linux::SHARED | linux::FIXED, pages::offset(page));
            mailbox.put(count, [linux::MMAP, at.get(), 4096, rights, flags, MEMORY, offset]);
            count += 1;
            if count == CALLS {
                all &= flush(count);
                count = 0;
            }
        }
        all & flush(count)
    }

    /// Hides what is shown in a range.
    pub(crate) fn unmap(&self, start: GuestAddr, end: GuestAddr) {
        let start = start.get().max(0x1_0000);
        let mailbox = self.mailbox.lock();
        mailbox.put(0, [linux::MUNMAP, start, end.get().saturating_sub(start), 0, 0, 0, 0]);
        mailbox.request(1);
    }

    /// A new thread, which waits for its tracer.
    pub(crate) fn seed(&self) -> Option<Seed> {
        /// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM`.
        const FLAGS: u64 = 0x5_0f00;
        let mailbox = self.mailbox.lock();
        mailbox.put(0, [linux::CLONE, FLAGS, 0, 0, 0, 0, 0]);
        if !mailbox.request(1) {
            return None;
        }
        let thread = u64::try_from(mailbox.result(0)).ok()?;
        Some(Seed { process: self.process, thread })
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        const SIGKILL: u64 = 9;
        linux::call(linux::KILL, [self.process, SIGKILL, 0, 0, 0, 0]);
        while linux::call(linux::WAIT4, [self.process, 0, linux::WALL, 0, 0, 0]) == linux::EINTR {}
        let mailbox = self.mailbox.lock().0;
        linux::call(linux::MUNMAP, [mailbox.addr().get() as u64, BYTES, 0, 0, 0, 0]);
        linux::call(linux::CLOSE, [self.file, 0, 0, 0, 0, 0]);
    }
}
