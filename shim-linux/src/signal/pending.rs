//! Signals that wait to be delivered. Source: signal(7); Linux `kernel/signal.c` `__send_signal_locked`, `dequeue_signal`.

use super::{Info, Origin, SigSet, Signal};
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;

/// The signals that wait for a task, or for a process.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    queue: Vec<Info>,
}

impl Pending {
    /// Which wait.
    #[must_use]
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Adds `info`. A standard signal that waits already is dropped; `limit` bounds how many infos are kept.
    ///
    /// # Errors
    /// `AGAIN`: a real-time signal of `sigqueue` past the limit. Others then lose their info, not themselves.
    pub fn push(&mut self, info: Info, limit: usize) -> Result<()> {
        if !info.signal.is_realtime() && self.set.contains(info.signal) {
            return Ok(());
        }
        let is_full = self.queue.len() >= limit && !SigSet::SYNCHRONOUS.contains(info.signal);
        if is_full || self.queue.try_reserve(1).is_err() {
            if info.signal.is_realtime() && info.code != Info::SI_USER {
                return Err(errno!(AGAIN, "too many signals wait"));
            }
        } else {
            self.queue.push(info);
        }
        self.set = self.set.with(info.signal);
        Ok(())
    }

    /// Takes the first that `mask` does not block.
    pub fn pop(&mut self, mask: SigSet) -> Option<Info> {
        let signal = self.set.difference(mask).first()?;
        Some(self.take(signal))
    }

    fn take(&mut self, signal: Signal) -> Info {
        let at = self.queue.iter().position(|info| info.signal == signal);
        let info = match at {
            Some(at) => self.queue.remove(at),
            // Its info found no room.
            None => Info::new(signal, Info::SI_USER, Origin::Process { pid: 0, uid: 0, value: 0 }),
        };
        if !self.queue.iter().any(|info| info.signal == signal) {
            self.set = self.set.without(signal);
        }
        info
    }

    /// Forgets every signal of `which`: they came to be ignored, or are undone by another.
    pub fn discard(&mut self, which: SigSet) {
        self.set = self.set.difference(which);
        self.queue.retain(|info| !which.contains(info.signal));
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
        let mut pending = Pending::default();
        for (number, value) in [(40, 1), (40, 2), (34, 3), (10, 4), (10, 5)] {
            pending.push(sent(number, value), 16).unwrap();
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
        let mut pending = Pending::default();
        pending.push(sent(40, 1), 1).unwrap();
        assert!(pending.push(sent(41, 1), 1).unwrap_err().is(Errno::AGAIN));
        pending.push(sent(10, 1), 1).unwrap();
        pending.push(sent(11, 1), 1).unwrap();
        assert_eq!(pending.pop(SigSet::EMPTY).unwrap(), sent(11, 1), "a fault keeps its info");
        assert_eq!(pending.pop(SigSet::EMPTY).unwrap().code, Info::SI_USER);
    }

    #[test]
    fn blocked_signals_wait_and_discarded_ones_are_gone() {
        let mut pending = Pending::default();
        pending.push(sent(10, 1), 8).unwrap();
        assert_eq!(pending.pop(SigSet::EMPTY.with(Signal::USR1)), None);
        pending.discard(SigSet::EMPTY.with(Signal::USR1));
        assert_eq!(pending.pop(SigSet::EMPTY), None);
    }
}
