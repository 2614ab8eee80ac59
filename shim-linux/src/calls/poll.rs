//! poll(2), select(2).
//!
//! A wait first asks every file, then registers one queue with all and asks again after each wake. The files are held, so a
//! descriptor that is closed meanwhile stays what it was, as in Linux.

use super::files::number;
use super::sigwait::{wait_until, with_mask};
use super::{put, take, time};
use crate::args::{Count, Int, Len, Ptr};
use crate::signal::{Cpu, SigSet};
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::fs::file::File;
use litebox_core::fs::types::{OFlags, Ready};
use litebox_core::mm::{GuestAddr, UserIn, user};
use litebox_core::quota::Charge;
use litebox_core::sync::WaitQueue;

/// What is always reported.
const ALWAYS: Ready = Ready::ERR.union(Ready::HUP);

/// The bits of poll(2) and epoll(7) that stand for one thing each.
const BITS: [(Ready, u32); 6] = [
    (Ready::IN, raw::POLLIN | raw::POLLRDNORM),
    (Ready::PRI, raw::POLLPRI),
    (Ready::OUT, raw::POLLOUT | raw::POLLWRNORM | raw::POLLWRBAND),
    (Ready::ERR, raw::POLLERR),
    (Ready::HUP, raw::POLLHUP),
    (Ready::RDHUP, raw::POLLRDHUP),
];

/// What `bits` ask for.
pub(super) fn wanted(bits: u32) -> Ready {
    BITS.iter().filter(|(_, bit)| bits & bit != 0).fold(ALWAYS, |ready, (one, _)| ready | *one)
}

/// What there is of `ready`, in the bits that were asked for.
pub(super) fn bits(ready: Ready, asked: u32) -> u32 {
    let all = BITS.iter().filter(|(one, _)| ready.contains(*one)).fold(0, |bits, (_, bit)| bits | bit);
    all & (asked | raw::POLLERR | raw::POLLHUP)
}

/// One file to wait for.
struct Entry<P: Cpu> {
    /// `None`: the descriptor is not open, which is reported at once.
    file: Option<Arc<File<P>>>,
    /// What was asked for, in poll's bits; 0 for an entry that is to be ignored.
    events: u32,
    /// What is so far.
    found: u32,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// Until then, of the monotonic clock.
    Until(Duration),
    /// For ever.
    Endless,
}

impl Patience {
    pub(super) fn of<P: Cpu>(time: Option<Duration>) -> Self {
        match time {
            None => Self::Endless,
            Some(time) if time.is_zero() => Self::None,
            Some(time) => Self::Until(P::monotonic().saturating_add(time)),
        }
    }

    /// A number of milliseconds; a negative one is for ever.
    pub(super) fn millis<P: Cpu>(timeout: Int) -> Self {
        Self::of::<P>(u64::try_from(timeout.0).ok().map(Duration::from_millis))
    }

    pub(super) fn deadline(self) -> Option<Duration> {
        if let Self::Until(until) = self { Some(until) } else { None }
    }

    /// What is left of it.
    fn left<P: Cpu>(self) -> Duration {
        self.deadline().map_or(Duration::ZERO, |until| until.saturating_sub(P::monotonic()))
    }
}

/// Asks every file; returns how many entries found something.
fn scan<P: Cpu>(entries: &mut [Entry<P>], watcher: Option<&Arc<WaitQueue<P>>>) -> usize {
    let mut count = 0usize;
    for entry in entries {
        entry.found = match &entry.file {
            Some(file) => bits(file.poll(watcher) & wanted(entry.events), entry.events),
            None if entry.events == 0 => 0,
            None => raw::POLLNVAL,
        };
        count = count.saturating_add(usize::from(entry.found != 0));
    }
    count
}

/// Waits until an entry finds something; returns how many did, 0 if time is up.
fn wait<P: Cpu>(task: &Task<P>, entries: &mut [Entry<P>], patience: Patience) -> Result<usize> {
    let count = scan(entries, None);
    if count > 0 {
        return Ok(count);
    }
    if task.is_wanted() {
        return Err(Error::Interrupted);
    }
    if patience == Patience::None {
        return Ok(0);
    }
    let queue = Arc::new(WaitQueue::new());
    scan(entries, Some(&queue));
    let found = wait_until(task, patience.deadline(), |until| {
        queue.wait_until(until, || {
            let count = scan(entries, None);
            (count > 0).then_some(count)
        })
    })?;
    Ok(found.unwrap_or(0))
}

/// The file behind a descriptor to wait for.
fn file<P: Cpu>(task: &Task<P>, fd: i32) -> Option<Arc<File<P>>> {
    task.files().get(number(fd)).ok().filter(|file| !file.flags().contains(OFlags::PATH))
}

