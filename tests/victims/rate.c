// One thread, malloc and free as fast as it can: `go N` for N milliseconds.
#include <time.h>

#include "victim.h"

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

FRAME static uint64_t pairs_until(uint64_t end)
{
    uint64_t pairs = 0;
    while (now() < end) {
        for (int i = 0; i < 1000; i++)
            free(opaque(malloc(64)));
        pairs += 1000;
    }
    return pairs;
}

static int obey(const char *command, uint64_t milliseconds)
{
    if (strcmp(command, "go"))
        return 0;
    uint64_t start = now();
    uint64_t pairs = pairs_until(start + milliseconds * 1000000);
    TRUTH({"allocations", pairs}, {"frees", pairs}, {"elapsed_ns", now() - start});
    return 1;
}

int main(void)
{
    serve(obey);
}
