//! The first process of the test VM.
//!
//! Mounts what programs expect, loads the kernel modules that lie in the initramfs, and then runs jobs as the host says
//! (see the library's documentation for the protocol). It is process 1: it never exits, it powers off.

mod job;
mod mounts;
mod port;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use litebox_vm_init::{Setup, ToHost, ToVm};
use rustix::io::Errno;
use rustix::system::{RebootCommand, delete_module, reboot, uname};

use crate::job::Running;
use crate::port::Port;

/// How often, ten times a second, the module is asked to go.
const UNLOAD_TRIES: u32 = 100;

fn main() -> ExitCode {
    if !rustix::process::getpid().is_init() {
        eprintln!("litebox-vm-init: this is the first process of the test VM and runs nowhere else");
        return ExitCode::FAILURE;
    }
    if let Err(reason) = serve() {
        // The host is not there, or does not understand: the kernel log is all that is left.
        eprintln!("litebox-vm-init: {reason}");
    }
    power_off()
}

/// Does what the host says until it says stop.
fn serve() -> Result<(), String> {
    mounts::system()?;
    mounts::load_modules("/modules/base")?;
    let (mut port, sender) = Port::open()?;
    let sender = Arc::new(sender);
    let heart = Arc::clone(&sender);
    std::thread::spawn(move || {
        while heart.send(&ToHost::Alive).is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
    });

    let mut running: Option<Running> = None;
    loop {
        match port.receive()? {
            ToVm::Setup(setup) => match prepare(&setup) {
                Ok(()) => sender.send(&ToHost::Ready(uname().release().to_string_lossy().into_owned()))?,
                Err(reason) => sender.send(&ToHost::Failed(reason))?,
            },
            ToVm::Job(job) => {
                if let Some(previous) = running.take() {
                    previous.wait();
                }
                running = Running::start(job, &sender)?;
            }
            ToVm::Stdin(bytes) => {
                if let Some(job) = &running {
                    job.stdin(bytes);
                }
            }
            ToVm::StdinEnd => {
                if let Some(job) = &mut running {
                    job.stdin_end();
                }
            }
            ToVm::Resize(size) => {
                if let Some(job) = &running {
                    job.resize(size);
                }
            }
            ToVm::PowerOff(unload) => {
                if unload && fs::exists("/sys/module/litebox").unwrap_or(false) {
                    // Carriers of the last sandbox go on their own, and may be on their way.
                    let mut tries = UNLOAD_TRIES;
                    let unloaded = loop {
                        match delete_module(c"litebox", 0) {
                            Err(Errno::AGAIN) if tries > 0 => tries -= 1,
                            result => break result,
                        }
                        std::thread::sleep(Duration::from_millis(100));
                    };
                    if let Err(errno) = unloaded {
                        sender.send(&ToHost::Failed(format!("rmmod litebox: {errno}")))?;
                    }
                }
                return Ok(());
            }
        }
    }
}

/// Mounts and loads what this boot is for.
fn prepare(setup: &Setup) -> Result<(), String> {
    mounts::guest_root()?;
    if setup.share {
        mounts::load_modules("/modules/share")?;
        mounts::share()?;
    }
    if setup.module {
        // From here on everything the kernel says is wanted in the log; before, it would only slow the boot.
        mounts::kernel_log_everything()?;
        mounts::load_module("/litebox.ko")?;
    }
    Ok(())
}

/// Ends the VM.
fn power_off() -> ! {
    rustix::fs::sync();
    let refused = reboot(RebootCommand::PowerOff);
    // Only a kernel without a power switch comes here; the host ends the VM when its time is over.
    eprintln!("litebox-vm-init: power-off: {refused:?}");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
