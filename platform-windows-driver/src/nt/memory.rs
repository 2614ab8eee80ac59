//! The driver's heap, its end, and what the compiler wants of every program.

use super::raw::{BCryptGenRandom, DbgPrint, ExAllocatePool2, ExFreePoolWithTag, KeBugCheckEx, Pointer};
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::CStr;

/// `POOL_FLAG_NON_PAGED`; the memory comes filled with zeros.
const NON_PAGED: u64 = 0x40;
/// The tag that tools show for the driver's memory.
const TAG: u32 = u32::from_le_bytes(*b"Lbox");
/// The pool's alignment of what is smaller than a page; larger is aligned to pages.
const ALIGN: usize = 16;
const PAGE: usize = 4096;

/// Kernel memory that is not paged: locks and wakes touch it at `DISPATCH_LEVEL`.
struct Pool;

// SAFETY: The pool gives memory that nobody else has, of at least the size and, as below, the alignment that is asked for.
unsafe impl GlobalAlloc for Pool {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let bytes = if layout.align() <= ALIGN { layout.size() } else { layout.size().max(PAGE) };
        if layout.align() > PAGE {
            return core::ptr::null_mut();
        }
        // SAFETY: Any size; IRQL is DISPATCH_LEVEL or below wherever the driver runs.
        unsafe { ExAllocatePool2(NON_PAGED, bytes, TAG) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: As above: the pool gives zeros.
        unsafe { self.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _layout: Layout) {
        // SAFETY: What `alloc` gave, by the trait's contract.
        unsafe { ExFreePoolWithTag(memory.cast::<core::ffi::c_void>() as Pointer, TAG) };
    }
}

#[global_allocator]
static POOL: Pool = Pool;

/// A bug of ours: the machine stops, with the place in the second and third parameter (line, length of the file's name).
#[panic_handler]
fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    /// Of the range that bug checks leave to drivers.
    const CODE: u32 = 0xC0DE_BD00;
    let place = info.location();
    let line = place.map_or(0, core::panic::Location::line);
    let file = place.map_or(0, |place| place.file().len());
    KeBugCheckEx(CODE, line as usize, file, 0, 0)
}

/// What unwinding asks at frames of the compiled libraries; nothing here unwinds, so the search goes on
/// (`ExceptionContinueSearch`).
#[unsafe(no_mangle)]
extern "system" fn __CxxFrameHandler3() -> i32 {
    1
}

/// The MSVC ABI wants this symbol wherever floating point is used; nothing here uses any.
#[unsafe(no_mangle)]
#[used]
static _fltused: i32 = 0x9875;

/// Writes a line where a kernel debugger shows it. IRQL: any.
pub(crate) fn print(line: &CStr) {
    // SAFETY: The format takes one string that ends with NUL, which lives through the call.
    unsafe { DbgPrint(c"%s".as_ptr(), line.as_ptr()) };
}

/// Fills `dst` with bytes fit for keys. IRQL: `PASSIVE_LEVEL`.
pub(crate) fn random(dst: &mut [u8]) {
    /// `BCRYPT_USE_SYSTEM_PREFERRED_RNG`.
    const SYSTEM: u32 = 2;
    let bytes = u32::try_from(dst.len()).unwrap_or(u32::MAX);
    // SAFETY: The buffer has these bytes; the system's generator needs no algorithm.
    let status = unsafe { BCryptGenRandom(core::ptr::null_mut(), dst.as_mut_ptr(), bytes, SYSTEM) };
    if !status.is_success() {
        // Keys out of zeros would be worse than no machine.
        KeBugCheckEx(0xC0DE_BD01, status.number() as usize, 0, 0, 0)
    }
}
