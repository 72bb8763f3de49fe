/*
 * Random programs, each run until any translator has found it hot, with its pages taken away and given back.
 *
 *   code  0x20000000   prologue: own stack, all registers from `state`
 *                      some dozen random instructions, branches forward, perhaps a loop around them
 *                      epilogue: all registers to `state`
 *   data  0x10000000   four pages; one of them may be forbidden or read-only until the first fault there
 *   stack 0x30000000   one page
 *
 * At a fault the handler hashes the registers and the address, mends the page and goes on. So what is compared is
 * every register at every fault and after every run, and the memory at the end. A timer interrupts some runs.
 *
 * Flags that an instruction leaves undefined are tracked, and never read: a comparison is put in before.
 * r13 and r14 point into the data, r12 is a small index; they and rsp are not written by random instructions.
 */
#define _GNU_SOURCE
#include "attack.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

enum {
    CODE = 0x20000000,
    DATA = 0x10000000,
    STACK = 0x30000000,
    DATA_PAGES = 4,
    CODE_SIZE = 8 * PAGE,
    RUNS = 40,
};

enum { CF = 1, PF = 4, AF = 16, ZF = 64, SF = 128, OF = 2048, ALL = CF | PF | AF | ZF | SF | OF };
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R12 = 12, R13, R14 };

/* What the prologue loads and the epilogue stores. At a fixed address, so that code needs no register for it. */
struct machine {
    uint64_t registers[16];
    uint64_t flags, host_stack;
    uint32_t mxcsr, loops;
    unsigned char vectors[512] __attribute__((aligned(16))); /* fxsave */
};

enum { STATE = DATA + DATA_PAGES * PAGE };
#define state ((struct machine *)(uintptr_t)STATE)

static unsigned char *at;
static uint64_t numbers;
static unsigned undefined;                     /* flags, at this point of the program */
static uint16_t undefined_at[CODE_SIZE];       /* flags, by instruction */

static unsigned below(unsigned limit) { return (unsigned)(next(&numbers) >> 33) % limit; }

static void byte(unsigned value) { *at++ = (unsigned char)value; }
static void bytes(const char *all, size_t count)
{
    memcpy(at, all, count);
    at += count;
}

static void word32(uint64_t value)
{
    uint32_t word = (uint32_t)value;
    memcpy(at, &word, 4);
    at += 4;
}

/* Where an operand is. */
struct operand {
    enum { REGISTER, BASE, INDEXED, ABSOLUTE, RELATIVE } kind;
    unsigned base;
    int32_t displacement;
    unsigned scale;
};

static struct operand in_register(unsigned number) { return (struct operand){REGISTER, number, 0, 0}; }

static unsigned any_register(void)
{
    static const unsigned char all[] = {0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 15};
    return all[below(sizeof all)];
}

/*
 * prefix (0: none), REX, opcode of one to three bytes (below 0x100, 0x0fXX, 0x0f38XX), ModRM and what belongs
 * to it. `size` 1, 2, 4, 8 sets the operand size; 0 leaves it.
 */
static void encode(unsigned prefix, unsigned size, unsigned opcode, unsigned reg, struct operand where, int immediate)
{
    unsigned rex = 0x40 | (size == 8) << 3 | (reg >> 3) << 2 | (where.kind <= INDEXED ? where.base >> 3 : 0);
    if (where.kind == INDEXED)
        rex |= 2; /* the index is r12 */
    if (prefix != 0)
        byte(prefix);
    if (size == 2)
        byte(0x66);
    if (rex != 0x40 || size == 1)
        byte(rex);
    if (opcode > 0xffff)
        byte(opcode >> 16);
    if (opcode > 0xff)
        byte(opcode >> 8);
    byte(opcode);
    unsigned low = reg % 8 << 3;
    switch (where.kind) {
    case REGISTER:
        byte(0xc0 | low | where.base % 8);
        break;
    case BASE:
        byte(0x80 | low | where.base % 8);
        if (where.base % 8 == RSP)
            byte(0x24);
        word32((uint64_t)where.displacement);
        break;
    case INDEXED:
        byte(0x84 | low);
        byte(where.scale << 6 | R12 % 8 << 3 | where.base % 8);
        word32((uint64_t)where.displacement);
        break;
    case ABSOLUTE:
        byte(0x04 | low);
        byte(0x25);
        word32((uint64_t)where.displacement);
        break;
    case RELATIVE:
        byte(0x05 | low);
        word32((uint64_t)(where.displacement - (int64_t)(uintptr_t)at - 4 - immediate));
        break;
    }
}

