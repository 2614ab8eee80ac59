//! fcntl(2), flock(2), `memfd_create(2)`.

use crate::guest::{Guest, errno};
use linux_raw_sys::general as nr;

/// Puts a `struct flock` into memory.
fn flock(guest: &mut Guest, kind: u32, start: u64, len: u64) -> u64 {
    guest.words(&[kind.into(), start, len, 0])
}

fn lock(guest: &mut Guest, fd: u64, command: u32, kind: u32, start: u64, len: u64) -> Result<u64, u32> {
    let at = flock(guest, kind, start, len);
    guest.call(nr::__NR_fcntl, &[fd, command.into(), at])
}

/// Two open files of one file, whose locks exclude each other.
fn two() -> (Guest, [u64; 2]) {
    let mut guest = Guest::new();
    guest.file("/file", &[0; 100]);
    let fds = [(); 2].map(|()| guest.open("/file", nr::O_RDWR));
    (guest, fds)
}

#[test]
fn locks_of_ranges_split_join_and_exclude() {
    let (mut guest, [a, b]) = two();
    let (set, get) = (nr::F_OFD_SETLK, nr::F_OFD_GETLK.into());
    assert_eq!(lock(&mut guest, a, set, nr::F_WRLCK, 10, 10), Ok(0));
    assert_eq!(lock(&mut guest, b, set, nr::F_WRLCK, 0, 10), Ok(0));
    assert_eq!(lock(&mut guest, b, set, nr::F_RDLCK, 19, 1), Err(errno::EAGAIN));
    assert_eq!(lock(&mut guest, a, set, nr::F_UNLCK, 14, 2), Ok(0));
    assert_eq!(lock(&mut guest, b, set, nr::F_RDLCK, 14, 2), Ok(0));
    let asked = flock(&mut guest, nr::F_WRLCK, 0, 0);
    guest.ok(nr::__NR_fcntl, &[a, get, asked]);
    assert_eq!(guest.half(asked) & 0xffff, nr::F_WRLCK, "the first that excludes it");
    assert_eq!((guest.word(asked + 8), guest.word(asked + 16), guest.half(asked + 24)), (0, 10, u32::MAX));
    // What touches joins: one lock is seen, from 20 to the end.
    assert_eq!(lock(&mut guest, a, set, nr::F_WRLCK, 30, 0), Ok(0));
    assert_eq!(lock(&mut guest, a, set, nr::F_WRLCK, 20, 10), Ok(0));
    let asked = flock(&mut guest, nr::F_RDLCK, 25, 1);
    guest.ok(nr::__NR_fcntl, &[b, get, asked]);
    assert_eq!((guest.word(asked + 8), guest.word(asked + 16)), (16, 0));
    let asked = flock(&mut guest, nr::F_RDLCK, 14, 2);
    guest.ok(nr::__NR_fcntl, &[b, get, asked]);
    assert_eq!(guest.half(asked) & 0xffff, nr::F_UNLCK);
    guest.ok(nr::__NR_close, &[a]);
    assert_eq!(lock(&mut guest, b, set, nr::F_WRLCK, 0, 0), Ok(0), "a closed file has no locks");
}

#[test]
fn locks_of_a_process_go_when_it_closes_any_descriptor() {
    let (mut guest, [a, b]) = two();
    assert_eq!(lock(&mut guest, a, nr::F_SETLK, nr::F_WRLCK, 0, 0), Ok(0));
    assert_eq!(lock(&mut guest, b, nr::F_SETLK, nr::F_WRLCK, 5, 1), Ok(0), "a process does not exclude itself");
    assert_eq!(lock(&mut guest, b, nr::F_OFD_SETLK, nr::F_WRLCK, 0, 1), Err(errno::EAGAIN));
    let asked = flock(&mut guest, nr::F_WRLCK, 0, 0);
    guest.ok(nr::__NR_fcntl, &[b, nr::F_OFD_GETLK.into(), asked]);
    assert_eq!(guest.half(asked + 24), guest.task.process().pid());
    let third = guest.open("/file", nr::O_RDONLY);
    guest.ok(nr::__NR_close, &[third]);
    assert_eq!(lock(&mut guest, b, nr::F_OFD_SETLK, nr::F_WRLCK, 0, 1), Ok(0));
}

