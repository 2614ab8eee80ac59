//! The requests of the device, from launchers that mean no good: short, unaligned, bad pointers, wrong values, wrong state, wrong
//! owner, after death. What each must answer is the table in `litebox_ioctl_abi`. See `race` for threads against each other.

use std::fs;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};

use litebox_ioctl_abi::{Ended, PATH_BYTES_MAX, RUN_BYTES_MAX, Request, Target, WaitFlags, wire};
use zerocopy::{FromZeros, IntoBytes};

use crate::check::{self, Check, Numbers, Outcome, ensure, equal};
use crate::sandbox::{DEVICE, Guest, Packed, REPORT, Sandbox, clean, exited, name, null, object, reap, signalled, start};
use crate::sys::{self, Area, Errno, Pages};

/// As any user, once the node lets them.
const ANYBODY: &[Check] = &[
    ("bad pointers", bad_pointers),
    ("structures that end in no memory", short),
    ("unaligned structures", unaligned),
    ("numbers that are not ours", other_numbers),
    ("values out of range", bad_values),
    ("strings of RUN", bad_strings),
    ("the device that RUN names", bad_device),
    ("a caller that is not clean", unclean_caller),
    ("a failed RUN changes nothing", failed_run),
    ("random structures", random_structures),
    ("state: new", state_new),
    ("terminals", terminals),
    ("state: running", state_running),
    ("state: ended", state_ended),
    ("signals", signals),
];

/// As root alone: what takes two users.
const ROOT: &[Check] = &[("another user's sandbox", wrong_owner), ("a user whom the node forbids", closed_node)];

/// A user and a group that nobody has.
const USER: u32 = 4242;

/// Addresses that no structure can be at, or be read from.
const BAD_ADDRESSES: [usize; 8] = [
    0,
    8,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0x8000_0000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_8100_0000,
    usize::MAX & !7,
];

/// As root: all checks.
pub(crate) fn as_root() -> Outcome {
    check::run("device", ANYBODY)?;
    check::run("device", ROOT)
}

/// As another user, to whom root opens the node for this.
pub(crate) fn as_user() -> Outcome {
    let before = fs::metadata(DEVICE).map_err(|error| format!("{DEVICE}: {error}"))?.permissions();
    let opened = chown(DEVICE, None, Some(USER)).and_then(|()| fs::set_permissions(DEVICE, fs::Permissions::from_mode(0o660)));
    opened.map_err(|error| format!("{DEVICE}: {error}"))?;
    let outcome = in_child(|| sys::become_user(USER, USER).map_err(name).and_then(|()| check::run("device, user", ANYBODY)));
    let closed = chown(DEVICE, None, Some(0)).and_then(|()| fs::set_permissions(DEVICE, before));
    outcome.and(closed.map_err(|error| format!("{DEVICE}: {error}")))
}

/// Runs something in a process of its own. This program has one thread whenever it comes here, so the child may do as it likes.
fn in_child(act: impl FnOnce() -> Outcome) -> Outcome {
    let Some(pid) = sys::fork().map_err(name)? else {
        let outcome = act();
        if let Err(why) = &outcome {
            println!("in a child: {why}");
        }
        sys::exit(i32::from(outcome.is_err()));
    };
    equal("a child's status", sys::wait_child(pid), Ok(0))
}