/* A place in the data, up to 64 bytes before each page's end or across it. */
static struct operand in_memory(unsigned align)
{
    int32_t offset = (int32_t)below(DATA_PAGES * PAGE - 512);
    if (below(3) == 0)
        offset = (int32_t)(below(DATA_PAGES - 1) + 1) * PAGE - (int32_t)below(20);
    offset &= -(int32_t)align;
    struct operand where = {BASE, R14, offset, 0};
    switch (below(6)) {
    case 0:
        where.base = R13;
        where.displacement -= PAGE - 8;
        break;
    case 1:
        where.kind = INDEXED;
        where.scale = below(4);
        where.displacement &= -64;
        break;
    case 2:
        where.kind = ABSOLUTE;
        where.displacement += DATA;
        break;
    case 3:
        where.kind = RELATIVE;
        where.displacement += DATA;
        break;
    case 4: { /* a base made just before */
        unsigned base = any_register();
        encode(0, 8, 0x8d, base, where, 0);
        where = (struct operand){BASE, base, 0, 0};
        break;
    }
    }
    return where;
}

static struct operand any_operand(void) { return below(2) ? in_memory(1) : in_register(any_register()); }
static unsigned any_size(void) { return 1u << below(4); }

/* Makes all six flags defined. */
static void define_flags(void)
{
    encode(0, 8, 0x83, 7, in_register(any_register()), 1); /* cmp r, imm8 */
    byte(below(256));
    undefined = 0;
}

static void needs(unsigned flags)
{
    if (undefined & flags)
        define_flags();
}

static void immediate(unsigned size)
{
    if (size == 1) {
        byte(below(256));
    } else if (size == 2) {
        byte(below(256));
        byte(below(256));
    } else {
        word32(next(&numbers) >> 20);
    }
}

/* add, or, adc, sbb, and, sub, xor, cmp */
static void arithmetic(void)
{
    unsigned which = below(8), size = any_size(), wide = size > 1;
    if (which == 2 || which == 3)
        needs(CF);
    struct operand where = any_operand();
    switch (below(3)) {
    case 0:
        encode(below(8) == 0 && where.kind != REGISTER && which != 7 ? 0xf0 : 0, size, which * 8 + wide,
               any_register(), where, 0);
        break;
    case 1:
        encode(0, size, which * 8 + 2 + wide, any_register(), where, 0);
        break;
    default:
        encode(0, size, 0x80 + wide, which, where, size == 8 ? 4 : (int)size);
        immediate(size);
    }
    undefined = which == 1 || which == 4 || which == 6 ? AF : 0;
}

static void move(void)
{
    unsigned size = any_size(), wide = size > 1;
    struct operand where = any_operand();
    switch (below(6)) {
    case 0: encode(0, size, 0x88 + wide, any_register(), where, 0); break;
    case 1: encode(0, size, 0x8a + wide, any_register(), where, 0); break;
    case 2: encode(0, size < 2 ? 4 : size, 0x0fb6 + below(2), any_register(), where, 0); break; /* movzx */
    case 3: encode(0, size < 4 ? 4 : size, 0x0fbe + below(2), any_register(), where, 0); break; /* movsx */
    case 4: encode(0, size, 0x86 + wide, any_register(), where, 0); break;                      /* xchg */
    default:
        encode(0, size, 0xc6 + wide, 0, where, size == 8 ? 4 : (int)size);
        immediate(size);
    }
}

static void address(void) { encode(0, 4u << below(2), 0x8d, any_register(), in_memory(1), 0); }

static void shift(void)
{
    static const unsigned char which[] = {0, 1, 2, 3, 4, 5, 7};
    unsigned op = which[below(7)], size = any_size(), wide = size > 1;
    if (op == 2 || op == 3)
        needs(CF);
    needs(ALL); /* a count of zero leaves them */
    struct operand where = any_operand();
    unsigned form = below(3);
    if (form == 0) {
        encode(0, size, 0xd0 + wide, op, where, 0);
        undefined = op > 3 ? AF : 0;
        return;
    }
    if (form == 1) {
        encode(0, size, 0xc0 + wide, op, where, 1);
        byte(below(70));
    } else {
        encode(0, size, 0xd2 + wide, op, where, 0);
    }
    undefined = OF | (op > 3 ? AF : 0) | (op > 3 && size < 4 ? CF : 0);
}

