// Writes to files of memory whose source is only half there, or whose file is cut meanwhile. See write(2).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned char page[4096];
static char *half;
static int cut_fd;
static volatile int done;

static void show(const char *what, int fd) {
    struct stat st;
    unsigned char now[3 * 4096];
    memset(now, 0, sizeof now);
    ssize_t got = pread(fd, now, sizeof now, 0);
    fstat(fd, &st);
    unsigned counts[256] = {0};
    for (ssize_t i = 0; i < got; i++)
        counts[now[i]]++;
    printf("%s: size %ld got %zd a %u b %u zero %u\n", what, (long)st.st_size, got, counts['a'], counts['b'], counts[0]);
}

static void said(const char *what, ssize_t result) {
    printf("%s: %zd %d\n", what, result, result < 0 ? errno : 0);
}

static int file(const char *name) {
    int fd = open(name, O_CREAT | O_TRUNC | O_RDWR, 0600);
    if (fd < 0)
        exit(1);
    return fd;
}

static void *cutter(void *arg) {
    (void)arg;
    while (!done)
        ftruncate(cut_fd, 0);
    return 0;
}

int main(void) {
    memset(page, 'a', sizeof page);
    half = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(half, 'b', 4096);
    munmap(half + 4096, 4096);
    char *end = half + 4096;

    int fd = file("/tmp/halves.1");
    for (int i = 0; i < 2; i++)
        write(fd, page, sizeof page);
    printf("half a page: %zd\n", pwrite(fd, end - 1000, 4096, 0));
    show("its rest is as it was", fd);
    printf("over a border: %zd\n", pwrite(fd, end - 1000, 2000, 4096 - 500));
    show("the second page, too", fd);
    said("nothing", pwrite(fd, end, 10, 5000));
    show("no longer", fd);
    printf("past the end: %zd\n", pwrite(fd, end - 10, 100, 9000));
    show("with a hole", fd);
    fd = file("/tmp/halves.2");
    said("nothing in an empty file", write(fd, end, 10));
    show("empty", fd);

    // What a reader sees of a file that is written and cut: no part of a write, since each is in one page, without the rest.
    cut_fd = file("/tmp/halves.3");
    pthread_t thread;
    pthread_create(&thread, 0, cutter, 0);
    unsigned torn = 0;
    for (int i = 0; i < 20000; i++) {
        unsigned char now[4096];
        pwrite(cut_fd, page, sizeof page, 0);
        ssize_t got = pread(cut_fd, now, sizeof now, 0);
        for (ssize_t at = 0; at < got; at++)
            torn += now[at] != 'a';
    }
    done = 1;
    pthread_join(thread, 0);
    printf("torn %u\n", torn);

    fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    write(fd, page, 100);
    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW);
    said("grow", pwrite(fd, page, 10, 95));
    printf("within: %zd\n", pwrite(fd, "bbbbb", 5, 95));
    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
    said("write", pwrite(fd, page, 1, 0));
    show("sealed", fd);
    return 0;
}
