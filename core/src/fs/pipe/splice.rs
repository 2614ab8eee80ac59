//! Moving bytes between a pipe and something else without a copy through a guest. See splice(2), tee(2), vmsplice(2).
//!
//! Whoever carries bytes out of a pipe takes them as its own while it hands them on (`Ring::taken`), and whoever carries bytes in
//! keeps room for them first: the other side may wait or fail, and nothing is lost and no lock held meanwhile. The bytes go through
//! a small buffer; a later change of the file that they came from is not seen. Source: Linux fs/splice.c.

use super::Pipe;
use crate::fs::file::File;
use crate::fs::inode::Blocking;
use crate::fs::types::Ready;
use crate::platform::Platform;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes that are carried at once.
const CHUNK: usize = 16 * 1024;

fn buffer(len: usize) -> Result<Vec<u8>> {
    let len = len.min(CHUNK);
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| errno!(NOMEM))?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// The bytes of a pipe, taken by one who carries them elsewhere; another may have what is left when this ends.
struct Taken<'a, P: Platform>(&'a Pipe<P>);

impl<P: Platform> Drop for Taken<'_, P> {
    fn drop(&mut self) {
        self.0.ring.lock().taken = false;
        self.0.readable.wake(Ready::IN);
    }
}

/// Room in a pipe that is kept for one who fetches bytes.
struct Kept<'a, P: Platform> {
    pipe: &'a Pipe<P>,
    room: usize,
}

impl<P: Platform> Kept<'_, P> {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut ring = self.pipe.ring.lock();
        ring.unreserve(bytes.len());
        self.room = self.room.saturating_sub(bytes.len());
        ring.push(&self.pipe.quota, bytes)?;
        drop(ring);
        self.pipe.readable.wake(Ready::IN);
        Ok(())
    }
}

impl<P: Platform> Drop for Kept<'_, P> {
    fn drop(&mut self) {
        self.pipe.ring.lock().unreserve(self.room);
        self.pipe.writable.wake(Ready::OUT);
    }
}

impl<P: Platform> Pipe<P> {
    /// The pipe that `file` is an end of.
    #[must_use]
    pub fn of(file: &File<P>) -> Option<Arc<Self>> {
        let end = Arc::clone(file.ops()).into_any()?.downcast::<super::End<P>>().ok()?;
        Some(Arc::clone(&end.pipe))
    }

    /// Takes the bytes, if there are any and nobody else has them; the count is what there was.
    fn take(&self) -> Option<(Taken<'_, P>, usize)> {
        // A reader that is about to take what it saw is waited for.
        let _reads = self.reads.lock();
        let mut ring = self.ring.lock();
        let len = ring.available();
        if len == 0 {
            return None;
        }
        ring.taken = true;
        drop(ring);
        Some((Taken(self), len))
    }

