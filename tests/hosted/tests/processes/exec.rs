//! execve(2): what stays and what goes.

use crate::carrier::{Flag, HANDLER, Thread, errno, run};
use linux_raw_sys::general as nr;
use std::sync::Arc;

/// Where the program is linked to, and its first instruction.
const LINKED: u64 = 0x40_0000;
const ENTRY: u64 = LINKED + 0x78;

/// A static program of one page.
fn program() -> Vec<u8> {
    let mut file = vec![0u8; 0x100];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &ENTRY.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(64, &1u32.to_le_bytes());
    put(68, &5u32.to_le_bytes());
    for (at, value) in [(80, LINKED), (88, LINKED), (96, 0x100), (104, 0x100), (112, 0x1000)] {
        put(at, &value.to_le_bytes());
    }
    file
}

/// Stores `content` as an executable file; gives the address of its path.
fn store(thread: &mut Thread, path: &str, content: &[u8]) -> u64 {
    let path = thread.bytes(format!("{path}\0").as_bytes());
    let flags = u64::from(nr::O_CREAT | nr::O_WRONLY);
    let fd = thread.ok(nr::__NR_open, &[path, flags, 0o755]);
    let bytes = thread.bytes(content);
    let len = content.len() as u64;
    assert_eq!(thread.ok(nr::__NR_write, &[fd, bytes, len]), len);
    thread.ok(nr::__NR_close, &[fd]);
    path
}

fn strings(thread: &mut Thread, strings: &[&str]) -> u64 {
    let mut words: Vec<_> = strings.iter().map(|string| thread.bytes(format!("{string}\0").as_bytes())).collect();
    words.push(0);
    thread.words(&words)
}

#[test]
fn a_program_keeps_its_process_and_loses_its_memory() {
    run(|first| {
        let path = store(first, "/prog", &program());
        let (argv, envp) = (strings(first, &["prog", "x"]), strings(first, &["A=1"]));
        let fds = first.room(16);
        first.ok(nr::__NR_pipe2, &[fds, nr::O_CLOEXEC.into()]);
        let kept = first.ok(nr::__NR_dup, &[first.half(fds).into()]);
        let lost = u64::from(first.half(fds));
        first.action(nr::SIGUSR1, HANDLER, 0);
        first.action(nr::SIGUSR2, 1, 0);
        first.mask(&[nr::SIGUSR1]);
        let old = Arc::clone(first.task.mm());
        let pid = first.fork(move |child| {
            let own = child.getpid();
            child.kill(own, nr::SIGUSR1).unwrap();
            child.call(nr::__NR_execve, &[path, argv, envp]).unwrap();
            assert!(child.execed && !Arc::ptr_eq(child.task.mm(), &old));
            assert_eq!((child.regs.ip, child.getpid()), (ENTRY, own));
            assert_eq!(child.word(LINKED), u64::from_le_bytes(*b"\x7fELF\x02\x01\x01\0"));
            assert_eq!(&child.task.shared().name()[..5], b"prog\0");
            assert_eq!(child.word(child.regs.sp), 2, "the number of arguments");
            assert_eq!(child.ok(nr::__NR_fcntl, &[kept, nr::F_GETFD.into(), 0]), 0);
            child.fails(errno::EBADF, nr::__NR_fcntl, &[lost, nr::F_GETFD.into(), 0]);
            assert!(child.task.process().pending().contains(litebox_shim_linux::signal::Signal::USR1), "what waits stays");
            for (signal, handler) in [(10, 0), (12, 1)] {
                let signal = litebox_shim_linux::signal::Signal::new(signal).unwrap();
                assert_eq!(child.task.process().with_actions(|actions| actions.get(signal)).handler, handler);
            }
        });
        first.until(|first| first.call(nr::__NR_setpgid, &[pid, pid]) != Ok(0));
        assert_eq!(first.wait4(-1, 0), Ok((pid, 0)));
        assert!(!first.execed);
    });
}

