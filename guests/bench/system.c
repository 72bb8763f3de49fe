/* The operating system: what user programs ask of the kernel, and what the kernel asks of the CPU for it. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static uint64_t null_call(void)
{
    long first = syscall(SYS_getppid), same = 1;
    for (int i = 0; i < 200; i++)
        same &= syscall(SYS_getppid) == first;
    return (uint64_t)same;
}

static uint64_t read_zeros(void)
{
    static char buffer[PAGE];
    int file = open("/dev/zero", O_RDONLY);
    uint64_t total = 0;
    for (int i = 0; i < 50; i++)
        total += (uint64_t)read(file, buffer, sizeof buffer);
    close(file);
    return total;
}

static uint64_t status_of_file(void)
{
    struct stat status;
    uint64_t total = 0;
    for (int i = 0; i < 50; i++)
        total += stat("/proc/self/../..", &status) == 0 && S_ISDIR(status.st_mode);
    return total;
}

static uint64_t create_and_remove(void)
{
    uint64_t made = 0;
    for (int i = 0; i < 5; i++) {
        int file = open("created", O_CREAT | O_EXCL | O_WRONLY, 0600);
        made += file >= 0 && write(file, "text", 4) == 4;
        close(file);
        unlink("created");
    }
    return made;
}

static uint64_t write_and_read(void)
{
    static char block[64 * 1024];
    int file = open("file", O_CREAT | O_TRUNC | O_RDWR, 0600);
    for (int i = 0; i < 4; i++) {
        memset(block, i + 1, sizeof block);
        if (write(file, block, sizeof block) != sizeof block)
            fail("write");
    }
    lseek(file, 0, SEEK_SET);
    uint64_t hash = 0;
    while (read(file, block, sizeof block) == sizeof block)
        hash = mix(hash, (uint64_t)block[100]);
    close(file);
    unlink("file");
    return hash;
}

/* A process on the other side of two pipes, which answers each byte. Started once, ends with us. */
static int to_echo = -1, from_echo;

static void echo(void)
{
    int there[2], back[2];
    if (to_echo >= 0)
        return;
    if (pipe(there) != 0 || pipe(back) != 0)
        fail("pipe");
    if (fork() == 0) {
        char byte;
        close(there[1]);
        close(back[0]);
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
            ;
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    to_echo = there[1];
    from_echo = back[0];
    fcntl(to_echo, F_SETFD, FD_CLOEXEC);
}

static uint64_t pipe_round_trip(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 20; i++) {
        unsigned char byte = (unsigned char)i;
        if (write(to_echo, &byte, 1) != 1 || read(from_echo, &byte, 1) != 1)
            fail("pipe");
        sum += byte;
    }
    return sum;
}

static uint64_t pipe_stream(void)
{
    static char block[PAGE];
    int ends[2], total = 0, status;
    if (pipe(ends) != 0)
        fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        for (int i = 0; i < 64; i++)
            if (write(ends[1], block, sizeof block) != sizeof block)
                _exit(1);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], block, sizeof block)) > 0;)
        total += (int)got;
    close(ends[0]);
    waitpid(child, &status, 0);
    return mix((uint64_t)total, (uint64_t)status);
}

static uint64_t sockets(void)
{
    int ends[2];
    char block[256] = "message";
    uint64_t sum = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        fail("socketpair");
    for (int i = 0; i < 40; i++) {
        sum += (uint64_t)send(ends[0], block, sizeof block, 0);
        sum += (uint64_t)recv(ends[1], block, sizeof block, 0);
    }
    close(ends[0]);
    close(ends[1]);
    return sum;
}

static uint64_t fork_and_wait(void)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    waitpid(child, &status, 0);
    return (uint64_t)WEXITSTATUS(status);
}

static char busybox[256];

static void find_busybox(void) { snprintf(busybox, sizeof busybox, "%s/bin/busybox", root); }

static uint64_t exec_and_wait(void)
{
    int status;
    pid_t child = vfork();
    if (child == 0) {
        execl(busybox, "true", (char *)NULL);
        _exit(9);
    }
    waitpid(child, &status, 0);
    return (uint64_t)WEXITSTATUS(status);
}

