//! POSIX queues of messages, by names. See `mq_overview(7)`; Linux ipc/mqueue.c.
//!
//! Owns: names, messages in order, who is to be told of one. Not here: how one is told (whoever registers says).
//! Invariants: messages are sorted by falling priority, of equals the oldest first; who changes a queue wakes all that wait at it.
//! Locks: `names`, then a queue's `state`; both are leaves, and no guest memory is touched under them.

use crate::capabilities::Capabilities;
use crate::errno;
use crate::error::Result;
use crate::fs::file::File;
use crate::fs::inode::{FileOps, IoCx};
use crate::fs::io::IoDst;
use crate::fs::poll::PollSource;
use crate::fs::types::{Credentials, Gid, InodeId, OFlags, Ready, Uid};
use crate::limit::Limit;
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::{Mutex, WaitQueue};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// Messages of a queue, where its maker says nothing and for whom is not privileged. Linux: `DFLT_MSGMAX`.
const MESSAGES_USUAL: u64 = 10;
/// Bytes of a message, likewise.
const BYTES_USUAL: u64 = 8192;
/// Queues that those who are not privileged may make in all.
const QUEUES: u64 = 256;
/// Messages and bytes of one for the privileged. Linux: `HARD_MSGMAX`, `HARD_MSGSIZEMAX`.
const MESSAGES_MAX: i64 = 65_536;
const BYTES_MAX: i64 = 16 << 20;
/// Priorities are below this. Linux: `MQ_PRIO_MAX`.
pub const PRIORITY_END: u32 = 32_768;
/// What a message counts against the user's limit beside its bytes. Linux: `struct msg_msg`, `struct posix_msg_tree_node`.
const MESSAGE_COST: u64 = 48;
const LEVEL_COST: u64 = 56;
/// What a queue is charged, and a message beside its bytes.
const COST: u64 = 256;

/// How many and how large queues may be. See `mq_overview(7)`.
#[derive(Debug)]
pub struct Limits {
    /// Queues that those who are not privileged may make in all.
    pub queues: Limit,
    /// Messages of a queue, for whom is not privileged, and where its maker says nothing.
    pub messages: [Limit; 2],
    /// Bytes of a message, likewise.
    pub bytes: [Limit; 2],
}

/// How much a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Messages.
    pub messages: i64,
    /// Bytes of each.
    pub bytes: i64,
}

impl Size {
    /// What the queue counts against its user's limit; `None` if that is no number.
    fn cost(self) -> Option<u64> {
        let (messages, bytes) = (u64::try_from(self.messages).ok()?, u64::try_from(self.bytes).ok()?);
        let levels = messages.min(PRIORITY_END.into());
        let beside = messages.checked_mul(MESSAGE_COST)?.checked_add(levels.checked_mul(LEVEL_COST)?)?;
        messages.checked_mul(bytes)?.checked_add(beside)
    }
}

/// Who is told when a message comes to an empty queue where nobody waits; once.
pub trait Told: Send + Sync + fmt::Debug {
    /// Its process.
    fn process(&self) -> u32;
    /// Whether that is still there.
    fn lives(&self) -> bool;
    /// The signal, if it is told by one.
    fn signal(&self) -> Option<u32>;
    /// Tells it: process `pid` of user `uid` has sent something. Takes locks of ranks below those of files.
    fn tell(&self, pid: u32, uid: u32);
}

#[derive(Debug)]
struct Message {
    priority: u32,
    text: Vec<u8>,
    _charge: Charge,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    /// How many wait for one.
    receivers: usize,
    told: Option<Arc<dyn Told>>,
}

/// A queue.
pub struct Queue<P: Platform> {
    size: Size,
    owner: (Uid, Gid),
    mode: u32,
    cost: u64,
    quota: Arc<Quota>,
    state: Mutex<P, State>,
    changed: PollSource<P>,
    _charge: Charge,
}

