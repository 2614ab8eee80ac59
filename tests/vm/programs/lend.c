// vfork(2) and its kin: the child has its maker's memory until it runs another program or ends, and nothing else of it but copies.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SET_GS = 0x1001, GET_GS = 0x1004 };

static volatile int shared, alarms;
static char self[] = "/proc/self/exe";

static void check(int is_right, const char *what)
{
	if (!is_right) {
		printf("wrong: %s\n", what);
		exit(1);
	}
}

static int status_of(pid_t pid)
{
	int status = -1;

	check(waitpid(pid, &status, 0) == pid, "waitpid");
	return status;
}

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
}

static uint32_t mxcsr(void)
{
	uint32_t word;

	__asm__ volatile("stmxcsr %0" : "=m"(word));
	return word & ~0x3fu;
}

static void set_mxcsr(uint32_t word)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(word));
}

// What the child changes of its own is not the maker's.
static void own_state(void)
{
	unsigned long gs = 0;
	cpu_set_t before, after, one;
	sigset_t mask, old;
	pid_t pid;

	syscall(SYS_arch_prctl, SET_GS, 0x5000UL);
	set_mxcsr(0x3f80);
	sched_getaffinity(0, sizeof before, &before);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	pid = vfork();
	if (!pid) {
		shared = mxcsr() == 0x3f80;
		set_mxcsr(0x5f80);
		syscall(SYS_arch_prctl, SET_GS, 0x6000UL);
		CPU_ZERO(&one);
		CPU_SET(0, &one);
		syscall(SYS_sched_setaffinity, 0, sizeof one, &one);
		syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &old, 8);
		_exit(3);
	}
	check(status_of(pid) == 3 << 8, "status of a child that ended");
	check(shared == 1, "a child's vector state");
	check(mxcsr() == 0x3f80, "the maker's vector state");
	syscall(SYS_arch_prctl, GET_GS, &gs);
	check(gs == 0x5000, "the maker's GS base");
	sched_getaffinity(0, sizeof after, &after);
	check(CPU_EQUAL(&before, &after), "the maker's processors");
	sigprocmask(SIG_SETMASK, NULL, &mask);
	check(!sigismember(&mask, SIGUSR2), "the maker's mask");
	set_mxcsr(0x1f80);
	syscall(SYS_arch_prctl, SET_GS, 0UL);
}

static pid_t run(const char *what)
{
	char *arguments[] = { "lend", (char *)what, NULL };
	pid_t pid = vfork();

	if (!pid) {
		execv(self, arguments);
		_exit(99);
	}
	return pid;
}

static void programs(void)
{
	char *none[] = { "none", NULL };
	pid_t pids[6], pid;
	int status;

	for (int i = 0; i < 40; i++)
		check(status_of(run("five")) == 5 << 8, "status of a program");
	// Several at once, more than there are host threads at rest.
	for (int i = 0; i < 6; i++)
		pids[i] = run("slow");
	for (int i = 0; i < 6; i++)
		check(status_of(pids[i]) == 6 << 8, "status of one among several");
	pid = run("fresh");
	status = status_of(pid);
	check(status == 0, "a program's first state");
	pid = vfork();
	if (!pid) {
		shared = execv("/nowhere", none) == -1 && errno == ENOENT;
		_exit(7);
	}
	check(status_of(pid) == 7 << 8 && shared, "a program that is not there");
}

static void signals(void)
{
	struct itimerval soon = { .it_value = { .tv_usec = 20000 } };
	struct timespec some = { .tv_nsec = 60000000 };
	struct sigaction action = { .sa_handler = on_alarm };
	pid_t pid = vfork(), maker = getpid();

	if (!pid) {
		syscall(SYS_kill, getpid(), SIGKILL);
		_exit(1);
	}
	check(status_of(pid) == SIGKILL, "a child that is killed");
	pid = vfork();
	if (!pid) {
		*(volatile int *)8 = 1;
		_exit(1);
	}
	check((status_of(pid) & 0x7f) == SIGSEGV, "a child that faults");
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	pid = vfork();
	if (!pid) {
		syscall(SYS_kill, maker, SIGALRM);
		syscall(SYS_nanosleep, &some, NULL);
		shared = alarms;
		_exit(0);
	}
	check(status_of(pid) == 0, "status");
	check(shared == 0, "a maker that waits handles no signal");
	check(alarms == 1, "a maker that goes on does");
}

static void family(void)
{
	pid_t maker = getpid(), pid;
	static volatile pid_t of_child, parent, inner, forked;
	static volatile int inner_status, forked_status;

	pid = vfork();
	if (!pid) {
		int status = 0;

		of_child = getpid();
		parent = getppid();
		inner = vfork();
		if (!inner) {
			char *arguments[] = { "lend", "five", NULL };

			shared = getppid() == of_child ? 44 : 0;
			execv(self, arguments);
			_exit(98);
		}
		waitpid(inner, &status, 0);
		inner_status = status;
		forked = syscall(SYS_fork);
		if (!forked) {
			shared = 45;
			_exit(8);
		}
		waitpid(forked, &status, 0);
		forked_status = status;
		_exit(9);
	}
	check(status_of(pid) == 9 << 8, "status of a child with children");
	check(of_child == pid && parent == maker, "ids");
	check(inner_status == 5 << 8 && forked_status == 8 << 8, "status of grandchildren");
	check(shared == 44, "memory of a grandchild");
}

static void *other(void *unused)
{
	for (int i = 0; i < 20; i++)
		check(status_of(run("five")) == 5 << 8, "status of a program of a thread");
	return unused;
}

static void threads(void)
{
	pthread_t ids[3];

	for (int i = 0; i < 3; i++)
		pthread_create(&ids[i], NULL, other, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(ids[i], NULL);
}

static void spawns(void)
{
	char *arguments[] = { "lend", "five", NULL }, *environment[] = { NULL };

	for (int i = 0; i < 40; i++) {
		pid_t pid;

		check(posix_spawn(&pid, self, NULL, NULL, arguments, environment) == 0, "posix_spawn");
		check(status_of(pid) == 5 << 8, "status of what it made");
	}
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		unsigned long gs = 1;

		if (!strcmp(argv[1], "five"))
			return 5;
		if (!strcmp(argv[1], "slow")) {
			usleep(100000);
			return 6;
		}
		syscall(SYS_arch_prctl, GET_GS, &gs);
		return gs != 0 || mxcsr() != 0x1f80 || shared != 0;
	}
	for (int i = 0; i < 3; i++) {
		own_state();
		programs();
		spawns();
		alarms = 0;
		signals();
		family();
		threads();
	}
	puts("all as it should be");
	return 0;
}
