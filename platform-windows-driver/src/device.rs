//! `\\.\litebox`: each open file is a sandbox, and closing it ends the sandbox. The requests are those of `litebox_ioctl_abi`.
//!
//! As on Linux, but for what Windows does otherwise: bytes that a structure points to lie behind it in the input buffer, and the
//! "address" is their offset there, so no memory of the caller's is touched; a host object is a `HANDLE` of the process that opened the
//! device, which is duplicated with the rights that it has; `RUN` starts the program on a thread of its own and succeeds when the program is loaded; `WAIT` is
//! pending until the end and can be cancelled.
//! Hostile input: codes and buffers from whoever may open the device (administrators; see `entry`). A buffer is the framework's copy.
//! IRQL: `PASSIVE_LEVEL` by the device's execution level; cancelling at `DISPATCH_LEVEL` or below.

use crate::carrier::Start;
use crate::host::{self, WindowsKernel};
use crate::nt::raw::Pointer;
use crate::nt::wdf::{self, Attributes, ContextType, FileConfig, QueueConfig};
use crate::nt::{Handle, Status, thread};
use crate::sandbox::{Phase, Sandbox};
use crate::trap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use litebox_core::error::{Errno, Error};
use litebox_core::fs::memory::Limits;
use litebox_core::fs::types::Mode;
use litebox_ioctl_abi::wire::IntoBytes;
use litebox_ioctl_abi::{
    Bad, Configure, Ended, GiveFd, HostObject, Kill, Mount, MountFlags, Permissions, Request as Code, Run, Source, Target, Trap,
    UserBytes, Version, Wait, WaitFlags, guest_path,
};
use litebox_shim_linux::launch::{Builder, Lower, Memory};
use litebox_shim_linux::machine::Machine;
use litebox_shim_linux::signal::{Info, Origin, Signal};

/// Memory of a sandbox whose launcher does not say.
const DEFAULT_MEMORY: u64 = 1 << 30;

/// What a file object holds: the sandbox, counted.
static SANDBOX: ContextType = ContextType::new(c"litebox sandbox", size_of::<*const Sandbox>(), &SANDBOX);

/// How the framework is to make file objects.
pub(crate) const FILES: FileConfig = FileConfig::new(on_open, on_cleanup, on_close);
/// And the queue.
pub(crate) const QUEUE: QueueConfig = QueueConfig::parallel(on_request);

/// Attributes of file objects.
pub(crate) fn file_attributes() -> Attributes {
    Attributes::new(&raw const SANDBOX)
}

/// A request, as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawRequest(Pointer);

// SAFETY: The framework's handle belongs to no thread.
unsafe impl Send for RawRequest {}

impl RawRequest {
    /// Lets the caller cancel it; false if it has already.
    pub(crate) fn mark_cancelable(self) -> bool {
        // SAFETY: Not completed: it is in a sandbox's list.
        unsafe { wdf::mark_cancelable(self.0, on_cancel) }.is_success()
    }

    /// Completes it as cancelled; whoever calls this is the one to complete it.
    pub(crate) fn cancelled(self) {
        // SAFETY: Not completed yet, and never again: see `Sandbox::cancel`.
        unsafe { wdf::complete(self.0, Status::CANCELLED, 0) };
    }
}

/// A request that has not been completed; whoever has it completes it.
#[derive(Debug)]
pub(crate) struct Request(RawRequest);

impl Request {
    /// As a key.
    pub(crate) fn raw(&self) -> RawRequest {
        self.0
    }

    fn complete(self, status: Status, bytes: usize) {
        // SAFETY: Not completed yet, and never again: `self` goes.
        unsafe { wdf::complete(self.0.0, status, bytes) };
    }

    /// Completes it with what became of it.
    fn finish(self, result: Result<usize, Status>) {
        match result {
            Ok(bytes) => self.complete(Status::SUCCESS, bytes),
            Err(status) => self.complete(status, 0),
        }
    }

