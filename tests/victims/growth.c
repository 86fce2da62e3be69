// Three things at once, for `go N` seconds: 1 MiB more every second that is kept, some 200 MiB a second that come and go,
// and a cache of 300 MiB that fills within the first quarter and stays.
#include <pthread.h>
#include <time.h>

#include "victim.h"

enum { MIB = 1 << 20, CACHE = 300, CHURNED = 200, STEPS = 50 };

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void sleep_until(uint64_t at)
{
    struct timespec time = {at / 1000000000, at % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, 0))
        ;
}

static void *take(size_t size)
{
    void *block = opaque(malloc(size));
    if (!block)
        broken("malloc");
    return block;
}

FRAME static void keep_more(void)
{
    static void *last;
    void **block = take(MIB / STEPS);
    *block = last;
    last = opaque(block);
}

FRAME static void fill_cache(void)
{
    static void *last;
    void **block = take(MIB);
    *block = last;
    last = opaque(block);
}

FRAME static void churn(uint64_t step)
{
    // Never empty, never the same.
    static void *held[16];
    for (int i = 0; i < CHURNED / STEPS; i++) {
        void **slot = &held[(step * 7 + i * 5) % 16];
        free(opaque(*slot));
        *slot = take(MIB / 2 + random_below(MIB));
    }
}

static int obey(const char *command, uint64_t seconds)
{
    if (strcmp(command, "go"))
        return 0;
    uint64_t start = now(), steps = seconds * STEPS, cached = 0;
    for (uint64_t step = 0; step < steps; step++) {
        keep_more();
        for (; cached < CACHE && cached * steps < CACHE * step * 4; cached++)
            fill_cache();
        churn(step);
        sleep_until(start + (step + 1) * (1000000000 / STEPS));
    }
    TRUTH({"kept_bytes", steps * (MIB / STEPS)}, {"cached_bytes", cached * MIB},
          {"elapsed_ns", now() - start});
    return 1;
}

int main(void)
{
    serve(obey);
}
