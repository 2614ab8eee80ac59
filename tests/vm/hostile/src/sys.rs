//! The system calls of these tests, with nothing between them and the kernel. All unsafe code but the guest's is here.

use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// An error's number.
pub(crate) type Errno = c_int;

fn last() -> Errno {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(result: c_long) -> Result<c_long, Errno> {
    if result == -1 { Err(last()) } else { Ok(result) }
}

/// ioctl(2) with any number and any argument.
pub(crate) fn ioctl(fd: RawFd, number: u32, argument: usize) -> Result<c_int, Errno> {
    // SAFETY: the kernel checks each address; what this program gives it to write to is memory of [`Pages`], which holds bytes
    // only, or none at all. A successful RUN replaces a child, which has no more plans.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, fd, number, argument) };
    check(result).map(|result| c_int::try_from(result).unwrap_or(0))
}

/// read(2) or write(2), by number, of memory at any address.
pub(crate) fn transfer(call: c_long, fd: RawFd, address: usize, length: usize) -> Result<c_long, Errno> {
    // SAFETY: as for `ioctl`.
    check(unsafe { libc::syscall(call, fd, address, length) })
}

/// Forks. The child's code makes system calls only, allocates nothing, and ends by [`exit`], unless this process has one thread.
pub(crate) fn fork() -> Result<Option<c_int>, Errno> {
    // SAFETY: the callers keep to the above.
    let pid = unsafe { libc::fork() };
    check(pid.into())?;
    Ok((pid != 0).then_some(pid))
}

/// Ends a child at once.
pub(crate) fn exit(status: c_int) -> ! {
    // SAFETY: no precondition.
    unsafe { libc::_exit(status) }
}

/// How a child ended: its status, or minus the signal.
pub(crate) fn wait_child(pid: c_int) -> Result<c_int, Errno> {
    loop {
        let mut status = 0;
        // SAFETY: one number is written.
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into()) {
            Err(libc::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) if libc::WIFEXITED(status) => return Ok(libc::WEXITSTATUS(status)),
            Ok(_) => return Ok(-libc::WTERMSIG(status)),
        }
    }
}

/// Whether a child has ended, as [`wait_child`]; without waiting.
pub(crate) fn try_wait_child(pid: c_int) -> Result<Option<c_int>, Errno> {
    let mut status = 0;
    // SAFETY: one number is written.
    match check(unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) }.into())? {
        0 => Ok(None),
        _ if libc::WIFEXITED(status) => Ok(Some(libc::WEXITSTATUS(status))),
        _ => Ok(Some(-libc::WTERMSIG(status))),
    }
}

/// Sends a signal to another process.
pub(crate) fn kill(pid: c_int, signal: c_int) -> Result<(), Errno> {
    // SAFETY: the callers name processes of theirs.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Makes this process the parent of its descendants whose parents have died.
pub(crate) fn adopt_orphans() -> Result<(), Errno> {
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into()).map(drop)
}

/// Writes what it can of some bytes.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) {
    // SAFETY: the bytes are read.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// Writes to address 8, where nothing is mapped.
pub(crate) fn crash() {
    // SAFETY: this is meant to end the process; an instruction of our own, so that no compiler draws conclusions.
    unsafe { std::arch::asm!("mov dword ptr [{}], 0", in(reg) 8_usize) };
}

/// Becomes another user for good, in one group.
pub(crate) fn become_user(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: a list of no groups is read.
    check(unsafe { libc::setgroups(0, ptr::null()) }.into())?;
    // SAFETY: numbers only.
    check(unsafe { libc::setresgid(gid, gid, gid) }.into())?;
    // SAFETY: numbers only.
    check(unsafe { libc::setresuid(uid, uid, uid) }.into()).map(drop)
}

/// Makes a directory the root and the working directory.
pub(crate) fn enter(directory: &str) -> Result<(), Errno> {
    std::env::set_current_dir(directory)
        .and_then(|()| std::os::unix::fs::chroot("."))
        .map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// A pipe: the end to read, the end to write.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut ends = [0; 2];
    // SAFETY: two numbers are written.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    // SAFETY: a new descriptor, which nobody else owns.
    let read = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    Ok((read, unsafe { OwnedFd::from_raw_fd(ends[1]) }))
}

