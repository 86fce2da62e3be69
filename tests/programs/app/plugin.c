#include <stdlib.h>
#include <string.h>

__attribute__((noinline)) void *parse(int size)
{
    void *kept = malloc(size);
    memset(kept, 1, size);
    return kept;
}

void run(int count)
{
    for (int i = 0; i < count; i++)
        parse(1000);
}
