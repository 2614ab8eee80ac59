//! A set of files that is waited for as one. Source: epoll(7); Linux `fs/eventpoll.c`.
//!
//! Each member registers a queue of its own with its file, so that a wake says which one it was: it then goes to the list `ready`,
//! and only that list is asked at a wait. Invariants: a member is in `ready` at most once, namely while its `listed` is set; one
//! that is level-triggered and was found ready stays listed. Files are held weakly: a member goes when its file is closed.
//! Sets may contain sets, but no set contains itself, `DEPTH_MAX` deep: whoever adds one holds the sandbox's lock for that.
//! Locks: `members` (rank "descriptor table": files are asked under it), then the leaves `ready` and a member's `asked`.

use super::anonymous;
use crate::fs::file::File;
use crate::fs::inode::FileOps;
use crate::fs::poll::PollSource;
use crate::fs::types::{InodeId, OFlags, Ready};
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::{Mutex, MutexGuard, WaitQueue, Woken};
use crate::{errno, error::Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

/// A chain of sets within sets, at most. Linux: `EP_MAX_NESTS`, and the set itself.
const DEPTH_MAX: u32 = 5;
/// Sets that are looked at before one is added to another; more than that, as a loop, is refused.
const LOOK_MAX: u32 = 64;
/// What a member is charged.
const MEMBER_COST: u64 = 512;
/// Members that may have lost their file before somebody looks.
const PRUNE_AT: usize = 32;

/// How often an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// As long as it lasts.
    Level,
    /// When it comes (`EPOLLET`).
    Edge,
    /// Once, until the member is asked for again (`EPOLLONESHOT`).
    Once,
}

/// What is asked of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// For what; `ERR` and `HUP` are always told.
    pub events: Ready,
    /// The same in the ABI's bits, handed back with an event.
    pub bits: u32,
    /// How often.
    pub trigger: Trigger,
    /// Of several sets with the file one where somebody waits is told (`EPOLLEXCLUSIVE`). Not with [`Epoll::modify`].
    pub is_exclusive: bool,
    /// Handed back with an event.
    pub data: u64,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the file is ready for.
    pub ready: Ready,
    /// [`Asked::bits`].
    pub bits: u32,
    /// [`Asked::data`].
    pub data: u64,
}

/// A descriptor, and the address of the file that it had.
type Key = (u32, usize);

struct Member<P: Platform> {
    set: Weak<Epoll<P>>,
    me: Weak<Self>,
    file: Weak<File<P>>,
    /// What its file wakes.
    queue: Arc<WaitQueue<P>>,
    /// `None` when it was told once, or removed.
    asked: Mutex<P, Option<Asked>>,
    listed: AtomicBool,
    _charge: Charge,
}

impl<P: Platform> Member<P> {
    /// Puts it into the set's list, unless it is there.
    fn list(&self, set: &Epoll<P>) {
        if let Some(me) = self.me.upgrade() {
            if !self.listed.swap(true, Ordering::AcqRel) {
                set.ready.lock().push_back(me);
            }
        }
    }

    /// What there is to tell now.
    fn event(&self) -> Option<Event> {
        let asked = (*self.asked.lock())?;
        let file = self.file.upgrade()?;
        let ready = file.poll(None) & asked.events;
        (!ready.is_empty()).then_some(Event { ready, bits: asked.bits, data: asked.data })
    }
}

impl<P: Platform> Woken for Member<P> {
    /// Source: Linux `ep_poll_callback`.
    fn woken(&self, what: Ready) -> bool {
        let is_asked = self.asked.lock().is_some_and(|asked| asked.events.intersects(what));
        let Some(set) = self.set.upgrade().filter(|_| is_asked) else { return false };
        let waits = set.waiting.load(Ordering::Acquire) > 0;
        self.list(&set);
        set.source.wake(Ready::IN);
        waits
    }
}

/// The set.
pub struct Epoll<P: Platform> {
    me: Weak<Self>,
    quota: Arc<Quota>,
    members: Mutex<P, BTreeMap<Key, Arc<Member<P>>>>,
    ready: Mutex<P, VecDeque<Arc<Member<P>>>>,
    /// The sets that it is a member of.
    holders: Mutex<P, Vec<Weak<Self>>>,
    source: PollSource<P>,
    /// How many sleep in [`Epoll::wait`].
    waiting: AtomicU32,
}

impl<P: Platform> fmt::Debug for Epoll<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll").finish_non_exhaustive()
    }
}

