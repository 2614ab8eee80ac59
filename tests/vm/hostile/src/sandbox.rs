//! A sandbox as a launcher makes it, and the child that becomes its guest.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use litebox_ioctl_abi::{
    Configure, Ended, GiveFd, HostObject, Kill, Mount, MountFlags, Request, Run, Source, Target, Trap, UserBytes, Wait, WaitFlags,
};
use zerocopy::IntoBytes;

use crate::check::{Outcome, ensure};
use crate::sys::{self, Area, Errno, Pages};

/// The device.
pub(crate) const DEVICE: &str = "/dev/litebox";
/// Where this program lies, in the VM and so in a sandbox whose root is this directory.
const TOOLS: &str = "/mnt/litebox";
/// This program, from there.
pub(crate) const PROGRAM: &str = "/litebox-vm-hostile";
/// The guest's descriptor that a [`Guest`] reports on.
pub(crate) const REPORT: u32 = 9;
/// After so long nothing happens any more, even on a busy machine with an emulated processor.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// Bytes of the largest structure, or more.
const STRUCTURE_MAX: usize = 64;
/// Bytes of a report that are shown when it breaks off.
const SHOWN: usize = 300;
/// How often something is looked at that nobody announces.
const TICK: Duration = Duration::from_millis(1);

/// Whether sandboxes have the second trap.
static SVM: AtomicBool = AtomicBool::new(false);

/// From now on sandboxes have the second trap, or the usual one.
pub(crate) fn use_svm(yes: bool) {
    SVM.store(yes, Ordering::Relaxed);
}

/// An open device.
#[derive(Debug)]
pub(crate) struct Sandbox {
    device: File,
}

