//! A file system that outlives its sandbox: what was kept is there again, after an end and after a power cut at any write.

mod disk;

use disk::{Contents, Disk, after_cut};
use litebox_core::capabilities::Capabilities;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::inode::{InodeRef, Special};
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::memory::MemoryFs;
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::path::{At, FsContext, Resolve};
use litebox_core::fs::types::{
    AttrChange, Credentials, DeviceId, FileKind, Gid, Mode, NewNode, OFlags, RenameFlags, SetTime, Timestamp, Uid,
};
use litebox_core::fs::xattr::SetHow;
use litebox_core::fs::{journal, overlay};
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, Random};
use std::collections::BTreeMap;
use std::sync::Arc;

const DEVICE: DeviceId = DeviceId { major: 0, minor: 5 };
const ALL: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

fn mounted(root: InodeRef<Hosted>) -> FsContext<Hosted> {
    let mount = NewMount { root, flags: MountFlags::empty(), kind: "test", source: "none".into() };
    FsContext::new(MountNamespace::new(mount, &Quota::new(1 << 20)).expect("a namespace"))
}

fn open(disk: &Disk) -> Result<FsContext<Hosted>> {
    journal::root(DEVICE, &Quota::new(64 << 20), disk, None, None).map(mounted)
}

fn user() -> Credentials {
    Credentials { capabilities: Capabilities::all(), ..Credentials::default() }
}

fn put(at: At<'_, Hosted>, path: &str, bytes: &[u8]) {
    let file = at.open(path.as_bytes(), OFlags::WRITE | OFlags::CREATE | OFlags::TRUNC, ALL).expect("opened");
    assert_eq!(file.write(&mut IoSrc::kernel(bytes)).expect("written"), bytes.len());
}

fn sync(at: At<'_, Hosted>, path: &str) -> Result<()> {
    at.open(path.as_bytes(), OFlags::READ, ALL)?.ops().sync()
}

/// Everything below `/`: kind, mode, owners, links of files, device, content or target, attributes.
type Tree = BTreeMap<String, (FileKind, u32, [u32; 2], u32, DeviceId, Vec<u8>, Vec<u8>)>;

fn tree(fs: &FsContext<Hosted>) -> Tree {
    let (user, mut tree, mut dirs) = (user(), Tree::new(), vec![String::new()]);
    let at = fs.at_cwd(&user);
    while let Some(dir) = dirs.pop() {
        let open = at.open(format!("{dir}/").as_bytes(), OFlags::READ | OFlags::DIRECTORY, ALL).expect("opened");
        let mut names = Vec::new();
        open.read_dir(&mut |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).expect("UTF-8"));
            true
        })
        .expect("listed");
        for name in names.iter().filter(|name| !matches!(name.as_str(), "." | "..")) {
            let path = format!("{dir}/{name}");
            let place = at.resolve(path.as_bytes(), Resolve::empty()).expect("there");
            let attr = place.inode().attr().expect("attributes");
            let content = match attr.kind {
                FileKind::Regular => {
                    let mut bytes = vec![0; attr.size as usize];
                    let file = at.open(path.as_bytes(), OFlags::READ, ALL).expect("opened");
                    assert_eq!(file.read(&mut IoDst::kernel(&mut bytes)).expect("read"), bytes.len());
                    bytes
                }
                FileKind::Symlink => at.readlink(path.as_bytes()).expect("a target"),
                _ => Vec::new(),
            };
            let mut extended = place.inode().list_xattr().expect("a list");
            for name in extended.clone().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                extended.extend(place.inode().get_xattr(name).expect("a value"));
            }
            let links = if attr.kind == FileKind::Directory { 0 } else { attr.links };
            if attr.kind == FileKind::Directory {
                dirs.push(path.clone());
            }
            let (mode, owners) = (attr.mode.bits(), [attr.uid.0, attr.gid.0]);
            tree.insert(path, (attr.kind, mode, owners, links, attr.device, content, extended));
        }
    }
    tree
}

/// One of everything.
fn fill(at: At<'_, Hosted>) {
    at.mkdir(b"/dir", Mode::RWXU).expect("made");
    put(at, "/dir/file", &[b'x'; 10_000]);
    put(at, "/other", b"text");
    at.link(&at.resolve(b"/other", Resolve::empty()).expect("there"), b"/dir/again").expect("linked");
    at.symlink(b"dir/file", b"/link").expect("linked");
    at.mknod(b"/pipe", Special::Fifo, ALL).expect("made");
    at.mknod(b"/device", Special::CharDevice(DeviceId { major: 1, minor: 3 }), ALL).expect("made");
    let file = at.resolve(b"/dir/file", Resolve::empty()).expect("there");
    at.set_xattr(&file, b"user.name", b"value", SetHow::Any).expect("set");
    let time = Some(SetTime::At(Timestamp { seconds: 5, nanoseconds: 6 }));
    let owned = AttrChange { uid: Some(Uid(7)), gid: Some(Gid(8)), modified: time, ..AttrChange::default() };
    at.set_attr(&file, &owned).expect("changed");
    put(at, "/moved", b"moved");
    at.rename(b"/moved", &at, b"/dir/moved", RenameFlags::empty()).expect("moved");
    put(at, "/gone", b"gone");
    at.unlink(b"/gone").expect("removed");
    let sparse = at.open(b"/sparse", OFlags::WRITE | OFlags::CREATE, ALL).expect("opened");
    sparse.write_at(1 << 20, &mut IoSrc::kernel(b"end")).expect("written");
    let unnamed = at.open(b"/dir", OFlags::READ | OFlags::WRITE | OFlags::TMPFILE, ALL).expect("opened");
    unnamed.write(&mut IoSrc::kernel(b"unnamed")).expect("written");
    at.link(unnamed.place(), b"/named").expect("linked");
}

