//! How a sandbox is put together, and how its first program starts.
//!
//! Owns: which file system is shown where at the start, the first process's descriptors. Not here: loading a program
//! ([`crate::exec`]), requests of a launcher (the platforms). Invariants: the first process has id 2, as init is process 1; a run that fails changes
//! nothing, and may be tried again with another program.

mod dev;
mod make;

use crate::capabilities::CapabilitySets;
use crate::elf::StackLimits;
use crate::exec::{self, Gains, Request};
use crate::machine::Machine;
use crate::proc;
use crate::regs::Regs;
use crate::signal::Cpu;
use crate::task::{Ids, Process, Sandbox, Task};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use dev::Terminal;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::devices::HostStream;
use litebox_core::fs::fd_table::{Fd, FdFlags};
use litebox_core::fs::file::File;
use litebox_core::fs::host::{HostDir, HostFile};
use litebox_core::fs::hostdir::{self, HostAccess};
use litebox_core::fs::image::{self, Image};
use litebox_core::fs::inode::{Apply, InodeRef, WindowSize};
use litebox_core::fs::journal::{self, Claim};
use litebox_core::fs::memory::{Limits, MemoryFs};
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::overlay;
use litebox_core::fs::path::{FsContext, Resolve};
use litebox_core::fs::types::{Access, Credentials, DeviceId, FileKind, Gid, InodeId, Mode, NewNode, OFlags, Uid};
use litebox_core::quota::Quota;
use litebox_core::tty::pair::TerminalFile;
use litebox_core::tty::settings::Settings;

/// A sandbox that is being described.
pub struct Builder<P: Cpu> {
    sandbox: Arc<Sandbox<P>>,
    /// The first process, once there is a root.
    first: Option<Arc<Process<P>>>,
    ids: Ids,
    files: BTreeMap<u32, Given<P>>,
    terminal: Arc<Terminal<P>>,
    /// A terminal of the sandbox's own.
    own_terminal: Option<Arc<TerminalFile<P>>>,
    /// Numbers of the sandbox's own for the devices of the host's files.
    host_devices: BTreeMap<DeviceId, DeviceId>,
}

/// A descriptor of the first process.
struct Given<P: Cpu> {
    /// What it is of the host's.
    host: Option<Arc<dyn HostFile<P>>>,
    file: Arc<File<P>>,
}

impl<P: Cpu> fmt::Debug for Builder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}

/// What lies below an overlay, and is not changed.
#[derive(Debug)]
pub enum Lower<P: Cpu> {
    /// A directory of the host.
    Dir(Arc<dyn HostDir<P>>),
    /// An image.
    Image(Arc<Image<P>>),
}

/// How a file system in memory begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// How much it may hold.
    pub limits: Limits,
    /// The root's permissions; `None`: everybody may use it.
    pub mode: Option<Mode>,
}

/// The permissions of a directory that everybody may use, as /tmp is.
const EVERYBODY: Mode = Mode::STICKY.union(Mode::RWXU).union(Mode::RWXG).union(Mode::RWXO);

impl<P: Cpu> Builder<P> {
    /// A sandbox that may use `memory` bytes and show them to its programs, of at most `tasks` tasks or as many as usual. Each
    /// call is written to `trace`, if there is one.
    ///
    /// # Errors
    /// `NOMEM`: not even an empty sandbox fits.
    pub fn new(memory: u64, tasks: Option<u32>, trace: Option<Arc<dyn HostFile<P>>>) -> Result<Self> {
        Self::on(Machine::new(memory, tasks, trace))
    }

    /// A sandbox that shows `machine` to its programs, and may use its memory.
    ///
    /// # Errors
    /// `NOMEM`: not even an empty sandbox fits.
    pub fn on(machine: Machine<P>) -> Result<Self> {
        let quota = Quota::new(machine.memory);
        let sandbox = Sandbox::on(machine, quota);
        Ok(Self {
            sandbox,
            first: None,
            ids: Ids::default(),
            files: BTreeMap::new(),
            terminal: Arc::default(),
            own_terminal: None,
            host_devices: BTreeMap::new(),
        })
    }

    /// Who the first process is; root unless this is called.
    pub fn set_ids(&mut self, uid: u32, gid: u32) {
        self.ids = Ids { users: [uid; 3], groups: [gid; 3] };
    }

