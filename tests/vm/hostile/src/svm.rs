//! The second trap beside others: processors that go and come, and KVM, which wants the same.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use crate::check::{self, Check, Outcome, ensure, equal};
use crate::host::{self, Log, settle};
use crate::sandbox::{Guest, Sandbox, exited, name, reap, use_svm};
use crate::sys;

/// Whether the machine's second processor is there.
const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
/// KVM's modules, in loading order.
const KVM: &str = "/mnt/litebox/kvm";
/// How often the processor goes.
const TIMES: usize = 5;
/// Sandboxes that are made and killed.
const CYCLES: usize = 100;

const CHECKS: &[Check] = &[
    ("a processor goes and comes while guests run", processors),
    ("the last sandbox gives the processors back", given_back),
    ("KVM cannot take what a sandbox has", kvm_second),
    ("what KVM has is told, and the usual trap works", kvm_first),
    ("many are made and killed", cycles),
];

/// The checks.
pub(crate) fn run() -> Outcome {
    let log = Log::from_now()?;
    check::run("svm", CHECKS)?;
    settle(0)?;
    log.clean()
}

fn online(yes: bool) -> Outcome {
    fs::write(ONLINE, if yes { "1" } else { "0" }).map_err(|error| format!("{ONLINE}: {error}"))
}

fn processors() -> Outcome {
    let (threads, processes) = (Guest::begin(&["threads"])?, Guest::begin(&["processes"])?);
    for _ in 0..TIMES {
        online(false)?;
        thread::sleep(Duration::from_millis(50));
        online(true)?;
        thread::sleep(Duration::from_millis(50));
    }
    let late = Guest::begin(&["exit", "3"])?;
    equal("one that began afterwards", late.wait()?, exited(3))?;
    let carriers = [threads.pid, processes.pid];
    drop((threads, processes, late));
    carriers.into_iter().try_for_each(reap)?;
    settle(0)
}

/// SVM can be had again, by as many as there are at a time.
fn given_back() -> Outcome {
    for _ in 0..5 {
        let guests = [Guest::begin(&["exit", "1"])?, Guest::begin(&["exit", "2"])?];
        for (guest, status) in guests.iter().zip([1, 2]) {
            equal("its end", guest.wait()?, exited(status))?;
        }
        drop(guests);
        settle(0)?;
    }
    Ok(())
}

/// Loads KVM's modules; those that are there already are no error.
fn load_kvm() -> Outcome<Result<(), sys::Errno>> {
    let entries = fs::read_dir(KVM).map_err(|error| format!("{KVM}: {error}"))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    ensure(paths.len() > 1, || format!("{KVM} has no modules"))?;
    for path in paths {
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        match sys::load_module(file.as_raw_fd()) {
            Ok(()) | Err(libc::EEXIST) => {}
            Err(errno) => return Ok(Err(errno)),
        }
    }
    Ok(Ok(()))
}

fn kvm_second() -> Outcome {
    let guest = Guest::begin(&["spin"])?;
    let loaded = load_kvm()?;
    ensure(loaded.is_err(), || "kvm_amd was loaded beside a sandbox".into())?;
    ensure(guest.sandbox.ended(litebox_ioctl_abi::WaitFlags::NO_HANG) == Ok(litebox_ioctl_abi::Ended::Running), || {
        "the guest has ended".into()
    })?;
    let carrier = guest.pid;
    drop(guest);
    reap(carrier)?;
    settle(0)
}

fn kvm_first() -> Outcome {
    load_kvm()?.map_err(|errno| format!("kvm_amd without a sandbox: {}", name(errno)))?;
    equal("CONFIGURE beside KVM", Sandbox::open().map_err(name)?.choose_trap(), Err(libc::EBUSY))?;
    use_svm(false);
    let guest = Guest::begin(&["exit", "4"])?;
    equal("a guest of the usual trap", guest.wait()?, exited(4))?;
    drop(guest);
    use_svm(true);
    sys::delete_module(c"kvm_amd").map_err(|errno| format!("rmmod kvm_amd: {}", name(errno)))?;
    let guest = Guest::begin(&["exit", "5"])?;
    equal("a guest without KVM", guest.wait()?, exited(5))?;
    drop(guest);
    settle(0)
}

fn cycles() -> Outcome {
    let before = host::processes()?.len();
    for round in 0..CYCLES {
        let what = ["spin", "sleep", "threads", "processes"][round % 4];
        let Guest { sandbox, pid, .. } = Guest::begin(&[what])?;
        drop(sandbox);
        reap(pid)?;
    }
    settle(0)?;
    // Carriers without a status are waited for by nobody.
    for _ in 0..1000 {
        if host::processes()?.len() <= before {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err("processes are left".into())
}
