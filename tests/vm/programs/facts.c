// What a C program finds at its start, and some work of its own. Built four ways: static and static-pie with glibc, dynamic, musl.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t seen;

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    // Reported by write(2) only: this is a signal handler.
    char text[64];
    int length = snprintf(text, sizeof text, "signal %d code %d address %p\n", number, info->si_code, info->si_addr);
    seen = 1;
    _exit(write(1, text, (size_t)length) == length ? 7 : 8);
}

int main(int argc, char **argv, char **environment) {
    printf("arguments %d last %s\n", argc, argv[argc - 1]);
    int variables = 0;
    while (environment[variables]) variables++;
    printf("variables %d PATH %s\n", variables, getenv("PATH"));
    printf("page %lu clock %lu secure %lu random %d platform %s\n", getauxval(AT_PAGESZ), getauxval(AT_CLKTCK), getauxval(AT_SECURE),
           getauxval(AT_RANDOM) != 0, (const char *)getauxval(AT_PLATFORM));
    printf("exec %s\n", (const char *)getauxval(AT_EXECFN));

    unsigned long sum = 0;
    for (int i = 1; i <= 2000; i++) {
        unsigned char *block = malloc((size_t)i * 97);
        memset(block, i & 255, (size_t)i * 97);
        sum += block[i];
        if (i % 3) free(block);
    }
    printf("heap %lu\n", sum);
    printf("float %.6f\n", sqrt(2.0) * exp(1.0));

    struct timespec now, resolution;
    printf("clock %d %d\n", clock_gettime(CLOCK_MONOTONIC, &now), clock_getres(CLOCK_REALTIME, &resolution));

    int fd = open("/tmp/facts", O_CREAT | O_EXCL | O_RDWR, 0600);
    printf("write %zd\n", write(fd, "0123456789", 10));
    char back[5] = "";
    printf("pread %zd %.4s\n", pread(fd, back, 4, 3), back);
    printf("again %d %s\n", open("/tmp/facts", O_CREAT | O_EXCL | O_RDWR, 0600), strerror(errno));

    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = 'x';
    printf("mprotect %d\n", mprotect(page, 4096, PROT_READ));
    printf("munmap %d\n", munmap(page + 4096, 4096));
    fflush(stdout);

    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    *(volatile int *)16 = 1;
    return 1;
}
