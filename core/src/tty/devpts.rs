//! /dev/ptmx and /dev/pts. Source: pts(4); Linux fs/devpts/inode.c.
//!
//! Invariants: a number is taken while its master is open; the directory shows just those. Locks: `pairs` is a leaf.

use super::Jobs;
use super::pair::{Pair, TerminalFile};
use crate::capabilities::Capabilities;
use crate::fs::inode::{DirEntry, DirSink, Inode, InodeRef, OpsRef};
use crate::fs::pseudo::{DirectoryOps, made_up_attr};
use crate::fs::types::{Attr, AttrChange, Credentials, DeviceId, FileKind, InodeId, Mode, Name, OFlags, Timestamp, Uid};
use crate::platform::Platform;
use crate::quota::Quota;
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::fmt;

/// Pairs of one sandbox. Linux: `kernel.pty.max`.
const PAIRS_MAX: u32 = 4096;
/// Major number of slaves.
pub const SLAVE_MAJOR: u32 = 136;

/// All pairs of a sandbox.
pub struct Terminals<P: Platform> {
    quota: Arc<Quota>,
    jobs: Weak<dyn Jobs>,
    device: DeviceId,
    born: Timestamp,
    pairs: Mutex<P, BTreeMap<u32, Weak<Pair<P>>>>,
}

impl<P: Platform> fmt::Debug for Terminals<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminals").finish_non_exhaustive()
    }
}

impl<P: Platform> Terminals<P> {
    /// None yet. `device` is that of the file system that shows them.
    #[must_use]
    pub fn new(quota: &Arc<Quota>, device: DeviceId, jobs: Weak<dyn Jobs>) -> Arc<Self> {
        let pairs = Mutex::<P, _>::new(BTreeMap::new());
        Arc::new(Self { quota: Arc::clone(quota), jobs, device, born: P::realtime().into(), pairs })
    }

    /// Makes a pair and opens its master; the slave is locked, and its node is `owner`'s.
    ///
    /// # Errors
    /// `NOSPC`: there are too many. `NOMEM`.
    pub fn open_master(&self, owner: Uid) -> Result<Arc<TerminalFile<P>>> {
        let mut pairs = self.pairs.lock();
        pairs.retain(|_, pair| pair.upgrade().is_some_and(|pair| !pair.is_closed()));
        let number = (0..PAIRS_MAX).find(|number| !pairs.contains_key(number)).ok_or(errno!(NOSPC, "too many terminals"))?;
        let pair = Pair::new(number, owner, &self.quota, &self.jobs)?;
        pairs.insert(number, Arc::downgrade(&pair));
        Ok(TerminalFile::master(pair))
    }

    fn pair(&self, number: u32) -> Option<Arc<Pair<P>>> {
        self.pairs.lock().get(&number).and_then(Weak::upgrade).filter(|pair| !pair.is_closed())
    }

    /// The inode of a slave.
    #[must_use]
    pub fn node(&self, pair: &Arc<Pair<P>>) -> InodeRef<P> {
        let id = InodeId { device: self.device, number: u64::from(pair.number()).saturating_add(3) };
        Arc::new(Slave { id, pair: Arc::clone(pair) })
    }

    /// The root of /dev/pts.
    #[must_use]
    pub fn root(self: &Arc<Self>) -> InodeRef<P> {
        Arc::new(Root { terminals: Arc::clone(self) })
    }

    /// An inode of /dev/ptmx, with this number and mode.
    #[must_use]
    pub fn multiplexer(self: &Arc<Self>, id: InodeId, mode: Mode) -> InodeRef<P> {
        Arc::new(Door { id, mode, terminals: Arc::clone(self) })
    }
}

/// /dev/ptmx.
struct Door<P: Platform> {
    id: InodeId,
    mode: Mode,
    terminals: Arc<Terminals<P>>,
}

impl<P: Platform> fmt::Debug for Door<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<P: Platform> Inode<P> for Door<P> {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn attr(&self) -> Result<Attr> {
        let attr = made_up_attr(self.id, FileKind::CharDevice, self.mode, self.terminals.born);
        Ok(Attr { device: DeviceId { major: 5, minor: 2 }, ..attr })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Ok(self.terminals.open_master(Uid(0))?)
    }