impl Sandbox {
    /// An empty one.
    pub(crate) fn open() -> Result<Self, Errno> {
        let device = OpenOptions::new().read(true).write(true).open(DEVICE);
        device.map(|device| Self { device }).map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    /// One whose root is the directory of this program, with the standard descriptors, which its runtime insists on.
    pub(crate) fn described() -> Outcome<Self> {
        let sandbox = Self::open().map_err(|errno| format!("open {DEVICE}: {}", name(errno)))?;
        if SVM.load(Ordering::Relaxed) {
            sandbox.choose_trap().map_err(|errno| format!("CONFIGURE: {}", name(errno)))?;
        }
        sandbox.mount_host(TOOLS, "/")?;
        let null = null();
        (0..3).try_for_each(|fd| sandbox.give(null.as_raw_fd(), fd)).map_err(|errno| format!("GIVE_FD: {}", name(errno)))?;
        Ok(sandbox)
    }

    /// Makes its guests hardware guests.
    pub(crate) fn choose_trap(&self) -> Result<(), Errno> {
        self.ask(Request::Configure, Configure { trap: Trap::Svm, ..Configure::default() }.encode().as_bytes())
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }

    /// The descriptor, which is closed by nobody but the caller then.
    pub(crate) fn into_fd(self) -> RawFd {
        self.device.into_raw_fd()
    }

    /// Makes a request with any bytes.
    pub(crate) fn ask(&self, request: Request, bytes: &[u8]) -> Result<(), Errno> {
        // A copy, for some requests write to it.
        let mut copy = [0; STRUCTURE_MAX];
        copy[..bytes.len()].copy_from_slice(bytes);
        sys::ioctl(self.fd(), request.number(), copy.as_mut_ptr().expose_provenance()).map(drop)
    }

    /// Shows a directory of the host in the sandbox, read-only.
    pub(crate) fn mount_host(&self, directory: &str, at: &str) -> Outcome {
        let path = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(directory);
        let path = path.map_err(|error| format!("open {directory}: {error}"))?;
        let at_bytes = UserBytes { addr: at.as_ptr().addr() as u64, len: u32::try_from(at.len()).unwrap_or(u32::MAX) };
        let mount = Mount { source: Source::Host(object(path.as_raw_fd())), flags: MountFlags::READ_ONLY, path: at_bytes };
        self.ask(Request::Mount, mount.encode().as_bytes()).map_err(|errno| format!("MOUNT {directory} at {at}: {}", name(errno)))
    }

    /// Gives a descriptor to the guest.
    pub(crate) fn give(&self, host: RawFd, guest: u32) -> Result<(), Errno> {
        self.ask(Request::GiveFd, GiveFd { host: object(host), guest }.encode().as_bytes())
    }

    /// How it ended, if it has; ESRCH if it never ran.
    pub(crate) fn ended(&self, flags: WaitFlags) -> Result<Ended, Errno> {
        let mut answer = Wait { flags }.encode();
        sys::ioctl(self.fd(), Request::Wait.number(), std::ptr::from_mut(&mut answer).expose_provenance())?;
        Ended::decode(answer.as_bytes()).map_err(|_bad| libc::EBADMSG)
    }

    /// Waits for the end, but not for ever.
    pub(crate) fn wait(&self) -> Outcome<Ended> {
        let limit = Instant::now() + LONG;
        loop {
            match self.ended(WaitFlags::NO_HANG) {
                Ok(Ended::Running) if Instant::now() < limit => thread::sleep(TICK),
                Ok(Ended::Running) => return Err("the sandbox does not end".into()),
                Ok(ended) => return Ok(ended),
                Err(errno) => return Err(format!("WAIT: {}", name(errno))),
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn kill(&self, signal: u32, target: Target) -> Result<(), Errno> {
        let signal = NonZeroU32::new(signal).ok_or(libc::EINVAL)?;
        self.ask(Request::Kill, Kill { signal, target }.encode().as_bytes())
    }
}

/// A descriptor as the module wants it.
pub(crate) fn object(fd: RawFd) -> HostObject {
    HostObject(u64::from(fd.cast_unsigned()))
}

/// A guest's command line, packed: what a child needs to make it run.
#[derive(Debug)]
pub(crate) struct Packed {
    text: Vec<u8>,
    lens: [u32; 4],
    argc: u32,
}

impl Packed {
    /// This program with arguments; the directory is `/` and the environment empty.
    pub(crate) fn this_program(arguments: &[&str]) -> Self {
        Self::program(PROGRAM, arguments)
    }

    /// Any program with arguments.
    pub(crate) fn program(path: &str, arguments: &[&str]) -> Self {
        let program = format!("{path}\0");
        let args: String = [path].iter().chain(arguments).map(|argument| format!("{argument}\0")).collect();
        let lens = [program.len(), 2, args.len(), 0].map(|length| u32::try_from(length).expect("a command line of bytes"));
        let text = [program.as_bytes(), b"/\0", args.as_bytes()].concat();
        Self { text, lens, argc: u32::try_from(arguments.len() + 1).expect("few") }
    }

    /// The strings.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The request, for a device that the caller has under the number `fd`.
    pub(crate) fn request(&self, fd: RawFd) -> litebox_ioctl_abi::wire::Run {
        Run::encode(object(fd), self.text.as_ptr().addr() as u64, self.lens, [self.argc, 0])
    }
}

/// What a child does before it becomes a guest.
pub(crate) fn clean(keep: RawFd) -> Result<(), Errno> {
    sys::close_all_but(keep);
    Area::ALL.into_iter().try_for_each(Area::forget)
}

/// Starts a child that makes one request; gives its pid. `errno` receives what came back, or 0 if nothing did.
pub(crate) fn start(sandbox: &Sandbox, packed: &Packed, errno: &Pages) -> Outcome<i32> {
    errno.set_number(0, 0);
    let (fd, run) = (sandbox.fd(), packed.request(sandbox.fd()));
    match sys::fork() {
        Err(errno) => Err(format!("fork: {}", name(errno))),
        Ok(Some(pid)) => Ok(pid),
        Ok(None) => {
            let result = clean(fd).and_then(|()| sandbox.ask(Request::Run, run.as_bytes()));
            errno.set_number(0, result.err().unwrap_or(-1));
            sys::exit(0)
        }
    }
}

/// A guest of this program that has begun, with a pipe on which it reports.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its sandbox.
    pub(crate) sandbox: Sandbox,
    /// Its carrier, a child of this process.
    pub(crate) pid: i32,
    report: File,
    /// The first number says "go on" to the child, the second is the errno of its RUN.
    shared: Pages,
}

impl Guest {
    /// Starts `guest WHAT`, and waits until it has said its first byte.
    pub(crate) fn begin(what: &[&str]) -> Outcome<Self> {
        let guest = Self::start(Sandbox::described()?, what, |_pid| Ok(()))?;
        guest.await_sign()?;
        Ok(guest)
    }

    /// Starts `guest WHAT` in a sandbox; `watch` is told the child's pid before the child goes on to RUN.
    pub(crate) fn start(sandbox: Sandbox, what: &[&str], watch: impl FnOnce(i32) -> Outcome) -> Outcome<Self> {
        let (report, their_end) = sys::pipe().map_err(|errno| format!("pipe: {}", name(errno)))?;
        sandbox.give(their_end.as_raw_fd(), REPORT).map_err(|errno| format!("GIVE_FD: {}", name(errno)))?;
        let arguments: Vec<&str> = ["guest"].iter().chain(what).copied().collect();
        let packed = Packed::this_program(&arguments);
        let run = packed.request(sandbox.fd());
        let shared = Pages::new(1);
        let child = sys::fork().map_err(|errno| format!("fork: {}", name(errno)))?;
        let Some(pid) = child else {
            while shared.number(0) == 0 {
                thread::yield_now();
            }
            let result = clean(sandbox.fd()).and_then(|()| sandbox.ask(Request::Run, run.as_bytes()));
            shared.set_number(1, result.err().unwrap_or(-1));
            sys::exit(0)
        };
        drop(their_end);
        let watched = watch(pid);
        shared.set_number(0, 1);
        watched?;
        let guest = Self { sandbox, pid, report: File::from(report), shared };
        let limit = Instant::now() + LONG;
        loop {
            guest.has_run()?;
            // Ended guests have run, too.
            if guest.sandbox.ended(WaitFlags::NO_HANG).is_ok() {
                return Ok(guest);
            }
            if Instant::now() > limit {
                return Err("RUN neither succeeds nor fails".into());
            }
            thread::sleep(TICK);
        }
    }

    /// Fails if its RUN came back.
    fn has_run(&self) -> Outcome {
        match self.shared.number(1) {
            0 => Ok(()),
            errno => Err(format!("RUN: {}", name(errno))),
        }
    }

    /// Waits until there is something to read, or the end.
    fn await_report(&self) -> Outcome {
        let limit = i32::try_from(LONG.as_millis()).unwrap_or(i32::MAX);
        ensure(sys::readable(self.report.as_raw_fd(), limit), || "the guest says nothing".into())?;
        self.has_run()
    }

    /// Waits for a byte of the guest's.
    pub(crate) fn await_sign(&self) -> Outcome {
        self.await_report()?;
        let mut byte = [0];
        match (&self.report).read(&mut byte) {
            Ok(1) => Ok(()),
            other => Err(format!("the guest says nothing and has closed its end ({other:?}); {:?}", self.sandbox.wait())),
        }
    }

    /// All that it says to its end.
    pub(crate) fn words(&self) -> Outcome<String> {
        let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            let said = |text: &[u8]| String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]).into_owned();
            self.await_report().map_err(|why| format!("{why} after: {}", said(&text)))?;
            match (&self.report).read(&mut chunk) {
                Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
                Ok(count) => text.extend_from_slice(&chunk[..count]),
                Err(error) => return Err(format!("the guest's report: {error}")),
            }
        }
    }

