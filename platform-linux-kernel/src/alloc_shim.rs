// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The global allocator of `alloc`, over the kernel's.
//!
//! Owns: the symbols that rustc's `alloc` calls. Invariants: small fixed objects never fail (the shim and core may use them
//! infallibly), everything larger can fail, and the caller must use the `try_` forms. All of it is charged to the memory
//! cgroup of the carrier that asked. Hostile input: sizes; hence the border between the two. Context: may sleep.

use crate::sys;
use core::ptr;

/// Requests up to this size are served without fail. The kernel itself promises this for at most two pages (order 1).
const NEVER_FAIL: usize = 4096;

/// Allocates or resizes; `old` is null or a block of this allocator.
///
/// # Safety
/// `old` is null, or came from this function and is not used any more after it returns non-null.
unsafe fn resize(old: *mut u8, size: usize, align: usize) -> *mut u8 {
    if size <= NEVER_FAIL {
        // SAFETY: Contract: `old` is null or a block of the slab allocator or vmalloc, which kvrealloc accepts both
        // (mm/slub.c, kvrealloc_node_align_noprof). NUMA_NO_NODE (-1) is a valid node argument.
        unsafe { sys::kvrealloc_node_align(old.cast(), size, align, sys::GFP_NOFAIL_ACCOUNT, -1).cast() }
    } else {
        // SAFETY: As above; without __GFP_NOFAIL null is a possible answer, and `old` is then still valid.
        unsafe { sys::kvrealloc_node_align(old.cast(), size, align, sys::GFP_KERNEL_ACCOUNT, -1).cast() }
    }
}

#[no_mangle]
static __rust_no_alloc_shim_is_unstable: u8 = 0;
#[no_mangle]
static __rust_alloc_error_handler_should_panic: u8 = 1;

#[no_mangle]
fn __rust_alloc(size: usize, align: usize) -> *mut u8 {
    if size <= NEVER_FAIL && align <= sys::ARCH_KMALLOC_MINALIGN {
        // The same block as below, without the questions that only a resized one asks.
        // SAFETY: Task context, which may sleep.
        return unsafe { sys::__kmalloc_noprof(size, sys::GFP_NOFAIL_ACCOUNT).cast() };
    }
    // SAFETY: A null block is allowed.
    unsafe { resize(ptr::null_mut(), size, align) }
}

#[no_mangle]
fn __rust_alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    let block = __rust_alloc(size, align);
    if !block.is_null() {
        // SAFETY: `block` was just allocated with `size` bytes and nobody else knows of it.
        unsafe { ptr::write_bytes(block, 0, size) };
    }
    block
}

/// # Safety
/// `block` came from this allocator and is not used any more.
#[no_mangle]
unsafe fn __rust_dealloc(block: *mut u8, _size: usize, _align: usize) {
    // SAFETY: Contract: a block of kvrealloc, which kvfree takes back.
    unsafe { sys::kvfree(block.cast()) }
}

/// # Safety
/// `block` came from this allocator with `_old` bytes; it is not used any more if the answer is not null.
#[no_mangle]
unsafe fn __rust_realloc(block: *mut u8, _old: usize, align: usize, size: usize) -> *mut u8 {
    // SAFETY: Contract.
    unsafe { resize(block, size, align) }
}

/// Reached only by an infallible allocation above `NEVER_FAIL`, which is a bug of its caller: the lints forbid those that a guest
/// can size.
#[no_mangle]
fn __rust_alloc_error_handler(size: usize, _align: usize) -> ! {
    panic!("litebox: infallible allocation of {size} bytes failed")
}
