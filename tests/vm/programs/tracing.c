// A tracer and its tracees: what each stop looks like, and what becomes of it. Ids and addresses are not printed.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static long trace(long request, pid_t pid, unsigned long addr, void *data) {
    long result = syscall(SYS_ptrace, request, pid, addr, data);
    return result < 0 ? -errno : result;
}

// Says what wait gives, and the signal's code.
static int stop(pid_t pid, const char *at) {
    int status = 0;
    pid_t found = waitpid(pid, &status, __WALL);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    long known = trace(PTRACE_GETSIGINFO, found, 0, &info);
    printf("%s: status %x, info %ld signal %d code %x\n", at, status, known, info.si_signo, info.si_code);
    return status;
}

static pid_t begin(void (*child)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        trace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        child();
        _exit(9);
    }
    stop(pid, "begin");
    return pid;
}

static void calls(void) {
    syscall(SYS_getppid);
    syscall(SYS_read, -1, 0, 0);
    syscall(SYS_write, 1, "unseen\n", 7);
    _exit(syscall(SYS_getpid) == 4242 ? 3 : 4);
}

static void of_calls(void) {
    pid_t pid = begin(calls);
    printf("options %ld %ld\n", trace(PTRACE_SETOPTIONS, pid, 0, (void *)PTRACE_O_TRACESYSGOOD), trace(PTRACE_SETOPTIONS, pid, 0, (void *)0x4000));
    for (;;) {
        trace(PTRACE_SYSCALL, pid, 0, 0);
        int status;
        if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
            printf("end %x\n", status);
            return;
        }
        struct __ptrace_syscall_info info;
        memset(&info, 0, sizeof info);
        long size = trace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
            printf("status %x size %ld arch %x entry %lld\n", status, size, info.arch, (long long)info.entry.nr);
            if (info.entry.nr == SYS_write)
                printf("skipped %ld\n", trace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), (void *)-1));
            if (info.entry.nr == SYS_read)
                trace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), (void *)SYS_getppid);
        } else {
            struct user_regs_struct regs;
            trace(PTRACE_GETREGS, pid, 0, &regs);
            printf("status %x size %ld exit of %lld error %d\n", status, size, regs.orig_rax, info.exit.is_error);
            if (regs.orig_rax == SYS_getpid) {
                regs.rax = 4242;
                trace(PTRACE_SETREGS, pid, 0, &regs);
            }
        }
    }
}

static void handler(int signal) { (void)signal; }

static void signals(void) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, 0);
    signal(SIGUSR2, SIG_IGN);
    raise(SIGUSR1);
    raise(SIGUSR2);
    raise(SIGTERM);
    raise(SIGINT);
    _exit(5);
}

static void of_signals(void) {
    pid_t pid = begin(signals);
    for (int n = 0; n < 3; n++) {
        trace(PTRACE_CONT, pid, 0, 0);
        stop(pid, "signal");
    }
    printf("no such signal %ld\n", trace(PTRACE_CONT, pid, 0, (void *)65));
    siginfo_t info;
    trace(PTRACE_GETSIGINFO, pid, 0, &info);
    info.si_code = 77;
    printf("set %ld\n", trace(PTRACE_SETSIGINFO, pid, 0, &info));
    unsigned long mask = 1ul << (SIGINT - 1) | 1ul << (SIGKILL - 1), got = 0;
    printf("mask %ld %ld", trace(PTRACE_SETSIGMASK, pid, 8, &mask), trace(PTRACE_SETSIGMASK, pid, 4, &mask));
    printf(" %ld", trace(PTRACE_GETSIGMASK, pid, 8, &got));
    printf(" %lx\n", got);
    trace(PTRACE_CONT, pid, 0, (void *)SIGTERM);
    stop(pid, "dead");
}

static int in_child(void *unused) {
    (void)unused;
    return 6;
}

static void events(void) {
    int status;
    waitpid(fork() ?: (_exit(1), 0), &status, 0);
    pid_t pid = vfork();
    if (pid == 0)
        _exit(2);
    static char stack[65536];
    clone(in_child, stack + sizeof stack, CLONE_VM, 0);
    char *args[] = {"true", 0};
    execve("/bin/true", args, args);
    _exit(8);
}

static void of_events(void) {
    pid_t pid = begin(events);
    long all = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL;
    printf("options %ld\n", trace(PTRACE_SETOPTIONS, pid, 0, (void *)all));
    trace(PTRACE_CONT, pid, 0, 0);
    for (int ended = 0; ended < 4;) {
        int status;
        unsigned long message = 0;
        pid_t found = waitpid(-1, &status, __WALL);
        if (found < 0)
            break;
        trace(PTRACE_GETEVENTMSG, found, 0, &message);
        int event = WIFSTOPPED(status) ? status >> 16 : 0;
        // What two tasks do at once is told by each one alone, and not when a signal tells of a child.
        if (found == pid && !(WIFSTOPPED(status) && WSTOPSIG(status) == SIGCHLD))
            printf("status %x message %s%lx\n", status, message > 1 && event != PTRACE_EVENT_EXIT ? "id" : "", event == PTRACE_EVENT_EXIT ? message : 0);
        if (!WIFSTOPPED(status))
            ended++;
        else
            trace(PTRACE_CONT, found, 0, (void *)(long)(event || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status)));
    }
}

