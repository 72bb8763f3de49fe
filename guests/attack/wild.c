/*
 * Accesses that are right until the code is hot, and then go where they may not: every kind of instruction with
 * every kind of bad address. Each line shows signal, code, error code and address as Linux gives them, and a
 * hash of the registers at the fault.
 */
#define _GNU_SOURCE
#include "attack.h"
#include <asm/prctl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum {
    CODE = 0x21000000,
    DATA = 0x11000000,  /* two pages, the next is forbidden */
    QUIET = 0x12000000, /* read-only */
    HOT = 64,
};

/* An instruction or some that use [rax]. `jumps`: rax is where to go. */
struct use {
    const char *name, *bytes;
    size_t size;
    int jumps;
};

#define USE(name, bytes) {name, bytes, sizeof bytes - 1, 0}
#define JUMP(name, bytes) {name, bytes, sizeof bytes - 1, 1}

static const struct use uses[] = {
    USE("load 1", "\x8a\x08"),
    USE("load 2", "\x66\x8b\x08"),
    USE("load 4", "\x8b\x08"),
    USE("load 8", "\x48\x8b\x08"),
    USE("load 8 behind", "\x48\x8b\x48\x08"),
    USE("load 8 indexed", "\x48\x8b\x0c\x28"), /* [rax + rbp], rbp = 0 */
    USE("store 1", "\x88\x08"),
    USE("store 4", "\x89\x08"),
    USE("store 8", "\x48\x89\x08"),
    USE("store immediate", "\xc7\x00\x01\x02\x03\x04"),
    USE("add to memory", "\x48\x01\x08"),
    USE("lock xadd", "\xf0\x48\x0f\xc1\x08"),
    USE("lock cmpxchg", "\xf0\x48\x0f\xb1\x08"),
    USE("cmpxchg16b", "\x48\x0f\xc7\x08"),
    USE("xchg", "\x48\x87\x08"),
    USE("push memory", "\xff\x30\x59"),
    USE("pop memory", "\x51\x8f\x00"),
    USE("bts", "\x48\x0f\xba\x28\x03"),
    USE("cmov", "\x48\x0f\x44\x08"),
    USE("setc", "\x0f\x92\x00"),
    USE("movups load", "\x0f\x10\x08"),
    USE("movups store", "\x0f\x11\x08"),
    USE("movaps load", "\x0f\x28\x08"),
    USE("movaps store", "\x0f\x29\x08"),
    USE("paddd", "\x66\x0f\xfe\x08"),
    USE("movsd load", "\xf2\x0f\x10\x08"),
    USE("fld extended", "\xdb\x28\xdd\xd8"),
    USE("fstp extended", "\xd9\xee\xdb\x38"),
    USE("fild", "\xdf\x28\xdd\xd8"),
    USE("prefetch", "\x0f\x18\x08"),
    USE("nop", "\x0f\x1f\x00"),
    USE("lea", "\x48\x8d\x08"),
    USE("movsb from", "\x56\x57\x48\x89\xc6\x4c\x89\xc7\xa4\x5f\x5e"), /* push rsi, rdi; … rdi = r8 */
    USE("rep movsb to", "\x56\x57\x48\x89\xc7\x4c\x89\xc6\xb9\x20\x00\x00\x00\xf3\xa4\x5f\x5e"),
    USE("rep stosq", "\x57\x48\x89\xc7\xb9\x04\x00\x00\x00\xf3\x48\xab\x5f"),
    USE("repne scasb", "\x57\x48\x89\xc7\xb9\x20\x00\x00\x00\xf2\xae\x5f"),
    USE("push with rsp there", "\x48\x94\x51\x48\x94"), /* xchg rsp, rax; push rcx; xchg rsp, rax */
    USE("pop with rsp there", "\x48\x94\x59\x48\x94"),
    USE("call with rsp there", "\x48\x94\x41\xff\xd1\x48\x94"), /* call r9 */
    USE("address of 32 bits", "\x67\x8b\x48\x08"),
    USE("gs", "\x65\x48\x8b\x08"),
    JUMP("jmp", "\xff\xe0"),
    JUMP("call", "\xff\xd0"),
    JUMP("ret", "\x50\xc3"),
};

