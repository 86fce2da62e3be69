// A family of processes.
//
// `fork N` makes N children, which live until they are told to end; `hold N` has each of the family, the parent too, take N
// blocks of 1 000 000 bytes and keep them; `end` ends the children. `run N` starts N programs one after another, each of which
// waits a little, holds 50 blocks of 1 000 000 bytes for a moment, and ends.
#include <signal.h>
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

static void fork_child(void)
{
    int down[2], up[2];
    if (child_count == MOST || pipe(down) || pipe(up))
        broken("pipe");
    pid_t pid = fork();
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

static void tell_children(unsigned char count)
{
    for (size_t i = 0; i < child_count; i++) {
        unsigned char answer;
        if (write(children[i].to, &count, 1) != 1 || (count && read(children[i].from, &answer, 1) != 1))
            broken("a child does not answer");
    }
}

static void run_helper(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "family", "helper", (char *)NULL);
        _exit(99);
    }
    int status = -1;
    if (waitpid(pid, &status, 0) != pid || status)
        broken("a helper failed");
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "fork")) {
        for (uint64_t i = 0; i < number; i++) {
            fork_child();
            TRUTH({"pid", children[child_count - 1].pid});
        }
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
            run_helper();
        TRUTH({"helper_bytes", 50 * BLOCK});
    } else
        return 0;
    return 1;
}

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1) {
        usleep(300000);
        hold_mine(50);
        usleep(50000);
        return 0;
    }
    serve(obey);
}
