//! A guest without instructions: a task whose calls a test makes through the dispatcher, and memory for their arguments.

use linux_raw_sys::errno as raw;
use litebox_core::fs::memory::MemoryFs;
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::FsContext;
use litebox_core::fs::types::{DeviceId, Gid, Mode, NewNode, Uid};
use litebox_core::mm::{AddressSpace, GuestAddr, MapRequest, PageRange, Place, Prot};
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, Interrupter, enter};
use litebox_shim_linux::regs::Regs;
use litebox_shim_linux::task::{Ids, Process, Sandbox, Task};
use std::sync::Arc;

/// Where the memory for arguments begins.
const MEMORY: u64 = 0x1000_0000;
/// How much there is.
const BYTES: u64 = 0x40_0000;
/// An address where nothing is mapped.
pub(crate) const NOWHERE: u64 = 0x4000;
/// `AT_FDCWD`.
pub(crate) const CWD: u64 = 0u64.wrapping_sub(100);

/// One task of a process of its own, with an empty memory file system as its root.
pub(crate) struct Guest {
    pub(crate) task: Task<Hosted>,
    pub(crate) mm: Arc<AddressSpace<Hosted>>,
    top: u64,
}

impl Guest {
    /// As root.
    pub(crate) fn new() -> Self {
        Self::with_ids(Ids::default())
    }

    pub(crate) fn with_ids(ids: Ids) -> Self {
        let quota = Quota::new(256 << 20);
        let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        let node = NewNode { mode: all, uid: Uid(0), gid: Gid(0) };
        let root = MemoryFs::new(DeviceId { major: 0, minor: 1 }, &quota, node).unwrap();
        let mount = NewMount { root, flags: MountFlags::empty(), kind: "tmpfs", source: "none".into() };
        let fs = FsContext::new(MountNamespace::new(mount, &quota).unwrap());
        let sandbox = Sandbox::new(Arc::clone(&quota), 256 << 20);
        Self::of(Process::new(&sandbox, ids, fs).unwrap())
    }

    /// Another process of the same sandbox, with the same root and nobody's child.
    pub(crate) fn beside(&self) -> Self {
        let process = self.task.process();
        let ids = process.with(|state| state.ids);
        Self::of(Process::new(process.sandbox(), ids, self.task.fs()).unwrap())
    }

    fn of(process: Arc<Process<Hosted>>) -> Self {
        let quota = Arc::clone(process.sandbox().quota());
        let mm = Arc::new(AddressSpace::new(&quota).unwrap());
        let range = PageRange::new(GuestAddr::new(MEMORY), BYTES).unwrap();
        mm.map(MapRequest::anonymous(BYTES, Prot::READ | Prot::WRITE).at(Place::Fixed(range.start()))).unwrap();
        let task = Task::first(process, Arc::clone(&mm)).unwrap();
        Self { task, mm, top: MEMORY }
    }

    /// Makes this thread its carrier, which others can wake.
    pub(crate) fn begin(&mut self) {
        self.task.begin(Interrupter::current());
    }

    /// Makes a call; the registers after it.
    fn make(&mut self, number: u32, args: &[u64]) -> Regs {
        let mut regs = Regs::start(0x1000, MEMORY + BYTES);
        regs.orig_ax = number.into();
        let slots = [&mut regs.di, &mut regs.si, &mut regs.dx, &mut regs.r10, &mut regs.r8, &mut regs.r9];
        for (slot, arg) in slots.into_iter().zip(args) {
            *slot = *arg;
        }
        let (mm, task) = (Arc::clone(&self.mm), &mut self.task);
        enter(&mm, || litebox_shim_linux::dispatch(task, &mut regs));
        regs
    }

    /// Makes a call that a handler of a signal must end: whether its frame has `EINTR` as the call's result.
    pub(crate) fn interrupted(&mut self, number: u32, args: &[u64]) -> bool {
        let regs = self.make(number, args);
        // Behind the return address, the context's flags, link and stack are its registers, of which `rax` is the fourteenth.
        let context = regs.sp + 8;
        regs.sp != MEMORY + BYTES && self.word(context + 40 + 13 * 8) == 0u64.wrapping_sub(errno::EINTR.into())
    }

    /// Makes a call; a negated errno is an error.
    pub(crate) fn call(&mut self, number: u32, args: &[u64]) -> Result<u64, u32> {
        let regs = self.make(number, args);
        match i64::from_le_bytes(regs.ax.to_le_bytes()) {
            error @ -4095..0 => Err(u32::try_from(-error).unwrap()),
            _ => Ok(regs.ax),
        }
    }

    /// Makes a call that must succeed.
    #[track_caller]
    pub(crate) fn ok(&mut self, number: u32, args: &[u64]) -> u64 {
        match self.call(number, args) {
            Ok(value) => value,
            Err(errno) => panic!("call {number} gave errno {errno}"),
        }
    }

    /// Makes a call that must give `errno`.
    #[track_caller]
    pub(crate) fn fails(&mut self, errno: u32, number: u32, args: &[u64]) {
        assert_eq!(self.call(number, args), Err(errno), "call {number}");
    }

    /// Memory for `len` bytes, on a boundary of 64.
    pub(crate) fn room(&mut self, len: usize) -> u64 {
        let at = self.top;
        self.top += (len as u64).next_multiple_of(64);
        assert!(self.top < MEMORY + BYTES, "a test uses up its memory");
        at
    }

    /// Puts bytes into memory.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.room(bytes.len());
        self.poke(at, bytes);
        at
    }

    /// Puts 64-bit words into memory.
    pub(crate) fn words(&mut self, words: &[u64]) -> u64 {
        self.bytes(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Puts a string and its NUL into memory.
    pub(crate) fn path(&mut self, path: &str) -> u64 {
        self.bytes(format!("{path}\0").as_bytes())
    }

    pub(crate) fn poke(&self, at: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            assert_eq!(self.mm.poke(GuestAddr::new(at), bytes).unwrap(), bytes.len());
        }
    }

    pub(crate) fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if len > 0 {
            assert_eq!(self.mm.peek(GuestAddr::new(at), &mut bytes).unwrap(), len);
        }
        bytes
    }

    pub(crate) fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.peek(at, 8).try_into().unwrap())
    }

    pub(crate) fn half(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.peek(at, 4).try_into().unwrap())
    }

    /// Opens a file with these flags, mode 0644.
    #[track_caller]
    pub(crate) fn open(&mut self, path: &str, flags: u32) -> u64 {
        let path = self.path(path);
        self.ok(linux_raw_sys::general::__NR_open, &[path, flags.into(), 0o644])
    }

    /// Makes a file with this content and closes it.
    #[track_caller]
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        use linux_raw_sys::general as nr;
        let fd = self.open(path, nr::O_CREAT | nr::O_WRONLY | nr::O_TRUNC);
        let bytes = self.bytes(content);
        assert_eq!(self.ok(nr::__NR_write, &[fd, bytes, content.len() as u64]), content.len() as u64);
        self.ok(nr::__NR_close, &[fd]);
    }

    /// What a file holds.
    #[track_caller]
    pub(crate) fn content(&mut self, path: &str) -> Vec<u8> {
        use linux_raw_sys::general as nr;
        let (fd, at) = (self.open(path, nr::O_RDONLY), self.room(4096));
        let len = self.ok(nr::__NR_read, &[fd, at, 4096]);
        self.ok(nr::__NR_close, &[fd]);
        self.peek(at, usize::try_from(len).unwrap())
    }
}

/// Numbers of errors.
pub(crate) mod errno {
    pub(crate) use super::raw::*;
}
