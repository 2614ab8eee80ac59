//! Programs that do not start, each with the errno that Linux gives.

use super::elf;
use super::host::{Item, dir, file, program, refused, run, sandbox};
use litebox_core::error::Errno;
use litebox_core::fs::types::FileKind;

#[test]
fn files_that_are_no_programs() {
    let mut cut = elf::fixed();
    cut.truncate(100);
    let mut other_machine = elf::fixed();
    other_machine[18] = 40;
    let builder = sandbox(dir([
        ("empty", program(b"")),
        ("text", program(b"echo hello\n")),
        ("cut", program(&cut)),
        ("arm", program(&other_machine)),
        ("dir", dir([])),
        ("no-x", file(0o644, &elf::fixed())),
        ("fifo", Item::File(super::host::Bytes::new(FileKind::Fifo, 0o777, b""))),
        ("loop", Item::Link("loop")),
        ("a", program(&elf::fixed())),
    ]));
    for (path, errno) in [
        ("/empty", Errno::NOEXEC),
        ("/text", Errno::NOEXEC),
        ("/cut", Errno::NOEXEC),
        ("/arm", Errno::NOEXEC),
        ("/dir", Errno::ACCESS),
        ("/no-x", Errno::ACCESS),
        ("/fifo", Errno::ACCESS),
        ("/loop", Errno::LOOP),
        ("/none", Errno::NOENT),
        ("", Errno::NOENT),
        ("/a/b", Errno::NOTDIR),
        ("/a/", Errno::NOTDIR),
        (&"x".repeat(300), Errno::NAMETOOLONG),
        (&"/x".repeat(3000), Errno::NAMETOOLONG),
    ] {
        assert_eq!(refused(&builder, path), errno, "{path}");
    }
}

#[test]
fn interpreters_that_cannot_be_used() {
    let builder = sandbox(dir([
        ("missing", program(b"#!/none\n")),
        ("plain", file(0o644, &elf::fixed())),
        ("not-executable", program(b"#!/plain\n")),
        ("dir", dir([])),
        ("directory", program(b"#!/dir\n")),
        ("nameless", program(b"#!\n")),
        ("mark", program(b"#!")),
        ("elf-empty", program(&elf::movable("\0lib"))),
        ("elf-missing", program(&elf::movable("/none"))),
        ("elf-plain", program(&elf::movable("/plain"))),
        ("text", program(&[b'x'; 100])),
        ("elf-text", program(&elf::movable("/text"))),
        ("short", program(b"\x7fELF")),
        ("elf-short", program(&elf::movable("/short"))),
        ("elf-script", program(&elf::movable("/missing"))),
    ]));
    for (path, errno) in [
        ("/missing", Errno::NOENT),
        ("/not-executable", Errno::ACCESS),
        ("/directory", Errno::ACCESS),
        ("/nameless", Errno::NOEXEC),
        ("/mark", Errno::ACCESS),
        ("/elf-empty", Errno::ACCESS),
        ("/elf-missing", Errno::NOENT),
        ("/elf-plain", Errno::ACCESS),
        ("/elf-text", Errno::LIBBAD),
        ("/elf-short", Errno::IO),
        ("/elf-script", Errno::IO),
    ] {
        assert_eq!(refused(&builder, path), errno, "{path}");
    }
}

#[test]
fn more_zeros_than_there_is_memory() {
    let with = |bytes: u64| {
        let mut file = elf::fixed();
        file[elf::DATA_MEMORY..][..8].copy_from_slice(&bytes.to_le_bytes());
        program(&file)
    };
    let builder = sandbox(dir([("fits", with(255 << 20)), ("huge", with(257 << 20))]));
    assert!(run(&builder, "/fits", &["x"]).is_ok());
    assert_eq!(refused(&builder, "/huge"), Errno::NOMEM);
}

#[test]
fn scripts_that_name_scripts() {
    let script = |next: &str| program(format!("#!/{next}\n").as_bytes());
    let builder = sandbox(dir([
        ("0", program(&elf::fixed())),
        ("1", script("0")),
        ("2", script("1")),
        ("3", script("2")),
        ("4", script("3")),
        ("5", script("4")),
        ("6", script("5")),
        ("self", script("self")),
    ]));
    assert_eq!(run(&builder, "/5", &["x", "y"]).unwrap().args(), ["/0", "/1", "/2", "/3", "/4", "/5", "y"]);
    assert_eq!((refused(&builder, "/6"), refused(&builder, "/self")), (Errno::LOOP, Errno::LOOP));
}

#[test]
fn arguments_past_the_limit() {
    let builder = sandbox(dir([("a", program(&elf::fixed())), ("s", program(b"#!/none\n"))]));
    let with = |program: &[u8], args: &[&[u8]]| builder.run(program, b"/", args, &[]).map(|_| ());
    let long = vec![b'a'; 128 * 1024];
    assert!(with(b"/a", &[&long[1..]]).is_ok());
    assert!(with(b"/a", &[&long]).unwrap_err().is(Errno::TOOBIG), "one string");
    assert!(with(b"/a", &vec![&long[1..]; 16]).unwrap_err().is(Errno::TOOBIG), "a quarter of the stack");
    assert!(with(b"/s", &[&long]).unwrap_err().is(Errno::TOOBIG), "before the file is looked at");
    assert!(with(b"/none", &[&long]).unwrap_err().is(Errno::NOENT), "but not before it is opened");
}
