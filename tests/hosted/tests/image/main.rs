//! erofs images, as mkfs.erofs 1.8.6 has made them in `images/` of one tree in different ways; the tree is that of [`tree::files`].

mod host;
mod mutants;
mod tree;

use host::HostImage;
use litebox_core::error::Errno;
use litebox_core::fs::image::Images;
use litebox_core::fs::inode::{FileOps, InodeRef, OpsRef};
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::memory::{Limits, MemoryFs};
use litebox_core::fs::types::{Asker, DeviceId, FileKind, Gid, Mode, Name, NewNode, OFlags, Uid};
use litebox_core::fs::{image, inode, overlay};
use litebox_core::platform::Frame;
use litebox_core::quota::Quota;
use litebox_platform_hosted::Hosted;
use std::sync::Arc;

const DEVICE: DeviceId = DeviceId { major: 0, minor: 77 };
const CX: inode::IoCx = inode::IoCx { blocking: inode::Blocking::Yes, strips: false };

/// Each image with its name.
const IMAGES: &[(&str, &[u8])] = &[
    ("plain", include_bytes!("images/plain.erofs")),
    ("small", include_bytes!("images/small.erofs")),
    ("chunks", include_bytes!("images/chunks.erofs")),
    ("lz4", include_bytes!("images/lz4.erofs")),
    ("small-lz4", include_bytes!("images/small-lz4.erofs")),
    ("big", include_bytes!("images/big.erofs")),
    ("full", include_bytes!("images/full.erofs")),
    ("tail", include_bytes!("images/tail.erofs")),
    ("fragments", include_bytes!("images/fragments.erofs")),
    ("dedupe", include_bytes!("images/dedupe.erofs")),
    ("all", include_bytes!("images/all.erofs")),
];

fn mounted(bytes: &[u8]) -> InodeRef<Hosted> {
    let image = Images::<Hosted>::new().open(Arc::new(HostImage::new(bytes, true))).expect("an image");
    image::root(DEVICE, &Quota::new(64 << 20), &image).expect("a root")
}

fn find(root: &InodeRef<Hosted>, path: &str) -> InodeRef<Hosted> {
    let step = |dir: InodeRef<Hosted>, name: &str| dir.lookup(Name::new(name.as_bytes()).expect("a name")).expect("found");
    path.split('/').fold(Arc::clone(root), step)
}

fn open(file: InodeRef<Hosted>) -> OpsRef<Hosted> {
    file.open(OFlags::READ).expect("opened")
}

/// All of it, read `step` bytes at a time.
fn read_all(file: &dyn FileOps<Hosted>, step: usize) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
    loop {
        let count = file.read_at(all.len() as u64, &mut IoDst::kernel(&mut buffer), CX).expect("read");
        if count == 0 {
            return all;
        }
        all.extend_from_slice(&buffer[..count]);
    }
}

fn names(dir: &InodeRef<Hosted>) -> Vec<(String, FileKind)> {
    let (mut all, mut cookie) = (Vec::new(), 0);
    loop {
        // Seven at a time, as a small buffer would have it.
        let mut room = 7;
        let next = dir
            .read_dir(cookie, &mut |entry| {
                if room > 0 {
                    all.push((String::from_utf8(entry.name.to_vec()).expect("UTF-8"), entry.kind));
                }
                room -= i32::from(room > 0);
                room > 0
            })
            .expect("listed");
        // The one that was refused last comes again.
        if room == 0 {
            all.pop();
        }
        if next == cookie {
            return all;
        }
        cookie = next;
    }
}

#[test]
fn files_have_their_content_in_each_form() {
    for (name, bytes) in IMAGES {
        let root = mounted(bytes);
        for (path, content) in tree::files(name) {
            for step in [100_000, 4096, 777] {
                let read = read_all(&*open(find(&root, path)), step);
                assert!(read == content, "{path} of {name} by {step}: {} bytes for {}", read.len(), content.len());
            }
            assert_eq!(find(&root, path).attr().expect("attributes").size, content.len() as u64, "{path} of {name}");
        }
    }
}

#[test]
fn pages_end_with_zeros_and_are_read_in_any_order() {
    for (name, bytes) in IMAGES {
        let root = mounted(bytes);
        for (path, content) in tree::files(name) {
            let file = open(find(&root, path));
            let pages = content.len().div_ceil(4096) as u64;
            // Backwards, so that no page comes with the one before it.
            for index in (0..pages).rev() {
                let mut page = vec![1; 4096];
                file.page(index, false).expect("a page").read(0, &mut page);
                let mut expected = content[index as usize * 4096..].to_vec();
                expected.resize(expected.len().max(4096), 0);
                assert!(page == expected[..4096], "page {index} of {path} of {name}");
                let again = file.resident(index).expect("in memory");
                assert!(again.same(&file.page(index, false).expect("a page")), "page {index} of {path} of {name}");
            }
            assert!(file.page(pages, false).is_err_and(|error| error.is(Errno::FAULT)));
            assert!(file.page(u64::MAX, false).is_err() && file.resident(u64::MAX).is_none());
        }
    }
}

