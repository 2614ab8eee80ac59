//! Words in memory that have an owner: the priority-inheriting operations of futex(2).
//!
//! Such a word is 0, or holds its owner's id and whether others wait to own it; programs take and release one that nobody waits for by
//! themselves. Here is the rest: who owns a word for which somebody waits, whom it goes to, and what becomes of it at its owner's
//! end. The host schedules, so nobody's priority changes: owners follow each other in the order in which they came.
//!
//! Invariants: [`Owners`] has an entry for each word that somebody waits to own, or is about to own after its owner's end. Whoever
//! waits leaves with the lock held, so a word goes to nobody who has left. Locks: `Owners` is the outermost of all, and
//! held while guest memory is changed. Hostile input: what is in the words. Sources: futex(2); Linux kernel/futex/pi.c, requeue.c.

use super::sandbox::Sandbox;
use super::thread::Task;
use crate::signal::Cpu;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::mm::{AddressSpace, GuestAddr};
use litebox_core::sync::{FutexKey, Futexes, Mutex, MutexGuard, Purpose, Waiting};

/// Owners that may wait for each other in a row. Linux: `max_lock_depth`.
const CHAIN_MAX: usize = 1024;

/// A word, in the memory of whoever asks.
pub(crate) struct Word<'a, P: Cpu> {
    mm: &'a AddressSpace<P>,
    addr: GuestAddr,
    /// Who it is for everybody who shares it.
    pub(crate) key: FutexKey,
}

impl<P: Cpu> fmt::Debug for Word<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Word").field("addr", &self.addr).field("key", &self.key).finish_non_exhaustive()
    }
}

impl<'a, P: Cpu> Word<'a, P> {
    /// The word at `addr`.
    pub(crate) fn new(mm: &'a AddressSpace<P>, addr: GuestAddr, key: FutexKey) -> Self {
        Self { mm, addr, key }
    }

    /// What is in it, which must be writable.
    fn read(&self) -> Result<u32> {
        self.mm.exchange(self.addr, 0, 0)
    }

    /// Replaces what is in it; false if that is not `old` any more.
    fn replace(&self, old: u32, new: u32) -> Result<bool> {
        Ok(self.mm.exchange(self.addr, old, new)? == old)
    }
}

/// Who owns a word for which somebody waits.
struct Owner {
    key: FutexKey,
    /// `None` once it has ended, until the next one says that it is the owner.
    task: Option<u32>,
}

/// The owners of a sandbox's words for which somebody waits.
pub(crate) struct Owners<P: Cpu> {
    all: Mutex<P, Vec<Owner>>,
}

/// What [`Owners::lock`] gives.
pub(crate) struct Held<'a, P: Cpu> {
    all: MutexGuard<'a, P, Vec<Owner>>,
    sandbox: &'a Sandbox<P>,
}

impl<P: Cpu> Owners<P> {
    /// There are none.
    pub(super) fn new() -> Self {
        Self { all: Mutex::<P, _>::new(Vec::new()) }
    }

    /// Locks them; `sandbox` is theirs.
    pub(super) fn lock<'a>(&'a self, sandbox: &'a Sandbox<P>) -> Held<'a, P> {
        Held { all: self.all.lock(), sandbox }
    }
}

