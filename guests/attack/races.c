/*
 * Two threads: one changes rights, mappings or code, the other uses them all the time. What must hold is what the
 * kernel promises once its call has returned: no access by the old rights, no byte of the old page or code.
 */
#define _GNU_SOURCE
#include "attack.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { SHARED = 0x25000000, CODE = 0x26000000 };

static uint64_t over, progress, wrong;

static uint64_t load(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static void store(uint64_t *at, uint64_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }

/* Waits until the other thread has got on by `steps`. */
static void let_it_run(uint64_t steps)
{
    uint64_t from = load(&progress);
    while (load(&progress) < from + steps)
        sched_yield();
}

static void beside(void *(*other)(void *), void (*mine)(void))
{
    pthread_t thread;
    over = progress = wrong = 0;
    if (pthread_create(&thread, NULL, other, NULL) != 0)
        fail("pthread_create");
    mine();
    store(&over, 1);
    pthread_join(thread, NULL);
}

/* A store that faults is skipped: the store below has three bytes. */
static void skip_store(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    registers[REG_RIP] += 3;
    sched_yield();
}

static void *store_always(void *none)
{
    for (uint64_t value = 1; !load(&over); value++) {
        for (int i = 0; i < 100; i++)
            __asm__ volatile("mov %0, (%1)" : : "a"(value), "d"((uint64_t *)SHARED) : "memory");
        __atomic_fetch_add(&progress, 1, __ATOMIC_RELEASE);
    }
    return none;
}

/* Read-only means: nobody changes it. */
static void forbid_stores(void)
{
    volatile uint64_t *word = (volatile uint64_t *)SHARED;
    for (int i = 0; i < 150; i++) {
        let_it_run(2);
        mprotect((void *)SHARED, PAGE, PROT_READ);
        uint64_t first = *word;
        for (int j = 0; j < 200; j++)
            wrong += *word != first;
        sched_yield();
        wrong += *word != first;
        mprotect((void *)SHARED, PAGE, PROT_READ | PROT_WRITE);
    }
}

static uint64_t allowed; /* the smallest value that may still be read */

static void *read_always(void *none)
{
    while (!load(&over)) {
        for (int i = 0; i < 100; i++) {
            uint64_t least = load(&allowed);
            wrong += *(volatile uint64_t *)SHARED < least;
        }
        __atomic_fetch_add(&progress, 1, __ATOMIC_RELEASE);
    }
    return none;
}

/* Once mmap has put a new page there, the old one is not read again. */
static void replace_page(void)
{
    int file = memfd_create("pages", 0);
    if (file < 0 || ftruncate(file, 8 * PAGE) != 0)
        fail("memfd");
    for (uint64_t i = 1; i < 300; i++) {
        if (pwrite(file, &i, 8, (off_t)(i % 8) * PAGE) != 8)
            fail("pwrite");
        mmap((void *)SHARED, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, (off_t)(i % 8) * PAGE);
        store(&allowed, i);
        if (i % 4 == 0)
            let_it_run(1);
    }
    close(file);
}

static void *call_always(void *none)
{
    while (!load(&over)) {
        for (int i = 0; i < 100; i++) {
            uint64_t least = load(&allowed);
            wrong += ((uint32_t(*)(void))(uintptr_t)CODE)() < least;
        }
        __atomic_fetch_add(&progress, 1, __ATOMIC_RELEASE);
    }
    return none;
}

static void replace_code(void)
{
    int file = memfd_create("code", 0);
    if (file < 0 || ftruncate(file, 8 * PAGE) != 0)
        fail("memfd");
    for (uint32_t i = 1; i < 300; i++) {
        unsigned char text[6] = {0xb8, 0, 0, 0, 0, 0xc3};
        memcpy(text + 1, &i, 4);
        if (pwrite(file, text, 6, (off_t)(i % 8) * PAGE) != 6)
            fail("pwrite");
        mmap((void *)CODE, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, file, (off_t)(i % 8) * PAGE);
        store(&allowed, i);
        if (i % 4 == 0)
            let_it_run(1);
    }
    close(file);
}

/* A constant of four aligned bytes is stored at once; each call gives an old or a new one, never less than one
 * that was announced before. Linux's mprotect makes the other CPU serialise. */
static void patch_code(void)
{
    static unsigned char *code = (unsigned char *)CODE;
    memcpy(code, "\x90\x90\x90\xb8\0\0\0\0\xc3", 9);
    for (uint32_t i = 1; i < 1500; i++) {
        __atomic_store_n((uint32_t *)(code + 4), i, __ATOMIC_RELEASE);
        if (i % 10 == 0) {
            mprotect(code, PAGE, PROT_READ | PROT_EXEC);
            mprotect(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
            store(&allowed, i);
            let_it_run(1);
        }
    }
}

static void *call_patched(void *none)
{
    uint32_t last = 0;
    while (!load(&over)) {
        for (int i = 0; i < 100; i++) {
            uint64_t least = load(&allowed);
            uint32_t got = ((uint32_t(*)(void))(uintptr_t)CODE)();
            wrong += got < least || got < last;
            last = got;
        }
        __atomic_fetch_add(&progress, 1, __ATOMIC_RELEASE);
    }
    return none;
}

/* Locked additions across the border of two pages, of both threads. */
static void add_across(void)
{
    for (int i = 0; i < 3000; i++)
        __asm__ volatile("lock addq $1, (%0)" : : "r"(SHARED + PAGE - 3ul) : "memory", "cc");
}

static void *add_beside(void *none)
{
    add_across();
    return none;
}

void races(void)
{
    struct sigaction action = {.sa_sigaction = skip_store, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    fixed(SHARED, 2 * PAGE, PROT_READ | PROT_WRITE);
    fixed(CODE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    beside(store_always, forbid_stores);
    printf("stores into a read-only page: %lu\n", wrong);
    signal(SIGSEGV, SIG_DFL);
    allowed = 0;
    beside(read_always, replace_page);
    printf("reads of a page that was replaced: %lu\n", wrong);
    allowed = 0;
    memcpy((void *)CODE, "\x31\xc0\xc3", 3);
    beside(call_patched, patch_code);
    printf("calls of patched code: %lu wrong\n", wrong);
    allowed = 0;
    memcpy((void *)CODE, "\x31\xc0\xc3", 3);
    beside(call_always, replace_code);
    printf("calls of code that was replaced: %lu\n", wrong);
    memset((void *)SHARED, 0, PAGE);
    mmap((void *)SHARED, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    beside(add_beside, add_across);
    uint64_t sum;
    memcpy(&sum, (void *)(SHARED + PAGE - 3), 8);
    printf("locked additions across pages: %lu\n", sum);
}