#[test]
fn a_lock_needs_the_access_that_it_is_for() {
    let (mut guest, [a, _]) = two();
    let read_only = guest.open("/file", nr::O_RDONLY);
    assert_eq!(lock(&mut guest, read_only, nr::F_SETLK, nr::F_WRLCK, 0, 0), Err(errno::EBADF));
    assert_eq!(lock(&mut guest, read_only, nr::F_SETLK, nr::F_RDLCK, 0, 0), Ok(0));
    assert_eq!(lock(&mut guest, a, nr::F_SETLK, 7, 0, 0), Err(errno::EINVAL));
    assert_eq!(lock(&mut guest, a, nr::F_GETLK, nr::F_UNLCK, 0, 0), Err(errno::EINVAL));
    assert_eq!(lock(&mut guest, a, nr::F_SETLK, nr::F_WRLCK, u64::MAX, 0), Err(errno::EINVAL));
    guest.fails(errno::EFAULT, nr::__NR_fcntl, &[a, nr::F_SETLK.into(), 8]);
    let path = guest.open("/file", nr::O_PATH);
    assert_eq!(lock(&mut guest, path, nr::F_SETLK, nr::F_RDLCK, 0, 0), Err(errno::EBADF));
}

#[test]
fn whole_files_are_locked_by_open_files() {
    let (mut guest, [a, b]) = two();
    let now = |operation: u32| u64::from(operation | nr::LOCK_NB);
    guest.ok(nr::__NR_flock, &[a, nr::LOCK_SH.into()]);
    guest.ok(nr::__NR_flock, &[b, nr::LOCK_SH.into()]);
    guest.fails(errno::EAGAIN, nr::__NR_flock, &[b, now(nr::LOCK_EX)]);
    let copy = guest.ok(nr::__NR_dup, &[a]);
    guest.ok(nr::__NR_close, &[a]);
    guest.fails(errno::EAGAIN, nr::__NR_flock, &[b, now(nr::LOCK_EX)]);
    guest.ok(nr::__NR_flock, &[copy, nr::LOCK_UN.into()]);
    guest.ok(nr::__NR_flock, &[b, now(nr::LOCK_EX)]);
    guest.fails(errno::EINVAL, nr::__NR_flock, &[b, 3]);
    // Another domain: ranges do not exclude whole files.
    assert_eq!(lock(&mut guest, copy, nr::F_OFD_SETLK, nr::F_WRLCK, 0, 0), Ok(0));
}

#[test]
fn sealed_memory_stays_as_it_is() {
    let mut guest = Guest::new();
    let name = guest.path("name");
    let fd = guest.ok(nr::__NR_memfd_create, &[name, nr::MFD_ALLOW_SEALING.into()]);
    let (text, fcntl) = (guest.bytes(&[1; 64]), nr::__NR_fcntl);
    guest.ok(nr::__NR_write, &[fd, text, 64]);
    let shared = guest.ok(nr::__NR_mmap, &[0, 4096, 3, nr::MAP_SHARED.into(), fd, 0]);
    guest.ok(fcntl, &[fd, nr::F_ADD_SEALS.into(), u64::from(nr::F_SEAL_GROW | nr::F_SEAL_SHRINK)]);
    guest.fails(errno::EBUSY, fcntl, &[fd, nr::F_ADD_SEALS.into(), nr::F_SEAL_WRITE.into()]);
    guest.fails(errno::EPERM, nr::__NR_ftruncate, &[fd, 10]);
    guest.fails(errno::EPERM, nr::__NR_ftruncate, &[fd, 100]);
    guest.fails(errno::EPERM, nr::__NR_write, &[fd, text, 1]);
    guest.ok(nr::__NR_pwrite64, &[fd, text, 64, 0]);
    guest.ok(nr::__NR_munmap, &[shared, 4096]);
    guest.ok(fcntl, &[fd, nr::F_ADD_SEALS.into(), u64::from(nr::F_SEAL_WRITE | nr::F_SEAL_SEAL)]);
    guest.fails(errno::EPERM, nr::__NR_pwrite64, &[fd, text, 64, 0]);
    guest.fails(errno::EPERM, nr::__NR_mmap, &[0, 4096, 3, nr::MAP_SHARED.into(), fd, 0]);
    let read_only = guest.ok(nr::__NR_mmap, &[0, 4096, 1, nr::MAP_SHARED.into(), fd, 0]);
    guest.fails(errno::EACCES, nr::__NR_mprotect, &[read_only, 4096, 3]);
    guest.fails(errno::EPERM, fcntl, &[fd, nr::F_ADD_SEALS.into(), nr::F_SEAL_EXEC.into()]);
    assert_eq!(guest.ok(fcntl, &[fd, nr::F_GET_SEALS.into()]), 15);
    guest.file("/file", b"");
    let file = guest.open("/file", nr::O_RDWR);
    assert_eq!(guest.ok(fcntl, &[file, nr::F_GET_SEALS.into()]), nr::F_SEAL_SEAL.into());
    let long = guest.path(&"x".repeat(250));
    guest.fails(errno::EINVAL, nr::__NR_memfd_create, &[long, 0]);
    guest.fails(errno::EINVAL, nr::__NR_memfd_create, &[name, 0x40]);
}

