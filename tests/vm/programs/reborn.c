// What a new thread or process has of its maker, and nothing of those that ended before it: vector and x87 state, segment bases,
// protection keys, signal mask, processors. A system that uses threads again must put all that right each time.
#define _GNU_SOURCE
#include <cpuid.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// From asm/prctl.h, which musl lacks.
enum { SET_GS = 0x1001, GET_GS = 0x1004 };

struct state {
	uint32_t mxcsr, keys;
	uint16_t control;
	unsigned long gs;
	sigset_t mask;
	cpu_set_t processors;
};

static int has_keys;

static uint32_t read_keys(void)
{
	uint32_t low, high;

	if (!has_keys)
		return 0;
	__asm__ volatile(".byte 0x0f,0x01,0xee" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

static void write_keys(uint32_t keys)
{
	if (has_keys)
		__asm__ volatile(".byte 0x0f,0x01,0xef" : : "a"(keys), "c"(0), "d"(0));
}

static struct state now(void)
{
	struct state state;

	memset(&state, 0, sizeof state);
	__asm__ volatile("stmxcsr %0" : "=m"(state.mxcsr));
	__asm__ volatile("fnstcw %0" : "=m"(state.control));
	// Flags of what was computed are not of interest.
	state.mxcsr &= ~0x3fu;
	state.keys = read_keys();
	syscall(SYS_arch_prctl, GET_GS, &state.gs);
	pthread_sigmask(SIG_SETMASK, NULL, &state.mask);
	sched_getaffinity(0, sizeof state.processors, &state.processors);
	return state;
}

// Changes all of it; each number gives another state.
static void become(unsigned number)
{
	uint32_t mxcsr = 0x1f80 | (number & 3) << 13;
	uint16_t control = 0x37f | (number >> 2 & 3) << 10;
	sigset_t mask;
	cpu_set_t one;

	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	__asm__ volatile("fldcw %0" : : "m"(control));
	write_keys(0x55555550 | (number & 1) << 3 | (number & 2) << 3);
	syscall(SYS_arch_prctl, SET_GS, 0x1000UL * (number & 0xff));
	sigemptyset(&mask);
	sigaddset(&mask, number & 1 ? SIGUSR1 : SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (number % 16 == 7) {
		CPU_ZERO(&one);
		CPU_SET(0, &one);
		sched_setaffinity(0, sizeof one, &one);
	}
}

static void expect(const struct state *maker, const char *who, unsigned number)
{
	struct state state = now();

	if (memcmp(&state, maker, sizeof state)) {
		printf("%s %u: mxcsr %x %x, control %x %x, keys %x %x, gs %lx %lx\n", who, number, state.mxcsr, maker->mxcsr,
		       state.control, maker->control, state.keys, maker->keys, state.gs, maker->gs);
		exit(1);
	}
}

struct job {
	const struct state *maker;
	unsigned number;
};

static __thread int own = 7;

static void *thread(void *argument)
{
	struct job *job = argument;

	expect(job->maker, "thread", job->number);
	if (own != 7) {
		puts("a thread has another's variables");
		exit(1);
	}
	own = 8;
	// The next one must find nothing of this.
	become(job->number * 5 + 3);
	return NULL;
}

static void threads(unsigned rounds)
{
	pthread_t ids[12];
	struct job jobs[12];

	for (unsigned round = 0; round < rounds; round++) {
		unsigned count = 1 + round % 12;
		struct state state;

		become(round);
		state = now();
		for (unsigned i = 0; i < count; i++) {
			jobs[i] = (struct job){ &state, round };
			if (pthread_create(&ids[i], NULL, thread, &jobs[i])) {
				puts("no thread");
				exit(1);
			}
		}
		for (unsigned i = 0; i < count; i++)
			pthread_join(ids[i], NULL);
		expect(&state, "maker", round);
	}
}

static void must_end_well(pid_t pid)
{
	int status = -1;

	if (waitpid(pid, &status, 0) != pid || status) {
		printf("a child ended with %x\n", status);
		exit(1);
	}
}

static void processes(unsigned rounds)
{
	static volatile char page[4096 * 8];

	for (unsigned round = 0; round < rounds; round++) {
		struct state state;
		pid_t pid;

		become(round);
		state = now();
		page[4096 * (round % 8)] = 1;
		pid = fork();
		if (!pid) {
			expect(&state, "process", round);
			become(round * 3 + 1);
			// Memory is a copy of the maker's, whatever the page tables have shown before.
			for (unsigned i = 0; i < 8; i++)
				if (page[4096 * i] != (i <= round || round >= 8))
					_exit(2);
			page[0] = 9;
			if (round % 5 == 4)
				threads(3);
			if (round % 7 == 6) {
				syscall(SYS_arch_prctl, SET_GS, 0);
				execl("/proc/self/exe", "reborn", "child", NULL);
				_exit(3);
			}
			_exit(0);
		}
		must_end_well(pid);
		if (page[0] != 1) {
			puts("a child wrote to its maker's memory");
			exit(1);
		}
	}
}

static void *last(void *unused)
{
	// The first thread has ended, and its host thread may wait for another guest: the process's end must reach it.
	usleep(1000);
	exit(0);
	return unused;
}

int main(int argc, char **argv __attribute__((unused)))
{
	unsigned a, b, c, d;

	has_keys = __get_cpuid_count(7, 0, &a, &b, &c, &d) && c & 1 << 4;
	if (argc > 1) {
		threads(4);
		return 0;
	}
	threads(60);
	processes(60);
	for (unsigned round = 0; round < 10; round++) {
		pid_t pid = fork();

		if (!pid) {
			pthread_t id;

			pthread_create(&id, NULL, last, NULL);
			pthread_exit(NULL);
		}
		must_end_well(pid);
	}
	puts("each had what its maker had");
	return 0;
}
