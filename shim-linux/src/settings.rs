//! What root may set for a whole sandbox, as sysctl(8) shows it: names of the machine, limits, and numbers that are kept only.
//!
//! Invariants: a number or text that nobody has set is not here; what is here has a name in the tables of `proc::sys`, so that
//! nothing grows. Limits of objects are with the objects. Locks: `kept` and `texts` are leaves. Source: sysctl(8), `proc_sys(5)`.

use crate::machine::DOMAIN;
use crate::notify::{QUEUE_MAX, WATCHES_MAX};
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::pipe;
use litebox_core::limit::Limit;
use litebox_core::mm::MAX_AREAS;
use litebox_core::platform::Platform;
use litebox_core::sync::Mutex;

/// A text that root may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    /// The machine's name.
    Host,
    /// The name of its NIS domain.
    Domain,
    /// How a core file is named. None is written.
    Core,
    /// Who brings modules. None are.
    Modprobe,
}

/// What was set in one sandbox.
pub(crate) struct Settings<P: Platform> {
    /// Areas of an address space.
    pub(crate) areas: Arc<Limit>,
    /// Bytes that whoever is not privileged can have a pipe hold.
    pub(crate) pipe_bytes: Limit,
    /// Events that wait at one descriptor of inotify(7).
    pub(crate) events: Limit,
    /// What one such descriptor watches.
    pub(crate) watches: Limit,
    kept: Mutex<P, BTreeMap<&'static str, u64>>,
    texts: Mutex<P, BTreeMap<Named, Vec<u8>>>,
}

impl<P: Platform> fmt::Debug for Settings<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("areas", &self.areas).finish_non_exhaustive()
    }
}

impl<P: Platform> Settings<P> {
    /// Nothing was set.
    pub(crate) fn new() -> Self {
        Self {
            areas: Arc::new(Limit::new(u64::try_from(MAX_AREAS).unwrap_or(u64::MAX))),
            pipe_bytes: Limit::new(pipe::CAPACITY_MAX),
            events: Limit::new(QUEUE_MAX),
            watches: Limit::new(WATCHES_MAX),
            kept: Mutex::<P, _>::new(BTreeMap::new()),
            texts: Mutex::<P, _>::new(BTreeMap::new()),
        }
    }

    /// The number that is kept under `name`, if it was set.
    pub(crate) fn kept(&self, name: &str) -> Option<u64> {
        self.kept.lock().get(name).copied()
    }

    /// Keeps a number.
    pub(crate) fn keep(&self, name: &'static str, value: u64) {
        self.kept.lock().insert(name, value);
    }
}

impl<P: Cpu> Sandbox<P> {
    /// A text as it is now.
    pub(crate) fn name(&self, which: Named) -> Vec<u8> {
        let set = self.shared().settings().texts.lock().get(&which).cloned();
        let first = match which {
            Named::Host => &self.machine().host,
            Named::Domain => DOMAIN,
            Named::Core => "core",
            Named::Modprobe => "/sbin/modprobe",
        };
        set.unwrap_or_else(|| first.as_bytes().to_vec())
    }

    /// Sets a text.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn set_name(&self, which: Named, text: &[u8]) -> Result<()> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(text.len()).map_err(|_| errno!(NOMEM))?;
        copy.extend_from_slice(text);
        self.shared().settings().texts.lock().insert(which, copy);
        Ok(())
    }
}
