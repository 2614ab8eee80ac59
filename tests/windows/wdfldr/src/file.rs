//! The driver, its device and its file objects.

use crate::wdm::{self, DeviceObject, DriverObject, FileObject, Irp, Pointer, Status, UnicodeString};
use crate::{FileConfig, client, request, unload};
use core::ptr::null_mut;

const TAG: u32 = u32::from_le_bytes(*b"Wdbl");
/// `POOL_FLAG_NON_PAGED`; zeroed.
const NON_PAGED: u64 = 0x40;

/// `WDF_DRIVER_CONFIG`.
#[repr(C)]
pub(crate) struct DriverConfig {
    size: u32,
    device_add: Pointer,
    unload: Option<unsafe extern "system" fn(Pointer)>,
    init_flags: u32,
    pool_tag: u32,
}

pub(crate) unsafe extern "system" fn driver_create(
    _globals: Pointer,
    driver: *mut DriverObject,
    _registry: *const UnicodeString,
    _attributes: Pointer,
    config: *const DriverConfig,
    created: *mut Pointer,
) -> Status {
    // SAFETY: The driver's structure.
    let config = unsafe { &*config };
    if config.size as usize != size_of::<DriverConfig>() {
        return wdm::INFO_LENGTH_MISMATCH;
    }
    let client = client();
    client.unload = config.unload;
    // DisplaceDriverUnload: the driver's own routine is to call ours.
    if let Some(displace) = client.globals.get_mut(0x30) {
        *displace = 1;
    }
    // SAFETY: The kernel's object, at load.
    let object = unsafe { &mut *driver };
    object.unload = Some(unload);
    // Create, close, device control, cleanup.
    for major in [0, 2, 14, 18] {
        if let Some(slot) = object.major.get_mut(major) {
            *slot = Some(request::dispatch);
        }
    }
    // SAFETY: The driver's variable.
    unsafe { created.write(driver.cast()) };
    wdm::SUCCESS
}

pub(crate) unsafe extern "system" fn init_allocate(_globals: Pointer, _driver: Pointer, _sddl: *const UnicodeString) -> Pointer {
    // There is one device, so its initialisation is the client.
    core::ptr::from_mut(client()).cast()
}

pub(crate) unsafe extern "system" fn init_free(_globals: Pointer, _init: Pointer) {}

pub(crate) unsafe extern "system" fn init_assign_name(_globals: Pointer, _init: Pointer, name: *const UnicodeString) -> Status {
    // SAFETY: The driver's string.
    unsafe { client().name.keep(name) };
    wdm::SUCCESS
}

/// `WDF_FILEOBJECT_CONFIG`.
#[repr(C)]
pub(crate) struct RawFileConfig {
    size: u32,
    create: unsafe extern "system" fn(Pointer, Pointer, Pointer),
    close: unsafe extern "system" fn(Pointer),
    cleanup: unsafe extern "system" fn(Pointer),
    forward: u32,
    class: u32,
}

/// `WDF_OBJECT_ATTRIBUTES` and its type's information, as far as the context goes.
#[repr(C)]
pub(crate) struct Attributes {
    size: u32,
    callbacks: [Pointer; 2],
    levels: [u32; 2],
    parent: Pointer,
    context_override: usize,
    context: *const ContextType,
}

/// `WDF_OBJECT_CONTEXT_TYPE_INFO`.
#[repr(C)]
pub(crate) struct ContextType {
    size: u32,
    name: Pointer,
    bytes: usize,
}

pub(crate) unsafe extern "system" fn init_set_file_config(
    _globals: Pointer,
    _init: Pointer,
    config: *const RawFileConfig,
    attributes: *const Attributes,
) {
    // SAFETY: The driver's structure.
    let config = unsafe { &*config };
    // SAFETY: As above.
    let attributes = unsafe { &*attributes };
    if config.size as usize != size_of::<RawFileConfig>() || attributes.size != 0x38 {
        crate::give_up(0xC0DE_BD71, config.size as usize);
    }
    // SAFETY: As above.
    let context = unsafe { (*attributes.context).bytes };
    let RawFileConfig { create, close, cleanup, .. } = *config;
    client().files = Some(FileConfig { create, close, cleanup, context });
}

