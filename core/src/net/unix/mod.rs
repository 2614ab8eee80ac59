//! Sockets between the processes of one sandbox. Source: unix(7); Linux `net/unix/af_unix.c`.
//!
//! Owns: which socket has which name, and the sockets. Invariants: a name leads to a socket only while that lives; sockets know
//! each other weakly, so a peer's end is never held off. Files in flight may hold each other in a circle, a socket sent through
//! itself: they are charged meanwhile, and [`UnixNet::end`] lets all of them go when the sandbox ends. What is in flight is let go in a loop,
//! never by recursion: guests choose how deep it is. Locks: `names` and `graves` are leaves; a socket's `state` is rank "file
//! system", and two are never held at once.

mod endpoint;
mod socket;
mod transfer;

pub use endpoint::Endpoint;
pub use socket::{Identity, Shut, Socket, SocketKind};
pub use transfer::{Received, RecvFlags, Sending};

use crate::fs::file::File;
use crate::fs::types::InodeId;
use crate::platform::Platform;
use crate::quota::Quota;
use crate::sync::Mutex;
use crate::{errno, error::Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

/// A socket's name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Address {
    /// None.
    #[default]
    Unnamed,
    /// A path, as it was given to bind(2).
    Path(Arc<[u8]>),
    /// Any bytes, in no directory.
    Abstract(Arc<[u8]>),
}

/// What a name stands for, inside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Inode(InodeId),
    Abstract(Arc<[u8]>),
}

struct Names<P: Platform> {
    bound: BTreeMap<Key, Weak<Socket<P>>>,
    /// Every socket that there is, or was a while ago.
    all: Vec<Weak<Socket<P>>>,
    /// The next name that a socket gets without asking for one.
    next_auto: u32,
}

struct Graves<P: Platform> {
    files: Vec<Arc<File<P>>>,
    is_digging: bool,
}

/// The sockets of one sandbox.
pub struct UnixNet<P: Platform> {
    quota: Arc<Quota>,
    names: Mutex<P, Names<P>>,
    graves: Mutex<P, Graves<P>>,
}

impl<P: Platform> fmt::Debug for UnixNet<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixNet").finish_non_exhaustive()
    }
}

/// Sockets that may have ended before the list of all is looked through.
const PRUNE_AT: usize = 64;
/// Names that can be given without asking: five hexadecimal digits.
const AUTO_MAX: u32 = 0xf_ffff;

impl<P: Platform> UnixNet<P> {
    /// No sockets. They will be charged to `quota`.
    #[must_use]
    pub fn new(quota: &Arc<Quota>) -> Arc<Self> {
        let names = Names { bound: BTreeMap::new(), all: Vec::new(), next_auto: 0 };
        Arc::new(Self {
            quota: Arc::clone(quota),
            names: Mutex::<P, _>::new(names),
            graves: Mutex::<P, _>::new(Graves { files: Vec::new(), is_digging: false }),
        })
    }

    /// Notes a new socket.
    fn add(&self, socket: &Arc<Socket<P>>) -> Result<()> {
        let mut names = self.names.lock();
        if names.all.len() >= PRUNE_AT && names.all.len().is_power_of_two() {
            names.all.retain(|socket| socket.strong_count() > 0);
        }
        names.all.try_reserve(1).map_err(|_| errno!(NOMEM))?;
        names.all.push(Arc::downgrade(socket));
        Ok(())
    }

    /// All sockets.
    #[must_use]
    pub fn sockets(&self) -> Vec<Arc<Socket<P>>> {
        self.names.lock().all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Gives `socket` a name.
    ///
    /// # Errors
    /// `ADDRINUSE`: another has it.
    fn bind(&self, key: Key, socket: &Arc<Socket<P>>) -> Result<()> {
        let mut names = self.names.lock();
        if names.bound.get(&key).is_some_and(|known| known.strong_count() > 0) {
            return Err(errno!(ADDRINUSE));
        }
        names.bound.insert(key, Arc::downgrade(socket));
        Ok(())
    }

    /// Gives `socket` an abstract name that nobody has.
    fn bind_auto(&self, socket: &Arc<Socket<P>>) -> Result<Address> {
        for _ in 0..=AUTO_MAX {
            let number = {
                let mut names = self.names.lock();
                names.next_auto = names.next_auto.wrapping_add(1) & AUTO_MAX;
                names.next_auto
            };
            let name: Arc<[u8]> = Arc::from(alloc::format!("{number:05x}").into_bytes());
            match self.bind(Key::Abstract(Arc::clone(&name)), socket) {
                Ok(()) => return Ok(Address::Abstract(name)),
                Err(error) if error.is(crate::error::Errno::ADDRINUSE) => {}
                Err(error) => return Err(error),
            }
        }
        Err(errno!(NOSPC, "all names are taken"))
    }

    fn forget(&self, key: &Key) {
        self.names.lock().bound.remove(key);
    }

    fn find(&self, key: &Key) -> Result<Arc<Socket<P>>> {
        let socket = self.names.lock().bound.get(key).and_then(Weak::upgrade);
        socket.ok_or(errno!(CONNREFUSED, "nobody has that name"))
    }

    /// The socket that was bound to a place.
    ///
    /// # Errors
    /// `CONNREFUSED`: none.
    pub fn at_inode(&self, inode: InodeId) -> Result<Arc<Socket<P>>> {
        self.find(&Key::Inode(inode))
    }

    /// The socket with an abstract name.
    ///
    /// # Errors
    /// `CONNREFUSED`: none.
    pub fn at_name(&self, name: &[u8]) -> Result<Arc<Socket<P>>> {
        self.find(&Key::Abstract(Arc::from(name)))
    }

    /// Lets files go that were in flight. Each may be the last of a socket with files in flight, and so on.
    fn bury(&self, files: Vec<Arc<File<P>>>) {
        {
            let mut graves = self.graves.lock();
            if graves.files.is_empty() {
                graves.files = files;
            } else {
                graves.files.extend(files);
            }
            if core::mem::replace(&mut graves.is_digging, true) {
                return;
            }
        }
        loop {
            let mut graves = self.graves.lock();
            let Some(file) = graves.files.pop() else {
                graves.is_digging = false;
                return;
            };
            drop(graves);
            drop(file);
        }
    }

    /// Lets go of all that is in flight: the sandbox has ended.
    pub fn end(&self) {
        let all = core::mem::take(&mut self.names.lock().all);
        for socket in all.iter().filter_map(Weak::upgrade) {
            self.bury(socket.take_files());
        }
    }
}
