//! QEMU's command line.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use litebox_vm_init::{Decoder, PORT_NAME, SHARE_TAG, Setup, ToHost, ToVm, send};
use rustix::io::FdFlags;

use super::{Config, debugger};
use crate::setup::Artefacts;

/// The processor that runs the VM's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// This machine's own, by /dev/kvm.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// A QEMU that was started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    /// Our end of the control port.
    pub(super) stream: UnixStream,
    /// Files of this run, to be removed after it.
    pub(super) directory: PathBuf,
    /// Where the kernel's log goes.
    pub(super) console: PathBuf,
}

/// A kernel that boots with KVM is up after this long, or never.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// Kernel logs that are kept.
const KEPT_LOGS: usize = 20;

/// Starts QEMU with the kernel, the initramfs and the guest's root.
pub(super) fn start(cache: &Path, artefacts: &Artefacts, config: &Config, accelerator: Accelerator) -> Result<Started> {
    let (directory, console) = prepare(cache)?;
    // Links, so that a set-up that replaces these files does not pull them from under a VM that is starting.
    let mut files = Vec::new();
    let needed = [
        ("kernel", &artefacts.kernel),
        ("initramfs", &artefacts.initramfs),
        ("root", &artefacts.guest_root),
        ("images", &artefacts.images),
    ];
    for (name, source) in needed {
        let link = directory.join(name);
        // Not every system lets a user link to root's files.
        fs::hard_link(source, &link)
            .or_else(|_| symlink(source, &link))
            .with_context(|| format!("cannot use {}", source.display()))?;
        files.push(link.display().to_string());
    }
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;

    // Whether timer interrupts arrive is tried by waiting ten ticks, which an emulator on a busy machine may miss: a panic then.
    let always = "console=ttyS0 rdinit=/init panic=-1 oops=panic no_timer_check";
    let words = if config.kernel_log { "loglevel=7" } else { "quiet loglevel=5" };
    // `quiet` would hide some checkers' reports. A fixed layout gives coverage and addresses that can be looked up.
    let words = if config.debug_kernel { "loglevel=7 page_poison=1 nokaslr watchdog_thresh=60" } else { words };
    let mut command = artefacts.tree.qemu();
    match accelerator {
        Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        Accelerator::Tcg => {
            let threads = if config.counted { "tcg,thread=single" } else { "tcg,thread=multi" };
            command.args(["-accel", threads, "-cpu", config.emulated_cpu.unwrap_or("max")])
        }
    };
    if config.counted {
        command.args(["-icount", "shift=0,sleep=off"]);
    }
    if config.debugger {
        command.arg("-gdb").arg(format!("unix:{},server=on,wait=off", directory.join(debugger::SOCKET).display()));
    }
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-m").arg(config.memory_mib.to_string()).arg("-smp").arg(config.cpus.to_string());
    command.arg("-kernel").arg(&files[0]).arg("-initrd").arg(&files[1]);
    command.arg("-append").arg(format!("{always} {words} {}", config.kernel_words));
    command.arg("-serial").arg(format!("file:{}", console.display()));
    command.arg("-chardev").arg(format!("socket,id=control,fd={}", theirs.as_raw_fd()));
    command.args(["-device", "virtio-serial-pci", "-device"]).arg(format!("virtserialport,chardev=control,name={PORT_NAME}"));
    command.arg("-drive").arg(format!("if=none,id=root,format=raw,readonly=on,file={}", files[2]));
    command.args(["-device", "virtio-blk-pci,drive=root"]);
    command.arg("-drive").arg(format!("if=none,id=images,format=raw,readonly=on,file={}", files[3]));
    command.args(["-device", "virtio-blk-pci,drive=images"]);
    if let Some(share) = &config.share {
        let path = share.display().to_string().replace(',', ",,");
        command.arg("-virtfs").arg(format!("local,path={path},mount_tag={SHARE_TAG},security_model=none,multidevs=remap"));
    }
    let errors = File::create(console.with_extension("qemu"))?;
    command.stdin(Stdio::null()).stdout(errors.try_clone()?).stderr(errors);
    let child = command.spawn().context("cannot start QEMU")?;
    Ok(Started { child, stream: ours, directory, console })
}

/// Makes the run's directory and names its kernel log; removes what earlier runs left.
fn prepare(cache: &Path) -> Result<(PathBuf, PathBuf)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let runs = cache.join("run");
    let logs = cache.join("work/logs");
    for directory in [&runs, &logs] {
        fs::create_dir_all(directory)?;
        // As /tmp: whoever may run does so here. The owner alone can say so, and has.
        let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o1777));
    }
    for entry in fs::read_dir(&runs)?.filter_map(Result::ok) {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.split('-').next()?.parse::<u32>().ok());
        if pid.is_none_or(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another process may be removing it as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let vm_logs =
        fs::read_dir(&logs)?.filter_map(Result::ok).filter(|entry| entry.file_name().to_string_lossy().starts_with("vm-"));
    let mut old: Vec<_> = vm_logs.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    old.sort();
    for (_, path) in old.iter().rev().skip(2 * KEPT_LOGS) {
        let _ = fs::remove_file(path);
    }
    let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = runs.join(&name);
    fs::create_dir_all(&directory)?;
    Ok((directory, logs.join(format!("vm-{name}.log"))))
}

/// KVM where it boots this kernel, which is tried once; the answer is kept.
pub(super) fn accelerator(cache: &Path, artefacts: &Artefacts) -> Accelerator {
    let usable = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if !usable {
        return Accelerator::Tcg;
    }
    let answer = cache.join("kvm");
    let about = artefacts.tree.release().unwrap_or_default();
    let known = fs::read_to_string(&answer).unwrap_or_default();
    match known.split_once('\n') {
        Some((kernel, "yes")) if kernel == about => return Accelerator::Kvm,
        Some((kernel, _)) if kernel == about => return Accelerator::Tcg,
        _ => {}
    }
    eprintln!("litebox: trying whether KVM boots this kernel (once)");
    let boots = probe(cache, artefacts).unwrap_or(false);
    // Not being able to keep the answer costs another try next time.
    let _ = fs::write(&answer, format!("{about}\n{}", if boots { "yes" } else { "no" }));
    if boots { Accelerator::Kvm } else { Accelerator::Tcg }
}

/// Whether a VM with KVM gets as far as its first process.
fn probe(cache: &Path, artefacts: &Artefacts) -> Result<bool> {
    let mut started = start(cache, artefacts, &Config::default(), Accelerator::Kvm)?;
    let end = std::time::Instant::now() + PROBE_LIMIT;
    started.stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    send(&mut started.stream, &ToVm::Setup(Setup { module: false, share: false }))?;
    let mut decoder = Decoder::default();
    let mut boots = false;
    while !boots && std::time::Instant::now() < end && started.child.try_wait()?.is_none() {
        let mut chunk = [0; 4096];
        if let Ok(count) = started.stream.read(&mut chunk) {
            decoder.push(&chunk[..count]);
        }
        while let Some(message) = decoder.take::<ToHost>()? {
            boots |= matches!(message, ToHost::Ready(_));
        }
    }
    started.child.kill()?;
    started.child.wait()?;
    fs::remove_dir_all(&started.directory)?;
    Ok(boots)
}