/// A structure that its request takes, in the right state, and the sandbox in that state.
fn good(request: Request) -> Outcome<(Sandbox, Vec<u8>)> {
    static PATH: &str = "/";
    let sandbox = match request {
        Request::Version | Request::Configure | Request::Mount => Sandbox::open().map_err(name)?,
        _ => Sandbox::described()?,
    };
    let mount = wire::Mount { kind: 2, path: PATH.as_ptr().addr() as u64, path_len: 1, ..wire::Mount::new_zeroed() };
    let bytes = match request {
        Request::Version => wire::Version::new_zeroed().as_bytes().to_vec(),
        Request::Configure => wire::Configure { memory: 64 << 20, ..wire::Configure::new_zeroed() }.as_bytes().to_vec(),
        Request::Mount => mount.as_bytes().to_vec(),
        Request::GiveFd => {
            // Open for as long as this process lives.
            let host = std::mem::ManuallyDrop::new(null()).as_raw_fd();
            wire::GiveFd { host: object(host).0, guest: 5, ..wire::GiveFd::new_zeroed() }.as_bytes().to_vec()
        }
        Request::Run => {
            let packed = Box::leak(Box::new(Packed::this_program(&["guest", "exit", "0"])));
            packed.request(sandbox.fd()).as_bytes().to_vec()
        }
        Request::Wait => wire::Wait { flags: 1, ..wire::Wait::new_zeroed() }.as_bytes().to_vec(),
        Request::Kill => wire::Kill { signal: 15, ..wire::Kill::new_zeroed() }.as_bytes().to_vec(),
        Request::Terminal => wire::Terminal { descriptors: 7, rows: 24, ..wire::Terminal::new_zeroed() }.as_bytes().to_vec(),
    };
    Ok((sandbox, bytes))
}

/// What a right request gets in the state of [`good`], from a process that is no clean child.
fn answer_to_good(request: Request) -> Result<(), Errno> {
    match request {
        Request::Run => Err(libc::EINVAL),
        Request::Wait | Request::Kill => Err(libc::ESRCH),
        _ => Ok(()),
    }
}

fn bad_pointers() -> Outcome {
    let pages = Pages::new(1);
    for request in Request::ALL {
        for address in BAD_ADDRESSES.into_iter().chain([pages.end()]) {
            let (sandbox, _) = good(request)?;
            let result = sys::ioctl(sandbox.fd(), request.number(), address);
            equal(format!("{request:?} at {address:#x}"), result, Err(libc::EFAULT))?;
        }
    }
    // Memory that may be read, but not written.
    let (sandbox, bytes) = good(Request::Version)?;
    pages.write(0, &bytes);
    pages.protect(0, libc::PROT_READ);
    equal(
        "VERSION into read-only memory",
        sys::ioctl(sandbox.fd(), Request::Version.number(), pages.address(0)),
        Err(libc::EFAULT),
    )
}

fn short() -> Outcome {
    let pages = Pages::new(1);
    for request in Request::ALL {
        let (sandbox, bytes) = good(request)?;
        for held in 1..bytes.len() {
            let start = pages.end() - held;
            pages.write_last(&bytes[..held]);
            let result = sys::ioctl(sandbox.fd(), request.number(), start);
            equal(format!("{request:?}, {held} of {} bytes", bytes.len()), result, Err(libc::EFAULT))?;
        }
        // And with the last byte there it is right, so nothing of the above has changed the sandbox.
        let result = sys::ioctl(sandbox.fd(), request.number(), pages.write_last(&bytes)).map(drop);
        equal(format!("{request:?}, whole"), result, answer_to_good(request))?;
    }
    Ok(())
}

fn unaligned() -> Outcome {
    let pages = Pages::new(2);
    for request in Request::ALL {
        // Within a page, and across two.
        for offset in [1, 2, 3, 4, 5, 6, 7, sys::PAGE - 1, sys::PAGE - 7] {
            let (sandbox, bytes) = good(request)?;
            pages.write(offset, &bytes);
            let result = sys::ioctl(sandbox.fd(), request.number(), pages.address(offset)).map(drop);
            equal(format!("{request:?} at offset {offset}"), result, answer_to_good(request))?;
        }
    }
    let (sandbox, bytes) = good(Request::Version)?;
    pages.write(1, &bytes);
    sys::ioctl(sandbox.fd(), Request::Version.number(), pages.address(1)).map_err(name)?;
    equal("VERSION's answer, unaligned", pages.read::<4>(1), litebox_ioctl_abi::VERSION.to_ne_bytes())
}

