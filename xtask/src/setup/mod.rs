//! Set-up: everything that a VM run needs, made once and kept.
//!
//! Each step is a function that says what its result depends on (a [`Key`]) and how to make it. A result is a directory in the
//! cache. It is made in `NAME.partial` and renamed when it is whole, so an interrupted step leaves nothing that looks finished,
//! and the steps before it stay done. Steps depend on each other by their keys: whatever goes into a step's key and changes makes
//! that step and all that follow from it anew.
//!
//! Several commands may share a cache. Each step has a lock: exclusive while it is made, shared as long as somebody holds the
//! [`Built`] that it gave. Steps are always taken in the same order, so nobody waits in a circle.

mod debug_kernel;
mod guest_root;
mod host;
mod images;
mod initramfs;
mod kernel;
mod key;
mod log;
mod mirror;
mod module;
mod peers;
mod programs;
mod tree;
pub(crate) mod wine;

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::fs::FlockOperation;
use rustix::io::FdFlags;

pub(crate) use self::host::{missing as missing_host_packages, which};
pub(crate) use self::key::Key;
pub(crate) use self::log::Log;
pub(crate) use self::mirror::Mirrors;
pub(crate) use self::tree::{InTree, Tree};

/// How often the progress line moves.
const TICK: Duration = Duration::from_millis(120);

/// What a VM run takes.
#[derive(Debug)]
pub(crate) struct Artefacts {
    /// The tree that QEMU is run from.
    pub(crate) tree: Tree,
    /// The stock kernel.
    pub(crate) kernel: PathBuf,
    /// The initramfs with the VM's first process.
    pub(crate) initramfs: PathBuf,
    /// The guest's root.
    pub(crate) guest_root: PathBuf,
    /// litebox.ko, unless natively alone is enough.
    pub(crate) module: Option<PathBuf>,
    /// A disk with images that sandboxes run from.
    pub(crate) images: PathBuf,
    /// The steps' results, which nobody replaces while these are held: until the VM has opened its files.
    #[expect(dead_code, reason = "held for the locks in it")]
    held: [Built; 4],
}

/// What to set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Enough for native runs.
    Native,
    /// The module and the launcher, too.
    Sandbox,
    /// The same with the debug kernel.
    Debug,
}

/// A step's result.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// The directory that holds it.
    pub(crate) path: PathBuf,
    /// What it was made from; goes into the keys of steps that use it.
    pub(crate) key: String,
    /// The step's lock file, locked shared; closing it releases the lock.
    #[expect(dead_code, reason = "held for its lock")]
    lock: Arc<File>,
}

/// The cache and the way to report progress.
#[derive(Debug)]
pub(crate) struct Setup {
    cache: PathBuf,
}

impl Setup {
    /// A set-up in `cache`.
    pub(crate) fn new(cache: PathBuf) -> Self {
        Self { cache }
    }

    /// Makes what is missing.
    ///
    /// # Errors
    /// The first step that failed.
    pub(crate) fn ensure(&self, scope: Scope) -> Result<Artefacts> {
        host::packages(self)?;
        let tree = tree::step(self)?;
        let guest_root = guest_root::step(self, &tree)?;
        let images = images::step(self, &tree)?;
        let init = programs::init(self)?;
        let (name, boot_files, module) = match scope {
            Scope::Native => ("initramfs-native", kernel::boot_files(self, &tree)?, None),
            Scope::Sandbox => {
                let kernel = kernel::step(self, &tree)?;
                let module = module::step(self, &tree, "module", &kernel, kernel::KERNEL)?;
                ("initramfs", kernel::boot_files(self, &tree)?, Some(module))
            }
            Scope::Debug => {
                let kernel = debug_kernel::step(self, &tree)?;
                let module = module::step(self, &tree, "module-debug", &kernel, debug_kernel::KERNEL)?;
                ("initramfs-debug", kernel, Some(module))
            }
        };
        let linked = module.as_ref().map(|module| module.path.join("litebox.ko"));
        let sandbox = match module {
            None => None,
            Some(module) => {
                Some(initramfs::Sandbox { module, launcher: programs::launcher(self)?, hostile: programs::hostile(self)? })
            }
        };
        let programs = programs::tests(self, &tree)?;
        let initramfs = initramfs::step(self, name, &boot_files, &init, &programs, sandbox.as_ref())?;
        Ok(Artefacts {
            kernel: boot_files.path.join("kernel"),
            tree,
            initramfs: initramfs.path.join("initramfs.cpio"),
            guest_root: guest_root.path.join("root.erofs"),
            module: linked,
            images: images.path.join("images.erofs"),
            held: [boot_files, guest_root, images, initramfs],
        })
    }

