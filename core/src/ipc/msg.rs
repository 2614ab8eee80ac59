//! Queues of messages with a key. See msgget(2), msgop(2), msgctl(2); Linux ipc/msg.c.
//!
//! Invariant: whoever takes a message, makes room, or removes a queue wakes all who wait at it; they look again. Locks: `table` is
//! a leaf and never held while guest memory is read or written.

use super::perm::{Key, Keyed, Make, Objects, Perm};
use crate::capabilities::Capabilities;
use crate::errno;
use crate::error::{Errno, Result};
use crate::fs::types::{Credentials, Gid, Timestamp, Uid};
use crate::limit::Limit;
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::{Mutex, WaitQueue};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// How many and how large queues may be. See `proc_sys_kernel(5)`.
#[derive(Debug)]
pub struct Limits {
    /// Queues (`msgmni`).
    pub queues: Limit,
    /// Bytes of a message (`msgmax`).
    pub message: Limit,
    /// Bytes of a queue at first, and without privilege at most (`msgmnb`).
    pub bytes: Limit,
}
/// What a queue is charged, and a message beside its bytes.
const COST: u64 = 128;

/// A message.
#[derive(Debug)]
pub struct Message {
    /// Its type, 1 or more.
    pub kind: i64,
    /// Its bytes.
    pub text: Vec<u8>,
    charge: Charge,
}

/// Which message is wanted. See msgrcv(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The first.
    Any,
    /// The first of this type.
    Kind(i64),
    /// The first of another type.
    NotKind(i64),
    /// The first of the lowest type, up to this one.
    UpTo(i64),
    /// The one at this place from 0; it stays. Linux: `MSG_COPY`.
    CopyOf(i64),
}

/// What is told of a queue. See msgctl(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who may do what.
    pub perm: Perm,
    /// When something was sent, received, changed.
    pub times: [Option<Timestamp>; 3],
    /// The last process that sent and that received.
    pub pids: [u32; 2],
    /// Bytes of all messages.
    pub bytes: u64,
    /// Messages.
    pub count: usize,
    /// How many bytes there may be.
    pub most: u64,
}

struct MessageQueue<P> {
    status: Status,
    messages: VecDeque<Message>,
    changed: Arc<WaitQueue<P>>,
    _charge: Charge,
}

impl<P> Keyed for MessageQueue<P> {
    fn perm(&self) -> &Perm {
        &self.status.perm
    }
}

fn now<P: Platform>() -> Option<Timestamp> {
    Some(P::realtime().into())
}

fn len(text: &[u8]) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

impl<P: Platform> MessageQueue<P> {
    /// The place of the message that `want` describes. Linux: `find_msg`.
    fn position(&self, want: Want) -> Option<usize> {
        let first = |is: &dyn Fn(i64) -> bool| self.messages.iter().position(|message| is(message.kind));
        match want {
            Want::Any => (!self.messages.is_empty()).then_some(0),
            Want::Kind(kind) => first(&|other| other == kind),
            Want::NotKind(kind) => first(&|other| other != kind),
            Want::UpTo(most) => {
                let kinds = self.messages.iter().map(|message| message.kind);
                kinds.filter(|kind| *kind <= most).min().and_then(|lowest| first(&|other| other == lowest))
            }
            Want::CopyOf(place) => usize::try_from(place).ok().filter(|place| *place < self.messages.len()),
        }
    }

    fn has_room(&self, text: &[u8]) -> bool {
        let count = u64::try_from(self.messages.len()).unwrap_or(u64::MAX);
        self.status.bytes.saturating_add(len(text)) <= self.status.most && count < self.status.most
    }

    fn count(&mut self) {
        self.status.count = self.messages.len();
        self.status.bytes = self.messages.iter().fold(0, |sum, message| len(&message.text).saturating_add(sum));
    }
}

/// The queues of a sandbox.
pub struct Messages<P: Platform> {
    /// What may be made.
    pub limits: Limits,
    quota: Arc<Quota>,
    table: Mutex<P, Objects<MessageQueue<P>>>,
}

