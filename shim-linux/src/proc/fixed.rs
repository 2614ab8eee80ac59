//! Names of /proc that are always there, as one table; and what those without a file of their own say.

use super::text::line;
use super::{cpuinfo, system, sysvipc};
use crate::machine;
use crate::notify::{QUEUE_MAX, WATCHES_MAX};
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::marker::PhantomData;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::FD_MAX;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::proc::{LinkTarget, ProcFile, ProcId, ProcLink};
use litebox_core::fs::pseudo::FixedDir;
use litebox_core::fs::types::{DeviceId, Gid, InodeId, Mode, Uid};
use litebox_core::ipc::{msg, posix, sem, shm};
use litebox_core::mm::{GUEST_START, MAX_AREAS, PAGE_SIZE};

/// What a name leads to.
pub(super) enum Node<P: Cpu> {
    /// A file.
    File(fn(&Sandbox<P>) -> Result<Vec<u8>>),
    /// A file whose content never changes.
    Text(&'static str),
    /// A link.
    Link(&'static str),
    /// A directory.
    Dir(&'static [(&'static str, Node<P>)]),
}

/// The tables.
pub(super) struct Fixed<P>(PhantomData<P>);

impl<P: Cpu> Fixed<P> {
    /// The top.
    pub(super) const TOP: &'static [(&'static str, Node<P>)] = &[
        ("cmdline", Node::Text("litebox\n")),
        ("cpuinfo", Node::File(cpuinfo::cpuinfo)),
        ("devices", Node::Text("Character devices:\n  1 mem\n  5 /dev/tty\n\nBlock devices:\n")),
        (
            "filesystems",
            Node::Text("nodev\tproc\nnodev\ttmpfs\nnodev\tramfs\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\toverlay\nnodev\thost\n"),
        ),
        ("loadavg", Node::File(system::loadavg)),
        ("meminfo", Node::File(system::meminfo)),
        ("modules", Node::Text("")),
        ("mounts", Node::Link("self/mounts")),
        ("partitions", Node::Text("major minor  #blocks  name\n\n")),
        ("stat", Node::File(system::stat)),
        ("swaps", Node::Text("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
        ("sys", Node::Dir(Self::SYS)),
        ("sysvipc", Node::Dir(Self::SYSVIPC)),
        ("uptime", Node::File(system::uptime)),
        (
            "version",
            Node::File(|_| {
                line(format_args!(
                    "{} version {} (litebox@litebox) (rustc) {}\n",
                    machine::SYSTEM,
                    machine::RELEASE,
                    machine::VERSION
                ))
            }),
        ),
        ("vmstat", Node::File(system::vmstat)),
    ];

    const SYSVIPC: &'static [(&'static str, Node<P>)] =
        &[("msg", Node::File(sysvipc::msg)), ("sem", Node::File(sysvipc::sem)), ("shm", Node::File(sysvipc::shm))];

    const SYS: &'static [(&'static str, Node<P>)] =
        &[("fs", Node::Dir(Self::SYS_FS)), ("kernel", Node::Dir(Self::SYS_KERNEL)), ("vm", Node::Dir(Self::SYS_VM))];

    const SYS_FS: &'static [(&'static str, Node<P>)] = &[
        ("mqueue", Node::Dir(Self::SYS_MQUEUE)),
        ("file-max", Node::Text("9223372036854775807\n")),
        ("inotify", Node::Dir(Self::SYS_INOTIFY)),
        ("nr_open", Node::File(|_| line(format_args!("{FD_MAX}\n")))),
        ("overflowgid", Node::Text("65534\n")),
        ("overflowuid", Node::Text("65534\n")),
        ("pipe-max-size", Node::Text("1048576\n")),
        ("pipe-user-pages-hard", Node::Text("0\n")),
        ("pipe-user-pages-soft", Node::Text("16384\n")),
        ("suid_dumpable", Node::Text("0\n")),
    ];

    const SYS_INOTIFY: &'static [(&'static str, Node<P>)] = &[
        ("max_queued_events", Node::File(|_| line(format_args!("{QUEUE_MAX}\n")))),
        ("max_user_instances", Node::Text("128\n")),
        ("max_user_watches", Node::File(|_| line(format_args!("{WATCHES_MAX}\n")))),
    ];

    const SYS_MQUEUE: &'static [(&'static str, Node<P>)] = &[
        ("msg_default", Node::File(|_| line(format_args!("{}\n", posix::MESSAGES_USUAL)))),
        ("msg_max", Node::File(|_| line(format_args!("{}\n", posix::MESSAGES_USUAL)))),
        ("msgsize_default", Node::File(|_| line(format_args!("{}\n", posix::BYTES_USUAL)))),
        ("msgsize_max", Node::File(|_| line(format_args!("{}\n", posix::BYTES_USUAL)))),
        ("queues_max", Node::File(|_| line(format_args!("{}\n", posix::QUEUES_MAX)))),
    ];

    const SYS_KERNEL: &'static [(&'static str, Node<P>)] = &[
        ("cap_last_cap", Node::File(|_| line(format_args!("{}\n", linux_raw_sys::general::CAP_LAST_CAP)))),
        ("core_pattern", Node::Text("core\n")),
        ("domainname", Node::File(|_| line(format_args!("{}\n", machine::DOMAIN)))),
        ("hostname", Node::File(|sandbox| line(format_args!("{}\n", sandbox.machine().host)))),
        ("msgmax", Node::File(|_| line(format_args!("{}\n", msg::MESSAGE_MAX)))),
        ("msgmnb", Node::File(|_| line(format_args!("{}\n", msg::BYTES_MAX)))),
        ("msgmni", Node::File(|_| line(format_args!("{}\n", msg::QUEUES_MAX)))),
        ("ngroups_max", Node::Text("65536\n")),
        ("osrelease", Node::File(|_| line(format_args!("{}\n", machine::RELEASE)))),
        ("ostype", Node::File(|_| line(format_args!("{}\n", machine::SYSTEM)))),
        ("overflowgid", Node::Text("65534\n")),
        ("overflowuid", Node::Text("65534\n")),
        ("perf_event_paranoid", Node::Text("4\n")),
        ("pid_max", Node::Text("4194304\n")),
        ("random", Node::Dir(Self::SYS_RANDOM)),
        ("randomize_va_space", Node::Text("2\n")),
        ("sem", Node::File(|_| line(format_args!("{}\t1024000000\t{}\t{}\n", sem::IN_SET_MAX, sem::OPS_MAX, sem::SETS_MAX)))),
        ("shmall", Node::File(|_| line(format_args!("{}\n", shm::SIZE_MAX / PAGE_SIZE)))),
        ("shmmax", Node::File(|_| line(format_args!("{}\n", shm::SIZE_MAX)))),
        ("shmmni", Node::File(|_| line(format_args!("{}\n", shm::SEGMENTS_MAX)))),
        ("tainted", Node::Text("0\n")),
        ("threads-max", Node::File(|sandbox| line(format_args!("{}\n", sandbox.machine().tasks)))),
        ("version", Node::File(|_| line(format_args!("{}\n", machine::VERSION)))),
    ];

    const SYS_RANDOM: &'static [(&'static str, Node<P>)] = &[
        ("boot_id", Node::File(|sandbox| system::uuid(sandbox.machine().boot_id()))),
        ("entropy_avail", Node::Text("256\n")),
        ("poolsize", Node::Text("256\n")),
        (
            "uuid",
            Node::File(|_| {
                let mut bytes = [0; 16];
                P::fill_random(&mut bytes);
                system::uuid(bytes)
            }),
        ),
    ];

    const SYS_VM: &'static [(&'static str, Node<P>)] = &[
        ("max_map_count", Node::File(|_| line(format_args!("{MAX_AREAS}\n")))),
        ("mmap_min_addr", Node::File(|_| line(format_args!("{GUEST_START}\n")))),
        ("nr_hugepages", Node::Text("0\n")),
        ("overcommit_memory", Node::Text("0\n")),
        ("overcommit_ratio", Node::Text("50\n")),
        ("swappiness", Node::Text("60\n")),
    ];
}

