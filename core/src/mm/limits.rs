//! How much a guest may have mapped. Source: getrlimit(2); Linux mm/vma.c, `may_expand_vm`.

use super::addr::{PageRange, Prot};
use super::space::State;
use super::vma::{MapFlags, Vma};
use crate::errno;
use crate::error::Result;
use crate::platform::Platform;

/// Bytes; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapLimits {
    /// What a stack may grow to: `RLIMIT_STACK`.
    pub stack: u64,
    /// All that is mapped: `RLIMIT_AS`.
    pub all: u64,
    /// What is private and can be written to, but for stacks: `RLIMIT_DATA`.
    pub data: u64,
}

impl Default for MapLimits {
    /// Linux's, where nobody says otherwise.
    fn default() -> Self {
        Self { stack: 8 << 20, all: u64::MAX, data: u64::MAX }
    }
}

fn is_data(prot: Prot, flags: MapFlags) -> bool {
    prot.contains(Prot::WRITE) && !flags.intersects(MapFlags::SHARED | MapFlags::GROWS_DOWN)
}

impl<P: Platform> State<P> {
    /// Whether `more` bytes as described may be mapped, where what is in `replaced` goes away.
    ///
    /// # Errors
    /// `NOMEM`: past a limit.
    pub(super) fn may_map(&self, more: u64, (prot, flags): (Prot, MapFlags), replaced: Option<PageRange>) -> Result<()> {
        let limits = self.limits;
        let counts_data = is_data(prot, flags) && limits.data != u64::MAX;
        if limits.all == u64::MAX && !counts_data {
            return Ok(());
        }
        let left = |area: &Vma<P>| {
            let gone = replaced.and_then(|gone| area.range().intersect(gone)).map_or(0, |gone| gone.bytes());
            area.range().bytes().saturating_sub(gone)
        };
        let sum = |counts: fn(&Vma<P>) -> bool| {
            self.vmas.iter().filter(|area| counts(area)).fold(more, |sum, area| sum.saturating_add(left(area)))
        };
        let past_all = sum(|_| true) > limits.all;
        if past_all || (counts_data && sum(|area| is_data(area.prot, area.flags)) > limits.data) {
            return Err(errno!(NOMEM, "past a limit"));
        }
        Ok(())
    }
}