/// Waits until there is something to read, or the end; at most `milliseconds`.
pub(crate) fn readable(fd: RawFd, milliseconds: c_int) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure is read and written.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) == 1 }
}

/// Closes a descriptor that another thread may be using: that is the test.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: the callers own the number, and nothing else of theirs relies on it.
    unsafe { libc::close(fd) };
}

/// Closes every descriptor but `keep`, in a child.
pub(crate) fn close_all_but(keep: RawFd) {
    let keep = keep.cast_unsigned();
    let below = keep.checked_sub(1).map(|to| (0, to));
    for (from, to) in below.into_iter().chain([(keep + 1, u32::MAX)]) {
        // SAFETY: the child uses no other descriptor any more.
        unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    }
}

/// Loads the module that a descriptor has.
pub(crate) fn load_module(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: a string is read.
    check(unsafe { libc::syscall(libc::SYS_finit_module, fd, c"".as_ptr(), 0) }).map(drop)
}

/// Removes a module, without waiting.
pub(crate) fn delete_module(name: &std::ffi::CStr) -> Result<(), Errno> {
    // SAFETY: a string is read.
    check(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) }).map(drop)
}

/// execve(2) in a child; comes back with the error only. Each list ends with a null pointer.
pub(crate) fn execve(path: &std::ffi::CStr, argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> Errno {
    assert!(argv.last().is_some_and(|last| last.is_null()) && envp.last().is_some_and(|last| last.is_null()));
    // SAFETY: the callers' lists hold pointers to strings that live as long, and end as asserted.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last()
}

/// Maps zeroed private memory at a fixed address where nothing is.
pub(crate) fn map_fixed(address: usize, length: usize, rights: c_int) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: replaces nothing, by its flag.
    let start = unsafe { libc::mmap(ptr::without_provenance_mut(address), length, rights, flags, -1, 0) };
    if start.addr() == address { Ok(()) } else { Err(last()) }
}

/// Writes to memory of [`map_fixed`].
pub(crate) fn write_memory(address: usize, bytes: &[u8]) {
    let to = ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: the callers have mapped it, writable, and nothing borrows it.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

/// Does nothing, as a handler.
extern "C" fn nothing(_signal: c_int) {}

/// Lets [`breakpoint`] be survived.
pub(crate) fn survive_breakpoints() -> Result<(), Errno> {
    set_handler(libc::SIGTRAP, (nothing as *const ()).addr())
}

/// Raises SIGTRAP, whose handler returns behind the instruction.
pub(crate) fn breakpoint() {
    // SAFETY: the handler of `survive_breakpoints` changes no register.
    unsafe { std::arch::asm!("int3") };
}

/// Gives this thread an alternate signal stack that is never given back.
pub(crate) fn set_signal_stack(length: usize) -> Result<(), Errno> {
    let memory = vec![0_u8; length].leak();
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: length };
    // SAFETY: one structure is read; the memory is the stack's for ever.
    check(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) }.into()).map(drop)
}

/// Sets a signal's handler: on the alternate stack, with nothing blocked. `handler` is an address of code that is fit to be one.
pub(crate) fn set_handler(signal: c_int, handler: usize) -> Result<(), Errno> {
    // SAFETY: all bytes zero is a value of this C structure.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_SIGINFO;
    // SAFETY: one structure is read; the handler is fit by contract.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }.into()).map(drop)
}

/// What the host would read or write in a guest's memory by itself, and this process may still have registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    /// The alternate signal stack, which Rust's runtime sets.
    Stack,
    /// The list of robust futexes, which glibc sets.
    Robust,
    /// The word to clear at the end, which glibc sets.
    ClearTid,
    /// The area of restartable sequences, which glibc sets.
    Rseq,
}

impl Area {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Stack, Self::Robust, Self::ClearTid, Self::Rseq];

    /// Unregisters it, in a child.
    pub(crate) fn forget(self) -> Result<(), Errno> {
        match self {
            Self::Stack => {
                let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
                // SAFETY: one structure is read; this does not run on the alternate stack.
                check(unsafe { libc::sigaltstack(&raw const none, ptr::null_mut()) }.into()).map(drop)
            }
            // SAFETY: an empty list of `struct robust_list_head`, 24 bytes.
            Self::Robust => check(unsafe { libc::syscall(libc::SYS_set_robust_list, 0_usize, 24_usize) }).map(drop),
            // SAFETY: no address.
            Self::ClearTid => check(unsafe { libc::syscall(libc::SYS_set_tid_address, 0_usize) }).map(drop),
            Self::Rseq => forget_rseq(),
        }
    }
}