    /// Makes the folder with sandboxes of others, for comparison.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn peers(&self) -> Result<PathBuf> {
        host::packages(self)?;
        let tree = tree::step(self)?;
        Ok(peers::step(self, &tree)?.path)
    }

    /// The directory for what outlives a step: incremental builds, logs.
    pub(crate) fn work(&self, name: &str) -> Result<PathBuf> {
        let path = self.cache.join("work").join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Takes a step's lock, saying so when that takes waiting.
    fn lock(&self, name: &str, exclusive: bool) -> Result<File> {
        let path = self.work("locks")?.join(name);
        // A lock needs no right to write, so that a set-up by root serves everybody's runs.
        let file =
            File::open(&path).or_else(|_| File::create(&path)).with_context(|| format!("cannot make {}", path.display()))?;
        let (at_once, wait) = if exclusive {
            (FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive)
        } else {
            (FlockOperation::NonBlockingLockShared, FlockOperation::LockShared)
        };
        if rustix::fs::flock(&file, at_once).is_err() {
            eprintln!("litebox: set-up: waiting for another cargo xtask, or what one has left running, that uses `{name}`");
            rustix::fs::flock(&file, wait).with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }

    /// Gives the step's result from the cache, or makes it with `make`, which fills the directory it is given.
    fn step(&self, name: &str, key: Key, make: impl FnOnce(&Path, &mut Log) -> Result<()>) -> Result<Built> {
        let key = key.finish();
        let path = self.cache.join(name);
        let is_made = || fs::read_to_string(path.join(".key")).is_ok_and(|old| old == key);
        let shared = self.lock(name, false)?;
        if is_made() {
            return Ok(Built { path, key, lock: Arc::new(shared) });
        }
        drop(shared);
        let lock = self.lock(name, true)?;
        if !is_made() {
            // What the step starts holds the lock as well. Some of it outlives an interrupted set-up (apt finishes what it has begun),
            // and the next one waits until nobody writes there any more.
            rustix::io::fcntl_setfd(&lock, FdFlags::empty())?;
            self.make(name, &key, &path, make)?;
            rustix::io::fcntl_setfd(&lock, FdFlags::CLOEXEC)?;
        }
        rustix::fs::flock(&lock, FlockOperation::LockShared).context("cannot share a lock of ours")?;
        Ok(Built { path, key, lock: Arc::new(lock) })
    }

    /// Makes a step's result aside and moves it into place.
    fn make(&self, name: &str, key: &str, path: &Path, make: impl FnOnce(&Path, &mut Log) -> Result<()>) -> Result<()> {
        let partial = self.cache.join(format!("{name}.partial"));
        remove(&partial)?;
        fs::create_dir_all(&partial)?;
        let mut log = Log::create(&self.work("logs")?.join(format!("{name}.log")))?;
        let line = Line::start(name, log.path());
        match make(&partial, &mut log) {
            Ok(()) => {
                fs::write(partial.join(".key"), key)?;
                remove(path)?;
                fs::rename(&partial, path).with_context(|| format!("cannot move {} into place", partial.display()))?;
                line.done();
                Ok(())
            }
            Err(error) => {
                line.failed();
                let shown = log.path().display();
                Err(error.context(format!("set-up step `{name}` failed; its log: {shown}\n{}", log.tail())))
            }
        }
    }
}

/// Removes a directory tree, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Fails with the command that cures it when this process is not root.
pub(crate) fn need_root(what: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("{what} needs root\n  try: sudo env PATH=\"$PATH\" cargo xtask build   (once; runs do not need root)");
    }
    Ok(())
}

/// The progress line of one step.
struct Line {
    name: String,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Line {
    fn start(name: &str, log: &Path) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}").expect("a valid template");
            let bar = ProgressBar::new_spinner().with_style(style).with_prefix(name.to_owned());
            bar.set_message(format!("({})", log.display()));
            bar.enable_steady_tick(TICK);
            bar
        });
        if bar.is_none() {
            eprintln!("litebox: set-up: {name} … (log: {})", log.display());
        }
        Self { name: name.to_owned(), begun: Instant::now(), bar }
    }

    fn done(self) {
        self.end("done");
    }

    fn failed(self) {
        self.end("failed");
    }

    fn end(self, how: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("litebox: set-up: {} {how} in {:.1} s", self.name, self.begun.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_step_waits_for_what_an_interrupted_one_has_left_running() {
        let setup = Setup::new(std::env::temp_dir().join(format!("litebox-setup-{}", std::process::id())));
        let interrupted = setup.step("step", Key::default(), |out, _| {
            Command::new("sh").args(["-c", "sleep 0.5; touch late"]).current_dir(out).spawn()?;
            bail!("interrupted")
        });
        interrupted.unwrap_err();
        let begun = Instant::now();
        let built = setup.step("step", Key::default(), |out, _| Ok(fs::write(out.join("made"), "")?)).unwrap();
        assert!(begun.elapsed() > Duration::from_millis(400));
        assert!(built.path.join("made").exists() && !built.path.join("late").exists());
        remove(&setup.cache).unwrap();
    }
}