    /// Keeps room for at most `most` bytes, if there is any.
    fn keep(&self, most: usize) -> Option<Result<Kept<'_, P>>> {
        let mut ring = self.ring.lock();
        let room = match ring.to_fill()? {
            Ok(room) => room.min(most),
            Err(error) => return Some(Err(error)),
        };
        ring.reserve(room);
        drop(ring);
        Some(Ok(Kept { pipe: self, room }))
    }

    /// Hands up to `most` of its bytes to `write`, which answers how many it took; returns how many went. 0: there are none, and
    /// nobody who could write any.
    ///
    /// # Errors
    /// `AGAIN`: none are there, and it may not wait. Those of `write`, if nothing went. `NOMEM`, `Interrupted`.
    pub fn pour(&self, most: usize, blocking: Blocking, mut write: impl FnMut(&[u8]) -> Result<usize>) -> Result<usize> {
        let mut buffer = buffer(most)?;
        let attempt = || match self.take() {
            Some(taken) => Some(Ok(Some(taken))),
            None => (self.ring.lock().to_have() == Some(0)).then_some(Ok(None)),
        };
        let Some((_taken, len)) = self.readable.until(blocking, None, attempt)? else { return Ok(0) };
        let (most, mut poured) = (most.min(len), 0usize);
        while poured < most {
            let want = most.saturating_sub(poured).min(CHUNK);
            let found = self.fetch(0, buffer.get_mut(..want).unwrap_or_default());
            match write(buffer.get(..found).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => {
                    self.consume(count);
                    poured = poured.saturating_add(count);
                }
                Err(error) => return if poured > 0 { Ok(poured) } else { Err(error) },
            }
        }
        Ok(poured)
    }

    /// Copies what is there from byte `skip` on to `out`; returns how much.
    fn fetch(&self, skip: usize, out: &mut [u8]) -> usize {
        let ring = self.ring.lock();
        let mut found = 0usize;
        while let Some(rest) = out.get_mut(found..).filter(|rest| !rest.is_empty()) {
            match ring.peek(skip.saturating_add(found), rest) {
                0 => break,
                count => found = found.saturating_add(count),
            }
        }
        found
    }

    /// Puts up to `most` bytes that `read` gives, as many as there is room for; ends when `read` gives less than it was asked for.
    ///
    /// # Errors
    /// `PIPE`: nobody reads. `AGAIN`: there is no room, and it may not wait. Those of `read`, if nothing came. `NOMEM`, `Interrupted`.
    pub fn fill(&self, most: usize, blocking: Blocking, mut read: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
        let mut buffer = buffer(most)?;
        let mut kept = self.writable.until(blocking, None, || self.keep(most))?;
        let mut filled = 0usize;
        while kept.room > 0 {
            let want = kept.room.min(buffer.len());
            let got = read(buffer.get_mut(..want).unwrap_or_default());
            let done = got.and_then(|got| kept.push(buffer.get(..got).unwrap_or_default()).map(|()| got));
            match done {
                Ok(got) => {
                    filled = filled.saturating_add(got);
                    if got < want {
                        break;
                    }
                }
                Err(error) => return if filled > 0 { Ok(filled) } else { Err(error) },
            }
        }
        Ok(filled)
    }

    /// Moves up to `most` bytes to `other`, a different pipe; returns how many. 0: there are none, and nobody who could write any.
    ///
    /// # Errors
    /// `AGAIN`, `PIPE`: as [`Self::pour`] and [`Self::fill`]. `NOMEM`, `Interrupted`.
    pub fn splice(&self, other: &Self, most: usize, blocking: Blocking) -> Result<usize> {
        self.carry(other, most, blocking, true)
    }

    /// Copies up to `most` bytes to `other`, a different pipe, and leaves them here; returns how many. See tee(2).
    ///
    /// # Errors
    /// As [`Self::splice`].
    pub fn tee(&self, other: &Self, most: usize, blocking: Blocking) -> Result<usize> {
        self.carry(other, most, blocking, false)
    }

    /// Copies up to `most` bytes to `other` and, if `and_take`, takes them away here.
    fn carry(&self, other: &Self, most: usize, blocking: Blocking, and_take: bool) -> Result<usize> {
        loop {
            if !self.both_ready(other, blocking)? {
                return Ok(0);
            }
            // Nothing is waited for with the one in hand: two that splice in opposite directions would wait for each other.
            let Some((_taken, len)) = self.take() else { continue };
            let Some(kept) = other.keep(most.min(len)) else { continue };
            return self.hand_over(&mut kept?, and_take);
        }
    }

    /// Waits until there are bytes here and room in `other`; `false`: there are none, and none will come.
    fn both_ready(&self, other: &Self, blocking: Blocking) -> Result<bool> {
        let found = self.readable.until(blocking, None, || self.ring.lock().to_have().map(Ok))?;
        if found == 0 {
            return Ok(false);
        }
        other.writable.until(blocking, None, || other.ring.lock().to_fill()).map(|_| true)
    }

    /// Fills the room that is kept in another pipe with the first bytes of this one.
    fn hand_over(&self, kept: &mut Kept<'_, P>, and_take: bool) -> Result<usize> {
        let mut buffer = buffer(kept.room)?;
        let mut moved = 0usize;
        while kept.room > 0 {
            let want = kept.room.min(buffer.len());
            let found = self.fetch(if and_take { 0 } else { moved }, buffer.get_mut(..want).unwrap_or_default());
            let Some(part) = buffer.get(..found).filter(|part| !part.is_empty()) else { break };
            match kept.push(part) {
                Err(error) => return if moved > 0 { Ok(moved) } else { Err(error) },
                Ok(()) if and_take => self.consume(found),
                Ok(()) => {}
            }
            moved = moved.saturating_add(found);
        }
        Ok(moved)
    }
}
