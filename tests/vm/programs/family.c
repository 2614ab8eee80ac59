// Threads, children and signals as C libraries make them, often enough that races show. Built four ways, as facts.c.
// It says which step it is at only when that step is done: the same lines whatever the timing.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void check(int good, const char *what) {
    if (!good) {
        printf("wrong: %s (errno %d)\n", what, errno);
        exit(1);
    }
}

static void done(const char *step) {
    printf("%s\n", step);
    fflush(stdout);
}

static int status_of(pid_t child) {
    int status;
    check(waitpid(child, &status, 0) == child, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static long count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *add(void *argument) {
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&lock);
        count++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return argument;
}

static void *spin(void *argument) {
    for (volatile long i = 0;; i++) (void)argument;
    return NULL;
}

static void *sleep_long(void *argument) {
    sleep(1000);
    return argument;
}

static void threads(void) {
    pthread_t thread[8];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 8; i++) check(pthread_create(&thread[i], NULL, add, (void *)(long)i) == 0, "pthread_create");
        for (long i = 0; i < 8; i++) {
            void *result;
            check(pthread_join(thread[i], &result) == 0 && result == (void *)i, "pthread_join");
        }
    }
    check(count == 20 * 8 * 100, "the count");
    done("threads");
    check(pthread_create(&thread[0], NULL, sleep_long, NULL) == 0, "pthread_create");
    check(pthread_cancel(thread[0]) == 0, "pthread_cancel");
    void *result;
    check(pthread_join(thread[0], &result) == 0 && result == PTHREAD_CANCELED, "a cancelled thread");
    done("cancelled");
}

static void ends_together(void) {
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            for (int i = 0; i < 3; i++) {
                pthread_create(&thread, NULL, spin, NULL);
                pthread_create(&thread, NULL, sleep_long, NULL);
            }
            if (round % 4 == 0) _exit(round);
            if (round % 4 == 1) abort();
            if (round % 4 == 2) execl("/bin/sh", "sh", "-c", "exit 77", NULL);
            for (;;) pause();
        }
        if (round % 4 == 3) {
            if (round > 8) usleep(20000);
            check(kill(child, SIGKILL) == 0, "kill");
        }
        int expected[] = {round, 1000 + SIGABRT, 77, 1000 + SIGKILL};
        int status = status_of(child);
        if (status != expected[round % 4]) printf("round %d: %d instead of %d\n", round, status, expected[round % 4]);
        check(status == expected[round % 4], "how threads ended together");
    }
    done("ended together");
}

static void children(void) {
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        if (child == 0) _exit(i);
        check(status_of(child) == i, "fork");
    }
    for (int i = 0; i < 20; i++) {
        pid_t child = vfork();
        if (child == 0) {
            execl("/bin/true", "true", NULL);
            _exit(9);
        }
        check(status_of(child) == 0, "vfork");
    }
    for (int i = 0; i < 20; i++) {
        pid_t child;
        char *arguments[] = {"false", NULL};
        check(posix_spawn(&child, "/bin/false", NULL, NULL, arguments, environ) == 0, "posix_spawn");
        check(status_of(child) == 1, "a spawned child");
    }
    pid_t child;
    char *arguments[] = {"x", NULL};
    check(posix_spawn(&child, "/nowhere", NULL, NULL, arguments, environ) == ENOENT, "posix_spawn of nothing");
    check(wait(NULL) == -1 && errno == ECHILD, "nobody is left");
    done("children");
}

static void robust(void) {
    pthread_mutex_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    check(pthread_mutex_init(shared, &kind) == 0, "a robust mutex");
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_mutex_lock(shared);
            if (round % 2) kill(getpid(), SIGKILL);
            _exit(0);
        }
        if (round % 3) status_of(child);
        int locked;
        while ((locked = pthread_mutex_lock(shared)) == 0) {
            // The child has not come to it yet.
            pthread_mutex_unlock(shared);
            usleep(1000);
        }
        check(locked == EOWNERDEAD, "the owner is dead");
        check(pthread_mutex_consistent(shared) == 0 && pthread_mutex_unlock(shared) == 0, "made consistent");
        if (round % 3 == 0) status_of(child);
    }
    done("robust");
}

static volatile sig_atomic_t seen;

static void on_signal(int number) {
    seen += number == SIGUSR1;
}

static void *wait_for_signals(void *argument) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    long sum = 0;
    for (int i = 0; i < 50; i++) {
        siginfo_t info;
        check(sigwaitinfo(&set, &info) == SIGRTMIN, "sigwaitinfo");
        sum = sum * 3 + info.si_value.sival_int;
        sum %= 1000003;
    }
    (void)argument;
    return (void *)sum;
}

static void signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) {
            kill(getppid(), SIGUSR1);
            _exit(0);
        }
        int status;
        while (waitpid(child, &status, 0) == -1) check(errno == EINTR, "an interrupted wait");
    }
    check(seen == 50, "each signal was handled");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_signals, NULL);
    long expected = 0;
    for (int i = 0; i < 50; i++) {
        union sigval value = {.sival_int = i};
        check(sigqueue(getpid(), SIGRTMIN, value) == 0, "sigqueue");
        expected = (expected * 3 + i) % 1000003;
    }
    void *result;
    pthread_join(thread, &result);
    check((long)result == expected, "queued signals come in order");
    done("signals");
}

static void stops(void) {
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) spin(NULL);
        int status;
        check(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status), "a stop");
        check(kill(child, SIGCONT) == 0 && waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status), "a continuation");
        kill(child, SIGKILL);
        check(status_of(child) == 1000 + SIGKILL, "killed");
    }
    done("stops");
}

static void all_at_once(void) {
    pid_t child[40];
    for (int i = 0; i < 40; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            pthread_t thread;
            if (i % 2) pthread_create(&thread, NULL, i % 4 == 1 ? spin : sleep_long, NULL);
            if (i % 5 == 0) _exit(i);
            for (;;) pause();
        }
    }
    for (int i = 39; i >= 0; i--) {
        if (i % 5) kill(child[i], i % 3 ? SIGTERM : SIGKILL);
        int expected = i % 5 ? 1000 + (i % 3 ? SIGTERM : SIGKILL) : i;
        check(status_of(child[i]) == expected, "one of many");
    }
    done("all at once");
}

int main(void) {
    threads();
    children();
    ends_together();
    robust();
    signals();
    stops();
    all_at_once();
    return 0;
}
