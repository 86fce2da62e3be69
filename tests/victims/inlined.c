// A program with names of every sort: functions that are called, functions that are inlined into them, and lines of both.
#include "queue.h"

static inline __attribute__((always_inline)) unsigned char *innermost(size_t size)
{
    return booked(opaque(malloc(size)), size);
}

static inline __attribute__((always_inline)) unsigned char *between(size_t size)
{
    return innermost(size * 2);
}

FRAME static void called(uint64_t count)
{
    static unsigned char *kept[4096];
    static size_t next;
    for (uint64_t i = 0; i < count; i++)
        kept[next++ % 4096] = between(100);
    opaque(kept);
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "call"))
        return obey_queue(command, number);
    called(number);
    tell_books();
    return 1;
}

int main(void)
{
    serve(obey);
}
