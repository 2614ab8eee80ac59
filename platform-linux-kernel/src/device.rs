// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `/dev/litebox`: each open file is a sandbox, and closing it ends the sandbox. The requests are those of `litebox_ioctl_abi`.
//!
//! Hostile input: request numbers and structures from whoever may open the device; each structure is copied once, then decoded.
//! Locks: a sandbox's phase, for the length of a request; not while it runs a program or waits. May sleep.

use crate::hardware::engine::Lease;
use crate::host::{self, LinuxKernel};
use crate::sandbox::{Phase, Sandbox};
use crate::{start, sys};
use kernel::fs::{File, Kiocb, LocalFile};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::task::Kuid;
use kernel::uaccess::UserSlice;
use litebox_core::error::{Errno, Error as CoreError};
use litebox_core::fs::inode::{self, Blocking, FileOps, IoCx, WindowSize};
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::memory::Limits;
use litebox_core::fs::types::Mode;
use litebox_core::tty::settings::Settings;
use litebox_ioctl_abi::wire::IntoBytes;
use litebox_ioctl_abi::{
    Bad, Configure, Ended, GiveFd, HostObject, Kill, Mount, MountFlags, NewTerminal, Permissions, Request, Run, Source, Strings,
    Target, Terminal, TerminalSize, Trap, UserBytes, Version, Wait, WaitFlags, guest_path,
};
use litebox_shim_linux::launch::{Builder, Lower, Memory};
use litebox_shim_linux::machine::Machine;
use litebox_shim_linux::signal::{Info, Origin, Signal};

/// Bytes of the largest structure.
const BYTES_MAX: usize = 64;

/// Bytes of a terminal's that are read or written at once.
const TRANSFER_MAX: usize = 16 * 1024;
/// How a launcher transfers: it waits until it is interrupted.
const WAITING: IoCx = IoCx { blocking: Blocking::Yes, strips: false };

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

    /// Reads what the guest's terminal shows.
    fn read_iter(file: Kiocb<'_, Arc<Sandbox>>, to: &mut IovIterDest<'_>) -> Result<usize> {
        check_owner(&file)?;
        let terminal = file.file().terminal()?;
        let mut bytes = KVVec::from_elem(0_u8, to.len().min(TRANSFER_MAX), GFP_KERNEL_ACCOUNT)?;
        match terminal.read_at(0, &mut IoDst::kernel(&mut bytes), WAITING) {
            Ok(count) => match to.copy_to_iter(bytes.get(..count).unwrap_or_default()) {
                0 if count > 0 => Err(EFAULT),
                copied => Ok(copied),
            },
            // The sandbox has ended.
            Err(error) if error.is(Errno::IO) => Ok(0),
            Err(error) => Err(failed(error)),
        }
    }

    /// Types at the guest's terminal.
    fn write_iter(file: Kiocb<'_, Arc<Sandbox>>, from: &mut IovIterSource<'_>) -> Result<usize> {
        check_owner(&file)?;
        let terminal = file.file().terminal()?;
        let mut bytes = KVVec::from_elem(0_u8, from.len().min(TRANSFER_MAX), GFP_KERNEL_ACCOUNT)?;
        let count = from.copy_from_iter(&mut bytes);
        if count == 0 && !bytes.is_empty() {
            return Err(EFAULT);
        }
        terminal.write_at(0, &mut IoSrc::kernel(bytes.get(..count).unwrap_or_default()), WAITING).map_err(failed)
    }

    fn ioctl(sandbox: ArcBorrow<'_, Sandbox>, file: &File, number: u32, argument: usize) -> Result<isize> {
        let request = Request::from_number(number).ok_or(ENOTTY)?;
        if request != Request::Version && file.cred().euid() != Kuid::current_euid() {
            return Err(EPERM);
        }
        let argument = UserPtr::from_addr(argument);
        if request == Request::Version {
            UserSlice::new(argument, request.size()).writer().write_slice(Version::THIS.encode().as_bytes())?;
            return Ok(0);
        }
        let mut room = [0; BYTES_MAX];
        let bytes = room.get_mut(..request.size()).ok_or(EINVAL)?;
        UserSlice::new(argument, request.size()).reader().read_slice(bytes)?;
        match request {
            Request::Version => {}
            Request::Configure => configure(&sandbox, file, Configure::decode(bytes).map_err(refused)?)?,
            Request::Mount => mount(&sandbox, file, Mount::decode(bytes).map_err(refused)?)?,
            Request::GiveFd => give_fd(&sandbox, file, GiveFd::decode(bytes).map_err(refused)?)?,
            Request::Run => run(&sandbox.into(), file, Run::decode(bytes).map_err(refused)?)?,
            Request::Wait => {
                let wait = Wait::decode(bytes).map_err(refused)?;
                let answer = wait.answer(ended(&sandbox, wait.flags)?);
                UserSlice::new(argument, request.size()).writer().write_slice(answer.as_bytes())?;
            }
            Request::Terminal => terminal(&sandbox, Terminal::decode(bytes).map_err(refused)?)?,
            Request::Kill => kill(&sandbox, Kill::decode(bytes).map_err(refused)?)?,
        }
        Ok(0)
    }
}

