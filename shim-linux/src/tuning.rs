//! What a process is told about how it runs, kept and reported: priorities and the small switches of prctl(2).

/// One process's settings; a child inherits them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Nice value, -20 to 19. See nice(2).
    pub nice: i8,
    /// Scheduling policy, by Linux's number.
    pub policy: u32,
    /// I/O priority, as `ioprio_set(2)` has it.
    pub io_priority: u32,
    /// `PR_SET_KEEPCAPS`.
    pub keep_capabilities: bool,
    /// `PR_SET_THP_DISABLE`.
    pub no_huge_pages: bool,
    /// `PR_SET_TIMERSLACK`, in nanoseconds; `None` is as usual.
    pub timer_slack: Option<u64>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// How it differs from a usual program. See personality(2).
    pub personality: u32,
    /// What is added to its badness when memory is short, -1000 to 1000. See `proc_pid_oom_score_adj(5)`.
    pub oom_score_adj: i16,
    /// Which areas a core file would have, as bits; `None` is as usual. See core(5). None is written.
    pub core_filter: Option<u32>,
}
