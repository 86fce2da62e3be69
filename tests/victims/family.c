// A family of processes.
//
// `fork N` makes N children, which live until they are told to end; `alike N` does too, and their pids are equal modulo 4096, which
// takes root and gives the pids as truth. `hold N` has each of the family, the parent too, take N
// blocks of 1 000 000 bytes and keep them; `end` ends the children. `run N` starts N programs one after another, each of which
// waits a little, holds 50 blocks of 1 000 000 bytes for a moment, and ends. `burst` starts a program that holds 30 blocks of
// 1 000 000 bytes in its first milliseconds, gives them back, and ends. `vfork N` and `spawn N` start N programs in these ways,
// each of which holds a block, and ends at once.
#include <linux/sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "victim.h"

#define BLOCK 1000000
#define MOST 16

struct child {
    pid_t pid;
    int to, from;
};

static struct child children[MOST];
static size_t child_count;

FRAME static void hold_mine(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        memset(opaque(malloc(opaque_size(BLOCK))), 1, BLOCK);
}

// Obeys one byte a command: how many blocks to take; 0 ends it.
__attribute__((noreturn)) static void be_child(int in, int out)
{
    unsigned char count;
    while (read(in, &count, 1) == 1 && count) {
        hold_mine(count);
        if (write(out, &count, 1) != 1)
            break;
    }
    _exit(0);
}

// `fork`, to a pid of one's choice if that is not 0.
static pid_t fork_as(pid_t wanted)
{
    if (!wanted)
        return fork();
    struct clone_args arguments = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&wanted, .set_tid_size = 1};
    return syscall(SYS_clone3, &arguments, sizeof arguments);
}

static void fork_child(pid_t wanted)
{
    int down[2], up[2];
    if (child_count == MOST || pipe(down) || pipe(up))
        broken("pipe");
    pid_t pid = fork_as(wanted);
    if (pid < 0)
        broken("fork");
    if (pid == 0) {
        close(down[1]);
        close(up[0]);
        be_child(down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    children[child_count++] = (struct child){pid, down[1], up[0]};
}

static int is_free(pid_t pid)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d", pid);
    return access(path, F_OK) != 0;
}

static void fork_alike(uint64_t count)
{
    enum { STEP = 4096 };
    for (pid_t first = 1000; first < STEP; first++) {
        uint64_t free = 0;
        while (free < count && is_free(first + free * STEP))
            free++;
        if (free < count)
            continue;
        for (uint64_t i = 0; i < count; i++)
            fork_child(first + i * STEP);
        return;
    }
    broken("so many pids that are alike");
}

static void tell_children(unsigned char count)
{
    for (size_t i = 0; i < child_count; i++) {
        unsigned char answer;
        if (write(children[i].to, &count, 1) != 1 || (count && read(children[i].from, &answer, 1) != 1))
            broken("a child does not answer");
    }
}

static void await(pid_t pid)
{
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        broken("a program failed");
}

static void run(const char *what)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "family", what, (char *)NULL);
        _exit(99);
    }
    await(pid);
}

static void run_otherwise(int with_vfork)
{
    char *const arguments[] = {(char *)"family", (char *)"block", NULL};
    pid_t pid = -1;
    if (with_vfork) {
        pid = vfork();
        if (pid == 0) {
            execve("/proc/self/exe", arguments, environ);
            _exit(99);
        }
    } else if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ))
        broken("posix_spawn");
    await(pid);
}

FRAME static void burst(void)
{
    char *held[30];
    for (int i = 0; i < 30; i++)
        held[i] = memset(opaque(malloc(opaque_size(BLOCK))), 1, BLOCK);
    for (int i = 0; i < 30; i++)
        free(held[i]);
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "fork")) {
        for (uint64_t i = 0; i < number; i++) {
            fork_child(0);
            TRUTH({"pid", children[child_count - 1].pid});
        }
    } else if (!strcmp(command, "alike")) {
        fork_alike(number);
        for (size_t i = child_count - number; i < child_count; i++)
            TRUTH({"pid", children[i].pid});
    } else if (!strcmp(command, "hold")) {
        tell_children(number);
        hold_mine(number);
        uint64_t blocks = number * (child_count + 1);
        TRUTH({"live_bytes", blocks * BLOCK}, {"live_blocks", blocks}, {"peak_bytes", blocks * BLOCK}, {"peak_blocks", blocks});
    } else if (!strcmp(command, "end")) {
        tell_children(0);
        for (; child_count; child_count--)
            waitpid(children[child_count - 1].pid, NULL, 0);
    } else if (!strcmp(command, "run")) {
        for (uint64_t i = 0; i < number; i++)
            run("helper");
        TRUTH({"helper_bytes", 50 * BLOCK});
    } else if (!strcmp(command, "burst")) {
        run("burst");
        TRUTH({"peak_bytes", 30 * BLOCK});
    } else if (!strcmp(command, "vfork") || !strcmp(command, "spawn")) {
        for (uint64_t i = 0; i < number; i++)
            run_otherwise(!strcmp(command, "vfork"));
    } else
        return 0;
    return 1;
}

int main(int count, char **arguments)
{
    if (count > 1 && !strcmp(arguments[1], "burst")) {
        burst();
        return 0;
    }
    if (count > 1 && !strcmp(arguments[1], "block")) {
        hold_mine(1);
        return 0;
    }
    if (count > 1) {
        usleep(300000);
        hold_mine(50);
        usleep(50000);
        return 0;
    }
    serve(obey);
}
