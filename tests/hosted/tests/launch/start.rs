//! Programs that start.

use super::elf;
use super::host::{Item, dir, file, program, run, sandbox};
use litebox_core::error::Errno;
use litebox_core::mm::PAGE_SIZE;

const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
const AT_EXECFN: u64 = 31;
const AT_PHDR: u64 = 3;

#[test]
fn a_fixed_program_is_in_memory_as_its_file_says() {
    let builder = sandbox(dir([("bin", dir([("true", program(&elf::fixed()))]))]));
    let begun = run(&builder, "/bin/true", &["true", "-x"]).unwrap();
    assert_eq!(begun.regs.ip, elf::BASE + elf::ENTRY);
    assert_eq!(begun.peek(begun.regs.ip, elf::CODE.len()), elf::CODE);
    let data = elf::BASE + elf::DATA;
    assert_eq!(begun.peek(data, 4), elf::BYTES);
    assert_eq!(begun.peek(data + 4, 0x17fc), [0; 0x17fc], "what the file has behind the data is cleared");
    assert_eq!((begun.regs.sp % 16, begun.regs.orig_ax), (0, u64::MAX));
    assert_eq!(begun.args(), ["true", "-x"]);
    assert_eq!(begun.string(begun.aux(AT_EXECFN)), "/bin/true");
    assert_eq!((begun.aux(AT_ENTRY), begun.aux(AT_BASE), begun.aux(AT_PHDR)), (begun.regs.ip, 0, elf::BASE + 64));
    assert_eq!(&begun.task.shared().name(), b"true\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!((begun.task.process().pid(), begun.task.tid()), (2, 2));
    // The heap begins behind the data, at a page.
    let (start, end) = begun.task.mm().heap();
    assert!(start == end && start.get() >= data + 0x1800 && start.get() % PAGE_SIZE == 0);
}

#[test]
fn pages_of_zeros_can_be_read_and_written_whatever_the_file_says() {
    for (flags, of_file, of_zeros) in [(6, "rw-p", "rw-p"), (4, "r--p", "rw-p"), (1, "--xp", "rwxp"), (0, "---p", "rw-p")] {
        let mut bytes = elf::fixed();
        bytes[elf::DATA_RIGHTS] = flags;
        let begun = run(&sandbox(dir([("a", program(&bytes)), ("proc", dir([]))])), "/a", &["a"]).unwrap();
        let maps = begun.cat("/proc/self/maps");
        for (start, rights) in [(elf::BASE + elf::DATA, of_file), (elf::BASE + elf::DATA + PAGE_SIZE, of_zeros)] {
            let line = format!("{start:08x}-{:08x} {rights} ", start + PAGE_SIZE);
            assert!(maps.contains(&line), "flags {flags}: {line} not in\n{maps}");
        }
    }
}

#[test]
fn a_movable_program_is_started_by_its_interpreter() {
    let builder =
        sandbox(dir([("lib", dir([("ld.so", program(&elf::interpreter()))])), ("a", program(&elf::movable("/lib/ld.so")))]));
    let begun = run(&builder, "a", &["a"]).unwrap();
    let (base, entry) = (begun.aux(AT_BASE), begun.aux(AT_ENTRY));
    assert_eq!(begun.regs.ip, base + elf::ENTRY);
    assert_ne!(base, entry - elf::ENTRY);
    assert_eq!(begun.peek(entry, elf::CODE.len()), elf::CODE);
    assert_eq!(begun.peek(base + elf::DATA, 4), elf::BYTES);
    // Not where another sandbox has them.
    let other = run(
        &sandbox(dir([("lib", dir([("ld.so", program(&elf::interpreter()))])), ("a", program(&elf::movable("/lib/ld.so")))])),
        "/a",
        &["a"],
    )
    .unwrap();
    assert_ne!((base, entry, begun.regs.sp), (other.aux(AT_BASE), other.aux(AT_ENTRY), other.regs.sp));
}

#[test]
fn a_script_s_interpreter_gets_its_name_and_the_rest() {
    let root = || {
        dir([
            ("sh", program(&elf::fixed())),
            ("script", program(b"#!/sh -e  x \necho\n")),
            ("plain", program(b"#! sh\n")),
            ("outer", program(b"#!/script\tone\n")),
            ("link", Item::Link("script")),
        ])
    };
    let args = |path: &str, args: &[&str]| run(&sandbox(root()), path, args).unwrap().args();
    assert_eq!(args("/script", &["me", "a", "b"]), ["/sh", "-e  x", "/script", "a", "b"]);
    assert_eq!(args("plain", &["me"]), ["sh", "plain"]);
    assert_eq!(args("/outer", &["me", "a"]), ["/sh", "-e  x", "/script", "one", "/outer", "a"]);
    assert_eq!(args("/link", &[]), ["/sh", "-e  x", "/link"]);
    let begun = run(&sandbox(root()), "/script", &["me"]).unwrap();
    assert_eq!(begun.string(begun.aux(AT_EXECFN)), "/script");
    assert_eq!(&begun.task.shared().name()[..7], b"script\0");
    assert_eq!(begun.task.process().running().get().unwrap().place.name().as_bytes(), b"sh");
}

#[test]
fn a_long_name_is_cut_to_fifteen_bytes() {
    let builder = sandbox(dir([("a-name-of-20-letters", program(&elf::fixed()))]));
    let begun = run(&builder, "/a-name-of-20-letters", &["x"]).unwrap();
    assert_eq!(&begun.task.shared().name(), b"a-name-of-20-le\0");
}

#[test]
fn no_arguments_become_one_empty_one() {
    let builder = sandbox(dir([("a", program(&elf::fixed()))]));
    assert_eq!(run(&builder, "/a", &[]).unwrap().args(), [""]);
}

#[test]
fn a_failed_run_changes_nothing() {
    let builder =
        sandbox(dir([("a", program(&elf::fixed())), ("dir", dir([("b", program(&elf::fixed()))])), ("f", file(0o644, b""))]));
    for (program, cwd, errno) in [
        ("/none", "/", Errno::NOENT),
        ("b", "/", Errno::NOENT),
        ("/a", "/none", Errno::NOENT),
        ("/a", "/f", Errno::NOTDIR),
        ("/f", "/", Errno::ACCESS),
    ] {
        let error = builder.run(program.as_bytes(), cwd.as_bytes(), &[b"x"], &[]).unwrap_err();
        assert!(error.is(errno), "{program}: {error:?}");
    }
    // A task that never got a carrier is as if it had not been.
    drop(builder.run(b"/a", b"/", &[b"x"], &[]).unwrap());
    let (task, _) = builder.run(b"b", b"/dir", &[b"x"], &[]).unwrap();
    assert_eq!(task.process().pid(), 2);
    let fs = task.fs();
    assert_eq!(fs.path_of(&fs.cwd).unwrap(), b"/dir");
}

#[test]
fn a_program_that_may_only_be_executed_runs_and_is_not_looked_into() {
    let mut builder = sandbox(dir([("secret", program(&elf::fixed()))]));
    builder.set_ids(1000, 1000);
    assert!(run(&builder, "/secret", &["x"]).unwrap().task.process().with(|state| state.dumpable));
    let mut builder = sandbox(dir([("secret", file(0o711, &elf::fixed()))]));
    builder.set_ids(1000, 1000);
    let begun = run(&builder, "/secret", &["x"]).unwrap();
    assert!(!begun.task.process().with(|state| state.dumpable));
    assert_eq!(begun.peek(begun.regs.ip, elf::CODE.len()), elf::CODE);
}
