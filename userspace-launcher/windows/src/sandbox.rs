//! The requests of one sandbox's life, and what the user is told when one fails.

use crate::cli::Options;
use crate::win::{self, Handle};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicPtr, Ordering};
use litebox_ioctl_abi::wire::IntoBytes;
use litebox_ioctl_abi::{
    Ended, GiveFd, HostObject, Kill, Mount, MountFlags, Request, Run, Source, Target, UserBytes, VERSION, Version, Wait,
    WaitFlags,
};

/// The driver's device.
const DEVICE: &str = r"\\.\litebox";
/// Status of a program that a signal ended, as a shell has it: this and the signal's number.
const SIGNALLED: u32 = 128;

/// The sandbox's handle, for [`interrupt`].
static SANDBOX: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(core::ptr::null_mut());

/// What a number of Windows's means for a user of the driver.
fn meaning(error: u32) -> String {
    /// Linux's errors come as a code of our own with the number in its lower half.
    const OURS: u32 = 0xE0BD_0000;
    match error {
        2 => "the driver is not loaded\n  try, as administrator: sc start litebox".into(),
        5 => "access denied\n  the device belongs to administrators: try from an elevated prompt".into(),
        error if error & 0xffff_0000 == OURS => match error & 0xffff {
            2 => "no such file or directory (ENOENT)".into(),
            8 => "not a program for Linux on x86-64 (ENOEXEC)".into(),
            13 => "permission denied (EACCES)".into(),
            19 => "this machine cannot run guests yet (ENODEV): see docs/windows.md".into(),
            number => format!("Linux's error {number}"),
        },
        error => format!("Windows's error {error}"),
    }
}

/// Makes a request whose structure has `behind` behind it.
fn request(device: Handle, kind: Request, structure: &[u8], behind: &[u8], what: &str) -> Result<(), String> {
    let input: Vec<u8> = structure.iter().chain(behind).copied().collect();
    win::control(device, kind.windows_code(), &input, &mut []).map(drop).map_err(|error| format!("{what}: {}", meaning(error)))
}

fn object(handle: Handle) -> HostObject {
    HostObject(handle.addr() as u64)
}

fn mount(device: Handle, at: &str, source: Source, flags: MountFlags) -> Result<(), String> {
    let path = UserBytes { addr: Request::Mount.size() as u64, len: u32::try_from(at.len()).unwrap_or(0) };
    let mount = Mount { source, flags, path }.encode();
    request(device, Request::Mount, mount.as_bytes(), at.as_bytes(), &format!("cannot show {at}"))
}

/// Strings one behind another, each with its NUL; and how many bytes that is.
fn pack<'a>(text: &mut Vec<u8>, strings: impl IntoIterator<Item = &'a str>) -> u32 {
    let before = text.len();
    for string in strings {
        text.extend_from_slice(string.as_bytes());
        text.push(0);
    }
    u32::try_from(text.len() - before).unwrap_or(u32::MAX)
}

/// The program's path: as it was given, or found in the guest's usual places by the driver's first that has it.
fn candidates(program: &str) -> Vec<String> {
    if program.contains('/') {
        return alloc::vec![program.into()];
    }
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().map(|place| format!("{place}/{program}")).collect()
}

/// Runs the program; gives its status.
///
/// # Errors
/// What failed, why, and the cure.
pub(crate) fn launch(options: &Options) -> Result<u32, String> {
    let device = win::open(DEVICE, win::READ_WRITE, win::OVERLAPPED)
        .map_err(|error| format!("cannot open {DEVICE}: {}", meaning(error)))?;
    let mut version = Version { newest: 0, oldest: 0 }.encode();
    let answer = win::control(device, Request::Version.windows_code(), &[], version.as_mut_bytes());
    answer.map_err(|error| format!("cannot ask the driver: {}", meaning(error)))?;
    if !Version::decode(version.as_bytes()).is_ok_and(|version| version.speaks(VERSION)) {
        return Err("the driver is of another version\n  install the one that came with this launcher".into());
    }

    let root = win::open(&options.root, win::LIST, win::DIRECTORY)
        .map_err(|error| format!("cannot open {}: Windows's error {error}", options.root))?;
    mount(device, "/", Source::Overlay { lower: object(root), size: None }, MountFlags::empty())?;
    mount(device, "/tmp", Source::Memory { size: None, files: None, mode: None }, MountFlags::empty())?;
    mount(device, "/proc", Source::Proc, MountFlags::empty())?;
    mount(device, "/dev", Source::Dev, MountFlags::empty())?;
    for (guest, which) in (0..).zip(win::STANDARD) {
        if let Some(handle) = win::standard(which) {
            let give = GiveFd { host: object(handle), guest }.encode();
            request(device, Request::GiveFd, give.as_bytes(), &[], &format!("cannot pass on descriptor {guest}"))?;
        }
    }
    SANDBOX.store(device, Ordering::Relaxed);
    win::on_interrupt(interrupt);
    start(device, options)?;

    let mut wait = Wait { flags: WaitFlags::empty() }.encode();
    let input: Vec<u8> = wait.as_bytes().to_vec();
    let answer = win::control(device, Request::Wait.windows_code(), &input, wait.as_mut_bytes());
    answer.map_err(|error| format!("cannot wait for the program: {}", meaning(error)))?;
    match Ended::decode(wait.as_bytes()) {
        Ok(Ended::Exited(status)) => Ok(status.into()),
        Ok(Ended::Signalled(signal)) => Ok(SIGNALLED + signal.get()),
        Ok(Ended::Failed(errno)) => Err(format!("the program cannot run: Linux's error {errno}")),
        Ok(Ended::Running) | Err(_) => Err("the driver gave no answer that makes sense".into()),
    }
}

fn start(device: Handle, options: &Options) -> Result<(), String> {
    let name = options.program.first().map_or("", String::as_str);
    let mut result = Err(format!("cannot run {name}"));
    for program in candidates(name) {
        let mut text = Vec::new();
        let lengths = [
            pack(&mut text, [program.as_str()]),
            pack(&mut text, [options.cwd.as_str()]),
            pack(&mut text, options.program.iter().map(String::as_str)),
            pack(&mut text, options.env.iter().map(String::as_str)),
        ];
        let counts = [&options.program, &options.env].map(|list| u32::try_from(list.len()).unwrap_or(u32::MAX));
        let run = Run::encode(object(device), Request::Run.size() as u64, lengths, counts);
        result = request(device, Request::Run, run.as_bytes(), &text, &format!("cannot run {program}"));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Passes Ctrl-C on to the program as SIGINT, and the console's end as SIGHUP.
///
/// # Safety
/// Called by Windows.
unsafe extern "system" fn interrupt(event: u32) -> i32 {
    /// `CTRL_C_EVENT`.
    const CTRL_C: u32 = 0;
    let device = SANDBOX.load(Ordering::Relaxed);
    let signal = if event == CTRL_C { 2 } else { 1 };
    if let Some(signal) = NonZeroU32::new(signal).filter(|_| !device.is_null()) {
        let kill = Kill { signal, target: Target::All }.encode();
        // A sandbox that is over has nobody to tell.
        let _ = win::control(device, Request::Kill.windows_code(), kill.as_bytes(), &mut []);
    }
    1
}
