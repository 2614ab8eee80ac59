//! The image as the module maps it: what a C library finds in it, and that its functions tell the page's time.

use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;
use litebox_vdso::data::{Counter, PAGE_BYTES, Page, Rate, Stamp, Times};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::arch::x86_64::_rdtsc;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, ptr};

const NAMES: [&str; 5] = ["clock_gettime", "clock_getres", "gettimeofday", "time", "getcpu"];

/// The bytes that `kbuild/vdso.sh` makes of the image.
fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        // Each test may be a process of its own, and they run at once.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vdso-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let output = directory.join("vdso.so");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../kbuild/vdso.sh");
        assert!(Command::new("sh").arg(script).arg(&output).current_dir(&directory).status().unwrap().success());
        let image = fs::read(output).unwrap();
        fs::remove_dir_all(directory).unwrap();
        image
    })
}

fn parsed() -> ElfBytes<'static, LittleEndian> {
    ElfBytes::minimal_parse(image()).unwrap()
}

/// Where a C library finds `name` with version `LINUX_2.6`.
fn find(name: &str) -> (u64, u8) {
    let (symbols, names) = parsed().dynamic_symbol_table().unwrap().unwrap();
    let versions = parsed().symbol_version_table().unwrap().unwrap();
    let (index, symbol) =
        symbols.iter().enumerate().find(|(_, symbol)| names.get(symbol.st_name as usize).unwrap() == name).unwrap();
    assert_eq!(symbol.st_symtype(), abi::STT_FUNC);
    let version = versions.get_definition(index).unwrap().unwrap();
    assert_eq!(version.names.collect::<Result<Vec<_>, _>>().unwrap(), ["LINUX_2.6"]);
    (symbol.st_value, symbol.st_bind())
}

#[test]
fn it_is_one_segment_that_nobody_writes_to() {
    let file = parsed();
    let loads: Vec<_> = file.segments().unwrap().iter().filter(|segment| segment.p_type == abi::PT_LOAD).collect();
    assert_eq!(loads.len(), 1);
    assert_eq!((loads[0].p_offset, loads[0].p_vaddr, loads[0].p_flags), (0, 0, abi::PF_R | abi::PF_X));
    assert!(loads[0].p_memsz == loads[0].p_filesz && image().len() <= PAGE_BYTES);
    let dynamic = file.dynamic().unwrap().unwrap();
    for tag in [abi::DT_HASH, abi::DT_GNU_HASH, abi::DT_STRTAB, abi::DT_SYMTAB, abi::DT_VERSYM, abi::DT_VERDEF, abi::DT_SONAME] {
        assert!(dynamic.iter().any(|entry| entry.d_tag == tag), "{tag}");
    }
    for tag in [abi::DT_RELA, abi::DT_REL, abi::DT_JMPREL, abi::DT_NEEDED, abi::DT_INIT] {
        assert!(!dynamic.iter().any(|entry| entry.d_tag == tag), "{tag}");
    }
}

#[test]
fn each_function_has_two_names() {
    for name in NAMES {
        let (strong, weak) = (find(&format!("__vdso_{name}")), find(name));
        assert_eq!(strong.0, weak.0);
        assert_eq!((strong.1, weak.1), (abi::STB_GLOBAL, abi::STB_WEAK));
    }
}

/// The image behind a data page.
struct Mapped(*mut u8);

type ClockFn = unsafe extern "C" fn(i32, *mut [u64; 2]) -> i32;
type DayFn = unsafe extern "C" fn(*mut [u64; 2], *mut [i32; 2]) -> i32;