impl<P: Cpu> Held<'_, P> {
    fn futexes(&self) -> &Futexes<P> {
        self.sandbox.futexes()
    }

    fn owner(&mut self, key: FutexKey) -> Option<&mut Owner> {
        self.all.iter_mut().find(|owner| owner.key == key)
    }

    fn add(&mut self, key: FutexKey, task: u32) -> Result<()> {
        self.all.try_reserve(1).map_err(|_| errno!(NOMEM, "too many words have owners"))?;
        self.all.push(Owner { key, task: Some(task) });
        Ok(())
    }

    /// Forgets the owner of `key` if nobody waits for its word.
    fn tidy(&mut self, key: FutexKey) {
        if self.futexes().next_owner(key).is_none() {
            self.all.retain(|owner| owner.key != key || owner.task.is_none());
        }
    }

    /// Makes `task` the owner of `word` if it has none, else sees to it that the owner is known; says whether `task` owns it now. The
    /// word then says that others wait, if `others` do.
    ///
    /// # Errors
    /// `DEADLK`: `task` owns it already. `SRCH`: its owner has ended. `PERM`: its owner has other memory. `INVAL`: the word and what is
    /// known of it differ, or somebody waits for it in another way. `FAULT`, `NOMEM`.
    fn claim(&mut self, word: &Word<'_, P>, task: u32, others: bool) -> Result<bool> {
        loop {
            let found = word.read()?;
            let owner = found & raw::FUTEX_TID_MASK;
            if owner == task {
                return Err(errno!(DEADLK, "the task owns it already"));
            }
            if let Some(known) = self.owner(word.key) {
                let has_died = found & raw::FUTEX_OWNER_DIED != 0;
                return match known.task {
                    None if has_died && owner == 0 => Ok(false),
                    Some(_) if has_died && owner == 0 => Ok(false),
                    Some(known) if known == owner => Ok(false),
                    None | Some(_) => Err(errno!(INVAL, "the word says that it has another owner")),
                };
            }
            if self.futexes().first(word.key).is_some() {
                return Err(errno!(INVAL, "somebody waits for it who does not want to own it"));
            }
            if owner == 0 {
                let waiters = if others { raw::FUTEX_WAITERS } else { 0 };
                if word.replace(found, (found & raw::FUTEX_OWNER_DIED) | task | waiters)? {
                    if others {
                        self.add(word.key, task)?;
                    }
                    return Ok(true);
                }
                continue;
            }
            let waited = found | raw::FUTEX_WAITERS;
            if !word.replace(found, waited)? {
                continue;
            }
            if self.may_own(word.key, owner)? {
                self.add(word.key, owner)?;
                return Ok(false);
            }
            // Whoever ends marks its words with this lock held.
            if word.read()? == waited {
                return Err(errno!(SRCH, "its owner has ended"));
            }
        }
    }

    /// Whether the task lives that `key`'s word names as its owner.
    ///
    /// # Errors
    /// `PERM`: it has other memory than the one that a private word is in.
    fn may_own(&self, key: FutexKey, task: u32) -> Result<bool> {
        let Some(process) = self.sandbox.process_of(task) else { return Ok(false) };
        if process.task(task).is_none_or(|task| task.is_ending()) {
            return Ok(false);
        }
        let mm = process.running().get().and_then(|exec| exec.mm.upgrade());
        if key.object == 0 && mm.is_some_and(|mm| Arc::as_ptr(&mm).addr() != key.space) {
            return Err(errno!(PERM, "a task with other memory"));
        }
        Ok(true)
    }

    /// Whether `task` may wait for `key`: nobody in the row of owners waits for it.
    ///
    /// # Errors
    /// `DEADLK`.
    fn check_row(&mut self, key: FutexKey, task: u32) -> Result<()> {
        let mut at = Some(key);
        for _ in 0..CHAIN_MAX {
            let Some(owner) = at.and_then(|key| self.owner(key)).and_then(|owner| owner.task) else { return Ok(()) };
            if owner == task {
                return Err(errno!(DEADLK, "its owner waits for the task"));
            }
            at = self.futexes().owned_next_by(owner);
        }
        Err(errno!(DEADLK, "too many wait for each other"))
    }

    /// Makes the first that waits for it the owner of `word`, which says that its owner is `task`.
    ///
    /// # Errors
    /// `INVAL`: the word and what is known of it differ, or somebody waits for it in another way. `FAULT`.
    fn release(&mut self, word: &Word<'_, P>, task: u32) -> Result<()> {
        loop {
            let found = word.read()?;
            if found & raw::FUTEX_TID_MASK != task {
                return Err(errno!(PERM, "it has another owner"));
            }
            let Some(known) = self.owner(word.key) else {
                if self.futexes().first(word.key).is_some() {
                    return Err(errno!(INVAL, "somebody waits for it who does not want to own it"));
                }
                if word.replace(found, 0)? {
                    return Ok(());
                }
                continue;
            };
            if known.task != Some(task) {
                return Err(errno!(INVAL, "the word says that it has another owner"));
            }
            let Some(next) = self.futexes().next_owner(word.key) else {
                self.tidy(word.key);
                continue;
            };
            if !word.replace(found, raw::FUTEX_WAITERS | next)? {
                return Err(errno!(INVAL, "the word was changed"));
            }
            if let Some(owner) = self.owner(word.key) {
                owner.task = Some(next);
            }
            self.futexes().wake_for(word.key, Purpose::Own { task: next });
            self.tidy(word.key);
            return Ok(());
        }
    }

    /// Goes on as `word`'s owner, which `task` was made; says so in the word if its owner has ended.
    fn take_over(&mut self, word: &Word<'_, P>, task: u32) -> Result<()> {
        if self.owner(word.key).is_none_or(|owner| owner.task.is_some()) {
            return Ok(());
        }
        let mine = task | raw::FUTEX_WAITERS | raw::FUTEX_OWNER_DIED;
        let written = loop {
            match word.read().and_then(|found| word.replace(found, mine)) {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(error),
            }
        };
        match written {
            Ok(()) => {
                if let Some(owner) = self.owner(word.key) {
                    owner.task = Some(task);
                }
                self.tidy(word.key);
            }
            // It cannot be this task's; maybe another one has the memory.
            Err(_) => self.pass_on(word.key),
        }
        written
    }

    /// Lets the next that waits for `key` take over from an owner that has ended.
    fn pass_on(&mut self, key: FutexKey) {
        let next = self.futexes().next_owner(key);
        if !next.is_some_and(|task| self.futexes().wake_for(key, Purpose::Own { task })) {
            self.all.retain(|owner| owner.key != key);
        }
    }

    /// Passes on every word of `task`, which has ended, or runs another program.
    pub(super) fn end(&mut self, task: u32) {
        while let Some(owner) = self.all.iter_mut().find(|owner| owner.task == Some(task)) {
            owner.task = None;
            let key = owner.key;
            self.pass_on(key);
        }
    }
}

