//! The overlay: what is below stays, what is shown is as if it had been changed. Both layers are in memory here.

use litebox_core::capabilities::Capabilities;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::inode::{InodeRef, Special};
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::memory::MemoryFs;
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::overlay;
use litebox_core::fs::path::{At, FsContext, Resolve};
use litebox_core::fs::types::{Attr, AttrChange, Credentials, DeviceId, Gid, Mode, NewNode, OFlags, RenameFlags, Uid};
use litebox_core::fs::xattr::SetHow;
use litebox_core::quota::Quota;
use litebox_platform_hosted::Hosted;
use std::sync::Arc;

const ALL: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

/// A lower layer, the same as it is seen below, and an overlay of it.
struct Layers {
    below: FsContext<Hosted>,
    over: FsContext<Hosted>,
    user: Credentials,
    quota: Arc<Quota>,
}

fn memory(quota: &Arc<Quota>, minor: u32) -> InodeRef<Hosted> {
    let root = NewNode { mode: ALL, uid: Uid(0), gid: Gid(0) };
    MemoryFs::new(DeviceId { major: 0, minor }, quota, root).expect("a root")
}

fn context(root: InodeRef<Hosted>) -> FsContext<Hosted> {
    let mount = NewMount { root, flags: MountFlags::empty(), kind: "test", source: "none".into() };
    FsContext::new(MountNamespace::new(mount, &Quota::new(1 << 20)).unwrap())
}

/// Has /dir/{a,b,sub/deep}, /file, /one and /two (one file), /link.
fn layers(upper: u64) -> Layers {
    let user = Credentials { capabilities: Capabilities::all(), ..Credentials::default() };
    let lower = memory(&Quota::new(64 << 20), 1);
    let below = context(Arc::clone(&lower));
    let at = below.at_cwd(&user);
    for dir in ["/dir", "/dir/sub"] {
        at.mkdir(dir.as_bytes(), ALL).expect("made");
    }
    for file in ["/dir/a", "/dir/b", "/dir/sub/deep", "/file", "/one"] {
        write(at, file, file).expect("written");
    }
    at.link(&at.resolve(b"/one", Resolve::empty()).expect("there"), b"/two").expect("linked");
    at.symlink(b"dir/a", b"/link").expect("linked");
    let quota = Quota::new(upper);
    let root = overlay::root(DeviceId { major: 0, minor: 3 }, &quota, lower, &memory(&quota, 2)).expect("an overlay");
    Layers { below, over: context(root), user, quota }
}

impl Layers {
    fn at(&self) -> At<'_, Hosted> {
        self.over.at_cwd(&self.user)
    }

    fn attr(&self, path: &str) -> Attr {
        self.at().resolve(path.as_bytes(), Resolve::empty()).expect("there").inode().attr().expect("attributes")
    }

    fn exists(&self, path: &str) -> bool {
        self.at().resolve(path.as_bytes(), Resolve::empty()).is_ok()
    }

    /// Names in the order of listing, read `room` at a time.
    fn names(&self, path: &str, room: usize) -> Vec<String> {
        let dir = self.at().open(path.as_bytes(), OFlags::READ | OFlags::DIRECTORY, Mode::empty()).expect("opened");
        let mut names = Vec::new();
        loop {
            let (before, mut left) = (names.len(), room);
            let taken = dir.read_dir(&mut |entry| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                names.push(String::from_utf8_lossy(entry.name).into_owned());
                true
            });
            taken.expect("listed");
            if names.len() == before {
                names.retain(|name| name != "." && name != "..");
                return names;
            }
        }
    }
}

fn write(at: At<'_, Hosted>, path: &str, text: &str) -> Result<usize> {
    let file = at.open(path.as_bytes(), OFlags::WRITE | OFlags::CREATE, ALL)?;
    file.write(&mut IoSrc::kernel(text.as_bytes()))
}

