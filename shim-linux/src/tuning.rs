//! What a process is told about how it runs, kept and reported: priorities and the small switches of prctl(2).

/// `PR_SET_TIMERSLACK`: what it is, and what 0 makes of it, which is what its maker had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSlack {
    now: u64,
    usual: u64,
}

impl Default for TimerSlack {
    fn default() -> Self {
        Self { now: 50_000, usual: 50_000 }
    }
}

impl TimerSlack {
    /// What it is.
    pub(crate) fn get(self) -> u64 {
        self.now
    }

    /// Sets it; 0 is as usual.
    pub(crate) fn set(&mut self, nanos: u64) {
        self.now = if nanos == 0 { self.usual } else { nanos };
    }

    /// A child's.
    pub(crate) fn fork(self) -> Self {
        Self { usual: self.now, ..self }
    }
}

/// One process's settings; a child inherits them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Nice value, -20 to 19. See nice(2).
    pub nice: i8,
    /// Scheduling policy, by Linux's number.
    pub policy: u32,
    /// I/O priority, as `ioprio_set(2)` has it.
    pub io_priority: u32,
    /// `PR_SET_THP_DISABLE`.
    pub no_huge_pages: bool,
    /// Nanoseconds by which its timers may be late.
    pub timer_slack: TimerSlack,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// How it differs from a usual program. See personality(2).
    pub personality: u32,
    /// What is added to its badness when memory is short, -1000 to 1000. See `proc_pid_oom_score_adj(5)`.
    pub oom_score_adj: i16,
    /// Which areas a core file would have, as bits; `None` is as usual. See core(5). None is written.
    pub core_filter: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_usual_slack_is_its_makers() {
        let mut slack = TimerSlack::default();
        slack.set(70_000);
        let mut child = slack.fork();
        child.set(1);
        child.set(0);
        assert_eq!(child.get(), 70_000);
        slack.set(0);
        assert_eq!(slack.get(), 50_000);
    }
}
