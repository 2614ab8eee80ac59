//! Page frames, page tables and guest copies for the library OS, over this platform's own `mm`.

use super::LinuxKernel;
use crate::mm::frame::Frame;
use crate::mm::space::{Entry, Rights};
use crate::mm::user_copy;
use litebox_core::mm::{GuestAddr, Prot};
use litebox_core::platform::{self, Mapping, UserCopy};

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

impl TryFrom<&Mapping<Frame>> for Entry {
    type Error = core::num::TryFromIntError;

    fn try_from(mapping: &Mapping<Frame>) -> Result<Self, Self::Error> {
        let addr = usize::try_from(mapping.addr.get())?;
        Ok(Self { addr, frame: mapping.frame.clone(), rights: mapping.prot.into() })
    }
}

impl UserCopy for LinuxKernel {
    fn from_guest(dst: &mut [u8], src: GuestAddr) -> usize {
        usize::try_from(src.get()).map_or(0, |src| user_copy::from_guest(dst, src))
    }

    fn to_guest(dst: GuestAddr, src: &[u8]) -> usize {
        usize::try_from(dst.get()).map_or(0, |dst| user_copy::to_guest(dst, src))
    }
}
