//! `litebox-launch`: starts a program in a sandbox, waits for it, and ends as it ended.
//!
//! Two processes: the *carrier* (child) is cleaned of everything the host knows about it and becomes the guest by `RUN`; the
//! parent holds the device open, waits, and passes signals on. The parent's death is the sandbox's.
//! Modules: `cli` (the command line), `places` (what it says of mounts), `device` (requests and what their errors mean), `image` (why the module takes an image not), `pack`
//! (strings for `RUN`), `carrier` (the child), `terminal` (the guest's terminal, shown in ours), `report` (messages and exit
//! statuses), `raw` (the only unsafe code).
//! Linux only so far; on Windows the same requests go through `DeviceIoControl`.
#![deny(unsafe_code)]

mod carrier;
mod cli;
mod device;
mod image;
mod pack;
mod places;
#[expect(unsafe_code, reason = "calls that no safe crate offers: fork, ioctl, rseq, signal actions")]
mod raw;
mod report;
mod terminal;

use crate::carrier::Carrier;
use crate::cli::Plan;
use crate::device::Sandbox;
use crate::places::{Place, Show};
use crate::raw::Forwarded;
use crate::report::{Failure, Status};
use crate::terminal::Wanted;
use litebox_ioctl_abi::{Configure, Ended, HostObject, Target};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    match launch(&Plan::from_command_line()) {
        Ok(status) => status.into(),
        Err(failure) => failure.tell(),
    }
}

/// Runs the whole of it.
fn launch(plan: &Plan) -> Result<Status, Failure> {
    let sandbox = Sandbox::open()?;
    let name = plan.hostname.as_deref().map(device::bytes);
    let trace = plan.trace.then_some(HostObject(2));
    sandbox.configure(Configure { memory: plan.memory, tasks: plan.tasks, trace, name, trap: plan.trap })?;
    for place in &plan.places {
        mount(&sandbox, place)?;
    }
    let wanted = Wanted::find(plan.terminal);
    if let Some(wanted) = &wanted {
        wanted.make(&sandbox)?;
    }
    // The runtime has opened /dev/null for each of the three that the caller left closed.
    for fd in 0..3 {
        if wanted.as_ref().is_none_or(|wanted| wanted.descriptors.get() & 1 << fd == 0) {
            sandbox.give_fd(fd)?;
        }
    }
    let runs = pack::candidates(plan, sandbox.object())?;
    let probe = pack::probe(plan, sandbox.object());

    // From here on signals wait for `pass_on`; the carrier has its own mask.
    let signals = raw::ForwardedSignals::block(wanted.is_some());
    let raw = wanted.map(Wanted::enter);
    let carrier = Carrier::start(&sandbox, &runs, probe.as_ref())?;
    let sandbox = Arc::new(sandbox);
    let shows = raw.as_ref().map(|_raw| {
        let (types, shows) = (Arc::clone(&sandbox), Arc::clone(&sandbox));
        // Nobody waits for this one: it may never come back from its read.
        thread::spawn(move || terminal::type_all(&types));
        thread::spawn(move || terminal::show(&shows))
    });
    let outcome = thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let outcome = finish(plan, &sandbox, &carrier);
            signals.interrupt();
            outcome
        });
        while let Some(signal) = signals.next() {
            match (&raw, signal) {
                (Some(raw), Forwarded::Stop) => {
                    raw.restore();
                    raw::stop();
                    came_back(raw, &sandbox);
                }
                (Some(raw), Forwarded::Continue) => came_back(raw, &sandbox),
                (Some(_), Forwarded::Resized) => terminal::resize(&sandbox),
                (_, signal) => pass_on(&sandbox, &signals, signal),
            }
        }
        waiter.join()
    });
    let outcome =
        outcome.unwrap_or_else(|_panic| Err(Failure::new("cannot wait for the sandbox").why("the waiting thread failed")));
    if let (Ok(_), Some(shows)) = (&outcome, shows) {
        // What it wrote last. A panic of that thread has said what there is to say.
        let _ = shows.join();
    }
    outcome
}

/// After a stop the terminal may have another mode and another size.
fn came_back(raw: &terminal::Raw, sandbox: &Sandbox) {
    raw.resume();
    terminal::resize(sandbox);
}

/// Sends a signal on to the guest.
fn pass_on(sandbox: &Sandbox, signals: &raw::ForwardedSignals, signal: Forwarded) {
    let signal = signal.number();
    // From a terminal these three go to everything in the foreground; a supervisor means the first process.
    let target = if matches!(signal.get(), 2 | 3 | 28) { Target::All } else { Target::First };
    // One that comes before the child is a guest waits for it, a second at most.
    for _ in 0..100 {
        if sandbox.kill(signal, target) || signals.is_over() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the end: first for the child, which may never have become a guest, then for the sandbox's own word.
fn finish(plan: &Plan, sandbox: &Sandbox, carrier: &Carrier) -> Result<Status, Failure> {
    let child = carrier.wait();
    match sandbox.wait()? {
        Some(Ended::Exited(status)) => Ok(Status(status)),
        Some(Ended::Signalled(signal)) => Ok(Status::signalled(signal)),
        Some(Ended::Failed(errno)) => Err(Failure::new("the sandbox ended by a fault of the module or a limit")
            .why(device::describe(Errno::from_raw_os_error(errno.get().cast_signed())))
            .cure("see the kernel log: sudo dmesg | grep litebox")),
        Some(Ended::Running) => Err(Failure::new("cannot wait for the sandbox").why("the module says that it still runs")),
        None => Err(carrier::not_started(plan, child)),
    }
}

/// Opens what a place shows, and mounts it.
fn mount(sandbox: &Sandbox, place: &Place) -> Result<(), Failure> {
    let open = |source: &Path| {
        rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
            Failure::new(format!("cannot show {} in the sandbox: {}", source.display(), device::describe(errno)))
                .why(format!("it was to be seen as {}", place.at.display()))
                .cure("name a directory or file that exists and that you may search")
        })
    };
    let host = match &place.show {
        Show::Host(source) | Show::Image(source) | Show::Overlay { lower: source, .. } | Show::Lasting { lower: source, .. } => {
            Some(open(source)?)
        }
        Show::Memory { .. } | Show::Proc | Show::Dev | Show::Directory(_) | Show::Symlink(_) | Show::Copy(..) => None,
    };
    let upper = match &place.show {
        Show::Lasting { upper, .. } => {
            // The first time it may be missing; if it cannot be made, opening says why.
            let _ = std::fs::create_dir(upper);
            Some(open(upper)?)
        }
        _ => None,
    };
    sandbox.mount(place, host.as_ref(), upper.as_ref())
}