impl<P: Platform> fmt::Debug for Messages<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

impl<P: Platform> Messages<P> {
    /// None. They will be charged to `quota`.
    #[must_use]
    pub fn new(quota: &Arc<Quota>) -> Self {
        let limits = Limits { queues: Limit::new(32_000), message: Limit::new(8192), bytes: Limit::new(16_384) };
        Self { limits, quota: Arc::clone(quota), table: Mutex::<P, _>::new(Objects::new()) }
    }

    /// The number of the queue with `key`, made if `make` says so. See msgget(2).
    ///
    /// # Errors
    /// `NOENT`: there is none. `EXIST`: there is one. `ACCESS`. `NOSPC`: too many. `NOMEM`.
    pub fn find(&self, key: Key, make: Make, mode: u32, who: &Credentials) -> Result<u32> {
        let mut table = self.table.lock();
        if let Some(id) = table.find(key, make, (who, mode), |_| Ok(()))? {
            return Ok(id);
        }
        table.has_room(self.limits.queues.count())?;
        let status = Status {
            perm: Perm::new(key, mode, who),
            times: [None, None, now::<P>()],
            pids: [0; 2],
            bytes: 0,
            count: 0,
            most: self.limits.bytes.get(),
        };
        let charge = self.quota.charge(COST)?;
        let changed = Arc::new(WaitQueue::new());
        Ok(table.insert(MessageQueue { status, messages: VecDeque::new(), changed, _charge: charge }))
    }

    /// Waits until `attempt` on the queue does not give `blocked`; its number is not given again, so whoever misses it then knows
    /// that it was removed.
    fn until<T>(
        &self,
        id: u32,
        waits: bool,
        blocked: Errno,
        mut attempt: impl FnMut(&mut MessageQueue<P>) -> Result<T>,
    ) -> Result<T> {
        let changed = Arc::clone(&self.table.lock().get(id)?.changed);
        let look = || {
            let mut table = self.table.lock();
            let Some(queue) = table.by_id.get_mut(&id) else { return Some(Err(errno!(IDRM))) };
            let result = attempt(queue);
            let is_blocked = result.as_ref().is_err_and(|error| error.is(blocked));
            (!is_blocked || !waits).then_some(result)
        };
        // Without a deadline there is a value.
        changed.wait_until(None, look)?.unwrap_or(Err(errno!(IDRM)))
    }

    /// Puts a message at the end of a queue, when there is room, for process `pid`. See msgsnd(2).
    ///
    /// # Errors
    /// `INVAL`: no such queue. `ACCESS`. `AGAIN`: full, and it does not wait. `IDRM`: removed meanwhile. `NOMEM`. `Interrupted`.
    pub fn send(&self, id: u32, kind: i64, text: Vec<u8>, waits: bool, (who, pid): (&Credentials, u32)) -> Result<()> {
        let charge = self.quota.charge(len(&text).saturating_add(COST))?;
        let mut message = Some(Message { kind, text, charge });
        self.until(id, waits, Errno::AGAIN, |queue| {
            queue.status.perm.check(who, 0o222)?;
            if !message.as_ref().is_some_and(|message| queue.has_room(&message.text)) {
                return Err(errno!(AGAIN, "the queue is full"));
            }
            queue.messages.try_reserve(1).map_err(|_| errno!(NOMEM))?;
            queue.messages.extend(message.take());
            queue.count();
            let [_, received, changed] = queue.status.times;
            (queue.status.times, queue.status.pids) = ([now::<P>(), received, changed], [pid, queue.status.pids[1]]);
            queue.changed.wake_all();
            Ok(())
        })
    }

