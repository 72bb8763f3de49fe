/*
 * Control words and flags must not leak: between blocks, between processes, into signal handlers and out of them.
 * Exceptions that are unmasked are taken at the instruction that causes them.
 */
#define _GNU_SOURCE
#include "attack.h"
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static void set_mxcsr(uint32_t value) { __asm__ volatile("ldmxcsr %0" : : "m"(value)); }
static void set_fcw(uint16_t value) { __asm__ volatile("fldcw %0" : : "m"(value)); }

static uint32_t get_mxcsr(void)
{
    uint32_t value;
    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value;
}

static uint16_t get_fcw(void)
{
    uint16_t value;
    __asm__ volatile("fnstcw %0" : "=m"(value));
    return value;
}

/* A third in single, double and extended, as rounded now. */
static uint64_t thirds(void)
{
    float one = 1, three = 3;
    double one_d = 1, three_d = 3;
    long double wide;
    uint64_t bits, hash = 2;
    uint32_t narrow;
    __asm__ volatile("divss %1, %0" : "+x"(one) : "x"(three));
    __asm__ volatile("divsd %1, %0" : "+x"(one_d) : "x"(three_d));
    __asm__ volatile("fld1; fldl %1; fdivrp" : "=t"(wide) : "m"(three_d) : "st(7)");
    memcpy(&narrow, &one, 4);
    memcpy(&bits, &one_d, 8);
    hash = mix(mix(hash, narrow), bits);
    memcpy(&bits, &wide, 8);
    return mix(hash, bits);
}

/* Four processes with words of their own, on one CPU or two, each checks its own results. */
static void processes(void)
{
    static const uint32_t mxcsr[] = {0x1f80, 0x3f80, 0x5f80, 0xffc0};
    static const uint16_t fcw[] = {0x37f, 0x77f, 0xa7f, 0xc7f};
    unsigned wrong = 0;
    for (int i = 0; i < 4; i++) {
        set_mxcsr(mxcsr[i]);
        set_fcw(fcw[i]);
        uint64_t first = thirds();
        set_mxcsr(0x1f80);
        set_fcw(0x37f);
        printf("thirds, rounded by %x and %x: %016lx\n", mxcsr[i], fcw[i], first);
    }
    fflush(stdout);
    for (int i = 0; i < 4; i++) {
        if (fork() != 0)
            continue;
        set_mxcsr(mxcsr[i]);
        set_fcw(fcw[i]);
        uint64_t first = thirds();
        int same = 1;
        for (int turn = 0; turn < 3000; turn++) {
            same &= thirds() == first && get_fcw() == fcw[i] && (get_mxcsr() & 0xffc0) == mxcsr[i];
            if (turn % 8 == 0)
                sched_yield();
        }
        _exit(!same);
    }
    for (int status; wait(&status) > 0;)
        wrong += status != 0;
    printf("control words of processes: %u wrong\n", wrong);
}

static volatile sig_atomic_t ticks, wrong_inside;

/* Linux starts handlers with the initial words; the interrupted ones come back afterwards. */
static void on_tick(int number)
{
    (void)number;
    ticks++;
    set_mxcsr(0x7f80);
    wrong_inside += thirds() == 0;
    __asm__ volatile("std; cld; stc" : : : "cc");
}

static void handlers(void)
{
    struct sigaction action = {.sa_handler = on_tick};
    struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    set_mxcsr(0x5f80);
    set_fcw(0x27f);
    uint64_t first = thirds(), wrong = 0;
    setitimer(ITIMER_REAL, &often, NULL);
    while (ticks < 30) {
        wrong += thirds() != first;
        uint64_t carry = 0;
        /* Flags live over many blocks: the handler must not change them. */
        __asm__ volatile("stc; mov $2000, %%ecx; 1: lea -1(%%ecx), %%ecx; jecxz 2f; jmp 1b; 2: adc $0, %0"
                         : "+r"(carry) : : "ecx", "cc");
        wrong += carry != 1;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    set_mxcsr(0x1f80);
    set_fcw(0x37f);
    printf("control words and flags about handlers: %lu wrong\n", wrong);
}

static sigjmp_buf back;
static volatile int number_seen, code_seen;
static volatile uint64_t flags_seen, status_seen;

static void on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *all = context;
    number_seen = number;
    code_seen = info->si_code;
    flags_seen = (uint64_t)all->uc_mcontext.gregs[REG_EFL] & 0x40c40;
    status_seen = all->uc_mcontext.fpregs->mxcsr & 0x3f;
    siglongjmp(back, 1);
}

