/*
 * The guest's half of `make bench`: rows that are timed in a guest of Kezhan, in a guest of QEMU, and on
 * the host, by the same static binary.
 *
 * A row is a function, its unit of work, that starts from the same state each time and returns a checksum of
 * what it computed. So a unit may be repeated as often as the clock needs, every repetition checks the one
 * before, and the host compares the checksums of the three places. Nothing in a checksum may depend on
 * addresses, process ids, speed, or the variant of a library routine that the CPU's features select.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

/* One line of the table. */
struct row {
    const char *name;
    uint64_t (*unit)(void);
    void (*before)(void); /* once, not timed; may be NULL */
};

/* Rows of one kind; the geometric mean is taken over them. */
struct group {
    const char *name;
    const struct row *rows;
    size_t count;
};

#define GROUP(name, rows) {name, rows, sizeof rows / sizeof *rows}

extern const struct group integer_group, floating_group, memory_group, system_group, programs_group,
    generate_group, threads_group;

/* A generator that gives the same numbers everywhere; a unit seeds it first. */
struct numbers {
    uint64_t state;
};

static inline uint64_t next(struct numbers *numbers)
{
    numbers->state ^= numbers->state << 13;
    numbers->state ^= numbers->state >> 7;
    numbers->state ^= numbers->state << 17;
    return numbers->state;
}

static inline uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

/* The bits of a double, for checksums. */
uint64_t bits(double value);

/* Hash of `size` bytes. */
uint64_t hash_bytes(const void *bytes, size_t size);

/* Memory that the compiler may not reason about; ends the program when there is none. */
void *memory_of(size_t size);

/* Says what failed, with errno, and ends the program. */
void fail(const char *what) __attribute__((noreturn));

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now(void);

/* Where the userland is, "" in a guest; the folder for files of units, which is empty at first. */
extern const char *root, *scratch;

#endif