    fn open_as(self: Arc<Self>, _flags: OFlags, who: &Credentials) -> Result<OpsRef<P>> {
        Ok(self.terminals.open_master(who.uid)?)
    }
}

/// A slave in /dev/pts.
struct Slave<P: Platform> {
    id: InodeId,
    pair: Arc<Pair<P>>,
}

impl<P: Platform> fmt::Debug for Slave<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slave").field("pair", &self.pair).finish_non_exhaustive()
    }
}

impl<P: Platform> Inode<P> for Slave<P> {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn attr(&self) -> Result<Attr> {
        let owner = self.pair.lock().owner;
        let device = DeviceId { major: SLAVE_MAJOR, minor: self.pair.number() };
        let attr = made_up_attr(self.id, FileKind::CharDevice, owner.mode, owner.changed);
        Ok(Attr { device, uid: owner.uid, gid: owner.gid, block_size: 1024, ..attr })
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        let mut state = self.pair.lock();
        let owner = &mut state.owner;
        (owner.uid, owner.gid) = (change.uid.unwrap_or(owner.uid), change.gid.unwrap_or(owner.gid));
        owner.mode = change.mode.unwrap_or(owner.mode);
        owner.changed = P::realtime().into();
        Ok(())
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Ok(self.pair.open_slave(false)?)
    }

    fn open_as(self: Arc<Self>, _flags: OFlags, who: &Credentials) -> Result<OpsRef<P>> {
        Ok(self.pair.open_slave(who.can(Capabilities::SYS_ADMIN))?)
    }
}

/// The directory.
struct Root<P: Platform> {
    terminals: Arc<Terminals<P>>,
}

impl<P: Platform> fmt::Debug for Root<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").finish_non_exhaustive()
    }
}

impl<P: Platform> Root<P> {
    fn inode(&self, number: u64) -> InodeId {
        InodeId { device: self.terminals.device, number }
    }
}

impl<P: Platform> Inode<P> for Root<P> {
    fn id(&self) -> InodeId {
        self.inode(1)
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn attr(&self) -> Result<Attr> {
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        Ok(made_up_attr(self.id(), FileKind::Directory, mode, self.terminals.born))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn volatile(&self) -> bool {
        true
    }

    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        if name.as_bytes() == b"ptmx" {
            let all = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
            return Ok(self.terminals.multiplexer(self.inode(2), all));
        }
        let text = core::str::from_utf8(name.as_bytes()).map_err(|_| errno!(NOENT))?;
        let number = text.parse::<u32>().map_err(|_| errno!(NOENT))?;
        let canonical = text == "0" || !text.starts_with(['0', '+']);
        let pair = self.terminals.pair(number).filter(|_| canonical).ok_or(errno!(NOENT))?;
        Ok(self.terminals.node(&pair))
    }

    fn read_dir(&self, cookie: u64, sink: &mut DirSink<'_>) -> Result<u64> {
        // Cookies 1 to 3 are behind the three fixed names; a slave's is its number and four.
        let fixed = [(".", 1, FileKind::Directory), ("..", 1, FileKind::Directory), ("ptmx", 2, FileKind::CharDevice)];
        let mut at = cookie;
        for (next, (name, number, kind)) in (1..).zip(fixed).skip_while(|(next, _)| *next <= cookie) {
            if !sink(DirEntry { name: name.as_bytes(), number, kind, next }) {
                return Ok(at);
            }
            at = next;
        }
        let mut number = u32::try_from(at.saturating_sub(3)).unwrap_or(PAIRS_MAX);
        while number < PAIRS_MAX {
            let found = self.terminals.pairs.lock().range(number..).next().map(|(number, _)| *number);
            let Some(found) = found else { break };
            number = found.saturating_add(1);
            let Some(pair) = self.terminals.pair(found) else { continue };
            let inode = self.terminals.node(&pair).id().number;
            let next = u64::from(found).saturating_add(4);
            let name = alloc::format!("{found}");
            if !sink(DirEntry { name: name.as_bytes(), number: inode, kind: FileKind::CharDevice, next }) {
                break;
            }
            at = next;
        }
        Ok(at)
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Ok(Arc::new(DirectoryOps))
    }
}