    /// Takes it back from those that can be cancelled; false if it was cancelled, and its cancel routine has run or will.
    pub(crate) fn unmark_cancelable(&self) -> bool {
        // SAFETY: Not completed, and marked before.
        let status = unsafe { wdf::unmark_cancelable(self.0.0) };
        status != Status::CANCELLED
    }

    /// Says how the sandbox ended, or that it has not.
    pub(crate) fn answer_wait(self, ended: Ended) {
        let result = self.input().and_then(|bytes| Wait::decode(bytes).map_err(refused));
        let result = result.and_then(|wait| self.output(wait.answer(ended).as_bytes()));
        self.finish(result);
    }

    /// Completes it as cancelled.
    pub(crate) fn cancelled(self) {
        self.0.cancelled();
    }

    /// What the caller gave, in the framework's copy.
    fn input(&self) -> Result<&[u8], Status> {
        let (mut buffer, mut bytes) = (core::ptr::null_mut(), 0);
        // SAFETY: Not completed; the results are written to our words.
        unsafe { wdf::input_buffer(self.0.0, 1, &raw mut buffer, &raw mut bytes) }.check()?;
        // SAFETY: The framework's buffer of these bytes, until the request is completed. The output shares it, and `output` is
        // called when nobody reads the input any more.
        Ok(unsafe { core::slice::from_raw_parts(buffer.cast::<u8>(), bytes) })
    }

    /// Puts the answer into the caller's buffer.
    fn output(&self, answer: &[u8]) -> Result<usize, Status> {
        let (mut buffer, mut bytes) = (core::ptr::null_mut(), 0);
        // SAFETY: Not completed; the results are written to our words.
        unsafe { wdf::output_buffer(self.0.0, answer.len(), &raw mut buffer, &raw mut bytes) }.check()?;
        let count = answer.len().min(bytes);
        // SAFETY: The framework's buffer has at least these bytes, and nobody borrows it.
        unsafe { core::ptr::copy_nonoverlapping(answer.as_ptr(), buffer.cast::<u8>(), count) };
        Ok(count)
    }

    /// A handle of whoever opened the device for this sandbox.
    fn handle(sandbox: &Sandbox, object: HostObject) -> Result<Handle, Status> {
        Handle::of_process(sandbox.owner(), object.0)
    }
}

/// The place in a file object for its sandbox.
fn slot(file: Pointer) -> *mut *const Sandbox {
    // SAFETY: A file object of our device, each of which has a context of this type.
    unsafe { wdf::context_of(file, &raw const SANDBOX) }.cast()
}

/// # Safety
/// Called by the framework for an open, which this completes.
unsafe extern "system" fn on_open(_device: Pointer, request: Pointer, file: Pointer) {
    let slot = slot(file);
    // An open comes in the context of the process that opens.
    // SAFETY: The context of a new file object, which nobody else knows.
    unsafe { slot.write(Arc::into_raw(Sandbox::new(thread::process()))) };
    Request(RawRequest(request)).complete(Status::SUCCESS, 0);
}

/// # Safety
/// Called by the framework when the last handle is closed; requests may be under way.
unsafe extern "system" fn on_cleanup(file: Pointer) {
    if let Some(sandbox) = sandbox(file) {
        sandbox.end();
    }
}

/// # Safety
/// Called by the framework when the file object goes and no request is left.
unsafe extern "system" fn on_close(file: Pointer) {
    let slot = slot(file);
    // SAFETY: The context of a file object that nobody else uses any more.
    let sandbox = unsafe { slot.replace(core::ptr::null()) };
    if !sandbox.is_null() {
        // SAFETY: From `into_raw` in `on_open`, and taken back once.
        drop(unsafe { Arc::from_raw(sandbox) });
    }
}

/// The sandbox of a file object.
fn sandbox(file: Pointer) -> Option<Arc<Sandbox>> {
    let slot = NonNull::new(slot(file))?;
    // SAFETY: Written before anybody had a handle of the file, and cleared when nobody has.
    let sandbox = unsafe { slot.read() };
    if sandbox.is_null() {
        return None;
    }
    // SAFETY: The file object's reference keeps it.
    unsafe { Arc::increment_strong_count(sandbox) };
    // SAFETY: The count that was added.
    Some(unsafe { Arc::from_raw(sandbox) })
}