fn read(at: At<'_, Hosted>, path: &str) -> String {
    let file = at.open(path.as_bytes(), OFlags::READ, Mode::empty()).expect("opened");
    let mut bytes = [0; 64];
    let count = file.read(&mut IoDst::kernel(&mut bytes)).expect("read");
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

fn errno<T>(result: Result<T>) -> Option<Errno> {
    result.err().and_then(|error| error.errno())
}

#[test]
fn a_write_changes_what_is_shown_and_nothing_below() {
    let layers = layers(64 << 20);
    let (before, dir) = (layers.attr("/dir/sub/deep"), layers.attr("/dir/sub"));
    let reader = layers.at().open(b"/dir/sub/deep", OFlags::READ, Mode::empty()).expect("opened");
    write(layers.at(), "/dir/sub/deep", "new").expect("written");
    assert_eq!(read(layers.at(), "/dir/sub/deep"), "newr/sub/deep");
    assert_eq!(read(layers.below.at_cwd(&layers.user), "/dir/sub/deep"), "/dir/sub/deep");
    let after = layers.attr("/dir/sub/deep");
    assert_eq!((after.id, after.links, after.mode), (before.id, 1, before.mode));
    assert_eq!((layers.attr("/dir/sub").id, layers.attr("/dir/sub").modified), (dir.id, dir.modified));
    // Whoever had it open before sees the same file.
    let mut bytes = [0; 3];
    reader.read(&mut IoDst::kernel(&mut bytes)).expect("read");
    assert_eq!(&bytes, b"new");
}

#[test]
fn attributes_are_copied_with_the_file() {
    let layers = layers(64 << 20);
    let place = layers.at().resolve(b"/file", Resolve::empty()).expect("there");
    let change = AttrChange { mode: Some(Mode::RUSR), uid: Some(Uid(7)), ..AttrChange::default() };
    layers.at().set_attr(&place, &change).expect("changed");
    layers.at().set_xattr(&place, b"user.x", b"1", SetHow::Any).expect("set");
    drop(place);
    let attr = layers.attr("/file");
    assert_eq!((attr.mode, attr.uid, attr.size), (Mode::RUSR, Uid(7), 5));
    assert_eq!(read(layers.at(), "/file"), "/file");
    let place = layers.at().resolve(b"/file", Resolve::empty()).expect("there");
    assert_eq!(layers.at().list_xattr(&place).expect("listed"), b"user.x\0");
    assert_eq!(errno(layers.at().get_xattr(&place, b"trusted.overlay.origin")), Some(Errno::OPNOTSUPP));
}

#[test]
fn truncation_copies_only_what_is_kept() {
    let layers = layers(64 << 20);
    drop(layers.at().open(b"/file", OFlags::WRITE | OFlags::TRUNC, Mode::empty()).expect("opened"));
    assert_eq!(layers.attr("/file").size, 0);
}

#[test]
fn what_is_removed_stays_away_and_can_come_back() {
    let layers = layers(64 << 20);
    let open = layers.at().open(b"/dir/a", OFlags::READ, Mode::empty()).expect("opened");
    layers.at().unlink(b"/dir/a").expect("removed");
    assert_eq!(errno(layers.at().unlink(b"/dir/a")), Some(Errno::NOENT));
    assert_eq!(layers.names("/dir", 1), ["b", "sub"]);
    // The open file lives on, and a change of it brings no name back.
    layers.at().set_attr(open.place(), &AttrChange { mode: Some(Mode::RUSR), ..AttrChange::default() }).expect("changed");
    assert!(!layers.exists("/dir/a"));
    write(layers.at(), "/dir/a", "again").expect("made");
    assert_eq!(read(layers.at(), "/dir/a"), "again");
    assert_eq!(layers.names("/dir", 1), ["a", "b", "sub"]);
    let mut bytes = [0; 64];
    assert_eq!(open.read(&mut IoDst::kernel(&mut bytes)).expect("read"), 6);
    assert_eq!(read(layers.below.at_cwd(&layers.user), "/dir/a"), "/dir/a");
}

#[test]
fn a_directory_that_is_made_anew_is_empty() {
    let layers = layers(64 << 20);
    assert_eq!(errno(layers.at().rmdir(b"/dir")), Some(Errno::NOTEMPTY));
    for file in ["/dir/a", "/dir/b", "/dir/sub/deep"] {
        layers.at().unlink(file.as_bytes()).expect("removed");
    }
    for dir in ["/dir/sub", "/dir"] {
        layers.at().rmdir(dir.as_bytes()).expect("removed");
    }
    assert_eq!(layers.names("/", 2), ["file", "link", "one", "two"]);
    layers.at().mkdir(b"/dir", ALL).expect("made");
    assert!(layers.names("/dir", 5).is_empty());
    layers.at().mkdir(b"/dir/sub", ALL).expect("made");
    write(layers.at(), "/dir/sub/deep", "x").expect("made");
    assert_eq!(layers.names("/dir/sub", 5), ["deep"]);
}

#[test]
fn files_move_and_lower_directories_do_not() {
    let layers = layers(64 << 20);
    let at = layers.at();
    let mv = |from: &str, to: &str, flags| at.rename(from.as_bytes(), &at, to.as_bytes(), flags);
    let none = RenameFlags::empty();
    assert_eq!(errno(mv("/dir", "/moved", none)), Some(Errno::XDEV));
    mv("/dir/a", "/dir/c", none).expect("moved");
    mv("/file", "/dir/b", none).expect("moved over");
    assert_eq!((read(at, "/dir/c"), read(at, "/dir/b")), ("/dir/a".into(), "/file".into()));
    assert!(!layers.exists("/file") && !layers.exists("/dir/a"));
    assert_eq!(layers.names("/dir", 1), ["b", "sub", "c"]);
    at.mkdir(b"/new", ALL).expect("made");
    write(at, "/new/x", "x").expect("made");
    assert_eq!(errno(mv("/new", "/dir/sub", none)), Some(Errno::NOTEMPTY));
    at.unlink(b"/dir/sub/deep").expect("removed");
    mv("/new", "/dir/sub", none).expect("moved over an empty one");
    assert_eq!(layers.names("/dir/sub", 5), ["x"]);
    mv("/dir/sub", "/file", none).expect("moved to a removed name");
    assert!(!layers.exists("/dir/sub"));
    mv("/dir/c", "/one", RenameFlags::EXCHANGE).expect("exchanged");
    assert_eq!((read(at, "/one"), read(at, "/dir/c")), ("/dir/a".into(), "/one".into()));
    assert_eq!(errno(mv("/dir/c", "/one", RenameFlags::NOREPLACE)), Some(Errno::EXIST));
}

#[test]
fn a_file_renamed_while_open_is_written_under_its_new_name() {
    let layers = layers(64 << 20);
    let at = layers.at();
    let open = at.open(b"/dir/a", OFlags::READ, Mode::empty()).expect("opened");
    at.rename(b"/dir/a", &at, b"/dir/z", RenameFlags::empty()).expect("moved");
    at.set_attr(open.place(), &AttrChange { mode: Some(Mode::RUSR), ..AttrChange::default() }).expect("changed");
    assert_eq!(layers.attr("/dir/z").mode, Mode::RUSR);
    assert!(!layers.exists("/dir/a"));
}

#[test]
fn links_are_one_file_above() {
    let layers = layers(64 << 20);
    let at = layers.at();
    assert_eq!(layers.attr("/one").id, layers.attr("/two").id);
    at.link(&at.resolve(b"/file", Resolve::empty()).expect("there"), b"/dir/same").expect("linked");
    write(at, "/dir/same", "S").expect("written");
    assert_eq!(read(at, "/file"), "Sfile");
    assert_eq!((layers.attr("/file").id, layers.attr("/file").links), (layers.attr("/dir/same").id, 2));
    // Of several names below, the one that is written to becomes a file of its own.
    write(at, "/one", "O").expect("written");
    assert_eq!((read(at, "/one"), read(at, "/two")), ("Oone".into(), "/one".into()));
    assert_ne!(layers.attr("/one").id, layers.attr("/two").id);
}

#[test]
fn special_files_and_whiteouts_are_told_apart() {
    let layers = layers(64 << 20);
    let zero = Special::CharDevice(DeviceId::default());
    assert_eq!(errno(layers.at().mknod(b"/null", zero, ALL)), Some(Errno::PERM));
    layers.at().mknod(b"/fifo", Special::Fifo, ALL).expect("made");
    assert!(layers.exists("/fifo"));
    assert_eq!(layers.at().readlink(b"/link").expect("a link"), b"dir/a");
}

#[test]
fn a_full_layer_changes_nothing() {
    let layers = layers(12 << 10);
    let mut made = 0;
    while write(layers.at(), &format!("/n{made}"), "").is_ok() {
        made += 1;
    }
    assert_eq!(errno(write(layers.at(), "/dir/a", "x")), Some(Errno::NOMEM));
    assert_eq!(read(layers.at(), "/dir/a"), "/dir/a");
    assert!(layers.exists("/dir/sub/deep"));
    let used = layers.quota.used();
    assert!(errno(write(layers.at(), "/dir/b", "x")).is_some());
    assert!(layers.quota.used() <= used + 2048, "only the directory may have been copied");
}

/// A deterministic stream of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// Does the same to both, and says how it went.
fn step(at: At<'_, Hosted>, what: usize, one: &str, other: &str) -> Option<Errno> {
    let (a, b) = (one.as_bytes(), other.as_bytes());
    errno(match what {
        0 => write(at, one, other).map(drop),
        1 => at.mkdir(a, ALL),
        2 => at.unlink(a),
        3 => at.rmdir(a),
        4 => at.rename(a, &at, b, RenameFlags::empty()),
        5 => at.rename(a, &at, b, RenameFlags::EXCHANGE),
        6 => at.resolve(a, Resolve::empty()).and_then(|place| at.link(&place, b)),
        _ => at.symlink(a, b),
    })
}

/// Every path below `dir`, with its kind and text.
fn tree(layers: &Layers, fs: &FsContext<Hosted>, dir: &str, all: &mut Vec<String>) {
    let at = fs.at_cwd(&layers.user);
    let open = at.open(dir.as_bytes(), OFlags::READ | OFlags::DIRECTORY, Mode::empty()).expect("opened");
    let mut names = Vec::new();
    let listed = open.read_dir(&mut |entry| {
        names.push((String::from_utf8_lossy(entry.name).into_owned(), entry.kind, entry.number));
        true
    });
    listed.expect("listed");
    names.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, kind, number) in names.into_iter().filter(|(name, ..)| name != "." && name != "..") {
        let path = format!("{}/{name}", dir.trim_end_matches('/'));
        let place = at.resolve(path.as_bytes(), Resolve::empty()).expect("what is listed is there");
        assert_eq!((place.inode().kind(), place.inode().id().number), (kind, number), "{path}");
        if place.is_dir() {
            all.push(path.clone());
            tree(layers, fs, &path, all);
        } else if place.inode().kind() == litebox_core::fs::types::FileKind::Regular {
            all.push(format!("{path}={}", read(at, &path)));
        } else {
            all.push(format!("{path}->"));
        }
    }
}

