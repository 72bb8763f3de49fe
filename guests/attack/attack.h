/*
 * Programs that try to make a CPU engine go wrong: what a translator may get wrong, done on purpose.
 *
 * As with `exercise`, the same static binary runs on the host and in the guest, and the outputs are compared line by
 * line: nothing printed may depend on addresses that differ, on speed, or on flags and bits that the
 * architecture leaves undefined. All that generated code touches lies at fixed addresses.
 */
#ifndef ATTACK_H
#define ATTACK_H

#include <stddef.h>
#include <stdint.h>

enum { PAGE = 4096 };

static inline uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

uint64_t hash_bytes(const void *bytes, size_t size);

/* Maps pages at `address`, which must be free, and returns it. */
void *fixed(uintptr_t address, size_t size, int rights);

/* Says what failed, with errno, and ends the program. */
void fail(const char *what) __attribute__((noreturn));

extern int flags_count;
void random_programs(uint64_t first, uint64_t count, int each);
void wild_addresses(void);
void segment_bases(void);
void control_words(void);
void changed_code(void);
void races(void);
/* Makes code for so many seconds without an end. */
int flood(unsigned seconds);

#endif
