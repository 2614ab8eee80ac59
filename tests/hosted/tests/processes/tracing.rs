//! ptrace(2) and seccomp(2) between tasks.

use super::carrier::{Thread, errno, run};
use linux_raw_sys::general as nr;
use linux_raw_sys::ptrace as op;
use litebox_shim_linux::task::End;

const WALL: u32 = nr::__WALL;

fn trace(thread: &mut Thread, request: u32, pid: u64, addr: u64, data: u64) -> Result<u64, u32> {
    thread.call(nr::__NR_ptrace, &[request.into(), pid, addr, data])
}

/// A child that has itself traced and stops by `signal`, then exits with 3.
fn tracee(thread: &mut Thread, signal: u32) -> u64 {
    let pid = thread.fork(move |child| {
        trace(child, op::PTRACE_TRACEME, 0, 0, 0).unwrap();
        assert_eq!(trace(child, op::PTRACE_TRACEME, 0, 0, 0), Err(errno::EPERM));
        let pid = child.getpid();
        child.kill(pid, signal).unwrap();
        child.exit(3);
    });
    let stopped = thread.wait4(i64::try_from(pid).unwrap(), WALL).unwrap();
    assert_eq!(stopped, (pid, signal << 8 | 0x7f));
    pid
}

#[test]
fn a_tracer_takes_a_signal_away() {
    let end = run(|thread| {
        let pid = tracee(thread, 15);
        assert_eq!(thread.wait4(-1, WALL | nr::WNOHANG).map(|(pid, _)| pid), Ok(0), "a stop is told once");
        let at = thread.room(8);
        // The word of orig_rax: the call that the signal interrupted.
        trace(thread, op::PTRACE_PEEKUSR, pid, 15 * 8, at).unwrap();
        assert_eq!(thread.word(at), nr::__NR_kill.into());
        assert_eq!(trace(thread, op::PTRACE_CONT, pid, 0, 65), Err(errno::EIO));
        trace(thread, op::PTRACE_CONT, pid, 0, 0).unwrap();
        assert_eq!(thread.wait4(-1, WALL), Ok((pid, 3 << 8)));
        assert_eq!(trace(thread, op::PTRACE_CONT, pid, 0, 0), Err(errno::ESRCH));
    });
    assert_eq!(end, End::Process(0));
}

#[test]
fn memory_and_registers_of_a_stopped_tracee_change() {
    run(|thread| {
        let word = thread.words(&[1]);
        let pid = thread.fork(move |child| {
            trace(child, op::PTRACE_TRACEME, 0, 0, 0).unwrap();
            let pid = child.getpid();
            child.kill(pid, 10).unwrap();
            let status = child.word(word);
            child.exit(status);
        });
        thread.wait4(-1, WALL).unwrap();
        trace(thread, op::PTRACE_POKEDATA, pid, word, 77).unwrap();
        assert_eq!(trace(thread, op::PTRACE_POKEDATA, pid, 0, 77), Err(errno::EIO));
        assert_eq!(thread.word(word), 1, "the tracer has memory of its own");
        assert_eq!(trace(thread, op::PTRACE_POKEUSR, pid, 17 * 8, 0x10), Err(errno::EIO), "a kernel's selector");
        trace(thread, op::PTRACE_CONT, pid, 0, 0).unwrap();
        assert_eq!(thread.wait4(-1, WALL), Ok((pid, 77 << 8)));
    });
}

#[test]
fn a_tracee_is_killed_with_its_tracer_if_that_was_agreed_on() {
    run(|thread| {
        let victim = thread.fork(|child| child.spin());
        let tracer = thread.fork(move |tracer| {
            assert_eq!(trace(tracer, op::PTRACE_SEIZE, victim, 0, 1 << 9), Err(errno::EIO));
            trace(tracer, op::PTRACE_SEIZE, victim, 0, op::PTRACE_O_EXITKILL.into()).unwrap();
            assert_eq!(trace(tracer, op::PTRACE_SEIZE, victim, 0, 0), Err(errno::EPERM));
            trace(tracer, op::PTRACE_INTERRUPT, victim, 0, 0).unwrap();
            assert_eq!(tracer.wait4(-1, WALL), Ok((victim, op::PTRACE_EVENT_STOP << 16 | 0x057f)));
        });
        let all = [thread.wait4(-1, 0).unwrap(), thread.wait4(-1, 0).unwrap()];
        assert!(all.contains(&(tracer, 0)) && all.contains(&(victim, 9)), "{all:?}");
    });
}

#[test]
fn threads_are_waited_for_by_their_tracer() {
    run(|thread| {
        let word = thread.room(4);
        let pid = thread.fork(move |child| {
            trace(child, op::PTRACE_TRACEME, 0, 0, 0).unwrap();
            let pid = child.getpid();
            child.kill(pid, nr::SIGSTOP).unwrap();
            child.thread(word, |_| ());
            child.join(word);
            child.exit(5);
        });
        thread.wait4(-1, WALL).unwrap();
        trace(thread, op::PTRACE_SETOPTIONS, pid, 0, op::PTRACE_O_TRACECLONE.into()).unwrap();
        trace(thread, op::PTRACE_CONT, pid, 0, 0).unwrap();
        let (mut events, mut ends) = (0, Vec::new());
        while ends.len() < 2 {
            let (found, status) = thread.wait4(-1, WALL).unwrap();
            if status & 0x7f != 0x7f {
                ends.push((found == pid, status));
                continue;
            }
            events += u32::from(status >> 16 == op::PTRACE_EVENT_CLONE);
            trace(thread, op::PTRACE_CONT, found, 0, 0).unwrap();
        }
        assert_eq!((events, ends), (1, vec![(false, 0), (true, 5 << 8)]));
        assert_eq!(thread.wait4(-1, WALL), Err(errno::ECHILD));
    });
}

#[test]
fn filters_are_inherited_and_answer() {
    run(|thread| {
        // Load the number; getppid(2) gives errno 9, all else is allowed.
        let insn = |code: u64, jf: u64, k: u64| code | jf << 24 | k << 32;
        let (number, answer) = (nr::__NR_getppid.into(), 0x5_0009);
        let program = thread.words(&[insn(0x20, 0, 0), insn(0x15, 1, number), insn(6, 0, answer), insn(6, 0, 0x7fff_0000)]);
        let filter = thread.words(&[4, program]);
        thread.fails(errno::EFAULT, nr::__NR_seccomp, &[1, 0, 8]);
        thread.ok(nr::__NR_seccomp, &[1, 0, filter]);
        thread.fails(errno::EBADF, nr::__NR_getppid, &[]);
        thread.fork(|child| {
            child.fails(errno::EBADF, nr::__NR_getppid, &[]);
            child.ok(nr::__NR_getuid, &[]);
        });
        assert_eq!(thread.wait4(-1, 0).unwrap().1, 0);
        // What it may not do kills it.
        thread.fork(|child| {
            let strict = child.call(nr::__NR_seccomp, &[0, 0, 0]);
            assert_eq!(strict, Err(errno::EINVAL), "it has filters");
        });
        assert_eq!(thread.wait4(-1, 0).unwrap().1, 0);
    });
}