#[test]
fn directories_list_and_find_all_their_names() {
    for (name, bytes) in IMAGES {
        let root = mounted(bytes);
        let dir = find(&root, "dir");
        let listed = names(&dir);
        let mut expected: Vec<_> = (0..300).map(|number| (format!("entry-{number:03}"), FileKind::Regular)).collect();
        expected.push(("below".into(), FileKind::Directory));
        expected.extend([".", ".."].map(|name| (name.into(), FileKind::Directory)));
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        let mut sorted = listed.clone();
        sorted.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(sorted, expected, "{name}");
        let hello = find(&root, "hello").id();
        assert!((0..300).all(|number| find(&dir, &format!("entry-{number:03}")).id() == hello), "{name}");
        for missing in ["a", "entry-", "entry-0000", "entry-300", "zz", "\u{ff}"] {
            let found = dir.lookup(Name::new(missing.as_bytes()).expect("a name"));
            assert!(found.is_err_and(|error| error.is(Errno::NOENT)), "{missing} of {name}");
        }
        assert!(find(&root, "hello").lookup(Name::new(b"x").expect("a name")).is_err_and(|error| error.is(Errno::NOTDIR)));
    }
}

#[test]
fn attributes_are_those_of_the_tree() {
    for (name, bytes) in IMAGES {
        let root = mounted(bytes);
        let attr = |path| find(&root, path).attr().expect("attributes");
        assert_eq!((attr("text").uid, attr("text").gid), (Uid(7), Gid(8)), "{name}");
        assert_eq!((attr("noise").uid, attr("noise").gid), (Uid(100_000), Gid(200_000)), "{name}");
        assert_eq!((attr("hello").links, attr("hello").mode.bits(), attr("dir").mode.bits()), (301, 0o755, 0o1750), "{name}");
        assert_eq!((attr("text").modified.seconds, attr("text").modified.nanoseconds), (1_577_836_800, 7), "{name}");
        assert_eq!((attr("null").kind, attr("null").device), (FileKind::CharDevice, DeviceId { major: 1, minor: 3 }));
        assert_eq!((attr("big").kind, attr("big").device), (FileKind::BlockDevice, DeviceId { major: 259, minor: 70_000 }));
        assert_eq!((attr("fifo").kind, attr("fifo").mode), (FileKind::Fifo, Mode::from_bits_truncate(0o644)));
        assert!(find(&root, "fifo").open(OFlags::READ).is_err_and(|error| error.is(Errno::NXIO)));
        let target = |path| find(&root, path).readlink(Asker::default()).expect("a link");
        assert_eq!((target("link"), target("long-link")), (b"dir/../text".to_vec(), [&b"x/".repeat(1000)[..], b"y"].concat()));
        assert!(find(&root, "text").readlink(Asker::default()).is_err_and(|error| error.is(Errno::INVAL)));
    }
}

#[test]
fn extended_attributes_are_found_behind_the_inode_and_shared() {
    for (name, bytes) in IMAGES {
        let root = mounted(bytes);
        let value = |path, attribute: &str| find(&root, path).get_xattr(attribute.as_bytes());
        let shared = b"the same value everywhere, and long enough";
        assert_eq!(value("hello", "user.own").expect("a value"), b"of hello", "{name}");
        assert!(["text", "mixed", "page", "dir"].iter().all(|path| value(path, "user.shared").expect("a value") == shared));
        assert_eq!(value("text", "trusted.t").expect("a value"), [0, 1], "{name}");
        assert_eq!(value("text", "user.empty").expect("a value"), [], "{name}");
        for (path, missing) in [("text", "user.own"), ("text", "trusted.shared"), ("empty", "user.x"), ("text", "security.t")] {
            assert!(value(path, missing).is_err_and(|error| error.is(Errno::NODATA)), "{missing} of {path} of {name}");
        }
        let mut listed: Vec<_> =
            find(&root, "text").list_xattr().expect("a list").split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        listed.sort();
        assert_eq!(listed, [&b""[..], b"trusted.t", b"user.empty", b"user.shared"], "{name}");
        assert!(find(&root, "empty").list_xattr().expect("a list").is_empty());
    }
}

