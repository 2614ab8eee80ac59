//! Names of /proc that are always there, as one table; and what those without a file of their own say.

use super::setting::{self, Form, Place};
use super::sys::Sys;
use super::text::{Text, line};
use super::{cpuinfo, locks, system, sysvipc};
use crate::machine;
use crate::settings::Named;
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::marker::PhantomData;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::proc::{LinkTarget, ProcFile, ProcId, ProcLink};
use litebox_core::fs::pseudo::FixedDir;
use litebox_core::fs::types::{DeviceId, Gid, InodeId, Mode, Uid};

/// The kinds of file system that are mounted or can be, in the order of their numbers. See sysfs(2).
pub(crate) const FILE_SYSTEMS: &[&str] = &["proc", "tmpfs", "ramfs", "devtmpfs", "devpts", "overlay", "host"];

/// What a name leads to.
pub(super) enum Node<P: Cpu> {
    /// A file.
    File(fn(&Sandbox<P>) -> Result<Vec<u8>>),
    /// A file whose content never changes.
    Text(&'static str),
    /// A link.
    Link(&'static str),
    /// Numbers that root can change.
    Setting(Form, &'static [Place<P>]),
    /// The same, and only to write: something is done once.
    Trigger(Form, &'static [Place<P>]),
    /// A text that root can change.
    Named(Named),
    /// A directory.
    Dir(&'static [(&'static str, Node<P>)]),
}

/// Nobody measures who waits for what.
const NO_PRESSURE: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

/// Terminals by their devices' numbers: ps(1) names them by that.
const DRIVERS: &str = "/dev/tty             /dev/tty        5       0 system:/dev/tty
/dev/ptmx            /dev/ptmx       5       2 system
pty_slave            /dev/pts      136 0-1048575 pty:slave
pty_master           /dev/ptm      128 0-1048575 pty:master
";

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
            Node::File(|_| {
                let mut text = Text::default();
                FILE_SYSTEMS.iter().try_for_each(|name| text.put(format_args!("nodev\t{name}\n")))?;
                Ok(text.finish())
            }),
        ),
        ("diskstats", Node::Text("")),
        ("execdomains", Node::Text("0-0\tLinux           \t[kernel]\n")),
        ("fb", Node::Text("")),
        ("loadavg", Node::File(system::loadavg)),
        ("locks", Node::File(locks::locks)),
        ("meminfo", Node::File(system::meminfo)),
        ("modules", Node::Text("")),
        ("mounts", Node::Link("self/mounts")),
        ("net", Node::Link("self/net")),
        ("partitions", Node::Text("major minor  #blocks  name\n\n")),
        ("pressure", Node::Dir(Self::PRESSURE)),
        ("stat", Node::File(system::stat)),
        ("swaps", Node::Text("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
        ("sys", Node::Dir(Sys::<P>::TOP)),
        ("sysvipc", Node::Dir(Self::SYSVIPC)),
        ("tty", Node::Dir(Self::TTY)),
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

    const PRESSURE: &'static [(&'static str, Node<P>)] =
        &[("cpu", Node::Text(NO_PRESSURE)), ("io", Node::Text(NO_PRESSURE)), ("memory", Node::Text(NO_PRESSURE))];

    const TTY: &'static [(&'static str, Node<P>)] =
        &[("drivers", Node::Text(DRIVERS)), ("ldiscs", Node::Text("n_tty       0\n"))];

    const SYSVIPC: &'static [(&'static str, Node<P>)] =
        &[("msg", Node::File(sysvipc::msg)), ("sem", Node::File(sysvipc::sem)), ("shm", Node::File(sysvipc::shm))];
}

/// Inode numbers of fixed names; processes have far higher ones.
const FIRST_NUMBER: u64 = 0x100;

/// # Errors
/// `SRCH`: it has ended.
fn alive<P: Cpu>(sandbox: &Weak<Sandbox<P>>) -> Result<Arc<Sandbox<P>>> {
    sandbox.upgrade().ok_or(errno!(SRCH, "the sandbox has ended"))
}

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
                    ProcFile::readable(id(0o444), sandbox.quota(), move || make(&*alive(&weak)?))
                }
                Node::Text(text) => ProcFile::readable(id(0o444), sandbox.quota(), || Ok(text.as_bytes().to_vec())),
                Node::Setting(form, places) => {
                    let (reader, writer) = (Arc::downgrade(sandbox), Arc::downgrade(sandbox));
                    ProcFile::writable(
                        id(0o644),
                        sandbox.quota(),
                        move || setting::show(&*alive(&reader)?, *form, places),
                        move |text| setting::accept(&*alive(&writer)?, *form, places, text),
                    )
                }
                Node::Trigger(form, places) => {
                    let writer = Arc::downgrade(sandbox);
                    let accept = move |text: &[u8]| setting::accept(&*alive(&writer)?, *form, places, text);
                    ProcFile::writable(id(0o200), sandbox.quota(), || Err(errno!(ACCESS, "cannot be read")), accept)
                }
                Node::Named(which) => {
                    let (reader, writer) = (Arc::downgrade(sandbox), Arc::downgrade(sandbox));
                    let read = move || {
                        let mut text = alive(&reader)?.name(*which);
                        text.push(b'\n');
                        Ok(text)
                    };
                    let accept = move |text: &[u8]| setting::accept_text(&*alive(&writer)?, *which, text);
                    ProcFile::writable(id(0o644), sandbox.quota(), read, accept)
                }
                Node::Link(target) => ProcLink::inode(id(0o777), |_| Ok(LinkTarget::Path(target.as_bytes().to_vec()))),
                Node::Dir(table) => FixedDir::new(id(0o555).id, each(device, last, sandbox, table)),
            };
            (*name, inode)
        };
        table.iter().map(inode).collect()
    }
    each(device, &mut FIRST_NUMBER.clone(), sandbox, table)
}
