// A library of one function that allocates. Copies of it have another name of as many letters in the place of this one.
#include <stdlib.h>

__attribute__((noinline, noclone)) static void *take_0000(size_t size)
{
    void *block = malloc(size);
    __asm__ volatile("" ::: "memory");
    return block;
}

void *take(size_t size)
{
    void *block = take_0000(size);
    __asm__ volatile("" ::: "memory");
    return block;
}
