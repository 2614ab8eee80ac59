//! Names of /proc/sys, as tables: what may be set, within which bounds, and what it is at first.
//!
//! Numbers that are kept only are those that a sandbox has no use for (it swaps nothing, its processors are its host's), but which
//! programs read, or set and expect to find. Source: `proc_sys(5)`; Linux `kernel/sysctl.c`, `ipc/ipc_sysctl.c`, `ipc/mq_sysctl.c`.

use super::fixed::Node;
use super::setting::{Form, Place};
use super::system;
use super::text::line;
use crate::machine;
use crate::settings::Named;
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::vec::Vec;
use core::marker::PhantomData;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::FD_MAX;
use litebox_core::limit::Limit;
use litebox_core::mm::GUEST_START;

/// A table.
type Table<P> = &'static [(&'static str, Node<P>)];

/// Any number with a sign.
const ANY: Form = Form::Int(i32::MIN, i32::MAX);
/// Any number that is not negative.
const COUNT: Form = Form::Int(0, i32::MAX);
/// A switch.
const SWITCH: Form = Form::Int(0, 1);
/// A choice of three.
const THREE: Form = Form::Int(0, 2);
/// Any number without a sign.
const LONG: Form = Form::Long(0, u64::MAX);
/// Objects of one kind in sysvipc(7). Linux: `IPCMNI`.
const OBJECTS: Form = Form::Int(0, 32_768);

/// `threads-max`.
fn tasks<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    line(format_args!("{}\n", sandbox.machine().tasks))
}

/// `file-nr`: nobody counts what is open.
fn file_nr<P: Cpu>(_: &Sandbox<P>) -> Result<Vec<u8>> {
    line(format_args!("0\t0\t{}\n", i64::MAX))
}

/// Limits of POSIX queues, of System V's objects.
fn queues<P: Cpu>(sandbox: &Sandbox<P>) -> &litebox_core::ipc::posix::Limits {
    &sandbox.shared().queues().limits
}

fn shm<P: Cpu>(sandbox: &Sandbox<P>) -> &litebox_core::ipc::shm::Limits {
    &sandbox.shared().segments().limits
}

fn msg<P: Cpu>(sandbox: &Sandbox<P>) -> &litebox_core::ipc::msg::Limits {
    &sandbox.shared().messages().limits
}

fn sem<P: Cpu>(sandbox: &Sandbox<P>) -> &litebox_core::ipc::sem::Limits {
    &sandbox.shared().semaphores().limits
}

fn areas<P: Cpu>(sandbox: &Sandbox<P>) -> &Limit {
    &sandbox.shared().settings().areas
}

fn pipe_bytes<P: Cpu>(sandbox: &Sandbox<P>) -> &Limit {
    &sandbox.shared().settings().pipe_bytes
}

/// The tables.
pub(super) struct Sys<P>(PhantomData<P>);

impl<P: Cpu> Sys<P> {
    /// The top.
    pub(super) const TOP: Table<P> = &[
        ("fs", Node::Dir(Self::FS)),
        ("kernel", Node::Dir(Self::KERNEL)),
        ("net", Node::Dir(Self::NET)),
        ("vm", Node::Dir(Self::VM)),
    ];