/// # Safety
/// Called by the framework for a request whose caller gave it up.
unsafe extern "system" fn on_cancel(request: Pointer) {
    // SAFETY: Not completed yet, or its completion waits for this routine; either way it is alive.
    let file = unsafe { wdf::file_of(request) };
    if let Some(sandbox) = sandbox(file) {
        sandbox.cancel(RawRequest(request));
    }
}

/// # Safety
/// Called by the framework for each request.
unsafe extern "system" fn on_request(_queue: Pointer, request: Pointer, _output: usize, _input: usize, code: u32) {
    let request = Request(RawRequest(request));
    // SAFETY: Not completed.
    let file = unsafe { wdf::file_of(request.0.0) };
    let code = Code::ALL.into_iter().find(|known| known.windows_code() == code);
    let (Some(sandbox), Some(code)) = (sandbox(file), code) else {
        return request.complete(Status::INVALID_DEVICE_REQUEST, 0);
    };
    let result = match code {
        Code::Version => request.output(Version::THIS.encode().as_bytes()),
        Code::Configure => configure(&sandbox, &request),
        Code::Mount => mount(&sandbox, &request),
        Code::GiveFd => give_fd(&sandbox, &request),
        Code::Run => return run(sandbox, request),
        Code::Wait => return wait(&sandbox, request),
        Code::Kill => kill(&sandbox, &request),
        // The launcher gives the console's handles; nobody relays here.
        Code::Terminal => Err(Status::of_linux(Errno::OPNOTSUPP)),
    };
    request.finish(result);
}

fn refused(bad: Bad) -> Status {
    Status::of_errno(bad.errno().unsigned_abs())
}

fn failed(error: Error) -> Status {
    Status::of_error(error)
}

/// The structure at the start of the input.
fn structure(input: &[u8], code: Code) -> Result<&[u8], Status> {
    input.get(..code.size()).ok_or(refused(Bad::Size))
}

/// The structure, with nothing behind it.
fn alone(request: &Request, code: Code) -> Result<&[u8], Status> {
    let input = request.input()?;
    if input.len() == code.size() { Ok(input) } else { Err(refused(Bad::Size)) }
}

/// The bytes that a structure points to, behind it in the input.
fn behind(input: &[u8], code: Code, bytes: UserBytes) -> Result<&[u8], Status> {
    let start = usize::try_from(bytes.addr).ok().filter(|start| *start >= code.size());
    let end = start.and_then(|start| start.checked_add(bytes.len as usize));
    start.zip(end).and_then(|(start, end)| input.get(start..end)).ok_or(refused(Bad::Size))
}

fn configure(sandbox: &Sandbox, request: &Request) -> Result<usize, Status> {
    let input = request.input()?;
    let settings = Configure::decode(structure(input, Code::Configure)?).map_err(refused)?;
    if settings.trap != Trap::Usual {
        return Err(Status::of_linux(Errno::NODEV));
    }
    let name = settings.name.map(|name| behind(input, Code::Configure, name)).transpose()?;
    let name = name.map(core::str::from_utf8).transpose().map_err(|_text| Status::of_linux(Errno::INVAL))?;
    let trace =
        settings.trace.map(|object| Request::handle(sandbox, object).and_then(|handle| host::file(handle).map_err(failed)));
    let trace = trace.transpose()?;
    let memory = settings.memory.map_or(DEFAULT_MEMORY, core::num::NonZeroU64::get);
    let mut phase = sandbox.phase.lock();
    let Phase::New = *phase else { return Err(Status::of_linux(Errno::BUSY)) };
    let machine = Machine::new(memory, settings.tasks.map(core::num::NonZeroU32::get), trace);
    *phase = Phase::Described(Builder::on(machine.named(name)).map_err(failed)?);
    Ok(0)
}

