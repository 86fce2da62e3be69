// `go N`: one block from each of N stacks (at most 100 000), no two alike; large ones are few.
#include <time.h>

#include "victim.h"

enum { DIGITS = 5, PAUSE_AFTER = 500 };

static void *last;

FRAME static void hold(uint64_t number)
{
    void **block = opaque(malloc(16 + 4000000 / (number + 1)));
    if (!block)
        broken("malloc");
    *block = last;
    last = opaque(block);
}

static void descend(uint64_t number, uint64_t rest, int level);

// Two frames a digit, so that stacks are as deep as real ones.
#define DIGIT(digit)                                                               \
    FRAME static void prepare_##digit(uint64_t number, uint64_t rest, int level)   \
    {                                                                              \
        descend(number, rest, level);                                              \
        __asm__ volatile("");                                                      \
    }                                                                              \
    FRAME static void handle_##digit(uint64_t number, uint64_t rest, int level)    \
    {                                                                              \
        prepare_##digit(number, rest, level);                                      \
        __asm__ volatile("");                                                      \
    }
DIGIT(0) DIGIT(1) DIGIT(2) DIGIT(3) DIGIT(4) DIGIT(5) DIGIT(6) DIGIT(7) DIGIT(8) DIGIT(9)

static void (*const handlers[])(uint64_t, uint64_t, int) = {handle_0, handle_1, handle_2, handle_3, handle_4,
                                                            handle_5, handle_6, handle_7, handle_8, handle_9};

FRAME static void descend(uint64_t number, uint64_t rest, int level)
{
    if (level == DIGITS)
        hold(number);
    else
        handlers[rest % 10](number, rest / 10, level + 1);
    __asm__ volatile("");
}

static int obey(const char *command, uint64_t stacks)
{
    if (strcmp(command, "go"))
        return 0;
    uint64_t bytes = 0;
    for (uint64_t number = 0; number < stacks; number++) {
        descend(number, number, 0);
        bytes += 16 + 4000000 / (number + 1);
        // Definitions of stacks have a ring of their own, which is emptied every few milliseconds.
        if (number % PAUSE_AFTER == 0)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    TRUTH({"live_blocks", stacks}, {"live_bytes", bytes});
    return 1;
}

int main(void)
{
    serve(obey);
}