    /// Shows a directory of the host at `at`.
    ///
    /// # Errors
    /// - `INVAL`: the first mount is not at `/`.  - `NOENT`, `NOTDIR`, `LOOP`, `NAMETOOLONG`: there is no such place and none can be
    ///   made, or the one is a directory and the other is not.  - `NOSPC`: too many mounts.  - `NOMEM`; those of the host.
    pub fn mount_host_dir(&mut self, at: &[u8], dir: Arc<dyn HostDir<P>>, read_only: bool) -> Result<()> {
        let access = if read_only { HostAccess::ReadOnly } else { HostAccess::ReadWrite };
        let root = hostdir::root(self.new_device(), self.sandbox.quota(), dir, access)?;
        self.mount(at, root, ("host", "host"), flags(read_only) | MountFlags::NODEV)
    }

    /// Shows `lower` at `at`, and what the guest changes in it: that is kept in memory, at most `size` bytes of it or as many as the
    /// sandbox has.
    ///
    /// # Errors
    /// Those of [`Builder::mount_host_dir`].
    pub fn mount_overlay(&mut self, at: &[u8], lower: Lower<P>, size: Option<u64>, read_only: bool) -> Result<()> {
        let lower = self.lower(lower)?;
        let upper = self.memory(Memory { limits: Limits { bytes: size, files: None }, mode: None })?;
        let root = overlay::root(self.new_device(), self.sandbox.quota(), lower, &upper)?;
        self.mount(at, root, ("overlay", "overlay"), flags(read_only) | MountFlags::NODEV)
    }

    /// Shows `lower` at `at`, and what the guest changes in it: that is kept in `upper`, and there again for the next sandbox. In memory it
    /// counts as all else. `claim` says that no other sandbox has `upper`.
    ///
    /// # Errors
    /// Those of [`Builder::mount_host_dir`], and of [`journal::root`].
    pub fn mount_lasting(
        &mut self,
        at: &[u8],
        lower: Lower<P>,
        upper: &dyn HostDir<P>,
        claim: Claim<P>,
        read_only: bool,
    ) -> Result<()> {
        let lower = self.lower(lower)?;
        let quota = Arc::clone(self.sandbox.quota());
        let upper = journal::root(self.new_device(), &quota, upper, None, Some(claim))?;
        let root = overlay::root(self.new_device(), &quota, lower, &upper)?;
        self.mount(at, root, ("overlay", "overlay"), flags(read_only) | MountFlags::NODEV)
    }

    /// The root of what lies below an overlay.
    fn lower(&self, lower: Lower<P>) -> Result<InodeRef<P>> {
        let (device, quota) = (self.new_device(), self.sandbox.quota());
        match lower {
            Lower::Dir(dir) => hostdir::root(device, quota, dir, HostAccess::ReadOnly),
            Lower::Image(image) => image::root(device, quota, &image),
        }
    }

    /// Shows an image at `at`.
    ///
    /// # Errors
    /// Those of [`Builder::mount_host_dir`], and of [`image::root`].
    pub fn mount_image(&mut self, at: &[u8], image: &Arc<Image<P>>) -> Result<()> {
        let root = image::root(self.new_device(), self.sandbox.quota(), image)?;
        self.mount(at, root, ("erofs", "image"), flags(true) | MountFlags::NODEV)
    }

    /// Shows a file of the host at `at`, which is one.
    ///
    /// # Errors
    /// Those of [`Builder::mount_host_dir`].
    pub fn mount_host_file(&mut self, at: &[u8], file: Arc<dyn HostFile<P>>, read_only: bool) -> Result<()> {
        let root = Arc::clone(self.open(&file)?.place().inode());
        self.mount(at, root, ("host", "host"), flags(read_only) | MountFlags::NODEV)
    }

    /// Shows a new file system in memory at `at`.
    ///
    /// # Errors
    /// Those of [`Builder::mount_host_dir`].
    pub fn mount_memory(&mut self, at: &[u8], memory: Memory, read_only: bool) -> Result<()> {
        let root = self.memory(memory)?;
        self.mount(at, root, ("tmpfs", "tmpfs"), flags(read_only) | MountFlags::NODEV)
    }

    /// Shows the sandbox's processes at `at`.
    ///
    /// # Errors
    /// Those of [`Builder::mount_host_dir`].
    pub fn mount_proc(&mut self, at: &[u8], read_only: bool) -> Result<()> {
        let root = proc::root(self.new_device(), &self.sandbox);
        self.mount(at, root, ("proc", "proc"), flags(read_only))
    }

