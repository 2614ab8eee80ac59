//! The virtual machine: booted, spoken to, watched, and ended.

mod console;
mod debugger;
mod outcome;
mod qemu;

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use litebox_vm_init::{Decoder, Ending, Job, Message, Setup as Preparation, ToHost, ToVm, send};

use self::console::Console;
pub(crate) use self::debugger::Debugger;
pub(crate) use self::outcome::Outcome;
use crate::setup::{Scope, Setup};
use crate::{paths, tested};

/// How often the kernel log is looked at while nothing comes from the VM.
const TICK: Duration = Duration::from_millis(100);
/// From power-on until the VM is prepared; an emulated one takes some seconds on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// See [`Config::silence`].
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// The VM kills a job that is out of time; so much later it has failed to.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// From the word to power off until QEMU has ended.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);
/// So many times these limits for the debug kernel.
const DEBUG_PATIENCE: u32 = 8;
/// After the kernel has reported a fault: time for the rest of its report.
const REPORT_TIME: Duration = Duration::from_secs(2);

/// What kind of VM is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// Number of processors.
    pub(crate) cpus: u32,
    /// Show the kernel's log on standard error as it comes.
    pub(crate) kernel_log: bool,
    /// A folder that the VM sees, read and write.
    pub(crate) share: Option<PathBuf>,
    /// Load litebox.ko.
    pub(crate) module: bool,
    /// The kernel is the debug kernel.
    pub(crate) debug_kernel: bool,
    /// Further words of the kernel's command line.
    pub(crate) kernel_words: &'static str,
    /// An emulated processor of this model, whatever this machine's own can do.
    pub(crate) emulated_cpu: Option<&'static str>,
    /// Let [`Vm::debugger`] change the VM's memory.
    pub(crate) debugger: bool,
    /// Emulated, with a clock that advances by a nanosecond with each instruction: what is measured is how many are executed, and is
    /// the same each time. For one processor.
    pub(crate) counted: bool,
    /// The VM sends a sign of life each second; once it is prepared, after so long without one it hangs.
    pub(crate) silence: Duration,
}

impl Config {
    /// What such a VM takes.
    fn scope(&self) -> Scope {
        match (self.module, self.debug_kernel) {
            (_, true) => Scope::Debug,
            (true, false) => Scope::Sandbox,
            (false, false) => Scope::Native,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            cpus: 2,
            kernel_log: false,
            share: None,
            module: false,
            debug_kernel: false,
            kernel_words: "",
            emulated_cpu: None,
            debugger: false,
            counted: false,
            silence: SILENCE_LIMIT,
        }
    }
}

/// Sends to the VM, from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Input(Arc<Mutex<UnixStream>>);

impl Input {
    /// Sends one message.
    pub(crate) fn send(&self, message: &impl Message) -> Result<()> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut *stream, message).context("the VM does not listen any more")
    }
}

/// What a job wrote.
#[derive(Debug)]
pub(crate) enum Output {
    /// To standard output, or to its terminal.
    Stdout(Vec<u8>),
    /// To standard error.
    Stderr(Vec<u8>),
}

/// A running VM. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct Vm {
    qemu: Child,
    input: Input,
    stream: UnixStream,
    decoder: Decoder,
    console: Console,
    directory: PathBuf,
    has_debugger: bool,
    patience: u32,
    silence: Duration,
    last_sign: Instant,
}