fn other_numbers() -> Outcome {
    let pages = Pages::new(8);
    for request in Request::ALL {
        let (sandbox, bytes) = good(request)?;
        pages.write(0, &bytes);
        let number = request.number();
        let sizes = [0, 1, request.size() as u32 - 1, request.size() as u32 + 1, request.size() as u32 + 8, 0x3fff];
        let other_sizes = sizes.map(|size| number & !(0x3fff << 16) | size << 16);
        let bits = (0..32).map(|bit| number ^ 1 << bit);
        for other in other_sizes.into_iter().chain(bits).filter(|other| Request::from_number(*other).is_none()) {
            let result = sys::ioctl(sandbox.fd(), other, pages.address(0));
            equal(format!("number {other:#x}"), result, Err(libc::ENOTTY))?;
        }
    }
    let sandbox = Sandbox::open().map_err(name)?;
    for other in [0, 3, 0x5401, 0x5413, 0x8010_bd0f, 0x8010_bd17, u32::MAX] {
        equal(format!("number {other:#x}"), sys::ioctl(sandbox.fd(), other, pages.address(0)), Err(libc::ENOTTY))?;
    }
    Ok(())
}

/// Makes a right request wrong in one field; `expected` is the errno.
fn spoiled(request: Request, offset: usize, bytes: &[u8], expected: Errno) -> Outcome {
    let (sandbox, mut structure) = good(request)?;
    structure[offset..offset + bytes.len()].copy_from_slice(bytes);
    equal(format!("{request:?}, {bytes:?} at {offset}"), sandbox.ask(request, &structure), Err(expected))
}

