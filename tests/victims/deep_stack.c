// Recursion: `go N` allocates N frames down.
#include "stack_victim.h"

FRAME static void descend(uint64_t depth)
{
    if (depth)
        descend(depth - 1);
    else
        TAKE();
    HERE();
}

int main(int count, char **arguments)
{
    serve_stacks(count, arguments, descend);
}
