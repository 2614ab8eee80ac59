//! Root of the shared object that guests call. What a C library finds there: the functions of vdso(7) for x86-64.
//!
//! Runs in ring 3, in the guest's own thread, wherever the image is mapped: position-independent without relocations, no state of
//! its own, no call out of the image. Pointers are the program's; a bad one is a fault in the program, as with Linux's vDSO.
//! Sources: vdso(7); Linux `arch/x86/entry/vdso/`.
#![no_std]

pub mod clocks;
pub mod data;

use core::arch::{asm, global_asm};
use data::{PAGE_BYTES, Page, Stamp};

const CLOCK_REALTIME: i32 = 0;
const CLOCK_REALTIME_COARSE: i32 = 5;
const SYS_CLOCK_GETTIME: usize = 228;
const SYS_CLOCK_GETRES: usize = 229;
const SYS_GETCPU: usize = 309;

/// `struct timespec`, and `struct timeval` with microseconds.
#[repr(C)]
pub struct Pair {
    seconds: u64,
    fraction: u64,
}

// The plain names are weak, so that a program may define them.
global_asm!(
    ".macro litebox_weak name",
    ".weak \\name",
    ".type \\name, @function",
    ".set \\name, __vdso_\\name",
    ".endm",
    "litebox_weak clock_gettime",
    "litebox_weak clock_getres",
    "litebox_weak gettimeofday",
    "litebox_weak time",
    "litebox_weak getcpu",
    ".purgem litebox_weak",
);

/// The page before the image.
#[inline(always)]
fn page() -> &'static Page {
    let page: *const Page;
    // SAFETY: Only an address is computed. The linker defines `__ehdr_start`, hidden, at the image's first byte.
    unsafe {
        asm!("lea {}, [rip + __ehdr_start - {}]", out(reg) page, const PAGE_BYTES, options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: The data page is mapped right before the image (`Vdso::map` of the shim), readable for as long as the program leaves
    // it there. The module writes to it, which atomics allow for.
    unsafe { &*page }
}

/// The time stamp counter, not before what precedes is done.
#[inline(always)]
fn counter() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: Reads a register that ring 3 may read. Not `nomem`: loads of the page stay on their side.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// A system call with two arguments.
#[inline(always)]
fn system_call<T>(number: usize, first: isize, second: *mut T) -> i32 {
    let result: isize;
    // SAFETY: One of the calls above, which write to what they are given only; the kernel checks it.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") first, in("rsi") second,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result as i32
}

fn time_of(clock: i32) -> Option<Stamp> {
    clocks::time(page(), clock, counter)
}

/// `clock_gettime(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_gettime(clock: i32, time: *mut Pair) -> i32 {
    let Some(now) = time_of(clock) else { return system_call(SYS_CLOCK_GETTIME, clock as isize, time) };
    // SAFETY: The program's pointer.
    unsafe { time.write_unaligned(Pair { seconds: now.seconds, fraction: now.nanos }) };
    0
}

/// `clock_getres(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_getres(clock: i32, resolution: *mut Pair) -> i32 {
    let Some(nanos) = clocks::resolution(page(), clock) else { return system_call(SYS_CLOCK_GETRES, clock as isize, resolution) };
    if !resolution.is_null() {
        // SAFETY: The program's pointer.
        unsafe { resolution.write_unaligned(Pair { seconds: 0, fraction: nanos }) };
    }
    0
}

/// gettimeofday(2). The time zone is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_gettimeofday(time: *mut Pair, zone: *mut [i32; 2]) -> i32 {
    if !time.is_null() {
        let now = match time_of(CLOCK_REALTIME) {
            Some(now) => Pair { seconds: now.seconds, fraction: now.nanos },
            None => {
                let mut now = Pair { seconds: 0, fraction: 0 };
                let result = system_call(SYS_CLOCK_GETTIME, CLOCK_REALTIME as isize, &raw mut now);
                if result != 0 {
                    return result;
                }
                now
            }
        };
        // SAFETY: The program's pointer.
        unsafe { time.write_unaligned(Pair { seconds: now.seconds, fraction: now.fraction / 1000 }) };
    }
    if !zone.is_null() {
        // SAFETY: The program's pointer.
        unsafe { zone.write_unaligned([0; 2]) };
    }
    0
}

/// time(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_time(time: *mut u64) -> u64 {
    let seconds = time_of(CLOCK_REALTIME_COARSE).map_or(0, |now| now.seconds);
    if !time.is_null() {
        // SAFETY: The program's pointer.
        unsafe { time.write_unaligned(seconds) };
    }
    seconds
}

/// The segment whose limit is a processor's number, and above it its node's. Linux: `__CPUNODE_SEG`.
const NUMBER_SEGMENT: u32 = 0x7b;
/// The bits of the processor's number in it. Linux: `VDSO_CPUNODE_MASK`.
const NUMBER_BITS: u32 = 12;

/// getcpu(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_getcpu(cpu: *mut u32, node: *mut u32, _cache: usize) -> i32 {
    let limit: u32;
    let is_there: u8;
    // SAFETY: Reads a limit, and says whether there is one.
    unsafe {
        core::arch::asm!(
            "lsl {limit:e}, {segment:e}",
            "setz {is_there}",
            limit = inout(reg) 0u32 => limit,
            segment = in(reg) NUMBER_SEGMENT,
            is_there = out(reg_byte) is_there,
            options(nomem, nostack)
        );
    }
    // A hardware guest has segments of its own, and this one is not among them.
    if is_there == 0 {
        return system_call(SYS_GETCPU, cpu as isize, node);
    }
    for (place, number) in [(cpu, limit & ((1 << NUMBER_BITS) - 1)), (node, limit >> NUMBER_BITS)] {
        if !place.is_null() {
            // SAFETY: The program's pointer.
            unsafe { place.write_unaligned(number) };
        }
    }
    0
}
