// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `/dev/litebox`: each open file is a sandbox, and closing it ends the sandbox.
//!
//! Hostile input: request numbers and structures from whoever may open the device. Locks: none. May sleep.

use crate::carrier::{self, Guest, Sandbox};
use crate::flat::{IMAGE, IMAGE_MAX, STACK_TOP};
use crate::mm::frame::SIZE;
use crate::mm::space::Space;
use crate::trap::signal::{SYNCHRONOUS, mask};
use crate::{bases, fpu, sys};
use kernel::fs::File;
use kernel::ioctl::{_IO, _IOW};
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::uaccess::UserSlice;

/// Group letter of the requests. None of the numbers is one of the VFS's own.
const GROUP: u32 = b'L' as u32;
/// Answers the version of this interface.
const GET_VERSION: u32 = _IO(GROUP, 0x40);
/// Bring-up: loads a flat image. Argument: address, length.
const LOAD_FLAT: u32 = _IOW::<[u64; 2]>(GROUP, 0x50);
/// Turns the calling process into the sandbox's first guest. Argument: the descriptor to close, and zero.
const RUN: u32 = _IOW::<[u64; 2]>(GROUP, 0x51);

const VERSION: isize = 1;

/// The device.
pub(crate) struct Device;

#[vtable]
impl MiscDevice for Device {
    type Ptr = Arc<Sandbox>;

    fn open(_file: &File, _device: &MiscDeviceRegistration<Self>) -> Result<Arc<Sandbox>> {
        Sandbox::new()
    }

    fn release(sandbox: Arc<Sandbox>, _file: &File) {
        sandbox.end();
    }

    fn ioctl(sandbox: ArcBorrow<'_, Sandbox>, _file: &File, request: u32, argument: usize) -> Result<isize> {
        match request {
            GET_VERSION => Ok(VERSION),
            LOAD_FLAT => {
                let [addr, length] = pair(argument)?;
                load_flat(&sandbox, addr, length)
            }
            RUN => {
                let [descriptor, reserved] = pair(argument)?;
                if reserved != 0 {
                    return Err(EINVAL);
                }
                run(sandbox.into(), u32::try_from(descriptor).map_err(|_| EBADF)?)
            }
            _ => Err(ENOTTY),
        }
    }
}

/// Reads a request's two words, once.
fn pair(argument: usize) -> Result<[usize; 2]> {
    let mut reader = UserSlice::new(UserPtr::from_addr(argument), size_of::<[u64; 2]>()).reader();
    Ok([usize::try_from(reader.read::<u64>()?)?, usize::try_from(reader.read::<u64>()?)?])
}

/// Copies the launcher's image into the sandbox.
fn load_flat(sandbox: &Sandbox, addr: usize, length: usize) -> Result<isize> {
    if length > IMAGE_MAX {
        return Err(EFBIG);
    }
    let mut page = KVec::from_elem(0_u8, SIZE, GFP_KERNEL_ACCOUNT)?;
    let mut reader = UserSlice::new(UserPtr::from_addr(addr), length).reader();
    let mut offset = 0;
    while !reader.is_empty() {
        let count = reader.len().min(SIZE);
        let part = page.get_mut(..count).ok_or(EINVAL)?;
        reader.read_slice(part)?;
        sandbox.flat.load(offset, part)?;
        offset += SIZE;
    }
    Ok(0)
}

/// Makes the calling process the first guest. After the point of no return a failure kills it: its memory is gone.
fn run(sandbox: Arc<Sandbox>, descriptor: u32) -> Result<isize> {
    if !carrier::can_become_guest() {
        return Err(EBUSY);
    }
    let space = Space::new()?;
    let guest = Guest::new(sandbox, space.clone())?;
    // SAFETY: Closes a descriptor of the calling process, as close(2) does. Should it be the one of this very request, the file
    // lives on until the task leaves the kernel: its last put is a task work.
    kernel::error::to_result(unsafe { sys::close_fd(descriptor) })?;

    reset_signals();
    let entered = space.replace_current().and_then(|()| carrier::enter_current(guest));
    if let Err(error) = entered {
        carrier::kill_current();
        return Err(error);
    }
    install(IMAGE, STACK_TOP);
    Ok(0)
}

/// No handler of the launcher's survives. For the synchronous signals an address that no guest can map: the host then does not log
/// "segfault at", and should the signal hook ever be missing, the guest dies.
fn reset_signals() {
    for signal in 1..32_u32 {
        if signal == sys::SIGKILL || signal == sys::SIGSTOP {
            continue;
        }
        let handler = if SYNCHRONOUS & mask(signal) != 0 { bases::USER_END as usize } else { 0 };
        // SAFETY: `__sighandler_t` is a user-space address in C's clothes; the kernel never calls it. 0 is SIG_DFL.
        let handler = unsafe { core::mem::transmute::<usize, sys::__sighandler_t>(handler) };
        // SAFETY: A valid signal number of the current task.
        unsafe { sys::kernel_sigaction(signal as i32, handler) };
    }
}

/// Sets the registers with which the current task returns to ring 3.
fn install(ip: usize, sp: usize) {
    /// Interrupts on, and the bit that is always 1.
    const FLAGS: usize = 0x202;
    let regs = carrier::registers();
    // SAFETY: The entry frame of the current task lies at the top of its own kernel stack; nobody borrows it now.
    let regs = unsafe { &mut *regs };
    // rcx and r11 as sysret would have them.
    let general = [
        &mut regs.r15,
        &mut regs.r14,
        &mut regs.r13,
        &mut regs.r12,
        &mut regs.bp,
        &mut regs.bx,
        &mut regs.r10,
        &mut regs.r9,
        &mut regs.r8,
        &mut regs.ax,
        &mut regs.dx,
        &mut regs.si,
        &mut regs.di,
    ];
    for register in general {
        *register = 0;
    }
    (regs.ip, regs.cx, regs.sp) = (ip, ip, sp);
    (regs.flags, regs.r11, regs.orig_ax) = (FLAGS, FLAGS, usize::MAX);
    regs.__bindgen_anon_1.cs = sys::USER_CS;
    regs.__bindgen_anon_2.ss = sys::USER_DS;
    if let Some(zero) = bases::UserBase::new(0) {
        bases::set_fs(zero);
        bases::set_gs(zero);
    }
    fpu::reset();
}
