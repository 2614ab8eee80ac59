//! A host made up of a tree in memory, and a sandbox over it.

use litebox_core::errno;
use litebox_core::error::{Errno, Error, Result};
use litebox_core::fs::host::{HostDir, HostEntry, HostFile, HostLeaf, HostNode};
use litebox_core::fs::hostdir;
use litebox_core::fs::inode::{Blocking, WindowSize};
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::pseudo::made_up_attr;
use litebox_core::fs::types::{Attr, DeviceId, FileKind, InodeId, Mode, Name, OFlags, Timestamp};
use litebox_core::mm::GuestAddr;
use litebox_core::platform::Frames;
use litebox_platform_hosted::{Hosted, Interrupter};
use litebox_shim_linux::launch::{Builder, Memory};
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::task::Task;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is under a name.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Dir(Arc<Dir>),
    File(Arc<Bytes>),
    Link(&'static str),
}

/// A directory of the host.
#[derive(Debug)]
pub(crate) struct Dir {
    number: u64,
    names: BTreeMap<String, Item>,
}

/// A file of the host, or a terminal.
#[derive(Debug)]
pub(crate) struct Bytes {
    number: u64,
    mode: u32,
    kind: FileKind,
    content: Mutex<Vec<u8>>,
}

fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

fn attr(number: u64, kind: FileKind, mode: u32, size: usize) -> Attr {
    let id = InodeId { device: DeviceId { major: 8, minor: 1 }, number };
    Attr { size: size as u64, ..made_up_attr(id, kind, Mode::from_bits_retain(mode), Timestamp::default()) }
}

impl Bytes {
    pub(crate) fn new(kind: FileKind, mode: u32, content: &[u8]) -> Arc<Self> {
        Arc::new(Self { number: number(), mode, kind, content: Mutex::new(content.to_vec()) })
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.content.lock().unwrap().clone()
    }
}

impl HostFile<Hosted> for Bytes {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(self.number, self.kind, self.mode, self.content.lock().unwrap().len()))
    }
    fn seekable(&self) -> bool {
        self.kind == FileKind::Regular
    }
    fn read(&self, offset: u64, dst: &mut [u8], _: Blocking) -> Result<usize> {
        let mut content = self.content.lock().unwrap();
        let from = if self.seekable() { offset as usize } else { 0 };
        let rest = content.get(from..).unwrap_or_default();
        // A host may give less than it was asked for.
        let len = rest.len().min(dst.len()).min(1000);
        dst[..len].copy_from_slice(&rest[..len]);
        if !self.seekable() {
            content.drain(..len);
        }
        Ok(len)
    }
    fn write(&self, _: u64, src: &[u8], _: Blocking) -> Result<usize> {
        let len = src.len().min(100);
        self.content.lock().unwrap().extend_from_slice(&src[..len]);
        Ok(len)
    }
    fn window_size(&self) -> Result<WindowSize> {
        if self.kind == FileKind::CharDevice {
            Ok(WindowSize { rows: 24, columns: 80, pixels: [0; 2] })
        } else {
            Err(errno!(NOTTY))
        }
    }
    fn page(&self, index: u64) -> Result<<Hosted as Frames>::Frame> {
        hostdir::page_by_reading::<Hosted>(self, index)
    }
}

/// What is found under a name.
#[derive(Debug)]
struct Leaf(Arc<Bytes>);

