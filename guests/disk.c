/*
 * Measures a disk by direct I/O, past the guest's page cache.
 *
 *     disk DEVICE MILLISECONDS ROW…
 *
 * A row is ORDER-KIND-BYTES-DEPTH: `sequential` or `random`, `read` or `write`, the bytes of a request, and
 * how many are in flight. It writes "row NAME REQUESTS NANOSECONDS" for each. Requests in flight are those of
 * Linux's own asynchronous I/O (io_submit(2)); one alone is pread(2) or pwrite(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 };

struct row {
    int random, writes;
    uint64_t bytes, depth;
};

static int disk;
static uint64_t size, place, seed = 88172645463325252u;

static void fail(const char *what)
{
    printf("disk: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Where the next request goes. */
static uint64_t next(const struct row *row)
{
    uint64_t slots = size / row->bytes;
    if (row->random) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        return seed % slots * row->bytes;
    }
    place = place + row->bytes < size ? place + row->bytes : 0;
    return place - place % row->bytes;
}

static uint64_t one_by_one(const struct row *row, char *buffer, uint64_t until)
{
    uint64_t done = 0;
    while (now() < until) {
        off_t at = (off_t)next(row);
        ssize_t count = row->writes ? pwrite(disk, buffer, row->bytes, at)
                                    : pread(disk, buffer, row->bytes, at);
        if (count != (ssize_t)row->bytes)
            fail("a request");
        done++;
    }
    return done;
}

static void submit(aio_context_t context, const struct row *row, struct iocb *request, char *buffer)
{
    memset(request, 0, sizeof *request);
    request->aio_lio_opcode = row->writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
    request->aio_fildes = (uint32_t)disk;
    request->aio_buf = (uintptr_t)buffer;
    request->aio_nbytes = row->bytes;
    request->aio_offset = (int64_t)next(row);
    if (syscall(SYS_io_submit, context, 1L, &request) != 1)
        fail("io_submit");
}

/* Completed requests are replaced one for one until the time is over. */
static uint64_t side_by_side(const struct row *row, char *buffer, uint64_t until)
{
    static struct iocb requests[MOST];
    static struct io_event events[MOST];
    aio_context_t context = 0;
    uint64_t done = 0, flying = row->depth;
    if (syscall(SYS_io_setup, row->depth, &context) != 0)
        fail("io_setup");
    for (uint64_t i = 0; i < row->depth; i++)
        submit(context, row, &requests[i], buffer + i * row->bytes);
    while (flying > 0) {
        long count = syscall(SYS_io_getevents, context, 1L, (long)flying, events, NULL);
        int over = now() >= until;
        for (long i = 0; i < count; i++) {
            struct iocb *request = (struct iocb *)(uintptr_t)events[i].obj;
            if (events[i].res != (int64_t)row->bytes)
                fail("a request");
            done++;
            if (over)
                flying--;
            else
                submit(context, row, request, (char *)(uintptr_t)request->aio_buf);
        }
    }
    syscall(SYS_io_destroy, context);
    return done;
}

static void measure(const char *name, uint64_t milliseconds)
{
    char order[16], kind[16], *buffer;
    struct row row;
    if (sscanf(name, "%15[a-z]-%15[a-z]-%lu-%lu", order, kind, &row.bytes, &row.depth) != 4 ||
        row.depth < 1 || row.depth > MOST)
        fail(name);
    row.random = strcmp(order, "random") == 0;
    row.writes = strcmp(kind, "write") == 0;
    if (posix_memalign((void **)&buffer, 4096, row.bytes * row.depth) != 0)
        fail("memory");
    for (uint64_t i = 0; i < row.bytes * row.depth; i++)
        buffer[i] = (char)(i * 2654435761u >> 24);
    uint64_t start = now(), until = start + milliseconds * 1000000u;
    uint64_t done = row.depth == 1 ? one_by_one(&row, buffer, until)
                                   : side_by_side(&row, buffer, until);
    printf("row %s %lu %lu\n", name, done, now() - start);
    free(buffer);
}

int main(int count, char **words)
{
    if (count < 4)
        fail("DEVICE MILLISECONDS ROW...");
    disk = open(words[1], O_RDWR | O_DIRECT);
    if (disk < 0 || ioctl(disk, BLKGETSIZE64, &size) != 0)
        fail(words[1]);
    for (int i = 3; i < count; i++)
        measure(words[i], strtoul(words[2], NULL, 10));
    return 0;
}
