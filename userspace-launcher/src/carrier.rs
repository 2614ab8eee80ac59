//! The child: a process that keeps nothing the host would act on, and then becomes the guest.
//!
//! Between fork and `RUN` nothing allocates or locks. A fork leaves timers, pending signals, other threads and memory locks
//! behind by itself; the rest is undone here. The exit status says what went wrong: an errno of `RUN`, or a [`Step`].

use crate::cli::{Cwd, Plan};
use crate::device::{Sandbox, describe};
use crate::pack::Packed;
use crate::raw;
use crate::report::{Failure, Status};
use litebox_ioctl_abi::Request;
use rustix::fd::BorrowedFd;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use std::convert::Infallible;

/// What failed other than the program itself, as exit status of the child. Above every errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    /// Dies with the launcher.
    Tie = 200,
    /// A session of its own: signals of the terminal reach the launcher alone.
    Session,
    /// No tracer of the same user may change the registers or the trap's state.
    Hide,
    /// No privilege can be gained, whatever the host might be made to do.
    Privileges,
    /// The guest's address space is one mapping of 128 TiB.
    Limits,
    /// Only the sandbox stays open.
    Descriptors,
    /// Signals blocked, faults without a handler that could run.
    Signals,
    /// What the host writes into user memory by itself.
    Areas,
    /// The sandbox does not have the working directory that was asked for.
    Directory,
}

impl Step {
    const ALL: [(Self, &str); 9] = [
        (Self::Tie, "tie it to the launcher"),
        (Self::Session, "start a session"),
        (Self::Hide, "make it non-dumpable"),
        (Self::Privileges, "set no_new_privs"),
        (Self::Limits, "lift the limit on its address space"),
        (Self::Descriptors, "close its descriptors"),
        (Self::Signals, "set its signals"),
        (Self::Areas, "unregister rseq, robust list and alternate stack"),
        (Self::Directory, "enter its working directory"),
    ];
}

/// The child process.
#[derive(Debug)]
pub(crate) struct Carrier {
    pid: Pid,
}

impl Carrier {
    /// Forks the child, which becomes the guest by the first of `runs` that the module takes; where none is found, `probe` tells whether
    /// the working directory is there. One thread only, so far.
    pub(crate) fn start(sandbox: &Sandbox, runs: &[Packed], probe: Option<&Packed>) -> Result<Self, Failure> {
        let parent = rustix::process::getpid();
        match raw::fork() {
            Ok(Some(pid)) => Ok(Self { pid }),
            Ok(None) => {
                let Err(status) = become_guest(sandbox.fd(), parent, runs, probe);
                raw::exit(status)
            }
            Err(errno) => Err(Failure::new(format!("cannot start a process: {}", describe(errno)))
                .why("a limit on processes or memory is reached")
                .cure("ulimit -u; systemctl status user.slice")),
        }
    }

    /// Waits for the child. `None` if the host keeps no status: a guest's carrier leaves no zombie.
    pub(crate) fn wait(&self) -> Option<WaitStatus> {
        loop {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_pid, status))) => return Some(status),
                Ok(None) | Err(Errno::INTR) => {}
                Err(_none) => return None,
            }
        }
    }
}

/// In the child: cleans up, then runs. Gives an exit status, for it comes back on failure only.
fn become_guest(device: BorrowedFd<'_>, parent: Pid, runs: &[Packed], probe: Option<&Packed>) -> Result<Infallible, u8> {
    clean(device, parent).map_err(|step| step as u8)?;
    // As execvp(3): look on where there is nothing, but remember a program that may not be executed.
    let mut worst = Errno::NOENT;
    for run in runs {
        match raw::ioctl(device, Request::Run, &mut run.request()) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::ACCESS) => worst = Errno::ACCESS,
            Err(errno) => {
                worst = errno;
                break;
            }
        }
    }
    let probed = probe.filter(|_| worst == Errno::NOENT).map(|probe| raw::ioctl(device, Request::Run, &mut probe.request()));
    if let Some(Err(Errno::NOENT | Errno::NOTDIR)) = probed {
        return Err(Step::Directory as u8);
    }
    Err(u8::try_from(worst.raw_os_error()).unwrap_or(u8::MAX))
}

