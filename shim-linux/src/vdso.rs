//! Shows every process the platform's vDSO: `[vvar]`, which tells the time, and `[vdso]` behind it, which reads that.
//!
//! Invariants: the frames are the same for all processes and nobody can write to them: mappings are private, so that a program that
//! makes its copy of the code writable gets its own; the data page can never be made writable. As in Linux, a program may move or
//! unmap both. Sources: vdso(7); Linux `arch/x86/entry/vdso/vma.c`.

use crate::signal::Cpu;
use alloc::sync::Arc;
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{AddressSpace, Backing, MapFlags, MapRequest, MapSource, PAGE_SHIFT, Place, Prot, SourceName};

/// A vDSO, for any number of processes.
#[derive(Debug)]
pub struct Vdso<P: Cpu> {
    data: Arc<Pages<P>>,
    image: Arc<Pages<P>>,
}

impl<P: Cpu> Vdso<P> {
    /// The vDSO of this `image`, a shared object that reads the `data` right before it.
    #[must_use]
    pub fn new(data: Vec<P::Frame>, image: Vec<P::Frame>) -> Self {
        let pages = |path, frames| Arc::new(Pages { path, frames });
        Self { data: pages(b"[vvar]", data), image: pages(b"[vdso]", image) }
    }

    /// Maps it into `mm` where other mappings go; returns the address of the image's ELF header.
    ///
    /// # Errors
    /// `NOMEM`: no room, or past the quota.
    pub fn map(&self, mm: &AddressSpace<P>) -> Result<u64> {
        let (data, image) = (self.data.size(), self.image.size());
        let both = data.checked_add(image).ok_or(errno!(NOMEM, "the vDSO is too large"))?;
        // The image then takes the upper part of the room.
        let room = MapRequest { max_prot: Prot::READ, ..request(&self.data, both, Prot::READ) };
        let at = mm.map(room)?.plus(data)?;
        mm.map(request(&self.image, image, Prot::READ | Prot::EXEC).at(Place::Fixed(at)))?;
        Ok(at.get())
    }
}

/// A private mapping of `pages`.
fn request<P: Cpu>(pages: &Arc<Pages<P>>, len: u64, prot: Prot) -> MapRequest<P> {
    let source: Arc<dyn MapSource<P>> = Arc::<Pages<P>>::clone(pages);
    let backing = Backing::Source { source, index: 0 };
    MapRequest { backing, flags: MapFlags::empty(), ..MapRequest::anonymous(len, prot) }
}

/// Frames that are always there.
struct Pages<P: Cpu> {
    path: &'static [u8],
    frames: Vec<P::Frame>,
}

impl<P: Cpu> core::fmt::Debug for Pages<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pages").field("frames", &self.frames.len()).finish_non_exhaustive()
    }
}

impl<P: Cpu> MapSource<P> for Pages<P> {
    fn page(&self, index: u64) -> Result<P::Frame> {
        self.resident(index).ok_or(errno!(IO, "past the end of the vDSO"))
    }

    fn size(&self) -> u64 {
        u64::try_from(self.frames.len()).unwrap_or_default() << PAGE_SHIFT
    }

    fn resident(&self, index: u64) -> Option<P::Frame> {
        self.frames.get(usize::try_from(index).ok()?).cloned()
    }

    fn tracks_writes(&self) -> bool {
        false
    }

    fn name(&self) -> SourceName {
        SourceName { path: self.path.to_vec(), ..SourceName::default() }
    }

    fn owner(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}
