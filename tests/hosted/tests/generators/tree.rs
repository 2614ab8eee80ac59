//! Names that are made, moved, linked and removed, against the machine's own file system: the same results, the same errors, the same
//! tree in the end. An overlay may refuse to rename a directory that has something below (`XDEV`); such a step is left out.

use super::{ALL, Random, context, memory, over, root_user};
use litebox_core::error::{Errno, Result};
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::path::{At, FsContext, Resolve};
use litebox_core::fs::types::{FileKind, OFlags, RenameFlags};
use litebox_platform_hosted::Hosted;
use litebox_shim_linux::errno;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

const OPERATIONS: usize = 5000;

/// One step, with paths that begin with a slash.
#[derive(Debug)]
enum Step {
    Create(String),
    Write(String, String),
    Mkdir(String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String, String),
}

fn path(random: &mut Random) -> String {
    let depth = 1 + random.index(3) + random.index(2);
    let names = (0..depth).map(|_| ["a", "b", "c", "d", "."][random.index(if depth > 1 { 5 } else { 4 })]);
    let mut path = names.fold(String::new(), |path, name| path + "/" + name);
    if random.index(40) == 0 {
        path.push('/');
    }
    path
}

fn step(random: &mut Random) -> Step {
    let first = path(random);
    match random.index(12) {
        0 | 1 => Step::Create(first),
        2 => Step::Write(first.clone(), first),
        3 | 4 => Step::Mkdir(first),
        5 => Step::Unlink(first),
        6 => Step::Rmdir(first),
        7..=9 => Step::Rename(first, path(random)),
        10 => Step::Link(first, path(random)),
        _ => Step::Symlink([".", "a", "c/d", "d", "nowhere"][random.index(5)].into(), first),
    }
}

fn ours(at: At<'_, Hosted>, step: &Step) -> Result<()> {
    match step {
        Step::Create(path) => at.open(path.as_bytes(), OFlags::WRITE | OFlags::CREATE | OFlags::EXCL, ALL).map(drop),
        Step::Write(path, text) => {
            let file = at.open(path.as_bytes(), OFlags::WRITE | OFlags::CREATE | OFlags::TRUNC, ALL)?;
            file.write(&mut IoSrc::kernel(text.as_bytes())).map(drop)
        }
        Step::Mkdir(path) => at.mkdir(path.as_bytes(), ALL),
        Step::Unlink(path) => at.unlink(path.as_bytes()),
        Step::Rmdir(path) => at.rmdir(path.as_bytes()),
        Step::Rename(from, to) => at.rename(from.as_bytes(), &at, to.as_bytes(), RenameFlags::empty()),
        Step::Link(from, to) => at.link(&at.resolve(from.as_bytes(), Resolve::empty())?, to.as_bytes()),
        Step::Symlink(target, path) => at.symlink(target.as_bytes(), path.as_bytes()),
    }
}

fn native(root: &Path, step: &Step) -> std::io::Result<()> {
    let place = |path: &str| format!("{}{path}", root.display());
    match step {
        Step::Create(path) => fs::OpenOptions::new().write(true).create_new(true).open(place(path)).map(drop),
        Step::Write(path, text) => {
            fs::OpenOptions::new().write(true).create(true).truncate(true).open(place(path))?.write_all(text.as_bytes())
        }
        Step::Mkdir(path) => fs::create_dir(place(path)),
        Step::Unlink(path) => fs::remove_file(place(path)),
        Step::Rmdir(path) => fs::remove_dir(place(path)),
        Step::Rename(from, to) => fs::rename(place(from), place(to)),
        Step::Link(from, to) => fs::hard_link(place(from), place(to)),
        Step::Symlink(target, path) => symlink(target, place(path)),
    }
}

/// What a tree holds: kind, links of a file, and content or target.
type Tree = BTreeMap<String, (FileKind, u64, Vec<u8>)>;