static const uint64_t places[] = {
    0x0000000000000000,         0x0000000000000ffd,         DATA + 2 * PAGE - 1, DATA + 2 * PAGE - 3,
    DATA + 2 * PAGE - 15,       DATA + PAGE - 3,            DATA + 9,            QUIET,
    QUIET + PAGE - 2,           0x00007ffffffffffc,         0x0000800000000000,  0x00007fffffffeffd,
    0x0000900012345678,         0xffff7ffffffffffe,         0xffff800000000000,  0xfffffffffffffffc,
    0xffffffffffffffff,         0x8000000000000000,         0x0123456700000000 + DATA,
    0xffffffff00000000 + DATA,  0x0000000100000000 + DATA,  0xffffffffff600000 - 8,
};

static unsigned char *after;
static volatile unsigned faults;
static uint64_t registers_hash;
static siginfo_t first_info;
static uint64_t first_error, first_offset;

/* Addresses of our stack differ from run to run: what counts is how far they are from where it was. */
static uint64_t apart_from(greg_t value, greg_t stack)
{
    return (uint64_t)(value > stack - PAGE && value < stack + PAGE ? value - stack : value);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t hash = 5;
    for (int i = REG_R8; i < REG_RIP; i++)
        hash = mix(hash, apart_from(registers[i], registers[REG_R15]));
    first_info = *info;
    first_error = (uint64_t)registers[REG_ERR];
    first_offset = (uint64_t)registers[REG_RIP];
    registers_hash = hash;
    faults++;
    registers[REG_RIP] = (greg_t)(uintptr_t)after;
    registers[REG_RSP] = registers[REG_R15];
    registers[REG_RBP] = 0;
    registers[REG_RDI] = (greg_t)DATA + 0x800;
    registers[REG_RSI] = registers[REG_R14];
}

static unsigned char *put(unsigned char *at, const char *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

#define PUT(at, bytes) put(at, bytes, sizeof bytes - 1)

/* void f(rdi: pointers, rsi: count): a loop of the use; what it keeps is in r10 … r15. */
static void build(const struct use *use)
{
    unsigned char *at = (unsigned char *)(uintptr_t)CODE;
    at = PUT(at, "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57"); /* push rbx, rbp, r12 … r15 */
    at = PUT(at, "\x49\x89\xfc\x49\x89\xf5\x49\x89\xe7");     /* mov r12, rdi; mov r13, rsi; mov r15, rsp */
    at = PUT(at, "\x0f\x57\xc0\x0f\x57\xc9\xdb\xe3"); /* xorps xmm0, xmm0; xorps xmm1, xmm1; fninit */
    at = PUT(at, "\x31\xc0\x31\xc9\x31\xd2\x31\xdb\x31\xed\x31\xf6\x31\xff");
    at = PUT(at, "\x49\xb8\x00\x08\x00\x11\0\0\0\0");   /* mov r8, DATA + 0x800 */
    at = PUT(at, "\x49\xb9\x00\x0f\x00\x21\0\0\0\0");   /* mov r9, CODE + 0xf00 */
    at = PUT(at, "\x45\x31\xd2\x45\x31\xdb\x49\x89\xf6"); /* xor r10d; xor r11d; mov r14, rsi */
    unsigned char *top = at;
    at = PUT(at, "\x49\x8b\x04\x24\x49\x83\xc4\x08\x48\x39\xd2"); /* mov rax, [r12]; add r12, 8; cmp rdx, rdx */
    at = put(at, use->bytes, use->size);
    after = at;
    if (use->jumps)
        at = PUT(at, "\x90");
    at = PUT(at, "\x49\xff\xcd\x0f\x85"); /* dec r13; jnz top */
    int32_t distance = (int32_t)(top - at - 4);
    memcpy(at, &distance, 4);
    at += 4;
    PUT(at, "\x4c\x89\xfc\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3");
    ((unsigned char *)(uintptr_t)CODE)[0xf00] = 0xc3;
}

static void try_place(const struct use *use, uint64_t place)
{
    static uint64_t pointers[HOT + 4];
    for (int i = 0; i < HOT + 4; i++)
        pointers[i] = use->jumps ? strcmp(use->name, "call") == 0 ? CODE + 0xf00 : (uint64_t)(uintptr_t)after
                                 : DATA + 0x400 + (unsigned)i % 8 * 16;
    memset((void *)(uintptr_t)DATA, 7, 2 * PAGE);
    pointers[HOT] = place;
    faults = 0;
    first_info.si_signo = 0;
    registers_hash = 0;
    void (*run)(uint64_t *, uint64_t) = (void (*)(uint64_t *, uint64_t))(uintptr_t)CODE;
    run(pointers, HOT + 4);
    uint64_t memory = hash_bytes((void *)(uintptr_t)DATA, 2 * PAGE);
    printf("%s at %016lx: ", use->name, place);
    if (first_info.si_signo == 0)
        printf("fine, %08x\n", (unsigned)memory);
    else
        printf("signal %d, code %d, error %lx, address %p, offset %lx, %08x %08x, faults %u\n", first_info.si_signo,
               first_info.si_code, first_error, first_info.si_addr,
               first_offset - CODE < PAGE ? first_offset - CODE : first_offset, (unsigned)registers_hash,
               (unsigned)memory, faults);
}

static void catch_all(void)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    sigaltstack(&stack, NULL);
    for (int i = 0; i < 5; i++)
        sigaction(numbers[i], &action, NULL);
}