fn bad_values() -> Outcome {
    let word = |offset, value: u32| (offset, value.to_ne_bytes().to_vec());
    let long = |offset, value: u64| (offset, value.to_ne_bytes().to_vec());
    let closed = u64::from(u16::MAX);
    let (inval, badf, fault, toobig) = (libc::EINVAL, libc::EBADF, libc::EFAULT, libc::E2BIG);
    let cases = [
        (Request::Configure, word(offset_of!(wire::Configure, flags), 2), inval),
        (Request::Configure, word(offset_of!(wire::Configure, flags), 1 << 31), inval),
        (Request::Configure, long(offset_of!(wire::Configure, trace), 1), inval),
        (Request::Configure, word(offset_of!(wire::Configure, trap), 2), inval),
        (Request::Configure, long(offset_of!(wire::Configure, name), 1), inval),
        (Request::Configure, word(offset_of!(wire::Configure, name_len), 65), toobig),
        (Request::Configure, word(offset_of!(wire::Configure, name_len), 1), fault),
        (Request::Mount, word(offset_of!(wire::Mount, kind), 0), inval),
        (Request::Mount, word(offset_of!(wire::Mount, kind), 9), inval),
        (Request::Mount, word(offset_of!(wire::Mount, flags), 2), inval),
        (Request::Mount, long(offset_of!(wire::Mount, host), 1), inval),
        (Request::Mount, word(offset_of!(wire::Mount, path_len), 0), inval),
        (Request::Mount, word(offset_of!(wire::Mount, path_len), PATH_BYTES_MAX + 1), toobig),
        (Request::Mount, word(offset_of!(wire::Mount, path_len), u32::MAX), toobig),
        (Request::Mount, word(offset_of!(wire::Mount, mode), 0o10001), inval),
        (Request::Mount, word(offset_of!(wire::Mount, kind), 7), inval),
        (Request::Mount, long(offset_of!(wire::Mount, path), 0), fault),
        (Request::Mount, long(offset_of!(wire::Mount, path), 0xffff_8000_0000_0000), fault),
        (Request::Mount, long(offset_of!(wire::Mount, path), u64::MAX), fault),
        (Request::GiveFd, long(offset_of!(wire::GiveFd, host), closed), badf),
        (Request::GiveFd, long(offset_of!(wire::GiveFd, host), u64::from(u32::MAX)), badf),
        (Request::GiveFd, long(offset_of!(wire::GiveFd, host), 1 << 32), badf),
        (Request::GiveFd, long(offset_of!(wire::GiveFd, host), u64::MAX), badf),
        (Request::GiveFd, word(offset_of!(wire::GiveFd, guest), 1024), inval),
        (Request::GiveFd, word(offset_of!(wire::GiveFd, guest), u32::MAX), inval),
        (Request::GiveFd, word(offset_of!(wire::GiveFd, reserved), 1), inval),
        (Request::GiveFd, long(offset_of!(wire::GiveFd, reserved2), 1), inval),
        (Request::Wait, word(offset_of!(wire::Wait, flags), 2), inval),
        (Request::Wait, word(offset_of!(wire::Wait, how), 1), inval),
        (Request::Wait, word(offset_of!(wire::Wait, value), 1), inval),
        (Request::Wait, word(offset_of!(wire::Wait, reserved), 1), inval),
        (Request::Kill, word(offset_of!(wire::Kill, signal), 0), inval),
        (Request::Kill, word(offset_of!(wire::Kill, signal), 65), inval),
        (Request::Kill, word(offset_of!(wire::Kill, signal), u32::MAX), inval),
        (Request::Kill, word(offset_of!(wire::Kill, target), 2), inval),
        (Request::Kill, long(offset_of!(wire::Kill, reserved), 1), inval),
        (Request::Terminal, word(offset_of!(wire::Terminal, reserved), 1), inval),
        (Request::Terminal, word(offset_of!(wire::Terminal, reserved2), 1), inval),
        // Without descriptors it is a size, for a terminal that is not there.
        (Request::Terminal, word(offset_of!(wire::Terminal, descriptors), 0), libc::ENXIO),
    ];
    for (request, (offset, bytes), errno) in cases {
        spoiled(request, offset, &bytes, errno)?;
    }
    for (kind, field) in
        [(3, offset_of!(wire::Mount, size)), (4, offset_of!(wire::Mount, size)), (3, offset_of!(wire::Mount, host))]
    {
        let (sandbox, mut structure) = good(Request::Mount)?;
        structure[..4].copy_from_slice(&u32::to_ne_bytes(kind));
        structure[field] = 1;
        equal(format!("MOUNT of kind {kind}, byte {field}"), sandbox.ask(Request::Mount, &structure), Err(inval))?;
    }
    for path in ["x", "/..", "/a/../b", "/\0", ".", ""] {
        let (sandbox, _) = good(Request::Mount)?;
        let (path_addr, path_len) = (path.as_ptr().addr() as u64, path.len() as u32);
        let mount = wire::Mount { kind: 2, path: path_addr, path_len, ..wire::Mount::new_zeroed() };
        equal(format!("MOUNT at {path:?}"), sandbox.ask(Request::Mount, mount.as_bytes()), Err(inval))?;
    }
    // A host descriptor that is none of a file system's.
    let (sandbox, _) = good(Request::Mount)?;
    let host = wire::Mount { kind: 1, host: closed, path: "/".as_ptr().addr() as u64, path_len: 1, ..wire::Mount::new_zeroed() };
    equal("MOUNT of a closed descriptor", sandbox.ask(Request::Mount, host.as_bytes()), Err(badf))?;
    let trace = wire::Configure { flags: 1, trace: closed, ..wire::Configure::new_zeroed() };
    equal("CONFIGURE with a closed trace", sandbox.ask(Request::Configure, trace.as_bytes()), Err(badf))
}

/// Makes a RUN in a clean child, and gives what came back; the child must not have become a guest.
fn run_in_child(sandbox: &Sandbox, run: &wire::Run) -> Outcome<Errno> {
    let result = Pages::new(1);
    let Some(pid) = sys::fork().map_err(name)? else {
        let answer = clean(sandbox.fd()).and_then(|()| sandbox.ask(Request::Run, run.as_bytes()));
        result.set_number(0, answer.err().unwrap_or(-1));
        sys::exit(0)
    };
    reap(pid)?;
    Ok(result.number(0))
}

