// Filters of calls: what each answer does, who inherits it, what is refused. Built four ways, as facts.c.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Of linux/filter.h and linux/seccomp.h, which not every C library has.
struct insn { unsigned short code; unsigned char jt, jf; unsigned k; };
struct prog { unsigned short len; struct insn *filter; };
enum { LD = 0x20, JEQ = 0x15, RET = 0x06 };
enum { KILL_THREAD = 0, TRAP = 0x30000, ERRNO = 0x50000, TRACE = 0x7ff00000, LOG = 0x7ffc0000, ALLOW = 0x7fff0000 };
#define KILL_PROCESS 0x80000000u

static long result(long value) { return value < 0 ? -errno : value; }
static long sec(unsigned operation, unsigned flags, void *args) { return result(syscall(SYS_seccomp, operation, flags, args)); }

static long filter(unsigned number, unsigned answer, unsigned flags) {
    struct insn insns[] = {{LD, 0, 0, 0}, {JEQ, 0, 1, number}, {RET, 0, 0, answer}, {RET, 0, 0, ALLOW}};
    struct prog prog = {4, insns};
    return sec(1, flags, &prog);
}

static void report(const char *name, pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    printf("%s: %x\n", name, status);
    fflush(stdout);
}

static void in_child(const char *name, void (*run)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run();
        fflush(stdout);
        _exit(7);
    }
    report(name, pid);
}

static void strict(void) {
    printf("mode %d\n", prctl(PR_GET_SECCOMP));
    fflush(stdout);
    printf("strict %ld\n", sec(0, 0, 0));
    fflush(stdout);
    syscall(SYS_exit, 3);
}

static void strict_dies(void) {
    prctl(PR_SET_SECCOMP, 1);
    syscall(SYS_getpid);
}

static void with_errno(void) {
    printf("filter %ld\n", filter(SYS_getppid, ERRNO | 77, 0));
    printf("getppid %ld mode %d\n", result(syscall(SYS_getppid)), prctl(PR_GET_SECCOMP));
    printf("strict now %ld\n", result(prctl(PR_SET_SECCOMP, 1)));
    filter(SYS_getppid, ERRNO | 0xffff, 0);
    printf("newest %ld\n", syscall(SYS_getppid) < 0 ? -(long)errno : 0);
    fflush(stdout);
    if (fork() == 0) {
        printf("inherited %ld\n", result(syscall(SYS_getppid)));
        fflush(stdout);
        execl("/bin/sh", "sh", "-c", "grep Seccomp: /proc/self/status; echo executed", (char *)0);
    }
    wait(0);
}

static void caught(int signal, siginfo_t *info, void *context) {
    (void)context;
    printf("signal %d code %d errno %d call %d\n", signal, info->si_code, info->si_errno, info->si_syscall);
}

static void with_trap(void) {
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, 0);
    filter(SYS_getppid, TRAP | 5, 0);
    long value = syscall(SYS_getppid);
    printf("value %ld\n", value == SYS_getppid ? 0 : value);
    fflush(stdout);
    signal(SIGSYS, SIG_IGN);
    syscall(SYS_getppid);
}

static void with_kill(void) {
    filter(SYS_getpid, KILL_PROCESS, 0);
    syscall(SYS_getpid);
}

static void *calls_getppid(void *unused) {
    (void)unused;
    return (void *)result(syscall(SYS_getppid));
}

static void thread_dies(void) {
    pthread_t thread;
    pthread_create(&thread, 0, calls_getppid, 0);
    void *value = 0;
    pthread_join(thread, &value);
    filter(SYS_getppid, KILL_THREAD, 0);
    // A thread that is killed leaves what waits for it to its id's futex.
    pthread_create(&thread, 0, calls_getppid, 0);
    usleep(200000);
    printf("it lives\n");
    fflush(stdout);
    _exit(4);
}

static void without_tracer(void) {
    filter(SYS_getppid, TRACE | 3, 0);
    printf("traced %ld logged ", result(syscall(SYS_getppid)));
    filter(SYS_getuid, LOG, 0);
    printf("%ld\n", result(syscall(SYS_getuid)));
}

static pthread_barrier_t barrier;

static void *waits(void *unused) {
    (void)unused;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return (void *)result(syscall(SYS_getppid));
}

static void together(void) {
    pthread_barrier_init(&barrier, 0, 2);
    pthread_t thread;
    pthread_create(&thread, 0, waits, 0);
    pthread_barrier_wait(&barrier);
    printf("all %ld\n", filter(SYS_getppid, ERRNO | 9, 1));
    pthread_barrier_wait(&barrier);
    void *value;
    pthread_join(thread, &value);
    printf("other %ld\n", (long)value);
}

