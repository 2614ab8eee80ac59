//! Access to the memory of the guest that runs now; the only caller of the platform's `UserCopy`.
//!
//! A guest's memory changes while it is read: each type here is consumed by its one use, so that reading twice takes a visible
//! act. Invariants: nothing at or above [`GUEST_END`] is touched; a fault after some bytes gives the count, not the error.
//! Locks: none may be held that a page fault takes: see [`crate::sync::order`].
//! Hostile input: addresses, lengths and all that is read.

use super::addr::{GUEST_END, GuestAddr, PAGE_BYTES};
use crate::errno;
use crate::error::{Error, Result};
use crate::platform::UserCopy;
use alloc::vec::{IntoIter, Vec};
use core::fmt;
use core::marker::PhantomData;

/// The most that one read(2) or write(2) moves. Linux: `MAX_RW_COUNT`.
pub const MAX_IO: usize = 0x7fff_f000;

/// Bytes of `len` that lie below the end of guest memory, from `addr`.
#[inline]
fn below_end(addr: GuestAddr, len: usize) -> usize {
    let room = GUEST_END.saturating_sub(addr.get());
    usize::try_from(room).map_or(len, |room| room.min(len))
}

/// Copies from guest memory; returns how many bytes came before what a guest cannot have mapped or a fault that could not be
/// resolved. All other reads of guest memory are made of this.
#[must_use]
pub fn copy_in<P: UserCopy>(dst: &mut [u8], src: GuestAddr) -> usize {
    let len = below_end(src, dst.len());
    match dst.get_mut(..len) {
        Some(dst) if !dst.is_empty() => P::from_guest(dst, src).min(len),
        Some(_) | None => 0,
    }
}

/// Copies to guest memory; returns how many bytes went before what a guest cannot have mapped or a fault that could not be
/// resolved. All other writes of guest memory are made of this.
#[must_use]
pub fn copy_out<P: UserCopy>(dst: GuestAddr, src: &[u8]) -> usize {
    let len = below_end(dst, src.len());
    match src.get(..len) {
        Some(src) if !src.is_empty() => P::to_guest(dst, src).min(len),
        Some(_) | None => 0,
    }
}

/// As [`copy_out`], of `len` bytes of `frame` from `offset` on, or as many as it has.
#[must_use]
pub fn copy_frame_out<P: UserCopy>(dst: GuestAddr, frame: &P::Frame, offset: usize, len: usize) -> usize {
    let len = below_end(dst, len.min(PAGE_BYTES.saturating_sub(offset)));
    if len > 0 { P::frame_to_guest(dst, frame, offset, len).min(len) } else { 0 }
}

/// As [`copy_in`], to the `len` bytes of `frame` from `offset` on, or as many as it has.
#[must_use]
pub fn copy_frame_in<P: UserCopy>(frame: &P::Frame, offset: usize, src: GuestAddr, len: usize) -> usize {
    let len = below_end(src, len.min(PAGE_BYTES.saturating_sub(offset)));
    if len > 0 { P::guest_to_frame(frame, offset, src, len).min(len) } else { 0 }
}

fn fault() -> Error {
    errno!(FAULT, "not in the guest's memory")
}

/// Reads `dst` whole from `src`.
///
/// # Errors
/// `FAULT`: not all could be read.
pub fn read_exact<P: UserCopy>(src: GuestAddr, dst: &mut [u8]) -> Result<()> {
    if copy_in::<P>(dst, src) == dst.len() { Ok(()) } else { Err(fault()) }
}

/// Writes `src` whole to `dst`.
///
/// # Errors
/// `FAULT`: not all could be written; a part may have been.
pub fn write_all<P: UserCopy>(dst: GuestAddr, src: &[u8]) -> Result<()> {
    if copy_out::<P>(dst, src) == src.len() { Ok(()) } else { Err(fault()) }
}

/// A structure of `N` bytes in guest memory, to be read once or written once.
pub struct UserBytes<P, const N: usize> {
    addr: GuestAddr,
    platform: PhantomData<fn() -> P>,
}

impl<P, const N: usize> fmt::Debug for UserBytes<P, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.addr)
    }
}

impl<P: UserCopy, const N: usize> UserBytes<P, N> {
    /// The structure at `addr`, or `None` for a null pointer.
    #[must_use]
    pub fn optional(addr: GuestAddr) -> Option<Self> {
        (addr.get() != 0).then(|| Self::new(addr))
    }