/// Inode numbers of fixed names; processes have far higher ones.
const FIRST_NUMBER: u64 = 0x100;

/// Makes the inodes of a table.
pub(super) fn build<P: Cpu>(
    device: DeviceId,
    sandbox: &Arc<Sandbox<P>>,
    table: &'static [(&'static str, Node<P>)],
) -> Vec<(&'static str, InodeRef<P>)> {
    fn each<P: Cpu>(
        device: DeviceId,
        last: &mut u64,
        sandbox: &Arc<Sandbox<P>>,
        table: &'static [(&'static str, Node<P>)],
    ) -> Vec<(&'static str, InodeRef<P>)> {
        let inode = |(name, node): &'static (&'static str, Node<P>)| {
            *last = last.saturating_add(1);
            let id = InodeId { device, number: *last };
            let id = |mode| ProcId { id, mode: Mode::from_bits_retain(mode), uid: Uid(0), gid: Gid(0) };
            let inode = match node {
                Node::File(make) => {
                    let weak = Arc::downgrade(sandbox);
                    let of = move |weak: &Weak<Sandbox<P>>| make(&*weak.upgrade().ok_or(errno!(SRCH))?);
                    ProcFile::readable(id(0o444), sandbox.quota(), move || of(&weak))
                }
                Node::Text(text) => ProcFile::readable(id(0o444), sandbox.quota(), || Ok(text.as_bytes().to_vec())),
                Node::Link(target) => ProcLink::inode(id(0o777), |_| Ok(LinkTarget::Path(target.as_bytes().to_vec()))),
                Node::Dir(table) => FixedDir::new(id(0o555).id, each(device, last, sandbox, table)),
            };
            (*name, inode)
        };
        table.iter().map(inode).collect()
    }
    each(device, &mut FIRST_NUMBER.clone(), sandbox, table)
}
