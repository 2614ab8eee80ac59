//! A socket's open file, and its inode.

use super::transfer::Message;
use super::{RecvFlags, Sending, Socket, SocketKind};
use crate::fs::dentry::Dentry;
use crate::fs::file::File;
use crate::fs::inode::{FileOps, Inode, IoCx, OpsRef};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::pseudo::made_up_attr;
use crate::fs::types::{Attr, FileKind, Gid, InodeId, Mode, OFlags, Ready, Timestamp, Uid};
use crate::platform::Platform;
use crate::sync::WaitQueue;
use crate::{errno, error::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

/// What a socket's open file does. The socket ends with it, whoever else is about to send or receive.
pub struct Endpoint<P: Platform>(Arc<Socket<P>>);

impl<P: Platform> fmt::Debug for Endpoint<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.0).finish()
    }
}

#[derive(Debug)]
struct SocketInode {
    id: InodeId,
    owner: (Uid, Gid),
    created: Timestamp,
}

impl<P: Platform> Inode<P> for SocketInode {
    fn id(&self) -> InodeId {
        self.id
    }

    fn kind(&self) -> FileKind {
        FileKind::Socket
    }

    fn attr(&self) -> Result<Attr> {
        let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        let (uid, gid) = self.owner;
        Ok(Attr { uid, gid, ..made_up_attr(self.id, FileKind::Socket, all, self.created) })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn open(self: Arc<Self>, _flags: OFlags) -> Result<OpsRef<P>> {
        Err(errno!(NXIO, "a socket is not opened"))
    }
}

impl<P: Platform> Drop for Endpoint<P> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<P: Platform> Endpoint<P> {
    /// The open file of `socket`, which has none yet.
    #[must_use]
    pub fn open(socket: &Arc<Socket<P>>, status: OFlags) -> Arc<File<P>> {
        let (id, identity) = (socket.id(), *socket.identity.lock());
        let inode = SocketInode { id, owner: (Uid(identity.uid), Gid(identity.gid)), created: P::realtime().into() };
        let place = Dentry::detached(Arc::new(inode), alloc::format!("socket:[{}]", id.number).as_bytes());
        File::new(place, Arc::new(Self(Arc::clone(socket))), status | OFlags::READ | OFlags::WRITE)
    }

    /// The socket that `file` is.
    ///
    /// # Errors
    /// `NOTSOCK`: it is something else.
    pub fn of(file: &File<P>) -> Result<Arc<Socket<P>>> {
        let ops = Arc::clone(file.ops()).into_any().and_then(|ops| ops.downcast::<Self>().ok());
        ops.map(|endpoint| Arc::clone(&endpoint.0)).ok_or(errno!(NOTSOCK))
    }
}

impl<P: Platform> FileOps<P> for Endpoint<P> {
    fn read_at(&self, _offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        self.0.receive(dst, RecvFlags::default(), cx).map(|received| received.count)
    }

    fn write_at(&self, _offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        let identity = *self.0.identity.lock();
        self.0.send(src, Sending { identity, files: Vec::new(), to: None }, cx)
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            self.0.changed.watch(watcher);
        }
        let mut ready = Ready::empty();
        let peer = {
            let state = self.0.state.lock();
            let is_fresh = !state.is_connected() && state.backlog.is_none() && self.0.kind() != SocketKind::Datagram;
            let at_end = state.peer_done || state.shut_read;
            let waiting = state.backlog.as_ref().is_some_and(|backlog| !backlog.waiting.is_empty());
            ready.set(Ready::IN, !state.inbox.is_empty() || waiting || at_end);
            ready.set(Ready::RDHUP, at_end);
            ready.set(Ready::HUP, is_fresh || state.peer_gone || (state.shut_read && state.shut_write));
            ready.set(Ready::ERR, state.was_reset);
            if state.backlog.is_some() {
                return ready;
            }
            state.peer.as_ref().and_then(Weak::upgrade)
        };
        let Some(peer) = peer else { return ready | Ready::OUT };
        if let Some(watcher) = watcher {
            peer.room.watch(watcher);
        }
        ready.set(Ready::OUT, peer.state.lock().has_room());
        ready
    }

    fn pollable(&self) -> bool {
        true
    }

    fn readable_bytes(&self) -> Result<u64> {
        let state = self.0.state.lock();
        let bytes = match self.0.kind() {
            SocketKind::Stream => state.bytes,
            SocketKind::Datagram | SocketKind::SeqPacket => state.inbox.front().map_or(0, Message::left),
        };
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}