static void double_shift(void)
{
    needs(ALL);
    struct operand where = any_operand();
    unsigned size = 4u << below(2), right = below(2) * 8;
    if (below(2)) {
        encode(0, size, 0x0fa4 + right, any_register(), where, 1);
        byte(below(32));
    } else {
        encode(0, size, 0x0fa5 + right, any_register(), where, 0);
    }
    undefined = OF | AF;
}

/* not, neg, inc, dec */
static void unary(void)
{
    unsigned size = any_size(), wide = size > 1, which = below(4);
    struct operand where = any_operand();
    if (which < 2) {
        encode(0, size, 0xf6 + wide, 2 + which, where, 0);
        undefined = which == 0 ? undefined : 0;
    } else {
        encode(0, size, 0xfe + wide, which - 2, where, 0);
        undefined &= CF;
    }
}

static void multiply(void)
{
    unsigned size = 2u << below(3);
    struct operand where = any_operand();
    switch (below(3)) {
    case 0: encode(0, size, 0x0faf, any_register(), where, 0); break;
    case 1:
        encode(0, size, 0x69, any_register(), where, size == 2 ? 2 : 4);
        immediate(size);
        break;
    default: encode(0, size, 0xf7, 4 + below(2), where, 0);
    }
    undefined = ALL & ~(CF | OF);
}

/* or ecx, 1; xor edx, edx; div rcx */
static void divide(void)
{
    unsigned size = 4u << below(2);
    encode(0, size, 0x83, 1, in_register(RCX), 1);
    byte(1);
    encode(0, 4, 0x31, RDX, in_register(RDX), 0);
    encode(0, size, 0xf7, 6, in_register(RCX), 0);
    undefined = ALL;
}

static void bit_test(void)
{
    unsigned size = 2u << below(3), which = below(4);
    needs(ALL);
    if (below(2)) {
        encode(0, size, 0x0fba, 4 + which, any_operand(), 1);
        byte(below(256));
    } else {
        encode(0, size, 0x0fa3 + which * 8, any_register(), in_register(any_register()), 0);
    }
    undefined = OF | SF | AF | PF;
}

static void bit_count(void)
{
    unsigned size = 2u << below(3);
    if (below(2)) {
        struct operand where = any_operand();
        encode(0, size, 0x0fbc + below(2), any_register(), where, 0);
        undefined = ALL & ~ZF;
    } else {
        unsigned number = any_register(); /* bswap */
        byte(0x48 | number >> 3);
        byte(0x0f);
        byte(0xc8 | number % 8);
    }
}

static void condition(void)
{
    needs(ALL & ~AF);
    unsigned code = below(16);
    struct operand where = any_operand();
    if (below(2))
        encode(0, 1, 0x0f90 + code, 0, where, 0);
    else
        encode(0, 2u << below(3), 0x0f40 + code, any_register(), where, 0);
}

static void exchange(void)
{
    unsigned size = any_size(), wide = size > 1, lock = below(2) ? 0xf0 : 0;
    struct operand where = any_operand();
    if (where.kind == REGISTER)
        lock = 0;
    encode(lock, size, (below(2) ? 0x0fb0 : 0x0fc0) + wide, any_register(), where, 0);
    undefined = 0;
}

/* Flags as a value and back. */
static void flags(void)
{
    needs(ALL);
    switch (below(6)) {
    case 0: byte(0x9f); break; /* lahf */
    case 1:
        byte(0x9e); /* sahf */
        undefined = 0;
        break;
    case 2: byte(0xf5 + 3 * below(2)); break; /* cmc, clc */
    case 3: byte(0xf9); break;                /* stc */
    case 4:
        bytes("\x9c\x58", 2); /* pushfq; pop rax */
        break;
    default:
        bytes("\x68", 1); /* push imm32; popfq */
        word32((below(4096) & ALL) | 0x202);
        byte(0x9d);
    }
}

