/*
 *     bench [--root DIR] [--slice US] [--time MS] [--list] [GROUP | GROUP/ROW]…
 *
 * Prints "row GROUP NAME NANOSECONDS CHECKSUM UNITS" for each row that is named; every row when none is.
 * The time is that of one unit in the best slice: a slice is as many units as fill --slice microseconds by
 * CLOCK_MONOTONIC, at least one, and slices are taken for --time milliseconds, at least MIN_SLICES. The best
 * is taken since the machine may be busy with other things, which only ever adds.
 *
 * A row that gives two different checksums prints "differs GROUP NAME" and the program ends with status 1.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MIN_SLICES = 3 };

static const struct group *const groups[] = {
    &integer_group,  &floating_group, &memory_group, &system_group,
    &programs_group, &generate_group, &threads_group,
};

const char *root = "", *scratch = "/tmp/kezhan-bench";
static uint64_t slice_length = 3000000, row_length = 100000000;

uint64_t bits(double value)
{
    uint64_t raw;
    memcpy(&raw, &value, sizeof raw);
    return raw;
}

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

void fail(const char *what)
{
    fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(2);
}

void *memory_of(size_t size)
{
    void *memory = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
    if (memory == NULL)
        fail("memory");
    __asm__ volatile("" : "+r"(memory));
    return memory;
}

uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Runs `units` units; the time they took. Clears `same` when one gives another checksum. */
static uint64_t slice(const struct row *row, uint64_t units, uint64_t checksum, int *same)
{
    uint64_t start = now();
    for (uint64_t i = 0; i < units; i++)
        *same &= row->unit() == checksum;
    return now() - start;
}

/* Whether every unit gave one checksum. */
static int measure(const char *group, const struct row *row)
{
    if (row->before != NULL)
        row->before();
    int same = 1;
    uint64_t start = now(), checksum = row->unit();
    uint64_t units = 1, took = slice(row, units, checksum, &same), total = 2;
    while (took < slice_length / 2 && units < 1u << 20) {
        units *= took < slice_length / 16 ? 8 : 2;
        took = slice(row, units, checksum, &same);
        total += units;
    }
    double best = (double)took / (double)units;
    for (int slices = 1; slices < MIN_SLICES || now() - start < row_length; slices++) {
        double unit = (double)slice(row, units, checksum, &same) / (double)units;
        best = unit < best ? unit : best;
        total += units;
    }
    printf("row %s %s %.1f %016lx %lu\n", group, row->name, best, checksum, total);
    if (!same)
        printf("differs %s %s\n", group, row->name);
    return same;
}

/* Whether `word` names the row: its group, or group and row. */
static int names(const char *word, const char *group, const char *row)
{
    size_t length = strlen(group);
    if (strncmp(word, group, length) != 0)
        return 0;
    return word[length] == '\0' || (word[length] == '/' && strcmp(word + length + 1, row) == 0);
}

static int wanted(char **words, const char *group, const char *row)
{
    if (*words == NULL)
        return 1;
    for (; *words != NULL; words++)
        if (names(*words, group, row))
            return 1;
    return 0;
}

/* The rows of a group that are wanted; whether all gave one checksum each. */
static int each_row(const struct group *group, char **words, int list)
{
    int same = 1;
    for (size_t i = 0; i < group->count; i++) {
        const struct row *row = &group->rows[i];
        if (!wanted(words, group->name, row->name))
            continue;
        if (list)
            printf("%s/%s\n", group->name, row->name);
        else
            same &= measure(group->name, row);
        fflush(stdout);
    }
    return same;
}

/* Each group in a process of its own, so that none forks with the memory of another. */
static int each_group(char **words, int list)
{
    int worst = 0, status;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0)
            exit(!each_row(groups[i], words, list));
        waitpid(child, &status, 0);
        worst |= status != 0;
    }
    return worst;
}

/* A folder of our own to work in. */
static void enter_scratch(void)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/kezhan-bench-%d", (int)getpid());
    if (mkdir(path, 0700) != 0 || chdir(path) != 0)
        fail(path);
    scratch = path;
}

/* Every row removes its own files when it can; this removes the rest. */
static void leave_scratch(void)
{
    char command[128];
    snprintf(command, sizeof command, "%s/bin/busybox rm -rf %s", root, scratch);
    if (chdir("/") != 0 || system(command) != 0)
        fail(scratch);
}

static const char *absolute(const char *path)
{
    const char *whole = realpath(path, NULL);
    return whole == NULL ? (fail(path), path) : whole;
}

int main(int argc, char **argv)
{
    int list = 0, at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--list") == 0)
            list = 1;
        else if (strcmp(argv[at], "--root") == 0 && at + 1 < argc)
            root = absolute(argv[++at]);
        else if (strcmp(argv[at], "--slice") == 0 && at + 1 < argc)
            slice_length = strtoull(argv[++at], NULL, 10) * 1000;
        else if (strcmp(argv[at], "--time") == 0 && at + 1 < argc)
            row_length = strtoull(argv[++at], NULL, 10) * 1000000;
        else
            return fprintf(stderr, "bench: %s: is no option, or lacks its value\n", argv[at]), 2;
    }
    if (list)
        return each_group(argv + at, list);
    enter_scratch();
    int status = each_group(argv + at, list);
    leave_scratch();
    return status;
}
