//! The device: each request once, and what its errors mean to the user.

use crate::image;
use crate::places::{Place, Show};
use crate::raw;
use crate::report::Failure;
use litebox_ioctl_abi::{
    Configure, Ended, GiveFd, HostObject, Kill, Mount, MountFlags, Request, Source, Target, Terminal, Trap, UserBytes, VERSION,
    Version, Wait, WaitFlags, wire,
};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;
use zerocopy::IntoBytes;

const DEVICE: &str = "/dev/litebox";
/// How often, and after how long each, a mount is tried again that another sandbox may be about to give up.
const KEEPING_TRIES: u32 = 100;
const KEEPING_STEP: Duration = Duration::from_millis(50);

/// An open device: one sandbox, which ends when this process closes it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    device: OwnedFd,
}

impl Sandbox {
    /// Opens the device and makes sure that it speaks our version.
    pub(crate) fn open() -> Result<Self, Failure> {
        let device = rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(cannot_open)?;
        let sandbox = Self { device };
        let mut answer = wire::Version::default();
        let version = match sandbox.ask(Request::Version, &mut answer) {
            Ok(()) => Version::decode(answer.as_bytes()).ok(),
            Err(_not_ours) => None,
        };
        match version {
            Some(version) if version.speaks(VERSION) => Ok(sandbox),
            Some(Version { oldest, newest }) => Err(Failure::new(format!("cannot use {DEVICE}: version mismatch"))
                .why(format!("the module speaks versions {oldest} to {newest}, this launcher {VERSION}"))
                .cure("install launcher and module of one release, then: sudo rmmod litebox; sudo modprobe litebox")),
            None => Err(Failure::new(format!("cannot use {DEVICE}: it does not answer as litebox does"))
                .why("another driver has that name, or the module is older than any release")
                .cure("sudo rmmod litebox; sudo modprobe litebox")),
        }
    }

    /// The device's descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// The same as the module wants it. A forked child has it under the same number.
    pub(crate) fn object(&self) -> HostObject {
        object(&self.device)
    }

    /// Makes a request.
    fn ask<T: raw::Wire>(&self, request: Request, wire: &mut T) -> Result<(), Errno> {
        raw::ioctl(self.fd(), request, wire)
    }

    /// Sets limits and flags.
    pub(crate) fn configure(&self, configure: Configure) -> Result<(), Failure> {
        self.ask(Request::Configure, &mut configure.encode()).map_err(|errno| cannot_configure(errno, &configure))
    }