fn bad_strings() -> Outcome {
    let packed = Packed::this_program(&["guest", "exit", "0"]);
    let sandbox = Sandbox::described()?;
    let fd = sandbox.fd();
    let right = || packed.request(fd);
    let (inval, fault, toobig) = (libc::EINVAL, libc::EFAULT, libc::E2BIG);
    let cases = [
        ("no program", wire::Run { program_len: 0, ..right() }, inval),
        ("a program that is a NUL alone", wire::Run { program_len: 1, ..right() }, inval),
        ("no directory", wire::Run { cwd_len: 0, ..right() }, inval),
        ("a long program", wire::Run { program_len: PATH_BYTES_MAX + 2, ..right() }, toobig),
        ("a long directory", wire::Run { cwd_len: u32::MAX, ..right() }, toobig),
        ("no arguments", wire::Run { argc: 0, ..right() }, inval),
        ("one argument too few", wire::Run { argc: 3, ..right() }, inval),
        ("one argument too many", wire::Run { argc: 5, ..right() }, inval),
        ("countless arguments", wire::Run { argc: u32::MAX, ..right() }, inval),
        ("an environment of no bytes", wire::Run { envc: 1, ..right() }, inval),
        ("lengths past the limit", wire::Run { args_len: RUN_BYTES_MAX, ..right() }, toobig),
        ("lengths that overflow", wire::Run { args_len: u32::MAX, env_len: u32::MAX, envc: 1, ..right() }, toobig),
        ("no group", wire::Run { gid: u32::MAX, ..right() }, inval),
        ("a shifted split", wire::Run { program_len: right().program_len - 1, cwd_len: 3, ..right() }, inval),
        ("strings at 0", wire::Run { text: 0, ..right() }, fault),
        ("strings in the kernel", wire::Run { text: 0xffff_8000_0000_0000, ..right() }, fault),
        ("strings at no address", wire::Run { text: 1 << 63, ..right() }, fault),
        ("strings at the end of all", wire::Run { text: u64::MAX, ..right() }, fault),
    ];
    for (what, run, errno) in cases {
        equal(what, run_in_child(&sandbox, &run)?, errno)?;
    }
    // The last byte of the strings is in no memory.
    let pages = Pages::new(1);
    let length = right().program_len + right().cwd_len + right().args_len;
    let run = wire::Run { text: (pages.end() + 1 - length as usize) as u64, ..right() };
    equal("strings that end in no memory", run_in_child(&sandbox, &run)?, fault)
}

fn bad_device() -> Outcome {
    let packed = Packed::this_program(&["guest", "exit", "0"]);
    let (sandbox, other) = (Sandbox::described()?, Sandbox::described()?);
    for device in [u64::from(u16::MAX), u64::MAX, 1 << 32, u64::from(u32::MAX)] {
        let run = wire::Run { device, ..packed.request(sandbox.fd()) };
        equal(format!("device {device:#x}"), run_in_child(&sandbox, &run)?, libc::EBADF)?;
    }
    // Open in the child, but another file.
    let result = Pages::new(1);
    let Some(pid) = sys::fork().map_err(name)? else {
        let cleaned = Area::ALL.into_iter().try_for_each(Area::forget);
        let run = packed.request(other.fd());
        let answer = cleaned.and_then(|()| sandbox.ask(Request::Run, run.as_bytes()));
        result.set_number(0, answer.err().unwrap_or(-1));
        sys::exit(0)
    };
    reap(pid)?;
    equal("another sandbox's device", result.number(0), libc::EBADF)
}

fn unclean_caller() -> Outcome {
    let packed = Packed::this_program(&["guest", "exit", "0"]);
    let sandbox = Sandbox::described()?;
    for kept in Area::ALL {
        let result = Pages::new(1);
        let Some(pid) = sys::fork().map_err(name)? else {
            // glibc's fork and Rust's runtime have set up all four.
            let cleaned = Area::ALL.into_iter().filter(|area| *area != kept).try_for_each(Area::forget);
            let answer = cleaned.and_then(|()| sandbox.ask(Request::Run, packed.request(sandbox.fd()).as_bytes()));
            result.set_number(0, answer.err().unwrap_or(-1));
            sys::exit(0)
        };
        reap(pid)?;
        equal(format!("with {kept:?} left"), result.number(0), libc::EINVAL)?;
    }
    // This process is not clean, and has two threads besides.
    let run = packed.request(sandbox.fd());
    let waiting = Pages::new(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while waiting.number(0) == 0 {
                std::thread::yield_now();
            }
        });
        let result = sandbox.ask(Request::Run, run.as_bytes());
        waiting.set_number(0, 1);
        equal("with two threads", result, Err(libc::EINVAL))
    })
}

