//! The trixie tree: Debian's kernel, its source and compilers, and QEMU, in a directory of the cache.
//!
//! Commands run in it by chroot, in a mount namespace of their own: whatever is bound into the tree for a command disappears with
//! that command, however it ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use super::{Built, Key, Log, Mirrors, Setup, need_root};

/// From backports: the kernel with Rust, and what it is built with.
const BACKPORTS: &[&str] = &["linux-image-amd64", "linux-headers-amd64", "linux-source", "libelf-dev", "libdw-dev", "pahole"];
/// From trixie: compilers of that kernel, tools for images, the emulator.
const PACKAGES: &[&str] = &[
    "bc",
    "bindgen",
    "bison",
    "busybox-static",
    "ca-certificates",
    "cargo",
    "clang",
    "cpio",
    "erofs-utils",
    "flex",
    "gcc",
    "kmod",
    "libclang-dev",
    "libssl-dev",
    "lld",
    "llvm",
    "make",
    "musl-tools",
    "python3",
    "qemu-system-x86",
    "rust-src",
    "rustc",
    "seabios",
    "xz-utils",
    "zstd",
];
/// Where a step's own directory appears in the tree.
pub(super) const OUT: &str = "/mnt/out";

/// A tree that is complete.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    built: Built,
}

/// A command to run inside a tree, with what it is to see there.
#[derive(Debug)]
pub(crate) struct InTree {
    root: PathBuf,
    binds: Vec<(PathBuf, String, bool)>,
    env: Vec<(String, String)>,
}

/// Makes the tree.
pub(super) fn step(setup: &Setup) -> Result<Tree> {
    let mirrors = Mirrors::of_this_machine()?;
    let key = Key::default().text(&format!("{mirrors:?} {BACKPORTS:?} {PACKAGES:?}"));
    let packages = setup.work("packages")?;
    let built = setup.step("tree", key, |out, log| {
        need_root("making the Debian tree")?;
        let root = out.join("root");
        bootstrap(&root, "apt", &["ca-certificates"], &mirrors.lines(true), &[], log)?;
        // The packages' own initramfs is for a real machine's disk; making it here would take time and fail. Packages are fetched
        // to where an interrupted set-up finds them again; they are removed when the tree is whole.
        let inside = InTree::new(&root)
            .bind(&packages, "/var/cache/apt/archives")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("INITRD", "No");
        let install = "apt-get install -y -q --no-install-recommends";
        let (backports, trixie) = (BACKPORTS.join(" "), PACKAGES.join(" "));
        let script = format!(
            "mkdir -p /var/cache/apt/archives/partial; apt-get update -q
             {install} -t trixie-backports {backports}; {install} {trixie}; apt-get clean"
        );
        inside.run(&script, log)
    })?;
    let tree = Tree { built };
    tree.kernel()?;
    Ok(tree)
}

/// Makes a Debian trixie directory tree with mmdebstrap.
pub(super) fn bootstrap(
    root: &Path,
    variant: &str,
    packages: &[&str],
    sources: &[String],
    options: &[String],
    log: &mut Log,
) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--mode=root", "--format=directory", "--aptopt=APT::Sandbox::User \"root\""]);
    command.arg(format!("--variant={variant}")).arg(format!("--include={}", packages.join(","))).args(options);
    command.arg("trixie").arg(root).args(sources);
    log.run(&mut command).context("cannot make a Debian tree")
}

impl Tree {
    /// What the tree was made from.
    pub(super) fn key(&self) -> &str {
        &self.built.key
    }

    /// The tree's root directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.built.path.join("root")
    }

    /// The release of the newest kernel in the tree.
    pub(crate) fn release(&self) -> Result<String> {
        let boot = self.root().join("boot");
        let names = fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
        let releases = names.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned()));
        match releases.max_by_key(|release| numbers(release)) {
            Some(release) => Ok(release),
            None => bail!("{} has no kernel\n  try: cargo xtask clean, then again", boot.display()),
        }
    }

    /// The stock kernel's image.
    pub(crate) fn kernel(&self) -> Result<PathBuf> {
        Ok(self.root().join("boot").join(format!("vmlinuz-{}", self.release()?)))
    }

    /// The kernel's source as it is packed, by its path in the tree.
    pub(super) fn kernel_source(&self) -> Result<String> {
        let packed = fs::read_dir(self.root().join("usr/src")).context("the tree has no /usr/src")?;
        let names = packed.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned()));
        match names.filter(|name| name.starts_with("linux-source-") && name.contains(".tar")).max() {
            Some(name) => Ok(format!("/usr/src/{name}")),
            None => bail!("the tree has no kernel source; the package linux-source should bring it"),
        }
    }

    /// A command that runs with the tree as its root.
    pub(super) fn inside(&self) -> InTree {
        InTree::new(&self.root())
    }

    /// A program of the tree's, run on this machine by the tree's own loader and libraries: it sees this machine's files, and needs no root.
    pub(crate) fn program(&self, name: &str) -> Command {
        let root = self.root();
        let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu")).arg(root.join("usr/bin").join(name));
        command
    }

    /// The tree's QEMU.
    pub(crate) fn qemu(&self) -> Command {
        let root = self.root();
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let mut command = self.program("qemu-system-x86_64");
        command.arg("-L").arg(root.join("usr/share/qemu")).arg("-L").arg(root.join("usr/share/seabios"));
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        command
    }
}

/// The numbers in a release's name, for comparing: 6.12 is newer than 6.9.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

impl InTree {
    /// A command in the tree at `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), binds: Vec::new(), env: Vec::new() }
    }

    /// Shows `source` at `target` in the tree, read and write.
    pub(crate) fn bind(mut self, source: &Path, target: &str) -> Self {
        self.binds.push((source.to_owned(), target.to_owned(), true));
        self
    }

    /// Shows `source` at `target` in the tree, read-only.
    pub(super) fn bind_read_only(mut self, source: &Path, target: &str) -> Self {
        self.binds.push((source.to_owned(), target.to_owned(), false));
        self
    }

    /// Sets a variable.
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs a shell script.
    pub(crate) fn run(&self, script: &str, log: &mut Log) -> Result<()> {
        need_root("working in the Debian tree")?;
        let root = self.root.display();
        let mut mounts = format!(
            "set -e; cd /; mount -t proc proc '{root}/proc'; mount --rbind /dev '{root}/dev'; mount -t sysfs sysfs '{root}/sys';
             cp -L /etc/resolv.conf '{root}/etc/resolv.conf' 2>/dev/null || true; "
        );
        for (source, target, writable) in &self.binds {
            let source = source.display();
            mounts.push_str(&format!("mkdir -p '{root}{target}'; mount --bind '{source}' '{root}{target}'; "));
            if !writable {
                mounts.push_str(&format!("mount -o remount,bind,ro '{root}{target}'; "));
            }
        }
        mounts.push_str(&format!("exec chroot '{root}' /bin/sh -ec \"$1\""));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c", &mounts, "sh", script]);
        let proxies = ["http_proxy", "https_proxy", "no_proxy"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
        command.env_clear().envs(proxies).envs(self.env.iter().cloned());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        log.run(&mut command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert!(numbers("6.12.1+deb13-amd64") > numbers("6.9.30+deb13-amd64"));
    }
}
