// `children_in_turn MS`. `go N`: N children, one after another. Each waits for MS milliseconds, holds 100 000 blocks of 1000 bytes,
// and ends.
#include <sys/wait.h>

#include "victim.h"

enum { BLOCKS = 100000, SIZE = 1000 };

static useconds_t wait_us;

FRAME static void hold(void)
{
    for (int i = 0; i < BLOCKS; i++)
        if (!opaque(malloc(opaque_size(SIZE))))
            broken("malloc");
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return 0;
    for (uint64_t i = 0; i < number; i++) {
        pid_t child = fork();
        if (child == 0) {
            usleep(wait_us);
            hold();
            _exit(0);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            broken("a child");
    }
    TRUTH({"allocations", number * BLOCKS}, {"bytes_each", (uint64_t)BLOCKS * SIZE});
    return 1;
}

int main(int count, char **arguments)
{
    if (count != 2)
        broken("how long does a child wait?");
    wait_us = 1000 * (useconds_t)atoi(arguments[1]);
    serve(obey);
}
