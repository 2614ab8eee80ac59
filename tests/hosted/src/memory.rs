//! Frames, page tables and a guest's loads and stores, in plain Rust.
//!
//! Strict: [`Frames::fill`] checks that its mappings are ascending and in one 2 MiB region, and a replaced or filled entry obeys
//! its rights to the letter; so a test sees what a stale entry would do. An entry does not keep its frame alive.

use crate::Hosted;
use litebox_core::mm::{Access, AddressSpace, FaultOutcome, GuestAddr, PAGE_BYTES, PAGE_SIZE, PageRange, Prot};
use litebox_core::platform::{Frame, Frames, Mapping, UserCopy};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Frames alive in this process, of all tests.
static FRAMES: AtomicI64 = AtomicI64::new(0);

/// How many frames are alive in this process.
#[must_use]
pub fn frames_alive() -> i64 {
    FRAMES.load(Ordering::SeqCst)
}

struct Page(Mutex<Box<[u8; PAGE_BYTES]>>);

impl Drop for Page {
    fn drop(&mut self) {
        FRAMES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A frame.
#[derive(Clone)]
pub struct HostedFrame(Arc<Page>);

impl fmt::Debug for HostedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {:p}", Arc::as_ptr(&self.0))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Frame for HostedFrame {
    fn read(&self, offset: usize, dst: &mut [u8]) -> usize {
        let page = locked(&self.0.0);
        let len = dst.len().min(PAGE_BYTES.saturating_sub(offset));
        if len > 0 {
            dst[..len].copy_from_slice(&page[offset..offset + len]);
        }
        len
    }

    fn write(&self, offset: usize, src: &[u8]) -> usize {
        let mut page = locked(&self.0.0);
        let len = src.len().min(PAGE_BYTES.saturating_sub(offset));
        if len > 0 {
            page[offset..offset + len].copy_from_slice(&src[..len]);
        }
        len
    }

    fn exchange(&self, offset: usize, expected: u32, new: u32) -> u32 {
        assert_eq!(offset % 4, 0, "no word begins there");
        let mut page = locked(&self.0.0);
        let word = &mut page[offset..offset + 4];
        let found = u32::from_le_bytes(word.try_into().expect("four bytes"));
        if found == expected {
            word.copy_from_slice(&new.to_le_bytes());
        }
        found
    }

    fn copy_from(&self, from: &Self) {
        if !self.same(from) {
            let copy = **locked(&from.0.0);
            **locked(&self.0.0) = copy;
        }
    }

    fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Page tables. An entry is weak, as a real one is: it does not keep its frame alive, and a test that meets a dead one has
/// found a page that was freed while still shown.
#[derive(Debug, Default)]
pub struct HostedSpace(Mutex<BTreeMap<u64, Entry>>);

#[derive(Debug)]
struct Entry {
    page: Weak<Page>,
    prot: Prot,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("page")
    }
}

impl HostedSpace {
    /// The frame at `addr` if its entry allows `access`.
    ///
    /// # Panics
    /// The entry shows a frame that was freed.
    #[must_use]
    pub fn translate(&self, addr: GuestAddr, access: Access) -> Option<HostedFrame> {
        let table = locked(&self.0);
        let entry = table.get(&addr.page())?;
        let allowed = match access {
            Access::Read => !entry.prot.is_empty(),
            Access::Write => entry.prot.contains(Prot::WRITE),
            Access::Exec => entry.prot.contains(Prot::EXEC),
        };
        let page = entry.page.upgrade().expect("a page table shows a frame that was freed");
        allowed.then_some(HostedFrame(page))
    }

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        locked(&self.0).len()
    }
}

impl Frames for Hosted {
    type Frame = HostedFrame;
    type Space = HostedSpace;

    fn zeroed_frame() -> Option<HostedFrame> {
        FRAMES.fetch_add(1, Ordering::SeqCst);
        Some(HostedFrame(Arc::new(Page(Mutex::new(Box::new([0; PAGE_BYTES]))))))
    }

    fn new_space() -> Option<HostedSpace> {
        Some(HostedSpace::default())
    }