#[test]
fn sandboxes_share_an_image_and_its_pages_until_it_changes() {
    let images = Images::<Hosted>::new();
    let (_, bytes) = IMAGES[3];
    let host = Arc::new(HostImage::new(bytes, true));
    let (one, other) = (
        images.open(Arc::<HostImage>::clone(&host)).expect("an image"),
        images.open(Arc::<HostImage>::clone(&host)).expect("an image"),
    );
    assert!(Arc::ptr_eq(&one, &other));
    let quotas = [Quota::new(64 << 20), Quota::new(64 << 20)];
    let [first, second] = quotas.each_ref().map(|quota| image::root(DEVICE, quota, &one).expect("a root"));
    let page = open(find(&first, "text")).page(1, false).expect("a page");
    let before = quotas[1].used();
    assert!(open(find(&second, "text")).page(1, false).expect("a page").same(&page));
    assert_eq!(quotas[1].used(), before, "a page that is there is not charged again");
    assert!(quotas[0].used() > 4096);

    host.touch();
    assert!(!Arc::ptr_eq(&one, &images.open(host).expect("an image")));
}

#[test]
fn pages_that_nobody_holds_make_room_and_those_in_use_are_charged() {
    let (_, bytes) = IMAGES[3];
    let image = Images::<Hosted>::new().open(Arc::new(HostImage::new(bytes, true))).expect("an image");
    // Room for some twenty pages and the buffers.
    let quota = Quota::new(22 * 4200 + 210_000);
    let root = image::root(DEVICE, &quota, &image).expect("a root");
    for _ in 0..2 {
        assert_eq!(read_all(&*open(find(&root, "zeros")), 4096).len(), 200_000);
        assert_eq!(read_all(&*open(find(&root, "mixed")), 4096).len(), 23_000);
    }
    assert!(quota.used() <= quota.limit());
    let zeros = open(find(&root, "zeros"));
    let held: Vec<_> = (0..49).map_while(|index| zeros.page(index, false).ok()).collect();
    let bytes_held = 4096 * held.len() as u64;
    assert!(quota.used() >= bytes_held, "{} pages are held and {} bytes charged", held.len(), quota.used());
}

#[test]
fn an_image_can_lie_below_an_overlay() {
    let quota = Quota::new(64 << 20);
    let upper = MemoryFs::limited(DEVICE, &quota, NewNode { mode: Mode::RWXU, uid: Uid(0), gid: Gid(0) }, Limits::default());
    for (name, bytes) in IMAGES {
        let lower = mounted(bytes);
        let upper = match &upper {
            Ok(upper) => {
                upper.mkdir(Name::new(name.as_bytes()).expect("a name"), NewNode { mode: Mode::RWXU, uid: Uid(0), gid: Gid(0) })
            }
            Err(error) => Err(*error),
        };
        let root = overlay::root(DEVICE, &quota, lower, &upper.expect("an upper layer")).expect("an overlay");
        let text = find(&root, "text");
        let before = text.id();
        let file = Arc::clone(&text).open(OFlags::READ | OFlags::WRITE).expect("opened for writing");
        assert_eq!(file.write_at(5, &mut IoSrc::kernel(b"LINE"), CX).expect("written"), 4, "{name}");
        let all = read_all(&*open(find(&root, "text")), 4096);
        assert_eq!((all.len(), &all[..12]), (20_000, &b"line LINE00\n"[..]), "{name}");
        assert_eq!(find(&root, "text").id(), before, "{name}");
        root.unlink(Name::new(b"hello").expect("a name")).expect("removed");
        assert!(root.lookup(Name::new(b"hello").expect("a name")).is_err_and(|error| error.is(Errno::NOENT)));
        assert_eq!(find(&root, "dir/entry-007").get_xattr(b"user.own").expect("a value"), b"of hello", "{name}");
    }
}

#[test]
fn a_host_without_a_page_cache_will_do() {
    for (name, bytes) in IMAGES {
        let image = Images::<Hosted>::new().open(Arc::new(HostImage::new(bytes, false))).expect("an image");
        let root = image::root(DEVICE, &Quota::new(64 << 20), &image).expect("a root");
        for (path, content) in tree::files(name) {
            let file = open(find(&root, path));
            assert!(read_all(&*file, 5000) == content, "{path} of {name}");
            if !content.is_empty() {
                let mut page = vec![1; content.len().min(4096)];
                file.page(0, false).expect("a page").read(0, &mut page);
                assert!(page == content[..page.len()], "{path} of {name}");
            }
        }
    }
}