static volatile double one = 1, zero;
static volatile int turns;

/* Divides 200 times by one and then by `last`, exceptions `unmasked`. */
static void unmasked_sse(const char *name, uint32_t unmasked, double dividend, double last)
{
    number_seen = code_seen = 0;
    status_seen = 0;
    turns = 0;
    set_mxcsr(0x1f80 & ~unmasked);
    if (sigsetjmp(back, 1) == 0)
        for (; turns < 201; turns++) {
            double divisor = turns == 200 ? last : one, value = dividend;
            __asm__ volatile("divsd %1, %0" : "+x"(value) : "x"(divisor));
        }
    set_mxcsr(0x1f80);
    printf("%s: signal %d, code %d after %d turns, status %lx\n", name, number_seen, code_seen, turns, status_seen);
}

static void unmasked_x87(void)
{
    number_seen = code_seen = 0;
    turns = 0;
    set_fcw(0x37b);
    if (sigsetjmp(back, 1) == 0)
        for (; turns < 201; turns++) {
            double divisor = turns == 200 ? zero : one;
            /* The exception of fdiv waits for the next instruction of the unit. */
            __asm__ volatile("fld1; fdivl %0; nop; nop; fstp %%st(0)" : : "m"(divisor) : "st", "st(7)");
        }
    __asm__ volatile("fnclex; fninit");
    printf("x87 division by zero: signal %d, code %d after %d turns\n", number_seen, code_seen, turns);
}

/* With AC set, user code may not access misaligned data (SDM 3 §6.15, #AC). */
static void alignment(void)
{
    static uint64_t words[4];
    number_seen = code_seen = 0;
    turns = 0;
    if (sigsetjmp(back, 1) == 0)
        for (; turns < 201; turns++) {
            const char *place = (const char *)words + (turns == 200 ? 3 : 8);
            uint64_t value;
            __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; mov (%1), %0;"
                             "pushfq; andq $~0x40000, (%%rsp); popfq"
                             : "=r"(value) : "r"(place) : "memory", "cc");
        }
    __asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" : : : "memory", "cc");
    printf("alignment check: signal %d, code %d after %d turns, flags %lx\n", number_seen, code_seen, turns, flags_seen);
}

static void direction(void)
{
    char text[] = "0123456789", copy[sizeof text];
    uint64_t wrong = 0;
    for (int i = 0; i < 300; i++) {
        memset(copy, 'x', sizeof copy);
        const char *from = text + 9;
        char *to = copy + 9;
        __asm__ volatile("std; push %%rax; mov $39, %%eax; syscall; pop %%rax; movsb; movsb; cld"
                         : "+S"(from), "+D"(to) : : "memory", "rcx", "r11");
        wrong += memcmp(copy, "xxxxxxxx89", 10) != 0 || from != text + 7;
    }
    printf("direction flag over a system call: %lu wrong\n", wrong);
}

void control_words(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, before[2];
    __asm__ volatile("fninit");
    processes();
    handlers();
    sigaction(SIGFPE, &action, &before[0]);
    sigaction(SIGBUS, &action, &before[1]);
    unmasked_sse("division by zero", 0x200, 1, 0);
    unmasked_sse("invalid", 0x80, 0, 0);
    unmasked_sse("overflow", 0x400, 1e308, 1e-10);
    unmasked_sse("underflow", 0x800, 1e-308, 1e10);
    unmasked_sse("denormal", 0x100, 1, 4e-320);
    unmasked_sse("inexact", 0x1000, 1, 3);
    unmasked_sse("nothing", 0, 1, 0);
    unmasked_x87();
    alignment();
    direction();
    sigaction(SIGFPE, &before[0], NULL);
    sigaction(SIGBUS, &before[1], NULL);
}
