//! One program: started, fed, watched, and cleared away.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use litebox_vm_init::{Ending, FILES_DIR, GUEST_ROOT, Job, Place, ToHost, WindowSize};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_move};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::mounts::in_guest_root;
use crate::port::Sender;

/// The launcher in the VM's own root.
const LAUNCHER: &str = "/tools/litebox-launch";
/// Chunks of standard input that wait for a program that does not read; then the host has to wait.
const STDIN_CHUNKS: usize = 8;

/// A job that was started.
#[derive(Debug)]
pub(crate) struct Running {
    stdin: Option<SyncSender<Vec<u8>>>,
    terminal: Option<File>,
    supervisor: JoinHandle<()>,
}

impl Running {
    /// Starts a job. A program that cannot be started is reported as ended, and there is none running then.
    pub(crate) fn start(job: Job, sender: &Arc<Sender>) -> Result<Option<Self>, String> {
        let started = place_files(&job).and_then(|()| spawn(&job));
        let (child, terminal) = match started {
            Ok(started) => started,
            Err(error) => {
                let (ending, reason) = explain(&job, &error);
                sender.send(&ToHost::Stderr(format!("{reason}\n").into_bytes()))?;
                sender.send(&ToHost::Ended(ending))?;
                return Ok(None);
            }
        };
        let (stdin, chunks) = sync_channel(STDIN_CHUNKS);
        let supervisor = {
            let terminal = terminal.as_ref().map(File::try_clone).transpose().map_err(|error| error.to_string())?;
            let sender = Arc::clone(sender);
            let timeout = job.timeout_ms.map(Duration::from_millis);
            thread::spawn(move || supervise(child, terminal, chunks, timeout, &sender))
        };
        Ok(Some(Self { stdin: Some(stdin), terminal, supervisor }))
    }

    /// Passes bytes to the program's standard input; waits when it does not read.
    pub(crate) fn stdin(&self, bytes: Vec<u8>) {
        if let Some(stdin) = &self.stdin {
            // The receiver is gone when the job has ended: late input belongs to nobody.
            let _ = stdin.send(bytes);
        }
    }

    /// Ends the program's standard input.
    pub(crate) fn stdin_end(&mut self) {
        self.stdin = None;
    }

    /// Tells the program's terminal its new size.
    pub(crate) fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.terminal {
            let _ = set_size(terminal, size);
        }
    }

    /// Waits until the job is cleared away.
    pub(crate) fn wait(mut self) {
        self.stdin_end();
        let _ = self.supervisor.join();
    }
}

/// Writes the job's files where it finds them, and removes the last job's.
fn place_files(job: &Job) -> io::Result<()> {
    let directory = in_guest_root(FILES_DIR);
    for entry in fs::read_dir(&directory)? {
        fs::remove_file(entry?.path())?;
    }
    for file in &job.files {
        let path = directory.join(&file.name);
        fs::write(&path, &file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(if file.executable { 0o755 } else { 0o644 }))?;
    }
    Ok(())
}

/// Starts the program, with pipes or with a terminal; gives the terminal's end for us.
fn spawn(job: &Job) -> io::Result<(Child, Option<File>)> {
    let mut command = command(job)?;
    command.env_clear().envs(job.env.iter().map(|(name, value)| (name, value)));
    let native = job.place == Place::Native;
    let terminal = job.terminal.map(open_terminal).transpose()?;
    let has_terminal = terminal.is_some();
    let master = match terminal {
        Some((master, slave)) => {
            command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
            Some(master)
        }
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        }
    };
    let enter = move || {
        rustix::process::setsid()?;
        if has_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        if native {
            enter_guest_root()?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec `enter` makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) };
    Ok((command.spawn()?, master))
}

/// The command line: the program itself, or the launcher with it.
fn command(job: &Job) -> io::Result<Command> {
    let (program, arguments) = job.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    if job.place == Place::Native {
        let mut command = Command::new(program);
        command.args(arguments);
        return Ok(command);
    }
    let mut command = Command::new(LAUNCHER);
    if !job.launcher_options.iter().any(|option| option == "--root") {
        command.args(["--root", GUEST_ROOT]);
    }
    if !job.files.is_empty() {
        command.arg("--bind").arg(in_guest_root(FILES_DIR)).arg(FILES_DIR);
    }
    command.args(&job.launcher_options).arg("--").args(&job.argv);
    Ok(command)
}

/// What is mounted in the guest's root image, and where a job's own root has it.
const BINDS: [(&CStr, &CStr); 7] = [
    (c"/guestroot/proc", c"/layers/root/proc"),
    (c"/guestroot/sys", c"/layers/root/sys"),
    (c"/guestroot/dev", c"/layers/root/dev"),
    (c"/guestroot/run", c"/layers/root/run"),
    (c"/guestroot/mnt/case", c"/layers/root/mnt/case"),
    (c"/guestroot/mnt/litebox", c"/layers/root/mnt/litebox"),
    (c"/guestroot/mnt/share", c"/layers/root/mnt/share"),
];

