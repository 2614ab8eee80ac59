// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Who is told when a file of the host becomes ready.
//!
//! The host's files wake entries on their wait queues; each watcher of the library OS gets entries of its own on all queues of the
//! file. Invariants: an entry is on a queue from `on_queue` until it is dropped, or until the queue says that it goes away
//! (POLLFREE); a queue lives at least as long as its file otherwise. The callback runs in any context, under the queue's lock, so
//! it does nothing but queue a work: a watcher's locks sleep. What a wake reaches never owns a file of the host, so no work waits
//! for itself. Locks: `entries` is a leaf above the host's own. Source: Linux fs/eventpoll.c.

use super::LinuxKernel;
use super::file::Open;
use crate::sys;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::sync::rcu;
use litebox_core::fs::types::Ready;
use litebox_core::sync::{Mutex, WaitQueue};

/// The host's event bits (include/uapi/linux/eventpoll.h, include/uapi/asm-generic/poll.h).
const EVENTS: [(u32, Ready); 8] = [
    (0x001, Ready::IN),
    (0x040, Ready::IN),
    (0x002, Ready::PRI),
    (0x004, Ready::OUT),
    (0x100, Ready::OUT),
    (0x008, Ready::ERR),
    (0x010, Ready::HUP),
    (0x2000, Ready::RDHUP),
];
/// The queue goes away.
const POLLFREE: usize = 0x4000;

/// What a file is ready for; `table` is null, or collects its queues.
fn ask(file: &Open, table: *mut sys::poll_table_struct) -> Ready {
    // SAFETY: A live file, whose operations are constant.
    let Some(poll) = (unsafe { (*(*file.as_ptr()).f_op).poll }) else {
        return Ready::IN | Ready::OUT;
    };
    // SAFETY: As vfs_poll calls it; the table is null or outlives the call.
    let events = unsafe { poll(file.as_ptr(), table) };
    EVENTS.into_iter().filter(|(bit, _)| events & bit != 0).fold(Ready::empty(), |all, (_, ready)| all | ready)
}

/// What a file is ready for now.
pub(super) fn ready(file: &Open) -> Ready {
    ask(file, ptr::null_mut())
}

/// One place on one queue.
#[repr(C)]
struct Entry {
    wait: UnsafeCell<sys::wait_queue_entry>,
    /// The queue, or null once it has gone.
    head: AtomicPtr<sys::wait_queue_head_t>,
    work: UnsafeCell<sys::work_struct>,
    watcher: Weak<WaitQueue<LinuxKernel>>,
}

// SAFETY: `wait` is changed under the queue's lock only, and `work` by the kernel's own functions; the rest is Sync.
unsafe impl Send for Entry {}
// SAFETY: As above.
unsafe impl Sync for Entry {}

impl Drop for Entry {
    fn drop(&mut self) {
        let queues_live = rcu::read_lock();
        let head = self.head.load(Ordering::Acquire);
        if !head.is_null() {
            // SAFETY: The queue lives as long as its file, or for a grace period of RCU after POLLFREE. Taking off an entry that
            // POLLFREE took off changes nothing, as it points to itself. No callback runs after this.
            unsafe { sys::remove_wait_queue(head, self.wait.get()) };
        }
        drop(queues_live);
        // SAFETY: Initialised in `on_queue`. Nobody queues it any more; it may sleep until a running one has ended.
        unsafe { sys::cancel_work_sync(self.work.get()) };
    }
}

/// Collects a file's queues.
#[repr(C)]
struct Table<'a> {
    table: sys::poll_table_struct,
    watcher: &'a Arc<WaitQueue<LinuxKernel>>,
    entries: &'a mut Vec<Arc<Entry>>,
}