/// Gives up a place that it waited at until `waited`; with the lock held.
fn settle<P: Cpu>(
    mut owners: Held<'_, P>,
    waiting: &Waiting<'_, P>,
    waited: Result<bool>,
    word: &Word<'_, P>,
    task: u32,
) -> Result<()> {
    if waiting.leave().is_none() {
        return owners.take_over(word, task);
    }
    owners.tidy(word.key);
    match waited {
        Ok(_) => Err(errno!(TIMEDOUT)),
        Err(error) => Err(error),
    }
}

impl<P: Cpu> Task<P> {
    /// Makes itself the owner of `word`, once nobody else is.
    ///
    /// # Errors
    /// Those of [`Held::claim`]; `DEADLK`: the owner waits for this task. `TIMEDOUT`, `Interrupted`.
    pub(crate) fn own(&self, word: &Word<'_, P>, until: Option<Duration>) -> Result<()> {
        let (sandbox, task) = (self.sandbox(), self.tid());
        let waiting = {
            let mut owners = sandbox.owners();
            if owners.claim(word, task, false)? {
                return Ok(());
            }
            let entered = owners
                .check_row(word.key, task)
                .and_then(|()| sandbox.futexes().enter(word.key, u32::MAX, Purpose::Own { task }));
            entered.inspect_err(|_| owners.tidy(word.key))?
        };
        let waited = waiting.sleep(until);
        settle(sandbox.owners(), &waiting, waited, word, task)
    }

