//! Messages: sending and receiving, with files and credentials beside the bytes.
//!
//! Invariants: a message's bytes and files are charged before they are made; a datagram goes in whole or not at all. Guest memory is
//! copied without a state's lock: a sender copies before it enters the message, a receiver holds `reads` and takes bytes off
//! afterwards, so what a fault kept from arriving stays.

use super::{Address, Identity, Socket, SocketKind};
use crate::fs::file::File;
use crate::fs::inode::{Blocking, IoCx};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::types::Ready;
use crate::platform::Platform;
use crate::quota::Charge;
use crate::{errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;

/// Bytes that wait in one socket before senders wait too. Linux: `net.core.rmem_default`.
pub(super) const CAPACITY: usize = 212_992;
/// Bytes of one message of a stream.
const CHUNK: usize = 32 * 1024;
/// What a message is charged beside its bytes.
const MESSAGE_COST: u64 = 256;
/// What a file in flight is charged: as much as a descriptor.
const FILE_COST: u64 = 1024;

bitflags! {
    /// How a message is received. See recv(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct RecvFlags: u32 {
        /// It stays.
        const PEEK = 1 << 0;
        /// Wait for all that there is room for.
        const WAIT_ALL = 1 << 1;
    }
}

/// Who sends what beside bytes, and where.
#[derive(Debug)]
pub struct Sending<P: Platform> {
    /// Who.
    pub identity: Identity,
    /// Files that go along.
    pub files: Vec<Arc<File<P>>>,
    /// To whom; the peer if that is `None`.
    pub to: Option<Arc<Socket<P>>>,
}

/// What was received beside bytes.
#[derive(Debug)]
pub struct Received<P: Platform> {
    /// Bytes that were put.
    pub count: usize,
    /// Bytes of the message.
    pub full: usize,
    /// Files that came along.
    pub files: Vec<Arc<File<P>>>,
    /// Who sent it.
    pub identity: Identity,
    /// From where.
    pub from: Address,
}

/// Bytes on their way.
struct Data {
    bytes: Vec<u8>,
    _charge: Charge,
}

/// One message.
pub(super) struct Message<P: Platform> {
    data: Arc<Data>,
    /// How much of it was received already.
    done: usize,
    pub(super) files: Vec<Arc<File<P>>>,
    identity: Identity,
    from: Address,
}

impl<P: Platform> Message<P> {
    /// Bytes that are left of it.
    pub(super) fn left(&self) -> usize {
        self.data.bytes.len().saturating_sub(self.done)
    }
}

