//! The framework's table of functions.

use crate::{file, give_up, request};
use core::cell::UnsafeCell;

/// Slots of version 1.15.
pub(crate) const SLOTS: usize = 444;

/// A function of whatever signature.
pub(crate) type Slot = unsafe extern "system" fn();

/// # Safety
/// Called by a driver that uses more than the double has.
unsafe extern "system" fn missing() {
    give_up(0x10D, usize::MAX)
}

struct Table(UnsafeCell<[Slot; SLOTS]>);
// SAFETY: Written in `whole`, at a driver's load, before the driver has it.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([missing; SLOTS]));

/// The table, filled.
pub(crate) fn whole() -> *const Slot {
    // SAFETY: At load: see `Table`.
    let table = unsafe { &mut *TABLE.0.get() };
    let here: [(usize, *const ()); 17] = [
        (25, file::init_allocate as *const ()),
        (27, file::finish_initializing as *const ()),
        (54, file::init_free as *const ()),
        (67, file::init_assign_name as *const ()),
        (71, file::init_set_file_config as *const ()),
        (75, file::device_create as *const ()),
        (80, file::create_symbolic_link as *const ()),
        (116, file::driver_create as *const ()),
        (152, request::queue_create as *const ()),
        (202, file::context_of as *const ()),
        (208, file::object_delete as *const ()),
        (256, request::unmark_cancelable as *const ()),
        (265, request::complete as *const ()),
        (269, request::input_buffer as *const ()),
        (270, request::output_buffer as *const ()),
        (277, request::file_of as *const ()),
        (393, request::mark_cancelable as *const ()),
    ];
    for (number, function) in here {
        if let Some(slot) = table.get_mut(number) {
            // SAFETY: A function; whoever calls the slot knows its signature.
            *slot = unsafe { core::mem::transmute::<*const (), Slot>(function) };
        }
    }
    table.as_ptr()
}
