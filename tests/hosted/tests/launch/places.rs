//! Mounts, descriptors and devices that a program starts with.

use super::elf;
use super::host::{Begun, Bytes, Item, dir, file, program, run, sandbox};
use litebox_core::error::Errno;
use litebox_core::fs::fd_table::Fd;
use litebox_core::fs::host::HostFile;
use litebox_core::fs::io::{IoDst, IoSrc};
use litebox_core::fs::memory::Limits;
use litebox_core::fs::types::{DeviceId, FileKind, Mode, OFlags};
use litebox_platform_hosted::Hosted;
use litebox_shim_linux::launch::{Builder, Memory};
use std::sync::Arc;

fn empty(names: [&str; 3]) -> Item {
    let [a, b, c] = names.map(|name| (name, dir([])));
    dir([a, b, c, ("a", program(&elf::fixed())), ("file", file(0o644, b"host"))])
}

fn host(file: &Arc<Bytes>) -> Arc<dyn HostFile<Hosted>> {
    file.clone()
}

fn begin(builder: &Builder<Hosted>) -> Begun {
    run(builder, "/a", &["a"]).unwrap()
}

#[test]
fn the_first_mount_is_the_root() {
    let mut builder = Builder::<Hosted>::new(1 << 30, None, None).unwrap();
    assert!(builder.run(b"/a", b"/", &[b"a"], &[]).unwrap_err().is(Errno::INVAL));
    assert!(builder.mount_memory(b"/tmp", Memory::default(), false).unwrap_err().is(Errno::INVAL));
    assert!(builder.mount_host_file(b"/", Bytes::new(FileKind::Regular, 0o644, b""), false).unwrap_err().is(Errno::NOTDIR));
    builder.mount_memory(b"/", Memory::default(), false).unwrap();
    builder.mount_proc(b"/made/proc", false).unwrap();
    builder.mount_memory(b"/locked", Memory::default(), true).unwrap();
    assert!(builder.mount_proc(b"/locked/proc", false).unwrap_err().is(Errno::NOENT), "no such directory, and none can be made");
    assert!(builder.run(b"/a", b"/", &[b"a"], &[]).unwrap_err().is(Errno::NOENT));
}

#[test]
fn later_mounts_cover_earlier_ones_and_what_is_read_only_stays() {
    let mut builder = sandbox(empty(["tmp", "x", "y"]));
    let Item::Dir(over) = dir([("shown", file(0o644, b"over"))]) else { return };
    builder.mount_host_dir(b"/x", over, true).unwrap();
    builder.mount_memory(b"/y", Memory { limits: Limits { bytes: Some(64 << 10), files: None }, mode: None }, false).unwrap();
    builder.mount_memory(b"/y/../tmp", Memory::default(), true).unwrap();
    builder.mount_host_file(b"/file", Bytes::new(FileKind::Regular, 0o644, b"bound"), true).unwrap();
    assert!(builder.mount_host_file(b"/x", Bytes::new(FileKind::Regular, 0o644, b""), true).unwrap_err().is(Errno::NOTDIR));
    let begun = begin(&builder);
    assert_eq!((begun.cat("/x/shown"), begun.cat("/file")), ("over".to_owned(), "bound".to_owned()));
    assert_eq!(begun.write("/y/new", "text").unwrap(), 4);
    for path in ["/tmp/new", "/file", "/new"] {
        assert!(begun.write(path, "text").unwrap_err().is(Errno::ROFS), "{path}");
    }
    let big = begun.write("/y/big", &"x".repeat(100 << 10));
    assert!(big.is_err_and(|error| error.is(Errno::NOSPC)) || big.is_ok_and(|written| written < 64 << 10));
    let mode = begun.task.fs().at_cwd(&begun.task.credentials()).resolve(b"/y", Default::default()).unwrap();
    assert_eq!(mode.inode().attr().unwrap().mode.bits(), 0o1777);
}

#[test]
fn descriptors_are_those_that_were_given() {
    let (input, output) = (Bytes::new(FileKind::Fifo, 0o600, b"in"), Bytes::new(FileKind::Fifo, 0o600, b""));
    let mut builder = sandbox(empty(["dev", "proc", "tmp"]));
    builder.give_fd(0, host(&input)).unwrap();
    builder.give_fd(1, input).unwrap();
    builder.give_fd(1, host(&output)).unwrap();
    builder.give_fd(7, Bytes::new(FileKind::Regular, 0o600, b"seven")).unwrap();
    assert!(builder.give_fd(1024, host(&output)).unwrap_err().is(Errno::BADF));
    let begun = begin(&builder);
    let files = begun.task.files();
    assert_eq!((files.next_open(Fd(2)), files.next_open(Fd(8))), (Some(Fd(7)), None));
    assert_eq!(files.get(Fd(1)).unwrap().write(&mut IoSrc::kernel(b"out")).unwrap(), 3);
    assert_eq!(output.content(), b"out");
    assert_eq!(begun.cat("/dev/stdin"), "in", "by /proc/self/fd");
    assert_eq!(begun.write("/dev/fd/1", " more").unwrap(), 5);
    assert_eq!(output.content(), b"out more");
    assert_eq!((begun.cat("/dev/fd/7"), begun.link("/proc/self/fd/1").starts_with("pipe:[")), ("seven".to_owned(), true));
    assert!(begun.read("/dev/stderr").unwrap_err().is(Errno::NOENT), "not open");
    assert!(begun.read("/dev/tty").unwrap_err().is(Errno::NXIO), "no terminal");
}