static void on_stack(void)
{
    unsigned number = any_register(), other = any_register();
    if (number > 7)
        byte(0x41);
    byte(0x50 + number % 8);
    if (below(2))
        encode(0, 8, 0x01, other, (struct operand){BASE, RSP, 0, 0}, 0), undefined = 0;
    if (other > 7)
        byte(0x41);
    byte(0x58 + other % 8);
}

static void push_and_pop_memory(void)
{
    encode(0, 0, 0xff, 6, in_memory(1), 0);
    encode(0, 0, 0x8f, 0, in_memory(1), 0);
}

/* lea rsi, [m]; lea rdi, [m]; mov ecx, n; (rep) movs, stos, lods, scas, cmps */
static void strings(void)
{
    static const unsigned char which[] = {0xa4, 0xaa, 0xac, 0xae, 0xa6};
    unsigned op = which[below(5)], size = any_size();
    struct operand from = {BASE, R14, 1024 + (int32_t)below(2 * PAGE), 0}, to = {BASE, R14, 1024 + (int32_t)below(2 * PAGE), 0};
    encode(0, 8, 0x8d, RSI, from, 0);
    if (op == 0xa6) /* which of two operands is read first is nobody's promise: let one never fault */
        to = (struct operand){BASE, RSP, -1500, 0};
    encode(0, 8, 0x8d, RDI, to, 0);
    byte(0xb8 + RCX);
    word32(below(4) == 0 ? 0 : below(90));
    if (op >= 0xae || op == 0xa6)
        needs(ALL);
    unsigned repeat = below(3), down = below(4) == 0;
    if (down)
        byte(0xfd);
    if (repeat == 1)
        byte(0xf3);
    else if (repeat == 2)
        byte(op == 0xae || op == 0xa6 ? 0xf2 : 0xf3);
    if (size == 2)
        byte(0x66);
    if (size == 8)
        byte(0x48);
    byte(op + (size > 1));
    if (down)
        byte(0xfc);
}

/* SSE and SSE2: moves, arithmetic, shuffles, conversions, comparisons into flags. */
static void vector(void)
{
    static const uint16_t packed[] = {0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f, 0x51, 0x54, 0x55, 0x56, 0x57, 0x14, 0x15};
    static const uint16_t whole[] = {0xfc, 0xfd, 0xfe, 0xd4, 0xf8, 0xf9, 0xfa, 0xfb, 0x74, 0x75, 0x76, 0x60, 0x61, 0x62,
                                     0x6c, 0x6d, 0x63, 0x67, 0x6b, 0xd5, 0xe5, 0xf4, 0xf6, 0xdb, 0xdf, 0xeb, 0xef, 0xda};
    static const unsigned char prefixes[] = {0, 0x66, 0xf3, 0xf2};
    unsigned number = below(16);
    struct operand where = below(2) ? in_memory(16) : in_register(below(16));
    if (where.kind == INDEXED)
        where = in_register(below(16));
    switch (below(6)) {
    case 0: encode(0, 0, below(2) ? 0x0f10 : 0x0f11, number, below(2) ? in_memory(1) : where, 0); break;
    case 1: encode(prefixes[below(4)], 0, 0x0f00 | packed[below(7)], number, where, 0); break;
    case 4: encode(prefixes[below(2)], 0, 0x0f00 | packed[7 + below(6)], number, where, 0); break;
    case 2: encode(0x66, 0, 0x0f00 | whole[below(sizeof whole / 2)], number, where, 0); break;
    case 3:
        encode(0x66, 0, 0x0f70, number, where, 1);
        byte(below(256));
        break;
    default:
        encode(below(2) ? 0x66 : 0, 0, 0x0f2e + below(2), number, where, 0);
        undefined = 0;
    }
}

/* Conversions take general registers on one side; the register number's meaning follows. */
static void conversion(void)
{
    unsigned prefix = below(2) ? 0xf3 : 0xf2, size = 4u << below(2);
    if (below(2))
        encode(prefix, size, 0x0f2a, below(16), any_operand(), 0); /* to vector */
    else
        encode(prefix, size, 0x0f2c + below(2), any_register(), below(2) ? in_memory(1) : in_register(below(16)), 0);
}

