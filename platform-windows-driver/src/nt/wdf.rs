//! The framework (KMDF): its binding, its table of functions, and the few of them that a control device needs.
//!
//! What Microsoft's static library does for C drivers is done here: the loader's `WdfVersionBind` gives a table, whose slots are
//! called by number. Version 1.15 (Windows 10) fixes the numbers and structures for ever. Invariant: the table is there from the
//! binding in `entry` until the unload.
//! Sources: Microsoft's Windows-Driver-Frameworks (wdffuncenum.h, wdfdevice.h, wdfio.h, wdfrequest.h).

use super::Status;
use super::raw::Pointer;
use super::string::UnicodeString;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The kernel's driver object; a pointer to it is all that is needed, but for its unload routine.
#[repr(C)]
pub(crate) struct DriverObject {
    before: [Pointer; 13],
    pub(crate) unload: Option<unsafe extern "system" fn(driver: *mut Self)>,
}
const _: () = assert!(core::mem::offset_of!(DriverObject, unload) == 0x68);

/// `WDF_BIND_INFO`.
#[repr(C)]
pub(crate) struct BindInfo {
    pub(crate) size: u32,
    pub(crate) component: *const u16,
    /// Major, minor, build.
    pub(crate) version: [u32; 3],
    pub(crate) functions: u32,
    pub(crate) table: *const AtomicPtr<Slot>,
    pub(crate) module: Pointer,
}
const _: () = assert!(size_of::<BindInfo>() == 0x30);

/// Slots of version 1.15.
pub(crate) const FUNCTIONS: u32 = 444;

/// `WDF_DRIVER_GLOBALS`.
#[repr(C)]
pub(crate) struct Globals {
    driver: Pointer,
    flags: u32,
    tag: u32,
    name: [u8; 32],
    /// Whether the driver object's unload is the framework's, to be called by ours.
    pub(crate) displace_unload: u8,
}
const _: () = assert!(core::mem::offset_of!(Globals, displace_unload) == 0x30);

#[link(name = "WDFLDR.SYS", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn WdfVersionBind(
        driver: *mut DriverObject,
        registry: *const UnicodeString<'_>,
        info: *const BindInfo,
        globals: *const AtomicPtr<Globals>,
    ) -> Status;
    pub(crate) fn WdfVersionUnbind(registry: *const UnicodeString<'_>, info: *const BindInfo, globals: *mut Globals) -> Status;
}

/// A function in the table, of whatever signature.
pub(crate) type Slot = unsafe extern "system" fn();

/// The table, once bound.
pub(crate) static TABLE: AtomicPtr<Slot> = AtomicPtr::new(core::ptr::null_mut());
/// The framework's side of this driver, once bound.
pub(crate) static GLOBALS: AtomicPtr<Globals> = AtomicPtr::new(core::ptr::null_mut());

/// `WDF_DRIVER_CONFIG`.
#[repr(C)]
pub(crate) struct DriverConfig {
    pub(crate) size: u32,
    pub(crate) device_add: Pointer,
    pub(crate) unload: Option<unsafe extern "system" fn(driver: Pointer)>,
    pub(crate) init_flags: u32,
    pub(crate) pool_tag: u32,
}
const _: () = assert!(size_of::<DriverConfig>() == 0x20);
/// `WdfDriverInitNonPnpDriver`.
pub(crate) const NON_PNP: u32 = 1;

/// `WDF_OBJECT_ATTRIBUTES`.
#[repr(C)]
pub(crate) struct Attributes {
    size: u32,
    cleanup: Pointer,
    destroy: Pointer,
    execution_level: u32,
    synchronization: u32,
    parent: Pointer,
    context_bytes: usize,
    context: *const ContextType,
}
const _: () = assert!(size_of::<Attributes>() == 0x38);

impl Attributes {
    /// Callbacks come at `PASSIVE_LEVEL` (`WdfExecutionLevelPassive`), and several at a time (`WdfSynchronizationScopeNone`).
    pub(crate) const fn new(context: *const ContextType) -> Self {
        let (size, null) = (size_of::<Self>() as u32, core::ptr::null_mut());
        let (passive, none) = (2, 4);
        Self {
            size,
            cleanup: null,
            destroy: null,
            execution_level: passive,
            synchronization: none,
            parent: null,
            context_bytes: 0,
            context,
        }
    }
}

/// `WDF_OBJECT_CONTEXT_TYPE_INFO`: memory of ours in each object of a kind.
#[repr(C)]
pub(crate) struct ContextType {
    size: u32,
    name: *const core::ffi::c_char,
    bytes: usize,
    unique: *const Self,
    get_unique: Pointer,
}
const _: () = assert!(size_of::<ContextType>() == 0x28);
// SAFETY: Never written; the pointers are to constants.
unsafe impl Sync for ContextType {}

impl ContextType {
    /// `bytes` in each object, under a name for debuggers; `unique` is the type itself.
    pub(crate) const fn new(name: &'static core::ffi::CStr, bytes: usize, unique: &'static Self) -> Self {
        Self { size: size_of::<Self>() as u32, name: name.as_ptr(), bytes, unique, get_unique: core::ptr::null_mut() }
    }
}

/// `WDF_FILEOBJECT_CONFIG`.
#[repr(C)]
pub(crate) struct FileConfig {
    size: u32,
    create: unsafe extern "system" fn(device: Pointer, request: Pointer, file: Pointer),
    close: unsafe extern "system" fn(file: Pointer),
    cleanup: Option<unsafe extern "system" fn(file: Pointer)>,
    forward: u32,
    class: u32,
}
const _: () = assert!(size_of::<FileConfig>() == 0x28);

