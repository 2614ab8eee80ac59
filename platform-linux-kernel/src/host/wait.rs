//! Sleeping on a word, over the kernel's hashed "variable" wait queues.
//!
//! The kernel keeps a table of wait queues by address (kernel/sched/wait_bit.c), made for exactly this: no queue of our own, so a
//! word may move while nobody waits. A signal that is pending for the carrier (SIGKILL, stop) interrupts; so does a kick.

use super::LinuxKernel;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering, fence};
use core::time::Duration;
use kernel::bindings;
use litebox_core::platform::{Wait, WaitMode, Wakeup};
use litebox_locks::{Futex, RawMutex, RawRwLock};

/// How late a timed wait may end, in nanoseconds: the kernel's default timer slack.
const TIMER_SLACK_NS: u64 = 50_000;

impl Futex for LinuxKernel {
    fn wait(word: &AtomicU32, expected: u32) {
        let _: Wakeup = <Self as Wait>::wait(word, expected, WaitMode::Uninterruptible, None);
    }

    fn wake(word: &AtomicU32) {
        <Self as Wait>::wake(word);
    }
}

impl Wait for LinuxKernel {
    type RawMutex = RawMutex<Self>;
    type RawRwLock = RawRwLock<Self>;

    fn wait(word: &AtomicU32, expected: u32, mode: WaitMode, deadline: Option<Duration>) -> Wakeup {
        let state = match mode {
            WaitMode::Uninterruptible => bindings::TASK_UNINTERRUPTIBLE,
            WaitMode::Interruptible => bindings::TASK_INTERRUPTIBLE,
            // TASK_KILLABLE of linux/sched.h.
            WaitMode::Killable => bindings::TASK_WAKEKILL | bindings::TASK_UNINTERRUPTIBLE,
        };
        wait_in(state, word, expected, deadline)
    }

    fn wake(word: &AtomicU32) {
        // The waker's change of the word comes before its look at the queue; pairs with the barrier of set_current_state in
        // prepare_to_wait_event (include/linux/wait_bit.h, wake_up_var).
        fence(Ordering::SeqCst);
        // SAFETY: the address serves as a key and is not dereferenced.
        unsafe { bindings::wake_up_var(ptr::from_ref(word).cast_mut().cast()) };
    }
}

/// Sleeps while `word` is 0, as long as it takes; a kill ends it, too. The host may freeze such a task, and does not count it as busy.
pub(crate) fn rest_on(word: &AtomicU32) {
    let state = bindings::TASK_WAKEKILL | bindings::TASK_UNINTERRUPTIBLE | bindings::TASK_NOLOAD | bindings::TASK_FREEZABLE;
    let _: Wakeup = wait_in(state, word, 0, None);
}

/// Sleeps in the task state `state`; see [`Wait::wait`].
fn wait_in(state: u32, word: &AtomicU32, expected: u32, deadline: Option<Duration>) -> Wakeup {
    let var = ptr::from_ref(word).cast_mut().cast();
    let mut entry = MaybeUninit::<bindings::wait_bit_queue_entry>::uninit();
    // SAFETY: writes every field of `entry`, which is ours; `var` serves as a key and is not dereferenced.
    unsafe { bindings::init_wait_var_entry(entry.as_mut_ptr(), var, 0) };
    // SAFETY: any address has a queue; the table is static, so the queue outlives this function.
    let queue = unsafe { bindings::__var_waitqueue(var) };
    // SAFETY: `entry` was initialised above; projecting to its field stays inside it.
    let link = unsafe { &raw mut (*entry.as_mut_ptr()).wq_entry };
    // SAFETY: `queue` and `link` are initialised, `link` is on no queue, and `finish_wait` below takes it off again before
    // this frame ends.
    let interrupted = unsafe { bindings::prepare_to_wait_event(queue, link, state as i32) } != 0;
    let wakeup = if word.load(Ordering::SeqCst) != expected {
        Wakeup::Woken
    } else if interrupted {
        Wakeup::Interrupted
    } else {
        sleep(deadline)
    };
    // SAFETY: the pair that was given to `prepare_to_wait_event`.
    unsafe { bindings::finish_wait(queue, link) };
    wakeup
}

/// Gives up the processor in the task state that is set, until a wake or `deadline`.
fn sleep(deadline: Option<Duration>) -> Wakeup {
    let Some(deadline) = deadline else {
        // SAFETY: task context; the caller has set the state and is on its queue.
        unsafe { bindings::schedule() };
        return Wakeup::Woken;
    };
    // A deadline past the range of ktime_t is for ever.
    let mut expires: bindings::ktime_t = i64::try_from(deadline.as_nanos()).unwrap_or(i64::MAX);
    // SAFETY: `expires` outlives the call; task context as above.
    let left =
        unsafe { bindings::schedule_hrtimeout_range(&raw mut expires, TIMER_SLACK_NS, bindings::hrtimer_mode_HRTIMER_MODE_ABS) };
    if left == 0 { Wakeup::TimedOut } else { Wakeup::Woken }
}