pub(crate) unsafe extern "system" fn device_create(
    _globals: Pointer,
    init: *mut Pointer,
    _attributes: Pointer,
    device: *mut Pointer,
) -> Status {
    let client = client();
    let name = client.name.string();
    let mut made: *mut DeviceObject = null_mut();
    /// `FILE_DEVICE_UNKNOWN`, `FILE_DEVICE_SECURE_OPEN`.
    const KIND: (u32, u32) = (0x22, 0x100);
    // SAFETY: The kernel's driver, a string that lives through the call, our variable.
    let status = unsafe { wdm::IoCreateDevice(client.driver, 0, &raw const name, KIND.0, KIND.1, 0, &raw mut made) };
    if status < 0 {
        return status;
    }
    // SAFETY: Just made.
    unsafe { (*made).flags |= wdm::BUFFERED_IO };
    client.device = made;
    // SAFETY: The driver's variable.
    unsafe { init.write(null_mut()) };
    // SAFETY: As above.
    unsafe { device.write(made.cast()) };
    wdm::SUCCESS
}

pub(crate) unsafe extern "system" fn create_symbolic_link(
    _globals: Pointer,
    _device: Pointer,
    link: *const UnicodeString,
) -> Status {
    let client = client();
    // SAFETY: The driver's string.
    unsafe { client.link.keep(link) };
    let (link, name) = (client.link.string(), client.name.string());
    // SAFETY: Strings that live through the call.
    unsafe { wdm::IoCreateSymbolicLink(&raw const link, &raw const name) }
}

pub(crate) unsafe extern "system" fn finish_initializing(_globals: Pointer, _device: Pointer) {
    let client = client();
    // SAFETY: Made by `device_create`.
    unsafe { (*client.device).flags &= !wdm::INITIALIZING };
    client.ready = true;
}

pub(crate) unsafe extern "system" fn object_delete(_globals: Pointer, device: *mut DeviceObject) {
    client().device = null_mut();
    // SAFETY: Made by `device_create`, and no file of it is open.
    unsafe { wdm::IoDeleteDevice(device) };
}

pub(crate) unsafe extern "system" fn context_of(_globals: Pointer, file: *mut FileObject, _kind: Pointer) -> Pointer {
    // SAFETY: A file object of the device's.
    unsafe { (*file).context }
}

/// Opens, cleans up or closes: what the driver wants to know of a file object.
///
/// # Safety
/// Called for a packet of that kind, which has not been completed.
pub(crate) unsafe fn on_file(irp: *mut Irp, major: u8, file: *mut FileObject) -> Status {
    let Some(files) = client().files else {
        return request::done(irp, wdm::INVALID_DEVICE_REQUEST, 0);
    };
    let device = client().device.cast();
    match major {
        0 => {
            // SAFETY: A size of some bytes.
            let context = unsafe { wdm::ExAllocatePool2(NON_PAGED, files.context.max(8), TAG) };
            if context.is_null() {
                return request::done(irp, wdm::INSUFFICIENT_RESOURCES, 0);
            }
            // SAFETY: A new file object of the device's; the field is a driver's.
            unsafe { (*file).context = context };
            request::pend(irp);
            // SAFETY: The driver's function, which completes the request.
            unsafe { (files.create)(device, irp.cast(), file.cast()) };
            wdm::PENDING
        }
        18 => request::done(irp, wdm::SUCCESS, 0),
        _ => {
            // Wine has no packet for the last handle's close, only this one for the file's end.
            // SAFETY: The driver's function.
            unsafe { (files.cleanup)(file.cast()) };
            // SAFETY: The driver's function.
            unsafe { (files.close)(file.cast()) };
            // SAFETY: A file object of the device's, for the last time.
            let context = unsafe { core::mem::replace(&mut (*file).context, null_mut()) };
            // SAFETY: From `ExAllocatePool2` above.
            unsafe { wdm::ExFreePoolWithTag(context, TAG) };
            request::done(irp, wdm::SUCCESS, 0)
        }
    }
}