unsafe extern "C" {
    /// The area's distance from the thread pointer (glibc 2.35, sys/rseq.h).
    #[link_name = "__rseq_offset"]
    safe static RSEQ_OFFSET: isize;
    /// 0 if nothing was registered.
    #[link_name = "__rseq_size"]
    safe static RSEQ_SIZE: std::ffi::c_uint;
}

fn forget_rseq() -> Result<(), Errno> {
    if RSEQ_SIZE == 0 {
        return Ok(());
    }
    let thread: usize;
    // SAFETY: the psABI keeps the thread pointer at fs:0.
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly)) };
    let area = thread.wrapping_add_signed(RSEQ_OFFSET);
    // The length must be the registered one, a multiple of 32; 1 is RSEQ_FLAG_UNREGISTER, then glibc's signature.
    (32_usize..=512)
        .step_by(32)
        // SAFETY: the kernel only forgets the area.
        .map(|length| check(unsafe { libc::syscall(libc::SYS_rseq, area, length, 1, 0x5305_3053_u32) }).map(drop))
        .find(|result| *result != Err(libc::EINVAL))
        .unwrap_or(Err(libc::EINVAL))
}

/// Zeroed pages, shared with children, followed by one that may not be touched.
#[derive(Debug)]
pub(crate) struct Pages {
    start: *mut u8,
    length: usize,
}

// SAFETY: plain memory, which is read and written by volatile accesses; a race gives other bytes and no more.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Some pages.
    ///
    /// # Panics
    /// When there is no memory.
    pub(crate) fn new(count: usize) -> Self {
        let length = count * PAGE;
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), length + PAGE, rights, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "no memory: {}", last());
        let start = start.cast::<u8>();
        let pages = Self { start, length };
        pages.protect(length, libc::PROT_NONE);
        pages
    }

    /// Changes the rights of the page at `offset`.
    pub(crate) fn protect(&self, offset: usize, rights: c_int) {
        assert!(offset <= self.length && offset.is_multiple_of(PAGE));
        let page = (self.start.addr() + offset) as *mut libc::c_void;
        // SAFETY: a page of this mapping, which nothing borrows.
        assert_eq!(unsafe { libc::mprotect(page, PAGE, rights) }, 0);
    }

    /// The address of a byte.
    pub(crate) fn address(&self, offset: usize) -> usize {
        self.start.addr() + offset
    }

    /// The address behind the last byte: of the page that may not be touched.
    pub(crate) fn end(&self) -> usize {
        self.address(self.length)
    }

    /// Writes bytes at an offset.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length);
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: in the mapping, as asserted.
            let at = unsafe { self.start.add(offset + index) };
            // SAFETY: mapped, and written by nobody in a way that the compiler knows of.
            unsafe { at.write_volatile(*byte) };
        }
    }

    /// Writes bytes so that they end where the pages end; gives their address.
    pub(crate) fn write_last(&self, bytes: &[u8]) -> usize {
        self.write(self.length - bytes.len(), bytes);
        self.end() - bytes.len()
    }

    /// Reads bytes.
    pub(crate) fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        assert!(offset + N <= self.length);
        std::array::from_fn(|index| {
            // SAFETY: in the mapping, as asserted.
            let at = unsafe { self.start.add(offset + index) };
            // SAFETY: as for `write`.
            unsafe { at.read_volatile() }
        })
    }

    /// Reads a number that a child may write.
    pub(crate) fn number(&self, index: usize) -> i32 {
        i32::from_ne_bytes(self.read(4 * index))
    }

    /// Writes it.
    pub(crate) fn set_number(&self, index: usize, number: i32) {
        self.write(4 * index, &number.to_ne_bytes());
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which nothing borrows.
        unsafe { libc::munmap(self.start.cast(), self.length + PAGE) };
    }
}