    /// The structure at `addr`.
    #[must_use]
    pub const fn new(addr: GuestAddr) -> Self {
        Self { addr, platform: PhantomData }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// `FAULT`.
    pub fn read(self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        read_exact::<P>(self.addr, &mut bytes)?;
        Ok(bytes)
    }

    /// Replaces its bytes.
    ///
    /// # Errors
    /// `FAULT`; a part may have been written.
    pub fn write(self, bytes: &[u8; N]) -> Result<()> {
        write_all::<P>(self.addr, bytes)
    }
}

/// A range of guest memory to read from.
#[derive(Debug)]
pub struct UserIn {
    addr: GuestAddr,
    len: usize,
}

impl UserIn {
    /// `len` bytes at `addr`, which a guest claims to have.
    #[must_use]
    pub const fn new(addr: GuestAddr, len: usize) -> Self {
        Self { addr, len }
    }

    /// How many bytes are claimed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none are.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Starts to read.
    #[must_use]
    pub fn reader<P: UserCopy>(self) -> UserReader<P> {
        UserReader::new(self)
    }

    /// All of it, if it is at most `max` bytes.
    ///
    /// # Errors
    /// `INVAL`: longer. `NOMEM`: no memory. `FAULT`.
    pub fn to_vec<P: UserCopy>(self, max: usize) -> Result<Vec<u8>> {
        if self.len > max {
            return Err(errno!(INVAL, "longer than allowed"));
        }
        let mut bytes = zeros(self.len)?;
        read_exact::<P>(self.addr, &mut bytes)?;
        Ok(bytes)
    }
}

/// A range of guest memory to write to.
#[derive(Debug)]
pub struct UserOut {
    addr: GuestAddr,
    len: usize,
}

impl UserOut {
    /// `len` bytes at `addr`, which a guest claims to have.
    #[must_use]
    pub const fn new(addr: GuestAddr, len: usize) -> Self {
        Self { addr, len }
    }

    /// How many bytes are claimed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none are.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Starts to write.
    #[must_use]
    pub fn writer<P: UserCopy>(self) -> UserWriter<P> {
        UserWriter::new(self)
    }
}

/// A cursor over one or more ranges: what both directions have in common.
#[derive(Debug)]
struct Cursor {
    addr: GuestAddr,
    here: usize,
    rest: IntoIter<(GuestAddr, usize)>,
    left: usize,
    done: usize,
}

impl Cursor {
    /// Over `ranges`, of which no more than [`MAX_IO`] bytes count.
    fn new(addr: GuestAddr, here: usize, rest: Vec<(GuestAddr, usize)>) -> Self {
        let left = rest.iter().fold(here, |sum, (_, len)| sum.saturating_add(*len)).min(MAX_IO);
        Self { addr, here, rest: rest.into_iter(), left, done: 0 }
    }

    /// The address of the next byte and how many lie there, at most `want`; 0 at the end.
    fn next(&mut self, want: usize) -> (GuestAddr, usize) {
        while self.here == 0 && self.left > 0 {
            let Some((addr, len)) = self.rest.next() else { break };
            (self.addr, self.here) = (addr, len);
        }
        (self.addr, self.here.min(self.left).min(want))
    }

    fn advance(&mut self, by: usize) {
        // A copy succeeded up to there, so it does not wrap.
        self.addr = GuestAddr::new(self.addr.get().saturating_add(by as u64));
        self.here = self.here.saturating_sub(by);
        self.left = self.left.saturating_sub(by);
        self.done = self.done.saturating_add(by);
    }

    /// Copies by `copy(address, offset, length) -> copied` until `len` bytes are done or the end or a fault is met.
    fn run(&mut self, len: usize, mut copy: impl FnMut(GuestAddr, usize, usize) -> usize) -> Result<usize> {
        let mut done: usize = 0;
        loop {
            let (addr, chunk) = self.next(len.saturating_sub(done));
            if chunk == 0 {
                return Ok(done);
            }
            let copied = copy(addr, done, chunk).min(chunk);
            self.advance(copied);
            done = done.saturating_add(copied);
            if copied < chunk {
                return if done == 0 { Err(fault()) } else { Ok(done) };
            }
        }
    }
}

/// Reads guest memory, each byte once.
#[derive(Debug)]
pub struct UserReader<P> {
    cursor: Cursor,
    platform: PhantomData<fn() -> P>,
}

impl<P: UserCopy> UserReader<P> {
    fn new(range: UserIn) -> Self {
        Self { cursor: Cursor::new(range.addr, range.len, Vec::new()), platform: PhantomData }
    }

    /// Over several ranges, one behind the other, as readv(2) and its kin name them.
    #[must_use]
    pub fn gather(ranges: Vec<(GuestAddr, usize)>) -> Self {
        Self { cursor: Cursor::new(GuestAddr::default(), 0, ranges), platform: PhantomData }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.cursor.left
    }