/// Lets `describe` add to what a sandbox will be, before it runs.
fn describe(
    sandbox: &Sandbox,
    describe: impl FnOnce(&mut Builder<WindowsKernel>) -> litebox_core::error::Result<()>,
) -> Result<usize, Status> {
    trap::start().map_err(failed)?;
    let mut phase = sandbox.phase.lock();
    if let Phase::New = *phase {
        *phase = Phase::Described(Builder::new(DEFAULT_MEMORY, None, None).map_err(failed)?);
    }
    let Phase::Described(builder) = &mut *phase else { return Err(Status::of_linux(Errno::BUSY)) };
    describe(builder).map_err(failed).map(|()| 0)
}

/// Permission bits as the library OS has them.
fn mode_of(permissions: Permissions) -> Mode {
    Mode::from_bits_truncate(permissions.bits())
}

/// A directory or an image below an overlay.
fn lower_layer(handle: Handle) -> Result<Lower<WindowsKernel>, Status> {
    if host::is_dir(&handle) {
        host::dir(handle).map(Lower::Dir).map_err(failed)
    } else {
        host::image(handle).map(Lower::Image).map_err(failed)
    }
}

fn mount(sandbox: &Sandbox, request: &Request) -> Result<usize, Status> {
    let input = request.input()?;
    let mount = Mount::decode(structure(input, Code::Mount)?).map_err(refused)?;
    let at = guest_path(behind(input, Code::Mount, mount.path)?).map_err(refused)?;
    let read_only = mount.flags.contains(MountFlags::READ_ONLY);
    match mount.source {
        Source::Host(object) => {
            let handle = Request::handle(sandbox, object)?;
            if host::is_dir(&handle) {
                let dir = host::dir(handle).map_err(failed)?;
                describe(sandbox, |builder| builder.mount_host_dir(at, dir, read_only))
            } else {
                let file = host::file(handle).map_err(failed)?;
                describe(sandbox, |builder| builder.mount_host_file(at, file, read_only))
            }
        }
        Source::Memory { size, files, mode } => {
            let number = |number: Option<core::num::NonZeroU64>| number.map(core::num::NonZeroU64::get);
            let memory = Memory { limits: Limits { bytes: number(size), files: number(files) }, mode: mode.map(mode_of) };
            describe(sandbox, |builder| builder.mount_memory(at, memory, read_only))
        }
        Source::Directory(mode) => describe(sandbox, |builder| builder.make_dir(at, mode.map(mode_of))),
        Source::Symlink(target) => {
            let target = behind(input, Code::Mount, target)?;
            describe(sandbox, |builder| builder.make_symlink(at, target))
        }
        Source::Copy(object, mode) => {
            let file = host::file(Request::handle(sandbox, object)?).map_err(failed)?;
            describe(sandbox, |builder| builder.make_file(at, &file, mode.map(mode_of)))
        }
        Source::Overlay { lower, size } => {
            let lower = lower_layer(Request::handle(sandbox, lower)?)?;
            let size = size.map(core::num::NonZeroU64::get);
            describe(sandbox, |builder| builder.mount_overlay(at, lower, size, read_only))
        }
        Source::Lasting { lower, upper } => {
            let lower = lower_layer(Request::handle(sandbox, lower)?)?;
            let upper = host::dir(Request::handle(sandbox, upper)?).map_err(failed)?;
            let claim = host::claim(&*upper).map_err(failed)?;
            describe(sandbox, |builder| builder.mount_lasting(at, lower, &*upper, claim, read_only))
        }
        Source::Image(object) => {
            let image = host::image(Request::handle(sandbox, object)?).map_err(failed)?;
            describe(sandbox, |builder| builder.mount_image(at, &image))
        }
        Source::Proc => describe(sandbox, |builder| builder.mount_proc(at, read_only)),
        Source::Dev => describe(sandbox, |builder| builder.mount_dev(at, read_only)),
    }
}

fn give_fd(sandbox: &Sandbox, request: &Request) -> Result<usize, Status> {
    let give = GiveFd::decode(alone(request, Code::GiveFd)?).map_err(refused)?;
    let file = host::file(Request::handle(sandbox, give.host)?).map_err(failed)?;
    describe(sandbox, |builder| builder.give_fd(give.guest, file))
}

