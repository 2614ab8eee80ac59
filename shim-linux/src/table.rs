//! The system calls of Linux on x86-64: one row each, from which dispatch, trace, docs/compatibility.md and the message about
//! a missing call are made.
//!
//! A row: number, name, arguments with their types (`crate::args`), and how far it is supported:
//! - `Full [handler, restart]`
//! - `Partial [handler, restart, "what differs from Linux"]`
//! - `None [errno, "why"]`
//!
//! Invariants: numbers ascend and names are Linux's (a test compares them with the kernel's headers); a handler takes just the
//! row's arguments (else it does not compile). Cost: one jump through a table.

use crate::args::{Arg, ArgKind, Count, DirFd, Fd, Flags, Id, Int, Len, Mode, Offset, Path, Pid, Ptr, Sig, Value, Word};
use crate::calls::{
    aio, attributes, dirs, event, fcntl, files, foreign, futex, futex2, handle, ids, ioctl, limits, lock, map, membarrier,
    message, mount, mq, msg, names, old, pipe, poll, prctl, rseq, sched, sem, shm, signals, sigwait, socket, splice, stat, task,
    terminal, time, timer, transfer, xattr,
};
use crate::calls::{exec, kill, pidfd, process, ptrace, seccomp, usage, wait};
use crate::signal::Cpu;
use crate::task::Task;
use litebox_core::error::{Errno, Result};

/// What becomes of a call that a signal interrupted before it did anything. See signal(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// `EINTR`. Linux: `EINTR`, or a call that never waits.
    No,
    /// Made again if the handler has `SA_RESTART`, or if there is none. Linux: `ERESTARTSYS`.
    IfAsked,
    /// Made again only if no handler ran. Linux: `ERESTARTNOHAND`.
    NoHandler,
    /// Made again, with the time that is left, only if no handler ran. Linux: `ERESTART_RESTARTBLOCK`.
    Block,
    /// Made again whatever ran. Linux: `ERESTARTNOINTR`.
    Always,
}

/// How far a call is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As in Linux.
    Full,
    /// As in Linux, but for this.
    Partial(&'static str),
    /// It only gives this errno, and why.
    None(Errno, &'static str),
}

/// An argument of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgRow {
    /// Its name.
    pub name: &'static str,
    /// How it is shown.
    pub kind: ArgKind,
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub number: u16,
    /// Its name, as in `asm/unistd_64.h`.
    pub name: &'static str,
    /// Its arguments; empty too for an unsupported call whose arguments are not described.
    pub args: &'static [ArgRow],
    /// What becomes of it when interrupted.
    pub restart: Restart,
    /// How far it is supported.
    pub support: Support,
}

macro_rules! row {
    ($number:literal $name:ident [$($args:tt)*] Full [$handler:path, $restart:ident]) => {
        Row { number: $number, name: stringify!($name), args: &[$($args)*], restart: Restart::$restart, support: Support::Full }
    };
    ($number:literal $name:ident [$($args:tt)*] Partial [$handler:path, $restart:ident, $gap:literal]) => {
        Row {
            number: $number,
            name: stringify!($name),
            args: &[$($args)*],
            restart: Restart::$restart,
            support: Support::Partial($gap),
        }
    };
    ($number:literal $name:ident [$($args:tt)*] None [$errno:ident, $why:literal]) => {
        Row {
            number: $number,
            name: stringify!($name),
            args: &[$($args)*],
            restart: Restart::No,
            support: Support::None(Errno::$errno, $why),
        }
    };
}

macro_rules! make {
    ($task:ident $raw:ident ($($kind:ident)*) None [$($rest:tt)*]) => {
        None
    };
    ($task:ident $raw:ident ($($kind:ident)*) $level:ident [$handler:path, $($rest:tt)*]) => {{
        let mut raw = $raw.into_iter();
        // Some calls take nothing from it.
        let _ = &mut raw;
        Some($handler($task, $(<$kind as Arg>::decode(raw.next().unwrap_or_default())),*).map(Value::to_rax))
    }};
}

macro_rules! syscalls {
    ($($number:literal $name:ident ($($arg:ident: $kind:ident),*) = $level:ident $rest:tt;)*) => {
        /// Every call that Linux has on x86-64, in the order of their numbers.
        pub static ROWS: &[Row] = &[$(
            row!($number $name [$(ArgRow { name: stringify!($arg), kind: <$kind as Arg>::KIND }),*] $level $rest),
        )*];

        /// Makes call `number` with the registers `raw`; `None` for one that has no handler.
        pub(crate) fn make<P: Cpu>(task: &mut Task<P>, number: u64, raw: [u64; 6]) -> Option<Result<u64>> {
            match number {
                $($number => make!(task raw ($($kind)*) $level $rest),)*
                _ => None,
            }
        }
    };
}

