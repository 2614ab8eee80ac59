//! Every way in which a sandbox ends: afterwards there is no carrier, no reference to the module, no memory, no word in the log.

use std::thread;
use std::time::Duration;

use litebox_ioctl_abi::Target;

use crate::check::{self, Check, Outcome, ensure, equal};
use crate::host::{self, Log, settle};
use crate::sandbox::{Guest, Packed, Sandbox, exited, name, reap, signalled, start};
use crate::sys::{self, Pages};

/// Each way, by itself first.
const WAYS: &[Check] = &[
    ("the guest exits", exits),
    ("the guest crashes", crashes),
    ("the guest is told to end", is_told),
    ("the carrier is killed", carrier_killed),
    ("the launcher is killed, the guest spins", || launcher_killed("spin")),
    ("the launcher is killed, the guest sleeps", || launcher_killed("sleep")),
    ("the device is closed, the guest spins", || closed("spin")),
    ("the device is closed, the guest sleeps", || closed("sleep")),
    ("the program is not there", no_program),
    ("it is described and never runs", never_runs),
];

/// What needs more than one carrier.
const MANY_CARRIERS: &[Check] = &[
    ("the device is closed, the guest has threads", || closed("threads")),
    ("the device is closed, the guest has processes", || closed("processes")),
    ("the launcher is killed, the guest has threads", || launcher_killed("threads")),
    ("the launcher is killed, the guest has processes", || launcher_killed("processes")),
];

/// Sandboxes that are measured, in rounds of one way after the other.
const MEASURED: usize = 200;
/// As many before that, so that slabs and caches have grown to what they need.
const WARM_UP_ROUNDS: usize = 5;
/// What the kernel may have more of afterwards, in its own memory: slabs that are freed late. A leak of one page a sandbox is more.
const KERNEL_SLACK: u64 = 640 << 10;
/// What may be missing of all memory. A leak of 16 KiB a sandbox is more.
const TOTAL_SLACK: u64 = 3 << 20;

/// The ways, then many sandboxes.
pub(crate) fn run() -> Outcome {
    let log = Log::from_now()?;
    let before = host::processes()?;
    check::run("teardown", &[("the module can be held", busy)])?;
    for (name, way) in WAYS {
        check::run("teardown", &[(name, *way)])?;
        settle(0).map_err(|why| format!("teardown: {name}: {why}"))?;
    }
    check::run("teardown", &[("memory comes back", memory)])?;
    no_others(&before)?;
    log.clean()
}

/// The ways that need many carriers, some times over.
pub(crate) fn many_carriers() -> Outcome {
    let log = Log::from_now()?;
    let before = host::processes()?;
    for (name, way) in MANY_CARRIERS {
        check::run("carriers", &[(name, *way)])?;
        settle(0).map_err(|why| format!("carriers: {name}: {why}"))?;
    }
    for _ in 0..20 {
        MANY_CARRIERS.iter().try_for_each(|(_, way)| way())?;
    }
    settle(0)?;
    no_others(&before)?;
    log.clean()
}