impl Mapped {
    fn new() -> Self {
        // SAFETY: A new mapping.
        let start = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), 2 * PAGE_BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let start = start.unwrap().cast::<u8>();
        // SAFETY: The mapping's second page.
        let second = unsafe { start.add(PAGE_BYTES) };
        // SAFETY: The image is no longer than a page; see above.
        unsafe { second.copy_from_nonoverlapping(image().as_ptr(), image().len()) };
        // SAFETY: The mapping's second page, which nothing refers to.
        unsafe { rustix::mm::mprotect(second.cast(), PAGE_BYTES, MprotectFlags::READ | MprotectFlags::EXEC) }.unwrap();
        Self(start)
    }

    fn page(&self) -> &Page {
        // SAFETY: The mapping's first page, aligned and zeroed, which is a page's initial state.
        unsafe { &*self.0.cast::<Page>() }
    }

    fn address(&self, name: &str) -> *const u8 {
        self.0.wrapping_add(PAGE_BYTES).wrapping_add(usize::try_from(find(name).0).unwrap())
    }

    fn clock_fn(&self, name: &str) -> ClockFn {
        // SAFETY: `clock_gettime` and `clock_getres` have this type.
        unsafe { std::mem::transmute::<*const u8, ClockFn>(self.address(name)) }
    }

    fn clock(&self, name: &str, clock: i32) -> (i32, [u64; 2]) {
        let mut out = [u64::MAX; 2];
        // SAFETY: The function writes to `out` only.
        let result = unsafe { self.clock_fn(name)(clock, &raw mut out) };
        (result, out)
    }

    fn day(&self) -> (i32, [u64; 2], [i32; 2]) {
        let (mut time, mut zone) = ([u64::MAX; 2], [-1; 2]);
        // SAFETY: `gettimeofday` has this type.
        let function = unsafe { std::mem::transmute::<*const u8, DayFn>(self.address("__vdso_gettimeofday")) };
        // SAFETY: The function writes to its two arguments only.
        let result = unsafe { function(&raw mut time, &raw mut zone) };
        (result, time, zone)
    }

    fn time(&self) -> (u64, u64) {
        let mut out = u64::MAX;
        // SAFETY: `time` has this type.
        let function =
            unsafe { std::mem::transmute::<*const u8, unsafe extern "C" fn(*mut u64) -> u64>(self.address("__vdso_time")) };
        // SAFETY: The function writes to `out` only.
        (unsafe { function(&raw mut out) }, out)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to the mapping any more.
        unsafe { rustix::mm::munmap(self.0.cast(), 2 * PAGE_BYTES) }.unwrap();
    }
}

/// Times that are not the host's, so that they are the page's, standing still.
fn strange() -> Times {
    let stamp = |seconds| Stamp { seconds, nanos: 500_000_999 << 8 };
    Times {
        counter: Counter::Tsc,
        last: 0,
        rate: Rate { mult: 0, shift: 8 },
        raw_rate: Rate { mult: 0, shift: 8 },
        real: stamp(1000),
        monotonic: stamp(1001),
        raw: stamp(1004),
        boot: stamp(1007),
        tai: stamp(1011),
        real_coarse: Stamp { seconds: 1005, nanos: 1 },
        monotonic_coarse: Stamp { seconds: 1006, nanos: 2 },
        tick: 4_000_000,
    }
}

#[test]
fn clocks_are_the_pages() {
    let mapped = Mapped::new();
    mapped.page().write(&strange());
    for (clock, seconds) in [(0, 1000), (1, 1001), (4, 1004), (7, 1007), (11, 1011)] {
        assert_eq!(mapped.clock("clock_gettime", clock), (0, [seconds, 500_000_999]));
        assert_eq!(mapped.clock("clock_getres", clock), (0, [0, 1]));
    }
    assert_eq!(mapped.clock("__vdso_clock_gettime", 5), (0, [1005, 1]));
    assert_eq!(mapped.clock("__vdso_clock_gettime", 6), (0, [1006, 2]));
    assert_eq!(mapped.clock("__vdso_clock_getres", 6), (0, [0, 4_000_000]));
    assert_eq!(mapped.day(), (0, [1000, 500_000], [0, 0]));
    assert_eq!(mapped.time(), (1005, 1005));
    // SAFETY: No result is wanted.
    assert_eq!(unsafe { mapped.clock_fn("clock_getres")(0, ptr::null_mut()) }, 0);
}