#[test]
fn the_terminal_is_dev_tty() {
    let terminal = Bytes::new(FileKind::CharDevice, 0o620, b"typed");
    let mut builder = sandbox(empty(["dev", "proc", "tmp"]));
    builder.give_fd(0, host(&terminal)).unwrap();
    let begun = begin(&builder);
    assert_eq!((begun.cat("/dev/tty").as_str(), begun.link("/dev/fd/0").as_str()), ("typed", "/dev/tty"));
    let who = begun.task.credentials();
    let fs = begun.task.fs();
    let by_name = fs.at_cwd(&who).open(b"/dev/tty", OFlags::READ, Mode::empty()).unwrap();
    let given = begun.task.files().get(Fd(0)).unwrap();
    let attr = |file: &litebox_core::fs::file::File<Hosted>| file.place().inode().attr().unwrap();
    assert_eq!((attr(&by_name).id, attr(&by_name).device), (attr(&given).id, attr(&given).device), "ttyname(3) finds it");
    assert_eq!(by_name.ops().window_size().unwrap().columns, 80);
}

#[test]
fn devices_do_what_they_are_for() {
    let begun = begin(&sandbox(empty(["dev", "proc", "tmp"])));
    assert_eq!(begun.cat("/dev/null"), "");
    assert!(begun.write("/dev/full", "x").unwrap_err().is(Errno::NOSPC));
    assert_eq!(begun.write("/dev/null", "x").unwrap(), 1);
    let who = begun.task.credentials();
    let fs = begun.task.fs();
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let file = fs.at_cwd(&who).open(format!("/dev/{name}").as_bytes(), OFlags::READ, Mode::empty()).unwrap();
        let attr = file.place().inode().attr().unwrap();
        assert_eq!((attr.kind, attr.device), (FileKind::CharDevice, DeviceId { major: 1, minor }), "{name}");
        let mut bytes = [0; 32];
        let read = file.read(&mut IoDst::kernel(&mut bytes)).unwrap();
        assert_eq!((read, bytes != [0; 32]), (if name == "null" { 0 } else { 32 }, name.ends_with("random")), "{name}");
    }
    assert_eq!(begun.write("/dev/shm/object", "shared").unwrap(), 6);
    assert!(begun.write("/dev/new", "x").is_err());
    let mut names = begun.list("/dev");
    names.sort();
    assert_eq!(
        names,
        [".", "..", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]
    );
}

#[test]
fn a_sandbox_has_room_for_as_many_tasks_as_its_launcher_says() {
    for (tasks, fits) in [(0, false), (1, true)] {
        let mut builder = Builder::<Hosted>::new(1 << 30, Some(tasks), None).unwrap();
        let Item::Dir(root) = empty(["dev", "proc", "tmp"]) else { return };
        builder.mount_host_dir(b"/", root, true).unwrap();
        let started = run(&builder, "/a", &["a"]);
        assert_eq!(started.is_err_and(|error| error.is(Errno::AGAIN)), !fits, "{tasks}");
    }
}

#[test]
fn a_trace_goes_to_its_file() {
    let trace = Bytes::new(FileKind::Fifo, 0o600, b"");
    let mut builder = Builder::<Hosted>::new(1 << 30, Some(7), Some(host(&trace))).unwrap();
    let Item::Dir(root) = empty(["dev", "proc", "tmp"]) else { return };
    builder.mount_host_dir(b"/", root, true).unwrap();
    let mut begun = begin(&builder);
    begun.regs.orig_ax = u64::from(linux_raw_sys::general::__NR_getpid);
    let (task, regs) = (&mut begun.task, &mut begun.regs);
    litebox_platform_hosted::enter(&Arc::clone(task.mm()), || litebox_shim_linux::dispatch(task, regs));
    assert_eq!((begun.regs.ax, String::from_utf8(trace.content()).unwrap()), (2, "a[2] getpid() = 2\n".to_owned()));
    assert_eq!(begun.task.sandbox().machine().tasks, 7);
}

#[test]
fn what_is_to_be_made_is_made() {
    let mut builder = sandbox(empty(["tmp", "x", "y"]));
    let mode = Mode::from_bits_truncate;
    let text = host(&Bytes::new(FileKind::Regular, 0o600, b"text"));
    assert!(builder.make_dir(b"/x/on/the/way", None).unwrap_err().is(Errno::ROFS));
    builder
        .mount_memory(b"/y", Memory { limits: Limits { bytes: None, files: Some(6) }, mode: Some(mode(0o700)) }, false)
        .unwrap();
    builder.make_dir(b"/y/d", Some(mode(0o3775))).unwrap();
    builder.make_dir(b"/y/d", None).unwrap();
    builder.make_symlink(b"/y/d/link", b"../f").unwrap();
    builder.make_symlink(b"/y/d/link", b"../f").unwrap();
    assert!(builder.make_symlink(b"/y/d/link", b"other").unwrap_err().is(Errno::EXIST));
    builder.make_file(b"/y/f", &text, Some(mode(0o604))).unwrap();
    builder.make_file(b"/y/g/h", &text, None).unwrap();
    assert!(builder.make_dir(b"/y/one/too/many", None).unwrap_err().is(Errno::NOSPC));
    builder.set_ids(0, 7);
    let begun = begin(&builder);
    assert_eq!((begun.cat("/y/d/link"), begun.cat("/y/g/h")), ("text".to_owned(), "text".to_owned()));
    let fs = begun.task.fs();
    let mode = |path: &[u8]| {
        let place = fs.at_cwd(&begun.task.credentials()).resolve(path, Default::default()).unwrap();
        place.inode().attr().unwrap().mode.bits()
    };
    assert_eq!((mode(b"/y"), mode(b"/y/d"), mode(b"/y/f"), mode(b"/y/g/h")), (0o700, 0o3775, 0o604, 0o644));
    assert_eq!(begun.task.credentials().gid.0, 7);
}
