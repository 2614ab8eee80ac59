//! A sandbox as the host sees it: one open file of the device, its carriers, how far its life is, and who waits for its end.
//!
//! Invariants: a phase goes forward, and back only from `Starting` when the program cannot be loaded; once `ended` is set no carrier
//! begins; a request in `waiting` has not been completed.
//! Locks: `phase` (sleeping) before everything of the library OS; `members` and `waiting` are spin locks and leaves.

use crate::carrier::Handle;
use crate::device::{RawRequest, Request};
use crate::host::WindowsKernel;
use crate::nt::spin::SpinLock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use litebox_core::sync::Mutex;
use litebox_ioctl_abi::Ended;
use litebox_shim_linux::launch::Builder;
use litebox_shim_linux::task::Process;

/// How far a sandbox's life is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing was said yet.
    New,
    /// It is being described.
    Described(Builder<WindowsKernel>),
    /// Its first process is being loaded.
    Starting,
    /// Its first process runs.
    Running(Arc<Process<WindowsKernel>>),
    /// Its first process has ended.
    Ended(Ended),
}

/// Requests for the end.
struct Waiting {
    list: Vec<Request>,
    /// Cancelled at the moment of the end: put here by whichever of the two comes first, and completed by the other.
    between: Vec<RawRequest>,
}

impl Waiting {
    /// For one of the two sides of a cancellation; whether it is the second.
    fn meet(&mut self, request: RawRequest) -> bool {
        match self.between.iter().position(|other| *other == request) {
            Some(at) => {
                self.between.swap_remove(at);
                true
            }
            None => {
                self.between.push(request);
                false
            }
        }
    }
}

/// One open file of the device.
pub(crate) struct Sandbox {
    owner: usize,
    ended: AtomicBool,
    members: SpinLock<Vec<Handle>>,
    waiting: SpinLock<Waiting>,
    /// See [`Phase`].
    pub(crate) phase: Mutex<WindowsKernel, Phase>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sandbox")
    }
}

impl Sandbox {
    /// An empty sandbox, of the process `owner`.
    pub(crate) fn new(owner: usize) -> Arc<Self> {
        Arc::new(Self {
            owner,
            ended: AtomicBool::new(false),
            members: SpinLock::new(Vec::new()),
            waiting: SpinLock::new(Waiting { list: Vec::new(), between: Vec::new() }),
            phase: Mutex::<WindowsKernel, _>::new(Phase::New),
        })
    }

    /// The process whose handles its requests name.
    pub(crate) fn owner(&self) -> usize {
        self.owner
    }

    /// Whether its carriers are to end.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Puts a carrier into the list; false if the sandbox has ended.
    pub(crate) fn remember(&self, carrier: Handle) -> bool {
        let mut members = self.members.lock();
        let alive = !self.is_ended();
        if alive {
            members.push(carrier);
        }
        alive
    }

    /// Takes a carrier off the list.
    pub(crate) fn forget(&self, carrier: &Handle) {
        let mut members = self.members.lock();
        let found = members.iter().position(|member| member.same(carrier)).map(|at| members.swap_remove(at));
        drop(members);
        drop(found);
    }

    /// Ends every guest, and lets no other begin. The carriers go on their own; this does not wait.
    pub(crate) fn end(&self) {
        let members = self.members.lock();
        self.ended.store(true, Ordering::Release);
        members.iter().for_each(Handle::kick);
    }

    /// Notes how the first process ended, ends what is left and tells who waits.
    pub(crate) fn set_ended(&self, ended: Ended) {
        self.end();
        let before = core::mem::replace(&mut *self.phase.lock(), Phase::Ended(ended));
        // May close files, so without the lock.
        drop(before);
        loop {
            let Some(request) = self.waiting.lock().list.pop() else { return };
            if request.unmark_cancelable() {
                request.answer_wait(ended);
            } else if self.waiting.lock().meet(request.raw()) {
                request.cancelled();
            }
        }
    }

    /// Has `request` answered at the end. The caller holds `phase`, so that the end has not passed by.
    pub(crate) fn wait(&self, request: Request) {
        // Listed first: once it can be cancelled the cancel routine looks for it here.
        let cancelable = request.raw();
        self.waiting.lock().list.push(request);
        if !cancelable.mark_cancelable() {
            self.cancel(cancelable);
        }
    }

    /// Completes the request that was cancelled, unless somebody is about to answer it, who does that then. IRQL: `DISPATCH_LEVEL` or
    /// below.
    pub(crate) fn cancel(&self, request: RawRequest) {
        let mut waiting = self.waiting.lock();
        let listed = waiting.list.iter().position(|other| other.raw() == request);
        let listed = listed.map(|at| waiting.list.swap_remove(at));
        let mine = listed.is_some() || waiting.meet(request);
        drop(waiting);
        if mine {
            request.cancelled();
        }
    }
}
