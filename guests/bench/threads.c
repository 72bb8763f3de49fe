/*
 * Two threads. Each unit starts a second thread and waits for it, except where two processes are the point.
 * For a machine of two CPUs; with one, all rows still end, since whoever waits gives the CPU away.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

/* Runs `other` beside `mine`; the sum of their results. */
static uint64_t both(void *(*mine)(void *), void *(*other)(void *))
{
    pthread_t thread;
    void *result;
    if (pthread_create(&thread, NULL, other, (void *)1) != 0)
        fail("pthread_create");
    uint64_t own = (uint64_t)(uintptr_t)mine((void *)0);
    pthread_join(thread, &result);
    return own + (uint64_t)(uintptr_t)result;
}

static void *number(uint64_t value) { return (void *)(uintptr_t)value; }

/* Waits a while in user mode, then lets others run. */
static void patience(unsigned *turns)
{
    if (++*turns % 64 == 0)
        sched_yield();
    else
        __builtin_ia32_pause();
}

/* The work of rows `alone` and `together`: no shared memory. The table is one page wherever the stack is, and the
 * work long beside the start of a thread, so that the rows differ in nothing but the number of threads. */
static void *private_work(void *seed)
{
    _Alignas(PAGE) uint64_t table[512] = {0};
    struct numbers numbers = {(uint64_t)(uintptr_t)seed + 51};
    for (int i = 0; i < 8000000; i++) {
        uint64_t value = next(&numbers);
        table[value >> 55] += value ^ table[value & 511];
    }
    return number(hash_bytes(table, sizeof table));
}

static uint64_t alone(void) { return (uint64_t)(uintptr_t)private_work(0); }
static uint64_t together(void) { return both(private_work, private_work); }

static void *nothing(void *me) { return me; }

/* What a thread costs that does nothing. */
static uint64_t start(void) { return both(nothing, nothing); }

static uint64_t counter;

