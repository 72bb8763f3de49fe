/* Integer programs: branches, calls, tables, shifts, multiplications. */
#include "bench.h"
#include <string.h>

static uint64_t sieve(void)
{
    enum { LIMIT = 60000 };
    static unsigned char composite[LIMIT];
    memset(composite, 0, sizeof composite);
    uint64_t hash = 0;
    for (unsigned i = 2; i < LIMIT; i++) {
        if (composite[i])
            continue;
        hash = mix(hash, i);
        for (unsigned j = 2 * i; j < LIMIT; j += i)
            composite[j] = 1;
    }
    return hash;
}

static void quicksort(uint32_t *all, long low, long high)
{
    while (low < high) {
        uint32_t pivot = all[(low + high) / 2];
        long i = low, j = high;
        while (i <= j) {
            while (all[i] < pivot)
                i++;
            while (all[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t swap = all[i];
                all[i++] = all[j];
                all[j--] = swap;
            }
        }
        quicksort(all, low, j);
        low = i;
    }
}

static uint64_t sort(void)
{
    enum { COUNT = 4000 };
    static uint32_t all[COUNT];
    struct numbers numbers = {11};
    for (int i = 0; i < COUNT; i++)
        all[i] = (uint32_t)next(&numbers);
    quicksort(all, 0, COUNT - 1);
    return hash_bytes(all, sizeof all);
}

/* Open addressing, a quarter of the operations remove nothing and look up in vain. */
static uint64_t hash_table(void)
{
    enum { SIZE = 8192 };
    static uint64_t keys[SIZE], values[SIZE];
    memset(keys, 0, sizeof keys);
    struct numbers numbers = {12};
    uint64_t found = 0;
    for (int i = 0; i < 16000; i++) {
        uint64_t key = next(&numbers) % 6000 + 1;
        size_t at = key * 0x9e3779b97f4a7c15u >> 51;
        while (keys[at] != 0 && keys[at] != key)
            at = (at + 1) % SIZE;
        if (i % 4 == 0) {
            found += keys[at] == key;
        } else {
            keys[at] = key;
            values[at] += key ^ (uint64_t)i;
        }
    }
    uint64_t hash = mix(found, hash_bytes(values, sizeof values));
    memset(values, 0, sizeof values);
    return hash;
}

static uint64_t crc(void)
{
    static uint32_t table[256];
    static unsigned char bytes[65536];
    struct numbers numbers = {13};
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
        table[i] = value;
    }
    for (size_t i = 0; i < sizeof bytes; i += 64)
        bytes[i] = (unsigned char)next(&numbers);
    uint32_t sum = ~0u;
    for (size_t i = 0; i < sizeof bytes; i++)
        sum = sum >> 8 ^ table[(sum ^ bytes[i]) & 255];
    return ~sum;
}

static inline uint32_t rotate(uint32_t value, int by) { return value << by | value >> (32 - by); }

/* Adds, rotates and exclusive-ors of a 16-word state, as stream ciphers and digests do. */
static uint64_t cipher(void)
{
    uint32_t state[16], sum[16] = {0};
    for (uint32_t block = 0; block < 400; block++) {
        for (uint32_t i = 0; i < 16; i++)
            state[i] = (i + 1) * 0x9e3779b9u + block;
        for (int round = 0; round < 10; round++)
            for (int column = 0; column < 4; column++) {
                uint32_t *a = &state[column], *b = &state[4 + (column + round) % 4];
                uint32_t *c = &state[8 + (column + 2 * round) % 4], *d = &state[12 + (column + 3 * round) % 4];
                *a += *b, *d = rotate(*d ^ *a, 16);
                *c += *d, *b = rotate(*b ^ *c, 12);
                *a += *b, *d = rotate(*d ^ *a, 8);
                *c += *d, *b = rotate(*b ^ *c, 7);
            }
        for (int i = 0; i < 16; i++)
            sum[i] ^= state[i];
    }
    return hash_bytes(sum, sizeof sum);
}

