// Holds 300 MiB before anyone looks. `free200`, `take100` and `take250` say in MiB what they do.
#include <malloc.h>

#include "books.h"

enum { MIB = 1 << 20, BLOCK = 256 << 10, PER_MIB = MIB / BLOCK, LIMIT = 1000 * PER_MIB };

static void *blocks[LIMIT];
static size_t oldest, next;

// With its header, each block is whole pages that go back to the kernel with it.
static const size_t size = BLOCK - 2 * sizeof(size_t);

FRAME static void take(size_t mib)
{
    for (size_t i = 0; i < mib * PER_MIB; i++) {
        blocks[next] = opaque(malloc(size));
        if (!blocks[next])
            broken("malloc");
        memset(blocks[next++], 'l', size);
        took(size);
    }
}

FRAME static void give(size_t mib)
{
    for (size_t i = 0; i < mib * PER_MIB; i++)
        free(opaque(blocks[oldest++]));
}

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (!strcmp(command, "free200"))
        give(200);
    else if (!strcmp(command, "take100"))
        take(100);
    else if (!strcmp(command, "take250"))
        take(250);
    else
        return 0;
    TRUTH({"taken_blocks", books.live_blocks}, {"taken_bytes", books.live_bytes});
    return 1;
}

int main(void)
{
    mallopt(M_MMAP_THRESHOLD, 64 << 10);
    mallopt(M_MMAP_MAX, LIMIT);
    take(300);
    books = (struct books){0};
    serve(obey);
}