impl<P: Platform> Epoll<P> {
    /// An open, empty set. Members are charged to `quota`.
    #[must_use]
    pub fn open(quota: &Arc<Quota>, id: InodeId, status: OFlags) -> Arc<File<P>> {
        let ops = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            quota: Arc::clone(quota),
            members: Mutex::<P, _>::new(BTreeMap::new()),
            ready: Mutex::<P, _>::new(VecDeque::new()),
            holders: Mutex::<P, _>::new(Vec::new()),
            source: PollSource::default(),
            waiting: AtomicU32::new(0),
        });
        anonymous(ops, id, "eventpoll", status | OFlags::READ | OFlags::WRITE)
    }

    /// The set that `file` is.
    #[must_use]
    pub fn of(file: &File<P>) -> Option<Arc<Self>> {
        Arc::clone(file.ops()).into_any().and_then(|ops| ops.downcast().ok())
    }

    /// Adds `file` under the descriptor `fd`. `nesting` is the sandbox's lock for sets within sets.
    ///
    /// # Errors
    /// - `EXIST`: it is a member.  - `PERM`: it cannot be waited for.  - `NOMEM`.
    /// - `LOOP`: it is a set that contains this one, or too deep.  - `INVAL`: it is this set, or an exclusive set.
    pub fn add(&self, fd: u32, file: &Arc<File<P>>, asked: Asked, nesting: &Mutex<P, ()>) -> Result<()> {
        if !file.ops().pollable() {
            return Err(errno!(PERM, "cannot be waited for"));
        }
        let inner = Self::of(file);
        // Held until the member is in, so that no other set closes a circle meanwhile.
        let _nesting: Option<MutexGuard<'_, P, ()>> = inner.is_some().then(|| nesting.lock());
        if let Some(inner) = &inner {
            if core::ptr::eq(Arc::as_ptr(inner), self) || asked.is_exclusive {
                return Err(errno!(INVAL, "a set cannot be its own member, nor an exclusive one"));
            }
            let mut looks = LOOK_MAX;
            let below = inner.height(self, DEPTH_MAX, &mut looks)?;
            let above = self.depth(DEPTH_MAX, &mut looks)?;
            if above.saturating_add(below) > DEPTH_MAX {
                return Err(errno!(LOOP, "sets within sets are too deep"));
            }
            let mut holders = inner.holders.lock();
            holders.retain(|holder| holder.strong_count() > 0);
            holders.try_reserve(1).map_err(|_| errno!(NOMEM))?;
            holders.push(Weak::clone(&self.me));
        }
        let key = (fd, Arc::as_ptr(file).addr());
        let charge = self.quota.charge(MEMBER_COST)?;
        let member = Arc::new_cyclic(|me: &Weak<Member<P>>| {
            let also: Weak<dyn Woken> = Weak::clone(me) as Weak<dyn Woken>;
            Member {
                set: Weak::clone(&self.me),
                me: Weak::clone(me),
                file: Arc::downgrade(file),
                queue: Arc::new(if asked.is_exclusive { WaitQueue::telling(also).in_turn() } else { WaitQueue::telling(also) }),
                asked: Mutex::<P, _>::new(Some(asked)),
                listed: AtomicBool::new(false),
                _charge: charge,
            }
        });
        {
            let mut members = self.members.lock();
            if members.len() >= PRUNE_AT && members.len().is_power_of_two() {
                members.retain(|_, member| member.file.strong_count() > 0);
            }
            if members.get(&key).is_some_and(|known| known.file.strong_count() > 0) {
                return Err(errno!(EXIST));
            }
            members.insert(key, Arc::clone(&member));
        }
        self.look(&member, file);
        Ok(())
    }

    /// Registers with the file, and lists the member if there is something to tell already.
    fn look(&self, member: &Arc<Member<P>>, file: &File<P>) {
        file.poll(Some(&member.queue));
        if member.event().is_some() {
            member.list(self);
            self.source.wake(Ready::IN);
        }
    }

    /// How many sets the longest chain from this one down has, itself included.
    ///
    /// # Errors
    /// `LOOP`: `avoid` is among them, the chain is longer than `depth`, or `looks` are used up.
    fn height(&self, avoid: &Self, depth: u32, looks: &mut u32) -> Result<u32> {
        let (depth, left) = (depth.checked_sub(1), looks.checked_sub(1));
        let (Some(depth), Some(left)) = (depth, left) else { return Err(errno!(LOOP, "sets within sets are too deep")) };
        *looks = left;
        let inner: Vec<Arc<Self>> = {
            let members = self.members.lock();
            members.values().filter_map(|member| member.file.upgrade()).filter_map(|file| Self::of(&file)).collect()
        };
        let mut below = 0;
        for inner in inner {
            if core::ptr::eq(Arc::as_ptr(&inner), avoid) {
                return Err(errno!(LOOP, "the set contains this one"));
            }
            below = below.max(inner.height(avoid, depth, looks)?);
        }
        Ok(below.saturating_add(1))
    }

    /// How many sets the longest chain from this one up has, itself included. Errors as [`Self::height`].
    fn depth(&self, depth: u32, looks: &mut u32) -> Result<u32> {
        let (depth, left) = (depth.checked_sub(1), looks.checked_sub(1));
        let (Some(depth), Some(left)) = (depth, left) else { return Err(errno!(LOOP, "sets within sets are too deep")) };
        *looks = left;
        let holders: Vec<Arc<Self>> = self.holders.lock().iter().filter_map(Weak::upgrade).collect();
        let mut above = 0;
        for holder in holders {
            above = above.max(holder.depth(depth, looks)?);
        }
        Ok(above.saturating_add(1))
    }

    fn member(&self, fd: u32, file: &Arc<File<P>>) -> Result<Arc<Member<P>>> {
        let key = (fd, Arc::as_ptr(file).addr());
        self.members.lock().get(&key).map(Arc::clone).ok_or(errno!(NOENT, "not a member"))
    }

    /// Asks something else of a member.
    ///
    /// # Errors
    /// `NOENT`: no member. `INVAL`: an exclusive one.
    pub fn modify(&self, fd: u32, file: &Arc<File<P>>, asked: Asked) -> Result<()> {
        let member = self.member(fd, file)?;
        {
            let mut present = member.asked.lock();
            if present.is_some_and(|asked| asked.is_exclusive) {
                return Err(errno!(INVAL, "an exclusive member"));
            }
            *present = Some(asked);
        }
        self.look(&member, file);
        Ok(())
    }

    /// Takes a member out.
    ///
    /// # Errors
    /// `NOENT`: no member.
    pub fn remove(&self, fd: u32, file: &Arc<File<P>>) -> Result<()> {
        let key = (fd, Arc::as_ptr(file).addr());
        let member = self.members.lock().remove(&key).ok_or(errno!(NOENT, "not a member"))?;
        *member.asked.lock() = None;
        if let Some(inner) = Self::of(file) {
            let mut holders = inner.holders.lock();
            if let Some(at) = holders.iter().position(|holder| Weak::ptr_eq(holder, &self.me)) {
                holders.swap_remove(at);
            }
        }
        Ok(())
    }

    /// Gives events to `sink` as long as it takes them, without waiting; whether there was one.
    fn collect(&self, most: usize, sink: &mut dyn FnMut(Event)) -> bool {
        let (mut told, mut again) = (0usize, VecDeque::new());
        // Who is listed meanwhile is for the next time.
        let mut turns = self.ready.lock().len();
        while told < most && turns > 0 {
            turns = turns.saturating_sub(1);
            let Some(member) = self.ready.lock().pop_front() else { break };
            member.listed.store(false, Ordering::Release);
            let Some(event) = member.event() else { continue };
            let trigger = {
                let mut asked = member.asked.lock();
                let trigger = asked.map(|asked| asked.trigger);
                if trigger == Some(Trigger::Once) {
                    // Listed no more until it is asked for again.
                    *asked = None;
                }
                trigger
            };
            sink(event);
            told = told.saturating_add(1);
            if trigger == Some(Trigger::Level) && !member.listed.swap(true, Ordering::AcqRel) {
                again.push_back(member);
            }
        }
        if !again.is_empty() {
            // Behind the others, so that each has its turn.
            self.ready.lock().append(&mut again);
        }
        told > 0
    }

    /// Gives at least one and at most `most` events to `sink`; waits for one until `deadline`, for ever if that is `None`. `None` if
    /// there was none by then.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted): before there was one.
    pub fn wait(&self, most: usize, deadline: Option<Duration>, sink: &mut dyn FnMut(Event)) -> Result<Option<()>> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let found = self.source.queue.wait_until(deadline, || self.collect(most, sink).then_some(()));
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        found
    }

    /// The same without waiting; whether there was an event.
    pub fn try_wait(&self, most: usize, sink: &mut dyn FnMut(Event)) -> bool {
        self.collect(most, sink)
    }
}

impl<P: Platform> FileOps<P> for Epoll<P> {
    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.source.watch(watcher);
        }
        // Members that have nothing to tell any more leave the list.
        let turns = self.ready.lock().len();
        for _ in 0..turns {
            let Some(member) = self.ready.lock().pop_front() else { break };
            member.listed.store(false, Ordering::Release);
            if member.event().is_some() {
                member.list(self);
                return Ready::IN;
            }
        }
        Ready::empty()
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}