__attribute__((noinline)) static uint64_t fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t calls(void) { return fibonacci(22); }

/* An interpreter of a machine with eight instructions, threaded by computed jumps. */
static uint64_t bytecode(void)
{
    static const unsigned char program[] = {0, 1, 2, 3, 5, 4, 2, 6, 1, 3, 5, 0, 4, 6, 2, 7};
    static const void *const labels[] = {&&add, &&xor, &&shift, &&load, &&store, &&multiply, &&swap, &&again};
    uint64_t a = 1, b = 2, memory[16] = {0};
    unsigned at = 0, turns = 0;
    goto *labels[program[at]];
add:
    a += b;
    goto *labels[program[++at]];
xor:
    b ^= a >> 3;
    goto *labels[program[++at]];
shift:
    a = a << 1 | a >> 63;
    goto *labels[program[++at]];
load:
    b += memory[a & 15];
    goto *labels[program[++at]];
store:
    memory[b & 15] = a;
    goto *labels[program[++at]];
multiply:
    a = a * 6364136223846793005u + 1;
    goto *labels[program[++at]];
swap:
    a ^= b, b ^= a, a ^= b;
    goto *labels[program[++at]];
again:
    at = 0;
    if (++turns < 6000)
        goto *labels[program[at]];
    return mix(mix(a, b), hash_bytes(memory, sizeof memory));
}