impl<P: Platform> fmt::Debug for Queue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<P: Platform> Queue<P> {
    /// How much it holds.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.state.lock().messages.len()
    }

    fn is_full(&self, state: &State) -> bool {
        i64::try_from(state.messages.len()).unwrap_or(i64::MAX) >= self.size.messages
    }

    /// Puts a message behind those of its priority, and above, for process `pid` of user `uid`.
    ///
    /// # Errors
    /// `AGAIN`: there is no room, and it may not wait, or not longer. `NOMEM`. `Interrupted`.
    pub fn send(&self, priority: u32, text: Vec<u8>, wait: super::Patience, (pid, uid): (u32, u32)) -> Result<()> {
        let len = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let charge = self.quota.charge(len.saturating_add(COST))?;
        let mut message = Some(Message { priority, text, _charge: charge });
        let told = self.changed.until(wait.blocking, wait.deadline, || {
            let mut state = self.state.lock();
            if self.is_full(&state) {
                return None;
            }
            if state.messages.try_reserve(1).is_err() {
                return Some(Err(errno!(NOMEM)));
            }
            let at = state.messages.partition_point(|other| other.priority >= priority);
            if let Some(message) = message.take() {
                state.messages.insert(at, message);
            }
            let is_news = state.messages.len() == 1 && state.receivers == 0;
            Some(Ok(if is_news { state.told.take() } else { None }))
        })?;
        self.changed.wake(Ready::IN);
        if let Some(told) = told {
            told.tell(pid, uid);
        }
        Ok(())
    }

    /// Takes the first message: its priority and bytes.
    ///
    /// # Errors
    /// `AGAIN`: there is none, and it may not wait, or not longer. `Interrupted`.
    pub fn receive(&self, wait: super::Patience) -> Result<(u32, Vec<u8>)> {
        let mut waits = false;
        let taken = self.changed.until(wait.blocking, wait.deadline, || {
            let mut state = self.state.lock();
            let message = state.messages.pop_front();
            if message.is_none() && !waits {
                waits = true;
                state.receivers = state.receivers.saturating_add(1);
            }
            message.map(Ok)
        });
        if waits {
            let mut state = self.state.lock();
            state.receivers = state.receivers.saturating_sub(1);
        }
        let message = taken?;
        self.changed.wake(Ready::OUT);
        Ok((message.priority, message.text))
    }

    /// Has `told` be told of the next message.
    ///
    /// # Errors
    /// `BUSY`: another is to be told.
    pub fn notify(&self, told: Arc<dyn Told>) -> Result<()> {
        let mut state = self.state.lock();
        if state.told.as_ref().is_some_and(|other| other.lives()) {
            return Err(errno!(BUSY, "another is to be told"));
        }
        let old = state.told.replace(told);
        drop(state);
        drop(old);
        Ok(())
    }

    /// Has process `pid` not be told.
    pub fn forget(&self, pid: u32) {
        let mut state = self.state.lock();
        let old = state.told.take_if(|told| told.process() == pid);
        drop(state);
        drop(old);
    }
}

/// A queue that is open.
struct OpenQueue<P: Platform>(Arc<Queue<P>>);

impl<P: Platform> fmt::Debug for OpenQueue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<P: Platform> FileOps<P> for OpenQueue<P> {
    /// What is told of it in words. Linux: `mqueue_read_file`.
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, _cx: IoCx) -> Result<usize> {
        let text = {
            let state = self.0.state.lock();
            let bytes = state.messages.iter().fold(0usize, |sum, message| sum.saturating_add(message.text.len()));
            let told = state.told.as_ref();
            let pid = told.map_or(0, |told| told.process());
            let signal = told.and_then(|told| told.signal());
            let kind = if told.is_some() && signal.is_none() { 1 } else { 0 };
            format!("QSIZE:{bytes:<10} NOTIFY:{kind:<5} SIGNO:{:<5} NOTIFY_PID:{pid:<6}\n", signal.unwrap_or(0))
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let start = dst.done();
        dst.put(text.as_bytes().get(from..).unwrap_or_default());
        dst.outcome(start)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(80)
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.0.changed.watch(watcher);
        }
        let state = self.0.state.lock();
        let mut ready = Ready::empty();
        ready.set(Ready::IN, !state.messages.is_empty());
        ready.set(Ready::OUT, !self.0.is_full(&state));
        ready
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}

/// The queue that `file` is open on.
///
/// # Errors
/// `BADF`: it is another kind of file.
pub fn of<P: Platform>(file: &File<P>) -> Result<Arc<Queue<P>>> {
    let ops = Arc::clone(file.ops()).into_any().and_then(|any| any.downcast::<OpenQueue<P>>().ok());
    ops.map(|ops| Arc::clone(&ops.0)).ok_or(errno!(BADF, "no queue of messages"))
}

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Whether it is made, and as [`OFlags`] whether for reading and writing.
    pub make: super::Make,
    /// Its access mode and status.
    pub flags: OFlags,
    /// Of a new one: permissions.
    pub mode: u32,
    /// Of a new one: how much it holds, if that is said.
    pub size: Option<Size>,
    /// Of a new one: what all queues of its user may count.
    pub limit: u64,
    /// Its inode.
    pub id: InodeId,
}

/// The queues of a sandbox.
pub struct Queues<P: Platform> {
    /// What may be made.
    pub limits: Limits,
    quota: Arc<Quota>,
    names: Mutex<P, Names<P>>,
}

struct Names<P: Platform> {
    by_name: BTreeMap<Vec<u8>, Arc<Queue<P>>>,
    /// All that there are, with a name or still open without.
    all: Vec<Weak<Queue<P>>>,
}

impl<P: Platform> fmt::Debug for Queues<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