#[test]
fn what_the_page_has_not_is_asked_of_the_kernel() {
    let mapped = Mapped::new();
    mapped.page().write(&Times { counter: Counter::None, ..strange() });
    let real = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let before = real();
    let (result, [seconds, nanos]) = mapped.clock("clock_gettime", 0);
    let (_, [day_seconds, micros], _) = mapped.day();
    let after = real();
    assert_eq!(result, 0);
    assert!((before..=after).contains(&(Duration::from_secs(seconds) + Duration::from_nanos(nanos))));
    let day = Duration::from_secs(day_seconds) + Duration::from_micros(micros);
    assert!(before - Duration::from_micros(1) < day && day <= after);
    // The processor time of this process, and a clock that is none.
    assert_eq!(mapped.clock("clock_gettime", 2).0, 0);
    assert_eq!(mapped.clock("clock_gettime", 77).0, -22);
    assert_eq!(mapped.clock("clock_getres", 77).0, -22);
}

/// `SYS_getcpu`.
const GETCPU: i64 = 309;

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
}

#[test]
fn the_processor_is_one_that_the_kernel_names() {
    let mapped = Mapped::new();
    let (mut cpu, mut node) = (7_u32, 7_u32);
    type CpuFn = unsafe extern "C" fn(*mut u32, *mut u32, usize) -> i32;
    // SAFETY: `getcpu` has this type.
    let function = unsafe { std::mem::transmute::<*const u8, CpuFn>(mapped.address("getcpu")) };
    let (mut asked, mut of_node) = (8_u32, 8_u32);
    // The thread may move between the two.
    for _ in 0..1000 {
        // SAFETY: The function writes to its two arguments only.
        assert_eq!(unsafe { function(&raw mut cpu, &raw mut node, 0) }, 0);
        // SAFETY: As above, for the call.
        assert_eq!(unsafe { syscall(GETCPU, &raw mut asked, &raw mut of_node, 0_usize) }, 0);
        if (cpu, node) == (asked, of_node) {
            break;
        }
    }
    assert_eq!((cpu, node), (asked, of_node));
    // SAFETY: No result is wanted.
    assert_eq!(unsafe { function(ptr::null_mut(), ptr::null_mut(), 0) }, 0);
}

/// The host's time and the counter of the same moment, as well as can be told.
fn sample(origin: Instant) -> (u64, u64) {
    let one = || {
        // SAFETY: Ring 3 may read it.
        let before = unsafe { _rdtsc() };
        let time = origin.elapsed();
        // SAFETY: As above.
        let after = unsafe { _rdtsc() };
        (after - before, before + (after - before) / 2, u64::try_from(time.as_nanos()).unwrap())
    };
    let (_, counter, nanos) = (0..64).map(|_| one()).min().unwrap();
    (counter, nanos)
}

#[test]
fn it_goes_with_the_hosts_clock_and_never_backwards() {
    let mapped = Mapped::new();
    let origin = Instant::now();
    let first = sample(origin);
    std::thread::sleep(Duration::from_millis(50));
    let second = sample(origin);
    let mult = (u128::from(second.1 - first.1) << 24) / u128::from(second.0 - first.0);
    let rate = Rate { mult: u32::try_from(mult).unwrap(), shift: 24 };
    let monotonic = Stamp { seconds: 5, nanos: second.1 << 24 };
    mapped.page().write(&Times { last: second.0, rate, monotonic, ..strange() });
    let clock_gettime = mapped.clock_fn("clock_gettime");
    let now = || {
        let mut out = [0; 2];
        // SAFETY: The function writes to `out` only.
        assert_eq!(unsafe { clock_gettime(1, &raw mut out) }, 0);
        let [seconds, nanos] = out;
        assert!(nanos < 1_000_000_000);
        Duration::from_secs(seconds - 5) + Duration::from_nanos(nanos)
    };
    let slack = Duration::from_millis(2);
    let mut last = now();
    for _ in 0..100_000 {
        let before = origin.elapsed();
        let time = now();
        let after = origin.elapsed();
        assert!(time + slack >= before && time <= after + slack, "{before:?} {time:?} {after:?}");
        assert!(time >= last);
        last = time;
    }
}
