// The library of whole_stack.c: calls go in and out through procedure linkage tables, bound on first use.
#include <stddef.h>

#include "backtrace.h"

static void *chosen(void)
{
    return NULL;
}

// Called by the dynamic linker in the middle of the first call of `plt_chosen`: its own code there finds its frame from rbx.
__attribute__((noipa, used)) static void *(*choose(void))(void)
{
    void *block = take(another_size());
    __asm__ volatile("" : "+r"(block) : : "memory");
    return chosen;
}

void *plt_chosen(void) __attribute__((ifunc("choose")));

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
__attribute__((noipa)) void *plt_deeper(int depth, void *(*call)(void *), void *argument)
{
    void *block = depth ? plt_deeper(depth - 1, call, argument) : plt_back(call, argument);
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}