static uint64_t matrix(void)
{
    enum { N = 44 };
    static uint32_t a[N][N], b[N][N], c[N][N];
    for (uint32_t i = 0; i < N * N; i++) {
        a[i / N][i % N] = i * 7 + 3;
        b[i / N][i % N] = i * 13 + 1;
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            uint32_t sum = 0;
            for (int k = 0; k < N; k++)
                sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
    return hash_bytes(c, sizeof c);
}

/* 1024-bit products by 64-bit digits: mul and adc. */
static uint64_t big_numbers(void)
{
    enum { DIGITS = 16 };
    uint64_t a[DIGITS], b[DIGITS], product[2 * DIGITS];
    struct numbers numbers = {14};
    for (int i = 0; i < DIGITS; i++)
        a[i] = next(&numbers), b[i] = next(&numbers);
    for (int round = 0; round < 300; round++) {
        memset(product, 0, sizeof product);
        for (int i = 0; i < DIGITS; i++) {
            unsigned __int128 carry = 0;
            for (int j = 0; j < DIGITS; j++) {
                carry += (unsigned __int128)a[i] * b[j] + product[i + j];
                product[i + j] = (uint64_t)carry;
                carry >>= 64;
            }
            product[i + DIGITS] = (uint64_t)carry;
        }
        memcpy(a, product + DIGITS / 2, sizeof a);
        a[0] |= 1;
    }
    return hash_bytes(product, sizeof product);
}

static uint64_t division(void)
{
    struct numbers numbers = {15};
    uint64_t hash = 0;
    for (int i = 0; i < 1500; i++) {
        uint64_t a = next(&numbers) >> 20, b = next(&numbers) >> 24 | 1;
        while (b != 0) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        hash = mix(hash, a);
    }
    return hash;
}

typedef uint32_t operation(uint32_t, uint32_t);
__attribute__((noinline)) static uint32_t op_add(uint32_t a, uint32_t b) { return a + b; }
__attribute__((noinline)) static uint32_t op_subtract(uint32_t a, uint32_t b) { return a - b * 3; }
__attribute__((noinline)) static uint32_t op_xor(uint32_t a, uint32_t b) { return a ^ b << 1; }
__attribute__((noinline)) static uint32_t op_multiply(uint32_t a, uint32_t b) { return a * (b | 1); }

static uint64_t indirect_calls(void)
{
    static operation *const volatile operations[] = {op_add, op_subtract, op_xor, op_multiply};
    uint32_t a = 1, b = 2;
    for (uint32_t i = 0; i < 60000; i++) {
        uint32_t result = operations[(i ^ i >> 3) & 3](a, b);
        b = a + i;
        a = result;
    }
    return mix(a, b);
}

/* Distance of two words of 300 letters by the number of edits. */
static uint64_t edits(void)
{
    enum { LENGTH = 300 };
    unsigned char a[LENGTH], b[LENGTH];
    uint16_t row[LENGTH + 1];
    struct numbers numbers = {16};
    for (int i = 0; i < LENGTH; i++) {
        a[i] = next(&numbers) % 4;
        b[i] = next(&numbers) % 4;
    }
    for (uint16_t j = 0; j <= LENGTH; j++)
        row[j] = j;
    for (uint16_t i = 1; i <= LENGTH; i++) {
        uint16_t diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= LENGTH; j++) {
            uint16_t best = diagonal + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return hash_bytes(row, sizeof row);
}

/* A text of small numbers is written and read again. */
static uint64_t digits(void)
{
    static char text[65536];
    struct numbers numbers = {17};
    char *end = text;
    for (int i = 0; i < 3000; i++) {
        char number[24];
        int length = 0;
        for (uint64_t value = next(&numbers) >> (next(&numbers) % 40 + 10); value != 0; value /= 10)
            number[length++] = (char)('0' + value % 10);
        while (length > 0)
            *end++ = number[--length];
        *end++ = i % 10 == 0 ? '\n' : ' ';
    }
    uint64_t hash = 0, value = 0;
    for (const char *at = text; at < end; at++) {
        if (*at >= '0' && *at <= '9') {
            value = value * 10 + (uint64_t)(*at - '0');
        } else {
            hash = mix(hash, value);
            value = 0;
        }
    }
    return hash;
}

/* Eight queens on a board of eight, all solutions, by bit sets. */
static unsigned queens_from(unsigned columns, unsigned left, unsigned right)
{
    if (columns == 255)
        return 1;
    unsigned solutions = 0;
    for (unsigned free = ~(columns | left | right) & 255; free != 0; free &= free - 1) {
        unsigned place = free & -free;
        solutions += queens_from(columns | place, (left | place) << 1, (right | place) >> 1);
    }
    return solutions;
}

static uint64_t queens(void) { return queens_from(0, 0, 0) + queens_from(1, 2, 0); }

/* Generations of life on a board of 64 columns, a word a line. */
static uint64_t life(void)
{
    uint64_t board[64], after[64];
    struct numbers numbers = {18};
    for (int i = 0; i < 64; i++)
        board[i] = next(&numbers);
    for (int generation = 0; generation < 100; generation++) {
        for (int i = 0; i < 64; i++) {
            uint64_t ones = 0, twos = 0, more = 0;
            for (int line = -1; line <= 1; line++)
                for (int shift = -1; shift <= 1; shift++) {
                    uint64_t row = board[(i + line) & 63];
                    uint64_t cell = shift < 0 ? row << 1 | row >> 63 : shift > 0 ? row >> 1 | row << 63 : row;
                    cell = line == 0 && shift == 0 ? 0 : cell;
                    uint64_t carry = ones & cell;
                    ones ^= cell;
                    more |= twos & carry;
                    twos ^= carry;
                }
            after[i] = twos & ~more & (ones | board[i]);
        }
        memcpy(board, after, sizeof board);
    }
    return hash_bytes(board, sizeof board);
}

static const struct row rows[] = {
    {"sieve", sieve, NULL},
    {"sort", sort, NULL},
    {"hash-table", hash_table, NULL},
    {"crc", crc, NULL},
    {"cipher", cipher, NULL},
    {"calls", calls, NULL},
    {"bytecode", bytecode, NULL},
    {"matrix", matrix, NULL},
    {"big-numbers", big_numbers, NULL},
    {"division", division, NULL},
    {"indirect-calls", indirect_calls, NULL},
    {"edits", edits, NULL},
    {"digits", digits, NULL},
    {"queens", queens, NULL},
    {"life", life, NULL},
};

const struct group integer_group = GROUP("integer", rows);
