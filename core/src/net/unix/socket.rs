//! One socket: its name, its peer, its state.
//!
//! Invariants: a connected stream's or packet socket's peer is the socket whose peer it is, until one ends; only a listening
//! socket has a backlog. Whoever changes a state wakes `changed` afterwards, or `room` where only who sends to it is concerned.

use super::transfer::{CAPACITY, Message};
use super::{Address, Key, UnixNet};
use crate::fs::file::File;
use crate::fs::inode::{Blocking, IoCx};
use crate::fs::poll::PollSource;
use crate::fs::types::{InodeId, Ready};
use crate::platform::Platform;
use crate::quota::Charge;
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

/// What a socket is charged.
const COST: u64 = 1024;
/// Connections that may wait to be accepted. Linux: `net.core.somaxconn`.
const BACKLOG_MAX: usize = 4096;

/// What a socket transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Bytes.
    Stream,
    /// Messages, to anybody.
    Datagram,
    /// Messages, to a peer.
    SeqPacket,
}

/// A process, as its peers see it. See unix(7), `SO_PEERCRED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// What shutdown(2) ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Receiving.
    Read,
    /// Sending.
    Write,
    /// Both.
    Both,
}

pub(super) struct Backlog<P: Platform> {
    pub(super) waiting: VecDeque<Arc<Socket<P>>>,
    max: usize,
}

pub(super) struct State<P: Platform> {
    pub(super) address: Address,
    key: Option<Key>,
    pub(super) peer: Option<Weak<Socket<P>>>,
    peer_address: Address,
    peer_identity: Identity,
    pub(super) backlog: Option<Backlog<P>>,
    pub(super) inbox: VecDeque<Message<P>>,
    /// Bytes in it.
    pub(super) bytes: usize,
    /// Nothing more is received.
    pub(super) shut_read: bool,
    /// Nothing more is sent.
    pub(super) shut_write: bool,
    /// The peer sends no more.
    pub(super) peer_done: bool,
    /// The peer has ended.
    pub(super) peer_gone: bool,
    /// The peer ended before it had read all: told once.
    pub(super) was_reset: bool,
    /// Nobody has it open.
    pub(super) is_closed: bool,
}

impl<P: Platform> State<P> {
    fn new() -> Self {
        Self {
            address: Address::Unnamed,
            key: None,
            peer: None,
            peer_address: Address::Unnamed,
            peer_identity: Identity::default(),
            backlog: None,
            inbox: VecDeque::new(),
            bytes: 0,
            shut_read: false,
            shut_write: false,
            peer_done: false,
            peer_gone: false,
            was_reset: false,
            is_closed: false,
        }
    }

    /// Whether it has, or had, a peer.
    pub(super) fn is_connected(&self) -> bool {
        self.peer.is_some() || self.peer_gone
    }

    /// Whether another message may come in.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < CAPACITY
    }
}

/// One socket. Its [`Endpoint`](super::Endpoint) is what its open file does.
pub struct Socket<P: Platform> {
    me: Weak<Self>,
    pub(super) net: Weak<UnixNet<P>>,
    kind: SocketKind,
    id: InodeId,
    pub(super) identity: Mutex<P, Identity>,
    pub(super) state: Mutex<P, State<P>>,
    /// Held by who receives, around the copy to a guest.
    pub(super) reads: Mutex<P, ()>,
    pub(super) changed: PollSource<P>,
    /// Who waits for room here: those that send to it or connect.
    pub(super) room: PollSource<P>,
    passes_credentials: AtomicBool,
    /// How long a send and a receive wait, in nanoseconds; 0 is for ever.
    timeouts: [AtomicU64; 2],
    _charge: Charge,
}

impl<P: Platform> fmt::Debug for Socket<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("kind", &self.kind).field("id", &self.id).finish_non_exhaustive()
    }
}