void wild_addresses(void)
{
    fixed(CODE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    fixed(DATA, 3 * PAGE, PROT_READ | PROT_WRITE);
    fixed(QUIET, PAGE, PROT_READ);
    mprotect((void *)(uintptr_t)(DATA + 2 * PAGE), PAGE, PROT_NONE);
    if (syscall(SYS_arch_prctl, ARCH_SET_GS, 0x10) != 0)
        fail("ARCH_SET_GS");
    catch_all();
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        for (size_t j = 0; j < sizeof places / sizeof *places; j++) {
            /* Fetching there, Linux answers by itself or not, as it is configured. */
            if (uses[i].jumps && places[j] >= DATA && places[j] < QUIET + PAGE)
                continue;
            build(&uses[i]);
            try_place(&uses[i], places[j]);
        }
    syscall(SYS_arch_prctl, ARCH_SET_GS, 0);
}

/* The base of GS changes while the code that uses it stays hot. */
void segment_bases(void)
{
    static uint64_t words[1024];
    for (unsigned i = 0; i < 1024; i++)
        words[i] = i * 3;
    uint64_t hash = 1;
    for (unsigned round = 0; round < 400; round++) {
        uint64_t base = (uint64_t)(uintptr_t)&words[round % 50], far = 0x700000000000, value, wrapped, narrow;
        syscall(SYS_arch_prctl, ARCH_SET_GS, base);
        for (uint64_t i = 0; i < 100; i++) {
            __asm__ volatile("mov %%gs:(%1), %0" : "=r"(value) : "r"(i * 8));
            hash = mix(hash, value);
        }
        syscall(SYS_arch_prctl, ARCH_SET_GS, far);
        __asm__ volatile("mov %%gs:(%1), %0" : "=r"(wrapped) : "r"(base - far));
        /* An address of 32 bits is cut before the base is added. */
        syscall(SYS_arch_prctl, ARCH_SET_GS, base);
        __asm__ volatile("mov %%gs:16(%k1), %0" : "=r"(narrow) : "r"(0xabcdef00fffffff8u));
        hash = mix(mix(hash, wrapped), narrow);
    }
    syscall(SYS_arch_prctl, ARCH_SET_GS, 0);
    printf("bases of GS: %016lx\n", hash);
}
