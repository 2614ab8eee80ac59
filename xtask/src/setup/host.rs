//! Packages that the machine itself needs. Everything else comes from the tree.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use super::{Key, Setup};

/// A program, and the Debian package that brings it.
const PROGRAMS: &[(&str, &str)] =
    &[("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"), ("chroot", "coreutils"), ("cc", "gcc")];
/// A file (in any of these places), and the package that brings it.
const FILES: &[(&str, &str)] = &[
    ("/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];

/// The packages that are missing on this machine.
pub(crate) fn missing() -> Vec<&'static str> {
    let programs = PROGRAMS.iter().filter(|(program, _)| which(program).is_none());
    let files = FILES.iter().filter(|(file, _)| !Path::new(file).exists());
    programs.chain(files).map(|(_, package)| *package).collect()
}

/// Where PATH has a program. Administrators' directories count, too: a user's PATH often lacks them.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Installs what is missing when root, or says how to.
pub(super) fn packages(setup: &Setup) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if which("apt-get").is_none() {
        bail!("missing on this machine: {names}\n  these are the names of Debian's packages; install them in your system's way");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing on this machine: {names}\n  try: sudo apt-get install --no-install-recommends {names}");
    }
    let key = Key::default().text(&names).text(&format!("{:?}", fs::metadata("/var/lib/dpkg/status")?.modified()?));
    setup.step("host-packages", key, |_, log| {
        let apt = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive").args(["-y", "-q"]).args(arguments);
            command
        };
        log.run(&mut apt(&["update"])).context("cannot refresh the package lists")?;
        log.run(apt(&["install", "--no-install-recommends"]).args(&missing)).context("cannot install packages")
    })?;
    Ok(())
}