impl<P: Platform> Socket<P> {
    /// Copies the next `len` bytes of `src`, or as many as can be.
    fn data(&self, src: &mut IoSrc<'_, P>, len: usize, files: usize) -> Result<Arc<Data>> {
        let wanted = u64::try_from(len).unwrap_or(u64::MAX);
        let files = u64::try_from(files).unwrap_or(u64::MAX).saturating_mul(FILE_COST);
        let charge = self.net()?.quota.charge(MESSAGE_COST.saturating_add(wanted).saturating_add(files))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| errno!(NOMEM))?;
        bytes.resize(len, 0);
        let taken = src.take(&mut bytes);
        bytes.truncate(taken);
        Ok(Arc::new(Data { bytes, _charge: charge }))
    }

    /// Sends from `src`. See sendmsg(2).
    ///
    /// # Errors
    /// - `NOTCONN`, `DESTADDRREQ`: to whom?  - `PIPE`: it was shut, or the peer receives no more.  - `CONNREFUSED`: the other has ended.
    /// - `MSGSIZE`: more than a message holds.  - `AGAIN`: it would wait and may not.  - `FAULT`, `NOMEM`.
    /// - [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn send(&self, src: &mut IoSrc<'_, P>, mut sending: Sending<P>, cx: IoCx) -> Result<usize> {
        let to = self.target(sending.to.take())?;
        if self.kind() == SocketKind::Datagram {
            self.may_send(&to)?;
        }
        if self.kind() != SocketKind::Stream {
            if src.remaining() > CAPACITY {
                return Err(errno!(MSGSIZE));
            }
            let len = src.remaining();
            let data = self.data(src, len, sending.files.len())?;
            if data.bytes.len() < len {
                return Err(errno!(FAULT));
            }
            self.enter(&to, data, &mut sending.files, sending.identity, cx)?;
            return Ok(len);
        }
        let mut sent = 0usize;
        while src.remaining() > 0 {
            let len = src.remaining().min(CHUNK);
            let entered = self.data(src, len, sending.files.len()).and_then(|data| {
                let len = data.bytes.len();
                if len == 0 { Ok(0) } else { self.enter(&to, data, &mut sending.files, sending.identity, cx).map(|()| len) }
            });
            match entered {
                Ok(0) => break,
                Ok(count) => sent = sent.saturating_add(count),
                Err(error) => return if sent > 0 { Ok(sent) } else { Err(error) },
            }
        }
        if sent == 0 && src.faulted() { Err(errno!(FAULT)) } else { Ok(sent) }
    }

    /// Who gets what is sent.
    fn target(&self, to: Option<Arc<Self>>) -> Result<Arc<Self>> {
        let state = self.state.lock();
        if state.shut_write {
            return Err(errno!(PIPE, "it was shut"));
        }
        if let Some(to) = to {
            if self.kind() != SocketKind::Datagram {
                return Err(if state.is_connected() { errno!(ISCONN) } else { errno!(OPNOTSUPP, "a stream has one peer") });
            }
            if to.kind() != self.kind() {
                return Err(errno!(PROTOTYPE, "of another kind"));
            }
            return Ok(to);
        }
        match &state.peer {
            None if state.peer_gone => Err(errno!(PIPE, "the peer has ended")),
            None => Err(errno!(NOTCONN)),
            Some(peer) => match peer.upgrade() {
                Some(peer) => Ok(peer),
                None if self.kind() == SocketKind::Datagram => Err(errno!(CONNREFUSED, "the other has ended")),
                None => Err(errno!(PIPE, "the peer has ended")),
            },
        }
    }

    /// Enters a message at `to`; waits for room if it may.
    fn enter(&self, to: &Arc<Self>, data: Arc<Data>, files: &mut Vec<Arc<File<P>>>, identity: Identity, cx: IoCx) -> Result<()> {
        let from = self.state.lock().address.clone();
        let attempt = || {
            let is_shut = self.state.lock().shut_write;
            let mut state = to.state.lock();
            if state.is_closed && self.kind() == SocketKind::Datagram {
                return Some(Err(errno!(CONNREFUSED, "the other has ended")));
            }
            if is_shut || state.shut_read || state.is_closed {
                return Some(Err(errno!(PIPE, "nobody receives")));
            }
            if !state.has_room() {
                return None;
            }
            if state.inbox.try_reserve(1).is_err() {
                return Some(Err(errno!(NOMEM)));
            }
            state.bytes = state.bytes.saturating_add(data.bytes.len());
            let (data, files, from) = (Arc::clone(&data), core::mem::take(files), from.clone());
            state.inbox.push_back(Message { data, done: 0, files, identity, from });
            Some(Ok(()))
        };
        let done = to.room.until(cx.blocking, self.deadline(0), attempt);
        if done.is_ok() {
            to.changed.wake(Ready::IN);
        }
        done
    }

    /// Receives into `dst`. See recvmsg(2).
    ///
    /// # Errors
    /// - `NOTCONN`, `INVAL`: it has no peer.  - `CONNRESET`: the peer ended before it had read all.
    /// - `AGAIN`: nothing is there, and it may not wait.  - `FAULT`.
    /// - [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn receive(&self, dst: &mut IoDst<'_, P>, flags: RecvFlags, cx: IoCx) -> Result<Received<P>> {
        let (start, mut got) = (dst.done(), None::<Received<P>>);
        loop {
            // Every look is a step of its own, so that somebody else may be served between two.
            match self.look(dst, flags, got.as_ref()) {
                Some(Ok(mut received)) => {
                    received.count = dst.done().saturating_sub(start);
                    let is_whole = dst.remaining() == 0 || dst.faulted() || !received.files.is_empty();
                    let wants_more = flags.contains(RecvFlags::WAIT_ALL) && !flags.contains(RecvFlags::PEEK);
                    if is_whole || !wants_more || self.kind() != SocketKind::Stream || received.full == 0 {
                        return if received.count == 0 && dst.faulted() { Err(errno!(FAULT)) } else { Ok(received) };
                    }
                    got = Some(received);
                }
                Some(Err(error)) => return got.ok_or(error),
                None if cx.blocking == Blocking::No => return got.ok_or(errno!(AGAIN)),
                None => {
                    let ready = || (!self.state.lock().inbox.is_empty() || self.end(false).is_some()).then_some(());
                    match self.changed.queue.wait_until(self.deadline(1), ready) {
                        Ok(Some(())) => {}
                        Ok(None) => return got.ok_or(errno!(AGAIN)),
                        Err(error) => return got.ok_or(error),
                    }
                }
            }
        }
    }

    /// What there is instead of a message when none will come: the end, or an error; `take` takes an error that is told once.
    fn end(&self, take: bool) -> Option<Result<()>> {
        let mut state = self.state.lock();
        if state.was_reset {
            state.was_reset = !take;
            return Some(Err(errno!(CONNRESET, "the peer ended before it had read all")));
        }
        if state.peer_done || state.shut_read {
            return Some(Ok(()));
        }
        match self.kind() {
            SocketKind::Stream if !state.is_connected() => Some(Err(errno!(INVAL, "no peer"))),
            SocketKind::SeqPacket if !state.is_connected() => Some(Err(errno!(NOTCONN))),
            _ => None,
        }
    }

    /// Moves what there is to `dst`; `None` if nothing is there yet. `before` is what was received already.
    fn look(&self, dst: &mut IoDst<'_, P>, flags: RecvFlags, before: Option<&Received<P>>) -> Option<Result<Received<P>>> {
        // Files that are not passed on go after the lock: the last reference to a terminal's master hangs that up.
        let mut unwanted = Vec::new();
        let _reads = self.reads.lock();
        let peek = flags.contains(RecvFlags::PEEK);
        let mut received = None::<Received<P>>;
        let mut skip = 0usize;
        loop {
            let front = {
                let state = self.state.lock();
                state.inbox.get(skip).map(|message| {
                    let files = if peek { message.files.clone() } else { Vec::new() };
                    (
                        Arc::clone(&message.data),
                        message.done,
                        message.identity,
                        message.from.clone(),
                        files,
                        !message.files.is_empty(),
                    )
                })
            };
            let Some((data, done, identity, from, files, has_files)) = front else { break };
            // A stream's messages run together unless files or another sender come with the next.
            let other = received.as_ref().or(before);
            if other.is_some_and(|former| has_files || former.identity != identity) && self.kind() == SocketKind::Stream {
                break;
            }
            let bytes = data.bytes.get(done..).unwrap_or_default();
            let put = dst.put(bytes);
            if put == 0 && !bytes.is_empty() && self.kind() == SocketKind::Stream {
                // Nothing arrives: it all stays, files too.
                unwanted.extend(files);
                received = received.or(Some(Received { count: 0, full: bytes.len(), files: Vec::new(), identity, from }));
                break;
            }
            let taken = if self.kind() == SocketKind::Stream { put } else { bytes.len() };
            let files = if peek { files } else { self.take_off(taken) };
            let full = received.as_ref().map_or(0, |former| former.full).saturating_add(bytes.len());
            let count = received.as_ref().map_or(0, |former| former.count).saturating_add(put);
            received = Some(Received { count, full, files, identity, from });
            if self.kind() != SocketKind::Stream || has_files || put < bytes.len() || dst.remaining() == 0 {
                break;
            }
            skip = skip.saturating_add(usize::from(peek));
        }
        if received.is_some() {
            if !peek {
                self.room.wake(Ready::OUT);
            }
            return received.map(Ok);
        }
        let nothing = Received { count: 0, full: 0, files: Vec::new(), identity: Identity::default(), from: Address::Unnamed };
        Some(self.end(true)?.map(|()| nothing))
    }

    /// Takes `count` bytes off the first message, and all of its files; the message too, when nothing is left of it.
    fn take_off(&self, count: usize) -> Vec<Arc<File<P>>> {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(count);
        let Some(message) = state.inbox.front_mut() else { return Vec::new() };
        message.done = message.done.saturating_add(count);
        let files = core::mem::take(&mut message.files);
        let gone = if message.left() == 0 { state.inbox.pop_front() } else { None };
        drop(state);
        drop(gone);
        files
    }
}
