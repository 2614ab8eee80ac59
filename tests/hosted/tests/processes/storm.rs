//! Everything at once: births, ends, signals and stops that race. Nothing may hang, and nothing may be left.

use crate::carrier::{Thread, run};
use linux_raw_sys::general as nr;
use litebox_platform_hosted::Random;
use std::time::{Duration, Instant};

/// How many choices each of the tasks makes.
const STEPS: u32 = 40;

fn act(thread: &mut Thread, seed: u64, depth: u32) {
    // Each task has its own, so that a failure can be had again as far as threads allow.
    let mut dice = Random(seed | 1);
    for step in 0..STEPS {
        let next = seed.wrapping_mul(31).wrapping_add(u64::from(step));
        let victim = 2 + dice.below(40);
        match dice.below(14) {
            0..=2 if depth < 3 => {
                thread.next_child(move |child| act(child, next, depth + 1));
                let _ = thread.call(nr::__NR_fork, &[]);
            }
            3 if depth < 3 => {
                thread.next_child(move |child| act(child, next, depth + 1));
                let _ = thread.call(nr::__NR_vfork, &[]);
            }
            4 | 5 => {
                let word = thread.room(64);
                thread.next_child(move |thread| {
                    act(thread, next, 3);
                    let _ = thread.call(nr::__NR_exit, &[0]);
                });
                let flags = nr::CLONE_VM | nr::CLONE_SIGHAND | nr::CLONE_THREAD | nr::CLONE_FILES | nr::CLONE_CHILD_CLEARTID;
                let _ = thread.call(nr::__NR_clone, &[flags.into(), 0, 0, word, 0]);
            }
            6 => {
                let _ = thread.kill(victim, nr::SIGKILL);
            }
            7 => {
                let signal = [nr::SIGUSR1, nr::SIGCHLD, nr::SIGTSTP, nr::SIGTERM][usize::try_from(dice.below(4)).unwrap()];
                let _ = thread.kill(victim, signal);
            }
            8 => {
                let _ = thread.kill(victim, nr::SIGSTOP);
                let _ = thread.kill(victim, nr::SIGCONT);
            }
            9 => {
                let _ = thread.wait4(-1, nr::WNOHANG | nr::WUNTRACED | nr::WCONTINUED);
            }
            10 => {
                let _ = thread.call(nr::__NR_setpgid, &[0, 0]);
            }
            11 => {
                let set = thread.words(&[1 << (nr::SIGUSR1 - 1)]);
                let how = [nr::SIG_BLOCK, nr::SIG_UNBLOCK][usize::try_from(dice.below(2)).unwrap()];
                let _ = thread.call(nr::__NR_rt_sigprocmask, &[how.into(), set, 0, 8]);
            }
            12 if depth > 0 && dice.below(8) == 0 => thread.exit(next),
            _ => thread.look(),
        }
    }
}

#[test]
fn races_leave_nothing_behind() {
    for seed in 1..=6u64 {
        run(move |first| {
            first.action(nr::SIGUSR1, 1, 0);
            for child in 0..4 {
                first.fork(move |thread| act(thread, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ child, 0));
            }
            // Whatever stops or waits for ever goes with the first process.
            let end = Instant::now() + Duration::from_millis(100);
            while Instant::now() < end {
                let _ = first.wait4(-1, nr::WNOHANG);
                first.look();
                std::thread::yield_now();
            }
            assert!(first.task.sandbox().last_id() > 20, "no storm: {}", first.task.sandbox().last_id());
        });
    }
}
