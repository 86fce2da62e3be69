// The two libraries of opened_code.c: the same code at the same offsets, as far as calls go, but frames of another size.
#include <stddef.h>

#include "backtrace.h"

#ifndef ROOM
#define ROOM 200
#endif

#define HERE(room) __asm__ volatile("" : : "r"(room) : "memory")

// The alignment keeps the functions where they are, whatever the size of their frames.
#define PLACED __attribute__((noinline, noipa, aligned(256)))

PLACED void opened_last(void)
{
    char room[ROOM];
    HERE(room);
    void *block = take(another_size());
    HERE(block);
    HERE(room);
}

PLACED void opened_middle(int depth)
{
    char room[2 * ROOM];
    HERE(room);
    if (depth)
        opened_middle(depth - 1);
    else
        opened_last();
    HERE(room);
}

PLACED void opened_first(int depth)
{
    char room[3 * ROOM];
    HERE(room);
    opened_middle(depth);
    HERE(room);
}
