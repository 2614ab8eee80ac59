//! Benchmark group `trap`: what a system call, a fault and a signal cost. One line for each: NAME VALUE UNIT, smaller is better.
//!
//! Each figure is the least of several batches, in ticks of the time-stamp counter per operation.

use std::arch::x86_64::_rdtsc;
use std::ffi::{c_int, c_long, c_void};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::time::Instant;

/// Batches of which the fastest counts.
const BATCHES: usize = 7;
const PAGE: usize = 4096;

// From Linux's headers for x86-64.
const SYS_GETPID: c_long = 39;
const PROT_READ: c_int = 1;
const PROT_READ_WRITE: c_int = 3;
const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;
const SIGUSR1: c_int = 10;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn mmap(at: *mut c_void, length: usize, rights: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(at: *mut c_void, length: usize) -> c_int;
    fn mprotect(at: *mut c_void, length: usize, rights: c_int) -> c_int;
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn raise(number: c_int) -> c_int;
}

extern "C" fn ignore(_: c_int) {}

/// Fresh private memory.
fn map(length: usize) -> *mut u8 {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let at = unsafe { mmap(std::ptr::null_mut(), length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0) };
    assert!(at as isize != -1, "mmap failed");
    at.cast()
}

/// Gives memory of [`map`] back.
fn unmap(at: *mut u8, length: usize) {
    // SAFETY: `at` and `length` are a mapping of `map`'s, and nothing refers to it any more.
    assert_eq!(unsafe { munmap(at.cast(), length) }, 0);
}

/// Writes to each page of a mapping.
fn touch(at: *mut u8, length: usize) {
    for offset in (0..length).step_by(PAGE) {
        // SAFETY: `offset` is below the mapping's length.
        unsafe { at.add(offset).write_volatile(1) };
    }
}

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux lets user space read it.
    unsafe { _rdtsc() }
}

/// Measures `operation` and prints its line.
fn measure(name: &str, times: u32, mut operation: impl FnMut()) {
    let batch = |operation: &mut dyn FnMut()| {
        let begun = ticks();
        for _ in 0..times {
            operation();
        }
        ticks() - begun
    };
    let least = (0..BATCHES).map(|_| batch(&mut operation)).min().unwrap_or(0);
    println!("{name} {:.1} ticks", least as f64 / f64::from(times));
}

fn main() {
    // SAFETY: getpid takes no argument and cannot fail.
    measure("getpid", 20_000, || assert!(unsafe { syscall(SYS_GETPID) } > 0));
    measure("clock_gettime", 20_000, || drop(std::hint::black_box(Instant::now())));

    let mut byte = [0];
    let mut zero = File::open("/dev/zero").expect("/dev/zero");
    measure("read-1-byte", 10_000, || zero.read_exact(&mut byte).expect("read"));
    let mut null = OpenOptions::new().write(true).open("/dev/null").expect("/dev/null");
    measure("write-1-byte", 10_000, || null.write_all(&[0]).expect("write"));

    measure("mmap-16-touches-munmap", 500, || {
        let at = map(16 * PAGE);
        touch(at, 16 * PAGE);
        unmap(at, 16 * PAGE);
    });
    measure("demand-zero-16MiB", 1, || {
        let at = map(16 << 20);
        touch(at, 16 << 20);
        unmap(at, 16 << 20);
    });

    let page = map(PAGE);
    touch(page, PAGE);
    let mut writable = true;
    measure("mprotect-flip", 4_000, || {
        writable = !writable;
        // SAFETY: the page is `map`'s, and nothing writes to it meanwhile.
        let result = unsafe { mprotect(page.cast(), PAGE, if writable { PROT_READ_WRITE } else { PROT_READ }) };
        assert_eq!(result, 0);
    });

    // SAFETY: the handler does nothing.
    unsafe { signal(SIGUSR1, ignore) };
    // SAFETY: the handler is in place.
    measure("signal-to-self", 4_000, || assert_eq!(unsafe { raise(SIGUSR1) }, 0));
}
