//! Page frames, tables and copies for the library OS, over this platform's own `mm`.

use super::WindowsKernel;
use crate::carrier;
use crate::mm::frame::Frame;
use crate::mm::space::{Space, in_page};
use litebox_core::mm::{Access, AddressSpace, FaultOutcome, GuestAddr, PageRange};
use litebox_core::platform::{Frames, Mapping, UserCopy};

impl Frames for WindowsKernel {
    type Frame = Frame;
    type Space = Space;

    fn zeroed_frame() -> Option<Frame> {
        Frame::zeroed()
    }

    fn new_space() -> Option<Space> {
        Space::new()
    }

    fn fill<'a>(space: &Space, _range: PageRange, mappings: impl Iterator<Item = Mapping<'a, Frame>>) -> bool {
        space.fill(mappings)
    }

    fn replace(space: &Space, mapping: &Mapping<'_, Frame>) -> bool {
        space.replace(mapping)
    }

    fn unmap(space: &Space, start: GuestAddr, end: GuestAddr) {
        space.unmap(start, end);
    }
}

/// Tries `copy` until it succeeds or a fault that it takes cannot be resolved.
fn touch(mm: &AddressSpace<WindowsKernel>, at: GuestAddr, access: Access, mut copy: impl FnMut(&Space) -> bool) -> bool {
    // A guest that takes the page away again and again hinders itself alone, and a killed one ends.
    loop {
        if copy(mm.host()) {
            return true;
        }
        if mm.fault(at, access) != FaultOutcome::Resolved || carrier::killed() {
            return false;
        }
    }
}

impl UserCopy for WindowsKernel {
    /// IRQL: `PASSIVE_LEVEL`.
    fn from_guest(dst: &mut [u8], src: GuestAddr) -> usize {
        let Some(mm) = carrier::mm() else { return 0 };
        let (mut done, mut rest) = (0, dst);
        while !rest.is_empty() {
            let Ok(at) = src.plus(done as u64) else { break };
            let (part, after) = rest.split_at_mut(in_page(at, rest.len()));
            if !touch(&mm, at, Access::Read, |space| space.read(at, part)) {
                break;
            }
            done += part.len();
            rest = after;
        }
        done
    }

    /// IRQL: `PASSIVE_LEVEL`.
    fn to_guest(dst: GuestAddr, src: &[u8]) -> usize {
        let Some(mm) = carrier::mm() else { return 0 };
        let (mut done, mut rest) = (0, src);
        while !rest.is_empty() {
            let Ok(at) = dst.plus(done as u64) else { break };
            let (part, after) = rest.split_at(in_page(at, rest.len()));
            if !touch(&mm, at, Access::Write, |space| space.write(at, part)) {
                break;
            }
            done += part.len();
            rest = after;
        }
        done
    }

    /// IRQL: `PASSIVE_LEVEL`.
    fn frame_to_guest(dst: GuestAddr, frame: &Frame, offset: usize, len: usize) -> usize {
        let Some(mm) = carrier::mm() else { return 0 };
        let mut done = 0;
        while done < len {
            let Ok(at) = dst.plus(done as u64) else { break };
            let part = in_page(at, len - done);
            if !touch(&mm, at, Access::Write, |space| space.write_from(at, frame, offset + done, part)) {
                break;
            }
            done += part;
        }
        done
    }

    /// IRQL: `PASSIVE_LEVEL`.
    fn guest_to_frame(frame: &Frame, offset: usize, src: GuestAddr, len: usize) -> usize {
        let Some(mm) = carrier::mm() else { return 0 };
        let mut done = 0;
        while done < len {
            let Ok(at) = src.plus(done as u64) else { break };
            let part = in_page(at, len - done);
            if !touch(&mm, at, Access::Read, |space| space.read_to(at, frame, offset + done, part)) {
                break;
            }
            done += part;
        }
        done
    }
}