/// Refuses a caller whose credentials are not those that the device was opened with.
fn check_owner(file: &Kiocb<'_, Arc<Sandbox>>) -> Result {
    // SAFETY: The open file that is read or written lives for the length of the call.
    let file = unsafe { File::from_raw_file((*file.as_raw()).ki_filp) };
    if file.cred().euid() == Kuid::current_euid() { Ok(()) } else { Err(EPERM) }
}

/// The kernel's error for bytes that are no request.
fn refused(bad: Bad) -> Error {
    Error::from_errno(bad.errno().saturating_neg())
}

/// The kernel's error for one of the library OS.
pub(crate) fn failed(error: CoreError) -> Error {
    match error {
        CoreError::Errno(errno, _why) => i32::try_from(litebox_shim_linux::errno::number(errno))
            .map_or(EIO, |number| Error::from_errno(number.saturating_neg())),
        CoreError::Interrupted => EINTR,
    }
}

/// The number of a descriptor.
fn number(object: HostObject) -> Result<u32> {
    object.fd().and_then(|fd| u32::try_from(fd).ok()).ok_or(EBADF)
}

/// The descriptor that a request means.
///
/// # Errors
/// EBADF; EINVAL for one of this device, as `device` is: a sandbox that holds itself would never end.
fn descriptor(object: HostObject, device: &File) -> Result<u32> {
    let fd = number(object)?;
    // SAFETY: Two live files, whose operations are constant.
    let is_device = |file: &LocalFile| unsafe { (*file.as_ptr()).f_op == (*device.as_ptr()).f_op };
    // A mere place (O_PATH) is no file yet, and not this device's.
    if LocalFile::fget(fd).is_ok_and(|file| is_device(&file)) { Err(EINVAL) } else { Ok(fd) }
}

/// Copies bytes whose length the request has checked.
fn copy_in(bytes: UserBytes) -> Result<KVVec<u8>> {
    let length = bytes.len as usize;
    let mut copy = KVVec::with_capacity(length, GFP_KERNEL_ACCOUNT)?;
    UserSlice::new(UserPtr::from_addr(usize::try_from(bytes.addr)?), length).reader().read_all(&mut copy, GFP_KERNEL_ACCOUNT)?;
    Ok(copy)
}

/// The strings, to be passed on.
fn list(strings: Strings<'_>) -> Result<KVVec<&[u8]>> {
    let mut list = KVVec::with_capacity(strings.len(), GFP_KERNEL_ACCOUNT)?;
    strings.into_iter().try_for_each(|string| list.push(string, GFP_KERNEL_ACCOUNT))?;
    Ok(list)
}

/// Three quarters of the machine's memory: what a sandbox may use unless its launcher says.
fn default_memory() -> u64 {
    let mut info = sys::sysinfo::default();
    // SAFETY: The structure is ours; plain numbers are written to it.
    unsafe { sys::si_meminfo(&raw mut info) };
    let bytes = (info.totalram as u64).saturating_mul(info.mem_unit.into());
    bytes / 4 * 3
}

