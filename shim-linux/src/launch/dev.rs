//! What /dev holds: the devices that need no hardware, links to descriptors, the terminal.
//!
//! Invariant: one file system, however often it is mounted. Numbers are Linux's. Locks: a terminal's slot is a leaf.
//! Sources: null(4), random(4), tty(4), fd(4); Linux Documentation/admin-guide/devices.txt.

use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::devices::{Device, HostStream};
use litebox_core::fs::host::HostFile;
use litebox_core::fs::inode::{Inode, InodeRef, OpsRef};
use litebox_core::fs::proc::{LinkTarget, ProcId, ProcLink};
use litebox_core::fs::pseudo::{FixedDir, made_up_attr};
use litebox_core::fs::types::{Attr, Credentials, DeviceId, FileKind, Gid, InodeId, Mode, OFlags, Uid};
use litebox_core::platform::Platform;
use litebox_core::sync::Mutex;

/// The device that /dev itself is on.
pub(super) const DEVICE: DeviceId = DeviceId { major: 0, minor: 5 };
/// Inode of the terminal, under whatever name.
pub(super) const TERMINAL: InodeId = InodeId { device: DEVICE, number: 3 };

/// The first process, which leads the first session.
const FIRST: u32 = 2;

/// Minor numbers of the memory devices, whose major number is 1.
const fn minor(device: Device) -> u32 {
    match device {
        Device::Null => 3,
        Device::Zero => 5,
        Device::Full => 7,
        Device::Random => 8,
        Device::Urandom => 9,
    }
}

/// Links and where they lead.
const LINKS: [(&str, &str); 4] =
    [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")];

/// The directory.
pub(super) fn root<P: Cpu>(terminal: &Arc<Terminal<P>>, sandbox: &Arc<Sandbox<P>>) -> InodeRef<P> {
    let mut entries: Vec<(&'static str, InodeRef<P>)> = Vec::new();
    let inode = |number| InodeId { device: DEVICE, number };
    for (name, device) in Device::ALL {
        let minor = minor(device);
        entries.push((name, device.inode(inode(u64::from(minor).saturating_add(10)), DeviceId { major: 1, minor })));
    }
    for (number, (name, target)) in (20..).zip(LINKS) {
        let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        let id = ProcId { id: inode(number), mode: all, uid: Uid(0), gid: Gid(0) };
        entries.push((name, ProcLink::inode(id, move |_| Ok(LinkTarget::Path(target.as_bytes().to_vec())))));
    }
    entries.push(("tty", Arc::new(Tty { terminal: Arc::clone(terminal), sandbox: Arc::downgrade(sandbox) })));
    let all = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    entries.push(("ptmx", sandbox.shared().terminals().multiplexer(inode(4), all)));
    entries.push(("pts", FixedDir::new(inode(5), [])));
    entries.push(("shm", FixedDir::new(inode(2), [])));
    FixedDir::new(inode(1), entries)
}

/// The terminal that the sandbox was started from, if it was.
pub(super) struct Terminal<P: Platform>(Mutex<P, Option<Arc<dyn HostFile<P>>>>);

impl<P: Platform> Default for Terminal<P> {
    fn default() -> Self {
        Self(Mutex::<P, _>::new(None))
    }
}

impl<P: Platform> Terminal<P> {
    pub(super) fn set(&self, file: Option<Arc<dyn HostFile<P>>>) {
        let former = core::mem::replace(&mut *self.0.lock(), file);
        drop(former);
    }

    fn get(&self) -> Option<Arc<dyn HostFile<P>>> {
        self.0.lock().clone()
    }
}

/// `/dev/tty`: the controlling terminal of whoever opens it.
struct Tty<P: Cpu> {
    terminal: Arc<Terminal<P>>,
    sandbox: Weak<Sandbox<P>>,
}

impl<P: Cpu> fmt::Debug for Tty<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tty").finish_non_exhaustive()
    }
}

impl<P: Cpu> Inode<P> for Tty<P> {
    fn id(&self) -> InodeId {
        TERMINAL
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn attr(&self) -> Result<Attr> {
        let own = || {
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
            let attr = made_up_attr(TERMINAL, FileKind::CharDevice, mode, P::realtime().into());
            Attr { device: DeviceId { major: 5, minor: 0 }, ..attr }
        };
        // With the numbers of the descriptors that lead to it, so that ttyname(3) finds it.
        Ok(match self.terminal.get() {
            Some(file) => Attr { id: TERMINAL, kind: FileKind::CharDevice, ..file.attr()? },
            None => own(),
        })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Err(errno!(NXIO, "whose terminal?"))
    }

    fn open_as(self: Arc<Self>, flags: OFlags, who: &Credentials) -> Result<OpsRef<P>> {
        let process = self.sandbox.upgrade().and_then(|sandbox| sandbox.process(who.asker.process));
        let process = process.ok_or(errno!(NXIO, "no process"))?;
        if let Some(pair) = process.terminal() {
            return Ok(pair.open_slave(who.can(Capabilities::SYS_ADMIN))?);
        }
        // A terminal of the host is that of the first session.
        let is_first = process.with(|state| state.session) == FIRST;
        let file = self.terminal.get().filter(|_| is_first).ok_or(errno!(NXIO, "no terminal"))?;
        Ok(Arc::clone(HostStream::open(file, TERMINAL, b"/dev/tty", flags).ops()))
    }
}