static void forever(void) {
    for (;;)
        pause();
}

static void of_seizing(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        forever();
    printf("seize %ld %ld %ld\n", trace(PTRACE_SEIZE, pid, 1, 0), trace(PTRACE_SEIZE, pid, 0, (void *)0x4000), trace(PTRACE_SEIZE, pid, 0, 0));
    printf("again %ld, request while it runs %ld\n", trace(PTRACE_ATTACH, pid, 0, 0), trace(PTRACE_PEEKUSER, pid, 0, &pid));
    trace(PTRACE_INTERRUPT, pid, 0, 0);
    stop(pid, "interrupt");
    printf("listen %ld\n", trace(PTRACE_LISTEN, pid, 0, 0));
    trace(PTRACE_INTERRUPT, pid, 0, 0);
    stop(pid, "again");
    trace(PTRACE_CONT, pid, 0, 0);
    kill(pid, SIGSTOP);
    stop(pid, "signal");
    trace(PTRACE_CONT, pid, 0, (void *)SIGSTOP);
    stop(pid, "group");
    printf("listen %ld\n", trace(PTRACE_LISTEN, pid, 0, 0));
    printf("request while it listens %ld\n", trace(PTRACE_GETSIGINFO, pid, 0, &pid));
    kill(pid, SIGCONT);
    stop(pid, "continued");
    trace(PTRACE_CONT, pid, 0, 0);
    stop(pid, "signal");
    printf("detach %ld\n", trace(PTRACE_DETACH, pid, 0, 0));
    kill(pid, SIGKILL);
    stop(pid, "dead");
}

static void of_attaching(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        forever();
    int status;
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    printf("stopped %x attach %ld\n", status, trace(PTRACE_ATTACH, pid, 0, 0));
    stop(pid, "attached");
    trace(PTRACE_CONT, pid, 0, 0);
    stop(pid, "signal");
    printf("listen %ld interrupt %ld\n", trace(PTRACE_LISTEN, pid, 0, 0), trace(PTRACE_INTERRUPT, pid, 0, 0));
    printf("detach %ld\n", trace(PTRACE_DETACH, pid, 0, (void *)SIGTERM));
    kill(pid, SIGCONT);
    stop(pid, "dead");
    printf("gone %ld\n", trace(PTRACE_ATTACH, pid, 0, 0));
}

static void steps(void) {
    int counted = 0;
    __asm__ volatile("nop\n nop\n movl $39, %%eax\n syscall\n nop\n addl $1, %0\n int3" : "+r"(counted)::"rax", "rcx", "r11", "memory");
    raise(SIGUSR1);
    _exit(0);
}

static void of_steps(void) {
    pid_t pid = begin(steps);
    int n = 0, status = 0;
    siginfo_t info;
    for (; n < 100000; n++) {
        trace(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
        trace(PTRACE_GETSIGINFO, pid, 0, &info);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP || info.si_code == SI_KERNEL)
            break;
    }
    printf("steps %s, then %x code %x\n", n > 10 && n < 5000 ? "some" : "wrong", status, info.si_code);
    unsigned long flags = 0;
    trace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, eflags), &flags);
    printf("flag %lx\n", flags & 0x100);
    trace(PTRACE_CONT, pid, 0, 0);
    stop(pid, "signal");
    trace(PTRACE_KILL, pid, 0, 0);
    stop(pid, "dead");
}

static void of_registers(void) {
    pid_t pid = begin(forever);
    struct user_regs_struct regs;
    struct iovec part = {&regs, sizeof regs - 8}, odd = {&regs, 9};
    long whole = trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &part);
    printf("set %ld %zu, odd %ld, unknown %ld\n", whole, part.iov_len, trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &odd), trace(PTRACE_GETREGSET, pid, 0x777, &part));
    printf("segments %llx %llx\n", regs.cs, regs.ss);
    static unsigned char state[65536];
    struct iovec all = {state, sizeof state};
    printf("state %ld", trace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all));
    all.iov_len -= 8;
    printf(" %ld", trace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all));
    all.iov_len += 8;
    memset(state + 160, 7, 16);
    state[512] |= 2;
    printf(" %ld", trace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all));
    state[520] = 1;
    printf(" %ld\n", trace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all));
    struct user_fpregs_struct fp;
    printf("legacy %ld", trace(PTRACE_GETFPREGS, pid, 0, &fp));
    printf(" %x\n", fp.xmm_space[0]);
    fp.mxcsr = 0x80000000;
    printf("mxcsr %ld\n", trace(PTRACE_SETFPREGS, pid, 0, &fp));
    unsigned long word = 0;
    long *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("poke unmapped %ld peek %ld\n", trace(PTRACE_POKEDATA, pid, (unsigned long)at, (void *)5), trace(PTRACE_PEEKDATA, pid, 8, &word));
    printf("poke text %ld", trace(PTRACE_POKETEXT, pid, (unsigned long)forever, (void *)0x1122334455667788));
    printf(" %ld", trace(PTRACE_PEEKTEXT, pid, (unsigned long)forever, &word));
    printf(" %lx\n", word);
    for (unsigned long where = 0; where < 960; where += 8) {
        long known = trace(PTRACE_PEEKUSER, pid, where, &word);
        if (known != 0) {
            printf("user ends at %lu by %ld\n", where, known);
            break;
        }
    }
    printf("bases %ld selectors %ld %ld\n", trace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, fs_base), (void *)-1),
           trace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, cs), 0), trace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, ss), (void *)0x10));
    struct { unsigned long off; unsigned flags; int count; } which = {0, 0, 4};
    siginfo_t infos[4];
    kill(pid, SIGUSR1);
    union sigval value = {.sival_int = 3};
    sigqueue(pid, SIGRTMIN, value);
    which.flags = 1;
    printf("waiting %ld", trace(PTRACE_PEEKSIGINFO, pid, (unsigned long)&which, infos));
    printf(" %d", infos[0].si_signo);
    which.flags = 2;
    printf(" %ld\n", trace(PTRACE_PEEKSIGINFO, pid, (unsigned long)&which, infos));
    printf("unknown %ld\n", trace(12345, pid, 0, 0));
    kill(pid, SIGKILL);
    stop(pid, "dead");
}

