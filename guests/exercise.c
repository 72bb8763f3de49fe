/*
 * Exercises a user program's view of a machine and prints what it saw, one fact a line.
 *
 * The same static binary runs on the host and in the guest; the boot tests compare the two outputs line by
 * line. So nothing printed may depend on addresses, process ids, speed, the number of CPUs, or which
 * variant of a library routine the CPU's features select (hence sqrt and +-*\/ but no sin or exp of libm).
 *
 *     exercise            every section
 *     exercise SECTION…   those sections
 *     exercise clock N    CLOCK_MONOTONIC in nanoseconds, every 20 ms for N seconds, "clock T" a line
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static uint64_t seed = 88172645463325252u;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

static void integers(void)
{
    uint64_t hash = 1;
    for (int i = 0; i < 100000; i++) {
        uint64_t a = next(), b = next() | 1;
        unsigned __int128 product = (unsigned __int128)a * b;
        hash = mix(hash, (uint64_t)(product >> 64));
        hash = mix(hash, (uint64_t)(product / (b >> 7 | 1)));
        hash = mix(hash, a / b + a % b);
        hash = mix(hash, (uint64_t)((int64_t)a >> (b & 63)));
        hash = mix(hash, a << (b & 63) | a >> (-b & 63));
        hash = mix(hash, (uint64_t)__builtin_clzll(b) + (uint64_t)__builtin_ctzll(a | 1u << 31));
        hash = mix(hash, (uint32_t)a / ((uint32_t)b | 1) + (uint16_t)a * (uint8_t)b);
    }
    printf("integers: %016lx\n", hash);
}

static void doubles(void)
{
    double sum = 0, product = 1;
    float narrow = 1;
    for (int i = 1; i <= 50000; i++) {
        double x = (double)(int64_t)next() / 65536.0;
        sum += sqrt(fabs(x)) / i - floor(x / 1e6) * 1e-3;
        product = product * (1 + 1.0 / i) / 1.0000001;
        narrow = narrow * 1.0001f + (float)i / 3;
    }
    printf("doubles: %.17g %.17g %.9g\n", sum, product, (double)narrow);
    volatile double tiny = 4.9406564584124654e-324, huge = 1.7976931348623157e308, zero = 0;
    printf("denormal and infinite: %g %g %g %d %d\n", tiny / 2, tiny * 3, huge * 10, isnan(zero / zero),
           signbit(-zero) != 0);
    printf("text to double: %.17g %a\n", strtod("3.14159265358979323846", NULL), strtod("1e-310", NULL));
}

static long double x87(const char *name, long double x, long double y)
{
    long double result = 0;
    switch (name[1]) {
    case 's': __asm__("fsin" : "=t"(result) : "0"(x)); break;
    case 'p': __asm__("fpatan" : "=t"(result) : "0"(x), "u"(y) : "st(1)"); break;
    case 'y': __asm__("fyl2x" : "=t"(result) : "0"(x), "u"(y) : "st(1)"); break;
    case '2': __asm__("f2xm1" : "=t"(result) : "0"(x)); break;
    }
    return result;
}

static void extended(void)
{
    long double sum = 0;
    for (int i = 1; i < 20000; i++)
        sum += sqrtl((long double)i) / (long double)(next() % 1000 + 1);
    printf("extended: %.21Lg\n", sum);
    static const char *const names[] = {"fsin", "fpatan", "fyl2x", "f2xm1"};
    for (int i = 0; i < 4; i++)
        printf("%s: %.21Lg %.21Lg\n", names[i], x87(names[i], 0.7L, 1.25L), x87(names[i], 0.01L, 3.0L));
}

static void vectors(void)
{
    typedef float v4f __attribute__((vector_size(16)));
    typedef uint32_t v4u __attribute__((vector_size(16)));
    typedef int16_t v8i __attribute__((vector_size(16)));
    v4f f = {1, 2, 3, 4};
    v4u u = {1, 2, 3, 4};
    v8i w = {1, -2, 3, -4, 5, -6, 7, -8};
    for (int i = 1; i < 5000; i++) {
        f = f * 0.999f + (v4f){0.5f, 0.25f, 0.125f, (float)i};
        u = (u * 1664525u + 1013904223u) ^ u >> 7;
        w = w * (v8i){3, 5, 7, 9, 11, 13, 15, 17} + (int16_t)i;
    }
    printf("vectors: %.9g %.9g %.9g %.9g %08x %08x %08x %08x", (double)f[0], (double)f[1], (double)f[2],
           (double)f[3], u[0], u[1], u[2], u[3]);
    for (int i = 0; i < 8; i++)
        printf(" %d", w[i]);
    putchar('\n');
}

static void strings(void)
{
    enum { SIZE = 300000 };
    unsigned char *a = malloc(SIZE), *b = malloc(SIZE);
    for (int i = 0; i < SIZE; i++)
        a[i] = (unsigned char)next();
    uint64_t hash = 2;
    for (int i = 0; i < 300; i++) {
        size_t from = next() % (SIZE / 2), to = next() % (SIZE / 2), n = next() % (SIZE / 3);
        memmove(a + to, a + from, n);
        memcpy(b, a, SIZE);
        memset(b + from, i, n / 7);
        b[to] ^= 1;
        hash = mix(hash, (uint64_t)(memcmp(a, b, SIZE) > 0));
        hash = mix(hash, (uint64_t)((unsigned char *)memchr(b, b[from + n], SIZE) - b));
        __asm__ volatile("std; rep movsb; cld" ::"S"(a + 1000 + i), "D"(a + 1040 + i), "c"(500) : "memory");
    }
    for (int i = 0; i < SIZE; i++)
        hash = mix(hash, a[i]);
    printf("strings: %016lx\n", hash);
    free(a);
    free(b);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void memory(void)
{
    enum { COUNT = 200000 };
    uint64_t *all = malloc(COUNT * sizeof *all), hash = 3;
    for (int i = 0; i < COUNT; i++)
        all[i] = next();
    qsort(all, COUNT, sizeof *all, by_value);
    for (int i = 0; i < COUNT; i++)
        hash = mix(hash, all[i]);
    free(all);
    /* Copy on write: the child's writes are its own. */
    char *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(page, 7, 1 << 20);
    if (fork() == 0) {
        memset(page, 9, 1 << 20);
        shared[0] = page[12345];
        _exit(0);
    }
    wait(NULL);
    printf("memory: %016lx, private %d, shared %d\n", hash, page[12345], shared[0]);
    munmap(page, 1 << 20);
    munmap(shared, 4096);
}

