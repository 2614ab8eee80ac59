//! System threads, all of which have ended before the driver's code goes.
//!
//! Locks: `THREADS` is a spin lock; objects are waited for and let go outside of it.

use super::object::Object;
use super::raw::{
    KeQueryActiveProcessors, ObjectAttributes, Pointer, PsCreateSystemThread, PsGetCurrentProcessId, PsGetCurrentThreadId,
    PsTerminateSystemThread,
};
use super::spin::SpinLock;
use super::{Handle, Status};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

/// `THREAD_ALL_ACCESS`.
const ALL_ACCESS: u32 = 0x1f_ffff;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that were started and not yet seen to have ended.
static THREADS: SpinLock<Vec<Object>> = SpinLock::new(Vec::new());

/// Starts a thread that runs `work`. IRQL: `PASSIVE_LEVEL`.
///
/// # Errors
/// What the kernel says; `work` was dropped then.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Status> {
    reap();
    let work: Box<Work> = Box::new(Box::new(work));
    let work = Box::into_raw(work);
    let attributes = ObjectAttributes::kernel();
    let (mut handle, null) = (core::ptr::null_mut(), core::ptr::null_mut());
    // SAFETY: `start` takes the box back, once; the rest is ours and lives through the call.
    let status =
        unsafe { PsCreateSystemThread(&raw mut handle, ALL_ACCESS, &raw const attributes, null, null, start, work.cast()) };
    if let Err(failed) = status.check() {
        // SAFETY: No thread was made, so the box is still ours.
        drop(unsafe { Box::from_raw(work) });
        return Err(failed);
    }
    // SAFETY: Just made.
    let handle = unsafe { Handle::from_raw(handle) };
    // A thread that cannot be referenced is one that unloading will not wait for; the kernel has no reason to refuse.
    let object = handle.object()?;
    THREADS.lock().push(object);
    Ok(())
}

/// # Safety
/// Called once, as a thread's start, with the box that `spawn` made.
unsafe extern "system" fn start(context: Pointer) {
    // SAFETY: Contract.
    let work = unsafe { Box::from_raw(context.cast::<Work>()) };
    work();
    PsTerminateSystemThread(Status::SUCCESS);
}

/// Lets go what is known of threads that have ended.
fn reap() {
    let all = core::mem::take(&mut *THREADS.lock());
    let (ended, mut alive): (Vec<_>, Vec<_>) = all.into_iter().partition(|thread| thread.wait(Some(Duration::ZERO)));
    THREADS.lock().append(&mut alive);
    drop(ended);
}

/// Waits until every thread has ended: for the driver's unload, when nobody starts another. IRQL: `PASSIVE_LEVEL`.
pub(crate) fn join_all() {
    loop {
        let Some(thread) = THREADS.lock().pop() else { return };
        thread.wait(None);
    }
}

/// The number of the current thread; no other has it while this one lives. IRQL: any.
pub(crate) fn current() -> usize {
    PsGetCurrentThreadId()
}

/// The number of the current process. IRQL: any.
pub(crate) fn process() -> usize {
    PsGetCurrentProcessId()
}

/// The processors of the first group that are active, one bit each. IRQL: any.
pub(crate) fn processors() -> usize {
    KeQueryActiveProcessors().max(1)
}
