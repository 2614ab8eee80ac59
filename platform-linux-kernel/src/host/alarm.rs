// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Calls at a time: a high-resolution timer, whose callback must not sleep, and a work behind it, which may.
//!
//! Owns: one timer for each sandbox's [`Timers`], made when it is first needed, and the module's work queue. Invariants: a [`Shot`] holds
//! its `Timers` weakly, so a timer that is far away keeps no sandbox; a work that is queued holds its shot, and the queue is emptied
//! before the module's text goes. Locks: `Alarm` is a leaf under the queue of `Timers`; the callback takes none.
//! Sources: Linux kernel/time/hrtimer.c, kernel/workqueue.c.

use super::LinuxKernel;
use crate::sys;
use alloc::sync::{Arc as Shared, Weak};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::time::Duration;
use kernel::impl_has_hr_timer;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::time::hrtimer::{
    AbsoluteMode, ArcHrTimerHandle, HrTimer, HrTimerCallback, HrTimerCallbackContext, HrTimerPointer, HrTimerRestart,
};
use kernel::time::{Delta, Instant, Monotonic};
use kernel::workqueue::{Queue, Work, WorkItem, impl_has_work, new_work};
use litebox_core::platform::Clock;
use litebox_core::sync::Mutex;
use litebox_core::time::Timers;

/// The work queue while the module is loaded.
static QUEUE: AtomicPtr<sys::workqueue_struct> = AtomicPtr::new(core::ptr::null_mut());

/// The work queue's owner.
pub(crate) struct Caller(NonNull<sys::workqueue_struct>);

// SAFETY: A work queue may be used from any thread.
unsafe impl Send for Caller {}
// SAFETY: As above.
unsafe impl Sync for Caller {}

impl Caller {
    /// Makes the queue.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: A format without arguments; no limit on what runs at a time but the kernel's own.
        let queue = unsafe { sys::alloc_workqueue_noprof(c"litebox".as_ptr().cast(), sys::wq_flags_WQ_UNBOUND, 0) };
        let queue = NonNull::new(queue).ok_or(ENOMEM)?;
        QUEUE.store(queue.as_ptr(), Ordering::Release);
        Ok(Self(queue))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        QUEUE.store(core::ptr::null_mut(), Ordering::Release);
        // SAFETY: Ours; no sandbox is left that could queue more. Waits for what is queued.
        unsafe { sys::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// One timer and its work.
#[pin_data]
struct Shot {
    #[pin]
    timer: HrTimer<Self>,
    #[pin]
    work: Work<Self>,
    timers: Weak<Timers<LinuxKernel>>,
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Shot {
        mode: AbsoluteMode<Monotonic>, field: self.timer
    }
}

impl_has_work! {
    impl HasWork<Self> for Shot { self.work }
}

impl HrTimerCallback for Shot {
    type Pointer<'a> = Arc<Self>;

    fn run(this: ArcBorrow<'_, Self>, _context: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        let queue = QUEUE.load(Ordering::Acquire);
        if !queue.is_null() {
            // SAFETY: The queue lives while there are sandboxes, and so timers.
            // A work that is queued already will look at the clock when it runs.
            let _ = unsafe { Queue::from_raw(queue) }.enqueue(Arc::from(this));
        }
        HrTimerRestart::NoRestart
    }
}

impl WorkItem for Shot {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        if let Some(timers) = this.timers.upgrade() {
            timers.run();
        }
    }
}

/// The timer of one [`Timers`].
pub(crate) struct Alarm(Mutex<LinuxKernel, Armed>);

#[derive(Default)]
struct Armed {
    shot: Option<Arc<Shot>>,
    /// Dropped, it stops the timer.
    handle: Option<ArcHrTimerHandle<Shot>>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self(Mutex::<LinuxKernel, _>::new(Armed::default()))
    }
}

impl Alarm {
    /// Has `timers`, whose alarm this is, run at `at` and not at the time before.
    pub(super) fn set(&self, at: Duration, timers: &Shared<Timers<LinuxKernel>>) {
        let mut armed = self.0.lock();
        armed.handle = None;
        if armed.shot.is_none() {
            let timers = Shared::downgrade(timers);
            let shot = pin_init!(Shot { timer <- HrTimer::new(), work <- new_work!("litebox_timers"), timers });
            armed.shot = Arc::pin_init(shot, GFP_KERNEL_ACCOUNT).ok();
        }
        let Some(shot) = armed.shot.clone() else {
            kernel::pr_warn_once!("no memory for a timer: those of a sandbox run when it looks\n");
            return;
        };
        // A time far ahead is for ever. Half the kernel's range is left for the present, for the kernel crate's addition panics past it.
        let left = at.saturating_sub(LinuxKernel::monotonic());
        let left = i64::try_from(left.as_nanos()).unwrap_or(i64::MAX).min(i64::MAX / 2);
        armed.handle = Some(shot.start(Instant::now() + Delta::from_nanos(left)));
    }
}