    /// Waits for the sandbox's end, and for the carrier's.
    pub(crate) fn wait(&self) -> Outcome<Ended> {
        let ended = self.sandbox.wait()?;
        reap(self.pid)?;
        Ok(ended)
    }
}

/// Waits until a carrier is gone. The host keeps no status of some, which is as good.
pub(crate) fn reap(pid: i32) -> Outcome {
    let limit = Instant::now() + LONG;
    loop {
        match sys::try_wait_child(pid) {
            Ok(Some(_)) | Err(libc::ECHILD) => return Ok(()),
            Ok(None) if Instant::now() > limit => return Err(format!("carrier {pid} does not end")),
            Ok(None) => thread::sleep(TICK),
            Err(errno) => return Err(format!("waitpid: {}", name(errno))),
        }
    }
}

/// An exit status as WAIT gives it.
pub(crate) fn exited(status: u8) -> Ended {
    Ended::Exited(status)
}

/// A signal as WAIT gives it.
pub(crate) fn signalled(signal: i32) -> Ended {
    NonZeroU32::new(signal.unsigned_abs()).map_or(Ended::Running, Ended::Signalled)
}

/// The name of an errno that occurs here, or its number.
pub(crate) fn name(errno: Errno) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

/// A descriptor that leads nowhere.
pub(crate) fn null() -> OwnedFd {
    File::open("/dev/null").expect("/dev/null").into()
}
