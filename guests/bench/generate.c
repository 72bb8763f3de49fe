/*
 * Programs that write code and run it: compilers at run time, patched calls, pages whose rights change.
 *
 * A small emitter writes `uint64_t f(uint64_t rdi)`: a chain of additions, multiplications, exclusive-ors and
 * rotations with constants.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, AREA = 256 * 1024 };

typedef uint64_t function(uint64_t);

static unsigned char *area, *twin;

/* Writable and executable, by two addresses: what is written by `twin` appears at `area`. */
static void make_area(void)
{
    if (area != NULL)
        return;
    int file = memfd_create("code", 0);
    if (file < 0 || ftruncate(file, AREA) != 0)
        fail("memfd");
    area = mmap(NULL, AREA, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, file, 0);
    twin = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (area == MAP_FAILED || twin == MAP_FAILED)
        fail("mmap");
    close(file);
}

static unsigned char *emit(unsigned char *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

static unsigned char *emit_constant(unsigned char *at, const void *opcode, size_t size, uint32_t constant)
{
    return emit(emit(at, opcode, size), &constant, 4);
}

/* `steps` instructions before ret. A first one without effect differs each time: no two are the same code. */
static unsigned char *emit_function(unsigned char *at, uint64_t seed, int steps)
{
    static uint32_t serial;
    struct numbers numbers = {seed | 1};
    at = emit_constant(at, "\xb8", 1, serial++); /* mov eax, imm */
    at = emit(at, "\x48\x89\xf8", 3); /* mov rax, rdi */
    for (int i = 0; i < steps; i++) {
        uint64_t number = next(&numbers);
        switch (number >> 62) {
        case 0: at = emit_constant(at, "\x48\x05", 2, (uint32_t)number); break;           /* add rax, imm */
        case 1: at = emit_constant(at, "\x48\x35", 2, (uint32_t)number); break;           /* xor rax, imm */
        case 2: at = emit_constant(at, "\x48\x69\xc0", 3, (uint32_t)number | 1); break;   /* imul rax, rax, imm */
        default: at = emit(at, "\x48\xc1\xc0\x0b", 4); break;                             /* rol rax, 11 */
        }
    }
    return emit(at, "\xc3", 1);
}

static uint64_t call(const unsigned char *code, uint64_t value)
{
    __asm__ volatile("" : : : "memory");
    return ((function *)(uintptr_t)code)(value);
}

/* Each function is called once: the price of new code. */
static uint64_t fresh(void)
{
    uint64_t hash = 1;
    unsigned char *at = area;
    for (uint64_t i = 0; i < 60; i++) {
        unsigned char *end = emit_function(at, i * 77 + 5, 32);
        hash = mix(hash, call(at, hash));
        at = end;
    }
    return hash;
}

/* And new on new pages. */
static uint64_t fresh_pages(void)
{
    uint64_t hash = 2;
    for (uint64_t i = 0; i < 8; i++) {
        unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        emit_function(page + i * 64, i + 900, 32);
        hash = mix(hash, call(page + i * 64, hash));
        munmap(page, PAGE);
    }
    return hash;
}

static uint64_t patched_constant(void)
{
    emit(area, "\x48\x89\xf8\x48\x05\0\0\0\0\xc3", 10); /* mov rax, rdi; add rax, imm; ret */
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 300; i++) {
        memcpy(area + 5, &i, 4);
        sum = call(area, sum);
    }
    return sum;
}

/* The same through the other address. */
static uint64_t patched_by_alias(void)
{
    emit(twin + PAGE, "\x48\x89\xf8\x48\x05\0\0\0\0\xc3", 10);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 300; i++) {
        memcpy(twin + PAGE + 5, &i, 4);
        sum = call(area + PAGE, sum);
    }
    return sum;
}

/* A call whose target changes after every 50 calls, as inline caches do. */
static uint64_t patched_call(void)
{
    unsigned char *site = area + 2 * PAGE, *first = area + 3 * PAGE, *second = area + 4 * PAGE;
    emit_function(first, 31, 8);
    emit_function(second, 32, 8);
    emit(site, "\x48\x83\xec\x08\xe8\0\0\0\0\x48\x83\xc4\x08\xc3", 14); /* sub rsp, 8; call; add rsp, 8; ret */
    uint64_t value = 3;
    for (int i = 0; i < 30; i++) {
        int32_t distance = (int32_t)((i & 1 ? second : first) - (site + 9));
        memcpy(site + 5, &distance, 4);
        for (int j = 0; j < 50; j++)
            value = call(site, value);
    }
    return value;
}

static int asked[2], answered[2];

static uint64_t call_often(unsigned char *code, uint64_t value)
{
    for (int i = 0; i < 40; i++)
        value = call(code, value);
    return value;
}

