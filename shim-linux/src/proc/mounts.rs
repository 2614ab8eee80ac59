//! What is mounted where.
//!
//! Sources: `proc_pid_mounts(5)`, `proc_pid_mountinfo(5)`; Linux `fs/proc_namespace.c`.

use super::Who;
use super::text::Text;
use crate::signal::Cpu;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use litebox_core::error::Result;
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::mount::MountFlags;

/// Bytes that would end a field.
const SPECIAL: &[u8] = b" \t\n\\";
/// The same in what is mounted, where a `#` would begin a comment.
const SPECIAL_SOURCE: &[u8] = b" \t\n\\#";

/// Options as mount(8) would name them.
fn options(flags: MountFlags) -> String {
    let mut text = String::from(if flags.contains(MountFlags::READ_ONLY) { "ro" } else { "rw" });
    let rest = [(MountFlags::NOSUID, ",nosuid"), (MountFlags::NODEV, ",nodev"), (MountFlags::NOEXEC, ",noexec")];
    for (flag, name) in rest {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    text.push_str(",relatime");
    text
}

/// Gives each mount that the process sees below its root, and the path of that.
fn each<P: Cpu>(who: &Who<P>, mut give: impl FnMut(&Arc<Dentry<P>>, &[u8]) -> Result<()>) -> Result<()> {
    let fs = who.process()?.fs();
    for root in fs.namespace.list() {
        // What lies outside of the root, or below what was removed, has no path to show.
        if let Ok(path) = fs.path_of(&root) {
            give(&root, &path)?;
        }
    }
    Ok(())
}

/// `mounts`.
pub(super) fn mounts<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    each(who, |root, path| {
        let mount = root.mount();
        text.escaped(mount.source.as_bytes(), SPECIAL_SOURCE)?;
        text.bytes(b" ")?;
        text.escaped(path, SPECIAL)?;
        text.put(format_args!(" {} {} 0 0\n", mount.kind, options(mount.flags())))
    })?;
    Ok(text.finish())
}

/// `mountinfo`.
pub(super) fn mountinfo<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    each(who, |root, path| {
        let mount = root.mount();
        let above = mount.covers().map_or(mount.id, |point| point.mount().id);
        let device = root.inode().id().device;
        text.put(format_args!("{} {above} {}:{} ", mount.id, device.major, device.minor))?;
        text.escaped(&mount.within, SPECIAL)?;
        text.bytes(b" ")?;
        text.escaped(path, SPECIAL)?;
        text.put(format_args!(" {} - {} ", options(mount.flags()), mount.kind))?;
        text.escaped(mount.source.as_bytes(), SPECIAL_SOURCE)?;
        let writable = if mount.flags().contains(MountFlags::READ_ONLY) { "ro" } else { "rw" };
        text.put(format_args!(" {writable}\n"))
    })?;
    Ok(text.finish())
}

/// `mountstats`: no file system here has figures of its own.
pub(super) fn mountstats<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    each(who, |root, path| {
        let mount = root.mount();
        text.bytes(b"device ")?;
        text.escaped(mount.source.as_bytes(), SPECIAL_SOURCE)?;
        text.bytes(b" mounted on ")?;
        text.escaped(path, SPECIAL)?;
        text.put(format_args!(" with fstype {}\n", mount.kind))
    })?;
    Ok(text.finish())
}
