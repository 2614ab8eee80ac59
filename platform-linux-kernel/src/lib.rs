// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! litebox.ko: the library OS's host side on Linux.
//!
//! `device` is what launchers talk to, `carrier` the host threads that guests run on, `rest` those that wait for a guest, `trap` the way of their system calls and
//! faults into the module, `mm` their memory, `fpu` and `bases` the registers that the entry frame does not hold, `vdso` the clocks that guests read
//! without the module. `hardware` is the second trap, for sandboxes that ask for it.
//! Only exported interfaces of the kernel are used.

extern crate alloc;

mod alloc_shim;
mod bases;
mod carrier;
mod device;
mod fpu;
mod hardware;
mod host;
mod lend;
mod mm;
mod rest;
mod sandbox;
mod start;
mod sys;
mod trap;
mod vdso;

use device::Device;
use kernel::miscdevice::{MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;
use trap::hooks::Hooks;

module! {
    type: Litebox,
    name: "litebox",
    authors: ["The LiteBox-in-the-kernel authors"],
    description: "A library OS for sandboxed Linux programs",
    license: "Dual MIT/GPL",
}

/// The loaded module. Fields are dropped from the top: no new sandboxes, then the hooks, then what guests were shown, then
/// what runs their timers.
#[pin_data]
struct Litebox {
    #[pin]
    _device: MiscDeviceRegistration<Device>,
    _hooks: Hooks,
    _clockwork: vdso::Clockwork,
    _caller: host::Caller,
}

impl kernel::InPlaceModule for Litebox {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _hooks: {
                check_processor()?;
                hardware::engine::init();
                fpu::find_components();
                Hooks::register()?
            },
            _clockwork: vdso::Clockwork::start()?,
            _caller: host::Caller::start()?,
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"litebox" }),
        })
    }
}

/// Guests' FS and GS bases are switched by instructions that an old processor, or a kernel booted with nofsgsbase, lacks.
fn check_processor() -> Result {
    // SAFETY: Reads what the kernel found out about the processor.
    if unsafe { sys::litebox_has_fsgsbase() } {
        return Ok(());
    }
    pr_err!("cannot load: no FSGSBASE; the processor lacks it, or the kernel was booted with nofsgsbase\n");
    Err(ENODEV)
}
