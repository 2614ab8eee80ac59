//! The initramfs: what the kernel starts with. Small, since the emulator copies and unpacks it at each boot.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::kernel::{KVM_GROUP, MODULE_GROUPS};
use super::key::files_below;
use super::{Built, Key, Setup};
use crate::cpio::Archive;

/// Directories that the first process mounts something on, or looks into.
const DIRECTORIES: &[&str] =
    &["dev", "guestroot", "modules", "modules/base", "modules/share", "proc", "run", "sys", "tmp", "tools"];

/// What a VM has beyond that of native runs.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// litebox.ko.
    pub(super) module: Built,
    /// The launcher.
    pub(super) launcher: Built,
    /// Launchers and guests that mean no good.
    pub(super) hostile: Built,
}

/// Packs the VM's first process, the modules, the tests' programs, and for a sandbox what it takes, as the step `name`.
pub(super) fn step(
    setup: &Setup,
    name: &str,
    boot_files: &Built,
    init: &Built,
    programs: &Built,
    sandbox: Option<&Sandbox>,
) -> Result<Built> {
    let mut key = Key::default().text(&boot_files.key).text(&init.key).text(&programs.key).text(&format!("{DIRECTORIES:?}"));
    if let Some(Sandbox { module, launcher, hostile }) = sandbox {
        key = key.text(&module.key).text(&launcher.key).text(&hostile.key);
    }
    setup.step(name, key, |out, _| {
        let mut archive = Archive::default();
        for directory in DIRECTORIES {
            archive.directory(directory);
        }
        archive.character_device("dev/console", 5, 1);
        add(&mut archive, "init", &init.path.join("litebox-vm-init"))?;
        for group in MODULE_GROUPS {
            for entry in fs::read_dir(boot_files.path.join(group)).context("the kernel's modules are missing")? {
                let entry = entry?;
                add(&mut archive, &format!("modules/{group}/{}", entry.file_name().to_string_lossy()), &entry.path())?;
            }
        }
        archive.directory("tools/kvm");
        for entry in fs::read_dir(boot_files.path.join(KVM_GROUP)).context("KVM's modules are missing")? {
            let entry = entry?;
            add(&mut archive, &format!("tools/kvm/{}", entry.file_name().to_string_lossy()), &entry.path())?;
        }
        for path in files_below(&programs.path)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with('.') {
                add(&mut archive, &format!("tools/{name}"), &path)?;
            }
        }
        if let Some(Sandbox { module, launcher, hostile }) = sandbox {
            add(&mut archive, "litebox.ko", &module.path.join("litebox.ko"))?;
            add(&mut archive, "tools/litebox-launch", &launcher.path.join("litebox-launch"))?;
            add(&mut archive, "tools/litebox-vm-hostile", &hostile.path.join("litebox-vm-hostile"))?;
        }
        fs::write(out.join("initramfs.cpio"), archive.finish()).context("cannot write the initramfs")
    })
}

/// Adds a file of this machine, executable.
fn add(archive: &mut Archive, name: &str, path: &Path) -> Result<()> {
    let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    archive.file(name, 0o755, &content);
    Ok(())
}