/// Room for `count` entries, charged.
fn room<P: Cpu>(task: &Task<P>, count: usize) -> Result<(Vec<Entry<P>>, Charge)> {
    let bytes = count.saturating_mul(size_of::<Entry<P>>());
    let charge = task.sandbox().quota().charge(u64::try_from(bytes).unwrap_or(u64::MAX))?;
    let mut entries = Vec::new();
    entries.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    Ok((entries, charge))
}

/// Bytes of `struct pollfd`, and where its result is.
const POLLFD: usize = size_of::<raw::pollfd>();
const REVENTS: u64 = 6;
const _: () = assert!(POLLFD == 8);

fn poll_for<P: Cpu>(task: &Task<P>, fds: Ptr, nfds: Count, patience: Patience) -> Result<usize> {
    if nfds.0 > super::files::limit(task) {
        return Err(errno!(INVAL, "more entries than descriptors"));
    }
    let count = usize::try_from(nfds.0).map_err(|_| errno!(INVAL))?;
    let (mut entries, _charge) = room(task, count)?;
    let mut from = UserIn::new(fds.0, count.saturating_mul(POLLFD)).reader::<P>();
    for _ in 0..count {
        let mut bytes = [0; POLLFD];
        if from.read(&mut bytes)? < POLLFD {
            return Err(errno!(FAULT, "entries that are not there"));
        }
        let [a, b, c, d, e, f, _, _] = bytes;
        let fd = i32::from_le_bytes([a, b, c, d]);
        let events = u32::from(u16::from_le_bytes([e, f]));
        let ignored = fd < 0;
        let file = if ignored { None } else { file(task, fd) };
        // An error is always asked for; it also tells an entry from an ignored one.
        let events = if ignored { 0 } else { events | raw::POLLERR };
        entries.push(Entry { file, events, found: 0 });
    }
    let found = wait(task, &mut entries, patience)?;
    let mut at = fds.0;
    for entry in &entries {
        let [low, high, ..] = entry.found.to_le_bytes();
        user::write_all::<P>(at.plus(REVENTS)?, &[low, high])?;
        at = at.plus(8)?;
    }
    Ok(found)
}

pub(crate) fn poll<P: Cpu>(task: &mut Task<P>, fds: Ptr, nfds: Count, timeout: Int) -> Result<usize> {
    // Made again after an interruption without a handler: the first time's end holds.
    let again = task.resume_deadline.take().map(Patience::Until);
    let patience = again.unwrap_or_else(|| Patience::millis::<P>(timeout));
    let found = poll_for(task, fds, nfds, patience);
    if matches!(found, Err(Error::Interrupted)) {
        task.resume_deadline = patience.deadline();
    }
    found
}

/// A time that may be left out.
pub(super) fn timeout<P: Cpu>(at: GuestAddr) -> Result<Patience> {
    let time = if at == GuestAddr::default() { None } else { Some(time::read::<P>(at)?) };
    Ok(Patience::of::<P>(time))
}

/// Whether the program is told what is left of a wait. Linux: `STICKY_TIMEOUTS` of `linux/personality.h`.
fn is_told<P: Cpu>(task: &Task<P>) -> bool {
    task.process().with(|state| state.tuning.personality) & 0x0400_0000 == 0
}

/// Tells what is left of a wait; that it cannot be told changes nothing.
fn tell_left<P: Cpu>(task: &Task<P>, at: GuestAddr, patience: Patience) {
    if at != GuestAddr::default() && is_told(task) {
        let _ = time::write::<P>(at, patience.left::<P>());
    }
}

/// The mask at `mask` of `size` bytes, for the time of a wait.
pub(super) fn mask<P: Cpu>(mask: GuestAddr, size: u64) -> Result<Option<SigSet>> {
    if mask == GuestAddr::default() {
        return Ok(None);
    }
    if size != 8 {
        return Err(errno!(INVAL, "a set of another size"));
    }
    take::<P, u64, 8>(mask).map(|bits| Some(SigSet::from_bits(bits)))
}

pub(crate) fn ppoll<P: Cpu>(task: &mut Task<P>, fds: Ptr, nfds: Count, at: Ptr, set: Ptr, size: Len) -> Result<usize> {
    let patience = timeout::<P>(at.0)?;
    let mask = mask::<P>(set.0, size.0)?;
    let found = with_mask(task, mask, |task| poll_for(task, fds, nfds, patience));
    tell_left(task, at.0, patience);
    found
}

/// Descriptors of one set are looked at in words.
const WORD: usize = 64;

/// What the three sets of select(2) stand for.
const SETS: [u32; 3] = [
    raw::POLLIN | raw::POLLRDNORM | raw::POLLRDBAND | raw::POLLHUP | raw::POLLERR,
    raw::POLLOUT | raw::POLLWRNORM | raw::POLLWRBAND | raw::POLLERR,
    raw::POLLPRI,
];

