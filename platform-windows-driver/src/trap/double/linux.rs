//! Linux's system calls, from within Wine.

use core::arch::asm;

pub(super) const MMAP: u64 = 9;
pub(super) const MUNMAP: u64 = 11;
pub(super) const GETPID: u64 = 39;
pub(super) const CLONE: u64 = 56;
pub(super) const WAIT4: u64 = 61;
pub(super) const KILL: u64 = 62;
pub(super) const FTRUNCATE: u64 = 77;
pub(super) const PTRACE: u64 = 101;
pub(super) const PWRITE: u64 = 18;
pub(super) const FUTEX: u64 = 202;
pub(super) const TGKILL: u64 = 234;
pub(super) const CLOSE: u64 = 3;
pub(super) const MEMFD_CREATE: u64 = 319;
pub(super) const MEMBARRIER: u64 = 324;

/// `PROT_READ`, `PROT_WRITE`, `PROT_EXEC`; `MAP_SHARED`, `MAP_FIXED`, `MAP_NORESERVE`.
pub(super) const READ: u64 = 1;
pub(super) const WRITE: u64 = 2;
pub(super) const EXEC: u64 = 4;
pub(super) const SHARED: u64 = 1;
pub(super) const FIXED: u64 = 0x10;
pub(super) const NORESERVE: u64 = 0x4000;

/// `__WALL` of wait4(2): children of any kind.
pub(super) const WALL: u64 = 0x4000_0000;

/// A call that was interrupted.
pub(super) const EINTR: i64 = -4;

/// Makes a call; a negative result is a negated errno.
///
/// The callers pass addresses of memory that is theirs, and no call that they make changes other memory of this process.
pub(super) fn call(number: u64, arguments: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: Under Wine on x86-64 this is Linux's call; it changes the registers that are named, and memory as above.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// A memory file of `bytes`, sparse; closed in programs that this process starts.
pub(super) fn memory_file(bytes: u64) -> Option<u64> {
    /// `MFD_CLOEXEC`.
    const CLOEXEC: u64 = 1;
    let name = c"litebox";
    let file = call(MEMFD_CREATE, [name.as_ptr().addr() as u64, CLOEXEC, 0, 0, 0, 0]);
    let file = u64::try_from(file).ok()?;
    (call(FTRUNCATE, [file, bytes, 0, 0, 0, 0]) == 0).then_some(file)
}

/// Maps the start of a file for reading and writing.
pub(super) fn map(file: u64, bytes: u64) -> Option<core::ptr::NonNull<u8>> {
    let at = call(MMAP, [0, bytes, READ | WRITE, SHARED | NORESERVE, file, 0]);
    let at = usize::try_from(at).ok()?;
    core::ptr::NonNull::new(core::ptr::with_exposed_provenance_mut(at))
}
