//! No way into ring 3: sandboxes are refused.

use super::Exit;
use core::convert::Infallible;
use core::ptr::NonNull;
use litebox_core::mm::{GuestAddr, Prot};
use litebox_core::{errno, error::Result};
use litebox_shim_linux::regs::Regs;

/// Pages of the pool, each of a page's size and alignment.
#[derive(Debug)]
pub(crate) enum Pages {}

impl Pages {
    /// A page filled with zeros.
    pub(crate) fn take() -> Option<NonNull<u8>> {
        // SAFETY: Of a page's size, which is not zero.
        NonNull::new(unsafe { alloc::alloc::alloc_zeroed(Self::LAYOUT) })
    }

    /// Gives a page back.
    ///
    /// # Safety
    /// It came from `take`, and nobody uses it.
    pub(crate) unsafe fn give_back(page: NonNull<u8>) {
        // SAFETY: Contract; the same layout.
        unsafe { alloc::alloc::dealloc(page.as_ptr(), Self::LAYOUT) };
    }

    const LAYOUT: core::alloc::Layout = match core::alloc::Layout::from_size_align(4096, 4096) {
        Ok(layout) => layout,
        Err(_) => core::alloc::Layout::new::<[u8; 4096]>(),
    };
}

/// Tables of nobody.
#[derive(Debug)]
pub(crate) struct Tables(Infallible);

impl Tables {
    /// None.
    pub(crate) fn new() -> Option<Self> {
        None
    }

    /// Shows nothing.
    pub(crate) fn map(&self, _pages: &mut dyn Iterator<Item = (GuestAddr, NonNull<u8>, Prot)>) -> bool {
        match self.0 {}
    }

    /// Hides nothing.
    pub(crate) fn unmap(&self, _start: GuestAddr, _end: GuestAddr) {
        match self.0 {}
    }

    /// No thread.
    pub(crate) fn seed(&self) -> Option<Seed> {
        match self.0 {}
    }
}

/// A guest thread that nobody runs yet: none.
#[derive(Debug)]
pub(crate) struct Seed(Infallible);

/// A guest thread: none.
#[derive(Debug)]
pub(crate) struct Vcpu(Infallible);

impl Vcpu {
    pub(crate) fn new(seed: Seed) -> Option<Self> {
        match seed.0 {}
    }

    pub(crate) fn run(&mut self, _regs: &mut Regs) -> Exit {
        match self.0 {}
    }

    pub(crate) fn kicker(&self) -> Kicker {
        match self.0 {}
    }

    pub(crate) fn bases(&mut self) -> &mut [u64; 2] {
        match self.0 {}
    }

    pub(crate) fn fpu(&mut self) -> alloc::vec::Vec<u8> {
        match self.0 {}
    }

    pub(crate) fn set_fpu(&mut self, _image: &[u8]) -> bool {
        match self.0 {}
    }
}

/// Ends the stay in ring 3 of nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kicker(Infallible);

impl Kicker {
    pub(crate) fn kick(self) {
        match self.0 {}
    }
}

/// Says why there is no engine.
///
/// # Errors
/// Always.
pub(crate) fn start() -> Result<()> {
    Err(errno!(NODEV, "this driver has no way to run guests: the hardware trap is not in it yet"))
}

/// Nobody's accesses have to be put in order.
pub(crate) fn barrier() {}