impl<P: Platform> Socket<P> {
    /// A socket of `identity`; `id` is its inode's.
    ///
    /// # Errors
    /// `NOMEM`: the quota is used up.
    pub fn new(net: &Arc<UnixNet<P>>, kind: SocketKind, id: InodeId, identity: Identity) -> Result<Arc<Self>> {
        let charge = net.quota.charge(COST)?;
        let socket = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            net: Arc::downgrade(net),
            kind,
            id,
            identity: Mutex::<P, _>::new(identity),
            state: Mutex::<P, _>::new(State::new()),
            reads: Mutex::<P, _>::new(()),
            changed: PollSource::default(),
            room: PollSource::default(),
            passes_credentials: AtomicBool::new(false),
            timeouts: [const { AtomicU64::new(0) }; 2],
            _charge: charge,
        });
        net.add(&socket)?;
        Ok(socket)
    }

    /// What it transfers.
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// Its inode's id.
    #[must_use]
    pub fn id(&self) -> InodeId {
        self.id
    }

    /// Makes both each other's peers. See socketpair(2).
    pub fn join(&self, other: &Self) {
        for (one, two) in [(self, other), (other, self)] {
            let identity = *two.identity.lock();
            let mut state = one.state.lock();
            state.peer = Some(Weak::clone(&two.me));
            state.peer_identity = identity;
        }
    }

    /// Ends it: its file was closed for the last time, or it will never have one.
    pub(super) fn close(&self) {
        let (peer, key, backlog, was_reset) = {
            let mut state = self.state.lock();
            // What it has not read, or nobody accepted, the peer has sent in vain.
            let was_reset = !state.inbox.is_empty() || self.identity.lock().pid == 0;
            state.is_closed = true;
            (state.peer.take(), state.key.take(), state.backlog.take(), was_reset)
        };
        if let Some(peer) = peer.and_then(|peer| peer.upgrade()) {
            peer.lost(self, was_reset);
        }
        // One that was not accepted has no backlog itself: this goes one level down.
        backlog.iter().flat_map(|backlog| &backlog.waiting).for_each(|waiting| waiting.close());
        if let Some(net) = self.net.upgrade() {
            if let Some(key) = key {
                net.forget(&key);
            }
            net.bury(self.take_files());
        }
        self.wake_all();
    }

    /// Wakes everybody: it ends, or half of it.
    fn wake_all(&self) {
        self.changed.wake_all();
        self.room.wake_all();
    }

    /// Its peer has ended.
    fn lost(&self, peer: &Self, was_reset: bool) {
        {
            let mut state = self.state.lock();
            if state.peer.as_ref().is_some_and(|known| Weak::ptr_eq(known, &peer.me)) && self.kind != SocketKind::Datagram {
                state.peer = None;
                (state.peer_done, state.peer_gone) = (true, true);
                state.was_reset |= was_reset;
            }
        }
        self.changed.wake_all();
    }

    /// Takes all that is in flight to it out.
    pub(super) fn take_files(&self) -> Vec<Arc<File<P>>> {
        let inbox = {
            let mut state = self.state.lock();
            state.bytes = 0;
            core::mem::take(&mut state.inbox)
        };
        inbox.into_iter().flat_map(|message| message.files).collect()
    }

    /// Whether what this one sends is let in by `to`: it is nobody's peer, or this one's.
    pub(super) fn may_send(&self, to: &Self) -> Result<()> {
        let peer = to.state.lock().peer.clone();
        match peer {
            Some(peer) if !Weak::ptr_eq(&peer, &self.me) => Err(errno!(PERM, "it has another peer")),
            _ => Ok(()),
        }
    }

    fn me(&self) -> Result<Arc<Self>> {
        self.me.upgrade().ok_or(errno!(BADF, "the socket is ending"))
    }

    pub(super) fn net(&self) -> Result<Arc<UnixNet<P>>> {
        self.net.upgrade().ok_or(errno!(BADF, "the sandbox is ending"))
    }

    fn name(&self, key: Key, address: Address) -> Result<()> {
        let (net, me) = (self.net()?, self.me()?);
        if self.state.lock().address != Address::Unnamed {
            return Err(errno!(INVAL, "it has a name"));
        }
        net.bind(key.clone(), &me)?;
        let mut state = self.state.lock();
        (state.address, state.key) = (address, Some(key));
        Ok(())
    }

    /// Gives it the path `path`, which leads to `inode`. See bind(2).
    ///
    /// # Errors
    /// `INVAL`: it has a name.
    pub fn bind_path(&self, path: &[u8], inode: InodeId) -> Result<()> {
        self.name(Key::Inode(inode), Address::Path(Arc::from(path)))
    }

    /// Gives it an abstract name.
    ///
    /// # Errors
    /// `INVAL`: it has a name. `ADDRINUSE`: another has that one.
    pub fn bind_name(&self, name: &[u8]) -> Result<()> {
        let name: Arc<[u8]> = Arc::from(name);
        self.name(Key::Abstract(Arc::clone(&name)), Address::Abstract(name))
    }

    /// Gives it some abstract name, if it has none.
    ///
    /// # Errors
    /// `NOSPC`: all are taken.
    pub fn bind_auto(&self) -> Result<()> {
        if self.state.lock().address != Address::Unnamed {
            return Ok(());
        }
        let address = self.net()?.bind_auto(&self.me()?)?;
        let mut state = self.state.lock();
        if let Address::Abstract(name) = &address {
            state.key = Some(Key::Abstract(Arc::clone(name)));
        }
        state.address = address;
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn address(&self) -> Address {
        self.state.lock().address.clone()
    }

    /// Its peer's name.
    ///
    /// # Errors
    /// `NOTCONN`: it has no peer.
    pub fn peer_address(&self) -> Result<Address> {
        let (peer, known) = {
            let state = self.state.lock();
            if !state.is_connected() {
                return Err(errno!(NOTCONN));
            }
            (state.peer.as_ref().and_then(Weak::upgrade), state.peer_address.clone())
        };
        Ok(peer.map_or(known, |peer| peer.address()))
    }

    /// Who its peer was when they were connected.
    #[must_use]
    pub fn peer_identity(&self) -> Option<Identity> {
        let state = self.state.lock();
        (state.is_connected() && self.kind != SocketKind::Datagram).then_some(state.peer_identity)
    }

    /// Has it wait for connections. See listen(2).
    ///
    /// # Errors
    /// `OPNOTSUPP`: not for datagrams. `INVAL`: it has no name, or a peer.
    pub fn listen(&self, max: usize, identity: Identity) -> Result<()> {
        if self.kind == SocketKind::Datagram {
            return Err(errno!(OPNOTSUPP, "datagrams need no connection"));
        }
        *self.identity.lock() = identity;
        let mut state = self.state.lock();
        if state.address == Address::Unnamed || state.is_connected() {
            return Err(errno!(INVAL, "no name, or a peer"));
        }
        let max = max.min(BACKLOG_MAX);
        match &mut state.backlog {
            Some(backlog) => backlog.max = max,
            None => state.backlog = Some(Backlog { waiting: VecDeque::new(), max }),
        }
        Ok(())
    }

    /// Whether it has a peer.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state.lock().is_connected()
    }

    /// Whether it waits for connections.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.state.lock().backlog.is_some()
    }

    /// Connects it. A new socket on the other side, with the inode `id`, waits to be accepted. See connect(2).
    ///
    /// # Errors
    /// - `PROTOTYPE`: they are of different kinds.  - `CONNREFUSED`: the other does not listen.  - `AGAIN`: too many wait there.
    /// - `ISCONN`, `INVAL`: it has a peer, or listens itself.  - [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn connect(&self, other: &Arc<Self>, id: InodeId, identity: Identity, cx: IoCx) -> Result<()> {
        if other.kind != self.kind {
            return Err(errno!(PROTOTYPE, "of another kind"));
        }
        if self.kind == SocketKind::Datagram {
            self.may_send(other)?;
            let address = other.address();
            let mut state = self.state.lock();
            (state.peer, state.peer_address) = (Some(Arc::downgrade(other)), address);
            drop(state);
            self.changed.wake_all();
            return Ok(());
        }
        {
            let state = self.state.lock();
            if state.backlog.is_some() {
                return Err(errno!(INVAL, "it listens itself"));
            }
            if state.is_connected() {
                return Err(errno!(ISCONN));
            }
        }
        *self.identity.lock() = identity;
        // Nobody has the new socket's file before it is accepted: it has no process yet.
        let accepted = Self::new(&self.net()?, self.kind, id, Identity::default())?;
        accepted.state.lock().address = other.address();
        let attempt = || {
            let mut state = other.state.lock();
            if state.shut_read || state.is_closed {
                return Some(Err(errno!(CONNREFUSED, "it listens no more")));
            }
            let Some(backlog) = &mut state.backlog else { return Some(Err(errno!(CONNREFUSED, "it does not listen"))) };
            if backlog.waiting.len() > backlog.max {
                return None;
            }
            if backlog.waiting.try_reserve(1).is_err() {
                return Some(Err(errno!(NOMEM)));
            }
            backlog.waiting.push_back(Arc::clone(&accepted));
            Some(Ok(()))
        };
        // Peers before it can be accepted, so that neither side sees the other without one.
        self.join(&accepted);
        self.state.lock().peer_identity = *other.identity.lock();
        let done = match (attempt(), cx.blocking) {
            (Some(done), _) => done,
            (None, Blocking::No) => Err(errno!(AGAIN, "too many wait to be accepted")),
            (None, Blocking::Yes) => {
                let waited = other.room.queue.wait_until(self.deadline(0), attempt);
                waited.and_then(|done| done.unwrap_or(Err(errno!(AGAIN, "too many wait to be accepted"))))
            }
        };
        if done.is_err() {
            self.state.lock().peer = None;
            accepted.close();
        }
        other.changed.wake(Ready::IN);
        done
    }

    /// Takes a connection that waits. See accept(2).
    ///
    /// # Errors
    /// `INVAL`: it does not listen. `OPNOTSUPP`: not for datagrams. `AGAIN`: none waits.
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn accept(&self, identity: Identity, cx: IoCx) -> Result<Arc<Self>> {
        if self.kind == SocketKind::Datagram {
            return Err(errno!(OPNOTSUPP, "datagrams need no connection"));
        }
        let attempt = || {
            let mut state = self.state.lock();
            let is_shut = state.shut_read;
            match state.backlog.as_mut() {
                None => Some(Err(errno!(INVAL, "it does not listen"))),
                Some(backlog) => match backlog.waiting.pop_front() {
                    Some(socket) => Some(Ok(socket)),
                    None if is_shut => Some(Err(errno!(INVAL, "it listens no more"))),
                    None => None,
                },
            }
        };
        let accepted = self.changed.until(cx.blocking, self.deadline(1), attempt)?;
        *accepted.identity.lock() = identity;
        self.room.wake(Ready::OUT);
        Ok(accepted)
    }

    /// Ends its half of a connection, or both. See shutdown(2).
    ///
    /// # Errors
    /// `NOTCONN`: it has no peer.
    pub fn shutdown(&self, how: Shut) -> Result<()> {
        let (read, write) = (how != Shut::Write, how != Shut::Read);
        let peer = {
            let mut state = self.state.lock();
            if !state.is_connected() && state.backlog.is_none() {
                return Err(errno!(NOTCONN));
            }
            state.shut_read |= read;
            state.shut_write |= write;
            state.peer.as_ref().and_then(Weak::upgrade)
        };
        if let Some(peer) = peer.filter(|_| self.kind != SocketKind::Datagram) {
            if write {
                peer.state.lock().peer_done = true;
            }
            peer.wake_all();
        }
        self.wake_all();
        Ok(())
    }

    /// Forgets a datagram socket's peer. See connect(2), `AF_UNSPEC`.
    pub fn disconnect(&self) {
        let mut state = self.state.lock();
        (state.peer, state.peer_address) = (None, Address::Unnamed);
    }

    /// Whether a message tells who sent it (`SO_PASSCRED`).
    #[must_use]
    pub fn passes_credentials(&self) -> bool {
        self.passes_credentials.load(Ordering::Relaxed)
    }

    /// Has messages tell who sent them, or not.
    pub fn set_passes_credentials(&self, on: bool) {
        self.passes_credentials.store(on, Ordering::Relaxed);
    }

    /// How long a send (0) or a receive (1) waits; `None` is for ever.
    #[must_use]
    pub fn timeout(&self, which: usize) -> Option<Duration> {
        let nanos = self.timeouts.get(which).map_or(0, |timeout| timeout.load(Ordering::Relaxed));
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }

    /// Sets how long a send (0) or a receive (1) waits.
    pub fn set_timeout(&self, which: usize, timeout: Option<Duration>) {
        let nanos = timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        if let Some(slot) = self.timeouts.get(which) {
            slot.store(nanos, Ordering::Relaxed);
        }
    }

    pub(super) fn deadline(&self, which: usize) -> Option<Duration> {
        self.timeout(which).map(|timeout| P::monotonic().saturating_add(timeout))
    }

    /// Takes the error that waits to be told (`SO_ERROR`): whether the peer ended before it had read all.
    #[must_use]
    pub fn take_reset(&self) -> bool {
        core::mem::take(&mut self.state.lock().was_reset)
    }
}
