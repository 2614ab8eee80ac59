//! Filters of calls: a task's mode, its filters, and what they say of a call. See seccomp(2).
//!
//! Invariants: filters are only ever added; a task has at least those of its maker. Whoever looks at a mode or changes it has the
//! task's `seccomp` lock, a leaf. Source: Linux kernel/seccomp.c.

mod program;

pub(crate) use program::{Data, Instruction, MOST, Program};

use alloc::sync::Arc;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::quota::Charge;

/// Instructions of all filters of a task, as Linux counts them, and what each filter counts beside. Linux: `MAX_INSNS_PER_PATH`.
const PATH_MOST: usize = (1 << 18) / 8;
const FILTER_COST: usize = 4;

/// Actions, from the strongest. See seccomp(2).
pub(crate) mod action {
    pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
    pub(crate) const KILL_THREAD: u32 = 0;
    pub(crate) const TRAP: u32 = 0x0003_0000;
    pub(crate) const ERRNO: u32 = 0x0005_0000;
    pub(crate) const TRACE: u32 = 0x7ff0_0000;
    pub(crate) const LOG: u32 = 0x7ffc_0000;
    pub(crate) const ALLOW: u32 = 0x7fff_0000;
    /// The action, without its word.
    pub(crate) const MASK: u32 = 0xffff_0000;
    pub(crate) const WORD: u32 = 0xffff;
    /// Those that there are.
    pub(crate) const ALL: [u32; 7] = [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOG, ALLOW];
}

/// A filter, on top of those from before.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Program,
    previous: Option<Arc<Filter>>,
    /// How many there are, with this.
    count: u32,
    /// What all count.
    cost: usize,
    _charge: Charge,
}

impl Drop for Filter {
    /// One after another: there may be thousands.
    fn drop(&mut self) {
        let mut next = self.previous.take();
        while let Some(mut filter) = next.and_then(Arc::into_inner) {
            next = filter.previous.take();
        }
    }
}

impl Filter {
    /// `program` on top of `previous`.
    ///
    /// # Errors
    /// `NOMEM`: too many instructions in all.
    pub(crate) fn new(program: Program, previous: Option<Arc<Self>>, charge: Charge) -> Result<Arc<Self>> {
        let before = previous.as_ref().map_or(0, |previous| previous.cost.saturating_add(FILTER_COST));
        let cost = before.saturating_add(program.cost());
        if cost > PATH_MOST {
            return Err(errno!(NOMEM, "too many filters"));
        }
        let count = previous.as_ref().map_or(0, |previous| previous.count).saturating_add(1);
        Ok(Arc::new(Self { program, previous, count, cost, _charge: charge }))
    }

    /// The strongest of what all say.
    fn run(&self, data: &Data) -> u32 {
        // The action is a signed number: what kills the process is the least.
        let strength = |answer: u32| i32::from_le_bytes((answer & action::MASK).to_le_bytes());
        let mut answer = action::ALLOW;
        let mut next = Some(self);
        while let Some(filter) = next {
            let given = filter.program.run(data);
            if strength(given) < strength(answer) {
                answer = given;
            }
            next = filter.previous.as_deref();
        }
        answer
    }

    /// Whether it is `other`, or was before it.
    fn is_below(&self, other: &Self) -> bool {
        let mut next = Some(other);
        while let Some(filter) = next {
            if core::ptr::eq(self, filter) {
                return true;
            }
            next = filter.previous.as_deref();
        }
        false
    }
}

/// What filters a task's calls.
#[derive(Clone, Debug, Default)]
pub(crate) enum Mode {
    /// Nothing.
    #[default]
    Off,
    /// Only read(2), write(2), exit(2) and `rt_sigreturn(2)` are allowed.
    Strict,
    /// Filters.
    Filters(Arc<Filter>),
}

impl Mode {
    /// Its number, as prctl(2) gives it.
    pub(crate) const fn number(&self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Strict => 1,
            Self::Filters(_) => 2,
        }
    }

    /// How many filters there are.
    pub(crate) fn count(&self) -> u32 {
        self.filter().map_or(0, |filter| filter.count)
    }

    pub(crate) fn filter(&self) -> Option<&Arc<Filter>> {
        match self {
            Self::Filters(filter) => Some(filter),
            Self::Off | Self::Strict => None,
        }
    }

    /// What the filters say of a call.
    pub(crate) fn ask(&self, data: &Data) -> u32 {
        self.filter().map_or(action::ALLOW, |filter| filter.run(data))
    }

    /// Whether a task in this mode may get those of `other`: it has none, or only some that they are built on.
    pub(crate) fn may_become(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Off, _) => true,
            (Self::Filters(own), Self::Filters(new)) => own.is_below(new),
            (Self::Strict | Self::Filters(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use litebox_core::quota::Quota;

    fn says(answer: u32, previous: Option<Arc<Filter>>) -> Result<Arc<Filter>> {
        let program = Program::new(vec![Instruction { code: 6, k: answer, ..Instruction::default() }]).unwrap();
        Filter::new(program, previous, Quota::new(1 << 20).charge(1).unwrap())
    }

    #[test]
    fn the_strongest_answer_counts_and_of_equals_the_newest() {
        let data = Data::new(0, 0, 0, [0; 6]);
        let ask = |answers: &[u32]| {
            let mut last = None;
            for answer in answers {
                last = Some(says(*answer, last.take()).unwrap());
            }
            last.unwrap().run(&data)
        };
        assert_eq!(ask(&[action::ALLOW, action::ERRNO | 5]), action::ERRNO | 5);
        assert_eq!(ask(&[action::ERRNO | 5, action::ERRNO | 6]), action::ERRNO | 6);
        assert_eq!(ask(&[action::KILL_PROCESS, action::KILL_THREAD, action::TRAP]), action::KILL_PROCESS);
        assert_eq!(ask(&[action::KILL_THREAD, action::LOG]), action::KILL_THREAD);
    }

    #[test]
    fn thousands_of_filters_end_at_the_limit_and_are_dropped() {
        let mut last = None;
        let mut count = 0u32;
        while let Ok(filter) = says(action::ALLOW, last.clone()) {
            count += 1;
            last = Some(filter);
        }
        assert_eq!((count, last.as_ref().unwrap().count), (3641, 3641));
        drop(last);
    }

    #[test]
    fn a_thread_may_follow_only_from_below() {
        let first = says(action::ALLOW, None).unwrap();
        let second = Mode::Filters(says(action::ALLOW, Some(Arc::clone(&first))).unwrap());
        let other = Mode::Filters(says(action::ALLOW, None).unwrap());
        assert!(Mode::Off.may_become(&second) && Mode::Filters(first).may_become(&second) && second.may_become(&second));
        assert!(!other.may_become(&second) && !Mode::Strict.may_become(&second));
    }
}