static uint64_t page_faults(void)
{
    enum { PAGES = 64 };
    unsigned char *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;
    for (int i = 0; i < PAGES; i++)
        area[i * PAGE] = (unsigned char)i;
    for (int i = 0; i < PAGES; i++)
        sum += area[i * PAGE];
    munmap(area, PAGES * PAGE);
    return sum;
}

/* Pages of a file, shared with the page cache, faulted in one by one. */
static uint64_t file_faults(void)
{
    int file = open(busybox, O_RDONLY);
    const unsigned char *area = mmap(NULL, 64 * PAGE, PROT_READ, MAP_SHARED, file, 0);
    if (area == MAP_FAILED)
        fail(busybox);
    uint64_t sum = 0;
    for (int i = 0; i < 64; i++)
        sum = mix(sum, area[i * PAGE]);
    munmap((void *)area, 64 * PAGE);
    close(file);
    return sum;
}

static uint64_t copy_on_write(void)
{
    enum { PAGES = 64 };
    static unsigned char area[PAGES * PAGE];
    int status;
    memset(area, 1, sizeof area);
    pid_t child = fork();
    if (child == 0) {
        unsigned char sum = 0;
        for (int i = 0; i < PAGES; i++)
            sum = (unsigned char)(sum + (area[i * PAGE] += 2));
        _exit(sum);
    }
    waitpid(child, &status, 0);
    return mix(area[0], (uint64_t)WEXITSTATUS(status));
}

static uint64_t protect(void)
{
    static unsigned char *area;
    if (area == NULL)
        area = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;
    for (int i = 0; i < 10; i++) {
        area[i % 8 * PAGE] = (unsigned char)i;
        sum += mprotect(area, 8 * PAGE, PROT_READ) == 0;
        sum += area[i % 8 * PAGE];
        sum += mprotect(area, 8 * PAGE, PROT_READ | PROT_WRITE) == 0;
    }
    return sum;
}

static volatile sig_atomic_t caught;
static sigjmp_buf back;

static void on_signal(int number) { caught += number == SIGUSR1; }

static void on_fault(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

static uint64_t signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    caught = 0;
    for (int i = 0; i < 20; i++)
        raise(SIGUSR1);
    return (uint64_t)caught;
}

/* Loads from a page that may not be read: exception, signal, jump out of the handler. */
static uint64_t faults_caught(void)
{
    static volatile char *forbidden;
    struct sigaction action = {.sa_handler = on_fault}, before;
    if (forbidden == NULL)
        forbidden = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &action, &before);
    volatile uint64_t count = 0;
    for (volatile int i = 0; i < 10; i++)
        if (sigsetjmp(back, 1) == 0)
            (void)*forbidden;
        else
            count++;
    sigaction(SIGSEGV, &before, NULL);
    return count;
}

static uint64_t poll_events(void)
{
    int set = epoll_create1(0), event = eventfd(0, EFD_NONBLOCK);
    struct epoll_event wanted = {.events = EPOLLIN}, got;
    epoll_ctl(set, EPOLL_CTL_ADD, event, &wanted);
    uint64_t sum = 0;
    for (uint64_t i = 1; i < 30; i++) {
        uint64_t value = i;
        sum += write(event, &value, 8) == 8;
        sum += (uint64_t)epoll_wait(set, &got, 1, -1);
        sum += read(event, &value, 8) == 8 ? value : 0;
    }
    close(set);
    close(event);
    return sum;
}

static const struct row rows[] = {
    {"getppid", null_call, NULL},
    {"read-4k", read_zeros, NULL},
    {"stat", status_of_file, NULL},
    {"create-unlink", create_and_remove, NULL},
    {"file-write-read", write_and_read, NULL},
    {"pipe-round-trip", pipe_round_trip, echo},
    {"pipe-stream", pipe_stream, NULL},
    {"sockets", sockets, NULL},
    {"poll", poll_events, NULL},
    {"fork", fork_and_wait, NULL},
    {"exec", exec_and_wait, find_busybox},
    {"page-faults", page_faults, NULL},
    {"file-faults", file_faults, find_busybox},
    {"copy-on-write", copy_on_write, NULL},
    {"mprotect", protect, NULL},
    {"signals", signals, NULL},
    {"segv-handler", faults_caught, NULL},
};

const struct group system_group = GROUP("system", rows);