    /// Bytes read.
    #[must_use]
    pub fn done(&self) -> usize {
        self.cursor.done
    }

    /// Reads into `dst`; returns how many bytes, fewer at the end or before a fault.
    ///
    /// # Errors
    /// `FAULT`: there was something to read, and nothing could be.
    pub fn read(&mut self, dst: &mut [u8]) -> Result<usize> {
        self.cursor.run(dst.len(), |addr, at, len| {
            let end = at.saturating_add(len);
            dst.get_mut(at..end).map_or(0, |dst| copy_in::<P>(dst, addr))
        })
    }
}

/// Writes guest memory, in order.
#[derive(Debug)]
pub struct UserWriter<P> {
    cursor: Cursor,
    platform: PhantomData<fn() -> P>,
}

impl<P: UserCopy> UserWriter<P> {
    fn new(range: UserOut) -> Self {
        Self { cursor: Cursor::new(range.addr, range.len, Vec::new()), platform: PhantomData }
    }

    /// Over several ranges, one behind the other.
    #[must_use]
    pub fn scatter(ranges: Vec<(GuestAddr, usize)>) -> Self {
        Self { cursor: Cursor::new(GuestAddr::default(), 0, ranges), platform: PhantomData }
    }

    /// Bytes for which there is room.
    #[must_use]
    pub fn left(&self) -> usize {
        self.cursor.left
    }

    /// Bytes written.
    #[must_use]
    pub fn done(&self) -> usize {
        self.cursor.done
    }

    /// Writes `src`; returns how many bytes, fewer when the room ends or before a fault.
    ///
    /// # Errors
    /// `FAULT`: there was something to write and room for it, and nothing could be.
    pub fn write(&mut self, src: &[u8]) -> Result<usize> {
        self.cursor.run(src.len(), |addr, at, len| {
            let end = at.saturating_add(len);
            src.get(at..end).map_or(0, |src| copy_out::<P>(addr, src))
        })
    }

    /// Writes `len` zeros, or as many as there is room for.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_zeros(&mut self, len: usize) -> Result<usize> {
        const ZEROS: [u8; 256] = [0; 256];
        self.cursor.run(len, |addr, _, len| {
            let mut done = 0;
            while done < len {
                let want = len.saturating_sub(done).min(ZEROS.len());
                let Ok(at) = addr.plus(done as u64) else { break };
                let copied = copy_out::<P>(at, ZEROS.get(..want).unwrap_or_default());
                done = done.saturating_add(copied);
                if copied < want {
                    break;
                }
            }
            done
        })
    }
}

/// A string in guest memory that ends with a zero byte.
#[derive(Debug)]
pub struct UserCStr {
    addr: GuestAddr,
}

impl UserCStr {
    /// The string at `addr`.
    #[must_use]
    pub const fn new(addr: GuestAddr) -> Self {
        Self { addr }
    }

    /// Whether it is a null pointer.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.addr.get() == 0
    }

    /// Its bytes without the zero; `max` counts the zero.
    ///
    /// # Errors
    /// `NAMETOOLONG`: no zero within `max` bytes. `FAULT`: not readable up to it. `NOMEM`: no memory.
    pub fn read<P: UserCopy>(self, max: usize) -> Result<Vec<u8>> {
        let mut string = Vec::new();
        let mut addr = self.addr;
        let mut chunk = [0; 128];
        while string.len() < max {
            // Never past the page: the string may end before the next one, which need not be there.
            let room = PAGE_BYTES.saturating_sub(addr.offset_in_page());
            let want = room.min(max.saturating_sub(string.len())).min(chunk.len());
            let copied = chunk.get_mut(..want).map_or(0, |dst| copy_in::<P>(dst, addr));
            let read = chunk.get(..copied).unwrap_or_default();
            let text = read.split(|byte| *byte == 0).next().unwrap_or_default();
            string.try_reserve(text.len()).map_err(|_| errno!(NOMEM, "no memory for a string"))?;
            string.extend_from_slice(text);
            if text.len() < read.len() {
                return Ok(string);
            }
            if copied < want {
                return Err(fault());
            }
            addr = addr.plus(copied as u64)?;
        }
        Err(errno!(NAMETOOLONG, "no end within the limit"))
    }
}

/// `len` zero bytes, allocated fallibly.
fn zeros(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| errno!(NOMEM, "no memory for a copy"))?;
    bytes.resize(len, 0);
    Ok(bytes)
}
