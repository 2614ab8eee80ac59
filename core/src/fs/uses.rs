//! Who uses a regular file: whoever runs it excludes whoever writes to it, and the reverse (`TXTBSY`).
//!
//! Invariants: [`Uses`] counts up for each open file that may write, down for each process that runs it, and is never both. Every
//! file that open(2) opened is counted while it is open ([`File::opened`](super::file::File::opened)), every running program
//! while its [`Runs`] lives. No locks. Source: open(2), execve(2); Linux `i_writecount`, `deny_write_access`.

use super::dentry::Dentry;
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicI32, Ordering};

/// How often one file is open for writing, or how often it runs, as a negative number.
#[derive(Debug, Default)]
pub struct Uses(AtomicI32);

impl Uses {
    fn count(&self, by: impl Fn(i32) -> Option<i32>) -> Result<()> {
        let counted = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, by);
        counted.map(drop).map_err(|_busy| errno!(TXTBSY, "the file is running, or open for writing"))
    }

    /// Begins to write.
    ///
    /// # Errors
    /// `TXTBSY`: it runs.
    pub fn begin_write(&self) -> Result<()> {
        self.count(|count| count.checked_add(1).filter(|_| count >= 0))
    }

    /// Ends what [`Self::begin_write`] began.
    pub fn end_write(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Keeps others from writing.
    ///
    /// # Errors
    /// `TXTBSY`: somebody has it open for writing.
    fn deny_write(&self) -> Result<()> {
        self.count(|count| count.checked_sub(1).filter(|_| count <= 0))
    }

    /// Ends what [`Self::deny_write`] began.
    fn allow_write(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A file that runs: nobody can open it for writing or cut it while this lives.
pub struct Runs<P: Platform>(Arc<Dentry<P>>);

impl<P: Platform> fmt::Debug for Runs<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runs").field(&self.0).finish()
    }
}

impl<P: Platform> Runs<P> {
    /// What is at `place` begins to run.
    ///
    /// # Errors
    /// `TXTBSY`: somebody has it open for writing.
    pub fn begin(place: &Arc<Dentry<P>>) -> Result<Self> {
        place.inode().uses().map_or(Ok(()), Uses::deny_write)?;
        Ok(Self(Arc::clone(place)))
    }
}

impl<P: Platform> Drop for Runs<P> {
    fn drop(&mut self) {
        if let Some(uses) = self.0.inode().uses() {
            uses.allow_write();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    #[test]
    fn writers_and_runners_exclude_each_other() {
        let uses = Uses::default();
        uses.begin_write().unwrap();
        uses.begin_write().unwrap();
        assert!(uses.deny_write().unwrap_err().is(Errno::TXTBSY));
        uses.end_write();
        uses.end_write();
        uses.deny_write().unwrap();
        uses.deny_write().unwrap();
        assert!(uses.begin_write().unwrap_err().is(Errno::TXTBSY));
        uses.allow_write();
        uses.allow_write();
        uses.begin_write().unwrap();
    }
}