static atomic_long counter;
static long guarded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static int turn;
static __thread long own;

static void *count(void *argument)
{
    long me = (long)argument;
    for (int i = 0; i < 20000; i++) {
        atomic_fetch_add(&counter, 1);
        own += me;
        pthread_mutex_lock(&lock);
        guarded += i & 1;
        pthread_mutex_unlock(&lock);
    }
    for (int round = 0; round < 50; round++) {
        pthread_mutex_lock(&lock);
        while (turn % 8 != me)
            pthread_cond_wait(&turn_changed, &lock);
        turn++;
        pthread_cond_broadcast(&turn_changed);
        pthread_mutex_unlock(&lock);
    }
    return (void *)own;
}

static void threads(void)
{
    pthread_t all[8];
    long sum = 0;
    for (long i = 0; i < 8; i++)
        pthread_create(&all[i], NULL, count, (void *)i);
    for (int i = 0; i < 8; i++) {
        void *result;
        pthread_join(all[i], &result);
        sum += (long)result;
    }
    printf("threads: %ld %ld %d %ld\n", atomic_load(&counter), guarded, turn, sum);
}

static sigjmp_buf back;
static volatile sig_atomic_t alarms, nested, codes[8];

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    codes[0] = number;
    codes[1] = info->si_code;
    siglongjmp(back, 1);
}

static void on_alarm(int number)
{
    (void)number;
    alarms++;
}

