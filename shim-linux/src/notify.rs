//! Descriptors that tell what happens to files. Source: inotify(7); Linux `fs/notify/inotify`.
//!
//! Invariants: `queue` holds at most `most[0]` events and then one that says that some were lost; a watch is in `watches` as
//! long as the file system has it. Locks: `watches` and `queue` are leaves, never held together, nor while the file system is asked.

use crate::proc::Text;
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::event::anonymous;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::{FileOps, IoCx};
use litebox_core::fs::io::IoDst;
use litebox_core::fs::notify::{Happened, Notice, Observer, Watches};
use litebox_core::fs::poll::PollSource;
use litebox_core::fs::types::{InodeId, OFlags, Ready};
use litebox_core::quota::{Charge, Quota};
use litebox_core::sync::{Mutex, WaitQueue};

/// Events that wait, at most, unless root says. Linux: `fs.inotify.max_queued_events`.
pub(crate) const QUEUE_MAX: u64 = 16_384;
/// Watches of one descriptor, at most, unless root says. Linux: `fs.inotify.max_user_watches`, of all of a user's.
pub(crate) const WATCHES_MAX: u64 = 65_536;
/// What a watch and an event are charged.
const WATCH_COST: u64 = 256;
const EVENT_COST: u64 = 384;
/// `struct inotify_event` without its name.
const HEAD: usize = 16;

/// What can happen, in Linux's bits.
const BITS: [(Happened, u32); 12] = [
    (Happened::ACCESS, raw::IN_ACCESS),
    (Happened::MODIFY, raw::IN_MODIFY),
    (Happened::ATTRIB, raw::IN_ATTRIB),
    (Happened::CLOSE_WRITE, raw::IN_CLOSE_WRITE),
    (Happened::CLOSE_NOWRITE, raw::IN_CLOSE_NOWRITE),
    (Happened::OPEN, raw::IN_OPEN),
    (Happened::MOVED_FROM, raw::IN_MOVED_FROM),
    (Happened::MOVED_TO, raw::IN_MOVED_TO),
    (Happened::CREATE, raw::IN_CREATE),
    (Happened::DELETE, raw::IN_DELETE),
    (Happened::DELETE_SELF, raw::IN_DELETE_SELF),
    (Happened::MOVE_SELF, raw::IN_MOVE_SELF),
];

/// What `bits` ask for.
pub(crate) fn asked(bits: u32) -> Happened {
    BITS.iter().filter(|(_, bit)| bits & bit != 0).fold(Happened::empty(), |events, (one, _)| events | *one)
}

fn bits(what: Happened) -> u32 {
    BITS.iter().filter(|(one, _)| what.contains(*one)).fold(0, |bits, (_, bit)| bits | bit)
}

struct Event {
    bytes: Vec<u8>,
    _charge: Option<Charge>,
}

/// One event as a program reads it; a name is padded with zeros to a multiple of the head's size.
fn encode(watch: i32, mask: u32, cookie: u32, name: &[u8]) -> Vec<u8> {
    let len = if name.is_empty() { 0 } else { name.len().saturating_add(1).next_multiple_of(HEAD) };
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&watch.to_le_bytes());
    bytes.extend_from_slice(&mask.to_le_bytes());
    bytes.extend_from_slice(&cookie.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(len).unwrap_or_default().to_le_bytes());
    bytes.extend_from_slice(name);
    bytes.resize(HEAD.saturating_add(len), 0);
    bytes
}

#[derive(Clone, Copy)]
struct Watch {
    inode: InodeId,
    events: Happened,
    /// What was asked for, in Linux's bits.
    asked: u32,
}

/// What /proc tells of a watch. Linux: `inotify_mark_user_mask`.
const SHOWN: u32 = raw::IN_ALL_EVENTS | raw::IN_ONESHOT | raw::IN_EXCL_UNLINK;

#[derive(Default)]
struct Known {
    by_number: BTreeMap<u32, (Watch, Charge)>,
    last: u32,
}

/// What such a descriptor is open on.
pub(crate) struct Inotify<P: Cpu> {
    me: Weak<Self>,
    quota: Arc<Quota>,
    all: Arc<Watches<P>>,
    watches: Mutex<P, Known>,
    queue: Mutex<P, VecDeque<Event>>,
    /// Events that wait and watches, at most.
    most: [usize; 2],
    changed: PollSource<P>,
}