#[test]
fn what_was_there_is_there_again() {
    let disk = Disk::default();
    let before = {
        let fs = open(&disk).expect("new");
        let user = user();
        fill(fs.at_cwd(&user));
        tree(&fs)
    };
    assert_eq!(before.len(), 10);
    // Twice, since the second one adds to what the first has found.
    for round in 0..2 {
        let fs = open(&disk).expect("found");
        assert_eq!(tree(&fs), before, "round {round}");
        let user = user();
        let attr = fs.at_cwd(&user).resolve(b"/dir/file", Resolve::empty()).expect("there").inode().attr().expect("attributes");
        assert_eq!(attr.modified, Timestamp { seconds: 5, nanoseconds: 6 });
        put(fs.at_cwd(&user), "/dir/new", b"new");
        fs.at_cwd(&user).unlink(b"/dir/new").expect("removed");
    }
}

#[test]
fn what_nobody_asked_to_keep_is_not_found_after_a_cut() {
    let disk = Disk::default();
    let fs = open(&disk).expect("new");
    let user = user();
    let at = fs.at_cwd(&user);
    put(at, "/kept", b"kept");
    sync(at, "/kept").expect("kept");
    put(at, "/lost", b"lost");
    let after = open(&Disk::with(disk.contents())).expect("found");
    assert_eq!(tree(&after).keys().map(String::as_str).collect::<Vec<_>>(), ["/kept"]);
}

#[test]
fn a_long_journal_is_written_anew() {
    let disk = Disk::default();
    let before = {
        let fs = open(&disk).expect("new");
        let user = user();
        let at = fs.at_cwd(&user);
        fill(at);
        for round in 0..60u8 {
            put(at, "/big", &vec![round; 100_000]);
            sync(at, "/big").expect("kept");
        }
        tree(&fs)
    };
    let len = |contents: &Contents| contents.values().map(Vec::len).max().unwrap_or(0);
    assert!(len(&disk.contents()) > 6_000_000);
    let again = open(&disk).expect("found");
    assert_eq!(tree(&again), before);
    drop(again);
    let user = user();
    let fs = open(&disk).expect("found in the other file");
    assert_eq!(tree(&fs), before);
    put(fs.at_cwd(&user), "/after", b"after");
    drop(fs);
    let mut contents = disk.contents();
    let shorter = contents.values().map(Vec::len).min().expect("two files");
    assert!(shorter < 1_000_000, "{shorter} bytes");
    contents.retain(|_, content| content.len() == shorter);
    assert_eq!(tree(&open(&Disk::with(contents)).expect("found alone")).len(), before.len() + 1);
}

/// A workload with a power cut at each of its writes, many times over.
#[test]
fn after_a_power_cut_the_state_is_that_of_the_last_sync() {
    let disk = Disk::default();
    let fs = open(&disk).expect("new");
    let user = user();
    let at = fs.at_cwd(&user);
    // The states that were asked to be kept, and how many events there were before and after that was done.
    let mut states = vec![(0, disk.event_count(), Tree::new())];
    let mut keep = |path: &str| {
        let state = tree(&fs);
        let begun = disk.event_count();
        sync(at, path).expect("kept");
        states.push((begun, disk.event_count(), state));
    };
    fill(at);
    keep("/dir");
    for round in 0..6u8 {
        // As an editor saves: a new file, kept, takes the place of the old one.
        put(at, "/new", &vec![round; 3000 * usize::from(round) + 1]);
        keep("/new");
        at.rename(b"/new", &at, b"/saved", RenameFlags::empty()).expect("moved");
        keep("/saved");
        let file = at.open(b"/dir/file", OFlags::READ | OFlags::WRITE, ALL).expect("opened");
        file.write_at(u64::from(round) * 1000, &mut IoSrc::kernel(&[round; 500])).expect("written");
        file.truncate(9000 - u64::from(round)).expect("cut");
        if round % 2 == 0 {
            keep("/dir/file");
        }
        at.mkdir(format!("/dir/{round}").as_bytes(), ALL).expect("made");
    }
    let (events, mut random) = (disk.events(), Random(0x9e37_79b9_7f4a_7c15));
    let empty: Contents = [&b"journal.a"[..], b"journal.b"].map(|name| (name.to_vec(), Vec::new())).into();
    for cut in 0..=events.len() {
        for trial in 0..30 {
            let found = match open(&Disk::with(after_cut(&empty, &events, cut, &mut |end| random.index(end)))) {
                Ok(fs) => tree(&fs),
                Err(error) => panic!("cut {cut}, trial {trial}: {error:?}"),
            };
            let last = states.iter().rposition(|(_, done, _)| *done <= cut).unwrap_or(0);
            let begun = states.iter().rposition(|(begun, _, _)| *begun < cut).unwrap_or(0);
            let is_one = (last..=begun.max(last)).any(|at| states[at].2 == found);
            assert!(is_one, "cut {cut}, trial {trial}: not the state of sync {last}, nor of {begun}");
        }
    }
}