    /// Mounts what a place shows; `host` is its open source, if it has one, and `upper` the directory with its changes.
    pub(crate) fn mount(&self, place: &Place, host: Option<&OwnedFd>, upper: Option<&OwnedFd>) -> Result<(), Failure> {
        let source = match (&place.show, host) {
            (Show::Lasting { upper: path, .. }, Some(lower)) => {
                let Some(upper) = upper else {
                    return Err(Failure::new(format!("cannot keep changes in {}: it is not open", path.display())));
                };
                Source::Lasting { lower: object(lower), upper: object(upper) }
            }
            (Show::Host(_), Some(fd)) => Source::Host(object(fd)),
            (Show::Image(_), Some(fd)) => Source::Image(object(fd)),
            (Show::Overlay { size, .. }, Some(fd)) => Source::Overlay { lower: object(fd), size: *size },
            (Show::Proc, _) => Source::Proc,
            (Show::Dev, _) => Source::Dev,
            (Show::Memory { size, files, mode }, _) => Source::Memory { size: *size, files: *files, mode: *mode },
            (Show::Directory(mode), _) => Source::Directory(*mode),
            (Show::Symlink(target), _) => Source::Symlink(bytes(target.as_os_str())),
            (Show::Copy(fd, mode), _) => Source::Copy(HostObject((*fd).into()), *mode),
            (
                Show::Host(source)
                | Show::Image(source)
                | Show::Overlay { lower: source, .. }
                | Show::Lasting { lower: source, .. },
                None,
            ) => {
                return Err(Failure::new(format!("cannot show {} in the sandbox: it is not open", source.display())));
            }
        };
        let flags = if place.read_only { MountFlags::READ_ONLY } else { MountFlags::empty() };
        let mount = Mount { source, flags, path: bytes(place.at.as_os_str()) };
        let mut answer = self.ask(Request::Mount, &mut mount.encode());
        // A sandbox that has ended may still be keeping what was changed last.
        for _ in 0..KEEPING_TRIES {
            if answer != Err(Errno::BUSY) || !matches!(place.show, Show::Lasting { .. }) {
                break;
            }
            thread::sleep(KEEPING_STEP);
            answer = self.ask(Request::Mount, &mut mount.encode());
        }
        match answer {
            Err(Errno::NOENT | Errno::NOTDIR) if place.optional => Ok(()),
            Err(errno) => {
                let what = match place.show {
                    Show::Directory(_) | Show::Symlink(_) | Show::Copy(..) => "make",
                    _ => "mount on",
                };
                let failure = Failure::new(format!("cannot {what} {} in the sandbox: {}", place.at.display(), describe(errno)));
                if let Show::Lasting { upper, .. } = &place.show {
                    let failure = Failure::new(format!("cannot keep changes in {}: {}", upper.display(), describe(errno)));
                    match errno {
                        Errno::BUSY => return Err(failure.why("another sandbox has it")),
                        Errno::ACCESS | Errno::PERM | Errno::ROFS => return Err(failure.why("you may not write there")),
                        Errno::UCLEAN => return Err(failure.why("what is in it is no journal of litebox's, or a damaged one")),
                        Errno::NOMEM => return Err(failure.why("it holds more than the sandbox has").cure("a larger --mem")),
                        _ => {}
                    }
                }
                if let Some(why) = image::refused(&place.show, errno) {
                    return Err(why);
                }
                Err(match errno {
                    Errno::NOENT => failure
                        .why("what is mounted on does not exist, and cannot be made in something read-only")
                        .cure("a path that exists, or one below something writable"),
                    Errno::NOTDIR => failure.why("a directory is mounted on a directory, a file on a file"),
                    Errno::EXIST => failure.why("something else is there"),
                    Errno::BADF => failure.why("no such descriptor is open for reading"),
                    Errno::OPNOTSUPP | Errno::NOSYS => failure.why("the loaded module does not support this kind of mount yet"),
                    _ => failure,
                })
            }
            Ok(()) => Ok(()),
        }
    }

    /// Gives one of our descriptors to the guest, under the same number.
    pub(crate) fn give_fd(&self, fd: u32) -> Result<(), Failure> {
        let give = GiveFd { host: HostObject(fd.into()), guest: fd };
        self.ask(Request::GiveFd, &mut give.encode())
            .map_err(|errno| Failure::new(format!("cannot give descriptor {fd} to the sandbox: {}", describe(errno))))
    }

    /// Gives the guest a terminal, or that another size.
    pub(crate) fn terminal(&self, terminal: Terminal) -> Result<(), Failure> {
        self.ask(Request::Terminal, &mut terminal.encode())
            .map_err(|errno| Failure::new(format!("cannot give the sandbox a terminal: {}", describe(errno))))
    }

    /// Reads what the guest's terminal shows; 0 when the sandbox has ended and all was read.
    pub(crate) fn shown(&self, bytes: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::retry_on_intr(|| rustix::io::read(&self.device, &mut *bytes))
    }

    /// Types at the guest's terminal; how much of it was taken.
    pub(crate) fn type_bytes(&self, bytes: &[u8]) -> Result<usize, Errno> {
        rustix::io::retry_on_intr(|| rustix::io::write(&self.device, bytes))
    }

    /// Waits for the end; `None` if the sandbox never ran.
    pub(crate) fn wait(&self) -> Result<Option<Ended>, Failure> {
        loop {
            let mut wire = Wait { flags: WaitFlags::empty() }.encode();
            match self.ask(Request::Wait, &mut wire) {
                Ok(()) => {
                    return Ended::decode(wire.as_bytes()).map(Some).map_err(|bad| {
                        Failure::new(format!("cannot tell how the program ended: {bad}"))
                            .why("the module's answer is none that this version has")
                    });
                }
                Err(Errno::INTR) => {}
                Err(Errno::SRCH) => return Ok(None),
                Err(errno) => return Err(Failure::new(format!("cannot wait for the sandbox: {}", describe(errno)))),
            }
        }
    }

    /// Sends a signal. Returns false if nothing runs: not yet, or no more.
    pub(crate) fn kill(&self, signal: NonZeroU32, target: Target) -> bool {
        self.ask(Request::Kill, &mut Kill { signal, target }.encode()).is_ok()
    }
}