/// The file names one of its queues.
///
/// # Safety
/// Called by a file's poll with the table of [`Watches::add`].
unsafe extern "C" fn on_queue(_file: *mut sys::file, head: *mut sys::wait_queue_head_t, table: *mut sys::poll_table_struct) {
    // SAFETY: Contract: the table is the first field.
    let table = unsafe { &mut *table.cast::<Table<'_>>() };
    if head.is_null() || table.entries.try_reserve(1).is_err() {
        return;
    }
    let wait = sys::wait_queue_entry { flags: 0, private: ptr::null_mut(), func: Some(on_wake), entry: pin_init::zeroed() };
    let entry = Arc::new(Entry {
        wait: UnsafeCell::new(wait),
        head: AtomicPtr::new(head),
        work: UnsafeCell::new(pin_init::zeroed()),
        watcher: Arc::downgrade(table.watcher),
    });
    let key = kernel::static_lock_class!().as_ptr();
    // SAFETY: Our own work, which stays where it is; name and class are static.
    unsafe { sys::init_work_with_key(entry.work.get(), Some(on_work), false, c"litebox_watch".as_ptr().cast(), key) };
    // SAFETY: A live queue; the entry stays where it is until it has been taken off.
    unsafe { sys::add_wait_queue(head, entry.wait.get()) };
    table.entries.push(entry);
}

/// The queue wakes an entry.
///
/// # Safety
/// Called by the kernel under the queue's lock, with the first field of an [`Entry`].
unsafe extern "C" fn on_wake(wait: *mut sys::wait_queue_entry, _mode: u32, _flags: i32, key: *mut c_void) -> i32 {
    // SAFETY: Contract: an entry on a queue is alive, and only its cells change.
    let entry = unsafe { &*wait.cast::<Entry>() };
    // Any processor.
    let cpu = sys::wq_misc_consts_WORK_CPU_UNBOUND as i32;
    // SAFETY: The kernel's queue for works that may sleep, and an initialised work, which the entry's drop waits for. A work that
    // is queued already stays so, and looks later than this.
    unsafe { sys::queue_work_on(cpu, sys::system_dfl_wq, entry.work.get()) };
    if key.addr() & POLLFREE != 0 {
        // SAFETY: Under the queue's lock, as list_del_init: the neighbours are alive, and the entry then points to itself.
        unsafe {
            let link = &raw mut (*wait).entry;
            (*(*link).next).prev = (*link).prev;
            (*(*link).prev).next = (*link).next;
            (*link).next = link;
            (*link).prev = link;
        }
        entry.head.store(ptr::null_mut(), Ordering::Release);
    }
    0
}

/// The work of an entry: tells its watcher.
///
/// # Safety
/// Called by the kernel with the work of an [`Entry`].
unsafe extern "C" fn on_work(work: *mut sys::work_struct) {
    let entry = work.wrapping_byte_sub(offset_of!(Entry, work)).cast::<Entry>();
    // SAFETY: Contract; the entry's drop waits for this to end.
    if let Some(watcher) = unsafe { &(*entry).watcher }.upgrade() {
        watcher.wake_all();
    }
}

/// The watchers of one file.
pub(super) struct Watches {
    entries: Mutex<LinuxKernel, Vec<Arc<Entry>>>,
}

impl Default for Watches {
    fn default() -> Self {
        Self { entries: Mutex::<LinuxKernel, _>::new(Vec::new()) }
    }
}

impl core::fmt::Debug for Watches {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Watches")
    }
}

impl Watches {
    /// Has `watcher` woken at each change of `file`, until its last strong handle is gone.
    pub(super) fn add(&self, file: &Open, watcher: &Arc<WaitQueue<LinuxKernel>>) {
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.watcher.strong_count() > 0);
        if entries.iter().any(|entry| ptr::eq(entry.watcher.as_ptr(), Arc::as_ptr(watcher))) {
            return;
        }
        // _key: all events.
        let table = sys::poll_table_struct { _qproc: Some(on_queue), _key: !0 };
        let mut table = Table { table, watcher, entries: &mut entries };
        ask(file, (&raw mut table).cast());
    }
}
