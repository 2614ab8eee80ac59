//! Damaged images: some bytes of a good one are others. Whatever comes of it, it is an answer: no panic, no endless walk, no memory
//! past the quota.

use super::host::HostImage;
use super::{CX, DEVICE, IMAGES};
use litebox_core::fs::image::{self, Images};
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::io::IoDst;
use litebox_core::fs::types::{Asker, FileKind, Name, OFlags};
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, Random};
use std::sync::Arc;

/// Mutants of each image.
const MUTANTS: u64 = 200;
/// What a sandbox has for one.
const MEMORY: u64 = 2 << 20;

/// Where a structure is likely: in the superblock, or among inodes and indices, which lie in the first and last blocks.
fn mutate(bytes: &mut [u8], random: &mut Random) {
    // Otherwise the checksum would find most of it.
    bytes[1024 + 8] &= !1;
    for _ in 0..=random.index(6) {
        let at = match random.index(4) {
            0 => 1024 + random.index(128),
            1 => random.index(bytes.len().min(16_384)),
            _ => random.index(bytes.len()),
        };
        bytes[at] = match random.index(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at] ^ (1 << random.index(8)),
            _ => random.index(256) as u8,
        };
    }
    if random.index(50) == 0 {
        // Read twice, as by somebody who has the file open.
        bytes.copy_within(0..4096, 4096);
    }
}

/// Looks at everything below `dir`, as far as there is patience.
fn walk(dir: &InodeRef<Hosted>, depth: u32, patience: &mut u32) {
    let mut names = Vec::new();
    let mut cookie = 0;
    for _ in 0..20 {
        let listed = dir.read_dir(cookie, &mut |entry| {
            assert!((1..=255).contains(&entry.name.len()) && !entry.name.contains(&b'/') && !entry.name.contains(&0));
            names.push(entry.name.to_vec());
            names.len() % 50 != 0
        });
        match listed {
            Ok(next) if next != cookie => cookie = next,
            _ => break,
        }
    }
    for name in names {
        if *patience == 0 {
            return;
        }
        *patience -= 1;
        let Ok(name) = Name::new(&name) else { continue };
        let Ok(inode) = dir.lookup(name) else { continue };
        look(&inode);
        if inode.kind() == FileKind::Directory && depth < 4 {
            walk(&inode, depth + 1, patience);
        }
    }
}

fn look(inode: &InodeRef<Hosted>) {
    let size = inode.attr().map_or(0, |attr| attr.size);
    for name in inode.list_xattr().unwrap_or_default().split(|byte| *byte == 0).take(3) {
        let _ = inode.get_xattr(name);
    }
    let _ = inode.readlink(Asker::default());
    let Ok(file) = Arc::clone(inode).open(OFlags::READ) else { return };
    if !file.mappable() {
        return;
    }
    let mut buffer = vec![0; 5000];
    for offset in [0, 4000, size / 2, size.saturating_sub(1), u64::MAX] {
        let read = file.read_at(offset, &mut IoDst::kernel(&mut buffer), CX).unwrap_or(0);
        assert!(read as u64 <= size.saturating_sub(offset));
        let _ = file.resident(offset >> 12);
        let _ = file.page(offset >> 12, false);
    }
}

#[test]
fn damaged_images_give_errors_and_nothing_else() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut opened = 0;
    for (name, bytes) in IMAGES {
        for mutant in 0..MUTANTS {
            let mut bytes = bytes.to_vec();
            mutate(&mut bytes, &mut random);
            if random.index(20) == 0 {
                bytes.truncate(random.index(bytes.len()));
            }
            let Ok(image) = Images::<Hosted>::new().open(Arc::new(HostImage::new(&bytes, mutant % 2 == 0))) else { continue };
            let quota = Quota::new(MEMORY);
            if let Ok(root) = image::root(DEVICE, &quota, &image) {
                opened += 1;
                walk(&root, 0, &mut 40);
            }
            assert!(quota.used() <= MEMORY, "mutant {mutant} of {name}");
        }
    }
    assert!(opened > MUTANTS * IMAGES.len() as u64 / 2, "too few could be opened: {opened}");
}