impl Vm {
    /// Makes what a VM takes, boots it and waits until it is prepared; tells of a kernel that is newer than the last tested one.
    ///
    /// # Errors
    /// Set-up faults; a VM that does not start, or cannot be prepared as `config` says, with what the kernel had to say.
    pub(crate) fn boot(config: &Config) -> Result<Self> {
        let cache = paths::cache();
        let artefacts = Setup::new(cache.clone()).ensure(config.scope())?;
        let accelerator = if config.counted || config.emulated_cpu.is_some() {
            qemu::Accelerator::Tcg
        } else {
            qemu::accelerator(&cache, &artefacts)
        };
        let qemu::Started { child, stream, directory, console } = qemu::start(&cache, &artefacts, config, accelerator)?;
        let console = Console::new(console, config.kernel_log);
        let input = Input(Arc::new(Mutex::new(stream.try_clone()?)));
        stream.set_read_timeout(Some(TICK))?;
        let last_sign = Instant::now();
        let mut vm = Self {
            qemu: child,
            input,
            stream,
            decoder: Decoder::default(),
            console,
            directory,
            has_debugger: config.debugger,
            patience: if config.debug_kernel { DEBUG_PATIENCE } else { 1 },
            silence: SILENCE_LIMIT,
            last_sign,
        };
        vm.input.send(&ToVm::Setup(Preparation { module: config.module, share: config.share.is_some() }))?;
        let limit = BOOT_LIMIT * vm.patience;
        let deadline = Instant::now() + limit;
        let prepared = loop {
            match vm.next() {
                Ok(Some(ToHost::Ready(release))) => break Ok(release),
                Ok(Some(ToHost::Failed(reason))) => break Err(anyhow!("the VM could not be prepared: {reason}")),
                Ok(_) if Instant::now() > deadline => {
                    break Err(anyhow!("the VM was not ready after {} s", limit.as_secs()));
                }
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        let release = prepared.map_err(|error| vm.console.explain(error))?;
        vm.silence = config.silence;
        if !config.debug_kernel {
            tested::note(&release);
        }
        // Everything is open by now: whoever waits for the cache may change it.
        drop(artefacts);
        Ok(vm)
    }

    /// The first line of the kernel's log that reports a fault, if there is one.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.console.fault()
    }

    /// The way to the VM's memory, if its configuration has one.
    pub(crate) fn debugger(&self) -> Option<Debugger> {
        self.has_debugger.then(|| Debugger::at(self.directory.join(debugger::SOCKET)))
    }

    /// The way to send a job its input while it runs.
    pub(crate) fn input(&self) -> Input {
        self.input.clone()
    }

    /// Runs a job to its end. `output` gets what it writes and `tick` is called some times a second.
    ///
    /// # Errors
    /// A VM that dies, hangs, or whose kernel reports a fault. It is of no further use then.
    pub(crate) fn run(
        &mut self,
        job: &Job,
        mut output: impl FnMut(Output) -> Result<()>,
        mut tick: impl FnMut() -> Result<()>,
    ) -> Result<Ending> {
        let deadline = job.timeout_ms.map(|limit| Instant::now() + Duration::from_millis(limit) + KILL_LIMIT * self.patience);
        self.input.send(&ToVm::Job(job.clone()))?;
        let mut watched = || -> Result<Ending> {
            loop {
                match self.next()? {
                    Some(ToHost::Stdout(bytes)) => output(Output::Stdout(bytes))?,
                    Some(ToHost::Stderr(bytes)) => output(Output::Stderr(bytes))?,
                    Some(ToHost::Ended(ending)) => return Ok(ending),
                    Some(ToHost::Failed(reason)) => bail!("the VM failed: {reason}"),
                    Some(ToHost::Ready(_) | ToHost::Alive) | None => {}
                }
                tick()?;
                if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    bail!("the VM could not kill a program that was out of time");
                }
            }
        };
        watched().map_err(|error| self.console.explain(error))
    }

    /// Powers the VM off; with `unload` the module is removed first.
    ///
    /// # Errors
    /// A VM that does not power off, a module that does not go, or a kernel that reported a fault at any time.
    pub(crate) fn power_off(mut self, unload: bool) -> Result<()> {
        self.input.send(&ToVm::PowerOff(unload))?;
        let deadline = Instant::now() + POWER_OFF_LIMIT * self.patience;
        let mut failed = None;
        while self.qemu.try_wait()?.is_none() {
            if let Ok(Some(ToHost::Failed(reason))) = self.receive() {
                failed = Some(reason);
            }
            if Instant::now() > deadline {
                return Err(self.console.explain(anyhow!("the VM did not power off")));
            }
        }
        self.console.read();
        if let Some(reason) = failed {
            return Err(self.console.explain(anyhow!("{reason}")));
        }
        match self.console.fault() {
            Some(line) => Err(self.console.explain(anyhow!("the VM's kernel reported a fault: {line}"))),
            None => Ok(()),
        }
    }

    /// The next message, or nothing when none came for a while; fails when the VM is not well.
    fn next(&mut self) -> Result<Option<ToHost>> {
        let message = self.receive()?;
        if message.is_some() {
            self.last_sign = Instant::now();
        }
        self.console.read();
        if let Some(line) = self.console.fatal_fault() {
            let line = line.to_owned();
            let end = Instant::now() + REPORT_TIME;
            while Instant::now() < end && self.qemu.try_wait()?.is_none() {
                thread::sleep(TICK);
            }
            bail!("the VM's kernel reported a fault: {line}");
        }
        if message.is_none() {
            if let Some(status) = self.qemu.try_wait()? {
                bail!("the VM has stopped (QEMU: {status})");
            }
            let limit = self.silence * self.patience;
            if self.last_sign.elapsed() > limit {
                bail!("the VM hangs: no sign of life for {} s", limit.as_secs());
            }
        }
        Ok(message)
    }

    /// The next message, or nothing when none came for a while.
    fn receive(&mut self) -> Result<Option<ToHost>> {
        if let Some(message) = self.decoder.take()? {
            return Ok(Some(message));
        }
        let mut chunk = vec![0; 64 << 10];
        match self.stream.read(&mut chunk) {
            // The other end is closed: QEMU is about to end.
            Ok(0) => thread::sleep(TICK),
            Ok(count) => self.decoder.push(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => thread::sleep(TICK),
            Err(error) => return Err(error).context("cannot read from the VM"),
        }
        Ok(self.decoder.take()?)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Ended already, or of no use any more: a failure here changes nothing.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
