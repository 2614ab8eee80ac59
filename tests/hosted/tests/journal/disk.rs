//! A host's directory with files, which writes down each thing that is done to them, so that a power cut can be made at any of them.

use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostLeaf, HostNode};
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::pseudo::made_up_attr;
use litebox_core::fs::types::{Attr, DeviceId, FileKind, InodeId, Mode, Name, OFlags, Timestamp};
use litebox_platform_hosted::Hosted;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What is in the files.
pub(crate) type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// One thing that was done.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write(Vec<u8>, u64, Vec<u8>),
    Truncate(Vec<u8>, u64),
    Sync(Vec<u8>),
}

impl Event {
    fn file(&self) -> &[u8] {
        match self {
            Self::Write(file, ..) | Self::Truncate(file, _) | Self::Sync(file) => file,
        }
    }

    /// Does it to the contents; of a write the first `len` bytes.
    fn apply(&self, to: &mut Contents, len: usize) {
        let file = to.entry(self.file().to_vec()).or_default();
        match self {
            Self::Write(_, at, bytes) => {
                let bytes = &bytes[..len.min(bytes.len())];
                let (start, end) = (*at as usize, *at as usize + bytes.len());
                if !bytes.is_empty() {
                    file.resize(file.len().max(end), 0);
                    file[start..end].copy_from_slice(bytes);
                }
            }
            Self::Truncate(_, size) => file.resize(*size as usize, 0),
            Self::Sync(_) => {}
        }
    }
}

#[derive(Debug, Default)]
struct State {
    now: Contents,
    events: Vec<Event>,
    /// Bytes that the files may have in all.
    room: Option<usize>,
}

/// The directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(crate) fn with(contents: Contents) -> Self {
        Self(Arc::new(Mutex::new(State { now: contents, ..State::default() })))
    }

    pub(crate) fn contents(&self) -> Contents {
        self.0.lock().expect("not poisoned").now.clone()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().expect("not poisoned").events.clone()
    }

    pub(crate) fn event_count(&self) -> usize {
        self.0.lock().expect("not poisoned").events.len()
    }

    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.0.lock().expect("not poisoned").room = room;
    }

    fn act(&self, event: Event) -> Result<()> {
        let mut state = self.0.lock().expect("not poisoned");
        if let (Event::Write(file, at, bytes), Some(room)) = (&event, state.room) {
            let others: usize = state.now.iter().filter(|(name, _)| *name != file).map(|(_, content)| content.len()).sum();
            if others + *at as usize + bytes.len() > room {
                return Err(errno!(NOSPC));
            }
        }
        event.apply(&mut state.now, usize::MAX);
        state.events.push(event);
        Ok(())
    }
}

/// What may be on the disk when the power is cut before the event `cut`: all that was done to a file before it was last synchronised, and
/// of what came later each write in whole, in part or not at all, as `choose` says with a number below its argument.
pub(crate) fn after_cut(before: &Contents, events: &[Event], cut: usize, mut choose: impl FnMut(usize) -> usize) -> Contents {
    let mut contents = before.clone();
    for (at, event) in events[..cut].iter().enumerate() {
        let is_kept = events[at..cut].iter().any(|later| matches!(later, Event::Sync(file) if file == event.file()));
        let Event::Write(_, _, bytes) = event else {
            // A file's length is changed with what comes before and after it, or the test would know no order at all.
            event.apply(&mut contents, 0);
            continue;
        };
        let len = match choose(4) {
            _ if is_kept => bytes.len(),
            0 => 0,
            1 => choose(bytes.len() + 1) / 512 * 512,
            _ => bytes.len(),
        };
        event.apply(&mut contents, len);
    }
    contents
}

#[derive(Debug)]
struct Handle(Disk, Vec<u8>);

impl Handle {
    fn about(&self) -> Attr {
        let size = self.0.0.lock().expect("not poisoned").now.get(&self.1).map_or(0, Vec::len) as u64;
        attr(FileKind::Regular, size)
    }
}

fn attr(kind: FileKind, size: u64) -> Attr {
    let id = InodeId { device: DeviceId { major: 8, minor: 1 }, number: 5 };
    Attr { size, ..made_up_attr(id, kind, Mode::RWXU, Timestamp::default()) }
}

impl HostFile<Hosted> for Handle {
    fn attr(&self) -> Result<Attr> {
        Ok(self.about())
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read(&self, offset: u64, dst: &mut [u8], _: Blocking) -> Result<usize> {
        let state = self.0.0.lock().expect("not poisoned");
        let rest = state.now.get(&self.1).and_then(|content| content.get(offset as usize..)).unwrap_or_default();
        let len = rest.len().min(dst.len());
        dst[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
    fn write(&self, offset: u64, src: &[u8], _: Blocking) -> Result<usize> {
        self.0.act(Event::Write(self.1.clone(), offset, src.to_vec())).map(|()| src.len())
    }
    fn truncate(&self, size: u64) -> Result<()> {
        self.0.act(Event::Truncate(self.1.clone(), size))
    }
    fn sync(&self) -> Result<()> {
        self.0.act(Event::Sync(self.1.clone()))
    }
}

impl HostLeaf<Hosted> for Handle {
    fn attr(&self) -> Result<Attr> {
        Ok(self.about())
    }
    fn open(&self, _: OFlags) -> Result<Arc<dyn HostFile<Hosted>>> {
        Ok(Arc::new(Self(self.0.clone(), self.1.clone())))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl HostDir<Hosted> for Disk {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(FileKind::Directory, 0))
    }
    fn lookup(&self, name: Name<'_>) -> Result<HostNode<Hosted>> {
        let is_there = self.0.lock().expect("not poisoned").now.contains_key(name.as_bytes());
        let leaf = || Arc::new(Handle(self.clone(), name.as_bytes().to_vec()));
        if is_there { Ok(HostNode::Leaf(leaf())) } else { Err(errno!(NOENT)) }
    }
    fn read_dir(&self, _: u64, _: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn create(&self, name: Name<'_>, _: Mode) -> Result<()> {
        self.0.lock().expect("not poisoned").now.insert(name.as_bytes().to_vec(), Vec::new());
        Ok(())
    }
}