/// Fails if there are processes that were not there before.
fn no_others(before: &[u32]) -> Outcome {
    // A killed carrier may take a moment, and one without a status is waited for by nobody.
    for _ in 0..1000 {
        if host::processes()?.iter().all(|pid| before.contains(pid)) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let left: Vec<String> = host::processes()?
        .into_iter()
        .filter(|pid| !before.contains(pid))
        .map(|pid| host::read(&format!("/proc/{pid}/stat")).unwrap_or_default())
        .collect();
    Err(format!("processes are left: {left:?}"))
}

fn busy() -> Outcome {
    equal("references without a sandbox", host::references()?, 0)?;
    let open = Sandbox::open().map_err(name)?;
    equal("rmmod with an open device", sys::delete_module(c"litebox"), Err(libc::EWOULDBLOCK))?;
    drop(open);
    let guest = Guest::begin(&["spin"])?;
    for _ in 0..20 {
        equal("rmmod with a guest", sys::delete_module(c"litebox"), Err(libc::EWOULDBLOCK))?;
    }
    ensure(host::references()? >= 2, || "the guest's space is no reference".into())?;
    equal("KILL", guest.sandbox.kill(libc::SIGTERM as u32, Target::First), Ok(()))?;
    equal("the guest's end", guest.wait()?, signalled(libc::SIGTERM))?;
    drop(guest);
    settle(0)
}

fn exits() -> Outcome {
    let guest = Guest::begin(&["exit", "9"])?;
    equal("its end", guest.wait()?, exited(9))
}

fn crashes() -> Outcome {
    let guest = Guest::begin(&["crash"])?;
    equal("its end", guest.wait()?, signalled(libc::SIGSEGV))
}

fn is_told() -> Outcome {
    let guest = Guest::begin(&["sleep"])?;
    equal("KILL", guest.sandbox.kill(libc::SIGTERM as u32, Target::First), Ok(()))?;
    equal("its end", guest.wait()?, signalled(libc::SIGTERM))
}

fn carrier_killed() -> Outcome {
    let guest = Guest::begin(&["spin"])?;
    equal("kill", sys::kill(guest.pid, libc::SIGKILL), Ok(()))?;
    equal("its end", guest.wait()?, signalled(libc::SIGKILL))
}

/// A process starts the guest and is killed; the carrier, which nobody waits for then, ends by itself.
fn launcher_killed(what: &str) -> Outcome {
    // 0: not yet, 1: the guest has begun, 2: it has not. Then its pid.
    let shared = Pages::new(1);
    let Some(launcher) = sys::fork().map_err(name)? else {
        match Guest::begin(&[what]) {
            Ok(guest) => {
                shared.set_number(1, guest.pid);
                shared.set_number(0, 1);
                loop {
                    thread::sleep(Duration::from_secs(3600));
                }
            }
            Err(why) => {
                println!("in the launcher: {why}");
                shared.set_number(0, 2);
                sys::exit(1)
            }
        }
    };
    while shared.number(0) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    equal("kill", sys::kill(launcher, libc::SIGKILL), Ok(()))?;
    reap(launcher)?;
    equal("the guest has begun", shared.number(0), 1)?;
    // Its parent is gone, so it is ours now: see `sys::adopt_orphans`.
    reap(shared.number(1)).map_err(|why| format!("after its launcher: {why}"))
}

fn closed(what: &str) -> Outcome {
    let Guest { sandbox, pid, .. } = Guest::begin(&[what])?;
    drop(sandbox);
    reap(pid)
}

fn no_program() -> Outcome {
    let (sandbox, errno) = (Sandbox::described()?, Pages::new(1));
    let pid = start(&sandbox, &Packed::program("/no/such/program", &[]), &errno)?;
    reap(pid)?;
    equal("RUN", errno.number(0), libc::ENOENT)
}

fn never_runs() -> Outcome {
    Sandbox::described().map(drop)
}

fn memory() -> Outcome {
    for _ in 0..WARM_UP_ROUNDS {
        WAYS.iter().try_for_each(|(_, way)| way())?;
    }
    settled_memory()?;
    let (kernel, available) = settled_memory()?;
    for (name, way) in WAYS.iter().cycle().take(MEASURED) {
        way().map_err(|why| format!("{name}: {why}"))?;
    }
    let (kernel_after, available_after) = settled_memory()?;
    let (more, missing) = (kernel_after.saturating_sub(kernel), available.saturating_sub(available_after));
    println!("# {MEASURED} sandboxes: {} KiB more of the kernel's own, {} KiB less for programs", more >> 10, missing >> 10);
    ensure(more <= KERNEL_SLACK, || format!("{MEASURED} sandboxes leave {} KiB in the kernel's own memory", more >> 10))?;
    ensure(missing <= TOTAL_SLACK, || format!("{MEASURED} sandboxes leave {} KiB in use", missing >> 10))
}

/// Both figures when nothing is on its way any more.
fn settled_memory() -> Outcome<(u64, u64)> {
    settle(0)?;
    std::fs::write("/proc/sys/vm/drop_caches", "3").map_err(|error| format!("drop_caches: {error}"))?;
    // Freed after a grace period of RCU, and vmap areas by their own worker.
    thread::sleep(Duration::from_millis(1500));
    Ok((host::kernel_memory()?, host::available_memory()?))
}