static void on_user(int number)
{
    nested += number == SIGUSR1 ? 1 : 100;
    if (number == SIGUSR1)
        raise(SIGUSR2);
}

static void fault(const char *name, void (*cause)(void))
{
    codes[0] = codes[1] = 0;
    if (sigsetjmp(back, 1) == 0)
        cause();
    printf("%s: signal %d, code %d\n", name, codes[0], codes[1]);
}

static void divide_by_zero(void)
{
    __asm__ volatile("xor %%ecx, %%ecx; mov $1, %%eax; cltd; idiv %%ecx" ::: "eax", "ecx", "edx");
}

static void overflow_division(void)
{
    __asm__ volatile("mov $0x80000000, %%eax; cltd; mov $-1, %%ecx; idiv %%ecx" ::: "eax", "ecx", "edx");
}

static void read_nothing(void) { __asm__ volatile("mov 16, %%rax" ::: "rax"); }
static void write_code(void) { *(volatile char *)(uintptr_t)divide_by_zero = 0; }
static void non_canonical(void) { __asm__ volatile("mov $1, %%rax; shl $62, %%rax; mov (%%rax), %%rax" ::: "rax"); }
static void undefined(void) { __asm__ volatile("ud2"); }
static void privileged(void) { __asm__ volatile("hlt"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void port(void) { __asm__ volatile("outb %al, $0x80"); }

static void single_step(void)
{
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop" ::: "memory", "cc");
}

static void misaligned_vector(void)
{
    static char bytes[64];
    __asm__ volatile("movaps %%xmm0, (%0)" ::"r"((uintptr_t)bytes | 1) : "memory");
}

static void unmasked_sse(void)
{
    unsigned control = 0x1f80 & ~0x200u;
    double one = 1, zero = 0;
    __asm__ volatile("ldmxcsr %0; divsd %2, %1" : : "m"(control), "x"(one), "x"(zero));
}

static void deep(void)
{
    volatile char space[65536];
    space[0] = 1;
    if (codes[0] == 0)
        deep();
    space[65535] = space[0];
}

static void signals(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int numbers[] = {SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS};
    for (int i = 0; i < 5; i++)
        sigaction(numbers[i], &action, NULL);
    fault("divide by zero", divide_by_zero);
    fault("division overflow", overflow_division);
    fault("read of page zero", read_nothing);
    fault("write to code", write_code);
    fault("non-canonical address", non_canonical);
    fault("undefined instruction", undefined);
    fault("privileged instruction", privileged);
    fault("port access", port);
    fault("breakpoint", breakpoint);
    fault("single step", single_step);
    fault("misaligned vector", misaligned_vector);
    fault("unmasked SSE exception", unmasked_sse);
    unsigned control = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(control));
    fault("stack overflow", deep);

    for (int i = 0; i < 5; i++)
        signal(numbers[i], SIG_DFL);

    signal(SIGUSR1, on_user);
    signal(SIGUSR2, on_user);
    for (int i = 0; i < 500; i++)
        raise(SIGUSR1);
    struct itimerval every = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &every, NULL);
    uint64_t hash = 4;
    while (alarms < 25)
        hash = mix(hash, (uint64_t)sqrt((double)alarms)) | 1;
    setitimer(ITIMER_REAL, &never, NULL);
    printf("signals: nested %d, alarms %d, %d\n", nested, alarms >= 25, (int)(hash & 1));
}

static void processes(void)
{
    int status, sum = 0, ends[2];
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 20; i++)
            if (fork() == 0)
                _exit((round * 20 + i) % 100);
        while (wait(&status) > 0)
            sum += WEXITSTATUS(status);
    }
    /* A ring of processes passes a number around through pipes. */
    int first[2], input;
    if (pipe(first) != 0)
        return;
    input = first[0];
    for (int i = 0; i < 12; i++) {
        if (pipe(ends) != 0)
            return;
        if (fork() == 0) {
            long value;
            close(first[1]); /* or the ring would never see its end */
            close(ends[0]);
            while (read(input, &value, sizeof value) == sizeof value && value >= 0) {
                value = value * 3 + i;
                if (write(ends[1], &value, sizeof value) < 0)
                    break;
            }
            _exit(0);
        }
        close(ends[1]);
        close(input);
        input = ends[0];
    }
    long total = 0;
    for (long i = 0; i < 200; i++) {
        long value = i;
        if (write(first[1], &value, sizeof value) < 0 || read(input, &value, sizeof value) < 0)
            return;
        total += value % 1000003;
    }
    close(first[1]);
    close(input);
    while (wait(&status) > 0)
        ;
    if (fork() == 0)
        abort();
    wait(&status);
    printf("processes: exits %d, ring %ld, abort signal %d\n", sum, total, WTERMSIG(status));
}