/// Bytes of ours, as the module wants them.
pub(crate) fn bytes(text: impl AsRef<OsStr>) -> UserBytes {
    let bytes = text.as_ref().as_bytes();
    // What is too long for a u32 is too long for the module too.
    UserBytes { addr: bytes.as_ptr().addr() as u64, len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
}

/// One of our descriptors, as the module wants it.
fn object(fd: &OwnedFd) -> HostObject {
    HostObject(fd.as_raw_fd().cast_unsigned().into())
}

/// An errno's meaning, in lower case as in our messages.
pub(crate) fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Why a sandbox cannot be as it is asked for, and the cure.
fn cannot_configure(errno: Errno, configure: &Configure) -> Failure {
    let failure = Failure::new(format!("cannot set the sandbox's limits: {}", describe(errno)));
    match (errno, configure.memory, configure.trap) {
        (Errno::NODEV, _, Trap::Svm) => Failure::new("cannot run hardware guests: this machine has no SVM for us")
            .why("the processor has none, or firmware or a hypervisor has turned it off")
            .cure("the other trap, which needs none: --trap ftrace"),
        (Errno::BUSY, _, Trap::Svm) => Failure::new("cannot run hardware guests: SVM is in use by another hypervisor")
            .why("only one can have it, and kvm_amd has it while it is loaded")
            .cure("the other trap, which needs none: --trap ftrace   (or: sudo rmmod kvm_amd)"),
        (Errno::NOMEM, Some(memory), _) => {
            failure.why(format!("{memory} bytes are more than this machine or your cgroup has")).cure("a smaller --mem")
        }
        _ => failure,
    }
}

/// Why the device does not open, and the cure.
fn cannot_open(errno: Errno) -> Failure {
    let failure = Failure::new(format!("cannot open {DEVICE}: {}", describe(errno)));
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO if Path::new("/sys/module/litebox").exists() => failure
            .why("the module is loaded, but its device node is not here")
            .cure("sudo udevadm trigger --name-match=litebox   (in a container: pass the device in)"),
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            failure.why("the kernel module litebox is not loaded").cure("sudo modprobe litebox   (or: sudo insmod litebox.ko)")
        }
        Errno::ACCESS | Errno::PERM => match fs::metadata(DEVICE) {
            Ok(node) => {
                let group = name_of("/etc/group", node.gid());
                let user = name_of("/etc/passwd", rustix::process::geteuid().as_raw());
                failure
                    .why(format!("the device belongs to group {group}; user {user} is not in it"))
                    .cure(format!("sudo usermod -aG {group} {user}   (then log in again)"))
            }
            Err(_hidden) => failure,
        },
        Errno::BUSY => failure.why("the module is being unloaded, or takes no more sandboxes"),
        _ => failure,
    }
}

/// The name of a number in a file like `/etc/group`, or the number. A static program has no other way.
fn name_of(file: &str, id: u32) -> String {
    let names = fs::read_to_string(file).unwrap_or_default();
    find_name(&names, id).map_or_else(|| id.to_string(), str::to_owned)
}

/// Finds `name:…:id:…`.
fn find_name(names: &str, id: u32) -> Option<&str> {
    names.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_lower_case_and_without_numbers() {
        assert_eq!(describe(Errno::ACCESS), "permission denied");
        assert_eq!(describe(Errno::NOENT), "no such file or directory");
    }

    #[test]
    fn a_trap_that_cannot_be_had_names_the_other() {
        let svm = Configure { trap: Trap::Svm, ..Configure::default() };
        for errno in [Errno::NODEV, Errno::BUSY] {
            let message = cannot_configure(errno, &svm).message();
            assert!(message.starts_with("litebox-launch: cannot run hardware guests"), "{message}");
            assert!(message.contains("\n  try: ") && message.contains("--trap ftrace"), "{message}");
        }
        let usual = cannot_configure(Errno::BUSY, &Configure::default()).message();
        assert!(!usual.contains("--trap"), "{usual}");
    }

    #[test]
    fn names_are_found_by_number() {
        let names = "root:x:0:\nbroken\nlitebox:x:998:ann,ben\n";
        assert_eq!((find_name(names, 998), find_name(names, 0), find_name(names, 7)), (Some("litebox"), Some("root"), None));
    }
}