fn configure(sandbox: &Sandbox, device: &File, request: Configure) -> Result {
    let trace = request.trace.map(|object| host::file(descriptor(object, device)?)).transpose()?;
    let name = request.name.map(copy_in).transpose()?;
    let name = name.as_deref().map(core::str::from_utf8).transpose().map_err(|_| EINVAL)?;
    let memory = request.memory.map_or_else(default_memory, core::num::NonZeroU64::get);
    let lease = match request.trap {
        Trap::Usual => None,
        Trap::Svm => Some(Lease::take()?),
    };
    let mut phase = sandbox.phase.lock();
    let Phase::New = *phase else { return Err(EBUSY) };
    let machine = Machine::new(memory, request.tasks.map(core::num::NonZeroU32::get), trace);
    *phase = Phase::Described(Builder::on(machine.named(name)).map_err(failed)?);
    if let Some(lease) = lease {
        sandbox.use_hardware(lease);
    }
    Ok(())
}

/// Lets `describe` add to what a sandbox will be, before it runs.
fn describe(sandbox: &Sandbox, describe: impl FnOnce(&mut Builder<LinuxKernel>) -> Result<(), CoreError>) -> Result {
    let mut phase = sandbox.phase.lock();
    if let Phase::New = *phase {
        *phase = Phase::Described(Builder::new(default_memory(), None, None).map_err(failed)?);
    }
    let Phase::Described(builder) = &mut *phase else { return Err(EBUSY) };
    describe(builder).map_err(failed)
}

/// Permission bits as the library OS has them.
fn mode_of(permissions: Permissions) -> Mode {
    Mode::from_bits_truncate(permissions.bits())
}

/// A directory or an image below an overlay.
fn lower_layer(fd: u32) -> Result<Lower<LinuxKernel>> {
    match host::dir(fd) {
        Err(error) if error == ENOTDIR => Ok(Lower::Image(host::image(fd)?)),
        dir => Ok(Lower::Dir(dir?)),
    }
}

fn mount(sandbox: &Sandbox, device: &File, request: Mount) -> Result {
    let path = copy_in(request.path)?;
    let at = guest_path(&path).map_err(refused)?;
    let read_only = request.flags.contains(MountFlags::READ_ONLY);
    match request.source {
        Source::Host(object) => {
            let fd = descriptor(object, device)?;
            match host::dir(fd) {
                Ok(dir) => describe(sandbox, |builder| builder.mount_host_dir(at, dir, read_only)),
                Err(error) if error == ENOTDIR => {
                    let file = host::file(fd)?;
                    describe(sandbox, |builder| builder.mount_host_file(at, file, read_only))
                }
                Err(error) => Err(error),
            }
        }
        Source::Memory { size, files, mode } => {
            let number = |number: Option<core::num::NonZeroU64>| number.map(core::num::NonZeroU64::get);
            let memory = Memory { limits: Limits { bytes: number(size), files: number(files) }, mode: mode.map(mode_of) };
            describe(sandbox, |builder| builder.mount_memory(at, memory, read_only))
        }
        Source::Directory(mode) => describe(sandbox, |builder| builder.make_dir(at, mode.map(mode_of))),
        Source::Symlink(target) => {
            let target = copy_in(target)?;
            describe(sandbox, |builder| builder.make_symlink(at, &target))
        }
        Source::Copy(object, mode) => {
            let file = host::file(descriptor(object, device)?)?;
            describe(sandbox, |builder| builder.make_file(at, &file, mode.map(mode_of)))
        }
        Source::Overlay { lower, size } => {
            let lower = lower_layer(descriptor(lower, device)?)?;
            let size = size.map(core::num::NonZeroU64::get);
            describe(sandbox, |builder| builder.mount_overlay(at, lower, size, read_only))
        }
        Source::Lasting { lower, upper } => {
            let lower = lower_layer(descriptor(lower, device)?)?;
            let upper = host::dir(descriptor(upper, device)?)?;
            let claim = host::claim(&*upper)?;
            describe(sandbox, |builder| builder.mount_lasting(at, lower, &*upper, claim, read_only))
        }
        Source::Image(object) => {
            let image = host::image(descriptor(object, device)?)?;
            describe(sandbox, |builder| builder.mount_image(at, &image))
        }
        Source::Proc => describe(sandbox, |builder| builder.mount_proc(at, read_only)),
        Source::Dev => describe(sandbox, |builder| builder.mount_dev(at, read_only)),
    }
}

