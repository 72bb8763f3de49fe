/*
 * Code that changes while it is hot: by the code itself, by the kernel on its behalf, through another address,
 * by other mappings and other processes. Each line counts wrong results, which are none on the host.
 */
#define _GNU_SOURCE
#include "attack.h"
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { HERE = 0x23000000, THERE = 0x24000000, HOT = 200 };

typedef uint32_t give(void);

static unsigned char *page_at(uintptr_t address) { return (unsigned char *)address; }

/* mov eax, value; ret */
static void write_give(unsigned char *at, uint32_t value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static uint32_t call(const unsigned char *at)
{
    __asm__ volatile("" : : : "memory");
    return ((give *)(uintptr_t)at)();
}

/* How many of the calls do not give `value`. */
static unsigned wrong_of(const unsigned char *at, uint32_t value)
{
    unsigned wrong = 0;
    for (int i = 0; i < HOT; i++)
        wrong += call(at) != value;
    return wrong;
}

static int code_file(void)
{
    int file = memfd_create("code", 0);
    if (file < 0 || ftruncate(file, 4 * PAGE) != 0)
        fail("memfd");
    return file;
}

static void map_at(uintptr_t address, int file, off_t from, int rights, int kind)
{
    void *got = mmap((void *)address, PAGE, rights, kind | MAP_FIXED, file, from);
    if (got != (void *)address)
        fail("mmap");
}

enum { RWX = PROT_READ | PROT_WRITE | PROT_EXEC, RX = PROT_READ | PROT_EXEC };

static void by_itself(void)
{
    unsigned char *at = page_at(HERE);
    unsigned wrong = 0;
    map_at(HERE, -1, 0, RWX, MAP_PRIVATE | MAP_ANONYMOUS);
    /* mov [rip + 1], edi; mov eax, imm: the next instruction's constant */
    memcpy(at, "\x89\x3d\x01\x00\x00\x00\xb8\x00\x00\x00\x00\xc3", 12);
    for (uint32_t i = 0; i < 1000; i++)
        wrong += ((uint32_t(*)(uint32_t))(uintptr_t)at)(i) != i;
    /* A loop that changes a constant further ahead in itself:
     * mov ecx, 50; 1: add dword [rip + 6], 1; add eax, 0 (imm32); loop 1b; ret; after mov eax, 0 */
    memcpy(at + 64, "\x31\xc0\xb9\x32\x00\x00\x00\x83\x05\x01\x00\x00\x00\x01\x05\x00\x00\x00\x00\xe2\xf2\xc3", 22);
    for (uint32_t i = 0; i < 40; i++) {
        memset(at + 64 + 15, 0, 4);
        wrong += call(at + 64) != 50 * 51 / 2;
    }
    printf("code that changes itself: %u wrong\n", wrong);
}

static void across_pages(void)
{
    unsigned wrong = 0;
    map_at(HERE, -1, 0, RWX, MAP_PRIVATE | MAP_ANONYMOUS);
    map_at(HERE + PAGE, -1, 0, RWX, MAP_PRIVATE | MAP_ANONYMOUS);
    for (unsigned before = 1; before < 6; before++) {
        unsigned char *at = page_at(HERE + PAGE - before);
        for (uint32_t i = 0; i < 20; i++) {
            write_give(at, i * 0x01010101 + before);
            wrong += wrong_of(at, i * 0x01010101 + before);
            /* only the second page */
            at[4] ^= 0x40;
            wrong += wrong_of(at, (i * 0x01010101 + before) ^ 0x40000000);
        }
    }
    /* The second page is another one. */
    int file = code_file();
    unsigned char *at = page_at(HERE + PAGE - 2);
    for (uint32_t i = 0; i < 40; i++) {
        unsigned char rest[] = {0, 0, (unsigned char)i, 0xc3};
        if (pwrite(file, rest, 4, (i % 4) * PAGE) != 4)
            fail("pwrite");
        map_at(HERE + PAGE, file, (i % 4) * PAGE, RX, MAP_SHARED);
        at[0] = 0xb8;
        at[1] = 7;
        wrong += wrong_of(at, i << 24 | 7);
    }
    close(file);
    printf("instructions across pages: %u wrong\n", wrong);
}

static void by_kernel(void)
{
    unsigned wrong = 0;
    int file = code_file(), ends[2];
    unsigned char text[6];
    if (pipe(ends) != 0)
        fail("pipe");
    map_at(HERE, -1, 0, RWX, MAP_PRIVATE | MAP_ANONYMOUS);
    map_at(THERE, file, 0, RX, MAP_SHARED);
    for (uint32_t i = 0; i < 60; i++) {
        write_give(text, i * 3);
        /* read() into code */
        if (write(ends[1], text, 6) != 6 || read(ends[0], page_at(HERE), 6) != 6)
            fail("pipe");
        wrong += wrong_of(page_at(HERE), i * 3);
        /* write() to the file that is mapped */
        if (pwrite(file, text, 6, 0) != 6)
            fail("pwrite");
        wrong += wrong_of(page_at(THERE), i * 3);
        write_give(text, i * 5);
        struct iovec from = {text, 6}, to = {page_at(HERE), 6};
        if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) != 6)
            memcpy(page_at(HERE), text, 6);
        wrong += wrong_of(page_at(HERE), i * 5);
    }
    close(file);
    close(ends[0]);
    close(ends[1]);
    printf("code that the kernel writes: %u wrong\n", wrong);
}