#[test]
fn an_overlay_goes_on_with_its_upper_layer() {
    let below = |disk: &Disk| {
        let lower = MemoryFs::new(DEVICE, &Quota::new(1 << 20), NewNode { mode: ALL, uid: Uid(0), gid: Gid(0) }).expect("a root");
        let old = mounted(Arc::clone(&lower));
        let user = user();
        for name in ["/a", "/b", "/c"] {
            put(old.at_cwd(&user), name, name.as_bytes());
        }
        old.at_cwd(&user).mkdir(b"/dir", ALL).expect("made");
        put(old.at_cwd(&user), "/dir/below", b"below");
        let quota = Quota::new(64 << 20);
        let upper = journal::root(DEVICE, &quota, disk, None, None).expect("an upper layer");
        mounted(overlay::root(DeviceId { major: 0, minor: 6 }, &quota, lower, &upper).expect("an overlay"))
    };
    let disk = Disk::default();
    let before = {
        let fs = below(&disk);
        let user = user();
        let at = fs.at_cwd(&user);
        at.unlink(b"/a").expect("removed");
        at.rename(b"/b", &at, b"/dir/b", RenameFlags::empty()).expect("moved");
        let file = at.open(b"/c", OFlags::WRITE | OFlags::APPEND, ALL).expect("opened");
        file.write(&mut IoSrc::kernel(b" and more")).expect("written");
        at.unlink(b"/dir/below").expect("removed");
        put(at, "/dir/above", b"above");
        tree(&fs)
    };
    assert_eq!(before.keys().map(String::as_str).collect::<Vec<_>>(), ["/c", "/dir", "/dir/above", "/dir/b"]);
    for _ in 0..2 {
        let fs = below(&disk);
        assert_eq!(tree(&fs), before);
        let user = user();
        let at = fs.at_cwd(&user);
        put(at, "/a", b"again");
        at.unlink(b"/a").expect("removed again");
    }
}

#[test]
fn a_host_without_room_is_an_error_of_sync_and_loses_nothing() {
    let disk = Disk::default();
    let fs = open(&disk).expect("new");
    let user = user();
    let at = fs.at_cwd(&user);
    put(at, "/first", b"first");
    sync(at, "/first").expect("kept");
    disk.set_room(Some(disk.contents().values().map(Vec::len).sum::<usize>() + 100));
    put(at, "/second", &[2; 5000]);
    assert!(sync(at, "/second").is_err_and(|error| error.is(Errno::NOSPC)));
    assert_eq!(tree(&open(&Disk::with(disk.contents())).expect("found")).len(), 1);
    disk.set_room(None);
    sync(at, "/second").expect("kept");
    assert_eq!(tree(&open(&Disk::with(disk.contents())).expect("found")), tree(&fs));
}

#[test]
fn a_journal_of_somebody_else_s_is_refused_and_does_no_harm() {
    let disk = Disk::default();
    {
        let fs = open(&disk).expect("new");
        let user = user();
        fill(fs.at_cwd(&user));
    }
    let good = disk.contents();
    let mut state = 77u64;
    for mutant in 0..1500 {
        let mut contents = good.clone();
        for content in contents.values_mut().filter(|content| !content.is_empty()) {
            for _ in 0..=mutant % 3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % content.len();
                content[at] = (state >> 24) as u8;
            }
        }
        // Whatever the checksums let through is an answer.
        if let Ok(fs) = open(&Disk::with(contents)) {
            tree(&fs);
        }
    }
    let mut later = good;
    later.values_mut().filter(|content| content.len() > 8).for_each(|content| content[7] = 2);
    assert!(open(&Disk::with(later)).is_err_and(|error| error.is(Errno::OPNOTSUPP)));
}

#[test]
fn a_journal_is_one_sandbox_s_until_all_was_kept() {
    static JOURNALS: journal::Journals<Hosted> = journal::Journals::new();
    let disk = Disk::default();
    let claim = JOURNALS.claim(&disk).expect("free");
    let root = journal::root(DEVICE, &Quota::new(64 << 20), &disk, None, Some(claim)).expect("new");
    assert!(JOURNALS.claim(&disk).is_err_and(|error| error.is(Errno::BUSY)));
    drop(root);
    JOURNALS.claim(&disk).expect("free again");
}
