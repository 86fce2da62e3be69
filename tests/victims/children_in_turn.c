// `go N`: N children, one after another. Each waits for a quarter of a second, holds 100 000 blocks of 1000 bytes, and ends.
#include <sys/wait.h>

#include "victim.h"

enum { BLOCKS = 100000, SIZE = 1000 };

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
            usleep(250000);
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

int main(void)
{
    serve(obey);
}