    /// Takes the message that `want` describes out of a queue, for process `pid`; one of more than `max` bytes is taken if
    /// `cuts`, and it is for the caller to cut it. See msgrcv(2).
    ///
    /// # Errors
    /// - `INVAL`: no such queue.  - `ACCESS`.  - `NOMSG`: none, and it does not wait.  - `TOOBIG`: longer.
    /// - `IDRM`: removed meanwhile.  - `NOMEM`.  - `Interrupted`.
    pub fn receive(
        &self,
        id: u32,
        want: Want,
        (max, cuts): (u64, bool),
        waits: bool,
        (who, pid): (&Credentials, u32),
    ) -> Result<Message> {
        self.until(id, waits, Errno::NOMSG, |queue| {
            queue.status.perm.check(who, 0o444)?;
            let at = queue.position(want).ok_or(errno!(NOMSG))?;
            let found = queue.messages.get(at).ok_or(errno!(NOMSG))?;
            if len(&found.text) > max && !cuts {
                return Err(errno!(TOOBIG, "a longer message"));
            }
            if matches!(want, Want::CopyOf(_)) {
                let charge = self.quota.charge(found.charge.bytes())?;
                let mut text = Vec::new();
                text.try_reserve_exact(found.text.len()).map_err(|_| errno!(NOMEM))?;
                text.extend_from_slice(&found.text);
                return Ok(Message { kind: found.kind, text, charge });
            }
            let message = queue.messages.remove(at).ok_or(errno!(NOMSG))?;
            queue.count();
            let [sent, _, changed] = queue.status.times;
            (queue.status.times, queue.status.pids) = ([sent, now::<P>(), changed], [queue.status.pids[0], pid]);
            queue.changed.wake_all();
            Ok(message)
        })
    }

    /// What is to be told of a queue; `any` does not ask whether it is readable.
    ///
    /// # Errors
    /// `INVAL`: there is none. `ACCESS`.
    pub fn status(&self, id: u32, any: bool, who: &Credentials) -> Result<Status> {
        let mut table = self.table.lock();
        let queue = table.get(id)?;
        if !any {
            queue.status.perm.check(who, 0o444)?;
        }
        Ok(queue.status)
    }

    /// The first queue from number `from` on; for listing them.
    #[must_use]
    pub fn next(&self, from: u32) -> Option<(u32, Status)> {
        self.table.lock().by_id.range(from..).next().map(|(id, queue)| (*id, queue.status))
    }

    /// Gives a queue another owner, mode and room.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner, or more room than it may have.
    pub fn change(&self, id: u32, owner: (Uid, Gid), mode: u32, most: u64, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        let queue = table.get(id)?;
        queue.status.perm.owns(who)?;
        if most > self.limits.bytes.get() && !who.can(Capabilities::SYS_RESOURCE) {
            return Err(errno!(PERM, "more room than it may have"));
        }
        queue.status.perm.change(owner, mode)?;
        let [sent, received, _] = queue.status.times;
        (queue.status.most, queue.status.times) = (most, [sent, received, now::<P>()]);
        queue.changed.wake_all();
        Ok(())
    }

    /// Removes a queue with its messages; those who wait learn of it.
    ///
    /// # Errors
    /// `INVAL`: there is none. `PERM`: not the owner.
    pub fn remove(&self, id: u32, who: &Credentials) -> Result<()> {
        let mut table = self.table.lock();
        table.get(id)?.status.perm.owns(who)?;
        let queue = table.remove(id);
        drop(table);
        if let Some(queue) = queue {
            queue.changed.wake_all();
        }
        Ok(())
    }

    /// The highest number of a queue, how many there are, messages in all, and their bytes.
    #[must_use]
    pub fn totals(&self) -> (u32, usize, usize, u64) {
        let table = self.table.lock();
        let add = |(count, bytes): (usize, u64), queue: &MessageQueue<P>| {
            (count.saturating_add(queue.status.count), bytes.saturating_add(queue.status.bytes))
        };
        let (count, bytes) = table.by_id.values().fold((0, 0), add);
        (table.highest(), table.by_id.len(), count, bytes)
    }
}
