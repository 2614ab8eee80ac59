// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Bring-up stand-in for core's address space: one flat image and a stack per sandbox, shared by all its guests.
//!
//! Goes when `mm::fault::on_fault` calls core. It exists so that the trap and the page tables can be tested without a shim.

use crate::mm::fault::Resolution;
use crate::mm::frame::{Frame, SIZE};
use crate::mm::space::Rights;
use alloc::collections::BTreeMap;
use kernel::prelude::*;
use kernel::sync::Mutex;

/// Where the image lies, and how long it may be.
pub(crate) const IMAGE: usize = 0x40_0000;
pub(crate) const IMAGE_MAX: usize = 0x10_0000;
/// The stack, and its length.
const STACK: usize = 0x7ffe_0000_0000;
const STACK_LENGTH: usize = 0x10_0000;
/// The first stack pointer.
pub(crate) const STACK_TOP: usize = STACK + STACK_LENGTH;

/// The pages of a flat guest.
#[pin_data]
pub(crate) struct FlatImage {
    #[pin]
    pages: Mutex<BTreeMap<usize, Frame>>,
}

impl FlatImage {
    /// No pages.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self { pages <- kernel::new_mutex!(BTreeMap::new(), "litebox_flat") })
    }

    /// What belongs at the page `addr`; made of zeros if it was not there.
    pub(crate) fn resolve(&self, addr: usize) -> core::result::Result<(Frame, Rights), Resolution> {
        let image = (IMAGE..IMAGE + IMAGE_MAX).contains(&addr);
        if !image && !(STACK..STACK_TOP).contains(&addr) {
            return Err(Resolution::Refused);
        }
        let mut pages = self.pages.lock();
        let frame = match pages.get(&addr) {
            Some(frame) => frame.clone(),
            None => {
                let frame = Frame::zeroed().ok_or(Resolution::NoMemory)?;
                pages.insert(addr, frame.clone());
                frame
            }
        };
        Ok((frame, Rights { read: true, write: true, execute: image }))
    }

    /// Puts `bytes` at `offset` of the image.
    ///
    /// # Errors
    /// EFBIG past the image's end, ENOMEM.
    pub(crate) fn load(&self, offset: usize, bytes: &[u8]) -> Result {
        let (frame, _) =
            self.resolve(IMAGE + offset).map_err(|refused| if refused == Resolution::NoMemory { ENOMEM } else { EFBIG })?;
        frame.write(0, bytes.get(..SIZE).unwrap_or(bytes));
        Ok(())
    }
}
