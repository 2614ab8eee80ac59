//! Threads: beginning, joining, ending together.

use crate::carrier::{Flag, errno, run};
use linux_raw_sys::general as nr;
use litebox_shim_linux::task::End;
use std::sync::Arc;

#[test]
fn a_thread_shares_all_and_its_end_is_seen() {
    run(|main| {
        let (word, shared) = (main.words(&[0]), main.words(&[0]));
        let fds = main.room(8);
        main.ok(nr::__NR_pipe2, &[fds, 0]);
        let tid = main.thread(word, move |thread| {
            assert_eq!((thread.getpid(), thread.ok(nr::__NR_gettid, &[])), (2, 3));
            assert_eq!(<litebox_platform_hosted::Hosted as litebox_shim_linux::signal::Cpu>::fs_base(), 0x5000);
            thread.poke(shared, &[1]);
            let end = thread.half(fds);
            thread.ok(nr::__NR_close, &[end.into()]);
        });
        assert_eq!(tid, 3);
        main.join(word);
        assert_eq!(main.word(shared), 1);
        let end = main.half(fds);
        main.fails(errno::EBADF, nr::__NR_close, &[end.into()]);
        assert_eq!(main.wait4(-1, nr::__WALL), Err(errno::ECHILD), "a thread is no child");
        let sandbox = Arc::clone(main.task.sandbox());
        main.until(|_| sandbox.task_count() == 1);
    });
}

#[test]
fn the_end_of_the_process_ends_threads_wherever_they_are() {
    let end = run(|main| {
        let words = [main.words(&[0]), main.words(&[0]), main.words(&[0])];
        let ready = Flag::default();
        let begun = ready.clone();
        main.thread(words[0], |thread| thread.spin());
        main.thread(words[1], move |thread| {
            let never = thread.words(&[0]);
            begun.raise();
            let _ = thread.call(nr::__NR_futex, &[never, nr::FUTEX_WAIT.into(), 0, 0]);
        });
        ready.wait();
        main.thread(words[2], |thread| thread.exit(4));
        main.spin();
    });
    assert_eq!(end, End::Process(4));
}

#[test]
fn a_process_lives_as_long_as_its_last_thread() {
    let end = run(|first| {
        let word = first.words(&[0]);
        let pid = first.fork(move |main| {
            let gone = Flag::default();
            let wait = gone.clone();
            let process = Arc::clone(main.task.process());
            main.thread(word, move |thread| {
                wait.wait();
                thread.until(|_| process.task_count() == 1);
                let own = thread.ok(nr::__NR_getpid, &[]);
                assert_eq!(thread.kill(own, 0), Ok(0));
                let _ = thread.call(nr::__NR_exit, &[6]);
            });
            gone.raise();
            let _ = main.call(nr::__NR_exit, &[1]);
        });
        assert_eq!(first.wait4(-1, 0), Ok((pid, 0x600)));
    });
    assert_eq!(end, End::Process(0));
}

#[test]
fn a_fatal_signal_ends_all_threads() {
    run(|first| {
        let word = first.words(&[0]);
        let pid = first.fork(move |main| {
            main.thread(word, |thread| thread.spin());
            main.mask(&[nr::SIGTERM]);
            let own = main.getpid();
            main.kill(own, nr::SIGTERM).unwrap();
            let never = main.words(&[0]);
            let _ = main.call(nr::__NR_futex, &[never, nr::FUTEX_WAIT.into(), 0, 0]);
        });
        assert_eq!(first.wait4(-1, 0), Ok((pid, nr::SIGTERM)), "the thread that does not block it took it");
    });
}

#[test]
fn robust_futexes_are_left_to_others() {
    run(|main| {
        let word = main.words(&[0]);
        let lock = main.words(&[0; 8]);
        main.thread(word, move |thread| {
            let tid = thread.ok(nr::__NR_gettid, &[]);
            // Head: the entry at lock + 32, its futex eight bytes before it; the entry leads back to the head.
            let head = lock;
            for (at, value) in [(head, lock + 32), (head + 8, 0u64.wrapping_sub(8)), (head + 16, 0), (lock + 32, head)] {
                thread.poke(at, &value.to_le_bytes());
            }
            thread.poke(lock + 24, &(tid | u64::from(nr::FUTEX_WAITERS)).to_le_bytes());
            thread.ok(nr::__NR_set_robust_list, &[head, 24]);
        });
        main.join(word);
        assert_eq!(main.half(lock + 24), nr::FUTEX_OWNER_DIED | nr::FUTEX_WAITERS);
    });
}