fn failed_run() -> Outcome {
    let sandbox = Sandbox::described()?;
    for (path, errno) in [("/no/such/program", libc::ENOENT), ("/", libc::EACCES)] {
        let packed = Packed::program(path, &[]);
        equal(path, run_in_child(&sandbox, &packed.request(sandbox.fd()))?, errno)?;
    }
    // The same child may try again, and still has its device.
    let packed = [Packed::program("/no/such/program", &[]), Packed::this_program(&["guest", "exit", "7"])];
    let result = Pages::new(1);
    let Some(pid) = sys::fork().map_err(name)? else {
        let first = clean(sandbox.fd()).and_then(|()| sandbox.ask(Request::Run, packed[0].request(sandbox.fd()).as_bytes()));
        result.set_number(0, first.err().unwrap_or(-1));
        let second = sandbox.ask(Request::Run, packed[1].request(sandbox.fd()).as_bytes());
        result.set_number(1, second.err().unwrap_or(-1));
        sys::exit(0)
    };
    reap(pid)?;
    equal("the first program", result.number(0), libc::ENOENT)?;
    equal("the second program", result.number(1), 0)?;
    equal("its end", sandbox.wait()?, exited(7))
}

/// Structures of mostly small values, each on a sandbox that others have used, too. Nothing is expected but an answer.
fn random_structures() -> Outcome {
    let mut numbers = Numbers::from_seed(1);
    let pages = Pages::new(2);
    let mut sandbox = Sandbox::open().map_err(name)?;
    let (mut taken, mut refused) = (0, 0);
    for round in 0..6000 {
        if round % 50 == 0 {
            sandbox = if round % 100 == 0 { Sandbox::open().map_err(name)? } else { Sandbox::described()? };
        }
        let request = numbers.one_of(&Request::ALL);
        let mut structure = if numbers.below(3) == 0 { vec![0; request.size()] } else { good(request)?.1 };
        for _ in 0..numbers.below(4) {
            let at = numbers.below(structure.len());
            structure[at] = if numbers.below(2) == 0 { numbers.below(6) as u8 } else { numbers.next() as u8 };
        }
        if request == Request::Wait {
            // A wait for a sandbox that runs would be one for ever, but none runs here; and the other bits stay wrong.
            structure[0] |= 1;
        }
        pages.write(0, &structure);
        match sys::ioctl(sandbox.fd(), request.number(), pages.address(0)) {
            Ok(0) => taken += 1,
            Err(errno) if errno > 0 && errno < 134 && errno != libc::ENOTTY => refused += 1,
            other => return Err(format!("{request:?} {structure:?}: {other:?}")),
        }
    }
    ensure(taken > 300 && refused > 300, || format!("{taken} taken, {refused} refused: the generator is one-sided"))
}

fn terminals() -> Outcome {
    let (sandbox, bytes) = good(Request::Terminal)?;
    let size = wire::Terminal { rows: 1, ..wire::Terminal::new_zeroed() };
    let pages = Pages::new(1);
    let transfer = |call, address| sys::transfer(call, sandbox.fd(), address, 1);
    for call in [libc::SYS_read, libc::SYS_write] {
        equal("a transfer without a terminal", transfer(call, pages.address(0)), Err(libc::ENXIO))?;
    }
    equal("a terminal", sandbox.ask(Request::Terminal, &bytes), Ok(()))?;
    equal("a second one", sandbox.ask(Request::Terminal, &bytes), Err(libc::EBUSY))?;
    equal("another size", sandbox.ask(Request::Terminal, size.as_bytes()), Ok(()))?;
    // What is typed waits for whoever is to run.
    equal("a write", transfer(libc::SYS_write, pages.address(0)), Ok(1))?;
    equal("a write from nowhere", transfer(libc::SYS_write, pages.end()), Err(libc::EFAULT))
}

