// Memory that stays: locked, sealed; and the rarer ways of mremap(2), mmap(2), mprotect(2).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MSEAL = 462, DONTNEED_LOCKED = 24, PAGE = 4096, RW = PROT_READ | PROT_WRITE, PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS, SHARED = MAP_SHARED | MAP_ANONYMOUS };

static long result(long value) { return value < 0 ? -errno : value; }
static char *map(size_t pages, int prot, int flags) { return mmap(0, pages * PAGE, prot, flags, -1, 0); }
static long moved(void *address) { return address == MAP_FAILED ? -errno : 0; }
static long locked(void) {
    char line[256];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "VmLck: %ld", &kib) == 1) break;
    fclose(status);
    return kib;
}
static int resident(char *at, int pages) {
    unsigned char vec[16];
    int count = 0;
    if (mincore(at, pages * PAGE, vec)) return -errno;
    for (int i = 0; i < pages; i++) count += vec[i] & 1;
    return count;
}

static void as_user(void) {
    char *at = map(4, RW, PRIVATE);
    struct rlimit two = {2 * PAGE, 2 * PAGE}, none = {0, 0};
    setrlimit(RLIMIT_MEMLOCK, &two);
    if (setuid(65534)) return;
    printf("limit %ld", result(mlock(at, 3 * PAGE)));
    printf(" %ld", result(mlock(at, 2 * PAGE)));
    printf(" %ld", result(mlock(at + PAGE, PAGE)));
    printf(" %ld", result(mlock(at + PAGE, 2 * PAGE)));
    printf(" %ld", moved(map(1, RW, PRIVATE | MAP_LOCKED)));
    printf(" %ld\n", result(mlockall(MCL_CURRENT)));
    munlockall();
    printf("room again %ld\n", result(mlock(at + 2 * PAGE, 2 * PAGE)));
    setrlimit(RLIMIT_MEMLOCK, &none);
    printf("none %ld", result(mlock(at, PAGE)));
    printf(" %ld", result(munlock(at, PAGE)));
    printf(" %ld", result(mlockall(MCL_FUTURE)));
    printf(" %ld\n", moved(map(1, RW, PRIVATE | MAP_LOCKED)));
}

static void locks(void) {
    char *at = map(8, RW, PRIVATE);
    printf("lock %ld", result(mlock(at + 1, PAGE)));
    printf(" %d %ld kB\n", resident(at, 8), locked());
    printf("on fault %ld", result(syscall(SYS_mlock2, at + 4 * PAGE, 2 * PAGE, 1)));
    printf(" %d", resident(at + 4 * PAGE, 2));
    at[4 * PAGE] = 1;
    printf(" %d %ld kB\n", resident(at + 4 * PAGE, 2), locked());
    printf("advice %ld", result(madvise(at, 8 * PAGE, MADV_DONTNEED)));
    printf(" %ld", result(madvise(at, 8 * PAGE, MADV_PAGEOUT)));
    printf(" %ld", result(madvise(at, 8 * PAGE, DONTNEED_LOCKED)));
    printf(" %d\n", resident(at, 2));
    munmap(at + 6 * PAGE, PAGE);
    printf("gap %ld", result(mlock(at, 8 * PAGE)));
    printf(" %ld kB", locked());
    printf(" %ld", result(munlock(at, 6 * PAGE)));
    printf(" %ld kB\n", locked());
    printf("bad %ld", result(syscall(SYS_mlock2, at, PAGE, 2)));
    printf(" %ld", result(mlockall(0)));
    printf(" %ld", result(mlockall(MCL_ONFAULT)));
    printf(" %ld", result(mlock(at, -1UL)));
    printf(" %ld\n", result(mlock(at, 0)));
    printf("future %ld", result(mlockall(MCL_FUTURE)));
    char *new = map(2, RW, PRIVATE);
    printf(" %d", resident(new, 2));
    if (!fork()) {
        printf(" child %ld kB", locked());
        _exit(0);
    }
    wait(0);
    printf(" %ld\n", result(munlockall()));
    if (!fork()) {
        as_user();
        _exit(0);
    }
    wait(0);
}

static void seals(void) {
    char *at = map(4, RW, PRIVATE);
    munmap(at + 3 * PAGE, PAGE);
    printf("seal %ld", result(syscall(MSEAL, at + PAGE, PAGE, 0)));
    printf(" %ld", result(syscall(MSEAL, at + 1, PAGE, 0)));
    printf(" %ld", result(syscall(MSEAL, at, PAGE, 1)));
    printf(" %ld\n", result(syscall(MSEAL, at, 4 * PAGE, 0)));
    printf("sealed %ld", result(munmap(at, 3 * PAGE)));
    printf(" %ld", result(mprotect(at, 3 * PAGE, PROT_READ)));
    printf(" %ld", moved(mmap(at + PAGE, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0)));
    printf(" %ld", moved(mremap(at + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
    printf(" %ld\n", result(madvise(at + PAGE, PAGE, MADV_DONTNEED)));
}

static void moves(void) {
    char *old = map(2, RW, PRIVATE);
    strcpy(old + PAGE, "second");
    char *left = mremap(old, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    printf("left %s %d %d\n", left + PAGE, old[PAGE], left != old);
    printf("bad moves %ld", moved(mremap(old, 2 * PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0)));
    printf(" %ld", moved(mremap(old, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 1)));
    printf(" %ld", moved(mremap(old, 2 * PAGE, 2 * PAGE, MREMAP_DONTUNMAP, 0)));
    printf(" %ld", moved(mremap(old, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, old + PAGE)));
    printf(" %ld", moved(mremap(old, 0, PAGE, MREMAP_MAYMOVE)));
    printf(" %ld\n", moved(mremap(old + 1, PAGE, PAGE, MREMAP_MAYMOVE)));
    char *shared = map(3, RW, SHARED);
    char *twice = mremap(shared, 0, 3 * PAGE, MREMAP_MAYMOVE);
    strcpy(twice + PAGE, "both");
    printf("twice %s", shared + PAGE);
    printf(" pages %ld", result(remap_file_pages(shared, PAGE, 0, 1, 0)));
    printf(" %ld", result(remap_file_pages(old, PAGE, 0, 1, 0)));
    printf(" %s\n", shared);
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    locks();
    seals();
    moves();
    int zeros = open("/dev/zero", O_RDONLY);
    char *read_only = mmap(0, PAGE, PROT_READ, MAP_SHARED, zeros, 0);
    printf("zeros %ld", result(mprotect(read_only, PAGE, RW)));
    mlock(read_only, PAGE);
    printf(" %ld", result(msync(read_only, PAGE, MS_SYNC)));
    printf(" %ld\n", result(msync(read_only, PAGE, MS_SYNC | MS_INVALIDATE)));
    char *low = map(1, RW, PRIVATE | MAP_32BIT);
    printf("low %d huge %ld\n", (unsigned long)low < 1UL << 31, moved(map(512, RW, PRIVATE | MAP_HUGETLB)));
    char *stack = map(4, RW, PRIVATE | MAP_GROWSDOWN), *plain = map(1, RW, PRIVATE);
    printf("stack %ld", result(mprotect(stack + 2 * PAGE, PAGE, PROT_READ | PROT_GROWSDOWN)));
    printf(" %ld", result(mprotect(plain, PAGE, PROT_READ | PROT_GROWSDOWN)));
    printf(" %ld\n", result(mprotect(plain, PAGE, PROT_READ | PROT_GROWSUP)));
}