static void *count(void *me)
{
    (void)me;
    for (int i = 0; i < 20000; i++)
        __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static uint64_t shared_counter(void)
{
    counter = 0;
    both(count, count);
    return counter;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t guarded, turn;

static void *count_guarded(void *me)
{
    for (int i = 0; i < 5000; i++) {
        pthread_mutex_lock(&lock);
        guarded += 1 + (uint64_t)(uintptr_t)me;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static uint64_t mutex(void)
{
    guarded = 0;
    both(count_guarded, count_guarded);
    return guarded;
}

static void *take_turns(void *me)
{
    uint64_t mine = (uint64_t)(uintptr_t)me;
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&lock);
        while (turn % 2 != mine)
            pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static uint64_t turns(void)
{
    turn = 0;
    both(take_turns, take_turns);
    return turn;
}

/* A ring without locks: the slots' contents must be there when the index says so. */
enum { SLOTS = 256, MESSAGES = 4000 };
static uint64_t slots[SLOTS], head, tail;

static void *produce(void *me)
{
    (void)me;
    unsigned waited = 0;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        while (i - __atomic_load_n(&tail, __ATOMIC_ACQUIRE) == SLOTS)
            patience(&waited);
        slots[i % SLOTS] = i * 3;
        __atomic_store_n(&head, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void *consume(void *me)
{
    (void)me;
    unsigned waited = 0;
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        while (__atomic_load_n(&head, __ATOMIC_ACQUIRE) == i)
            patience(&waited);
        wrong += slots[i % SLOTS] != i * 3;
        __atomic_store_n(&tail, i + 1, __ATOMIC_RELEASE);
    }
    return number(wrong);
}

static uint64_t ring(void)
{
    head = tail = 0;
    return both(consume, produce);
}

static void *fault_pages(void *me)
{
    uint64_t sum = (uint64_t)(uintptr_t)me;
    for (int round = 0; round < 4; round++) {
        unsigned char *pages = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < 32; i++)
            sum += pages[i * PAGE] = (unsigned char)i;
        munmap(pages, 32 * PAGE);
    }
    return number(sum);
}

static uint64_t faults(void) { return both(fault_pages, fault_pages); }

/* One thread reads pages while the other changes their rights: every change reaches both CPUs. */
static unsigned char *watched;
static uint64_t finished;

static void *change_rights(void *me)
{
    uint64_t sum = (uint64_t)(uintptr_t)me;
    for (int i = 0; i < 60; i++) {
        sum += mprotect(watched, 4 * PAGE, PROT_READ) == 0;
        sum += mprotect(watched, 4 * PAGE, PROT_READ | PROT_WRITE) == 0;
        watched[0] = (unsigned char)i;
    }
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    return number(sum);
}

static void *watch(void *me)
{
    (void)me;
    uint64_t sum = 0;
    unsigned waited = 0;
    while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) {
        for (int i = 0; i < 4; i++)
            sum |= watched[i * PAGE + 8];
        patience(&waited);
    }
    return number(sum);
}

static uint64_t rights(void)
{
    if (watched == NULL)
        watched = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    finished = 0;
    return both(change_rights, watch);
}

/* Code that one thread rewrites and the other runs, by handshake: a new constant for every number. */
static unsigned char *code;
static uint64_t asked, answered;

static void *rewrite(void *me)
{
    (void)me;
    unsigned waited = 0;
    for (uint32_t i = 1; i <= 40; i++) {
        memcpy(code + 1, &i, 4);
        __atomic_store_n(&asked, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&answered, __ATOMIC_ACQUIRE) != i)
            patience(&waited);
    }
    return NULL;
}

/* The serialising instruction that the manual asks for before code of another CPU is run (SDM 3 §8.1.3);
 * iret is one, and dear nowhere. */
static void serialise(void)
{
    __asm__ volatile("mov %%rsp, %%rax; push $0x2b; push %%rax; pushfq; push $0x33; lea 1f(%%rip), %%rax;"
                     "push %%rax; iretq; 1:" : : : "rax", "memory", "cc");
}

static void *obey(void *me)
{
    (void)me;
    unsigned waited = 0;
    uint64_t wrong = 0;
    for (uint64_t i = 1; i <= 40; i++) {
        while (__atomic_load_n(&asked, __ATOMIC_ACQUIRE) != i)
            patience(&waited);
        serialise();
        wrong += ((uint32_t (*)(void))(uintptr_t)code)() != i;
        __atomic_store_n(&answered, i, __ATOMIC_RELEASE);
    }
    return number(wrong);
}

static uint64_t cross_modify(void)
{
    if (code == NULL)
        code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, "\xb8\0\0\0\0\xc3", 6); /* mov eax, imm; ret */
    asked = answered = 0;
    return both(obey, rewrite);
}

static void *fork_children(void *me)
{
    uint64_t sum = (uint64_t)(uintptr_t)me;
    for (int i = 0; i < 2; i++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            _exit(i + 1);
        waitpid(child, &status, 0);
        sum += (uint64_t)WEXITSTATUS(status);
    }
    return number(sum);
}

static uint64_t forks(void) { return both(fork_children, fork_children); }

/* Writers of different words of one line of cache. */
static volatile uint64_t line[8];

static void *write_line(void *me)
{
    for (uint64_t i = 0; i < 30000; i++)
        line[(uintptr_t)me] += i;
    return NULL;
}

static uint64_t false_sharing(void)
{
    line[0] = line[1] = 0;
    both(write_line, write_line);
    return mix(line[0], line[1] + 1);
}

static const struct row rows[] = {
    {"alone", alone, NULL},
    {"together", together, NULL},
    {"start", start, NULL},
    {"shared-counter", shared_counter, NULL},
    {"false-sharing", false_sharing, NULL},
    {"mutex", mutex, NULL},
    {"turns", turns, NULL},
    {"ring", ring, NULL},
    {"faults", faults, NULL},
    {"rights", rights, NULL},
    {"cross-modify", cross_modify, NULL},
    {"forks", forks, NULL},
};

const struct group threads_group = GROUP("threads", rows);
