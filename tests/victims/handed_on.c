// Blocks from functions of libc that hand their call on to another one by a jump: `realloc N` and `reallocarray N` make N
// blocks from nothing, `memalign N` and `aligned_alloc N` align N as `malloc` does, `resizearray N` makes N and lets
// `reallocarray` resize them, `malloc N` and `calloc N` hand on nothing.
// `mixed N` has one frame call `realloc` of nothing and `malloc` in turns. `drop` frees them all.
#include <malloc.h>

#include "books.h"

enum { MOST = 400000, SIZE = 1000 };

static void *blocks[MOST];
static uint64_t held;

static void keep(void *block)
{
    if (held == MOST)
        broken("no place for a block");
    blocks[held++] = booked(block, SIZE);
}

// Not known to the compiler, which makes `malloc` of a constant `realloc(NULL, n)`.
static void *nothing(void)
{
    return opaque(NULL);
}

FRAME static void from_realloc(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        keep(realloc(nothing(), SIZE));
}

FRAME static void from_reallocarray(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        keep(reallocarray(nothing(), 10, SIZE / 10));
}

FRAME static void resize_by_reallocarray(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        void *block = opaque(malloc(SIZE / 10));
        keep(reallocarray(block, 10, SIZE / 10));
    }
}

FRAME static void from_memalign(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        keep(memalign(16, opaque_size(SIZE)));
}

FRAME static void from_aligned_alloc(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        keep(aligned_alloc(16, opaque_size(SIZE)));
}

FRAME static void from_malloc(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        keep(malloc(opaque_size(SIZE)));
}

FRAME static void from_calloc(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        keep(calloc(10, opaque_size(SIZE / 10)));
}

FRAME static void from_both(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        keep(realloc(nothing(), SIZE));
        keep(malloc(opaque_size(SIZE)));
    }
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "realloc"))
        from_realloc(number);
    else if (!strcmp(command, "reallocarray"))
        from_reallocarray(number);
    else if (!strcmp(command, "resizearray"))
        resize_by_reallocarray(number);
    else if (!strcmp(command, "memalign"))
        from_memalign(number);
    else if (!strcmp(command, "aligned_alloc"))
        from_aligned_alloc(number);
    else if (!strcmp(command, "malloc"))
        from_malloc(number);
    else if (!strcmp(command, "calloc"))
        from_calloc(number);
    else if (!strcmp(command, "mixed"))
        from_both(number);
    else if (!strcmp(command, "drop"))
        while (held) {
            gave(SIZE);
            free(opaque(blocks[--held]));
        }
    else
        return 0;
    tell_books();
    return 1;
}

int main(void)
{
    serve(obey);
}
