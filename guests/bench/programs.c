/* Small real programs, those of busybox, from start to end; the checksum is of what they write. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char busybox[256];

static void write_file(const char *name, const char *bytes, size_t size)
{
    int file = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (file < 0 || write(file, bytes, size) != (ssize_t)size)
        fail(name);
    close(file);
}

/* 128 KiB of lines of words and numbers, as logs have. */
static void write_text(void)
{
    static const char *const words[] = {"guest", "house", "river", "seven", "the", "of", "machine", "lantern",
                                        "open", "closed", "error", "and", "a", "window", "rice", "road"};
    enum { SIZE = 128 * 1024 };
    static char text[SIZE + 128];
    struct numbers numbers = {41};
    size_t length = 0;
    while (length < SIZE) {
        length += (size_t)sprintf(text + length, "%u", (unsigned)(next(&numbers) % 100000));
        for (uint64_t left = next(&numbers) % 8 + 1; left > 0; left--)
            length += (size_t)sprintf(text + length, " %s", words[next(&numbers) >> 60]);
        text[length++] = '\n';
    }
    write_file("text", text, SIZE);
    write_file("short", text, SIZE / 8);
}

/* Runs it with standard output into a pipe; hash of what it wrote, and its status. */
static uint64_t run(const char *const *words)
{
    static char block[65536];
    int ends[2], status;
    if (pipe(ends) != 0)
        fail("pipe");
    pid_t child = vfork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execv(busybox, (char *const *)words);
        _exit(127);
    }
    close(ends[1]);
    uint64_t hash = 0, total = 0;
    size_t held = 0;
    for (ssize_t got; (got = read(ends[0], block + held, sizeof block - held)) > 0;) {
        held += (size_t)got;
        if (held == sizeof block) { /* whole blocks, so that the hash does not depend on the pipe */
            hash = mix(hash, hash_bytes(block, held));
            total += held;
            held = 0;
        }
    }
    close(ends[0]);
    waitpid(child, &status, 0);
    return mix(mix(hash, hash_bytes(block, held)), mix(total + held, (uint64_t)status));
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static void prepare(void)
{
    static char path[512];
    if (busybox[0] != '\0')
        return;
    snprintf(busybox, sizeof busybox, "%s/bin/busybox", root);
    snprintf(path, sizeof path, "%s/bin:%s/usr/bin", root, root);
    setenv("PATH", path, 1);
    setenv("LC_ALL", "C", 1);
    write_text();
    if (RUN("sh", "-c", "gzip -c text >text.gz; bzip2 -c short >short.bz2") != 0) /* no output, status 0 */
        fail("files for programs");
}

static uint64_t awk(void)
{
    return RUN("awk", "{ n[$2] += NF; t += $1 / 7 } END { for (w in n) s += n[w] * length(w); printf \"%d %.6f\", s, t }",
               "text");
}

static uint64_t awk_loop(void)
{
    return RUN("awk", "BEGIN { for (i = 1; i < 20000; i++) { s += i % 7 * 0.5; if (i % 100 == 0) t = t \",\" i } print s, length(t) }");
}

static uint64_t gzip(void) { return RUN("gzip", "-c", "text"); }
static uint64_t gunzip(void) { return RUN("gunzip", "-c", "text.gz"); }
static uint64_t bzip2(void) { return RUN("bzip2", "-c", "short"); }
static uint64_t bunzip2(void) { return RUN("bunzip2", "-c", "short.bz2"); }
static uint64_t sort(void) { return RUN("sort", "-k2", "text"); }
static uint64_t sort_numbers(void) { return RUN("sort", "-n", "-r", "text"); }
static uint64_t sed(void) { return RUN("sed", "-e", "s/\\([a-z]*\\) of/of \\1/g", "-e", "/seven/d", "text"); }
static uint64_t grep(void) { return RUN("grep", "-c", "e[a-z]* .*window$", "text"); }
static uint64_t sha256(void) { return RUN("sha256sum", "text"); }
static uint64_t md5(void) { return RUN("md5sum", "text"); }
static uint64_t hexdump(void) { return RUN("hexdump", "-C", "short"); }
static uint64_t diff(void) { return RUN("diff", "short", "text"); }

static uint64_t shell(void)
{
    return RUN("sh", "-c", "i=0; while [ $i -lt 4000 ]; do i=$((i + 1)); case $i in *7) s=$s.;; esac; done; echo ${#s}");
}

static uint64_t shell_pipes(void)
{
    return RUN("sh", "-c", "cut -d' ' -f2 short | sort | uniq -c | sort -n | tail -n 3 | tr a-z A-Z");
}

static uint64_t shell_spawns(void)
{
    return RUN("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do env true; (echo $i); done; expr 6 \\* 7");
}

static const struct row rows[] = {
    {"awk", awk, prepare},
    {"awk-loop", awk_loop, prepare},
    {"gzip", gzip, prepare},
    {"gunzip", gunzip, prepare},
    {"bzip2", bzip2, prepare},
    {"bunzip2", bunzip2, prepare},
    {"sort", sort, prepare},
    {"sort-numbers", sort_numbers, prepare},
    {"sed", sed, prepare},
    {"grep", grep, prepare},
    {"sha256sum", sha256, prepare},
    {"md5sum", md5, prepare},
    {"hexdump", hexdump, prepare},
    {"diff", diff, prepare},
    {"shell", shell, prepare},
    {"shell-pipes", shell_pipes, prepare},
    {"shell-spawns", shell_spawns, prepare},
};

const struct group programs_group = GROUP("programs", rows);
