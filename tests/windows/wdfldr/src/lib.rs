//! A double of Windows's driver framework (WDFLDR.SYS) for tests under Wine: the few functions that litebox.sys uses, over WDM.
//!
//! Strict: sizes of structures are checked, and a slot that is not here stops the driver with its number. Not Windows's framework:
//! that it accepts a call proves nothing about the real one but the call's shape. One driver with one device at a time.
//! Handles of the driver are the addresses of WDM's objects: a request is its IRP, a file object its `FILE_OBJECT`.
#![no_std]

mod file;
mod request;
mod table;
mod wdm;

use core::cell::UnsafeCell;
use core::ptr::null_mut;
use wdm::{DeviceObject, DriverObject, Pointer, Status, UnicodeString};

/// What is known of the one driver.
struct Client {
    driver: *mut DriverObject,
    /// `WDF_DRIVER_GLOBALS`, as far as a driver may look: `DisplaceDriverUnload` at 0x30.
    globals: [u8; 0x38],
    unload: Option<unsafe extern "system" fn(Pointer)>,
    device: *mut DeviceObject,
    ready: bool,
    files: Option<FileConfig>,
    ioctl: Option<unsafe extern "system" fn(Pointer, Pointer, usize, usize, u32)>,
    link: Link,
    name: Link,
}

/// A name that is kept.
struct Link {
    units: [u16; 64],
    length: u16,
}

impl Link {
    const EMPTY: Self = Self { units: [0; 64], length: 0 };

    /// Keeps what of `name` there is room for.
    ///
    /// # Safety
    /// `name` is a live counted string.
    unsafe fn keep(&mut self, name: *const UnicodeString) {
        // SAFETY: Contract.
        let UnicodeString { length, units, .. } = unsafe { name.read() };
        let count = usize::from(length / 2).min(self.units.len());
        // SAFETY: Contract: the string has these units.
        let from = unsafe { core::slice::from_raw_parts(units, count) };
        for (slot, unit) in self.units.iter_mut().zip(from) {
            *slot = *unit;
        }
        self.length = (count * 2) as u16;
    }

    fn string(&self) -> UnicodeString {
        UnicodeString { length: self.length, maximum: self.length, units: self.units.as_ptr() }
    }
}

/// `WDF_FILEOBJECT_CONFIG`'s functions and its context's size.
#[derive(Clone, Copy)]
struct FileConfig {
    create: unsafe extern "system" fn(Pointer, Pointer, Pointer),
    close: unsafe extern "system" fn(Pointer),
    cleanup: unsafe extern "system" fn(Pointer),
    context: usize,
}

/// A variable that the I/O manager's order protects: load, requests from Wine's one thread of dispatching, unload.
struct Only(UnsafeCell<Client>);
// SAFETY: See above: what is written at load is read afterwards.
unsafe impl Sync for Only {}

static CLIENT: Only = Only(UnsafeCell::new(Client {
    driver: null_mut(),
    globals: [0; 0x38],
    unload: None,
    device: null_mut(),
    ready: false,
    files: None,
    ioctl: None,
    link: Link::EMPTY,
    name: Link::EMPTY,
}));

/// The driver.
fn client() -> &'static mut Client {
    // SAFETY: Nobody else has it: see `Only`, and no function here keeps it across a call of the driver's.
    unsafe { &mut *CLIENT.0.get() }
}

/// `WDF_BIND_INFO`.
#[repr(C)]
struct BindInfo {
    size: u32,
    component: *const u16,
    version: [u32; 3],
    functions: u32,
    table: *mut *const table::Slot,
    module: Pointer,
}

/// # Safety
/// Called by the driver at its load.
#[unsafe(no_mangle)]
unsafe extern "system" fn WdfVersionBind(
    driver: *mut DriverObject,
    _registry: *const UnicodeString,
    info: *mut BindInfo,
    globals: *mut *mut u8,
) -> Status {
    // SAFETY: Contract.
    let info = unsafe { &*info };
    let [major, minor, _build] = info.version;
    // As the framework: known sizes of the table only.
    if info.size != 0x30 || (major, minor) != (1, 15) || info.functions as usize != table::SLOTS || info.table.is_null() {
        return wdm::REVISION_MISMATCH;
    }
    let client = client();
    client.driver = driver;
    // SAFETY: The driver's variables.
    unsafe { info.table.write(table::whole()) };
    // SAFETY: As above.
    unsafe { globals.write(client.globals.as_mut_ptr()) };
    wdm::SUCCESS
}

/// # Safety
/// Called by the driver at its end.
#[unsafe(no_mangle)]
unsafe extern "system" fn WdfVersionUnbind(_registry: *const UnicodeString, _info: *const BindInfo, _globals: *mut u8) -> Status {
    wdm::SUCCESS
}

/// The image's entry point.
///
/// # Safety
/// Called by the kernel, with null when the image is loaded for its exports.
#[unsafe(no_mangle)]
unsafe extern "system" fn DriverEntry(driver: *mut DriverObject, _registry: *const UnicodeString) -> Status {
    unsafe extern "system" fn nothing(_driver: *mut DriverObject) {}
    if !driver.is_null() {
        // SAFETY: The kernel's object, at load.
        unsafe { (*driver).unload = Some(nothing) };
    }
    wdm::SUCCESS
}

/// # Safety
/// Called by the driver's unload routine, or by the kernel for a driver that has none.
unsafe extern "system" fn unload(driver: *mut DriverObject) {
    let client = client();
    if let Some(before) = client.unload {
        // SAFETY: The driver's own function, before its objects go.
        unsafe { before(driver.cast()) };
    }
    if client.link.length > 0 {
        let link = client.link.string();
        // SAFETY: A string that lives through the call.
        unsafe { wdm::IoDeleteSymbolicLink(&raw const link) };
    }
    if !client.device.is_null() {
        // SAFETY: Made by `device_create`; no file of it is open.
        unsafe { wdm::IoDeleteDevice(client.device) };
    }
    *client = Client {
        driver: null_mut(),
        globals: [0; 0x38],
        unload: None,
        device: null_mut(),
        ready: false,
        files: None,
        ioctl: None,
        link: Link::EMPTY,
        name: Link::EMPTY,
    };
}

/// Says something to whoever reads Wine's log, and ends the driver's process.
fn give_up(code: u32, what: usize) -> ! {
    wdm::KeBugCheckEx(code, what, 0, 0, 0)
}

#[panic_handler]
fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    give_up(0xC0DE_BDFF, info.location().map_or(0, |place| place.line() as usize))
}

/// The MSVC ABI wants this symbol wherever floating point is used.
#[unsafe(no_mangle)]
#[used]
static _fltused: i32 = 0x9875;
