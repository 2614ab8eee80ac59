//! The end of a task, and of a process with its last.
//!
//! In two steps: a task *leaves* when it will not be in ring 3 any more, where its carrier may still touch its memory; it *exits*
//! when its carrier ends. What it does in memory goes by [`AddressSpace::poke`](litebox_core::mm::AddressSpace::poke), so that it is
//! done for a carrier that the host killed too. Source: exit(2), `set_robust_list(2)`; Linux kernel/exit.c, `do_exit`;
//! kernel/futex/core.c, `exit_robust_list`.

use super::process::{Group, Process, Role};
use super::thread::{End, Phase, Task, TaskShared};
use super::tree::News;
use crate::calls::futex;
use crate::signal::{Cpu, SigSet, Signal};
use alloc::sync::Arc;
use core::mem;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::FdTable;
use litebox_core::mm::GuestAddr;

/// Entries of a robust list that are looked at. Linux: `ROBUST_LIST_LIMIT`.
const ROBUST_MAX: usize = 2048;
/// How a task ends that the host kills.
const KILLED: End = End::Signal(Signal::KILL.number());

impl<P: Cpu> Task<P> {
    /// Gives up its memory, as it will not be in ring 3 any more; says how it ends, which its process may have decided before.
    pub(crate) fn leave(&mut self, end: End) -> End {
        if !matches!(end, End::Task(_)) {
            self.process.begin_end(end);
        }
        let end = self.verdict().filter(|verdict| !matches!(verdict, End::Task(_))).unwrap_or(end);
        self.release_futexes_at_end();
        self.note_memory();
        self.process.pass_on(SigSet::from_bits(u64::MAX), &self.shared);
        self.clear_tid();
        self.release_parent();
        self.phase = Phase::Left(end);
        end
    }

    /// Ends it: the last act of its carrier, which may sleep here, and whose page tables may be gone. `end` is what
    /// [`Resume::End`](crate::Resume::End) said, or `None` if the host killed the carrier.
    ///
    /// The platform gives up its own hold on the task's memory first: the parent learns of the end here.
    /// Returns how the sandbox ended, if this was the last task of its first process; everybody else in it is being killed then.
    pub fn exit(&mut self, end: Option<End>) -> Option<End> {
        let end = match self.phase {
            Phase::Gone => return None,
            Phase::Unborn => {
                self.undo();
                return None;
            }
            Phase::Alive => self.leave(end.unwrap_or(KILLED)),
            Phase::Left(end) => end,
        };
        self.phase = Phase::Gone;
        self.shared.leave_carrier();
        let files = FdTable::new(self.sandbox().quota());
        drop(mem::replace(&mut self.files, files));
        let process = Arc::clone(&self.process);
        let end = process.remove_task(&self.shared, end);
        if self.sandbox().task_count() == 0 {
            self.sandbox().end_sockets();
        }
        end
    }

    fn peek<const N: usize>(&self, addr: GuestAddr) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.mm.peek(addr, &mut bytes)? == N { Ok(bytes) } else { Err(errno!(FAULT)) }
    }

    /// Stores 0 where somebody waits for its end, and wakes one. See `set_tid_address(2)`.
    pub(super) fn clear_tid(&mut self) {
        let addr = mem::take(&mut self.clear_tid);
        if addr != GuestAddr::default() && self.mm.poke(addr, &[0; 4]).is_ok() {
            self.wake_one(addr);
        }
    }

    fn wake_one(&self, addr: GuestAddr) {
        if let Ok(key) = futex::key(self, addr, false) {
            // Who waits to own the word is not to be woken so.
            let _ = self.sandbox().futexes().wake(key, u32::MAX, 1);
        }
    }

    /// Releases the futexes that it holds, as it ends: with the owners' lock held from before it is known to end, so that nobody begins
    /// to wait for what it has released.
    fn release_futexes_at_end(&self) {
        let mut owners = self.sandbox().owners();
        self.shared.set_ending();
        self.release_robust();
        owners.end(self.tid());
    }

    /// Releases the futexes that it holds.
    pub(super) fn release_futexes(&self) {
        let mut owners = self.sandbox().owners();
        self.release_robust();
        owners.end(self.tid());
    }

    /// Releases the futexes that it has listed. The list is the guest's: each step may lead anywhere.
    fn release_robust(&self) {
        let head = self.shared.robust_list();
        self.shared.set_robust_list(GuestAddr::default());
        if head != GuestAddr::default() {
            // What cannot be read ends the list, as in Linux.
            let _ = self.walk_robust(head);
        }
    }

    fn walk_robust(&self, head: GuestAddr) -> Result<()> {
        let word = |at: GuestAddr| self.peek::<8>(at).map(u64::from_le_bytes);
        let (first, offset, under_way) = (word(head)?, word(head.plus(8)?)?, word(head.plus(16)?)?);
        // The lowest bit tells futexes that have an owner here.
        let place = |entry: u64| GuestAddr::new((entry & !1).wrapping_add(offset));
        let mut entry = first;
        for _ in 0..ROBUST_MAX {
            if entry & !1 == head.get() {
                break;
            }
            // Read first: whoever gets the futex may unlink the entry.
            let next = word(GuestAddr::new(entry & !1));
            if entry & !1 != under_way & !1 {
                self.release_futex(place(entry), entry & 1 != 0, false)?;
            }
            entry = next?;
        }
        if under_way & !1 != 0 {
            self.release_futex(place(under_way), under_way & 1 != 0, true)?;
        }
        Ok(())
    }

    /// Marks the futex at `addr` as left by its dead owner, if that is this task, and wakes a waiter; one that `has_owner` here goes to
    /// the next owner later.
    ///
    /// # Errors
    /// `INVAL`, `FAULT`: it cannot be had, and the list ends.
    fn release_futex(&self, addr: GuestAddr, has_owner: bool, under_way: bool) -> Result<()> {
        if addr.get() & 3 != 0 {
            return Err(errno!(INVAL, "no word begins there"));
        }
        loop {
            let found = u32::from_le_bytes(self.peek::<4>(addr)?);
            let owner = found & raw::FUTEX_TID_MASK;
            if owner != self.tid() {
                // It let go of the futex, or was woken, and did not come to wake or to tell anybody.
                if under_way && !has_owner && (owner == 0 || found & raw::FUTEX_WAITERS == 0) {
                    self.wake_one(addr);
                }
                return Ok(());
            }
            let left = (found & raw::FUTEX_WAITERS) | raw::FUTEX_OWNER_DIED;
            if self.mm.exchange(addr, found, left)? == found {
                if !has_owner && found & raw::FUTEX_WAITERS != 0 {
                    self.wake_one(addr);
                }
                return Ok(());
            }
        }
    }
}

