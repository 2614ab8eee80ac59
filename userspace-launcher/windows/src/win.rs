//! The functions of KERNEL32.dll that the launcher needs, and its heap.

use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;

/// A handle, closed when the process ends.
pub(crate) type Handle = *mut c_void;

/// `INVALID_HANDLE_VALUE`.
const INVALID: usize = usize::MAX;
const OPEN_EXISTING: u32 = 3;
const SHARE_ALL: u32 = 7;

/// Rights: read and write; to list a directory.
pub(crate) const READ_WRITE: u32 = 0xC000_0000;
pub(crate) const LIST: u32 = 0x10_0081;
/// `FILE_FLAG_BACKUP_SEMANTICS`, which opens directories.
pub(crate) const DIRECTORY: u32 = 0x0200_0000;

/// `FILE_FLAG_OVERLAPPED`: a request does not wait for another's end.
pub(crate) const OVERLAPPED: u32 = 0x4000_0000;
/// `ERROR_IO_PENDING`.
const IO_PENDING: u32 = 997;

/// `OVERLAPPED`.
#[repr(C)]
struct Overlapped {
    internal: [usize; 2],
    offset: u64,
    event: Handle,
}

/// `GetStdHandle`'s names of the three.
pub(crate) const STANDARD: [u32; 3] = [0xFFFF_FFF6, 0xFFFF_FFF5, 0xFFFF_FFF4];

#[link(name = "KERNEL32.dll", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    safe fn GetProcessHeap() -> Handle;
    fn HeapAlloc(heap: Handle, flags: u32, bytes: usize) -> *mut c_void;
    fn HeapFree(heap: Handle, flags: u32, memory: *mut c_void) -> i32;
    safe fn ExitProcess(status: u32) -> !;
    safe fn GetCommandLineW() -> *const u16;
    safe fn GetLastError() -> u32;
    safe fn GetStdHandle(which: u32) -> Handle;
    fn CreateFileW(
        name: *const u16,
        access: u32,
        share: u32,
        security: *const c_void,
        disposition: u32,
        flags: u32,
        template: Handle,
    ) -> Handle;
    fn WriteFile(file: Handle, bytes: *const u8, count: u32, written: *mut u32, overlapped: *mut c_void) -> i32;
    fn DeviceIoControl(
        device: Handle,
        code: u32,
        input: *const c_void,
        input_bytes: u32,
        output: *mut c_void,
        output_bytes: u32,
        returned: *mut u32,
        overlapped: *mut Overlapped,
    ) -> i32;
    fn GetOverlappedResult(file: Handle, overlapped: *mut Overlapped, transferred: *mut u32, wait: i32) -> i32;
    fn CreateEventW(security: *const c_void, manual: i32, set: i32, name: *const u16) -> Handle;
    fn CloseHandle(handle: Handle) -> i32;
    fn SetConsoleCtrlHandler(handler: unsafe extern "system" fn(event: u32) -> i32, add: i32) -> i32;
}

#[link(name = "ntdll.dll", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    // What the compiler calls; nobody else does.
    #[expect(dead_code, reason = "the compiler's")]
    fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void;
    #[expect(dead_code, reason = "the compiler's")]
    fn memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void;
    #[expect(dead_code, reason = "the compiler's")]
    fn memset(to: *mut c_void, byte: i32, bytes: usize) -> *mut c_void;
    #[expect(dead_code, reason = "the compiler's")]
    fn memcmp(one: *const c_void, other: *const c_void, bytes: usize) -> i32;
}

struct Heap;

// SAFETY: The process's heap gives memory that nobody else has, aligned to 16.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > 16 {
            return core::ptr::null_mut();
        }
        // SAFETY: The process's heap, any size.
        unsafe { HeapAlloc(GetProcessHeap(), 0, layout.size()) }.cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, _layout: Layout) {
        // SAFETY: From `alloc`, by the trait's contract.
        unsafe { HeapFree(GetProcessHeap(), 0, memory.cast()) };
    }
}

#[global_allocator]
static HEAP: Heap = Heap;

