//! The functions that the driver imports, as Windows declares them.
//!
//! What can be called with any arguments is declared safe. The names of the parameters are those of Microsoft's reference.

use super::Status;
use super::string::UnicodeString;
use core::ffi::c_void;

/// Whatever Windows has behind a pointer.
pub(crate) type Pointer = *mut c_void;

/// A function that a system thread starts with.
pub(crate) type StartRoutine = unsafe extern "system" fn(context: Pointer);

/// `OBJECT_ATTRIBUTES`.
#[repr(C)]
pub(crate) struct ObjectAttributes<'a> {
    pub(crate) length: u32,
    pub(crate) root: Pointer,
    pub(crate) name: *const UnicodeString<'a>,
    pub(crate) attributes: u32,
    pub(crate) security_descriptor: Pointer,
    pub(crate) security_quality: Pointer,
}
const _: () = assert!(size_of::<ObjectAttributes<'_>>() == 0x30);

/// `OBJ_KERNEL_HANDLE`: no process's user code reaches the handle.
pub(crate) const KERNEL_HANDLE: u32 = 0x200;

/// `IO_STATUS_BLOCK`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct IoStatus {
    pub(crate) status: Status,
    pub(crate) information: usize,
}
const _: () = assert!(size_of::<IoStatus>() == 16);

/// `CLIENT_ID`.
#[repr(C)]
pub(crate) struct ClientId {
    pub(crate) process: usize,
    pub(crate) thread: usize,
}

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    // Memory. IRQL: DISPATCH_LEVEL or below for what is not paged.
    pub(super) fn ExAllocatePool2(flags: u64, bytes: usize, tag: u32) -> Pointer;
    pub(super) fn ExFreePoolWithTag(pool: Pointer, tag: u32);

    // The end of everything. Any IRQL.
    pub(super) safe fn KeBugCheckEx(code: u32, one: usize, two: usize, three: usize, four: usize) -> !;
    pub(super) fn MmGetSystemRoutineAddress(name: *const UnicodeString<'_>) -> Pointer;

    // Events and spin locks. IRQL: DISPATCH_LEVEL or below; waiting with a timeout needs less.
    pub(super) fn KeInitializeEvent(event: Pointer, kind: u32, signalled: u8);
    pub(super) fn KeSetEvent(event: Pointer, increment: i32, wait: u8) -> i32;
    pub(super) fn KeWaitForSingleObject(object: Pointer, reason: u32, mode: u32, alertable: u8, timeout: *const i64) -> Status;
    pub(super) fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8;
    pub(super) fn KeReleaseSpinLock(lock: *mut usize, irql: u8);

    // Threads and objects. IRQL: PASSIVE_LEVEL.
    pub(super) fn PsCreateSystemThread(
        handle: *mut Pointer,
        access: u32,
        attributes: *const ObjectAttributes<'_>,
        process: Pointer,
        id: Pointer,
        start: StartRoutine,
        context: Pointer,
    ) -> Status;
    pub(super) safe fn PsTerminateSystemThread(status: Status) -> Status;
    pub(super) safe fn PsGetCurrentThreadId() -> usize;
    pub(super) fn ObReferenceObjectByHandle(
        handle: Pointer,
        access: u32,
        kind: Pointer,
        mode: u32,
        object: *mut Pointer,
        information: Pointer,
    ) -> Status;
    pub(super) fn ObfDereferenceObject(object: Pointer) -> isize;
    pub(super) fn ZwClose(handle: Pointer) -> Status;
    pub(super) fn ZwOpenProcess(
        handle: *mut Pointer,
        access: u32,
        attributes: *const ObjectAttributes<'_>,
        id: *const ClientId,
    ) -> Status;
    pub(super) fn ZwDuplicateObject(
        from: Pointer,
        handle: Pointer,
        to: Pointer,
        duplicate: *mut Pointer,
        access: u32,
        attributes: u32,
        options: u32,
    ) -> Status;
    pub(super) fn ZwQueryObject(handle: Pointer, class: u32, information: Pointer, bytes: u32, written: *mut u32) -> Status;
    pub(super) safe fn PsGetCurrentProcessId() -> usize;

    // Files. IRQL: PASSIVE_LEVEL.
    pub(super) fn ZwCreateFile(
        handle: *mut Pointer,
        access: u32,
        attributes: *const ObjectAttributes<'_>,
        status: *mut IoStatus,
        allocation: *const i64,
        file_attributes: u32,
        share: u32,
        disposition: u32,
        options: u32,
        extended: Pointer,
        extended_bytes: u32,
    ) -> Status;
    pub(super) fn ZwReadFile(
        handle: Pointer,
        event: Pointer,
        apc: Pointer,
        context: Pointer,
        status: *mut IoStatus,
        buffer: *mut u8,
        bytes: u32,
        offset: *const i64,
        key: *const u32,
    ) -> Status;
    pub(super) fn ZwWriteFile(
        handle: Pointer,
        event: Pointer,
        apc: Pointer,
        context: Pointer,
        status: *mut IoStatus,
        buffer: *const u8,
        bytes: u32,
        offset: *const i64,
        key: *const u32,
    ) -> Status;
    pub(super) fn ZwWaitForSingleObject(handle: Pointer, alertable: u8, timeout: *const i64) -> Status;
    pub(super) fn ZwFlushBuffersFile(handle: Pointer, status: *mut IoStatus) -> Status;
    pub(super) fn ZwQueryInformationFile(
        handle: Pointer,
        status: *mut IoStatus,
        information: Pointer,
        bytes: u32,
        class: u32,
    ) -> Status;
    pub(super) fn ZwSetInformationFile(
        handle: Pointer,
        status: *mut IoStatus,
        information: *const c_void,
        bytes: u32,
        class: u32,
    ) -> Status;
    pub(super) fn ZwQueryVolumeInformationFile(
        handle: Pointer,
        status: *mut IoStatus,
        information: Pointer,
        bytes: u32,
        class: u32,
    ) -> Status;
    pub(super) fn ZwQueryDirectoryFile(
        handle: Pointer,
        event: Pointer,
        apc: Pointer,
        context: Pointer,
        status: *mut IoStatus,
        information: Pointer,
        bytes: u32,
        class: u32,
        single: u8,
        name: *const UnicodeString<'_>,
        restart: u8,
    ) -> Status;

    // Processors. Any IRQL.
    pub(super) safe fn KeQueryActiveProcessors() -> usize;
}

#[link(name = "HAL.dll", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(super) fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64;
}

#[link(name = "cng.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(super) fn BCryptGenRandom(algorithm: Pointer, buffer: *mut u8, bytes: u32, flags: u32) -> Status;
}

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    pub(super) fn DbgPrint(format: *const core::ffi::c_char, ...) -> u32;

    // What the compiler calls for moving and comparing memory; nobody else does.
    #[expect(dead_code, reason = "the compiler's")]
    fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void;
    #[expect(dead_code, reason = "the compiler's")]
    fn memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void;
    #[expect(dead_code, reason = "the compiler's")]
    fn memset(to: *mut c_void, byte: i32, bytes: usize) -> *mut c_void;
    #[expect(dead_code, reason = "the compiler's")]
    fn memcmp(one: *const c_void, other: *const c_void, bytes: usize) -> i32;

    /// Called by functions with a frame above a page: three of the shim's, which an engine brings in.
    #[cfg(feature = "wine-double")]
    fn __chkstk();
}
