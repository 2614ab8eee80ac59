//! Signals that wait to be delivered. Source: signal(7); Linux `kernel/signal.c` `__send_signal_locked`, `dequeue_signal`.

use super::{Info, Origin, SigSet, Signal};
use alloc::sync::Arc;
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::quota::{Charge, Quota};

/// What a waiting signal is charged: its place in the queue.
const INFO_BYTES: u64 = 192;
/// Room that an empty queue may keep.
const ROOM_KEPT: usize = 16;

const _: () = assert!(size_of::<(Info, Option<Charge>)>() as u64 <= INFO_BYTES);

/// The signals that wait for a task, or for a process.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    queue: Vec<(Info, Option<Charge>)>,
}

impl Pending {
    /// Which wait.
    #[must_use]
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Adds `info`, charged to `quota`. A standard signal that waits already is dropped; `limit` bounds how many infos are kept.
    ///
    /// # Errors
    /// `AGAIN`: a real-time signal of `sigqueue` past the limit or the quota. Others then lose their info, not themselves.
    pub fn push(&mut self, info: Info, limit: usize, quota: &Arc<Quota>) -> Result<()> {
        if !info.signal.is_realtime() && self.set.contains(info.signal) {
            return Ok(());
        }
        // Of the synchronous ones each is there once: their infos are not missed for want of room.
        let is_urgent = SigSet::SYNCHRONOUS.contains(info.signal);
        let charge = quota.charge(INFO_BYTES).ok();
        let has_room = is_urgent || (charge.is_some() && self.queue.len() < limit);
        if !has_room || self.queue.try_reserve(1).is_err() {
            if info.signal.is_realtime() && info.code != Info::SI_USER {
                return Err(errno!(AGAIN, "too many signals wait"));
            }
        } else {
            self.queue.push((info, charge));
        }
        self.set = self.set.with(info.signal);
        Ok(())
    }

    /// The one with this number, in the order in which they came; of those that have infos.
    #[must_use]
    pub fn nth(&self, index: u64) -> Option<Info> {
        usize::try_from(index).ok().and_then(|index| self.queue.get(index)).map(|(info, _)| *info)
    }

    /// Takes the first that `mask` does not block.
    pub fn pop(&mut self, mask: SigSet) -> Option<Info> {
        let signal = self.set.difference(mask).first()?;
        Some(self.take(signal))
    }

    fn take(&mut self, signal: Signal) -> Info {
        let at = self.queue.iter().position(|(info, _)| info.signal == signal);
        let info = match at {
            Some(at) => self.queue.remove(at).0,
            // Its info found no room.
            None => Info::new(signal, Info::SI_USER, Origin::Process { pid: 0, uid: 0, value: 0 }),
        };
        if !self.queue.iter().any(|(info, _)| info.signal == signal) {
            self.set = self.set.without(signal);
        }
        if self.queue.is_empty() {
            self.queue.shrink_to(ROOM_KEPT);
        }
        info
    }

    /// Forgets every signal of `which`: they came to be ignored, or are undone by another.
    pub fn discard(&mut self, which: SigSet) {
        self.set = self.set.difference(which);
        self.queue.retain(|(info, _)| !which.contains(info.signal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    fn sent(number: u64, value: u64) -> Info {
        Info::new(Signal::new(number).unwrap(), -1, Origin::Process { pid: 1, uid: 0, value })
    }

    #[test]
    fn standard_signals_merge_and_realtime_ones_queue_in_order() {
        let (mut pending, quota) = (Pending::default(), Quota::new(1 << 20));
        for (number, value) in [(40, 1), (40, 2), (34, 3), (10, 4), (10, 5)] {
            pending.push(sent(number, value), 16, &quota).unwrap();
        }
        let mut order = Vec::new();
        while let Some(info) = pending.pop(SigSet::EMPTY) {
            let Origin::Process { value, .. } = info.origin else { panic!("changed: {info:?}") };
            order.push(value);
        }
        assert_eq!(order, [4, 3, 1, 2]);
        assert!(pending.set().is_empty());
    }

    #[test]
    fn a_full_queue_refuses_realtime_signals_only() {
        let (mut pending, quota) = (Pending::default(), Quota::new(1 << 20));
        pending.push(sent(40, 1), 1, &quota).unwrap();
        assert!(pending.push(sent(41, 1), 1, &quota).unwrap_err().is(Errno::AGAIN));
        pending.push(sent(10, 1), 1, &quota).unwrap();
        pending.push(sent(11, 1), 1, &quota).unwrap();
        assert_eq!(pending.pop(SigSet::EMPTY).unwrap(), sent(11, 1), "a fault keeps its info");
        assert_eq!(pending.pop(SigSet::EMPTY).unwrap().code, Info::SI_USER);
    }

    #[test]
    fn blocked_signals_wait_and_discarded_ones_are_gone() {
        let (mut pending, quota) = (Pending::default(), Quota::new(1 << 20));
        pending.push(sent(10, 1), 8, &quota).unwrap();
        assert_eq!(pending.pop(SigSet::EMPTY.with(Signal::USR1)), None);
        pending.discard(SigSet::EMPTY.with(Signal::USR1));
        assert_eq!(pending.pop(SigSet::EMPTY), None);
    }

    #[test]
    fn what_waits_is_charged_and_a_used_up_quota_costs_infos_only() {
        let (mut pending, quota) = (Pending::default(), Quota::new(INFO_BYTES));
        pending.push(sent(10, 7), 8, &quota).unwrap();
        assert_eq!(quota.used(), INFO_BYTES);
        pending.push(sent(12, 7), 8, &quota).unwrap();
        assert!(pending.push(sent(40, 7), 8, &quota).unwrap_err().is(Errno::AGAIN));
        assert_eq!(pending.pop(SigSet::EMPTY).unwrap(), sent(10, 7));
        assert_eq!((pending.pop(SigSet::EMPTY).unwrap().code, quota.used()), (Info::SI_USER, 0));
    }
}
