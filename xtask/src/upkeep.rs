//! `cargo xtask build`, `codegen`, `clean` and `doctor`: what is made from the sources, and the state of this machine.

use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::paths;
use crate::setup::{self, Mirrors, Scope, Setup};

/// Free space that set-up wants, in GiB.
const WANTED_GIB: u64 = 8;

/// Makes everything that a run needs.
///
/// # Errors
/// The step that failed.
pub(crate) fn build(debug_kernel: bool) -> Result<i32> {
    let scope = if debug_kernel { Scope::Debug } else { Scope::Sandbox };
    let artefacts = Setup::new(paths::cache()).ensure(scope)?;
    println!("ready: kernel {}, cache {}", artefacts.tree.release()?, paths::cache().display());
    Ok(0)
}

/// Writes anew what is generated and committed. That it is not stale is a test of the crate it comes from.
///
/// # Errors
/// A generator that cannot be started.
pub(crate) fn codegen() -> Result<i32> {
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "-p", "litebox-shim-linux", "--test", "compatibility"]);
    let status = command.env("UPDATE_DOCS", "1").current_dir(paths::repository()).status()?;
    Ok(i32::from(!status.success()))
}

/// Removes the cache.
///
/// # Errors
/// A cache that cannot be removed.
pub(crate) fn clean() -> Result<i32> {
    let cache = paths::cache();
    setup::remove(&cache)?;
    println!("removed {}", cache.display());
    Ok(0)
}

/// Says what is missing on this machine, and the cure; the status is 1 when something is.
///
/// # Errors
/// None at present.
pub(crate) fn doctor() -> Result<i32> {
    let mut sound = true;
    let mut say = |good: bool, what: &str, cure: &str| {
        sound &= good;
        println!(
            "{} {what}{}{}",
            if good { "ok     " } else { "MISSING" },
            if good { "" } else { "\n          try: " },
            if good { "" } else { cure }
        );
    };
    let missing = setup::missing_host_packages();
    let names = missing.join(" ");
    let install = format!("apt-get install --no-install-recommends {names}   (set-up does this itself when root)");
    say(missing.is_empty(), &format!("packages of this machine {names}"), &install);
    let root = rustix::process::geteuid().is_root();
    say(
        root || paths::cache().join("guest-root/.key").exists(),
        "root, or a finished set-up",
        "sudo env PATH=\"$PATH\" cargo xtask build",
    );
    match Mirrors::of_this_machine() {
        Ok(mirrors) => say(true, &format!("Debian mirror {}", mirrors.main), ""),
        Err(error) => say(false, "Debian mirror", &error.to_string()),
    }
    for (tool, cure) in [("clippy", "rustup component add clippy"), ("fmt", "rustup component add rustfmt")] {
        say(cargo_has(tool), &format!("cargo {tool}"), cure);
    }
    let free = free_gib();
    say(
        free >= WANTED_GIB,
        &format!("{free} GiB free for {}", paths::cache().display()),
        "make room, or point XDG_CACHE_HOME to where there is some",
    );
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let answer = fs::read_to_string(paths::cache().join("kvm")).unwrap_or_default();
    let kvm = match (kvm, answer.lines().nth(1)) {
        (false, _) => "not usable here: QEMU emulates, which is slower",
        (true, Some("yes")) => "boots the kernel",
        (true, Some(_)) => "does not boot the kernel: QEMU emulates, which is slower",
        (true, None) => "not tried yet",
    };
    println!("        KVM: {kvm}");
    for (here, what, cure) in [
        (cargo_has("nextest"), "cargo nextest, which runs tests faster than cargo test", "cargo install --locked cargo-nextest"),
        (setup::which("c++").is_some(), "a compiler of C++, for cargo xtask fuzz", "apt-get install --no-install-recommends g++"),
    ] {
        if !here {
            println!("        not here, and not needed: {what}\n          try: {cure}");
        }
    }
    Ok(i32::from(!sound))
}

/// Whether cargo has a subcommand.
fn cargo_has(tool: &str) -> bool {
    let mut version = Command::new("cargo");
    version.args([tool, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

/// Free space where the cache is, or will be.
fn free_gib() -> u64 {
    let cache = paths::cache();
    let existing = cache.ancestors().find(|path| path.exists()).unwrap_or(&cache);
    rustix::fs::statvfs(existing).map_or(0, |space| (space.f_bavail * space.f_frsize) >> 30)
}