/// Puts the calling process into the guest's root, with a layer of its own over it and a /tmp of its own, as the launcher does.
fn enter_guest_root() -> io::Result<()> {
    // SAFETY: this process is single-threaded since the fork, and shares no file-system state that it relies on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount(c"tmpfs", c"/layers", c"tmpfs", MountFlags::empty(), c"mode=0755")?;
    for dir in [c"/layers/upper", c"/layers/work", c"/layers/root"] {
        rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755))?;
    }
    let layers = c"lowerdir=/guestroot,upperdir=/layers/upper,workdir=/layers/work";
    mount(c"overlay", c"/layers/root", c"overlay", MountFlags::empty(), layers)?;
    for (from, to) in BINDS {
        mount_bind_recursive(from, to)?;
    }
    rustix::process::chdir(c"/layers/root")?;
    mount(c"tmpfs", c"tmp", c"tmpfs", MountFlags::NOSUID, c"mode=1777")?;
    // A root that is the namespace's own, not only this process's: in a chroot(2) nobody makes user namespaces.
    mount_move(c".", c"/")?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")?;
    Ok(())
}

/// A new pseudo-terminal: our end, the program's end.
fn open_terminal(size: WindowSize) -> io::Result<(File, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let master = File::from(master);
    set_size(&master, size)?;
    Ok((master, slave))
}

fn set_size(terminal: &File, size: WindowSize) -> io::Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// Feeds the child, passes its output on, waits for it and reports how it ended.
fn supervise(
    mut child: Child,
    terminal: Option<File>,
    chunks: Receiver<Vec<u8>>,
    timeout: Option<Duration>,
    sender: &Arc<Sender>,
) {
    let mut output = Vec::new();
    if let Some(terminal) = terminal {
        if let Ok(reader) = terminal.try_clone() {
            output.push(pump(reader, sender, ToHost::Stdout));
        }
        feed(terminal, chunks);
    } else {
        output.extend(child.stdout.take().map(|reader| pump(reader, sender, ToHost::Stdout)));
        output.extend(child.stderr.take().map(|reader| pump(reader, sender, ToHost::Stderr)));
        if let Some(stdin) = child.stdin.take() {
            feed(stdin, chunks);
        }
    }

    let late = Arc::new(AtomicBool::new(false));
    let (ended, end) = channel::<()>();
    let watch = timeout.map(|timeout| {
        let late = Arc::clone(&late);
        thread::spawn(move || {
            if end.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                late.store(true, Ordering::SeqCst);
                kill_everything();
            }
        })
    });
    let status = child.wait();
    drop(ended);
    if let Some(watch) = watch {
        let _ = watch.join();
    }
    // What the program left running would hold its pipes open, and disturb the next job.
    kill_everything();
    for thread in output {
        let _ = thread.join();
    }
    while rustix::process::wait(WaitOptions::NOHANG).is_ok_and(|reaped| reaped.is_some()) {}

    let ending = match status {
        _ if late.load(Ordering::SeqCst) => Ending::TimedOut,
        Ok(status) => status.code().map_or_else(|| Ending::Signalled(status.signal().unwrap_or(0)), Ending::Exited),
        Err(_) => Ending::Signalled(0),
    };
    let _ = sender.send(&ToHost::Ended(ending));
}

/// Passes what a program writes on to the host, until all its writers are gone.
fn pump(mut from: impl Read + Send + 'static, sender: &Arc<Sender>, wrap: fn(Vec<u8>) -> ToHost) -> JoinHandle<()> {
    let sender = Arc::clone(sender);
    thread::spawn(move || {
        let mut chunk = vec![0; 32 << 10];
        // A terminal whose last writer is gone answers EIO: an end like any other.
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if sender.send(&wrap(chunk[..count].to_vec())).is_err() {
                break;
            }
        }
    })
}

/// Writes chunks to a program until they end. One that has stopped reading still has its input taken, and dropped.
fn feed(mut to: impl Write + Send + 'static, chunks: Receiver<Vec<u8>>) {
    thread::spawn(move || {
        let mut reads = true;
        for chunk in chunks {
            reads = reads && to.write_all(&chunk).is_ok();
        }
    });
}

/// Kills every process of the VM but this one.
fn kill_everything() {
    // The "group" of process 1 is kill(2)'s -1: every process but the caller, when that is process 1.
    let _ = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
}

/// Why a program could not be started.
fn explain(job: &Job, error: &io::Error) -> (Ending, String) {
    let program = if job.place == Place::Native { job.argv.first().map_or("", String::as_str) } else { LAUNCHER };
    let ending = match error.kind() {
        _ if job.place == Place::Sandbox => Ending::Exited(125),
        io::ErrorKind::NotFound => Ending::NotFound,
        _ => Ending::NotExecutable,
    };
    (ending, format!("xtask: cannot run {program}: {error}; is it in the guest's root? (cargo xtask shell)"))
}