/* Another process, which does not have the code, and answers when it is asked. */
static void make_partner(void)
{
    make_area();
    if (asked[1] != 0)
        return;
    if (pipe(asked) != 0 || pipe(answered) != 0)
        fail("pipe");
    if (fork() == 0) {
        uint64_t value;
        close(asked[1]);
        close(answered[0]);
        munmap(area, AREA);
        while (read(asked[0], &value, sizeof value) == sizeof value) {
            value = mix(value, 1);
            if (write(answered[1], &value, sizeof value) != sizeof value)
                break;
        }
        _exit(0);
    }
    close(asked[0]);
    close(answered[1]);
}

/* Code that changes while another address space comes and goes: whoever comes back to it finds what it is now. */
static uint64_t patched_between_switches(void)
{
    uint64_t value = 9;
    emit_function(twin + 5 * PAGE, 60, 8);
    for (uint64_t i = 0; i < 20; i++) {
        value = call_often(area + 5 * PAGE, value);
        emit_function(twin + 5 * PAGE, i + 61, 8);
        value = call_often(area + 5 * PAGE, value);
        if (write(asked[1], &value, sizeof value) != sizeof value
            || read(answered[0], &value, sizeof value) != sizeof value)
            fail("partner");
    }
    return value;
}

/* Never writable and executable at once. */
static uint64_t write_then_protect(void)
{
    static unsigned char *page;
    if (page == NULL)
        page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t hash = 4;
    for (uint64_t i = 0; i < 8; i++) {
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
        emit_function(page, i + 40, 20);
        mprotect(page, PAGE, PROT_READ | PROT_EXEC);
        for (int j = 0; j < 20; j++)
            hash = mix(hash, call(page, hash));
    }
    return hash;
}

/* Four hundred functions in turn: more code than a small cache of it holds. */
static void make_many(void)
{
    make_area();
    for (uint64_t i = 0; i < 400; i++)
        emit_function(area + 64 * 1024 + i * 256, i + 500, 24);
}

static uint64_t many_functions(void)
{
    uint64_t value = 5;
    for (uint64_t i = 0; i < 2000; i++)
        value = call(area + 64 * 1024 + (i * 171 + (value & 3)) % 400 * 256, value);
    return value;
}

/* Data in the page of the code that writes it: writes that change no code. */
static uint64_t data_beside_code(void)
{
    unsigned char *code = area + 5 * PAGE;
    emit(code, "\x48\x8b\x05\xf9\x07\x00\x00", 7);  /* mov rax, [code + 0x800] */
    emit(code + 7, "\x48\x01\xf8", 3);              /* add rax, rdi */
    emit(code + 10, "\x48\x89\x05\xef\x07\0\0", 7); /* mov [code + 0x800], rax */
    emit(code + 17, "\xc3", 1);
    memset(code + 0x800, 0, 8);
    uint64_t value = 6;
    for (uint64_t i = 0; i < 400; i++)
        value = call(code, value + i);
    return value;
}

/* A compiler of formulas: emits a loop over an array, which then runs. */
static uint64_t compiled_loop(void)
{
    static uint64_t data[256];
    uint64_t hash = 7;
    for (uint64_t round = 0; round < 4; round++) {
        unsigned char *code = area + 6 * PAGE + round * 512, *at = code;
        struct numbers numbers = {round + 70};
        at = emit(at, "\x31\xc0\xb9\x00\x01\x00\x00", 7); /* xor eax, eax; mov ecx, 256 */
        unsigned char *top = at;
        at = emit(at, "\x48\x03\x07", 3); /* add rax, [rdi] */
        for (int i = 0; i < 6; i++)
            at = emit_constant(at, "\x48\x35", 2, (uint32_t)next(&numbers)); /* xor rax, imm */
        at = emit(at, "\x48\xc1\xc0\x05\x48\x89\x07", 7);                    /* rol rax, 5; mov [rdi], rax */
        at = emit(at, "\x48\x83\xc7\x08\xff\xc9\x75", 7);                    /* add rdi, 8; dec ecx; jnz */
        unsigned char back = (unsigned char)(top - (at + 1));
        at = emit(at, &back, 1);
        emit(at, "\xc3", 1);
        for (uint64_t i = 0; i < 256; i++)
            data[i] = i * round;
        for (int i = 0; i < 8; i++)
            hash = mix(hash, call(code, (uint64_t)(uintptr_t)data));
    }
    return hash;
}

static const struct row rows[] = {
    {"fresh", fresh, make_area},
    {"fresh-pages", fresh_pages, NULL},
    {"patched-constant", patched_constant, make_area},
    {"patched-by-alias", patched_by_alias, make_area},
    {"patched-call", patched_call, make_area},
    {"patched-between-switches", patched_between_switches, make_partner},
    {"write-then-protect", write_then_protect, NULL},
    {"many-functions", many_functions, make_many},
    {"data-beside-code", data_beside_code, make_area},
    {"compiled-loop", compiled_loop, make_area},
};

const struct group generate_group = GROUP("generate", rows);
