//! What the processes of a sandbox share beside files: locks on those, sockets, what sysvipc(7) has, timers, numbers of what is in no directory.

use crate::settings::Settings;
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use litebox_core::fs::locks::FileLocks;
use litebox_core::fs::types::{DeviceId, InodeId};
use litebox_core::ipc::msg::Messages;
use litebox_core::ipc::posix::Queues;
use litebox_core::ipc::sem::Semaphores;
use litebox_core::ipc::shm::Segments;
use litebox_core::net::unix::UnixNet;
use litebox_core::platform::Platform;
use litebox_core::quota::Quota;
use litebox_core::sync::Mutex;
use litebox_core::time::Timers;
use litebox_core::tty::{Jobs, devpts::Terminals};

/// The device of what is in no directory. Linux numbers such file systems from 0:1 on; any that no mount has will do.
const ANONYMOUS: DeviceId = DeviceId { major: 0, minor: 0xfffff };

/// The device of /dev/pts.
const PTS: DeviceId = DeviceId { major: 0, minor: 0xffffe };

/// The device of the first mount; /dev itself has the one before.
const FIRST_DEVICE: u32 = 6;

/// One sandbox's share.
pub(crate) struct Shared<P: Platform> {
    inodes: AtomicU64,
    devices: AtomicU32,
    timers: Arc<Timers<P>>,
    nesting: Mutex<P, ()>,
    locks: Arc<FileLocks<P>>,
    unix: Arc<UnixNet<P>>,
    segments: Segments<P>,
    semaphores: Semaphores<P>,
    messages: Messages<P>,
    queues: Queues<P>,
    terminals: Arc<Terminals<P>>,
    settings: Settings<P>,
}

impl<P: Platform> fmt::Debug for Shared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("inodes", &self.inodes).finish_non_exhaustive()
    }
}

impl<P: Platform> Shared<P> {
    /// Nothing yet. What there will be is charged to `quota`; terminals send signals to `jobs`.
    pub(crate) fn new(quota: &Arc<Quota>, jobs: Weak<dyn Jobs>) -> Self {
        let nesting = Mutex::<P, _>::new(());
        Self {
            inodes: AtomicU64::new(0),
            devices: AtomicU32::new(FIRST_DEVICE),
            timers: Timers::new(),
            nesting,
            locks: FileLocks::new(quota),
            unix: UnixNet::new(quota),
            segments: Segments::new(quota),
            semaphores: Semaphores::new(quota),
            messages: Messages::new(quota),
            queues: Queues::new(quota),
            terminals: Terminals::new(quota, PTS, jobs),
            settings: Settings::new(),
        }
    }

    /// An inode number for a pipe or another thing without a name.
    pub(crate) fn new_inode(&self) -> InodeId {
        InodeId { device: ANONYMOUS, number: self.inodes.fetch_add(1, Ordering::Relaxed).saturating_add(1) }
    }

    /// A device number that no other file system has.
    pub(crate) fn new_device(&self) -> DeviceId {
        DeviceId { major: 0, minor: self.devices.fetch_add(1, Ordering::Relaxed) }
    }

    /// What is to happen at a time.
    pub(crate) fn timers(&self) -> &Arc<Timers<P>> {
        &self.timers
    }

    /// Shared memory with a key.
    pub(crate) fn segments(&self) -> &Segments<P> {
        &self.segments
    }

    /// Semaphores with a key.
    pub(crate) fn semaphores(&self) -> &Semaphores<P> {
        &self.semaphores
    }

    /// Queues of messages with a key.
    pub(crate) fn messages(&self) -> &Messages<P> {
        &self.messages
    }

    /// Queues of messages with a name.
    pub(crate) fn queues(&self) -> &Queues<P> {
        &self.queues
    }

    /// Terminals.
    pub(crate) fn terminals(&self) -> &Arc<Terminals<P>> {
        &self.terminals
    }

    /// What root may set.
    pub(crate) fn settings(&self) -> &Settings<P> {
        &self.settings
    }

    /// Sockets.
    pub(crate) fn unix(&self) -> &Arc<UnixNet<P>> {
        &self.unix
    }

    /// Locks on files.
    pub(crate) fn locks(&self) -> &Arc<FileLocks<P>> {
        &self.locks
    }

    /// Held by whoever adds an epoll set to another.
    pub(crate) fn nesting(&self) -> &Mutex<P, ()> {
        &self.nesting
    }
}

impl<P: Cpu> Sandbox<P> {
    /// What is to happen in it at a time; for a host that is asked to call ([`Clock::call_at`]).
    ///
    /// [`Clock::call_at`]: litebox_core::platform::Clock::call_at
    #[must_use]
    pub fn timers(&self) -> &Arc<Timers<P>> {
        self.shared().timers()
    }

    /// Lets go of all files in flight in sockets, which may hold each other in a circle: its last task has ended.
    pub fn end_sockets(&self) {
        self.shared().unix().end();
    }
}
