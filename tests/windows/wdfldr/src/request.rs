//! Requests: they are WDM's packets, which the driver has until it completes them.

use crate::wdm::{self, DeviceObject, FileObject, Irp, Pointer, StackLocation, Status};
use crate::{client, file};

/// `WDF_IO_QUEUE_CONFIG`, as far as the double looks.
#[repr(C)]
pub(crate) struct QueueConfig {
    size: u32,
    dispatch: [u32; 3],
    callbacks: [Pointer; 3],
    ioctl: Option<unsafe extern "system" fn(Pointer, Pointer, usize, usize, u32)>,
}

pub(crate) unsafe extern "system" fn queue_create(
    _globals: Pointer,
    _device: Pointer,
    config: *const QueueConfig,
    _attributes: Pointer,
    _queue: Pointer,
) -> Status {
    // SAFETY: The driver's structure.
    let config = unsafe { &*config };
    if config.size != 0x60 {
        return wdm::INFO_LENGTH_MISMATCH;
    }
    client().ioctl = config.ioctl;
    wdm::SUCCESS
}

/// The packet's place in the stack of drivers.
fn stack(irp: *mut Irp) -> *mut StackLocation {
    // SAFETY: Not completed: a packet is alive until then.
    unsafe { (*irp).stack }
}

/// Tells the I/O manager that the packet is completed later.
pub(crate) fn pend(irp: *mut Irp) {
    /// `SL_PENDING_RETURNED`.
    const PENDING: u8 = 1;
    let stack = stack(irp);
    // SAFETY: As in `stack`.
    unsafe { (*stack).control |= PENDING };
}

/// Completes a packet.
pub(crate) fn done(irp: *mut Irp, status: Status, information: usize) -> Status {
    // SAFETY: Not completed.
    let packet = unsafe { &mut *irp };
    packet.status = status;
    packet.information = information;
    // SAFETY: Not completed, and never again.
    unsafe { wdm::IofCompleteRequest(irp, 0) };
    status
}

pub(crate) unsafe extern "system" fn dispatch(_device: *mut DeviceObject, irp: *mut Irp) -> Status {
    // SAFETY: As in `stack`.
    let place = unsafe { &mut *stack(irp) };
    let (major, file, output, input, code) = (place.major, place.file, place.output, place.input, place.code);
    if major != 14 {
        // SAFETY: A packet of this kind.
        return unsafe { file::on_file(irp, major, file) };
    }
    let (ready, ioctl) = (client().ready, client().ioctl);
    let Some(ioctl) = ioctl.filter(|_| ready) else { return done(irp, wdm::INVALID_DEVICE_REQUEST, 0) };
    pend(irp);
    // SAFETY: The driver's function, which completes the request, now or later. Lengths are 32 bits.
    unsafe { ioctl(client().device.cast(), irp.cast(), (output as u32) as usize, (input as u32) as usize, code as u32) };
    wdm::PENDING
}

pub(crate) unsafe extern "system" fn complete(_globals: Pointer, irp: *mut Irp, status: Status, information: usize) {
    done(irp, status, information);
}

/// The one buffer of a buffered request, if it has enough bytes.
fn buffer(irp: *mut Irp, bytes: u64, least: usize, to: *mut Pointer, length: *mut usize) -> Status {
    let bytes = (bytes as u32) as usize;
    if bytes < least || bytes == 0 {
        return wdm::BUFFER_TOO_SMALL;
    }
    // SAFETY: Not completed.
    let buffer = unsafe { (*irp).buffer };
    // SAFETY: The driver's variable.
    unsafe { to.write(buffer) };
    if !length.is_null() {
        // SAFETY: The driver's variable.
        unsafe { length.write(bytes) };
    }
    wdm::SUCCESS
}

pub(crate) unsafe extern "system" fn input_buffer(
    _globals: Pointer,
    irp: *mut Irp,
    least: usize,
    to: *mut Pointer,
    length: *mut usize,
) -> Status {
    // SAFETY: As in `stack`.
    let bytes = unsafe { (*stack(irp)).input };
    buffer(irp, bytes, least, to, length)
}

pub(crate) unsafe extern "system" fn output_buffer(
    _globals: Pointer,
    irp: *mut Irp,
    least: usize,
    to: *mut Pointer,
    length: *mut usize,
) -> Status {
    // SAFETY: As in `stack`.
    let bytes = unsafe { (*stack(irp)).output };
    buffer(irp, bytes, least, to, length)
}

pub(crate) unsafe extern "system" fn file_of(_globals: Pointer, irp: *mut Irp) -> *mut FileObject {
    // SAFETY: As in `stack`.
    unsafe { (*stack(irp)).file }
}

/// Runs `act` under the cancel lock.
fn locked<R>(act: impl FnOnce() -> R) -> R {
    let mut irql = 0;
    // SAFETY: Our variable.
    unsafe { wdm::IoAcquireCancelSpinLock(&raw mut irql) };
    let result = act();
    // SAFETY: Taken above.
    unsafe { wdm::IoReleaseCancelSpinLock(irql) };
    result
}

pub(crate) unsafe extern "system" fn mark_cancelable(
    _globals: Pointer,
    irp: *mut Irp,
    event: unsafe extern "system" fn(Pointer),
) -> Status {
    locked(|| {
        // SAFETY: Not completed, and under the lock.
        let packet = unsafe { &mut *irp };
        if packet.cancel != 0 {
            return wdm::CANCELLED;
        }
        packet.context[0] = event as Pointer;
        packet.cancel_routine = Some(on_cancel);
        wdm::SUCCESS
    })
}

pub(crate) unsafe extern "system" fn unmark_cancelable(_globals: Pointer, irp: *mut Irp) -> Status {
    locked(|| {
        // SAFETY: Not completed, and under the lock.
        let packet = unsafe { &mut *irp };
        if packet.cancel_routine.take().is_some() { wdm::SUCCESS } else { wdm::CANCELLED }
    })
}

/// # Safety
/// Called by the I/O manager for a packet that was marked, with the cancel lock held, which this lets go.
unsafe extern "system" fn on_cancel(_device: *mut DeviceObject, irp: *mut Irp) {
    // SAFETY: Not completed: the driver learns of it here.
    let packet = unsafe { &mut *irp };
    let (event, irql) = (packet.context[0], packet.cancel_irql);
    // SAFETY: Held, by the contract.
    unsafe { wdm::IoReleaseCancelSpinLock(irql) };
    type Event = unsafe extern "system" fn(Pointer);
    // SAFETY: What `mark_cancelable` put there.
    let event = unsafe { core::mem::transmute::<Pointer, Event>(event) };
    // SAFETY: The driver's function, which completes the request.
    unsafe { event(irp.cast()) };
}
