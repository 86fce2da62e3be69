// Computes, and allocates now and then: `go N` for N milliseconds of its processor time, a pair for each.
#include <time.h>

#include "books.h"

static uint64_t processor_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static int obey(const char *command, uint64_t milliseconds)
{
    if (strcmp(command, "go"))
        return 0;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < milliseconds; i++) {
        uint64_t end = processor_time() + 1000000;
        void *block = opaque(malloc(100));
        took(100);
        while (processor_time() < end)
            sum += random_below(1000);
        gave(100);
        free(block);
    }
    opaque((void *)(uintptr_t)sum);
    tell_books();
    return 1;
}

int main(void)
{
    serve(obey);
}