#[test]
fn random_changes_are_as_in_one_file_system() {
    let names = ["/dir", "/dir/a", "/dir/b", "/dir/sub", "/dir/sub/deep", "/file", "/n", "/n/m", "/link"];
    for seed in 0..200 {
        let layers = layers(64 << 20);
        // The lower layer is changed by nobody but the model, which is another one like it.
        let model = self::layers(64 << 20);
        let plain = model.below.at_cwd(&model.user);
        let mut numbers = Numbers(seed);
        for _ in 0..60 {
            let (what, one, other) = (numbers.below(8), names[numbers.below(names.len())], names[numbers.below(names.len())]);
            if matches!(what, 4 | 5) {
                let trial = step(layers.at(), what, one, other);
                if trial == Some(Errno::XDEV) {
                    continue;
                }
                assert_eq!(trial, step(plain, what, one, other), "seed {seed}: {what} {one} {other}");
            } else {
                assert_eq!(
                    step(layers.at(), what, one, other),
                    step(plain, what, one, other),
                    "seed {seed}: {what} {one} {other}"
                );
            }
        }
        let (mut shown, mut wanted) = (Vec::new(), Vec::new());
        tree(&layers, &layers.over, "/", &mut shown);
        tree(&model, &model.below, "/", &mut wanted);
        // /one and /two are linked below, which the overlay does not keep; nobody touches them here.
        assert_eq!(shown, wanted, "seed {seed}");
    }
}