impl<P: Cpu> fmt::Debug for Inotify<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inotify").finish_non_exhaustive()
    }
}

impl<P: Cpu> Drop for Inotify<P> {
    fn drop(&mut self) {
        let observer: Weak<dyn Observer> = Weak::clone(&self.me) as Weak<dyn Observer>;
        for (number, (watch, _)) in &self.watches.get_mut().by_number {
            self.all.remove(watch.inode, &observer, *number);
        }
    }
}

impl<P: Cpu> Inotify<P> {
    /// An open file that watches nothing yet, and may watch files that `all` knows of; of events and watches it has no more than
    /// root lets it now.
    pub(crate) fn open(sandbox: &Sandbox<P>, all: &Arc<Watches<P>>, id: InodeId, status: OFlags) -> Arc<File<P>> {
        let settings = sandbox.shared().settings();
        let ops = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            quota: Arc::clone(sandbox.quota()),
            all: Arc::clone(all),
            watches: Mutex::<P, _>::new(Known::default()),
            queue: Mutex::<P, _>::new(VecDeque::new()),
            most: [settings.events.count(), settings.watches.count()],
            changed: PollSource::default(),
        });
        anonymous(ops, id, "inotify", status | OFlags::READ)
    }

    /// What `file` is open on.
    ///
    /// # Errors
    /// `INVAL`: something else.
    pub(crate) fn of(file: &File<P>) -> Result<Arc<Self>> {
        let ops = Arc::clone(file.ops()).into_any().and_then(|ops| ops.downcast().ok());
        ops.ok_or(errno!(INVAL, "no descriptor of inotify"))
    }

    fn observer(&self) -> Weak<dyn Observer> {
        Weak::clone(&self.me) as Weak<dyn Observer>
    }

    /// Watches an inode, or changes what is watched of it; the watch's number. `bits` are those of `inotify_add_watch(2)`.
    ///
    /// # Errors
    /// `EXIST`: it is watched, and `bits` want a new watch. `NOSPC`: too many. `NOMEM`.
    pub(crate) fn watch(&self, inode: InodeId, bits: u32) -> Result<u32> {
        let events = asked(bits);
        let charge = self.quota.charge(WATCH_COST)?;
        let mut known = self.watches.lock();
        if let Some((number, (watch, _))) = known.by_number.iter_mut().find(|(_, (watch, _))| watch.inode == inode) {
            if bits & raw::IN_MASK_CREATE != 0 {
                return Err(errno!(EXIST, "it is watched"));
            }
            let (events, bits) = match bits & raw::IN_MASK_ADD {
                0 => (events, bits),
                _ => (events | watch.events, bits | watch.asked),
            };
            (watch.events, watch.asked) = (events, bits);
            let number = *number;
            drop(known);
            self.all.change(inode, &self.observer(), number, events);
            return Ok(number);
        }
        if known.by_number.len() >= self.most[1] || known.last >= i32::MAX.unsigned_abs() {
            return Err(errno!(NOSPC, "too many watches"));
        }
        known.last = known.last.saturating_add(1);
        let number = known.last;
        known.by_number.insert(number, (Watch { inode, events, asked: bits }, charge));
        drop(known);
        self.all.add(inode, self.observer(), number, events)?;
        Ok(number)
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// `INVAL`: there is none of that number.
    pub(crate) fn unwatch(&self, number: u32) -> Result<()> {
        let (watch, _) = self.watches.lock().by_number.remove(&number).ok_or(errno!(INVAL, "no such watch"))?;
        self.all.remove(watch.inode, &self.observer(), number);
        self.enter(number, raw::IN_IGNORED, 0, &[]);
        Ok(())
    }

    /// What /proc tells of its watches, a line for each.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn tell(&self, text: &mut Text) -> Result<()> {
        let mut next = 0;
        loop {
            let known = self.watches.lock();
            let Some((number, watch)) = known.by_number.range(next..).next().map(|(number, (watch, _))| (*number, *watch)) else {
                return Ok(());
            };
            drop(known);
            next = number.saturating_add(1);
            let (InodeId { device, number: inode }, mask) = (watch.inode, watch.asked & SHOWN);
            let device = (device.major << 20) | device.minor;
            text.put(format_args!("inotify wd:{number:x} ino:{inode:x} sdev:{device:x} mask:{mask:x} ignored_mask:0\n"))?;
        }
    }

    /// Enters an event, unless it is the same as the last one that waits.
    fn enter(&self, watch: u32, mask: u32, cookie: u32, name: &[u8]) {
        let bytes = encode(i32::try_from(watch).unwrap_or(-1), mask, cookie, name);
        {
            let mut queue = self.queue.lock();
            if queue.back().is_some_and(|last| last.bytes == bytes) {
                return;
            }
            let charge = self.quota.charge(EVENT_COST);
            if queue.len() > self.most[0] || queue.try_reserve(1).is_err() {
                return;
            }
            match charge {
                Ok(charge) if queue.len() < self.most[0] => queue.push_back(Event { bytes, _charge: Some(charge) }),
                // The last one says that others were lost.
                _ => {
                    let lost = encode(-1, raw::IN_Q_OVERFLOW, 0, &[]);
                    if queue.back().is_none_or(|last| last.bytes != lost) {
                        queue.push_back(Event { bytes: lost, _charge: None });
                    }
                }
            }
        }
        self.changed.wake(Ready::IN);
    }

    /// Takes the first event if it has at most `room` bytes; `None` if none waits.
    fn take(&self, room: usize) -> Option<Result<Event>> {
        let mut queue = self.queue.lock();
        match queue.front() {
            None => None,
            Some(event) if event.bytes.len() > room => Some(Err(errno!(INVAL, "no room for an event"))),
            Some(_) => queue.pop_front().map(Ok),
        }
    }
}

