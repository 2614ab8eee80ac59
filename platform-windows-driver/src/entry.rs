//! The driver's start and end: binding to the framework, the control device, unloading.
//!
//! `FxDriverEntry` is what Microsoft's static library would be for a C driver. Invariant: whatever fails on the way undoes what was
//! done before it. IRQL: `PASSIVE_LEVEL`.

use crate::device;
use crate::host::Caller;
use crate::nt::spin::SpinLock;
use crate::nt::string::{UnicodeString, unicode, wide};
use crate::nt::wdf::{self, Attributes, BindInfo, DriverConfig, DriverObject, FUNCTIONS, GLOBALS, Globals, TABLE};
use crate::nt::{Status, memory, thread, time};
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

/// Who may open the device: the system and administrators. Whoever starts guests gives them a kernel's attention.
const OWNERS: &str = "D:P(A;;GA;;;SY)(A;;GA;;;BA)";

static COMPONENT: [u16; 12] = wide("KmdfLibrary\0");

/// What the loader is asked for, which it may write to.
struct Bind(core::cell::UnsafeCell<BindInfo>);
// SAFETY: Given to the loader at load and unload only, which do not overlap.
unsafe impl Sync for Bind {}
static BIND: Bind = Bind(core::cell::UnsafeCell::new(BindInfo {
    size: size_of::<BindInfo>() as u32,
    component: COMPONENT.as_ptr(),
    version: [1, 15, 0],
    functions: FUNCTIONS,
    table: &raw const TABLE,
    module: null_mut(),
}));

/// The unload routine that the framework has set, where it wants ours to call it.
static FRAMEWORK_UNLOAD: AtomicPtr<()> = AtomicPtr::new(null_mut());
/// The thread that calls timers, from load to unload.
static CALLER: SpinLock<Option<Caller>> = SpinLock::new(None);

/// The image's entry point.
///
/// # Safety
/// Called by the kernel, once.
#[unsafe(no_mangle)]
unsafe extern "system" fn FxDriverEntry(driver: *mut DriverObject, registry: *const UnicodeString<'_>) -> Status {
    // SAFETY: The kernel's driver object and registry path; our own structures, which live as long as the image.
    let bound = unsafe { wdf::WdfVersionBind(driver, registry, BIND.0.get(), &raw const GLOBALS) };
    if !bound.is_success() {
        return bound;
    }
    // SAFETY: As the kernel gave them.
    let result = unsafe { start(driver, registry) };
    if let Err(status) = result {
        stop();
        // SAFETY: Bound above, and no object of ours is left.
        unsafe { wdf::WdfVersionUnbind(registry, BIND.0.get(), GLOBALS.load(Ordering::Relaxed)) };
        return status;
    }
    let globals: *const Globals = GLOBALS.load(Ordering::Relaxed);
    // SAFETY: The framework's structure, since the binding.
    if unsafe { (*globals).displace_unload } != 0 {
        // SAFETY: The kernel's object, which nobody else uses at load.
        let framework = unsafe { (*driver).unload.replace(on_unload) };
        FRAMEWORK_UNLOAD.store(framework.map_or(null_mut(), |unload| unload as *mut ()), Ordering::Relaxed);
    }
    memory::print(c"litebox: ready\n");
    Status::SUCCESS
}

/// Makes the framework's driver and the control device.
///
/// # Safety
/// The kernel's driver object and registry path.
unsafe fn start(driver: *mut DriverObject, registry: *const UnicodeString<'_>) -> Result<(), Status> {
    time::find_functions();
    let config = DriverConfig {
        size: size_of::<DriverConfig>() as u32,
        device_add: null_mut(),
        unload: Some(before_unload),
        init_flags: wdf::NON_PNP,
        pool_tag: 0,
    };
    let mut created = null_mut();
    // SAFETY: Contract; structures of the right size.
    unsafe { wdf::driver_create(driver, registry, null(), &raw const config, &raw mut created) }.check()?;
    let caller = Caller::start()?;
    *CALLER.lock() = Some(caller);

    let owners = unicode!(OWNERS);
    // SAFETY: The driver just made; a string that lives through the call.
    let mut init = unsafe { wdf::control_device_init(created, &raw const owners) };
    if init.is_null() {
        return Err(Status::INSUFFICIENT_RESOURCES);
    }
    let (files, attributes) = (device::FILES, device::file_attributes());
    // SAFETY: An initialisation under way; both structures live through the call, which copies them.
    unsafe { wdf::init_set_file_config(init, &raw const files, &raw const attributes) };
    let (name, plain, mut made) = (unicode!("\\Device\\litebox"), Attributes::new(null()), null_mut());
    // SAFETY: An initialisation under way; the string is copied.
    let named = unsafe { wdf::init_assign_name(init, &raw const name) };
    let device = named.check().and_then(|()| {
        // SAFETY: As above; what is made takes the initialisation over.
        unsafe { wdf::device_create(&raw mut init, &raw const plain, &raw mut made) }.check()
    });
    if let Err(status) = device {
        // SAFETY: Not taken over: no device was made.
        unsafe { wdf::init_free(init) };
        return Err(status);
    }
    // SAFETY: The device just made.
    let opened = unsafe { open_for_business(made) };
    if opened.is_err() {
        // SAFETY: The device just made, which nobody can have opened.
        unsafe { wdf::object_delete(made) };
    }
    opened
}

/// Gives the device its link and its queue.
///
/// # Safety
/// A control device that was just made.
unsafe fn open_for_business(device: crate::nt::raw::Pointer) -> Result<(), Status> {
    let link = unicode!("\\DosDevices\\litebox");
    // SAFETY: Contract; the string is copied.
    unsafe { wdf::create_symbolic_link(device, &raw const link) }.check()?;
    let queue = device::QUEUE;
    // SAFETY: Contract; the structure is copied.
    unsafe { wdf::queue_create(device, &raw const queue, null(), null_mut()) }.check()?;
    // SAFETY: Contract.
    unsafe { wdf::finish_initializing(device) };
    Ok(())
}

/// Ends what runs by itself. No sandbox is left, as each is an open file and open files keep the driver.
fn stop() {
    let caller = CALLER.lock().take();
    drop(caller);
    thread::join_all();
}

/// # Safety
/// Called by the framework before the driver's objects go.
unsafe extern "system" fn before_unload(_driver: crate::nt::raw::Pointer) {
    stop();
    memory::print(c"litebox: unloaded\n");
}

/// # Safety
/// Called by the kernel when the driver is to go.
unsafe extern "system" fn on_unload(driver: *mut DriverObject) {
    let framework = FRAMEWORK_UNLOAD.load(Ordering::Relaxed);
    if !framework.is_null() {
        type Unload = unsafe extern "system" fn(*mut DriverObject);
        // SAFETY: The framework's unload routine, which was in the driver object.
        let framework = unsafe { core::mem::transmute::<*mut (), Unload>(framework) };
        // SAFETY: As the kernel calls it.
        unsafe { framework(driver) };
    }
    // SAFETY: Bound at load; the framework has let go of the driver. A registry path is not used.
    unsafe { wdf::WdfVersionUnbind(null(), BIND.0.get(), GLOBALS.load(Ordering::Relaxed)) };
}