    const FS: Table<P> = &[
        ("aio-max-nr", Node::Setting(LONG, &[Place::Kept("fs.aio-max-nr", 65_536)])),
        ("aio-nr", Node::Text("0\n")),
        ("dentry-state", Node::Text("0\t0\t45\t0\t0\t0\n")),
        ("dir-notify-enable", Node::Setting(ANY, &[Place::Kept("fs.dir-notify-enable", 1)])),
        ("file-max", Node::Setting(Form::Long(0, u64::MAX >> 1), &[Place::Kept("fs.file-max", i64::MAX)])),
        ("file-nr", Node::File(file_nr)),
        ("inode-nr", Node::Text("0\t0\n")),
        ("inode-state", Node::Text("0\t0\t0\t0\t0\t0\t0\n")),
        ("inotify", Node::Dir(Self::INOTIFY)),
        ("lease-break-time", Node::Setting(ANY, &[Place::Kept("fs.lease-break-time", 45)])),
        ("leases-enable", Node::Setting(ANY, &[Place::Kept("fs.leases-enable", 1)])),
        ("mount-max", Node::Setting(Form::Unsigned(1, u32::MAX), &[Place::Kept("fs.mount-max", 100_000)])),
        ("mqueue", Node::Dir(Self::MQUEUE)),
        ("nr_open", Node::Setting(Form::Unsigned(64, 0x7fff_ffc0), &[Place::Kept("fs.nr_open", FD_MAX as i64)])),
        ("overflowgid", Node::Setting(Form::Int(0, 65_535), &[Place::Kept("fs.overflowgid", 65_534)])),
        ("overflowuid", Node::Setting(Form::Int(0, 65_535), &[Place::Kept("fs.overflowuid", 65_534)])),
        ("pipe-max-size", Node::Setting(Form::Pipe, &[Place::Limit(pipe_bytes)])),
        ("pipe-user-pages-hard", Node::Setting(LONG, &[Place::Kept("fs.pipe-user-pages-hard", 0)])),
        ("pipe-user-pages-soft", Node::Setting(LONG, &[Place::Kept("fs.pipe-user-pages-soft", 16_384)])),
        ("protected_fifos", Node::Setting(THREE, &[Place::Kept("fs.protected_fifos", 0)])),
        ("protected_hardlinks", Node::Setting(SWITCH, &[Place::Kept("fs.protected_hardlinks", 0)])),
        ("protected_regular", Node::Setting(THREE, &[Place::Kept("fs.protected_regular", 0)])),
        ("protected_symlinks", Node::Setting(SWITCH, &[Place::Kept("fs.protected_symlinks", 0)])),
        ("suid_dumpable", Node::Setting(THREE, &[Place::Kept("fs.suid_dumpable", 0)])),
    ];

    const INOTIFY: Table<P> = &[
        ("max_queued_events", Node::Setting(COUNT, &[Place::Limit(|sandbox| &sandbox.shared().settings().events)])),
        ("max_user_instances", Node::Setting(COUNT, &[Place::Kept("fs.inotify.max_user_instances", 128)])),
        ("max_user_watches", Node::Setting(COUNT, &[Place::Limit(|sandbox| &sandbox.shared().settings().watches)])),
    ];

    const MQUEUE: Table<P> = &[
        ("msg_default", Node::Setting(Form::Int(1, 65_536), &[Place::Limit(|sandbox| &queues(sandbox).messages[1])])),
        ("msg_max", Node::Setting(Form::Int(1, 65_536), &[Place::Limit(|sandbox| &queues(sandbox).messages[0])])),
        ("msgsize_default", Node::Setting(Form::Int(128, 16 << 20), &[Place::Limit(|sandbox| &queues(sandbox).bytes[1])])),
        ("msgsize_max", Node::Setting(Form::Int(128, 16 << 20), &[Place::Limit(|sandbox| &queues(sandbox).bytes[0])])),
        ("queues_max", Node::Setting(ANY, &[Place::Limit(|sandbox| &queues(sandbox).queues)])),
    ];