    /// Shows the sandbox's devices at `at`, and a file system in memory at its `shm`.
    ///
    /// # Errors
    /// Those of [`Builder::mount_host_dir`].
    pub fn mount_dev(&mut self, at: &[u8], read_only: bool) -> Result<()> {
        let terminals = self.sandbox.shared().terminals();
        let (root, pts) = (dev::root(&self.terminal, &self.sandbox), terminals.root());
        self.mount(at, root, ("devtmpfs", "dev"), flags(read_only))?;
        let mut at_pts = at.to_vec();
        at_pts.extend_from_slice(b"/pts");
        self.mount(&at_pts, pts, ("devpts", "devpts"), flags(read_only))?;
        let mut shm = at.to_vec();
        shm.extend_from_slice(b"/shm");
        let root = self.memory(Memory::default())?;
        self.mount(&shm, root, ("tmpfs", "shm"), flags(read_only) | MountFlags::NODEV)
    }

    /// Has the first process start with `file` as descriptor `number`, instead of what it was to have there. Descriptors of one open
    /// file of the host are ones of one open file of the guest: after `> log 2>&1` both write on where the other has got to.
    ///
    /// # Errors
    /// `BADF`: above what a process may have at the start.
    pub fn give_fd(&mut self, number: u32, file: Arc<dyn HostFile<P>>) -> Result<()> {
        if number >= raw::INR_OPEN_CUR {
            return Err(errno!(BADF, "above the limit of descriptors"));
        }
        let description = |given: &Given<P>| given.host.as_ref().and_then(|host| host.description());
        let same = |given: &&Given<P>| file.description().is_some() && description(given) == file.description();
        let open = match self.files.values().find(same) {
            Some(given) => Arc::clone(&given.file),
            None => self.open(&file)?,
        };
        self.files.insert(number, Given { file: open, host: Some(file) });
        Ok(())
    }

    /// Gives the sandbox a terminal of its own, which the first process has as the descriptors that are bits of `descriptors`, and
    /// as its controlling terminal. Its master, which is returned, is for the launcher.
    ///
    /// # Errors
    /// `BUSY`: it has one. `NOMEM`.
    pub fn give_terminal(&mut self, descriptors: u32, settings: Settings, size: WindowSize) -> Result<Arc<TerminalFile<P>>> {
        if self.own_terminal.is_some() {
            return Err(errno!(BUSY, "it has a terminal"));
        }
        let terminals = self.sandbox.shared().terminals();
        let [uid, ..] = self.ids.users;
        let master = terminals.open_master(Uid(uid))?;
        let pair = master.pair();
        pair.set_locked(false);
        pair.set(settings, Apply::Now);
        pair.resize(size);
        let slave = pair.open_slave(true)?;
        let label = format!("/dev/pts/{}", pair.number());
        let place = Dentry::detached(terminals.node(pair), label.as_bytes());
        let file = File::new(place, Arc::<TerminalFile<P>>::clone(&slave), OFlags::READ | OFlags::WRITE);
        for number in (0..u32::BITS).filter(|number| descriptors & 1 << number != 0) {
            self.files.insert(number, Given { host: None, file: Arc::clone(&file) });
        }
        self.own_terminal = Some(slave);
        Ok(master)
    }

    /// Loads `program`, absolute or from `cwd`, as the first process. Strings hold no NUL.
    ///
    /// # Errors
    /// - `INVAL`: nothing is mounted at the root.  - Those of chdir(2) for `cwd`.  - Those of execve(2).
    pub fn run(&self, program: &[u8], cwd: &[u8], args: &[&[u8]], env: &[&[u8]]) -> Result<(Task<P>, Regs)> {
        let process = self.first.as_ref().ok_or(errno!(INVAL, "nothing is mounted at the root"))?;
        let ids = self.ids;
        process.with(|state| (state.ids, state.capabilities) = (ids, CapabilitySets::of(&ids)));
        let limit = process.with(|state| state.limit(raw::RLIMIT_STACK));
        let credentials = process.credentials();
        let mut fs = FsContext::new(Arc::clone(&process.fs().namespace));
        let at = fs.at_cwd(&credentials);
        let directory = at.resolve(cwd, Resolve::FOLLOW | Resolve::DIRECTORY)?;
        at.may(&directory, Access::EXEC)?;
        fs.cwd = directory;
        let request = Request {
            fs,
            credentials,
            ids,
            gains: Gains::None,
            limits: StackLimits { stack: limit.map_or(u64::MAX, |limit| limit.soft) },
            areas: Arc::clone(&self.sandbox.shared().settings().areas),
            quota: Arc::clone(self.sandbox.quota()),
            args,
            env,
        };
        let file = exec::open(request.at_cwd(), program, Resolve::FOLLOW)?;
        let prepared = exec::prepare(&request, file, program)?;

        let files = process.files();
        files.close_all();
        for (number, given) in &self.files {
            files.insert(Arc::clone(&given.file), FdFlags::empty(), Fd(*number), raw::INR_OPEN_CUR)?;
        }
        let mut hosts = self.files.range(..3).filter_map(|(_, given)| given.host.as_ref());
        self.terminal.set(hosts.find(|host| host.window_size().is_ok()).cloned());
        if let Some(terminal) = &self.own_terminal {
            let [_, owner, _] = ids.users;
            terminal.pair().set_owner(Uid(owner));
            process.opened_terminal(terminal.pair(), OFlags::READ);
        }
        process.change_fs(|fs| *fs = request.fs.clone());
        process.with(|state| state.dumpable = prepared.dumpable);
        process.running().set(prepared.exec, prepared.runs);
        let task = Task::first(Arc::clone(process), prepared.mm)?;
        task.shared().set_name(prepared.name);
        Ok((task, prepared.regs))
    }

