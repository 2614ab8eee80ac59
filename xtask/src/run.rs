//! `cargo xtask run`, `shell` and `bench`: one program in a VM, its streams and status being the command's.

use std::env;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Args;
use litebox_vm_init::{GUEST_ROOT, Job, Place, SHARE_DIR, ToVm};

use crate::terminal::{self, Raw};
use crate::vm::{Config, Input, Output, Vm};

/// What a shell shows for a program that wrote to a closed pipe.
const SIGPIPE_STATUS: i32 = 128 + 13;

/// What to run, where, and in what kind of VM.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Run the program in the same VM and root without a sandbox
    #[arg(long)]
    pub(crate) native: bool,
    /// Show a folder of this machine at /mnt/share, read and write
    #[arg(long, value_name = "DIR")]
    pub(crate) share: Option<PathBuf>,
    /// Kill the program after so many seconds; the status is 124 then
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<f64>,
    /// Memory of the VM in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub(crate) mem: u32,
    /// Processors of the VM
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) cpus: u32,
    /// Show the VM's kernel log on standard error
    #[arg(long)]
    pub(crate) kernel_log: bool,
    /// How the sandbox's programs are kept in ring 3: ftrace or svm
    #[arg(long, value_name = "TRAP")]
    pub(crate) trap: Option<String>,
    /// Show the sandbox's system calls in strace's manner
    #[arg(long)]
    pub(crate) trace: bool,
    /// After the program, open a shell in the VM, outside the sandbox
    #[arg(long)]
    pub(crate) shell: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<String>,
}

/// The environment of every program in a VM.
pub(crate) fn environment() -> Vec<(String, String)> {
    let term = env::var("TERM").ok().filter(|_| terminal::interactive()).unwrap_or_else(|| "dumb".into());
    let pairs = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("TERM", &term),
    ];
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Runs the program and gives its exit status.
///
/// # Errors
/// Set-up or VM faults; the command's status is 125 then.
pub(crate) fn run(args: &RunArgs) -> Result<i32> {
    if args.program.is_empty() && !args.shell {
        bail!("no program given\n  try: cargo xtask run -- echo hello");
    }
    let share = args.share.as_ref().map(|path| path.canonicalize().with_context(|| format!("cannot share {}", path.display())));
    let config = Config {
        memory_mib: args.mem,
        cpus: args.cpus,
        kernel_log: args.kernel_log,
        share: share.transpose()?,
        module: !args.native,
        ..Config::default()
    };
    let mut vm = Vm::boot(&config)?;

    let program = (!args.program.is_empty()).then(|| job(args));
    let shell = args.shell.then(shell_job);
    let mut status = 0;
    for job in [program, shell].into_iter().flatten() {
        match attached(&mut vm, job)? {
            Some(ended) => status = ended,
            // As for any program of a pipeline: nobody reads on, so there is nothing more to do and nothing to say.
            None => return Ok(SIGPIPE_STATUS),
        }
    }
    vm.power_off(false)?;
    Ok(status)
}

/// The job that the command line asks for.
fn job(args: &RunArgs) -> Job {
    let mut launcher_options = Vec::new();
    if args.trace {
        launcher_options.push("--trace".to_owned());
    }
    if let Some(trap) = &args.trap {
        launcher_options.extend(["--trap".to_owned(), trap.clone()]);
    }
    if args.share.is_some() {
        launcher_options.extend(["--bind".to_owned(), format!("{GUEST_ROOT}{SHARE_DIR}"), SHARE_DIR.to_owned()]);
    }
    Job {
        argv: args.program.clone(),
        env: environment(),
        place: if args.native { Place::Native } else { Place::Sandbox },
        launcher_options,
        terminal: terminal::interactive().then(terminal::size),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and a negative limit is none at all"
        )]
        timeout_ms: args.timeout.map(|seconds| (seconds * 1000.0) as u64),
        files: Vec::new(),
    }
}

/// A shell in the VM, natively.
fn shell_job() -> Job {
    Job {
        argv: vec!["bash".into(), "-i".into()],
        env: environment(),
        place: Place::Native,
        launcher_options: Vec::new(),
        terminal: terminal::interactive().then(terminal::size),
        timeout_ms: None,
        files: Vec::new(),
    }
}

/// Runs a job with this command's own standard streams. Gives its status, or nothing when nobody reads its output any more.
fn attached(vm: &mut Vm, job: Job) -> Result<Option<i32>> {
    let raw = job.terminal.is_some().then(Raw::enter).transpose()?;
    let mut size = job.terminal;
    let input = vm.input();
    let resize = vm.input();
    let mut feeder = Some(input);
    let mut nobody_reads = false;
    let ending = vm.run(
        &job,
        |output| {
            pass_on(&output).inspect_err(|error| nobody_reads = error.kind() == io::ErrorKind::BrokenPipe)?;
            Ok(())
        },
        || {
            // The job has been sent when this is first called, so its input follows it.
            if let Some(input) = feeder.take() {
                thread::spawn(move || feed(&input));
            }
            if let Some(known) = &mut size {
                let now = terminal::size();
                if now != *known {
                    *known = now;
                    resize.send(&ToVm::Resize(now))?;
                }
            }
            Ok(())
        },
    );
    drop(raw);
    if nobody_reads { Ok(None) } else { Ok(Some(ending?.status())) }
}

/// Sends this command's standard input to the job, until it ends.
fn feed(to: &Input) {
    let mut chunk = vec![0; 32 << 10];
    loop {
        // An unreadable input is an ended one. The VM being gone shows elsewhere.
        let sent = match io::stdin().lock().read(&mut chunk) {
            Ok(count @ 1..) => to.send(&ToVm::Stdin(chunk[..count].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            _ => {
                let _ = to.send(&ToVm::StdinEnd);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Writes what a job wrote.
fn pass_on(output: &Output) -> io::Result<()> {
    match output {
        Output::Stdout(bytes) => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Output::Stderr(bytes) => io::stderr().lock().write_all(bytes),
    }
}
