// The library of whole_stack.c: calls go in and out through procedure linkage tables, bound on first use.
#include <stddef.h>

#include "backtrace.h"

void *plt_leaf(void)
{
    void *block = take(another_size());
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

void *plt_back(void *(*call)(void *), void *argument)
{
    char room[200];
    __asm__ volatile("" : : "r"(room) : "memory");
    void *block = call(argument);
    __asm__ volatile("" : "+r"(block) : "r"(room) : "memory");
    return block;
}

// Calls itself through its own table.
void *plt_deeper(int depth, void *(*call)(void *), void *argument)
{
    void *block = depth ? plt_deeper(depth - 1, call, argument) : plt_back(call, argument);
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}