#[test]
fn failures_leave_the_caller_as_it_was() {
    run(|first| {
        let path = store(first, "/prog", &program());
        let text = store(first, "/text", b"hello");
        let script = store(first, "/script", b"#!/prog -x\n");
        let loops = store(first, "/loop", b"#!/loop\n");
        let lost = store(first, "/lost", b"#!/nowhere\n");
        let missing = first.bytes(b"/nowhere\0");
        let plain = store(first, "/plain", &program());
        first.ok(nr::__NR_chmod, &[plain, 0o644]);
        let big = "a".repeat(128 * 1024);
        let big = strings(first, &[&big]);
        let before = (Arc::clone(first.task.mm()), first.regs.ip);
        for (path, argv, error) in [
            (missing, 0, errno::ENOENT),
            (lost, 0, errno::ENOENT),
            (text, 0, errno::ENOEXEC),
            (loops, 0, errno::ELOOP),
            (plain, 0, errno::EACCES),
            (path, big, errno::E2BIG),
            (path, 8, errno::EFAULT),
            (8, 0, errno::EFAULT),
        ] {
            first.fails(error, nr::__NR_execve, &[path, argv, 0]);
        }
        let cwd = u64::from_le_bytes(i64::from(nr::AT_FDCWD).to_le_bytes());
        first.fails(errno::EINVAL, nr::__NR_execveat, &[cwd, path, 0, 0, 1]);
        let fd = first.ok(nr::__NR_open, &[script, nr::O_CLOEXEC.into(), 0]);
        let empty = first.bytes(b"\0");
        first.fails(errno::ENOENT, nr::__NR_execveat, &[fd, empty, 0, 0, nr::AT_EMPTY_PATH.into()]);
        assert!(Arc::ptr_eq(first.task.mm(), &before.0) && first.regs.ip == before.1 && !first.execed);
        let fd = first.ok(nr::__NR_open, &[path, nr::O_CLOEXEC.into(), 0]);
        first.ok(nr::__NR_execveat, &[fd, empty, 0, 0, nr::AT_EMPTY_PATH.into()]);
        assert_eq!(first.word(first.regs.sp), 1, "without arguments there is an empty one");
    });
}

#[test]
fn a_thread_that_runs_a_program_becomes_the_only_one() {
    run(|first| {
        let path = store(first, "/prog", &program());
        let (words, fds) = ([first.words(&[0]), first.words(&[0])], first.room(8));
        first.ok(nr::__NR_pipe2, &[fds, 0]);
        let pid = first.fork(move |main| {
            let own = main.getpid();
            main.thread(words[0], |thread| thread.spin());
            main.thread(words[1], move |thread| {
                let child = thread.fork(|child| child.exit(7));
                thread.ok(nr::__NR_execve, &[path, 0, 0]);
                assert_eq!((thread.ok(nr::__NR_gettid, &[]), thread.getpid()), (own, own));
                assert_eq!(thread.task.process().task_count(), 1);
                assert_eq!(thread.wait4(-1, nr::__WNOTHREAD), Err(errno::EFAULT), "the old memory is gone");
                let status = thread.regs.sp - 64;
                let ended = thread.call(nr::__NR_wait4, &[u64::MAX, status, u64::from(nr::__WNOTHREAD), 0]);
                assert!(matches!(ended, Err(errno::ECHILD)), "reaped by the call that could not store: {ended:?} {child}");
                thread.exit(4);
            });
            let (end, at) = (u64::from(main.half(fds)), main.room(1));
            // Blocked in a read for ever.
            let _ = main.call(nr::__NR_read, &[end, at, 1]);
            unreachable!("the thread's program took over");
        });
        assert_eq!(first.wait4(-1, 0), Ok((pid, 0x400)));
    });
}

#[test]
fn vfork_ends_when_the_child_runs_a_program() {
    run(|parent| {
        let path = store(parent, "/prog", &program());
        let (ran, may_end) = (Flag::default(), Flag::default());
        let (run, wait) = (ran.clone(), may_end.clone());
        parent.next_child(move |child| {
            child.ok(nr::__NR_execve, &[path, 0, 0]);
            run.raise();
            wait.wait();
            child.exit(2);
        });
        let pid = parent.ok(nr::__NR_vfork, &[]);
        ran.wait();
        assert_eq!(parent.wait4(-1, nr::WNOHANG), Ok((0, 0)));
        parent.fails(errno::EACCES, nr::__NR_setpgid, &[pid, pid]);
        may_end.raise();
        assert_eq!(parent.wait4(-1, 0), Ok((pid, 0x200)));
    });
}