/// The words of a set; none for a null pointer.
fn read_set<P: Cpu>(set: Ptr, words: usize) -> Result<Vec<u64>> {
    let mut list = Vec::new();
    if set.0 == GuestAddr::default() {
        return Ok(list);
    }
    list.try_reserve_exact(words).map_err(|_| errno!(NOMEM))?;
    let mut at = set.0;
    for _ in 0..words {
        list.push(take::<P, u64, 8>(at)?);
        at = at.plus(8)?;
    }
    Ok(list)
}

/// Whether `fd` is in a set.
fn has(set: &[u64], fd: usize) -> bool {
    set.get(fd / WORD).is_some_and(|word| word & (1 << (fd % WORD)) != 0)
}

fn select_for<P: Cpu>(task: &Task<P>, nfds: Int, sets: [Ptr; 3], patience: Patience) -> Result<usize> {
    let count = usize::try_from(nfds.0).map_err(|_| errno!(INVAL, "a negative count"))?;
    let count = count.min(usize::try_from(super::files::limit(task)).unwrap_or(usize::MAX));
    let words = count.div_ceil(WORD);
    let [r, w, e] = sets;
    let asked = [read_set::<P>(r, words)?, read_set::<P>(w, words)?, read_set::<P>(e, words)?];
    let (mut entries, mut numbers) = (Vec::new(), Vec::new());
    let mut charge = Vec::new();
    for fd in 0..count {
        let wants = asked.iter().zip(SETS).filter(|(set, _)| has(set, fd)).fold(0, |bits, (_, one)| bits | one);
        if wants == 0 {
            continue;
        }
        let file = i32::try_from(fd).ok().and_then(|fd| file(task, fd)).ok_or(errno!(BADF))?;
        if entries.len() == entries.capacity() {
            let more = u64::try_from(WORD.saturating_mul(size_of::<Entry<P>>())).unwrap_or(u64::MAX);
            charge.push(task.sandbox().quota().charge(more)?);
            entries.try_reserve(WORD).map_err(|_| errno!(NOMEM))?;
            numbers.try_reserve(WORD).map_err(|_| errno!(NOMEM))?;
        }
        entries.push(Entry { file: Some(file), events: wants, found: 0 });
        numbers.push(fd);
    }
    wait(task, &mut entries, patience)?;
    let mut found = 0usize;
    for ((set, to), meaning) in asked.iter().zip(sets).zip(SETS) {
        let mut at = to.0;
        // Both ascend.
        let mut next = entries.iter().zip(&numbers).peekable();
        for (word, bits) in set.iter().enumerate() {
            let mut result = 0u64;
            while let Some((entry, fd)) = next.next_if(|(_, fd)| **fd / WORD == word) {
                let bit = bits & (1 << (fd % WORD));
                if bit != 0 && entry.found & meaning != 0 {
                    result |= bit;
                    found = found.saturating_add(1);
                }
            }
            put::<P, 8>(at, &result)?;
            at = at.plus(8)?;
        }
    }
    Ok(found)
}

pub(crate) fn select<P: Cpu>(task: &mut Task<P>, nfds: Int, r: Ptr, w: Ptr, e: Ptr, at: Ptr) -> Result<usize> {
    let time = if at.0 == GuestAddr::default() { None } else { Some(take::<P, [i64; 2], 16>(at.0)?) };
    let time = match time {
        None => None,
        Some([seconds, micros]) => match (u64::try_from(seconds), u64::try_from(micros)) {
            (Ok(seconds), Ok(micros)) => Some(Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros))),
            _ => return Err(errno!(INVAL, "no time")),
        },
    };
    let patience = Patience::of::<P>(time);
    let found = select_for(task, nfds, [r, w, e], patience);
    if time.is_some() && is_told(task) {
        let left = patience.left::<P>();
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        // That it cannot be told changes nothing.
        let _ = put::<P, 16>(at.0, &[seconds, i64::from(left.subsec_micros())]);
    }
    found
}

pub(crate) fn pselect6<P: Cpu>(task: &mut Task<P>, nfds: Int, r: Ptr, w: Ptr, e: Ptr, at: Ptr, set: Ptr) -> Result<usize> {
    let [set, size] = if set.0 == GuestAddr::default() { [0; 2] } else { take::<P, [u64; 2], 16>(set.0)? };
    let patience = timeout::<P>(at.0)?;
    let mask = mask::<P>(GuestAddr::new(set), size)?;
    let found = with_mask(task, mask, |task| select_for(task, nfds, [r, w, e], patience));
    tell_left(task, at.0, patience);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_reported_and_errors_always() {
        let everything = Ready::all();
        assert_eq!(bits(everything, raw::POLLIN), raw::POLLIN | raw::POLLERR | raw::POLLHUP);
        assert_eq!(bits(Ready::OUT, raw::POLLWRNORM), raw::POLLWRNORM);
        assert_eq!(wanted(0), ALWAYS);
        assert!(wanted(raw::POLLRDNORM).contains(Ready::IN) && !wanted(raw::POLLOUT).contains(Ready::IN));
    }
}