impl HostLeaf<Hosted> for Leaf {
    fn attr(&self) -> Result<Attr> {
        self.0.attr()
    }
    fn open(&self, _: OFlags) -> Result<Arc<dyn HostFile<Hosted>>> {
        Ok(Arc::clone(&self.0) as Arc<dyn HostFile<Hosted>>)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Dir {
    fn item(&self, name: Name<'_>) -> Result<&Item> {
        self.names.get(std::str::from_utf8(name.as_bytes()).unwrap()).ok_or(errno!(NOENT))
    }
}

impl HostDir<Hosted> for Dir {
    fn attr(&self) -> Result<Attr> {
        Ok(attr(self.number, FileKind::Directory, 0o755, 0))
    }
    fn lookup(&self, name: Name<'_>) -> Result<HostNode<Hosted>> {
        Ok(match self.item(name)? {
            Item::Dir(dir) => HostNode::Dir(Arc::clone(dir) as Arc<dyn HostDir<Hosted>>),
            Item::File(file) => HostNode::Leaf(Arc::new(Leaf(Arc::clone(file)))),
            Item::Link(target) => {
                let link = Bytes::new(FileKind::Symlink, 0o777, target.as_bytes());
                HostNode::Symlink(Arc::new(Leaf(link)), target.as_bytes().to_vec())
            }
        })
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(HostEntry<'_>) -> bool) -> Result<()> {
        for (next, name) in (1..).zip(self.names.keys()).skip(cookie as usize) {
            if !sink(HostEntry { name: name.as_bytes(), number: next, kind: FileKind::Regular, next }) {
                break;
            }
        }
        Ok(())
    }
}

/// A directory of these names.
pub(crate) fn dir<const N: usize>(names: [(&str, Item); N]) -> Item {
    let names = names.into_iter().map(|(name, item)| (name.to_owned(), item)).collect();
    Item::Dir(Arc::new(Dir { number: number(), names }))
}

/// An executable file.
pub(crate) fn program(content: &[u8]) -> Item {
    file(0o755, content)
}

/// A file.
pub(crate) fn file(mode: u32, content: &[u8]) -> Item {
    Item::File(Bytes::new(FileKind::Regular, mode, content))
}

/// A sandbox whose root is `root`, with /dev, /proc and /tmp where it has such directories.
pub(crate) fn sandbox(root: Item) -> Builder<Hosted> {
    let Item::Dir(root) = root else { panic!("the root is a directory") };
    let mut builder = Builder::new(256 << 20, None, None).unwrap();
    builder.mount_host_dir(b"/", root, true).unwrap();
    for mounted in [
        builder.mount_dev(b"/dev", false),
        builder.mount_proc(b"/proc", false),
        builder.mount_memory(b"/tmp", Memory::default(), false),
    ] {
        assert!(mounted.is_ok() || mounted.is_err_and(|error| error.is(Errno::NOENT)));
    }
    builder
}

/// A program that has begun.
pub(crate) struct Begun {
    pub(crate) task: Task<Hosted>,
    pub(crate) regs: Regs,
}

/// Runs `program` with these arguments, in `/`.
pub(crate) fn run(builder: &Builder<Hosted>, program: &str, args: &[&str]) -> Result<Begun> {
    let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    let (mut task, regs) = builder.run(program.as_bytes(), b"/", &args, &[b"HOME=/", b"A=1"])?;
    task.begin(Interrupter::current());
    Ok(Begun { task, regs })
}

/// The errno with which `program` does not run.
#[track_caller]
pub(crate) fn refused(builder: &Builder<Hosted>, program: &str) -> Errno {
    match run(builder, program, &["arg0"]).map(|_| ()) {
        Err(Error::Errno(errno, _)) => errno,
        other => panic!("{program}: {other:?}"),
    }
}

impl Begun {
    /// Bytes of its memory.
    #[track_caller]
    pub(crate) fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        assert_eq!(self.task.mm().peek(GuestAddr::new(at), &mut bytes).unwrap(), len);
        bytes
    }

    #[track_caller]
    pub(crate) fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.peek(at, 8).try_into().unwrap())
    }

    #[track_caller]
    pub(crate) fn string(&self, at: u64) -> String {
        let bytes: Vec<u8> = (at..).map(|at| self.peek(at, 1)[0]).take_while(|byte| *byte != 0).collect();
        String::from_utf8(bytes).unwrap()
    }

    /// Its arguments, as they are on the stack.
    #[track_caller]
    pub(crate) fn args(&self) -> Vec<String> {
        let count = self.word(self.regs.sp);
        (1..=count).map(|index| self.string(self.word(self.regs.sp + 8 * index))).collect()
    }

    /// An entry of its auxiliary vector.
    #[track_caller]
    pub(crate) fn aux(&self, tag: u64) -> u64 {
        let mut at = self.regs.sp + 8 * (2 + self.word(self.regs.sp));
        while self.word(at) != 0 {
            at += 8;
        }
        at += 8;
        while self.word(at) != tag {
            assert_ne!(self.word(at), 0, "no entry {tag}");
            at += 16;
        }
        self.word(at + 8)
    }

    /// What a file holds.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>> {
        let (fs, who) = (self.task.fs(), self.task.credentials());
        let file = fs.at_cwd(&who).open(path.as_bytes(), OFlags::READ, Mode::empty())?;
        let mut text = Vec::new();
        loop {
            let mut part = [0; 777];
            match file.read(&mut IoDst::kernel(&mut part))? {
                0 => return Ok(text),
                read => text.extend_from_slice(&part[..read]),
            }
        }
    }

    /// The same for one that is there.
    #[track_caller]
    pub(crate) fn cat(&self, path: &str) -> String {
        String::from_utf8(self.read(path).unwrap_or_else(|error| panic!("{path}: {error:?}"))).unwrap()
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> Result<usize> {
        let (fs, who) = (self.task.fs(), self.task.credentials());
        let file = fs.at_cwd(&who).open(path.as_bytes(), OFlags::WRITE | OFlags::CREATE, Mode::RUSR | Mode::WUSR)?;
        file.write(&mut IoSrc::kernel(text.as_bytes()))
    }

    /// Where a link leads.
    #[track_caller]
    pub(crate) fn link(&self, path: &str) -> String {
        let (fs, who) = (self.task.fs(), self.task.credentials());
        String::from_utf8(fs.at_cwd(&who).readlink(path.as_bytes()).unwrap()).unwrap()
    }

    /// The names in a directory.
    #[track_caller]
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let (fs, who) = (self.task.fs(), self.task.credentials());
        let dir = fs.at_cwd(&who).open(path.as_bytes(), OFlags::READ | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut names = Vec::new();
        dir.read_dir(&mut |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        })
        .unwrap();
        names
    }
}