    fn fill<'a>(space: &HostedSpace, range: PageRange, mappings: impl Iterator<Item = Mapping<'a, HostedFrame>>) -> bool {
        assert_eq!(range.start().get() >> 21, (range.end().get() - 1) >> 21, "mappings must share a 2 MiB region");
        let mut table = locked(&space.0);
        let mut next = range.start();
        for mapping in mappings {
            assert!(next <= mapping.addr && mapping.addr < range.end(), "mappings must ascend within their range");
            next = GuestAddr::new(mapping.addr.get() + PAGE_SIZE);
            table.entry(mapping.addr.page()).or_insert(entry(&mapping));
        }
        true
    }

    fn replace(space: &HostedSpace, mapping: &Mapping<'_, HostedFrame>) -> bool {
        locked(&space.0).insert(mapping.addr.page(), entry(mapping));
        true
    }

    fn unmap(space: &HostedSpace, start: GuestAddr, end: GuestAddr) {
        let mut table = locked(&space.0);
        let mut tail = table.split_off(&start.page());
        table.append(&mut tail.split_off(&end.page()));
    }
}

fn entry(mapping: &Mapping<'_, HostedFrame>) -> Entry {
    assert!(mapping.addr.is_page_start() && mapping.addr.is_mappable());
    Entry { page: Arc::downgrade(&mapping.frame.0), prot: mapping.prot }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<AddressSpace<Hosted>>>> = const { RefCell::new(None) };
}

/// Makes `space` the memory of the guest that this thread runs, as long as `run` takes.
pub fn enter<T>(space: &Arc<AddressSpace<Hosted>>, run: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arc<AddressSpace<Hosted>>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.replace(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(Some(Arc::clone(space))));
    run()
}

/// Walks `len` bytes from `addr` as a processor would, a page at a time; returns how many `copy` got to see.
fn walk(addr: GuestAddr, len: usize, access: Access, mut copy: impl FnMut(&HostedFrame, usize, usize, usize)) -> usize {
    let Some(space) = CURRENT.with_borrow(Clone::clone) else { return 0 };
    let mut done = 0;
    while done < len {
        let Ok(at) = addr.plus(done as u64) else { return done };
        let Some(frame) = touch(&space, at, access) else { return done };
        let chunk = (PAGE_BYTES - at.offset_in_page()).min(len - done);
        copy(&frame, at.offset_in_page(), done, chunk);
        done += chunk;
    }
    done
}

/// The frame that an access meets, after as many faults as it takes.
///
/// # Panics
/// A fault is said to be resolved over and over and is not: on a processor the guest would hang.
fn touch(space: &AddressSpace<Hosted>, at: GuestAddr, access: Access) -> Option<HostedFrame> {
    for _ in 0..1000 {
        if let Some(frame) = space.host().translate(at, access) {
            return Some(frame);
        }
        if space.fault(at, access) != FaultOutcome::Resolved {
            return None;
        }
    }
    panic!("the fault at {at:?} is never resolved");
}

impl UserCopy for Hosted {
    fn from_guest(dst: &mut [u8], src: GuestAddr) -> usize {
        walk(src, dst.len(), Access::Read, |frame, offset, at, len| {
            frame.read(offset, &mut dst[at..at + len]);
        })
    }

    fn to_guest(dst: GuestAddr, src: &[u8]) -> usize {
        walk(dst, src.len(), Access::Write, |frame, offset, at, len| {
            frame.write(offset, &src[at..at + len]);
        })
    }

    fn frame_to_guest(dst: GuestAddr, from: &HostedFrame, offset: usize, len: usize) -> usize {
        let mut bytes = vec![0; len];
        let count = from.read(offset, &mut bytes);
        Self::to_guest(dst, &bytes[..count])
    }

    fn guest_to_frame(to: &HostedFrame, offset: usize, src: GuestAddr, len: usize) -> usize {
        let mut bytes = vec![0; len];
        let count = Self::from_guest(&mut bytes, src);
        to.write(offset, &bytes[..count])
    }
}