#[test]
fn an_owned_word_goes_to_who_waits_and_is_marked_when_its_owner_ends() {
    run(|main| {
        let (word, owned) = (main.words(&[0]), main.words(&[0]));
        let me = main.ok(nr::__NR_gettid, &[]);
        main.ok(nr::__NR_futex, &[owned, nr::FUTEX_LOCK_PI.into(), 0, 0]);
        let tid = main.thread(word, move |thread| {
            thread.ok(nr::__NR_futex, &[owned, nr::FUTEX_LOCK_PI.into(), 0, 0]);
            // It ends as the owner, without a list.
        });
        main.until(|main| main.half(owned) & nr::FUTEX_WAITERS != 0);
        main.fails(errno::EINVAL, nr::__NR_futex, &[owned, nr::FUTEX_WAKE.into(), 1]);
        main.ok(nr::__NR_futex, &[owned, nr::FUTEX_UNLOCK_PI.into()]);
        main.join(word);
        assert_eq!(u64::from(main.half(owned)), u64::from(nr::FUTEX_WAITERS) | tid, "given, and never released");
        main.fails(errno::ESRCH, nr::__NR_futex, &[owned, nr::FUTEX_LOCK_PI.into(), 0, 0]);

        main.poke(owned, &[0; 4]);
        main.poke(word, &[0; 8]);
        let owns = Flag::default();
        let owner = owns.clone();
        main.thread(word, move |thread| {
            thread.ok(nr::__NR_futex, &[owned, nr::FUTEX_LOCK_PI.into(), 0, 0]);
            owner.raise();
            thread.until(|thread| thread.half(owned) & nr::FUTEX_WAITERS != 0);
        });
        owns.wait();
        main.ok(nr::__NR_futex, &[owned, nr::FUTEX_LOCK_PI.into(), 0, 0]);
        let mine = u64::from(nr::FUTEX_WAITERS | nr::FUTEX_OWNER_DIED) | me;
        assert_eq!(u64::from(main.half(owned)), mine);
        main.join(word);
    });
}

#[test]
fn a_robust_list_that_never_ends_does_not_keep_its_task() {
    run(|main| {
        let (word, list) = (main.words(&[0]), main.words(&[0; 8]));
        main.poke(list + 32, &(list + 32).to_le_bytes());
        main.poke(list, &(list + 32).to_le_bytes());
        for head in [list, 8, u64::MAX - 7] {
            main.thread(word, move |thread| {
                thread.ok(nr::__NR_set_robust_list, &[head, 24]);
            });
            main.join(word);
        }
    });
}

#[test]
fn unshared_files_are_the_task_s_own() {
    run(|main| {
        let (word, fds) = (main.words(&[0]), main.room(8));
        main.ok(nr::__NR_pipe2, &[fds, 0]);
        let end = u64::from(main.half(fds));
        main.thread(word, move |thread| {
            thread.fails(errno::EINVAL, nr::__NR_unshare, &[nr::CLONE_VM.into()]);
            thread.fails(errno::EPERM, nr::__NR_unshare, &[nr::CLONE_NEWUTS.into()]);
            thread.fails(errno::EINVAL, nr::__NR_unshare, &[1]);
            thread.ok(nr::__NR_unshare, &[u64::from(nr::CLONE_FILES | nr::CLONE_FS)]);
            thread.ok(nr::__NR_close, &[end]);
            assert_eq!(thread.ok(nr::__NR_umask, &[0]), 0o22);
        });
        main.join(word);
        main.ok(nr::__NR_close, &[end]);
        assert_eq!(main.ok(nr::__NR_umask, &[0]), 0o22);
        let process = Arc::clone(main.task.process());
        main.until(|_| process.task_count() == 1);
        main.ok(nr::__NR_unshare, &[nr::CLONE_VM.into()]);
    });
}
