//! A host's file with an image, with a page cache or without one.

use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::host::HostFile;
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::pseudo::made_up_attr;
use litebox_core::fs::types::{Attr, DeviceId, FileKind, InodeId, Mode, Timestamp};
use litebox_core::platform::{Frame, Frames};
use litebox_platform_hosted::{Hosted, HostedFrame};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

#[derive(Debug)]
pub(crate) struct HostImage {
    bytes: Vec<u8>,
    cache: Option<Mutex<BTreeMap<u64, HostedFrame>>>,
    changed: AtomicI64,
}

impl HostImage {
    pub(crate) fn new(bytes: &[u8], has_cache: bool) -> Self {
        Self { bytes: bytes.to_vec(), cache: has_cache.then(Mutex::default), changed: AtomicI64::new(1) }
    }

    /// Brings a page into the cache.
    fn fill(&self, index: u64) {
        let Some(cache) = &self.cache else { return };
        let Some(bytes) = usize::try_from(index).ok().and_then(|index| self.bytes.get(index.checked_mul(4096)?..)) else {
            return;
        };
        if !bytes.is_empty() {
            cache.lock().expect("not poisoned").entry(index).or_insert_with(|| {
                let frame = Hosted::zeroed_frame().expect("a frame");
                frame.write(0, &bytes[..bytes.len().min(4096)]);
                frame
            });
        }
    }

    /// Makes it look as if somebody had written to it.
    pub(crate) fn touch(&self) {
        self.changed.fetch_add(1, Ordering::Relaxed);
    }
}

impl HostFile<Hosted> for HostImage {
    fn attr(&self) -> Result<Attr> {
        let id = InodeId { device: DeviceId { major: 8, minor: 1 }, number: 11 };
        let time = Timestamp { seconds: self.changed.load(Ordering::Relaxed), nanoseconds: 0 };
        Ok(Attr { size: self.bytes.len() as u64, ..made_up_attr(id, FileKind::Regular, Mode::RUSR, time) })
    }

    fn seekable(&self) -> bool {
        true
    }

    fn read(&self, offset: u64, dst: &mut [u8], _: Blocking) -> Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
        // A host may give less than it was asked for.
        let len = rest.len().min(dst.len()).min(3000);
        dst[..len].copy_from_slice(&rest[..len]);
        let (first, last) = (offset >> 12, (offset + len as u64).saturating_sub(1) >> 12);
        for index in (first..=last).filter(|_| len > 0) {
            self.fill(index);
        }
        Ok(len)
    }

    fn page(&self, index: u64) -> Result<HostedFrame> {
        self.fill(index);
        match &self.cache {
            Some(_) => self.resident(index).ok_or(errno!(FAULT)),
            None => Err(errno!(NODEV)),
        }
    }

    fn resident(&self, index: u64) -> Option<HostedFrame> {
        self.cache.as_ref()?.lock().expect("not poisoned").get(&index).cloned()
    }

    fn cached(&self, index: u64) -> Option<HostedFrame> {
        self.resident(index)
    }
}
