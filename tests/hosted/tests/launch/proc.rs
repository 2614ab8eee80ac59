//! What a program finds in /proc, in Linux's formats.

use super::elf;
use super::host::{Begun, Bytes, dir, program, run, sandbox};
use litebox_core::error::Errno;
use litebox_core::fs::types::FileKind;

fn begun() -> Begun {
    let root = dir([("dev", dir([])), ("proc", dir([])), ("tmp", dir([])), ("bin", dir([("prog", program(&elf::fixed()))]))]);
    let mut builder = sandbox(root);
    builder.give_fd(0, Bytes::new(FileKind::Regular, 0o600, b"in")).unwrap();
    run(&builder, "/bin/prog", &["prog", "an arg"]).unwrap()
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

#[test]
fn self_is_the_one_who_asks() {
    let begun = begun();
    assert_eq!((begun.link("/proc/self"), begun.link("/proc/thread-self")), ("2".to_owned(), "2/task/2".to_owned()));
    assert_eq!(begun.cat("/proc/self/comm"), "prog\n");
    assert_eq!(begun.cat("/proc/thread-self/comm"), begun.cat("/proc/2/task/2/comm"));
    for missing in ["/proc/99", "/proc/01", "/proc/-1", "/proc/none", "/proc/2/task/99", "/proc/2/fd/9", "/proc/2/task/1/task"] {
        assert!(begun.read(missing).unwrap_err().is(Errno::NOENT), "{missing}");
    }
    assert_eq!((begun.cat("/proc/1/comm").as_str(), begun.cat("/proc/1/cmdline").as_str()), ("init\n", ""));
    assert!(begun.cat("/proc/1/stat").starts_with("1 (init) S 0 1 1 0 -1 "), "{}", begun.cat("/proc/1/stat"));
    let names = begun.list("/proc");
    assert!(
        ["self", "thread-self", "2", "meminfo", "sys"].iter().all(|name| names.iter().any(|known| known == name)),
        "{names:?}"
    );
    assert_eq!(
        (begun.list("/proc/self/task"), begun.list("/proc/self/fd")),
        (vec![".".into(), "..".into(), "2".into()], vec![".".into(), "..".into(), "0".into()])
    );
}

#[test]
fn every_name_that_is_listed_is_there() {
    fn walk(begun: &Begun, path: &str, seen: &mut usize) {
        for name in begun.list(path) {
            let path = format!("{path}/{name}");
            if matches!(name.as_str(), "." | ".." | "root" | "cwd" | "exe" | "self" | "thread-self" | "0") {
                continue;
            }
            match begun.read(&path) {
                Ok(_) => *seen += 1,
                Err(error) if error.is(Errno::ISDIR) => walk(begun, &path, seen),
                // Nothing is at the address 0.
                Err(error) if error.is(Errno::IO) && name == "mem" => *seen += 1,
                // They are to be written to only.
                Err(error)
                    if error.is(Errno::ACCESS) && matches!(name.as_str(), "drop_caches" | "compact_memory" | "clear_refs") =>
                {
                    *seen += 1
                }
                // A namespace is only there to be named.
                Err(error) if error.is(Errno::INVAL) && path.contains("/ns/") => *seen += 1,
                // Only whole entries are read.
                Err(error) if error.is(Errno::INVAL) && name == "pagemap" => *seen += 1,
                // Init runs no program.
                Err(error) if error.is(Errno::SRCH) && path.starts_with("/proc/1/") => *seen += 1,
                Err(error) => panic!("{path}: {error:?}"),
            }
        }
    }
    let mut seen = 0;
    walk(&begun(), "/proc", &mut seen);
    assert!(seen > 80, "{seen}");
}

#[test]
fn strings_are_read_from_memory() {
    let begun = begun();
    assert_eq!(
        (begun.cat("/proc/self/cmdline"), begun.cat("/proc/self/environ")),
        ("prog\0an arg\0".into(), "HOME=/\0A=1\0".into())
    );
    // A program that writes over the last NUL has one string there, up to its end.
    let (start, end) = begun.task.process().running().get().unwrap().arguments;
    begun.task.mm().poke(litebox_core::mm::GuestAddr::new(start), b"a longer title\0").unwrap();
    assert_eq!(end - start, 12);
    assert_eq!(begun.cat("/proc/self/cmdline"), "a longer title\0");
}

#[test]
fn links_lead_to_things() {
    let begun = begun();
    assert_eq!((begun.link("/proc/self/exe"), begun.link("/proc/self/cwd")), ("/bin/prog".into(), "/".into()));
    assert_eq!((begun.link("/proc/self/root"), begun.link("/proc/mounts")), ("/".into(), "self/mounts".into()));
    assert!(begun.link("/proc/self/fd/0").starts_with("file:["));
    assert!(begun.list("/proc/self/root/bin").contains(&"prog".to_owned()));
    let info = begun.cat("/proc/self/fdinfo/0");
    assert_eq!((field(&info, "pos"), field(&info, "flags"), field(&info, "mnt_id")), ("0", "0100002", "0"));
}

#[test]
fn maps_have_linux_s_columns() {
    let begun = begun();
    let maps = begun.cat("/proc/self/maps");
    let lines: Vec<&str> = maps.lines().collect();
    assert_eq!(&lines[0][..33], "00400000-00401000 r-xp 00000000 0");
    assert_eq!(&lines[0][73..], "/bin/prog");
    assert_eq!(&lines[1][..32], "00402000-00403000 rw-p 00001000 ");
    assert_eq!(lines[2], "00403000-00404000 rw-p 00000000 00:00 0 ");
    assert_eq!(&lines.last().unwrap()[73..], "[stack]");
    begun.task.mm().brk(litebox_core::mm::GuestAddr::new(begun.task.mm().heap().0.get() + 1));
    assert!(begun.cat("/proc/self/maps").lines().any(|line| line.get(73..) == Some("[heap]") && line.contains(" rw-p ")));
}

#[test]
fn stat_has_52_fields_and_status_names_them() {
    let begun = begun();
    assert_eq!(begun.write("/proc/self/comm", "a) b\\").unwrap(), 5);
    let stat = begun.cat("/proc/self/stat");
    let (name, rest) = stat.strip_suffix('\n').unwrap().rsplit_once(") ").unwrap();
    assert_eq!(name, "2 (a) b\\");
    let fields: Vec<&str> = rest.split(' ').collect();
    assert_eq!(fields.len(), 50);
    assert_eq!(fields[..6], ["R", "1", "2", "2", "0", "-1"], "state, parent, group, session, terminal");
    assert_eq!((fields[17], fields[22]), ("1", "18446744073709551615"), "threads, limit of memory");
    assert_eq!(fields[25], begun.regs.sp.to_string(), "stack");
    let (start, end) = begun.task.process().running().get().unwrap().arguments;
    assert_eq!(fields[45..47], [start.to_string(), end.to_string()]);
    let status = begun.cat("/proc/self/status");
    assert_eq!((field(&status, "Name"), field(&status, "Pid"), field(&status, "Threads")), ("a) b\\\\", "2", "1"));
    assert_eq!((field(&status, "Uid"), field(&status, "Umask"), field(&status, "FDSize")), ("0\t0\t0\t0", "0022", "64"));
    assert_eq!(field(&status, "VmSize"), format!("{} kB", fields[20].parse::<u64>().unwrap() / 1024));
    let statm = begun.cat("/proc/self/statm");
    assert_eq!(statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096, fields[20].parse::<u64>().unwrap());
}

#[test]
fn limits_are_a_table() {
    let limits = begun().cat("/proc/self/limits");
    let lines: Vec<&str> = limits.lines().collect();
    assert_eq!(lines[0], "Limit                     Soft Limit           Hard Limit           Units     ");
    assert_eq!(lines[4], "Max stack size            8388608              unlimited            bytes     ");
    assert_eq!(lines[8], "Max open files            1024                 1048576              files     ");
    assert_eq!(lines[14], "Max nice priority         0                    0                    ");
    assert_eq!(lines.len(), 17);
}

#[test]
fn mounts_say_what_is_where() {
    let begun = begun();
    let mounts = begun.cat("/proc/mounts");
    let lines: Vec<&str> = mounts.lines().collect();
    assert_eq!(lines[0], "host / host ro,nodev,relatime 0 0");
    assert!(lines.contains(&"dev /dev devtmpfs rw,relatime 0 0") && lines.contains(&"shm /dev/shm tmpfs rw,nodev,relatime 0 0"));
    assert!(lines.contains(&"proc /proc proc rw,relatime 0 0"), "{mounts}");
    let info = begun.cat("/proc/self/mountinfo");
    let proc = info.lines().find(|line| line.contains(" /proc ")).unwrap();
    let fields: Vec<&str> = proc.split(' ').collect();
    assert_eq!((fields[1], fields[3], fields[4], fields[5]), ("1", "/", "/proc", "rw,relatime"));
    assert_eq!(fields[6..], ["-", "proc", "proc", "rw"]);
}

#[test]
fn settings_are_kept_and_checked() {
    let begun = begun();
    assert_eq!(begun.cat("/proc/self/oom_score_adj"), "0\n");
    assert_eq!(begun.write("/proc/self/oom_score_adj", "-17\n").unwrap(), 4);
    assert_eq!(begun.cat("/proc/self/oom_score_adj"), "-17\n");
    for bad in ["1001", "x", ""] {
        assert!(begun.write("/proc/self/oom_score_adj", bad).map_or(true, |written| written == 0), "{bad}");
    }
    assert!(begun.write("/proc/self/stat", "x").unwrap_err().is(Errno::ACCESS));
    assert_eq!(begun.write("/proc/self/comm", "a name that is long").unwrap(), 19);
    assert_eq!(begun.cat("/proc/self/comm"), "a name that is \n");
}

#[test]
fn the_machine_is_the_sandbox_s() {
    let begun = begun();
    let memory = begun.cat("/proc/meminfo");
    assert_eq!(memory.lines().next(), Some("MemTotal:         262144 kB"));
    assert_eq!(begun.cat("/proc/sys/kernel/osrelease"), "6.12.0-litebox\n");
    assert!(begun.cat("/proc/version").starts_with("Linux version 6.12.0-litebox ("));
    let (boot, again) = (begun.cat("/proc/sys/kernel/random/boot_id"), begun.cat("/proc/sys/kernel/random/boot_id"));
    assert_eq!((boot.len(), &boot), (37, &again));
    assert_ne!(begun.cat("/proc/sys/kernel/random/uuid"), begun.cat("/proc/sys/kernel/random/uuid"));
    let cpu = begun.cat("/proc/cpuinfo");
    assert_eq!((field(&cpu, "processor\t"), field(&cpu, "vendor_id\t")), ("0", "HostedHosted"));
    assert_eq!((field(&cpu, "cpu family\t"), field(&cpu, "model\t\t")), ("6", "42"));
    assert_eq!(field(&cpu, "flags\t\t"), "fpu tsc cx8 cmov fxsr sse sse2");
    assert!(cpu.ends_with("\n\n"));
    let all: Vec<_> = cpu.lines().filter(|line| line.starts_with("processor\t")).collect();
    assert_eq!(all, ["processor\t: 0", "processor\t: 1"]);
    let stat = begun.cat("/proc/stat");
    let lines: Vec<_> = stat.lines().map_while(|line| line.split(' ').next().filter(|name| name.starts_with("cpu"))).collect();
    assert_eq!(lines, ["cpu", "cpu0", "cpu1"]);
}

#[test]
fn what_is_read_is_charged_while_it_is_open() {
    let begun = begun();
    let quota = begun.task.sandbox().quota();
    let before = quota.used();
    let (fs, who) = (begun.task.fs(), begun.task.credentials());
    let file = fs.at_cwd(&who).open(b"/proc/self/status", litebox_core::fs::types::OFlags::READ, Default::default()).unwrap();
    file.read(&mut litebox_core::fs::io::IoDst::kernel(&mut [0; 8])).unwrap();
    assert!(quota.used() > before + 500);
    drop(file);
    assert_eq!(quota.used(), before);
}

#[test]
fn what_root_sets_is_there_and_in_force() {
    let begun = begun();
    let set = |name: &str, text: &str| begun.write(&format!("/proc/sys/{name}"), text).map(drop);
    let get = |name: &str| begun.cat(&format!("/proc/sys/{name}"));
    set("vm/swappiness", "10\n").unwrap();
    assert_eq!(get("vm/swappiness"), "10\n");
    for (name, bad) in [
        ("vm/swappiness", "201"),
        ("vm/overcommit_memory", "3"),
        ("kernel/shmmni", "32769"),
        ("kernel/sem", "x"),
        ("vm/swappiness", " "),
        ("fs/nr_open", "1"),
        ("kernel/shmmax", "-5"),
    ] {
        assert!(set(name, bad).unwrap_err().is(Errno::INVAL), "{name} {bad}");
    }
    assert!(set("kernel/osrelease", "x").unwrap_err().is(Errno::ACCESS), "nobody may");
    assert!(begun.read("/proc/sys/vm/drop_caches").unwrap_err().is(Errno::ACCESS), "only to write");
    set("vm/drop_caches", "3").unwrap();
    set("kernel/sem", "10 20").unwrap();
    assert_eq!(get("kernel/sem"), "10\t20\t500\t32000\n", "the first of four");
    set("fs/pipe-max-size", "5000").unwrap();
    assert_eq!(get("fs/pipe-max-size"), "8192\n", "a power of two");
    set("kernel/hostname", "box\nrest").unwrap();
    assert_eq!(get("kernel/hostname"), "box\n");
    set("kernel/sched_rt_runtime_us", "-1").unwrap();
    assert_eq!(get("kernel/sched_rt_runtime_us"), "-1\n");
    set("kernel/shmmax", "").unwrap();
    assert_eq!(get("kernel/shmmax"), "18446744073692774399\n", "nothing was written");
}

#[test]
fn memory_is_shown_by_areas_and_pages() {
    let begun = begun();
    let (smaps, rollup) = (begun.cat("/proc/self/smaps"), begun.cat("/proc/self/smaps_rollup"));
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap();
    let sum = |name: &str| smaps.lines().filter(|line| line.starts_with(name)).map(kib).sum::<u64>();
    assert_eq!(smaps.lines().filter(|line| line.starts_with("VmFlags:")).count(), begun.cat("/proc/self/maps").lines().count());
    assert!(sum("Rss:") > 0 && rollup.lines().next().unwrap().ends_with("[rollup]"), "{rollup}");
    assert_eq!(
        (sum("Rss:"), sum("Anonymous:")),
        (kib(rollup.lines().nth(1).unwrap()), kib(rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap()))
    );
    assert_eq!(format!("{} kB", sum("Rss:")), field(&begun.cat("/proc/self/status"), "VmRSS"));
    begun.write("/proc/self/coredump_filter", "0x7f").unwrap();
    assert_eq!(begun.cat("/proc/self/coredump_filter"), "0000007f\n");
    assert!(begun.write("/proc/self/clear_refs", "6").unwrap_err().is(Errno::INVAL));
    begun.write("/proc/self/clear_refs", "4\n").unwrap();
}

#[test]
fn the_network_and_the_namespaces_are_the_sandboxs() {
    let begun = begun();
    assert_eq!(begun.link("/proc/net"), "self/net");
    assert_eq!(begun.cat("/proc/net/unix"), "Num       RefCount Protocol Flags    Type St Inode Path\n");
    assert_eq!(begun.cat("/proc/net/tcp").len(), 150);
    assert_eq!(begun.link("/proc/self/ns/pid"), begun.link("/proc/1/ns/pid_for_children"));
    assert_eq!(begun.link("/proc/self/ns/uts"), "uts:[4026531838]");
}
