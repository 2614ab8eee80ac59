//! Clocks of processor time: a process's, and a thread's. Source: `clock_getcpuclockid(3)`; Linux kernel/time/posix-cpu-timers.c,
//! `pid_for_clock`; include/linux/posix-timers_types.h.

use crate::signal::Cpu;
use crate::task::{Process, Task, TaskShared};
use crate::usage::Usage;
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;

/// Which time of somebody's. Linux: `CPUCLOCK_PROF`, `CPUCLOCK_VIRT`, `CPUCLOCK_SCHED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// All, as known to a tick.
    Ticks,
    /// That in ring 3, as known to a tick.
    User,
    /// All.
    All,
}

impl Measure {
    pub(crate) fn of(self, usage: &Usage) -> Duration {
        match self {
            Self::Ticks | Self::All => usage.time(),
            Self::User => usage.user,
        }
    }
}

enum Whose<P: Cpu> {
    Process(Weak<Process<P>>),
    Thread(Weak<TaskShared<P>>),
}

/// Such a clock. It keeps nobody from ending.
pub(crate) struct ProcessorClock<P: Cpu> {
    whose: Whose<P>,
    measure: Measure,
}

impl<P: Cpu> fmt::Debug for ProcessorClock<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorClock").field("measure", &self.measure).finish_non_exhaustive()
    }
}

impl<P: Cpu> Clone for ProcessorClock<P> {
    fn clone(&self) -> Self {
        let whose = match &self.whose {
            Whose::Process(process) => Whose::Process(Weak::clone(process)),
            Whose::Thread(task) => Whose::Thread(Weak::clone(task)),
        };
        Self { whose, measure: self.measure }
    }
}

/// What a program wants with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// To read it: a thread's id stands for its process, too, if it is the caller's.
    Read,
    /// To set a timer by it, or to know its resolution.
    Other,
}

/// The clock's number has this bit if it is a thread's. Linux: `CPUCLOCK_PERTHREAD_MASK`.
const PER_THREAD: i32 = 4;

impl<P: Cpu> ProcessorClock<P> {
    /// The clock with a number that names one of processor time; `None` for other numbers.
    ///
    /// # Errors
    /// `INVAL`: nobody, or nothing, has it.
    pub(crate) fn named(task: &Task<P>, number: i32, to: Use) -> Option<Result<Self>> {
        let own = |whose| Some(Ok(Self { whose, measure: Measure::All }));
        match u32::try_from(number) {
            Ok(raw::CLOCK_PROCESS_CPUTIME_ID) => own(Whose::Process(Arc::downgrade(task.process()))),
            Ok(raw::CLOCK_THREAD_CPUTIME_ID) => own(Whose::Thread(Arc::downgrade(task.shared()))),
            Ok(_) => None,
            Err(_) => Some(Self::of_another(task, number, to)),
        }
    }

    fn of_another(task: &Task<P>, number: i32, to: Use) -> Result<Self> {
        let measure = match number & 3 {
            0 => Measure::Ticks,
            1 => Measure::User,
            2 => Measure::All,
            _ => return Err(errno!(INVAL, "no device has a clock")),
        };
        // The complement of the id is above the low three bits.
        let id = u32::try_from(!(number >> 3)).map_err(|_| errno!(INVAL, "no id"))?;
        let nobody = || errno!(INVAL, "nobody has this clock");
        let whose = if number & PER_THREAD != 0 {
            let thread = if id == 0 { Some(Arc::clone(task.shared())) } else { task.process().task(id) };
            Whose::Thread(Arc::downgrade(&thread.ok_or_else(nobody)?))
        } else if id == 0 || (id == task.tid() && to == Use::Read) {
            Whose::Process(Arc::downgrade(task.process()))
        } else {
            Whose::Process(Arc::downgrade(&task.sandbox().process(id).ok_or_else(nobody)?))
        };
        Ok(Self { whose, measure })
    }

    /// What it shows; nothing if whose it is has ended and was waited for.
    pub(crate) fn now(&self) -> Option<Duration> {
        let usage = match &self.whose {
            Whose::Process(process) => process.upgrade()?.used(),
            Whose::Thread(task) => task.upgrade()?.used(),
        };
        Some(self.measure.of(&usage))
    }

    /// Whether it is that of the thread `task`.
    pub(crate) fn is_of_thread(&self, task: &TaskShared<P>) -> bool {
        matches!(&self.whose, Whose::Thread(thread) if core::ptr::eq(thread.as_ptr(), task))
    }

    /// Time between two of its values that it tells apart.
    pub(crate) fn resolution(&self) -> Duration {
        match self.measure {
            Measure::Ticks | Measure::User => P::TICK,
            Measure::All => Duration::from_nanos(1),
        }
    }
}