/// All steps, in an order in which none undoes another.
fn clean(device: BorrowedFd<'_>, parent: Pid) -> Result<(), Step> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|_errno| Step::Tie)?;
    if rustix::process::getppid() != Some(parent) {
        return Err(Step::Tie); // It died before we asked.
    }
    rustix::process::setsid().map_err(|_errno| Step::Session)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|_errno| Step::Hide)?;
    rustix::thread::set_no_new_privs(true).map_err(|_errno| Step::Privileges)?;
    let unlimited = Rlimit { current: None, maximum: None };
    if rustix::process::getrlimit(Resource::As) != unlimited {
        // The soft limit alone suffices, and needs no privilege if the hard one is unlimited.
        rustix::process::setrlimit(Resource::As, unlimited).map_err(|_errno| Step::Limits)?;
    }
    // What a guest creates in a host's directory has the modes that the guest's own umask leaves.
    rustix::process::umask(Mode::empty());
    raw::close_all_but(device).map_err(|_errno| Step::Descriptors)?;
    raw::silence_signals().map_err(|_errno| Step::Signals)?;
    raw::forget_areas().map_err(|_errno| Step::Areas)
}

/// What to tell when the child ended without ever being a guest.
pub(crate) fn not_started(plan: &Plan, child: Option<WaitStatus>) -> Failure {
    let name = plan.program.first().map(|name| name.display().to_string()).unwrap_or_default();
    let Some(status) = child.and_then(WaitStatus::exit_status) else {
        let failure = Failure::new(format!("cannot run {name}: the process ended before it was a guest"));
        return match child.and_then(WaitStatus::terminating_signal) {
            Some(signal) => failure.why(format!("signal {signal} came first; for 9 see memory limits")),
            None => failure,
        };
    };
    if let Some((step, text)) = Step::ALL.into_iter().find(|(step, _)| i32::from(*step as u8) == status) {
        let failure = Failure::new(format!("cannot prepare the process that becomes {name}: failed to {text}"));
        return match step {
            Step::Limits => failure
                .why("the sandbox is one mapping of 128 TiB, and the hard limit on address space is lower")
                .cure("ulimit -Hv must say unlimited; see /etc/security/limits.conf, LimitAS= of systemd"),
            Step::Directory => {
                let (Cwd::Asked(dir) | Cwd::Inherited(dir)) = &plan.cwd;
                Failure::new(format!("cannot run {name} in {}: no such directory in the sandbox", dir.display()))
                    .cure("--dir makes it, --bind shows one; or another --chdir")
            }
            Step::Tie | Step::Session | Step::Hide | Step::Privileges => failure,
            Step::Descriptors | Step::Signals | Step::Areas => failure.cure("a kernel of 5.11 or later"),
        };
    }
    let errno = Errno::from_raw_os_error(status);
    let failure = Failure::new(format!("cannot run {name}: {}", describe(errno)));
    match errno {
        Errno::NOENT | Errno::NOTDIR => failure
            .why("it, or the interpreter it names, is not there in the sandbox; --trace shows where it was sought")
            .cure("an absolute path, or --ro-bind SRC DST")
            .status(Status::NOT_FOUND),
        Errno::ACCESS => failure
            .why("it is no regular file with execute permission, or a directory above it cannot be searched")
            .cure("chmod +x, or run its interpreter with it as argument")
            .status(Status::NOT_EXECUTABLE),
        Errno::NOEXEC => failure
            .why("it is neither a 64-bit x86 ELF program nor a script that starts with #!")
            .cure("run its interpreter with it as argument, for example: sh FILE")
            .status(Status::NOT_EXECUTABLE),
        Errno::TOOBIG | Errno::LOOP | Errno::LIBBAD | Errno::ISDIR | Errno::NAMETOOLONG => failure.status(Status::NOT_EXECUTABLE),
        Errno::NOMEM => failure.why("the sandbox's memory does not hold it").cure("a larger --mem"),
        Errno::PERM => failure.why("the device was opened by another user, or a debugger is attached"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    #[test]
    fn steps_and_errnos_cannot_be_confused() {
        for (index, (step, _)) in Step::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(step as u8), 200 + index);
        }
    }

    #[test]
    fn a_clean_carrier_keeps_one_descriptor_and_no_areas() {
        // A real child goes through every step, then says how it fared.
        let device = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, Mode::empty()).unwrap();
        let other = device.try_clone().unwrap();
        let parent = rustix::process::getpid();
        let Some(pid) = raw::fork().unwrap() else {
            // No module answers here: `RUN` on /dev/null is ENOTTY.
            let status = match clean(device.as_fd(), parent) {
                Err(step) => step as u8,
                Ok(()) if rustix::io::fcntl_getfd(device.as_fd()).is_err() => 1,
                Ok(()) if rustix::io::fcntl_getfd(&other).is_ok() => 2,
                Ok(()) => match raw::ioctl(device.as_fd(), Request::Run, &mut litebox_ioctl_abi::wire::Run::default()) {
                    Err(Errno::NOTTY) => 42,
                    _ => 3,
                },
            };
            raw::exit(status)
        };
        assert_eq!(Carrier { pid }.wait().and_then(WaitStatus::exit_status), Some(42));
    }

    #[test]
    fn a_clean_carrier_shows_it_in_proc() {
        let device = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, Mode::empty()).unwrap();
        let parent = rustix::process::getpid();
        let Some(pid) = raw::fork().unwrap() else {
            if let Err(step) = clean(device.as_fd(), parent) {
                raw::exit(step as u8);
            }
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        };
        // All but ILL, TRAP, BUS, FPE, SEGV, SYS, and the two that nobody can block. Set last but one.
        let faults = [4, 5, 7, 8, 11, 31].map(|signal| 1_u64 << (signal - 1)).iter().sum::<u64>();
        let blocked = !faults & !(1 << 8) & !(1 << 18);
        let mut status = String::new();
        for _ in 0..500 {
            status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap();
            if status.contains(&format!("SigBlk:\t{blocked:016x}")) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        Carrier { pid }.wait();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
        assert_eq!(field("SigBlk:"), format!("{blocked:016x}"));
        let caught = u64::from_str_radix(field("SigCgt:"), 16).unwrap();
        assert_eq!(caught & faults, faults);
        assert_eq!((field("NoNewPrivs:"), field("Threads:")), ("1", "1"));
    }

    #[test]
    fn a_child_that_never_ran_is_explained() {
        let plan = Plan {
            places: Vec::new(),
            memory: None,
            tasks: None,
            hostname: None,
            user: [0; 2],
            cwd: Cwd::Inherited("/".into()),
            trap: litebox_ioctl_abi::Trap::Usual,
            trace: false,
            terminal: false,
            program: vec!["prog".into()],
            variables: crate::cli::Variables::default(),
            environment: Vec::new(),
        };
        let ended = |status: u8| {
            let Some(pid) = raw::fork().unwrap() else { raw::exit(status) };
            not_started(&plan, Carrier { pid }.wait())
        };
        for (status, exit, text) in [
            (2, Status::NOT_FOUND, "litebox-launch: cannot run prog: no such file or directory\n"),
            (13, Status::NOT_EXECUTABLE, "litebox-launch: cannot run prog: permission denied\n"),
            (8, Status::NOT_EXECUTABLE, "litebox-launch: cannot run prog: exec format error\n"),
            (12, Status::SETUP, "litebox-launch: cannot run prog: cannot allocate memory\n"),
            (204, Status::SETUP, "failed to lift the limit on its address space\n"),
            (208, Status::SETUP, "litebox-launch: cannot run prog in /: no such directory in the sandbox\n"),
        ] {
            let failure = ended(status);
            assert_eq!(failure.exit_status(), exit, "{status}");
            assert!(failure.message().contains(text), "{}", failure.message());
        }
        assert_eq!(not_started(&plan, None).exit_status(), Status::SETUP);
    }
}
