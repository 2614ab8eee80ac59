//! File systems and kernel modules of the test VM.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use litebox_vm_init::{FILES_DIR, GUEST_ROOT, IMAGES_DIR, SHARE_DIR, SHARE_TAG, TOOLS_DIR};
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};
use rustix::system::{finit_module, sethostname};

/// A path below the guest's root, as the VM sees it.
pub(crate) fn in_guest_root(path: &str) -> PathBuf {
    Path::new(GUEST_ROOT).join(path.trim_start_matches('/'))
}

/// Mounts `source` of type `kind` at `target`, which is made when it is missing.
fn mount_at(source: &str, target: &Path, kind: &str, flags: MountFlags, data: Option<&CStr>) -> Result<(), String> {
    // On a read-only root the directory is there already, and this fails for no harm: the mount says if it is not.
    let _ = fs::create_dir_all(target);
    mount(source, target, kind, flags, data).map_err(|errno| format!("mount {kind} at {}: {errno}", target.display()))
}

/// Names the machine, and mounts what the kernel offers to every process.
pub(crate) fn system() -> Result<(), String> {
    sethostname(b"litebox").map_err(|errno| format!("sethostname: {errno}"))?;
    let plain = MountFlags::NOSUID;
    mount_at("proc", Path::new("/proc"), "proc", plain, None)?;
    mount_at("sysfs", Path::new("/sys"), "sysfs", plain, None)?;
    mount_at("cgroup2", Path::new("/sys/fs/cgroup"), "cgroup2", plain, None)?;
    mount_at("tracefs", Path::new("/sys/kernel/tracing"), "tracefs", plain, None)?;
    mount_at("devtmpfs", Path::new("/dev"), "devtmpfs", plain, None)?;
    mount_at("devpts", Path::new("/dev/pts"), "devpts", plain, Some(c"ptmxmode=0666,mode=0620,gid=5"))?;
    mount_at("tmpfs", Path::new("/dev/shm"), "tmpfs", plain, None)?;
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let _ = symlink(format!("/proc/self/{target}"), format!("/dev/{name}"));
    }
    mount_at("tmpfs", Path::new("/run"), "tmpfs", plain, None)
}

/// Mounts the guest's root image, read-only, and inside it what a program of a running system sees.
pub(crate) fn guest_root() -> Result<(), String> {
    fs::create_dir_all("/layers").map_err(|error| format!("mkdir /layers: {error}"))?;
    mount_at("/dev/vda", Path::new(GUEST_ROOT), "erofs", MountFlags::RDONLY, None)?;
    mount_at("/dev/vdb", Path::new(IMAGES_DIR), "erofs", MountFlags::RDONLY, None)?;
    for dir in ["/proc", "/sys", "/dev"] {
        let target = in_guest_root(dir);
        mount_bind_recursive(dir, &target).map_err(|errno| format!("bind {dir} at {}: {errno}", target.display()))?;
    }
    for dir in ["/run", "/tmp", FILES_DIR] {
        mount_at("tmpfs", &in_guest_root(dir), "tmpfs", MountFlags::NOSUID, Some(c"mode=1777"))?;
    }
    mount_bind("/tools", in_guest_root(TOOLS_DIR)).map_err(|errno| format!("bind /tools: {errno}"))
}

/// Mounts the folder that the host shares.
pub(crate) fn share() -> Result<(), String> {
    let options = c"trans=virtio,version=9p2000.L,msize=524288,cache=mmap";
    mount_at(SHARE_TAG, &in_guest_root(SHARE_DIR), "9p", MountFlags::NOSUID, Some(options))
}

/// Sends every message of the kernel to its console, which is the host's log file.
pub(crate) fn kernel_log_everything() -> Result<(), String> {
    fs::write("/proc/sys/kernel/printk", "8").map_err(|error| format!("/proc/sys/kernel/printk: {error}"))
}

/// Loads the modules of a directory in the order of their names.
pub(crate) fn load_modules(directory: &str) -> Result<(), String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{directory}: {error}"))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().try_for_each(load_module)
}

/// Loads one module.
pub(crate) fn load_module(path: impl AsRef<Path>) -> Result<(), String> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    finit_module(&file, c"", 0).map_err(|errno| format!("insmod {}: {errno}", path.display()))
}
