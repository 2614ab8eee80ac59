// What ring 3 gets for instructions that are not its own, and for those that fault: one line for each, with signal, code and place.
// The list is data (without INVD and WBINVD, which QEMU lets ring 3 execute); a trap other than the host's own must answer each line as Linux does.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static const struct {
    const char *name, *code;
    size_t bytes;
} instructions[] = {
#define I(name, code) {name, code, sizeof code - 1}
    I("hlt", "\xf4"),
    I("cli", "\xfa"),
    I("sti", "\xfb"),
    I("in", "\xec"),
    I("out", "\xee"),
    I("ins", "\x6c"),
    I("outs", "\x6e"),
    I("clts", "\x0f\x06"),
    I("invlpg", "\x0f\x01\x3f"),
    I("lgdt", "\x0f\x01\x17"),
    I("lidt", "\x0f\x01\x1f"),
    I("lldt", "\x0f\x00\xd0"),
    I("ltr", "\x0f\x00\xd8"),
    I("lmsw", "\x0f\x01\xf0"),
    I("swapgs", "\x0f\x01\xf8"),
    I("sysret", "\x48\x0f\x07"),
    I("sysexit", "\x48\x0f\x35"),
    I("read cr0", "\x0f\x20\xc0"),
    I("read cr2", "\x0f\x20\xd0"),
    I("read cr3", "\x0f\x20\xd8"),
    I("read cr4", "\x0f\x20\xe0"),
    I("read cr8", "\x44\x0f\x20\xc0"),
    I("write cr0", "\x0f\x22\xc0"),
    I("write cr3", "\x0f\x22\xd8"),
    I("write cr4", "\x0f\x22\xe0"),
    I("write cr8", "\x44\x0f\x22\xc0"),
    I("read dr0", "\x0f\x21\xc0"),
    I("read dr7", "\x0f\x21\xf8"),
    I("write dr0", "\x0f\x23\xc0"),
    I("write dr7", "\x0f\x23\xf8"),
    I("rdmsr", "\x0f\x32"),
    I("wrmsr", "\x0f\x30"),
    I("rdpmc", "\x0f\x33"),
    I("xsetbv", "\x0f\x01\xd1"),
    I("monitor", "\x0f\x01\xc8"),
    I("mwait", "\x0f\x01\xc9"),
    I("rsm", "\x0f\xaa"),
    I("vmcall", "\x0f\x01\xc1"),
    I("vmlaunch", "\x0f\x01\xc2"),
    I("vmmcall", "\x0f\x01\xd9"),
    I("ud2", "\x0f\x0b"),
    I("ud1", "\x0f\xb9\xc0"),
    I("int3", "\xcc"),
    I("int 3", "\xcd\x03"),
    I("int 4", "\xcd\x04"),
    I("int 0", "\xcd\x00"),
    I("int 14", "\xcd\x0e"),
    I("int 32", "\xcd\x20"),
    I("int 255", "\xcd\xff"),
    I("push es", "\x06"),
    I("lock nop", "\xf0\x90"),
    I("divide by zero", "\x31\xd2\x31\xc9\xf7\xf1"),
    I("non-canonical read", "\x48\xb8\x00\x00\x00\x00\x00\x00\x00\x80\x48\x8b\x00"),
    I("non-canonical stack", "\x48\xbd\x00\x00\x00\x00\x00\x00\x00\x80\x48\x8b\x45\x00"),
    I("kernel's half read", "\x48\xc7\xc0\x00\x00\x00\x81\x48\x8b\x00"),
    I("kernel's half write", "\x48\xc7\xc0\x00\x00\x00\x81\x48\x89\x00"),
    I("descriptors read", "\x48\xb8\x00\x00\x00\x00\x80\xff\xff\xff\x48\x8b\x00"),
    I("null read", "\x31\xc0\x8b\x00"),
    I("null write", "\x31\xc0\x89\x00"),
    I("write to code", "\x48\x8d\x05\x00\x00\x00\x00\xc6\x00\x90"),
    I("unaligned vector", "\x66\x0f\x6f\x47\x01"),
    I("null selector in ss", "\x31\xc0\x8e\xd0"),
    I("kernel's selector in ds", "\xb8\x18\x00\x00\x00\x8e\xd8"),
    I("data selector in ds", "\xb8\x2b\x00\x00\x00\x8e\xd8\x31\xc0\x8e\xd8"),
    I("no selector in fs", "\xb8\xf8\xff\x00\x00\x8e\xe0"),
    I("x87 exception", "\x9b\xdb\xe3\xd9\x2d\x0a\x00\x00\x00\xd9\xe8\xd9\xee\xde\xf9\x9b\xc3\x70\x03"),
    I("vector exception", "\x0f\xae\x15\x07\x00\x00\x00\x0f\x57\xc0\x0f\x5e\xc0\xc3\x00\x1f\x00\x00"),
};

static sigjmp_buf back;
static volatile int signal_number, signal_code;
static volatile uintptr_t signal_address, signal_ip;

static void on_signal(int number, siginfo_t *info, void *context) {
    signal_number = number;
    signal_code = info->si_code;
    signal_address = (uintptr_t)info->si_addr;
    signal_ip = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    siglongjmp(back, 1);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    static const int signals[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
    static char scratch[256] __attribute__((aligned(64)));
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < sizeof instructions / sizeof *instructions; i++) {
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
        memset(page, 0x90, 4096);
        memcpy(page, instructions[i].code, instructions[i].bytes);
        page[instructions[i].bytes] = 0xc3;
        mprotect(page, 4096, PROT_READ | PROT_EXEC);
        printf("%s: ", instructions[i].name);
        if (sigsetjmp(back, 1) == 0) {
            void *to = page;
            // The callee may change anything; frames that it leaves by a signal are dropped.
            __asm__ volatile("push %%rbp\n\tpush %%rbx\n\tcall *%0\n\tpop %%rbx\n\tpop %%rbp"
                             : "+r"(to)
                             : "D"(scratch), "S"(scratch), "d"(0), "c"(0)
                             : "rax", "r8", "r9", "r10", "r11", "xmm0", "memory", "cc");
            printf("nothing\n");
            continue;
        }
        uintptr_t at = (uintptr_t)page;
        printf("signal %d code %d ", signal_number, signal_code);
        if (signal_address - at < 4096) printf("address +%lu ", signal_address - at);
        else printf("address %lx ", signal_address);
        if (signal_ip - at < 4096) printf("ip +%lu\n", signal_ip - at);
        else printf("ip %lx\n", signal_ip);
    }
    return 0;
}
