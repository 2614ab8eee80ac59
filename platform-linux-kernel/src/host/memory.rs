//! Page frames, page tables and guest copies for the library OS, over this platform's own `mm`.

use super::LinuxKernel;
use crate::mm::frame::{self, Frame};
use crate::mm::space::{Inserted, Rights, Space};
use crate::mm::user_copy;
use core::iter::once;
use litebox_core::mm::{GuestAddr, PageRange, Prot};
use litebox_core::platform::{self, Frames, Mapping, Platform, UserCopy};

impl platform::Frame for Frame {
    fn read(&self, offset: usize, dst: &mut [u8]) -> usize {
        Frame::read(self, offset, dst)
    }

    fn write(&self, offset: usize, src: &[u8]) -> usize {
        Frame::write(self, offset, src)
    }

    fn copy_from(&self, from: &Self) {
        Frame::copy_from(self, from);
    }

    fn exchange(&self, offset: usize, expected: u32, new: u32) -> u32 {
        Frame::exchange(self, offset, expected, new)
    }

    fn is_unique(&self) -> bool {
        Frame::is_unique(self)
    }

    fn same(&self, other: &Self) -> bool {
        Frame::same(self, other)
    }
}

impl From<Prot> for Rights {
    /// What the library OS's rights are in a page-table entry. On x86-64, what can be written or executed can be read.
    fn from(prot: Prot) -> Self {
        Self { read: !prot.is_empty(), write: prot.contains(Prot::WRITE), execute: prot.contains(Prot::EXEC) }
    }
}

impl Frames for LinuxKernel {
    type Frame = Frame;
    type Space = Space;

    fn zeroed_frame() -> Option<Frame> {
        Frame::zeroed()
    }

    fn zeroed_frames(count: usize, take: impl FnMut(Frame)) {
        Frame::zeroed_run(count, take);
    }

    fn new_space() -> Option<Space> {
        Some(Space::new())
    }

    // On x86-64, usize has the 64 bits of a guest address.
    fn fill<'a>(space: &Space, range: PageRange, mappings: impl Iterator<Item = Mapping<'a, Frame>>) -> bool {
        let entries = mappings.map(|mapping| (mapping.addr.get() as usize, mapping.frame, mapping.prot.into()));
        space.insert(range.start().get() as usize, range.bytes() as usize, entries) != Inserted::NoMemory
    }

    fn replace(space: &Space, mapping: &Mapping<'_, Frame>) -> bool {
        let at = mapping.addr.get() as usize;
        let insert = || space.insert(at, frame::SIZE, once((at, mapping.frame, mapping.prot.into())));
        // Most often there is nothing yet, and then nobody holds what is to go; unless in the page tables of a vfork's other side.
        if space.is_mapped_once() {
            match insert() {
                Inserted::All => return true,
                Inserted::NoMemory => return false,
                Inserted::SomeWereThere => {}
            }
        }
        // Other processors may hold what was there; they must not go on reading it.
        space.zap(at, frame::SIZE);
        insert() == Inserted::All
    }

    fn unmap(space: &Space, start: GuestAddr, end: GuestAddr) {
        if let Some(length) = end.since(start) {
            space.zap(start.get() as usize, length as usize);
        }
    }
}

impl Platform for LinuxKernel {}

impl UserCopy for LinuxKernel {
    fn from_guest(dst: &mut [u8], src: GuestAddr) -> usize {
        usize::try_from(src.get()).map_or(0, |src| user_copy::from_guest(dst, src))
    }

    fn to_guest(dst: GuestAddr, src: &[u8]) -> usize {
        usize::try_from(dst.get()).map_or(0, |dst| user_copy::to_guest(dst, src))
    }

    fn frame_to_guest(dst: GuestAddr, frame: &Frame, offset: usize, len: usize) -> usize {
        usize::try_from(dst.get()).map_or(0, |dst| user_copy::frame_to_guest(dst, frame, offset, len))
    }

    fn guest_to_frame(frame: &Frame, offset: usize, src: GuestAddr, len: usize) -> usize {
        usize::try_from(src.get()).map_or(0, |src| user_copy::guest_to_frame(frame, offset, src, len))
    }
}
