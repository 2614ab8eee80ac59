// POSIX queues of messages: order, limits, waits, who is told. By numbers of calls, as names with slashes are a library's.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long result(long value) { return value < 0 ? -errno : value; }
static long mq_make(const char *name, int flags, long messages, long bytes) {
    struct mq_attr attr = {.mq_maxmsg = messages, .mq_msgsize = bytes};
    return result(syscall(SYS_mq_open, name, flags, 0600, messages ? &attr : 0));
}
static long put(int queue, const char *text, unsigned priority) {
    return result(syscall(SYS_mq_timedsend, queue, text, strlen(text), priority, 0));
}
static long get(int queue, char *text, size_t len, unsigned *priority, struct timespec *until) {
    memset(text, 0, len);
    return result(syscall(SYS_mq_timedreceive, queue, text, len, priority, until));
}

static volatile int told;
static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    told = info->si_code == SI_MESGQ ? info->si_value.sival_int : -1;
}

int main(void) {
    char text[8193];
    unsigned priority = 0;
    printf("names %ld %ld %ld %ld %ld\n", mq_make("", O_RDWR | O_CREAT, 0, 0), mq_make("/a", O_RDWR | O_CREAT, 0, 0), mq_make("..", O_RDWR | O_CREAT, 0, 0),
           mq_make("none", O_RDWR, 0, 0), result(syscall(SYS_mq_open, 8, O_RDWR, 0, 0)));
    memset(text, 'x', 300);
    text[300] = 0;
    printf("long %ld\n", mq_make(text, O_RDWR | O_CREAT, 0, 0));
    printf("sizes %ld %ld %ld\n", mq_make("q", O_RDWR | O_CREAT, -1, 5), mq_make("q", O_RDWR | O_CREAT, 65537, 5), mq_make("q", O_RDWR | O_CREAT, 5, 17 << 20));
    int queue = mq_make("q", O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 3, 16);
    printf("made %d again %ld\n", queue > 2, mq_make("q", O_RDWR | O_CREAT | O_EXCL, 3, 16));
    printf("close on exec %d\n", fcntl(queue, F_GETFD));
    printf("put %ld", put(queue, "low", 1));
    printf(" %ld", put(queue, "high", 9));
    printf(" %ld", put(queue, "low again", 1));
    printf(" %ld", put(queue, "full", 2));
    printf(" %ld %ld\n", put(queue, "seventeen bytes!!", 2), put(queue, "x", 32768));
    struct mq_attr attr, flags = {.mq_flags = 0}, bad = {.mq_flags = 1};
    printf("attr %ld", result(syscall(SYS_mq_getsetattr, queue, &flags, &attr)));
    printf(" %ld %ld %ld %ld", attr.mq_flags & O_NONBLOCK, attr.mq_maxmsg, attr.mq_msgsize, attr.mq_curmsgs);
    printf(" %ld", result(syscall(SYS_mq_getsetattr, queue, &bad, 0)));
    printf(" %d\n", !!(fcntl(queue, F_GETFL) & O_NONBLOCK));
    char line[100] = {0};
    long len = pread(queue, line, sizeof line - 1, 0);
    printf("%ld %s", len, line);
    struct pollfd ready = {queue, POLLIN | POLLOUT, 0};
    printf("poll %d %x\n", poll(&ready, 1, 0), ready.revents);
    struct timespec past = {1, 0}, odd = {0, 1000000000};
    printf("late %ld odd %ld\n", result(syscall(SYS_mq_timedsend, queue, "x", 1, 0, &past)), result(syscall(SYS_mq_timedsend, queue, "x", 1, 0, &odd)));
    printf("short %ld\n", get(queue, text, 15, &priority, 0));
    for (int n = 0; n < 3; n++) {
        long got = get(queue, text, 16, &priority, 0);
        printf("got %ld %s %u\n", got, text, priority);
    }
    printf("late %ld\n", get(queue, text, 16, 0, &past));
    printf("poll %d %x\n", poll(&ready, 1, 0), ready.revents);
    int reader = mq_make("q", O_RDONLY, 0, 0), writer = mq_make("q", O_WRONLY, 0, 0);
    printf("modes %ld %ld %ld\n", put(reader, "x", 0), get(writer, text, 16, 0, 0), put(0, "x", 0));

    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42}, worse = {.sigev_notify = 77};
    printf("notify %ld", result(syscall(SYS_mq_notify, queue, &event)));
    printf(" %ld %ld", result(syscall(SYS_mq_notify, queue, &event)), result(syscall(SYS_mq_notify, queue, &worse)));
    worse.sigev_notify = SIGEV_SIGNAL, worse.sigev_signo = 65;
    printf(" %ld %ld\n", result(syscall(SYS_mq_notify, queue, &worse)), result(syscall(SYS_mq_notify, 0, &event)));
    put(queue, "one", 0);
    printf("told %d", told);
    told = 0;
    get(queue, text, 16, 0, 0);
    put(queue, "two", 0);
    printf(" then %d\n", told);
    get(queue, text, 16, 0, 0);
    syscall(SYS_mq_notify, queue, &event);
    printf("forget %ld\n", result(syscall(SYS_mq_notify, queue, 0)));
    put(queue, "three", 0);
    printf("told %d\n", told);
    get(queue, text, 16, 0, 0);

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        long got = get(queue, text, 16, &priority, 0);
        printf("child got %ld %s %u\n", got, text, priority);
        fflush(stdout);
        usleep(100000);
        _exit(put(queue, "answer", 3) == 0 ? 0 : 1);
    }
    usleep(200000);
    put(queue, "question", 5);
    int status;
    waitpid(pid, &status, 0);
    printf("status %x %ld %s\n", status, get(queue, text, 16, &priority, 0), text);

    struct sigaction plain = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGALRM, &plain, 0);
    alarm(1);
    printf("interrupted %ld\n", get(queue, text, 16, 0, 0));
    fflush(stdout);

    if ((pid = fork()) == 0) {
        if (setuid(1234) != 0)
            _exit(1);
        printf("another user %ld %ld", mq_make("q", O_RDONLY, 0, 0), result(syscall(SYS_mq_unlink, "q")));
        printf(" %ld %ld", mq_make("u", O_RDWR | O_CREAT, 11, 10), mq_make("u", O_RDWR | O_CREAT, 10, 8193));
        int count = 0;
        long last = 0;
        for (; count < 100; count++) {
            char name[20];
            sprintf(name, "u%d", count);
            if ((last = mq_make(name, O_RDWR | O_CREAT, 0, 0)) < 0)
                break;
            syscall(SYS_mq_unlink, name);
        }
        printf(" limit %d %ld\n", count, last);
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    printf("unlink %ld %ld\n", result(syscall(SYS_mq_unlink, "q")), result(syscall(SYS_mq_unlink, "q")));
    put(queue, "still", 0);
    get(queue, text, 16, 0, 0);
    printf("%s there\n", text);
    return 0;
}