    /// Makes itself the owner of `word` if nobody else is.
    ///
    /// # Errors
    /// Those of [`Held::claim`]; `AGAIN`: it has an owner.
    pub(crate) fn try_own(&self, word: &Word<'_, P>) -> Result<()> {
        let mut owners = self.sandbox().owners();
        let is_own = owners.claim(word, self.tid(), false)?;
        owners.tidy(word.key);
        if is_own { Ok(()) } else { Err(errno!(AGAIN, "it has an owner")) }
    }

    /// Lets the next one own `word`.
    ///
    /// # Errors
    /// `PERM`: another task owns it. `INVAL`: the word and what is known of it differ. `FAULT`.
    pub(crate) fn disown(&self, word: &Word<'_, P>) -> Result<()> {
        self.sandbox().owners().release(word, self.tid())
    }

    /// Waits at `from` while `is_as_expected` until it is moved to `word`, and then to own that.
    ///
    /// # Errors
    /// `AGAIN`: the word differs, or a signal came after it was moved. `TIMEDOUT`, `Interrupted`.
    pub(crate) fn wait_to_own(
        &self,
        from: FutexKey,
        is_as_expected: impl FnOnce() -> Result<()>,
        word: &Word<'_, P>,
        until: Option<Duration>,
    ) -> Result<()> {
        let (sandbox, task) = (self.sandbox(), self.tid());
        let waiting = sandbox.futexes().enter(from, u32::MAX, Purpose::OwnLater { task, word: word.key })?;
        is_as_expected()?;
        let waited = waiting.sleep(until);
        let owners = sandbox.owners();
        // Made again, it would wait where nobody wakes it any more.
        let was_moved = sandbox.futexes().owned_next_by(task).is_some();
        match settle(owners, &waiting, waited, word, task) {
            Err(Error::Interrupted) if was_moved => Err(errno!(AGAIN, "a signal came after the move")),
            settled => settled,
        }
    }

    /// Makes the first that waits at `from` the owner of `word`, if that has none, and moves up to `most` others there; returns how many
    /// in all.
    ///
    /// # Errors
    /// `INVAL`: somebody waits there for something else. Those of [`Held::claim`] and of `is_as_expected`.
    pub(crate) fn move_to_own(
        &self,
        from: FutexKey,
        is_as_expected: impl FnOnce() -> Result<()>,
        word: &Word<'_, P>,
        most: u32,
    ) -> Result<u32> {
        let mut owners = self.sandbox().owners();
        is_as_expected()?;
        let moved = owners.move_all(from, word, most);
        owners.tidy(word.key);
        moved
    }
}

impl<P: Cpu> Held<'_, P> {
    /// The first that waits at `from`, who must want to own `word`.
    fn first_for(&self, from: FutexKey, word: &Word<'_, P>) -> Result<Option<u32>> {
        match self.futexes().first(from) {
            None => Ok(None),
            Some(Purpose::OwnLater { task, word: wanted }) if wanted == word.key => Ok(Some(task)),
            Some(_) => Err(errno!(INVAL, "somebody waits there for something else")),
        }
    }

    fn move_all(&mut self, from: FutexKey, word: &Word<'_, P>, most: u32) -> Result<u32> {
        let Some(first) = self.first_for(from, word)? else { return Ok(0) };
        let mut count = 0;
        if self.claim(word, first, most > 0)? {
            self.futexes().wake_for(from, Purpose::OwnLater { task: first, word: word.key });
            count = 1;
        }
        // One is to be the owner; as in Linux, it is moved if it cannot be yet.
        while count <= most {
            let Some(task) = self.first_for(from, word)? else { break };
            self.check_row(word.key, task)?;
            self.futexes().move_to_own(from, word.key);
            count = count.saturating_add(1);
        }
        Ok(count)
    }
}
