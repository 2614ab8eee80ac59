// Restartable sequences and barriers: rseq(2), membarrier(2). The C library must not register areas of its own: run with
// GLIBC_TUNABLES=glibc.pthread.rseq=0.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIGNATURE 0x53053053u

struct area {
    uint32_t cpu_id_start, cpu_id;
    uint64_t sequence;
    uint32_t flags, node_id, mm_cid, rest[9];
} __attribute__((aligned(64)));

static __thread struct area area;
static pthread_barrier_t start;

static long rseq(void *at, unsigned len, int flags, unsigned signature) {
    return syscall(SYS_rseq, at, len, flags, signature);
}

static long membarrier(int command, unsigned flags) {
    return syscall(SYS_membarrier, command, flags, 0);
}

static void check(int good, const char *what) {
    if (!good) {
        printf("wrong: %s (errno %d)\n", what, errno);
        exit(1);
    }
}

static void gives(long result, int error, const char *what) {
    check(error ? result == -1 && errno == error : result == 0, what);
}

// Stays in a sequence until it is given up.
static void sequence(void) {
    __asm__ volatile(
        ".pushsection .data\n"
        ".balign 32\n"
        "9: .long 0, 0\n"
        ".quad 1f, 2f - 1f, 4f\n"
        ".popsection\n"
        "leaq 9b(%%rip), %%rax\n"
        "movq %%rax, 8(%0)\n"
        "1: pause\n"
        "jmp 1b\n"
        "2: ud2\n"
        ".byte 0x0f, 0xb9, 0x3d\n"
        ".long 0x53053053\n"
        "4:\n"
        :
        : "r"(&area)
        : "rax", "memory", "cc");
    check(area.sequence == 0, "a sequence that was given up is not under way");
}

static void registers(unsigned len) {
    gives(rseq(&area, len, 0, SIGNATURE), 0, "register");
    check(area.cpu_id < 4096 && area.cpu_id == area.cpu_id_start, "the processor's number");
    check(area.node_id < 64 && area.mm_cid < 4096, "node and concurrency id");
}

static void *preempted(void *len) {
    registers((unsigned)(uintptr_t)len);
    pthread_barrier_wait(&start);
    for (int i = 0; i < 3; i++)
        sequence();
    gives(rseq(&area, (unsigned)(uintptr_t)len, 1, SIGNATURE), 0, "unregister");
    check(area.cpu_id == (uint32_t)-1 && area.cpu_id_start == 0, "no processor");
    return NULL;
}

static volatile int given_up, signals;

static void *fenced(void *unused) {
    registers(64);
    pthread_barrier_wait(&start);
    sequence();
    given_up = 1;
    return unused;
}

static void on_signal(int number) {
    (void)number;
    check(area.sequence == 0, "a handler is in no sequence");
    signals++;
}

int main(void) {
    setbuf(stdout, NULL);
    char *off = (char *)&area + 4;
    gives(rseq(&area, 32, 1, SIGNATURE), EINVAL, "none is registered");
    gives(rseq(&area, 16, 0, SIGNATURE), EINVAL, "too short");
    gives(rseq(off, 32, 0, SIGNATURE), EINVAL, "not aligned");
    gives(rseq(&area, 32, 4, SIGNATURE), EINVAL, "unknown flag");
    gives(rseq((void *)-4096L, 32, 0, SIGNATURE), EFAULT, "outside");
    gives(rseq((void *)4096, 32, 0, SIGNATURE), EFAULT, "not mapped");
    registers(64);
    gives(rseq(&area, 64, 0, SIGNATURE), EBUSY, "registered already");
    gives(rseq(&area, 64, 0, 1), EPERM, "another signature");
    gives(rseq(&area, 32, 0, SIGNATURE), EINVAL, "another length");
    gives(rseq(&area, 64, 3, SIGNATURE), EINVAL, "flags");
    gives(rseq(&area, 64, 1, 1), EPERM, "another signature to unregister");
    printf("errors\n");

    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval soon = {.it_value = {0, 20000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    while (!signals)
        sequence();
    printf("signal\n");

    pid_t child = fork();
    if (child == 0) {
        // The area is the child's as well.
        check(rseq(&area, 64, 0, SIGNATURE) == -1 && errno == EBUSY, "inherited");
        gives(rseq(&area, 64, 1, SIGNATURE), 0, "unregister the child's");
        check(area.cpu_id == (uint32_t)-1, "no processor in the child");
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    check(status == 0, "a child's area");
    check(area.cpu_id < 4096, "the parent's area is left");
    printf("fork\n");

    for (uintptr_t len = 32; len <= 64; len += 32) {
        pthread_t threads[6];
        pthread_barrier_init(&start, NULL, 6);
        for (int i = 0; i < 6; i++)
            check(pthread_create(&threads[i], NULL, preempted, (void *)len) == 0, "thread");
        for (int i = 0; i < 6; i++)
            pthread_join(threads[i], NULL);
        printf("preempted %d\n", (int)len);
    }

    printf("barriers %ld\n", membarrier(0, 0));
    gives(membarrier(0, 1), EINVAL, "flags");
    gives(membarrier(3, 0), EINVAL, "two commands");
    gives(membarrier(1 << 20, 0), EINVAL, "no command");
    gives(membarrier(8, 0), EPERM, "private");
    gives(membarrier(32, 0), EPERM, "instructions");
    gives(membarrier(128, 0), EPERM, "sequences");
    gives(membarrier(1, 0), 0, "global");
    gives(membarrier(2, 0), 0, "global, expedited");
    for (int command = 4; command <= 256; command <<= 2)
        gives(membarrier(command, 0), 0, "registration");
    printf("registered %ld\n", membarrier(512, 0));
    pthread_t thread;
    pthread_barrier_init(&start, NULL, 2);
    pthread_create(&thread, NULL, fenced, NULL);
    pthread_barrier_wait(&start);
    while (!given_up) {
        gives(membarrier(8, 0), 0, "private");
        gives(membarrier(32, 0), 0, "instructions");
        gives(membarrier(128, 0), 0, "sequences");
    }
    pthread_join(thread, NULL);
    printf("fenced\n");

    // A description that lies is answered by a signal.
    child = fork();
    if (child == 0) {
        static uint64_t lie[4] __attribute__((aligned(32)));
        lie[2] = 1ull << 46;
        lie[3] = (uint64_t)(uintptr_t)main;
        area.sequence = (uint64_t)(uintptr_t)lie;
        for (;;)
            ;
    }
    waitpid(child, &status, WNOHANG);
    for (volatile long i = 0; i < 200000000; i++)
        ;
    if (waitpid(child, &status, WNOHANG) != child) {
        kill(child, SIGUSR1);
        waitpid(child, &status, 0);
    }
    check(WIFSIGNALED(status), "a lie");
    printf("a lie ends by a signal\n");
    return 0;
}
