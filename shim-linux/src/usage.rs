//! What tasks use of the processors: time, faults, switches.
//!
//! Invariant: what a `Meter` reads never goes back, though a host's counts may, by a little. Source: getrusage(2); Linux
//! kernel/sched/cputime.c, `cputime_adjust`.

use core::time::Duration;

/// What somebody has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time in ring 3.
    pub user: Duration,
    /// Time in the kernel on its behalf.
    pub system: Duration,
    /// Page faults that needed no device.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// How often it gave its processor up to wait.
    pub voluntary: u64,
    /// How often its processor was taken away.
    pub involuntary: u64,
}

impl Usage {
    /// All of its time.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.user.saturating_add(self.system)
    }

    fn merge(&self, other: &Self, time: fn(Duration, Duration) -> Duration, count: fn(u64, u64) -> u64) -> Self {
        Self {
            user: time(self.user, other.user),
            system: time(self.system, other.system),
            minor_faults: count(self.minor_faults, other.minor_faults),
            major_faults: count(self.major_faults, other.major_faults),
            voluntary: count(self.voluntary, other.voluntary),
            involuntary: count(self.involuntary, other.involuntary),
        }
    }

    /// This and `other` together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.merge(other, Duration::saturating_add, u64::saturating_add)
    }

    /// What was used after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.merge(earlier, Duration::saturating_sub, u64::saturating_sub)
    }
}

/// What one task has used, on all carriers that it has had: each carries others before and after, so differences count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    /// On the carriers before.
    spent: Usage,
    /// What its carrier had used when it took the task up; none while it carries another task, or there is none.
    from: Option<Usage>,
    /// What was read last.
    read: Usage,
}

impl Meter {
    /// A carrier that has used `now` takes the task up.
    pub(crate) fn start(&mut self, now: &Usage) {
        self.from = Some(*now);
    }

    /// The carrier, which has used `now`, lets go of the task.
    pub(crate) fn stop(&mut self, now: &Usage) {
        if let Some(from) = self.from.take() {
            self.spent = self.spent.plus(&now.since(&from));
        }
    }

    /// What the task has used; `now` is what its carrier has, if it has one.
    pub(crate) fn read(&mut self, now: Option<Usage>) -> Usage {
        let since = now.zip(self.from).map(|(now, from)| now.since(&from)).unwrap_or_default();
        let used = self.spent.plus(&since);
        // The whole counts; its two parts share it so that neither goes back.
        let time = used.time().max(self.read.time());
        let system = used.system.max(self.read.system).min(time.saturating_sub(self.read.user));
        self.read = Usage { user: time.saturating_sub(system), system, ..used };
        self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(user: u64, system: u64) -> Usage {
        Usage { user: Duration::from_millis(user), system: Duration::from_millis(system), ..Usage::default() }
    }

    #[test]
    fn a_meter_counts_what_its_task_was_carried_for() {
        let mut meter = Meter::default();
        assert_eq!(meter.read(None), usage(0, 0));
        meter.start(&usage(100, 50));
        assert_eq!(meter.read(Some(usage(103, 51))), usage(3, 1));
        meter.stop(&usage(110, 55));
        assert_eq!(meter.read(Some(usage(500, 500))), usage(10, 5), "another task's");
        meter.stop(&usage(900, 900));
        meter.start(&usage(1, 1));
        assert_eq!(meter.read(Some(usage(2, 3))), usage(11, 7));
    }

    #[test]
    fn nothing_goes_back() {
        let mut meter = Meter::default();
        meter.start(&usage(0, 0));
        assert_eq!(meter.read(Some(usage(10, 0))), usage(10, 0));
        assert_eq!(meter.read(Some(usage(4, 5))), usage(10, 0), "less in all");
        assert_eq!(meter.read(Some(usage(8, 6))), usage(10, 4), "the host thinks otherwise of a part");
        assert_eq!(meter.read(Some(usage(20, 2))), usage(18, 4));
    }
}