    const KERNEL: Table<P> = &[
        ("cap_last_cap", Node::File(|_| line(format_args!("{}\n", linux_raw_sys::general::CAP_LAST_CAP)))),
        ("core_pattern", Node::Named(Named::Core)),
        ("core_pipe_limit", Node::Setting(Form::Unsigned(0, u32::MAX), &[Place::Kept("kernel.core_pipe_limit", 0)])),
        ("core_uses_pid", Node::Setting(ANY, &[Place::Kept("kernel.core_uses_pid", 0)])),
        ("dmesg_restrict", Node::Setting(SWITCH, &[Place::Kept("kernel.dmesg_restrict", 1)])),
        ("domainname", Node::Named(Named::Domain)),
        ("hostname", Node::Named(Named::Host)),
        ("kptr_restrict", Node::Setting(THREE, &[Place::Kept("kernel.kptr_restrict", 0)])),
        ("modprobe", Node::Named(Named::Modprobe)),
        ("modules_disabled", Node::Setting(Form::Int(1, 1), &[Place::Kept("kernel.modules_disabled", 0)])),
        ("msg_next_id", Node::Setting(Form::Int(0, i32::MAX), &[Place::Kept("kernel.msg_next_id", -1)])),
        ("msgmax", Node::Setting(COUNT, &[Place::Limit(|sandbox| &msg(sandbox).message)])),
        ("msgmnb", Node::Setting(COUNT, &[Place::Limit(|sandbox| &msg(sandbox).bytes)])),
        ("msgmni", Node::Setting(OBJECTS, &[Place::Limit(|sandbox| &msg(sandbox).queues)])),
        ("ngroups_max", Node::Text("65536\n")),
        ("osrelease", Node::File(|_| line(format_args!("{}\n", machine::RELEASE)))),
        ("ostype", Node::File(|_| line(format_args!("{}\n", machine::SYSTEM)))),
        ("overflowgid", Node::Setting(Form::Int(0, 65_535), &[Place::Kept("kernel.overflowgid", 65_534)])),
        ("overflowuid", Node::Setting(Form::Int(0, 65_535), &[Place::Kept("kernel.overflowuid", 65_534)])),
        ("panic", Node::Setting(ANY, &[Place::Kept("kernel.panic", 0)])),
        ("panic_on_oops", Node::Setting(ANY, &[Place::Kept("kernel.panic_on_oops", 0)])),
        ("perf_event_paranoid", Node::Setting(Form::Int(-1, 4), &[Place::Kept("kernel.perf_event_paranoid", 4)])),
        ("pid_max", Node::Setting(Form::Int(301, 4_194_304), &[Place::Kept("kernel.pid_max", 4_194_304)])),
        ("printk", Node::Setting(ANY, Self::PRINTK)),
        ("random", Node::Dir(Self::RANDOM)),
        ("randomize_va_space", Node::Setting(ANY, &[Place::Kept("kernel.randomize_va_space", 2)])),
        ("sched_autogroup_enabled", Node::Setting(SWITCH, &[Place::Kept("kernel.sched_autogroup_enabled", 1)])),
        ("sched_rr_timeslice_ms", Node::Setting(ANY, &[Place::Kept("kernel.sched_rr_timeslice_ms", 100)])),
        ("sched_rt_period_us", Node::Setting(Form::Int(1, i32::MAX), &[Place::Kept("kernel.sched_rt_period_us", 1_000_000)])),
        ("sched_rt_runtime_us", Node::Setting(Form::Int(-1, i32::MAX), &[Place::Kept("kernel.sched_rt_runtime_us", 950_000)])),
        ("seccomp", Node::Dir(Self::SECCOMP)),
        ("sem", Node::Setting(COUNT, Self::SEM)),
        ("sem_next_id", Node::Setting(Form::Int(0, i32::MAX), &[Place::Kept("kernel.sem_next_id", -1)])),
        ("shm_next_id", Node::Setting(Form::Int(0, i32::MAX), &[Place::Kept("kernel.shm_next_id", -1)])),
        ("shm_rmid_forced", Node::Setting(SWITCH, &[Place::Kept("kernel.shm_rmid_forced", 0)])),
        ("shmall", Node::Setting(LONG, &[Place::Limit(|sandbox| &shm(sandbox).pages)])),
        ("shmmax", Node::Setting(LONG, &[Place::Limit(|sandbox| &shm(sandbox).size)])),
        ("shmmni", Node::Setting(OBJECTS, &[Place::Limit(|sandbox| &shm(sandbox).segments)])),
        ("tainted", Node::Text("0\n")),
        ("threads-max", Node::File(tasks)),
        ("version", Node::File(|_| line(format_args!("{}\n", machine::VERSION)))),
    ];