/// Loads the program on a thread, which answers the request and then is the program's first carrier.
fn run(sandbox: Arc<Sandbox>, request: Request) {
    let raw = request.raw();
    let work = move || {
        let request = Request(raw);
        match load(&sandbox, &request) {
            Ok(start) => {
                request.complete(Status::SUCCESS, 0);
                start.run(sandbox);
            }
            Err(status) => request.complete(status, 0),
        }
    };
    // Completed by the thread, or here if there is none.
    if let Err(status) = thread::spawn(work) {
        request.complete(status, 0);
    }
}

fn load(sandbox: &Sandbox, request: &Request) -> Result<Start, Status> {
    let input = request.input()?;
    let run = Run::decode(structure(input, Code::Run)?).map_err(refused)?;
    let strings = run.strings(behind(input, Code::Run, run.text)?).map_err(refused)?;
    let (args, env): (Vec<_>, Vec<_>) = (strings.args.collect(), strings.env.collect());
    let mut builder = {
        let mut phase = sandbox.phase.lock();
        match core::mem::replace(&mut *phase, Phase::Starting) {
            Phase::Described(builder) => builder,
            other => {
                let errno = if matches!(other, Phase::New) { Errno::INVAL } else { Errno::BUSY };
                *phase = other;
                return Err(Status::of_linux(errno));
            }
        }
    };
    let [uid, gid] = run.ids;
    builder.set_ids(uid, gid);
    let loaded = builder.run(strings.program, strings.cwd, &args, &env).map_err(failed).and_then(|(task, regs)| {
        let process = Arc::clone(task.process());
        Start::first(task, regs).map(|start| (start, process)).ok_or(Status::INSUFFICIENT_RESOURCES)
    });
    let mut phase = sandbox.phase.lock();
    match loaded {
        Ok((start, process)) => {
            *phase = Phase::Running(process);
            Ok(start)
        }
        Err(status) => {
            *phase = Phase::Described(builder);
            Err(status)
        }
    }
}

fn wait(sandbox: &Sandbox, request: Request) {
    let flags = alone(&request, Code::Wait).and_then(|bytes| Wait::decode(bytes).map_err(refused)).map(|wait| wait.flags);
    let flags = match flags {
        Ok(flags) => flags,
        Err(status) => return request.complete(status, 0),
    };
    let phase = sandbox.phase.lock();
    match &*phase {
        Phase::New | Phase::Described(_) => request.complete(Status::of_linux(Errno::SRCH), 0),
        Phase::Ended(ended) => request.answer_wait(*ended),
        Phase::Starting | Phase::Running(_) if flags.contains(WaitFlags::NO_HANG) => request.answer_wait(Ended::Running),
        Phase::Starting | Phase::Running(_) => sandbox.wait(request),
    }
}

fn kill(sandbox: &Sandbox, request: &Request) -> Result<usize, Status> {
    let kill = Kill::decode(alone(request, Code::Kill)?).map_err(refused)?;
    let signal = Signal::new(kill.signal.get().into()).ok_or(Status::of_linux(Errno::INVAL))?;
    let process = match &*sandbox.phase.lock() {
        Phase::Running(process) => Arc::clone(process),
        Phase::New | Phase::Described(_) | Phase::Starting | Phase::Ended(_) => return Err(Status::of_linux(Errno::SRCH)),
    };
    if signal == Signal::KILL {
        // The first process's end is the sandbox's.
        sandbox.end();
        return Ok(0);
    }
    let info = Info::new(signal, Info::SI_USER, Origin::Process { pid: 0, uid: 0, value: 0 });
    match kill.target {
        Target::First => process.send(info).map_err(failed)?,
        Target::All => {
            let (all, mut from) = (process.sandbox(), 0);
            while let Some(process) = all.next_process(from) {
                from = process.pid().saturating_add(1);
                // A process whose queue is full has it already.
                let _ = process.send(info);
            }
        }
    }
    Ok(0)
}