static void *apart(void *unused) {
    (void)unused;
    filter(SYS_getgid, ERRNO | 9, 0);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return 0;
}

static void not_together(void) {
    pthread_barrier_init(&barrier, 0, 2);
    pthread_t thread;
    pthread_create(&thread, 0, apart, 0);
    pthread_barrier_wait(&barrier);
    printf("thread %d", filter(SYS_getppid, ERRNO | 9, 1) > 0);
    printf(" %ld", filter(SYS_getppid, ERRNO | 9, 1 | 16));
    printf(" unfiltered %d\n", syscall(SYS_getppid) > 0);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, 0);
}

static void refused(void) {
    unsigned actions[] = {KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOG, ALLOW, 0x12340000};
    for (unsigned n = 0; n < 8; n++)
        printf("%ld ", sec(2, 0, &actions[n]));
    unsigned short sizes[3] = {0};
    long known = sec(3, 0, sizes);
    printf("\nsizes %ld %d %d %d\n", known, sizes[0], sizes[1], sizes[2]);
    printf("operations %ld %ld %ld %ld\n", sec(9, 0, 0), sec(0, 1, 0), sec(0, 0, &known), sec(1, 1 << 9, 0));
    printf("addresses %ld %ld\n", sec(1, 0, (void *)8), sec(2, 0, (void *)8));
    struct insn bad[][2] = {
        {{LD, 0, 0, 2}, {RET, 0, 0, ALLOW}}, {{LD, 0, 0, 64}, {RET, 0, 0, ALLOW}}, {{0x28, 0, 0, 0}, {RET, 0, 0, ALLOW}},
        {{LD, 0, 0, 0}, {LD, 0, 0, 0}}, {{0x05, 0, 0, 1}, {RET, 0, 0, ALLOW}}, {{0x34, 0, 0, 0}, {RET, 0, 0, ALLOW}},
        {{0x60, 0, 0, 0}, {RET, 0, 0, ALLOW}}, {{0x94, 0, 0, 3}, {RET, 0, 0, ALLOW}}, {{0x80, 0, 0, 0}, {0x16, 0, 0, 0}},
    };
    for (unsigned n = 0; n < sizeof bad / sizeof *bad - 1; n++) {
        struct prog prog = {2, bad[n]};
        printf("%ld ", sec(1, 0, &prog));
    }
    struct prog none = {0, bad[0]}, unmapped = {2, (struct insn *)8};
    printf("%ld %ld\n", sec(1, 0, &none), sec(1, 0, &unmapped));
    if (setuid(1234) != 0)
        _exit(1);
    printf("unprivileged %ld", filter(SYS_getppid, ERRNO | 1, 0));
    printf(" nnp %d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    printf(" %d", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    printf(" %d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    printf(" %ld\n", filter(SYS_getppid, ERRNO | 1, 0));
}

static void many(void) {
    struct insn *insns = malloc(4096 * sizeof *insns);
    for (int n = 0; n < 4096; n++)
        insns[n] = (struct insn){RET, 0, 0, ALLOW};
    struct prog prog = {4096, insns}, long_one = {4097, insns};
    long last = 0;
    int count = 0;
    while (count < 20 && (last = sec(1, 0, &prog)) == 0)
        count++;
    printf("many %d then %ld, too long %ld\n", count, last, sec(1, 0, &long_one));
}

static void traced(void) {
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        filter(SYS_getppid, TRACE | 0x123, 0);
        long value = syscall(SYS_getppid);
        _exit(value == 55 ? 5 : 6);
    }
    int status;
    waitpid(pid, &status, 0);
    ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 7);
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    unsigned long message = 0;
    ptrace(PTRACE_GETEVENTMSG, pid, 0, &message);
    struct { unsigned char op, pad[3]; unsigned arch; unsigned long ip, sp, nr, args[6]; unsigned data; } info;
    memset(&info, 0, sizeof info);
    long size = ptrace(0x420e, pid, sizeof info, &info);
    printf("status %x message %lx op %d call %ld data %x size %d\n", status, message, info.op, (long)info.nr, info.data, size >= 84);
    // orig_rax and rax.
    ptrace(PTRACE_POKEUSER, pid, 15 * 8, -1);
    ptrace(PTRACE_POKEUSER, pid, 10 * 8, 55);
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    printf("end %x\n", status);
}

int main(void) {
    in_child("strict", strict);
    in_child("strict dies", strict_dies);
    in_child("errno", with_errno);
    in_child("trap", with_trap);
    in_child("kill", with_kill);
    in_child("thread dies", thread_dies);
    in_child("without tracer", without_tracer);
    in_child("together", together);
    in_child("not together", not_together);
    in_child("refused", refused);
    in_child("many", many);
    in_child("traced", traced);
    return 0;
}