fn give_fd(sandbox: &Sandbox, device: &File, request: GiveFd) -> Result {
    let file = host::file(descriptor(request.host, device)?)?;
    describe(sandbox, |builder| builder.give_fd(request.guest, file))
}

/// Gives the guest a terminal, or that another size.
fn terminal(sandbox: &Sandbox, request: Terminal) -> Result {
    let TerminalSize { rows, columns, pixels } = request.size;
    let size = WindowSize { rows, columns, pixels };
    let Some(NewTerminal { descriptors, modes, characters, line }) = request.new else {
        sandbox.terminal()?.pair().resize(size);
        return Ok(());
    };
    let settings = Settings::from(inode::Terminal { modes, line, characters });
    describe(sandbox, |builder| {
        sandbox.set_terminal(builder.give_terminal(descriptors.get(), settings, size)?);
        Ok(())
    })
}

/// Makes the calling process the first guest.
fn run(sandbox: &Arc<Sandbox>, file: &File, request: Run) -> Result {
    let device = number(request.device)?;
    if !core::ptr::eq(LocalFile::fget(device)?.as_ptr(), file.as_ptr()) {
        return Err(EBADF);
    }
    start::check_caller()?;
    let text = copy_in(request.text)?;
    let strings = request.strings(&text).map_err(refused)?;
    let (args, env) = (list(strings.args)?, list(strings.env)?);
    let mut builder = {
        let mut phase = sandbox.phase.lock();
        match core::mem::replace(&mut *phase, Phase::Starting) {
            Phase::Described(builder) => builder,
            Phase::New => {
                *phase = Phase::New;
                // Nothing is mounted at the root.
                return Err(EINVAL);
            }
            other => {
                *phase = other;
                return Err(EBUSY);
            }
        }
    };
    let [uid, gid] = request.ids;
    builder.set_ids(uid, gid);
    let result = builder
        .run(strings.program, strings.cwd, &args, &env)
        .map_err(failed)
        .and_then(|(task, regs)| start::become_guest(sandbox, device, task, regs));
    if result.is_err() {
        let mut phase = sandbox.phase.lock();
        if let Phase::Starting = *phase {
            *phase = Phase::Described(builder);
            // Whoever waits learns that nothing runs.
            sandbox.over.notify_all();
        }
    }
    result
}

/// How the sandbox has ended, once it has.
fn ended(sandbox: &Sandbox, flags: WaitFlags) -> Result<Ended> {
    let mut phase = sandbox.phase.lock();
    loop {
        match &*phase {
            Phase::New | Phase::Described(_) => return Err(ESRCH),
            Phase::Ended(ended) => return Ok(*ended),
            Phase::Starting | Phase::Running(_) if flags.contains(WaitFlags::NO_HANG) => return Ok(Ended::Running),
            Phase::Starting | Phase::Running(_) => {}
        }
        if sandbox.over.wait_interruptible(&mut phase) {
            return Err(EINTR);
        }
    }
}

fn kill(sandbox: &Sandbox, request: Kill) -> Result {
    let signal = Signal::new(request.signal.get().into()).ok_or(EINVAL)?;
    let process = match &*sandbox.phase.lock() {
        Phase::Running(process) => process.clone(),
        Phase::New | Phase::Described(_) | Phase::Starting | Phase::Ended(_) => return Err(ESRCH),
    };
    if signal == Signal::KILL {
        // The first process's end is the sandbox's.
        sandbox.end();
        return Ok(());
    }
    let info = Info::new(signal, Info::SI_USER, Origin::Process { pid: 0, uid: 0, value: 0 });
    match request.target {
        Target::First => process.send(info).map_err(failed),
        Target::All => {
            let (all, mut from) = (process.sandbox(), 0);
            while let Some(process) = all.next_process(from) {
                from = process.pid().saturating_add(1);
                // A process whose queue is full has it already.
                let _ = process.send(info);
            }
            Ok(())
        }
    }
}