static void x87(void)
{
    static const unsigned char arithmetic_ops[] = {0, 1, 4, 5, 6, 7};
    switch (below(6)) {
    case 0: encode(0, 0, below(2) ? 0xd9 : 0xdd, 0, in_memory(1), 0); break;                     /* fld m32, m64 */
    case 1: encode(0, 0, below(2) ? 0xd9 : 0xdd, 2 + below(2), in_memory(1), 0); break;          /* fst(p) */
    case 2: encode(0, 0, below(2) ? 0xd8 : 0xdc, arithmetic_ops[below(6)], in_memory(1), 0); break;
    case 3: encode(0, 0, 0xd8, arithmetic_ops[below(6)], in_register(below(8)), 0); break;
    case 4: encode(0, 0, 0xdb, below(2) ? 0 : 3, in_memory(1), 0); break; /* fild, fistp m32 */
    default:
        encode(0, 0, 0xdb, 5 + below(2), in_register(below(8)), 0); /* fucomi, fcomi */
        undefined = 0;
    }
}

static void rounding(void)
{
    static const uint32_t controls[] = {0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9f80, 0x9fc0, 0x1fc0};
    bytes("\xc7\x04\x25", 3); /* mov dword [STATE.mxcsr], imm */
    word32(STATE + offsetof(struct machine, mxcsr));
    word32(controls[below(7)]);
    bytes("\x0f\xae\x14\x25", 4); /* ldmxcsr */
    word32(STATE + offsetof(struct machine, mxcsr));
}

/* call over a byte, pop what it pushed, or return from a small function. */
static void call(void)
{
    if (below(2)) {
        bytes("\xe8\x01\0\0\0\xcc", 6);
        unsigned number = any_register();
        if (number > 7)
            byte(0x41);
        byte(0x58 + number % 8);
    } else {
        bytes("\xe8\x02\0\0\0\xeb\x04\x48\xff\xc0\xc3", 11); /* call 1f; jmp 2f; 1: inc rax; ret; 2: */
        undefined &= CF;
    }
}

static void small_index(void)
{
    bytes("\x41\xbc", 2); /* mov r12d, imm */
    word32(below(64));
}

typedef void piece(void);
static piece *const pieces[] = {
    arithmetic, arithmetic, arithmetic, arithmetic, move,    move,      move,     address, shift,
    shift,      double_shift, unary,    multiply,   divide,  bit_test,  bit_count, condition, condition,
    exchange,   flags,      on_stack,   push_and_pop_memory, strings,   vector,   vector,  vector,
    conversion, x87,        x87,        rounding,   call,    small_index,
};

static void instruction(void)
{
    unsigned char *start = at;
    unsigned before = undefined;
    pieces[below(sizeof pieces / sizeof *pieces)]();
    for (unsigned char *byte_of = start; byte_of < at; byte_of++)
        undefined_at[byte_of - (unsigned char *)(uintptr_t)CODE] = (uint16_t)(before | undefined | AF);
}

/* jcc, jmp or jrcxz over some instructions. */
static void branch(void)
{
    unsigned kind = below(8);
    if (kind < 6) {
        needs(ALL & ~AF);
        byte(0x0f);
        byte(0x80 + below(16));
    } else if (kind == 6) {
        byte(0xe9);
    } else {
        bytes("\xe3\x02\xeb\x05\xe9", 5); /* jrcxz 1f; jmp 2f; 1: jmp over; 2: */
    }
    unsigned char *hole = at;
    unsigned before = undefined;
    word32(0);
    for (unsigned count = below(5) + 1; count > 0; count--)
        instruction();
    int32_t distance = (int32_t)(at - hole - 4);
    memcpy(hole, &distance, 4);
    undefined |= before;
}

static void load_registers(void)
{
    static const char saves[] = "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57\x48\x89\x24\x25";
    bytes(saves, sizeof saves - 1); /* push rbx, rbp, r12 … r15; mov [host_stack], rsp */
    word32(STATE + offsetof(struct machine, host_stack));
    byte(0xbc); /* mov esp, top */
    word32(STACK + PAGE - 256);
    bytes("\x0f\xae\x0c\x25", 4); /* fxrstor */
    word32(STATE + offsetof(struct machine, vectors));
    bytes("\xff\x34\x25", 3); /* push [flags]; popfq */
    word32(STATE + offsetof(struct machine, flags));
    byte(0x9d);
    for (unsigned i = 0; i < 16; i++)
        if (i != RSP)
            encode(0, 8, 0x8b, i, (struct operand){ABSOLUTE, 0, (int32_t)(STATE + 8 * i), 0}, 0);
}