impl<P: Cpu> Process<P> {
    /// Takes a task away that has ended, and ends with the last.
    fn remove_task(&self, task: &Arc<TaskShared<P>>, end: End) -> Option<End> {
        let is_last = {
            let mut tree = self.sandbox().tree.lock();
            tree.threads.remove(&task.tid());
            tree.tracer_ended(task.tid());
            let heir = {
                let mut tasks = self.tasks.lock();
                tasks.retain(|other| !Arc::ptr_eq(other, task));
                self.note_usage(task);
                tasks.first().map(|heir| heir.tid())
            };
            if let Some(heir) = heir {
                tree.orphan_task(self.pid(), task.tid(), heir);
            }
            if task.tid() != self.pid() {
                tree.tracee_ended(task.tid(), end);
            }
            heir.is_none()
        };
        if is_last {
            self.with(|state| state.name = task.name());
            return self.end(end);
        }
        self.has_ended().wake_all();
        self.task_left();
        None
    }

    /// Lets those look who wait for the others to end or to stop.
    pub(super) fn task_left(&self) {
        if let Some(signal) = self.settle_stop() {
            self.tell_stop(signal);
        }
        self.tasks.lock().iter().for_each(|task| task.park().wake_all());
    }

    /// Whether all of it is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.with_group(|group| group.verdict.is_some())
    }

    /// Ends it: `end` is that of its last task. Returns that if the sandbox ends with it.
    fn end(&self, end: End) -> Option<End> {
        let end = self.with_group(|group: &mut Group| *group.verdict.get_or_insert(end));
        // What it holds goes before anybody learns of its end; the lock is let go before anything is dropped.
        let files = self.files.lock().take();
        drop(files);
        self.close_completions();
        self.running().end();
        self.sandbox().shared().semaphores().end(self.pid());
        self.disassociate(true);
        let sandbox = Arc::clone(self.sandbox());
        let mut tree = sandbox.tree.lock();
        if let Some(node) = tree.nodes.get_mut(&self.pid()) {
            (node.ended, node.stopped, node.continued) = (Some(end), None, false);
        }
        tree.spent = tree.spent.plus(&self.used());
        self.has_ended().wake_all();
        let is_first = self.role() == Role::First;
        if is_first {
            tree.ended = true;
            tree.nodes.retain(|_, node| node.ended.is_none());
            tree.tracees.clear();
            tree.dismiss_init();
            tree.nodes.values().for_each(|node| node.process.kill());
        } else {
            tree.orphan_children(self.pid());
            tree.tell_orphaned_group(self.pid(), 0, true);
            let is_held = !tree.ended && tree.tracee_ended(self.pid(), end);
            if !is_held && (tree.tell_parent(self.pid(), News::Ended(end)) || tree.ended) {
                tree.remove(self.pid());
                tree.dismiss_init();
            }
        }
        is_first.then_some(end)
    }
}