fn state_new() -> Outcome {
    let sandbox = Sandbox::open().map_err(name)?;
    equal("WAIT", sandbox.ended(WaitFlags::empty()), Err(libc::ESRCH))?;
    equal("KILL", sandbox.kill(9, Target::All), Err(libc::ESRCH))?;
    let packed = Packed::this_program(&["guest", "exit", "0"]);
    equal("RUN without a root", run_in_child(&sandbox, &packed.request(sandbox.fd()))?, libc::EINVAL)?;
    let configure = wire::Configure::new_zeroed();
    equal("CONFIGURE", sandbox.ask(Request::Configure, configure.as_bytes()), Ok(()))?;
    equal("CONFIGURE again", sandbox.ask(Request::Configure, configure.as_bytes()), Err(libc::EBUSY))?;
    let late = Sandbox::described()?;
    equal("CONFIGURE after MOUNT", late.ask(Request::Configure, configure.as_bytes()), Err(libc::EBUSY))?;
    equal("WAIT, described", late.ended(WaitFlags::empty()), Err(libc::ESRCH))?;
    // A root must come first.
    let rootless = Sandbox::open().map_err(name)?;
    let elsewhere = wire::Mount { kind: 2, path: "/tmp".as_ptr().addr() as u64, path_len: 4, ..wire::Mount::new_zeroed() };
    ensure(rootless.ask(Request::Mount, elsewhere.as_bytes()).is_err(), || "a first MOUNT below / is taken".into())
}

/// What a sandbox refuses from RUN on.
fn describing_is_over(sandbox: &Sandbox) -> Outcome {
    let (_, configure) = good(Request::Configure)?;
    let (_, mount) = good(Request::Mount)?;
    equal("CONFIGURE", sandbox.ask(Request::Configure, &configure), Err(libc::EBUSY))?;
    equal("MOUNT", sandbox.ask(Request::Mount, &mount), Err(libc::EBUSY))?;
    equal("GIVE_FD", sandbox.give(null().as_raw_fd(), 6), Err(libc::EBUSY))?;
    let packed = Packed::this_program(&["guest", "exit", "0"]);
    equal("RUN", run_in_child(sandbox, &packed.request(sandbox.fd()))?, libc::EBUSY)
}

fn state_running() -> Outcome {
    let guest = Guest::begin(&["sleep"])?;
    describing_is_over(&guest.sandbox)?;
    equal("WAIT", guest.sandbox.ended(WaitFlags::NO_HANG), Ok(Ended::Running))?;
    equal("KILL", guest.sandbox.kill(libc::SIGKILL as u32, Target::First), Ok(()))?;
    equal("its end", guest.wait()?, signalled(libc::SIGKILL))
}

fn state_ended() -> Outcome {
    let guest = Guest::begin(&["exit", "3"])?;
    equal("its end", guest.wait()?, exited(3))?;
    describing_is_over(&guest.sandbox)?;
    for _ in 0..2 {
        equal("WAIT", guest.sandbox.ended(WaitFlags::empty()), Ok(exited(3)))?;
    }
    equal("KILL", guest.sandbox.kill(libc::SIGTERM as u32, Target::First), Err(libc::ESRCH))?;
    let mut version = wire::Version::new_zeroed();
    equal("VERSION", guest.sandbox.ask(Request::Version, version.as_mut_bytes()), Ok(()))
}