fn our_tree(at: At<'_, Hosted>, dir: &str, tree: &mut Tree) {
    let open = at.open(dir.as_bytes(), OFlags::READ | OFlags::DIRECTORY, ALL).expect("opened");
    let mut names = Vec::new();
    open.read_dir(&mut |entry| {
        names.push(String::from_utf8(entry.name.to_vec()).expect("UTF-8"));
        true
    })
    .expect("listed");
    for name in names.iter().filter(|name| !matches!(name.as_str(), "." | "..")) {
        let path = format!("{}/{name}", dir.trim_end_matches('/'));
        let attr = at.resolve(path.as_bytes(), Resolve::empty()).expect("there").inode().attr().expect("attributes");
        let content = match attr.kind {
            FileKind::Regular => {
                let mut bytes = vec![0; 100];
                let file = at.open(path.as_bytes(), OFlags::READ, ALL).expect("opened");
                let count = file.read(&mut IoDst::kernel(&mut bytes)).expect("read");
                bytes[..count].to_vec()
            }
            FileKind::Symlink => at.readlink(path.as_bytes()).expect("a target"),
            _ => Vec::new(),
        };
        let links = if attr.kind == FileKind::Regular { attr.links.into() } else { 0 };
        if attr.kind == FileKind::Directory {
            our_tree(at, &path, tree);
        }
        tree.insert(path, (attr.kind, links, content));
    }
}

fn native_tree(root: &Path, dir: &str, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(dir.trim_start_matches('/'))).expect("listed") {
        let entry = entry.expect("an entry");
        let path = format!("{}/{}", dir.trim_end_matches('/'), entry.file_name().to_string_lossy());
        let about = entry.metadata().expect("attributes");
        let (kind, links, content) = if about.is_dir() {
            native_tree(root, &path, tree);
            (FileKind::Directory, 0, Vec::new())
        } else if about.is_symlink() {
            (FileKind::Symlink, 0, fs::read_link(entry.path()).expect("a target").into_os_string().into_encoded_bytes())
        } else {
            (FileKind::Regular, about.nlink(), fs::read(entry.path()).expect("read"))
        };
        tree.insert(path, (kind, links, content));
    }
}

/// A directory of this machine's, empty.
fn empty(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).expect("made");
    root
}

/// Does random steps on both sides. No path has `..`, which leads out of the machine's directory and not out of ours.
fn run(fs: &FsContext<Hosted>, name: &str, prepared: &[Step], seed: u64) {
    let user = root_user();
    let at = fs.at_cwd(&user);
    let root = empty(name);
    for step in prepared {
        native(&root, step).expect("prepared");
    }
    let mut random = Random(seed);
    for number in 0..OPERATIONS {
        let step = step(&mut random);
        let here = ours(at, &step).map_err(|error| error.errno().map(errno::number));
        if here == Err(Some(errno::number(Errno::XDEV))) && matches!(step, Step::Rename(..)) {
            continue;
        }
        let there = native(&root, &step).map_err(|error| error.raw_os_error().and_then(|errno| u32::try_from(errno).ok()));
        assert_eq!(here, there, "step {number} of {name}: {step:?}");
    }
    let (mut here, mut there) = (Tree::new(), Tree::new());
    our_tree(at, "/", &mut here);
    native_tree(&root, "/", &mut there);
    assert_eq!(here, there, "the tree of {name}");
    fs::remove_dir_all(root).expect("removed");
}

#[test]
fn a_tree_in_memory_is_that_of_this_machine() {
    for seed in 1..=4 {
        run(&context(memory(1)), &format!("memory-{seed}"), &[], seed);
    }
}

#[test]
fn a_tree_over_another_is_that_of_this_machine() {
    for seed in 21..=24 {
        let lower = memory(1);
        let below = context(std::sync::Arc::clone(&lower));
        let prepared: Vec<Step> = ["/a", "/b", "/a/b", "/a/c"]
            .into_iter()
            .map(|dir| Step::Mkdir(dir.into()))
            .chain(["/c", "/a/a", "/a/b/d", "/b/d"].into_iter().map(|file| Step::Write(file.into(), file.into())))
            .chain([Step::Symlink("a".into(), "/d".into())])
            .collect();
        for step in &prepared {
            ours(below.at_cwd(&root_user()), step).expect("prepared");
        }
        run(&over(lower), &format!("overlay-{seed}"), &prepared, seed);
    }
}
