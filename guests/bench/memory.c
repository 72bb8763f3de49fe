/* Memory: copies, fills, scans, walks that miss caches and TLBs, string instructions, atomics. */
#include "bench.h"
#include <string.h>

enum { LARGE = 16 << 20, KIB = 1024 };

/* Hides from the compiler what a pointer points to, so that library calls stay calls. */
static void *hidden(void *pointer)
{
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

static unsigned char *from, *to;
static uint64_t *walk_small, *walk_middle, *walk_large;

static void large_blocks(void)
{
    if (from != NULL)
        return;
    from = memory_of(LARGE);
    to = memory_of(LARGE);
    struct numbers numbers = {31};
    for (size_t i = 0; i < LARGE; i += 8) {
        uint64_t value = next(&numbers) | 0x0101010101010101u;
        memcpy(from + i, &value, 8);
    }
    memset(to, 1, LARGE);
}

static uint64_t copy_small(void)
{
    for (int i = 0; i < 200; i++)
        memcpy(hidden(to + i % 7 * 8), hidden(from), 4 * KIB);
    return to[100];
}

static uint64_t copy_large(void)
{
    memcpy(hidden(to), hidden(from), 1 << 20);
    return to[12345];
}

static uint64_t copy_short(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < 6000; i++) {
        memcpy(hidden(to + i), hidden(from + 2 * i), i % 61 + 1);
        sum += to[i];
    }
    return sum;
}

static uint64_t string_move(void)
{
    for (int i = 0; i < 100; i++) {
        void *target = to, *source = from;
        size_t count = 4 * KIB;
        __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
    }
    return to[4095];
}

static uint64_t string_store(void)
{
    for (uint64_t i = 0; i < 30; i++) {
        void *target = to;
        size_t count = 2 * KIB;
        __asm__ volatile("rep stosq" : "+D"(target), "+c"(count) : "a"(i) : "memory");
    }
    return to[8];
}

static uint64_t read_all(void)
{
    uint64_t sum = 0;
    const uint64_t *words = (const uint64_t *)from;
    for (size_t i = 0; i < (1 << 20) / 8; i++)
        sum += words[i];
    return sum;
}

static uint64_t write_all(void)
{
    volatile uint64_t *words = (volatile uint64_t *)to;
    for (size_t i = 0; i < (1 << 20) / 8; i++)
        words[i] = i;
    return words[1000];
}

/* A random cycle through `count` cells, `step` words apart. */
static uint64_t *cycle(size_t count, size_t step)
{
    uint64_t *cells = memory_of(count * step * 8);
    struct numbers numbers = {32};
    for (size_t i = 0; i < count; i++)
        cells[i * step] = i * step;
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = next(&numbers) % i;
        uint64_t swap = cells[i * step];
        cells[i * step] = cells[j * step];
        cells[j * step] = swap;
    }
    return cells;
}

static void small_walk(void) { walk_small = cycle(2048, 1); }
static void middle_walk(void) { walk_middle = cycle(16384, 8); }
static void large_walk(void) { walk_large = cycle(8192, 512); }

static uint64_t walk(const uint64_t *cells, int steps)
{
    uint64_t at = 0;
    for (int i = 0; i < steps; i++)
        at = cells[at];
    return at;
}

static uint64_t chase_16k(void) { return walk(walk_small, 40000); }
static uint64_t chase_1m(void) { return walk(walk_middle, 20000); }
static uint64_t chase_pages(void) { return walk(walk_large, 8192); }

static void random_target(void)
{
    large_blocks();
    memset(to, 1, LARGE);
}

static uint64_t random_update(void)
{
    struct numbers numbers = {33};
    uint64_t *words = (uint64_t *)to;
    for (uint64_t i = 0; i < 12000; i++)
        words[next(&numbers) >> 43] ^= i;
    numbers.state = 33; /* and back again, so that the next unit finds what this one found */
    uint64_t hash = 0;
    for (uint64_t i = 0; i < 12000; i++) {
        uint64_t *word = &words[next(&numbers) >> 43];
        hash = mix(hash, *word ^= i);
    }
    return hash;
}

static uint64_t string_length(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < 3000; i++) {
        unsigned char *start = from + i * 211, *end = start + i % 400;
        unsigned char kept = *end;
        *end = 0;
        sum += strlen(hidden(start));
        *end = kept;
    }
    return sum;
}

static uint64_t find_and_compare(void)
{
    memcpy(to, from, 128 * KIB);
    to[100 * KIB] ^= 1;
    uint64_t sum = 0;
    for (int i = 0; i < 6; i++) {
        sum += memcmp(hidden(to), hidden(from), 128 * KIB) != 0;
        const char *found = memchr(hidden(from + i), 0, 64 * KIB);
        sum += found == NULL;
    }
    return sum;
}

struct item {
    struct item *next;
    uint64_t key, payload[4];
};

/* A list is sorted in by keys, walked and changed. */
static uint64_t list(void)
{
    enum { COUNT = 400 };
    static struct item items[COUNT];
    struct numbers numbers = {34};
    struct item *first = NULL;
    for (int i = 0; i < COUNT; i++) {
        struct item **at = &first;
        items[i] = (struct item){NULL, next(&numbers), {0}};
        while (*at != NULL && (*at)->key < items[i].key)
            at = &(*at)->next;
        items[i].next = *at;
        *at = &items[i];
    }
    uint64_t hash = 0;
    for (struct item *item = first; item != NULL; item = item->next)
        hash = mix(hash, item->payload[item->key & 3] += item->key);
    return hash;
}

__attribute__((noinline)) static uint64_t deeper(unsigned depth)
{
    uint64_t frame[24];
    frame[depth % 24] = depth;
    __asm__ volatile("" : : "r"(frame) : "memory");
    return depth == 0 ? 1 : deeper(depth - 1) + frame[depth % 24];
}

static uint64_t stack(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 10; i++)
        sum += deeper(1000);
    return sum;
}

static uint64_t unaligned(void)
{
    uint64_t sum = 0;
    for (size_t i = 1; i < 60000; i += 3) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        sum += word >> 3;
        memcpy(to + i, &sum, 4);
    }
    return sum;
}

static uint64_t atomics(void)
{
    uint64_t counter = 0, other = 0;
    uint64_t *cell = hidden(&counter);
    for (uint64_t i = 0; i < 10000; i++) {
        other += __atomic_fetch_add(cell, i, __ATOMIC_SEQ_CST);
        uint64_t expected = other;
        __atomic_compare_exchange_n(cell, &expected, i, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    return mix(counter, other);
}

static const struct row rows[] = {
    {"copy-4k", copy_small, large_blocks},
    {"copy-1m", copy_large, large_blocks},
    {"copy-short", copy_short, large_blocks},
    {"rep-movsb", string_move, large_blocks},
    {"rep-stosq", string_store, large_blocks},
    {"read", read_all, large_blocks},
    {"write", write_all, large_blocks},
    {"chase-16k", chase_16k, small_walk},
    {"chase-1m", chase_1m, middle_walk},
    {"chase-pages", chase_pages, large_walk},
    {"random-update", random_update, random_target},
    {"strlen", string_length, large_blocks},
    {"memchr-memcmp", find_and_compare, large_blocks},
    {"list", list, NULL},
    {"stack", stack, NULL},
    {"unaligned", unaligned, large_blocks},
    {"atomics", atomics, NULL},
};

const struct group memory_group = GROUP("memory", rows);