/* One page of memory at two addresses; code that knows where it runs. */
static void two_addresses(void)
{
    unsigned wrong = 0;
    int file = code_file();
    map_at(HERE, file, 0, RWX, MAP_SHARED);
    map_at(THERE, file, 0, RWX, MAP_SHARED);
    /* lea rax, [rip]; call 1f; 1: pop rcx; sub rax, rcx; shl rax, 32; or rax, rcx: where it runs */
    static const char where[] = "\x48\x8d\x05\0\0\0\0\xe8\0\0\0\0\x59\x48\x29\xc8\x89\xc0\x48\xc1\xe0\x20\x48\x09\xc8\xc3";
    memcpy(page_at(HERE), where, sizeof where);
    for (int round = 0; round < 300; round++)
        for (int i = 0; i < 4; i++) {
            uintptr_t address = i % 2 ? HERE : THERE;
            uint64_t got = ((uint64_t(*)(void))address)(), expected = (uint64_t)(uint32_t)-5 << 32 | (address + 12);
            wrong += got != expected;
        }
    /* rip-relative data: each address has its own page behind */
    map_at(HERE + PAGE, -1, 0, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    map_at(THERE + PAGE, -1, 0, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    memcpy(page_at(HERE), "\x8b\x05\xfa\x0f\x00\x00\xff\x05\xf4\x0f\x00\x00\xc3", 13); /* mov eax, [next page]; inc [] */
    uint32_t *here = (uint32_t *)page_at(HERE + PAGE), *there = (uint32_t *)page_at(THERE + PAGE);
    *here = 1000;
    *there = 5000;
    for (uint32_t i = 0; i < 500; i++) {
        wrong += call(page_at(HERE)) != 1000 + i;
        wrong += call(page_at(THERE)) != 5000 + i;
    }
    /* and writes by one address are seen by the other */
    for (uint32_t i = 0; i < 100; i++) {
        write_give(page_at(HERE), i);
        wrong += wrong_of(page_at(THERE), i);
        write_give(page_at(THERE), ~i);
        wrong += wrong_of(page_at(HERE), ~i);
    }
    close(file);
    printf("one page at two addresses: %u wrong\n", wrong);
}

static sigjmp_buf back;
static volatile int signal_seen, code_seen;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    signal_seen = number;
    code_seen = info->si_code;
    siglongjmp(back, 1);
}

static unsigned faults_with(const unsigned char *at, int number, int code)
{
    signal_seen = 0;
    if (sigsetjmp(back, 1) == 0)
        call(at);
    return signal_seen != number || code_seen != code;
}

static void other_mappings(void)
{
    unsigned wrong = 0;
    int file = code_file();
    unsigned char text[6];
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, before;
    sigaction(SIGSEGV, &action, &before);
    for (uint32_t i = 0; i < 4; i++) {
        write_give(text, 100 + i);
        if (pwrite(file, text, 6, i * PAGE) != 6)
            fail("pwrite");
    }
    for (uint32_t i = 0; i < 60; i++) {
        map_at(HERE, file, i % 4 * PAGE, RX, MAP_SHARED);
        wrong += wrong_of(page_at(HERE), 100 + i % 4);
        /* moved elsewhere, and gone from here */
        munmap(page_at(THERE), 2 * PAGE);
        if (mremap(page_at(HERE), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page_at(THERE)) == MAP_FAILED)
            fail("mremap");
        wrong += wrong_of(page_at(THERE), 100 + i % 4);
        wrong += faults_with(page_at(HERE), SIGSEGV, SEGV_MAPERR);
        mprotect(page_at(THERE), PAGE, PROT_READ);
        wrong += faults_with(page_at(THERE), SIGSEGV, SEGV_ACCERR);
        mprotect(page_at(THERE), PAGE, RX);
        wrong += wrong_of(page_at(THERE), 100 + i % 4);
        /* a private copy, changed and thrown away */
        map_at(HERE, file, i % 4 * PAGE, RWX, MAP_PRIVATE);
        wrong += wrong_of(page_at(HERE), 100 + i % 4);
        write_give(page_at(HERE), 7);
        wrong += wrong_of(page_at(HERE), 7);
        wrong += wrong_of(page_at(THERE), 100 + i % 4);
        madvise(page_at(HERE), PAGE, MADV_DONTNEED);
        wrong += wrong_of(page_at(HERE), 100 + i % 4);
    }
    sigaction(SIGSEGV, &before, NULL);
    close(file);
    printf("other mappings: %u wrong\n", wrong);
}

/* Parent and child run different code at one address, in turns. */
static void other_processes(void)
{
    unsigned wrong = 0;
    map_at(HERE, -1, 0, RWX, MAP_PRIVATE | MAP_ANONYMOUS);
    write_give(page_at(HERE), 1);
    wrong += wrong_of(page_at(HERE), 1);
    for (uint32_t round = 0; round < 10; round++) {
        pid_t child = fork();
        uint32_t mine = round * 2 + (child == 0);
        unsigned bad = 0;
        write_give(page_at(HERE), mine);
        for (int i = 0; i < 20; i++) {
            bad += wrong_of(page_at(HERE), mine);
            write_give(page_at(HERE), mine += 1000);
            sched_yield();
        }
        if (child == 0)
            _exit(bad != 0);
        int status;
        waitpid(child, &status, 0);
        wrong += bad + (status != 0);
    }
    printf("two processes at one address: %u wrong\n", wrong);
}

/* Stores beside hot code, in its page and its cache line, change nothing; then one that does. */
static void neighbours(void)
{
    unsigned wrong = 0;
    unsigned char *at = page_at(HERE);
    map_at(HERE, -1, 0, RWX, MAP_PRIVATE | MAP_ANONYMOUS);
    for (unsigned place = 0; place < 256; place += 16)
        write_give(at + place, place);
    for (uint32_t i = 0; i < 20000; i++) {
        unsigned place = i % 16 * 16;
        at[place + 8] = (unsigned char)i;
        *(volatile uint64_t *)(at + 1024 + i % 256 * 8) = i;
        wrong += call(at + place) != (place | (i / 5000) << 8);
        if (i % 5000 == 4999)
            for (unsigned other = 0; other < 256; other += 16)
                at[other + 2] = (unsigned char)(i / 5000 + 1);
    }
    printf("stores beside code: %u wrong\n", wrong);
}

void changed_code(void)
{
    fixed(HERE, 2 * PAGE, RWX);
    fixed(THERE, 2 * PAGE, RWX);
    by_itself();
    across_pages();
    by_kernel();
    two_addresses();
    other_mappings();
    other_processes();
    neighbours();
}

/* Functions without an end in 128 MiB, each hot and never run again. */
int flood(unsigned seconds)
{
    enum { AREA = 128 << 20 };
    unsigned char *area = mmap(NULL, AREA, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at = area;
    uint64_t count = 0, wrong = 0;
    for (time_t end = time(NULL) + (time_t)seconds; time(NULL) < end;) {
        for (int i = 0; i < 256; i++, count++) {
            unsigned char *start = at;
            for (int j = 0; j < 24; j++) { /* lea eax, [rax + imm] */
                *at++ = 0x8d;
                *at++ = 0x80;
                memcpy(at, &count, 4);
                at += 4;
            }
            *at++ = 0xc3;
            uint32_t got = 0;
            for (int j = 0; j < 64; j++)
                __asm__ volatile("xor %%eax, %%eax; call *%1" : "=&a"(got) : "r"(start) : "memory", "cc");
            wrong += got != 24 * (uint32_t)count;
            at = at > area + AREA - PAGE ? area : at;
        }
    }
    printf("flood: %lu functions, %lu wrong\n", count, wrong);
    return wrong != 0;
}