fn signals() -> Outcome {
    for (what, signal, end) in [
        ("sleep", libc::SIGTERM, signalled(libc::SIGTERM)),
        ("spin", libc::SIGTERM, signalled(libc::SIGTERM)),
        ("spin", libc::SIGKILL, signalled(libc::SIGKILL)),
        // Not SIGSEGV: Rust's runtime has a handler for it, which comes back once.
        ("spin", libc::SIGUSR1, signalled(libc::SIGUSR1)),
    ] {
        let guest = Guest::begin(&[what])?;
        equal(format!("signal {signal} to {what}"), guest.sandbox.kill(signal as u32, Target::All), Ok(()))?;
        equal(format!("{what} after {signal}"), guest.wait().map_err(|why| format!("signal {signal}, {what}: {why}"))?, end)?;
    }
    let guest = Guest::begin(&["crash"])?;
    equal("a write to no memory", guest.wait()?, signalled(libc::SIGSEGV))
}

/// A sandbox that would hold itself: in a VM of its own, because the module cannot be unloaded after a failure.
pub(crate) fn cycles() -> Outcome {
    check::run("cycle", &[("a device as a file of a sandbox", cycle), ("everything is gone", || crate::host::settle(0))])
}

/// A file that the sandbox holds must not hold the sandbox, or neither would ever be closed.
fn cycle() -> Outcome {
    let (one, other) = (Sandbox::described()?, Sandbox::described()?);
    for (what, result) in [("itself", one.give(one.fd(), 5)), ("another", one.give(other.fd(), 6))] {
        ensure(result.is_err(), || format!("a sandbox takes the device of {what}"))?;
    }
    let trace = wire::Configure { flags: 1, trace: object(one.fd()).0, ..wire::Configure::new_zeroed() };
    let fresh = Sandbox::open().map_err(name)?;
    ensure(fresh.ask(Request::Configure, trace.as_bytes()).is_err(), || "a trace into a device is taken".into())?;
    let path = "/".as_ptr().addr() as u64;
    let mount = wire::Mount { kind: 1, host: object(one.fd()).0, path, path_len: 1, ..wire::Mount::new_zeroed() };
    ensure(fresh.ask(Request::Mount, mount.as_bytes()).is_err(), || "a device is taken as root".into())
}

fn wrong_owner() -> Outcome {
    let guest = Guest::begin(&["sleep"])?;
    for request in Request::ALL {
        let (sandbox, bytes) = good(request)?;
        let expected = if request == Request::Version { Ok(()) } else { Err(libc::EPERM) };
        in_child(|| {
            sys::become_user(USER, USER).map_err(name)?;
            equal(format!("{request:?} from another user"), sandbox.ask(request, &bytes), expected)?;
            let kill = guest.sandbox.kill(libc::SIGKILL as u32, Target::All);
            equal("KILL of another user's guest", kill, Err(libc::EPERM))
        })?;
    }
    equal("it lives", guest.sandbox.ended(WaitFlags::NO_HANG), Ok(Ended::Running))?;
    // RUN by a clean child of another user.
    let (sandbox, result) = (Sandbox::described()?, Pages::new(1));
    let packed = Packed::this_program(&["guest", "exit", "0"]);
    let Some(pid) = sys::fork().map_err(name)? else {
        let answer = sys::become_user(USER, USER)
            .and_then(|()| clean(sandbox.fd()))
            .and_then(|()| sandbox.ask(Request::Run, packed.request(sandbox.fd()).as_bytes()));
        result.set_number(0, answer.err().unwrap_or(-1));
        sys::exit(0)
    };
    reap(pid)?;
    equal("RUN by another user", result.number(0), libc::EPERM)
}

fn closed_node() -> Outcome {
    in_child(|| {
        sys::become_user(USER, USER).map_err(name)?;
        equal("open", Sandbox::open().map(drop), Err(libc::EACCES))
    })
}

/// A launcher that does not wait for its guest, for `race` and `teardown`.
pub(crate) fn fire_and_forget(sandbox: &Sandbox, what: &[&str]) -> Outcome<i32> {
    let arguments: Vec<&str> = ["guest"].iter().chain(what).copied().collect();
    sandbox.give(null().as_raw_fd(), REPORT).map_err(name)?;
    start(sandbox, &Packed::this_program(&arguments), &Pages::new(1))
}
