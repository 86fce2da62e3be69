// Allocates while it works for itself: `pace N` sets for how many nanoseconds, more or less, before each call. `hold N` keeps N
// blocks of 24 bytes, `churn N` allocates and frees as many, `large N` keeps N blocks of 64 KiB.
#include <time.h>

#include "books.h"

enum { LARGE = 64 << 10 };

static uint64_t loops, loops_a_millisecond;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void work(uint64_t count)
{
    for (volatile uint64_t i = 0; i < count; i++)
        ;
}

static void *take(size_t size)
{
    work(loops);
    return booked(opaque(malloc(opaque_size(size))), size);
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "pace"))
        loops = number * loops_a_millisecond / 1000000;
    else if (!strcmp(command, "hold"))
        while (number--)
            take(24);
    else if (!strcmp(command, "large"))
        while (number--)
            take(LARGE);
    else if (!strcmp(command, "churn"))
        while (number--) {
            void *block = take(64);
            gave(64);
            free(block);
        }
    else
        return 0;
    tell_books();
    return 1;
}

int main(void)
{
    // The best of several: others take the processor too.
    for (int i = 0; i < 20; i++) {
        enum { TRIED = 1000000 };
        uint64_t begun = now();
        work(TRIED);
        uint64_t rate = TRIED * 1000000ull / (now() - begun);
        if (rate > loops_a_millisecond)
            loops_a_millisecond = rate;
    }
    serve(obey);
}