/* Code written while it runs: mov eax, N; ret, with N changed before each call. */
static void generated_code(void)
{
    unsigned char *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *at = code + 4096 - 3; /* crosses a page */
    uint64_t hash = 5;
    for (unsigned i = 0; i < 3000; i++) {
        unsigned value = i * 2654435761u;
        at[0] = 0xb8;
        memcpy(at + 1, &value, 4);
        at[5] = 0xc3;
        hash = mix(hash, ((unsigned (*)(void))(uintptr_t)at)());
    }
    printf("generated code: %016lx\n", hash);
    munmap(code, 8192);
}

/* 32-bit code in compatibility mode (selector 0x23 under Linux), reached and left by far transfers. */
static void compatibility(void)
{
    static const unsigned char body[] = {
        0xb8, 0x78, 0x56, 0x34, 0x12, /* mov eax, 0x12345678 */
        0xb9, 0x0a, 0x00, 0x00, 0x00, /* mov ecx, 10 */
        0x40,                         /* 1: inc eax */
        0xd1, 0xc0,                   /* rol eax, 1 */
        0x14, 0x05,                   /* adc al, 5 */
        0x27,                         /* daa */
        0x49,                         /* dec ecx */
        0x75, 0xf7,                   /* jnz 1b */
        0xcb,                         /* retf */
    };
    unsigned char *low = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    memcpy(low, body, sizeof body);
    struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) target = {(uint32_t)(uintptr_t)low, 0x23};
    uint64_t result, stack = (uint64_t)(uintptr_t)(low + 8000);
    __asm__ volatile("mov %%rsp, %%rbx; mov %2, %%rsp; lcall *(%1); mov %%rbx, %%rsp"
                     : "=&a"(result) : "r"(&target), "r"(stack), "m"(target) : "rbx", "rcx", "memory", "cc");
    printf("compatibility mode: %08x\n", (unsigned)result);
    munmap(low, 8192);
}

static void clocks(void)
{
    struct timespec a, b;
    int backwards = 0;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 100000; i++) {
        clock_gettime(CLOCK_MONOTONIC, &b);
        backwards += b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec < a.tv_nsec);
        a = b;
    }
    struct timespec nap = {0, 30000000};
    nanosleep(&nap, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    long slept = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
    printf("clocks: went back %d times, nap long enough %d\n", backwards, slept >= 29);
}

static void tick(int seconds)
{
    struct timespec now, nap = {0, 20000000};
    for (int i = 0; i < seconds * 50; i++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        printf("clock %lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
        fflush(stdout);
        nanosleep(&nap, NULL);
    }
}

static const struct { const char *name; void (*run)(void); } sections[] = {
    {"integers", integers}, {"doubles", doubles},       {"extended", extended},
    {"vectors", vectors},   {"strings", strings},       {"memory", memory},
    {"threads", threads},   {"signals", signals},       {"processes", processes},
    {"generated", generated_code}, {"compatibility", compatibility}, {"clocks", clocks},
};

int main(int count, char **words)
{
    if (count == 3 && strcmp(words[1], "clock") == 0) {
        tick(atoi(words[2]));
        return 0;
    }
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        int wanted = count == 1;
        for (int word = 1; word < count; word++)
            wanted |= strcmp(words[word], sections[i].name) == 0;
        if (wanted) {
            sections[i].run();
            fflush(stdout);
        }
    }
    return 0;
}
