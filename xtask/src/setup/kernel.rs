//! The kernel: what a VM boots of it, and its source made ready for building modules in Rust.

use std::fs;

use anyhow::{Context, Result};

use super::tree::OUT;
use super::{Built, Key, Setup, Tree};
use crate::paths;

/// Modules that every VM needs to reach the guest's root, and to let programs write to it.
const BASE_MODULES: &[&str] = &["virtio_blk", "erofs", "overlay"];
/// Modules that a shared folder needs.
const SHARE_MODULES: &[&str] = &["9pnet_virtio", "9p"];
/// The directories of the modules above; the numbers in the names give the order.
pub(super) const MODULE_GROUPS: [&str; 2] = ["base", "share"];
/// The directory of those that a test loads, as a hypervisor beside ours.
pub(super) const KVM_GROUP: &str = "kvm";
/// See [`KVM_GROUP`].
const KVM_MODULES: &[&str] = &["kvm_amd"];
/// Where the prepared kernel appears in the tree. Its files name this path, so it never changes.
pub(super) const KERNEL: &str = "/mnt/kernel";

/// Prepares the kernel's source: out/ is what `kbuild/Makefile` takes as `KERNEL_OUT`.
pub(super) fn step(setup: &Setup, tree: &Tree) -> Result<Built> {
    let script = paths::repository().join("kbuild/prepare.sh");
    let release = tree.release()?;
    let key = Key::default().text(tree.key()).text(&release).files(&script)?;
    setup.step("kernel", key, |out, log| {
        let tarball = tree.kernel_source()?;
        fs::copy(&script, out.join("prepare.sh"))?;
        let inside = tree.inside().bind(out, KERNEL);
        inside.run(&format!("cd {KERNEL} && ./prepare.sh {tarball} {KERNEL}/out {release}"), log)
    })
}

/// Takes what a VM boots out of the kernel's package: the kernel itself, and the modules that the initramfs needs, decompressed and
/// numbered in loading order. Under an emulator, unpacking would take seconds at each boot.
pub(super) fn boot_files(setup: &Setup, tree: &Tree) -> Result<Built> {
    let release = tree.release()?;
    let key = Key::default().text(tree.key()).text(&release).text(&format!("{BASE_MODULES:?} {SHARE_MODULES:?} {KVM_MODULES:?}"));
    setup.step("boot-files", key, |out, log| {
        let image = fs::read(tree.kernel()?).context("cannot read the kernel")?;
        fs::write(out.join("payload"), payload(&image).unwrap_or_default())?;
        let take = |directory: &str, names: &[&str]| {
            format!(
                "mkdir {OUT}/{directory}; n=10
                 for module in {}; do
                   for path in $(modprobe -S {release} --show-depends $module | sed -n 's/^insmod \\([^ ]*\\).*/\\1/p'); do
                     name=$(basename $path); name=${{name%%.ko*}}
                     ls {OUT}/*/*-$name.ko > /dev/null 2>&1 && continue
                     case $path in
                       *.xz) xz -dc $path ;;
                       *.zst) zstd -dc $path ;;
                       *) cat $path ;;
                     esac > {OUT}/{directory}/$n-$name.ko
                     n=$((n + 1))
                   done
                 done\n",
                names.join(" ")
            )
        };
        let [base, share] = MODULE_GROUPS;
        let script = take(base, BASE_MODULES) + &take(share, SHARE_MODULES) + &take(KVM_GROUP, KVM_MODULES);
        let unpack = format!(
            "cd {OUT}
             for tool in zstd xz gzip; do
               $tool -dc < payload > kernel 2> /dev/null || true # what follows the compressed data is not its business
               [ \"$(head -c 4 kernel | tail -c 3)\" = ELF ] && break
               rm kernel
             done
             rm payload\n"
        );
        tree.inside().bind(out, OUT).run(&(script + &unpack), log)?;
        let kernel = out.join("kernel");
        if !kernel.exists() {
            // Unknown compression: QEMU boots the image as it is, too.
            fs::write(kernel, image)?;
        }
        Ok(())
    })
}

/// The compressed kernel within a boot image (Linux Documentation/arch/x86/boot.rst: `setup_sects`, `payload_offset`, `payload_length`).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(*image.get(at..)?.first_chunk()?) as usize);
    let sectors = usize::from(*image.get(0x1f1)?);
    let begin = (sectors + 1) * 512 + number(0x248)?;
    image.get(begin..begin.checked_add(number(0x24c)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_where_the_header_says() {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x248] = 16;
        image[0x24c] = 4;
        image[1040..1044].copy_from_slice(b"pack");
        assert_eq!(payload(&image), Some(&b"pack"[..]));
        assert_eq!(payload(&image[..1042]), None);
        assert_eq!(payload(&[]), None);
    }
}