    /// A device number that no other mount has.
    fn new_device(&self) -> DeviceId {
        self.sandbox.shared().new_device()
    }

    /// An empty file system in memory.
    fn memory(&self, Memory { limits, mode }: Memory) -> Result<InodeRef<P>> {
        let root = NewNode { mode: mode.unwrap_or(EVERYBODY), uid: Uid(0), gid: Gid(0) };
        MemoryFs::limited(self.new_device(), self.sandbox.quota(), root, limits)
    }

    /// An open file of the sandbox for one of the host.
    fn open(&mut self, file: &Arc<dyn HostFile<P>>) -> Result<Arc<File<P>>> {
        let attr = file.attr()?;
        let is_terminal = file.window_size().is_ok();
        let id = if is_terminal {
            dev::TERMINAL
        } else {
            let device = match self.host_devices.get(&attr.id.device) {
                Some(device) => *device,
                None => {
                    let device = self.new_device();
                    self.host_devices.insert(attr.id.device, device);
                    device
                }
            };
            InodeId { device, number: attr.id.number }
        };
        let label = match attr.kind {
            FileKind::CharDevice if is_terminal => String::from("/dev/tty"),
            FileKind::Fifo => format!("pipe:[{}]", id.number),
            FileKind::Socket => format!("socket:[{}]", id.number),
            FileKind::CharDevice | FileKind::BlockDevice => format!("device:[{}]", id.number),
            FileKind::Regular | FileKind::Directory | FileKind::Symlink => format!("file:[{}]", id.number),
        };
        Ok(HostStream::open(Arc::clone(file), id, label.as_bytes(), file.flags()))
    }

    /// Shows the file system with this root at `at`; its type's name and its source's are for /proc/mounts.
    fn mount(&mut self, at: &[u8], root: InodeRef<P>, names: (&'static str, &str), flags: MountFlags) -> Result<()> {
        let new = NewMount { root, flags, kind: names.0, source: String::from(names.1) };
        let Some(process) = &self.first else {
            if at.is_empty() || at.iter().any(|byte| *byte != b'/') {
                return Err(errno!(INVAL, "the first mount is at the root"));
            }
            if new.root.kind() != FileKind::Directory {
                return Err(errno!(NOTDIR, "the root is a directory"));
            }
            let fs = FsContext::new(MountNamespace::new(new, self.sandbox.quota())?);
            self.first = Some(Process::new(&self.sandbox, self.ids, fs)?);
            return Ok(());
        };
        let namespace = process.fs().namespace;
        // Seen from what was mounted last at the root.
        let fs = FsContext::new(Arc::clone(&namespace));
        let launcher = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
        let paths = fs.at_cwd(&launcher);
        let point = match paths.resolve(at, Resolve::FOLLOW) {
            Err(missing) if missing.is(Errno::NOENT) => {
                make::point(paths, at, new.root.kind()).map_err(|_| missing)?;
                paths.resolve(at, Resolve::FOLLOW)?
            }
            found => found?,
        };
        namespace.mount(&point, new).map(|_| ())
    }
}

fn flags(read_only: bool) -> MountFlags {
    if read_only { MountFlags::READ_ONLY } else { MountFlags::empty() }
}