impl FileConfig {
    /// Asked at each open (which it completes), at the last handle's close, and when no request is left.
    pub(crate) const fn new(
        create: unsafe extern "system" fn(device: Pointer, request: Pointer, file: Pointer),
        cleanup: unsafe extern "system" fn(file: Pointer),
        close: unsafe extern "system" fn(file: Pointer),
    ) -> Self {
        // WdfUseDefault; WdfFileObjectWdfCanUseFsContext.
        let (default, fs_context) = (2, 2);
        Self { size: size_of::<Self>() as u32, create, close, cleanup: Some(cleanup), forward: default, class: fs_context }
    }
}

/// `WDF_IO_QUEUE_CONFIG`.
#[repr(C)]
pub(crate) struct QueueConfig {
    size: u32,
    dispatch: u32,
    power_managed: u32,
    allow_zero: u8,
    default_queue: u8,
    evt_default: Pointer,
    evt_read: Pointer,
    evt_write: Pointer,
    evt_ioctl: IoctlEvent,
    evt_internal: Pointer,
    evt_stop: Pointer,
    evt_resume: Pointer,
    evt_cancelled: Pointer,
    presented: u32,
    driver: Pointer,
}
const _: () = assert!(size_of::<QueueConfig>() == 0x60);

/// `EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL`.
pub(crate) type IoctlEvent = unsafe extern "system" fn(queue: Pointer, request: Pointer, output: usize, input: usize, code: u32);

impl QueueConfig {
    /// The device's only queue, which gives requests as they come (`WdfIoQueueDispatchParallel`).
    pub(crate) const fn parallel(evt_ioctl: IoctlEvent) -> Self {
        let null = core::ptr::null_mut();
        let (parallel, default) = (2, 2);
        Self {
            size: size_of::<Self>() as u32,
            dispatch: parallel,
            power_managed: default,
            allow_zero: 0,
            default_queue: 1,
            evt_default: null,
            evt_read: null,
            evt_write: null,
            evt_ioctl,
            evt_internal: null,
            evt_stop: null,
            evt_resume: null,
            evt_cancelled: null,
            presented: u32::MAX,
            driver: null,
        }
    }
}

/// `EVT_WDF_REQUEST_CANCEL`.
pub(crate) type CancelEvent = unsafe extern "system" fn(request: Pointer);

/// Declares functions of the table: slot, name, parameters after the globals, result.
macro_rules! slots {
    ($($(#[$meta:meta])* $slot:literal $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        $(#[$meta])*
        ///
        /// # Safety
        /// As Microsoft's reference says of the function: live objects, structures of the right size, the IRQL.
        pub(crate) unsafe fn $name($($arg: $type),*) $(-> $result)? {
            type Function = unsafe extern "system" fn(*mut Globals, $($type),*) $(-> $result)?;
            // SAFETY: The table of version 1.15, whole since the binding, has this slot.
            let slot = unsafe { TABLE.load(Ordering::Relaxed).add($slot).read() };
            // SAFETY: The slot's function has this signature (the table above; Microsoft's headers).
            let function = unsafe { core::mem::transmute::<Slot, Function>(slot) };
            // SAFETY: Contract; the globals are those of the binding.
            unsafe { function(GLOBALS.load(Ordering::Relaxed), $($arg),*) }
        }
    )*};
}

slots! {
    /// `WdfControlDeviceInitAllocate`: null when there is no memory.
    25 control_device_init(driver: Pointer, sddl: *const UnicodeString<'_>) -> Pointer;
    /// `WdfControlFinishInitializing`.
    27 finish_initializing(device: Pointer);
    /// `WdfDeviceInitFree`.
    54 init_free(init: Pointer);
    /// `WdfDeviceInitAssignName`.
    67 init_assign_name(init: Pointer, name: *const UnicodeString<'_>) -> Status;
    /// `WdfDeviceInitSetFileObjectConfig`.
    71 init_set_file_config(init: Pointer, config: *const FileConfig, attributes: *const Attributes);
    /// `WdfDeviceCreate`.
    75 device_create(init: *mut Pointer, attributes: *const Attributes, device: *mut Pointer) -> Status;
    /// `WdfDeviceCreateSymbolicLink`.
    80 create_symbolic_link(device: Pointer, name: *const UnicodeString<'_>) -> Status;
    /// `WdfDriverCreate`.
    116 driver_create(
        driver: *mut DriverObject,
        registry: *const UnicodeString<'_>,
        attributes: *const Attributes,
        config: *const DriverConfig,
        created: *mut Pointer
    ) -> Status;
    /// `WdfIoQueueCreate`.
    152 queue_create(device: Pointer, config: *const QueueConfig, attributes: *const Attributes, queue: *mut Pointer) -> Status;
    /// `WdfObjectGetTypedContextWorker`.
    202 context_of(object: Pointer, kind: *const ContextType) -> Pointer;
    /// `WdfObjectDelete`.
    208 object_delete(object: Pointer);
    /// `WdfRequestMarkCancelableEx`.
    393 mark_cancelable(request: Pointer, cancel: CancelEvent) -> Status;
    /// `WdfRequestUnmarkCancelable`.
    256 unmark_cancelable(request: Pointer) -> Status;
    /// `WdfRequestCompleteWithInformation`.
    265 complete(request: Pointer, status: Status, information: usize);
    /// `WdfRequestRetrieveInputBuffer`.
    269 input_buffer(request: Pointer, least: usize, buffer: *mut Pointer, bytes: *mut usize) -> Status;
    /// `WdfRequestRetrieveOutputBuffer`.
    270 output_buffer(request: Pointer, least: usize, buffer: *mut Pointer, bytes: *mut usize) -> Status;
    /// `WdfRequestGetFileObject`.
    277 file_of(request: Pointer) -> Pointer;
}
