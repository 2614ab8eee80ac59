// Vector state in signal frames: what a frame holds, what a handler begins with, what a return takes back. See sigreturn(2).
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <ucontext.h>
#include <unistd.h>

#define LEGACY 512

static unsigned char *image_of(void *context) {
    ucontext_t *uc = context;
    return (unsigned char *)uc->uc_mcontext.fpregs;
}

static unsigned word(const unsigned char *at) {
    unsigned value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t xmm0, mxcsr_in_handler, present, magic, last_magic, in_frame;
static int act;

static void handler(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    unsigned csr;
    __asm__ volatile("stmxcsr %0" : "=m"(csr));
    __asm__ volatile("movq %%xmm15, %0" : "=r"(xmm0));
    mxcsr_in_handler = csr;
    unsigned char *image = image_of(context);
    magic = word(image + 464);
    unsigned size = word(image + 464 + 16);
    last_magic = word(image + size);
    memcpy(&present, image + LEGACY, sizeof present);
    memcpy(&in_frame, image + 160 + 15 * 16, sizeof in_frame);
    uint64_t other = 0x1122334455667788;
    switch (act) {
    case 1:
        memcpy(image + 160 + 15 * 16, &other, sizeof other);
        break;
    case 2: // A component that no processor has.
        image[LEGACY + 7] |= 0x20;
        break;
    case 3: // No state at all: the initial one.
        ((ucontext_t *)context)->uc_mcontext.fpregs = 0;
        break;
    }
    __asm__ volatile("movq %0, %%xmm15" : : "r"(0x5555555555555555) : "xmm15");
    csr = 0x9f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(csr));
}

static sigjmp_buf back;

static void bad(int number) {
    siglongjmp(back, number);
}

// Raises a signal with known registers and says what they are afterwards.
static void round_trip(int what, const char *name) {
    act = what;
    uint64_t before = 0xdeadbeefcafef00d, after = 0;
    unsigned csr = 0x7f80, later = 0;
    int number = sigsetjmp(back, 1);
    if (number) {
        printf("%s: signal %d\n", name, number);
        return;
    }
    long tid = gettid(), ax = 200; // tkill
    __asm__ volatile("ldmxcsr %[csr]\n\tmovq %[before], %%xmm15\n\tsyscall\n\tmovq %%xmm15, %[after]\n\tstmxcsr %[later]"
                     : "+a"(ax), [after] "=r"(after), [later] "=m"(later)
                     : "D"(tid), "S"(SIGUSR1), [before] "r"(before), [csr] "m"(csr)
                     : "rcx", "r11", "xmm15", "memory");
    printf("%s: frame %llx present %llx magic %llx %llx, handler %llx %llx, after %llx %x\n", name, (unsigned long long)in_frame,
           (unsigned long long)(present & 7), (unsigned long long)magic, (unsigned long long)last_magic, (unsigned long long)xmm0,
           (unsigned long long)mxcsr_in_handler, (unsigned long long)after, later);
}

static void *fresh_stack(stack_t *stack) {
    stack->ss_size = 64 * 1024;
    stack->ss_flags = 0;
    return stack->ss_sp = mmap(0, stack->ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, 0);
    signal(SIGSEGV, bad);
    round_trip(0, "plain");
    round_trip(0, "again");
    round_trip(1, "changed");
    round_trip(3, "initial");
    round_trip(2, "unknown component");
    round_trip(0, "plain");
    // Frames on pages that nobody has touched yet.
    action.sa_flags |= SA_ONSTACK;
    sigaction(SIGUSR1, &action, 0);
    for (int i = 0; i < 3; i++) {
        stack_t stack;
        void *at = fresh_stack(&stack);
        sigaltstack(&stack, 0);
        round_trip(i == 1, "untouched stack");
        munmap(at, stack.ss_size);
    }
    // Many, so that some meet a switch of tasks.
    act = 0;
    uint64_t wrong = 0;
    for (int i = 0; i < 20000; i++) {
        double one = 1.0 + i, two;
        stack_t stack = {.ss_flags = SS_DISABLE};
        if (i == 0)
            sigaltstack(&stack, 0);
        __asm__ volatile("movsd %1, %%xmm7\n\tsyscall\n\tmovsd %%xmm7, %0"
                         : "=m"(two)
                         : "m"(one), "a"(200L), "D"((long)gettid()), "S"(SIGUSR1)
                         : "rcx", "r11", "xmm7", "memory");
        wrong += one != two;
    }
    printf("wrong %llu\n", (unsigned long long)wrong);
    return 0;
}
