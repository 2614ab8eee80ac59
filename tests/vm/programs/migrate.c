// Threads that are moved from processor to processor while they compute: registers, vector registers, memory and the vDSO's clock must
// not notice. Prints what they have computed, and nothing of where.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { THREADS = 3, MOVES = 60, STEPS = 3000, PROCESSORS_MOST = 64 };

static int processors[PROCESSORS_MOST], count;
static uint64_t results[THREADS];
static double sums[THREADS];
static int backwards[THREADS], astray[THREADS];

static void *work(void *argument) {
    int self = (int)(intptr_t)argument;
    uint64_t state = 88172645463325252u + (uint64_t)self;
    double sum = 0;
    struct timespec last, now;
    clock_gettime(CLOCK_MONOTONIC, &last);
    for (int move = 0; move < MOVES; move++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        int target = processors[(move + self) % count];
        CPU_SET(target, &one);
        if (sched_setaffinity(0, sizeof one, &one) == 0 && sched_getcpu() != target) astray[self]++;
        for (int i = 0; i < STEPS; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            sum += (double)(state >> 40) / (i + 1);
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec)) backwards[self]++;
        last = now;
    }
    results[self] = state;
    sums[self] = sum;
    return NULL;
}

int main(void) {
    cpu_set_t all;
    sched_getaffinity(0, sizeof all, &all);
    for (int i = 0; i < CPU_SETSIZE && count < PROCESSORS_MOST; i++)
        if (CPU_ISSET(i, &all)) processors[count++] = i;
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++)
        printf("%016lx %.9f astray %d backwards %d\n", (unsigned long)results[i], sums[i], astray[i], backwards[i]);
    return 0;
}