static void *of_thread(void *unused) {
    (void)unused;
    return 0;
}

static void threads(void) {
    pthread_t thread;
    pthread_create(&thread, 0, of_thread, 0);
    pthread_join(thread, 0);
    _exit(7);
}

static void of_threads(void) {
    pid_t pid = begin(threads);
    trace(PTRACE_SETOPTIONS, pid, 0, (void *)(PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL));
    trace(PTRACE_CONT, pid, 0, 0);
    int clones = 0, stops = 0, ends = 0, last = 0;
    while (ends < 2) {
        int status;
        pid_t found = waitpid(-1, &status, __WALL);
        if (found < 0)
            break;
        if (!WIFSTOPPED(status)) {
            ends++;
            if (found == pid)
                last = status;
            continue;
        }
        if (status >> 16 == PTRACE_EVENT_CLONE)
            clones++;
        else if (WSTOPSIG(status) == SIGSTOP)
            stops++;
        trace(PTRACE_CONT, found, 0, 0);
    }
    printf("clones %d stops %d ends %d last %x, then %d\n", clones, stops, ends, last, waitpid(-1, 0, __WALL));
}

// A tracer that is not the parent: which learns of the end only afterwards.
static void of_strangers(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        forever();
    int go[2];
    if (pipe(go) != 0)
        exit(1);
    pid_t tracer = fork();
    if (tracer == 0) {
        printf("attach %ld\n", trace(PTRACE_ATTACH, pid, 0, 0));
        stop(pid, "attached");
        trace(PTRACE_CONT, pid, 0, 0);
        kill(pid, SIGKILL);
        siginfo_t info;
        waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
        printf("code %d status %d\n", info.si_code, info.si_status);
        fflush(stdout);
        if (write(go[1], "x", 1) != 1)
            _exit(1);
        usleep(200000);
        _exit(stop(pid, "dead") != SIGKILL);
    }
    char byte;
    if (read(go[0], &byte, 1) != 1)
        exit(1);
    int status = 0;
    printf("not yet %d\n", waitpid(pid, &status, WNOHANG));
    fflush(stdout);
    waitpid(tracer, &status, 0);
    printf("tracer %x", status);
    printf(", now %d", waitpid(pid, &status, WNOHANG) == pid);
    printf(" %x\n", status);
}

static void of_rights(void) {
    printf("init %ld none %ld self %ld\n", trace(PTRACE_ATTACH, 0x3ffffe, 0, 0), trace(PTRACE_CONT, getpid(), 0, 0), trace(PTRACE_ATTACH, getpid(), 0, 0));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        forever();
    fflush(stdout);
    pid_t other = fork();
    if (other == 0) {
        if (setuid(1234) != 0)
            _exit(1);
        printf("another user's %ld\n", trace(PTRACE_ATTACH, pid, 0, 0));
        fflush(stdout);
        _exit(0);
    }
    waitpid(other, 0, 0);
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
    printf("twice %ld", trace(PTRACE_TRACEME, 0, 0, 0));
    printf(" %ld\n", trace(PTRACE_TRACEME, 0, 0, 0));
}

int main(void) {
    static const struct { const char *name; void (*run)(void); } all[] = {
        {"calls", of_calls}, {"signals", of_signals}, {"events", of_events}, {"seizing", of_seizing}, {"attaching", of_attaching},
        {"steps", of_steps}, {"registers", of_registers}, {"threads", of_threads}, {"strangers", of_strangers}, {"rights", of_rights},
    };
    for (unsigned n = 0; n < sizeof all / sizeof *all; n++) {
        printf("-- %s\n", all[n].name);
        fflush(stdout);
        // Each in a process of its own, with nobody else's children.
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20);
            all[n].run();
            fflush(stdout);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        printf("-- %x\n", status);
        fflush(stdout);
    }
    return 0;
}