#[panic_handler]
fn on_panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    ExitProcess(super::FAULT)
}

/// What unwinding asks at frames of the compiled libraries; nothing here unwinds, so the search goes on
/// (`ExceptionContinueSearch`).
#[unsafe(no_mangle)]
extern "system" fn __CxxFrameHandler3() -> i32 {
    1
}

/// The MSVC ABI wants this symbol wherever floating point is used.
#[unsafe(no_mangle)]
#[used]
static _fltused: i32 = 0x9875;

/// Ends the process.
pub(crate) fn exit(status: u32) -> ! {
    ExitProcess(status)
}

/// The command line; what is no text in it becomes replacement characters.
pub(crate) fn command_line() -> String {
    let start = GetCommandLineW();
    let mut units = Vec::new();
    loop {
        // SAFETY: Within the string: its NUL has not come yet.
        let at = unsafe { start.add(units.len()) };
        // SAFETY: As above.
        let unit = unsafe { at.read() };
        if unit == 0 {
            return String::from_utf16_lossy(&units);
        }
        units.push(unit);
    }
}

/// Writes to the standard error.
pub(crate) fn complain(text: &str) {
    let [.., error] = STANDARD;
    let (mut written, count) = (0, u32::try_from(text.len()).unwrap_or(0));
    // SAFETY: Any handle; our text and variable. Who cannot be told is not.
    unsafe { WriteFile(GetStdHandle(error), text.as_ptr(), count, &raw mut written, core::ptr::null_mut()) };
}

/// A standard handle, if the process has it.
pub(crate) fn standard(which: u32) -> Option<Handle> {
    Some(GetStdHandle(which)).filter(|handle| !handle.is_null() && handle.addr() != INVALID)
}

/// Opens what is there.
///
/// # Errors
/// Windows's number.
pub(crate) fn open(name: &str, access: u32, flags: u32) -> Result<Handle, u32> {
    let units: Vec<u16> = name.encode_utf16().chain([0]).collect();
    let null = core::ptr::null_mut();
    // SAFETY: A string with its NUL, which lives through the call.
    let handle = unsafe { CreateFileW(units.as_ptr(), access, SHARE_ALL, null, OPEN_EXISTING, flags, null) };
    if handle.addr() == INVALID { Err(GetLastError()) } else { Ok(handle) }
}

/// Makes a request of a device that was opened for [`OVERLAPPED`] ones, and waits for its end; gives how many bytes of the answer
/// there are.
///
/// # Errors
/// Windows's number.
pub(crate) fn control(device: Handle, code: u32, input: &[u8], output: &mut [u8]) -> Result<usize, u32> {
    // SAFETY: No name; an event that is reset by hand.
    let event = unsafe { CreateEventW(core::ptr::null(), 1, 0, core::ptr::null()) };
    let mut overlapped = Overlapped { internal: [0; 2], offset: 0, event };
    let mut returned = 0;
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(0);
    // SAFETY: Buffers of these lengths and a structure, which live until the request has ended: see below.
    let at_once = unsafe {
        DeviceIoControl(
            device,
            code,
            input.as_ptr().cast(),
            length(input.len()),
            output.as_mut_ptr().cast(),
            length(output.len()),
            &raw mut returned,
            &raw mut overlapped,
        )
    };
    let result = if at_once == 0 && GetLastError() != IO_PENDING {
        Err(GetLastError())
    } else {
        // SAFETY: The request's structure; waits for its end.
        let done = unsafe { GetOverlappedResult(device, &raw mut overlapped, &raw mut returned, 1) };
        if done == 0 { Err(GetLastError()) } else { Ok(returned as usize) }
    };
    // SAFETY: Ours; the request has ended.
    unsafe { CloseHandle(event) };
    result
}

/// Has `handler` asked about Ctrl-C and its like, on a thread of its own.
pub(crate) fn on_interrupt(handler: unsafe extern "system" fn(event: u32) -> i32) {
    // SAFETY: A function that is there as long as the process. Without it Ctrl-C ends the launcher, and so the sandbox.
    unsafe { SetConsoleCtrlHandler(handler, 1) };
}