#[rustfmt::skip]
mod rows {
use super::*;

syscalls! {
      0 read (fd: Fd, buf: Ptr, count: Len) = Full [files::read, IfAsked];
      1 write (fd: Fd, buf: Ptr, count: Len) = Full [files::write, IfAsked];
      2 open (path: Path, flags: Flags, mode: Mode) = Full [files::open, IfAsked];
      3 close (fd: Fd) = Full [files::close, No];
      4 stat (path: Path, buf: Ptr) = Full [stat::stat, No];
      5 fstat (fd: Fd, buf: Ptr) = Full [stat::fstat, No];
      6 lstat (path: Path, buf: Ptr) = Full [stat::lstat, No];
      7 poll (fds: Ptr, nfds: Count, timeout: Int) = Full [poll::poll, Block];
      8 lseek (fd: Fd, offset: Offset, whence: Int) = Full [files::lseek, No];
      9 mmap (addr: Ptr, length: Len, prot: Word, flags: Word, fd: Fd, offset: Word) = Partial [map::mmap, No, "no huge pages are reserved: MAP_HUGETLB is ENOMEM"];
     10 mprotect (addr: Ptr, len: Len, prot: Word) = Full [map::mprotect, No];
     11 munmap (addr: Ptr, length: Len) = Full [map::munmap, No];
     12 brk (addr: Ptr) = Full [map::brk, No];
     13 rt_sigaction (sig: Sig, act: Ptr, oldact: Ptr, size: Len) = Full [signals::rt_sigaction, No];
     14 rt_sigprocmask (how: Int, set: Ptr, oldset: Ptr, size: Len) = Full [signals::rt_sigprocmask, No];
     15 rt_sigreturn () = Full [signals::rt_sigreturn, No];
     16 ioctl (fd: Fd, request: Flags, arg: Word) = Partial [ioctl::ioctl, IfAsked, "FIOCLEX, FIONCLEX, FIONBIO, FIOASYNC, FIONREAD, FIGETBSZ; of pairs of /dev/ptmx all of ioctl_tty(2) but modem lines, TIOCCONS and locked settings; of terminals of the host the window size and settings as far as the host tells them; others are ENOTTY"];
     17 pread64 (fd: Fd, buf: Ptr, count: Len, offset: Offset) = Full [files::pread64, IfAsked];
     18 pwrite64 (fd: Fd, buf: Ptr, count: Len, offset: Offset) = Full [files::pwrite64, IfAsked];
     19 readv (fd: Fd, iov: Ptr, iovcnt: Len) = Full [files::readv, IfAsked];
     20 writev (fd: Fd, iov: Ptr, iovcnt: Len) = Full [files::writev, IfAsked];
     21 access (path: Path, mode: Int) = Full [attributes::access, No];
     22 pipe (fds: Ptr) = Full [pipe::pipe, No];
     23 select (nfds: Int, r: Ptr, w: Ptr, e: Ptr, timeout: Ptr) = Full [poll::select, NoHandler];
     24 sched_yield () = Partial [sched::sched_yield, No, "returns at once"];
     25 mremap (old: Ptr, old_size: Len, new_size: Len, flags: Word, new: Ptr) = Full [map::mremap, No];
     26 msync (addr: Ptr, length: Len, flags: Int) = Full [transfer::msync, No];
     27 mincore (addr: Ptr, length: Len, vec: Ptr) = Full [map::mincore, No];
     28 madvise (addr: Ptr, length: Len, advice: Int) = Partial [map::madvise, No, "advice about huge pages, merging and dumping is accepted without effect; MADV_REMOVE is EINVAL"];
     29 shmget (key: Int, size: Len, flags: Flags) = Partial [shm::shmget, No, "SHM_HUGETLB is EINVAL"];
     30 shmat (id: Int, addr: Ptr, flags: Flags) = Full [shm::shmat, No];
     31 shmctl (id: Int, command: Int, buf: Ptr) = Partial [shm::shmctl, No, "shm_nattch counts areas, of which an attachment that was split has several; SHM_INFO has no residence"];
     32 dup (fd: Fd) = Full [files::dup, No];
     33 dup2 (old: Fd, new: Fd) = Full [files::dup2, No];
     34 pause () = Full [sigwait::pause, NoHandler];
     35 nanosleep (req: Ptr, rem: Ptr) = Full [time::nanosleep, Block];
     36 getitimer (which: Int, value: Ptr) = Full [timer::getitimer, No];
     37 alarm (seconds: Count) = Full [timer::alarm, No];
     38 setitimer (which: Int, new: Ptr, old: Ptr) = Full [timer::setitimer, No];
     39 getpid () = Full [ids::getpid, No];
     40 sendfile (out: Fd, input: Fd, offset: Ptr, count: Len) = Partial [transfer::sendfile, IfAsked, "copies through a buffer"];
     41 socket (domain: Int, kind: Int, protocol: Int) = Partial [socket::socket, No, "AF_UNIX only; others are EAFNOSUPPORT"];
     42 connect (fd: Fd, addr: Ptr, len: Int) = Full [socket::connect, IfAsked];
     43 accept (fd: Fd, addr: Ptr, len: Ptr) = Full [socket::accept, IfAsked];
     44 sendto (fd: Fd, buf: Ptr, len: Len, flags: Flags, addr: Ptr, addrlen: Int) = Partial [message::sendto, IfAsked, "no urgent data; a stream's messages of other senders are kept apart always"];
     45 recvfrom (fd: Fd, buf: Ptr, len: Len, flags: Flags, addr: Ptr, addrlen: Ptr) = Partial [message::recvfrom, IfAsked, "no urgent data; a stream's messages of other senders are kept apart always"];
     46 sendmsg (fd: Fd, msg: Ptr, flags: Flags) = Partial [message::sendmsg, IfAsked, "no urgent data; a stream's messages of other senders are kept apart always"];
     47 recvmsg (fd: Fd, msg: Ptr, flags: Flags) = Partial [message::recvmsg, IfAsked, "no urgent data; a stream's messages of other senders are kept apart always"];
     48 shutdown (fd: Fd, how: Int) = Full [socket::shutdown, No];
     49 bind (fd: Fd, addr: Ptr, len: Int) = Full [socket::bind, No];
     50 listen (fd: Fd, backlog: Int) = Full [socket::listen, No];
     51 getsockname (fd: Fd, addr: Ptr, len: Ptr) = Full [socket::getsockname, No];
     52 getpeername (fd: Fd, addr: Ptr, len: Ptr) = Full [socket::getpeername, No];
     53 socketpair (domain: Int, kind: Int, protocol: Int, fds: Ptr) = Partial [socket::socketpair, No, "AF_UNIX only; others are EAFNOSUPPORT"];
     54 setsockopt (fd: Fd, level: Int, name: Int, value: Ptr, len: Int) = Partial [socket::setsockopt, No, "SO_PASSCRED, SO_RCVTIMEO, SO_SNDTIMEO; ordinary others are accepted without effect, the rest is ENOPROTOOPT"];
     55 getsockopt (fd: Fd, level: Int, name: Int, value: Ptr, len: Ptr) = Partial [socket::getsockopt, No, "ordinary options of SOL_SOCKET; the rest is ENOPROTOOPT"];
     56 clone (flags: Word, stack: Ptr, parent_tid: Ptr, child_tid: Ptr, tls: Ptr) = Partial [process::clone, Always, "namespaces are EPERM"];
     57 fork () = Full [process::fork, Always];
     58 vfork () = Partial [process::vfork, Always, "while the child has its parent's memory and no other program, it makes no threads (EAGAIN), and a kill of the parent waits for it"];
     59 execve (path: Path, argv: Ptr, envp: Ptr) = Partial [exec::execve, No, "capabilities of files have no effect"];
     60 exit (status: Int) = Full [task::exit, No];
     61 wait4 (pid: Pid, status: Ptr, options: Flags, rusage: Ptr) = Partial [wait::wait4, IfAsked, "no core file is written where one is told of"];
     62 kill (pid: Pid, sig: Sig) = Full [kill::kill, No];
     63 uname (buf: Ptr) = Full [ids::uname, No];
     64 semget (key: Int, count: Int, flags: Flags) = Full [sem::semget, No];
     65 semop (id: Int, ops: Ptr, count: Count) = Partial [sem::semop, No, "SEM_UNDO is undone at the end of the process, whatever CLONE_SYSVSEM said"];
     66 semctl (id: Int, index: Int, command: Int, arg: Word) = Full [sem::semctl, No];
     67 shmdt (addr: Ptr) = Full [shm::shmdt, No];
     68 msgget (key: Int, flags: Flags) = Full [msg::msgget, No];
     69 msgsnd (id: Int, message: Ptr, size: Len, flags: Flags) = Full [msg::msgsnd, NoHandler];
     70 msgrcv (id: Int, message: Ptr, size: Len, kind: Offset, flags: Flags) = Full [msg::msgrcv, NoHandler];
     71 msgctl (id: Int, command: Int, buf: Ptr) = Full [msg::msgctl, No];
     72 fcntl (fd: Fd, cmd: Int, arg: Word) = Partial [fcntl::fcntl, IfAsked, "owners and signals of F_SETOWN, F_SETSIG have no effect; F_SETLEASE, F_NOTIFY and hints are EINVAL"];
     73 flock (fd: Fd, operation: Int) = Full [fcntl::flock, IfAsked];
     74 fsync (fd: Fd) = Full [transfer::fsync, No];
     75 fdatasync (fd: Fd) = Full [transfer::fdatasync, No];
     76 truncate (path: Path, length: Offset) = Full [attributes::truncate, No];
     77 ftruncate (fd: Fd, length: Offset) = Full [attributes::ftruncate, No];
     78 getdents (fd: Fd, dirents: Ptr, count: Count) = Full [dirs::getdents, No];
     79 getcwd (buf: Ptr, size: Len) = Full [names::getcwd, No];
     80 chdir (path: Path) = Full [names::chdir, No];
     81 fchdir (fd: Fd) = Full [names::fchdir, No];
     82 rename (old: Path, new: Path) = Full [names::rename, No];
     83 mkdir (path: Path, mode: Mode) = Full [names::mkdir, No];
     84 rmdir (path: Path) = Full [names::rmdir, No];
     85 creat (path: Path, mode: Mode) = Full [files::creat, IfAsked];
     86 link (old: Path, new: Path) = Full [names::link, No];
     87 unlink (path: Path) = Full [names::unlink, No];
     88 symlink (target: Path, path: Path) = Full [names::symlink, No];
     89 readlink (path: Path, buf: Ptr, size: Int) = Full [stat::readlink, No];
     90 chmod (path: Path, mode: Mode) = Full [attributes::chmod, No];
     91 fchmod (fd: Fd, mode: Mode) = Full [attributes::fchmod, No];
     92 chown (path: Path, user: Id, group: Id) = Full [attributes::chown, No];
     93 fchown (fd: Fd, user: Id, group: Id) = Full [attributes::fchown, No];
     94 lchown (path: Path, user: Id, group: Id) = Full [attributes::lchown, No];
     95 umask (mask: Mode) = Full [attributes::umask, No];
     96 gettimeofday (tv: Ptr, tz: Ptr) = Full [time::gettimeofday, No];
     97 getrlimit (resource: Count, limit: Ptr) = Full [limits::getrlimit, No];
     98 getrusage (who: Int, usage: Ptr) = Partial [usage::getrusage, No, "blocks are not counted; ru_maxrss is looked at now and then, not at each fault"];
     99 sysinfo (info: Ptr) = Partial [limits::sysinfo, No, "loads are 0"];
    100 times (buf: Ptr) = Full [usage::times, No];
    101 ptrace (request: Offset, pid: Pid, addr: Ptr, data: Word) = Partial [ptrace::ptrace, No, "debug registers are kept, and to switch a breakpoint of theirs on is ENOSPC; PTRACE_SINGLEBLOCK, PTRACE_SUSPEND_SECCOMP and requests for filters, rseq(2) and user dispatch are missing; 32-bit selectors have no effect"];
    102 getuid () = Full [ids::getuid, No];
    103 syslog (action: Int, buf: Ptr, len: Int) = Partial [old::syslog, No, "the log is the sandbox's own and always empty; who reads it is told its end and does not wait"];
    104 getgid () = Full [ids::getgid, No];
    105 setuid (uid: Id) = Full [ids::setuid, No];
    106 setgid (gid: Id) = Full [ids::setgid, No];
    107 geteuid () = Full [ids::geteuid, No];
    108 getegid () = Full [ids::getegid, No];
    109 setpgid (pid: Pid, pgid: Pid) = Full [process::setpgid, No];
    110 getppid () = Full [ids::getppid, No];
    111 getpgrp () = Full [ids::getpgrp, No];
    112 setsid () = Full [process::setsid, No];
    113 setreuid (ruid: Id, euid: Id) = Full [ids::setreuid, No];
    114 setregid (rgid: Id, egid: Id) = Full [ids::setregid, No];
    115 getgroups (size: Int, list: Ptr) = Full [ids::getgroups, No];
    116 setgroups (size: Int, list: Ptr) = Full [ids::setgroups, No];
    117 setresuid (ruid: Id, euid: Id, suid: Id) = Full [ids::setresuid, No];
    118 getresuid (ruid: Ptr, euid: Ptr, suid: Ptr) = Full [ids::getresuid, No];
    119 setresgid (rgid: Id, egid: Id, sgid: Id) = Full [ids::setresgid, No];
    120 getresgid (rgid: Ptr, egid: Ptr, sgid: Ptr) = Full [ids::getresgid, No];
    121 getpgid (pid: Pid) = Full [ids::getpgid, No];
    122 setfsuid (id: Id) = Partial [ids::setfsuid, No, "the ids for files are the effective ones"];
    123 setfsgid (id: Id) = Partial [ids::setfsgid, No, "the ids for files are the effective ones"];
    124 getsid (pid: Pid) = Full [ids::getsid, No];
    125 capget (header: Ptr, data: Ptr) = Partial [prctl::capget, No, "threads of a process have the same"];
    126 capset (header: Ptr, data: Ptr) = Partial [prctl::capset, No, "for all threads of the process"];
    127 rt_sigpending (set: Ptr, size: Len) = Full [signals::rt_sigpending, No];
    128 rt_sigtimedwait (set: Ptr, info: Ptr, timeout: Ptr, size: Len) = Full [sigwait::rt_sigtimedwait, No];
    129 rt_sigqueueinfo (pid: Pid, sig: Sig, info: Ptr) = Full [kill::rt_sigqueueinfo, No];
    130 rt_sigsuspend (mask: Ptr, size: Len) = Full [sigwait::rt_sigsuspend, NoHandler];
    131 sigaltstack (new: Ptr, old: Ptr) = Full [signals::sigaltstack, No];
    132 utime (path: Path, times: Ptr) = Full [attributes::utime, No];
    133 mknod (path: Path, mode: Mode, dev: Word) = Partial [names::mknod, No, "device nodes can be made and not opened"];
    134 uselib () = None [NOSYS, "Linux has it no more"];
    135 personality (persona: Flags) = Partial [task::personality, No, "without effect but for STICKY_TIMEOUTS"];
    136 ustat (dev: Word, buf: Ptr) = Full [old::ustat, No];
    137 statfs (path: Path, buf: Ptr) = Full [stat::statfs, No];
    138 fstatfs (fd: Fd, buf: Ptr) = Full [stat::fstatfs, No];
    139 sysfs (option: Int, first: Word, second: Ptr) = Full [old::sysfs, No];
    140 getpriority (which: Int, who: Int) = Full [sched::getpriority, No];
    141 setpriority (which: Int, who: Int, nice: Int) = Partial [sched::setpriority, No, "kept for the process and without effect"];
    142 sched_setparam (pid: Pid, param: Ptr) = Partial [sched::sched_setparam, No, "checked, kept for the process and without effect; real-time policies are EPERM"];
    143 sched_getparam (pid: Pid, param: Ptr) = Full [sched::sched_getparam, No];
    144 sched_setscheduler (pid: Pid, policy: Int, param: Ptr) = Partial [sched::sched_setscheduler, No, "checked, kept for the process and without effect; real-time policies are EPERM"];
    145 sched_getscheduler (pid: Pid) = Full [sched::sched_getscheduler, No];
    146 sched_get_priority_max (policy: Int) = Full [sched::sched_get_priority_max, No];
    147 sched_get_priority_min (policy: Int) = Full [sched::sched_get_priority_min, No];
    148 sched_rr_get_interval (pid: Pid, time: Ptr) = Full [sched::sched_rr_get_interval, No];
    149 mlock (addr: Ptr, len: Len) = Full [lock::mlock, No];
    150 munlock (addr: Ptr, len: Len) = Full [lock::munlock, No];
    151 mlockall (flags: Flags) = Full [lock::mlockall, No];
    152 munlockall () = Full [lock::munlockall, No];
    153 vhangup () = Full [terminal::vhangup, No];
    154 modify_ldt () = None [NOSYS, "16-bit and call-gate segments are not offered"];
    155 pivot_root (new_root: Path, put_old: Path) = Full [mount::pivot_root, No];
    156 _sysctl () = None [NOSYS, "Linux has it no more"];
    157 prctl (option: Int, arg2: Word, arg3: Word, arg4: Word, arg5: Word) = Partial [prctl::prctl, No, "names, parent-death signals, dumpable, subreapers, no_new_privs, seccomp(2), capabilities, and as switches without effect huge pages, timer slack, names of memory; others are EINVAL"];
    158 arch_prctl (option: Int, addr: Ptr) = Partial [task::arch_prctl, No, "ARCH_SET_FS, ARCH_GET_FS, ARCH_SET_GS, ARCH_GET_GS"];
    159 adjtimex () = None [PERM, "a sandbox does not change its host"];
    160 setrlimit (resource: Count, limit: Ptr) = Partial [limits::setrlimit, No, "RLIMIT_RSS, RLIMIT_LOCKS, RLIMIT_SIGPENDING and RLIMIT_RTTIME are kept without effect"];
    161 chroot (path: Path) = Full [names::chroot, No];
    162 sync () = Full [transfer::sync, No];
    163 acct () = None [PERM, "a sandbox does not change its host"];
    164 settimeofday () = None [PERM, "a sandbox does not change its host"];
    165 mount (source: Ptr, target: Path, kind: Ptr, flags: Word, data: Ptr) = Partial [mount::mount, No, "tmpfs, ramfs, proc, devpts, bind, move, remount; other types are ENODEV; mounts are private; a remount is of one mount"];
    166 umount2 (target: Path, flags: Flags) = Full [mount::umount2, No];
    167 swapon () = None [PERM, "a sandbox does not change its host"];
    168 swapoff () = None [PERM, "a sandbox does not change its host"];
    169 reboot () = None [PERM, "a sandbox does not change its host"];
    170 sethostname (name: Ptr, len: Int) = Full [ids::sethostname, No];
    171 setdomainname (name: Ptr, len: Int) = Full [ids::setdomainname, No];
    172 iopl () = None [PERM, "a sandbox does not change its host"];
    173 ioperm () = None [PERM, "a sandbox does not change its host"];
    174 create_module () = None [NOSYS, "Linux has it no more"];
    175 init_module () = None [PERM, "a sandbox does not change its host"];
    176 delete_module () = None [PERM, "a sandbox does not change its host"];
    177 get_kernel_syms () = None [NOSYS, "Linux has it no more"];
    178 query_module () = None [NOSYS, "Linux has it no more"];
    179 quotactl () = None [PERM, "a sandbox does not change its host"];
    180 nfsservctl () = None [NOSYS, "Linux has it no more"];
    181 getpmsg () = None [NOSYS, "Linux has it no more"];
    182 putpmsg () = None [NOSYS, "Linux has it no more"];
    183 afs_syscall () = None [NOSYS, "Linux has it no more"];
    184 tuxcall () = None [NOSYS, "Linux has it no more"];
    185 security () = None [NOSYS, "Linux has it no more"];
    186 gettid () = Full [ids::gettid, No];
    187 readahead (fd: Fd, offset: Offset, count: Len) = Partial [transfer::readahead, No, "reads nothing ahead"];
    188 setxattr (path: Path, name: Ptr, value: Ptr, size: Len, flags: Flags) = Partial [xattr::setxattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    189 lsetxattr (path: Path, name: Ptr, value: Ptr, size: Len, flags: Flags) = Partial [xattr::lsetxattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    190 fsetxattr (fd: Fd, name: Ptr, value: Ptr, size: Len, flags: Flags) = Partial [xattr::fsetxattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    191 getxattr (path: Path, name: Ptr, value: Ptr, size: Len) = Partial [xattr::getxattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    192 lgetxattr (path: Path, name: Ptr, value: Ptr, size: Len) = Partial [xattr::lgetxattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    193 fgetxattr (fd: Fd, name: Ptr, value: Ptr, size: Len) = Partial [xattr::fgetxattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    194 listxattr (path: Path, list: Ptr, size: Len) = Full [xattr::listxattr, No];
    195 llistxattr (path: Path, list: Ptr, size: Len) = Full [xattr::llistxattr, No];
    196 flistxattr (fd: Fd, list: Ptr, size: Len) = Full [xattr::flistxattr, No];
    197 removexattr (path: Path, name: Ptr) = Partial [xattr::removexattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    198 lremovexattr (path: Path, name: Ptr) = Partial [xattr::lremovexattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    199 fremovexattr (fd: Fd, name: Ptr) = Partial [xattr::fremovexattr, No, "files in memory only, and no ACLs: others are EOPNOTSUPP"];
    200 tkill (tid: Pid, sig: Sig) = Full [kill::tkill, No];
    201 time (t: Ptr) = Full [time::time, No];
    202 futex (word: Ptr, op: Flags, value: Count, timeout: Ptr, word2: Ptr, value3: Count) = Partial [futex::futex, IfAsked, "owners follow each other first come first served, and inherit no priority"];
    203 sched_setaffinity (pid: Pid, size: Count, mask: Ptr) = Full [sched::sched_setaffinity, No];
    204 sched_getaffinity (pid: Pid, size: Count, mask: Ptr) = Full [sched::sched_getaffinity, No];
    205 set_thread_area () = None [NOSYS, "Linux has it no more"];
    206 io_setup (room: Word, context: Ptr) = Full [aio::io_setup, No];
    207 io_destroy (context: Word) = Full [aio::io_destroy, No];
    208 io_getevents (context: Word, least: Offset, most: Offset, events: Ptr, timeout: Ptr) = Full [aio::io_getevents, No];
    209 io_submit (context: Word, count: Offset, list: Ptr) = Partial [aio::io_submit, No, "done at once, by the caller; IOCB_CMD_POLL is EINVAL"];
    210 io_cancel (context: Word, control: Ptr, event: Ptr) = Full [aio::io_cancel, No];
    211 get_thread_area () = None [NOSYS, "Linux has it no more"];
    212 lookup_dcookie () = None [NOSYS, "Linux has it no more"];
    213 epoll_create (size: Int) = Full [event::epoll_create, No];
    214 epoll_ctl_old () = None [NOSYS, "Linux has it no more"];
    215 epoll_wait_old () = None [NOSYS, "Linux has it no more"];
    216 remap_file_pages (addr: Ptr, size: Len, prot: Word, offset: Word, flags: Word) = Full [map::remap_file_pages, No];
    217 getdents64 (fd: Fd, dirents: Ptr, count: Count) = Full [dirs::getdents64, No];
    218 set_tid_address (tid: Ptr) = Full [task::set_tid_address, No];
    219 restart_syscall () = Full [signals::restart_syscall, No];
    220 semtimedop (id: Int, ops: Ptr, count: Count, timeout: Ptr) = Partial [sem::semtimedop, No, "SEM_UNDO is undone at the end of the process, whatever CLONE_SYSVSEM said"];
    221 fadvise64 (fd: Fd, offset: Offset, len: Offset, advice: Int) = Partial [transfer::fadvise64, No, "advice has no effect"];
    222 timer_create (clock: Int, event: Ptr, id: Ptr) = Full [timer::timer_create, No];
    223 timer_settime (timer: Int, flags: Flags, new: Ptr, old: Ptr) = Full [timer::timer_settime, No];
    224 timer_gettime (timer: Int, now: Ptr) = Full [timer::timer_gettime, No];
    225 timer_getoverrun (timer: Int) = Partial [timer::timer_getoverrun, No, "a waiting signal of the same number counts as the timer's"];
    226 timer_delete (timer: Int) = Full [timer::timer_delete, No];
    227 clock_settime (clock: Int, tp: Ptr) = None [PERM, "a sandbox does not change its host"];
    228 clock_gettime (clock: Int, tp: Ptr) = Full [time::clock_gettime, No];
    229 clock_getres (clock: Int, res: Ptr) = Full [time::clock_getres, No];
    230 clock_nanosleep (clock: Int, flags: Flags, req: Ptr, rem: Ptr) = Full [time::clock_nanosleep, Block];
    231 exit_group (status: Int) = Full [task::exit_group, No];
    232 epoll_wait (fd: Fd, events: Ptr, max: Int, timeout: Int) = Full [event::epoll_wait, No];
    233 epoll_ctl (epfd: Fd, op: Int, fd: Fd, event: Ptr) = Partial [event::epoll_ctl, No, "EPOLLWAKEUP has no effect"];
    234 tgkill (pid: Pid, tid: Pid, sig: Sig) = Full [kill::tgkill, No];
    235 utimes (path: Path, times: Ptr) = Full [attributes::utimes, No];
    236 vserver () = None [NOSYS, "Linux has it no more"];
    237 mbind () = None [NOSYS, "not supported yet"];
    238 set_mempolicy () = None [NOSYS, "not supported yet"];
    239 get_mempolicy () = None [NOSYS, "not supported yet"];
    240 mq_open (name: Path, flags: Flags, mode: Mode, attr: Ptr) = Partial [mq::mq_open, No, "the names are in no file system"];
    241 mq_unlink (name: Path) = Full [mq::mq_unlink, No];
    242 mq_timedsend (fd: Fd, message: Ptr, len: Len, priority: Count, timeout: Ptr) = Full [mq::mq_timedsend, IfAsked];
    243 mq_timedreceive (fd: Fd, message: Ptr, len: Len, priority: Ptr, timeout: Ptr) = Full [mq::mq_timedreceive, IfAsked];
    244 mq_notify (fd: Fd, event: Ptr) = Partial [mq::mq_notify, No, "SIGEV_THREAD is EBADF, as it takes a netlink socket; a registration outlives the descriptor"];
    245 mq_getsetattr (fd: Fd, new: Ptr, old: Ptr) = Full [mq::mq_getsetattr, No];
    246 kexec_load () = None [PERM, "a sandbox does not change its host"];
    247 waitid (which: Int, pid: Pid, info: Ptr, options: Flags, rusage: Ptr) = Full [wait::waitid, IfAsked];
    248 add_key () = None [NOSYS, "not supported yet"];
    249 request_key () = None [NOSYS, "not supported yet"];
    250 keyctl () = None [NOSYS, "not supported yet"];
    251 ioprio_set (which: Int, who: Int, priority: Int) = Partial [sched::ioprio_set, No, "kept for the process and without effect"];
    252 ioprio_get (which: Int, who: Int) = Full [sched::ioprio_get, No];
    253 inotify_init () = Full [event::inotify_init, No];
    254 inotify_add_watch (fd: Fd, path: Path, mask: Flags) = Partial [event::inotify_add_watch, No, "IN_EXCL_UNLINK has no effect; what others do to files of the host is not seen; a file that is removed while open is reported at once"];
    255 inotify_rm_watch (fd: Fd, watch: Int) = Full [event::inotify_rm_watch, No];
    256 migrate_pages () = None [NOSYS, "not supported yet"];
    257 openat (dir: DirFd, path: Path, flags: Flags, mode: Mode) = Full [files::openat, IfAsked];
    258 mkdirat (dir: DirFd, path: Path, mode: Mode) = Full [names::mkdirat, No];
    259 mknodat (dir: DirFd, path: Path, mode: Mode, dev: Word) = Partial [names::mknodat, No, "device nodes can be made and not opened"];
    260 fchownat (dir: DirFd, path: Path, user: Id, group: Id, flags: Flags) = Full [attributes::fchownat, No];
    261 futimesat (dir: DirFd, path: Path, times: Ptr) = Full [attributes::futimesat, No];
    262 newfstatat (dir: DirFd, path: Path, buf: Ptr, flags: Flags) = Full [stat::newfstatat, No];
    263 unlinkat (dir: DirFd, path: Path, flags: Flags) = Full [names::unlinkat, No];
    264 renameat (olddir: DirFd, old: Path, newdir: DirFd, new: Path) = Full [names::renameat, No];
    265 linkat (olddir: DirFd, old: Path, newdir: DirFd, new: Path, flags: Flags) = Full [names::linkat, No];
    266 symlinkat (target: Path, dir: DirFd, path: Path) = Full [names::symlinkat, No];
    267 readlinkat (dir: DirFd, path: Path, buf: Ptr, size: Int) = Full [stat::readlinkat, No];
    268 fchmodat (dir: DirFd, path: Path, mode: Mode) = Full [attributes::fchmodat, No];
    269 faccessat (dir: DirFd, path: Path, mode: Int) = Full [attributes::faccessat, No];
    270 pselect6 (nfds: Int, r: Ptr, w: Ptr, e: Ptr, timeout: Ptr, mask: Ptr) = Full [poll::pselect6, NoHandler];
    271 ppoll (fds: Ptr, nfds: Count, timeout: Ptr, mask: Ptr, size: Len) = Full [poll::ppoll, NoHandler];
    272 unshare (flags: Word) = Partial [process::unshare, No, "namespaces but that of mounts are EPERM"];
    273 set_robust_list (head: Ptr, len: Len) = Full [task::set_robust_list, No];
    274 get_robust_list (pid: Pid, head: Ptr, len: Ptr) = Full [futex::get_robust_list, No];
    275 splice (input: Fd, input_offset: Ptr, out: Fd, out_offset: Ptr, len: Len, flags: Flags) = Full [splice::splice, IfAsked];
    276 tee (input: Fd, out: Fd, len: Len, flags: Flags) = Full [splice::tee, IfAsked];
    277 sync_file_range (fd: Fd, offset: Offset, len: Offset, flags: Flags) = Full [transfer::sync_file_range, No];
    278 vmsplice (fd: Fd, iov: Ptr, count: Len, flags: Flags) = Full [splice::vmsplice, IfAsked];
    279 move_pages () = None [NOSYS, "not supported yet"];
    280 utimensat (dir: DirFd, path: Path, times: Ptr, flags: Flags) = Full [attributes::utimensat, No];
    281 epoll_pwait (fd: Fd, events: Ptr, max: Int, timeout: Int, mask: Ptr, size: Len) = Full [event::epoll_pwait, No];
    282 signalfd (fd: Fd, mask: Ptr, size: Len) = Partial [event::signalfd, No, "gives signals of the process that made it, not of its threads"];
    283 timerfd_create (clock: Int, flags: Flags) = Partial [event::timerfd_create, No, "CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM are EPERM"];
    284 eventfd (count: Count) = Full [event::eventfd, No];
    285 fallocate (fd: Fd, mode: Flags, offset: Offset, len: Offset) = Partial [transfer::fallocate, No, "files in memory, where as on tmpfs FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE are all modes; others are EOPNOTSUPP"];
    286 timerfd_settime (fd: Fd, flags: Flags, new: Ptr, old: Ptr) = Partial [event::timerfd_settime, No, "TFD_TIMER_CANCEL_ON_SET has no effect; a change of the real-time clock does not move a timer"];
    287 timerfd_gettime (fd: Fd, now: Ptr) = Full [event::timerfd_gettime, No];
    288 accept4 (fd: Fd, addr: Ptr, len: Ptr, flags: Flags) = Full [socket::accept4, IfAsked];
    289 signalfd4 (fd: Fd, mask: Ptr, size: Len, flags: Flags) = Partial [event::signalfd4, No, "gives signals of the process that made it, not of its threads"];
    290 eventfd2 (count: Count, flags: Flags) = Full [event::eventfd2, No];
    291 epoll_create1 (flags: Flags) = Full [event::epoll_create1, No];
    292 dup3 (old: Fd, new: Fd, flags: Flags) = Full [files::dup3, No];
    293 pipe2 (fds: Ptr, flags: Flags) = Partial [pipe::pipe2, No, "O_DIRECT is accepted and does not keep packets apart"];
    294 inotify_init1 (flags: Flags) = Full [event::inotify_init1, No];
    295 preadv (fd: Fd, iov: Ptr, iovcnt: Len, low: Offset, high: Word) = Full [transfer::preadv, IfAsked];
    296 pwritev (fd: Fd, iov: Ptr, iovcnt: Len, low: Offset, high: Word) = Full [transfer::pwritev, IfAsked];
    297 rt_tgsigqueueinfo (pid: Pid, tid: Pid, sig: Sig, info: Ptr) = Full [kill::rt_tgsigqueueinfo, No];
    298 perf_event_open () = None [NOSYS, "a sandbox has no hardware counters"];
    299 recvmmsg (fd: Fd, msgs: Ptr, count: Count, flags: Flags, timeout: Ptr) = Partial [message::recvmmsg, IfAsked, "no urgent data; a stream's messages of other senders are kept apart always"];
    300 fanotify_init () = None [NOSYS, "not supported yet"];
    301 fanotify_mark () = None [NOSYS, "not supported yet"];
    302 prlimit64 (pid: Pid, resource: Count, new: Ptr, old: Ptr) = Partial [limits::prlimit64, No, "RLIMIT_RSS, RLIMIT_LOCKS, RLIMIT_SIGPENDING and RLIMIT_RTTIME are kept without effect"];
    303 name_to_handle_at (dir: DirFd, path: Path, handle: Ptr, mount_id: Ptr, flags: Flags) = Partial [handle::name_to_handle_at, No, "on file systems in memory; others are EOPNOTSUPP but for AT_HANDLE_FID"];
    304 open_by_handle_at (mount: DirFd, handle: Ptr, flags: Flags) = Partial [handle::open_by_handle_at, No, "on file systems in memory; others are ESTALE"];
    305 clock_adjtime () = None [PERM, "a sandbox does not change its host"];
    306 syncfs (fd: Fd) = Full [transfer::syncfs, No];
    307 sendmmsg (fd: Fd, msgs: Ptr, count: Count, flags: Flags) = Partial [message::sendmmsg, IfAsked, "no urgent data; a stream's messages of other senders are kept apart always"];
    308 setns (fd: Fd, kind: Flags) = Partial [mount::setns, No, "there are no descriptors of namespaces: EINVAL"];
    309 getcpu (cpu: Ptr, node: Ptr) = Full [sched::getcpu, No];
    310 process_vm_readv (pid: Pid, local: Ptr, locals: Len, remote: Ptr, remotes: Len, flags: Word) = Full [foreign::process_vm_readv, No];
    311 process_vm_writev (pid: Pid, local: Ptr, locals: Len, remote: Ptr, remotes: Len, flags: Word) = Full [foreign::process_vm_writev, No];
    312 kcmp (one: Pid, two: Pid, kind: Int, first: Word, second: Word) = Partial [foreign::kcmp, No, "of the first task of each process; KCMP_IO and KCMP_SYSVSEM always find them equal; no KCMP_EPOLL_TFD"];
    313 finit_module () = None [PERM, "a sandbox does not change its host"];
    314 sched_setattr (pid: Pid, attr: Ptr, flags: Flags) = Partial [sched::sched_setattr, No, "checked, kept for the process and without effect; real-time policies are EPERM"];
    315 sched_getattr (pid: Pid, attr: Ptr, size: Count, flags: Flags) = Full [sched::sched_getattr, No];
    316 renameat2 (olddir: DirFd, old: Path, newdir: DirFd, new: Path, flags: Flags) = Partial [names::renameat2, No, "RENAME_WHITEOUT is EINVAL"];
    317 seccomp (operation: Count, flags: Flags, args: Ptr) = Partial [seccomp::seccomp, No, "no user notification: SECCOMP_FILTER_FLAG_NEW_LISTENER is EINVAL; SECCOMP_RET_LOG is not logged"];
    318 getrandom (buf: Ptr, len: Len, flags: Flags) = Full [task::getrandom, No];
    319 memfd_create (name: Path, flags: Flags) = Partial [fcntl::memfd_create, No, "huge pages are EINVAL"];
    320 kexec_file_load () = None [PERM, "a sandbox does not change its host"];
    321 bpf () = None [NOSYS, "no programs run in the kernel for a guest"];
    322 execveat (dir: DirFd, path: Path, argv: Ptr, envp: Ptr, flags: Flags) = Partial [exec::execveat, No, "capabilities of files have no effect"];
    323 userfaultfd () = None [NOSYS, "not supported yet"];
    324 membarrier (command: Int, flags: Flags, cpu: Int) = Full [membarrier::membarrier, No];
    325 mlock2 (addr: Ptr, len: Len, flags: Flags) = Full [lock::mlock2, No];
    326 copy_file_range (input: Fd, input_offset: Ptr, out: Fd, out_offset: Ptr, count: Len, flags: Flags) = Partial [transfer::copy_file_range, No, "copies between file systems of different types too"];
    327 preadv2 (fd: Fd, iov: Ptr, iovcnt: Len, low: Offset, high: Word, flags: Flags) = Partial [transfer::preadv2, IfAsked, "RWF_NOWAIT and later flags are EOPNOTSUPP"];
    328 pwritev2 (fd: Fd, iov: Ptr, iovcnt: Len, low: Offset, high: Word, flags: Flags) = Partial [transfer::pwritev2, IfAsked, "RWF_NOWAIT, RWF_APPEND and later flags are EOPNOTSUPP"];
    329 pkey_mprotect () = None [NOSYS, "not supported yet"];
    330 pkey_alloc () = None [NOSYS, "not supported yet"];
    331 pkey_free () = None [NOSYS, "not supported yet"];
    332 statx (dir: DirFd, path: Path, flags: Flags, mask: Flags, buf: Ptr) = Partial [stat::statx, No, "no birth time"];
    333 io_pgetevents (context: Word, least: Offset, most: Offset, events: Ptr, timeout: Ptr, set: Ptr) = Full [aio::io_pgetevents, No];
    334 rseq (area: Ptr, len: Count, flags: Flags, signature: Flags) = Full [rseq::rseq, No];
    335 uretprobe () = None [NOSYS, "no programs run in the kernel for a guest"];
    424 pidfd_send_signal (pidfd: Fd, sig: Sig, info: Ptr, flags: Flags) = Full [pidfd::pidfd_send_signal, No];
    425 io_uring_setup () = None [NOSYS, "its queues would be a second door"];
    426 io_uring_enter () = None [NOSYS, "its queues would be a second door"];
    427 io_uring_register () = None [NOSYS, "its queues would be a second door"];
    428 open_tree () = None [NOSYS, "not supported yet; mount(2) does it"];
    429 move_mount () = None [NOSYS, "not supported yet; mount(2) does it"];
    430 fsopen () = None [NOSYS, "not supported yet; mount(2) does it"];
    431 fsconfig () = None [NOSYS, "not supported yet; mount(2) does it"];
    432 fsmount () = None [NOSYS, "not supported yet; mount(2) does it"];
    433 fspick () = None [NOSYS, "not supported yet; mount(2) does it"];
    434 pidfd_open (pid: Pid, flags: Flags) = Full [pidfd::pidfd_open, No];
    435 clone3 (args: Ptr, size: Len) = Partial [process::clone3, Always, "namespaces and set_tid are EPERM, CLONE_INTO_CGROUP is EOPNOTSUPP"];
    436 close_range (first: Count, last: Count, flags: Flags) = Full [fcntl::close_range, No];
    437 openat2 (dir: DirFd, path: Path, how: Ptr, size: Len) = Partial [files::openat2, IfAsked, "RESOLVE_CACHED has no effect"];
    438 pidfd_getfd (pidfd: Fd, target: Fd, flags: Flags) = Full [pidfd::pidfd_getfd, No];
    439 faccessat2 (dir: DirFd, path: Path, mode: Int, flags: Flags) = Full [attributes::faccessat2, No];
    440 process_madvise (pidfd: Fd, iov: Ptr, count: Len, advice: Int, flags: Flags) = Full [foreign::process_madvise, No];
    441 epoll_pwait2 (fd: Fd, events: Ptr, max: Int, timeout: Ptr, mask: Ptr, size: Len) = Full [event::epoll_pwait2, No];
    442 mount_setattr () = None [NOSYS, "not supported yet; mount(2) does it"];
    443 quotactl_fd () = None [PERM, "a sandbox does not change its host"];
    444 landlock_create_ruleset () = None [NOSYS, "not supported yet"];
    445 landlock_add_rule () = None [NOSYS, "not supported yet"];
    446 landlock_restrict_self () = None [NOSYS, "not supported yet"];
    447 memfd_secret () = None [NOSYS, "not supported yet"];
    448 process_mrelease (pidfd: Fd, flags: Flags) = Full [foreign::process_mrelease, No];
    449 futex_waitv (waiters: Ptr, count: Count, flags: Flags, timeout: Ptr, clock: Int) = Partial [futex2::futex_waitv, IfAsked, "FUTEX2_NUMA and FUTEX2_MPOL are EINVAL"];
    450 set_mempolicy_home_node () = None [NOSYS, "not supported yet"];
    451 cachestat () = None [NOSYS, "not supported yet"];
    452 fchmodat2 (dir: DirFd, path: Path, mode: Mode, flags: Flags) = Full [attributes::fchmodat2, No];
    453 map_shadow_stack () = None [NOSYS, "not supported yet"];
    454 futex_wake (word: Ptr, mask: Word, count: Int, flags: Flags) = Partial [futex2::futex_wake, No, "FUTEX2_NUMA and FUTEX2_MPOL are EINVAL"];
    455 futex_wait (word: Ptr, value: Word, mask: Word, flags: Flags, timeout: Ptr, clock: Int) = Partial [futex2::futex_wait, IfAsked, "FUTEX2_NUMA and FUTEX2_MPOL are EINVAL"];
    456 futex_requeue (waiters: Ptr, flags: Flags, wake: Int, requeue: Int) = Partial [futex2::futex_requeue, No, "FUTEX2_NUMA and FUTEX2_MPOL are EINVAL"];
    457 statmount () = None [NOSYS, "not supported yet"];
    458 listmount () = None [NOSYS, "not supported yet"];
    459 lsm_get_self_attr () = None [NOSYS, "not supported yet"];
    460 lsm_set_self_attr () = None [NOSYS, "not supported yet"];
    461 lsm_list_modules () = None [NOSYS, "not supported yet"];
    462 mseal (addr: Ptr, len: Len, flags: Word) = Full [lock::mseal, No];
    463 setxattrat (dir: DirFd, path: Path, at: Flags, name: Ptr, args: Ptr, size: Len) = Full [xattr::setxattrat, No];
    464 getxattrat (dir: DirFd, path: Path, at: Flags, name: Ptr, args: Ptr, size: Len) = Full [xattr::getxattrat, No];
    465 listxattrat (dir: DirFd, path: Path, at: Flags, names: Ptr, size: Len) = Full [xattr::listxattrat, No];
    466 removexattrat (dir: DirFd, path: Path, at: Flags, name: Ptr) = Full [xattr::removexattrat, No];
    467 open_tree_attr () = None [NOSYS, "not supported yet; mount(2) does it"];
    468 file_getattr () = None [NOSYS, "not supported yet"];
    469 file_setattr () = None [NOSYS, "not supported yet"];
}
}

pub use rows::ROWS;
pub(crate) use rows::make;

/// The row of call `number`, if Linux has one.
#[must_use]
pub fn row(number: u64) -> Option<&'static Row> {
    let number = u16::try_from(number).ok()?;
    ROWS.binary_search_by_key(&number, |row| row.number).ok().and_then(|at| ROWS.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general as raw;

    #[test]
    fn numbers_ascend_and_are_those_of_the_headers() {
        assert!(ROWS.is_sorted_by(|a, b| a.number < b.number));
        for (name, number) in [
            ("read", raw::__NR_read),
            ("uretprobe", raw::__NR_uretprobe),
            ("pidfd_send_signal", raw::__NR_pidfd_send_signal),
            ("clone3", raw::__NR_clone3),
            ("file_setattr", raw::__NR_file_setattr),
        ] {
            assert_eq!(row(u64::from(number)).unwrap().name, name);
        }
        assert_eq!(ROWS.len(), 382);
        for number in [336, 423, 470, 511, 0x4000_0000, 0x1_0000, u64::MAX] {
            assert!(row(number).is_none());
        }
    }
}