/// Two processes with a descriptor each of one file.
fn processes() -> ([Guest; 2], [u64; 2]) {
    let mut one = Guest::new();
    one.file("/file", &[0; 100]);
    let mut two = one.beside();
    let fds = [one.open("/file", nr::O_RDWR), two.open("/file", nr::O_RDWR)];
    ([one, two], fds)
}

#[test]
fn processes_exclude_each_other_and_are_told_who() {
    let ([mut one, mut two], [a, b]) = processes();
    assert_eq!(lock(&mut one, a, nr::F_SETLK, nr::F_WRLCK, 5, 5), Ok(0));
    assert_eq!(lock(&mut two, b, nr::F_SETLK, nr::F_RDLCK, 0, 6), Err(errno::EAGAIN));
    let asked = flock(&mut two, nr::F_RDLCK, 0, 6);
    two.ok(nr::__NR_fcntl, &[b, nr::F_GETLK.into(), asked]);
    assert_eq!((two.half(asked + 24), two.word(asked + 8)), (one.task.process().pid(), 5));
    one.ok(nr::__NR_close, &[a]);
    assert_eq!(lock(&mut two, b, nr::F_SETLK, nr::F_RDLCK, 0, 6), Ok(0));
}

#[test]
fn a_lock_is_waited_for_but_not_in_a_circle() {
    let ([mut one, mut two], [a, b]) = processes();
    assert_eq!(lock(&mut one, a, nr::F_SETLK, nr::F_WRLCK, 0, 1), Ok(0));
    assert_eq!(lock(&mut two, b, nr::F_SETLK, nr::F_WRLCK, 1, 1), Ok(0));
    // Whichever comes second closes the circle, and it alone is told; it then gives way.
    let wait = |guest: &mut Guest, fd, start| {
        guest.begin();
        let result = lock(guest, fd, nr::F_SETLKW, nr::F_WRLCK, start, 1);
        if result.is_err() {
            guest.ok(nr::__NR_close, &[fd]);
        }
        result
    };
    let mut results = std::thread::scope(|scope| {
        let other = scope.spawn(|| wait(&mut one, a, 1));
        [wait(&mut two, b, 0), other.join().unwrap()]
    });
    results.sort();
    assert_eq!(results, [Ok(0), Err(errno::EDEADLK)]);
}

#[test]
fn what_is_sealed_as_it_is_executed_stays_so() {
    let mut guest = Guest::new();
    let name = guest.path("name");
    let fd = guest.ok(nr::__NR_memfd_create, &[name, u64::from(nr::MFD_ALLOW_SEALING | nr::MFD_NOEXEC_SEAL)]);
    guest.ok(nr::__NR_fchmod, &[fd, 0o600]);
    guest.fails(errno::EPERM, nr::__NR_fchmod, &[fd, 0o700]);
    let fd = guest.ok(nr::__NR_memfd_create, &[name, u64::from(nr::MFD_ALLOW_SEALING | nr::MFD_EXEC)]);
    guest.ok(nr::__NR_fcntl, &[fd, nr::F_ADD_SEALS.into(), nr::F_SEAL_EXEC.into()]);
    let all = nr::F_SEAL_EXEC | nr::F_SEAL_WRITE | nr::F_SEAL_FUTURE_WRITE | nr::F_SEAL_GROW | nr::F_SEAL_SHRINK;
    assert_eq!(guest.ok(nr::__NR_fcntl, &[fd, nr::F_GET_SEALS.into()]), all.into(), "nor is it written to");
    guest.fails(errno::EPERM, nr::__NR_fchmod, &[fd, 0o666]);
    guest.ok(nr::__NR_fchmod, &[fd, 0o755]);
}
