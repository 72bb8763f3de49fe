/*
 *     attack                       every section, some hundred random programs
 *     attack random FIRST COUNT    random programs, a line for each
 *     attack tell FIRST COUNT      the same, all they leave after each run
 *     attack random FIRST COUNT blind    the flags at faults do not count
 *     attack SECTION…              those sections
 *     attack flood SECONDS         makes code without an end
 */
#define _GNU_SOURCE
#include "attack.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t hash_bytes(const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    uint64_t hash = size;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = mix(hash, word);
    }
    while (size-- > 0)
        hash = mix(hash, *at++);
    return hash;
}

void *fixed(uintptr_t address, size_t size, int rights)
{
    void *got = mmap((void *)address, size, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != (void *)address)
        fail("memory at a fixed address");
    return got;
}

void fail(const char *what)
{
    printf("attack: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    _exit(2);
}

static void some_programs(void) { random_programs(1, 300, 0); }

static const struct {
    const char *name;
    void (*run)(void);
} sections[] = {
    {"random", some_programs},
    {"wild", wild_addresses},
    {"segments", segment_bases},
    {"control", control_words},
    {"code", changed_code},
    {"races", races},
};

int main(int argc, char **argv)
{
    if (argc == 5) {
        flags_count = 0; /* a last word, whatever it is */
        argc--;
    }
    if (argc == 4 && (strcmp(argv[1], "random") == 0 || strcmp(argv[1], "tell") == 0)) {
        int each = strcmp(argv[1], "tell") == 0 ? 2 : 1;
        random_programs(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), each);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "flood") == 0)
        return flood((unsigned)strtoul(argv[2], NULL, 10));
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        int wanted = argc == 1;
        for (int word = 1; word < argc; word++)
            wanted |= strcmp(argv[word], sections[i].name) == 0;
        if (wanted)
            sections[i].run();
        fflush(stdout);
    }
    return 0;
}