impl<P: Cpu> Observer for Inotify<P> {
    fn observe(&self, watch: u32, notice: &Notice<'_>) {
        let asked = self.watches.lock().by_number.get(&watch).map_or(0, |(watch, _)| watch.asked);
        if notice.is_gone && asked & raw::IN_EXCL_UNLINK != 0 {
            return;
        }
        // What happened to the watched directory's own name does not say that it is one. Linux: `inotify_handle_inode_event`.
        let own_name = Happened::MOVE_SELF | Happened::DELETE_SELF;
        let is_dir = if notice.is_dir && !own_name.contains(notice.what) { raw::IN_ISDIR } else { 0 };
        self.enter(watch, bits(notice.what) | is_dir, notice.cookie, notice.name.unwrap_or_default());
        if asked & raw::IN_ONESHOT != 0 {
            // Another event may have ended it already.
            let _ = self.unwatch(watch);
        }
    }

    fn lost(&self, watch: u32) {
        if self.watches.lock().by_number.remove(&watch).is_some() {
            self.enter(watch, raw::IN_IGNORED, 0, &[]);
        }
    }
}

impl<P: Cpu> FileOps<P> for Inotify<P> {
    fn read_at(&self, _offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        let (start, room) = (dst.done(), dst.remaining());
        let mut next = Some(self.changed.until(cx.blocking, None, || self.take(room))?);
        while let Some(event) = next {
            dst.put(&event.bytes);
            next = if dst.faulted() { None } else { self.take(dst.remaining()).and_then(Result::ok) };
        }
        dst.outcome(start)
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.changed.watch(watcher);
        }
        if self.queue.lock().is_empty() { Ready::empty() } else { Ready::IN }
    }

    fn readable_bytes(&self) -> Result<u64> {
        let bytes = self.queue.lock().iter().fold(0usize, |sum, event| sum.saturating_add(event.bytes.len()));
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_linux_s_layout() {
        assert_eq!(
            encode(3, raw::IN_CREATE, 0, b"a"),
            [&[3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, b'a'][..], &[0; 15]].concat()
        );
        assert_eq!(encode(1, raw::IN_OPEN, 0, &[]).len(), 16);
        assert_eq!((bits(asked(raw::IN_ALL_EVENTS)), asked(raw::IN_MASK_ADD)), (raw::IN_ALL_EVENTS, Happened::empty()));
    }
}