static void store_registers(void)
{
    needs(ALL & ~AF);
    for (unsigned i = 0; i < 16; i++)
        encode(0, 8, 0x89, i, (struct operand){ABSOLUTE, 0, (int32_t)(STATE + 8 * i), 0}, 0);
    bytes("\x9c\x8f\x04\x25", 4); /* pushfq; pop [flags] */
    word32(STATE + offsetof(struct machine, flags));
    bytes("\x0f\xae\x04\x25", 4); /* fxsave */
    word32(STATE + offsetof(struct machine, vectors));
    bytes("\x48\x8b\x24\x25", 4); /* mov rsp, [host_stack] */
    word32(STATE + offsetof(struct machine, host_stack));
    bytes("\xfc\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3", 12);
}

static void generate(void)
{
    at = (unsigned char *)(uintptr_t)CODE + below(2) * (PAGE - 300); /* some cross a page */
    state->host_stack = (uint64_t)(uintptr_t)at;
    undefined = 0;
    memset(undefined_at, 0, sizeof undefined_at);
    load_registers();
    unsigned char *top = at;
    unsigned loops = below(3) == 0 ? below(20) + 2 : 0;
    for (unsigned count = below(40) + 4; count > 0; count--)
        if (below(6) == 0)
            branch();
        else
            instruction();
    if (loops != 0) {
        needs(ALL);
        bytes("\xff\x0c\x25", 3); /* dec dword [loops]; jg top */
        word32(STATE + offsetof(struct machine, loops));
        bytes("\x0f\x8f", 2);
        word32((uint64_t)(top - at - 4));
        undefined &= CF;
    }
    state->loops = loops;
    store_registers();
}

/* For whoever looks for the cause of a difference. */
static int told;

/* Whether the flags at a fault count: those that nobody reads afterwards are seen by debuggers alone. */
int flags_count = 1;

static volatile uint64_t seen;
static volatile unsigned faults;
static unsigned forbidden;

static uint64_t flags_at(uint64_t address, uint64_t flags)
{
    unsigned known = ALL & ~AF;
    if (address - CODE < CODE_SIZE)
        known &= ~undefined_at[address - CODE];
    return flags & known;
}

/* Hashes the registers, and mends the page that is forbidden. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t hash = mix(seen, (uint64_t)number), address = (uint64_t)registers[REG_RIP];
    for (int i = REG_R8; i <= REG_RIP; i++)
        hash = mix(hash, (uint64_t)registers[i]);
    if (flags_count)
        hash = mix(hash, flags_at(address, (uint64_t)registers[REG_EFL]));
    hash = mix(hash, (uint64_t)registers[REG_ERR] & 0x17);
    seen = mix(hash, (uint64_t)(uintptr_t)info->si_addr);
    if (++faults > 3 || told) {
        printf("fault at %p of %p, signal %d, error %lx, flags %lx\n", (void *)registers[REG_RIP], info->si_addr,
               number, (uint64_t)registers[REG_ERR], flags_at(address, (uint64_t)registers[REG_EFL]));
        for (int i = REG_R8; told && i <= REG_RIP; i++)
            printf("  %llx", registers[i]);
        printf("\n");
    }
    if (faults > 3)
        fail("more faults than pages");
    mprotect((void *)(uintptr_t)(DATA + forbidden * PAGE), PAGE, PROT_READ | PROT_WRITE);
}

static void on_timer(int number) { (void)number; }

static void prepare_state(void)
{
    memset(state->vectors, 0, sizeof state->vectors);
    state->vectors[0] = 0x7f; /* FCW 037f */
    state->vectors[1] = 3;
    uint32_t mxcsr = 0x1f80;
    memcpy(&state->vectors[24], &mxcsr, 4);
    for (size_t i = 160; i < 416; i += 8) {
        uint64_t value = next(&numbers);
        value = below(2) ? (value & ~(0xfffull << 52)) | 0x3ffull << 52 : value;
        memcpy(&state->vectors[i], &value, 8);
    }
    for (unsigned i = 0; i < 16; i++)
        state->registers[i] = next(&numbers) >> below(60);
    state->registers[R12] = below(64);
    state->registers[R13] = DATA + PAGE - 8;
    state->registers[R14] = DATA;
    state->flags = (next(&numbers) & ALL) | 0x202;
    uint64_t *data = (uint64_t *)(uintptr_t)DATA;
    for (unsigned i = 0; i < DATA_PAGES * PAGE / 8; i++)
        data[i] = below(3) ? next(&numbers) : (uint64_t)below(1000);
}