    const SEM: &'static [Place<P>] = &[
        Place::Limit(|sandbox| &sem(sandbox).in_set),
        Place::Limit(|sandbox| &sem(sandbox).all),
        Place::Limit(|sandbox| &sem(sandbox).ops),
        Place::Limit(|sandbox| &sem(sandbox).sets),
    ];

    const PRINTK: &'static [Place<P>] = &[
        Place::Kept("kernel.printk", 4),
        Place::Kept("kernel.printk default", 4),
        Place::Kept("kernel.printk least", 1),
        Place::Kept("kernel.printk boot", 7),
    ];

    const SECCOMP: Table<P> =
        &[("actions_avail", Node::Text("kill_process kill_thread trap errno user_notif trace log allow\n"))];

    const RANDOM: Table<P> = &[
        ("boot_id", Node::File(|sandbox| system::uuid(sandbox.machine().boot_id()))),
        ("entropy_avail", Node::Text("256\n")),
        ("poolsize", Node::Text("256\n")),
        ("urandom_min_reseed_secs", Node::Setting(ANY, &[Place::Kept("kernel.random.urandom_min_reseed_secs", 60)])),
        (
            "uuid",
            Node::File(|_| {
                let mut bytes = [0; 16];
                P::fill_random(&mut bytes);
                system::uuid(bytes)
            }),
        ),
        ("write_wakeup_threshold", Node::Setting(ANY, &[Place::Kept("kernel.random.write_wakeup_threshold", 256)])),
    ];

    const NET: Table<P> = &[("core", Node::Dir(Self::NET_CORE)), ("unix", Node::Dir(Self::NET_UNIX))];

    const NET_CORE: Table<P> = &[
        ("rmem_default", Node::Setting(Form::Int(2304, i32::MAX), &[Place::Kept("net.core.rmem_default", 212_992)])),
        ("rmem_max", Node::Setting(Form::Int(2304, i32::MAX), &[Place::Kept("net.core.rmem_max", 212_992)])),
        ("somaxconn", Node::Setting(COUNT, &[Place::Kept("net.core.somaxconn", 4096)])),
        ("wmem_default", Node::Setting(Form::Int(4608, i32::MAX), &[Place::Kept("net.core.wmem_default", 212_992)])),
        ("wmem_max", Node::Setting(Form::Int(4608, i32::MAX), &[Place::Kept("net.core.wmem_max", 212_992)])),
    ];

    const NET_UNIX: Table<P> = &[("max_dgram_qlen", Node::Setting(ANY, &[Place::Kept("net.unix.max_dgram_qlen", 10)]))];

    const VM: Table<P> = &[
        ("admin_reserve_kbytes", Node::Setting(LONG, &[Place::Kept("vm.admin_reserve_kbytes", 8192)])),
        ("compact_memory", Node::Trigger(Form::Int(1, 1), &[Place::Kept("vm.compact_memory", 0)])),
        ("dirty_background_ratio", Node::Setting(Form::Int(0, 100), &[Place::Kept("vm.dirty_background_ratio", 10)])),
        ("dirty_expire_centisecs", Node::Setting(Form::Unsigned(0, u32::MAX), &[Place::Kept("vm.dirty_expire_centisecs", 3000)])),
        ("dirty_ratio", Node::Setting(Form::Int(0, 100), &[Place::Kept("vm.dirty_ratio", 20)])),
        (
            "dirty_writeback_centisecs",
            Node::Setting(Form::Unsigned(0, u32::MAX), &[Place::Kept("vm.dirty_writeback_centisecs", 500)]),
        ),
        ("drop_caches", Node::Trigger(Form::Int(1, 4), &[Place::Kept("vm.drop_caches", 0)])),
        ("laptop_mode", Node::Setting(ANY, &[Place::Kept("vm.laptop_mode", 0)])),
        ("max_map_count", Node::Setting(COUNT, &[Place::Limit(areas)])),
        ("mmap_min_addr", Node::File(|_| line(format_args!("{GUEST_START}\n")))),
        ("nr_hugepages", Node::Setting(LONG, &[Place::Kept("vm.nr_hugepages", 0)])),
        ("nr_overcommit_hugepages", Node::Setting(LONG, &[Place::Kept("vm.nr_overcommit_hugepages", 0)])),
        ("oom_dump_tasks", Node::Setting(ANY, &[Place::Kept("vm.oom_dump_tasks", 1)])),
        ("oom_kill_allocating_task", Node::Setting(ANY, &[Place::Kept("vm.oom_kill_allocating_task", 0)])),
        ("overcommit_kbytes", Node::Setting(LONG, &[Place::Kept("vm.overcommit_kbytes", 0)])),
        ("overcommit_memory", Node::Setting(THREE, &[Place::Kept("vm.overcommit_memory", 0)])),
        ("overcommit_ratio", Node::Setting(ANY, &[Place::Kept("vm.overcommit_ratio", 50)])),
        ("page-cluster", Node::Setting(Form::Int(0, 31), &[Place::Kept("vm.page-cluster", 3)])),
        ("panic_on_oom", Node::Setting(THREE, &[Place::Kept("vm.panic_on_oom", 0)])),
        ("stat_interval", Node::Setting(ANY, &[Place::Kept("vm.stat_interval", 1)])),
        ("swappiness", Node::Setting(Form::Int(0, 200), &[Place::Kept("vm.swappiness", 60)])),
        ("user_reserve_kbytes", Node::Setting(LONG, &[Place::Kept("vm.user_reserve_kbytes", 131_072)])),
        ("vfs_cache_pressure", Node::Setting(COUNT, &[Place::Kept("vm.vfs_cache_pressure", 100)])),
    ];
}