/// Whether `who` may open a queue for what `flags` say.
fn check<P: Platform>(queue: &Queue<P>, flags: OFlags, who: &Credentials) -> Result<()> {
    let shift = if who.uid == queue.owner.0 {
        6
    } else if who.gid == queue.owner.1 || who.groups.contains(&queue.owner.1) {
        3
    } else {
        0
    };
    let granted = queue.mode >> shift;
    let wants = |flag: OFlags, bit: u32| !flags.contains(flag) || granted & bit != 0;
    if who.can(Capabilities::DAC_OVERRIDE) || (wants(OFlags::READ, 4) && wants(OFlags::WRITE, 2)) {
        Ok(())
    } else {
        Err(errno!(ACCESS, "the mode does not allow it"))
    }
}

impl<P: Platform> Queues<P> {
    /// None. They will be charged to `quota`.
    #[must_use]
    pub fn new(quota: &Arc<Quota>) -> Self {
        let [messages, bytes] = [MESSAGES_USUAL, BYTES_USUAL].map(|usual| [Limit::new(usual), Limit::new(usual)]);
        Self {
            limits: Limits { queues: Limit::new(QUEUES), messages, bytes },
            quota: Arc::clone(quota),
            names: Mutex::<P, _>::new(Names { by_name: BTreeMap::new(), all: Vec::new() }),
        }
    }

    /// Opens the queue `name`, which has no slash. See `mq_open(3)`.
    ///
    /// # Errors
    /// - `NOENT`: there is none.  - `EXIST`: there is one.  - `ACCESS`.
    /// - `INVAL`: a size that is none, or more than `who` may make.
    /// - `NOSPC`: too many queues.  - `MFILE`: all of the user's count too much.  - `NOMEM`.
    pub fn open(&self, name: &[u8], opening: &Opening, who: &Credentials) -> Result<Arc<File<P>>> {
        let mut names = self.names.lock();
        let queue = match (names.by_name.get(name), opening.make) {
            (Some(_), super::Make::New) => return Err(errno!(EXIST)),
            (Some(queue), _) => {
                check(queue, opening.flags, who)?;
                Arc::clone(queue)
            }
            (None, super::Make::No) => return Err(errno!(NOENT)),
            (None, _) => {
                let queue = self.make(&mut names, opening, who)?;
                names.by_name.insert(name.to_vec(), Arc::clone(&queue));
                queue
            }
        };
        drop(names);
        Ok(crate::event::anonymous(Arc::new(OpenQueue(queue)), opening.id, "mqueue", opening.flags))
    }

    fn make(&self, names: &mut Names<P>, opening: &Opening, who: &Credentials) -> Result<Arc<Queue<P>>> {
        names.all.retain(|queue| queue.strong_count() > 0);
        if names.by_name.len() >= self.limits.queues.count() && !who.can(Capabilities::SYS_RESOURCE) {
            return Err(errno!(NOSPC, "too many queues"));
        }
        let [messages, bytes] = [&self.limits.messages, &self.limits.bytes]
            .map(|limits| limits.each_ref().map(|limit| i64::try_from(limit.get()).unwrap_or(i64::MAX)));
        let usual = |[most, usual]: [i64; 2]| usual.min(most);
        let size = opening.size.unwrap_or(Size { messages: usual(messages), bytes: usual(bytes) });
        let most = if who.can(Capabilities::SYS_RESOURCE) { (MESSAGES_MAX, BYTES_MAX) } else { (messages[0], bytes[0]) };
        if !(1..=most.0).contains(&size.messages) || !(1..=most.1).contains(&size.bytes) {
            return Err(errno!(INVAL, "no such size"));
        }
        let cost = size.cost().ok_or(errno!(INVAL, "no such size"))?;
        let of_user = |queue: &Arc<Queue<P>>| queue.owner.0 == who.uid;
        let others =
            names.all.iter().filter_map(Weak::upgrade).filter(of_user).fold(0u64, |sum, queue| sum.saturating_add(queue.cost));
        if others.saturating_add(cost) > opening.limit {
            return Err(errno!(MFILE, "the user's queues count too much"));
        }
        let charge = self.quota.charge(COST)?;
        names.all.try_reserve(1).map_err(|_| errno!(NOMEM))?;
        let queue = Arc::new(Queue {
            size,
            owner: (who.uid, who.gid),
            mode: opening.mode & 0o777,
            cost,
            quota: Arc::clone(&self.quota),
            state: Mutex::<P, _>::new(State::default()),
            changed: PollSource::default(),
            _charge: charge,
        });
        names.all.push(Arc::downgrade(&queue));
        Ok(queue)
    }

    /// Takes a name away; the queue is there until nobody has it open. See `mq_unlink(3)`.
    ///
    /// # Errors
    /// `NOENT`. `PERM`: another user's.
    pub fn unlink(&self, name: &[u8], who: &Credentials) -> Result<()> {
        let mut names = self.names.lock();
        let queue = names.by_name.get(name).ok_or(errno!(NOENT))?;
        if !who.can(Capabilities::FOWNER) && queue.owner.0 != who.uid {
            return Err(errno!(PERM, "another user's queue"));
        }
        let gone = names.by_name.remove(name);
        drop(names);
        drop(gone);
        Ok(())
    }
}