/* All that a program leaves; not the last instruction's address that the x87 unit keeps. */
static uint64_t left(void)
{
    uint64_t hash = hash_bytes(state->registers, sizeof state->registers);
    state->flags &= (ALL & ~AF) | 0x202; /* the next run begins with them */
    hash = mix(hash, state->flags);
    memset(&state->vectors[6], 0, 18);
    memset(&state->vectors[28], 0, 4);
    hash = mix(hash, hash_bytes(state->vectors, 416));
    return mix(hash, hash_bytes((void *)(uintptr_t)DATA, DATA_PAGES * PAGE));
}

static void tell(unsigned run)
{
    printf("run %u:", run);
    for (unsigned i = 0; i < 16; i++)
        printf(" %lx", state->registers[i]);
    printf(" flags %lx\n  fcw, fsw, ftw %02x%02x %02x%02x %02x mxcsr %02x%02x\n", state->flags & (ALL & ~AF),
           state->vectors[1], state->vectors[0], state->vectors[3], state->vectors[2], state->vectors[4],
           state->vectors[25], state->vectors[24]);
    for (unsigned i = 0; i < 24; i++) {
        uint64_t low, high;
        memcpy(&low, &state->vectors[32 + 16 * i], 8);
        memcpy(&high, &state->vectors[40 + 16 * i], 8);
        printf("  %s%u %016lx %016lx\n", i < 8 ? "st" : "xmm", i < 8 ? i : i - 8, high, low);
    }
    printf("  seen %016lx, data", seen);
    for (unsigned i = 0; i < DATA_PAGES * 8; i++)
        printf(" %08x", (unsigned)hash_bytes((void *)(uintptr_t)(DATA + i * 512), 512));
    printf("\n");
}

static uint64_t program(uint64_t seed)
{
    numbers = seed * 0x9e3779b97f4a7c15u | 1;
    next(&numbers);
    prepare_state();
    generate();
    void (*run)(void) = (void (*)(void))(uintptr_t)state->host_stack;
    unsigned loops = state->loops;
    uint64_t hash = 1;
    seen = 1;
    for (unsigned i = 0; i < RUNS; i++) {
        faults = 0;
        forbidden = below(DATA_PAGES);
        int rights = below(2) ? PROT_NONE : PROT_READ;
        if (i % 5 == 4)
            mprotect((void *)(uintptr_t)(DATA + forbidden * PAGE), PAGE, rights);
        state->loops = loops;
        run();
        mprotect((void *)(uintptr_t)DATA, DATA_PAGES * PAGE, PROT_READ | PROT_WRITE);
        hash = mix(hash, left());
        if (told)
            tell(i);
    }
    return mix(hash, seen);
}

void random_programs(uint64_t first, uint64_t count, int each)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction tick = {.sa_handler = on_timer, .sa_flags = SA_ONSTACK | SA_RESTART};
    struct itimerval often = {{0, 3000}, {0, 3000}}, never = {{0, 0}, {0, 0}};
    fixed(CODE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    fixed(DATA, (DATA_PAGES + 1) * PAGE, PROT_READ | PROT_WRITE);
    fixed(STACK, PAGE, PROT_READ | PROT_WRITE);
    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGALRM, &tick, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    uint64_t hash = 0;
    told = each > 1;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t result = program(first + i);
        hash = mix(hash, result);
        if (each) {
            printf("program %lu: %016lx\n", first + i, result);
        } else if (i % 100 == 99) {
            printf("programs to %lu: %016lx\n", first + i, hash);
            hash = 0;
        }
        fflush(stdout);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGSEGV, SIG_DFL);
}
