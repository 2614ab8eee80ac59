//! WDM, as far as the double uses it.

use core::ffi::c_void;

/// Whatever is behind a pointer.
pub(crate) type Pointer = *mut c_void;
/// `NTSTATUS`.
pub(crate) type Status = i32;

pub(crate) const SUCCESS: Status = 0;
pub(crate) const PENDING: Status = 0x103;
pub(crate) const INFO_LENGTH_MISMATCH: Status = 0xC000_0004_u32.cast_signed();
pub(crate) const INVALID_DEVICE_REQUEST: Status = 0xC000_0010_u32.cast_signed();
pub(crate) const BUFFER_TOO_SMALL: Status = 0xC000_0023_u32.cast_signed();
pub(crate) const REVISION_MISMATCH: Status = 0xC000_0059_u32.cast_signed();
pub(crate) const INSUFFICIENT_RESOURCES: Status = 0xC000_009A_u32.cast_signed();
pub(crate) const CANCELLED: Status = 0xC000_0120_u32.cast_signed();

/// `UNICODE_STRING`.
#[repr(C)]
pub(crate) struct UnicodeString {
    pub(crate) length: u16,
    pub(crate) maximum: u16,
    pub(crate) units: *const u16,
}

/// A dispatch routine.
pub(crate) type Dispatch = unsafe extern "system" fn(*mut DeviceObject, *mut Irp) -> Status;

/// `DRIVER_OBJECT`.
#[repr(C)]
pub(crate) struct DriverObject {
    before: [Pointer; 13],
    pub(crate) unload: Option<unsafe extern "system" fn(*mut Self)>,
    pub(crate) major: [Option<Dispatch>; 28],
}
const _: () = assert!(size_of::<DriverObject>() == 0x150);

/// The head of `DEVICE_OBJECT`.
#[repr(C)]
pub(crate) struct DeviceObject {
    before: [Pointer; 6],
    pub(crate) flags: u32,
}
const _: () = assert!(core::mem::offset_of!(DeviceObject, flags) == 0x30);
pub(crate) const BUFFERED_IO: u32 = 4;
pub(crate) const INITIALIZING: u32 = 0x80;

/// The head of `FILE_OBJECT`.
#[repr(C)]
pub(crate) struct FileObject {
    before: [Pointer; 3],
    /// The driver's.
    pub(crate) context: Pointer,
}
const _: () = assert!(core::mem::offset_of!(FileObject, context) == 0x18);

/// `IRP`.
#[repr(C)]
pub(crate) struct Irp {
    before: [Pointer; 3],
    pub(crate) buffer: Pointer,
    thread_list: [Pointer; 2],
    pub(crate) status: Status,
    pub(crate) information: usize,
    modes: [u8; 4],
    pub(crate) cancel: u8,
    pub(crate) cancel_irql: u8,
    rest: [u8; 2],
    user: [Pointer; 4],
    pub(crate) cancel_routine: Option<unsafe extern "system" fn(*mut DeviceObject, *mut Self)>,
    user_buffer: Pointer,
    /// The driver's while it has the packet; here the framework's.
    pub(crate) context: [Pointer; 4],
    tail: [Pointer; 4],
    pub(crate) stack: *mut StackLocation,
}
const _: () = assert!(core::mem::offset_of!(Irp, status) == 0x30 && core::mem::offset_of!(Irp, cancel) == 0x44);
const _: () = assert!(core::mem::offset_of!(Irp, cancel_routine) == 0x68 && core::mem::offset_of!(Irp, context) == 0x78);
const _: () = assert!(core::mem::offset_of!(Irp, stack) == 0xb8);

/// `IO_STACK_LOCATION` of a device control.
#[repr(C)]
pub(crate) struct StackLocation {
    pub(crate) major: u8,
    minor: u8,
    flags: u8,
    pub(crate) control: u8,
    pub(crate) output: u64,
    pub(crate) input: u64,
    pub(crate) code: u64,
    type3: Pointer,
    device: Pointer,
    pub(crate) file: *mut FileObject,
    completion: [Pointer; 2],
}
const _: () = assert!(size_of::<StackLocation>() == 0x48);

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn ExAllocatePool2(flags: u64, bytes: usize, tag: u32) -> Pointer;
    pub(crate) fn ExFreePoolWithTag(pool: Pointer, tag: u32);
    pub(crate) safe fn KeBugCheckEx(code: u32, one: usize, two: usize, three: usize, four: usize) -> !;
    pub(crate) fn IoCreateDevice(
        driver: *mut DriverObject,
        extension: u32,
        name: *const UnicodeString,
        kind: u32,
        characteristics: u32,
        exclusive: u8,
        device: *mut *mut DeviceObject,
    ) -> Status;
    pub(crate) fn IoDeleteDevice(device: *mut DeviceObject);
    pub(crate) fn IoCreateSymbolicLink(link: *const UnicodeString, device: *const UnicodeString) -> Status;
    pub(crate) fn IoDeleteSymbolicLink(link: *const UnicodeString) -> Status;
    pub(crate) fn IofCompleteRequest(irp: *mut Irp, boost: i8);
    pub(crate) fn IoAcquireCancelSpinLock(irql: *mut u8);
    pub(crate) fn IoReleaseCancelSpinLock(irql: u8);
}

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    // What the compiler calls; nobody else does.
    #[expect(dead_code, reason = "the compiler's")]
    fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void;
    #[expect(dead_code, reason = "the compiler's")]
    fn memset(to: *mut c_void, byte: i32, bytes: usize) -> *mut c_void;
    #[expect(dead_code, reason = "the compiler's")]
    fn memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void;
}
